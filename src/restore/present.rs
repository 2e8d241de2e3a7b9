//! Whether the store still has what a plan reads, by listing: a restore that would end at a lost object does not begin.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::error::RestoreError;
use super::plan::{FilePart, Plan};
use crate::archive::ArchiveError;
use crate::archive::binlog_index::IndexedRange;
use crate::archive::catalog::{load_index, load_manifest};
use crate::archive::keys;
use crate::archive::store::Store;

/// Requests under way at a time.
const CONCURRENCY: usize = 16;
/// Objects that an error names.
const NAMED: usize = 5;

/// Fails with the names of objects that are lost or of another size than the archive says. Their bytes are not read.
pub(super) async fn check(store: &Store, plan: &Plan) -> Result<(), RestoreError> {
    let mut damage = of_full(store, &plan.base.id).await?;
    let files = stream::iter(&plan.files).map(|part| of_file(store, part)).buffered(CONCURRENCY);
    damage.extend(files.try_concat().await?);
    if damage.is_empty() {
        return Ok(());
    }
    let named = damage.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if damage.len() > NAMED { format!(" and {} more", damage.len() - NAMED) } else { String::new() };
    Err(RestoreError::Damaged {
        message: format!(
            "this restore reads what the archive has lost: {named}{more}; put that back (tidemark repair does so from a copy), restore from a copy \
             (--copy NAME), or to another moment (tidemark verify says which are affected)"
        ),
    })
}

async fn of_full(store: &Store, id: &str) -> Result<Vec<String>, RestoreError> {
    let manifest = load_manifest(store, id).await?;
    let mut found = BTreeMap::new();
    // An object may be in another full's folder.
    let dirs: BTreeSet<_> = manifest.objects.iter().map(|object| dir(&object.key)).collect();
    for dir in dirs {
        found.extend(
            store.list(dir).await.map_err(ArchiveError::from)?.into_iter().map(|object| (object.key, object.bytes)),
        );
    }
    let objects = manifest.objects.iter();
    Ok(objects.filter_map(|object| damage(&object.key, object.bytes, found.get(&object.key))).collect())
}

async fn of_file(store: &Store, part: &FilePart) -> Result<Vec<String>, RestoreError> {
    let index = match load_index(store, &part.file).await {
        // Of an open file the plan was made from the listing itself.
        Err(e) if e.is_not_found() || e.is_damage() => return Ok(Vec::new()),
        index => index?,
    };
    let listing = store.list(&keys::file_dir(&part.file)).await.map_err(ArchiveError::from)?;
    let found: BTreeMap<_, _> = listing.into_iter().map(|object| (object.key, object.bytes)).collect();
    let read = index.ranges.iter().filter(|range| range.end > part.start && range.start < part.end);
    let damage = |range: &IndexedRange| {
        let key = index.object(range).key();
        damage(&key, range.object_bytes, found.get(&key))
    };
    Ok(read.filter_map(damage).collect())
}

/// `full/<id>/` of a key.
fn dir(key: &str) -> &str {
    key.match_indices('/').nth(1).map_or(key, |(slash, _)| &key[..=slash])
}

fn damage(key: &str, bytes: u64, found: Option<&u64>) -> Option<String> {
    match found {
        None => Some(format!("{key} (missing)")),
        Some(found) if *found != bytes => Some(format!("{key} ({found} of {bytes} bytes)")),
        Some(_) => None,
    }
}
