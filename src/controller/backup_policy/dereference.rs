//! What there is: from the watches' stores, and from the stream's pod itself. No request to the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt;

use super::build::{STREAM, source_name, stream_name};
use super::{retention, verification};
use crate::api::report::PodReport;
use crate::api::{BackupPolicy, FullBackup};
use crate::controller::context::seen;
use crate::controller::error::text;
use crate::controller::names::{COMPONENT, POLICY, label_value};
use crate::controller::reports::waits_for;
use crate::controller::{Context, readers};

/// What a policy's reconciliation knows.
pub struct Facts {
    /// Its stream's StatefulSet, if it is there and of this policy.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The ConfigMap that goes with it.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The Service in front of the source's pods.
    pub service: Option<Arc<Service>>,
    /// The stream's pod.
    pub pod: Option<Arc<Pod>>,
    /// How the stream is.
    pub stream: StreamSeen,
    /// Every FullBackup of the policy, whoever made it, but those that are to go.
    pub full_backups: Vec<Arc<FullBackup>>,
    /// Those.
    pub going: Vec<Arc<FullBackup>>,
    /// What there is of its prunes.
    pub retention: retention::Seen,
    /// What there is of its verifies.
    pub verification: verification::Seen,
}

/// The stream's pod, from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamSeen {
    /// There is none (yet), or it is on its way up.
    Starting,
    /// It cannot start.
    Waits {
        /// The kubelet's or scheduler's word.
        reason: String,
        /// Its sentence.
        message: String,
    },
    /// It runs and does not answer.
    Silent {
        /// Why not.
        message: String,
    },
    /// It answered.
    Reports(Box<PodReport>),
}

impl StreamSeen {
    /// What it says of itself.
    pub fn report(&self) -> Option<&PodReport> {
        match self {
            StreamSeen::Reports(report) => Some(report),
            StreamSeen::Starting | StreamSeen::Waits { .. } | StreamSeen::Silent { .. } => None,
        }
    }

    /// Whether asking it again makes sense.
    pub fn is_running(&self) -> bool {
        matches!(self, StreamSeen::Reports(_) | StreamSeen::Silent { .. })
    }
}

/// Looks.
pub async fn dereference(policy: &BackupPolicy, context: &Context) -> Facts {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let of_this =
        |full: &Arc<FullBackup>| full.spec.policy_ref.name == name && full.namespace().as_deref() == Some(&namespace);
    let full_backups = context.seen.full_backups.state().into_iter().filter(of_this);
    let (full_backups, going) = full_backups.partition(|full| full.metadata.deletion_timestamp.is_none());
    let child = stream_name(&name);
    let pods = context.seen.pods_with(&namespace, &[(COMPONENT, STREAM), (POLICY, &label_value(&name))]);
    let pod = pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    Facts {
        stateful_set: seen(&context.seen.stateful_sets, &namespace, &child).filter(|set| is_of(&**set, policy)),
        config_map: seen(&context.seen.config_maps, &namespace, &child).filter(|map| is_of(&**map, policy)),
        service: seen(&context.seen.services, &namespace, &source_name(&name)).filter(|it| is_of(&**it, policy)),
        stream: match &pod {
            Some(pod) => look_at(pod, context).await,
            None => StreamSeen::Starting,
        },
        pod,
        full_backups,
        going,
        retention: prunes(policy, context, &namespace, &name),
        verification: verifies(policy, context, &namespace, &name).await,
    }
}

/// A policy's Jobs with these labels, newest first.
fn jobs(policy: &BackupPolicy, context: &Context, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Job>> {
    let labelled = |job: &Job| labels.iter().all(|(key, value)| job.labels().get(key) == Some(value));
    let mut jobs = context.seen.jobs.state();
    jobs.retain(|job| job.namespace().as_deref() == Some(namespace) && labelled(job) && is_of(&**job, policy));
    jobs.sort_by_key(|job| std::cmp::Reverse(job.creation_timestamp()));
    jobs
}

async fn verifies(policy: &BackupPolicy, context: &Context, namespace: &str, name: &str) -> verification::Seen {
    let config_map = seen(&context.seen.config_maps, namespace, &verification::manifests_name(name));
    let mut seen = verification::Seen {
        jobs: jobs(policy, context, namespace, &verification::labels_of(name)),
        pods: context.seen.job_pods_with(namespace, &[(COMPONENT, verification::VERIFY), (POLICY, &label_value(name))]),
        config_map: config_map.filter(|map| is_of(&**map, policy)),
        progress: None,
    };
    if let Some((_, verification::Standing::Runs)) = seen.standing()
        && let Some(pod) = seen.pods.first()
    {
        // One that is on its way up says nothing yet.
        seen.progress = context.reports.ask(pod).await.ok().and_then(|report| report.progress);
    }
    seen
}

fn prunes(policy: &BackupPolicy, context: &Context, namespace: &str, name: &str) -> retention::Seen {
    let jobs = jobs(policy, context, namespace, &retention::labels_of(name));
    let config_map = seen(&context.seen.config_maps, namespace, &retention::manifests_name(name));
    retention::Seen {
        jobs,
        pods: context.seen.job_pods_with(namespace, &[(COMPONENT, retention::PRUNE), (POLICY, &label_value(name))]),
        config_map: config_map.filter(|map| is_of(&**map, policy)),
        restoring: readers::restore_under_way(&context.seen, policy),
    }
}

/// Whether `policy` made `child`: one of the same name may have been there before.
pub fn is_of<K: ResourceExt>(child: &K, policy: &BackupPolicy) -> bool {
    child
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && policy.metadata.uid.as_ref() == Some(&owner.uid))
}

async fn look_at(pod: &Pod, context: &Context) -> StreamSeen {
    if let Some((reason, message)) = waits_for(pod) {
        return StreamSeen::Waits { reason, message };
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Running") {
        return StreamSeen::Starting;
    }
    match context.reports.ask(pod).await {
        Ok(report) => StreamSeen::Reports(Box::new(report)),
        Err(error) => StreamSeen::Silent { message: text(&error) },
    }
}
