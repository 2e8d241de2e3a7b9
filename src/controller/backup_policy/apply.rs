//! Makes the cluster look as was built and decided.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::Validated;
use super::build::Resources;
use super::dereference::{Facts, is_of};
use super::fulls::{self, Decision, Start};
use super::holdings::Holdings;
use super::{retention, verification};
use crate::api::BackupPolicy;
use crate::controller::context::seen;
use crate::controller::error::TakenSnafu;
use crate::controller::names::CLAIMS;
use crate::controller::prune::Standing;
use crate::controller::{Context, Error, full_backup};

/// A watch shows within this what was made.
const LATENESS: Duration = Duration::from_secs(1);

/// Applies what is wanted, and removes what is not. The ConfigMap comes first: a pod without it does not start.
pub async fn apply(context: &Context, policy: &BackupPolicy, resources: Resources, seen: &Facts) -> Result<(), Error> {
    let Resources { config_map, stateful_set, service } = resources;
    match (&service, &seen.service) {
        (Some(wanted), Some(there)) => context.applier.apply(wanted, Some(there)).await?,
        (Some(wanted), None) => make(context, policy, wanted).await?,
        (None, Some(there)) => context.applier.delete(&**there).await?,
        (None, None) => {}
    }
    match (&config_map, &seen.config_map) {
        (Some(wanted), there) => context.applier.apply(wanted, there.as_deref()).await?,
        (None, Some(there)) => context.applier.delete(&**there).await?,
        (None, None) => {}
    }
    match (&stateful_set, &seen.stateful_set) {
        // What claims it makes cannot be changed: it is made anew, and finds the claim that is there.
        (Some(wanted), Some(there)) if claims(wanted) != claims(there) => context.applier.delete(&**there).await?,
        (Some(wanted), there) => context.applier.apply(wanted, there.as_deref()).await?,
        (None, Some(there)) => context.applier.delete(&**there).await?,
        (None, None) => {}
    }
    Ok(())
}

/// What a StatefulSet's claims were made from.
fn claims(set: &StatefulSet) -> Option<&String> {
    set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CLAIMS))
}

/// Makes a Service unless somebody else's has its name: pods would be led to another source.
async fn make(context: &Context, policy: &BackupPolicy, service: &Service) -> Result<(), Error> {
    if context.applier.create(service).await? {
        return Ok(());
    }
    // Ours, made a moment ago, or another one, which the watch does not show.
    tokio::time::sleep(LATENESS).await;
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    match seen(&context.seen.services, &namespace, &name).is_some_and(|there| is_of(&*there, policy)) {
        true => Ok(()),
        false => TakenSnafu { what: format!("Service {name}") }.fail(),
    }
}

/// Stops a prune when something is to be restored from the archive: it is due again, and begun anew, afterwards.
pub async fn hold(context: &Context, seen: &retention::Seen) -> Result<(), Error> {
    match seen.under_way().filter(|_| seen.restoring.is_some()) {
        Some(job) => context.applier.delete(&**job).await,
        None => Ok(()),
    }
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
    let due = retention::due(validated, facts, &seen.retention);
    let Some(name) = due.filter(|_| seen.retention.restoring.is_none()) else { return Ok(()) };
    let (config_map, job) = retention::build(policy, validated, name, &context.settings.image)?;
    context.applier.apply(&config_map, there.as_deref()).await?;
    if context.applier.create(&job).await? {
        tracing::info!(namespace = policy.namespace(), policy = policy.name_any(), job = job.name_any(), "pruning");
    }
    Ok(())
}

/// Begins a verify when one is due or asked for; which.
pub async fn verify(
    context: &Context,
    policy: &BackupPolicy,
    validated: &Validated,
    seen: &Facts,
    now: Timestamp,
) -> Result<Option<verification::Begin>, Error> {
    let seen = &seen.verification;
    if let Some(there) = seen.config_map.as_ref().filter(|_| verification::is_off(policy, validated)) {
        context.applier.delete(&**there).await?;
        return Ok(None);
    }
    // What it found does not change when it is tried again.
    let ended = matches!(
        seen.standing(),
        Some((_, verification::Standing::Done(Some(_)) | verification::Standing::Failed { stop: true, .. }))
    );
    if let (true, Some((job, _))) = (ended, seen.standing()) {
        context.applier.stop_retrying(job).await?;
    }
    let Some(begin) = verification::due(policy, validated, seen, now) else { return Ok(None) };
    let (config_map, job) = verification::build(policy, validated, &begin, &context.settings.image)?;
    context.applier.apply(&config_map, seen.config_map.as_deref()).await?;
    if context.applier.create(&job).await? {
        tracing::info!(namespace = policy.namespace(), policy = policy.name_any(), job = job.name_any(), "verifying");
    }
    Ok(Some(begin))
}

/// FullBackups whose fulls are gone from the archive go, too, where the policy made them; those of others are told so: who keeps one in Git
/// would only have it made, and taken, again.
pub async fn tell_gone(context: &Context, policy: &BackupPolicy, seen: &Facts, now: Timestamp) -> Result<(), Error> {
    let archive = seen.stream.report().and_then(|report| report.archive.as_ref());
    let Some(holdings) = Holdings::newest(archive, seen.retention.done().as_ref()) else { return Ok(()) };
    let all: Vec<_> = seen.full_backups.iter().chain(&seen.going).cloned().collect();
    for full in holdings.lacks(&all) {
        let (namespace, name) = (full.namespace(), full.name_any());
        if is_of(&**full, policy) && full.metadata.deletion_timestamp.is_none() {
            tracing::info!(namespace, full = name, "its full is gone from the archive: the FullBackup goes, too");
            context.applier.delete(&**full).await?;
        } else if !full_backup::is_gone(full) {
            full_backup::tell_gone(context, full, now).await?;
        }
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
