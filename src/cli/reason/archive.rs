//! Reasons of what goes wrong with an archive and its store.

use super::Reason;
use crate::archive::ArchiveError;
use crate::archive::crypt::LockedError;
use crate::archive::segment::SegmentError;
use crate::archive::store::{StoreError, Trouble};
use crate::compaction::CompactionError;
use crate::copies::CopyError;
use crate::rekey::RekeyError;
use crate::retention::RetentionError;
use crate::verify::VerifyError;

pub(super) fn of_retention(error: &RetentionError) -> Reason {
    match error {
        RetentionError::Archive { source } => of_archive(source),
        RetentionError::Store { source } => of_store(source),
        RetentionError::Damaged { .. } => Reason::ArchiveDamaged,
        RetentionError::Needed { .. } => Reason::FullNeeded,
        RetentionError::Restoring { .. } => Reason::Restoring,
        RetentionError::Cancelled => Reason::Cancelled,
    }
}

pub(super) fn of_compaction(error: &CompactionError) -> Reason {
    match error {
        CompactionError::Archive { source } => of_archive(source),
        CompactionError::Store { source } => of_store(source),
        CompactionError::Damaged { .. } => Reason::ArchiveDamaged,
        CompactionError::Torn { .. } => Reason::StoreUnfit,
        CompactionError::Cancelled => Reason::Cancelled,
    }
}

pub(super) fn of_rekey(error: &RekeyError) -> Reason {
    match error {
        RekeyError::Archive { source } => of_archive(source),
        RekeyError::Store { source } => of_store(source),
        RekeyError::Locked { source } => of_locked(source),
        RekeyError::NoRecipients => Reason::InvalidManifest,
        RekeyError::Unproved { .. } => Reason::IdentityMissing,
        RekeyError::Incomplete { .. } => Reason::ArchiveDamaged,
        RekeyError::Damaged { .. } => Reason::ArchiveDamaged,
        RekeyError::Changed { .. } => Reason::Failed,
        RekeyError::Torn { .. } => Reason::StoreUnfit,
        RekeyError::Cancelled => Reason::Cancelled,
    }
}

pub(super) fn of_copy(error: &CopyError) -> Reason {
    match error {
        CopyError::Archive { source } => of_archive(source),
        CopyError::Store { source } => of_store(source),
        CopyError::Segment { source } => of_segment(source),
        CopyError::OtherArchive { .. } => Reason::OtherArchive,
        CopyError::Damaged { .. } => Reason::ArchiveDamaged,
        CopyError::Torn { .. } => Reason::StoreUnreachable,
        CopyError::Cancelled => Reason::Cancelled,
    }
}

pub(super) fn of_verify(error: &VerifyError) -> Reason {
    match error {
        VerifyError::Archive { source } => of_archive(source),
        VerifyError::Store { source } => of_store(source),
        VerifyError::Found { .. } => Reason::ArchiveDamaged,
        VerifyError::Cancelled => Reason::Cancelled,
    }
}

pub(super) fn of_archive(error: &ArchiveError) -> Reason {
    match error {
        ArchiveError::Store { source } => of_store(source),
        ArchiveError::Segment { source } => of_segment(source),
        ArchiveError::Locked { source } => of_locked(source),
        ArchiveError::Missing { .. } => Reason::ArchiveMissing,
        ArchiveError::Headless { .. }
        | ArchiveError::Unreadable { .. }
        | ArchiveError::Changed { .. }
        | ArchiveError::Misplaced { .. }
        | ArchiveError::Problems { .. } => Reason::ArchiveDamaged,
        ArchiveError::Newer { .. } => Reason::ArchiveNewer,
        ArchiveError::OtherFlavor { .. } => Reason::OtherFlavor,
        ArchiveError::OtherCluster { .. } => Reason::OtherCluster,
        ArchiveError::Hole { .. } => Reason::ArchiveIncomplete,
        ArchiveError::IndexDiverged { .. } => Reason::SourceDiverged,
        ArchiveError::Interrupted { .. } => Reason::Cancelled,
        ArchiveError::Describe { .. } => Reason::Failed,
    }
}

fn of_segment(error: &SegmentError) -> Reason {
    match error {
        SegmentError::Store { source } => of_store(source),
        SegmentError::Locked { source } => of_locked(source),
        SegmentError::Damaged { .. } | SegmentError::Torn { .. } => Reason::ArchiveDamaged,
        SegmentError::Diverged { .. } => Reason::SourceDiverged,
        SegmentError::Newer { .. } => Reason::ArchiveNewer,
        SegmentError::Compress { .. } | SegmentError::Describe { .. } | SegmentError::Length { .. } => Reason::Failed,
    }
}

pub(super) fn of_locked(error: &LockedError) -> Reason {
    match error {
        LockedError::NoIdentity { .. } => Reason::IdentityMissing,
        LockedError::OtherIdentity { .. } => Reason::IdentityWrong,
    }
}

pub(super) fn of_store(error: &StoreError) -> Reason {
    match error.trouble() {
        Trouble::Unreachable => Reason::StoreUnreachable,
        Trouble::Denied => Reason::StoreDenied,
        Trouble::NoBucket => Reason::BucketMissing,
        Trouble::Full => Reason::StoreFull,
        Trouble::ReadOnly => Reason::StoreReadOnly,
        Trouble::NoObject => Reason::ArchiveIncomplete,
        Trouble::Unfit => Reason::StoreUnfit,
    }
}
