//! What a policy wants to be there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec,
    VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use snafu::ResultExt;

use super::Validated;
use crate::api::{
    BackupPolicy, BackupPolicySpec, BinlogSpec, CopySpec, Method, PodSelector, RetentionSpec, ScheduleSpec, SpoolSpec,
    VerifySpec,
};
use crate::controller::Error;
use crate::controller::engine_pod::{CONTAINER, EnginePod, MANIFEST};
use crate::controller::error::ManifestSnafu;
use crate::controller::names::{CLAIMS, POLICY, child_of, labels, suffixed};

/// What the pod of a stream does, as a label.
pub const STREAM: &str = "stream";
/// The volume of a spool, and where it is mounted. (The root of a file system may hold a folder `lost+found`.)
const SPOOL: &str = "spool";
const SPOOL_MOUNT: &str = "/var/lib/tidemark/spool";
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
        data: Some([(MANIFEST.to_owned(), stream_manifests(validated)?)].into()),
        ..ConfigMap::default()
    };
    let secrets = validated.secrets.union(&validated.copy_secrets).cloned().collect();
    let pod = EnginePod {
        image,
        arguments: vec!["stream".to_owned()],
        manifests: &config_map,
        secrets: &secrets,
        storage: &validated.storage,
        copies: &validated.copies,
        ends: false,
        template: validated.pod_template.as_ref(),
    };
    let mut template = pod.template(labels.clone());
    if validated.binlog.spool.is_some() {
        mount_spool(&mut template);
    }
    let mut metadata = child_of(policy, stream_name(&name), labels.clone());
    if let Some(SpoolSpec { max_size, path: _, storage_class_name }) = &validated.binlog.spool {
        let class = storage_class_name.as_deref().unwrap_or_default();
        metadata.annotations.get_or_insert_default().insert(CLAIMS.to_owned(), format!("{class}/{max_size}"));
    }
    let stateful_set = StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            // The default waits for a pod to be ready before it replaces it: a stream whose source is wrong never is.
            pod_management_policy: Some("Parallel".to_owned()),
            template,
            volume_claim_templates: validated.binlog.spool.as_ref().map(|spool| vec![spool_claim(spool, labels)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    };
    Ok(Resources { config_map: Some(config_map), stateful_set: Some(stateful_set), service })
}

/// The claim of a spool. It outlives the StatefulSet: what waits on it may be nowhere else.
fn spool_claim(spool: &SpoolSpec, labels: BTreeMap<String, String>) -> PersistentVolumeClaim {
    // File systems take some for themselves.
    let bytes = spool.max_size.0.saturating_add(spool.max_size.0 / 8);
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(SPOOL.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: spool.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(bytes.to_string()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn mount_spool(template: &mut PodTemplateSpec) {
    let mount = VolumeMount {
        name: SPOOL.to_owned(),
        mount_path: SPOOL_MOUNT.to_owned(),
        read_only: Some(false),
        ..VolumeMount::default()
    };
    let containers = template.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for container in containers.filter(|container| container.name == CONTAINER) {
        container.volume_mounts.get_or_insert_default().push(mount.clone());
    }
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
    document(validated, Extras::default())
}

/// The policy as the stream reads it, which fills the copies. Days and weeks of their retention are those of the schedule's time zone.
fn stream_manifests(validated: &Validated) -> Result<String, Error> {
    let schedule = validated.written_schedule.clone().filter(|_| !validated.copies.is_empty());
    document(validated, Extras { schedule, copies: validated.copies.clone(), ..Extras::default() })
}

/// The policy as the pod of a prune reads it.
pub fn prune_manifests(validated: &Validated) -> Result<String, Error> {
    let (schedule, retention) = (validated.written_schedule.clone(), validated.retention.clone());
    document(validated, Extras { schedule, retention, ..Extras::default() })
}

/// The policy as the pod of a verify reads it: retention tells what may be missing.
pub fn verify_manifests(validated: &Validated) -> Result<String, Error> {
    let (schedule, retention) = (validated.written_schedule.clone(), validated.retention.clone());
    document(validated, Extras { schedule, retention, verify: validated.verify.clone(), ..Extras::default() })
}

/// What only some of the pods need.
#[derive(Default)]
struct Extras {
    schedule: Option<ScheduleSpec>,
    retention: Option<RetentionSpec>,
    copies: Vec<CopySpec>,
    verify: Option<VerifySpec>,
}

fn document(validated: &Validated, extras: Extras) -> Result<String, Error> {
    let Extras { schedule, retention, copies, verify } = extras;
    let Validated {
        name,
        source,
        selector: _,
        schedule: _,
        binlog,
        storage,
        immutability,
        copies: _,
        encryption,
        limits,
        compression,
        retention: _,
        verify: _,
        verifies: _,
        written_schedule: _,
        secrets: _,
        copy_secrets: _,
        job_template: _,
        pod_template: _,
    } = validated;
    // Where the pod has it, whatever the user's own machine would.
    let spool = binlog.spool.clone().map(|spool| SpoolSpec { path: Some(SPOOL_MOUNT.to_owned()), ..spool });
    let document = BackupPolicy {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: BackupPolicySpec {
            source: source.clone(),
            schedule,
            method: Method::Logical,
            binlog: BinlogSpec { spool, ..binlog.clone() },
            storage: storage.clone(),
            immutability: immutability.clone(),
            copies,
            retention,
            // Public keys: pods that write need no other.
            encryption: encryption.clone(),
            limits: limits.clone(),
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
