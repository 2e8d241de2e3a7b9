//! `full/<id>/manifest.json`: everything one full backup consists of. Written last; without it the full does not exist.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::logical::LogicalContent;
use crate::model::{BinlogPosition, Flavor, GtidSet};

/// One full backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullManifest {
    /// Archive format version, [`super::format_of`].
    pub format: u32,
    /// The full's id: its start as `YYYYMMDDTHHMMSSZ` and a short random suffix, so names sort by time.
    pub id: String,
    /// The flavor of the source.
    pub flavor: Flavor,
    /// The source's `@@version`.
    pub server_version: String,
    /// The source's [`super::binlog_index::FileId::server`].
    pub server: String,
    /// When the backup began.
    pub started_at: Timestamp,
    /// The moment the copy shows (the instant the snapshots were taken).
    pub consistent_at: Timestamp,
    /// When the last object was stored.
    pub finished_at: Timestamp,
    /// Exactly what the copy contains; empty where GTIDs are off.
    pub gtids: GtidSet,
    /// Binlog position of the copy; none when the source's binlog was off.
    pub position: Option<BinlogPosition>,
    /// Creation stamp of the binlog file `position` names ([`super::binlog_index::FileId::created_unix`]); filled when known.
    pub position_created_unix: Option<u32>,
    /// XA transactions that were prepared, and not ended, at that moment: the copy lacks them though `gtids` holds what prepared them. XA ids as
    /// the servers log them: `X'global',X'branch',format`. None: not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_xa: Option<Vec<String>>,
    /// MariaDB: the server's `log_slave_updates`: whether its binary log, and so the archive, holds what it replicated. None: not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_slave_updates: Option<bool>,
    /// Public keys that the objects are encrypted to; none: they are in clear. Then an object's name ends in `.age`, and nothing here names a
    /// schema, a table or an account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Which making of its objects this names, whose folder they are in. None: they are as the backup wrote them; each rekey makes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// Trace id of the run that wrote this.
    pub trace_id: String,
    /// The `tidemark` version that wrote this.
    pub tidemark_version: String,
    /// Every object of the full, by key relative to the archive's prefix; it may name objects another full wrote.
    pub objects: Vec<ObjectEntry>,
    /// What the method stored and how to load it.
    pub content: Content,
}

/// A stored object that a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEntry {
    /// Key relative to the archive's prefix.
    pub key: String,
    /// Stored size in bytes.
    pub bytes: u64,
    /// Size before compression and encryption in bytes.
    pub raw_bytes: u64,
    /// Hex BLAKE3 of the stored bytes.
    pub blake3: String,
}

/// What a full holds, by method. Physical methods will add a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "camelCase")]
pub enum Content {
    /// Definitions and rows, read over SQL.
    Logical(LogicalContent),
}
