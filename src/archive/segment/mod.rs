//! One range of a binlog file as one object: a zstd frame of the raw bytes, then a skippable frame that holds the
//! [`SegmentMeta`]. `zstd -d` of a file's segments, one after the other, is the file.

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
pub use read::{SegmentReader, verify};
pub use write::{EncodedSegment, SegmentUpload, SegmentWriter, put, put_pieces};

use super::binlog_index::{FileId, SegmentMeta};
use super::keys;
use super::store::StoreError;

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
}

impl SegmentObject {
    /// Its key.
    pub fn key(&self) -> String {
        keys::segment(&self.file, self.start, self.end)
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
    /// zstd failed.
    #[snafu(display("cannot compress bytes of a binlog file"))]
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
    /// The store holds other bytes for the same range of the same file.
    #[snafu(display(
        "the archive already holds other bytes under {key} than the source sends now: one of them is not the server it claims \
         to be (a copied data directory?); archive it under another prefix"
    ))]
    Diverged {
        /// The object.
        key: String,
        /// Hex XXH3-128 of the bytes the archive holds.
        stored_xxh3: String,
        /// Hex XXH3-128 of the bytes that were to be stored.
        offered_xxh3: String,
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
        matches!(self, SegmentError::Store { source } if source.is_transient())
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, SegmentError::Store { source } if source.is_not_found())
    }

    /// Whether the store turned us away.
    pub fn is_refused(&self) -> bool {
        matches!(self, SegmentError::Store { source } if source.is_refused())
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
