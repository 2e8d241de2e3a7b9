use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::encryption::EncryptionSpec;
use super::immutability::ImmutabilitySpec;
use super::limits::{LimitsSpec, rate_problem};
use super::{BackupPolicyStatus, DecryptionSpec, Size, SourceSpec, Span, StorageSpec};

/// One server, where its archive lives, when fulls are taken and how its binary log is streamed.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "BackupPolicy",
    plural = "backuppolicies",
    shortname = "bp",
    category = "tidemark",
    namespaced,
    status = "BackupPolicyStatus",
    derive = "PartialEq",
    doc = "Protects one MySQL or MariaDB server: full backups by schedule, every binary-log byte archived within about a second.",
    validation = Rule::new("self.metadata.name.size() <= 44 && !self.metadata.name.contains('.')").message(
        "the name is part of the names of its pods and backups: write at most 44 letters, digits and hyphens"
    ),
    printcolumn(name = "Last full", type_ = "date", json_path = ".status.lastFullTime"),
    printcolumn(name = "Recoverable from", type_ = "date", json_path = ".status.firstRecoverabilityPoint"),
    printcolumn(name = "Until", type_ = "date", json_path = ".status.latestRestorableTime"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.lag"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Next full", type_ = "string", json_path = ".status.nextScheduleTime", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicySpec {
    /// The server to protect.
    pub source: SourceSpec,
    /// When full backups are taken. Without it only `tidemark backup` (or a FullBackup object) takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// How full backups are taken.
    #[serde(default)]
    pub method: Method,
    /// The stream of the binary log.
    #[serde(default)]
    pub binlog: BinlogSpec,
    /// Where the archive lives.
    pub storage: StorageSpec,
    /// Object Lock for what is archived there. Absent: what the bucket does by itself, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<ImmutabilitySpec>,
    /// Further stores that receive everything the first one holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub copies: Vec<CopySpec>,
    /// How long fulls and binlogs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Encryption of what is archived before it leaves the process; absent: it is in clear. It may be switched on, changed and switched off at
    /// any time, and holds for new objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// What fulls may cost their source. Absent: they read as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Compression of every object.
    #[serde(default)]
    pub compression: CompressionSpec,
    /// Regular restores that prove the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillSpec>,
    /// Regular looks at the archive's integrity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// Pod template of the Jobs that take fulls, prune and plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub job_template: Option<PodTemplateSpec>,
    /// Pod template of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<PodTemplateSpec>,
}

/// When full backups are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.cron.matches(r'^\\s*(@[a-z]+|\\S+(\\s+\\S+){4})\\s*$')", "write five fields: minute, hour, day of month, month, day of week, for example 30 2 * * *"))]
pub struct ScheduleSpec {
    /// Five fields as in crontab (minute, hour, day of month, month, day of week with 0 or 7 = Sunday), or `@daily` and its kin.
    #[schemars(length(min = 1, max = 200))]
    pub cron: String,
    /// Name of the IANA time zone the fields are read in, for example `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// Take no full by schedule until this is false again.
    #[serde(default)]
    pub suspend: bool,
    /// A run that was missed (the process was down, the last one took too long) is made up for when it is not older than this.
    /// Absent: always, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub starting_deadline_seconds: Option<u32>,
    /// What happens when a full is due while one is under way.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Take a full at once when the archive holds none.
    #[serde(default = "yes")]
    pub immediate: bool,
}

/// What happens when a full is due while one is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Skip the new one.
    #[default]
    Forbid,
    /// Stop the old one and start the new one.
    Replace,
    /// Run both.
    Allow,
}

/// How full backups are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// Consistent and parallel over SQL; any flavor, any version, any service.
    #[default]
    Logical,
    /// A physical copy over MySQL's Clone protocol.
    Clone,
}

/// The stream of the binary log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BinlogSpec {
    /// Archive the binary log. Without it only the moments of full backups can be restored.
    pub enabled: bool,
    /// Upload what has come within this time, when anything has.
    pub flush_interval: Span,
    /// Upload as soon as this much has come. The stream holds up to about eight of these in memory.
    pub segment_size: Size,
    /// `ObjectStore`: take part in semi-synchronous replication and acknowledge only what the store holds (RPO 0).
    pub acknowledge: Acknowledge,
    /// A disk on which the binary log waits while the store cannot be reached. Without one reading stops then, and the source keeps its files.
    /// What is on it is not durable, but no longer lost when the source purges it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolSpec>,
    /// What happens before the source purges a file that is not archived yet. The condition `PurgeRisk` tells of it in either case.
    pub purge_protection: PurgeProtection,
}

impl Default for BinlogSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            flush_interval: Span(std::time::Duration::from_secs(1)),
            segment_size: Size(4 << 20),
            acknowledge: Acknowledge::default(),
            spool: None,
            purge_protection: PurgeProtection::default(),
        }
    }
}

/// When the source's commits return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Acknowledge {
    /// At once: the stream follows within about a second.
    #[default]
    None,
    /// Once the transaction is durable in the store (semi-synchronous replication).
    ObjectStore,
}

/// Where the binary log waits while the store cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpoolSpec {
    /// The most the spool may hold, compressed, 16Mi or more; then reading stops and the source keeps its files. In a cluster the claim of the
    /// stream's pod asks for an eighth more.
    pub max_size: Size,
    /// Folder of the spool, of this policy alone: for the binary without a cluster, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In a cluster: the storage class of the claim; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

impl SpoolSpec {
    /// The smallest that is of use: a few segments.
    const LEAST_BYTES: u64 = 16 << 20;

    /// What is wrong with it: a field and the way out.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let Self { max_size, path: _, storage_class_name: _ } = self;
        let message = || format!("{max_size} holds next to nothing: write 16Mi or more");
        (max_size.0 < Self::LEAST_BYTES).then(|| ("spec.binlog.spool.maxSize", message()))
    }
}

/// What happens before the source purges a file that is not archived yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PurgeProtection {
    /// Tell, with the time left.
    #[default]
    Warn,
    /// Also hold the source's own purging back as long as something is not archived: by one of its settings (`binlog_expire_logs_seconds` on MySQL,
    /// `expire_logs_days` or `slave_connections_needed_for_purge` on MariaDB), which gets back what it was before. Takes one more privilege:
    /// SYSTEM_VARIABLES_ADMIN (MySQL) or BINLOG ADMIN (MariaDB).
    Hold,
}

/// A further store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopySpec {
    /// Name of the copy: letters, digits and dashes.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9-]+$"))]
    pub name: String,
    /// Where it lives.
    pub storage: StorageSpec,
    /// How long fulls and binlogs are kept there, whatever the first store keeps. Absent: everything is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Object Lock for what is copied there, whatever the first store locks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<ImmutabilitySpec>,
    /// The most that is copied in a second, for example `20Mi`. Absent: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Size>,
}

/// How long fulls and binlogs are kept. A full is kept when any rule keeps it, and the newest one always. With a window the binlogs since it
/// began are kept, and fulls beyond it restore to their own moment; without one every binlog since the oldest kept full is. Absent: everything
/// is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.window) || has(self.keepLast) || has(self.keepDaily) || has(self.keepWeekly) || has(self.keepMonthly) || has(self.keepYearly)", "set at least one rule, for example window: 14d, or remove the field: without it nothing is deleted"))]
pub struct RetentionSpec {
    /// Every moment of this last stretch of time stays recoverable, for example `14d`. Time counts up to the newest thing in the archive: when
    /// backups stop, nothing grows old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// Keep this many latest fulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_last: Option<u32>,
    /// Keep the last full of each of the last days that have one: this many, in the schedule's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_daily: Option<u32>,
    /// Keep the last full of each of the last weeks that have one: this many (they begin on Mondays).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_weekly: Option<u32>,
    /// Keep the last full of each of the last months that have one: this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_monthly: Option<u32>,
    /// Keep the last full of each of the last years that have one: this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_yearly: Option<u32>,
}

impl RetentionSpec {
    /// What is wrong with it: a field each, and the way out.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let Self { window, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly } = self;
        let counts = [
            ("spec.retention.keepLast", keep_last),
            ("spec.retention.keepDaily", keep_daily),
            ("spec.retention.keepWeekly", keep_weekly),
            ("spec.retention.keepMonthly", keep_monthly),
            ("spec.retention.keepYearly", keep_yearly),
        ];
        let mut problems: Vec<_> = counts
            .iter()
            .filter(|(_, count)| **count == Some(0))
            .map(|(field, _)| (*field, "0 is no rule: write 1 or more, or remove the field"))
            .collect();
        if window.is_some_and(|window| window.0.is_zero()) {
            problems.push(("spec.retention.window", "0 is no window: write for example 14d, or remove the field"));
        }
        if window.is_none() && counts.iter().all(|(_, count)| count.is_none()) {
            let message =
                "set at least one rule, for example window: 14d, or remove the field: without it nothing is deleted";
            problems.push(("spec.retention", message));
        }
        problems
    }
}

/// Compression of every object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CompressionSpec {
    /// zstd level: 1 is fast, 19 is small; -1 to -7 take half the CPU and less for somewhat larger objects; 0 leaves everything
    /// uncompressed (still as zstd frames).
    #[schemars(range(min = -7, max = 19))]
    pub level: i32,
}

impl Default for CompressionSpec {
    fn default() -> Self {
        Self { level: 1 }
    }
}

/// Regular restores that prove the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSpec {
    /// When, as five crontab fields in the schedule's time zone.
    #[schemars(length(min = 1))]
    pub cron: String,
    /// SQL queries that must each return one row whose first column is true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

/// Regular looks at the archive's integrity: what is lost, damaged or foreign is told, with the restores that it affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.cron.matches(r'^\\s*(@[a-z]+|\\S+(\\s+\\S+){4})\\s*$')", "write five fields: minute, hour, day of month, month, day of week, for example 30 4 * * 0"))]
pub struct VerifySpec {
    /// When, as five crontab fields (or `@weekly` and its kin) in the schedule's time zone; UTC without a schedule.
    #[schemars(length(min = 1, max = 200))]
    pub cron: String,
    /// How much is looked at.
    #[serde(default)]
    pub depth: VerifyDepth,
    /// The most that a deep one reads in a second, for example `50Mi`. Absent: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Size>,
    /// What opens an encrypted archive, for a deep one. Absent: encrypted bytes are compared with the checksums they were stored with, which needs
    /// no key, and are not decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<DecryptionSpec>,
}

/// How much of an archive is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerifyDepth {
    /// Names, sizes and GTIDs: a few requests a full and a binlog file; no data is read.
    #[default]
    Quick,
    /// That, and every byte of every object. One that is interrupted goes on where it was.
    Deep,
}

impl VerifySpec {
    /// What is wrong with it, but for the schedule: a field each, and the way out.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let Self { cron: _, depth, bytes_per_second, decryption } = self;
        let mut problems = Vec::new();
        if decryption.is_some() && *depth == VerifyDepth::Quick {
            let message = "a quick verify reads no data: write depth: Deep, or remove the field";
            problems.push(("spec.verify.decryption", message));
        }
        if let Some(message) = rate_problem(*bytes_per_second) {
            problems.push(("spec.verify.bytesPerSecond", message));
        } else if bytes_per_second.is_some() && *depth == VerifyDepth::Quick {
            let message = "a quick verify reads no data: write depth: Deep, or remove the field";
            problems.push(("spec.verify.bytesPerSecond", message));
        }
        problems
    }
}

/// The schema of an embedded pod template: the API server checks it when the pod is made, and its full schema would
/// make the CRD too large to apply.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}
