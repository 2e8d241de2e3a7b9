//! The report on one screen, for somebody who was just woken up: what can be restored first, then how.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{FullReport, PolicyReport, WindowReport};
use crate::cli::args::PolicyArgs;
use crate::cli::progress::{bytes, duration};

/// Fulls that are listed one by one; `-o json` lists all.
const LISTED_FULLS: usize = 5;

/// The text, ending with a line break.
pub fn text(report: &PolicyReport, args: &PolicyArgs, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<12} {text}");
    };
    line("archive", &report.archive);
    let Some(flavor) = report.flavor else {
        line("", "nothing is archived here yet: run `tidemark run`, or `tidemark backup` and `tidemark stream`");
        return format!("policy {}\n{out}", report.name);
    };
    let fulls = report.fulls.len();
    line(
        "holds",
        &format!(
            "{flavor}: {fulls} full(s), {} binlog file(s) of {}, {} stored",
            report.binlog_files,
            bytes(report.binlog_bytes),
            bytes(report.stored_bytes)
        ),
    );
    line("lag", &lag(report));
    for problem in &report.problems {
        line("DAMAGE", problem);
    }
    if report.windows.is_empty() {
        line("RECOVERABLE", "NOTHING: there is no complete full; run `tidemark backup`");
    }
    for window in &report.windows {
        line("RECOVERABLE", &format!("{}  to  {}", window.first, window.latest));
        if !window.gtids.is_empty() {
            line("", &format!("with GTIDs up to {}", window.gtids));
        }
        line("", &format!("from {}", few(&window.fulls)));
        gap(window, &mut line);
    }
    for fork in &report.forks {
        line("FORK", &format!("only {} had {}: kept, but on no window's way", fork.server, fork.gtids));
    }
    for full in report.fulls.iter().rev().take(LISTED_FULLS) {
        line("full", &of_full(full, now));
    }
    if fulls > LISTED_FULLS {
        line("", &format!("and {} older one(s)", fulls - LISTED_FULLS));
    }
    for key in &report.unknown_objects {
        line("unknown", &format!("{key}: not of this format; left alone"));
    }
    if let Some(newest) = report.windows.iter().max_by(|a, b| a.latest.cmp(&b.latest)) {
        let restore = format!("tidemark restore{}", flags(report, args));
        let into = "--into HOST:PORT";
        line(
            "to restore",
            "into an empty server (its password in TIDEMARK_TARGET_PASSWORD; --dry-run shows the plan):",
        );
        line("  the end", &format!("{restore} --latest {into}"));
        line("  a moment", &format!("{restore} --to-time {} {into}", newest.latest));
        if report.windows.iter().any(|window| !window.gtids.is_empty()) {
            line("  before", &format!("{restore} --to-gtid GTID --exclusive {into}"));
        }
    }
    format!("policy {} at {}\n{out}", report.name, super::moment(now))
}

fn lag(report: &PolicyReport) -> String {
    let source = &report.source;
    match (source.reachable, source.lag_seconds) {
        (true, Some(lag)) if lag <= 0.0 => "none: everything the source has executed is archived".to_owned(),
        (true, Some(lag)) => format!(
            "up to {}: the source has executed what is NOT archived yet: {}",
            duration(Duration::from_secs_f64(lag)),
            source.not_archived.as_deref().unwrap_or_default()
        ),
        (true, None) => "unknown: without GTIDs (or a full) the source cannot be compared".to_owned(),
        (false, _) => {
            format!("unknown: the source cannot be asked ({})", source.error.as_deref().unwrap_or_default())
        }
    }
}

fn gap(window: &WindowReport, line: &mut impl FnMut(&str, &str)) {
    match (&window.missing, &window.ends_because) {
        (Some(missing), Some(reason)) if !missing.is_empty() && !reason.contains(missing.as_str()) => {
            line("GAP", &format!("behind it: {missing} cannot be restored: {reason}"));
        }
        (Some(_), Some(reason)) => line("GAP", &format!("behind it: {reason}")),
        (None, Some(reason)) => line("", &format!("ends there: {reason}")),
        _ => {}
    }
}

fn of_full(full: &FullReport, now: Timestamp) -> String {
    let age =
        full.consistent_at.parse::<Timestamp>().ok().and_then(|at| Duration::try_from(now.duration_since(at)).ok());
    let age = age.map(|age| format!("{} ago, ", duration(age))).unwrap_or_default();
    format!(
        "{} shows {} ({age}{}, {} stored, server {})",
        full.id,
        full.consistent_at,
        full.method,
        bytes(full.bytes),
        full.server_version
    )
}

/// The first and the last of many.
fn few(fulls: &[String]) -> String {
    match fulls {
        [first, .., last] if fulls.len() > 3 => format!("{first} … {last} ({} fulls)", fulls.len()),
        fulls => fulls.join(", "),
    }
}

/// The flags that lead back to this policy.
fn flags(report: &PolicyReport, args: &PolicyArgs) -> String {
    let mut flags: String = args.manifests.files.iter().map(|file| format!(" -f {}", quoted(file))).collect();
    let _ = write!(flags, " --policy {}", report.name);
    flags
}

fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:@".contains(c));
    if plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
