//! The skippable frame at a segment object's end:
//! `[u32 0x184D2A54][u32 size of what follows][SegmentMeta as JSON][u32 CRC-32 of the JSON][u32 size of the JSON]["TDMKSEG1"]`,
//! little-endian.

use bytes::Bytes;
use serde::Deserialize;
use snafu::ResultExt;

use super::{DescribeSnafu, SegmentError, SegmentObject};
use crate::archive::FORMAT;
use crate::archive::binlog_index::SegmentMeta;
use crate::archive::store::Store;

const FRAME_MAGIC: u32 = 0x184D_2A54;
const MAGIC: &[u8; 8] = b"TDMKSEG1";
/// After the JSON: CRC, JSON size, magic.
const TAIL_BYTES: u32 = 4 + 4 + 8;
/// Before the JSON: frame magic, frame size.
const HEAD_BYTES: u32 = 4 + 4;
/// What one request fetches; a longer meta (a server with thousands of GTID intervals) takes a second one.
const GUESS_BYTES: u64 = 16 << 10;
const JSON_BYTES_MAX: u64 = 32 << 20;

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Reads a segment's meta by range requests from the object's end.
pub async fn read_meta(store: &Store, object: &SegmentObject) -> Result<SegmentMeta, SegmentError> {
    Ok(read(store, object).await?.0)
}

/// The same, and the size of the frame it is in.
pub(super) async fn read(store: &Store, object: &SegmentObject) -> Result<(SegmentMeta, u64), SegmentError> {
    let (tail, bytes) = read_tail(store, object).await?;
    Ok((parse_meta(object, &tail)?, bytes))
}

/// A segment's meta, and the size of the frame it is in. As [`read_meta`], but takes one that speaks of another segment: the object is where that
/// one belongs.
pub async fn read_any_meta(store: &Store, object: &SegmentObject) -> Result<(SegmentMeta, u64), SegmentError> {
    let (tail, bytes) = read_tail(store, object).await?;
    Ok((parse_any_meta(object, &tail)?, bytes))
}

/// At least the frame, which has that size.
async fn read_tail(store: &Store, object: &SegmentObject) -> Result<(Bytes, u64), SegmentError> {
    let key = object.key();
    let guess = object.bytes.min(GUESS_BYTES);
    let mut tail = store.get_range(&key, object.bytes - guess..object.bytes).await?;
    let needed = frame_bytes(object, &tail)?;
    if needed > tail.len() as u64 {
        tail = store.get_range(&key, object.bytes - needed..object.bytes).await?;
    }
    Ok((tail, needed))
}

/// The frame that holds `meta`.
pub(super) fn frame(key: &str, meta: &SegmentMeta) -> Result<Vec<u8>, SegmentError> {
    let json = serde_json::to_vec(meta).context(DescribeSnafu { key })?;
    let json_bytes = json.len() as u32;
    let frame_bytes = json_bytes + TAIL_BYTES;
    Ok([
        &FRAME_MAGIC.to_le_bytes()[..],
        &frame_bytes.to_le_bytes(),
        &json,
        &crc32fast::hash(&json).to_le_bytes(),
        &json_bytes.to_le_bytes(),
        MAGIC,
    ]
    .concat())
}

/// Size of the whole frame that ends `tail`; never more than the object.
pub(super) fn frame_bytes(object: &SegmentObject, tail: &[u8]) -> Result<u64, SegmentError> {
    let damaged = |problem| SegmentError::damaged(object, problem);
    let rest =
        tail.strip_suffix(MAGIC).ok_or_else(|| damaged("it does not end like a segment: truncated or overwritten"))?;
    let (_, size) = rest.split_last_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    let json_bytes = u64::from(u32::from_le_bytes(*size));
    let bytes = json_bytes + u64::from(HEAD_BYTES + TAIL_BYTES);
    if json_bytes > JSON_BYTES_MAX || bytes > object.bytes {
        return Err(damaged("its meta has an impossible size"));
    }
    Ok(bytes)
}

/// Takes the meta out of an object's end (or all of it) and checks that it speaks of this very object.
pub fn parse_meta(object: &SegmentObject, tail: &[u8]) -> Result<SegmentMeta, SegmentError> {
    let meta = parse_any_meta(object, tail)?;
    if meta.file != object.file || meta.start != object.start || meta.end != object.end {
        let SegmentMeta { file, start, end, .. } = &meta;
        let problem = format!("it holds bytes {start}..{end} of {}@{} instead", file.name, file.created_unix);
        return Err(SegmentError::damaged(object, problem));
    }
    if meta.encryption.is_some() != object.encrypted || meta.edition != object.edition {
        let problem = "its meta and its name do not agree on how it is encrypted";
        return Err(SegmentError::damaged(object, problem));
    }
    Ok(meta)
}

fn parse_any_meta(object: &SegmentObject, tail: &[u8]) -> Result<SegmentMeta, SegmentError> {
    let damaged = |problem: &str| SegmentError::damaged(object, problem);
    let bytes = frame_bytes(object, tail)?;
    let frame =
        usize::try_from(bytes).ok().and_then(|bytes| tail.len().checked_sub(bytes)).and_then(|at| tail.get(at..));
    let frame = frame.ok_or_else(|| damaged("its meta is cut off"))?;
    let (head, rest) = frame.split_first_chunk::<8>().ok_or_else(|| damaged("its meta is cut off"))?;
    let expected = (u64::from(FRAME_MAGIC) | (bytes - 8) << 32).to_le_bytes();
    let (json, tail) =
        rest.split_last_chunk::<{ TAIL_BYTES as usize }>().ok_or_else(|| damaged("its meta is cut off"))?;
    if *head != expected || !tail.starts_with(&crc32fast::hash(json).to_le_bytes()) {
        return Err(damaged("its meta is not what was stored"));
    }
    let unreadable = |e: serde_json::Error| SegmentError::damaged(object, format!("its meta cannot be read: {e}"));
    let FormatOnly { format } = serde_json::from_slice(json).map_err(unreadable)?;
    if format > FORMAT {
        return Err(SegmentError::Newer { key: object.key(), found: format });
    }
    serde_json::from_slice(json).map_err(unreadable)
}
