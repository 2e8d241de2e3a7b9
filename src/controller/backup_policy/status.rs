//! What is said of a policy: can everything be restored up to now, and if not, why, and what to do. Pure but for the writing.

mod material;

use jiff::Timestamp;
use kube::ResourceExt;

use super::dereference::{Facts as Seen, StreamSeen};
use super::fulls::{Decision, Facts, State};
use super::purge_risk::{self, PURGE_RISK};
use super::{Refusal, Validated, copies, news, retention, verification};
use crate::api::report::{PodReport, StreamReport};
use crate::api::{BackupPolicy, BackupPolicyStatus, GapStatus, WindowStatus};
use crate::controller::apply::worth_writing;
use crate::controller::conditions::{self, Verdict, updated, word};
use crate::controller::error::text;
use crate::controller::figures::{shortened, span};
use crate::controller::{Context, Error};

/// Everything is as it should be.
pub const READY: &str = "Ready";
/// The binary log is being archived.
pub const STREAMING: &str = "Streaming";
/// Something can be restored.
pub const RECOVERABLE: &str = "Recoverable";
/// Transactions are missing between what can be restored.
pub const GAP_DETECTED: &str = "GapDetected";
/// What retention lets go is deleted.
pub const PRUNED: &str = "Pruned";
/// The copies hold what the first store holds.
pub const COPIED: &str = "Copied";
/// The archive is what was stored, as far as it was last looked at.
pub const INTACT: &str = "Intact";

/// Fulls that fail this many times in a row are a reason not to be ready.
const FAILURES_TOLERATED: usize = 3;
/// Windows that are shown: the newest ones. An object has little room.
const WINDOWS_MAX: usize = 50;
/// A GTID set is cut behind this many characters.
const GTIDS_CHARS: usize = 500;

/// Whether it says that all is well.
pub fn is_ready(status: &BackupPolicyStatus) -> bool {
    conditions::find(&status.conditions, READY).is_some_and(|ready| ready.status == "True")
}

/// The status of a policy that cannot be acted on: what else was known is left as it was.
pub fn refused(policy: &BackupPolicy, refusal: Refusal, now: Timestamp) -> BackupPolicyStatus {
    let old = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let ready = Verdict::no(refusal.reason(), refusal.message());
    BackupPolicyStatus {
        conditions: updated(&old.conditions, generation, now, [(READY, ready)]),
        observed_generation: generation,
        ..old
    }
}

/// The status now.
pub fn compute(
    policy: &BackupPolicy,
    validated: &Validated,
    seen: &Seen,
    facts: &Facts<'_>,
    decision: &Decision,
    failed: Option<&Error>,
    now: Timestamp,
) -> BackupPolicyStatus {
    let old = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let report = seen.stream.report().filter(|_| validated.binlog.enabled);
    let moments = Moments::new(&old, validated, report, facts);
    let streaming = streaming(validated, &seen.stream);
    let gap = gap_detected(&moments, report.and_then(|report| report.stream.as_ref()), facts);
    let recoverable = recoverable(&moments, validated, report, facts, decision, now);
    let problems = report.and_then(|report| report.archive.as_ref()).map(|archive| archive.problems.as_slice());
    let intact = verification::verdict(policy, &seen.verification);
    let damaged = verification::damage(policy, validated, intact.as_ref());
    let ready = ready(
        [failed.map(refusal_of), Some(streaming.clone()).filter(|_| validated.binlog.enabled)],
        &recoverable,
        facts.open_gap().map(|_| &gap),
        problems.unwrap_or_default(),
        damaged,
        decision,
    );
    let due = facts.fulls.iter().filter_map(|full| full.due).max().map(|moment| moment.to_string());
    let next = facts.schedule.filter(|schedule| !schedule.suspend).and_then(|schedule| schedule.next_after(now));
    let verdicts = [
        (READY, ready),
        (STREAMING, streaming),
        (RECOVERABLE, recoverable),
        (GAP_DETECTED, gap),
        (PURGE_RISK, purge_risk::verdict(validated, &seen.stream)),
    ];
    let mut conditions = updated(&old.conditions, generation, now, verdicts);
    match retention::verdict(validated, facts, &seen.retention) {
        Some(pruned) => conditions = updated(&conditions, generation, now, [(PRUNED, pruned)]),
        // What the last one did is worth knowing as long as there is to be another.
        None if validated.retention.is_some() => {}
        None => conditions.retain(|condition| condition.type_ != PRUNED),
    }
    let stream = report.and_then(|report| report.stream.as_ref());
    match copies::verdict(validated, stream, now) {
        Some(copied) => conditions = updated(&conditions, generation, now, [(COPIED, copied)]),
        None => conditions.retain(|condition| condition.type_ != COPIED),
    }
    match intact {
        _ if verification::is_off(policy, validated) => conditions.retain(|condition| condition.type_ != INTACT),
        Some(intact) => conditions = updated(&conditions, generation, now, [(INTACT, intact)]),
        None => {}
    }
    BackupPolicyStatus {
        conditions,
        observed_generation: generation,
        verification: old.verification,
        lag: report.and_then(|report| report.stream.as_ref()).map(|stream| span(stream.lag_seconds)),
        last_full_time: facts.newest_shown(now).map(|moment| moment.to_string()),
        last_schedule_time: due.or(old.last_schedule_time),
        next_schedule_time: next.map(|moment| moment.to_string()),
        last_drill_time: old.last_drill_time,
        copies: copies::statuses(validated, stream, &old.copies),
        first_recoverability_point: moments.first,
        latest_restorable_time: moments.latest,
        windows: moments.windows,
    }
}

/// Between what moments can be restored.
struct Moments {
    windows: Vec<WindowStatus>,
    first: Option<String>,
    latest: Option<String>,
    /// Whether this is known at all.
    known: bool,
}

impl Moments {
    fn new(old: &BackupPolicyStatus, validated: &Validated, report: Option<&PodReport>, facts: &Facts<'_>) -> Self {
        if !validated.binlog.enabled {
            // Only the moments of fulls, as far as FullBackups tell.
            let shows = facts.fulls.iter().filter_map(|full| match full.state {
                State::Succeeded { shows, .. } => Some(shows),
                State::UnderWay | State::Failed { .. } => None,
            });
            let (first, latest) = (shows.clone().min(), shows.max());
            let text = |moment: Timestamp| moment.to_string();
            return Self { windows: Vec::new(), first: first.map(text), latest: latest.map(text), known: true };
        }
        let Some(archive) = report.and_then(|report| report.archive.as_ref()) else {
            let known = old.last_full_time.is_some();
            let (first, latest) = (old.first_recoverability_point.clone(), old.latest_restorable_time.clone());
            return Self { windows: old.windows.clone(), first, latest, known };
        };
        let skipped = archive.windows.len().saturating_sub(WINDOWS_MAX);
        let windows: Vec<WindowStatus> = archive.windows.iter().skip(skipped).map(short).collect();
        let time = |text: &String| text.parse::<Timestamp>().ok();
        let spans = |window: &&WindowStatus| !is_moment(window, &windows);
        let first = windows.iter().filter(spans).map(|window| &window.from).min_by_key(|text| time(text)).cloned();
        let latest = windows.iter().map(|window| &window.to).max_by_key(|text| time(text)).cloned();
        Self { windows, first, latest, known: true }
    }
}

/// Whether a window is but the moment of a full whose log retention took, or that never had one, while another window grows: no gap in
/// anything, and nothing is recoverable "from" it.
fn is_moment(window: &WindowStatus, all: &[WindowStatus]) -> bool {
    window.gap.is_some() && window.from == window.to && all.iter().any(|window| window.gap.is_none())
}

fn short(window: &WindowStatus) -> WindowStatus {
    let WindowStatus { from, to, base, gap } = window.clone();
    let gap = gap.map(|GapStatus { gtids, reason }| GapStatus {
        gtids: shortened(&gtids, GTIDS_CHARS),
        reason: reason.map(|reason| shortened(&reason, GTIDS_CHARS)),
    });
    WindowStatus { from, to, base, gap }
}

fn streaming(validated: &Validated, stream: &StreamSeen) -> Verdict {
    if !validated.binlog.enabled {
        let message = "spec.binlog.enabled is false: only the moments of fulls can be restored";
        return Verdict::no("Disabled", message);
    }
    let report = match stream {
        StreamSeen::Starting => return Verdict::unknown("Starting", "the stream's pod is starting"),
        StreamSeen::Waits { reason, message } => {
            let message = format!("the stream's pod cannot start: {message} (kubectl describe its pod says more)");
            return Verdict::no(reason, message);
        }
        StreamSeen::Silent { message } => return Verdict::unknown("NotReporting", message),
        StreamSeen::Reports(report) => report.stream.clone().unwrap_or_default(),
    };
    let StreamReport { connected, store_failing, source, forks, warnings, error, .. } = report;
    if connected && !store_failing {
        let mut message = format!("archiving the binary log of {}", source.as_deref().unwrap_or("the source"));
        let notes = forks.iter().map(|fork| format!("only a former primary had {}", shortened(fork, GTIDS_CHARS)));
        for note in notes.chain(warnings) {
            message.push_str("; ");
            message.push_str(&note);
        }
        return Verdict::yes("Streaming", message);
    }
    match error {
        Some(error) => Verdict::no(&word(&error.reason), error.message),
        None if store_failing => {
            Verdict::no("StoreFailing", "the store turns writes away; the source keeps its binlogs meanwhile")
        }
        None => Verdict::unknown("Connecting", "the stream is connecting to the source"),
    }
}

fn gap_detected(moments: &Moments, stream: Option<&StreamReport>, facts: &Facts<'_>) -> Verdict {
    if !moments.known {
        return Verdict::unknown("NotReadYet", "the archive has not been read yet");
    }
    let told = stream.map(|stream| (stream.gaps.as_slice(), stream.losses.as_slice())).unwrap_or_default();
    let spans = |window: &&WindowStatus| !is_moment(window, &moments.windows);
    let in_windows = moments.windows.iter().filter(spans).filter_map(|window| window.gap.as_ref());
    let gtids = |gap: &GapStatus| Some(shortened(&gap.gtids, GTIDS_CHARS)).filter(|gtids| !gtids.is_empty());
    let mut missing: Vec<String> = in_windows.filter_map(gtids).collect();
    if missing.is_empty() {
        missing.extend(told.0.iter().map(|gap| gtids(gap).or_else(|| gap.reason.clone()).unwrap_or_default()));
    }
    missing.extend(told.1.iter().cloned());
    missing.dedup();
    if missing.is_empty() {
        return Verdict::no("NoGap", "everything between the windows' ends is archived");
    }
    let missing = missing.join("; ");
    match facts.open_gap() {
        Some(_) => Verdict {
            holds: Some(true),
            reason: "FullNeeded".to_owned(),
            message: format!(
                "never archived, or lost since: {missing}. Nothing behind it can be restored before the full that is taken \
                              now is complete"
            ),
        },
        None => Verdict {
            holds: Some(true),
            reason: "FullTaken".to_owned(),
            message: format!(
                "never archived, or lost since: {missing}. Restores into it fail; before and behind it they work"
            ),
        },
    }
}

fn recoverable(
    moments: &Moments,
    validated: &Validated,
    report: Option<&PodReport>,
    facts: &Facts<'_>,
    decision: &Decision,
    now: Timestamp,
) -> Verdict {
    if !validated.binlog.enabled && moments.latest.is_some() {
        return Verdict::yes("FullsOnly", "the moments of fulls can be restored");
    }
    if moments.windows.iter().any(|window| window.gap.is_none()) {
        let warnings = report.and_then(|report| report.archive.as_ref()).map(|archive| archive.warnings.as_slice());
        let mut message = "every transaction of the windows can be restored, up to now".to_owned();
        for warning in warnings.unwrap_or_default() {
            message.push_str("; but ");
            message.push_str(&shortened(warning, GTIDS_CHARS));
        }
        return Verdict::yes("Recoverable", message);
    }
    if let Some(window) = moments.windows.last() {
        let why = window.gap.as_ref().and_then(|gap| gap.reason.clone()).unwrap_or_default();
        let message = format!("only up to {}: {}", window.to, shortened(&why, GTIDS_CHARS));
        return Verdict::yes("RecoverableToThePast", message);
    }
    if !moments.known || (validated.binlog.enabled && report.is_none_or(|report| report.archive.is_none())) {
        return Verdict::unknown("NotReadYet", "the archive has not been read yet: the stream's pod does it");
    }
    let under_way = facts.fulls.iter().find(|full| full.state == State::UnderWay).map(|full| full.name.as_str());
    let message = match (under_way.or(decision.start.as_ref().map(|start| start.name.as_str())), facts.schedule) {
        (Some(name), _) => format!("the archive holds no full yet; FullBackup {name} is under way"),
        (None, _) if decision.failures > 0 => {
            format!(
                "the archive holds no full yet, and {} failed: kubectl get fullbackups shows why",
                decision.failures
            )
        }
        (None, Some(schedule)) if !schedule.suspend => match schedule.next_after(now) {
            Some(next) => {
                format!("the archive holds no full yet; the next is due at {next}. A FullBackup takes one now")
            }
            None => "the archive holds no full yet: make a FullBackup".to_owned(),
        },
        (None, Some(_)) => {
            "the archive holds no full yet, and spec.schedule.suspend is true: make a FullBackup".to_owned()
        }
        (None, None) => {
            "the archive holds no full yet, and there is no spec.schedule: add one, or make a FullBackup".to_owned()
        }
    };
    Verdict::no("NoFull", message)
}

fn refusal_of(error: &Error) -> Verdict {
    let reason = if error.is_forbidden() { "Forbidden" } else { "ApplyFailed" };
    Verdict::no(reason, text(error))
}

/// The first thing that is not as it should be.
fn ready(
    first: [Option<Verdict>; 2],
    recoverable: &Verdict,
    open_gap: Option<&Verdict>,
    problems: &[String],
    damaged: Option<Verdict>,
    decision: &Decision,
) -> Verdict {
    if let Some(not) = first.into_iter().flatten().find(|verdict| verdict.holds != Some(true)) {
        // Who does not know whether all is well is not ready.
        return Verdict { holds: Some(false), ..not };
    }
    if let Some(gap) = open_gap {
        return Verdict::no("Gap", gap.message.clone());
    }
    if recoverable.holds != Some(true) || recoverable.reason == "RecoverableToThePast" {
        return Verdict { holds: Some(false), ..recoverable.clone() };
    }
    if !problems.is_empty() {
        let some: Vec<String> = problems.iter().take(3).map(|problem| shortened(problem, GTIDS_CHARS)).collect();
        let message =
            format!("the archive has {} problems: {}; `tidemark status` shows all", problems.len(), some.join("; "));
        return Verdict::no("ArchiveProblems", message);
    }
    if let Some(damaged) = damaged {
        return damaged;
    }
    if decision.failures >= FAILURES_TOLERATED {
        let message = format!(
            "the last {} fulls failed: kubectl get fullbackups shows why. What is archived can be restored, by replaying more log",
            decision.failures
        );
        return Verdict::no("FullsFail", message);
    }
    Verdict::yes("Protected", "what is committed is archived and can be restored")
}

/// Writes it if it is worth it, and tells what happened.
pub async fn write(
    context: &Context,
    policy: &BackupPolicy,
    status: BackupPolicyStatus,
    now: Timestamp,
) -> Result<(), Error> {
    let old = policy.status.clone().unwrap_or_default();
    if !worth_writing(&old, &status, context.applier.status_age(policy, now)) {
        return Ok(());
    }
    if !context.applier.status(policy, &status).await? {
        return Ok(());
    }
    for news in news::between(&old, &status) {
        tracing::info!(
            namespace = policy.namespace(),
            policy = policy.name_any(),
            reason = news.reason,
            "{}",
            news.note
        );
        context.event(policy, news.type_, news.reason, news.note).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
