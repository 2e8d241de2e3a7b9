use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::segment::SegmentError;
use crate::archive::store::StoreError;

/// What can go wrong with a verify.
#[derive(Debug, Snafu)]
pub enum VerifyError {
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
    /// Something is wrong with the archive.
    #[snafu(display(
        "the archive is not what was stored: {count} finding(s), named above; put back good copies of what is lost or changed, take a full where \
         there are none, and move away what is foreign"
    ))]
    Found {
        /// How many.
        count: u64,
    },
    /// It was told to stop.
    #[snafu(display("the verify was stopped; the next deep one goes on where it stopped"))]
    Cancelled,
}

impl From<SegmentError> for VerifyError {
    fn from(source: SegmentError) -> Self {
        Self::Archive { source: source.into() }
    }
}

impl VerifyError {
    /// Whether the same call may succeed later with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Found { .. } => false,
            Self::Cancelled => true,
        }
    }
}
