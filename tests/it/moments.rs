//! Fulls whose source is changed at the worst moment: nothing is claimed that was not so.

use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tidemark::archive::manifest::FullManifest;
use tidemark::archive::store::Store;
use tidemark::backup::logical::{self, LogicalConfig, LogicalError};
use tidemark::model::{Flavor, GtidSet, Progress};
use tokio::runtime::Builder;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::fidelity::{back_up, endpoint, folder, restore};
use crate::lab::executed;
use crate::privileges::account;
use crate::processes::{Site, ends_well};
use crate::support::{Server, ServerOptions, Signal, wait_for};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];
/// (An ALTER whose every row costs the processor 25 ms takes minutes on a busy machine.)
const PATIENCE: Duration = Duration::from_secs(300);

/// For who sets a failpoint of the whole process: another test would take it away.
static FAILPOINTS: Mutex<()> = Mutex::new(());

/// How often the server was given such a statement.
fn given(server: &Server, counter: &str) -> u64 {
    server.rows(&format!("SHOW GLOBAL STATUS LIKE '{counter}'"))[0][1].parse().unwrap()
}

/// DDL without end, of a view that says how many there were. (A table's would wait for the copy of it, too.)
const ROUNDS: &str = "CREATE DATABASE d; USE d; CREATE TABLE stop (id INT); CREATE VIEW v AS SELECT 0 AS n;
  DELIMITER //
  CREATE PROCEDURE rounds() BEGIN
    DECLARE k INT DEFAULT 0;
    REPEAT
      SET k = k + 1;
      SET @sql = CONCAT('CREATE OR REPLACE VIEW v AS SELECT ', k, ' AS n');
      PREPARE said FROM @sql; EXECUTE said;
    UNTIL EXISTS (SELECT 1 FROM stop) END REPEAT;
  END//";

#[test]
fn a_full_that_loses_its_hold_on_ddl_is_begun_again_at_once() {
    let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    for flavor in BOTH {
        let (source, target) = (Arc::new(ServerOptions::of(flavor).start()), ServerOptions::of(flavor).start());
        source.sql(ROUNDS);
        let before = GtidSet::parse(flavor, &source.gtids()).unwrap();
        let mut ddl = source.client().args(["d", "-e", "CALL rounds()"]).spawn().unwrap();
        let round = |server: &Server| server.sql("SELECT n FROM d.v").parse::<u64>().unwrap();
        wait_for("DDL", PATIENCE, || (round(&source) > 30).then_some(()));
        // The first attempt that copies anything is one that makes DDL wait: those before it are ended by DDL. Failpoints are the whole process's:
        // this is for one runtime.
        let (server, main) = (source.clone(), thread::current().id());
        fail::cfg_callback("backup::logical::aligned", move || {
            if thread::current().id() == main {
                let before = round(&server);
                let waits =
                    "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'Waiting for backup lock'";
                let is_met = || round(&server) > before + 1 || server.sql(waits) != "0";
                wait_for("DDL after the snapshot, or that waits", PATIENCE, || is_met().then_some(()));
            }
        })
        .unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("loses").enable_all().build().unwrap();
        let (server, lost) = (source.clone(), Arc::new(AtomicBool::new(false)));
        let is_lost = lost.clone();
        let lose = move || {
            let connections = server.rows(
                "SELECT id FROM information_schema.processlist WHERE user = 'root' AND db IS NULL AND id <> CONNECTION_ID() ORDER BY id",
            );
            let (held_at, attempts) = (round(&server), given(&server, "Com_show_grants"));
            // On MySQL it is raised under the global lock, by the last connection; else by the one after the first.
            let holds = if flavor == Flavor::Mysql { connections.last() } else { connections.get(1) };
            server.sql(&format!("KILL {}", holds.unwrap()[0]));
            wait_for("more DDL", PATIENCE, || (round(&server) > held_at + 5).then_some(()));
            // While this worker is still at its range.
            wait_for("a new attempt", PATIENCE, || (given(&server, "Com_show_grants") > attempts).then_some(()));
        };
        fail::cfg_callback("backup::logical::after_range", move || {
            if thread::current().name() == Some("loses") && !lost.swap(true, Ordering::SeqCst) {
                block_in_place(&lose);
            }
        })
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = runtime.block_on(back_up(&source, &store));
        fail::remove("backup::logical::aligned");
        fail::remove("backup::logical::after_range");
        assert!(is_lost.load(Ordering::SeqCst), "{flavor}: no attempt kept DDL waiting");
        source.sql("INSERT INTO d.stop VALUES (1)");
        assert!(ddl.wait().unwrap().success());
        runtime.block_on(restore(&store, &manifest, &target));
        let done = manifest.gtids.difference(&before).count();
        assert!(done > 30, "{flavor}: {done} DDLs");
        assert_eq!(round(&target), done, "{flavor}");
    }
}

/// A full whose tables are read one behind the other, the largest first.
async fn one_by_one(source: &Server, store: &Store) -> FullManifest {
    let config = LogicalConfig { connections: 1, ..LogicalConfig::default() };
    logical::run(&config, &endpoint(source), store, Progress::default(), CancellationToken::new()).await.unwrap()
}

#[test]
fn ddl_on_a_table_that_is_copied_does_not_wait_for_the_rest_of_the_full() {
    let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    for flavor in BOTH {
        let (source, target) = (Arc::new(ServerOptions::of(flavor).start()), ServerOptions::of(flavor).start());
        source.sql(
            "CREATE DATABASE d; CREATE TABLE d.first (id INT PRIMARY KEY, v LONGBLOB); CREATE TABLE d.second (id INT PRIMARY KEY);
             INSERT INTO d.first VALUES (1, REPEAT('v', 1 << 20)); INSERT INTO d.second VALUES (1); ANALYZE TABLE d.first, d.second",
        );
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("copies").enable_all().build().unwrap();
        let (server, ranges) = (source.clone(), Arc::new(AtomicU64::new(0)));
        let begun = ranges.clone();
        fail::cfg_callback("backup::logical::after_range", move || {
            if thread::current().name() != Some("copies") {
                return;
            }
            if begun.fetch_add(1, Ordering::SeqCst) == 0 {
                // Longer than a table that was read is kept for the next one.
                block_in_place(|| thread::sleep(Duration::from_millis(1100)));
            } else {
                block_in_place(|| {
                    server.sql("SET SESSION lock_wait_timeout = 30; ALTER TABLE d.first ADD COLUMN w INT; UPDATE d.first SET w = 1");
                });
            }
        })
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = runtime.block_on(one_by_one(&source, &store));
        fail::remove("backup::logical::after_range");
        assert_eq!(ranges.load(Ordering::SeqCst), 2, "{flavor}: the full was begun again");
        assert_eq!(source.sql("SELECT w FROM d.first"), "1", "{flavor}");
        runtime.block_on(restore(&store, &manifest, &target));
        assert_eq!(target.sql("SELECT id, LENGTH(v) FROM d.first"), "1\t1048576", "{flavor}");
    }
}

/// Their definitions are the same, and so are their names before and behind the full.
#[test]
fn two_tables_that_change_their_names_and_change_them_back_during_a_full_are_not_taken_for_each_other() {
    let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    for flavor in BOTH {
        let (source, target) = (Arc::new(ServerOptions::of(flavor).start()), ServerOptions::of(flavor).start());
        source.sql(
            "CREATE DATABASE d; CREATE TABLE d.first (id INT PRIMARY KEY, v LONGBLOB); INSERT INTO d.first VALUES (1, REPEAT('v', 1 << 20));
             CREATE TABLE d.live (id INT PRIMARY KEY); CREATE TABLE d.next (id INT PRIMARY KEY); CREATE TABLE d.z_last (id INT PRIMARY KEY);
             INSERT INTO d.live VALUES (1); INSERT INTO d.next VALUES (2); INSERT INTO d.z_last VALUES (3); ANALYZE TABLE d.first",
        );
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("names").enable_all().build().unwrap();
        let (server, ranges) = (source.clone(), AtomicU64::new(0));
        let swap = move || {
            let range = ranges.fetch_add(1, Ordering::SeqCst) + 1;
            // Before the two are read, and once more behind that: if it can, for they may be kept until somebody has looked.
            if range == 1 || range == 4 {
                let rename = "RENAME TABLE d.live TO d.x, d.next TO d.live, d.x TO d.next";
                let swapped = server.try_sql(&format!("SET SESSION lock_wait_timeout = 2; {rename}"));
                assert!(swapped.is_ok() || range == 4, "{swapped:?}");
                // Longer than a table that was read is kept for the next one.
                thread::sleep(Duration::from_millis(1100));
            }
        };
        fail::cfg_callback("backup::logical::after_range", move || {
            if thread::current().name() == Some("names") {
                block_in_place(&swap);
            }
        })
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = runtime.block_on(one_by_one(&source, &store));
        fail::remove("backup::logical::after_range");
        runtime.block_on(restore(&store, &manifest, &target));
        let rows = "SELECT l.id, n.id FROM d.live l, d.next n";
        assert_eq!(target.rows(rows), source.rows(rows), "{flavor}");
        assert_eq!(
            manifest.gtids.to_string(),
            GtidSet::parse(flavor, &source.gtids()).unwrap().to_string(),
            "{flavor}"
        );
    }
}

/// MariaDB lets an ALTER that has begun go on: it takes its table for itself at its end, and would keep it until the full's.
#[test]
fn an_alter_that_ends_during_a_full_keeps_nobody_from_its_table() {
    let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Arc::new(ServerOptions::mariadb().start());
    source.sql(
        "CREATE DATABASE d; USE d; CREATE TABLE altered (id INT PRIMARY KEY, v CHAR(200)); INSERT INTO altered SELECT seq, REPEAT('v', 200) FROM seq_1_to_400;",
    );
    for n in 0..20 {
        source.sql(&format!("CREATE TABLE d.t{n} (id INT PRIMARY KEY); INSERT INTO d.t{n} VALUES (1)"));
    }
    let states = |server: &Server| {
        server.sql(
            "SELECT GROUP_CONCAT(state) FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE d.altered%'",
        )
    };
    let attempts = |server: &Server| given(server, "Com_show_grants");
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("lets").enable_all().build().unwrap();
    // Two attempts that DDL ends; before the next one, which makes DDL wait, an ALTER begins.
    let (server, alter) = (source.clone(), Arc::new(Mutex::new(None)));
    let (begun, aligned) = (alter.clone(), AtomicU64::new(0));
    let begin = move || {
        let attempt = aligned.fetch_add(1, Ordering::SeqCst) + 1;
        if attempt <= 2 {
            server.sql(&format!("CREATE OR REPLACE VIEW d.v AS SELECT {attempt}"));
        }
        if attempt == 2 {
            // 25 ms a row.
            let slow = "ALTER TABLE d.altered ADD COLUMN slow CHAR(128) DEFAULT (SHA2(REPEAT(UUID(), 300000), 512)), ALGORITHM=COPY, LOCK=SHARED";
            *begun.lock().unwrap() = Some(server.client().args(["-e", slow]).spawn().unwrap());
            wait_for("the ALTER", PATIENCE, || states(&server).contains("copy to tmp table").then_some(()));
        }
    };
    let main = thread::current().id();
    fail::cfg_callback("backup::logical::aligned", move || {
        if thread::current().id() == main {
            begin();
        }
    })
    .unwrap();
    // A range is not over until the ALTER waits for the full, and one that is read after that not until a write to its table is through: a
    // full that does not let them go on would never be. (One of the first read is that table's, and keeps it from the ALTER.)
    let write = Arc::new(Mutex::new(None));
    let (server, writer) = (source.clone(), write.clone());
    let wait = move || {
        if writer.lock().unwrap().is_none() {
            wait_for("the end of the copy", PATIENCE, || {
                (!states(&server).contains("copy to tmp table")).then_some(())
            });
            let mut writer = writer.lock().unwrap();
            if writer.is_none() && states(&server).contains("Waiting for backup lock") {
                let before = attempts(&server);
                let update = server.client().args(["-e", "UPDATE d.altered SET v = 'w'"]).spawn().unwrap();
                *writer = Some((update, before));
            }
            return;
        }
        let mut ended = || writer.lock().unwrap().as_mut().and_then(|(update, _)| update.try_wait().unwrap());
        assert!(wait_for("the write", PATIENCE, &mut ended).success());
    };
    fail::cfg_callback("backup::logical::after_range", move || {
        if thread::current().name() == Some("lets") {
            block_in_place(&wait);
        }
    })
    .unwrap();
    let (dir, target) = (tempfile::tempdir().unwrap(), ServerOptions::mariadb().start());
    let store = folder(dir.path());
    let manifest = runtime.block_on(back_up(&source, &store));
    fail::remove("backup::logical::aligned");
    fail::remove("backup::logical::after_range");
    let (_, before) = write.lock().unwrap().take().expect("an ALTER that waited for the full");
    assert!(attempts(&source) > before, "the full that let the ALTER go on was not begun again");
    assert!(alter.lock().unwrap().take().unwrap().wait().unwrap().success());
    runtime.block_on(restore(&store, &manifest, &target));
    let rows = "SELECT COUNT(*), COUNT(DISTINCT slow), MIN(v), MAX(v) FROM d.altered";
    assert_eq!(target.rows(rows), source.rows(rows));
    assert_eq!(target.rows(rows)[0][1..], ["400", "w", "w"]);
}

#[test]
fn a_log_that_is_begun_anew_after_the_snapshot_is_not_taken_for_its_own() {
    for flavor in BOTH {
        let (site, target) = (Site::new(ServerOptions::of(flavor)), ServerOptions::of(flavor).start());
        site.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
        let mut backup = site.backup("1", "backup::logical::released=1*sleep(15000)");
        let (counter, last, reset) = match flavor {
            Flavor::Mysql => ("Com_unlock_tables", 1, "RESET BINARY LOGS AND GTIDS"),
            Flavor::Mariadb => ("Com_backup", 5, "RESET MASTER"),
        };
        wait_for("the lock to be released", PATIENCE, || (given(&site.source, counter) >= last).then_some(()));
        backup.signal(Signal::Stop);
        // As many transactions as before and more: neither GTIDs nor positions say that they are others.
        let again: String = (2..9).map(|a| format!("INSERT INTO d.t VALUES ({a});")).collect();
        site.source.sql(&format!("{reset}; {again}"));
        backup.signal(Signal::Continue);
        let backup = ends_well(backup);
        assert!(backup.stderr().contains("beginning again"), "{flavor}: {}", backup.output());
        ends_well(site.restore(&target));
        let rows = "SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t";
        assert_eq!(target.sql(rows), site.source.sql(rows), "{flavor}");
        assert_eq!(executed(&target), site.source.gtids(), "{flavor}");
    }
}

#[test]
fn an_xa_transaction_that_comes_and_goes_around_an_unlocked_snapshot_is_in_the_full() {
    let flavor = Flavor::Mariadb;
    let (site, target) = (Site::new(ServerOptions::of(flavor)), ServerOptions::of(flavor).start());
    site.source.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); CREATE USER weak@'%' IDENTIFIED BY 'pw';
         GRANT SELECT, PROCESS, BINLOG MONITOR, SHOW VIEW, EVENT, TRIGGER ON *.* TO weak",
    );
    site.log_in_as("weak", "pw");
    let backup = site.backup("2", "backup::logical::xa_recovered=1*sleep(15000);backup::logical::begun=1*sleep(15000)");
    wait_for("XA RECOVER", PATIENCE, || (given(&site.source, "Com_xa_recover") > 0).then_some(()));
    site.source.sql("XA START 'x'; INSERT INTO d.t VALUES (1); XA END 'x'; XA PREPARE 'x'");
    // Its end has begun before the snapshots are taken, and comes after them.
    let mut lock = site.source.client().arg("d").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(lock.stdin.as_mut().unwrap(), "FLUSH TABLES WITH READ LOCK;").unwrap();
    let process = |what: &str| {
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'd' AND {what}");
        (site.source.sql(&sql) != "0").then_some(())
    };
    let is_asked_for = || (given(&site.source, "Com_flush") > 0).then_some(());
    wait_for("the lock", PATIENCE, || is_asked_for().and_then(|()| process("command = 'Sleep'")));
    let mut commit = site.source.client().args(["d", "-e", "XA COMMIT 'x'"]).spawn().unwrap();
    wait_for("XA COMMIT", PATIENCE, || process("info LIKE 'XA COMMIT%' AND state LIKE 'Waiting%'"));
    wait_for("the snapshots", PATIENCE, || (given(&site.source, "Com_begin") >= 2).then_some(()));
    drop(lock.stdin.take());
    assert!(lock.wait().unwrap().success() && commit.wait().unwrap().success());
    ends_well(backup);
    ends_well(site.restore(&target));
    assert_eq!(target.sql("SELECT COUNT(*) FROM d.t"), "1");
    assert_eq!(executed(&target), site.source.gtids());
}

/// A statement that reads `d.t` for a long time, and its connection. (Such a character makes information_schema.PROCESSLIST fail.)
fn long_query(source: &Server, seconds: u32) -> (Child, u64) {
    source.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2), (3);
         CREATE TABLE d.u (id INT AUTO_INCREMENT PRIMARY KEY)",
    );
    let sql = format!("SELECT id, SLEEP({seconds}), '🌊' FROM d.t");
    let query = source.client().args(["-e", &sql]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let at_work = || source.rows(LONG).first().filter(|row| row[1] != "0" && row[1] != "1").map(|row| row[0].parse());
    let id = wait_for("the query", PATIENCE, at_work).unwrap();
    (query, id)
}

const LONG: &str = "SELECT ID, TIME FROM performance_schema.processlist WHERE INFO LIKE 'SELECT id, SLEEP%'";

/// Fails where somebody waits for longer than the global read lock is held.
fn others_go_on(source: &Server) {
    source.sql("SET SESSION lock_wait_timeout = 5; SELECT COUNT(*) FROM d.t; INSERT INTO d.u VALUES ()");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_while_a_full_of_mysql_waits_for_a_long_query() {
    let (source, target) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    let (mut query, _) = long_query(&source, 5);
    // In the way of no lock.
    let mut sleeper = source.client().args(["-e", "DO SLEEP(600)"]).spawn().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, at, progress) = (folder(dir.path()), endpoint(&source), Progress::default());
    let (into, seen) = (store.clone(), progress.clone());
    let full = tokio::spawn(async move {
        logical::run(&LogicalConfig::default(), &at, &into, seen, CancellationToken::new()).await.unwrap()
    });
    block_in_place(|| {
        let mut waited = false;
        while !source.rows(LONG).is_empty() {
            others_go_on(&source);
            waited |= progress.read().phase == "waiting for the source";
        }
        assert!(waited && query.wait().unwrap().success());
    });
    let manifest = tokio::time::timeout(PATIENCE, full).await.expect("it goes on").unwrap();
    assert_ne!(progress.read().phase, "waiting for the source");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    restore(&store, &manifest, &target).await;
    assert_eq!(target.sql("SELECT COUNT(*) FROM d.u"), source.sql("SELECT COUNT(*) FROM d.u"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_of_mysql_beside_a_query_without_end_names_it_and_leaves_nothing_pending() {
    let source = ServerOptions::mysql().start();
    let (mut query, id) = long_query(&source, 200);
    let dir = tempfile::tempdir().unwrap();
    let config = LogicalConfig { statement_wait: Duration::from_secs(1), ..LogicalConfig::default() };
    let store = folder(dir.path());
    let full = async |at| logical::run(&config, &at, &store, Progress::default(), CancellationToken::new()).await;
    let refused = full(endpoint(&source)).await.unwrap_err();
    assert!(matches!(&refused, LogicalError::AtWork { connection, .. } if *connection == id), "{refused}");
    assert!(refused.to_string().contains(&format!("KILL {id}")) && refused.is_transient(), "{refused}");
    others_go_on(&source);
    // Who may not have the global lock takes one that waits for no reader.
    let grants =
        "SELECT, PROCESS, REPLICATION CLIENT, SHOW VIEW, EVENT, TRIGGER, SHOW_ROUTINE, XA_RECOVER_ADMIN, LOCK TABLES";
    full(account(&source, "locking", &[format!("GRANT {grants} ON *.* TO locking")])).await.unwrap();
    others_go_on(&source);
    source.sql(&format!("KILL {id}"));
    query.wait().unwrap();
}
