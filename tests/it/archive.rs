//! What an archive says of itself: whose it is, what in it is damaged, and what may come back as something else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidemark::archive::catalog::Catalog;
use tidemark::archive::{ArchiveError, keys};
use tidemark::binlog::{self, StreamConfig};
use tidemark::model::Flavor;
use tidemark::restore::plan::Target;

use crate::lab::{Lab, Streaming, checksums, request};
use crate::recovery::{Rig, text};
use crate::restore::load;
use crate::support::ServerOptions;

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

#[test]
fn a_server_of_another_cluster_is_refused_by_stream_and_backup() {
    for flavor in BOTH {
        let mut lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 10);
        lab.archive();
        let before = lab.runtime.block_on(lab.store.list("")).unwrap();
        let mut stranger = ServerOptions::of(flavor).arg("--server-id=4711").start();
        stranger.sql("CREATE DATABASE other; CREATE TABLE other.t (a INT); INSERT INTO other.t VALUES (1)");
        std::mem::swap(&mut lab.source, &mut stranger);

        let failed = lab.runtime.block_on(async { ended(lab.stream(StreamConfig::default())).await }).unwrap_err();
        let told = |e: &ArchiveError| matches!(e, ArchiveError::OtherCluster { .. });
        assert!(matches!(&failed, binlog::Error::Archive { source, .. } if told(source)), "{flavor}: {failed}");
        let rig = Rig::new(lab);
        let failed = rig.tidemark("backup", &[]).output().unwrap();
        assert_eq!(failed.status.code(), Some(1), "{flavor}: {}", text(&failed));
        assert!(text(&failed).contains("is the archive of another cluster"), "{flavor}: {}", text(&failed));
        assert_eq!(rig.lab.runtime.block_on(rig.lab.store.list("")).unwrap(), before, "{flavor}: nothing was written");

        // One of the same cluster is taken, though it was never archived itself: it has the same transactions.
        let mut rig = rig;
        let (restored, _) = rig.lab.restore(&request(Target::Latest));
        rig.lab.source = restored;
        rig.lab.source.sql("INSERT INTO d.t (b) VALUES (7)");
        rig.lab.archive();
    }
}

async fn ended(streaming: Streaming) -> Result<(), binlog::Error> {
    tokio::time::timeout(Duration::from_secs(60), streaming.ended()).await.expect("the stream ends")
}

#[test]
fn changes_that_were_logged_as_statements_are_told_by_the_stream_the_status_and_the_plan() {
    for flavor in BOTH {
        let options = ServerOptions::of(flavor);
        let lab = Lab::new(if flavor == Flavor::Mariadb { options.arg("--log-bin-compress=ON") } else { options });
        load(&lab, 30);
        lab.source.sql(
            "CREATE TABLE d.u (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(400)) COMMENT 'INSERT INTO it'; BEGIN; SAVEPOINT a; \
             INSERT INTO d.u (v) VALUES ('by row'); ROLLBACK TO SAVEPOINT a; INSERT INTO d.u (v) VALUES ('by row'); COMMIT; \
             CREATE TABLE d.w SELECT * FROM d.u; ALTER TABLE d.u COMMENT 'x'; DROP TABLE d.w",
        );
        lab.archive();
        let of = |lab: &Lab| {
            let files = lab.runtime.block_on(Catalog::load(&lab.store)).unwrap().files;
            files.iter().map(|file| file.summary.statements).sum::<u64>()
        };
        assert_eq!(of(&lab), 0, "{flavor}: rows are logged as rows");
        let warned = |lab: &Lab| {
            let plan = lab.plan(&request(Target::Latest)).unwrap();
            plan.forks.iter().filter(|note| note.contains("logged as statements")).count()
        };
        assert_eq!(warned(&lab), 0, "{flavor}");

        let long = "x".repeat(300);
        lab.source.sql(&format!(
            "SET SESSION binlog_format = 'STATEMENT'; INSERT INTO d.u (v) VALUES (UUID()); /* why */ UPDATE d.u SET v = UUID() LIMIT 1; \
             INSERT INTO d.u (v) VALUES (CONCAT('{long}', UUID()))"
        ));
        lab.archive();
        assert_eq!(of(&lab), 3, "{flavor}");
        assert_eq!(warned(&lab), 1, "{flavor}");
        let rig = Rig::new(lab);
        let status = rig.tidemark("status", &[]).output().unwrap();
        assert!(status.status.success(), "{}", text(&status));
        assert!(text(&status).contains("3 change(s) in 1 binlog file(s)"), "{flavor}: {}", text(&status));
    }
}

/// Changes the last digit of the first GTIDs, which stay GTIDs.
fn change_a_gtid(path: &Path) {
    let mut json = fs::read(path).unwrap();
    let at = json.windows(8).position(|found| found == b"\"gtids\":").unwrap();
    let digit = json[at..].windows(2).position(|two| two[0].is_ascii_digit() && two[1] == b'"').unwrap() + at;
    json[digit] = if json[digit] == b'1' { b'2' } else { b'1' };
    fs::write(path, json).unwrap();
}

#[test]
fn a_digit_changed_in_a_manifest_or_an_index_is_damage_and_loses_nothing_silently() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        load(&lab, 10);
        let full = lab.full();
        load(&lab, 10);
        lab.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t (b) VALUES (1)");
        lab.archive();
        let rig = Rig::new(lab);
        let status = |code: i32, says: &str| {
            let shown = rig.tidemark("status", &[]).output().unwrap();
            assert_eq!(shown.status.code(), Some(code), "{flavor}: {}", text(&shown));
            assert!(text(&shown).contains(says), "{flavor}: {}", text(&shown));
        };
        status(0, "recoverable");

        // A file's index: its segments say the same.
        let objects = rig.lab.runtime.block_on(rig.lab.store.list("binlog/")).unwrap();
        let index = rig.lab.root.join(&objects.iter().find(|o| o.key.ends_with("index.json")).unwrap().key);
        let good = fs::read(&index).unwrap();
        change_a_gtid(&index);
        status(4, "DAMAGE");
        let plan = rig.lab.plan(&request(Target::Latest)).unwrap();
        assert!(plan.forks.iter().any(|note| note.contains("index.json")), "{flavor}: {:?}", plan.forks);
        let (target, _) = rig.lab.restore(&request(Target::Latest));
        assert_eq!(checksums(&target), checksums(&rig.lab.source), "{flavor}");
        fs::write(&index, good).unwrap();

        // The only full's manifest.
        let manifest = rig.lab.root.join(keys::manifest(&full));
        let good = fs::read(&manifest).unwrap();
        change_a_gtid(&manifest);
        status(4, &keys::manifest(&full));
        let target = ServerOptions::of(flavor).start();
        let failed = rig.restore(&target, &["--latest"]).output().unwrap();
        assert_eq!(failed.status.code(), Some(4), "{flavor}: {}", text(&failed));
        assert!(text(&failed).contains(&keys::manifest(&full)), "{flavor}: {}", text(&failed));
        assert_eq!(target.sql("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'd'"), "0");
        fs::write(&manifest, good).unwrap();
        status(0, "recoverable");
    }
}

#[test]
fn damage_met_on_the_way_ends_a_restore_with_the_exit_code_of_damage() {
    let lab = Lab::without_full(ServerOptions::mysql());
    load(&lab, 10);
    lab.source
        .sql("CREATE TABLE d.other (a INT PRIMARY KEY, b TEXT); INSERT INTO d.other VALUES (1, 'one'), (2, 'two')");
    lab.full();
    load(&lab, 30);
    lab.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t (b) VALUES (1)");
    lab.archive();
    let rig = Rig::new(lab);
    let keys = |prefix: &str, middle: &str| -> Vec<_> {
        let objects = rig.lab.runtime.block_on(rig.lab.store.list(prefix)).unwrap();
        let keys = objects.into_iter().map(|o| o.key).filter(|k| k.contains(middle) && k.ends_with(".zst"));
        keys.map(|key| rig.lab.root.join(key)).collect()
    };
    let (rows, log) = (keys("full/", "/rows/"), keys("binlog/", ""));
    let damaged = |what: &str, path: &Path, with: Option<&[u8]>| {
        let good = fs::read(path).unwrap();
        match with {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let target = ServerOptions::mysql().start();
        let failed = rig.restore(&target, &["--latest"]).output().unwrap();
        assert_eq!(failed.status.code(), Some(4), "{what}: {}", text(&failed));
        fs::write(path, good).unwrap();
    };
    let mut bad = fs::read(&log[0]).unwrap();
    let middle = bad.len() / 3;
    bad[middle] ^= 0x40;
    damaged("a flipped bit in the log", &log[0], Some(&bad));
    damaged("a segment that is gone", &log[0], None);
    damaged("the rows of another table", &rows[0], Some(&fs::read(&rows[1]).unwrap()));
    damaged("rows that are gone", &rows[0], None);
}

#[test]
fn reading_makes_no_folder() {
    let rig = Rig::new(Lab::without_full(ServerOptions::mysql()));
    fs::remove_dir_all(&rig.lab.root).unwrap();
    for (verb, args, code) in
        [("status", &[][..], 0), ("restore", &["--latest", "--dry-run"], 1), ("prune", &["--dry-run"], 1)]
    {
        let output = rig.tidemark(verb, args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{verb}: {}", text(&output));
        assert!(!rig.lab.root.exists(), "{verb}");
    }
}
