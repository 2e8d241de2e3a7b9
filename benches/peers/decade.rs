//! An archive of ten years: what `status`, the plan of a restore and the plan of a prune take of time, memory and requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidemark::archive::binlog_index::{Ending, FileId, FileIndex, FileSummary, IndexedRange};
use tidemark::archive::digest::Digest;
use tidemark::archive::logical::LogicalContent;
use tidemark::archive::manifest::{Content, FullManifest, ObjectEntry};
use tidemark::archive::sealed::seal;
use tidemark::archive::{identity, keys, store};
use tidemark::model::{BinlogPosition, CommitTime, Flavor, Gtid, GtidSet};

use crate::contests::scratch_in;
use crate::measure::{self, Sample};
use crate::support::tidemark_command;

const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
/// One a day.
const FULLS: u64 = 3650;
/// One for each ten minutes.
const FILES_A_DAY: u64 = 144;
/// Each in one segment, or in as many.
const SEGMENTS: [u64; 2] = [1, 3];
const TRANSACTIONS: u64 = 500;
const BEGUN_S: i64 = 1_480_000_000;
const GOAL: Duration = Duration::from_secs(2);
const GOAL_RSS_BYTES: u64 = 128 << 20;

/// Makes the archives and measures.
pub fn decade() -> Vec<String> {
    println!("\nTen years: {FULLS} fulls, {} binlog files, in a folder on a RAM disk", FULLS * FILES_A_DAY);
    println!("  {:<44} {:>8} {:>10} {:>12} {:>10}", "", "time", "peak RSS", "CPU", "requests");
    let mut missed = Vec::new();
    // Years, so that the growth shows; and objects, which it must not follow.
    for (days, segments) in [(FULLS / 10, SEGMENTS[0]), (FULLS / 10, SEGMENTS[1]), (FULLS, SEGMENTS[0])] {
        missed.extend(one(days, segments, days == FULLS));
    }
    missed
}

fn one(days: u64, segments: u64, is_judged: bool) -> Vec<String> {
    let dir = scratch_in(Path::new("/dev/shm"));
    let root = dir.path().join("archive");
    let begun = Instant::now();
    let objects = make(&root, days, segments);
    println!("  {days} days, {objects} objects (made in {:.0} s)", begun.elapsed().as_secs_f64());
    let policy = dir.path().join("policy.yaml");
    let retain = |rules: &str| {
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: decade}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: 9, credentialsSecretRef: {{name: nobody}}, tls: {{mode: Disabled}}}}\n  \
             retention: {{{rules}}}\n  storage: {{fs: {{path: {}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: nobody}}, stringData: {{username: u, password: p}}}}\n",
            root.display()
        );
        fs::write(&policy, text).unwrap();
    };
    retain("window: 4000d");
    let command = |arguments: &[&str]| {
        let mut command = tidemark_command(arguments);
        command.args(["-f", policy.to_str().unwrap(), "-v", "--log-format", "json"]);
        command
    };
    let old = full(days / 2 * FILES_A_DAY).gtids.to_string();
    run("first prune, which reads every index", &command(&["prune"]));
    retain("window: 30d, keepMonthly: 12, keepYearly: 10");
    let mut missed = Vec::new();
    for (what, arguments) in [
        ("status (the window)", &["status", "-o", "json"][..]),
        ("plan of a restore to the latest", &["restore", "--dry-run", "--latest"]),
        ("plan of a restore to years ago", &["restore", "--dry-run", "--to-gtid", &old]),
        ("plan of a prune", &["prune", "--dry-run", "-o", "json"]),
    ] {
        let Sample { wall, peak_rss_bytes, .. } = run(what, &command(arguments));
        if is_judged && wall > GOAL {
            missed.push(format!("decade: {what} took {:.1} s (goal: {} s)", wall.as_secs_f64(), GOAL.as_secs()));
        }
        if is_judged && peak_rss_bytes > GOAL_RSS_BYTES {
            missed.push(format!("decade: {what}: {} MiB (goal: {} MiB)", peak_rss_bytes >> 20, GOAL_RSS_BYTES >> 20));
        }
    }
    missed
}

fn run(what: &str, command: &Command) -> Sample {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut shell = Command::new("bash");
    let line = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = line.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // `time` takes the larger of the shell and the command.
    shell.args(["-c", &format!("exec {} > /dev/null 2> {}", line.join(" "), log.path().display())]);
    let sample = measure::run(&shell);
    let log = fs::read_to_string(log.path()).unwrap();
    let requests = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let requests: u64 = requests.filter_map(|line| line["requests"].as_u64()).sum();
    println!(
        "    {what:<42} {:>6.2} s {:>6} MiB {:>10.2} s {requests:>10}",
        sample.wall.as_secs_f64(),
        sample.peak_rss_bytes >> 20,
        sample.cpu.as_secs_f64()
    );
    sample
}

/// Makes it; how many objects it has.
fn make(root: &Path, days: u64, segments: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = store::Store::open(&store::StoreConfig::Fs { root: root.to_owned() }).unwrap();
    runtime.block_on(identity::ensure(&store, Flavor::Mysql, SERVER)).unwrap();
    let mut objects = 1;
    let write = |key: &str, bytes: &[u8]| {
        let path: PathBuf = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for n in 0..days * FILES_A_DAY {
        let index = index(n, segments);
        for range in &index.ranges {
            write(&index.object(range).key(), &[0; 8]);
        }
        let key = keys::index(&index.file);
        write(&key, &seal(&key, &index).unwrap());
        objects += segments + 1;
        if n.is_multiple_of(FILES_A_DAY) {
            let manifest = full(n);
            for object in &manifest.objects {
                write(&object.key, &[0; 8]);
            }
            let key = keys::manifest(&manifest.id);
            write(&key, &seal(&key, &manifest).unwrap());
            objects += manifest.objects.len() as u64 + 1;
        }
    }
    objects
}

fn file(n: u64) -> FileId {
    let created_unix = u32::try_from(BEGUN_S + n as i64 * 600).unwrap();
    FileId { server: SERVER.to_owned(), name: format!("binlog.{:06}", n + 1), created_unix }
}

fn set(first: u64, last: u64) -> GtidSet {
    let text = if first > last { String::new() } else { format!("{SERVER}:{first}-{last}") };
    GtidSet::parse(Flavor::Mysql, &text).unwrap()
}

fn index(n: u64, segments: u64) -> FileIndex {
    let (before, size) = (n * TRANSACTIONS, 1_000_000);
    let commit =
        |transaction: u64| Some(CommitTime((BEGUN_S + n as i64 * 600) * 1_000_000 + transaction as i64 * 1_100_000));
    let ranges = (0..segments).map(|i| {
        let share = TRANSACTIONS / segments;
        let last = if i + 1 == segments { TRANSACTIONS } else { (i + 1) * share };
        IndexedRange {
            start: size / segments * i,
            end: if i + 1 == segments { size } else { size / segments * (i + 1) },
            object_bytes: 8,
            object_blake3: Digest::of(&[0; 8]),
            boundary: size / segments * (i + 1),
            last_commit: commit(last),
            gtids: set(before + i * share + 1, before + last),
            encrypted_to: None,
        }
    });
    FileIndex {
        format: 1,
        file: file(n),
        flavor: Flavor::Mysql,
        server_version: "9.7.0".to_owned(),
        size,
        summary: FileSummary {
            previous_gtids: set(1, before),
            gtids: set(before + 1, before + TRANSACTIONS),
            boundary: size - 44,
            transactions: TRANSACTIONS,
            first_commit: commit(1),
            last_commit: commit(TRANSACTIONS),
            last_gtid: format!("{SERVER}:{}", before + TRANSACTIONS).parse::<Gtid>().ok(),
            crc32: true,
            statements: 0,
        },
        ending: Ending::Rotate,
        next_file: Some(file(n + 1).name),
        ranges: ranges.collect(),
        recipients: Vec::new(),
        edition: None,
        trace_id: "decade".to_owned(),
    }
}

/// A full in the middle of a file.
fn full(n: u64) -> FullManifest {
    let at = Timestamp::from_second(BEGUN_S + n as i64 * 600 + 300).unwrap();
    let id = at.strftime("%Y%m%dT%H%M%SZ-0000").to_string();
    let object = |i: u64| ObjectEntry {
        key: keys::full_object(&id, None, &format!("rows/table-1/{i:05}.tsv.zst"), false),
        bytes: 8,
        raw_bytes: 1 << 20,
        blake3: Digest::of(&[0; 8]),
    };
    FullManifest {
        format: 1,
        flavor: Flavor::Mysql,
        server_version: "9.7.0".to_owned(),
        server: SERVER.to_owned(),
        started_at: at,
        consistent_at: at,
        finished_at: at,
        gtids: set(1, n * TRANSACTIONS + 250),
        position: Some(BinlogPosition { file: file(n).name, offset: 500_000 }),
        position_created_unix: Some(file(n).created_unix),
        prepared_xa: Some(Vec::new()),
        log_slave_updates: None,
        recipients: Vec::new(),
        edition: None,
        trace_id: "decade".to_owned(),
        tidemark_version: env!("CARGO_PKG_VERSION").to_owned(),
        objects: (0..4).map(object).collect(),
        content: Content::Logical(LogicalContent {
            description: 0,
            tables: 1,
            rows: 1,
            raw_bytes: 1,
            warnings: Vec::new(),
        }),
        id,
    }
}
