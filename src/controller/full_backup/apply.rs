//! Makes the cluster look as was built.

use kube::ResourceExt;

use super::build::{Resources, job_name, manifests_name};
use super::dereference::Facts;
use crate::api::FullBackup;
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
