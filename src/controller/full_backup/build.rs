//! The Job of a full. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::validate::Validated;
use crate::api::FullBackup;
use crate::controller::Error;
use crate::controller::backup_policy;
use crate::controller::engine_pod::{EnginePod, MANIFEST, failure_policy};
use crate::controller::names::{self, FULL_BACKUP, POLICY, child_of, label_value, suffixed_job};

/// Attempts after the first one, with pauses of 10 s, 20 s, 40 s: for what passes by itself.
const RETRIES: i32 = 3;
/// A Job that ended and its log are kept this long; the FullBackup keeps the result.
const KEPT_SECONDS: i32 = 24 * 3600;

/// What a FullBackup makes.
#[derive(Clone, Debug)]
pub struct Resources {
    /// What the Job's pod reads.
    pub config_map: ConfigMap,
    /// The Job.
    pub job: Job,
}

/// Name of a FullBackup's Job.
pub fn job_name(full: &str) -> String {
    label_value(full)
}

/// Name of its ConfigMap.
pub fn manifests_name(full: &str) -> String {
    suffixed_job(full, "full")
}

/// Builds them.
pub fn build(full: &FullBackup, validated: &Validated, image: &str) -> Result<Resources, Error> {
    let Validated { policy } = validated;
    let name = full.name_any();
    let mut labels: BTreeMap<String, String> = names::labels("backup", FULL_BACKUP, &name);
    labels.insert(POLICY.to_owned(), label_value(&policy.name));
    let config_map = ConfigMap {
        metadata: child_of(full, manifests_name(&name), labels.clone()),
        data: Some([(MANIFEST.to_owned(), backup_policy::manifests(policy)?)].into()),
        ..ConfigMap::default()
    };
    let pod = EnginePod {
        image,
        arguments: vec!["backup".to_owned()],
        manifests: &config_map,
        secrets: &policy.secrets,
        storage: &policy.storage,
        copies: &[],
        ends: true,
        template: policy.job_template.as_ref(),
    };
    let job = Job {
        metadata: child_of(full, job_name(&name), labels.clone()),
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            pod_failure_policy: Some(failure_policy()),
            template: pod.template(labels),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    Ok(Resources { config_map, job })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::BackupPolicy;

    #[test]
    fn a_full_is_a_job_that_runs_backup_as_the_policy_wants_its_jobs() {
        let full: FullBackup = serde_yaml::from_str(include_str!("testdata/full.yaml")).unwrap();
        let policy: BackupPolicy = serde_yaml::from_str(include_str!("../backup_policy/testdata/policy.yaml")).unwrap();
        let validated = Validated { policy: backup_policy::validate(&policy).unwrap() };
        let Resources { config_map, job } = build(&full, &validated, "registry.example/tidemark@sha256:0").unwrap();
        insta::assert_snapshot!(format!(
            "{}---\n{}",
            serde_yaml::to_string(&config_map).unwrap(),
            serde_yaml::to_string(&job).unwrap()
        ));
    }
}
