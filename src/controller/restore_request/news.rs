//! Writes a status when that is worth it, and tells what happened.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::status::{COMPLETE, PLANNED, PROVED};
use crate::api::{ProgressStatus, RestoreRequest, RestoreRequestStatus};
use crate::controller::apply::{Status, worth_writing};
use crate::controller::{Context, Error, conditions};

/// What is no news to anybody: it is on its way.
const ON_ITS_WAY: [&str; 6] = ["Pending", "Starting", "Planning", "Restoring", "Opening", "Ending"];

/// Writes it if it is worth it, and publishes what happened.
pub async fn write(
    context: &Context,
    request: &RestoreRequest,
    status: RestoreRequestStatus,
    now: Timestamp,
) -> Result<(), Error> {
    let old = request.status.clone().unwrap_or_default();
    if !worth_writing(&old, &status, context.applier.status_age(request, now)) {
        return Ok(());
    }
    if !context.applier.status(request, &status).await? {
        return Ok(());
    }
    let (namespace, name) = (request.namespace(), request.name_any());
    for News { type_, reason, note } in between(&old, &status) {
        if matches!(type_, EventType::Warning) {
            tracing::warn!(namespace, request = name, reason, "{note}");
        } else {
            tracing::info!(namespace, request = name, reason, "{note}");
        }
        context.event(request, type_, reason, note).await;
    }
    Ok(())
}

impl Status for RestoreRequestStatus {
    const WRITE_INTERVAL: Duration = Duration::from_secs(5);

    fn material(&self) -> Self {
        let mut status = self.clone();
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status.progress_percent = None;
        status.progress = status.progress.map(|ProgressStatus { step, done_bytes: _, total_bytes: _ }| {
            ProgressStatus { step, ..ProgressStatus::default() }
        });
        status
    }
}

/// One event.
#[derive(Clone, Debug)]
struct News {
    type_: EventType,
    reason: &'static str,
    note: String,
}

/// What happened between two statuses.
fn between(old: &RestoreRequestStatus, new: &RestoreRequestStatus) -> Vec<News> {
    let before = |type_: &str| conditions::find(&old.conditions, type_);
    let after = |type_: &str| conditions::find(&new.conditions, type_);
    let turned = |type_: &str, status: &str| -> Option<&Condition> {
        let is = |condition: &&Condition| condition.status == status;
        after(type_).filter(is).filter(|_| before(type_).filter(is).is_none())
    };
    let mut news = Vec::new();
    let mut tell = |type_, reason, note: &str| news.push(News { type_, reason, note: note.to_owned() });
    if let Some(planned) = turned(PLANNED, "True") {
        tell(EventType::Normal, "Planned", &planned.message);
    }
    if after(PROVED).is_some() && before(PROVED).is_none() {
        tell(EventType::Normal, "Restoring", "the restore begins");
    }
    if let Some(proved) = turned(PROVED, "True") {
        tell(EventType::Normal, "Proved", &proved.message);
    }
    if let Some(complete) = turned(COMPLETE, "True") {
        let reason = if complete.reason == "Open" { "Open" } else { "Complete" };
        tell(EventType::Normal, reason, &complete.message);
    }
    if let Some(failed) = turned(COMPLETE, "False") {
        tell(EventType::Warning, "Failed", &format!("{}: {}", failed.reason, failed.message));
    }
    // Why it waits, once.
    if let Some(waits) = after(COMPLETE).filter(|complete| complete.status == "Unknown")
        && !ON_ITS_WAY.contains(&waits.reason.as_str())
        && before(COMPLETE).is_none_or(|before| before.reason != waits.reason)
    {
        tell(EventType::Warning, "Waiting", &format!("{}: {}", waits.reason, waits.message));
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::conditions::{Verdict, updated};

    fn status(verdicts: &[(&str, Verdict)]) -> RestoreRequestStatus {
        let now = Timestamp::UNIX_EPOCH;
        let mut status = RestoreRequestStatus::default();
        for (type_, verdict) in verdicts {
            status.conditions = updated(&status.conditions, None, now, [(type_, verdict.clone())]);
        }
        status
    }

    fn told(old: &[(&str, Verdict)], new: &[(&str, Verdict)]) -> Vec<&'static str> {
        between(&status(old), &status(new)).iter().map(|news| news.reason).collect()
    }

    #[test]
    fn each_turn_is_told_once() {
        let (yes, no) = (Verdict::yes("Proved", ""), Verdict::no("OutsideWindow", "m"));
        let restoring = Verdict::unknown("Restoring", "");
        let stuck = Verdict::unknown("ImagePullBackOff", "");
        assert_eq!(told(&[], &[(COMPLETE, Verdict::unknown("Planning", ""))]), Vec::<&str>::new());
        assert_eq!(told(&[], &[(PLANNED, yes.clone())]), ["Planned"]);
        let planned = (PLANNED, yes.clone());
        let under_way = [planned.clone(), (PROVED, restoring.clone()), (COMPLETE, restoring.clone())];
        assert_eq!(told(std::slice::from_ref(&planned), &under_way), ["Restoring"]);
        assert_eq!(told(&under_way, &under_way), Vec::<&str>::new());
        let waits = [planned.clone(), (PROVED, stuck.clone()), (COMPLETE, stuck)];
        assert_eq!((told(&under_way, &waits), told(&waits, &waits)), (vec!["Waiting"], vec![]));
        let proved = [planned.clone(), (PROVED, yes.clone()), (COMPLETE, restoring)];
        assert_eq!(told(&under_way, &proved), ["Proved"]);
        let open = [planned.clone(), (PROVED, yes.clone()), (COMPLETE, Verdict::yes("Open", ""))];
        assert_eq!(told(&proved, &open), ["Open"]);
        assert_eq!(told(&[], &[(PLANNED, no.clone()), (COMPLETE, no)]), ["Failed"]);
    }

    #[test]
    fn figures_wait_for_their_turn_and_news_does_not() {
        let of = |step: &str, done_bytes| RestoreRequestStatus {
            progress: Some(ProgressStatus { step: step.to_owned(), done_bytes, total_bytes: 9 }),
            ..RestoreRequestStatus::default()
        };
        let (soon, late) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(5)));
        assert!(!worth_writing(&of("replay", 1), &of("replay", 2), soon));
        assert!(worth_writing(&of("replay", 1), &of("replay", 2), late));
        assert!(worth_writing(&of("replay", 1), &of("replay", 2), None));
        assert!(worth_writing(&of("loading", 1), &of("replay", 1), soon));
        assert!(!worth_writing(&of("replay", 1), &of("replay", 1), late));
    }
}
