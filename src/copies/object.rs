//! One object on its way from a store into another one, or back from the past.

use bytes::Bytes;
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
    match once(from, to, wanted, pace, mode).await {
        Err(torn @ CopyError::Torn { .. }) => {
            tracing::warn!(error = %torn, "copied anew");
            once(from, to, wanted, pace, mode).await
        }
        copied => copied,
    }
}

async fn once(from: &Store, to: &Store, wanted: &Wanted, pace: &Pace, mode: Mode) -> Result<bool, CopyError> {
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
        Put::AlreadyThere if is_part(from, to, wanted).await? => {
            // Nothing in the copy refers to it yet.
            to.delete(key).await?;
            Err(CopyError::Torn { key: key.clone(), store: to.url().to_owned() })
        }
        Put::AlreadyThere => Err(CopyError::Damaged {
            key: key.clone(),
            store: to.url().to_owned(),
            reason: "another object is there already".to_owned(),
        }),
    }
}

/// Stores a small object that is not there, or of which the store kept a part, of an upload that was cut off, as if it were the whole.
pub(super) async fn put_new(to: &Store, key: &str, json: Bytes) -> Result<(), CopyError> {
    if to.put(key, json.clone(), Condition::IfAbsent).await? == Put::AlreadyThere && holds_part(to, key, &json).await? {
        tracing::warn!(key, "the copy's store kept a part of an upload that was cut off; it is stored anew");
        let _ = to.put(key, json, Condition::Overwrite).await?;
    }
    Ok(())
}

/// Whether a store has no more of a small object than its first bytes.
pub(super) async fn holds_part(store: &Store, key: &str, json: &Bytes) -> Result<bool, CopyError> {
    let there = store.find(key).await?;
    Ok(there.is_some_and(|there| there.len() < json.len() && json.starts_with(&there)))
}

/// Whether the store that is filled has no more of an object than its first bytes.
async fn is_part(from: &Store, to: &Store, wanted: &Wanted) -> Result<bool, CopyError> {
    let key = &wanted.key;
    let Some(there) = to.stat(key).await?.filter(|there| *there < wanted.bytes) else { return Ok(false) };
    if there == 0 {
        return Ok(true);
    }
    let of = async |store: &Store| {
        let (mut digest, mut pieces) = (Digest::new(), store.read_stream(key, 0..there).await?);
        while let Some(piece) = pieces.try_next().await? {
            digest.update(&piece);
        }
        Ok::<_, CopyError>(digest.hex())
    };
    Ok(of(to).await? == of(from).await?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::StoreConfig;

    #[tokio::test]
    async fn a_part_that_the_copy_kept_gives_way_and_anything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str| Store::open(&StoreConfig::Fs { root: dir.path().join(name) }).unwrap();
        let (from, to, key) = (store("first"), store("second"), "full/x/rows/1");
        let put = async |store: &Store, text: &'static str| {
            let _ = store.put(key, Bytes::from_static(text.as_bytes()), Condition::Overwrite).await.unwrap();
        };
        let whole = "what the first store holds";
        put(&from, whole).await;
        let wanted = Wanted { key: key.to_owned(), bytes: whole.len() as u64, blake3: None };
        let fill = async || copy(&from, &to, &wanted, &Pace::new(None), Mode::Fill).await;
        for part in ["", "what the first"] {
            put(&to, part).await;
            assert!(fill().await.unwrap());
            assert_eq!(to.get(key).await.unwrap(), whole);
        }
        for other in ["not what the first", "what the first store holds, and more"] {
            put(&to, other).await;
            let damaged = fill().await.unwrap_err();
            assert!(matches!(damaged, CopyError::Damaged { .. }), "{damaged}");
            assert_eq!(to.get(key).await.unwrap(), other);
        }
    }
}
