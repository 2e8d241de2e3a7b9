//! A prune of a real archive: what it says, what it leaves, and that it may die anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tidemark::archive::catalog::{Catalog, load_manifest, load_ranges};
use tidemark::archive::keys;
use tidemark::archive::lease::{Hold, Leases};
use tidemark::model::{Flavor, Progress};
use tidemark::restore::plan::Target;
use tidemark::retention::plan::{Rules, plan};
use tidemark::retention::{RetentionError, execute};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, checksums, request};
use crate::support::{Process, ROOT_PASSWORD, Server, ServerOptions, tidemark_command, wait_for};

const FAILED: i32 = 1;
const REFUSED: i32 = 3;
const DAMAGED: i32 = 4;
const UNREACHABLE: i32 = 5;

/// Where a prune is killed, in the order in which it gets there.
const STEPS: [&str; 5] = [
    "retention::execute::after_manifest",
    "retention::execute::after_object",
    "retention::execute::after_index",
    "retention::execute::after_first_segment",
    "retention::execute::after_object",
];

struct Rig {
    lab: Lab,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(flavor: Flavor) -> Rig {
        let rig = Rig { lab: Lab::new(ServerOptions::of(flavor)), dir: tempfile::tempdir().unwrap() };
        rig.retain("");
        rig
    }

    /// Writes the policy, with such a retention.
    fn retain(&self, retention: &str) {
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{host: 127.0.0.1, port: {}, \
             credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  storage: {{fs: {{path: {}}}}}\n  {retention}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
            self.lab.source.port(),
            self.lab.root.display()
        );
        fs::write(self.policy(), text).unwrap();
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let policy = self.policy();
        let fixed = ["prune", "-f", policy.to_str().unwrap(), "-o", "json"];
        tidemark_command(fixed.iter().chain(arguments))
    }

    fn prune(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let Output { status, stderr, .. } = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {error}");
        error
    }

    /// One more row, in a binlog file of its own, and a full behind it.
    fn round(&self) -> String {
        self.lab.source.sql("INSERT INTO d.t (text) VALUES (REPEAT('x', 2000)); FLUSH BINARY LOGS");
        self.lab.archive();
        self.lab.full()
    }

    /// Keys of all objects, and nothing else.
    fn objects(&self) -> BTreeSet<String> {
        fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                match entry.unwrap().path() {
                    path if path.ends_with(".tmp") => {}
                    path if path.is_dir() => walk(root, &path, found),
                    path => _ = found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.lab.root, &self.lab.root, &mut found);
        found
    }

    /// Keys of what the archive refers to.
    fn referred(&self) -> BTreeSet<String> {
        self.lab.runtime.block_on(async {
            let store = &self.lab.store;
            let catalog = Catalog::load(store).await.unwrap();
            assert_eq!((catalog.problems.len(), catalog.unknown.len()), (0, 0), "{catalog:?}");
            let mut keys = BTreeSet::from([keys::ARCHIVE.to_owned()]);
            for full in &catalog.fulls {
                keys.insert(keys::manifest(&full.id));
                keys.extend(load_manifest(store, &full.id).await.unwrap().objects.into_iter().map(|object| object.key));
            }
            for file in &catalog.files {
                keys.extend(file.closed.as_ref().map(|_| keys::index(&file.id)));
                let ranges = load_ranges(store, file).await.unwrap();
                keys.extend(ranges.iter().map(|range| range.object.key()));
            }
            keys
        })
    }
}

/// Of a report: ids of fulls, or names of files, that stay or go.
fn told(report: &Value, list: &str, keep: bool) -> Vec<String> {
    let name = |entry: &Value| match list {
        "fulls" => entry["id"].as_str().unwrap().to_owned(),
        _ => entry["file"]["name"].as_str().unwrap().to_owned(),
    };
    report[list].as_array().unwrap().iter().filter(|entry| entry["keep"] == keep).map(name).collect()
}

#[test]
fn a_prune_that_is_killed_at_every_step_leaves_what_the_window_needs_and_the_next_ones_finish_it() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let rig = Rig::new(flavor);
        let source = &rig.lab.source;
        source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        let fulls: Vec<String> = (0..4).map(|_| rig.round()).collect();
        // The last full must be older than the window, by the source's clock.
        let now = || source.sql("SELECT UNIX_TIMESTAMP(NOW(6))").parse::<f64>().unwrap();
        let taken = now();
        wait_for("the last full to be old", Duration::from_secs(30), || (now() > taken + 4.0).then_some(()));
        source.sql("INSERT INTO d.t (text) VALUES ('wanted')");
        let (wanted, gtid) = (checksums(source), last_gtid(source));
        source.sql("DELETE FROM d.t; FLUSH BINARY LOGS; INSERT INTO d.t (text) VALUES ('later')");
        rig.lab.archive();
        let before = rig.objects();

        // Without retention nothing goes, and a dry run changes nothing.
        assert_eq!(rig.prune(&[])["pruned"]["objects"], 0);
        rig.retain("retention: {window: 2s, keepLast: 2}");
        let plan = rig.prune(&["--dry-run"]);
        assert_eq!(rig.objects(), before);
        let (going, staying) = (told(&plan, "fulls", false), told(&plan, "fulls", true));
        assert_eq!(staying, fulls[2..], "{plan:#}");
        assert_eq!(going.len(), 3, "the first full of all, and two more");
        let files = told(&plan, "files", false);
        assert!(files.len() >= 3, "{plan:#}");
        assert!(plan["freedBytes"].as_u64().unwrap() > 0 && plan["pruned"].is_null());

        let expected = rig.lab.plan(&request(Target::Gtid(rig.lab.gtids(&gtid)))).unwrap().expected_gtids;
        for step in STEPS {
            let there = rig.objects().len();
            let mut command = rig.command(&[]);
            command.env("FAILPOINTS", format!("{step}=pause"));
            let mut child = Process::spawn(command);
            child.wait_to_pause_at(step, || rig.objects().len() < there);
            child.kill9();
            // Whatever is left can be read, and leads where it led.
            let plan = rig.lab.plan(&request(Target::Gtid(rig.lab.gtids(&gtid)))).unwrap();
            assert_eq!(plan.expected_gtids, expected, "{flavor} after {step}");
        }
        let done = rig.prune(&[]);
        assert!(done["pruned"]["objects"].as_u64().unwrap() > 0, "{done:#}");
        assert_eq!(told(&done, "fulls", true), fulls[2..]);

        // What the killed ones left belongs to nothing, and goes when it is a day old.
        let left: BTreeSet<String> = rig.objects().difference(&rig.referred()).cloned().collect();
        assert!(!left.is_empty() && rig.referred().is_subset(&rig.objects()));
        let temps = rig.lab.root.join(".tmp");
        for name in ["old", "young"] {
            fs::write(temps.join(name), "of a writer that was killed").unwrap();
        }
        for path in left.iter().map(|key| rig.lab.root.join(key)).chain([temps.join("old")]) {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
        }
        let swept = rig.prune(&[]);
        assert_eq!((temps.join("old").exists(), temps.join("young").exists()), (false, true));
        assert_eq!(swept["pruned"]["objects"], left.len(), "{swept:#}");
        assert_eq!(rig.objects(), rig.referred());
        assert_eq!(rig.prune(&[])["pruned"]["objects"], 0);

        // The archive goes on growing behind it.
        rig.round();
        let (target, _) = rig.lab.restore(&request(Target::Latest));
        assert_eq!(checksums(&target), checksums(source), "{flavor}");
        let (target, _) = rig.lab.restore(&request(Target::Gtid(rig.lab.gtids(&gtid))));
        assert_eq!(checksums(&target), wanted, "{flavor}");
    }
}

#[test]
fn a_prune_leaves_what_a_restore_reads_until_that_ends_or_an_hour_after_it_was_killed() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let rig = Rig::new(flavor);
        let source = &rig.lab.source;
        source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        let old = rig.round();
        source.sql("INSERT INTO d.t (text) VALUES ('wanted')");
        let (wanted, gtid) = (checksums(source), last_gtid(source));
        rig.round();
        rig.round();
        rig.retain("retention: {window: 1s}");
        let going = || told(&rig.prune(&["--dry-run"]), "fulls", false).contains(&old);
        wait_for("the first fulls to be older than the window", Duration::from_secs(60), || {
            rig.lab.full();
            // MariaDB's times are whole seconds: of fulls within one, the oldest may be needed longest.
            let going = told(&rig.prune(&["--dry-run"]), "fulls", false);
            (going.contains(&old) && going.len() > 1).then_some(())
        });

        let target = ServerOptions::of(flavor).start();
        let restore = |failpoints: &str| {
            let (policy, into) = (rig.policy(), target.addr().to_string());
            let arguments = ["--to-gtid", &gtid, "--into", &into, "--into-tls", "Disabled"];
            let mut command = tidemark_command(["restore", "-f", policy.to_str().unwrap()].iter().chain(&arguments));
            command.env("FAILPOINTS", failpoints).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
            command
        };
        let mut turned_away = restore("");
        turned_away.env("TIDEMARK_TARGET_PASSWORD", "not that of the target");
        assert_eq!(turned_away.output().unwrap().status.code(), Some(UNREACHABLE));
        assert!(
            !rig.objects().iter().any(|key| key.starts_with(keys::LEASES)),
            "a restore that never began holds nothing"
        );

        let mut child = Process::spawn(restore("restore::base::loaded=pause"));
        let lease = wait_for("the lease of what is restored", Duration::from_secs(60), || {
            assert!(child.try_wait().is_none(), "{}", child.output());
            let lease = rig.objects().into_iter().find(|key| key.starts_with(keys::LEASES))?;
            let full: Value = serde_json::from_slice(&fs::read(rig.lab.root.join(&lease)).unwrap()).unwrap();
            (full["full"] == old).then_some(lease)
        });
        let plan = rig.prune(&[]);
        let full = plan["fulls"].as_array().unwrap().iter().find(|full| full["id"] == old).unwrap();
        assert_eq!((&full["keep"], &full["reasons"][0]), (&true.into(), &"a restore under way reads it".into()));
        assert!(plan["pruned"]["fulls"].as_u64().unwrap() > 0, "the others went: {plan:#}");
        assert!(rig.refused(&["--full", &old], REFUSED).contains("a restore under way reads it"));

        // Killed, it may go on: what it reads is still there.
        child.kill9();
        let done = restore("").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(checksums(&target), wanted, "{flavor}");

        // The lease of the one that was killed holds for an hour, that of the other one is gone.
        assert!(!going());
        assert_eq!(rig.objects().iter().filter(|key| key.starts_with(keys::LEASES)).collect::<Vec<_>>(), [&lease]);
        let file = fs::File::options().write(true).open(rig.lab.root.join(&lease)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3700)).unwrap();
        assert!(told(&rig.prune(&[]), "fulls", false).contains(&old));
        assert_eq!(rig.objects(), rig.referred(), "the old lease went, too");
    }
}

#[test]
fn of_a_prune_and_a_restore_that_meet_the_prune_gives_way() {
    let rig = Rig::new(Flavor::Mysql);
    rig.lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
    (0..3).for_each(|_| _ = rig.round());
    let (store, before) = (&rig.lab.store, rig.objects());
    let rules = Rules { window: None, last: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0, zone: TimeZone::UTC };
    let catalog = rig.lab.runtime.block_on(Catalog::load(store)).unwrap();
    let plan = plan(&catalog, &[], &BTreeSet::new(), &rules, Timestamp::now()).unwrap();
    let prune = || {
        let (leases, progress, cancel) = (Leases::default(), Progress::default(), CancellationToken::new());
        rig.lab.runtime.block_on(execute(store, &plan, &leases, &progress, &cancel))
    };
    // A restore begins to plan right when the first manifest is gone.
    let (inside, runtime) = (store.clone(), tokio::runtime::Runtime::new().unwrap());
    let handle = runtime.handle().clone();
    let hold = Arc::new(Mutex::new(None));
    let begun = hold.clone();
    let begin = move || {
        let (store, begun) = (inside.clone(), begun.clone());
        let begin = async move { *begun.lock().unwrap() = Some(Hold::begin(&store, "trace").await.unwrap()) };
        let task = handle.spawn(begin);
        while !task.is_finished() {
            std::thread::yield_now();
        }
    };
    fail::cfg_callback("retention::execute::taken_away", begin).unwrap();
    let met = prune().unwrap_err();
    fail::remove("retention::execute::taken_away");
    assert!(matches!(met, RetentionError::Restoring { .. }), "{met}");
    let without_leases =
        || rig.objects().into_iter().filter(|key| !key.starts_with(keys::LEASES)).collect::<BTreeSet<_>>();
    assert_eq!(without_leases(), before, "what was taken away is back, and nothing else went");
    // Whoever is still planning is waited for, by a new prune as well.
    rig.retain("retention: {keepLast: 1}");
    assert!(rig.refused(&[], FAILED).contains("a restore is being planned"));
    let held = hold.lock().unwrap().take().unwrap();
    runtime.block_on(held.end()).unwrap();
    assert_eq!(rig.objects(), before);
    assert_eq!(prune().unwrap().fulls, 3);
}

/// The newest transaction, as `--to-gtid` takes it.
fn last_gtid(source: &Server) -> String {
    let at = source.gtids();
    match source.flavor() {
        Flavor::Mysql => format!("{}:{}", at.split(':').next().unwrap(), at.rsplit(['-', ':']).next().unwrap()),
        Flavor::Mariadb => at,
    }
}

#[test]
fn one_full_is_deleted_by_name_unless_others_need_it_and_a_damaged_archive_is_left_alone() {
    let rig = Rig::new(Flavor::Mysql);
    rig.lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
    let (first, last) = (rig.round(), rig.round());
    assert!(rig.refused(&["--full", &last], REFUSED).contains("it is the last good full"));
    rig.retain("retention: {window: 30d}");
    let base = told(&rig.prune(&["--dry-run"]), "fulls", true)[0].clone();
    let needed = rig.refused(&["--full", &base], REFUSED);
    assert!(needed.contains(&base) && needed.contains("moments of the retention window"), "{needed}");
    let before = rig.objects();
    assert_eq!(told(&rig.prune(&["--full", &first, "--dry-run"]), "fulls", false), [first.as_str()]);
    assert_eq!(rig.objects(), before);
    let done = rig.prune(&["--full", &first]);
    assert_eq!((&done["pruned"]["fulls"], &done["pruned"]["files"]), (&1.into(), &0.into()));
    assert_eq!(rig.objects(), rig.referred());
    assert_eq!(rig.prune(&["--full", &first])["pruned"]["objects"], 0, "it is gone already");

    let outcome = rig.dir.path().join("outcome");
    rig.prune(&["--outcome", outcome.to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&fs::read(&outcome).unwrap()).unwrap();
    assert_eq!((&told["prune"]["fulls"], &told["prune"]["keptFulls"]), (&0.into(), &2.into()));

    fs::write(rig.lab.root.join(keys::manifest(&base)), "{\"format\":1}").unwrap();
    let damaged = rig.refused(&[], DAMAGED);
    assert!(damaged.contains(&base) && damaged.contains("nothing is deleted"), "{damaged}");
    rig.retain("retention: {keepLast: 0}");
    assert!(rig.refused(&["--dry-run"], 2).contains("spec.retention.keepLast"));
}
