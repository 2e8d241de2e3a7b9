//! Objects of a full, read piece by piece, decompressed and proved by their BLAKE3.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use snafu::ResultExt;

use super::error::{BaseError, DecompressSnafu};
use crate::archive::codec::Decoder;
use crate::archive::digest::Digest;
use crate::archive::manifest::{FullManifest, ObjectEntry};
use crate::archive::store::{Store, StoreError};

/// The manifest's entry of that number.
pub(super) fn entry(manifest: &FullManifest, number: usize) -> Result<&ObjectEntry, BaseError> {
    manifest.objects.get(number).ok_or_else(|| BaseError::Damaged {
        key: format!("manifest of {}", manifest.id),
        reason: format!("it refers to object {number} of {}", manifest.objects.len()),
    })
}

/// Raw bytes of an object. It ends without an error only if every byte was there and the digest is the manifest's.
pub(super) async fn read(
    store: &Store,
    entry: &ObjectEntry,
) -> Result<BoxStream<'static, Result<Bytes, BaseError>>, BaseError> {
    let stored = store.read_stream(&entry.key, 0..entry.bytes).await.map_err(|source| missing(entry, source))?;
    let state = Reading {
        stored,
        entry: entry.clone(),
        decoder: Decoder::new().context(DecompressSnafu)?,
        blake3: Some(Digest::new()),
        input: Bytes::new(),
        seen: 0,
        made: 0,
    };
    let stream = futures::stream::try_unfold(state, |mut state| async move {
        Ok::<_, BaseError>(state.next().await?.map(|piece| (piece, state)))
    });
    Ok(stream.boxed())
}

/// A short object, whole.
pub(super) async fn read_whole(store: &Store, entry: &ObjectEntry) -> Result<Vec<u8>, BaseError> {
    let mut stream = read(store, entry).await?;
    let mut out = Vec::new();
    while let Some(piece) = stream.next().await {
        out.extend_from_slice(&piece?);
    }
    Ok(out)
}

/// Keeps the error of a stream that is handed to the server's client, which only knows boxed errors.
pub(super) fn keep_error(
    stream: impl Stream<Item = Result<Bytes, BaseError>> + Send + Unpin,
    kept: Arc<Mutex<Option<BaseError>>>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Unpin {
    stream.map(move |piece| {
        piece.map_err(|e| {
            let text = e.to_string();
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            std::io::Error::other(text)
        })
    })
}

struct Reading {
    stored: BoxStream<'static, Result<Bytes, StoreError>>,
    entry: ObjectEntry,
    decoder: Decoder,
    blake3: Option<Digest>,
    input: Bytes,
    seen: u64,
    made: u64,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, BaseError> {
        loop {
            let mut rest: &[u8] = &self.input;
            let made =
                self.decoder.decode(&mut rest).map_err(|e| self.damaged(&format!("it does not decompress ({e})")))?;
            let used = self.input.len() - rest.len();
            self.input = self.input.slice(used..);
            if !made.is_empty() {
                self.made += made.len() as u64;
                return Ok(Some(Bytes::from(made)));
            }
            match self.stored.next().await {
                Some(piece) => {
                    let piece = piece.map_err(|source| missing(&self.entry, source))?;
                    self.seen += piece.len() as u64;
                    if let Some(blake3) = &mut self.blake3 {
                        blake3.update(&piece);
                    }
                    self.input = piece;
                }
                None => {
                    self.check_end()?;
                    return Ok(None);
                }
            }
        }
    }

    fn check_end(&mut self) -> Result<(), BaseError> {
        let Some(blake3) = self.blake3.take() else { return Ok(()) };
        if self.seen != self.entry.bytes || self.made != self.entry.raw_bytes {
            return Err(self.damaged("its size is not what the manifest says"));
        }
        if blake3.hex() != self.entry.blake3 {
            return Err(self.damaged("its BLAKE3 is not what the manifest says"));
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> BaseError {
        BaseError::Damaged { key: self.entry.key.clone(), reason: reason.to_owned() }
    }
}

fn missing(entry: &ObjectEntry, source: StoreError) -> BaseError {
    if source.is_not_found() {
        BaseError::Damaged { key: entry.key.clone(), reason: "it is missing".to_owned() }
    } else {
        source.into()
    }
}
