use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Method, ObjectRef, Phase, ProgressStatus};

/// One full backup: made by a policy's schedule, or by a person for "backup now".
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "FullBackup",
    plural = "fullbackups",
    shortname = "fb",
    category = "tidemark",
    namespaced,
    status = "FullBackupStatus",
    derive = "PartialEq",
    doc = "One full backup. The archive is the truth; this object is its projection.",
    validation = Rule::new("self.metadata.name.size() <= 63").message(
        "the name is also that of its Job: write at most 63 characters"
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Complete\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = ("self.policyRef == oldSelf.policyRef && has(self.method) == has(oldSelf.method) && (!has(self.method) || self.method == oldSelf.method)", "a FullBackup is one piece of work, of which only deletionPolicy can be changed: make another one"))]
#[serde(rename_all = "camelCase")]
pub struct FullBackupSpec {
    /// The policy whose source is backed up.
    pub policy_ref: ObjectRef,
    /// How; the policy's method when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// What becomes of the full in the archive when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of a full when its FullBackup is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays in the archive, as long as the policy's retention keeps it.
    #[default]
    Retain,
    /// It is deleted first. The last good full, and one that moments of the retention's window need, stay: the condition Deleted says why,
    /// and the object goes when that has passed or this is set to Retain.
    Delete,
}

/// What is known of a full backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullBackupStatus {
    /// Complete, and Deleted where the full is to go from the archive, or is gone from it.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Figures while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// Its id in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Stored size, for example `1.4GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// How long it took, for example `3m12s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Source bytes per second, for example `210MiB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<String>,
    /// Exactly the transactions it contains.
    #[serde(default, rename = "gtidSet", skip_serializing_if = "Option::is_none")]
    pub gtid_set: Option<String>,
    /// The place in the source's binary log it shows, as FILE:OFFSET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog_position: Option<String>,
    /// The moment it shows (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<String>,
}
