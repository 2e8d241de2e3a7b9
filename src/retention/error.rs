use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::store::StoreError;

/// What can go wrong with a prune.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum RetentionError {
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
    /// The archive is damaged: what may go cannot be told.
    #[snafu(display(
        "nothing is deleted while objects of the archive are damaged, as what needs them cannot be told ({}); put back good copies of them, or \
         delete the folders of fulls that are given up",
        problems.join("; ")
    ))]
    Damaged {
        /// The damage.
        problems: Vec<String>,
    },
    /// A full was named that must not go.
    #[snafu(display("full {id} is not deleted: {why}"))]
    Needed {
        /// The full.
        id: String,
        /// What needs it, and the way out.
        why: String,
    },
    /// A restore began while objects went.
    #[snafu(display(
        "nothing more is deleted, as a restore is being planned or has just begun, or a rekey runs; the next prune goes on around it (if none runs: it died, and \
         {lease} counts for an hour after it was written; delete it to go on now)"
    ))]
    Restoring {
        /// The object that is the restore's lease.
        lease: String,
    },
    /// It was told to stop.
    #[snafu(display("the prune was stopped; what is deleted is deleted, and the next one goes on"))]
    Cancelled,
}

impl RetentionError {
    /// Whether the same call may succeed later with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Damaged { .. } | Self::Needed { .. } => false,
            Self::Restoring { .. } | Self::Cancelled => true,
        }
    }
}
