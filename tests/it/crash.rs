//! The crash oracle: a source under load, a streamer killed again and again, servers that die and rotate, and restores
//! that must equal what the stock tools make of the source's own history. In some of them the stores fail, too, all the while, retention takes
//! away the archive's beginning, what stays is packed, and a copy is filled.
//!
//! `make test` runs a short one, `make soak` the long one (`TIDEMARK_SOAK_CYCLES`, `TIDEMARK_SOAK_SEED`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tidemark::model::Flavor;

use crate::support::history::{History, Oracle, fingerprint};
use crate::support::load::Load;
use crate::support::{Faults, Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, tidemark_command, wait_for};

/// Exit code of a verb whose store or server cannot be reached.
const UNREACHABLE: i32 = 5;

const PATIENCE: Duration = Duration::from_secs(300);

/// Where the streamer is stopped dead, to be killed there: around every step of an upload.
const FAILPOINTS: &[&str] = &[
    "archive::store::put",
    "archive::store::after_put",
    "archive::store::fs::before_publish",
    "archive::store::fs::before_dir_sync",
    "archive::store::list",
    "archive::index::before_put",
    "binlog::upload::before_put",
    "binlog::upload::after_put",
    "binlog::upload::before_checkpoint",
    "binlog::upload::long",
    "binlog::upload::before_index",
    "binlog::upload::after_index",
    "binlog::session::reconnect",
];

#[test]
fn mysql_loses_and_doubles_nothing_through_crashes_on_a_folder() {
    Rig::new(Flavor::Mysql, Place::folder()).run(cycles(6), 4);
}

#[test]
fn mariadb_loses_and_doubles_nothing_through_crashes_on_s3() {
    Rig::new(Flavor::Mariadb, Place::s3()).run(cycles(6), 4);
}

#[test]
fn mysql_loses_and_doubles_nothing_through_crashes_prunes_compaction_and_copies_between_stores_that_fail() {
    Rig::new(Flavor::Mysql, Place::faulty()).run(cycles(8), 4);
}

#[test]
fn mariadb_loses_and_doubles_nothing_through_crashes_prunes_compaction_and_copies_between_stores_that_fail() {
    Rig::new(Flavor::Mariadb, Place::faulty()).run(cycles(8), 4);
}

fn cycles(short: u32) -> u32 {
    std::env::var("TIDEMARK_SOAK_CYCLES").map_or(short, |n| n.parse().expect("TIDEMARK_SOAK_CYCLES is a number"))
}

/// The store, and the folder in which its objects can be read as files.
enum Place {
    Folder(tempfile::TempDir),
    S3(Box<S3Server>),
    /// And its copy.
    Faulty(Faulty, Faulty),
}

/// A bucket, and what stands before it.
struct Faulty {
    s3: Box<S3Server>,
    faults: Faults,
}

impl Faulty {
    fn start() -> Faulty {
        let s3 = Box::new(S3Server::start());
        let faults = Faults::before(s3.endpoint(), 0.08, rand::random());
        Faulty { s3, faults }
    }
}

impl Place {
    fn folder() -> Place {
        Place::Folder(tempfile::tempdir().unwrap())
    }

    fn s3() -> Place {
        Place::S3(Box::new(S3Server::start()))
    }

    fn faulty() -> Place {
        Place::Faulty(Faulty::start(), Faulty::start())
    }

    fn manifest(&self) -> String {
        let s3 = |s3: &S3Server, endpoint: &str| {
            format!(
                "{{s3: {{bucket: {}, region: {}, endpoint: '{endpoint}', credentialsSecretRef: {{name: store}}}}}}",
                s3.bucket(),
                s3.region()
            )
        };
        match self {
            Place::Folder(dir) => format!("{{fs: {{path: {}}}}}", dir.path().display()),
            Place::S3(server) => s3(server, server.endpoint()),
            Place::Faulty(first, second) => format!(
                "{}\n  retention: {{window: 10s}}\n  copies: [{{name: second, storage: {}, retention: {{window: 20s}}}}]",
                s3(&first.s3, &first.faults.endpoint()),
                s3(&second.s3, &second.faults.endpoint()),
            ),
        }
    }

    fn is_faulty(&self) -> bool {
        matches!(self, Place::Faulty(..))
    }

    fn secrets(&self) -> String {
        match self {
            Place::Folder(_) => String::new(),
            Place::S3(s3) | Place::Faulty(Faulty { s3, .. }, _) => format!(
                "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: store}}, stringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{}'}}}}\n",
                s3.access_key(),
                s3.secret_key()
            ),
        }
    }

    fn objects(&self) -> PathBuf {
        match self {
            Place::Folder(dir) => dir.path().to_owned(),
            Place::S3(s3) | Place::Faulty(Faulty { s3, .. }, _) => s3.objects(),
        }
    }
}

struct Rig {
    source: Server,
    place: Place,
    dir: tempfile::TempDir,
    random: StdRng,
    seed: u64,
}

impl Rig {
    fn new(flavor: Flavor, place: Place) -> Rig {
        let seed = std::env::var("TIDEMARK_SOAK_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        let keep = match flavor {
            Flavor::Mysql => "--binlog-expire-logs-seconds=0",
            Flavor::Mariadb => "--expire-logs-days=0",
        };
        let source = ServerOptions::of(flavor).arg(keep).arg("--max-binlog-size=4M").start();
        let rig = Rig { source, place, dir: tempfile::tempdir().unwrap(), random: StdRng::seed_from_u64(seed), seed };
        let policy = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: soak}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
             binlog: {{flushInterval: 200ms, segmentSize: 1Mi}}\n  storage: {}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n{}",
            rig.source.port(),
            rig.place.manifest(),
            rig.place.secrets()
        );
        fs::write(rig.policy(), policy).unwrap();
        rig
    }

    fn run(mut self, cycles: u32, restores: u32) {
        eprintln!("{} seed {} ({cycles} cycles)", self.source.flavor(), self.seed);
        // With faults a cycle takes longer, and what is written meanwhile has to be replayed by the stock tools: a few ms a transaction.
        let workers = if self.place.is_faulty() { 1 } else { 3 };
        let load = Load::start(&self.source, workers, self.seed);
        assert!((0..10).any(|_| self.backup()), "no full could be taken (seed {})", self.seed);
        let mut done = BTreeMap::<String, u32>::new();
        for cycle in 0..cycles {
            let failpoint = *FAILPOINTS.choose(&mut self.random).unwrap();
            let armed = self.random.random_bool(0.6);
            let mut streamer = self.stream(armed.then_some(failpoint));
            let mut second = None;
            let lifetime = Duration::from_millis(self.random.random_range(100..1500));
            let event = self.random.random_range(0..100);
            std::thread::sleep(lifetime / 2);
            let what: String = match event {
                0..30 => {
                    self.source.sql("FLUSH BINARY LOGS");
                    "rotations".into()
                }
                30..42 => {
                    self.source.kill9();
                    self.source.restart();
                    "server crashes".into()
                }
                42..50 => {
                    self.source.restart();
                    "server restarts".into()
                }
                50..56 if cycle > 2 => match self.backup() {
                    true => "further fulls".into(),
                    false => "fulls refused because of DDL".into(),
                },
                56..66 if self.place.is_faulty() => self.tend("prune", &[], lifetime),
                66..70 if self.place.is_faulty() => self.tend("prune", &["--copy", "second"], lifetime),
                70..76 if self.place.is_faulty() => {
                    second = Some(self.stream(None));
                    "second streamers".into()
                }
                76..86 if self.place.is_faulty() => self.tend("copy", &[], lifetime),
                _ => "quiet cycles".into(),
            };
            *done.entry(what.clone()).or_default() += 1;
            std::thread::sleep(lifetime / 2);
            let end = if let Some(ended) = streamer.try_wait() {
                // `stream` does not begin without a server: what runs it begins it again.
                let down = what.starts_with("server") && ended.code() == Some(UNREACHABLE);
                assert!(down, "cycle {cycle}: the streamer gave up\n{}", streamer.output());
                "starts without a server"
            } else {
                streamer.kill9();
                if armed { "kills at failpoints" } else { "kills at random" }
            };
            *done.entry(end.to_owned()).or_default() += 1;
            if let Some(mut second) = second {
                second.kill9();
            }
        }
        eprintln!("{done:?}");
        let least = 20 * u64::from(cycles);
        wait_for("the load", PATIENCE, || (load.committed() > 2 * least).then_some(()));
        let acknowledged = load.stop();
        if let Place::Faulty(first, second) = &self.place {
            for Faulty { faults, .. } in [first, second] {
                println!("{}", faults.told());
                faults.calm();
            }
        }
        let streamer = self.catch_up();
        self.compare_bytes();
        if self.place.is_faulty() {
            self.compare_copy();
        }
        drop(streamer);
        let history = History::read(&self.source);
        assert!(history.transactions.len() as u64 > least, "the load stood still (seed {})", self.seed);
        let first = self.oldest_full();
        self.compare_times(&history, first);
        let mut targets = vec![Target::Latest];
        for n in 1..restores {
            let count = self.random.random_range(first..=history.transactions.len());
            targets.push(if n % 2 == 0 { Target::Time(count) } else { Target::Gtid(count) });
        }
        // In the order of the history, as its replay by the stock tools takes most of the time and only goes forward.
        targets.sort_by_key(|target| target.count(&history));
        let mut oracle = history.oracle();
        for target in &targets {
            self.restore(&history, &mut oracle, target, &[]);
        }
        if self.place.is_faulty() {
            self.restore(&history, &mut oracle, &Target::Latest, &["--copy", "second"]);
        }
        println!(
            "{}: {cycles} cycles {done:?}; {} transactions ({acknowledged} statements acknowledged), {} restores equal to the stock replay; 0 lost, 0 doubled",
            self.source.flavor(),
            history.transactions.len(),
            targets.len()
        );
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    fn tidemark(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(self.policy()).args(args).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    }

    fn must(&self, verb: &str, args: &[&str]) -> String {
        let output = self.tidemark(verb, args).output().unwrap();
        assert!(
            output.status.success(),
            "tidemark {verb} {args:?} (seed {}): {}\n{}{}",
            self.seed,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A full, unless the load's DDL kept changing the tables: the only reason for which it may be refused.
    fn backup(&self) -> bool {
        let output = self.tidemark("backup", &["-o", "json"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success()
                || error.contains("the source kept changing during the backup")
                || self.place.is_faulty() && output.status.code() == Some(UNREACHABLE),
            "tidemark backup (seed {}): {}\n{error}",
            self.seed,
            output.status
        );
        output.status.success()
    }

    /// Deletes what is older than the window and packs what stays, or fills the copy; or is killed on the way.
    fn tend(&mut self, verb: &str, args: &[&str], lifetime: Duration) -> String {
        let what = [&[verb], args].concat().join(" ");
        let mut work = Process::spawn(self.tidemark(verb, args));
        if self.random.random_bool(0.5) {
            std::thread::sleep(lifetime / 2);
            work.kill9();
            return format!("{what}: killed");
        }
        let status = work.wait(Duration::from_secs(600));
        // There is nothing to prune of a copy that nobody has begun.
        let not_begun = !args.is_empty() && work.output().contains("there is no archive");
        assert!(
            status.success() || status.code() == Some(UNREACHABLE) || not_begun,
            "tidemark {what} (seed {}): {status}\n{}",
            self.seed,
            work.output()
        );
        format!("{what}: {}", if status.success() { "done" } else { "failed by the store" })
    }

    /// The copy is brought up to the archive, and both are what was stored, byte for byte.
    fn compare_copy(&self) {
        self.must("prune", &[]);
        self.must("copy", &[]);
        self.must("prune", &["--copy", "second"]);
        for copy in [&["--deep"][..], &["--deep", "--copy", "second"]] {
            self.must("verify", copy);
        }
    }

    fn stream(&self, failpoint: Option<&str>) -> Process {
        let mut command = self.tidemark("stream", &[]);
        if let Some(failpoint) = failpoint {
            command.env("FAILPOINTS", format!("{failpoint}=10%pause"));
        }
        Process::spawn(command)
    }

    /// Streams until the archive holds everything the source has.
    fn catch_up(&self) -> Process {
        let mut streamer = self.stream(None);
        wait_for("the archive to hold everything", PATIENCE, || {
            assert!(streamer.try_wait().is_none(), "the streamer gave up\n{}", streamer.output());
            std::thread::sleep(Duration::from_millis(200));
            let status: serde_json::Value = serde_json::from_str(&self.must("status", &["-o", "json"])).unwrap();
            (status["policies"][0]["source"]["notArchived"] == "").then_some(())
        });
        streamer
    }

    /// Every archived file, through stock `zstd -d`, is byte for byte the server's own: none lost, none doubled.
    fn compare_bytes(&self) {
        let archived = || {
            let mut archived = BTreeMap::new();
            for folder in subfolders(&self.place.objects().join("binlog")).iter().flat_map(|server| subfolders(server))
            {
                let name = folder.file_name().unwrap().to_str().unwrap().split('@').next().unwrap().to_owned();
                assert!(archived.insert(name.clone(), folder).is_none(), "{name} is archived as two files");
            }
            archived
        };
        let (files, known) = (self.source.binlogs(), archived());
        let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
        let first = files.iter().position(|file| known.contains_key(&name(file))).unwrap();
        for file in &files[first..] {
            // MariaDB's background thread may add a checkpoint event to the newest file at any time; that file may hold no transaction yet; and a
            // part of a segment, which the store kept of an upload that a kill cut off, stays until the stream has mended it.
            let what = format!("all of {} to be archived (seed {})", file.display(), self.seed);
            let (mut own, stored) = wait_for(&what, PATIENCE, || {
                let folder = known.get(&name(file)).cloned().or_else(|| archived().remove(&name(file)))?;
                let stored = decompress(&folder)?;
                let own = fs::read(file).unwrap();
                (own.len() <= stored.len()).then_some((own, stored))
            });
            mend_in_use_flag(&mut own);
            let at = own.iter().zip(&stored).position(|(a, b)| a != b);
            assert!(
                at.is_none() && own.len() == stored.len(),
                "{} (seed {}): {} bytes on the server, {} archived, first difference at {at:?}",
                file.display(),
                self.seed,
                own.len(),
                stored.len()
            );
        }
    }

    /// How many transactions of the history the oldest full holds.
    fn oldest_full(&self) -> usize {
        let mut fulls: Vec<String> = subfolders(&self.place.objects().join("full"))
            .iter()
            .filter_map(|full| fs::read(full.join("manifest.json")).ok()) // a full without one does not exist
            .map(|manifest| {
                let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
                manifest["gtids"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
            })
            .collect();
        fulls.sort_by_key(|set| number(set));
        number(&fulls[0]) as usize
    }

    /// What a restore to each second would hold is what the stock tools' reading of the log says; of many, some.
    fn compare_times(&mut self, history: &History, first: usize) {
        // The stamps of what commits while a full is taken may be on either side of the moment that it shows.
        let of_full = (first + 20).min(history.transactions.len());
        let mut times: Vec<i64> = history.transactions[of_full..].iter().map(|t| t.commit_us / 1_000_000).collect();
        times.sort_unstable();
        times.dedup();
        times.pop(); // what comes later may still be in that second
        times.shuffle(&mut self.random);
        times.truncate(30);
        for time in times.iter().map(|second| second * 1_000_000 + 999_999) {
            let count = history.count_at(time);
            if count <= of_full {
                continue;
            }
            let at = jiff::Timestamp::from_microsecond(time).unwrap().to_string();
            let plan = self.must("restore", &["--dry-run", "-o", "json", "--to-time", &at]);
            let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
            let around = count.saturating_sub(3)..(count + 3).min(history.transactions.len());
            assert_eq!(
                plan["plan"]["expectedGtids"][self.source.flavor().to_string().to_lowercase()],
                history.gtid_set(count),
                "{at} (seed {}): the history there: {:#?}; the plan: {plan:#}; the archive: {}",
                self.seed,
                &history.transactions[around],
                self.must("status", &["-o", "json"])
            );
        }
        eprintln!("  {} moments would be restored as the stock tools' reading says", times.len());
    }

    fn restore(&self, history: &History, oracle: &mut Oracle<'_>, target: &Target, from: &[&str]) {
        let started = Instant::now();
        let count = target.count(history);
        let args = match *target {
            Target::Latest => vec!["--latest".to_owned()],
            Target::Gtid(count) => vec!["--to-gtid".to_owned(), history.gtid_set(count)],
            Target::Time(count) => {
                let us = history.transactions[count - 1].commit_us;
                vec!["--to-time".to_owned(), jiff::Timestamp::from_microsecond(us).unwrap().to_string()]
            }
        };
        let target_server = ServerOptions::of(self.source.flavor()).start();
        let into = target_server.addr().to_string();
        let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
        all.extend(["--into", &into, "--into-tls", "Disabled"]);
        all.extend(from);
        self.must("restore", &all);
        let took = started.elapsed().as_secs_f64();
        let restored = current_gtids(&target_server);
        assert_eq!(restored, history.gtid_set(count), "{args:?} (seed {})", self.seed);
        let oracle = oracle.at(count);
        assert_eq!(fingerprint(&target_server), fingerprint(oracle), "{args:?} (seed {})", self.seed);
        eprintln!(
            "  restored {args:?} = {count} transactions, equal; {took:.1} s, and with the stock replay {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
}

enum Target {
    Latest,
    Gtid(usize),
    Time(usize),
}

impl Target {
    /// How many transactions it holds.
    fn count(&self, history: &History) -> usize {
        match *self {
            Target::Latest => history.transactions.len(),
            Target::Gtid(count) => count,
            Target::Time(count) => history.count_at(history.transactions[count - 1].commit_us),
        }
    }
}

fn current_gtids(server: &Server) -> String {
    match server.flavor() {
        Flavor::Mysql => server.gtids(),
        Flavor::Mariadb => server.sql("SELECT @@GLOBAL.gtid_current_pos"),
    }
}

/// The last number of `uuid:1-5` or `0-1-5`.
fn number(set: &str) -> u64 {
    set.rsplit([':', '-']).next().unwrap().parse().unwrap()
}

fn subfolders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// A file's segments, or packs of them, through stock zstd: those that form a chain from 0 as far as it goes. (A killed streamer may leave a
/// segment that overlaps what its successor cut: same bytes, other borders.)
fn decompress(folder: &Path) -> Option<Vec<u8>> {
    let mut segments: Vec<(u64, u64, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .map(|path| {
            let (start, end) =
                path.file_stem().unwrap().to_str().unwrap().split('.').next().unwrap().split_once('-').unwrap();
            (start.parse().unwrap(), end.parse().unwrap(), path)
        })
        .collect();
    segments.sort();
    let mut reached = BTreeMap::from([(0_u64, None)]);
    for (start, end, path) in &segments {
        if reached.contains_key(start) {
            reached.entry(*end).or_insert(Some((*start, path)));
        }
    }
    let mut chain = Vec::new();
    let mut at = *reached.last_key_value().unwrap().0;
    while let Some((start, path)) = reached[&at] {
        chain.push(path);
        at = start;
    }
    chain.reverse();
    let output = Command::new("zstd").args(["-q", "-d", "-c"]).args(&chain).output().unwrap();
    if !output.status.success() {
        eprintln!("{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(output.stdout)
}

/// The server marks the file it writes now as in use, in the format event's flags and, so, its checksum; closed files and
/// the dump protocol have the flag cleared.
fn mend_in_use_flag(file: &mut [u8]) {
    const FLAGS: usize = 4 + 17;
    if file[FLAGS] & 1 == 1 {
        file[FLAGS] &= !1;
        let size = u32::from_le_bytes(file[13..17].try_into().unwrap()) as usize;
        let crc = crc32fast::hash(&file[4..4 + size - 4]);
        file[4 + size - 4..4 + size].copy_from_slice(&crc.to_le_bytes());
    }
}
