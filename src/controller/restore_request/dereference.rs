//! What there is: from the watches' stores, and from the pod at work itself. No request to the API server.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};

use super::manifests;
use super::names::{self, PLAN, RESTORE, SERVER};
use super::validate::Archive;
use crate::api::report::PodReport;
use crate::api::{BackupPolicy, RestoreRequest};
use crate::controller::context::seen;
use crate::controller::engine_pod::CONTAINER;
use crate::controller::error::text;
use crate::controller::names::{COMPONENT, OPEN, REQUEST_UID};
use crate::controller::{Context, readers};

/// What is there under a name that a request wants.
#[derive(Clone, Debug)]
pub enum Found<K> {
    /// Nothing that we made. (Something that others made is not seen.)
    Nothing,
    /// What this request made.
    Ours(Arc<K>),
    /// What another one made: one that had this name before, for example, and whose server was kept.
    Others,
}

impl<K> Found<K> {
    /// What this request made.
    pub fn ours(&self) -> Option<&K> {
        match self {
            Found::Ours(object) => Some(object),
            Found::Nothing | Found::Others => None,
        }
    }
}

/// What a request's reconciliation knows.
pub struct Facts {
    /// The policy it names.
    pub policy: Option<Arc<BackupPolicy>>,
    /// Of one that is not begun: the Job that deletes from its archive now.
    pub pruned_by: Option<String>,
    /// What the Job that plans reads.
    pub plan_manifests: Found<ConfigMap>,
    /// The archive in it.
    pub planned_from: Option<Archive>,
    /// The Job that plans.
    pub plan_job: Found<Job>,
    /// Its pods, newest first.
    pub plan_pods: Vec<Arc<Pod>>,
    /// What the restore reads.
    pub manifests: Found<ConfigMap>,
    /// The Job that restores into a server that exists.
    pub job: Found<Job>,
    /// Its pods, newest first.
    pub job_pods: Vec<Arc<Pod>>,
    /// The fresh server.
    pub stateful_set: Found<StatefulSet>,
    /// Its pods, newest first.
    pub server_pods: Vec<Arc<Pod>>,
    /// The way to it.
    pub service: Found<Service>,
    /// What the pod that restores says of itself, if one does.
    pub report: Option<PodReport>,
}

/// Looks.
pub async fn dereference(request: &RestoreRequest, context: &Context) -> Facts {
    let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
    let uid = request.uid().unwrap_or_default();
    let policy = request.spec.policy_ref.as_ref();
    let service = request.spec.into.as_ref().and_then(|into| into.service.as_deref()).unwrap_or(&name);
    let (stores, uid) = (&context.seen, uid.as_str());
    let job_pods = |component| stores.job_pods_with(&namespace, &[(REQUEST_UID, uid), (COMPONENT, component)]);
    let plan_manifests = found(&stores.config_maps, &namespace, &names::plan(&name), uid);
    let (plan_pods, job_pods) = (job_pods(PLAN), job_pods(RESTORE));
    let server_pods = stores.pods_with(&namespace, &[(REQUEST_UID, uid), (COMPONENT, SERVER)]);
    let at_work = job_pods.iter().chain(&server_pods).find(|pod| !pod.labels().contains_key(OPEN) && works(pod));
    let report = match at_work {
        Some(pod) => match context.reports.ask(pod).await {
            Ok(report) => Some(report),
            Err(error) => {
                tracing::debug!(namespace, request = name, error = text(&error), "the pod does not say how far it is");
                None
            }
        },
        None => None,
    };
    let plan_job = found(&stores.jobs, &namespace, &names::plan(&name), uid);
    let begun = plan_job.ours().is_some() || request.status.as_ref().is_some_and(|status| status.plan.is_some());
    Facts {
        pruned_by: if begun { None } else { readers::prune_under_way(stores, request) },
        policy: policy.and_then(|policy| seen(&stores.policies, &namespace, &policy.name)),
        planned_from: plan_manifests.ours().and_then(manifests::archive),
        plan_manifests,
        plan_job,
        plan_pods,
        manifests: found(&stores.config_maps, &namespace, &names::restore(&name), uid),
        job: found(&stores.jobs, &namespace, &names::restore(&name), uid),
        job_pods,
        stateful_set: found(&stores.stateful_sets, &namespace, &name, uid),
        server_pods,
        service: found(&stores.services, &namespace, service, uid),
        report,
    }
}

/// What a store shows under a name.
pub fn found<K>(store: &Store<K>, namespace: &str, name: &str, uid: &str) -> Found<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    match seen(store, namespace, name) {
        None => Found::Nothing,
        Some(object) if object.labels().get(REQUEST_UID).is_some_and(|of| of == uid) => Found::Ours(object),
        Some(_) => Found::Others,
    }
}

/// Whether the engine runs in it.
pub fn works(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let engine = statuses.into_iter().flatten().find(|status| status.name == CONTAINER);
    engine.and_then(|engine| engine.state.as_ref()).is_some_and(|state| state.running.is_some())
}
