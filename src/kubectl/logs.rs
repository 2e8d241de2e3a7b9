//! `kubectl tidemark logs`.

use std::io::{Write, stdout};
use std::str::FromStr;

use futures::stream::{self, BoxStream};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use snafu::ResultExt;

use super::args::LogsArgs;
use super::cluster::Cluster;
use super::error::{ApiSnafu, Error, explain};
use super::report::condition;
use crate::api::{BackupPolicy, FullBackup, RestoreRequest};

/// An object whose pods are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A BackupPolicy.
    Policy(String),
    /// A FullBackup.
    Full(String),
    /// A RestoreRequest.
    Restore(String),
}

impl FromStr for Object {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} names no object: write policy/NAME, full/NAME or restore/NAME");
        let (kind, name) = text.split_once('/').ok_or_else(refused)?;
        if name.is_empty() || name.contains('/') {
            return Err(refused());
        }
        let kind = kind.to_lowercase();
        match kind.trim_end_matches(".tidemark.dev") {
            "policy" | "bp" | "backuppolicy" | "backuppolicies" => Ok(Self::Policy(name.to_owned())),
            "full" | "fb" | "fullbackup" | "fullbackups" => Ok(Self::Full(name.to_owned())),
            "restore" | "rr" | "restorerequest" | "restorerequests" => Ok(Self::Restore(name.to_owned())),
            _ => Err(refused()),
        }
    }
}

/// Shows what the pods that work for an object say.
pub async fn run(cluster: &Cluster, args: LogsArgs) -> Result<(), Error> {
    let (selector, why) = look(cluster, &args.object).await?;
    let pods: Api<Pod> = cluster.api();
    let found = pods.list(&ListParams::default().labels(&selector)).await.context(ApiSnafu { doing: "list pods" })?;
    let mut found = found.items;
    if found.is_empty() {
        return Err(Error::NoPods { object: args.object.to_string(), why });
    }
    found.sort_by_key(|pod| pod.creation_timestamp());
    let logs = found.iter().flat_map(|pod| logs_of(&pods, pod, &args));
    let logs = stream::iter(logs.collect::<Vec<_>>());
    let mut lines = if args.follow { logs.flatten_unordered(None).boxed() } else { logs.flatten().boxed() };
    while let Some(line) = lines.next().await {
        // A reader that has seen enough is no failure.
        if writeln!(stdout(), "{line}").is_err() {
            break;
        }
    }
    Ok(())
}

/// The labels of an object's pods, and what it says of itself.
async fn look(cluster: &Cluster, object: &Object) -> Result<(String, String), Error> {
    let (selector, conditions, type_) = match object {
        Object::Policy(name) => {
            let policy = cluster.get::<BackupPolicy>(name).await?;
            (format!("tidemark.dev/policy={name}"), policy.status.unwrap_or_default().conditions, "Ready")
        }
        Object::Full(name) => {
            let full = cluster.get::<FullBackup>(name).await?;
            (format!("tidemark.dev/full-backup={name}"), full.status.unwrap_or_default().conditions, "Complete")
        }
        Object::Restore(name) => {
            // By its uid: another one may have had its name, and its server is still there.
            let request = cluster.get::<RestoreRequest>(name).await?;
            let selector = format!("tidemark.dev/request-uid={}", request.uid().unwrap_or_default());
            (selector, request.status.unwrap_or_default().conditions, "Complete")
        }
    };
    Ok((selector, said(&conditions, type_)))
}

fn said(conditions: &[Condition], type_: &str) -> String {
    match condition(conditions, type_) {
        Some(condition) => format!("{type_} is {} ({}): {}", condition.status, condition.reason, condition.message),
        None => "the operator has not looked at it yet".to_owned(),
    }
}

/// The logs of a pod's containers, in the order in which they start.
fn logs_of<'a>(pods: &'a Api<Pod>, pod: &Pod, args: &LogsArgs) -> Vec<BoxStream<'a, String>> {
    if let Some(why) = homeless(pod) {
        // The API server answers with an empty log.
        let line = format!("{} (no log: it has no node yet: {why})", pod.name_any());
        return vec![stream::iter([line]).boxed()];
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let all = spec.init_containers.into_iter().flatten().chain(spec.containers);
    all.map(|container| log(pods, pod.name_any(), container.name, args)).collect()
}

/// Why a pod has no node, where it has none.
fn homeless(pod: &Pod) -> Option<String> {
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        return None;
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    Some(
        scheduled
            .and_then(|condition| condition.message.clone())
            .unwrap_or_else(|| "the scheduler has not said why".to_owned()),
    )
}

/// The lines of one container, each with its name in front.
fn log<'a>(pods: &'a Api<Pod>, pod: String, container: String, args: &LogsArgs) -> BoxStream<'a, String> {
    let params = LogParams {
        container: Some(container.clone()),
        follow: args.follow,
        previous: args.previous,
        tail_lines: args.tail,
        ..LogParams::default()
    };
    let name = format!("{pod}/{container}");
    let lines = async move {
        match pods.log_stream(&pod, &params).await {
            Ok(log) => log.lines().map_err(|error| error.to_string()).boxed(),
            // One that waits for its start has no log: that is told in its place.
            Err(error) => stream::iter([Err(explain(&error))]).boxed(),
        }
    };
    stream::once(lines)
        .flatten()
        .map(move |line| match line {
            Ok(line) => format!("{name} {line}"),
            Err(error) => format!("{name} (no log: {error})"),
        })
        .boxed()
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = match self {
            Self::Policy(name) => ("policy", name),
            Self::Full(name) => ("full", name),
            Self::Restore(name) => ("restore", name),
        };
        write!(f, "{kind}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        for text in ["policy/orders", "bp/orders", "BackupPolicy/orders", "backuppolicies.tidemark.dev/orders"] {
            assert_eq!(text.parse(), Ok(Object::Policy("orders".to_owned())), "{text}");
        }
        assert_eq!("fb/x".parse(), Ok(Object::Full("x".to_owned())));
        assert_eq!("restorerequest/x".parse(), Ok(Object::Restore("x".to_owned())));
        for text in ["orders", "pod/x", "policy/", "/x", "policy/a/b"] {
            assert!(text.parse::<Object>().unwrap_err().contains("write policy/NAME"), "{text}");
        }
    }

    #[test]
    fn a_pod_without_a_node_is_told_with_the_schedulers_words() {
        let pod = |text: &str| serde_yaml::from_str::<Pod>(text).unwrap();
        let waits = pod(
            "{spec: {containers: []}, status: {conditions: [{type: PodScheduled, status: 'False', message: no node has room}]}}",
        );
        assert_eq!(homeless(&waits).as_deref(), Some("no node has room"));
        assert_eq!(homeless(&pod("{spec: {nodeName: n, containers: []}}")), None);
    }

    /// What the operator writes on its pods, by its own snapshots.
    #[test]
    fn pods_are_found_by_the_labels_that_the_operator_puts_on_them() {
        let full = include_str!(
            "../controller/full_backup/snapshots/tidemark__controller__full_backup__build__tests__a_full_is_a_job_that_runs_backup_as_the_policy_wants_its_jobs.snap"
        );
        let stream = include_str!(
            "../controller/backup_policy/build/snapshots/tidemark__controller__backup_policy__build__tests__a_stream_is_a_stateful_set_of_one_pod_and_the_manifest_that_it_reads.snap"
        );
        let restore = include_str!(
            "../controller/restore_request/build/snapshots/tidemark__controller__restore_request__build__tests__shut-mysql.snap"
        );
        for (text, label) in [
            (full, "tidemark.dev/full-backup: "),
            (full, "tidemark.dev/policy: "),
            (stream, "tidemark.dev/policy: "),
            (restore, "tidemark.dev/request-uid: "),
        ] {
            let pod = text.split("  template:\n").nth(1).unwrap();
            assert!(pod.contains(label), "no pod has the label {label}");
        }
    }
}
