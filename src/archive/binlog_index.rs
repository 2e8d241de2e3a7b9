//! What the archive says of binlog files: a [`SegmentMeta`] ends each segment object, a [`FileIndex`] describes a closed file.

use serde::{Deserialize, Serialize};

pub use super::digest::RawSum;
use super::keys;
use super::segment::SegmentObject;
pub use crate::model::OpenTransaction;
use crate::model::{CommitTime, Flavor, Gtid, GtidSet};

/// The version of the format that an index with an [edition](FileIndex::edition) states, and an archive that holds one.
pub const EDITIONS_FORMAT: u32 = 4;

/// Which immutable file some bytes belong to. The name alone is never enough: resets and restores reuse names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The writing server: its `server_uuid` on MySQL, `mariadb-<server_id>` on MariaDB. The `<incarnation>` part of keys
    /// is this name.
    pub server: String,
    /// Name as the server spells it, for example `binlog.000042`.
    pub name: String,
    /// Seconds since 1970 from the header of the file's own format description event.
    pub created_unix: u32,
}

/// The number a file's name ends with; 0 without one.
pub fn file_number(name: &str) -> u64 {
    name.rsplit_once('.').and_then(|(_, digits)| digits.parse().ok()).unwrap_or(0)
}

impl FileId {
    /// The number its name ends with.
    pub fn number(&self) -> u64 {
        file_number(&self.name)
    }

    /// The creation stamp as a moment. MariaDB lets clients choose it, so where a commit tells the time, that one counts.
    pub fn created(&self) -> CommitTime {
        CommitTime(i64::from(self.created_unix) * 1_000_000)
    }
}

/// What is known of a binlog file from its first byte up to `boundary`: enough to resume and to compute the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// Everything executed before this file (PREVIOUS_GTIDS or GTID_LIST).
    pub previous_gtids: GtidSet,
    /// GTIDs of the transactions in this file that end at or before `boundary`.
    pub gtids: GtidSet,
    /// Offset where the last whole transaction (or the head of the file) ends.
    pub boundary: u64,
    /// Whole transactions up to `boundary`, with or without a GTID.
    pub transactions: u64,
    /// Commit time of the first whole transaction that has one: a MariaDB stamp that was in the future when it was archived
    /// (`SET TIMESTAMP`) counts as none, here and in `last_commit`.
    pub first_commit: Option<CommitTime>,
    /// Highest commit time of any transaction up to `boundary`: it never falls, even when the source's clock does.
    pub last_commit: Option<CommitTime>,
    /// GTID of the transaction that ends at `boundary`.
    pub last_gtid: Option<Gtid>,
    /// Whether events end with a CRC32 (from the format description event).
    pub crc32: bool,
    /// Changes of rows up to the end of what is described that were logged as statements, not as rows: a replay runs them again, and what
    /// `UUID()` or a variable gives there is another value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub statements: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The end of every segment object, in clear: a zstd skippable frame that stock `zstd -d` passes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Archive format version, [`super::format_of`].
    pub format: u32,
    /// The file these bytes are from.
    pub file: FileId,
    /// The server's flavor.
    pub flavor: Flavor,
    /// The server's version as its format event states it, for example `9.7.4`.
    pub server_version: String,
    /// First byte of the range.
    pub start: u64,
    /// One past its last byte; always between two events.
    pub end: u64,
    /// Checksum of the raw binlog bytes `start..end`.
    #[serde(flatten)]
    pub raw: RawSum,
    /// The file up to this segment's end.
    pub summary: FileSummary,
    /// GTIDs of transactions that end within this segment.
    pub gtids: GtidSet,
    /// The transaction this segment ends in the middle of.
    pub open_transaction: Option<OpenTransaction>,
    /// How the bytes before the meta are encrypted; none: they are in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<SegmentEncryption>,
    /// [`FileIndex::edition`] of the index that names it; none: it is as a stream archived it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
}

impl SegmentMeta {
    /// Key of the object that it describes.
    pub fn key(&self) -> String {
        keys::segment(&self.file, self.edition.as_deref(), self.start, self.end, self.encryption.is_some())
    }
}

/// How a segment is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEncryption {
    /// Public keys of those who can read it.
    pub recipients: Vec<String>,
    /// Hex BLAKE3 of the age file, which is all of the object before the meta: who cannot read it can check it.
    pub age_blake3: String,
}

/// One stored range of a closed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedRange {
    /// First byte of the range.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    /// Size of the stored object in bytes.
    pub object_bytes: u64,
    /// Hex BLAKE3 of the stored object.
    pub object_blake3: String,
    /// [`FileSummary::boundary`] at the range's end.
    pub boundary: u64,
    /// [`FileSummary::last_commit`] at the range's end.
    pub last_commit: Option<CommitTime>,
    /// GTIDs of transactions that end within the range.
    pub gtids: GtidSet,
    /// Of an encrypted object: to which of [`FileIndex::recipients`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_to: Option<usize>,
}

/// How a file ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// By a ROTATE event that names the next file.
    Rotate,
    /// By a STOP event (clean shutdown).
    Stop,
    /// By neither: the server died, and began another file when it came back.
    Crash,
}

/// `index.json` of a closed file, written once every range is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIndex {
    /// Archive format version, [`super::format_of`].
    pub format: u32,
    /// The file.
    pub file: FileId,
    /// The server's flavor.
    pub flavor: Flavor,
    /// The server's version as its format event states it.
    pub server_version: String,
    /// Size of the whole file in bytes.
    pub size: u64,
    /// The whole file's summary.
    pub summary: FileSummary,
    /// How the file ended.
    pub ending: Ending,
    /// The server's next file, where known.
    pub next_file: Option<String>,
    /// The ranges that make up the file, in order, without holes or overlaps, starting at 0.
    pub ranges: Vec<IndexedRange>,
    /// Public keys that ranges are encrypted to: each set of them that was in use while the file was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Vec<String>>,
    /// Which making of its objects this names: part of their names. None: they are as a stream archived them; each rekey makes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// Trace id of the run that wrote this.
    pub trace_id: String,
}

impl FileIndex {
    /// The object that holds one of its ranges.
    pub fn object(&self, range: &IndexedRange) -> SegmentObject {
        SegmentObject {
            file: self.file.clone(),
            start: range.start,
            end: range.end,
            bytes: range.object_bytes,
            blake3: Some(range.object_blake3.clone()),
            encrypted: range.encrypted_to.is_some(),
            edition: self.edition.clone(),
        }
    }
}
