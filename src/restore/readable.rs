//! Whether the identities at hand open everything that a plan reads: known before anything is touched.

use futures::{StreamExt, TryStreamExt, stream};

use super::base;
use super::error::RestoreError;
use super::plan::{FilePart, Plan};
use crate::archive::ArchiveError;
use crate::archive::catalog::{load_file, load_manifest, load_ranges};
use crate::archive::segment::try_to_open;
use crate::archive::store::Store;

/// Files looked at at a time.
const CONCURRENCY: usize = 8;

/// Compares what the archive says of every object that `plan` reads with the store's identities, and tries the base's description and both
/// ends of the log.
///
/// # Errors
/// [`crate::archive::crypt::LockedError`], with the public keys that are wanted, in an error of the archive or the base.
pub async fn check_readable(plan: &Plan, store: &Store) -> Result<(), RestoreError> {
    let manifest = load_manifest(store, &plan.base.id).await?;
    let failed = |source| RestoreError::Base { full: plan.base.id.clone(), source };
    base::try_to_open(store, &manifest).await.map_err(failed)?;
    let files = plan.files.clone();
    let mut looked = stream::iter(files).map(|file| async move { check(store, &file).await }).buffered(CONCURRENCY);
    while looked.try_next().await?.is_some() {}
    drop(looked);
    for planned in [plan.files.first(), plan.files.last()].into_iter().flatten() {
        let Some(file) = load_file(store, &planned.file).await?.filter(|file| file.encryption.objects > 0) else {
            continue;
        };
        let mut ranges = load_ranges(store, &file).await?;
        ranges.retain(|range| range.object.encrypted && range.object.start < planned.end);
        for range in [ranges.first(), ranges.last()].into_iter().flatten() {
            try_to_open(store, &range.object).await.map_err(ArchiveError::from)?;
        }
    }
    Ok(())
}

async fn check(store: &Store, planned: &FilePart) -> Result<(), RestoreError> {
    // One that is gone since is told by whoever reads it.
    let Some(file) = load_file(store, &planned.file).await?.filter(|file| file.encryption.objects > 0) else {
        return Ok(());
    };
    let ranges = load_ranges(store, &file).await?;
    for range in ranges.iter().filter(|range| range.object.encrypted && range.object.start < planned.end) {
        store.identities().check(&range.object.key(), &range.recipients).map_err(ArchiveError::from)?;
    }
    Ok(())
}
