//! One range of a binlog file as one object: zstd frames of the raw bytes (encrypted or not), then a skippable frame that holds the
//! [`SegmentMeta`] in clear. `zstd -d` of a file's segments, one after the other, is the file; what is encrypted goes through `age -d` first.

mod buffers;
mod meta;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::io;

use snafu::Snafu;

pub use buffers::SegmentBuffers;
pub use meta::{parse_meta, read_any_meta, read_meta};
pub use read::{SegmentReader, try_to_open, verify, verify_stored};
pub use write::{EncodedSegment, SegmentUpload, SegmentWriter, put, put_pieces};

use super::binlog_index::{FileId, RawSum, SegmentMeta};
use super::crypt::{LockedError, OpenError};
use super::keys::{self, Key};
use super::store::{Object, StoreError};

/// A segment object as a listing or an index names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentObject {
    /// The file whose bytes it holds.
    pub file: FileId,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Size of the object in bytes.
    pub bytes: u64,
    /// Hex BLAKE3 of the object, where known.
    pub blake3: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// [`super::binlog_index::FileIndex::edition`] of the index that names it.
    pub edition: Option<String>,
}

impl SegmentObject {
    /// Its key.
    pub fn key(&self) -> String {
        keys::segment(&self.file, self.edition.as_deref(), self.start, self.end, self.encrypted)
    }

    /// One that holds what its meta says, in so many bytes.
    pub fn of_meta(meta: &SegmentMeta, bytes: u64) -> Self {
        Self {
            file: meta.file.clone(),
            start: meta.start,
            end: meta.end,
            bytes,
            blake3: None,
            encrypted: meta.encryption.is_some(),
            edition: meta.edition.clone(),
        }
    }

    /// What a listing shows under that key; none if it is no segment.
    pub fn listed(object: &Object) -> Option<Self> {
        match keys::parse(&object.key)? {
            Key::Segment { file, start, end, encrypted, edition } => {
                Some(Self { file, start, end, bytes: object.bytes, blake3: None, encrypted, edition })
            }
            _ => None,
        }
    }
}

/// A segment that is in the store: what the file's index will say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// Its meta, as stored.
    pub meta: SegmentMeta,
    /// Size of the object in bytes.
    pub object_bytes: u64,
    /// Hex BLAKE3 of the object.
    pub object_blake3: String,
}

/// What can go wrong with a segment.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum SegmentError {
    /// The store failed.
    #[snafu(transparent)]
    Store {
        /// Cause.
        source: StoreError,
    },
    /// zstd or age failed.
    #[snafu(display("cannot compress or encrypt bytes of a binlog file"))]
    Compress {
        /// Cause.
        source: io::Error,
    },
    /// The meta could not be written as JSON.
    #[snafu(display("cannot describe segment {key}"))]
    Describe {
        /// The object.
        key: String,
        /// Cause.
        source: serde_json::Error,
    },
    /// The caller's meta contradicts the bytes it wrote.
    #[snafu(display("segment {key} was given {raw_bytes} bytes, which is not what its range holds"))]
    Length {
        /// The object.
        key: String,
        /// Bytes written.
        raw_bytes: u64,
    },
    /// An object is encrypted, and nothing at hand opens it.
    #[snafu(transparent)]
    Locked {
        /// Cause.
        source: LockedError,
    },
    /// An object is not what was once stored under its name.
    #[snafu(display(
        "the object {key} is damaged ({problem}): bytes {start}..{end} of {} cannot be trusted; put back a good copy of the object",
        file.name
    ))]
    Damaged {
        /// The object.
        key: String,
        /// The file it belongs to.
        file: Box<FileId>,
        /// First byte it should hold.
        start: u64,
        /// One past the last.
        end: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A part of an upload was taken for the object, and is deleted.
    #[snafu(display(
        "the store kept a part of {key} as if it were the object; that part is deleted, and the object is to be stored anew"
    ))]
    Torn {
        /// The object.
        key: String,
    },
    /// The store holds other bytes for the same range of the same file.
    #[snafu(display(
        "the archive already holds other bytes under {key} than the source sends now: one of them is not the server it claims \
         to be (a copied data directory?); archive it under another prefix"
    ))]
    Diverged {
        /// The object.
        key: String,
        /// Checksum of the bytes the archive holds.
        stored: RawSum,
        /// Checksum of the bytes that were to be stored.
        offered: RawSum,
    },
    /// A newer binary wrote this.
    #[snafu(display(
        "{key} is of archive format {found}, this binary reads up to {}: use a newer tidemark",
        super::FORMAT
    ))]
    Newer {
        /// The object.
        key: String,
        /// Its format.
        found: u32,
    },
}

impl SegmentError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            SegmentError::Store { source } => source.is_transient(),
            SegmentError::Torn { .. } => true,
            _ => false,
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, SegmentError::Store { source } if source.is_not_found())
    }

    /// Whether the store turned us away.
    pub fn is_refused(&self) -> bool {
        matches!(self, SegmentError::Store { source } if source.is_refused())
    }

    /// Whether an identity is missing.
    pub fn is_locked(&self) -> bool {
        matches!(self, SegmentError::Locked { .. })
    }

    fn opening(object: &SegmentObject, error: OpenError) -> Self {
        match error {
            OpenError::Store { source } => source.into(),
            OpenError::Locked { source } => source.into(),
            OpenError::Damaged { problem } => Self::damaged(object, problem),
        }
    }

    fn damaged(object: &SegmentObject, problem: impl ToString) -> Self {
        Self::Damaged {
            key: object.key(),
            file: Box::new(object.file.clone()),
            start: object.start,
            end: object.end,
            problem: problem.to_string(),
        }
    }
}
