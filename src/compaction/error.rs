use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::store::StoreError;

/// What can go wrong with a compaction.
#[derive(Debug, Snafu)]
pub enum CompactionError {
    /// The archive cannot be read.
    #[snafu(transparent)]
    Archive {
        /// Cause.
        source: ArchiveError,
    },
    /// The store failed.
    #[snafu(transparent)]
    Store {
        /// Cause.
        source: StoreError,
    },
    /// A segment is not what its file's index says.
    #[snafu(display(
        "the object {key} is damaged: it is not what the index of its file says; put back a good copy of it (tidemark verify --deep tells what else is \
         damaged)"
    ))]
    Damaged {
        /// The object.
        key: String,
    },
    /// The store does not give back what was written.
    #[snafu(display("the store does not give back {key} as it was written: no segment is deleted for it"))]
    Torn {
        /// The object.
        key: String,
    },
    /// It was told to stop.
    #[snafu(display("the compaction was stopped; what is packed is packed, and the next one goes on"))]
    Cancelled,
}

impl CompactionError {
    /// Whether the same call may succeed later with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Damaged { .. } => false,
            Self::Torn { .. } | Self::Cancelled => true,
        }
    }

    /// Whether it is about one file: something of it is lost, damaged, or not given back as it was written.
    pub fn is_of_file(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_damage() || source.is_not_found(),
            Self::Store { source } => source.is_not_found(),
            Self::Damaged { .. } | Self::Torn { .. } => true,
            Self::Cancelled => false,
        }
    }
}
