//! `tidemark run` from the first full on, and over what happens to sources.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

fn run_of(policy: &str) -> Process {
    Process::spawn(tidemark_command(["run", "-f", policy, "--log-format", "json"]))
}

/// The trace ids in log lines, each once.
fn trace_ids(log: &str) -> Vec<String> {
    let mut ids: Vec<String> = log
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace id: {line}")).to_owned()
        })
        .collect();
    ids.dedup();
    ids
}

/// The trace ids in the manifests of fulls and the indexes of files.
fn written_ids(desk: &Desk, name: &str) -> Vec<String> {
    let objects = desk.contents();
    let objects = objects.iter().filter(|(path, _)| path.ends_with(name));
    let id = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap()["trace_id"].as_str().unwrap().to_owned();
    objects.map(|(_, json)| id(json)).collect()
}

fn fulls(status: &Value) -> usize {
    status["fulls"].as_array().unwrap().len()
}

#[test]
fn run_takes_a_full_at_once_streams_over_a_restart_closes_a_gap_by_a_full_and_keeps_the_schedule() {
    let desk = Desk::new();
    let mut server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "schedule: {cron: '0 0 1 1 *'}");
    let run = run_of(&policy);
    wait_for("the first full", Duration::from_secs(60), || (fulls(&desk.status()) == 1).then_some(()));
    server.sql("INSERT INTO d.t (id) VALUES (3)");
    desk.archived();
    server.restart();
    server.sql("INSERT INTO d.t (id) VALUES (4)");
    let status = desk.archived();
    let log = stop(run);
    assert_eq!((fulls(&status), status["windows"].as_array().unwrap().len()), (1, 1), "{status:#}");
    assert_eq!(status["windows"][0]["gtids"], server.gtids());
    let ids = trace_ids(&log);
    assert_eq!(ids.len(), 1, "one run, one trace id: {ids:?}");
    assert_eq!(written_ids(&desk, "manifest.json"), ids);
    let indexes = written_ids(&desk, "index.json");
    assert!(!indexes.is_empty() && indexes.iter().all(|id| *id == ids[0]), "{indexes:?} instead of {ids:?}");

    let before = desk.contents();
    server.sql("INSERT INTO d.t (id) VALUES (5); FLUSH BINARY LOGS; INSERT INTO d.t (id) VALUES (6)");
    let newest = server.binlogs().last().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    server.sql(&format!("PURGE BINARY LOGS TO '{newest}'"));
    let run = run_of(&policy);
    wait_for("a full behind the gap", Duration::from_secs(60), || (fulls(&desk.status()) == 2).then_some(()));
    server.sql("INSERT INTO d.t (id) VALUES (7)");
    let status = desk.archived();
    stop(run);
    assert_eq!(status["windows"][1]["endsBecause"], Value::Null, "{status:#}");
    assert_eq!(status["windows"][1]["gtids"], server.gtids());
    assert_eq!(fulls(&status), 2, "one gap, one full");
    desk.keeps(&before);

    let policy = desk.policy(&server, ("u", "secret"), "", "schedule: {cron: '* * * * *'}");
    let run = run_of(&policy);
    wait_for("a full by schedule", Duration::from_secs(100), || (fulls(&desk.status()) == 3).then_some(()));
    assert!(stop(run).contains("due by schedule"));
}

/// Passes connections to `address` on to `port` of loopback, for as long as the tests run.
fn forward(address: (&str, u16), port: u16) {
    fn pump(mut from: TcpStream, mut to: TcpStream) {
        std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            pump(client.try_clone().unwrap(), server.try_clone().unwrap());
            pump(server, client);
        }
    });
}

#[test]
fn when_the_primary_is_lost_the_stream_goes_on_at_the_host_that_was_promoted() {
    let desk = Desk::new();
    let mut primary = ServerOptions::mysql().start();
    let replica = ServerOptions::mysql().start();
    replica.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='root', SOURCE_PASSWORD='{ROOT_PASSWORD}', \
         SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA; SET GLOBAL super_read_only = ON",
        primary.port()
    ));
    account(&primary, "u", &format!("{FULL_GRANTS} u@'%';"));
    primary.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let follows =
        || wait_for("the replica", Duration::from_secs(30), || (replica.gtids() == primary.gtids()).then_some(()));
    follows();
    forward(("127.0.0.2", primary.port()), replica.port());
    // The replica is named first: it is not the source as long as it is read-only.
    let policy = desk.policy(&primary, ("u", "secret"), "", "schedule: {cron: '0 0 1 1 *'}");
    let text = std::fs::read_to_string(&policy).unwrap();
    desk.file("policy.yaml", &text.replace("host: 127.0.0.1", "hosts: [127.0.0.2, 127.0.0.1]"));
    let run = run_of(&policy);
    let gtids_archived = |server: &Server| {
        wait_for("the source's transactions in the archive", Duration::from_secs(60), || {
            let status = desk.status();
            status["windows"].as_array()?.iter().any(|window| window["gtids"] == server.gtids()).then_some(status)
        })
    };
    primary.sql("INSERT INTO d.t VALUES (2)");
    gtids_archived(&primary);
    follows();
    let first = primary.sql("SELECT @@server_uuid");
    primary.kill9();
    replica.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF; INSERT INTO d.t VALUES (3)");
    let status = gtids_archived(&replica);
    let log = stop(run);
    assert!(log.contains("failover: going on at the new primary"), "{log}");
    let window = &status["windows"][0];
    assert_eq!(window["endsBecause"], Value::Null, "{status:#}");
    assert!(window["gtids"].as_str().unwrap().contains(&first), "{status:#}");
    assert_eq!(status["forks"], serde_json::json!([]));
    let servers = std::fs::read_dir(desk.archive().join("binlog")).unwrap().count();
    assert_eq!(servers, 2, "the log of both servers is archived");
}
