//! What compression and encryption cost: size and time of real binlogs and a real dump by zstd level on one thread, then of whole fulls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tidemark::archive::codec::{Compression, Encoder};
use tidemark::archive::crypt::Recipients;

use crate::contest::{Contest, median};
use crate::contests::{empty, full, mysqldump, password, policy_with_storage, scratch, server};
use crate::data;
use crate::measure;
use crate::support::Server;

/// By zstd level (0: raw). The first is the default, with which the others are compared.
const LEVELS: [i32; 9] = [1, 0, -5, -1, 3, 6, 9, 12, 19];
/// So much of each kind: level 19 makes a few MB a second.
const SAMPLE_BYTES: usize = 16 << 20;
const ROUNDS: usize = 3;
/// Written at a time, as the stream does.
const PIECE_BYTES: usize = 256 << 10;
/// Of whole fulls; the first is the default.
const FULL_LEVELS: [i8; 4] = [1, 0, -5, 6];
/// A public key. Nothing is read again here.
const RECIPIENT: &str = "age15dkpehjvugrgk7taqcn2vzc49fzsecr3gfgjprke6qflxcp2yvequ7yq5t";

/// Measures all of it; there are no goals.
pub fn overhead() -> Vec<String> {
    let server = server();
    let largest = || server.binlogs().iter().map(|path| fs::read(path).unwrap()).max_by_key(Vec::len).unwrap();
    data::fill_tables(&server, data::bytes());
    data::write_small_transactions(&server, 20_000);
    table("binlog of small transactions", &largest());
    data::write_binlog_in_large_transactions(&server, 100 << 20);
    table("binlog of large transactions", &largest());
    let dir = scratch();
    let sql = dir.path().join("dump.sql");
    measure::pipeline(&mysqldump(&server, &format!("> {}", sql.display())), &password());
    table("dump (SQL text)", &fs::read(&sql).unwrap());
    fs::remove_file(&sql).unwrap();
    fulls(&server, dir.path())
}

/// One thread that compresses and, or not, encrypts `raw`, level by level in turn.
fn table(what: &str, raw: &[u8]) {
    let raw = &raw[..raw.len().min(SAMPLE_BYTES)];
    let ways: Vec<(i32, bool)> = LEVELS.iter().flat_map(|level| [(*level, false), (*level, true)]).collect();
    let mut samples: BTreeMap<(i32, bool), Vec<Duration>> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for _ in 0..ROUNDS {
        for way in &ways {
            let start = Instant::now();
            let size = encoded_bytes(raw, *way);
            samples.entry(*way).or_default().push(start.elapsed());
            sizes.insert(*way, size);
        }
    }
    let time = |way: &(i32, bool)| median(samples[way].iter().copied()).as_secs_f64();
    let first = time(&ways[0]);
    println!("\n{what}: {} MiB on one thread, median of {ROUNDS} interleaved rounds", raw.len() >> 20);
    println!("  {:<22} {:>10} {:>10} {:>20}", "", "size", "MiB/s", "time (level 1 = 1)");
    for way in &ways {
        let (level, encrypted) = way;
        println!(
            "  {:<22} {:>8.1} % {:>10.0} {:>18.2} ×",
            name(*level, *encrypted),
            100.0 * sizes[way] as f64 / raw.len() as f64,
            raw.len() as f64 / f64::from(1 << 20) / time(way),
            time(way) / first,
        );
    }
}

fn name(level: i32, encrypted: bool) -> String {
    format!("level {level}{}", if encrypted { ", encrypted" } else { "" })
}

fn encoded_bytes(raw: &[u8], (level, encrypted): (i32, bool)) -> usize {
    let compression = if level == 0 { Compression::None } else { Compression::Zstd { level } };
    let keys = if encrypted { vec![RECIPIENT.to_owned()] } else { Vec::new() };
    let mut encoder = Encoder::new(compression, &Recipients::parse(&keys).unwrap()).unwrap();
    let mut size = 0;
    for piece in raw.chunks(PIECE_BYTES) {
        encoder.write(piece).unwrap();
        size += encoder.take().len();
    }
    size + encoder.finish().unwrap().len()
}

/// Whole fulls to disk, as a user takes them.
fn fulls(server: &Server, dir: &Path) -> Vec<String> {
    let stored = RefCell::new(BTreeMap::new());
    let mut contest = Contest::new("full backup by level, in clear and encrypted", data::bytes());
    for level in FULL_LEVELS {
        for encrypted in [false, true] {
            let name = name(level.into(), encrypted);
            let archive = dir.join(&name);
            let policy = policy_of(dir, server, &archive, level, encrypted);
            let (stored, folder, told) = (&stored, archive.clone(), name.clone());
            contest.contender(
                name,
                move || empty(&archive),
                move || {
                    let sample = measure::run(&full(&policy));
                    stored.borrow_mut().insert(told.clone(), bytes_below(&folder));
                    sample
                },
            );
        }
    }
    let missed = contest.run(&[]);
    for (name, bytes) in stored.borrow().iter() {
        println!("  {name}: {} MiB stored", bytes >> 20);
    }
    missed
}

fn policy_of(dir: &Path, server: &Server, archive: &Path, level: i8, encrypted: bool) -> PathBuf {
    let recipients = if encrypted { format!("\n  encryption: {{recipients: [{RECIPIENT}]}}") } else { String::new() };
    let storage = format!("{{fs: {{path: '{}'}}}}{recipients}", archive.display());
    let path = policy_with_storage(dir, server, &storage, level, false);
    let own = dir.join(format!("policy-{level}-{encrypted}.yaml"));
    fs::rename(path, &own).unwrap();
    own
}

fn bytes_below(folder: &Path) -> u64 {
    let output = Command::new("du").args(["--summarize", "--bytes"]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}
