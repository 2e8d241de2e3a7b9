//! The binary itself: DDL in the middle of its copy, huge rows in bounded memory, kill -9 while it loads.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use tidemark::model::Flavor;

use crate::full::BANK;
use crate::support::{Process, ROOT_PASSWORD, Server, ServerOptions, Signal, tidemark_command, wait_for};

const PATIENCE: Duration = Duration::from_secs(300);

/// A source, its policy file and its archive in a folder.
pub struct Site {
    pub source: Server,
    dir: tempfile::TempDir,
}

impl Site {
    pub fn new(options: ServerOptions) -> Site {
        let site = Site { source: options.start(), dir: tempfile::tempdir().unwrap() };
        site.log_in_as("root", ROOT_PASSWORD);
        site
    }

    /// Makes the policy name that account of the source.
    pub fn log_in_as(&self, user: &str, password: &str) {
        let policy = format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: site}}, spec: {{\
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}, storage: {{fs: {{path: {}}}}}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: {user}, password: {password}}}}}\n",
            self.source.port(),
            self.archive().display()
        );
        std::fs::write(self.policy(), policy).unwrap();
    }

    fn policy(&self) -> std::path::PathBuf {
        self.dir.path().join("policy.yaml")
    }

    fn archive(&self) -> std::path::PathBuf {
        self.dir.path().join("archive")
    }

    pub fn backup(&self, threads: &str, failpoints: &str) -> Process {
        let mut command = tidemark_command(["backup", "-f"]);
        command.arg(self.policy()).args(["--threads", threads]).env("FAILPOINTS", failpoints);
        Process::spawn(command)
    }

    pub fn restore(&self, target: &Server) -> Process {
        let into = format!("127.0.0.1:{}", target.port());
        let mut command = tidemark_command(["restore", "-f"]);
        command
            .arg(self.policy())
            .args(["--latest", "--into", &into, "--into-tls", "Disabled"])
            .env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        Process::spawn(command)
    }
}

pub fn ends_well(mut process: Process) -> Process {
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{}", process.output());
    process
}

fn has_file(folder: &Path, part: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() { has_file(&path, part) } else { path.to_string_lossy().contains(part) }
    })
}

#[test]
fn ddl_in_the_middle_of_the_copy_begins_it_again() {
    let flavor = Flavor::Mysql;
    let site = Site::new(ServerOptions::of(flavor));
    let target = ServerOptions::of(flavor).start();
    site.source.sql(BANK);
    // Sizes as they are, so that the order is known.
    site.source.sql("ANALYZE TABLE bank.filler, bank.accounts");
    // The only worker has read the largest table and sleeps; a smaller one changes before its turn.
    let mut backup = site.backup("1", "backup::logical::after_range=1*sleep(15000)");
    wait_for("the first range", PATIENCE, || has_file(&site.archive(), "rows/bank/filler/").then_some(()));
    backup.signal(Signal::Stop);
    site.source
        .sql("ALTER TABLE bank.accounts ADD COLUMN n INT DEFAULT 7; INSERT INTO bank.accounts VALUES (9, 1000, 8)");
    backup.signal(Signal::Continue);
    let backup = ends_well(backup);
    assert!(backup.stderr().contains("beginning again"), "{flavor}: {}", backup.output());
    ends_well(site.restore(&target));
    let rows = "SELECT * FROM bank.accounts ORDER BY id";
    assert_eq!(site.source.sql(rows), target.sql(rows));
    assert_eq!(site.source.gtids(), target.gtids());
}

#[test]
fn huge_rows_pass_one_at_a_time_in_bounded_memory() {
    let row_mib = if std::env::var_os("TIDEMARK_LONG").is_some() { 200 } else { 64 };
    let with_room = ["--max-allowed-packet=1G", "--innodb-log-buffer-size=64M"];
    let options =
        || with_room.iter().fold(ServerOptions::mysql(), |o, arg| o.arg(arg)).arg("--innodb-redo-log-capacity=1G");
    let site = Site::new(options());
    let target = options().start();
    site.source.sql("CREATE DATABASE huge");
    for table in ["a", "b"] {
        site.source.sql(&format!(
            "CREATE TABLE huge.{table} (id INT PRIMARY KEY, v LONGBLOB); \
             INSERT INTO huge.{table} VALUES (1, REPEAT(x'00ff5c', {row_mib} * 1048576 / 3)), (2, RANDOM_BYTES(9)), (3, REPEAT('x', {row_mib} * 1048576))"
        ));
    }
    // Two of them at a time would not fit. The pages of this unoptimised binary, which grow with its code, are not counted.
    let bound = (row_mib + 40) << 20;
    let backup = ends_well(site.backup("2", ""));
    let restore = ends_well(site.restore(&target));
    eprintln!("{row_mib} MiB a row: {} MiB, {} MiB", backup.peak_anon_bytes() >> 20, restore.peak_anon_bytes() >> 20);
    for process in [&backup, &restore] {
        assert!((1..=bound).contains(&process.peak_anon_bytes()), "{} MiB", process.peak_anon_bytes() >> 20);
    }
    for table in ["a", "b"] {
        let sql = format!("SELECT id, SHA2(v, 256) FROM huge.{table} ORDER BY id");
        assert_eq!(site.source.sql(&sql), target.sql(&sql));
    }
}

#[test]
fn a_restore_killed_at_any_moment_of_its_load_goes_on_to_the_same_end() {
    let site = Site::new(ServerOptions::mysql());
    site.source.sql(BANK);
    site.source.sql("CREATE TABLE bank.plain (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO bank.plain VALUES (1),(2); \
        CREATE TABLE bank.docs (j JSON); INSERT INTO bank.docs SELECT JSON_OBJECT('n', id * 1.50) FROM bank.filler LIMIT 2000; \
        ALTER TABLE bank.filler ADD KEY (v); CREATE VIEW bank.v AS SELECT 1 AS one; CREATE USER someone@'%'");
    ends_well(site.backup("2", ""));
    let [undisturbed, target] = [(); 2].map(|()| ServerOptions::mysql().start());
    let began = Instant::now();
    ends_well(site.restore(&undisturbed));
    let whole = began.elapsed();
    for n in 0..if std::env::var_os("TIDEMARK_LONG").is_some() { 60 } else { 6 } {
        let mut restore = site.restore(&target);
        if n == 0 {
            let begun = || (!target.sql("SHOW DATABASES LIKE 'bank'").is_empty()).then_some(());
            wait_for("the load", PATIENCE, begun);
        } else {
            std::thread::sleep(whole.mul_f64(rand::rng().random()));
        }
        if restore.try_wait().is_some() {
            assert!(n > 0, "{}", restore.output());
            break;
        }
        restore.kill9();
    }
    // The last kill may have met a restore that was through and had forgotten its state already, or whose last statement the server
    // goes on with.
    let others = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'root' AND id <> CONNECTION_ID()";
    wait_for("the end of what the killed one began", PATIENCE, || (target.sql(others) == "0").then_some(()));
    let schemas = target.sql(
        "SELECT GROUP_CONCAT(SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('tidemark_restore', 'bank')",
    );
    if schemas != "bank" {
        ends_well(site.restore(&target));
    }
    for table in ["accounts", "ledger", "filler", "plain", "docs", "v"] {
        let sql = format!("CHECKSUM TABLE bank.{table}");
        assert_eq!(site.source.sql(&sql), target.sql(&sql));
    }
    let settings = "SELECT @@GLOBAL.local_infile, @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.event_scheduler";
    assert_eq!(site.source.sql(settings), target.sql(settings));
    assert_eq!(site.source.gtids(), target.gtids());
    assert!(!target.sql("SHOW DATABASES").contains("tidemark"));
}
