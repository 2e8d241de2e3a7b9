//! Restores by the binary itself: killed in every phase, without GTIDs, from an archive that lost objects, and of everything a
//! log can hold.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use rand::Rng;
use tidemark::archive::store::{S3Config, Store, StoreConfig};
use tidemark::model::Flavor;
use tidemark::restore::plan::{Request, Target};

use crate::lab::{Lab, executed, request};
use crate::restore::load;
use crate::serve::{caught_up, follow};
use crate::store::s3_config;
use crate::support::history::fingerprint;
use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, tidemark_command, wait_for};

/// Every phase of a restore, in order: where it is stopped dead, and the phase that the target remembers then.
const STEPS: [(&str, &str); 11] = [
    ("restore::begun", "base"),
    ("restore::base::loaded", "base"),
    ("restore::base::proved", "gtids"),
    ("restore::gtids::reset", "gtids"),
    ("restore::gtids::set", "gtids"),
    ("restore::replay::before_start", "replay"),
    ("restore::replay::watching", "replay"),
    ("restore::replay::done", "replay"),
    ("restore::proved", "cleanup"),
    ("restore::cleanup::detached", "cleanup"),
    ("restore::cleanup::opened", "cleanup"),
];

/// A lab whose archive the binary is pointed at.
pub struct Rig {
    pub lab: Lab,
    dir: tempfile::TempDir,
}

impl Rig {
    pub fn new(lab: Lab) -> Rig {
        let folder = format!("{{fs: {{path: {}}}}}", lab.root.display());
        Rig::over(lab, &folder)
    }

    /// `storage` may go on with documents of its own.
    fn over(lab: Lab, storage: &str) -> Rig {
        let rig = Rig { lab, dir: tempfile::tempdir().unwrap() };
        let policy = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
             binlog: {{flushInterval: 200ms}}\n  storage: {storage}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
            rig.lab.source.port()
        );
        fs::write(rig.policy(), policy).unwrap();
        rig
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    pub fn tidemark(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(self.policy()).args(args).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    }

    pub fn restore(&self, target: &Server, args: &[&str]) -> Command {
        let mut command = self.tidemark("restore", args);
        command.args(["--into", &target.addr().to_string(), "--into-tls", "Disabled"]);
        command
    }
}

fn must(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// File and offset, as the binary writes it.
fn position(server: &Server) -> String {
    let status = if server.flavor() == Flavor::Mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    server.rows(status)[0][..2].join(":")
}

fn phase(target: &Server) -> Option<String> {
    let state = target.try_sql("SELECT state FROM tidemark_restore.state").ok()?;
    Some(state.split_once("\"phase\":\"")?.1.split('"').next()?.to_owned())
}

/// Runs `restore` until it stands still at `failpoint`, and kills it there.
fn kill_at(rig: &Rig, target: &Server, args: &[&str], failpoint: &str, expected: &str) {
    let mut command = rig.restore(target, args);
    command.env("FAILPOINTS", format!("{failpoint}=pause"));
    let mut child = Process::spawn(command);
    child.wait_to_pause_at(failpoint, || phase(target).as_deref() == Some(expected));
    child.kill9();
}

#[test]
fn a_store_that_is_gone_during_the_replay_ends_the_restore_which_goes_on_once_it_is_back() {
    let mut s3 = S3Server::start();
    let flavor = Flavor::Mysql;
    let mut lab = Lab::without_full(ServerOptions::of(flavor));
    lab.store = Store::open(&StoreConfig::S3(S3Config { prefix: "lab".into(), ..s3_config(&s3) })).unwrap();
    load(&lab, 20);
    lab.full();
    load(&lab, 50);
    lab.archive();
    let (endpoint, bucket, region) = (s3.endpoint(), s3.bucket(), s3.region());
    let (key, secret) = (s3.access_key(), s3.secret_key());
    let storage = format!(
        "{{s3: {{endpoint: '{endpoint}', bucket: {bucket}, region: {region}, prefix: lab, credentialsSecretRef: {{name: bucket}}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: bucket}}, stringData: {{AWS_ACCESS_KEY_ID: {key}, AWS_SECRET_ACCESS_KEY: {secret}}}}}"
    );
    let rig = Rig::over(lab, &storage);
    let target = ServerOptions::of(flavor).start();
    let mut command = rig.restore(&target, &["--latest"]);
    command.env("FAILPOINTS", "restore::replay::before_start=1*sleep(30000)");
    let mut child = Process::spawn(command);
    // The last that is done before: whatever the archive had to say of the log was read by then.
    let replicates = || (!target.sql("SHOW REPLICA STATUS").is_empty()).then_some(());
    wait_for("the replay", Duration::from_secs(90), replicates);
    s3.freeze(true);
    let status = child.wait(Duration::from_secs(300));
    s3.freeze(false);
    assert!(!status.success(), "{}", child.output());
    assert!(child.output().contains("replay has not moved for"), "{}", child.output());
    must(rig.restore(&target, &["--latest"]));
    equals_the_source(&target, &rig.lab.source);
}

fn equals_the_source(target: &Server, source: &Server) {
    assert_eq!(fingerprint(target), fingerprint(source), "{}", source.flavor());
    assert!(!fingerprint(target).is_empty());
    assert_eq!(phase(target), None, "nothing of the restore is left");
    assert_eq!(target.sql("SELECT @@GLOBAL.read_only"), "0");
    let settings = "SELECT @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.max_allowed_packet";
    assert_eq!(target.sql(settings), source.sql(settings), "{}: it is set as it was", source.flavor());
}

#[test]
fn a_restore_killed_in_every_phase_ends_like_one_that_was_not() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        load(&lab, 40);
        lab.full();
        load(&lab, 150);
        lab.archive();
        let rig = Rig::new(lab);
        let target = ServerOptions::of(flavor).start();
        for (failpoint, phase) in STEPS {
            kill_at(&rig, &target, &["--latest"], failpoint, phase);
        }
        must(rig.restore(&target, &["--latest"]));
        assert_eq!(executed(&target), rig.lab.source.gtids(), "{flavor}");
        equals_the_source(&target, &rig.lab.source);

        let target = ServerOptions::of(flavor).start();
        let mut kills = 0;
        loop {
            let mut child = Process::spawn(rig.restore(&target, &["--latest"]));
            // Longer and longer, so that it gets to its end.
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(10..60 + 80 * kills)));
            if let Some(status) = child.try_wait() {
                assert!(status.success(), "after {kills} kills\n{}", child.output());
                break;
            }
            child.kill9();
            kills += 1;
            // Killed after its last act.
            if phase(&target).is_none() && executed(&target) == rig.lab.source.gtids() {
                break;
            }
        }
        assert!(kills > 0);
        eprintln!("{flavor}: killed at {} failpoints and {kills} random moments", STEPS.len());
        assert_eq!(executed(&target), rig.lab.source.gtids(), "{flavor}");
        equals_the_source(&target, &rig.lab.source);
    }
}

#[test]
fn without_gtids_a_restore_is_proved_by_the_executed_source_position() {
    let options = || ServerOptions::mysql().without_gtids();
    let rig = Rig::new(Lab::without_full(options()));
    load(&rig.lab, 20);
    must(rig.tidemark("backup", &[]));
    let streamer = Process::spawn(rig.tidemark("stream", &[]));
    load(&rig.lab, 60);
    let middle = position(&rig.lab.source);
    let then = fingerprint(&rig.lab.source);
    load(&rig.lab, 60);
    let end = position(&rig.lab.source);
    let archived = |at: &str| {
        wait_for("the log to be archived", Duration::from_secs(60), || {
            let plan = rig.tidemark("restore", &["--to-position", at, "--dry-run"]).output().unwrap();
            plan.status.success().then_some(())
        });
    };
    archived(&end);
    drop(streamer);
    let target = options().start();
    let said = must(rig.restore(&target, &["--to-position", &middle]));
    assert!(said.contains(&format!("end       {middle}")), "{said}");
    assert_eq!(fingerprint(&target), then);
    // Killed wherever it is, it goes on from the position that the target has applied.
    let target = options().start();
    for (failpoint, phase) in STEPS {
        kill_at(&rig, &target, &["--latest"], failpoint, phase);
    }
    let said = must(rig.restore(&target, &["--latest"]));
    assert!(said.contains(&format!("end       {end}")), "{said}");
    equals_the_source(&target, &rig.lab.source);
    // A source without GTIDs into a target with them: they are the target's own.
    let target = ServerOptions::mysql().start();
    must(rig.restore(&target, &["--latest"]));
    equals_the_source(&target, &rig.lab.source);
}

#[test]
fn a_dry_run_says_whether_the_target_can_take_the_restore_and_changes_nothing_there() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 5);
        lab.archive();
        let rig = Rig::new(lab);
        let target = ServerOptions::of(flavor).start();
        let before = target.sql("SELECT @@GLOBAL.read_only; SHOW DATABASES");
        let said = must(rig.restore(&target, &["--latest", "--dry-run"]));
        assert!(said.contains("can take this restore"), "{flavor}: {said}");
        target.sql("CREATE DATABASE occupied");
        let refused = rig.restore(&target, &["--latest", "--dry-run"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(3), "{flavor}: {}", text(&refused));
        assert!(text(&refused).contains("occupied") && text(&refused).contains("restore plan"), "{}", text(&refused));
        target.sql("DROP DATABASE occupied");
        assert_eq!(target.sql("SELECT @@GLOBAL.read_only; SHOW DATABASES"), before, "{flavor}");
        kill_at(&rig, &target, &["--latest"], "restore::base::loaded", "base");
        must(rig.restore(&target, &["--latest", "--dry-run"]));
    }
}

#[test]
fn a_missing_object_or_file_fails_the_restore_by_name_and_claims_nothing() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 30);
        let before = lab.source.gtids();
        lab.source.sql("FLUSH BINARY LOGS");
        let lost_file = position(&lab.source).split(':').next().unwrap().to_owned();
        lab.source.sql("INSERT INTO d.t (b) VALUES (1000), (1001)");
        let lost = lab.gtids(&lab.source.gtids()).difference(&lab.gtids(&before));
        lab.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t (b) VALUES (1002)");
        lab.archive();
        let rig = Rig::new(lab);
        let objects = rig.lab.runtime.block_on(rig.lab.store.list("binlog/")).unwrap();
        let object = objects.iter().find(|o| o.key.contains(&lost_file) && o.key.ends_with(".zst")).unwrap();
        let path = rig.lab.root.join(&object.key);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let target = ServerOptions::of(flavor).start();
        let failed = rig.restore(&target, &["--latest"]).output().unwrap();
        let said = text(&failed);
        assert!(!failed.status.success() && !said.contains("proved it"), "{said}");
        assert!(said.contains(&object.key), "{flavor}: it names {}: {said}", object.key);
        // A dry run says so too; and the target stays as it was.
        let dry = text(&rig.restore(&target, &["--latest", "--dry-run"]).output().unwrap());
        assert!(dry.contains(&object.key) && dry.contains("tidemark repair"), "{flavor}: {dry}");
        assert_eq!(target.sql("SELECT @@GLOBAL.read_only"), "0", "{flavor}");
        assert_eq!(phase(&target), None);
        // It comes back (from a copy, say).
        fs::write(&path, &good).unwrap();
        must(rig.restore(&target, &["--latest"]));
        equals_the_source(&target, &rig.lab.source);

        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let target = ServerOptions::of(flavor).start();
        let failed = rig.restore(&target, &["--latest"]).output().unwrap();
        let said = text(&failed);
        assert!(!failed.status.success() && !said.contains("proved it"), "{said}");
        assert!(said.contains(&lost.to_string()) && said.contains("reachable: "), "{flavor}: it names {lost}: {said}");
        assert_eq!(
            target.sql("SELECT @@GLOBAL.read_only, COUNT(*) FROM information_schema.schemata WHERE schema_name = 'd'"),
            "0\t0"
        );
        let said = must(rig.restore(&target, &["--latest", "--allow-nearest"]));
        assert!(said.contains("proved it"), "{said}");
        assert_eq!(executed(&target), before, "{flavor}");
    }
}

#[test]
fn a_source_that_was_reset_is_told_by_status_and_not_called_archived() {
    let rig = Rig::new(Lab::new(ServerOptions::mysql()));
    load(&rig.lab, 10);
    rig.lab.archive();
    let status = || must(rig.tidemark("status", &[]));
    assert!(status().contains("lag          none"), "{}", status());
    let archived = rig.lab.source.gtids();
    // Files are told apart by the second they were begun in.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    rig.lab.source.sql("RESET BINARY LOGS AND GTIDS; INSERT INTO d.t (b) VALUES (1)");
    let lacks = rig.lab.gtids(&archived).difference(&rig.lab.gtids(&rig.lab.source.gtids())).to_string();
    let said = status();
    assert!(said.contains(&format!("ANOTHER PAST the source has not executed {lacks}")), "{said}");
    assert!(said.contains("tidemark backup") && !said.contains("lag          none"), "{said}");
    rig.lab.full();
    assert!(status().contains("lag          none") && !status().contains("ANOTHER PAST"), "{}", status());
    // What the old log has of other numbers is not replayed on top of it.
    let target = ServerOptions::mysql().start();
    must(rig.restore(&target, &["--latest"]));
    equals_the_source(&target, &rig.lab.source);
}

#[test]
fn a_target_that_is_restarted_during_the_replay_is_exact_or_refused() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 30);
        lab.archive();
        let latest = request(Target::Latest);
        let mut target = ServerOptions::of(flavor).start();
        let plan = lab.plan(&latest).unwrap();
        lab.run_dying_at(&plan, &target, "restore::gtids::set");
        target.restart();
        let report = lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor}: {e}"));
        assert_eq!(report.executed, executed(&target));
        equals_the_source(&target, &lab.source);

        lab.source.sql("CREATE TABLE d.mem (id INT) ENGINE=MEMORY; INSERT INTO d.mem VALUES (1), (2)");
        lab.full();
        lab.source.sql("INSERT INTO d.t (b) VALUES (7)");
        lab.archive();
        let plan = lab.plan(&latest).unwrap();
        for phase in ["restore::gtids::set", "restore::replay::done", "restore::proved"] {
            let mut target = ServerOptions::of(flavor).start();
            lab.run_dying_at(&plan, &target, phase);
            std::thread::sleep(std::time::Duration::from_secs(3));
            target.restart();
            let refused = lab.run(&plan, &target).unwrap_err();
            assert!(!refused.is_transient(), "{flavor} {phase}: {refused}");
            let said = refused.to_string();
            assert!(said.contains("d.mem (MEMORY)") && said.contains("fresh server"), "{flavor} {phase}: {said}");
            assert_eq!(target.sql("SELECT @@GLOBAL.read_only"), "1", "{flavor} {phase}: it stays shut");
        }
    }
}

/// Everything that MySQL's log can hold and a plain load does not.
#[test]
fn everything_mysql_logs_is_replayed() {
    let lab = Lab::new(ServerOptions::mysql().arg("--max-allowed-packet=64M"));
    lab.source.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, a LONGTEXT);
         SET gtid_next = 'AUTOMATIC:blue'; INSERT INTO d.t (a) VALUES ('tagged'), ('twice'); SET gtid_next = 'AUTOMATIC';
         SET SESSION binlog_transaction_compression = ON; INSERT INTO d.t (a) SELECT REPEAT('z', 100000) FROM d.t; UPDATE d.t SET a = CONCAT(a, 'x');
         INSERT INTO d.t (a) VALUES (REPEAT('c', 20 << 20)); SET SESSION binlog_transaction_compression = OFF;
         INSERT INTO d.t (a) VALUES (REPEAT(UUID(), (20 << 20) / 36));
         SET GLOBAL binlog_checksum = 'NONE'; INSERT INTO d.t (a) VALUES ('unchecked'); FLUSH BINARY LOGS; INSERT INTO d.t (a) VALUES ('unchecked');
         SET GLOBAL binlog_checksum = 'CRC32'; INSERT INTO d.t (a) VALUES ('checked');",
    );
    lab.archive();
    let (target, report) = lab.restore(&request(Target::Latest));
    assert!(report.executed.contains("blue"), "{}", report.executed);
    assert_eq!(report.executed, lab.source.gtids());
    assert_eq!(fingerprint(&target), fingerprint(&lab.source));
}

#[test]
fn everything_mariadb_logs_is_replayed() {
    let lab = Lab::new(ServerOptions::mariadb().arg("--max-allowed-packet=64M").arg("--log-bin-compress=ON"));
    lab.source.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, a LONGTEXT);
         INSERT INTO d.t (a) VALUES (REPEAT('z', 100000)); UPDATE d.t SET a = CONCAT(a, 'x');
         SET SESSION gtid_domain_id = 7; INSERT INTO d.t (a) VALUES ('another domain'); SET SESSION gtid_seq_no = 500; INSERT INTO d.t (a) VALUES ('far');
         SET SESSION gtid_domain_id = 0; SET SESSION gtid_seq_no = 1000; INSERT INTO d.t (a) VALUES ('a hole before it'); FLUSH BINARY LOGS;
         INSERT INTO d.t (a) VALUES ('after it'); SET SESSION gtid_seq_no = 5000; INSERT INTO d.t (a) VALUES ('another'); FLUSH BINARY LOGS;
         INSERT INTO d.t (a) VALUES (REPEAT('c', 20 << 20)); INSERT INTO d.t (a) VALUES (REPEAT(UUID(), (20 << 20) / 36));
         SET GLOBAL binlog_checksum = 'NONE'; INSERT INTO d.t (a) VALUES ('unchecked'); FLUSH BINARY LOGS; INSERT INTO d.t (a) VALUES ('unchecked');
         SET GLOBAL binlog_checksum = 'CRC32'; INSERT INTO d.t (a) VALUES ('checked');",
    );
    // A row of one domain that only the other one's DDL makes room for.
    for table in ["t1", "t2", "t3", "t4", "t5"] {
        lab.source.sql(&format!(
            "USE d; CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO {table} VALUES (); \
             ALTER TABLE {table} ADD z VARCHAR(10) DEFAULT 'first'; SET SESSION gtid_domain_id = 7; INSERT INTO {table} (z) VALUES ('second')"
        ));
    }
    lab.archive();
    let (target, report) = lab.restore(&request(Target::Latest));
    assert!(report.executed.contains("0-") && report.executed.contains("7-"), "{}", report.executed);
    assert_eq!(report.executed, lab.source.gtids());
    assert_eq!(fingerprint(&target), fingerprint(&lab.source));
    // From a full within the holes too.
    lab.full();
    lab.source.sql("SET SESSION gtid_seq_no = 9000; INSERT INTO d.t (a) VALUES ('last')");
    lab.archive();
    let (target, report) = lab.restore(&request(Target::Latest));
    assert_eq!(report.executed, lab.source.gtids());
    assert_eq!(fingerprint(&target), fingerprint(&lab.source));
}

#[test]
fn an_xa_transaction_is_skipped_whole_or_not_at_all() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY)");
        let step = |sql: &str| {
            let before = lab.gtids(&lab.source.gtids());
            lab.source.sql(sql);
            lab.gtids(&lab.source.gtids()).difference(&before)
        };
        let prepare = step("XA START 'x'; INSERT INTO d.t VALUES (1); XA END 'x'; XA PREPARE 'x'");
        step("INSERT INTO d.t VALUES (2)");
        let commit = step("XA COMMIT 'x'");
        // The same XA id again, which is not meant.
        step("XA START 'x'; INSERT INTO d.t VALUES (3); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'");
        lab.archive();
        let skipping = |skip| Request { skip_gtids: Some(skip), ..request(Target::Latest) };
        for (skip, other) in [(&prepare, &commit), (&commit, &prepare)] {
            let error = lab.plan(&skipping(skip.clone())).unwrap_err().to_string();
            // One transaction's text, not a range's.
            let other = other.to_string().split("..").next().unwrap().to_owned();
            assert!(error.contains("XA transaction") && error.contains(&other), "{flavor}: {error}");
        }
        let (target, report) = lab.restore(&skipping(prepare.union(&commit).unwrap()));
        assert_eq!(report.executed, lab.source.gtids(), "{flavor}");
        assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t"), "2,3", "{flavor}");
        assert_eq!(target.sql("XA RECOVER"), "", "{flavor}");
    }
}

#[test]
fn an_xa_transaction_prepared_across_a_full_is_prepared_again_by_a_restore() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b INT); INSERT INTO d.t VALUES (1, 1), (2, 2), (3, 3)");
        // Names are used again, and one that only reads is never logged.
        lab.source.sql("XA START 'x'; INSERT INTO d.t VALUES (4, 4); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'");
        lab.source.sql("XA START 'x'; UPDATE d.t SET b = 10 WHERE a = 1; XA END 'x'; XA PREPARE 'x'");
        lab.source.sql("INSERT INTO d.t VALUES (5, 5); FLUSH BINARY LOGS; XA START 'y', 'b', 7; DELETE FROM d.t WHERE a = 2; XA END 'y', 'b', 7; XA PREPARE 'y', 'b', 7");
        lab.source.sql("XA START 'read'; SELECT * FROM d.t WHERE a = 5; XA END 'read'; XA PREPARE 'read'");
        lab.source.sql("INSERT INTO d.t VALUES (6, 6); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (7, 7)");
        lab.archive();
        // Fulls of one second are in no order.
        std::thread::sleep(Duration::from_millis(1100));
        let full = lab.full();
        let at_full = lab.source.gtids();
        lab.source.sql("INSERT INTO d.t VALUES (8, 8); XA COMMIT 'x'; INSERT INTO d.t VALUES (9, 9)");
        let end = lab.source.gtids();
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        assert_eq!((&plan.base.id, plan.prepared.count()), (&full, 2), "{flavor}: {plan}");
        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(report.executed, end, "{flavor}");
        assert_eq!(fingerprint(&target), fingerprint(&lab.source), "{flavor}");
        assert_eq!(target.sql("SELECT b FROM d.t WHERE a = 1"), "10", "{flavor}");
        // The other one is still prepared, as it is on the source, and ends there as it would here.
        assert!(report.warnings.iter().any(|w| w.contains("XA COMMIT")), "{flavor}: {:?}", report.warnings);
        target.sql("XA COMMIT 'y', 'b', 7");
        assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t"), "1,3,4,5,6,7,8,9", "{flavor}");

        // The full alone: nothing but what was prepared is replayed.
        let set = lab.plan(&request(Target::Latest)).unwrap().base.gtids;
        let (target, report) = lab.restore(&request(Target::Gtid(set)));
        assert_eq!(report.executed, at_full, "{flavor}");
        assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a), SUM(b) FROM d.t"), "1,2,3,4,5,6,7\t28", "{flavor}");
        target.sql("XA COMMIT 'x'; XA ROLLBACK 'y', 'b', 7");
        assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a), SUM(b) FROM d.t"), "1,2,3,4,5,6,7\t37", "{flavor}");

        // Killed anywhere, it goes on.
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        for failpoint in [
            "restore::gtids::set",
            "restore::replay::before_start",
            "restore::replay::watching",
            "restore::replay::done",
        ] {
            lab.run_dying_at(&plan, &target, failpoint);
        }
        lab.run(&plan, &target).unwrap();
        assert_eq!(fingerprint(&target), fingerprint(&lab.source), "{flavor}");
    }
}

#[test]
fn an_xa_transaction_whose_preparation_is_not_archived_refuses_the_full_that_lacks_it() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); XA START 'x'; INSERT INTO d.t VALUES (1); XA END 'x'; XA PREPARE 'x'");
        lab.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2)");
        let file = position(&lab.source).split(':').next().unwrap().to_owned();
        lab.source.sql(&format!("PURGE BINARY LOGS TO '{file}'"));
        let full = lab.full();
        lab.source.sql("INSERT INTO d.t VALUES (3)");
        lab.archive();
        let refused = lab.plan(&request(Target::Latest)).unwrap_err().to_string();
        assert!(refused.contains("X'78',X'',1") && refused.contains(&full), "{flavor}: {refused}");
        let nearest = Request { allow_nearest: true, ..request(Target::Latest) };
        let (target, report) = lab.restore(&nearest);
        assert!(report.warnings.iter().any(|w| w.contains("X'78',X'',1")), "{flavor}: {:?}", report.warnings);
        assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t"), "2,3", "{flavor}");
        lab.source.sql("XA COMMIT 'x'");
        lab.archive();
        let target = ServerOptions::of(flavor).start();
        let error = lab.run(&lab.plan(&nearest).unwrap(), &target).unwrap_err().to_string();
        assert!(error.contains("prepared before the full"), "{flavor}: {error}");
    }
}

#[test]
fn events_end_as_the_log_left_them_on_the_source() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        let on_replica = if flavor == Flavor::Mysql { "DISABLE ON REPLICA" } else { "DISABLE ON SLAVE" };
        lab.source.sql(&format!(
            "CREATE USER 'dev'@'%'; GRANT ALL ON *.* TO 'dev'@'%'; CREATE DATABASE d; CREATE TABLE d.t (a INT); USE d;
             CREATE EVENT base_on ON SCHEDULE EVERY 1 DAY DO SELECT 1; CREATE EVENT base_off ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1;
             CREATE EVENT base_changed ON SCHEDULE EVERY 1 DAY DO SELECT 1; CREATE EVENT base_switched ON SCHEDULE EVERY 1 DAY {on_replica} DO SELECT 1;
             CREATE EVENT base_elsewhere ON SCHEDULE EVERY 1 DAY {on_replica} DO SELECT 1"
        ));
        lab.full();
        lab.source.sql(&format!(
            "USE d; SET NAMES latin1; SET sql_mode = 'ANSI_QUOTES';
             CREATE DEFINER = 'dev'@'%' EVENT log_on ON SCHEDULE EVERY 2 HOUR COMMENT 'DISABLE' DO INSERT INTO d.t VALUES (1);
             CREATE EVENT log_off ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 'ENABLE';
             CREATE EVENT log_switched ON SCHEDULE EVERY 1 DAY DO SELECT 1; ALTER EVENT log_switched DISABLE; FLUSH BINARY LOGS;
             CREATE EVENT log_elsewhere ON SCHEDULE EVERY 1 DAY {on_replica} DO SELECT 1;
             ALTER EVENT base_changed COMMENT 'changed'; ALTER EVENT base_switched ENABLE;
             ALTER EVENT log_off COMMENT 'still off'; ALTER EVENT base_off RENAME TO base_renamed"
        ));
        lab.archive();
        let (target, report) = lab.restore(&request(Target::Latest));
        let all = "SELECT event_schema, event_name, definer, time_zone, event_definition, interval_value, sql_mode, starts, status, on_completion, \
                   event_comment, character_set_client, collation_connection FROM information_schema.events ORDER BY 1, 2";
        assert_eq!(target.rows(all), lab.source.rows(all), "{flavor}");
        assert!(!report.warnings.iter().any(|w| w.contains("event")), "{flavor}: {:?}", report.warnings);
        assert_eq!(report.executed, lab.source.gtids());
    }
}

#[test]
fn after_a_promotion_was_taken_back_a_restore_asks_which_server_is_meant() {
    for options in
        [ServerOptions::mysql(), ServerOptions::mariadb(), ServerOptions::mariadb().arg("--log-slave-updates=ON")]
    {
        let flavor = options.flavor();
        let mut lab = Lab::without_full(options.clone());
        let second = options.clone().start();
        follow(&second, lab.source.port(), "root", ROOT_PASSWORD);
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
        lab.full();
        lab.source.sql("INSERT INTO d.t VALUES (2)");
        caught_up(&second, &lab.source);
        second.sql(if flavor == Flavor::Mysql {
            "STOP REPLICA; RESET REPLICA ALL"
        } else {
            "STOP SLAVE; RESET SLAVE ALL"
        });
        lab.archive();
        // MariaDB's times are whole seconds.
        let pause = || std::thread::sleep(Duration::from_millis(1100));
        pause();
        let split = jiff::Timestamp::now();
        pause();
        lab.source.sql("INSERT INTO d.t VALUES (3)");
        pause();
        let only_first = jiff::Timestamp::now();
        pause();
        let first = std::mem::replace(&mut lab.source, second);
        lab.source.sql("INSERT INTO d.t VALUES (100)");
        lab.archive();
        let interim = lab.source.gtids();
        pause();
        let second = std::mem::replace(&mut lab.source, first);
        lab.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (4)");
        lab.archive();
        let wanted = lab.source.gtids();

        let rig = Rig::new(lab);
        let at = jiff::Timestamp::now().to_string();
        // By the second of these times only the first server had gone on.
        for target in [&["--latest"][..], &["--to-time", &at], &["--to-time", &only_first.to_string()]] {
            let output = rig.tidemark("restore", &[target, &["--dry-run"]].concat()).output().unwrap();
            let told = text(&output);
            assert_eq!(output.status.code(), Some(3), "{flavor}: {told}");
            assert!(told.contains("two lineages") && told.contains("take one of that server"), "{flavor}: {told}");
        }
        let status = must(rig.tidemark("status", &[]));
        assert!(status.contains("TWO LINEAGES"), "{flavor}: {status}");
        let status: serde_json::Value = serde_json::from_str(&must(rig.tidemark("status", &["-o", "json"]))).unwrap();
        let fork = &status["policies"][0]["forks"][0];
        assert_eq!(fork["contested"], true, "{flavor}: {status}");
        for field in ["gtids", "latest", "liveServer", "liveLatest", "liveOnly"] {
            assert!(fork[field].as_str().is_some_and(|text| !text.is_empty()), "{flavor}: {field}: {fork}");
        }
        let holds = |server: &Server| server.sql("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t");
        // Before the split there is nothing to ask.
        let target = options.clone().start();
        must(rig.restore(&target, &["--to-time", &split.to_string()]));
        assert_eq!(holds(&target), "1,2", "{flavor}");
        // Each lineage by name: what counts as live, and the other one from a full of it.
        let last = |gtids: &str| match flavor {
            Flavor::Mysql => gtids.rsplit('-').next().map(|n| format!("{}:{n}", &gtids[..36])).unwrap(),
            Flavor::Mariadb => gtids.to_owned(),
        };
        let own = |gtids: &str, server: &Server| match flavor {
            Flavor::Mysql => {
                let uuid = server.sql("SELECT @@server_uuid");
                let part = gtids.split(',').map(str::trim).find(|part| part.starts_with(&uuid)).unwrap().to_owned();
                if part.contains('-') && part[36..].contains('-') { last(&part) } else { part }
            }
            Flavor::Mariadb => last(gtids),
        };
        let target = options.clone().start();
        must(rig.restore(&target, &["--to-gtid", &own(&interim, &second)]));
        assert_eq!(holds(&target), "1,2,100", "{flavor}");
        rig.lab.full();
        let all = rig.lab.source.gtids();
        let refused = text(&rig.tidemark("restore", &["--latest", "--dry-run"]).output().unwrap());
        assert!(refused.contains(&format!("--to-gtid {all}, which full")), "{flavor}: {refused}");
        let plan = must(rig.tidemark("restore", &["--to-gtid", &all, "--dry-run"]));
        assert!(plan.contains("nothing to replay: the full is the target"), "{flavor}: {plan}");
        rig.lab.source.sql("INSERT INTO d.t VALUES (5)");
        rig.lab.archive();
        assert_ne!(rig.lab.source.gtids(), wanted);
        let way_out = own(&rig.lab.source.gtids(), &rig.lab.source);
        let refused = text(&rig.tidemark("restore", &["--latest", "--dry-run"]).output().unwrap());
        assert!(refused.contains(&format!("--to-gtid {way_out}")), "{flavor}: {refused}");
        let target = options.clone().start();
        must(rig.restore(&target, &["--to-gtid", &way_out]));
        assert_eq!(holds(&target), "1,2,3,4,5", "{flavor}");
        drop(second);
    }
}
