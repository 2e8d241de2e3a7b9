//! What is known of a policy, for people and for programs. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::figures::{moment, span};
use super::paint::Paint;
use super::timeline::{self, Cell, Line, Stretch};
use crate::api::{BackupPolicy, FullBackup, Phase, WindowStatus};

/// Places of the line of time: it fits a terminal of 80 columns.
const WIDTH: usize = 60;
/// Fulls that failed, of which the newest are told.
const FAILURES_TOLD: usize = 3;

/// A policy, its windows, and its fulls.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    namespace: String,
    name: String,
    /// Whether its condition Ready is True.
    ready: bool,
    reason: String,
    message: String,
    /// Whether anything can be restored; null while that is not known.
    recoverable: Option<bool>,
    first_recoverability_point: Option<String>,
    latest_restorable_time: Option<String>,
    windows: Vec<WindowStatus>,
    lag: Option<String>,
    last_full_time: Option<String>,
    next_full_time: Option<String>,
    /// Its FullBackups that are still there, oldest first.
    fulls: Vec<FullReport>,
}

/// A FullBackup.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FullReport {
    name: String,
    phase: Phase,
    /// The moment it shows, if the archive still holds it.
    consistent_at: Option<String>,
    size: Option<String>,
    duration: Option<String>,
    /// What its condition Complete says, or Deleted where the full is gone.
    reason: String,
    message: String,
}

/// The condition of that type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

impl PolicyReport {
    /// Of a policy, and those of `fulls` that are its own.
    pub fn new(policy: &BackupPolicy, fulls: &[FullBackup]) -> Self {
        let status = policy.status.clone().unwrap_or_default();
        let ready = condition(&status.conditions, "Ready");
        let recoverable = condition(&status.conditions, "Recoverable").and_then(|told| match told.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        });
        let (name, namespace) = (policy.name_any(), policy.namespace().unwrap_or_default());
        let is_its =
            |full: &&FullBackup| full.spec.policy_ref.name == name && full.namespace().unwrap_or_default() == namespace;
        let mut its: Vec<&FullBackup> = fulls.iter().filter(is_its).collect();
        its.sort_by_key(|full| full.creation_timestamp());
        Self {
            ready: ready.is_some_and(|ready| ready.status == "True"),
            reason: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.reason.clone()),
            message: ready.map_or_else(
                || "the operator has not looked at it yet: does it run, and look after this namespace?".to_owned(),
                |ready| ready.message.clone(),
            ),
            recoverable,
            fulls: its.into_iter().map(FullReport::new).collect(),
            first_recoverability_point: status.first_recoverability_point,
            latest_restorable_time: status.latest_restorable_time,
            windows: status.windows,
            lag: status.lag,
            last_full_time: status.last_full_time,
            next_full_time: status.next_schedule_time,
            namespace,
            name,
        }
    }

    /// For people.
    pub fn draw(&self, now: Timestamp, paint: Paint) -> String {
        let mut out = String::new();
        let verdict = if self.ready {
            paint.good(&format!("Ready ({})", self.reason))
        } else {
            paint.bad(&format!("NOT READY ({})", self.reason))
        };
        let _ = writeln!(out, "{} in {}: {verdict}", paint.bold(&self.name), self.namespace);
        let _ = writeln!(out, "  {}\n", self.message);
        match self.line(now) {
            Some(line) => draw_line(&mut out, &line, paint),
            None => {
                let what = match self.recoverable {
                    Some(false) => "nothing can be restored yet: the archive holds no full",
                    Some(true) | None => "what can be restored is not known yet",
                };
                let _ = writeln!(out, "  {}", paint.bad(what));
            }
        }
        out.push('\n');
        for window in &self.windows {
            draw_window(&mut out, window, now, paint);
        }
        if self.windows.is_empty()
            && let (Some(first), Some(latest)) = (&self.first_recoverability_point, &self.latest_restorable_time)
        {
            fact(&mut out, "restorable", &format!("the moments of fulls only, {first} to {latest}"));
        }
        let unknown = || "unknown".to_owned();
        fact(&mut out, "lag", &self.lag.clone().unwrap_or_else(unknown));
        let told = |text: &Option<String>| text.as_deref().map(|text| moment(text, now));
        fact(&mut out, "last full", &told(&self.last_full_time).unwrap_or_else(|| "none".to_owned()));
        fact(&mut out, "next full", &told(&self.next_full_time).unwrap_or_else(|| "none by schedule".to_owned()));
        self.draw_fulls(&mut out, paint);
        out
    }

    /// Fulls under way, and those that failed since the last good one.
    fn draw_fulls(&self, out: &mut String, paint: Paint) {
        for full in self.fulls.iter().filter(|full| !full.phase.is_terminal()) {
            fact(out, "under way", &format!("FullBackup {}: {}", full.name, full.message));
        }
        let since_good = self.fulls.iter().rev().take_while(|full| full.phase != Phase::Succeeded);
        for full in since_good.filter(|full| full.phase == Phase::Failed).take(FAILURES_TOLD) {
            let text = format!("FullBackup {} ({}): {}", full.name, full.reason, full.message);
            fact(out, "failed", &paint.bad(&text));
        }
    }

    fn line(&self, now: Timestamp) -> Option<Line> {
        let fulls: Vec<Timestamp> =
            self.fulls.iter().filter_map(|full| full.consistent_at.as_deref()?.parse().ok()).collect();
        let mut stretches: Vec<Stretch> = self
            .windows
            .iter()
            .filter_map(|window| {
                let (from, to) = (window.from.parse().ok()?, window.to.parse().ok()?);
                Some(Stretch { from, to, gap: window.gap.is_some() })
            })
            .collect();
        if self.windows.is_empty() && self.latest_restorable_time.is_some() {
            stretches.extend(fulls.iter().map(|full| Stretch { from: *full, to: *full, gap: false }));
        }
        // A full whose FullBackup is gone is still told by the window that it begins, and the newest one by the archive.
        let told = self.windows.iter().map(|window| &window.from).chain(&self.last_full_time);
        let marks: Vec<Timestamp> = fulls.iter().copied().chain(told.filter_map(|text| text.parse().ok())).collect();
        timeline::draw(&stretches, &marks, now, WIDTH)
    }
}

impl FullReport {
    fn new(full: &FullBackup) -> Self {
        let status = full.status.clone().unwrap_or_default();
        let gone = condition(&status.conditions, "Deleted").filter(|deleted| deleted.status == "True");
        let complete = gone.or_else(|| condition(&status.conditions, "Complete"));
        Self {
            name: full.name_any(),
            phase: status.phase,
            consistent_at: status.consistent_at.filter(|_| gone.is_none()),
            size: status.size,
            duration: status.duration,
            reason: complete.map_or_else(|| "Pending".to_owned(), |complete| complete.reason.clone()),
            message: complete.map_or_else(|| "not begun".to_owned(), |complete| complete.message.clone()),
        }
    }
}

fn draw_line(out: &mut String, line: &Line, paint: Paint) {
    let marks: String = line.fulls.iter().map(|full| if *full { '▼' } else { ' ' }).collect();
    fact(out, "fulls", marks.trim_end());
    let mut cells = String::new();
    for run in line.cells.chunk_by(|a, b| a == b) {
        let text: String = run.iter().map(|cell| cell.glyph()).collect();
        cells.push_str(&match run.first() {
            Some(Cell::Gap) => paint.bad(&text),
            Some(Cell::Nothing) | None => paint.dim(&text),
            Some(Cell::Window | Cell::Growing | Cell::Moment) => paint.good(&text),
        });
    }
    fact(out, "restorable", &cells);
    let (from, to) = (format!("{:.0}", line.from), format!("{:.0}", line.to));
    let room = WIDTH.saturating_sub(from.chars().count());
    fact(out, "", &paint.dim(&format!("{from}{to:>room$}")));
    let has = |cell| line.cells.contains(&cell);
    let meanings = [
        (line.fulls.contains(&true), "▼ a full"),
        (has(Cell::Window) || has(Cell::Growing), "━ every transaction"),
        (has(Cell::Moment), "● this moment only"),
        (has(Cell::Gap), "╳ never archived"),
    ];
    let legend: Vec<&str> = meanings.into_iter().filter_map(|(shown, text)| shown.then_some(text)).collect();
    fact(out, "", &paint.dim(&legend.join("   ")));
}

fn draw_window(out: &mut String, window: &WindowStatus, now: Timestamp, paint: Paint) {
    let WindowStatus { from, to, base: _, gap } = window;
    let length = match (from.parse::<Timestamp>(), to.parse::<Timestamp>()) {
        (Ok(from), Ok(to)) => format!(", {}", span(to.duration_since(from))),
        _ => String::new(),
    };
    match gap {
        None => fact(out, "restorable", &format!("{from} to {}{length}, growing", moment(to, now))),
        Some(gap) => {
            fact(out, "restorable", &format!("{from} to {to}{length}"));
            let why = gap.reason.as_deref().unwrap_or("why is not known");
            let missing = if gap.gtids.is_empty() { String::new() } else { format!("{} missing: ", gap.gtids) };
            fact(out, "gap", &paint.bad(&format!("{missing}{why}")));
        }
    }
}

fn fact(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{}", format!("  {name:<12} {value}").trim_end());
}

#[cfg(test)]
mod tests;
