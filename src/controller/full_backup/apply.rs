//! Makes the cluster look as was built.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use snafu::ResultExt;

use super::build::{Resources, job_name, manifests_name};
use super::dereference::Facts;
use crate::api::FullBackup;
use crate::controller::error::ApiSnafu;
use crate::controller::{Context, Error};

/// Applies the ConfigMap, then the Job that needs it.
pub async fn apply(context: &Context, resources: Resources, seen: &Facts) -> Result<(), Error> {
    let Resources { config_map, job } = resources;
    context.applier.apply(&config_map, seen.config_map.as_deref()).await?;
    context.applier.apply(&job, seen.job.as_deref()).await
}

/// Forgets what was applied for one that has ended: there are many over the years.
pub fn forget(context: &Context, full: &FullBackup) {
    let (namespace, name) = (full.namespace().unwrap_or_default(), full.name_any());
    context.applier.forget("FullBackup", &namespace, &name);
    context.applier.forget("Job", &namespace, &job_name(&name));
    context.applier.forget("ConfigMap", &namespace, &manifests_name(&name));
}

/// Lets the Job make no further pod: what failed will fail again until somebody changes something. Its log stays.
pub async fn stop_retrying(context: &Context, seen: &Facts) -> Result<(), Error> {
    let Some(job) = seen.job.as_deref() else { return Ok(()) };
    if job.spec.as_ref().and_then(|spec| spec.backoff_limit) == Some(0) {
        return Ok(());
    }
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let patch = Patch::Merge(serde_json::json!({"spec": {"backoffLimit": 0}}));
    match api.patch(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        patched => patched.map(drop).context(ApiSnafu { doing: format!("stop Job {namespace}/{name}") }),
    }
}
