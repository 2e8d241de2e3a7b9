//! Makes the cluster look as was built.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::ResultExt;

use super::build::{Resources, Work};
use super::dereference::{Facts, Found, found};
use super::server::{self, FreshServer};
use crate::controller::apply::MANAGER;
use crate::controller::error::ApiSnafu;
use crate::controller::names::REQUEST_UID;
use crate::controller::{Context, Error};

/// A watch shows within this what was made.
const LATENESS: Duration = Duration::from_secs(1);

/// Whether everything could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was, or was there.
    Done,
    /// Something that is not of this request has a name that it wants. It is left alone.
    Taken,
}

/// Makes what is not there, and changes what is to change. Nothing that is not of this request is ever touched.
pub async fn apply(context: &Context, resources: Resources, seen: &Facts) -> Result<Applied, Error> {
    match resources {
        Resources::Nothing => {}
        Resources::Plan(work) => {
            let Work { config_map, job } = *work;
            let made = [
                ensure(context, &config_map, &seen.plan_manifests, &context.seen.config_maps).await?,
                ensure(context, &job, &seen.plan_job, &context.seen.jobs).await?,
            ];
            return Ok(all(&made));
        }
        Resources::Restore(work) => {
            let Work { config_map, job } = *work;
            let made = [
                ensure(context, &config_map, &seen.manifests, &context.seen.config_maps).await?,
                ensure(context, &job, &seen.job, &context.seen.jobs).await?,
            ];
            return Ok(all(&made));
        }
        Resources::PlanAgain => {
            if let Some(job) = seen.plan_job.ours() {
                context.applier.delete(job).await?;
            }
        }
        Resources::Server(server) => return make(context, *server, seen).await,
        Resources::Open(template) => open(context, *template, seen).await?,
        Resources::Release => release(context, seen).await?,
        Resources::Stop => {
            for job in [&seen.plan_job, &seen.job].into_iter().filter_map(Found::ours) {
                context.applier.stop_retrying(job).await?;
            }
            stop(context, seen).await?;
        }
    }
    Ok(Applied::Done)
}

fn all(made: &[Applied]) -> Applied {
    if made.contains(&Applied::Taken) { Applied::Taken } else { Applied::Done }
}

async fn make(context: &Context, server: FreshServer, seen: &Facts) -> Result<Applied, Error> {
    let FreshServer { config_map, login, stateful_set, mut service, mut root } = server;
    let read = ensure(context, &config_map, &seen.manifests, &context.seen.config_maps).await?;
    if read == Applied::Taken {
        return Ok(read);
    }
    // Nobody can look whether a Secret is there: one of an earlier request of this name may have gone only just now.
    context.applier.create(&login).await?;
    let Found::Ours(made) = &seen.stateful_set else {
        return ensure(context, &stateful_set, &seen.stateful_set, &context.seen.stateful_sets).await;
    };
    let owner = server::owner(made);
    service.metadata.owner_references = owner.clone();
    root.metadata.owner_references = owner;
    // Its pod waits for this one, and says so where it is another's that lacks what it needs.
    context.applier.create(&root).await?;
    ensure(context, &service, &seen.service, &context.seen.services).await
}

/// Makes an object unless it is there.
async fn ensure<K>(context: &Context, object: &K, there: &Found<K>, store: &Store<K>) -> Result<Applied, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug
        + 'static,
{
    match there {
        Found::Ours(_) => return Ok(Applied::Done),
        Found::Others => return Ok(Applied::Taken),
        Found::Nothing => {}
    }
    if context.applier.create(object).await? {
        return Ok(Applied::Done);
    }
    // Ours, made a moment ago, or somebody else's, which the watch does not show.
    tokio::time::sleep(LATENESS).await;
    let uid = object.labels().get(REQUEST_UID).map(String::as_str).unwrap_or_default();
    match found(store, &object.namespace().unwrap_or_default(), &object.name_any(), uid) {
        Found::Ours(_) => Ok(Applied::Done),
        Found::Nothing | Found::Others => Ok(Applied::Taken),
    }
}

/// Changes the pod of the server to the open one; the StatefulSet replaces it.
async fn open(context: &Context, template: PodTemplateSpec, seen: &Facts) -> Result<(), Error> {
    let Some(stateful_set) = seen.stateful_set.ours() else { return Ok(()) };
    let mut template = serde_json::json!(template);
    if let Some(fields) = template.as_object_mut() {
        // The whole template, not a change of it.
        fields.insert("$patch".to_owned(), "replace".into());
    }
    let patch = serde_json::json!({
        "metadata": {"uid": stateful_set.uid()},
        "spec": {"template": template},
    });
    change(context, stateful_set, Patch::Strategic(patch), "open").await
}

/// Ends a server whose restore failed: the engine beside it would try again for ever. Its disk goes with the request.
async fn stop(context: &Context, seen: &Facts) -> Result<(), Error> {
    let Some(stateful_set) = seen.stateful_set.ours() else { return Ok(()) };
    if stateful_set.spec.replicas == Some(0) {
        return Ok(());
    }
    let patch = serde_json::json!({"metadata": {"uid": stateful_set.uid()}, "spec": {"replicas": 0}});
    change(context, stateful_set, Patch::Merge(patch), "stop").await
}

/// Lets the server stay when the request goes: it is its user's from here on.
async fn release(context: &Context, seen: &Facts) -> Result<(), Error> {
    let Some(stateful_set) = seen.stateful_set.ours() else { return Ok(()) };
    if stateful_set.owner_references().is_empty() {
        return Ok(());
    }
    let patch = serde_json::json!({
        "metadata": {"uid": stateful_set.uid(), "ownerReferences": null},
        "spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}},
    });
    change(context, stateful_set, Patch::Merge(patch), "release").await
}

async fn change(
    context: &Context,
    stateful_set: &StatefulSet,
    patch: Patch<serde_json::Value>,
    verb: &str,
) -> Result<(), Error> {
    let (namespace, name) = (stateful_set.namespace().unwrap_or_default(), stateful_set.name_any());
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let changed = api.patch(&name, &parameters, &patch).await;
    changed.map(drop).context(ApiSnafu { doing: format!("{verb} StatefulSet {namespace}/{name}") })
}
