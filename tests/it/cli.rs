//! The binary's arguments, manifests, errors and exit codes; every bad input leaves the archive as it was.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Authority, Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, Signal, tidemark_command, wait_for,
};

const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const DAMAGED: i32 = 4;
const UNREACHABLE: i32 = 5;

const LONG: Duration = Duration::from_secs(60);

/// A folder with a policy file and an archive.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk { dir: tempfile::tempdir().unwrap() }
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// A policy for `server` into the folder, with more lines for `spec.source` and `spec`.
    fn policy(&self, server: &Server, login: (&str, &str), source: &str, spec: &str) -> String {
        let storage = format!("storage: {{fs: {{path: {}}}}}", self.archive().display());
        self.policy_on("127.0.0.1", server.port(), login, source, &format!("{storage}\n  {spec}"))
    }

    fn policy_on(&self, host: &str, port: u16, (user, password): (&str, &str), source: &str, spec: &str) -> String {
        // MySQL's own certificate is signed by nobody that is trusted.
        let tls = if source.contains("tls:") { "" } else { "tls: {mode: Required}" };
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata: {{name: shop}}
spec:
  source:
    host: {host}
    port: {port}
    credentialsSecretRef: {{name: login}}
    {source}
    {tls}
  {spec}
---
apiVersion: v1
kind: Secret
metadata: {{name: login}}
stringData: {{username: {user}, password: '{password}'}}
"
        );
        self.file("policy.yaml", &text)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Every object and its content.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => walk(&path, found),
                    path => found.push((path.clone(), std::fs::read(&path).unwrap())),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.archive(), &mut found);
        found.sort();
        found
    }
}

fn tidemark(arguments: &[&str]) -> Output {
    tidemark_command(arguments).output().unwrap()
}

/// Runs a verb that must fail with this exit code and these words in its error.
fn refused(arguments: &[&str], code: i32, words: &[&str]) -> String {
    let output = tidemark(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{error}");
    for word in words {
        assert!(error.contains(word), "{arguments:?} does not say {word:?}:\n{error}");
    }
    error
}

fn done(arguments: &[&str]) -> Value {
    let output = tidemark(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed ({}):\n{error}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?} printed no JSON: {e}"))
}

fn account(server: &Server, user: &str, grants: &str) {
    server.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'secret'; {grants}"));
}

const FULL_GRANTS: &str = "GRANT SELECT, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE, SHOW VIEW, EVENT, TRIGGER, BACKUP_ADMIN, XA_RECOVER_ADMIN, \
                           SHOW_ROUTINE ON *.* TO";

#[test]
fn help_teaches_and_usage_errors_exit_with_2() {
    for verb in ["run", "backup", "stream", "status", "prune", "restore", "serve"] {
        let output = tidemark(&[verb, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("Examples:") && text.contains("policy.yaml"),
            "{verb}: {text}"
        );
    }
    assert!(String::from_utf8_lossy(&tidemark(&["--help"]).stdout).contains("Exit codes:"));
    for arguments in [&["backup"][..], &["conjure"], &["restore", "-f", "x", "--latest", "--to-gtid", "y"]] {
        assert_eq!(tidemark(arguments).status.code(), Some(USAGE), "{arguments:?}");
    }
}

#[test]
fn whoever_reads_may_go_away() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tidemark_command(["crd"]).stdout(writer).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

#[test]
fn a_manifest_that_is_wrong_or_asks_for_what_is_not_there_yet_is_refused_by_field() {
    let desk = Desk::new();
    let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
    for (source, spec, words) in [
        ("hst: x", "", &["spec.source.hst", "did you mean `host`"][..]),
        ("", "copies: [{name: b, storage: {}}]", &["spec.copies[0].storage", "exactly one store"]),
        (
            "",
            "copies: [{name: b, storage: {fs: {path: /b}}}]\n  binlog: {enabled: false}",
            &["spec.copies", "spec.binlog.enabled"],
        ),
        ("", "encryption: {recipients: [age1x]}", &["spec.encryption.recipients", "age-keygen"]),
        ("", "drill: {cron: '0 0 * * *'}", &["spec.drill"]),
        ("", "verify: {cron: '0 4 * *'}", &["spec.verify.cron", "five fields"]),
        ("", "verify: {cron: '@weekly', bytesPerSecond: 50Mi}", &["spec.verify.bytesPerSecond", "depth: Deep"]),
        ("", "method: clone", &["spec.method", "logical"]),
        ("", "binlog: {spool: {maxSize: 1Gi}}", &["spec.binlog.spool.path", "name a folder"]),
        ("", "binlog: {spool: {maxSize: 1Mi, path: /s}}", &["spec.binlog.spool.maxSize", "16Mi or more"]),
        ("", "schedule: {cron: '0 0 * *'}", &["spec.schedule.cron", "five fields"]),
        ("", "schedule: {cron: '0 0 * * *', timeZone: Mars/Base}", &["spec.schedule.timeZone", "Mars/Base"]),
        ("hosts: [a, b]", "", &["spec.source", "exactly one of host, hosts, serviceRef and selector"]),
        ("tls: {mode: VerifyCA}", "", &["spec.source.tls", "caSecretRef"]),
        ("tls: {caSecretRef: {name: ca}}", "", &["spec.source.tls.caSecretRef", "no Secret \"ca\"", "there: login"]),
    ] {
        let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), source, &format!("{storage}\n  {spec}"));
        refused(&["backup", "-f", &policy], USAGE, words);
    }
    let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), "", "storage: {}");
    refused(&["backup", "-f", &policy], USAGE, &["spec.storage", "exactly one store"]);
    let service = std::fs::read_to_string(&policy).unwrap().replace("host: 127.0.0.1", "serviceRef: {name: db}");
    let service = desk.file("service.yaml", &service);
    refused(&["backup", "-f", &service], USAGE, &["spec.source.serviceRef", "in a cluster only"]);
    let pods =
        std::fs::read_to_string(&policy).unwrap().replace("host: 127.0.0.1", "selector: {matchLabels: {app: db}}");
    let pods = desk.file("pods.yaml", &pods);
    refused(&["backup", "-f", &pods], USAGE, &["spec.source.selector", "in a cluster only"]);
    refused(&["backup", "-f", "/nowhere.yaml"], USAGE, &["/nowhere.yaml"]);
    refused(&["backup", "-f", &policy, "--policy", "other"], USAGE, &["other", "there are: shop"]);
    assert!(desk.contents().is_empty());
}

#[test]
fn a_restore_names_its_target_its_server_and_its_login_or_is_refused() {
    let desk = Desk::new();
    let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
    let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), "", &storage);
    let restore = |rest: &[&str], words: &[&str]| {
        let mut arguments = vec!["restore", "-f", policy.as_str()];
        arguments.extend(rest);
        refused(&arguments, USAGE, words)
    };
    restore(&["--to-time", "2026-11-21T03:04:05", "--dry-run"], &["2026-11-21T03:04:05", "with a zone"]);
    restore(&["--to-position", "binlog.000001", "--dry-run"], &["FILE:OFFSET"]);
    restore(&["--latest"], &["--into HOST:PORT"]);
    restore(&["--latest", "--into", "db.example"], &["HOST:PORT"]);
    restore(&["--latest", "--into", "127.0.0.1:1"], &["TIDEMARK_TARGET_PASSWORD"]);
    restore(&["--latest", "--into", "127.0.0.1:1", "--into-secret", "x"], &["no Secret \"x\""]);
    restore(&[], &["--to-time", "RestoreRequest"]);
}

#[test]
fn a_source_that_cannot_be_used_is_named_with_the_way_out_and_nothing_is_written() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "nobody", "");
    account(&server, "locked_out", &format!("{FULL_GRANTS} locked_out@'%'; ALTER USER locked_out@'%' ACCOUNT LOCK;"));
    let wrong = desk.policy(&server, ("nobody", "wrong"), "", "");
    for verb in ["backup", "stream"] {
        refused(&[verb, "-f", &wrong], UNREACHABLE, &["refused the login of user \"nobody\"", "password"]);
        let locked = desk.policy(&server, ("locked_out", "secret"), "", "");
        refused(&[verb, "-f", &locked], UNREACHABLE, &["UNLOCK"]);
        let poor = desk.policy(&server, ("nobody", "secret"), "", "");
        refused(&[verb, "-f", &poor], 1, &["GRANT"]);
        let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
        let nowhere = desk.policy_on("127.0.0.1", 9, ("nobody", "secret"), "", &storage);
        refused(&[verb, "-f", &nowhere], UNREACHABLE, &["127.0.0.1:9", "check host and port"]);
        let other = desk.policy(&server, ("nobody", "secret"), "flavor: mariadb", "");
        refused(&[verb, "-f", &other], USAGE, &["is MySQL", "spec.source.flavor"]);
        desk.policy(&server, ("nobody", "wrong"), "", "");
    }
    assert!(desk.contents().is_empty(), "{:?}", desk.contents());
}

#[test]
fn tls_is_refused_where_the_server_has_none_or_shows_another_certificate() {
    let desk = Desk::new();
    let authority = Authority::new();
    let plain = ServerOptions::mariadb().start();
    account(&plain, "u", "");
    let policy = desk.policy(&plain, ("u", "secret"), "tls: {mode: Required}", "");
    refused(&["backup", "-f", &policy], UNREACHABLE, &["offers no TLS"]);
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    let verified = "tls: {mode: VerifyCA, caSecretRef: {name: ca}}";
    let policy = desk.policy(&server, ("u", "secret"), verified, "");
    let ca = |pem: &Path| {
        let pem: String = std::fs::read_to_string(pem).unwrap().lines().map(|line| format!("    {line}\n")).collect();
        desk.file(
            "ca.yaml",
            &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData:\n  ca.crt: |\n{pem}"),
        )
    };
    let other = ca(&authority.ca());
    refused(&["backup", "-f", &policy, "-f", &other], UNREACHABLE, &["not trusted", "CA that signed it"]);
    // Who says nothing gets a connection that is checked, or none.
    let policy = desk.policy(&server, ("u", "secret"), "tls: {}", "");
    refused(&["backup", "-f", &policy], UNREACHABLE, &["not trusted", "ca.pem in its data directory", "VerifyCA"]);
    assert!(desk.contents().is_empty());
    // The one in its data directory, which MySQL ends with a NUL.
    let policy = desk.policy(&server, ("u", "secret"), verified, "");
    let output =
        tidemark_command(["backup", "-f", &policy, "-f", &ca(&server.datadir().join("ca.pem"))]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_source_without_a_usable_binary_log_is_refused_with_the_statement_that_mends_it() {
    let desk = Desk::new();
    let off = ServerOptions::mysql().arg("--skip-log-bin").start();
    account(&off, "u", &format!("{FULL_GRANTS} u@'%';"));
    let policy = desk.policy(&off, ("u", "secret"), "", "");
    refused(&["stream", "-f", &policy], 1, &["log"]);
    let statement = ServerOptions::mysql().arg("--binlog-format=STATEMENT").start();
    account(&statement, "u", &format!("{FULL_GRANTS} u@'%';"));
    let policy = desk.policy(&statement, ("u", "secret"), "", "");
    let mut stream = Process::spawn(tidemark_command(["stream", "-f", &policy]));
    stream.wait_for_line("binlog_format", LONG);
}

#[test]
fn a_store_that_cannot_be_written_is_named_with_the_way_out() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    let mut s3 = S3Server::start();
    let store = |s3: &S3Server, bucket: &str, key: &str, more: &str| {
        let bucket = format!(
            "storage: {{s3: {{bucket: {bucket}, endpoint: '{}', region: {}, credentialsSecretRef: {{name: s3}}{more}}}}}",
            s3.endpoint(),
            s3.region()
        );
        let policy = desk.policy_on("127.0.0.1", server.port(), ("u", "secret"), "", &bucket);
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s3}}\nstringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{key}'}}\n",
            s3.access_key()
        );
        let text = std::fs::read_to_string(policy).unwrap() + &secret;
        desk.file("s3.yaml", &text)
    };
    let backup = |store: &str, words: &[&str]| refused(&["backup", "-f", store], UNREACHABLE, words);
    backup(&store(&s3, "no-such-bucket", s3.secret_key(), ""), &["bucket", "does not exist"]);
    backup(&store(&s3, s3.bucket(), "wrong-key", ""), &["credentials"]);
    // Whom it speaks to is checked, always.
    let (ours, other) = (Authority::new(), Authority::new());
    s3.encrypt(ours.issue("IP:127.0.0.1"));
    let ca = |authority: &Authority| {
        let pem = std::fs::read_to_string(authority.ca()).unwrap().replace('\n', "\n    ");
        desk.file(
            "ca.yaml",
            &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData:\n  ca.crt: |\n    {pem}\n"),
        )
    };
    let not_trusted = ["certificate", "caSecretRef"];
    backup(&store(&s3, s3.bucket(), s3.secret_key(), ""), &not_trusted);
    let policy = store(&s3, s3.bucket(), s3.secret_key(), ", caSecretRef: {name: ca}");
    refused(&["backup", "-f", &policy, "-f", &ca(&other)], UNREACHABLE, &not_trusted);
    done(&["backup", "-f", &policy, "-f", &ca(&ours), "-o", "json"]);
    let file = desk.file("occupied", "a file, not a folder");
    let policy =
        desk.policy_on("127.0.0.1", server.port(), ("u", "secret"), "", &format!("storage: {{fs: {{path: {file}}}}}"));
    refused(&["backup", "-f", &policy], UNREACHABLE, &["occupied"]);
}

#[test]
fn a_full_and_a_stream_make_a_window_and_damage_is_found_and_named() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let empty = done(&["status", "-f", &policy, "-o", "json"]);
    assert_eq!(empty["policies"][0]["fulls"], serde_json::json!([]));
    assert!(desk.contents().is_empty(), "status wrote {:?}", desk.contents());

    let full = done(&["backup", "-f", &policy, "-o", "json"]);
    assert_eq!(full["traceId"].as_str().map(str::len), Some(16), "{full}");
    let mut stream = Process::spawn(tidemark_command(["stream", "-f", &policy, "--log-format", "json"]));
    server.sql("INSERT INTO d.t VALUES (3)");
    let now = || done(&["status", "-f", &policy, "-o", "json"])["policies"][0].take();
    let status = wait_for("the insert in the archive", LONG, || {
        let status = now();
        (status["source"]["notArchived"] == "").then_some(status)
    });
    stream.signal(Signal::Terminate);
    assert!(stream.wait(LONG).success(), "{}", stream.output());
    assert_eq!(status["windows"][0]["gtids"], server.gtids());
    assert_eq!(status["windows"][0]["fulls"][0], full["id"]);
    assert_eq!(status["source"]["lagSeconds"], 0.0);
    assert!(!stream.output().contains("secret"), "a password was logged");

    let archive = desk.contents();
    let damage = |name: &str, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let (path, bytes) = archive.iter().find(|(path, _)| path.ends_with(name)).unwrap();
        std::fs::write(path, change(bytes)).unwrap();
        path.clone()
    };
    damage("archive.json", &|bytes| String::from_utf8_lossy(bytes).replace("\"format\":1", "\"format\":99").into());
    refused(&["status", "-f", &policy], DAMAGED, &["format 99", "newer tidemark"]);
    damage("archive.json", &|bytes| bytes[..bytes.len() / 2].to_vec());
    refused(&["status", "-f", &policy], DAMAGED, &["archive.json is damaged"]);
    damage("archive.json", &<[u8]>::to_vec);
    damage("manifest.json", &|bytes| bytes[..bytes.len() / 2].to_vec());
    let shown = tidemark(&["status", "-f", &policy, "-o", "json"]);
    assert_eq!(shown.status.code(), Some(DAMAGED), "{shown:?}");
    let status = serde_json::from_slice::<Value>(&shown.stdout).unwrap()["policies"][0].take();
    assert!(status["problems"][0].as_str().is_some_and(|text| text.contains("manifest.json")), "{status:#}");
    assert_eq!(status["windows"], serde_json::json!([]), "a damaged full is counted");
    damage("manifest.json", &<[u8]>::to_vec);
    assert_eq!(desk.contents(), archive, "the archive was changed");
}

#[test]
fn after_a_purge_run_takes_a_full_at_once_and_both_windows_stay() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)");
    // No full is due for a year but the first.
    let schedule = "schedule: {cron: '0 0 1 1 *', immediate: true}";
    let policy = desk.policy(&server, ("root", ROOT_PASSWORD), "", schedule);
    let now = || done(&["status", "-f", &policy, "-o", "json"])["policies"][0].take();
    let run = |what: &str, reached: &dyn Fn(&Value) -> bool| {
        let mut run = Process::spawn(tidemark_command(["run", "-f", &policy]));
        let status = wait_for(what, Duration::from_secs(60), || {
            assert!(run.try_wait().is_none(), "{}", run.output());
            Some(now()).filter(|status| reached(status) && status["source"]["notArchived"] == "")
        });
        run.signal(Signal::Terminate);
        assert!(run.wait(LONG).success(), "{}", run.output());
        status
    };
    let count = |status: &Value, of: &str| status[of].as_array().map_or(0, Vec::len);
    let before = run("the first full", &|status| count(status, "fulls") == 1);
    let kept = server.gtids();
    server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS");
    let newest = server.binlogs().pop().unwrap();
    server.sql(&format!("PURGE BINARY LOGS TO '{}'", newest.file_name().unwrap().to_str().unwrap()));

    // That something is missing shows when the log behind it is archived.
    let after = run("a full behind the gap", &|status| {
        count(status, "fulls") == 2 && count(status, "windows") == 2 && status["windows"][0]["missing"].is_string()
    });
    let windows = after["windows"].as_array().unwrap();
    assert_eq!(
        (&before["windows"][0]["gtids"], &windows[0]["gtids"]),
        (&kept.clone().into(), &kept.into()),
        "{after:#}"
    );
    assert_eq!(windows[1]["gtids"], server.gtids(), "{after:#}");
    let uuid = server.sql("SELECT @@server_uuid");
    assert!(windows[0]["missing"].as_str().is_some_and(|gtids| gtids.starts_with(&uuid)), "{after:#}");
}

#[test]
fn run_verifies_by_the_schedule_of_the_policy_and_status_tells_what_it_found() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let schedules = "schedule: {cron: '0 0 1 1 *'}\n  verify: {cron: '* * * * *', depth: Deep}";
    let policy = desk.policy(&server, ("root", ROOT_PASSWORD), "", schedules);
    done(&["backup", "-f", &policy, "-o", "json"]);
    let rows = |path: &PathBuf| path.to_str().unwrap().ends_with(".tsv.zst");
    let lost = desk.contents().into_iter().map(|(path, _)| path).find(rows).unwrap();
    std::fs::remove_file(lost).unwrap();
    let mut run = Process::spawn(tidemark_command(["run", "-f", &policy]));
    let verified = wait_for("the next minute's verify", Duration::from_secs(120), || {
        assert!(run.try_wait().is_none(), "{}", run.output());
        let status = done(&["status", "-f", &policy, "-o", "json"]);
        Some(status["policies"][0]["verified"][0].clone()).filter(|verified| !verified.is_null())
    });
    assert_eq!((&verified["depth"], &verified["findings"]), (&"Deep".into(), &1.into()), "{verified:#}");
    run.wait_for_line("the archive is not what was stored", LONG);
    run.signal(Signal::Terminate);
    assert!(run.wait(LONG).success(), "{}", run.output());
}

#[test]
fn what_mariadb_has_that_is_not_archived_is_said_in_numbers_of_its_server() {
    let desk = Desk::new();
    let server = ServerOptions::mariadb().start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)");
    let policy = desk.policy(&server, ("root", ROOT_PASSWORD), "tls: {mode: Disabled}", "");
    done(&["backup", "-f", &policy, "-o", "json"]);
    server.sql(
        "INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2); SET gtid_domain_id = 7; INSERT INTO d.t VALUES (3)",
    );
    let status = done(&["status", "-f", &policy, "-o", "json"])["policies"][0].take();
    let id = server.server_id();
    assert_eq!(status["source"]["notArchived"], format!("0-{id}-3..4,7-{id}-1"), "{status:#}");
}

#[test]
fn a_target_outside_the_window_is_refused_with_what_is_reachable_and_the_plan_is_shown_without_a_server() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let plan = |target: &[&str]| {
        let mut arguments = vec!["restore", "-f", policy.as_str(), "--dry-run", "-o", "json"];
        arguments.extend(target);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let no_full: Vec<String> = plan(&["--latest"]);
    let no_full: Vec<&str> = no_full.iter().map(String::as_str).collect();
    refused(&no_full, 1, &["no archive"]);
    let full = done(&["backup", "-f", &policy, "-o", "json"]);
    let archive = desk.contents();
    for target in [
        &["--to-time", "2020-01-01T00:00:00Z"][..],
        &["--to-time", "2100-01-01T00:00:00Z"],
        &["--to-gtid", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"],
    ] {
        let arguments = plan(target);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&arguments, REFUSED, &["reachable"]);
    }
    let arguments = plan(&["--to-gtid", full["gtids"].as_str().unwrap()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(done(&arguments)["plan"]["base"]["id"], full["id"]);
    assert_eq!(desk.contents(), archive, "planning changed the archive");
}
