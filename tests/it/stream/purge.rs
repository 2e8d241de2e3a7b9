//! What the source purges by itself before it is archived: told in time, and held back where that is asked for.

use tidemark::binlog::{Hold, PurgeOutlook, Risk};

use super::*;

/// Short, so that the looks are frequent and the test is.
const EXPIRY: u64 = 16;

fn outlook(reading: &StreamReading) -> Option<&PurgeOutlook> {
    reading.purge.outlook()
}

#[test]
fn a_source_that_is_about_to_purge_what_is_not_archived_is_told_with_the_time_left() {
    for flavor in FLAVORS {
        let mut s3 = S3Server::start();
        let store = self::s3(&s3);
        let server = ServerOptions::of(flavor).arg(&format!("--binlog-expire-logs-seconds={EXPIRY}")).start();
        // No more than Warn needs.
        let grants = match flavor {
            Flavor::Mysql => "REPLICATION SLAVE, REPLICATION CLIENT",
            Flavor::Mariadb => "REPLICATION SLAVE, BINLOG MONITOR",
        };
        server.sql(&format!("CREATE USER poor IDENTIFIED BY 'poor'; GRANT {grants} ON *.* TO poor; CREATE DATABASE d; CREATE TABLE d.t (a INT)"));
        let source = Endpoint {
            user: "poor".to_owned(),
            password: SecretString::from("poor".to_owned()),
            tls: Tls {
                mode: if flavor == Flavor::Mysql { TlsMode::Required } else { TlsMode::Disabled },
                ca_pem: None,
            },
            ..endpoint(&server)
        };
        let streaming = Streaming::start_at(config(), source, &store);
        streaming.caught_up(&server);
        let far = streaming.wait("a look", |s| outlook(s).is_some());
        let far = outlook(&far).unwrap();
        let left = far.seconds_left.unwrap();
        assert!(far.risk == Risk::Far && (EXPIRY / 2..=EXPIRY).contains(&left), "{flavor}: {far:?}");

        s3.kill9();
        let missing = server.binlogs().pop().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2)");
        let near =
            streaming.wait("the risk to be told", |s| outlook(s).is_some_and(|outlook| outlook.risk == Risk::Near));
        let near = outlook(&near).unwrap();
        assert!(near.file == missing && near.seconds_left.unwrap() < EXPIRY, "{flavor}: {near:?}");
        assert!(near.to_string().contains(&missing), "{near}");
        let later =
            streaming.wait("less time to be left", |s| outlook(s).and_then(|o| o.seconds_left) < near.seconds_left);
        assert_eq!(outlook(&later).unwrap().risk, Risk::Near, "{flavor}");

        s3.restart();
        streaming.caught_up(&server);
        streaming.wait("the risk to pass", |s| outlook(s).is_some_and(|outlook| outlook.risk == Risk::Far));
        streaming.stop();
        assert_identical(&store, &server);
    }
}

/// The settings of a server that decide on what it purges.
fn settings(server: &Server) -> Vec<Vec<String>> {
    server.rows(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', 'expire_logs_days', \
         'binlog_expire_logs_auto_purge', 'slave_connections_needed_for_purge', 'max_binlog_total_size')",
    )
}

/// Begins files until the server would have purged what was there before, and more than once.
fn rotate(server: &Server) {
    for _ in 0..3 {
        server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS");
        // A file's age counts in seconds, and the server compares it as it begins the next one.
        std::thread::sleep(Duration::from_millis(2100));
    }
    server.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2)");
}

#[test]
fn a_held_source_purges_nothing_that_is_not_archived_and_gets_back_what_it_had() {
    for options in [ServerOptions::mysql(), ServerOptions::mariadb(), ServerOptions::mariadb_11()] {
        let server = options.arg("--binlog-expire-logs-seconds=1").start();
        let flavor = server.flavor();
        let mut s3 = S3Server::start();
        let store = self::s3(&s3);
        let (reads, holds) = match flavor {
            Flavor::Mysql => ("REPLICATION SLAVE, REPLICATION CLIENT", "SYSTEM_VARIABLES_ADMIN"),
            Flavor::Mariadb => ("REPLICATION SLAVE, BINLOG MONITOR", "BINLOG ADMIN"),
        };
        server.sql(&format!("CREATE USER holder IDENTIFIED BY 'holder'; GRANT {reads} ON *.* TO holder; CREATE DATABASE d; CREATE TABLE d.t (a INT)"));
        let source = Endpoint {
            user: "holder".to_owned(),
            password: SecretString::from("holder".to_owned()),
            tls: Tls {
                mode: if flavor == Flavor::Mysql { TlsMode::Required } else { TlsMode::Disabled },
                ca_pem: None,
            },
            ..endpoint(&server)
        };
        let hold = || Streaming::start_at(StreamConfig { hold_purge: true, ..config() }, source.clone(), &store);
        let held = |streaming: &Streaming| streaming.wait("the hold", |s| s.hold == Hold::Held);
        let before = settings(&server);

        // The privilege it takes is named.
        let poor = hold();
        let ended = poor.runtime.block_on(async { tokio::time::timeout(LONG, poor.task).await });
        let error = ended.unwrap().unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("GRANT {holds} ON *.* TO 'holder'")), "{error}");
        server.sql(&format!("GRANT {holds} ON *.* TO holder"));

        // Held while the store is down; given back once all is archived.
        let streaming = hold();
        streaming.caught_up(&server);
        assert_eq!(settings(&server), before, "{flavor}: nothing is held for nothing");
        s3.kill9();
        let first = server.binlogs().pop().unwrap();
        server.sql("INSERT INTO d.t VALUES (0)");
        held(&streaming);
        assert_ne!(settings(&server), before);
        rotate(&server);
        assert!(server.binlogs().contains(&first), "{flavor}: {:?}", server.binlogs());
        assert_eq!(outlook(&streaming.status.read()).map(|outlook| outlook.risk), Some(Risk::Held), "{flavor}");
        s3.restart();
        let reading = streaming.caught_up(&server);
        assert!(reading.gaps.is_empty(), "{flavor}: {reading:?}");
        wait_for("what was there before", LONG, || (settings(&server) == before).then_some(()));
        // And without a hold it is as short-lived as it should be.
        rotate(&server);
        wait_for("the server to purge", LONG, || {
            // Files that are made faster than they are archived would be held again.
            streaming.caught_up(&server);
            server.sql("FLUSH BINARY LOGS");
            (!server.binlogs().contains(&first)).then_some(())
        });
        streaming.caught_up(&server);

        // Given back by a stream that is stopped.
        s3.kill9();
        server.sql("INSERT INTO d.t VALUES (3)");
        held(&streaming);
        streaming.stop();
        assert_eq!(settings(&server), before, "{flavor}: a stream that was stopped");

        // Left behind by one that is killed, and given back by the next.
        s3.restart();
        let streamer = StreamerProcess { s3: Some(&s3), hold: true, ..StreamerProcess::default() };
        let mut child = streamer.start(&server, Path::new("/"));
        archived_all(&store, &server);
        s3.kill9();
        server.sql("INSERT INTO d.t VALUES (4)");
        wait_for("the hold", LONG, || (settings(&server) != before).then_some(()));
        child.kill9();
        let first = server.binlogs().pop().unwrap();
        rotate(&server);
        assert!(server.binlogs().contains(&first), "{flavor}: it lasts");
        s3.restart();
        let streaming = hold();
        let reading = streaming.caught_up(&server);
        assert!(reading.gaps.is_empty(), "{flavor}: {reading:?}");
        wait_for("what was there before", LONG, || (settings(&server) == before).then_some(()));

        // What somebody else wants stays.
        s3.kill9();
        server.sql("INSERT INTO d.t VALUES (5)");
        held(&streaming);
        server.sql(match flavor {
            Flavor::Mysql => "SET GLOBAL binlog_expire_logs_seconds = 7200",
            Flavor::Mariadb if before.iter().any(|row| row[0].starts_with("slave_connections")) => {
                "SET GLOBAL slave_connections_needed_for_purge = 3"
            }
            Flavor::Mariadb => "SET GLOBAL binlog_expire_logs_seconds = 7200",
        });
        let theirs = settings(&server);
        streaming
            .wait("that to be told", |s| matches!(&s.hold, Hold::Failed(why) if why.contains("somebody has changed")));
        s3.restart();
        streaming.caught_up(&server);
        streaming.wait("the hold to be over", |s| s.hold == Hold::Off);
        streaming.stop();
        assert_eq!(settings(&server), theirs, "{flavor}");
    }
}
