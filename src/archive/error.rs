use serde::Deserialize;
use serde::de::DeserializeOwned;
use snafu::Snafu;

use super::FORMAT;
use super::crypt::LockedError;
use super::segment::SegmentError;
use super::store::StoreError;
use crate::model::Flavor;

/// What can go wrong with an archive as a whole.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum ArchiveError {
    /// The store failed.
    #[snafu(transparent)]
    Store {
        /// Cause.
        source: StoreError,
    },
    /// A segment is not right.
    #[snafu(transparent)]
    Segment {
        /// Cause.
        source: SegmentError,
    },
    /// Something is encrypted, and nothing at hand opens it.
    #[snafu(transparent)]
    Locked {
        /// Cause.
        source: LockedError,
    },
    /// There is no archive where one was expected.
    #[snafu(display(
        "there is no archive in {store}: archive.json is missing; check the storage settings (bucket, prefix, folder)"
    ))]
    Missing {
        /// The store.
        store: String,
    },
    /// There are fulls or logs, and nothing that says whose.
    #[snafu(display(
        "{store} holds fulls or binlogs, but archive.json, which says whose they are, is missing: put back a good copy of it (every copy of the \
         archive has the same one), or use another folder, bucket or prefix"
    ))]
    Headless {
        /// The store.
        store: String,
    },
    /// A small object is not what it should be.
    #[snafu(display(
        "the object {key} is damaged: it is not the JSON this format defines; put back a good copy of it"
    ))]
    Unreadable {
        /// The object.
        key: String,
        /// Cause.
        source: serde_json::Error,
    },
    /// A small object is not what was written, though it can be read.
    #[snafu(display("the object {key} is damaged: it is not what its own checksum says; put back a good copy of it"))]
    Changed {
        /// The object.
        key: String,
    },
    /// A small object is another one's.
    #[snafu(display(
        "the object {key} is damaged: it is a copy of {of}; put back a good copy of it, or delete it if there never was one"
    ))]
    Misplaced {
        /// The object.
        key: String,
        /// The one whose bytes it holds.
        of: String,
    },
    /// A report shows damage.
    #[snafu(display("the archive is damaged: {count} problem(s), named above; put back good copies of those objects"))]
    Problems {
        /// How many.
        count: usize,
    },
    /// A newer binary wrote this.
    #[snafu(display("{key} is of archive format {found}, this binary reads up to {FORMAT}: use a newer tidemark"))]
    Newer {
        /// The object.
        key: String,
        /// Its format.
        found: u32,
    },
    /// One prefix holds one cluster.
    #[snafu(display(
        "{store} is the archive of a {archived} cluster, this server is {offered}: give each cluster a prefix of its own"
    ))]
    OtherFlavor {
        /// The store.
        store: String,
        /// The archive's flavor.
        archived: Flavor,
        /// The server's flavor.
        offered: Flavor,
    },
    /// One archive holds one cluster.
    #[snafu(display(
        "{store} is the archive of another cluster: server {server} was never archived there and has executed none of the transactions it \
         holds (it began with server {first_server}); give each cluster a prefix of its own, also one that was set up anew from a dump"
    ))]
    OtherCluster {
        /// The store.
        store: String,
        /// The first server archived there.
        first_server: String,
        /// The refused one.
        server: String,
    },
    /// The ranges of a file leave something out.
    #[snafu(display("bytes {from}..{to} of the binlog file {file} are not in the archive"))]
    Hole {
        /// The file's name.
        file: String,
        /// First missing byte.
        from: u64,
        /// One past the last one known to be missing.
        to: u64,
    },
    /// Two streams disagree on what a file is.
    #[snafu(display(
        "{key} says something else of this closed file than its source does now (size {stored_bytes} against {offered_bytes}): one of them is \
         not the server it claims to be (a copied data directory?); archive it under another prefix"
    ))]
    IndexDiverged {
        /// The object.
        key: String,
        /// Size of the file by the stored index in bytes.
        stored_bytes: u64,
        /// Size of the file by the refused one in bytes.
        offered_bytes: u64,
    },
    /// The process is shutting down.
    #[snafu(display("cannot read on: the process is shutting down"))]
    Interrupted {
        /// Cause.
        source: tokio::task::JoinError,
    },
    /// A value could not be written as JSON.
    #[snafu(display("cannot describe {key}"))]
    Describe {
        /// The object.
        key: String,
        /// Cause.
        source: serde_json::Error,
    },
}

impl ArchiveError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            ArchiveError::Store { source } => source.is_transient(),
            ArchiveError::Segment { source } => source.is_transient(),
            _ => false,
        }
    }

    /// Whether an object is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            ArchiveError::Store { source } => source.is_not_found(),
            ArchiveError::Segment { source } => source.is_not_found(),
            _ => false,
        }
    }

    /// Whether the store turned us away: wrong credentials, no permission, no such bucket.
    pub fn is_refused(&self) -> bool {
        match self {
            ArchiveError::Store { source } => source.is_refused(),
            ArchiveError::Segment { source } => source.is_refused(),
            _ => false,
        }
    }

    /// Whether an identity is missing: nothing is wrong with the archive.
    pub fn is_locked(&self) -> bool {
        match self {
            ArchiveError::Locked { .. } => true,
            ArchiveError::Segment { source } => source.is_locked(),
            _ => false,
        }
    }

    /// Whether an object is there but cannot be trusted.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            ArchiveError::Unreadable { .. }
                | ArchiveError::Changed { .. }
                | ArchiveError::Misplaced { .. }
                | ArchiveError::Problems { .. }
                | ArchiveError::Segment { source: SegmentError::Damaged { .. } }
        )
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Reads a JSON object that states its format; a newer one is refused as such, not as damage.
pub(super) fn parse<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T, ArchiveError> {
    let unreadable = |source| ArchiveError::Unreadable { key: key.to_owned(), source };
    let FormatOnly { format } = serde_json::from_slice(json).map_err(unreadable)?;
    check_format(key, format)?;
    serde_json::from_slice(json).map_err(unreadable)
}

pub(super) fn check_format(key: &str, found: u32) -> Result<(), ArchiveError> {
    if found > FORMAT { Err(ArchiveError::Newer { key: key.to_owned(), found }) } else { Ok(()) }
}
