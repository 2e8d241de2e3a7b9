//! Makes the cluster look as was built and decided.

use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::Validated;
use super::build::Resources;
use super::dereference::Facts;
use super::fulls::{self, Decision, Start};
use super::retention;
use crate::api::BackupPolicy;
use crate::controller::prune::Standing;
use crate::controller::{Context, Error};

/// Applies what is wanted, and removes what is not. The ConfigMap comes first: a pod without it does not start.
pub async fn apply(context: &Context, resources: Resources, seen: &Facts) -> Result<(), Error> {
    let Resources { config_map, stateful_set } = resources;
    match (&config_map, &seen.config_map) {
        (Some(wanted), there) => context.applier.apply(wanted, there.as_deref()).await?,
        (None, Some(there)) => context.applier.delete(&**there).await?,
        (None, None) => {}
    }
    match (&stateful_set, &seen.stateful_set) {
        (Some(wanted), there) => context.applier.apply(wanted, there.as_deref()).await?,
        (None, Some(there)) => context.applier.delete(&**there).await?,
        (None, None) => {}
    }
    Ok(())
}

/// Begins a prune when one is due.
pub async fn prune(
    context: &Context,
    policy: &BackupPolicy,
    validated: &Validated,
    facts: &fulls::Facts<'_>,
    seen: &Facts,
) -> Result<(), Error> {
    let there = &seen.retention.config_map;
    if let (None, Some(there)) = (&validated.retention, there) {
        return context.applier.delete(&**there).await;
    }
    if let Some((job, Standing::Failed { stop: true, .. })) = seen.retention.standing() {
        context.applier.stop_retrying(job).await?;
    }
    let Some(name) = retention::due(validated, facts, &seen.retention) else { return Ok(()) };
    let (config_map, job) = retention::build(policy, validated, name, &context.settings.image)?;
    context.applier.apply(&config_map, there.as_deref()).await?;
    if context.applier.create(&job).await? {
        tracing::info!(namespace = policy.namespace(), policy = policy.name_any(), job = job.name_any(), "pruning");
    }
    Ok(())
}

/// Begins, stops and forgets fulls.
pub async fn carry_out(
    context: &Context,
    policy: &BackupPolicy,
    decision: &Decision,
    seen: &Facts,
) -> Result<(), Error> {
    let Decision { start, stop, forget, look_at: _, failures: _ } = decision;
    let named = |name: &String| seen.full_backups.iter().find(|full| full.name_any() == *name);
    for full in forget.iter().filter_map(named) {
        context.applier.delete(&**full).await?;
    }
    for full in stop.iter().filter_map(named) {
        let note = format!("a new full is due: stopping {}, which is under way", full.name_any());
        context.event(policy, EventType::Warning, "FullReplaced", note).await;
        context.applier.delete(&**full).await?;
    }
    if let Some(start) = start {
        let Start { name, due: _, reason } = start;
        if context.applier.create(&fulls::build(policy, start)).await? {
            tracing::info!(
                namespace = policy.namespace(),
                policy = policy.name_any(),
                full = name,
                reason,
                "taking a full"
            );
            context.event(policy, EventType::Normal, "FullStarted", format!("taking {name}: {reason}")).await;
        }
    }
    Ok(())
}
