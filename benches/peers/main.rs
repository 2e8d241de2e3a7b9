//! `make bench`: this engine beside the stock tools and mydumper, on the same machine, the same server and the same data.
//!
//! Contenders of a contest run in turn, several rounds, and their medians are compared: a machine that slows down slows
//! all of them. Goals are ratios. A peer that is not installed is skipped in so many words; a missed goal ends in a
//! non-zero exit. `make bench BENCH=replay` runs one contest. Sizes: TIDEMARK_BENCH_MIB (data set), TIDEMARK_BENCH_ROUNDS.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod contest;
mod contests;
mod data;
mod decade;
mod measure;
mod overhead;
mod requests;
mod rpo;

use std::process::ExitCode;

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| contests::ALL.iter().all(|(known, _)| known != name)) {
        eprintln!("there is no benchmark {unknown:?}; there are: {}", contests::ALL.map(|(name, _)| name).join(", "));
        return ExitCode::FAILURE;
    }
    println!("machine: {} cores, {}", std::thread::available_parallelism().unwrap(), cpu_model());
    let mut missed = Vec::new();
    for (name, contest) in contests::ALL {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            missed.extend(contest());
        }
    }
    for goal in &missed {
        println!("MISSED: {goal}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown CPU", |(_, model)| model).to_owned()
}
