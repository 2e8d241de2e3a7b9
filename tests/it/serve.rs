//! The archive as a replication source of stock replicas.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidemark::binlog::StreamConfig;
use tidemark::model::Flavor;
use tidemark::restore::plan::Target;
use tidemark::serve::{Identity, Scope, ServeConfig, Server};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, checksums, executed, request};
use crate::support::{self, ROOT_PASSWORD, ServerOptions, wait_for};

/// The archive of `lab`, served to replicas; its port.
struct Serving {
    port: u16,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    fn start(lab: &Lab) -> Serving {
        let config = ServeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            user: "r".into(),
            password: "secret".into(),
            identity: Identity {
                server_id: 4_000_000_000,
                server_uuid: uuid::Uuid::new_v4(),
                flavor: lab.flavor(),
                version: lab.source.sql("SELECT VERSION()"),
                gtids: true,
            },
            scope: Scope::Everything { follow: Some(Duration::from_millis(200)) },
        };
        let cancel = CancellationToken::new();
        let server = lab.runtime.block_on(Server::bind(config, lab.store.clone())).unwrap();
        let port = server.local_addr().unwrap().port();
        Serving { port, task: lab.runtime.spawn(server.run(cancel.clone())), cancel }
    }

    fn stop(self, lab: &Lab) {
        self.cancel.cancel();
        lab.runtime.block_on(self.task).unwrap();
    }
}

/// Makes a stock replica of whatever listens on `port`.
pub fn follow(replica: &support::Server, port: u16, user: &str, password: &str) {
    replica.sql(&match replica.flavor() {
        Flavor::Mysql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', \
             SOURCE_SSL=0, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ),
        Flavor::Mariadb => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{user}', MASTER_PASSWORD='{password}', \
             MASTER_USE_GTID=slave_pos; START SLAVE"
        ),
    });
}

fn replication(replica: &support::Server) -> String {
    replica.sql(match replica.flavor() {
        Flavor::Mysql => "SHOW REPLICA STATUS",
        Flavor::Mariadb => "SHOW SLAVE STATUS",
    })
}

pub fn caught_up(replica: &support::Server, source: &support::Server) {
    let all = source.gtids();
    wait_for("the replica to catch up", Duration::from_secs(30), || {
        let errors = replication(replica);
        assert!(!errors.contains("tidemark: "), "{errors}");
        (executed(replica) == all).then_some(())
    });
    assert_eq!(checksums(replica), checksums(source));
}

#[test]
fn a_stock_replica_catches_up_and_follows_what_is_archived_later() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        let streaming =
            lab.stream(StreamConfig { flush_interval: Duration::from_millis(50), ..StreamConfig::default() });
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
        lab.durable(&streaming);
        let serving = Serving::start(&lab);
        let replica = ServerOptions::of(flavor).start();
        follow(&replica, serving.port, "r", "secret");
        caught_up(&replica, &lab.source);
        for round in 3..6 {
            lab.source.sql(&format!(
                "INSERT INTO d.t VALUES ({round}); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (-{round})"
            ));
            caught_up(&replica, &lab.source);
        }
        serving.stop(&lab);
        lab.stop(streaming);
    }
}

#[test]
fn what_only_a_dead_primary_had_reaches_no_replica_and_no_restore() {
    a_primary_dies(ServerOptions::mysql());
}

#[test]
fn what_only_a_dead_primary_had_is_told_apart_on_mariadb_by_its_writer() {
    a_primary_dies(ServerOptions::mariadb().arg("--log-slave-updates=ON"));
}

#[test]
fn what_only_a_dead_primary_had_is_told_apart_where_replicas_log_only_what_they_write() {
    a_primary_dies(ServerOptions::mariadb().arg("--log-slave-updates=OFF"));
}

/// What is between two GTID sets of a server's log.
fn between(lab: &Lab, from: &str, to: &str) -> String {
    match lab.flavor() {
        Flavor::Mysql => lab.gtids(to).difference(&lab.gtids(from)).to_string(),
        Flavor::Mariadb => {
            let number = |position: &str| position.rsplit('-').next().unwrap().parse::<u64>().unwrap();
            let (server, last) = to.rsplit_once('-').unwrap();
            format!("{server}-{}..{last}", number(from) + 1)
        }
    }
}

fn a_primary_dies(options: ServerOptions) {
    let flavor = options.flavor();
    let mut lab = Lab::without_full(options.clone());
    let second = options.start();
    follow(&second, lab.source.port(), "root", ROOT_PASSWORD);
    lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b INT); INSERT INTO d.t VALUES (1, 1)");
    let good_full = lab.full();
    lab.source.sql("INSERT INTO d.t VALUES (2, 1); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3, 1)");
    caught_up(&second, &lab.source);
    second.sql(if flavor == Flavor::Mysql { "STOP REPLICA; RESET REPLICA ALL" } else { "STOP SLAVE; RESET SLAVE ALL" });
    let shared = lab.source.gtids();
    // Only the first primary ever had these: they are archived, even in a full, and then it dies.
    lab.source.sql("INSERT INTO d.t VALUES (100, 100); FLUSH BINARY LOGS; DELETE FROM d.t WHERE a = 1");
    lab.archive();
    lab.full();
    let fork = between(&lab, &shared, &lab.source.gtids());
    let stale = ServerOptions::of(flavor).start();
    let serving = Serving::start(&lab);
    follow(&stale, serving.port, "r", "secret");
    caught_up(&stale, &lab.source);
    serving.stop(&lab);
    let mut dead = std::mem::replace(&mut lab.source, second);
    dead.kill9();
    // MariaDB's log knows whole seconds: of two lineages in one second nothing tells which is wanted.
    let now = || lab.source.sql("SELECT FLOOR(UNIX_TIMESTAMP(NOW(6)))").parse::<u64>().unwrap();
    let died = now();
    wait_for("a later second", Duration::from_secs(5), || (now() > died).then_some(()));
    lab.source.sql("INSERT INTO d.t VALUES (4, 2); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (5, 2); UPDATE d.t SET b = 7 WHERE a = 3");
    lab.archive();
    let (target, report) = lab.restore(&request(Target::Latest));
    assert_eq!(report.executed, lab.source.gtids(), "{flavor}");
    assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
    assert_eq!(report.base, good_full, "{flavor}: a full with a fork in it is no base");
    let told = report.warnings.join("\n");
    assert!(told.contains(&fork), "{flavor}: {fork} in {told:?}");
    // And from a full of the new primary.
    let own_full = lab.full();
    lab.source.sql("INSERT INTO d.t VALUES (6, 2)");
    lab.archive();
    let (target, report) = lab.restore(&request(Target::Latest));
    assert_eq!((&report.base, report.executed), (&own_full, lab.source.gtids()), "{flavor}");
    assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
    let serving = Serving::start(&lab);
    let replica = ServerOptions::of(flavor).start();
    follow(&replica, serving.port, "r", "secret");
    caught_up(&replica, &lab.source);
    // One that took the fork cannot be taken along, and is told so.
    wait_for("the forked replica to be refused", Duration::from_secs(30), || {
        _ = stale.try_sql(if flavor == Flavor::Mysql { "STOP REPLICA" } else { "STOP SLAVE" });
        follow(&stale, serving.port, "r", "secret");
        let told = || {
            let status = replication(&stale);
            status.contains("only a dead primary had") || status.contains("their histories differ")
        };
        (0..50)
            .any(|_| {
                std::thread::sleep(Duration::from_millis(100));
                told()
            })
            .then_some(())
    });
    assert_eq!(stale.sql("SELECT COUNT(*) FROM d.t WHERE a = 100"), "1");
    serving.stop(&lab);
}
