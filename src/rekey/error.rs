use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::crypt::LockedError;
use crate::archive::store::StoreError;

/// What can go wrong with a rekey.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum RekeyError {
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
    /// Something is encrypted, and nothing at hand opens it.
    #[snafu(transparent)]
    Locked {
        /// Cause.
        source: LockedError,
    },
    /// There is nobody to encrypt to.
    #[snafu(display(
        "the policy names no recipients: write the public keys that the archive is to be encrypted to into spec.encryption.recipients"
    ))]
    NoRecipients,
    /// Nobody has shown that the new recipients can read.
    #[snafu(display(
        "no identity of the recipients {recipients} was given: what is old is deleted only when what is new was read back, so add the identity of \
         one of them to the Secret (it may hold several, one a line), beside those that open what is old"
    ))]
    Unproved {
        /// Public keys of the policy.
        recipients: String,
    },
    /// An object is not what the archive says.
    #[snafu(display(
        "the object {key} is damaged ({problem}); put back a good copy of it (tidemark verify --deep tells what else is damaged)"
    ))]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else wrote it meanwhile.
    #[snafu(display("{key} changed meanwhile: another rekey runs; what it names is left as it is"))]
    Changed {
        /// The object.
        key: String,
    },
    /// The store does not give back what was written.
    #[snafu(display("the store does not give back {key} as it was written ({problem}): nothing is deleted for it"))]
    Torn {
        /// The object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not all of it is done.
    #[snafu(display(
        "{count} fulls or binlog files are left as they are, for the reasons that are named above; run this again once those are gone"
    ))]
    Incomplete {
        /// How many.
        count: usize,
    },
    /// It was told to stop.
    #[snafu(display("the rekey was stopped; what is done is done, and the next one goes on"))]
    Cancelled,
}

impl RekeyError {
    /// Whether the same call may succeed later with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Locked { .. }
            | Self::NoRecipients
            | Self::Unproved { .. }
            | Self::Damaged { .. }
            | Self::Incomplete { .. } => false,
            Self::Changed { .. } | Self::Torn { .. } | Self::Cancelled => true,
        }
    }

    /// Whether it is about one file or full alone: the others can be gone on with.
    pub(super) fn is_of_one(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_damage() || source.is_not_found(),
            Self::Store { source } => source.is_not_found(),
            Self::Damaged { .. } | Self::Changed { .. } | Self::Torn { .. } => true,
            Self::Locked { .. }
            | Self::NoRecipients
            | Self::Unproved { .. }
            | Self::Incomplete { .. }
            | Self::Cancelled => false,
        }
    }
}
