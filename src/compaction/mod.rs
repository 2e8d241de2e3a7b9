//! The many small segments of closed binlog files become few large objects, for whoever pays for objects and for requests.
//!
//! ```text
//! due (files with many small segments) ──▶ packs ──▶ read back ──▶ packed.json ──▶ the segments' own objects go
//! ```
//!
//! What a reader finds is the same at every moment: a segment goes only when the pack that holds it has been read back whole, and `packed.json`
//! says where. It may die anywhere and be run again, or run twice at a time: no two write the same pack, and `packed.json` is written once and never
//! taken back, as another one may have deleted by its word.

mod error;
mod pack;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use error::CompactionError;

use crate::archive::binlog_index::{FileId, FileIndex};
use crate::archive::catalog::{ArchivedFile, load_index};
use crate::archive::identity::{self, News};
use crate::archive::keys::{self, Key};
use crate::archive::packed::{Edition, Packed, Places};
use crate::archive::store::{Condition, Put, Store};
use crate::archive::timeline::Timeline;
use crate::model::{Progress, total};

/// A file with fewer segments is left as it is.
const SEGMENTS_MIN: u64 = 4;
/// A file whose segments are larger, on the average, is left as it is: packs would not be much fewer.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// Objects deleted at a time.
const CONCURRENCY: usize = 8;

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compacted {
    /// Binlog files whose segments are in packs now.
    pub files: u64,
    /// Objects of segments that are deleted, as a pack has them.
    pub segments: u64,
    /// Packs they are in.
    pub packs: u64,
    /// Stored bytes of these packs.
    pub bytes: u64,
    /// What somebody should know, in words.
    pub notes: Vec<String>,
}

/// The files whose segments are to be packed, log by log and oldest first. Of each server's log it looks from the newest file back, up to the first
/// one that is packed: so requests follow what came since the last compaction.
///
/// # Errors
/// Where the store fails.
pub async fn due<'a>(store: &Store, files: &'a [ArchivedFile]) -> Result<Vec<&'a ArchivedFile>, CompactionError> {
    let mut due = Vec::new();
    for log in Timeline::logs(files) {
        let mut of_log = Vec::new();
        for file in log.into_iter().rev().filter(|file| is_worth_it(file)) {
            if is_packed(store, file).await? {
                break;
            }
            of_log.push(file);
        }
        due.extend(of_log.into_iter().rev());
    }
    Ok(due)
}

fn is_worth_it(file: &ArchivedFile) -> bool {
    let average = file.object_bytes.checked_div(file.objects).unwrap_or_default();
    // Those that are told as one were packed before that.
    file.closed.is_some() && !file.is_span() && file.objects >= SEGMENTS_MIN && average < SEGMENT_BYTES_MAX
}

async fn is_packed(store: &Store, file: &ArchivedFile) -> Result<bool, CompactionError> {
    let edition = Edition { file: file.id.clone(), id: file.encryption.edition.clone() };
    let packed = match read(store, &edition).await {
        // Told when it is this file's turn.
        Err(e) if e.is_of_file() => return Ok(false),
        packed => packed?,
    };
    let Some(packed) = packed else { return Ok(false) };
    Ok(own_objects(store, &edition, &packed.places()).await?.is_empty())
}

/// `packed.json` of an edition; none where there is none.
async fn read(store: &Store, edition: &Edition) -> Result<Option<Packed>, CompactionError> {
    let json = store.find(&edition.packed_key()).await?;
    Ok(json.map(|json| Packed::parse(edition, &json)).transpose()?)
}

/// Objects of their own that segments with a place in a pack still have.
async fn own_objects(store: &Store, edition: &Edition, places: &Places) -> Result<Vec<String>, CompactionError> {
    let stored = store.list_stored(&keys::file_dir(&edition.file)).await?.into_iter().map(|object| object.key);
    // Another edition's ranges may be the same.
    let own = |key: &String| Edition::of_segment(key).as_ref() == Some(edition) && places.get(key).is_some();
    Ok(stored.filter(own).collect())
}

/// Packs the segments of these files, those of [`due`]. What is damaged, or lacks something, is left as it is, and told.
///
/// # Errors
/// Where the store fails, or it is cancelled.
pub async fn compact(
    store: &Store,
    due: &[&ArchivedFile],
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Compacted, CompactionError> {
    let mut done = Compacted::default();
    progress.begin("packing", total(due.iter().map(|file| file.object_bytes)));
    if !due.is_empty() {
        identity::announce(store, News::Packs).await?;
    }
    // Where the store holds what is to be deleted, the log's later files wait, so that the next compaction finds it.
    let mut held: Option<&str> = None;
    for file in due {
        if held == Some(file.id.server.as_str()) {
            continue;
        }
        match compact_file(store, &file.id, cancel, &mut done).await {
            Ok(true) => progress.add(file.object_bytes, file.objects),
            Ok(false) => held = Some(&file.id.server),
            Err(e) if e.is_of_file() => {
                tracing::error!(file = file.id.name, server = file.id.server, error = %e, "not packed");
                done.notes
                    .push(format!("binlog file {} of server {} is not packed: {e}", file.id.name, file.id.server));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// False: the store holds objects that are to be deleted until a later time.
async fn compact_file(
    store: &Store,
    file: &FileId,
    cancel: &CancellationToken,
    done: &mut Compacted,
) -> Result<bool, CompactionError> {
    let index = match load_index(store, file).await {
        // Pruned meanwhile.
        Err(e) if e.is_not_found() => return Ok(true),
        index => index?,
    };
    let edition = Edition { file: file.clone(), id: index.edition.clone() };
    let packed = match read(store, &edition).await? {
        Some(theirs) => check(store, theirs, cancel).await?,
        None => match write(store, &index, &edition, cancel).await? {
            Some(packed) => packed,
            None => return Ok(true),
        },
    };
    // A binary that knows nothing of packs would miss what goes now.
    identity::announce(store, News::Packs).await?;
    fail::fail_point!("compaction::before_delete");
    let objects = own_objects(store, &edition, &packed.places()).await?;
    let mut deleted = stream::iter(objects)
        .map(|key| async move {
            if cancel.is_cancelled() {
                return Err(CompactionError::Cancelled);
            }
            let gone = match store.delete(&key).await {
                Err(e) if e.is_held() => false,
                deleted => deleted.map(|()| true)?,
            };
            fail::fail_point!("compaction::after_object");
            Ok(gone)
        })
        .buffer_unordered(CONCURRENCY);
    let mut all = true;
    while let Some(gone) = deleted.try_next().await? {
        done.segments += u64::from(gone);
        all &= gone;
    }
    drop(deleted);
    clear(store, &packed).await?;
    done.files += 1;
    done.packs += packed.packs.len() as u64;
    done.bytes += total(packed.packs.iter().map(|pack| pack.bytes));
    Ok(all)
}

/// Deletes packs of compactions that died, or were slower. Whoever writes one of this edition now will find `packed.json` there.
async fn clear(store: &Store, packed: &Packed) -> Result<(), CompactionError> {
    let edition = packed.edition();
    let named: HashSet<String> = packed.packs.iter().filter_map(|pack| pack.key(&edition)).collect();
    for object in store.list_stored(&keys::file_dir(&edition.file)).await? {
        let is_own = matches!(keys::parse(&object.key), Some(Key::Pack { edition: id, .. }) if id == edition.id);
        if is_own && !named.contains(&object.key) {
            match store.delete(&object.key).await {
                Err(e) if e.is_held() => {}
                deleted => deleted?,
            }
        }
    }
    Ok(())
}

/// Writes the packs of a file, reads them back, and then says where its segments are. None: it is pruned meanwhile.
async fn write(
    store: &Store,
    index: &FileIndex,
    edition: &Edition,
    cancel: &CancellationToken,
) -> Result<Option<Packed>, CompactionError> {
    let mut packs = Vec::new();
    for ranges in pack::split(&index.ranges) {
        packs.push(pack::write(store, index, edition, ranges, cancel).await?);
        fail::fail_point!("compaction::after_pack");
    }
    // Of a file that is gone nothing is to come back; the packs alone are swept.
    if store.stat(&keys::index(&index.file)).await?.is_none() {
        return Ok(None);
    }
    let packed = Packed::new(edition.clone(), packs);
    if store.put(&edition.packed_key(), packed.to_bytes()?, Condition::IfAbsent).await? == Put::AlreadyThere {
        // Another compaction was faster. (A part of an upload of its own that was cut off is damage: nobody could delete by it, and nobody overwrites
        // what others may just have deleted by.)
        return match read(store, edition).await? {
            Some(theirs) => Ok(Some(check(store, theirs, cancel).await?)),
            None => Ok(None),
        };
    }
    Ok(Some(packed))
}

/// Reads back the packs of another compaction, as each reads back its own when it writes them: what is deleted next is in them alone.
async fn check(store: &Store, packed: Packed, cancel: &CancellationToken) -> Result<Packed, CompactionError> {
    for pack in &packed.packs {
        pack::check(store, &packed.edition(), pack, cancel).await?;
    }
    Ok(packed)
}
