use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::segment::SegmentError;
use crate::archive::store::StoreError;

/// What can go wrong with a copy.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum CopyError {
    /// An archive cannot be read or written.
    #[snafu(transparent)]
    Archive {
        /// Cause.
        source: ArchiveError,
    },
    /// A store failed.
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
    /// The other store holds an archive that was made at another time, or of another server.
    #[snafu(display(
        "{to} already holds another archive than {from} (made {theirs}, not {ours}): give the copy a folder, bucket or prefix of its own"
    ))]
    OtherArchive {
        /// The store that is copied.
        from: String,
        /// The store that is filled.
        to: String,
        /// When the archive was made that is copied.
        ours: jiff::Timestamp,
        /// When the other one was.
        theirs: jiff::Timestamp,
    },
    /// An object is not what the archive says of it: it is not copied.
    #[snafu(display(
        "the object {key} in {store} is damaged ({reason}): it is not copied; put back a good copy of it"
    ))]
    Damaged {
        /// The object.
        key: String,
        /// The store.
        store: String,
        /// What is wrong.
        reason: String,
    },
    /// The store that is filled kept a part of an upload that was cut off as if it were the whole.
    #[snafu(display(
        "the store {store} kept a part of {key}, of an upload that was cut off: it is deleted, and can be copied anew"
    ))]
    Torn {
        /// The object.
        key: String,
        /// The store.
        store: String,
    },
    /// It was told to stop.
    #[snafu(display("the copy was stopped; what is copied stays, and the next one goes on"))]
    Cancelled,
}

impl CopyError {
    /// Whether the same call may succeed later with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Segment { source } => source.is_transient(),
            Self::OtherArchive { .. } | Self::Damaged { .. } => false,
            Self::Torn { .. } | Self::Cancelled => true,
        }
    }

    /// Whether an object is damaged.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_damage(),
            Self::Segment { source } => matches!(source, SegmentError::Damaged { .. }),
            Self::Damaged { .. } => true,
            Self::Store { .. } | Self::OtherArchive { .. } | Self::Torn { .. } | Self::Cancelled => false,
        }
    }

    /// Whether an object was not there.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_not_found(),
            Self::Store { source } => source.is_not_found(),
            Self::Segment { source } => source.is_not_found(),
            _ => false,
        }
    }
}
