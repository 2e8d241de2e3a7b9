//! Archives in buckets that keep versions and lock them: whoever holds the writer's credentials can hide what is archived, and not destroy it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tidemark::archive::catalog::Catalog;
use tidemark::archive::store::{Condition, Lock, LockMode, S3Config, Store, StoreConfig};
use tidemark::compaction;
use tidemark::model::{Flavor, Progress};
use tokio_util::sync::CancellationToken;

use crate::lab::checksums;
use crate::store::{contract, s3_config};
use crate::support::{
    Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, Signal, checksum_header, tidemark_command, tool, wait_for,
};

const LONG: Duration = Duration::from_secs(90);
const UNFIT: i32 = 5;
const USAGE: i32 = 2;
const LOCKED: &str = "immutability: {mode: Compliance, lockFor: 2d}";

/// A source, its archive in a bucket that can lock, and a copy in a folder; all of it through the real binary.
struct Desk {
    source: Server,
    s3: S3Server,
    /// Of the bucket.
    login: (String, String),
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(flavor: Flavor) -> Desk {
        let mut s3 = S3Server::start();
        s3.lock();
        Desk::before(flavor, s3)
    }

    fn before(flavor: Flavor, s3: S3Server) -> Desk {
        let (login, dir) = ((s3.access_key().to_owned(), s3.secret_key().to_owned()), tempfile::tempdir().unwrap());
        let desk = Desk { source: ServerOptions::of(flavor).start(), s3, login, dir };
        desk.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        desk
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn policy(&self, spec: &str) {
        let (bucket, region, endpoint) = (self.s3.bucket(), self.s3.region(), self.s3.endpoint());
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{host: 127.0.0.1, port: {}, \
             credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  binlog: {{flushInterval: 50ms, segmentSize: 64Ki}}\n  \
             storage: {{s3: {{bucket: {bucket}, prefix: db, region: {region}, endpoint: '{endpoint}', credentialsSecretRef: {{name: bucket}}}}}}\n  \
             {spec}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: bucket}}, stringData: {{AWS_ACCESS_KEY_ID: {}, AWS_SECRET_ACCESS_KEY: {}}}}}\n",
            self.source.port(),
            self.login.0,
            self.login.1
        );
        fs::write(self.file("policy.yaml"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tidemark_command(&arguments[..1]);
        command.args(["-f", &self.file("policy.yaml")]).args(&arguments[1..]);
        command.env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD).output().unwrap()
    }

    fn must(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let Output { status, stderr, .. } = self.run(arguments);
        let error = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {error}");
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    }

    fn streamer(&self) -> Process {
        Process::spawn(tidemark_command(["stream", "-f", &self.file("policy.yaml")]))
    }

    /// Waits until an archive holds all that the source has.
    fn archived(&self, arguments: &[&str]) {
        wait_for("the archive to hold everything", LONG, || {
            let output = self.run(&[&["status", "-o", "json"], arguments].concat());
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (status["policies"][0]["source"]["notArchived"] == "").then_some(())
        });
    }

    /// A fresh server, restored to the newest transaction, as the arguments say.
    fn restored(&self, arguments: &[&str]) -> Vec<Vec<String>> {
        let target = ServerOptions::of(self.source.flavor()).start();
        let into = target.addr().to_string();
        self.must(&[&["restore", "--latest", "--into", &into, "--into-tls", "Disabled"], arguments].concat());
        checksums(&target)
    }

    /// The same by a RestoreRequest, from what the bucket held at a moment.
    fn requested(&self, identity: &str, moment: &str) -> Vec<Vec<String>> {
        let (target, request) = (ServerOptions::of(self.source.flavor()).start(), self.file("request.yaml"));
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: RestoreRequest\nmetadata: {{name: rescue}}\nspec:\n  policyRef: {{name: lab}}\n  \
             asOf: '{moment}'\n  target: {{latest: true}}\n  decryption: {{identitySecretRef: {{name: backup-key}}}}\n  \
             intoExisting: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n",
            target.port()
        );
        fs::write(&request, text).unwrap();
        self.must(&["restore", "-f", identity, "-f", &request]);
        checksums(&target)
    }

    /// A moment behind everything that was stored, and before everything that will be, by a store's clock of whole seconds.
    fn moment(&self) -> String {
        let now = Timestamp::now();
        wait_for("the next second", LONG, || (Timestamp::now().as_second() > now.as_second()).then_some(()));
        now.to_string()
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.s3.bucket(), key.replace('@', "%40"))
    }

    /// Mode and end of a version's lock.
    fn lock_of(&self, key: &str, version: &str) -> Option<(String, Timestamp)> {
        // (The server's HEAD of an old version tells of no lock that it has.)
        let (status, xml) = self.s3.request("GET", &format!("{}?retention=&versionId={version}", self.path(key)), &[]);
        let field =
            |name: &str| xml.split_once(&format!("<{name}>"))?.1.split_once("</").map(|(text, _)| text.to_owned());
        assert!(status == 200 || xml.contains("NoSuchObjectLockConfiguration"), "{key}: {xml}");
        Some((field("Mode")?, field("RetainUntilDate")?.parse().unwrap()))
    }

    /// All that somebody with the writer's credentials can do to destroy what is archived. In the end nothing of it is to be seen but `kept`.
    fn attack(&self, kept: &str) {
        let before = self.s3.versions();
        let soon = (Timestamp::now() + SignedDuration::from_mins(5)).to_string();
        let retention =
            |mode: &str| format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{soon}</RetainUntilDate></Retention>");
        let keys: BTreeSet<&str> = before.iter().map(|(key, ..)| key.as_str()).collect();
        for key in &keys {
            // Junk of the same length, so that only the bytes tell.
            let (_, head) = self.s3.request("HEAD", &self.path(key), &[]);
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |n| n.trim().parse().unwrap());
            let junk = "x".repeat(length);
            fs::write(self.file("junk"), junk).unwrap();
            let (status, body) =
                self.s3.request("PUT", &self.path(key), &["--data-binary", &format!("@{}", self.file("junk"))]);
            assert_eq!(status, 200, "{body}");
            if *key != kept {
                assert_eq!(self.s3.request("DELETE", &self.path(key), &[]).0, 204, "a delete hides");
            }
        }
        for (key, version, _) in before.iter().filter(|(key, _, is_object)| *is_object && is_of_archive(key)) {
            let at = format!("{}?versionId={version}", self.path(key));
            let bypass = ["--header", "x-amz-bypass-governance-retention: true"];
            assert_eq!(self.s3.request("DELETE", &at, &bypass).0, 403, "{key} was destroyed");
            let at = format!("{}?retention=&versionId={version}", self.path(key));
            for mode in ["COMPLIANCE", "GOVERNANCE"] {
                let shorter = retention(mode);
                let checksum = checksum_header(&shorter);
                let args = [&bypass[..], &["--header", &checksum, "--data-binary", &shorter]].concat();
                let (status, body) = self.s3.request("PUT", &at, &args);
                assert_eq!(status, 403, "the lock of {key} was weakened: {body}");
            }
        }
    }
}

/// Whether a key of the bucket is one that is locked.
fn is_of_archive(key: &str) -> bool {
    ["db/archive.json", "db/full/", "db/binlog/"].iter().any(|prefix| key.starts_with(prefix))
}

#[test]
fn an_encrypted_locked_and_copied_archive_that_its_own_writer_empties_is_restored_to_the_last_second() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let desk = Desk::new(flavor);
        let key = desk.file("key.txt");
        let made = std::process::Command::new(tool("age", &["age-keygen"])).args(["-o", &key]).output().unwrap();
        assert!(made.status.success());
        let key = fs::read_to_string(key).unwrap();
        let public = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
        let secret = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
        let identity = desk.file("identity.yaml");
        let text = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: backup-key}}, stringData: {{identity: {secret}}}}}"
        );
        fs::write(&identity, text).unwrap();
        let opened = ["-f", &identity, "--identity-secret", "backup-key"];
        desk.policy(&format!(
            "{LOCKED}\n  encryption: {{recipients: [{public}]}}\n  copies: [{{name: second, storage: {{fs: {{path: {}}}}}}}]",
            desk.file("second")
        ));

        let mut streamer = desk.streamer();
        desk.must(&["backup"]);
        let write = |rows: u32| {
            (0..rows)
                .for_each(|_| _ = desk.source.sql("INSERT INTO d.t (text) VALUES (CONCAT(UUID(), REPEAT('x', 900)))"))
        };
        write(30);
        desk.source.sql("FLUSH BINARY LOGS");
        write(30);
        desk.archived(&[]);
        desk.archived(&["--copy", "second"]);
        streamer.signal(Signal::Terminate);
        assert!(streamer.wait(LONG).success(), "{}", streamer.output());
        let wanted = checksums(&desk.source);

        // Every object of the archive is locked, from the moment it exists, and nothing else is.
        let written = desk.s3.versions();
        assert!(written.iter().filter(|(key, ..)| is_of_archive(key)).count() > 6, "{written:?}");
        for (key, version, _) in written.iter().filter(|(_, _, is_object)| *is_object) {
            let lock = desk.lock_of(key, version);
            match is_of_archive(key) {
                true => {
                    let (mode, until) = lock.unwrap_or_else(|| panic!("{key} is not locked"));
                    let left = until.duration_since(Timestamp::now()).as_hours();
                    assert!(mode == "COMPLIANCE" && (47..=48).contains(&left), "{key}: {mode} until {until}");
                }
                false => assert_eq!(lock, None, "{key}"),
            }
        }
        let status = desk.must(&["status"]);
        let protection = &status["policies"][0]["protection"];
        assert_eq!(
            (&protection["versioning"], &protection["objectLock"]),
            (&"Enabled".into(), &true.into()),
            "{status:#}"
        );
        assert!(protection["text"].as_str().unwrap().contains("what is archived is locked: Compliance for 2 day(s)"));

        let moment = desk.moment();
        let kept = written.iter().find(|(key, ..)| key.ends_with(".zst.age")).unwrap().0.clone();
        desk.attack(&kept);
        let into = ["restore", "--latest", "--into", "127.0.0.1:9", "--into-tls", "Disabled"];
        assert!(!desk.run(&into).status.success(), "there is nothing to restore from");

        let as_of = ["--as-of", &moment];
        assert_eq!(desk.restored(&[&as_of[..], &opened].concat()), wanted, "{flavor}: from the locked versions");
        assert_eq!(desk.requested(&identity, &moment), wanted, "{flavor}: by a RestoreRequest");
        assert_eq!(desk.restored(&[&["--copy", "second"], &opened[..]].concat()), wanted, "{flavor}: from the copy");

        // The bucket itself, brought back object by object.
        let before = desk.s3.versions();
        let planned = desk.must(&["repair", "--as-of", &moment, "--dry-run"]);
        assert_eq!(desk.s3.versions(), before, "a dry run changed something");
        let done = desk.must(&["repair", "--as-of", &moment]);
        assert!(done[0]["objects"].as_u64().unwrap() > 4, "{done:#}");
        assert_eq!((&done[0]["objects"], &done[0]["bytes"]), (&planned[0]["objects"], &planned[0]["bytes"]));
        assert_eq!(desk.must(&["repair", "--as-of", &moment])[0]["objects"], 0, "all of it is back");
        desk.must(&["verify", "--deep"]);
        assert_eq!(desk.restored(&opened), wanted, "{flavor}: from the bucket that was brought back");

        // And the stream goes on there.
        let _streamer = desk.streamer();
        write(3);
        desk.archived(&[]);
        assert_eq!(desk.restored(&opened), checksums(&desk.source), "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_were_made_before_a_bucket_kept_versions_are_brought_back() {
    let s3 = S3Server::start();
    // (This server does not tell when what it held before that was stored; so it is on from the beginning, and the packs are made all the same.)
    s3.keep_versions();
    let desk = Desk::before(Flavor::Mysql, s3);
    desk.policy("");
    let mut streamer = desk.streamer();
    desk.must(&["backup"]);
    for _ in 0..8 {
        desk.source.sql("INSERT INTO d.t (text) VALUES (CONCAT(UUID(), REPEAT('x', 900)))");
        desk.archived(&[]);
    }
    // Nothing of a file is stored before the one before it is closed.
    desk.source.sql("FLUSH BINARY LOGS; INSERT INTO d.t (text) VALUES ('in the next file')");
    desk.archived(&[]);
    streamer.signal(Signal::Terminate);
    assert!(streamer.wait(LONG).success(), "{}", streamer.output());
    let wanted = checksums(&desk.source);
    assert_eq!(desk.must(&["prune"])["packed"]["files"], 0, "where deletes free nothing, packs would only add to it");
    let store = Store::open(&StoreConfig::S3(S3Config { prefix: "db".into(), ..s3_config(&desk.s3) })).unwrap();
    let files = Catalog::load(&store).await.unwrap().files;
    let due = compaction::due(&store, &files).await.unwrap();
    let packed = compaction::compact(&store, &due, &Progress::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(packed.files, 1, "{packed:?}");
    let moment = desk.moment();

    for (what, is_lost) in [("packs", ".pack.zst"), ("all of the log", "")] {
        let keys = desk.s3.versions().into_iter().map(|(key, ..)| key);
        let lost: BTreeSet<_> = keys.filter(|key| key.starts_with("db/binlog/") && key.ends_with(is_lost)).collect();
        assert!(!lost.is_empty(), "{what}");
        lost.iter().for_each(|key| assert_eq!(desk.s3.request("DELETE", &desk.path(key), &[]).0, 204, "{key}"));
        let into = ["restore", "--latest", "--into", "127.0.0.1:9", "--into-tls", "Disabled"];
        assert!(!desk.run(&into).status.success(), "{what}: there is nothing to restore from");
        assert_eq!(desk.restored(&["--as-of", &moment]), wanted, "{what}");
        // Segment by segment, under their own names.
        let done = desk.must(&["repair", "--as-of", &moment]);
        assert!(done[0]["objects"].as_u64().unwrap() >= 8, "{what}: {done:#}");
        assert_eq!(desk.must(&["repair", "--as-of", &moment])[0]["objects"], 0, "{what}: all of it is back");
        desk.must(&["verify", "--deep"]);
        assert_eq!(desk.restored(&[]), wanted, "{what}");
    }
}

#[test]
fn a_prune_in_a_bucket_that_keeps_versions_hides_says_so_and_is_done_once() {
    let desk = Desk::new(Flavor::Mysql);
    desk.policy(&format!("{LOCKED}\n  retention: {{keepLast: 1}}"));
    (0..3).for_each(|_| _ = desk.must(&["backup"]));
    let before: BTreeSet<_> = desk.s3.versions().into_iter().filter(|version| version.2).collect();
    let plan = String::from_utf8(desk.run(&["prune", "--dry-run"]).stdout).unwrap();
    assert!(plan.contains("hides ") && plan.contains("NoncurrentVersionExpiration"), "{plan}");

    let done = desk.must(&["prune"]);
    assert_eq!((&done["room"], &done["pruned"]["room"]), (&"hidden".into(), &"hidden".into()), "{done:#}");
    assert_eq!((&done["pruned"]["fulls"], &done["pruned"]["heldObjects"]), (&2.into(), &0.into()), "{done:#}");
    assert!(done["notes"].to_string().contains("goes on taking up room"), "{done:#}");
    let after = desk.s3.versions();
    assert!(after.iter().filter(|version| version.2).cloned().collect::<BTreeSet<_>>().is_superset(&before));

    let again = desk.must(&["prune"]);
    assert_eq!((&again["pruned"]["objects"], &again["freedBytes"]), (&0.into(), &0.into()), "{again:#}");
    let marks = |versions: &[(String, String, bool)]| versions.iter().filter(|version| !version.2).count();
    assert_eq!(marks(&desk.s3.versions()), marks(&after), "it was all done again");
    assert_eq!(desk.must(&["status"])["policies"][0]["fulls"].as_array().unwrap().len(), 1);
}

#[test]
fn what_a_store_holds_until_its_time_stays_whole_and_fails_no_prune() {
    let mut s3 = S3Server::start();
    s3.keep_no_versions();
    s3.lock();
    let desk = Desk::before(Flavor::Mysql, s3);
    // Not even what is scratch can be deleted or changed.
    desk.s3.lock_by_default("<Mode>COMPLIANCE</Mode><Days>2</Days>");
    desk.policy(&format!("{LOCKED}\n  retention: {{keepLast: 1}}"));
    (0..3).for_each(|_| _ = desk.must(&["backup"]));
    let outcome = desk.file("outcome");
    for _ in 0..2 {
        let done = desk.must(&["prune", "--outcome", &outcome]);
        assert_eq!((&done["pruned"]["fulls"], &done["pruned"]["objects"]), (&0.into(), &0.into()), "{done:#}");
        assert_eq!((&done["pruned"]["heldObjects"], &done["room"]), (&2.into(), &"freed".into()), "{done:#}");
        let told: Value = serde_json::from_slice(&fs::read(&outcome).unwrap()).unwrap();
        assert!(told["prune"]["notes"].to_string().contains("as the store holds them"), "{told:#}");
    }
    // What could not go whole is whole.
    assert_eq!(desk.must(&["status"])["policies"][0]["fulls"].as_array().unwrap().len(), 3);
    desk.must(&["verify", "--deep"]);
    assert_eq!(desk.restored(&[]), checksums(&desk.source));
}

/// What docs/permissions.md names.
const READ: [&str; 1] = ["GetObject"];
const WRITE: [&str; 3] = ["GetObject", "PutObject", "AbortMultipartUpload"];

#[test]
fn each_verb_gets_along_with_the_permissions_that_are_named_for_it_and_what_may_not_be_asked_is_said() {
    let mut s3 = S3Server::start();
    s3.lock();
    s3.add_user("writer", "secret-of-the-writer");
    let mut desk = Desk::before(Flavor::Mysql, s3);
    desk.login = ("writer".to_owned(), "secret-of-the-writer".to_owned());
    desk.policy(&format!("{LOCKED}\n  retention: {{keepLast: 1}}"));
    let allow = |rights: &[(&[&str], &str)]| desk.s3.allow("writer", rights);
    let said = |arguments: &[&str], words: &[&str]| {
        let Output { status, stdout, stderr } = desk.run(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    };

    allow(&[(&WRITE, "/*"), (&["ListBucket"], ""), (&["DeleteObject"], "/db/probe/*")]);
    desk.fails(&["backup"], UNFIT, &["allow these credentials s3:GetBucketObjectLockConfiguration"]);
    let bucket = ["ListBucket", "GetBucketObjectLockConfiguration"];
    let writes = [&WRITE[..], &["PutObjectRetention"]].concat();
    allow(&[(&writes, "/*"), (&bucket, ""), (&["DeleteObject"], "/db/probe/*")]);
    (0..2).for_each(|_| _ = desk.must(&["backup"]));
    said(&["status"], &["whether the bucket keeps versions cannot be told", "takes s3:GetBucketVersioning"]);
    let moment = desk.moment();

    let prunes = [&WRITE[..], &["DeleteObject"]].concat();
    allow(&[(&prunes, "/*"), (&["ListBucket"], "")]);
    said(&["prune"], &["deleted ", "whether room was freed cannot be told"]);
    allow(&[(&prunes, "/*"), (&["ListBucket", "GetBucketVersioning"], "")]);
    said(&["prune", "--dry-run"], &["hides "]);

    allow(&[(&["GetObjectVersion"], "/*"), (&["ListBucketVersions"], "")]);
    let past = desk.must(&["status", "--as-of", &moment]);
    assert_eq!(past["policies"][0]["fulls"].as_array().unwrap().len(), 2, "{past:#}");
    allow(&[(&READ, "/*"), (&["ListBucket"], "")]);
    let present = desk.must(&["status"]);
    assert_eq!(present["policies"][0]["fulls"].as_array().unwrap().len(), 1, "{present:#}");

    let repairs = [&writes[..], &["GetObjectVersion"]].concat();
    let bucket = [&bucket[..], &["ListBucketVersions"]].concat();
    allow(&[(&repairs, "/*"), (&bucket, "")]);
    assert!(desk.must(&["repair", "--as-of", &moment])[0]["objects"].as_u64().unwrap() > 1);
    desk.must(&["verify", "--deep"]);
    assert_eq!(desk.must(&["status"])["policies"][0]["fulls"].as_array().unwrap().len(), 2);
}

#[test]
fn a_bucket_that_cannot_lock_is_refused_before_anything_is_written_and_status_says_what_it_does() {
    let desk = Desk::before(Flavor::Mysql, S3Server::start());
    desk.policy("");
    let said = |words: &[&str]| {
        let output = desk.run(&["status"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    };
    desk.must(&["backup"]);
    said(&[
        "protected    the bucket keeps no versions: who has a login that deletes can destroy the archive, and locks nothing",
    ]);
    let before = desk.s3.versions().len();

    desk.policy(&format!("{LOCKED}\n  retention: {{window: 14d}}"));
    let mend = "aws s3api put-object-lock-configuration --bucket";
    let outcome = desk.file("outcome");
    desk.fails(&["backup", "--outcome", &outcome], UNFIT, &["Object Lock is off", mend]);
    let told: Value = serde_json::from_slice(&fs::read(&outcome).unwrap()).unwrap();
    assert_eq!(told["error"]["reason"], "StoreUnfit");
    assert_eq!(desk.s3.versions().len(), before, "something was written without a lock");
    said(&["WARNING", mend, "immutability.lockFor (2d) is no longer than retention.window (2w)"]);

    let policy = fs::read_to_string(desk.file("policy.yaml")).unwrap();
    let (begin, rest) = policy.split_once("storage: ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    fs::write(desk.file("policy.yaml"), format!("{begin}storage: {{fs: {{path: /nowhere}}}}\n{rest}")).unwrap();
    desk.fails(&["backup"], USAGE, &["spec.immutability", "name an S3 bucket with Object Lock"]);
}

/// A client of the bucket that locks.
fn locking(s3: &S3Server, mode: LockMode, hours: u64) -> Store {
    let lock = Some(Lock { mode, lasts: Duration::from_secs(hours * 3600) });
    Store::open(&StoreConfig::S3(S3Config { prefix: "db".into(), lock, ..s3_config(s3) })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_locks_keeps_the_contract_and_its_own_default_is_never_weakened() {
    let mut s3 = S3Server::start();
    s3.lock();
    let store = locking(&s3, LockMode::Governance, 30);
    contract(&store).await;

    let desk = Desk::before(Flavor::Mysql, s3);
    let newest = |key: &str| desk.s3.versions().into_iter().find(|version| version.0 == key && version.2).unwrap().1;
    let hours_of = |key: &str| {
        let (mode, until) = desk.lock_of(key, &newest(key))?;
        // A lock is a second longer than was asked for.
        Some((mode, (until.duration_since(Timestamp::now()) - SignedDuration::from_secs(2)).as_hours() + 1))
    };
    // In one request and in parts; not what is no part of an archive.
    let big = Bytes::from(vec![7; (11 << 20) + 1]);
    let mut writer = store.writer("full/x/big", Condition::IfAbsent).await.unwrap();
    writer.write(big.clone()).await.unwrap();
    let _ = writer.finish().await.unwrap();
    for key in ["full/x/small", "lease/x.json", "archive.json"] {
        let _ = store.put(key, Bytes::from_static(b"small"), Condition::IfAbsent).await.unwrap();
    }
    assert!(store.get("full/x/big").await.unwrap() == big);
    let governed = Some(("GOVERNANCE".to_owned(), 30));
    assert_eq!((hours_of("db/full/x/big"), hours_of("db/full/x/small")), (governed.clone(), governed));
    assert_eq!(hours_of("db/lease/x.json"), None);

    // What is needed for good is locked anew, and not more often than is asked for.
    let count = || desk.s3.versions().into_iter().filter(|version| version.0 == "db/archive.json").count();
    store.renew("archive.json", SignedDuration::from_hours(24)).await.unwrap();
    assert_eq!(count(), 1);
    store.renew("archive.json", SignedDuration::ZERO).await.unwrap();
    assert_eq!((count(), store.get("archive.json").await.unwrap()), (2, Bytes::from_static(b"small")));

    desk.s3.lock_by_default("<Mode>COMPLIANCE</Mode><Days>2</Days>");
    // The default is more than enough, and is left to do it.
    let enough = locking(&desk.s3, LockMode::Governance, 30);
    let _ = enough.put("full/y/a", Bytes::from_static(b"a"), Condition::IfAbsent).await.unwrap();
    assert!(hours_of("db/full/y/a").is_none_or(|(mode, hours)| mode == "COMPLIANCE" && hours >= 47));
    let version = format!("{}?versionId={}", desk.path("db/full/y/a"), newest("db/full/y/a"));
    assert_eq!(desk.s3.request("DELETE", &version, &[]).0, 403);
    // More is asked for than the default does.
    let more = locking(&desk.s3, LockMode::Compliance, 72);
    let _ = more.put("full/y/b", Bytes::from_static(b"b"), Condition::IfAbsent).await.unwrap();
    assert_eq!(hours_of("db/full/y/b"), Some(("COMPLIANCE".to_owned(), 72)));
    // Longer, and weaker: nobody can have meant that.
    let weaker = locking(&desk.s3, LockMode::Governance, 72);
    let refused = weaker.put("full/y/c", Bytes::from_static(b"c"), Condition::IfAbsent).await.unwrap_err();
    assert!(refused.to_string().contains("weaker") && !refused.is_transient(), "{refused}");
    assert_eq!(store.stat("full/y/c").await.unwrap(), None);
}
