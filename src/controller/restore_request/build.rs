//! What each step wants to be there. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use kube::ResourceExt;

use super::dereference::{Facts, Found};
use super::manifests;
use super::names::{self, PLAN, RESTORE, labels};
use super::next::{Doing, Finished, Step};
use super::server::{self, FreshServer, Passwords};
use super::validate::{Into, Validated};
use crate::api::{DecryptionSpec, IntoExistingSpec, RestoreRequest, SecretKeyRef, TargetSpec};
use crate::controller::Error;
use crate::controller::engine_pod::{EnginePod, MANIFEST, failure_policy};
use crate::controller::names::child_of;
use crate::controller::secrets;

/// Attempts after the first one, with pauses of 10 s, 20 s, 40 s, …: for what passes by itself.
const PLAN_RETRIES: i32 = 5;
/// A restore goes on where it was cut off, and may run for hours over many nodes' ends.
const RESTORE_RETRIES: i32 = 20;
/// Where a restore offers the log to a server that exists, unless its request says otherwise.
const SERVE_LISTEN: &str = "0.0.0.0:3310";

/// What is to be made or changed now. What is there is never made again.
pub enum Resources {
    /// Nothing.
    Nothing,
    /// The Job that plans.
    Plan(Box<Work>),
    /// The Job that restores.
    Restore(Box<Work>),
    /// The Job that plans is to go.
    PlanAgain,
    /// A fresh server, shut.
    Server(Box<FreshServer>),
    /// The server's pod, open.
    Open(Box<PodTemplateSpec>),
    /// The server is its user's.
    Release,
    /// No Job may try again.
    Stop,
}

/// A Job and what it reads.
pub struct Work {
    /// Manifests.
    pub config_map: ConfigMap,
    /// The Job.
    pub job: Job,
}

/// Builds it.
pub fn build(
    request: &RestoreRequest,
    validated: &Validated,
    step: &Step,
    seen: &Facts,
    image: &str,
) -> Result<Resources, Error> {
    Ok(match (step, &validated.into) {
        (Step::Plan(Doing::Waits { .. }), _) => Resources::Plan(Box::new(plan(request, validated, image)?)),
        (Step::PlanAgain, _) => Resources::PlanAgain,
        (Step::Restore(Doing::Waits { .. }), Into::Existing(into)) => {
            Resources::Restore(Box::new(restore(request, validated, into, image)?))
        }
        (Step::Restore(Doing::Waits { .. }) | Step::Open(_), Into::Fresh(into)) => {
            let flavor = server::flavor(request);
            if matches!((step, &seen.stateful_set), (Step::Open(_), Found::Ours(made)) if !server::is_open(made)) {
                return Ok(Resources::Open(Box::new(server::open(validated, into, flavor))));
            }
            let passwords = Passwords::random();
            Resources::Server(Box::new(server::build(request, validated, into, flavor, image, &passwords)?))
        }
        (Step::Finish(Finished::Opened(_)), Into::Fresh(_)) => Resources::Release,
        (Step::Fail(_), _) => Resources::Stop,
        (
            Step::Plan(Doing::Runs(_))
            | Step::Restore(Doing::Runs(_))
            | Step::Open(_)
            | Step::Planned(_)
            | Step::Proved(_)
            | Step::Finish(_),
            _,
        ) => Resources::Nothing,
    })
}

fn plan(request: &RestoreRequest, validated: &Validated, image: &str) -> Result<Work, Error> {
    let name = names::plan(&request.name_any());
    let config_map = config_map(request, validated, PLAN, name.clone(), manifests::plan(validated)?);
    let storage = &validated.archive.storage;
    let identity = secrets::of_decryption(validated.decryption.as_ref());
    let pod = EnginePod {
        image,
        arguments: plan_arguments(&validated.target, validated.as_of.as_deref(), validated.decryption.as_ref()),
        manifests: &config_map,
        secrets: &secrets::of_storage(storage).into_iter().chain(identity).collect(),
        storage,
        copies: &[],
        ends: true,
        template: validated.archive.job_template.as_ref(),
    };
    let job = job(request, validated, PLAN, name, PLAN_RETRIES, &pod);
    Ok(Work { config_map, job })
}

/// The target in arguments: a plan needs no server, and a RestoreRequest always names one.
fn plan_arguments(target: &TargetSpec, as_of: Option<&str>, decryption: Option<&DecryptionSpec>) -> Vec<String> {
    let TargetSpec { time, gtid, position, latest, exclusive, skip_gtids, allow_nearest } = target;
    let mut arguments = vec!["restore".to_owned(), "--dry-run".to_owned()];
    let texts = [("--to-time", time), ("--to-gtid", gtid), ("--to-position", position), ("--skip-gtid", skip_gtids)];
    for (argument, text) in texts.into_iter().filter_map(|(argument, text)| Some((argument, text.as_ref()?))) {
        // The kubelet expands variables in arguments.
        arguments.push(format!("{argument}={}", text.replace("$(", "$$(")));
    }
    arguments.extend(as_of.map(|at| format!("--as-of={at}")));
    if let Some(DecryptionSpec { identity_secret_ref: SecretKeyRef { name, key } }) = decryption {
        let key = key.as_ref().map(|key| format!("/{key}")).unwrap_or_default();
        arguments.push(format!("--identity-secret={name}{key}"));
    }
    let switches = [("--latest", latest), ("--exclusive", exclusive), ("--allow-nearest", allow_nearest)];
    arguments.extend(switches.into_iter().filter(|(_, on)| **on).map(|(argument, _)| argument.to_owned()));
    arguments
}

fn restore(
    request: &RestoreRequest,
    validated: &Validated,
    into: &IntoExistingSpec,
    image: &str,
) -> Result<Work, Error> {
    let IntoExistingSpec { host: _, port: _, credentials_secret_ref, tls, serve_listen, serve_advertise } = into;
    let name = names::restore(&request.name_any());
    let config_map = config_map(request, validated, RESTORE, name.clone(), manifests::restore(validated)?);
    let storage = &validated.archive.storage;
    let mut secrets: BTreeSet<String> = secrets::of_storage(storage).into_iter().collect();
    secrets.insert(credentials_secret_ref.name.clone());
    secrets.extend(secrets::of_decryption(validated.decryption.as_ref()));
    secrets.extend(tls.ca_secret_ref.iter().map(|reference| reference.name.clone()));
    let mut arguments = vec!["restore".to_owned()];
    if serve_listen.is_none() {
        arguments.extend(["--serve-listen".to_owned(), SERVE_LISTEN.to_owned()]);
    }
    if serve_advertise.is_none() {
        arguments.extend(["--serve-advertise".to_owned(), "$(POD_IP)".to_owned()]);
    }
    let pod = EnginePod {
        image,
        arguments,
        manifests: &config_map,
        secrets: &secrets,
        storage,
        copies: &[],
        ends: true,
        template: validated.archive.job_template.as_ref(),
    };
    let job = job(request, validated, RESTORE, name, RESTORE_RETRIES, &pod);
    Ok(Work { config_map, job })
}

/// What a pod reads. It never changes, and so neither does the pod.
pub fn config_map(
    request: &RestoreRequest,
    validated: &Validated,
    component: &str,
    name: String,
    text: String,
) -> ConfigMap {
    ConfigMap {
        metadata: child_of(request, name, labels(component, &validated.name, &validated.uid)),
        data: Some([(MANIFEST.to_owned(), text)].into()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn job(
    request: &RestoreRequest,
    validated: &Validated,
    component: &str,
    name: String,
    retries: i32,
    pod: &EnginePod<'_>,
) -> Job {
    let labels = labels(component, &validated.name, &validated.uid);
    Job {
        metadata: child_of(request, name, labels.clone()),
        spec: Some(JobSpec {
            backoff_limit: Some(retries),
            pod_failure_policy: Some(failure_policy()),
            // Two pods at a time would restore into one server.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: pod.template(labels),
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

#[cfg(test)]
mod tests;
