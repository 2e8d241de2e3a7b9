//! What a restore will do, as pure data: made before anything is touched, shown by `--dry-run`, kept in the target.
//!
//! [`make`] is pure: archive facts and a request in, a [`Plan`] or a [`PlanError`] out. Only where the target falls within
//! a file does somebody have to look at bytes; [`Cut`] says which file, [`super::resolve`] looks.

mod chain;
mod choose;
mod error;
mod show;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use chain::{Window, windows};
pub use choose::{Cut, Found, Question, Step, ask, make};
pub use error::PlanError;

use crate::archive::binlog_index::{FileId, FileSummary};
use crate::archive::manifest::FullManifest;
use crate::model::{BinlogPosition, CommitTime, Flavor, Gtid, GtidSet};

/// Where a restore shall end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything the archive holds.
    Latest,
    /// Every transaction committed at or before this moment, in the order of the log.
    Time(Timestamp),
    /// The log up to and including the last of these transactions; or exactly what a full holds, if the set is a full's.
    Gtid(GtidSet),
    /// The log up to this offset of this file. `file` may be `name@created` where the archive holds several of that name.
    Position(BinlogPosition),
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to end.
    pub target: Target,
    /// End before the target (time, GTID or position) instead of at it.
    pub exclusive: bool,
    /// Transactions to leave out; each is replaced by an empty one of the same GTID.
    pub skip_gtids: Option<GtidSet>,
    /// End at the nearest reachable point before the target where the target itself cannot be reached.
    pub allow_nearest: bool,
}

/// A full as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullFacts {
    /// The full's id.
    pub id: String,
    /// The flavor of the source.
    pub flavor: Flavor,
    /// The source's `@@version`.
    pub server_version: String,
    /// The source's [`FileId::server`].
    pub server: String,
    /// The moment the copy shows.
    pub consistent_at: Timestamp,
    /// Exactly what the copy contains; empty where GTIDs are off.
    pub gtids: GtidSet,
    /// Binlog position of the copy.
    pub position: Option<BinlogPosition>,
    /// Creation stamp of the file `position` names.
    pub position_created_unix: Option<u32>,
    /// Stored bytes.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
}

impl From<&FullManifest> for FullFacts {
    fn from(full: &FullManifest) -> Self {
        Self {
            id: full.id.clone(),
            flavor: full.flavor,
            server_version: full.server_version.clone(),
            server: full.server.clone(),
            consistent_at: full.consistent_at,
            gtids: full.gtids.clone(),
            position: full.position.clone(),
            position_created_unix: full.position_created_unix,
            bytes: full.objects.iter().map(|o| o.bytes).sum(),
            raw_bytes: full.objects.iter().map(|o| o.raw_bytes).sum(),
        }
    }
}

/// A binlog file of the live lineage as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFacts {
    /// Which file.
    pub file: FileId,
    /// The flavor of its server.
    pub flavor: Flavor,
    /// Its archived prefix: complete up to `summary.boundary`.
    pub summary: FileSummary,
    /// One past the last archived byte.
    pub end: u64,
    /// Whether the whole file is archived.
    pub closed: bool,
    /// The server's next file, where known.
    pub next_file: Option<String>,
}

/// What the archive holds, in the order of the log; fulls oldest first.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The archive's flavor.
    pub flavor: Flavor,
    /// Every complete full.
    pub fulls: Vec<FullFacts>,
    /// The live lineage's files.
    pub files: Vec<LogFacts>,
}

/// Measured speeds, for the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Raw bytes of a full loaded a second.
    pub load_bytes_per_s: u64,
    /// Raw bytes of binlog replayed a second.
    pub replay_bytes_per_s: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { load_bytes_per_s: 30_000_000, replay_bytes_per_s: 6_000_000 }
    }
}

/// How the end of a replay is named and proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Coordinates {
    /// By GTID set.
    Gtid,
    /// By file and position: the source had no GTIDs.
    Position,
}

/// The full a restore starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasePlan {
    /// Its id.
    pub id: String,
    /// The moment it shows.
    pub consistent_at: Timestamp,
    /// What it contains.
    pub gtids: GtidSet,
    /// Binlog position of the copy.
    pub position: Option<BinlogPosition>,
    /// Stored bytes to read.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
}

/// A part of a binlog file to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilePart {
    /// Which file.
    pub file: FileId,
    /// Offset of the first event that may be needed (4: the file's head).
    pub start: u64,
    /// One past the last byte needed: always the end of a transaction or of the file's head.
    pub end: u64,
}

/// A restore, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Flavor of the source, and so of the target.
    pub flavor: Flavor,
    /// The version of the server the base was taken from; the target must not be older.
    pub server_version: String,
    /// How the end is named and proved.
    pub coordinates: Coordinates,
    /// The full to load first.
    pub base: BasePlan,
    /// The log to replay after it, in order; empty when the base is the target.
    pub files: Vec<FilePart>,
    /// GTIDs to be replayed, exactly, those of `skipped` included.
    pub replay_gtids: GtidSet,
    /// GTIDs that are replayed as empty transactions.
    pub skipped: GtidSet,
    /// What the target has executed at the end, exactly.
    pub expected_gtids: GtidSet,
    /// Where the replayed log ends (file and offset of the source).
    pub end: Option<BinlogPosition>,
    /// The last replayed transaction.
    pub last_gtid: Option<Gtid>,
    /// Commit time of the newest transaction in the result; none when nothing is replayed.
    pub restored_to: Option<CommitTime>,
    /// Binlog bytes to read.
    pub replay_bytes: u64,
    /// Estimated duration in seconds.
    pub eta_s: u64,
    /// Why this base and this end, in words.
    pub explanation: Vec<String>,
}

impl Plan {
    /// A hex digest of everything that decides the result: two plans of equal digest restore the same.
    /// The estimate and the words are left out.
    pub fn digest(&self) -> String {
        let mut decisive = self.clone();
        decisive.eta_s = 0;
        decisive.explanation.clear();
        let json = serde_json::to_vec(&decisive).unwrap_or_default();
        hex::encode(Sha256::digest(&json))
    }
}
