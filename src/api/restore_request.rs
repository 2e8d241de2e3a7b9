use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup_policy::any_object;
use super::{ObjectRef, Phase, ProgressStatus, SecretKeyRef, Size, StorageSpec, TlsSpec};

/// One restore of an archive to one moment.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "RestoreRequest",
    plural = "restorerequests",
    shortname = "rr",
    category = "tidemark",
    namespaced,
    status = "RestoreRequestStatus",
    derive = "PartialEq",
    doc = "Restores an archive to one moment, into a fresh server or an empty one that exists.",
    validation = Rule::new("!has(self.spec.into) || self.metadata.name.matches('^[a-z][-a-z0-9]{0,49}$')")
        .message("the server that is made gets this name: at most 50 lower-case letters, digits and dashes, a letter first"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.progress.step"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progressPercent"),
    printcolumn(name = "Restored to", type_ = "string", json_path = ".status.restoredTo"),
    printcolumn(name = "Service", type_ = "string", json_path = ".status.service"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("has(self.policyRef) != has(self.storage)", "name the archive by exactly one of policyRef and storage"),
    validation = ("has(self.into) != has(self.intoExisting)", "name the target by exactly one of into and intoExisting"),
    validation = ("!(has(self.target.latest) && self.target.latest && has(self.target.exclusive) && self.target.exclusive)", "there is nothing to stop before with latest: remove target.exclusive"),
    validation = ("self == oldSelf", "a RestoreRequest is one piece of work: make another one instead of changing it")
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRequestSpec {
    /// The policy whose archive is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<ObjectRef>,
    /// The archive itself, where its policy is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Read the archive as its S3 bucket held it at this moment (RFC 3339, zone required; by the store's clock): behind what was deleted and
    /// overwritten since. The bucket must have had versioning then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub as_of: Option<String>,
    /// The moment to restore to.
    pub target: TargetSpec,
    /// Restore only these tables (`database.table`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Restore only these databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// A fresh server that this request makes: a StatefulSet of the request's name with a disk, a Service and the Secret `<name>-root`.
    /// Nobody but the restore can connect to it before it is proved. While the restore is under way all of it goes with the request;
    /// once it has succeeded it is yours, and stays when the request is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<IntoSpec>,
    /// An empty server that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into_existing: Option<IntoExistingSpec>,
    /// How an encrypted archive is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<DecryptionSpec>,
    /// What is checked after the restore, beside the proof that is always made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<ChecksSpec>,
    /// Plan only.
    #[serde(default)]
    pub dry_run: bool,
}

/// The moment to restore to: exactly one of time, gtid, position and latest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.time), has(self.gtid), has(self.position), has(self.latest) && self.latest].filter(x, x).size() == 1", "name exactly one target: time, gtid, position or latest: true"))]
pub struct TargetSpec {
    /// The last transaction committed at or before this moment: RFC 3339, zone required, down to microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// Up to and with this transaction (or this whole set of them).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub gtid: Option<String>,
    /// Up to this place in the source's binary log, as FILE:OFFSET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[^/]+:[0-9]+$"))]
    pub position: Option<String>,
    /// Everything the archive holds.
    #[serde(default)]
    pub latest: bool,
    /// Stop before the named transaction, or before the first one at the named time.
    #[serde(default)]
    pub exclusive: bool,
    /// Transactions to leave out, as a GTID set.
    #[serde(default, rename = "skipGTIDs", skip_serializing_if = "Option::is_none")]
    pub skip_gtids: Option<String>,
    /// Restore the nearest earlier moment when the archive cannot reach the target. Otherwise such a restore fails.
    #[serde(default)]
    pub allow_nearest: bool,
}

/// A fresh server that the request makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntoSpec {
    /// Image of the server.
    #[schemars(length(min = 1))]
    pub image: String,
    /// Its disk.
    pub storage: IntoStorageSpec,
    /// Its CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub resources: Option<ResourceRequirements>,
    /// Name of the Service to make; the request's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: Option<String>,
    /// What its pod is to be like otherwise. The container `server` runs the server: its `args` are options of the server (also when the
    /// data directory is made), its option files are those of the image. Further containers start once the server is open. The
    /// containers `initialize` and `tidemark` are there until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<PodTemplateSpec>,
}

/// The disk of a fresh server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntoStorageSpec {
    /// Its size.
    pub size: Size,
    /// Its storage class; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Labels of the claim `data-<name>-0`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An empty server that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntoExistingSpec {
    /// The server's name or address.
    #[schemars(length(min = 1))]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Secret with the keys `username` and `password`.
    pub credentials_secret_ref: ObjectRef,
    /// Encryption of the connection.
    #[serde(default)]
    pub tls: TlsSpec,
    /// ADDRESS:PORT where the restoring process offers the log that the server replays. When absent: in a cluster port 3310 of the
    /// Job's pod; elsewhere loopback and a free port, which suffices on the server's own host. That connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^.+:[0-9]+$"))]
    pub serve_listen: Option<String>,
    /// Name or address by which the server reaches `serveListen`, when that is not the address itself (in a cluster: the pod's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub serve_advertise: Option<String>,
}

/// How an encrypted archive is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecryptionSpec {
    /// Secret that holds an age identity.
    pub identity_secret_ref: SecretKeyRef,
}

/// What is checked after a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChecksSpec {
    /// SQL queries that must each return one row whose first column is true.
    pub queries: Vec<String>,
}

/// What is known of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRequestStatus {
    /// `Planned`: what will be done is known. `Proved`: what was restored is what was planned. `Complete`: it has ended, well (True) or
    /// badly (False); while it is Unknown, its reason and message say what it does or waits for.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Figures while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// The same as a share of the step, for example `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<String>,
    /// What will be, is being or was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlanStatus>,
    /// The moment that was restored (RFC 3339) and the last transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<String>,
    /// How long somebody had to wait, for example `4m3s`: from the creation of this request to the moment when its server was proved and
    /// open, with planning and all waiting for nodes, images and disks. (The condition `Proved` says how long the engine alone took.)
    #[serde(default, rename = "measuredRTO", skip_serializing_if = "Option::is_none")]
    pub measured_rto: Option<String>,
    /// Service of the fresh server, once it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Secret with root's login at it: `username`, `password`, `host`, `port`, `client.cnf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The plan of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestorePlanStatus {
    /// The full backup it starts from.
    pub base: String,
    /// Flavor of the server it needs: mysql or mariadb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Version of the source when the full was taken: the server to restore into may not be older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// How many binlog files it replays.
    pub binlogs: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_binlog: Option<String>,
    /// The last of them, with the offset where it stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_binlog: Option<String>,
    /// Bytes to read.
    pub bytes: u64,
    /// How long it will take, for example `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// What the plan leaves out, and what else somebody should know before it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn default_port() -> u16 {
    3306
}
