//! Bounded memory: what streams, backs up and restores needs no more of it for a huge transaction or a huge row.
//!
//! Each test runs the real binary. `TIDEMARK_LONG=1` (in `make soak`) makes the transaction 2 GiB and the row 200 MiB.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::RngCore;
use tidemark::model::Flavor;

use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, Signal, tidemark_command, wait_for};

const LONG: Duration = Duration::from_secs(1800);
const STREAM_MIB: u64 = 64;
const BACKUP_MIB: u64 = 256;
const RESTORE_MIB: u64 = 256;
const VERIFY_MIB: u64 = 64;

/// A key pair that `age-keygen` could have made.
const RECIPIENT: &str = "age15dkpehjvugrgk7taqcn2vzc49fzsecr3gfgjprke6qflxcp2yvequ7yq5t";
const IDENTITY: &str = "AGE-SECRET-KEY-15QJVCR6JU9KTYK85ENGLARF0J3ZW2NPHGAAWNWHQEYK7TLQEDETSTZ55VV";

/// One at a time: each needs several times the transaction's size on disk.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn a_huge_transaction_and_a_huge_row_go_encrypted_through_s3_in_bounded_memory_on_mysql() {
    round_trip(Flavor::Mysql, Some(S3Server::start()), true);
}

#[test]
fn a_huge_transaction_and_a_huge_row_go_through_a_folder_in_bounded_memory_on_mariadb() {
    round_trip(Flavor::Mariadb, None, false);
}

#[test]
fn a_huge_transaction_and_a_huge_row_go_through_a_folder_in_bounded_memory_on_mysql() {
    if is_long() {
        round_trip(Flavor::Mysql, None, false);
    }
}

#[test]
fn a_huge_transaction_and_a_huge_row_go_encrypted_through_s3_in_bounded_memory_on_mariadb() {
    if is_long() {
        round_trip(Flavor::Mariadb, Some(S3Server::start()), true);
    }
}

fn is_long() -> bool {
    std::env::var_os("TIDEMARK_LONG").is_some()
}

fn round_trip(flavor: Flavor, s3: Option<S3Server>, encrypted: bool) {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let (rows, row_mib) = if is_long() { (2050, 200) } else { (140, 70) };
    let rig = Rig::new(flavor, s3, encrypted);
    let source = &rig.source;
    source.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB NOT NULL)");
    // Random bytes, as the worst case is: what compresses well would hide what is held.
    rig.random_file("row", row_mib << 20);
    rig.random_file("pool", 24 << 20);
    let huge_row = format!("INSERT INTO d.t (b) VALUES ({})", rig.load("row"));
    source.sql(&huge_row);
    rig.run("backup", &[], BACKUP_MIB);

    let mut streamer = Process::spawn(rig.command("stream", &[]));
    streamer.wait_for_line("connected to the source", LONG);
    let one_mib = "INSERT INTO d.t (b) VALUES (SUBSTR(@pool, 1 + FLOOR(RAND() * (23 << 20)), 1 << 20));".repeat(rows);
    source.sql(&format!("SET @pool = {}; BEGIN; {one_mib} COMMIT", rig.load("pool")));
    source.sql(&huge_row);
    let began = Instant::now();
    let all = source.gtids();
    wait_for("the archive to hold everything", LONG, || {
        assert!(streamer.try_wait().is_none(), "the streamer gave up\n{}", streamer.output());
        std::thread::sleep(Duration::from_millis(500));
        let status = rig.command("status", &["-o", "json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let window = status["policies"][0]["windows"].as_array().unwrap().last().unwrap();
        window["gtids"].as_str().unwrap().contains(&all).then_some(())
    });
    let late = began.elapsed().as_secs();
    streamer.signal(Signal::Terminate);
    assert!(streamer.wait(LONG).success(), "{}", streamer.output());
    let size: u64 = source.binlogs().iter().map(|path| path.metadata().unwrap().len()).sum();
    let what = format!("stream ({} MiB of binlog, whole {late} s after the last commit)", size >> 20);
    rig.judge(&what, &streamer, STREAM_MIB);

    rig.run("verify", &["--deep"], VERIFY_MIB);

    let target = rig.options.clone().start();
    let into = target.addr().to_string();
    let identity: &[&str] = if encrypted { &["--identity-secret", "key"] } else { &[] };
    let arguments = [&["--latest", "--into", &into, "--into-tls", "Disabled"], identity].concat();
    rig.run("restore", &arguments, RESTORE_MIB);
    let content = "SELECT COUNT(*), SUM(LENGTH(b)), SUM(CRC32(b)), BIT_XOR(a * CRC32(b)) FROM d.t";
    assert_eq!(target.sql(content), source.sql(content), "{flavor}: the restored rows are the source's");
    assert_eq!(*rig.excess.borrow(), Vec::<String>::new());
}

struct Rig {
    options: ServerOptions,
    source: Server,
    s3: Option<S3Server>,
    dir: tempfile::TempDir,
    /// What took too much: told at the end, so that one run shows all figures.
    excess: RefCell<Vec<String>>,
}

impl Rig {
    fn new(flavor: Flavor, s3: Option<S3Server>, encrypted: bool) -> Rig {
        let options = ServerOptions::of(flavor)
            .arg("--max-allowed-packet=1G")
            .arg("--secure-file-priv=")
            .arg("--innodb-flush-log-at-trx-commit=2")
            .arg("--sync-binlog=0");
        let source = options.clone().start();
        let rig = Rig { options, source, s3, dir: tempfile::tempdir().unwrap(), excess: RefCell::default() };
        let (storage, secret) = match &rig.s3 {
            None => (format!("{{fs: {{path: {}}}}}", rig.path("archive").display()), String::new()),
            Some(s3) => (
                format!(
                    "{{s3: {{bucket: {}, region: {}, endpoint: '{}', credentialsSecretRef: {{name: store}}}}}}",
                    s3.bucket(),
                    s3.region(),
                    s3.endpoint()
                ),
                format!(
                    "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: store}}, stringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{}'}}}}\n",
                    s3.access_key(),
                    s3.secret_key()
                ),
            ),
        };
        let encryption =
            if encrypted { format!("  encryption: {{recipients: [{RECIPIENT}]}}\n") } else { String::new() };
        let policy = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: huge}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
             storage: {storage}\n{encryption}---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: key}}, stringData: {{identity: {IDENTITY}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n{secret}",
            rig.source.port(),
        );
        fs::write(rig.path("policy.yaml"), policy).unwrap();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn random_file(&self, name: &str, bytes: usize) {
        use std::os::unix::fs::PermissionsExt;
        let mut content = vec![0; bytes];
        rand::rng().fill_bytes(&mut content);
        let path = self.source.datadir().join(name);
        fs::write(&path, content).unwrap();
        // LOAD_FILE reads only what everybody may read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn load(&self, name: &str) -> String {
        format!("LOAD_FILE('{}')", self.source.datadir().join(name).display())
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(self.path("policy.yaml")).args(args).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    }

    fn run(&self, verb: &str, args: &[&str], most_mib: u64) {
        let began = Instant::now();
        let mut process = Process::spawn(self.command(verb, args));
        assert!(process.wait(LONG).success(), "{verb}: {}", process.output());
        self.judge(&format!("{verb} ({} s)", began.elapsed().as_secs()), &process, most_mib);
    }

    fn judge(&self, what: &str, process: &Process, most_mib: u64) {
        let (peak, rss) = (process.peak_anon_bytes() >> 20, process.peak_rss_bytes() >> 20);
        let store = if self.s3.is_some() { "S3" } else { "a folder" };
        println!(
            "{} with {store}: {what}: {peak} MiB of at most {most_mib}; {rss} MiB with the pages of this unoptimised binary",
            self.source.flavor()
        );
        if !(1..=most_mib).contains(&peak) {
            self.excess.borrow_mut().push(format!("{what}: {peak} MiB, at most {most_mib} allowed"));
        }
    }
}
