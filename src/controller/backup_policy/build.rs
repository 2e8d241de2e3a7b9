//! What a policy wants to be there. Pure.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use snafu::ResultExt;

use super::Validated;
use crate::api::{BackupPolicy, BackupPolicySpec, Method, PodSelector, RetentionSpec, ScheduleSpec, VerifySpec};
use crate::controller::Error;
use crate::controller::engine_pod::{EnginePod, MANIFEST};
use crate::controller::error::ManifestSnafu;
use crate::controller::names::{POLICY, child_of, labels, suffixed};

/// What the pod of a stream does, as a label.
pub const STREAM: &str = "stream";
/// What the Service in front of the pods of a source is, as a label.
const SOURCE: &str = "source";

/// Everything a policy makes but FullBackups; what is none must not be there.
#[derive(Clone, Debug)]
pub struct Resources {
    /// What the stream reads.
    pub config_map: Option<ConfigMap>,
    /// The stream.
    pub stateful_set: Option<StatefulSet>,
    /// The name of all pods of a source that is named by their labels.
    pub service: Option<Service>,
}

/// Name of a policy's StatefulSet and ConfigMap.
pub fn stream_name(policy: &str) -> String {
    suffixed(policy, STREAM)
}

/// Name of the Service that leads to the pods of a policy's source. (A Service's name begins with a letter; a policy's need not.)
pub fn source_name(policy: &str) -> String {
    format!("source-{policy}")
}

/// Builds them.
pub fn build(policy: &BackupPolicy, validated: &Validated, image: &str) -> Result<Resources, Error> {
    let service = validated.selector.as_ref().map(|selector| source(policy, validated, selector));
    if !validated.binlog.enabled {
        return Ok(Resources { config_map: None, stateful_set: None, service });
    }
    let name = policy.name_any();
    let labels = labels(STREAM, POLICY, &name);
    let config_map = ConfigMap {
        metadata: child_of(policy, stream_name(&name), labels.clone()),
        data: Some([(MANIFEST.to_owned(), manifests(validated)?)].into()),
        ..ConfigMap::default()
    };
    let pod = EnginePod {
        image,
        arguments: vec!["stream".to_owned()],
        manifests: &config_map,
        secrets: &validated.secrets,
        storage: &validated.storage,
        ends: false,
        template: validated.pod_template.as_ref(),
    };
    let stateful_set = StatefulSet {
        metadata: child_of(policy, stream_name(&name), labels.clone()),
        spec: StatefulSetSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            // The default waits for a pod to be ready before it replaces it: a stream whose source is wrong never is.
            pod_management_policy: Some("Parallel".to_owned()),
            template: pod.template(labels),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    };
    Ok(Resources { config_map: Some(config_map), stateful_set: Some(stateful_set), service })
}

/// A Service without an address of its own: its name leads to each pod, whether Kubernetes thinks that it is ready or not. Who is the
/// primary the engine asks the servers themselves.
fn source(policy: &BackupPolicy, validated: &Validated, selector: &PodSelector) -> Service {
    let name = policy.name_any();
    let port = ServicePort {
        name: Some("mysql".to_owned()),
        port: i32::from(validated.source.port),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: child_of(policy, source_name(&name), labels(SOURCE, POLICY, &name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector.match_labels.clone()),
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The policy as its pods read it: nothing in it that they do not need, for what changes in it starts them anew.
pub fn manifests(validated: &Validated) -> Result<String, Error> {
    document(validated, None, None, None)
}

/// The policy as the pod of a prune reads it.
pub fn prune_manifests(validated: &Validated) -> Result<String, Error> {
    document(validated, validated.written_schedule.clone(), validated.retention.clone(), None)
}

/// The policy as the pod of a verify reads it: retention tells what may be missing.
pub fn verify_manifests(validated: &Validated) -> Result<String, Error> {
    let (schedule, retention) = (validated.written_schedule.clone(), validated.retention.clone());
    document(validated, schedule, retention, validated.verify.clone())
}

fn document(
    validated: &Validated,
    schedule: Option<ScheduleSpec>,
    retention: Option<RetentionSpec>,
    verify: Option<VerifySpec>,
) -> Result<String, Error> {
    let Validated {
        name,
        source,
        selector: _,
        schedule: _,
        binlog,
        storage,
        compression,
        retention: _,
        verify: _,
        verifies: _,
        written_schedule: _,
        secrets: _,
        job_template: _,
        pod_template: _,
    } = validated;
    let document = BackupPolicy {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: BackupPolicySpec {
            source: source.clone(),
            schedule,
            method: Method::Logical,
            binlog: binlog.clone(),
            storage: storage.clone(),
            copies: Vec::new(),
            retention,
            encryption: None,
            compression: compression.clone(),
            drill: None,
            verify,
            job_template: None,
            pod_template: None,
        },
        status: None,
    };
    serde_yaml::to_string(&document).context(ManifestSnafu { policy: name })
}

#[cfg(test)]
mod tests;
