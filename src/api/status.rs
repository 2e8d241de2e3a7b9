use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VerifyDepth;

/// What is known of a policy's archive and of the work on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicyStatus {
    /// Ready, Streaming, Recoverable, GapDetected, PurgeRisk, Pruned, Copied, Intact.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The earliest moment that can be restored (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<String>,
    /// The latest moment that can be restored (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_restorable_time: Option<String>,
    /// Every stretch of time any moment of which can be restored, oldest first.
    #[serde(default)]
    pub windows: Vec<WindowStatus>,
    /// How far the archive is behind the source, for example `0.4s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// The moment that the newest full backup shows (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_time: Option<String>,
    /// When a full was last due by schedule (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<String>,
    /// When the next full is due (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<String>,
    /// When the archive was last proved by a restore (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill_time: Option<String>,
    /// The copies of the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyStatus>,
    /// How the archive's integrity was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
}

/// A copy of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyStatus {
    /// Its name.
    pub name: String,
    /// Everything that the first store held at this moment (RFC 3339) is in the copy; absent until it was filled once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Why it is not filled at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How an archive's integrity was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VerificationStatus {
    /// How the newest verify stands. Succeeded: it came to its end, and what it found is in `findings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How far it has come, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// When a verify last came to its end (RFC 3339), whatever it found. The fields below are of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// How much it looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<VerifyDepth>,
    /// How many objects are lost, damaged or foreign, and stretches of GTIDs missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<u64>,
    /// The first of them, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub shown: Vec<String>,
    /// What cannot be restored because of all of them, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affected: Option<String>,
    /// When nothing was last found (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_intact: Option<String>,
    /// When one was last due by schedule and was begun (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<String>,
    /// The annotation `tidemark.dev/verify-now` that was last acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request: Option<String>,
}

/// A stretch of time any moment of which can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowStatus {
    /// Its first moment (RFC 3339).
    pub from: String,
    /// Its last moment (RFC 3339).
    pub to: String,
    /// The full backup that it starts from.
    pub base: String,
    /// What is missing after its end; absent in the window that still grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapStatus>,
}

/// Transactions that the archive lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GapStatus {
    /// Their GTIDs.
    pub gtids: String,
    /// Why, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a piece of work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not begun.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly; the conditions say why.
    Failed,
}

impl Phase {
    /// Whether it has ended: nothing changes it any more.
    pub fn is_terminal(self) -> bool {
        match self {
            Phase::Succeeded | Phase::Failed => true,
            Phase::Pending | Phase::Running => false,
        }
    }
}

/// Figures of a piece of work under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressStatus {
    /// What is being done: `tables`, `replay`, …
    pub step: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all; 0 when unknown.
    pub total_bytes: u64,
}
