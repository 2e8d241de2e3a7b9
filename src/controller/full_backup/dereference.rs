//! What there is: from the watches' stores, and from the Job's pod itself. No request to the API server.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

use super::build::{job_name, manifests_name};
use crate::api::{BackupPolicy, FullBackup, ProgressStatus};
use crate::controller::Context;
use crate::controller::context::seen;
use crate::controller::error::text;
use crate::controller::names::{FULL_BACKUP, label_value};

/// What a FullBackup's reconciliation knows.
pub struct Facts {
    /// Its policy.
    pub policy: Option<Arc<BackupPolicy>>,
    /// Its Job.
    pub job: Option<Arc<Job>>,
    /// What the Job's pod reads.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The Job's pods, newest first; then those that are just gone.
    pub pods: Vec<Arc<Pod>>,
    /// How far the newest has come, if it runs and says so.
    pub progress: Option<ProgressStatus>,
}

/// Looks.
pub async fn dereference(full: &FullBackup, context: &Context) -> Facts {
    let (namespace, name) = (full.namespace().unwrap_or_default(), full.name_any());
    let job = seen(&context.seen.jobs, &namespace, &job_name(&name));
    let job = job.filter(|job| is_of(&**job, full.uid().as_deref()));
    // Of this Job alone: there may have been a FullBackup of this name before.
    let uid = job.as_ref().and_then(|job| job.uid());
    let mut pods = context.seen.job_pods_with(&namespace, &[(FULL_BACKUP, &label_value(&name))]);
    pods.retain(|pod| is_of(&**pod, uid.as_deref()));
    let progress = match pods.first().filter(|pod| runs(pod)) {
        Some(pod) => match context.reports.ask(pod).await {
            Ok(report) => report.progress,
            Err(error) => {
                tracing::debug!(
                    namespace,
                    full = name,
                    error = text(&error),
                    "the Job's pod does not say how far it is"
                );
                None
            }
        },
        None => None,
    };
    Facts {
        policy: seen(&context.seen.policies, &namespace, &full.spec.policy_ref.name),
        config_map: seen(&context.seen.config_maps, &namespace, &manifests_name(&name)),
        job,
        pods,
        progress,
    }
}

fn is_of<K: ResourceExt>(child: &K, uid: Option<&str>) -> bool {
    child.owner_references().iter().any(|owner| owner.controller == Some(true) && uid == Some(&owner.uid))
}

/// Whether its container is at work.
pub fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}
