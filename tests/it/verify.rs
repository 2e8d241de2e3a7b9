//! A real archive, verified: each kind of damage is found and named with what it takes from restores, and nothing else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark::archive::keys;
use tidemark::archive::store::{S3Config, Store, StoreConfig};
use tidemark::binlog::StreamConfig;
use tidemark::model::Flavor;

use crate::lab::Lab;
use crate::restore::load;
use crate::store::s3_config;
use crate::support::{Process, ROOT_PASSWORD, S3Server, ServerOptions, Signal, tidemark_command, wait_for};

const DAMAGED: i32 = 4;
const LONG: Duration = Duration::from_secs(120);

/// A lab whose archive is in a folder or in a bucket (whose objects are files, too), and policies over copies of it.
struct Rig {
    lab: Lab,
    s3: Option<S3Server>,
    dir: tempfile::TempDir,
}

/// One copy of the archive.
struct Copy {
    root: PathBuf,
    policy: PathBuf,
}

impl Rig {
    fn new(flavor: Flavor, s3: bool) -> Rig {
        let mut lab = Lab::without_full(ServerOptions::of(flavor));
        let s3 = s3.then(S3Server::start);
        if let Some(s3) = &s3 {
            lab.store = Store::open(&StoreConfig::S3(S3Config { prefix: "lab".into(), ..s3_config(s3) })).unwrap();
        }
        Rig { lab, s3, dir: tempfile::tempdir().unwrap() }
    }

    fn root(&self, name: &str) -> PathBuf {
        match &self.s3 {
            Some(s3) => s3.objects().join(name),
            None if name == "lab" => self.lab.root.clone(),
            None => self.dir.path().join(name),
        }
    }

    /// A policy over the archive called `name`.
    fn policy(&self, name: &str, more: &str) -> Copy {
        let (root, policy) = (self.root(name), self.dir.path().join(format!("{name}.yaml")));
        let (storage, secret) = match &self.s3 {
            None => (format!("{{fs: {{path: {}}}}}", root.display()), String::new()),
            Some(s3) => {
                let (endpoint, bucket, region) = (s3.endpoint(), s3.bucket(), s3.region());
                let (key, secret) = (s3.access_key(), s3.secret_key());
                (
                    format!(
                        "{{s3: {{endpoint: '{endpoint}', bucket: {bucket}, region: {region}, prefix: {name}, credentialsSecretRef: {{name: b}}}}}}"
                    ),
                    format!(
                        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: b}}, stringData: {{AWS_ACCESS_KEY_ID: {key}, AWS_SECRET_ACCESS_KEY: {secret}}}}}\n"
                    ),
                )
            }
        };
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{host: 127.0.0.1, port: {}, \
             credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  storage: {storage}\n  {more}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n{secret}",
            self.lab.source.port(),
        );
        fs::write(&policy, text).unwrap();
        Copy { root, policy }
    }

    /// A copy of the archive, file by file, with what an S3 server keeps beside them.
    fn copy(&self, name: &str) -> Copy {
        let (from, to) = (self.root("lab"), self.root(name));
        assert!(Command::new("cp").arg("-a").args([&from, &to]).status().unwrap().success());
        self.policy(name, "")
    }
}

impl Copy {
    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let fixed = [verb, "-f", self.policy.to_str().unwrap(), "-o", "json"];
        tidemark_command(fixed.iter().chain(args))
    }

    /// The report, and the exit code that it must have.
    fn verify(&self, args: &[&str], code: i32) -> Value {
        let Output { status, stdout, stderr } = self.command("verify", args).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!(status.code(), Some(code), "{args:?}: {stdout}\n{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Keys of objects that begin and end so, by name.
    fn keys(&self, prefix: &str, suffix: &str) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                match entry.unwrap().path() {
                    path if path.is_dir() => walk(root, &path, found),
                    path => found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root, &self.root, &mut found);
        found.retain(|key| key.starts_with(prefix) && key.ends_with(suffix));
        found.sort();
        found
    }

    /// Folders of binlog files, in the order of their names, and whether they are closed.
    fn files(&self) -> Vec<(String, bool)> {
        let mut dirs: Vec<String> =
            self.keys("binlog/", "").iter().map(|key| format!("{}/", key.rsplit_once('/').unwrap().0)).collect();
        dirs.dedup();
        dirs.into_iter().map(|dir| (dir.clone(), self.path(&dir).join("index.json").exists())).collect()
    }

    fn flip(&self, key: &str) {
        let mut bytes = fs::read(self.path(key)).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0x40;
        fs::write(self.path(key), bytes).unwrap();
    }

    fn truncate(&self, key: &str) {
        let file = fs::File::options().write(true).open(self.path(key)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 7).unwrap();
    }

    fn lose(&self, key: &str) {
        match self.path(key) {
            path if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            path => fs::remove_file(path).unwrap(),
        }
    }

    /// What `to` holds is now what `from` does.
    fn overwrite(&self, from: &str, to: &str) {
        fs::write(self.path(to), fs::read(self.path(from)).unwrap()).unwrap();
    }

    fn swap(&self, a: &str, b: &str) {
        let (of_a, of_b) = (fs::read(self.path(a)).unwrap(), fs::read(self.path(b)).unwrap());
        fs::write(self.path(a), of_b).unwrap();
        fs::write(self.path(b), of_a).unwrap();
    }

    fn copy_to(&self, from: &str, to: &str) {
        let to = self.path(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").args([&self.path(from), &to]).status().unwrap().success());
    }
}

/// Kinds and keys of a report's findings, by key.
fn found(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let mut found: Vec<_> = findings.map(|finding| (text(&finding["key"]), text(&finding["kind"]))).collect();
    found.sort();
    found
}

/// What may happen to an archive.
struct Case {
    name: &'static str,
    happens: Box<dyn Fn(&Copy) + Send + Sync>,
    /// Whether only reading finds it.
    deep: bool,
    /// Keys and kinds of all findings.
    found: Vec<(String, &'static str)>,
    /// The fulls that are told as affected.
    fulls: Vec<String>,
    /// Whether moments are lost, too.
    moments: bool,
}

#[test]
fn each_kind_of_damage_is_found_and_named_with_what_it_takes_from_restores() {
    for (flavor, s3) in [(Flavor::Mysql, false), (Flavor::Mariadb, true)] {
        let rig = Rig::new(flavor, s3);
        let lab = &rig.lab;
        load(lab, 9);
        let one = lab.full();
        let second = || {
            let now = || lab.source.sql("SELECT FLOOR(UNIX_TIMESTAMP(NOW(6)))").parse::<u64>().unwrap();
            let began = now();
            // MariaDB's commit times are whole seconds.
            wait_for("the next second", LONG, || (now() > began).then_some(()));
        };
        let rounds = |count: usize| {
            for _ in 0..count {
                second();
                load(lab, 4);
                lab.source.sql("FLUSH BINARY LOGS");
                lab.archive();
            }
        };
        rounds(3);
        second();
        let two = lab.full();
        rounds(2);
        // Three segments of the open file.
        for _ in 0..3 {
            second();
            load(lab, 4);
            lab.archive();
        }

        let whole = rig.policy("lab", "");
        let quick = whole.verify(&[], 0);
        assert_eq!((found(&quick), &quick["readObjects"]), (vec![], &0.into()), "{flavor}");
        let deep = whole.verify(&["--deep"], 0);
        assert_eq!(found(&deep), [], "{flavor}");
        let described = whole.keys("", "index.json").len() + whole.keys("", "manifest.json").len() + 1;
        let all = whole.keys("binlog/", "").len() + whole.keys("full/", "").len() + 1;
        assert_eq!(
            deep["readObjects"].as_u64().unwrap() as usize,
            all - described,
            "{flavor}: every object is read once"
        );

        let closed: Vec<String> = whole.files().into_iter().filter(|(_, closed)| *closed).map(|(dir, _)| dir).collect();
        let open = whole.files().into_iter().find(|(_, closed)| !closed).unwrap().0;
        assert!(closed.len() >= 5, "{closed:?}");
        let (middle, last) = (&closed[closed.len() - 4], closed.last().unwrap());
        let segment = |dir: &str| whole.keys(dir, ".zst")[0].clone();
        let tail = whole.keys(&open, ".zst");
        assert!(tail.len() >= 3, "{tail:?}");
        let rows_of = |full: &str| whole.keys(&format!("{}rows/d/", keys::full_dir(full)), ".zst");
        let (rows, others) = (rows_of(&one), rows_of(&two));
        let case =
            |name, found: &[(&str, &'static str)], fulls: &[&String], happens: Box<dyn Fn(&Copy) + Send + Sync>| Case {
                name,
                happens,
                deep: false,
                found: found.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect(),
                fulls: fulls.iter().map(|full| (*full).clone()).collect(),
                moments: true,
            };
        let on = |key: &str, act: fn(&Copy, &str)| -> Box<dyn Fn(&Copy) + Send + Sync> {
            let key = key.to_owned();
            Box::new(move |copy| act(copy, &key))
        };
        let between = |a: &str, b: &str, act: fn(&Copy, &str, &str)| -> Box<dyn Fn(&Copy) + Send + Sync> {
            let (a, b) = (a.to_owned(), b.to_owned());
            Box::new(move |copy| act(copy, &a, &b))
        };
        let (in_middle, in_last) = (segment(middle), segment(last));
        let (manifest, index) = (keys::manifest(&one), format!("{middle}index.json"));
        let hole = tail[1].clone();
        let stray = |dir: &str| format!("{dir}stray");
        let next_of_last = whole.files().iter().map(|(dir, _)| dir.clone()).find(|dir| dir > last).unwrap();
        let copied = format!("{}-copy", one);
        let mut cases = vec![
            case("a lost segment", &[(&in_middle, "Lost")], &[&one], on(&in_middle, Copy::lose)),
            case("a lost segment behind both fulls", &[(&in_last, "Lost")], &[&one, &two], on(&in_last, Copy::lose)),
            case("lost rows", &[(&rows[0], "Lost")], &[&one], on(&rows[0], Copy::lose)),
            case("a truncated segment", &[(&in_middle, "Truncated")], &[&one], on(&in_middle, Copy::truncate)),
            case("truncated rows", &[(&rows[0], "Truncated")], &[&one], on(&rows[0], Copy::truncate)),
            case("a lost manifest", &[(&manifest, "Lost")], &[&one], on(&manifest, Copy::lose)),
            case(
                "a changed manifest",
                &[(&manifest, "Changed")],
                &[&one],
                Box::new({
                    let manifest = manifest.clone();
                    move |copy| {
                        let text = fs::read_to_string(copy.path(&manifest)).unwrap();
                        fs::write(copy.path(&manifest), text.replacen("\"format\":1", "\"format\":0", 1)).unwrap();
                    }
                }),
            ),
            case(
                "an archive without its identity",
                &[(keys::ARCHIVE, "Lost")],
                &[&one, &two],
                on(keys::ARCHIVE, Copy::lose),
            ),
            case("a lost binlog file", &[(&next_of_last, "MissingGtids")], &[&one, &two], on(last, Copy::lose)),
            case("a hole in the open file", &[(&hole, "Lost")], &[&one, &two], on(&hole, Copy::lose)),
            case(
                "the last segment of the open file",
                &[(tail.last().unwrap(), "Lost")],
                &[&one, &two],
                on(tail.last().unwrap(), Copy::lose),
            ),
        ];
        let without_moments = |case: Case| Case { moments: false, ..case };
        cases.extend(
            [
                case(
                    "lost rows of a full that an older one stands behind",
                    &[(&others[0], "Lost")],
                    &[&two],
                    on(&others[0], Copy::lose),
                ),
                case("a lost index", &[(&index, "Lost")], &[], on(&index, Copy::lose)),
                case("a stranger at the top", &[("stray", "Foreign")], &[], between(&rows[0], "stray", Copy::copy_to)),
                case(
                    "a stranger in a log",
                    &[(&stray(middle), "Foreign")],
                    &[],
                    between(&rows[0], &stray(middle), Copy::copy_to),
                ),
                case(
                    "a stranger in a full",
                    &[(&stray(&keys::full_dir(&one)), "Foreign")],
                    &[],
                    between(&rows[0], &stray(&keys::full_dir(&one)), Copy::copy_to),
                ),
                case(
                    "a copied full",
                    &[(&keys::manifest(&copied), "Duplicated")],
                    &[],
                    between(&keys::full_dir(&one), keys::full_dir(&copied).trim_end_matches('/'), Copy::copy_to),
                ),
                case(
                    "an index of another file",
                    &[(&index, "Duplicated")],
                    &[],
                    between(&format!("{last}index.json"), &index, Copy::overwrite),
                ),
            ]
            .map(without_moments),
        );
        let deep = |case: Case| Case { deep: true, ..case };
        cases.extend(
            [
                case("a flipped bit in a segment", &[(&in_middle, "Changed")], &[&one], on(&in_middle, Copy::flip)),
                case("a flipped bit in rows", &[(&rows[0], "Changed")], &[&one], on(&rows[0], Copy::flip)),
                case(
                    "a flipped bit in the open file",
                    &[(&tail[1], "Changed")],
                    &[&one, &two],
                    on(&tail[1], Copy::flip),
                ),
                case(
                    "swapped segments",
                    &[(&in_middle, "Swapped"), (&in_last, "Swapped")],
                    &[&one, &two],
                    between(&in_middle, &in_last, Copy::swap),
                ),
                case(
                    "swapped rows",
                    &[(&rows[0], "Swapped"), (&rows[1], "Swapped")],
                    &[&one],
                    between(&rows[0], &rows[1], Copy::swap),
                ),
                case(
                    "a copied segment",
                    &[(&in_last, "Duplicated")],
                    &[&one, &two],
                    between(&in_middle, &in_last, Copy::overwrite),
                ),
                case("copied rows", &[(&rows[1], "Duplicated")], &[&one], between(&rows[0], &rows[1], Copy::overwrite)),
            ]
            .map(deep),
        );

        thread::scope(|scope| {
            for (i, case) in cases.iter().enumerate() {
                let rig = &rig;
                scope.spawn(move || {
                    let Case { name, happens, deep, found: expected, fulls, moments } = case;
                    let copy = rig.copy(&format!("case-{i}"));
                    happens(&copy);
                    let args: &[&str] = if *deep { &["--deep"] } else { &[] };
                    let report = copy.verify(args, DAMAGED);
                    let mut expected: Vec<_> =
                        expected.iter().map(|(key, kind)| (key.clone(), (*kind).to_owned())).collect();
                    expected.sort();
                    assert_eq!(found(&report), expected, "{flavor}, {name}: {report:#}");
                    let mut told: Vec<_> = report["affected"]["fulls"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|full| full.as_str().unwrap())
                        .collect();
                    told.sort();
                    assert_eq!(told, *fulls, "{flavor}, {name}: {report:#}");
                    let lost = report["affected"]["moments"].as_array().unwrap();
                    assert_eq!(!lost.is_empty(), *moments, "{flavor}, {name}: {report:#}");
                });
            }
        });
    }
}

#[test]
fn what_is_written_pruned_and_streamed_twice_is_no_finding_before_during_or_after() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let rig = Rig::new(flavor, false);
        let lab = &rig.lab;
        load(lab, 6);
        lab.full();
        // Two streamers that cut differently.
        let cut = |segment_bytes: u64, ms: u64| StreamConfig {
            segment_bytes,
            flush_interval: Duration::from_millis(ms),
            ..StreamConfig::default()
        };
        let streams = [lab.stream(cut(128 << 10, 50)), lab.stream(cut(64 << 10, 80))];
        load(lab, 30);
        lab.full();
        load(lab, 30);
        streams.iter().for_each(|stream| lab.durable(stream));
        streams.into_iter().for_each(|stream| lab.stop(stream));
        let all = rig.policy("lab", "");
        for args in [&[][..], &["--deep"]] {
            assert_eq!(found(&all.verify(args, 0)), [], "{flavor} {args:?}");
        }

        // A prune, a full and a stream beside a slow deep verify.
        lab.full();
        let pruned = rig.policy("lab", "retention: {window: 1ms, keepLast: 1}");
        let mut command = pruned.command("verify", &["--deep"]);
        command.env("FAILPOINTS", "verify::deep::after_object=sleep(150)");
        let mut child = Process::spawn(command);
        child.wait_for_line("reading every object", LONG);
        child.signal(Signal::Stop);
        let before = all.keys("full/", "").len();
        let output = pruned.command("prune", &[]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(all.keys("full/", "").len() < before, "nothing was pruned: {told}");
        assert!(child.try_wait().is_none(), "it was pruned beside a verify\n{}", child.output());
        child.signal(Signal::Continue);
        load(lab, 30);
        lab.archive();
        lab.full();
        assert!(child.wait(LONG).success(), "{flavor}: {}", child.output());
        for args in [&[][..], &["--deep"]] {
            assert_eq!(found(&pruned.verify(args, 0)), [], "{flavor} {args:?}");
        }
    }
}

#[test]
fn a_deep_verify_that_is_killed_goes_on_where_it_was_and_keeps_to_its_rate() {
    const RATE: u64 = 20_000;
    let rig = Rig::new(Flavor::Mysql, true);
    let lab = &rig.lab;
    load(lab, 6);
    lab.full();
    load(lab, 60);
    lab.archive();
    lab.full();
    // What does not compress: the log is as long as it takes.
    let random = "INSERT INTO d.t (a) VALUES (CONCAT(HEX(RANDOM_BYTES(90))));";
    for _ in 0..16 {
        lab.source.sql(&random.repeat(200));
        lab.source.sql("FLUSH BINARY LOGS");
    }
    lab.archive();
    let archive = rig.policy("lab", "");
    let all = archive.verify(&["--deep"], 0);
    let figure = |report: &Value, name: &str| report[name].as_u64().unwrap();
    let (objects, bytes) = (figure(&all, "readObjects"), figure(&all, "readBytes"));
    assert!(bytes > 20 * RATE, "{all:#}");
    let state = || -> Option<Value> {
        let text = fs::read(archive.path(keys::VERIFY_STATE)).ok()?;
        Some(serde_json::from_slice::<Value>(&text).ok()?["deep"].clone()).filter(|deep| !deep.is_null())
    };
    assert_eq!(state(), None, "it came to its end");

    let began = Instant::now();
    let limit = RATE.to_string();
    let mut child = Process::spawn(archive.command("verify", &["--deep", "--limit-bytes-per-second", &limit]));
    let kept = wait_for("the verify to keep how far it is", LONG, || {
        assert!(child.try_wait().is_none(), "{}", child.output());
        state()
    });
    child.kill9();
    let rate = figure(&kept, "bytes") as f64 / began.elapsed().as_secs_f64();
    assert!(rate < 1.2 * RATE as f64, "{rate} bytes/s, {RATE} were allowed");
    let first = figure(&kept, "objects");
    assert!(first > 0 && first < objects, "{kept}");

    // Stopped gently it keeps what it has read at once.
    let mut child = Process::spawn(archive.command("verify", &["--deep", "--limit-bytes-per-second", &limit]));
    let line = child.wait_for_line("reading every object", LONG);
    assert!(line.contains(&format!("before={first}")) || line.contains(&format!("\"before\":{first}")), "{line}");
    wait_for("the verify to get further", LONG, || {
        assert!(child.try_wait().is_none(), "{}", child.output());
        state().filter(|deep| figure(deep, "objects") > first)
    });
    child.signal(Signal::Terminate);
    assert_eq!(child.wait(LONG).code(), Some(1), "{}", child.output());
    let second = figure(&state().unwrap(), "objects");
    assert!(second > first && second < objects, "{first} {second} {objects}");

    let rest = archive.verify(&["--deep"], 0);
    assert_eq!(figure(&rest, "resumedObjects"), second);
    assert_eq!(figure(&rest, "readObjects"), objects - second, "nothing is read again");
    assert!(figure(&rest, "readBytes") < bytes);
    assert_eq!(state(), None);
}
