//! The stream against real servers and stores: what is archived is what the server wrote, byte for byte, whatever dies when.

mod faults;
mod purge;
mod spool;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::json;
use tidemark::archive::binlog_index::Ending;
use tidemark::archive::catalog::{ArchivedFile, Catalog, load_ranges};
use tidemark::archive::codec::Compression;
use tidemark::archive::manifest::Content;
use tidemark::archive::store::{S3Config, Store, StoreConfig};
use tidemark::backup::logical::{self, LogicalConfig};
use tidemark::binlog::{Acknowledge, Error, SpoolConfig, StreamConfig, StreamReading, StreamStatus, stream};
use tidemark::model::{CommitTime, Flavor, GtidSet, Progress};
use tidemark::mysql::endpoint::{Endpoint, Tls, TlsMode};
use tidemark::mysql::event::EventType;
use tidemark::restore;
use tidemark::restore::plan::{Request, Target, Throughput};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lab::{replicate, same_gtids};
use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, tidemark_command, wait_for};

const LONG: Duration = Duration::from_secs(120);
const FLAVORS: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

/// Each place where a kill may hurt, and how many passes over it to let go by first.
const FAILPOINTS: [(&str, usize); 7] = [
    ("binlog::upload::before_put", 3),
    ("binlog::upload::after_put", 2),
    ("binlog::upload::before_checkpoint", 4),
    ("binlog::upload::before_index", 0),
    ("archive::index::before_put", 0),
    ("binlog::upload::after_index", 0),
    ("binlog::upload::long", 1),
];

#[test]
fn archived_files_are_the_servers_own_bytes_in_a_folder() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        everything_is_archived(flavor, &fs(folder.path()));
    }
}

#[test]
fn archived_files_are_the_servers_own_bytes_in_s3() {
    for flavor in FLAVORS {
        let server = S3Server::start();
        everything_is_archived(flavor, &s3(&server));
    }
}

/// Every kind of event and of file end that a server writes.
fn everything_is_archived(flavor: Flavor, store: &Store) {
    let mut server = ServerOptions::of(flavor).arg("--max-allowed-packet=1G").start();
    let streaming = Streaming::start(config(), &server, store);
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
    let other_checksum = "SET GLOBAL binlog_checksum = NONE";
    for round in 0..3 {
        for _ in 0..20 {
            server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 200)), (REPEAT('y', 70000))");
        }
        server.sql("INSERT INTO d.t (b) VALUES (REPEAT('z', 20000000))");
        server.sql("UPDATE d.t SET b = 'short' WHERE LENGTH(b) > 1000000");
        server.sql("ALTER TABLE d.t ADD COLUMN c INT; ALTER TABLE d.t DROP COLUMN c");
        server.sql("XA START 'x'; INSERT INTO d.t (b) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'");
        server.sql("XA START 'y'; INSERT INTO d.t (b) VALUES ('xa'); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y'");
        server.sql("SET binlog_format = 'STATEMENT'; INSERT INTO d.t (b) VALUES (CONCAT(@@version, 's'))");
        match flavor {
            Flavor::Mysql => {
                server.sql("SET binlog_transaction_compression = ON; INSERT INTO d.t (b) VALUES (REPEAT('c', 500000))");
                server.sql("SET gtid_next = 'AUTOMATIC:tagged'; INSERT INTO d.t (b) VALUES ('tagged')");
            }
            Flavor::Mariadb => {
                server.sql("SET gtid_domain_id = 7; INSERT INTO d.t (b) VALUES ('domain')");
                server.sql("SET GLOBAL log_bin_compress = ON");
                server.sql("INSERT INTO d.t (b) VALUES (REPEAT('c', 500000))");
                server.sql("SET GLOBAL log_bin_compress = OFF");
            }
        }
        match round {
            0 => drop(server.sql("FLUSH BINARY LOGS")),
            1 => drop(server.sql(other_checksum)),
            _ => server.sql("SET GLOBAL binlog_checksum = CRC32").clear(),
        }
    }
    server.stop();
    server.restart();
    server.sql("INSERT INTO d.t (b) VALUES ('after a clean restart')");
    streaming.caught_up(&server);
    server.kill9();
    server.restart();
    server.sql("INSERT INTO d.t (b) VALUES ('after a crash'); FLUSH BINARY LOGS");
    server.sql("INSERT INTO d.t (b) VALUES ('last')");
    let reading = streaming.caught_up(&server);
    assert!(reading.gaps.is_empty() && reading.forks.is_empty(), "{reading:?}");
    assert_eq!(as_the_server_says(&reading.durable_gtids.unwrap()), server.gtids());
    streaming.stop();
    let files = assert_identical(store, &server);
    assert!(files.len() >= 7, "each rotation and restart made a file: {}", files.len());
    assert!(files.iter().rev().skip(1).all(|file| file.closed.is_some()), "all but the last are closed");
}

#[test]
fn a_kill_at_any_upload_step_loses_and_doubles_nothing() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
        for (failpoint, pass) in FAILPOINTS {
            let mut child =
                StreamerProcess { failpoint, pass, ..StreamerProcess::default() }.start(&server, folder.path());
            let mut killed = None;
            for i in 0..200 {
                server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 30000)), (REPEAT('y', 90000))");
                if i % 7 == 3 {
                    server.sql("INSERT INTO d.t (b) VALUES (REPEAT('z', 3000000)); FLUSH BINARY LOGS");
                }
                killed = child.try_wait();
                if killed.is_some() {
                    break;
                }
            }
            let killed = killed.unwrap_or_else(|| child.wait(LONG));
            assert!(!killed.success(), "{flavor}: {failpoint} was never met: {}", child.output());
        }
        let streaming = Streaming::start(config(), &server, &store);
        streaming.caught_up(&server);
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn a_stream_killed_within_a_huge_transaction_goes_on_there() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
        let rows = "INSERT INTO d.t (b) VALUES (REPEAT('x', 900000)), (REPEAT('y', 900000));".repeat(20);
        server.sql(&format!("BEGIN; {rows} COMMIT"));
        let mut child =
            StreamerProcess { failpoint: "binlog::upload::before_checkpoint", pass: 9, ..StreamerProcess::default() }
                .start(&server, folder.path());
        child.wait(LONG);
        let files = catalog(&store).files;
        let file = files.last().unwrap();
        let open = file.open_transaction.as_ref().expect("the archive ends within the transaction");
        assert!(file.summary.boundary <= open.start && open.start < file.size, "{file:?}");
        let streaming = Streaming::start(config(), &server, &store);
        streaming.caught_up(&server);
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn what_was_purged_before_it_was_archived_is_reported_by_gtid() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
        let streaming = Streaming::start(config(), &server, &store);
        streaming.caught_up(&server);
        streaming.stop();
        let archived = gtids(&server);
        server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS");
        let lost = gtids(&server).difference(&archived);
        let oldest = server.binlogs().last().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        // MariaDB keeps a file until its background thread has noted that no crash recovery needs it.
        wait_for("the purge", LONG, || {
            server.sql(&format!("PURGE BINARY LOGS TO '{oldest}'"));
            (server.binlogs().len() == 1).then_some(())
        });
        server.sql("INSERT INTO d.t VALUES (3)");

        let streaming = Streaming::start(config(), &server, &store);
        let reading = streaming.caught_up(&server);
        streaming.stop();
        assert_eq!(reading.gaps.len(), 1, "{flavor}: {reading:?}");
        assert_eq!(reading.gaps[0].missing, lost, "{flavor}");
        assert_eq!((lost.count(), reading.gaps[0].resumed_at.as_str()), (2, oldest.as_str()), "{flavor}");
        assert_identical(&store, &server);
    }
}

#[test]
fn after_a_failover_the_promoted_servers_files_are_archived_whole_from_the_first_missing_transaction() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let mut old = ServerOptions::of(flavor).start();
        let new = match flavor {
            Flavor::Mysql => ServerOptions::mysql(),
            Flavor::Mariadb => ServerOptions::mariadb().arg("--log-slave-updates=ON"),
        }
        .start();
        replicate(&new, &old);
        let streaming = Streaming::start(config(), &old, &store);
        old.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
        // Both servers have more than one file before the failover, so that there is something to choose between.
        for _ in 0..3 {
            old.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS");
            same_gtids(&new, &old);
            new.sql("FLUSH LOCAL BINARY LOGS");
        }
        streaming.caught_up(&old);
        streaming.stop();
        // Committed on both, archived from neither yet.
        old.sql("INSERT INTO d.t VALUES (2)");
        same_gtids(&new, &old);
        old.kill9();
        new.sql("FLUSH LOCAL BINARY LOGS; INSERT INTO d.t VALUES (3)");

        let streaming = Streaming::start(config(), &new, &store);
        let reading = streaming.caught_up(&new);
        streaming.stop();
        assert!(reading.gaps.is_empty() && reading.forks.is_empty(), "{flavor}: {reading:?}");
        let files: Vec<_> = catalog(&store).files.into_iter().filter(|f| f.id.server == server_name(&new)).collect();
        assert!(files.len() < new.binlogs().len(), "{flavor}: files that hold nothing new were left out");
        let mut covered = GtidSet::empty(flavor);
        for file in catalog(&store).files {
            covered.extend(&file.summary.gtids).unwrap();
        }
        assert_eq!(covered.difference(&gtids(&new)).count(), 0, "{flavor}");
        assert_eq!(gtids(&new).difference(&covered).count(), 0, "{flavor}: every transaction is in some archived file");
        for file in &files {
            assert_same_bytes(&store, file, &new.datadir().join(&file.id.name));
        }
    }
}

#[test]
fn a_mariadb_replica_that_does_not_log_what_it_replicates_is_told_by_stream_and_backup() {
    let folder = tempfile::tempdir().unwrap();
    let store = fs(folder.path());
    let (source, replica) = (ServerOptions::mariadb().start(), ServerOptions::mariadb().start());
    let told = || {
        let streaming = Streaming::start(config(), &replica, &store);
        let mut warnings = streaming.wait("the connection", |s| s.connected).warnings;
        streaming.stop();
        let (config, progress) = (LogicalConfig::default(), Progress::default());
        let source = endpoint(&replica);
        let full = logical::run(&config, &source, &store, progress, CancellationToken::new());
        let manifest = wait_on(full).unwrap();
        assert_eq!(manifest.log_slave_updates, Some(false));
        let Content::Logical(content) = manifest.content;
        warnings.extend(content.warnings);
        warnings.iter().filter(|warning| warning.contains("`log_slave_updates = ON`")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(told(), Vec::<String>::new(), "a server that has nothing to do with replication");
    replicate(&replica, &source);
    wait_for("replication", LONG, || (replica.rows("SHOW STATUS LIKE 'Slaves_running'")[0][1] == "1").then_some(()));
    let said = told();
    assert!(said.len() == 2 && said.iter().all(|text| text.contains("is a replica")), "{said:?}");
    source.sql("CREATE DATABASE d");
    let at = source.gtids();
    wait_for("the replica", LONG, || (replica.sql("SELECT @@GLOBAL.gtid_slave_pos") == at).then_some(()));
    replica.sql("STOP SLAVE");
    // Fulls of one second are in no order.
    std::thread::sleep(Duration::from_millis(1100));
    let said = told();
    assert!(said.len() == 2 && said.iter().all(|text| text.contains(&format!("up to {at}"))), "{said:?}");

    // Whoever restores is told, and whoever asks what can be restored.
    let latest = Request { target: Target::Latest, exclusive: false, skip_gtids: None, allow_nearest: false };
    let plan = wait_on(restore::plan(&store, &latest, Throughput::default())).unwrap().to_string();
    let replicated = format!("had replicated up to {at} and logs nothing of that (log_slave_updates = OFF)");
    assert!(plan.contains(&replicated), "{plan}");
    let policy = folder.path().join("policy.yaml");
    let source = format!(
        "host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: s}}, tls: {{mode: Disabled}}",
        replica.port()
    );
    let documents = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{{source}}}\n  \
         storage: {{fs: {{path: {}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: s}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
        folder.path().display()
    );
    std::fs::write(&policy, documents).unwrap();
    let mut status = tidemark_command(["status", "-f"]);
    let status = String::from_utf8(status.arg(&policy).output().unwrap().stdout).unwrap();
    for told in [replicated, "WARNING      the source: ".to_owned()] {
        assert!(status.contains(&told), "{told}: {status}");
    }
}

#[test]
fn a_semi_synchronous_commit_returns_only_when_it_is_in_the_store() {
    for flavor in FLAVORS {
        let mut s3 = S3Server::start();
        let store = self::s3(&s3);
        let server = ServerOptions::of(flavor).semisync_source(Duration::from_secs(600)).start();
        let acknowledge = Acknowledge::ObjectStore;
        let flush_interval = Duration::from_secs(10);
        let streaming = Streaming::start(StreamConfig { acknowledge, flush_interval, ..config() }, &server, &store);
        streaming.wait("the connection", |s| s.connected);
        let semi_sync_clients = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_clients'";
        wait_for("a semi-sync replica", LONG, || server.rows(semi_sync_clients)[0][1].eq("1").then_some(()));
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
        let mut took = Duration::ZERO;
        for i in 0..20 {
            let began = Instant::now();
            server.sql(&format!("INSERT INTO d.t VALUES ({i})"));
            took += began.elapsed();
            let executed = gtids(&server);
            let stored = catalog(&store).files.pop().unwrap().summary;
            let stored = stored.previous_gtids.union(&stored.gtids).unwrap();
            assert_eq!(executed.difference(&stored).count(), 0, "{flavor}: commit {i} returned before it was stored");
        }
        assert!(took < 10 * flush_interval, "{flavor}: acknowledgements wait for no timer, and took {took:?}");
        s3.freeze(true);
        let mut blocked = Process::spawn({
            let mut client = server.client();
            client.arg("--execute=INSERT INTO d.t VALUES (1000)");
            client
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(blocked.try_wait().is_none(), "{flavor}: a commit waits while the store does not answer");
        s3.freeze(false);
        assert!(blocked.wait(LONG).success());
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn a_store_that_is_down_for_a_while_costs_nothing_but_time() {
    let mut s3 = S3Server::start();
    let store = self::s3(&s3);
    let server = ServerOptions::mysql().start();
    let streaming = Streaming::start(config(), &server, &store);
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
    streaming.caught_up(&server);
    s3.kill9();
    for _ in 0..20 {
        server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 900000)); FLUSH BINARY LOGS");
    }
    streaming.wait("the store to be missed", |s| s.store_failing);
    s3.restart();
    let reading = streaming.caught_up(&server);
    assert!(reading.errors.contains_key("store"), "{:?}", reading.errors);
    streaming.stop();
    assert_identical(&store, &server);
}

#[test]
fn a_server_without_gtids_is_followed_by_position_and_the_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = fs(folder.path());
    let server = ServerOptions::mysql().without_gtids().start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT); FLUSH BINARY LOGS");
    for _ in 0..2 {
        let streaming = Streaming::start(config(), &server, &store);
        server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2)");
        let reading = streaming.caught_up(&server);
        assert!(!reading.gtids_on && reading.warnings.iter().any(|w| w.contains("GTIDs are off")), "{reading:?}");
        assert!(reading.gaps.is_empty());
        streaming.stop();
    }
    assert_identical(&store, &server);
}

fn reset_logs(server: &Server) {
    // Files are told apart by the second they were begun in.
    std::thread::sleep(Duration::from_millis(1100));
    server.sql(match server.flavor() {
        Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
        Flavor::Mariadb => "RESET MASTER",
    });
}

#[test]
fn a_reset_of_the_servers_logs_begins_new_files_beside_the_old() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
        let streaming = Streaming::start(config(), &server, &store);
        server.sql("INSERT INTO d.t VALUES (1)");
        streaming.caught_up(&server);
        let before = catalog(&store).files;
        reset_logs(&server);
        server.sql("INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3)");
        archived_all(&store, &server);
        streaming.stop();
        assert_identical(&store, &server);
        let after = catalog(&store).files;
        assert!(before.iter().all(|old| after.iter().any(|file| file.id == old.id)), "{flavor}: the old files stay");
        assert!(after.len() > before.len());
    }
}

#[test]
fn a_reset_is_noticed_though_the_new_logs_are_shorter_than_the_old() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
        (0..40).for_each(|n| drop(server.sql(&format!("INSERT INTO d.t VALUES ({n})"))));
        let streaming = Streaming::start(config(), &server, &store);
        streaming.caught_up(&server);
        let before = catalog(&store).files;
        reset_logs(&server);
        server.sql("INSERT INTO d.t VALUES (100), (101)");
        wait_for("the new file", LONG, || (catalog(&store).files.len() > before.len()).then_some(()));
        archived_all(&store, &server);
        let after = catalog(&store).files;
        assert!(before.iter().all(|old| after.iter().any(|file| file.id == old.id)), "{flavor}: the old files stay");
        streaming.stop();
    }
}

#[test]
fn what_waiting_does_not_mend_ends_the_stream_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = fs(folder.path());
    let runtime = Runtime::new().unwrap();
    let end = |endpoint: Endpoint| -> Error {
        let running = stream(config(), endpoint, store.clone(), CancellationToken::new(), StreamStatus::default());
        runtime.block_on(async { tokio::time::timeout(LONG, running).await }).unwrap().unwrap_err()
    };
    let server = ServerOptions::mysql().start();
    server.sql("CREATE USER poor IDENTIFIED WITH caching_sha2_password BY 'poor'");
    let with = |user: &str, password: &str| Endpoint {
        user: user.to_owned(),
        password: SecretString::from(password.to_owned()),
        ..endpoint(&server)
    };
    let wrong = end(with("poor", "wrong")).to_string();
    assert!(wrong.contains("refused the login of user \"poor\""), "{wrong}");
    let poor = end(with("poor", "poor")).to_string();
    assert!(poor.contains("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'poor'"), "{poor}");
    server.sql("GRANT REPLICATION CLIENT ON *.* TO poor");
    let poor = end(with("poor", "poor")).to_string();
    assert!(poor.contains("GRANT REPLICATION SLAVE ON *.* TO"), "{poor}");
    let off = end(endpoint(&ServerOptions::mysql().arg("--skip-log-bin").start())).to_string();
    assert!(off.contains("log_bin = binlog"), "{off}");
}

/// Not a test of its own: the body of the process that [`StreamerProcess`] starts and kills.
#[test]
#[ignore = "run by other tests"]
fn streamer_process() {
    let Ok(spec) = std::env::var("TIDEMARK_TEST_STREAMER") else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    let text = |name: &str| spec[name].as_str().unwrap_or_default().to_owned();
    let failpoint = text("failpoint");
    if !failpoint.is_empty() {
        let pass = spec["pass"].as_u64().unwrap() as usize;
        let met = AtomicUsize::new(0);
        fail::cfg_callback(failpoint, move || {
            if met.fetch_add(1, Ordering::SeqCst) >= pass {
                // As sudden as kill -9: nothing is unwound, nothing flushed.
                std::process::abort();
            }
        })
        .unwrap();
    }
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        at: None,
        port: spec["port"].as_u64().unwrap() as u16,
        user: "root".to_owned(),
        password: SecretString::from(ROOT_PASSWORD.to_owned()),
        tls: Tls { mode: TlsMode::Disabled, ca_pem: None },
        connect_timeout: Duration::from_secs(10),
    };
    let store = match spec["s3"].as_object() {
        None => StoreConfig::Fs { root: PathBuf::from(text("folder")) },
        Some(_) => {
            let part = |name: &str| spec["s3"][name].as_str().unwrap().to_owned();
            StoreConfig::S3(S3Config {
                endpoint: Some(part("endpoint")),
                region: part("region"),
                bucket: part("bucket"),
                access_key: Some(part("access_key")),
                secret_key: Some(SecretString::from(part("secret_key"))),
                ..S3Config::default()
            })
        }
    };
    let mut config = config();
    if spec["semi_sync"] == true {
        config.acknowledge = Acknowledge::ObjectStore;
    }
    config.segment_bytes = spec["segment_bytes"].as_u64().unwrap_or(StreamConfig::default().segment_bytes);
    if let Some(level) = spec["level"].as_i64() {
        config.compression = if level == 0 { Compression::None } else { Compression::Zstd { level: level as i32 } };
    }
    if let Some(folder) = spec["spool"][0].as_str() {
        config.spool = Some(SpoolConfig { folder: folder.into(), max_bytes: spec["spool"][1].as_u64().unwrap() });
    }
    config.hold_purge = spec["hold"] == true;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = Store::open(&store).unwrap();
    runtime.block_on(stream(config, endpoint, store, CancellationToken::new(), StreamStatus::default())).unwrap();
}

/// A stream in a process of its own.
#[derive(Default)]
struct StreamerProcess<'a> {
    failpoint: &'a str,
    pass: usize,
    segment_bytes: Option<u64>,
    s3: Option<&'a S3Server>,
    level: Option<i32>,
    semi_sync: bool,
    /// Where the S3 server is to be reached, where not directly.
    s3_endpoint: Option<&'a str>,
    /// Folder and bound of a spool.
    spool: Option<(&'a Path, u64)>,
    /// Whether it holds the source's purging back.
    hold: bool,
}

impl StreamerProcess<'_> {
    fn start(self, server: &Server, folder: &Path) -> Process {
        let s3 = self.s3.map(|s3| {
            json!({
                "endpoint": self.s3_endpoint.unwrap_or(s3.endpoint()),
                "region": s3.region(),
                "bucket": s3.bucket(),
                "access_key": s3.access_key(),
                "secret_key": s3.secret_key(),
            })
        });
        let small = self.s3.is_none().then_some(512 << 10);
        let spec = json!({
            "port": server.port(),
            "folder": folder,
            "s3": s3,
            "failpoint": self.failpoint,
            "pass": self.pass,
            "segment_bytes": self.segment_bytes.or(small),
            "level": self.level,
            "semi_sync": self.semi_sync,
            "spool": self.spool,
            "hold": self.hold,
        });
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stream::streamer_process", "--ignored", "--nocapture"]);
        command.env("TIDEMARK_TEST_STREAMER", spec.to_string());
        Process::spawn(command)
    }
}

/// A stream in this process.
struct Streaming {
    runtime: Runtime,
    cancel: CancellationToken,
    status: StreamStatus,
    task: JoinHandle<Result<(), Error>>,
    store: Store,
}

impl Streaming {
    fn start(config: StreamConfig, server: &Server, store: &Store) -> Streaming {
        Streaming::start_at(config, endpoint(server), store)
    }

    fn start_at(config: StreamConfig, source: Endpoint, store: &Store) -> Streaming {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (cancel, status) = (CancellationToken::new(), StreamStatus::default());
        let task = runtime.spawn(stream(config, source, store.clone(), cancel.clone(), status.clone()));
        Streaming { runtime, cancel, status, task, store: store.clone() }
    }

    fn wait(&self, what: &str, mut reached: impl FnMut(&StreamReading) -> bool) -> StreamReading {
        wait_for(what, LONG, || {
            let reading = self.status.read();
            assert!(!self.task.is_finished(), "the stream ended: {reading:?}");
            reached(&reading).then_some(reading)
        })
    }

    /// Waits until everything that the server has written is in the store, by the archive's own word and the stream's.
    fn caught_up(&self, server: &Server) -> StreamReading {
        let began = Instant::now();
        wait_for("the archive to have all", LONG, || {
            let reading = self.status.read();
            assert!(!self.task.is_finished(), "the stream ended: {reading:?}");
            has_all(&self.store, server).then_some(()).or_else(|| {
                (began.elapsed() > LONG - Duration::from_secs(5)).then(|| panic!("not archived: {reading:?}"))
            })
        });
        self.wait("no lag", |s| s.lag_seconds(CommitTime(i64::MAX)) == 0.0)
    }

    fn stop(self) {
        self.cancel.cancel();
        let ended = self.runtime.block_on(async { tokio::time::timeout(LONG, self.task).await });
        ended.expect("the stream stops when told to").unwrap().unwrap();
    }
}

fn config() -> StreamConfig {
    StreamConfig {
        flush_interval: Duration::from_millis(100),
        segment_bytes: 512 << 10,
        trace_id: "test".to_owned(),
        ..StreamConfig::default()
    }
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        at: None,
        port: server.port(),
        user: "root".to_owned(),
        password: SecretString::from(ROOT_PASSWORD.to_owned()),
        tls: Tls { mode: TlsMode::Disabled, ca_pem: None },
        connect_timeout: Duration::from_secs(10),
    }
}

fn fs(root: &Path) -> Store {
    Store::open(&StoreConfig::Fs { root: root.to_owned() }).unwrap()
}

fn s3(server: &S3Server) -> Store {
    Store::open(&StoreConfig::S3(S3Config {
        endpoint: Some(server.endpoint().to_owned()),
        region: server.region().to_owned(),
        bucket: server.bucket().to_owned(),
        access_key: Some(server.access_key().to_owned()),
        secret_key: Some(SecretString::from(server.secret_key().to_owned())),
        ..S3Config::default()
    }))
    .unwrap()
}

fn wait_on<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future)
}

fn catalog(store: &Store) -> Catalog {
    let catalog = wait_on(Catalog::load(store)).unwrap();
    assert_eq!((&catalog.unknown, &catalog.problems), (&Vec::new(), &Vec::new()));
    catalog
}

/// The text of a set, or of MariaDB's position, which names no writer but the last.
fn as_the_server_says(set: &GtidSet) -> String {
    match set {
        GtidSet::Mysql(set) => set.to_string(),
        GtidSet::Mariadb(set) => set.position(),
    }
}

fn gtids(server: &Server) -> GtidSet {
    GtidSet::parse(server.flavor(), &server.gtids()).unwrap()
}

fn server_name(server: &Server) -> String {
    match server.flavor() {
        Flavor::Mysql => server.sql("SELECT @@server_uuid"),
        Flavor::Mariadb => format!("mariadb-{}", server.server_id()),
    }
}

/// The archive has all bytes of the server's newest file.
fn archived_all(store: &Store, server: &Server) {
    wait_for("the archive to have all", LONG, || has_all(store, server).then_some(()));
}

fn has_all(store: &Store, server: &Server) -> bool {
    let Ok(catalog) = wait_on(Catalog::load(store)) else { return false };
    let rows = server.rows("SHOW BINARY LOGS");
    let (name, size) = (rows.last().unwrap()[0].clone(), rows.last().unwrap()[1].parse::<u64>().unwrap());
    let server = server_name(server);
    let newest = catalog.files.into_iter().filter(|file| file.id.server == server && file.id.name == name);
    newest.max_by_key(|file| file.id.created_unix).is_some_and(|file| file.size >= size)
}

/// Every archived file of the server that it still has is the server's, byte for byte, by stock zstd; and the archive has all
/// from its oldest on. Returns the archived files, oldest first.
pub fn assert_identical(store: &Store, server: &Server) -> Vec<ArchivedFile> {
    let name = server_name(server);
    let mut files: Vec<_> = catalog(store).files.into_iter().filter(|file| file.id.server == name).collect();
    files.sort_by_key(|file| (file.id.created_unix, file.id.name.clone()));
    let own: Vec<PathBuf> = server.binlogs();
    let newest =
        |path: &PathBuf| files.iter().rfind(|file| path.file_name().is_some_and(|name| name == file.id.name.as_str()));
    let first = own.iter().position(|path| newest(path).is_some()).expect("nothing is archived");
    for path in &own[first..] {
        let file = newest(path).unwrap_or_else(|| panic!("{} is not archived", path.display()));
        assert_same_bytes(store, file, path);
    }
    files
}

fn assert_same_bytes(store: &Store, file: &ArchivedFile, path: &Path) {
    let work = tempfile::tempdir().unwrap();
    let ranges = wait_on(load_ranges(store, file)).unwrap();
    let mut end = 0;
    let mut objects = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        assert_eq!(range.object.start, end, "{}: ranges neither overlap nor leave holes", file.id.name);
        end = range.object.end;
        let object = work.path().join(format!("{i}.zst"));
        std::fs::write(&object, wait_on(store.get(&range.object.key())).unwrap()).unwrap();
        objects.push(object);
    }
    let plain = work.path().join("plain");
    for some in objects.chunks(500) {
        let status = Command::new("zstd")
            .args(["-d", "-c", "-q"])
            .args(some)
            .stdout(File::options().create(true).append(true).open(&plain).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let mut archived = std::fs::read(&plain).unwrap();
    let mut own = std::fs::read(path).unwrap();
    // The server marks the file it is writing in the header of the first event, and unmarks it at its orderly end; a dump
    // never shows the mark.
    for bytes in [&mut archived, &mut own] {
        if file.closed.as_ref().is_none_or(|closed| closed.ending == Ending::Crash) {
            bytes[4 + 17] &= !1;
        }
    }
    // MariaDB's background thread adds a checkpoint event some time after a rotation, perhaps since the stream was stopped.
    if own.get(archived.len() + 4).is_some_and(|event_type| *event_type == EventType::BINLOG_CHECKPOINT.0) {
        own.truncate(archived.len());
    }
    assert_eq!(archived.len(), own.len(), "{}: sizes differ", path.display());
    let differs = archived.iter().zip(&own).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{}: first difference", path.display());
}
