//! Jobs that run `tidemark prune`: what they are, and how they stand. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::Error;
use super::backup_policy::{Validated, prune_manifests};
use super::engine_pod::{CONTAINER, EnginePod, MANIFEST, failure_policy};
use super::names::child_of;
use super::reports::{job_condition, killed, outcome, waits_for};
use crate::api::BackupPolicy;
use crate::api::report::{PodError, PruneOutcome};

/// Attempts after the first one, with growing pauses: for what passes by itself.
const RETRIES: i32 = 3;

/// A prune to run.
#[derive(Clone, Debug)]
pub struct Prune<'a> {
    /// Of this policy's archive, whose Job it is.
    pub policy: &'a BackupPolicy,
    /// The same, checked.
    pub validated: &'a Validated,
    /// Name of the Job.
    pub job: String,
    /// Name of what its pod reads.
    pub config_map: String,
    /// Labels of all of it.
    pub labels: BTreeMap<String, String>,
    /// The one full to delete; none: whatever retention lets go.
    pub full: Option<&'a str>,
    /// How long a Job that ended is kept: as long it is not run again.
    pub kept_seconds: i32,
}

impl Prune<'_> {
    /// Builds what it needs.
    pub fn build(self, image: &str) -> Result<(ConfigMap, Job), Error> {
        let Self { policy, validated, job, config_map, labels, full, kept_seconds } = self;
        let config_map = ConfigMap {
            metadata: child_of(policy, config_map, labels.clone()),
            data: Some([(MANIFEST.to_owned(), prune_manifests(validated)?)].into()),
            ..ConfigMap::default()
        };
        let full = full.map(|id| ["--full".to_owned(), id.to_owned()]);
        let pod = EnginePod {
            image,
            arguments: std::iter::once("prune".to_owned()).chain(full.into_iter().flatten()).collect(),
            manifests: &config_map,
            secrets: &validated.secrets,
            storage: &validated.storage,
            copies: &[],
            ends: true,
            template: validated.job_template.as_ref(),
        };
        let job = Job {
            metadata: child_of(policy, job, labels.clone()),
            spec: Some(JobSpec {
                backoff_limit: Some(RETRIES),
                ttl_seconds_after_finished: Some(kept_seconds),
                pod_failure_policy: Some(failure_policy()),
                template: pod.template(labels),
                ..JobSpec::default()
            }),
            ..Job::default()
        };
        Ok((config_map, job))
    }
}

/// How a prune stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
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
    Done(Option<PruneOutcome>),
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

impl Standing {
    /// Looks at a Job and its pods, newest first.
    pub fn of(job: &Job, pods: &[Arc<Pod>]) -> Self {
        let ends: Vec<_> = pods.iter().filter_map(|pod| outcome(pod, CONTAINER)).collect();
        if let Some(done) = ends.iter().find_map(|(_, outcome)| outcome.prune.clone()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_stands_as_its_job_and_pods_say() {
        let job = |condition: &str| -> Job {
            let conditions = match condition {
                "" => String::new(),
                type_ => format!("conditions: [{{type: {type_}, status: 'True', reason: TooMany, message: m}}]"),
            };
            serde_yaml::from_str(&format!("{{status: {{{conditions}}}}}")).unwrap()
        };
        let pod = |state: &str| -> Arc<Pod> {
            Arc::new(
                serde_yaml::from_str(&format!(
                    "{{status: {{phase: x, containerStatuses: [{{name: tidemark, image: '', imageID: '', ready: false, restartCount: 0, \
                     state: {{{state}}}}}]}}}}"
                ))
                .unwrap(),
            )
        };
        let ended = |message: &str| pod(&format!("terminated: {{exitCode: 1, reason: Error, message: '{message}'}}"));
        let passing = || ended(r#"{"error":{"reason":"StoreUnreachable","message":"m","transient":true}}"#);
        let lasting = || ended(r#"{"error":{"reason":"FullNeeded","message":"m","transient":false}}"#);
        let done = || ended(r#"{"prune":{"fulls":2}}"#);
        for (job, pods, expected) in [
            (job(""), vec![], "Runs"),
            (job(""), vec![pod("waiting: {reason: ImagePullBackOff}")], "Waits ImagePullBackOff"),
            (job(""), vec![passing()], "Waits StoreUnreachable"),
            (job("Failed"), vec![passing()], "Failed StoreUnreachable false"),
            (job(""), vec![lasting()], "Failed FullNeeded true"),
            (job("Failed"), vec![], "Failed TooMany false"),
            (job("Complete"), vec![], "Done"),
            (job(""), vec![done()], "Done 2"),
            (job(""), vec![passing(), done()], "Done 2"),
        ] {
            let told = match Standing::of(&job, &pods) {
                Standing::Waits { reason, .. } => format!("Waits {reason}"),
                Standing::Runs => "Runs".to_owned(),
                Standing::Done(None) => "Done".to_owned(),
                Standing::Done(Some(outcome)) => format!("Done {}", outcome.fulls),
                Standing::Failed { reason, stop, .. } => format!("Failed {reason} {stop}"),
            };
            assert_eq!(told, expected);
        }
    }
}
