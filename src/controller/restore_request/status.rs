//! What is said of a restore. Pure.

use jiff::Timestamp;

use super::apply::Applied;
use super::next::{Doing, Finished, Step};
use super::validate::{Into, Refusal, Validated};
use super::{names, server};
use crate::api::report::{Outcome, PodError, PodReport, RestoreOutcome};
use crate::api::{Phase, ProgressStatus, RestorePlanStatus, RestoreRequest, RestoreRequestStatus};
use crate::controller::Error;
use crate::controller::conditions::{Verdict, updated, word};
use crate::controller::error::text;
use crate::controller::figures::{bytes, shortened, span};

/// What a restore will do is known.
pub const PLANNED: &str = "Planned";
/// What was restored is what was planned.
pub const PROVED: &str = "Proved";
/// It has ended, well or badly.
pub const COMPLETE: &str = "Complete";

const EXECUTED_CHARS: usize = 4000;

/// How far it is known to be.
pub fn phase(request: &RestoreRequest) -> Phase {
    request.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// The status of one that cannot be planned, for now or for ever.
pub fn refused(request: &RestoreRequest, refusal: Refusal, now: Timestamp) -> RestoreRequestStatus {
    let Refusal { forever, reason, message } = refusal;
    if forever {
        return failed(request, reason, message, now);
    }
    let old = request.status.clone().unwrap_or_default();
    let verdict = Verdict::unknown(reason, message);
    let conditions = updated(&old.conditions, request.metadata.generation, now, [(COMPLETE, verdict)]);
    RestoreRequestStatus { conditions, ..old }
}

/// The status after a step.
pub fn compute(
    request: &RestoreRequest,
    validated: &Validated,
    step: Step,
    applied: &Result<Applied, Error>,
    now: Timestamp,
) -> RestoreRequestStatus {
    let step = match (applied, step) {
        (Ok(Applied::Taken), Step::Plan(_)) => Step::Plan(Doing::taken()),
        (Ok(Applied::Taken), Step::Restore(_)) => Step::Restore(Doing::taken()),
        (Ok(Applied::Taken), Step::Open(_)) => Step::Open(Doing::taken()),
        (Err(error), Step::Plan(_)) => Step::Plan(refusal(error)),
        (Err(error), Step::Restore(_)) => Step::Restore(refusal(error)),
        // A server that could not be let go of would go with its request.
        (Err(error), Step::Open(_) | Step::Finish(_)) => Step::Open(refusal(error)),
        (_, step) => step,
    };
    let old = request.status.clone().unwrap_or_default();
    let generation = request.metadata.generation;
    match step {
        Step::Plan(doing) => {
            let (verdict, progress) = of_doing(doing, &old, "planning", "Planning", "the plan is being made");
            let conditions =
                updated(&old.conditions, generation, now, [(PLANNED, verdict.clone()), (COMPLETE, verdict)]);
            RestoreRequestStatus { conditions, phase: running(old.phase, progress.is_some()), progress, ..old }
        }
        Step::PlanAgain => {
            let verdict = Verdict::unknown("Planning", "the plan is made again: the first one was lost");
            let conditions =
                updated(&old.conditions, generation, now, [(PLANNED, verdict.clone()), (COMPLETE, verdict)]);
            RestoreRequestStatus { conditions, ..old }
        }
        Step::Planned(plan) => {
            let verdict = Verdict::yes("Planned", plan_in_words(&plan));
            let conditions = updated(&old.conditions, generation, now, [(PLANNED, verdict)]);
            RestoreRequestStatus { conditions, phase: Phase::Running, plan: Some(*plan), progress: None, ..old }
        }
        Step::Restore(doing) => {
            let plan = match &doing {
                Doing::Runs(Some(report)) => report.plan.clone(),
                Doing::Runs(None) | Doing::Waits { .. } => None,
            };
            let (verdict, progress) = of_doing(doing, &old, "starting", "Restoring", "the restore is under way");
            let conditions =
                updated(&old.conditions, generation, now, [(PROVED, verdict.clone()), (COMPLETE, verdict)]);
            // What was seen last stays while an attempt waits for the next.
            let progress = progress.or(old.progress.clone());
            let progress_percent = progress.as_ref().and_then(percent);
            let plan = plan.or(old.plan.clone());
            RestoreRequestStatus { conditions, phase: Phase::Running, plan, progress, progress_percent, ..old }
        }
        Step::Proved(outcome) => proved(request, *outcome, now),
        Step::Open(doing) => {
            let (verdict, _) = of_doing(doing, &old, "opening", "Opening", "the server is starting");
            let conditions = updated(&old.conditions, generation, now, [(COMPLETE, verdict)]);
            let progress = Some(ProgressStatus { step: "opening".to_owned(), ..ProgressStatus::default() });
            RestoreRequestStatus { conditions, phase: Phase::Running, progress, progress_percent: None, ..old }
        }
        Step::Finish(finished) => finish(request, validated, finished, now),
        Step::Fail(PodError { reason, message, transient: _ }) => failed(request, &reason, message, now),
    }
}

fn refusal(error: &Error) -> Doing {
    let reason = if error.is_forbidden() { "Forbidden" } else { "Refused" };
    Doing::waits(reason, &text(error))
}

fn failed(request: &RestoreRequest, reason: &str, message: String, now: Timestamp) -> RestoreRequestStatus {
    let old = request.status.clone().unwrap_or_default();
    let verdict = Verdict { holds: Some(false), reason: word(reason), message };
    // It failed at what it had not done yet.
    let done =
        |type_: &str| old.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
    let at = if !done(PLANNED) {
        PLANNED
    } else if !done(PROVED) {
        PROVED
    } else {
        COMPLETE
    };
    let verdicts = [(at, verdict.clone()), (COMPLETE, verdict)];
    let conditions = updated(&old.conditions, request.metadata.generation, now, verdicts);
    RestoreRequestStatus { conditions, phase: Phase::Failed, ..old }
}

/// One that waits or runs, as a verdict on what it is about, and its progress while it runs.
fn of_doing(
    doing: Doing,
    old: &RestoreRequestStatus,
    step: &str,
    reason: &str,
    message: &str,
) -> (Verdict, Option<ProgressStatus>) {
    match doing {
        Doing::Waits { reason, message } => (Verdict { holds: None, reason: word(&reason), message }, None),
        Doing::Runs(report) => {
            let told = report.and_then(|report: Box<PodReport>| report.progress);
            // One that does not answer once has not begun anew.
            let told = told.or_else(|| old.progress.clone());
            let progress =
                told.unwrap_or_else(|| ProgressStatus { step: step.to_owned(), ..ProgressStatus::default() });
            let ProgressStatus { step, done_bytes, total_bytes } = progress;
            let progress = ProgressStatus { step: step_in_words(step), done_bytes, total_bytes };
            (Verdict::unknown(reason, message), Some(progress))
        }
    }
}

/// The engine's steps, as people think of them.
fn step_in_words(step: String) -> String {
    match step.as_str() {
        "definitions" | "rows" | "programs" => "loading".to_owned(),
        "checksums" => "verifying".to_owned(),
        "cleanup" => "proof".to_owned(),
        _ => step,
    }
}

fn percent(progress: &ProgressStatus) -> Option<String> {
    let ProgressStatus { step: _, done_bytes, total_bytes } = progress;
    let share = (u128::from(*done_bytes) * 100).checked_div(u128::from(*total_bytes))?;
    Some(format!("{}%", share.min(100)))
}

fn running(old: Phase, runs: bool) -> Phase {
    if runs { Phase::Running } else { old }
}

fn plan_in_words(plan: &RestorePlanStatus) -> String {
    let RestorePlanStatus {
        base,
        flavor: _,
        server_version: _,
        binlogs,
        first_binlog: _,
        last_binlog,
        bytes: all,
        eta,
        notes: _,
    } = plan;
    let until = last_binlog.as_ref().map(|last| format!(" up to {last}")).unwrap_or_default();
    let eta = eta.as_ref().map(|eta| format!(", about {eta}")).unwrap_or_default();
    format!("full {base}, then {binlogs} binlogs{until}: {}{eta}", bytes(*all))
}

fn proved(request: &RestoreRequest, outcome: Outcome, now: Timestamp) -> RestoreRequestStatus {
    let old = request.status.clone().unwrap_or_default();
    let Outcome { error: _, full: _, plan, restore, prune: _, verify: _ } = outcome;
    let RestoreOutcome { restored_to, executed, rto_seconds, warnings } = restore.unwrap_or_default();
    let mut message = "what was restored is exactly what was planned".to_owned();
    if rto_seconds > 0.0 {
        message.push_str(&format!("; from the first byte to the proof in {}", span(rto_seconds)));
    }
    if !executed.is_empty() {
        message.push_str(&format!("; executed: {}", shortened(&executed, EXECUTED_CHARS)));
    }
    if !warnings.is_empty() {
        message.push_str(&format!("; look at this: {}", warnings.join("; ")));
    }
    let verdict = Verdict::yes("Proved", message);
    let conditions = updated(&old.conditions, request.metadata.generation, now, [(PROVED, verdict)]);
    let plan = plan.or(old.plan.clone());
    let restored_to = restored_to.or(old.restored_to.clone());
    RestoreRequestStatus { conditions, phase: Phase::Running, plan, restored_to, progress_percent: None, ..old }
}

fn finish(request: &RestoreRequest, validated: &Validated, finished: Finished, now: Timestamp) -> RestoreRequestStatus {
    let old = request.status.clone().unwrap_or_default();
    let with = |verdict| updated(&old.conditions, request.metadata.generation, now, [(COMPLETE, verdict)]);
    let took = |done: Timestamp| {
        let begun = request.metadata.creation_timestamp.as_ref().map_or(done, |begun| begun.0);
        Some(span(done.duration_since(begun).as_secs_f64()))
    };
    let ended = RestoreRequestStatus { phase: Phase::Succeeded, progress: None, progress_percent: None, ..old.clone() };
    match (finished, &validated.into) {
        (Finished::Opened(since), Into::Fresh(into)) => {
            let (service, secret) = (server::service_name(validated, into), names::root(&validated.name));
            let message = format!(
                "Service {service} leads to the server, Secret {secret} holds root's password. Deleting this request leaves both, the \
                 StatefulSet and its claim to you"
            );
            let conditions = with(Verdict::yes("Open", message));
            let (service, secret) = (Some(service), Some(secret));
            RestoreRequestStatus { conditions, measured_rto: took(since), service, secret, ..ended }
        }
        (Finished::Planned, _) => {
            let conditions = with(Verdict::yes("Planned", "only the plan was asked for (dryRun)"));
            RestoreRequestStatus { conditions, ..ended }
        }
        (Finished::Restored(done) | Finished::Opened(done), _) => {
            let conditions = with(Verdict::yes("Restored", "the server is restored and open"));
            RestoreRequestStatus { conditions, measured_rto: took(done), ..ended }
        }
    }
}

#[cfg(test)]
mod tests;
