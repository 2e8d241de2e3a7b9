//! `tidemark serve`, as stock replicas see it.

use super::*;
use crate::support::free_port;

#[test]
fn a_stock_replica_follows_the_archive_through_the_verb() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let listen = format!("127.0.0.1:{}", free_port());
    refused(&["serve", "-f", &policy, "--listen", &listen], USAGE, &["TIDEMARK_SERVE_PASSWORD"]);
    done(&["backup", "-f", &policy, "-o", "json"]);
    let stream = stream_of(&policy);
    server.sql("INSERT INTO d.t (id) VALUES (9)");
    desk.archived();
    let mut command = tidemark_command(["serve", "-f", &policy, "--listen", &listen, "--follow"]);
    command.env("TIDEMARK_SERVE_PASSWORD", "for-replicas");
    let mut serve = Process::spawn(command);
    serve.wait_for_line("serving the archive", Duration::from_secs(20));
    let replica = ServerOptions::mysql().start();
    let source = |password: &str| {
        let port = listen.rsplit_once(':').unwrap().1;
        replica.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='tidemark', \
             SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ));
    };
    source("wrong");
    wait_for("the refusal of a wrong password", Duration::from_secs(30), || {
        let sql = "SELECT last_error_number FROM performance_schema.replication_connection_status";
        (replica.sql(sql) == "1045").then_some(())
    });
    replica.sql("STOP REPLICA");
    source("for-replicas");
    for id in 3..6 {
        server.sql(&format!("INSERT INTO d.t (id) VALUES ({id})"));
        wait_for("the replica to follow", Duration::from_secs(30), || {
            (replica.gtids() == server.gtids()).then_some(())
        });
    }
    assert_eq!(replica.sql("CHECKSUM TABLE d.t"), server.sql("CHECKSUM TABLE d.t"));
    stop(stream);
    assert!(!stop(serve).contains("for-replicas"), "a password was logged");
}
