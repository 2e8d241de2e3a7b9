//! The binary's arguments, manifests, errors and exit codes; every bad input leaves the archive as it was.

mod arguments;
mod damage;
mod restore;
mod run;
mod serve;
mod source;
mod store;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Process, ROOT_PASSWORD, Server, ServerOptions, Signal, tidemark_command, wait_for};

const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const DAMAGED: i32 = 4;
const UNREACHABLE: i32 = 5;

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

    /// The one policy's status.
    fn status(&self) -> Value {
        let policy = self.dir.path().join("policy.yaml");
        done(&["status", "-f", policy.to_str().unwrap(), "-o", "json"])["policies"][0].take()
    }

    /// Waits until everything the source has executed is archived.
    fn archived(&self) -> Value {
        wait_for("the source's transactions in the archive", Duration::from_secs(60), || {
            Some(self.status()).filter(|status| status["source"]["notArchived"] == "")
        })
    }

    /// Fails if an object of `before` is gone or another: what a verb added is its own affair.
    fn keeps(&self, before: &[(PathBuf, Vec<u8>)]) {
        for (path, bytes) in before {
            assert!(std::fs::read(path).is_ok_and(|now| now == *bytes), "{} was changed", path.display());
        }
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

const FULL_GRANTS: &str = "GRANT SELECT, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE, SHOW VIEW, EVENT, TRIGGER, BACKUP_ADMIN, \
                           SHOW_ROUTINE ON *.* TO";

/// `tidemark restore` into a server, with its login in the environment.
fn restore_command(policy: &str, target: &Server, rest: &[&str]) -> std::process::Command {
    let into = format!("127.0.0.1:{}", target.port());
    let mut command = tidemark_command(["restore", "-f", policy, "-o", "json", "--into", into.as_str()]);
    command.args(rest).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
    if target.flavor() == tidemark::model::Flavor::Mariadb {
        command.arg("--into-tls=Disabled");
    }
    command
}

/// Runs a command to its end: exit code, standard output, standard error.
fn outcome(mut command: std::process::Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A server, an account that can be backed up with, and a table of two rows.
fn shop() -> Server {
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a LONGTEXT); INSERT INTO d.t (id) VALUES (1), (2)",
    );
    server
}

fn stream_of(policy: &str) -> Process {
    Process::spawn(tidemark_command(["stream", "-f", policy, "--log-format", "json"]))
}

/// SIGTERM, and the verb must end well.
fn stop(mut process: Process) -> String {
    process.signal(Signal::Terminate);
    let status = process.wait(Duration::from_secs(20));
    assert!(status.success(), "{status}\n{}", process.output());
    process.stderr()
}
