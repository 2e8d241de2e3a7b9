//! What every reconciliation uses: the client's ends, and what the watches show.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};

use super::Error;
use super::apply::Applier;
use super::error::text;
use super::reports::Reports;
use super::watches::Gone;
use crate::api::{BackupPolicy, FullBackup, RestoreRequest};

/// How the operator itself was told to work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the pods it makes: its own.
    pub image: String,
    /// Objects of a kind that are reconciled at a time.
    pub concurrency: u16,
}

/// Shared by all controllers.
pub struct Context {
    /// For what `applier` does not do: creating, deleting, reading.
    pub client: Client,
    /// Writes.
    pub applier: Applier,
    /// Asks pods.
    pub reports: Reports,
    /// Tells people.
    pub recorder: Recorder,
    /// What the watches show.
    pub seen: Seen,
    /// How it was told to work.
    pub settings: Settings,
}

/// Objects as the watches show them: reading them costs no request. Of the kinds that others make too, only ours
/// ([`super::names::MANAGED_BY`]).
pub struct Seen {
    pub policies: Store<BackupPolicy>,
    pub full_backups: Store<FullBackup>,
    pub restore_requests: Store<RestoreRequest>,
    pub stateful_sets: Store<StatefulSet>,
    pub jobs: Store<Job>,
    pub config_maps: Store<ConfigMap>,
    pub services: Store<Service>,
    pub pods: Store<Pod>,
    pub gone_pods: Gone<Pod>,
}

impl Context {
    /// Publishes an event about `object`; one that cannot be published is logged.
    pub async fn event<K>(&self, object: &K, type_: EventType, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        // The API server takes 1024 bytes.
        let note: String = note.into().chars().take(250).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(object = object.name_any(), reason, error = text(&error), "cannot publish an event");
        }
    }
}

/// The object of that name, as a watch shows it.
pub fn seen<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

impl Seen {
    /// Waits until every watch has shown all there is once. Of several who wait for a store at a time, kube wakes the last one alone: this is
    /// for one.
    pub async fn complete(&self) -> Result<(), Error> {
        let Self {
            policies,
            full_backups,
            restore_requests,
            stateful_sets,
            jobs,
            config_maps,
            services,
            pods,
            gone_pods: _,
        } = self;
        let (listed, others) = tokio::join!(
            async {
                tokio::join!(
                    policies.wait_until_ready(),
                    full_backups.wait_until_ready(),
                    restore_requests.wait_until_ready()
                )
            },
            async {
                tokio::join!(
                    stateful_sets.wait_until_ready(),
                    jobs.wait_until_ready(),
                    config_maps.wait_until_ready(),
                    services.wait_until_ready(),
                    pods.wait_until_ready(),
                )
            },
        );
        let listed = listed.0.and(listed.1).and(listed.2);
        let others = others.0.and(others.1).and(others.2).and(others.3).and(others.4);
        listed.and(others).map_err(|_| Error::WatchEnded)
    }

    /// Pods of that namespace with all these labels, newest first.
    pub fn pods_with(&self, namespace: &str, labels: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.state();
        pods.retain(|pod| has(pod, namespace, labels));
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp()));
        pods
    }

    /// The same of a Job; behind them those that ended and are just gone: what they said last still counts.
    pub fn job_pods_with(&self, namespace: &str, labels: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let mut gone = self.gone_pods.state(Instant::now());
        gone.retain(|pod| has(pod, namespace, labels) && ended(pod));
        let mut pods = self.pods_with(namespace, labels);
        pods.append(&mut gone);
        pods
    }
}

fn has(pod: &Pod, namespace: &str, labels: &[(&str, &str)]) -> bool {
    labels.iter().all(|(key, value)| pod.labels().get(*key).is_some_and(|found| found == value))
        && pod.namespace().as_deref() == Some(namespace)
}

/// How soon something that failed is tried again.
pub const RETRY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;

    use super::*;
    use crate::controller::reports::outcome;

    #[test]
    fn what_the_pod_of_a_job_said_last_is_known_though_the_pod_is_gone() {
        let pod = |name: &str, phase: &str| -> Arc<Pod> {
            let text = format!(
                "{{metadata: {{name: {name}, namespace: shop, labels: {{of: night}}}}, status: {{phase: {phase}, containerStatuses: [{{name: \
                 tidemark, image: '', imageID: '', ready: false, restartCount: 0, state: {{terminated: {{exitCode: 0, message: \
                 '{{\"full\": {{\"id\": \"{name}\"}}}}'}}}}}}]}}}}"
            );
            Arc::new(serde_yaml::from_str(&text).unwrap())
        };
        let gone_pods = Gone::default();
        for pod in [pod("ended", "Succeeded"), pod("never-ended", "Running")] {
            gone_pods.remember(pod, Instant::now());
        }
        let seen = Seen {
            policies: store().0,
            full_backups: store().0,
            restore_requests: store().0,
            stateful_sets: store().0,
            jobs: store().0,
            config_maps: store().0,
            services: store().0,
            pods: store().0,
            gone_pods,
        };
        let pods = seen.job_pods_with("shop", &[("of", "night")]);
        let said: Vec<_> = pods.iter().filter_map(|pod| outcome(pod, "tidemark")?.1.full).collect();
        assert_eq!(said.iter().map(|full| full.id.as_str()).collect::<Vec<_>>(), ["ended"]);
        assert!(seen.job_pods_with("night", &[("of", "night")]).is_empty(), "another namespace");
        assert!(seen.job_pods_with("shop", &[("of", "day")]).is_empty(), "another Job");
        assert!(seen.pods_with("shop", &[("of", "night")]).is_empty(), "it is not there");
    }
}
