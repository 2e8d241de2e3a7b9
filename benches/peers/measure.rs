//! What one run took: wall time, and CPU time and peak memory from the kernel's own accounting of the whole process tree.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Process;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall: Duration,
    /// User and system time of the process and all its children.
    pub cpu: Duration,
    /// Of the largest process of a pipeline.
    pub peak_rss_bytes: u64,
}

/// Runs a command to its end under `time`. A command that fails ends the benchmark with its output.
pub fn run(command: &Command) -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let usage = dir.path().join("usage");
    let mut timed = Command::new("time");
    timed.args(["--format=%U %S %M", "--output"]).arg(&usage).arg("--");
    timed.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(key, value),
            None => timed.env_remove(key),
        };
    }
    let output = fs::File::create(dir.path().join("output")).unwrap();
    timed.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let start = Instant::now();
    let status = timed.status().expect("`time` runs (run `tests/tools/install bench`)");
    let wall = start.elapsed();
    let text = fs::read_to_string(dir.path().join("output")).unwrap_or_default();
    assert!(status.success(), "{command:?} failed ({status})\n{text}");
    let usage = fs::read_to_string(&usage).unwrap();
    let fields: Vec<f64> = usage.split_whitespace().map(|field| field.parse().unwrap()).collect();
    Sample { wall, cpu: Duration::from_secs_f64(fields[0] + fields[1]), peak_rss_bytes: fields[2] as u64 * 1024 }
}

/// Runs a shell pipeline; a failure of any part fails it.
pub fn pipeline(script: &str, env: &[(&str, &str)]) -> Sample {
    let mut command = Command::new("bash");
    command.args(["-e", "-o", "pipefail", "-c", script]).envs(env.iter().copied());
    run(&command)
}

/// Runs a process that never ends by itself until `done`; then it is killed.
pub fn run_until(command: Command, what: &str, mut done: impl FnMut() -> bool) -> Sample {
    let start = Instant::now();
    let mut process = Process::spawn(command);
    while !done() {
        assert!(process.try_wait().is_none(), "it ended before {what}\n{}", process.output());
        assert!(start.elapsed() < Duration::from_secs(1800), "half an hour without {what}\n{}", process.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    let wall = start.elapsed();
    std::thread::sleep(Duration::from_millis(20)); // its figures are read every few milliseconds
    Sample { wall, cpu: process.cpu(), peak_rss_bytes: process.peak_rss_bytes() }
}
