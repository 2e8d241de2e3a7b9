//! Objects of a full, read piece by piece, decrypted, decompressed and proved by their BLAKE3.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use snafu::ResultExt;

use super::error::{BaseError, DecompressSnafu};
use crate::archive::codec::Decoder;
use crate::archive::crypt::{self, HEADER_BYTES, Locked, OpenError};
use crate::archive::digest::Digest;
use crate::archive::keys;
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
    manifest: &FullManifest,
    entry: &ObjectEntry,
) -> Result<BoxStream<'static, Result<Bytes, BaseError>>, BaseError> {
    let stored = match store.read_stream(&entry.key, 0..entry.bytes).await {
        Ok(stored) => stored,
        Err(source) => return Err(missing(store, entry, source).await),
    };
    let (compressed, blake3) = if keys::is_encrypted(&entry.key) {
        let locked = Locked {
            key: &entry.key,
            recipients: &manifest.recipients,
            age_bytes: entry.bytes,
            age_blake3: None,
            blake3: Some(&entry.blake3),
        };
        // It is proved by its digest before it is decrypted.
        match crypt::open(store.identities(), locked, stored).await {
            Ok(compressed) => (compressed, None),
            Err(e) => return Err(opening(store, entry, e).await),
        }
    } else {
        (stored.map_err(OpenError::from).boxed(), Some(Digest::new()))
    };
    let state = Reading {
        store: store.clone(),
        compressed,
        entry: entry.clone(),
        decoder: Decoder::new().context(DecompressSnafu)?,
        blake3,
        input: Bytes::new(),
        seen: 0,
        made: 0,
    };
    let stream = futures::stream::try_unfold(state, |mut state| async move {
        Ok::<_, BaseError>(state.next().await?.map(|piece| (piece, state)))
    });
    Ok(stream.boxed())
}

/// Whether the store's identities open what is encrypted of a full: reads the beginnings of its first and last object.
pub async fn try_to_open(store: &Store, manifest: &FullManifest) -> Result<(), BaseError> {
    for entry in [manifest.objects.first(), manifest.objects.last()].into_iter().flatten() {
        if keys::is_encrypted(&entry.key) {
            let head = store.get_range(&entry.key, 0..entry.bytes.min(HEADER_BYTES)).await;
            let head = match head {
                Ok(head) => head,
                Err(source) => return Err(missing(store, entry, source).await),
            };
            let tried = crypt::try_header(store.identities(), &entry.key, &manifest.recipients, &head);
            if let Err(e) = tried {
                return Err(opening(store, entry, e).await);
            }
        }
    }
    Ok(())
}

/// A short object, whole.
pub(super) async fn read_whole(
    store: &Store,
    manifest: &FullManifest,
    entry: &ObjectEntry,
) -> Result<Vec<u8>, BaseError> {
    let mut stream = read(store, manifest, entry).await?;
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
    store: Store,
    compressed: BoxStream<'static, Result<Bytes, OpenError>>,
    entry: ObjectEntry,
    decoder: Decoder,
    /// Of what is stored in clear.
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
            match self.compressed.next().await {
                Some(piece) => {
                    let piece = match piece {
                        Ok(piece) => piece,
                        Err(e) => return Err(opening(&self.store, &self.entry, e).await),
                    };
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
        let stored = self.blake3.take().map(|blake3| (self.seen, blake3.hex()));
        if stored.as_ref().is_some_and(|(bytes, _)| *bytes != self.entry.bytes) || self.made != self.entry.raw_bytes {
            return Err(self.damaged("its size is not what the manifest says"));
        }
        if stored.is_some_and(|(_, blake3)| blake3 != self.entry.blake3) {
            return Err(self.damaged("its BLAKE3 is not what the manifest says"));
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> BaseError {
        BaseError::Damaged { key: self.entry.key.clone(), reason: reason.to_owned() }
    }
}

async fn opening(store: &Store, entry: &ObjectEntry, error: OpenError) -> BaseError {
    match error {
        OpenError::Store { source } => missing(store, entry, source).await,
        OpenError::Locked { source } => source.into(),
        OpenError::Damaged { problem: reason } => BaseError::Damaged { key: entry.key.clone(), reason },
    }
}

/// What is gone or cut off is damage, not trouble with the store.
async fn missing(store: &Store, entry: &ObjectEntry, source: StoreError) -> BaseError {
    let reason = match store.stat(&entry.key).await {
        _ if source.is_not_found() => "it is missing".to_owned(),
        Ok(Some(bytes)) if bytes != entry.bytes => format!("it has {bytes} bytes instead of {}", entry.bytes),
        _ => return source.into(),
    };
    BaseError::Damaged { key: entry.key.clone(), reason }
}
