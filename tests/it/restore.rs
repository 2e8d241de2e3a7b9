//! Restores into real servers, each compared with the source or with an independent replay by the stock tools.

use std::time::Duration;

use jiff::Timestamp;
use tidemark::archive::catalog::Catalog;
use tidemark::archive::store::{S3Config, Store, StoreConfig};
use tidemark::binlog::StreamConfig;
use tidemark::model::{BinlogPosition, Flavor};
use tidemark::restore;
use tidemark::restore::plan::{Request, Target};

use crate::lab::{Lab, checksums, endpoint, executed, request};
use crate::store::s3_config;
use crate::support::{S3Server, ServerOptions};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

/// Schema changes and a few hundred transactions over several files.
pub fn load(lab: &Lab, rounds: usize) {
    let mut sql = String::from(
        "CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(200), b INT, KEY (b));\n",
    );
    for i in 0..rounds {
        sql += &format!("INSERT INTO d.t (a, b) VALUES (REPEAT(CHAR(97 + {i} % 26), {i} % 190), {i});\n");
        match i % 25 {
            3 => {
                sql += &format!(
                    "BEGIN; UPDATE d.t SET b = b + 1 WHERE id % 3 = 0; DELETE FROM d.t WHERE id = {i}; COMMIT;\n"
                )
            }
            7 => sql += &format!("CREATE TABLE IF NOT EXISTS d.t{i} AS SELECT * FROM d.t WHERE id % 5 = 0;\n"),
            11 => {
                sql += &format!(
                    "XA START 'x{i}'; INSERT INTO d.t (b) VALUES (-{i}); XA END 'x{i}'; XA PREPARE 'x{i}'; XA COMMIT 'x{i}';\n"
                )
            }
            19 => sql += "FLUSH BINARY LOGS;\n",
            _ => {}
        }
    }
    lab.source.sql(&sql);
}

#[test]
fn a_restore_to_latest_equals_the_source() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 120);
        lab.archive();
        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(report.executed, lab.source.gtids(), "{flavor}");
        assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
        assert!(!checksums(&target).is_empty());
        // The target is open for its users again, is no replica, and nothing of the restore is left.
        assert_eq!(
            target.sql("SELECT @@GLOBAL.read_only, @@GLOBAL.event_scheduler"),
            lab.source.sql("SELECT 0, @@GLOBAL.event_scheduler")
        );
        let flushing = "SELECT @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit";
        assert_eq!(target.sql(flushing), lab.source.sql(flushing), "{flavor}: it flushes again as it did");
        assert_eq!(
            target.sql("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'tidemark_restore'"),
            "0"
        );
        let status = if flavor == Flavor::Mysql { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
        assert_eq!(target.sql(status), "");
        target.sql("INSERT INTO d.t (b) VALUES (1)");
    }
}

/// The rows of `d.t` in a text that two servers can be compared by.
fn rows(server: &crate::support::Server) -> String {
    server.sql("SELECT id, a, b FROM d.t ORDER BY id")
}

#[test]
fn a_restore_ends_at_a_time_a_gtid_or_a_position_or_just_before_it() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 30);
        // MariaDB's commit times are whole seconds.
        std::thread::sleep(Duration::from_millis(if flavor == Flavor::Mariadb { 1100 } else { 5 }));
        let (before, before_gtids) = (rows(&lab.source), lab.source.gtids());
        let time = Timestamp::now();
        std::thread::sleep(Duration::from_millis(if flavor == Flavor::Mariadb { 1100 } else { 5 }));
        lab.source.sql("INSERT INTO d.t (a, b) VALUES ('the one', 1)");
        let with_it = rows(&lab.source);
        let with_gtids = lab.source.gtids();
        let status = if flavor == Flavor::Mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        let at = lab.source.rows(status)[0].clone();
        let position = BinlogPosition { file: at[0].clone(), offset: at[1].parse().unwrap() };
        lab.source.sql("DROP TABLE d.t");
        load(&lab, 10);
        lab.archive();
        let one = lab.gtids(&with_gtids).difference(&lab.gtids(&before_gtids));
        let exclusive = |target| Request { exclusive: true, ..request(target) };
        for (name, request, expected, gtids) in [
            ("time", request(Target::Time(time)), &before, &before_gtids),
            ("gtid", request(Target::Gtid(one.clone())), &with_it, &with_gtids),
            ("before gtid", exclusive(Target::Gtid(one)), &before, &before_gtids),
            ("position", request(Target::Position(position.clone())), &with_it, &with_gtids),
            ("before position", exclusive(Target::Position(position)), &before, &before_gtids),
        ] {
            let (target, report) = lab.restore(&request);
            assert_eq!(&rows(&target), expected, "{flavor} {name}");
            assert_eq!(&report.executed, gtids, "{flavor} {name}");
        }
    }
}

#[test]
fn a_skipped_transaction_leaves_its_gtid_and_nothing_else() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 20);
        let before = lab.source.gtids();
        lab.source.sql("DELETE FROM d.t");
        let one = lab.gtids(&lab.source.gtids()).difference(&lab.gtids(&before));
        let before = lab.source.gtids();
        lab.source.sql("CREATE TABLE d.unwanted (a INT)");
        let two = lab.gtids(&lab.source.gtids()).difference(&lab.gtids(&before));
        lab.archive();
        let skip = one.union(&two).unwrap();
        let (target, report) = lab.restore(&Request { skip_gtids: Some(skip), ..request(Target::Latest) });
        assert_eq!(report.executed, lab.source.gtids(), "{flavor}");
        assert_eq!(lab.source.sql("SELECT COUNT(*) FROM d.t"), "0");
        assert_ne!(target.sql("SELECT COUNT(*) FROM d.t"), "0", "{flavor}");
        assert!(target.try_sql("SELECT * FROM d.unwanted").is_err(), "{flavor}");
    }
}

#[test]
fn a_target_outside_the_window_is_refused_with_what_is_reachable() {
    let lab = Lab::new(ServerOptions::mysql());
    load(&lab, 5);
    lab.archive();
    let later = Timestamp::now() + Duration::from_secs(3600);
    let error = lab.plan(&request(Target::Time(later))).unwrap_err().to_string();
    assert!(error.contains("reachable: ") && error.contains("--allow-nearest"), "{error}");
    let nearest = Request { allow_nearest: true, ..request(Target::Time(later)) };
    assert_eq!(lab.plan(&nearest).unwrap().expected_gtids.to_string(), lab.source.gtids());
    let earlier = Timestamp::now() - Duration::from_secs(3600);
    let error = lab.plan(&request(Target::Time(earlier))).unwrap_err().to_string();
    assert!(error.contains("before the oldest full"), "{error}");
    let uuid = lab.source.sql("SELECT @@server_uuid");
    // The last transaction of the newest full, where the log before it is not archived.
    let alone = Lab::without_full(ServerOptions::mysql());
    load(&alone, 3);
    alone.full();
    alone.archive();
    let (all, number) = (alone.source.gtids(), alone.source.gtids().rsplit('-').next().unwrap().to_owned());
    let last = alone.gtids(&format!("{}:{number}", alone.source.sql("SELECT @@server_uuid")));
    let error = alone.plan(&request(Target::Gtid(last))).unwrap_err().to_string();
    assert!(error.contains("holds it already") && error.contains(&all), "{error}");
    assert_eq!(alone.plan(&request(Target::Gtid(alone.gtids(&all)))).unwrap().expected_gtids.to_string(), all);
    let error = lab.plan(&request(Target::Gtid(lab.gtids(&format!("{uuid}:9999"))))).unwrap_err().to_string();
    assert!(error.contains(&format!("{uuid}:9999")), "{error}");
}

#[test]
fn a_damaged_or_missing_object_fails_the_restore_by_name_and_claims_nothing() {
    let lab = Lab::new(ServerOptions::mysql());
    load(&lab, 60);
    lab.archive();
    let plan = lab.plan(&request(Target::Latest)).unwrap();
    let objects = lab.runtime.block_on(lab.store.list("binlog/")).unwrap();
    let object = objects.iter().filter(|o| o.key.ends_with(".zst")).nth(1).unwrap();
    let path = lab.root.join(&object.key);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 0x40;
    std::fs::write(&path, bad).unwrap();
    let target = ServerOptions::mysql().start();
    let error = lab.run(&plan, &target).unwrap_err().to_string();
    assert!(error.contains(&object.key), "{error}");
    assert_eq!(target.sql("SELECT @@GLOBAL.read_only"), "1");
    // A missing one is no passing fault: nothing is tried again.
    std::fs::remove_file(&path).unwrap();
    let began = std::time::Instant::now();
    let error = lab.run(&plan, &target).unwrap_err().to_string();
    assert!(error.contains(&object.key) && began.elapsed() < Duration::from_secs(30), "{:?}: {error}", began.elapsed());
    // With the object back the same restore goes on to its end.
    std::fs::write(&path, good).unwrap();
    let report = lab.run(&plan, &target).unwrap();
    assert!(report.resumed);
    assert_eq!(report.executed, lab.source.gtids());
    assert_eq!(checksums(&target), checksums(&lab.source));
}

#[test]
fn a_damaged_or_missing_object_in_s3_fails_the_restore_by_name_within_seconds() {
    let s3 = S3Server::start();
    for flavor in BOTH {
        let mut lab = Lab::without_full(ServerOptions::of(flavor));
        lab.store = Store::open(&StoreConfig::S3(S3Config { prefix: flavor.to_string(), ..s3_config(&s3) })).unwrap();
        load(&lab, 30);
        lab.full();
        load(&lab, 30);
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let some = |prefix: &str, middle: &str| {
            let objects = lab.runtime.block_on(lab.store.list(prefix)).unwrap();
            let mut keys =
                objects.into_iter().map(|o| o.key).filter(|key| key.contains(middle) && key.ends_with(".zst"));
            keys.next().unwrap()
        };
        let first = plan.files.first().unwrap().file.name.clone();
        for key in [some("full/", "/rows/"), some("binlog/", &first)] {
            let path = s3.objects().join(flavor.to_string()).join(&key);
            let good = std::fs::read(&path).unwrap();
            let target = ServerOptions::of(flavor).start();
            for damaged in [true, false] {
                match damaged {
                    true => {
                        let mut bad = good.clone();
                        bad[good.len() / 3] ^= 0x40;
                        std::fs::write(&path, bad).unwrap();
                    }
                    false => std::fs::remove_file(&path).unwrap(),
                }
                let began = std::time::Instant::now();
                let error = lab.run(&plan, &target).unwrap_err();
                let took = began.elapsed();
                assert!(error.to_string().contains(&key), "{flavor} {key}, damaged {damaged}: {error}");
                assert!(!error.is_transient(), "{flavor} {key}, damaged {damaged}: {error}");
                assert!(took < Duration::from_secs(55), "{flavor} {key}, damaged {damaged}: {took:?}: {error}");
                assert_eq!(target.sql("SELECT @@GLOBAL.read_only"), "1");
            }
            std::fs::write(&path, &good).unwrap();
        }
    }
}

#[test]
fn what_somebody_else_wrote_to_the_target_fails_the_proof() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 10);
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        let client = std::sync::Mutex::new(target.client());
        let outcome = lab.run_with(&plan, &target, "restore::replay::before_start", move || {
            let mut client = client.lock().unwrap();
            client.args(["--execute", "CREATE DATABASE strange"]);
            assert!(client.status().unwrap().success());
        });
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("not proved") && error.contains("not in the plan"), "{flavor}: {error}");
    }
}

#[test]
fn a_restore_that_dies_in_any_phase_goes_on_when_it_is_run_again() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        load(&lab, 40);
        lab.full();
        load(&lab, 40);
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        assert!(!plan.base.gtids.is_empty());
        for failpoint in [
            "restore::begun",
            "restore::base::loaded",
            "restore::gtids::reset",
            "restore::gtids::set",
            "restore::replay::before_start",
            "restore::replay::watching",
            "restore::replay::done",
            "restore::proved",
            "restore::cleanup::detached",
            "restore::cleanup::opened",
        ] {
            let target = ServerOptions::of(flavor).start();
            lab.run_dying_at(&plan, &target, failpoint);
            let report = lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor} {failpoint}: {e}"));
            assert!(report.resumed, "{flavor} {failpoint}");
            assert_eq!(executed(&target), lab.source.gtids(), "{flavor} {failpoint}");
            assert_eq!(checksums(&target), checksums(&lab.source), "{flavor} {failpoint}");
        }
    }
}

#[test]
fn a_target_opens_only_when_everything_is_on_disk_and_it_flushes_again() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 10);
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        lab.run_dying_at(&plan, &target, "restore::replay::done");
        let settings = "SELECT @@GLOBAL.read_only, @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit";
        assert_eq!(target.sql(settings), "1\t0\t2", "{flavor}");
        lab.run_dying_at(&plan, &target, "restore::cleanup::flushed");
        assert_eq!(target.sql(settings), "1\t1\t1", "{flavor}");
        lab.run(&plan, &target).unwrap();
        assert_eq!(target.sql(settings), "0\t1\t1", "{flavor}");
    }
}

#[test]
fn a_half_restored_target_refuses_another_plan() {
    let lab = Lab::new(ServerOptions::mysql());
    load(&lab, 10);
    lab.archive();
    let plan = lab.plan(&request(Target::Latest)).unwrap();
    let target = ServerOptions::mysql().start();
    lab.run_dying_at(&plan, &target, "restore::gtids::set");
    load(&lab, 1);
    lab.archive();
    let other = lab.plan(&request(Target::Latest)).unwrap();
    let error = lab.run(&other, &target).unwrap_err().to_string();
    assert!(error.contains("unfinished restore") && error.contains("empty server"), "{error}");
    let unfinished = lab.runtime.block_on(restore::unfinished(&endpoint(&target), &request(Target::Latest))).unwrap();
    assert_eq!(unfinished.as_ref(), Some(&plan), "the same request finds its own plan again");
    lab.run(&plan, &target).unwrap();
}

#[test]
fn a_source_put_back_to_an_earlier_state_is_a_fork_of_itself_and_is_never_mixed() {
    for flavor in BOTH {
        let mut lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
        let good_full = lab.full();
        lab.source.sql("INSERT INTO d.t VALUES (2)");
        lab.archive();
        let shared = lab.source.gtids();
        lab.source.stop();
        let (data, copy) = (lab.source.datadir(), tempfile::tempdir().unwrap());
        let copied = |from: &std::path::Path, to: &std::path::Path| {
            let from = from.join(".");
            assert!(std::process::Command::new("cp").arg("-a").args([&from, to]).status().unwrap().success());
        };
        copied(&data, copy.path());
        lab.source.restart();
        lab.source.sql("INSERT INTO d.t VALUES (100); INSERT INTO d.t VALUES (101)");
        lab.archive();
        lab.full();
        lab.source.stop();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        copied(copy.path(), &data);
        // Creation stamps are in seconds.
        std::thread::sleep(Duration::from_millis(1100));
        lab.source.restart();
        lab.source.sql("INSERT INTO d.t VALUES (3); INSERT INTO d.t VALUES (4); INSERT INTO d.t VALUES (5)");
        assert_ne!(lab.source.gtids(), shared);
        let streaming = lab.stream(StreamConfig::default());
        lab.durable(&streaming);
        assert_eq!(streaming.status.read().forks.len(), 1, "{flavor}: {:?}", streaming.status.read());
        lab.stop(streaming);
        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(report.base, good_full, "{flavor}");
        assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
        assert!(report.warnings.iter().any(|w| w.contains("are not restored")), "{flavor}: {:?}", report.warnings);
    }
}

#[test]
fn files_stamped_far_in_the_future_or_the_past_are_followed_in_their_order() {
    let small = || StreamConfig {
        segment_bytes: 64 << 10,
        flush_interval: Duration::from_millis(50),
        ..StreamConfig::default()
    };
    for stamp in [2_000_000_000, 1_000_000_000] {
        let lab = Lab::new(ServerOptions::mariadb());
        let fill = || {
            for _ in 0..10 {
                lab.source.sql("INSERT INTO d.t (a) VALUES (REPEAT('x', 50000))");
            }
        };
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, a TEXT)");
        let stamped = format!("SET TIMESTAMP = {stamp}; FLUSH BINARY LOGS; INSERT INTO d.t (a) VALUES ('stamped')");
        // The stream stops once where the newest file is the one with the strange stamp, and once behind it.
        for rotation in
            [stamped.as_str(), "FLUSH BINARY LOGS", stamped.as_str(), "FLUSH BINARY LOGS; FLUSH BINARY LOGS"]
        {
            let streaming = lab.stream(small());
            fill();
            lab.durable(&streaming);
            lab.source.sql(rotation);
            fill();
            lab.durable(&streaming);
            lab.stop(streaming);
            lab.source.sql("INSERT INTO d.t (a) VALUES ('while nobody streamed')");
            let streaming = lab.stream(small());
            lab.durable(&streaming);
            let reading = streaming.status.read();
            assert!(reading.gaps.is_empty() && reading.forks.is_empty(), "{stamp}, {rotation}: {reading:?}");
            assert!(reading.bytes_read < 200_000, "{stamp}, {rotation}: read again: {reading:?}");
            lab.stop(streaming);
        }
        let files = lab.runtime.block_on(Catalog::load(&lab.store)).unwrap().files;
        let strange = files.iter().filter(|file| file.id.created_unix == stamp).count();
        assert_eq!(strange, 2, "the server stamps its files as it is told: {files:?}");
        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(report.executed, lab.source.gtids(), "{stamp}");
        assert_eq!(checksums(&target), checksums(&lab.source), "{stamp}");
    }
}
