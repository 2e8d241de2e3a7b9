//! What is said of a full. Pure but for the writing.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::result::Standing;
use crate::api::report::FullOutcome;
use crate::api::{FullBackup, FullBackupStatus, Phase, ProgressStatus};
use crate::controller::apply::{Status, worth_writing};
use crate::controller::conditions::{self, Verdict, updated, word};
use crate::controller::figures::{bytes, rate, shortened, span};
use crate::controller::{Context, Error};

/// It is in the archive.
pub const COMPLETE: &str = "Complete";

const GTIDS_CHARS: usize = 4000;

/// How far it is known to be.
pub fn phase(full: &FullBackup) -> Phase {
    full.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// The status of one that cannot be taken, for now or for ever.
pub fn refused(full: &FullBackup, forever: bool, reason: &str, message: String, now: Timestamp) -> FullBackupStatus {
    let old = full.status.clone().unwrap_or_default();
    let phase = if forever { Phase::Failed } else { Phase::Pending };
    let conditions =
        updated(&old.conditions, full.metadata.generation, now, [(COMPLETE, Verdict::no(reason, message))]);
    FullBackupStatus { conditions, phase, ..old }
}

/// The status now.
pub fn compute(full: &FullBackup, standing: Standing, now: Timestamp) -> FullBackupStatus {
    let old = full.status.clone().unwrap_or_default();
    let with = |verdict| updated(&old.conditions, full.metadata.generation, now, [(COMPLETE, verdict)]);
    match standing {
        Standing::Waits { reason, message } => {
            // One that ran may wait for its next attempt.
            let phase = if old.phase == Phase::Running { Phase::Running } else { Phase::Pending };
            let verdict = Verdict { holds: None, reason: word(&reason), message };
            FullBackupStatus { conditions: with(verdict), phase, ..old }
        }
        Standing::Runs(progress) => {
            let verdict = Verdict::unknown("Running", "the full is being taken");
            let progress = progress.or(old.progress.clone());
            FullBackupStatus { conditions: with(verdict), phase: Phase::Running, progress, ..old }
        }
        Standing::Failed { reason, message, stop: _ } => {
            let verdict = Verdict { holds: Some(false), reason: word(&reason), message };
            FullBackupStatus { conditions: with(verdict), phase: Phase::Failed, ..old }
        }
        Standing::Succeeded(outcome) => {
            let FullOutcome {
                id,
                consistent_at,
                bytes: stored,
                raw_bytes,
                seconds,
                gtid_set,
                binlog_position,
                warnings,
            } = *outcome;
            let message = if warnings.is_empty() {
                "the full is in the archive".to_owned()
            } else {
                format!("the full is in the archive, but: {}", warnings.join("; "))
            };
            FullBackupStatus {
                conditions: with(Verdict::yes("Taken", message)),
                phase: Phase::Succeeded,
                progress: None,
                id: Some(id),
                size: Some(bytes(stored)),
                duration: Some(span(seconds)),
                throughput: rate(raw_bytes, seconds),
                gtid_set: Some(shortened(&gtid_set, GTIDS_CHARS)).filter(|set| !set.is_empty()),
                binlog_position,
                consistent_at: Some(consistent_at),
            }
        }
    }
}

impl Status for FullBackupStatus {
    const WRITE_INTERVAL: Duration = Duration::from_secs(10);

    fn material(&self) -> Self {
        let mut status = self.clone();
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status.progress = status.progress.map(|ProgressStatus { step, done_bytes: _, total_bytes: _ }| {
            ProgressStatus { step, done_bytes: 0, total_bytes: 0 }
        });
        status
    }
}

/// Writes it if it is worth it, and tells what happened.
pub async fn write(
    context: &Context,
    full: &FullBackup,
    status: FullBackupStatus,
    now: Timestamp,
) -> Result<(), Error> {
    let old = full.status.clone().unwrap_or_default();
    if !worth_writing(&old, &status, context.applier.status_age(full, now)) {
        return Ok(());
    }
    if !context.applier.status(full, &status).await? {
        return Ok(());
    }
    let complete = conditions::find(&status.conditions, COMPLETE);
    let (reason, message) = complete.map_or(("", ""), |condition| (&condition.reason, &condition.message));
    let told = conditions::find(&old.conditions, COMPLETE).map(|condition| condition.reason.as_str()) == Some(reason);
    let (namespace, name) = (full.namespace(), full.name_any());
    match status.phase {
        Phase::Succeeded => {
            tracing::info!(namespace, full = name, id = status.id, size = status.size, "a full was taken");
            let (size, took) = (status.size.unwrap_or_default(), status.duration.unwrap_or_default());
            context.event(full, EventType::Normal, "Taken", format!("{size} in {took}: {message}")).await;
        }
        Phase::Failed => {
            tracing::error!(namespace, full = name, reason, "the full failed: {message}");
            context.event(full, EventType::Warning, "Failed", format!("{reason}: {message}")).await;
        }
        // Why it waits, once.
        Phase::Pending if !told && !matches!(reason, "Pending" | "Starting") => {
            context.event(full, EventType::Warning, "Waiting", format!("{reason}: {message}")).await;
        }
        Phase::Pending | Phase::Running => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
