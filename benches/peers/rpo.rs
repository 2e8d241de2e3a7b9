//! Recovery point: how long a commit is not yet durable in the archive, under a steady load, at the default settings.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::contests::{bucket, empty, full, policy_with_storage, scratch, server};
use crate::data;
use crate::measure;
use crate::support::{Process, S3Server, Server, Signal, tidemark_command};

const LOAD: Duration = Duration::from_secs(30);
const SESSIONS: u32 = 4;
/// 99 of 100 commits are durable within this.
const GOAL_P99_MS: u64 = 1500;
/// Resident memory of `stream`.
const GOAL_RSS_BYTES: u64 = 64 << 20;

/// Measures on a folder and on a real S3 server.
pub fn rpo() -> Vec<String> {
    let server = server();
    data::write_small_transactions(&server, 4);
    let dir = scratch();
    let (archive, s3) = (dir.path().join("archive"), S3Server::start());
    empty(&archive);
    println!("\nRPO: commit to durable, {SESSIONS} sessions for {} s, default settings", LOAD.as_secs());
    let folder = format!("{{fs: {{path: {}}}}}", archive.display());
    [("fs", folder), ("s3 (versitygw)", bucket(&s3, "rpo"))]
        .iter()
        .flat_map(|(name, storage)| one(&server, dir.path(), name, storage))
        .collect()
}

fn one(server: &Server, dir: &Path, name: &str, storage: &str) -> Vec<String> {
    let policy = policy_with_storage(dir, server, storage, 1, true);
    measure::run(&full(&policy));
    let mut command = tidemark_command(["stream", "-f"]);
    command.arg(&policy);
    let mut stream = Process::spawn(command);
    stream.wait_for_line("connected to the source", Duration::from_secs(60));
    let sessions: Vec<Process> = (0..SESSIONS)
        .map(|session| {
            let mut client = server.client();
            client.arg(format!("--execute=CALL replay.steady({session}, {})", LOAD.as_secs()));
            Process::spawn(client)
        })
        .collect();
    for mut session in sessions {
        session.wait(LOAD * 4);
    }
    std::thread::sleep(Duration::from_secs(2)); // the last commits are stored by then
    let (rss, cpu) = (stream.peak_rss_bytes(), stream.cpu());
    stream.signal(Signal::Terminate);
    stream.wait(Duration::from_secs(30));
    let log = stream.output();
    let line = log.lines().rev().find(|line| line.contains("the stream has stopped")).expect("a last line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let figure = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
    let (p99, commits) = (figure("rpo_p99_ms"), figure("rpo_transactions"));
    println!(
        "  {name:<16} p50 {} ms, p99 {p99} ms, max {} ms over {commits} commits ({} /s); stream: peak RSS {} MiB, CPU {:.1} % of a core",
        figure("rpo_p50_ms"),
        figure("rpo_max_ms"),
        commits / LOAD.as_secs(),
        rss >> 20,
        100.0 * cpu.as_secs_f64() / LOAD.as_secs_f64(),
    );
    fs::remove_file(&policy).unwrap();
    let mut missed = Vec::new();
    if p99 > GOAL_P99_MS {
        missed.push(format!("RPO on {name}: p99 {p99} ms (goal: {GOAL_P99_MS} ms)"));
    }
    if rss > GOAL_RSS_BYTES {
        missed.push(format!("stream on {name}: peak RSS {} MiB (goal: {} MiB)", rss >> 20, GOAL_RSS_BYTES >> 20));
    }
    missed
}
