//! How a piece of work stands: a Job's, or that of the engine beside a fresh server. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::dereference::{Found, works};
use crate::api::report::{Outcome, PodError, PodReport};
use crate::controller::engine_pod::CONTAINER;
use crate::controller::figures::shortened;
use crate::controller::reports::{killed, outcome, waits_for};

/// A pod's end may be seen later than its Job's.
const LATENESS: Duration = Duration::from_secs(30);
/// Of a container's last words.
const WORDS_CHARS: usize = 600;

/// How it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// It was not begun, or is gone.
    Absent,
    /// Something of another request has its name.
    Taken,
    /// It does not run (now); why.
    Waits {
        /// A condition's reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// Under way; what it says of itself.
    Runs(Option<Box<PodReport>>),
    /// It ended well.
    Ended(Box<Outcome>),
    /// It ended well, and how nobody knows any more.
    Lost,
    /// It failed, and trying again would not help.
    Failed(PodError),
}

impl Work {
    /// It does not run.
    pub fn waits(reason: &str, message: &str) -> Self {
        Work::Waits { reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// How a Job stands.
pub fn of_job(job: &Found<Job>, pods: &[Arc<Pod>], report: Option<&PodReport>, now: Timestamp) -> Work {
    let job = match job {
        Found::Nothing => return Work::Absent,
        Found::Others => return Work::Taken,
        Found::Ours(job) => job,
    };
    if let Some(ended) =
        ended(pods, |outcome| outcome.error.is_none() && (outcome.plan.is_some() || outcome.restore.is_some()))
    {
        return ended;
    }
    if let Some(Time(since)) = condition(job, "Complete")
        .map(|complete| complete.last_transition_time.clone().unwrap_or(Time(Timestamp::UNIX_EPOCH)))
    {
        let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        return if age < LATENESS { Work::waits("Ending", "its pod has ended") } else { Work::Lost };
    }
    if let Some(failed) = condition(job, "Failed") {
        return Work::Failed(gave_up(pods, failed));
    }
    at_work(pods, report)
}

/// How the engine beside a fresh server stands. Its pod is there for good, and starts it again whenever it ends.
pub fn of_server(pods: &[Arc<Pod>], report: Option<&PodReport>) -> Work {
    ended(pods, |outcome| outcome.restore.is_some()).unwrap_or_else(|| at_work(pods, report))
}

/// The success or the final failure that a pod tells.
fn ended(pods: &[Arc<Pod>], well: impl Fn(&Outcome) -> bool) -> Option<Work> {
    let ends: Vec<Outcome> =
        pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).map(|(_, outcome)| outcome).collect();
    if let Some(outcome) = ends.iter().find(|outcome| well(outcome)) {
        return Some(Work::Ended(Box::new(outcome.clone())));
    }
    let error = ends.into_iter().filter_map(|outcome| outcome.error).find(|error| !error.transient);
    error.map(Work::Failed)
}

fn at_work(pods: &[Arc<Pod>], report: Option<&PodReport>) -> Work {
    let Some(pod) = pods.first() else { return Work::waits("Starting", "its pod is being made") };
    if works(pod) {
        return Work::Runs(report.cloned().map(Box::new));
    }
    if let Some((reason, message)) = trouble(pod) {
        return Work::Waits { reason, message };
    }
    let error = pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).find_map(|(_, outcome)| outcome.error);
    if let Some(PodError { reason, message, transient: _ }) = error {
        return Work::Waits { reason, message: format!("an attempt failed, and another follows: {message}") };
    }
    if let Some((reason, message)) = waits_for(pod) {
        let message = format!("its pod cannot start: {message} (kubectl describe pod {} says more)", pod.name_any());
        return Work::Waits { reason, message };
    }
    let message = format!("its pod is starting (kubectl describe pod {} says what it waits for)", pod.name_any());
    Work::Waits { reason: "Starting".to_owned(), message }
}

/// What a container beside the engine said when it failed: one that makes or runs the server.
pub fn trouble(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.filter(|container| container.name != CONTAINER).find_map(|container| {
        let ContainerStatus { name, state, last_state, .. } = container;
        if state.as_ref().is_some_and(|state| state.running.is_some()) {
            return None;
        }
        let failed = |state: &ContainerState| state.terminated.clone().filter(|ended| ended.exit_code != 0);
        let ended = state.as_ref().and_then(failed).or_else(|| last_state.as_ref().and_then(failed))?;
        let words = ended.message.unwrap_or_default();
        let words = words.trim();
        // The end of a log says why.
        let skipped = words.chars().count().saturating_sub(WORDS_CHARS);
        let words: String = words.chars().skip(skipped).collect();
        let how = ended.reason.unwrap_or_else(|| format!("exit code {}", ended.exit_code));
        let message = format!("its container `{name}` failed ({how}) and is started again: {words}");
        Some(("ServerFailed".to_owned(), message))
    })
}

/// Why a Job tries no more.
fn gave_up(pods: &[Arc<Pod>], failed: &JobCondition) -> PodError {
    let told = pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).find_map(|(_, outcome)| outcome.error);
    if let Some(PodError { reason, message, transient }) = told {
        return PodError { reason, message: format!("no attempt succeeded; the last error: {message}"), transient };
    }
    let ended = pods.iter().find_map(|pod| killed(pod, CONTAINER));
    let (reason, message) = ended.unwrap_or_else(|| {
        let reason = failed.reason.clone().unwrap_or_else(|| "JobFailed".to_owned());
        (reason, shortened(failed.message.as_deref().unwrap_or_default(), WORDS_CHARS))
    });
    PodError { reason, message: format!("its Job gave up: {message}"), transient: false }
}

/// The condition of a Job that holds.
pub fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Since when a pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|Time(moment)| *moment)
}

#[cfg(test)]
mod tests;
