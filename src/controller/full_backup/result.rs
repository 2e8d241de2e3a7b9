//! How a full stands, from its Job and the Job's pods. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::dereference::{Facts, runs};
use super::status::phase;
use crate::api::report::{FullOutcome, Outcome, PodError};
use crate::api::{FullBackup, Phase, ProgressStatus};
use crate::controller::Error;
use crate::controller::engine_pod::CONTAINER;
use crate::controller::error::text;
use crate::controller::reports::{job_condition, killed, outcome, waits_for};

/// A pod's end may be seen later than its Job's.
const LATENESS: Duration = Duration::from_secs(30);

/// How a full stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Not begun, or it cannot be.
    Waits {
        /// A condition's reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// Under way; what it says of itself.
    Runs(Option<ProgressStatus>),
    /// It is in the archive.
    Succeeded(Box<FullOutcome>),
    /// It is not, or nobody knows.
    Failed {
        /// A condition's reason.
        reason: String,
        /// In words, with the way out.
        message: String,
        /// Whether the Job must be kept from trying again.
        stop: bool,
    },
}

/// Looks at what is known.
pub fn standing(full: &FullBackup, seen: &Facts, refused: Option<&Error>, now: Timestamp) -> Standing {
    let Some(job) = seen.job.as_deref() else {
        if phase(full) == Phase::Running {
            let message = "its Job is gone before it said how it ended: `tidemark status` shows whether the full is in the archive";
            return Standing::Failed { reason: "ResultUnknown".to_owned(), message: message.to_owned(), stop: false };
        }
        return match refused {
            Some(error) => Standing::Waits { reason: "JobRefused".to_owned(), message: text(error) },
            None => waits("Pending", "its Job is being made"),
        };
    };
    let ends: Vec<(i32, Outcome)> = seen.pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).collect();
    if let Some(full) = ends.iter().find_map(|(_, outcome)| outcome.full.clone()) {
        return Standing::Succeeded(Box::new(full));
    }
    // The newest attempt speaks.
    let error = ends.iter().find_map(|(_, outcome)| outcome.error.clone());
    if let Some(PodError { reason, message, transient: false }) = &error {
        return Standing::Failed { reason: reason.clone(), message: message.clone(), stop: true };
    }
    if let Some(complete) = job_condition(job, "Complete") {
        return completed(complete, now);
    }
    if let Some(failed) = job_condition(job, "Failed") {
        return gave_up(seen, error, failed);
    }
    match seen.pods.first() {
        Some(pod) if runs(pod) => Standing::Runs(seen.progress.clone()),
        Some(pod) => match (waits_for(pod), error) {
            (Some((reason, message)), _) => {
                let message = format!("its pod cannot start: {message} (kubectl describe its pod says more)");
                Standing::Waits { reason, message }
            }
            (None, Some(error)) => {
                let message = format!("an attempt failed, and another follows: {}", error.message);
                Standing::Waits { reason: error.reason, message }
            }
            (None, None) => waits("Starting", "its pod is starting"),
        },
        None => waits("Starting", "its pod is being made"),
    }
}

fn waits(reason: &str, message: &str) -> Standing {
    Standing::Waits { reason: reason.to_owned(), message: message.to_owned() }
}

/// A Job that ended well whose pod's outcome is not seen (yet).
fn completed(complete: &JobCondition, now: Timestamp) -> Standing {
    let since = complete.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |Time(moment)| *moment);
    let late = Duration::try_from(now.duration_since(since)).unwrap_or_default() >= LATENESS;
    if !late {
        return Standing::Runs(None);
    }
    let message = "its Job ended well, but its pod is gone and with it what it said: `tidemark status` shows the full in the archive";
    Standing::Failed { reason: "ResultUnknown".to_owned(), message: message.to_owned(), stop: false }
}

/// A Job that tries no more.
fn gave_up(seen: &Facts, error: Option<PodError>, failed: &JobCondition) -> Standing {
    let killed = seen.pods.iter().find_map(|pod| killed(pod, CONTAINER));
    let (reason, message) = match (error, killed) {
        (Some(PodError { reason, message, transient: _ }), _) => (reason, message),
        (None, Some((reason, message))) => (reason, message),
        (None, None) => {
            let reason = failed.reason.clone().unwrap_or_else(|| "JobFailed".to_owned());
            let message = failed.message.clone().unwrap_or_default();
            (reason, format!("its Job failed: {message} (kubectl logs of its pods may say more)"))
        }
    };
    Standing::Failed { reason, message, stop: false }
}

#[cfg(test)]
mod tests;
