//! One pack: written from segments, each checked on its way, and read back.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::CompactionError;
use crate::archive::binlog_index::{FileIndex, IndexedRange};
use crate::archive::digest::Digest;
use crate::archive::keys;
use crate::archive::packed::{Edition, Pack, PackedSegment};
use crate::archive::store::{Condition, Store, StoreError};

/// A pack is not to become larger; a segment that is makes one of its own.
const PACK_BYTES: u64 = 128 << 20;
/// Segments up to this size are fetched ahead.
const WHOLE_BYTES: u64 = 8 << 20;
/// That many at a time.
const AHEAD: usize = 4;

/// The ranges of a file, pack by pack: what is encrypted and what is not are in different ones.
pub(super) fn split(ranges: &[IndexedRange]) -> Vec<&[IndexedRange]> {
    let mut bytes = 0u64;
    let fits = |last: &IndexedRange, next: &IndexedRange| {
        bytes = if bytes == 0 { last.object_bytes } else { bytes };
        let fits = last.encrypted_to.is_some() == next.encrypted_to.is_some()
            && bytes.saturating_add(next.object_bytes) <= PACK_BYTES;
        bytes = if fits { bytes + next.object_bytes } else { next.object_bytes };
        fits
    };
    ranges.chunk_by(fits).collect()
}

/// Writes the segments of `ranges` as one pack, and reads it back.
pub(super) async fn write(
    store: &Store,
    index: &FileIndex,
    edition: &Edition,
    ranges: &[IndexedRange],
    cancel: &CancellationToken,
) -> Result<Pack, CompactionError> {
    let id = format!("{:08x}", rand::random::<u32>());
    let encrypted = ranges.iter().any(|range| range.encrypted_to.is_some());
    let (start, end) = (ranges.first().map_or(0, |range| range.start), ranges.last().map_or(0, |range| range.end));
    let key = keys::pack(&edition.file, edition.id.as_deref(), start, end, &id, encrypted);
    let mut writer = store.writer(&key, Condition::IfAbsent).await?;
    let (mut digest, mut bytes, mut segments) = (Digest::new(), 0, Vec::new());
    let wanted: Vec<(String, u64)> =
        ranges.iter().map(|range| (index.object(range).key(), range.object_bytes)).collect();
    let mut ahead = stream::iter(wanted)
        .map(|(key, bytes)| async move {
            let pieces = pieces(store, &key, bytes).await?;
            Ok::<_, CompactionError>((key, pieces))
        })
        .buffered(AHEAD);
    for range in ranges {
        let Some((key, mut pieces)) = ahead.try_next().await? else { break };
        let (mut own, mut size) = (Digest::new(), 0);
        while let Some(piece) = pieces.try_next().await? {
            if cancel.is_cancelled() {
                return Err(CompactionError::Cancelled);
            }
            own.update(&piece);
            digest.update(&piece);
            size += piece.len() as u64;
            writer.write(piece).await?;
        }
        if own.hex() != range.object_blake3 || size != range.object_bytes {
            return Err(CompactionError::Damaged { key });
        }
        segments.push(PackedSegment { start: range.start, end: range.end, offset: bytes, bytes: size });
        bytes += size;
    }
    drop(ahead);
    // After a retry it is our own that is there already.
    let _ = writer.finish().await?;
    let pack = Pack { id, encrypted, bytes, blake3: digest.hex(), segments };
    let checked = check(store, edition, &pack, cancel).await;
    if matches!(checked, Err(CompactionError::Torn { .. })) {
        // A part of an upload that was cut off. Nobody else knows of it.
        store.delete(&key).await?;
    }
    checked.map(|()| pack)
}

async fn pieces(
    store: &Store,
    key: &str,
    bytes: u64,
) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
    if bytes > WHOLE_BYTES {
        return store.read_stream(key, 0..bytes).await;
    }
    let whole = store.get(key).await?;
    Ok(stream::iter([Ok(whole)]).boxed())
}

/// Reads a pack back.
///
/// # Errors
/// [`CompactionError::Torn`] where it is not what `pack` says.
pub(super) async fn check(
    store: &Store,
    edition: &Edition,
    pack: &Pack,
    cancel: &CancellationToken,
) -> Result<(), CompactionError> {
    let Some(key) = pack.key(edition) else { return Ok(()) };
    if store.stat(&key).await? != Some(pack.bytes) {
        return Err(CompactionError::Torn { key });
    }
    let mut pieces = store.read_stream(&key, 0..pack.bytes).await?;
    let mut digest = Digest::new();
    while let Some(piece) = pieces.try_next().await? {
        if cancel.is_cancelled() {
            return Err(CompactionError::Cancelled);
        }
        digest.update(&piece);
    }
    if digest.hex() == pack.blake3 { Ok(()) } else { Err(CompactionError::Torn { key }) }
}
