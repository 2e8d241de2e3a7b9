//! Everything an archive holds, read from O(binlog files) small objects: never the data, never every segment.

use jiff::Timestamp;

use super::binlog_index::{Ending, FileId, FileSummary, OpenTransaction};
use super::identity::ArchiveInfo;
use crate::model::{BinlogPosition, CommitTime, Flavor, GtidSet};

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// `archive.json`.
    pub info: ArchiveInfo,
    /// Every full with a manifest, oldest first (by id).
    pub fulls: Vec<FullHead>,
    /// Every binlog file, by key.
    pub files: Vec<ArchivedFile>,
    /// Keys whose names this format does not know; they are left alone.
    pub unknown: Vec<String>,
}

/// A full's manifest without its lists, whose length grows with the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullHead {
    /// [`super::manifest::FullManifest::id`].
    pub id: String,
    /// [`super::manifest::FullManifest::flavor`].
    pub flavor: Flavor,
    /// [`super::manifest::FullManifest::server_version`].
    pub server_version: String,
    /// [`super::manifest::FullManifest::server`].
    pub server: String,
    /// [`super::manifest::FullManifest::started_at`].
    pub started_at: Timestamp,
    /// [`super::manifest::FullManifest::consistent_at`].
    pub consistent_at: Timestamp,
    /// [`super::manifest::FullManifest::finished_at`].
    pub finished_at: Timestamp,
    /// [`super::manifest::FullManifest::gtids`].
    pub gtids: GtidSet,
    /// [`super::manifest::FullManifest::position`].
    pub position: Option<BinlogPosition>,
    /// [`super::manifest::FullManifest::position_created_unix`].
    pub position_created_unix: Option<u32>,
    /// How it was taken: the tag of [`super::manifest::Content`], for example `logical`.
    pub method: String,
    /// Objects it lists.
    pub objects: u64,
    /// Their stored size in bytes.
    pub bytes: u64,
    /// Their size before compression in bytes.
    pub raw_bytes: u64,
    /// [`super::manifest::FullManifest::trace_id`].
    pub trace_id: String,
}

/// A binlog file as far as it is archived without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Which file.
    pub id: FileId,
    /// The server's flavor.
    pub flavor: Flavor,
    /// The server's version.
    pub server_version: String,
    /// Bytes `0..size` are archived.
    pub size: u64,
    /// The file up to `size`.
    pub summary: FileSummary,
    /// The objects that hold `0..size`, in order, without holes or overlaps.
    pub ranges: Vec<ArchivedRange>,
    /// The transaction an open file's archived part ends in the middle of.
    pub open_transaction: Option<OpenTransaction>,
    /// How the file ended; none while it is open (or its index is not written yet).
    pub closed: Option<Closed>,
    /// Where the next stored range begins, if bytes between `size` and it are missing.
    pub hole_until: Option<u64>,
}

/// How a closed file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How.
    pub ending: Ending,
    /// The server's next file, where known.
    pub next_file: Option<String>,
}

/// One object of an [`ArchivedFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRange {
    /// The object.
    pub key: String,
    /// First byte of the file it holds.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Size of the object in bytes.
    pub object_bytes: u64,
    /// Hex SHA-256 of the object; known from the index of a closed file.
    pub object_sha256: Option<String>,
    /// Known for closed files, and for open ones after [`load_details`].
    pub detail: Option<RangeDetail>,
}

/// What is in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDetail {
    /// [`FileSummary::boundary`] at the range's end.
    pub boundary: u64,
    /// [`FileSummary::last_commit`] at the range's end.
    pub last_commit: Option<CommitTime>,
    /// GTIDs of transactions that end within the range.
    pub gtids: GtidSet,
}
