//! What a pod of ours says of itself: over HTTP while it works ([`PodReport`]) and in its termination message when it ends
//! ([`Outcome`]). Pods write it, the controller reads it and puts it into a status; no credential and no row is ever in it.

use serde::{Deserialize, Serialize};

use super::{GapStatus, ProgressStatus, RestorePlanStatus, WindowStatus};

/// TCP port of the pods' own HTTP server.
pub const REPORT_PORT: u16 = 8080;
/// Kubernetes keeps this much of a termination message.
pub const OUTCOME_BYTES_MAX: usize = 4096;

/// Answer to `GET /status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodReport {
    /// What it does: `stream`, `backup`, `prune`, `restore`, `verify`.
    pub verb: String,
    /// The stream; of `stream` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
    /// What can be restored, read from the store now and then; of `stream` only, once it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveReport>,
    /// How far `backup` or `restore` has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What `restore` is doing, once it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlanStatus>,
}

/// A stream as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamReport {
    /// Whether it reads from the source.
    pub connected: bool,
    /// Whether everything the source sent is durable.
    pub caught_up: bool,
    /// HOST:PORT it reads from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether the source has GTIDs.
    pub gtids_on: bool,
    /// Seconds between the oldest commit that is not durable and now; 0 when all is.
    pub lag_seconds: f64,
    /// Position up to which everything is durable, for example `binlog.000042:1337`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<String>,
    /// Commit time (RFC 3339) of the newest durable transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_durable_commit: Option<String>,
    /// Whether the store turns writes away.
    pub store_failing: bool,
    /// What waits for the store on disk; none without a spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolReport>,
    /// What the source would purge before it is archived.
    pub purge: PurgeReport,
    /// Transactions nobody archived, found by this process: a full is needed.
    pub gaps: Vec<GapStatus>,
    /// Transactions that only a former primary had.
    pub forks: Vec<String>,
    /// What the store lost of what was archived.
    pub losses: Vec<String>,
    /// Settings of the source that somebody should mend, with the statement that does it.
    pub warnings: Vec<String>,
    /// The last error; none once it has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PodError>,
    /// The copies that it fills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyReport>,
}

/// A copy as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyReport {
    /// Its name.
    pub name: String,
    /// Everything that the first store held at this moment (RFC 3339) is in the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Bytes copied since the start.
    pub bytes: u64,
    /// Why it is not filled at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PodError>,
}

/// What waits for the store on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpoolReport {
    /// Bytes that wait.
    pub bytes: u64,
    /// The most that may.
    pub max_bytes: u64,
    /// Whether reading stands still because nothing more has room, or the folder cannot be written.
    pub full: bool,
}

/// What the source would purge by itself of what is not archived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PurgeReport {
    /// Whether it may be lost soon; none: nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<bool>,
    /// A word for a condition's reason.
    pub reason: String,
    /// In words, with the time left and the way out.
    pub message: String,
    /// Seconds until the source may purge the first file that is not archived whole; none where age alone does not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Bytes that the source may write until then; none where size alone does not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_left: Option<u64>,
}

/// The archive as it was when it was last read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArchiveReport {
    /// When it was read (RFC 3339).
    pub read_at: String,
    /// `mysql` or `mariadb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Spans in which every transaction can be restored to, oldest first.
    pub windows: Vec<WindowStatus>,
    /// Fulls in it.
    pub fulls: usize,
    /// Their ids.
    pub full_ids: Vec<String>,
    /// The moment the newest full shows (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_full_time: Option<String>,
    /// Bytes of all its objects.
    pub stored_bytes: u64,
    /// What may be missing without a trace, and what else somebody should know before a restore.
    pub warnings: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// Why something failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodError {
    /// A word for a condition's reason: `SourceUnreachable`, `StoreRefused`, `InvalidManifest`, …
    pub reason: String,
    /// In words, with the way out.
    pub message: String,
    /// Whether trying again may help.
    pub transient: bool,
}

/// A termination message: how a `backup`, `prune`, `restore` or `verify` ended. At most [`OUTCOME_BYTES_MAX`] bytes of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    /// Why it failed; none when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PodError>,
    /// The full that was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<FullOutcome>,
    /// The plan of a restore, dry run or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlanStatus>,
    /// The restore that was carried out and proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOutcome>,
    /// The prune that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneOutcome>,
    /// The verify that came to its end, whatever it found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyOutcome>,
}

/// A verify that came to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerifyOutcome {
    /// When (RFC 3339).
    pub at: String,
    /// `Quick` or `Deep`.
    pub depth: String,
    /// Objects there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Encrypted ones whose bytes were compared with their checksums, and not decoded.
    pub undecoded: u64,
    /// How much is wrong.
    pub findings: u64,
    /// What, and what it means for restores, a line each; the first ones where not all fit.
    pub shown: Vec<String>,
    /// What cannot be restored because of all of it, in words; empty where nothing is wrong.
    pub affected: String,
}

/// A prune that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PruneOutcome {
    /// When (RFC 3339).
    pub at: String,
    /// Fulls deleted.
    pub fulls: u64,
    /// Binlog files deleted.
    pub files: u64,
    /// Stored bytes of what was deleted.
    pub bytes: u64,
    /// Whether their room may still be taken: the store keeps what is deleted, or does not say.
    pub hidden: bool,
    /// Fulls that stay.
    pub kept_fulls: u64,
    /// Their ids; none where they do not fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// A full that is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FullOutcome {
    /// Its id in the archive.
    pub id: String,
    /// The moment it shows (RFC 3339).
    pub consistent_at: String,
    /// Stored bytes.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// What it holds; cut with an ellipsis where it is too long.
    pub gtid_set: String,
    /// Where in the binlog it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binlog_position: Option<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// A restore that is proved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreOutcome {
    /// Commit time (RFC 3339) of the newest restored transaction, where one was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<String>,
    /// What the server has executed, proved; cut with an ellipsis where it is too long.
    pub executed: String,
    /// Seconds from the beginning to the proof.
    pub rto_seconds: f64,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}
