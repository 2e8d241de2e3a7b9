//! Jobs that do one thing and say in the end what they did: how they stand. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::engine_pod::CONTAINER;
use super::reports::{job_condition, killed, outcome, waits_for};
use crate::api::report::{Outcome, PodError};

/// How such a Job stands; what it says of itself when it is done is a `T`.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing<T> {
    /// It is on its way up, or cannot start.
    Waits {
        /// A condition's reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// Under way.
    Runs,
    /// Done; what it did, where its pod is still there to tell.
    Done(Option<T>),
    /// It failed.
    Failed {
        /// A condition's reason.
        reason: String,
        /// In words, with the way out.
        message: String,
        /// Whether the Job must be kept from trying again.
        stop: bool,
    },
}

impl<T> Standing<T> {
    /// Looks at a Job and its pods, newest first; `done` is what an outcome says of such work.
    pub fn of(job: &Job, pods: &[Arc<Pod>], done: impl Fn(&Outcome) -> Option<T>) -> Self {
        let ends: Vec<_> = pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).collect();
        if let Some(done) = ends.iter().find_map(|(_, outcome)| done(outcome)) {
            return Self::Done(Some(done));
        }
        if job_condition(job, "Complete").is_some() {
            return Self::Done(None);
        }
        let error = ends.iter().find_map(|(_, outcome)| outcome.error.clone());
        let failed = job_condition(job, "Failed");
        match (error, failed) {
            (Some(PodError { reason, message, transient: false }), _) => Self::Failed { reason, message, stop: true },
            (Some(PodError { reason, message, transient: true }), Some(_)) => {
                Self::Failed { reason, message, stop: false }
            }
            (Some(PodError { reason, message, transient: true }), None) => {
                Self::Waits { reason, message: format!("an attempt failed, and another follows: {message}") }
            }
            (None, Some(failed)) => {
                let killed = pods.iter().find_map(|pod| killed(pod, CONTAINER));
                let (reason, message) = killed.unwrap_or_else(|| {
                    let reason = failed.reason.clone().unwrap_or_else(|| "JobFailed".to_owned());
                    (reason, format!("its Job failed: {}", failed.message.clone().unwrap_or_default()))
                });
                Self::Failed { reason, message, stop: false }
            }
            (None, None) => match pods.first().and_then(|pod| waits_for(pod)) {
                Some((reason, message)) => Self::Waits { reason, message: format!("its pod cannot start: {message}") },
                None => Self::Runs,
            },
        }
    }

    /// Whether nothing more will come of its Job.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed { .. })
    }
}
