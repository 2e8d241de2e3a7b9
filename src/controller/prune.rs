//! Jobs that run `tidemark prune`: what they are, and how they stand. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::Error;
use super::backup_policy::{Validated, prune_manifests};
use super::engine_pod::{self, EnginePod, MANIFEST};
use super::names::child_of;
use super::standing;
use crate::api::BackupPolicy;
use crate::api::report::PruneOutcome;

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

/// How a prune stands.
pub type Standing = standing::Standing<PruneOutcome>;

/// Looks at a prune's Job and its pods, newest first.
pub fn standing(job: &Job, pods: &[Arc<Pod>]) -> Standing {
    Standing::of(job, pods, |outcome| outcome.prune.clone())
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
        let job = engine_pod::job(child_of(policy, job, labels.clone()), RETRIES, kept_seconds, pod.template(labels));
        Ok((config_map, job))
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
            let told = match standing(&job, &pods) {
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
