//! `make demo`: a table is dropped on a live server and comes back, to the last transaction before the drop.
//!
//! A load writes to a real MySQL and keeps a ledger of what the server acknowledged. `tidemark run` archives it into a folder, is
//! killed once on the way, and at the end a fresh server is restored and compared with the ledger, row by row.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "demo/ledger.rs"]
mod ledger;
#[path = "demo/story.rs"]
mod story;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{ExitCode, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Process, ROOT_PASSWORD, Server, ServerOptions, Signal, tidemark_command, wait_for};
use tidemark::model::Flavor;
use tidemark::mysql::flavor::{ServerVersion, Verb, grants};

use ledger::{Load, compare};
use story::{chapter, fact, say, verdict};

const PASSWORD: &str = "only-for-the-demo";
const WRITERS: usize = 4;

fn main() -> ExitCode {
    let begun = Instant::now();
    // The provider that the library's own `main` installs.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::Builder::new().prefix("tidemark-demo-").tempdir().unwrap();

    chapter("A MySQL server with a shop in it, and four clients that write");
    let source = ServerOptions::mysql().start();
    ledger::create_shop(&source);
    create_account(&source);
    let load = Load::start(&runtime, &source, WRITERS);
    fact("server", &format!("MySQL {} on 127.0.0.1:{}", source.sql("SELECT VERSION()"), source.port()));

    chapter("tidemark run: a full backup at once, and every binlog byte from now on");
    let policy = write_policy(folder.path(), &source);
    say(&format!("$ tidemark run -f {}", policy.display()));
    let mut archiver = run(&policy);
    let full = wait_for("the first full backup", Duration::from_secs(90), || {
        assert!(archiver.try_wait().is_none(), "tidemark run ended\n{}", archiver.output());
        status(&policy)["fulls"][0]["id"].as_str().map(str::to_owned)
    });
    fact("full", &format!("{full}, taken while {} transactions committed", load.acknowledged()));
    std::thread::sleep(Duration::from_secs(3));

    chapter("The archiver is killed (kill -9) and started again; the load does not stop");
    archiver.kill9();
    let at_kill = load.acknowledged();
    std::thread::sleep(Duration::from_secs(2));
    let mut archiver = run(&policy);
    fact("missed", &format!("{} transactions committed while nobody was looking", load.acknowledged() - at_kill));
    archiver.wait_for_line("connected to the source", Duration::from_secs(30));
    std::thread::sleep(Duration::from_secs(12));

    chapter("Somebody drops the table");
    say("mysql> DROP TABLE shop.orders;");
    let drop_gtid = ledger::drop_orders(&source);
    let ledger = load.stop(&runtime);
    fact("lost", &format!("{} orders; the drop is transaction {drop_gtid}", ledger.orders.len()));

    chapter("What can be restored");
    let dropped = Instant::now();
    while status(&policy)["source"]["notArchived"].as_str() != Some("") {
        let late = dropped.elapsed() > Duration::from_secs(20);
        assert!(!late, "the drop is not archived: {:#}\n{}", status(&policy), archiver.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    say("$ tidemark status -f policy.yaml");
    say(&text(&tidemark(&["status", "-f", path(&policy)], None)));

    chapter("A fresh server is restored to the last transaction before the drop");
    let target = ServerOptions::mysql().start();
    let into = format!("127.0.0.1:{}", target.port());
    let (what, target_ca) = (["restore", "-f", path(&policy), "--to-gtid", &drop_gtid, "--exclusive"], ca(&target));
    let arguments =
        [&what[..], &["--into", &into, "--into-tls", "VerifyCA", "--into-ca", path(&target_ca), "-o", "json"]].concat();
    say(&format!("$ tidemark {}", arguments.join(" ")));
    let restoring = Instant::now();
    let output = tidemark(&arguments, Some(ROOT_PASSWORD));
    let rto = restoring.elapsed();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    fact("restored to", report["result"]["executed"].as_str().unwrap_or("?"));

    chapter("Row by row against the load's own ledger");
    let differences = compare(&ledger, &target, &drop_gtid);
    fact("compared", &format!("{} orders and {} accounts", ledger.orders.len(), ledger.accounts.len()));
    differences.iter().take(20).for_each(|difference| say(&format!("DIFFERENCE  {difference}")));

    archiver.signal(Signal::Terminate);
    let ended = archiver.wait(Duration::from_secs(20));
    assert!(ended.success(), "tidemark run did not end well: {ended}\n{}", archiver.output());
    let rpo = rpo(&archiver);
    fact("RPO", &rpo);
    fact("RTO", &format!("{:.1} s from the command to the proof ({} orders)", rto.as_secs_f64(), ledger.orders.len()));
    fact("demo", &format!("{:.0} s in all", begun.elapsed().as_secs_f64()));
    verdict(
        differences.is_empty(),
        &format!("{} acknowledged transactions, none lost, none doubled", ledger.transactions),
    );
    if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An account with exactly the privileges that the README asks for.
fn create_account(server: &Server) {
    let version = ServerVersion { flavor: Flavor::Mysql, major: 9, minor: 7, patch: 0 };
    let mut sql = format!("CREATE USER 'tidemark'@'%' IDENTIFIED BY '{PASSWORD}';\n");
    for verb in [Verb::LogicalBackup, Verb::Stream] {
        for grant in grants(version, verb, "'tidemark'@'%'") {
            sql.push_str(&format!("{};\n", grant.trim_end_matches(';')));
        }
    }
    server.sql(&sql);
}

fn write_policy(folder: &Path, source: &Server) -> std::path::PathBuf {
    let path = folder.join("policy.yaml");
    let pem = std::fs::read_to_string(ca(source)).unwrap();
    let text = format!(
        "apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata:
  name: shop
spec:
  source:
    host: 127.0.0.1
    port: {}
    credentialsSecretRef:
      name: shop-login
    tls:
      mode: VerifyCA
      caSecretRef:
        name: shop-ca
  schedule:
    cron: '30 2 * * *'
    timeZone: Europe/Berlin
  storage:
    fs:
      path: {}
---
apiVersion: v1
kind: Secret
metadata:
  name: shop-login
stringData:
  username: tidemark
  password: {PASSWORD}
---
apiVersion: v1
kind: Secret
metadata:
  name: shop-ca
stringData:
  ca.crt: |
{}
",
        source.port(),
        folder.join("archive").display(),
        // MySQL ends the file with a NUL, which no YAML may hold.
        pem.trim_end_matches(['\0', '\n']).lines().map(|line| format!("    {line}\n")).collect::<String>()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// The authority that MySQL made to sign its own certificate.
fn ca(server: &Server) -> std::path::PathBuf {
    server.datadir().join("ca.pem")
}

fn run(policy: &Path) -> Process {
    Process::spawn(tidemark_command(["run", "-f", path(policy), "--log-format", "json"]))
}

/// Runs a verb to its end; a failure ends the demo.
fn tidemark(arguments: &[&str], target_password: Option<&str>) -> Output {
    let mut command = tidemark_command(arguments);
    if let Some(password) = target_password {
        command.env("TIDEMARK_TARGET_PASSWORD", password);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "tidemark {} failed ({})\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// `tidemark status` of the only policy.
fn status(policy: &Path) -> Value {
    let output = tidemark(&["status", "-f", path(policy), "-o", "json"], None);
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["policies"][0].take()
}

/// What the stream measured from each commit to its bytes being durable, by its last log line.
fn rpo(archiver: &Process) -> String {
    let log = archiver.stderr();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let measured: Vec<Value> = lines.filter(|line| line["rpo_transactions"].as_u64().unwrap_or(0) > 0).collect();
    let last = measured.last();
    let last = last.unwrap_or_else(|| panic!("the stream logged no RPO\n{}", archiver.output()));
    let ms = |field: &str| last[field].as_u64().unwrap_or_default();
    format!(
        "p50 {} ms, p99 {} ms, max {} ms from commit to durable ({} transactions since the restart)",
        ms("rpo_p50_ms"),
        ms("rpo_p99_ms"),
        ms("rpo_max_ms"),
        last["rpo_transactions"]
    )
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
