//! One object on its way from a store into another one, or back from the past.

use futures::TryStreamExt;

use super::error::CopyError;
use crate::archive::digest::Digest;
use crate::archive::store::{Condition, Put, Store};
use crate::model::Pace;

/// What becomes of what a store holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is taken for what it should be: a store is filled from another one, and neither replaces anything.
    Fill,
    /// It is replaced unless it is what it was: a store is taken back to what it was at a moment.
    TakeBack {
        /// Count only.
        dry_run: bool,
    },
}

/// An object to copy.
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) bytes: u64,
    /// Of the stored bytes, where something says it.
    pub(super) blake3: Option<String>,
}

/// Copies an object in bounded memory, unless it is there. It appears only if its bytes are what is said of them.
pub(super) async fn copy(
    from: &Store,
    to: &Store,
    wanted: &Wanted,
    pace: &Pace,
    mode: Mode,
) -> Result<bool, CopyError> {
    let Wanted { key, bytes, blake3 } = wanted;
    let there = match mode {
        Mode::Fill => to.stat(key).await? == Some(*bytes),
        // Of a segment in a pack no version of its own tells anything.
        Mode::TakeBack { .. } => {
            let is_own = from.stat_stored(key).await?.is_some();
            is_own && from.is_unchanged(key).await? || is_whole(to, wanted, pace).await?
        }
    };
    match mode {
        _ if there => return Ok(false),
        Mode::TakeBack { dry_run: true } => return Ok(true),
        _ => {}
    }
    let damaged =
        |reason: &str| CopyError::Damaged { key: key.clone(), store: from.url().to_owned(), reason: reason.to_owned() };
    match from.stat(key).await? {
        Some(size) if size != *bytes => return Err(damaged("its size is not what the archive says")),
        _ => {}
    }
    let mut pieces = from.read_stream(key, 0..*bytes).await?;
    let condition = if mode == Mode::Fill { Condition::IfAbsent } else { Condition::Overwrite };
    let mut writer = to.writer(key, condition).await?;
    let mut digest = Digest::new();
    while let Some(piece) = pieces.try_next().await? {
        digest.update(&piece);
        pace.take(piece.len()).await;
        writer.write(piece).await?;
    }
    if blake3.as_ref().is_some_and(|blake3| *blake3 != digest.hex()) {
        return Err(damaged("its BLAKE3 is not what the archive says"));
    }
    match writer.finish().await? {
        Put::Created => Ok(true),
        Put::AlreadyThere if to.stat(key).await? == Some(*bytes) => Ok(false),
        Put::AlreadyThere => Err(CopyError::Damaged {
            key: key.clone(),
            store: to.url().to_owned(),
            reason: "another object is there already".to_owned(),
        }),
    }
}

/// Whether an object is what the archive says of it, byte by byte: another version of it may hold the same.
async fn is_whole(store: &Store, wanted: &Wanted, pace: &Pace) -> Result<bool, CopyError> {
    let Wanted { key, bytes, blake3: Some(blake3) } = wanted else { return Ok(false) };
    if store.stat(key).await? != Some(*bytes) {
        return Ok(false);
    }
    let mut digest = Digest::new();
    let mut pieces = store.read_stream(key, 0..*bytes).await?;
    while let Some(piece) = pieces.try_next().await? {
        digest.update(&piece);
        pace.take(piece.len()).await;
    }
    Ok(digest.hex() == *blake3)
}
