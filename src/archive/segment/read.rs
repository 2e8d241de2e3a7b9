use std::io;

use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;

use super::{SegmentError, SegmentObject, StoredSegment, meta};
use crate::archive::binlog_index::{SegmentEncryption, SegmentMeta};
use crate::archive::codec::Decoder;
use crate::archive::crypt::{self, Locked, OpenError};
use crate::archive::digest::{Digest, RawDigest};
use crate::archive::store::{Store, StoreError};

/// An object up to this size is fetched and verified before its first byte is handed out.
pub(in crate::archive) const WHOLE_BYTES: u64 = 8 << 20;

/// The raw bytes of one segment, piece by piece, verified.
///
/// Objects up to 8 MiB are verified before the first byte comes out; of a larger one a damage shows at its end at the latest,
/// as an error instead of the end. What is encrypted is opened by the store's identities.
pub struct SegmentReader {
    object: SegmentObject,
    meta: Option<SegmentMeta>,
    stream: BoxStream<'static, Result<Bytes, OpenError>>,
    input: Bytes,
    decoder: Decoder,
    raw: RawDigest,
    raw_bytes: u64,
    /// Of an object in clear; that of an encrypted one is checked before it is decrypted.
    stored: Digest,
    ended: bool,
}

impl SegmentReader {
    /// Begins to read; fetches (and verifies) all of a small object.
    pub async fn open(store: &Store, object: SegmentObject) -> Result<Self, SegmentError> {
        let mut opened = Self::open_once(store, object.clone()).await;
        // The segment may be in a pack as well as under its own name, and one of them be what it should.
        for to_pack in [true, false] {
            if matches!(opened, Err(SegmentError::Damaged { .. })) && store.turn(&object.key(), to_pack).await? {
                opened = Self::open_once(store, object.clone()).await;
            }
        }
        opened
    }

    async fn open_once(store: &Store, object: SegmentObject) -> Result<Self, SegmentError> {
        let key = object.key();
        if object.bytes > WHOLE_BYTES {
            check_size(store, &object).await?;
            if object.encrypted {
                let (meta, frame_bytes) = meta::read(store, &object).await?;
                let stream = store.read_stream(&key, 0..object.bytes).await?;
                return Self::over(store, object, meta, frame_bytes, stream).await;
            }
            // The index's checksum covers everything; without it the meta's does.
            let meta = if object.blake3.is_none() { Some(meta::read_meta(store, &object).await?) } else { None };
            let stream = store.read_stream(&key, 0..object.bytes).await?;
            return Self::new(object, meta, in_clear(stream));
        }
        let bytes = store.get(&key).await?;
        if bytes.len() as u64 != object.bytes {
            let problem = format!("it has {} bytes instead of {}", bytes.len(), object.bytes);
            return Err(SegmentError::damaged(&object, problem));
        }
        let once = |bytes: Bytes| stream::iter([Ok(bytes)]).boxed();
        let meta = meta::parse_meta(&object, &bytes)?;
        if let Some(expected) = &object.blake3 {
            check_digest(&object, expected, &Digest::of(&bytes))?;
        }
        if let Some(encryption) = &meta.encryption {
            let frame_bytes = meta::frame_bytes(&object, &bytes)?;
            let locked = locked(&object, &key, encryption, frame_bytes);
            crypt::verify(&locked, once(bytes.clone())).await.map_err(|e| SegmentError::opening(&object, e))?;
            return Self::decrypt(store, object, meta, frame_bytes, true, once(bytes)).await;
        }
        if object.blake3.is_none() {
            let mut check = Self::new(object.clone(), Some(meta.clone()), in_clear(once(bytes.clone())))?;
            let checked = spawn_blocking(move || {
                futures::executor::block_on(async {
                    while check.next().await?.is_some() {}
                    Ok(())
                })
            });
            checked.await.unwrap_or_else(|e| Err(SegmentError::damaged(&object, e)))?;
        }
        Self::new(object, Some(meta), in_clear(once(bytes)))
    }

    /// The next piece, at most 256 KiB; none at the end, which is only reached if everything is right.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SegmentError> {
        while !self.ended {
            // Also with no input left: the decoder may hold back more than one piece.
            let mut input = &self.input[..];
            let piece = self.decoder.decode(&mut input).map_err(|e: io::Error| self.damaged(e))?;
            let used = self.input.len() - input.len();
            self.input.advance(used);
            if !piece.is_empty() {
                self.raw_bytes += piece.len() as u64;
                if self.raw_bytes > self.object.end - self.object.start {
                    return Err(self.damaged("it holds more bytes than its name says"));
                }
                self.raw.update(&piece);
                return Ok(Some(piece.into()));
            }
            match self.stream.next().await {
                Some(bytes) => {
                    self.input = bytes.map_err(|e| SegmentError::opening(&self.object, e))?;
                    if !self.object.encrypted {
                        self.stored.update(&self.input);
                    }
                }
                None => {
                    self.ended = true;
                    self.check_end()?;
                }
            }
        }
        Ok(None)
    }

    /// Reads what arrives by `stream`: the object, from its first byte on. All that `object` and `meta` say of it is checked by its end.
    pub fn new(
        object: SegmentObject,
        meta: Option<SegmentMeta>,
        stream: BoxStream<'static, Result<Bytes, OpenError>>,
    ) -> Result<Self, SegmentError> {
        let decoder = Decoder::new().map_err(|e| SegmentError::damaged(&object, e))?;
        let (raw, stored) = (RawDigest::new(object.encrypted), Digest::new());
        Ok(Self { object, meta, stream, input: Bytes::new(), decoder, raw, raw_bytes: 0, stored, ended: false })
    }

    /// Reads what arrives by `stored`: the object as it is stored, whose meta is in a frame of that size. What is encrypted is opened by the
    /// store's identities.
    pub async fn over(
        store: &Store,
        object: SegmentObject,
        meta: SegmentMeta,
        frame_bytes: u64,
        stored: BoxStream<'static, Result<Bytes, StoreError>>,
    ) -> Result<Self, SegmentError> {
        match object.encrypted {
            true => Self::decrypt(store, object, meta, frame_bytes, false, stored).await,
            false => Self::new(object, Some(meta), in_clear(stored)),
        }
    }

    /// Begins to read an encrypted object, whose meta is in a frame of that size; whether its stored bytes are checked already.
    async fn decrypt(
        store: &Store,
        object: SegmentObject,
        meta: SegmentMeta,
        frame_bytes: u64,
        checked: bool,
        stored: BoxStream<'static, Result<Bytes, StoreError>>,
    ) -> Result<Self, SegmentError> {
        let key = object.key();
        let Some(encryption) = &meta.encryption else {
            return Err(SegmentError::damaged(&object, "its meta does not say that it is encrypted"));
        };
        let mut locked = locked(&object, &key, encryption, frame_bytes);
        if checked {
            (locked.age_blake3, locked.blake3) = (None, None);
        }
        let opened = crypt::open(store.identities(), locked, stored).await;
        let opened = opened.map_err(|e| SegmentError::opening(&object, e))?;
        Self::new(object, Some(meta), opened)
    }

    fn check_end(&self) -> Result<(), SegmentError> {
        if !self.decoder.is_whole() || self.raw_bytes != self.object.end - self.object.start {
            return Err(self.damaged(format!("it ends after {} raw bytes", self.raw_bytes)));
        }
        if let (Some(expected), false) = (&self.object.blake3, self.object.encrypted) {
            check_digest(&self.object, expected, &self.stored.hex())?;
        }
        if let Some(meta) = &self.meta {
            check_digest(&self.object, &meta.raw, &self.raw.sum(&self.object.key()))?;
        }
        Ok(())
    }

    fn damaged(&self, problem: impl ToString) -> SegmentError {
        SegmentError::damaged(&self.object, problem)
    }
}

/// Reads a whole segment to verify it, and learns what an index says of it. An encrypted one is checked as it is stored: that needs no
/// identity.
pub async fn verify(store: &Store, object: &SegmentObject) -> Result<StoredSegment, SegmentError> {
    let (meta, frame_bytes) = meta::read(store, object).await?;
    let key = object.key();
    let stream = store.read_stream(&key, 0..object.bytes).await?;
    let object_blake3 = match &meta.encryption {
        Some(encryption) => verify_stored(object, encryption, frame_bytes, stream).await?,
        None => {
            let mut reader = SegmentReader::new(object.clone(), Some(meta.clone()), in_clear(stream))?;
            while reader.next().await?.is_some() {}
            reader.stored.hex()
        }
    };
    Ok(StoredSegment { meta, object_bytes: object.bytes, object_blake3 })
}

/// Checks the stored bytes of an encrypted segment against all of its checksums that need no identity; the BLAKE3 of the object.
pub async fn verify_stored(
    object: &SegmentObject,
    encryption: &SegmentEncryption,
    frame_bytes: u64,
    stored: BoxStream<'static, Result<Bytes, StoreError>>,
) -> Result<String, SegmentError> {
    let key = object.key();
    let locked = locked(object, &key, encryption, frame_bytes);
    crypt::verify(&locked, stored).await.map_err(|e| SegmentError::opening(object, e))
}

/// Whether the store's identities open an encrypted segment; reads its ends only.
pub async fn try_to_open(store: &Store, object: &SegmentObject) -> Result<(), SegmentError> {
    check_size(store, object).await?;
    let (meta, frame_bytes) = meta::read(store, object).await?;
    let Some(encryption) = &meta.encryption else { return Ok(()) };
    let key = object.key();
    let head = store.get_range(&key, 0..(object.bytes - frame_bytes).min(crypt::HEADER_BYTES)).await?;
    let tried = crypt::try_header(store.identities(), &key, &encryption.recipients, &head);
    tried.map_err(|e| SegmentError::opening(object, e))
}

/// What is cut off is damage, not trouble with the store. (What is gone is told by who reads it.)
async fn check_size(store: &Store, object: &SegmentObject) -> Result<(), SegmentError> {
    match store.stat(&object.key()).await? {
        Some(bytes) if bytes != object.bytes => {
            Err(SegmentError::damaged(object, format!("it has {bytes} bytes instead of {}", object.bytes)))
        }
        _ => Ok(()),
    }
}

fn locked<'a>(
    object: &'a SegmentObject,
    key: &'a str,
    encryption: &'a SegmentEncryption,
    frame_bytes: u64,
) -> Locked<'a> {
    Locked {
        key,
        recipients: &encryption.recipients,
        age_bytes: object.bytes - frame_bytes,
        age_blake3: Some(&encryption.age_blake3),
        blake3: object.blake3.as_deref(),
    }
}

fn in_clear(stored: BoxStream<'static, Result<Bytes, StoreError>>) -> BoxStream<'static, Result<Bytes, OpenError>> {
    stored.map_err(OpenError::from).boxed()
}

fn check_digest<D: PartialEq + ToString>(object: &SegmentObject, expected: &D, found: &D) -> Result<(), SegmentError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(SegmentError::damaged(object, format!("its checksum is {found}, it was stored with {expected}")))
}
