//! Further stores: filled while the first one is, whole at every moment, and enough to restore from and to make the first one anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tidemark::model::Flavor;

use crate::lab::checksums;
use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, tidemark_command, wait_for};

const FAILED: i32 = 1;
const DAMAGED: i32 = 4;
const UNREACHABLE: i32 = 5;

struct Rig {
    source: Server,
    dir: tempfile::TempDir,
}

impl Rig {
    /// A source with a table, and a policy with these copies.
    fn new(flavor: Flavor, copies: &str) -> Rig {
        let rig = Rig { source: ServerOptions::of(flavor).start(), dir: tempfile::tempdir().unwrap() };
        rig.policy(copies);
        rig.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        rig
    }

    fn policy(&self, copies: &str) {
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{host: 127.0.0.1, port: {}, \
             credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  binlog: {{flushInterval: 100ms}}\n  \
             storage: {{fs: {{path: {}}}}}\n  copies: {copies}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: bucket}}, stringData: {{AWS_ACCESS_KEY_ID: tidemark-test, \
             AWS_SECRET_ACCESS_KEY: secret-of-the-tests}}}}\n",
            self.source.port(),
            self.first().display()
        );
        fs::write(self.dir.path().join("policy.yaml"), text).unwrap();
    }

    fn first(&self) -> PathBuf {
        self.dir.path().join("first")
    }

    fn second(&self) -> PathBuf {
        self.dir.path().join("second")
    }

    fn tidemark(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(self.dir.path().join("policy.yaml")).args(arguments).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    }

    fn must(&self, verb: &str, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.tidemark(verb, arguments).args(["-o", "json"]).output().unwrap();
        assert!(status.success(), "{verb} {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    fn fails(&self, verb: &str, arguments: &[&str], code: i32) -> String {
        let Output { status, stderr, .. } = self.tidemark(verb, arguments).output().unwrap();
        let error = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(code), "{verb} {arguments:?}: {error}");
        error
    }

    fn write(&self, rows: u32) {
        (0..rows).for_each(|row| {
            _ = self.source.sql(&format!("INSERT INTO d.t (text) VALUES (CONCAT('row {row} ', UUID()))"))
        });
    }

    /// Waits until an archive holds all that the source has.
    fn await_all(&self, arguments: &[&str]) {
        wait_for("the archive to hold everything", Duration::from_secs(240), || {
            let output = self.tidemark("status", arguments).args(["-o", "json"]).output().unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (status["policies"][0]["source"]["notArchived"] == "").then_some(())
        });
    }

    /// A fresh server, restored as the arguments say.
    fn restored(&self, arguments: &[&str]) -> Server {
        let target = ServerOptions::of(self.source.flavor()).start();
        let into = target.addr().to_string();
        self.must("restore", &[&["--latest", "--into", &into, "--into-tls", "Disabled"], arguments].concat());
        target
    }
}

/// A copy in a bucket.
fn offsite(s3: &S3Server) -> String {
    format!(
        "[{{name: offsite, storage: {{s3: {{bucket: {}, region: {}, endpoint: '{}', credentialsSecretRef: {{name: bucket}}}}}}}}]",
        s3.bucket(),
        s3.region(),
        s3.endpoint()
    )
}

#[test]
fn a_store_that_is_lost_is_restored_from_its_copy_and_made_anew() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let s3 = S3Server::start();
        let rig = Rig::new(flavor, &offsite(&s3));
        let mut streamer = Process::spawn(rig.tidemark("stream", &[]));
        rig.must("backup", &[]);
        rig.write(20);
        rig.source.sql("FLUSH BINARY LOGS");
        rig.write(20);
        rig.await_all(&["--copy", "offsite"]);
        assert!(streamer.try_wait().is_none(), "{}", streamer.output());
        streamer.kill9();

        fs::remove_dir_all(rig.first()).unwrap();
        let wanted = checksums(&rig.source);
        assert_eq!(checksums(&rig.restored(&["--copy", "offsite"])), wanted, "{flavor}: from the copy");

        let repaired = rig.must("repair", &["--copy", "offsite"]);
        assert!(repaired[0]["objects"].as_u64().unwrap() > 4, "{repaired:#}");
        assert_eq!(checksums(&rig.restored(&[])), wanted, "{flavor}: from the store that was made anew");
        assert_eq!(rig.must("repair", &["--copy", "offsite"])[0]["objects"], 0, "there is nothing more to bring back");

        // The stream goes on there.
        let _streamer = Process::spawn(rig.tidemark("stream", &[]));
        rig.write(5);
        rig.await_all(&[]);
        rig.await_all(&["--copy", "offsite"]);
        assert_eq!(checksums(&rig.restored(&["--copy", "offsite"])), checksums(&rig.source), "{flavor}");
    }
}

#[test]
fn a_folder_whose_copy_in_a_bucket_is_out_of_reach_goes_on_and_the_copy_catches_up_later() {
    let mut s3 = S3Server::start();
    let rig = Rig::new(Flavor::Mysql, &offsite(&s3));
    s3.kill9();
    let mut streamer = Process::spawn(rig.tidemark("stream", &[]));
    rig.must("backup", &[]);
    rig.write(20);
    rig.source.sql("FLUSH BINARY LOGS");
    rig.write(20);
    rig.await_all(&[]);
    assert_eq!(checksums(&rig.restored(&[])), checksums(&rig.source), "offline");
    let away = rig.fails("status", &["--copy", "offsite"], UNREACHABLE);
    assert!(away.contains("did not answer"), "{away}");
    s3.restart();
    rig.await_all(&["--copy", "offsite"]);
    // And once more, in the middle of it.
    s3.kill9();
    rig.source.sql("FLUSH BINARY LOGS");
    rig.write(20);
    rig.await_all(&[]);
    s3.restart();
    rig.await_all(&["--copy", "offsite"]);
    assert!(streamer.try_wait().is_none(), "{}", streamer.output());
    streamer.kill9();
    rig.must("verify", &["--deep", "--copy", "offsite"]);
    fs::remove_dir_all(rig.first()).unwrap();
    assert_eq!(checksums(&rig.restored(&["--copy", "offsite"])), checksums(&rig.source), "from the copy");
}

#[test]
fn a_copy_is_a_whole_archive_wherever_its_copier_is_killed_and_ends_like_the_first_store() {
    let rig = Rig::new(Flavor::Mysql, "[]");
    rig.must("backup", &[]);
    rig.write(3);
    rig.source.sql("FLUSH BINARY LOGS");
    rig.write(3);
    // Nothing is copied meanwhile.
    let mut streamer = Process::spawn(rig.tidemark("stream", &[]));
    rig.await_all(&[]);
    streamer.kill9();
    rig.policy(&format!("[{{name: second, storage: {{fs: {{path: {}}}}}}}]", rig.second().display()));
    for failpoint in [
        "archive::store::writer",
        "archive::store::fs::before_publish",
        "copies::before_refer",
        "archive::store::after_put",
    ] {
        for nth in [0, 1, 3] {
            let mut command = rig.tidemark("copy", &[]);
            command.env("FAILPOINTS", format!("{failpoint}={nth}*off->pause"));
            let mut copier = Process::spawn(command);
            let mut cpu = Duration::MAX;
            wait_for("the copier to stand still or to end", Duration::from_secs(60), || {
                std::thread::sleep(Duration::from_millis(200));
                let before = std::mem::replace(&mut cpu, copier.cpu());
                (copier.try_wait().is_some() || before == cpu).then_some(())
            });
            copier.kill9();
            if rig.second().join("archive.json").exists() {
                let status = rig.must("status", &["--copy", "second"]);
                assert_eq!(status["policies"][0]["problems"], Value::Array(Vec::new()), "{failpoint}: {status:#}");
            }
        }
    }
    rig.must("copy", &[]);
    assert_eq!(objects(&rig.first()), objects(&rig.second()));
    assert_eq!(rig.must("copy", &["--copy", "second"])[0]["objects"], 0);
    assert_eq!(checksums(&rig.restored(&["--copy", "second"])), checksums(&rig.source));
}

#[test]
fn what_is_damaged_is_not_copied_another_archive_is_left_alone_and_each_store_has_its_own_retention() {
    let rig = Rig::new(Flavor::Mysql, "[]");
    let copy = |rest: &str| {
        rig.policy(&format!("[{{name: second, storage: {{fs: {{path: {}}}}}{rest}}}]", rig.second().display()))
    };
    copy("");
    let ids: Vec<String> = (0..3)
        .map(|_| {
            rig.write(2);
            rig.must("backup", &[])["id"].as_str().unwrap().to_owned()
        })
        .collect();
    // One object of the first full is changed: that full is not copied, and what comes after it is.
    let rows = objects(&rig.first().join("full").join(&ids[0]));
    let victim =
        rig.first().join("full").join(&ids[0]).join(rows.keys().find(|key| !key.ends_with("manifest.json")).unwrap());
    let good = fs::read(&victim).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&victim, bad).unwrap();
    let error = rig.fails("copy", &[], DAMAGED);
    assert!(error.contains(victim.file_name().unwrap().to_str().unwrap()) && error.contains("not copied"), "{error}");
    let fulls = |arguments: &[&str]| {
        let status = rig.must("status", arguments);
        let fulls = status["policies"][0]["fulls"].as_array().unwrap().iter();
        fulls.map(|full| full["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(fulls(&["--copy", "second"]), ids[1..]);
    fs::write(&victim, good).unwrap();
    rig.must("copy", &[]);
    assert_eq!(fulls(&["--copy", "second"]), ids);

    copy(", retention: {keepLast: 1}");
    rig.must("prune", &["--copy", "second"]);
    assert_eq!((fulls(&[]), fulls(&["--copy", "second"])), (ids.clone(), ids[2..].to_vec()));
    assert_eq!(rig.must("copy", &[])[0]["objects"], 0, "what its retention let go is not copied again");

    let other = Rig::new(Flavor::Mysql, "[]");
    other.policy(&format!("[{{name: second, storage: {{fs: {{path: {}}}}}}}]", rig.second().display()));
    other.must("backup", &[]);
    let before = objects(&rig.second());
    let error = other.fails("copy", &[], FAILED);
    assert!(error.contains("already holds another archive"), "{error}");
    assert_eq!(objects(&rig.second()), before);
}

/// Every object below a folder, with its bytes.
fn objects(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            match entry.unwrap().path() {
                path if path.ends_with(".tmp") => {}
                path if path.is_dir() => walk(root, &path, found),
                path => {
                    let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.insert(key, fs::read(path).unwrap());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}
