//! The pod that runs one verb of this binary: mounts, ports, probes, security. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::DeepMerge;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::names::MANIFEST_HASH;
use crate::api::report::REPORT_PORT;
use crate::api::{CopySpec, StorageSpec};

/// The one container of these pods; a user's template changes it by this name.
pub const CONTAINER: &str = "tidemark";
/// The key of the ConfigMap, and the file that the verb reads.
pub const MANIFEST: &str = "manifest.yaml";

const MANIFESTS: &str = "/etc/tidemark/manifests";
const SECRETS: &str = "/etc/tidemark/secrets";
/// What a container that names no user of its own runs as.
const USER: i64 = 65_532;

/// A verb to run in a pod.
#[derive(Clone, Debug)]
pub struct EnginePod<'a> {
    /// The operator's own image, whose binary this is.
    pub image: &'a str,
    /// The verb with its arguments, without those that say where manifests, secrets and reports are.
    pub arguments: Vec<String>,
    /// The manifests it reads.
    pub manifests: &'a ConfigMap,
    /// Names of the Secrets it needs: the kubelet mounts them, the operator never reads them.
    pub secrets: &'a BTreeSet<String>,
    /// Where it writes or reads the archive: a folder in a cluster is a claim.
    pub storage: &'a StorageSpec,
    /// Further stores that it fills.
    pub copies: &'a [CopySpec],
    /// Whether it ends with an outcome (a Job's pod), or never.
    pub ends: bool,
    /// What the user wants otherwise.
    pub template: Option<&'a PodTemplateSpec>,
}

impl EnginePod<'_> {
    /// The pod, with these labels.
    pub fn template(&self, labels: BTreeMap<String, String>) -> PodTemplateSpec {
        let hash = self.manifests.data.iter().flatten().map(|(_, text)| blake3::hash(text.as_bytes()).to_hex());
        let hash: String = hash.map(|hash| hash.chars().take(16).collect::<String>()).collect();
        let mut template = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.clone()),
                annotations: Some([(MANIFEST_HASH.to_owned(), hash)].into()),
                ..ObjectMeta::default()
            }),
            spec: Some(self.spec()),
        };
        if let Some(user) = self.template {
            template.merge_from(user.clone());
            // Our watches and selectors go by these.
            if let Some(meta) = template.metadata.as_mut() {
                meta.labels.get_or_insert_default().extend(labels);
            }
        }
        template
    }

    fn spec(&self) -> PodSpec {
        let (volumes, mounts) = self.volumes();
        PodSpec {
            containers: vec![self.container(mounts)],
            volumes: Some(volumes),
            restart_policy: Some(if self.ends { "Never" } else { "Always" }.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            // What was read is stored before it goes.
            termination_grace_period_seconds: Some(60),
            security_context: Some(pod_security(USER)),
            ..PodSpec::default()
        }
    }

    /// The container alone, for a pod that has others too.
    pub fn container(&self, volume_mounts: Vec<VolumeMount>) -> Container {
        let mut args = self.arguments.clone();
        args.extend(["--file".to_owned(), format!("{MANIFESTS}/{MANIFEST}")]);
        // Without a mount there is no folder.
        if !self.secrets.is_empty() {
            args.extend(["--secrets".to_owned(), SECRETS.to_owned()]);
        }
        args.extend(["--report-listen".to_owned(), format!("0.0.0.0:{REPORT_PORT}")]);
        if self.ends {
            args.extend(["--outcome".to_owned(), "/dev/termination-log".to_owned()]);
        }
        let probe = |path: &str| Probe {
            http_get: Some(HTTPGetAction {
                path: Some(path.to_owned()),
                port: IntOrString::Int(REPORT_PORT.into()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            ..Probe::default()
        };
        let field = |name: &str, path: &str| EnvVar {
            name: name.to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        };
        let quantities = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned()))).collect())
        };
        Container {
            name: CONTAINER.to_owned(),
            image: Some(self.image.to_owned()),
            command: Some(vec!["tidemark".to_owned()]),
            args: Some(args),
            env: Some(vec![field("POD_IP", "status.podIP")]),
            ports: Some(vec![ContainerPort {
                name: Some("report".to_owned()),
                container_port: REPORT_PORT.into(),
                ..ContainerPort::default()
            }]),
            liveness_probe: (!self.ends).then(|| Probe { failure_threshold: Some(6), ..probe("/healthz") }),
            readiness_probe: (!self.ends).then(|| probe("/readyz")),
            resources: Some(ResourceRequirements {
                requests: quantities(&[("cpu", "50m"), ("memory", "64Mi")]),
                limits: quantities(&[("memory", "512Mi")]),
                ..ResourceRequirements::default()
            }),
            security_context: Some(container_security()),
            termination_message_policy: Some("File".to_owned()),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }
    }

    /// What the container mounts, and from where.
    pub fn volumes(&self) -> (Vec<Volume>, Vec<VolumeMount>) {
        let mount = |name: &str, path: String, read_only: bool| VolumeMount {
            name: name.to_owned(),
            mount_path: path,
            read_only: Some(read_only),
            ..VolumeMount::default()
        };
        let map = self.manifests.metadata.name.clone().unwrap_or_default();
        let mut volumes = vec![
            Volume {
                name: "manifests".to_owned(),
                config_map: Some(ConfigMapVolumeSource { name: map, ..ConfigMapVolumeSource::default() }),
                ..Volume::default()
            },
            Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
        ];
        let mut mounts = vec![mount("manifests", MANIFESTS.to_owned(), true), mount("tmp", "/tmp".to_owned(), false)];
        for (i, secret) in self.secrets.iter().enumerate() {
            let name = format!("secret-{i}");
            mounts.push(mount(&name, format!("{SECRETS}/{secret}"), true));
            volumes.push(Volume {
                name,
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    default_mode: Some(0o440),
                    // A pod that lacks one starts and says so; one that cannot start says nothing.
                    optional: Some(true),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        let copies = self.copies.iter().enumerate().map(|(i, copy)| (format!("copy-{i}"), &copy.storage));
        for (name, storage) in std::iter::once(("archive".to_owned(), self.storage)).chain(copies) {
            let Some((path, claim_name)) = storage.fs.as_ref().and_then(|fs| Some((&fs.path, fs.claim_name.clone()?)))
            else {
                continue;
            };
            mounts.push(mount(&name, path.clone(), false));
            volumes.push(Volume {
                name,
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
                ..Volume::default()
            });
        }
        (volumes, mounts)
    }
}

/// A Job of such pods that is tried again `retries` times, and kept for `kept_seconds` when it has ended.
pub fn job(metadata: ObjectMeta, retries: i32, kept_seconds: i32, template: PodTemplateSpec) -> Job {
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(retries),
            ttl_seconds_after_finished: Some(kept_seconds),
            pod_failure_policy: Some(failure_policy()),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// Of a Job of such pods: drained nodes and evictions do not count as attempts.
pub fn failure_policy() -> PodFailurePolicy {
    let drained = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            ..PodFailurePolicyOnPodConditionsPattern::default()
        }]),
    };
    PodFailurePolicy { rules: vec![drained] }
}

/// What the restricted Pod Security Standard asks of a pod. Volumes get one group whoever mounts them: with a group of its own a restored
/// server would take the folder of an archive away from the stream.
pub fn pod_security(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// What it asks of a container, and a root that cannot be written.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}
