use std::io;

use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::task::spawn_blocking;

use super::{SegmentError, SegmentObject, StoredSegment, meta, read_meta};
use crate::archive::binlog_index::SegmentMeta;
use crate::archive::codec::Decoder;
use crate::archive::digest::{Digest, RawDigest};
use crate::archive::store::{Store, StoreError};

/// An object up to this size is fetched and verified before its first byte is handed out.
pub(in crate::archive) const WHOLE_BYTES: u64 = 8 << 20;

/// The raw bytes of one segment, piece by piece, verified.
///
/// Objects up to 8 MiB are verified before the first byte comes out; of a larger one a damage shows at its end at the latest,
/// as an error instead of the end.
pub struct SegmentReader {
    object: SegmentObject,
    meta: Option<SegmentMeta>,
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    input: Bytes,
    decoder: Decoder,
    raw: RawDigest,
    raw_bytes: u64,
    stored: Digest,
    ended: bool,
}

impl SegmentReader {
    /// Begins to read; fetches (and verifies) all of a small object.
    pub async fn open(store: &Store, object: SegmentObject) -> Result<Self, SegmentError> {
        let key = object.key();
        if object.bytes > WHOLE_BYTES {
            // The index's checksum covers everything; without it the meta's does.
            let meta = if object.blake3.is_none() { Some(read_meta(store, &object).await?) } else { None };
            let stream = store.read_stream(&key, 0..object.bytes).await?;
            return Self::new(object, meta, stream);
        }
        let bytes = store.get(&key).await?;
        if bytes.len() as u64 != object.bytes {
            let problem = format!("it has {} bytes instead of {}", bytes.len(), object.bytes);
            return Err(SegmentError::damaged(&object, problem));
        }
        let once = |bytes: Bytes| stream::iter([Ok(bytes)]).boxed();
        let meta = meta::parse_meta(&object, &bytes)?;
        let mut check = Self::new(object.clone(), Some(meta.clone()), once(bytes.clone()))?;
        if let Some(expected) = &object.blake3 {
            check_digest(&object, expected, &Digest::of(&bytes))?;
        } else {
            let checked = spawn_blocking(move || {
                futures::executor::block_on(async {
                    while check.next().await?.is_some() {}
                    Ok(())
                })
            });
            checked.await.unwrap_or_else(|e| Err(SegmentError::damaged(&object, e)))?;
        }
        Self::new(object, Some(meta), once(bytes))
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
                    self.input = bytes?;
                    self.stored.update(&self.input);
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
        stream: BoxStream<'static, Result<Bytes, StoreError>>,
    ) -> Result<Self, SegmentError> {
        let decoder = Decoder::new().map_err(|e| SegmentError::damaged(&object, e))?;
        let (raw, stored) = (RawDigest::new(), Digest::new());
        Ok(Self { object, meta, stream, input: Bytes::new(), decoder, raw, raw_bytes: 0, stored, ended: false })
    }

    fn check_end(&self) -> Result<(), SegmentError> {
        if !self.decoder.is_whole() || self.raw_bytes != self.object.end - self.object.start {
            return Err(self.damaged(format!("it ends after {} raw bytes", self.raw_bytes)));
        }
        if let Some(expected) = &self.object.blake3 {
            check_digest(&self.object, expected, &self.stored.hex())?;
        }
        if let Some(meta) = &self.meta {
            check_digest(&self.object, &meta.raw_xxh3, &self.raw.hex())?;
        }
        Ok(())
    }

    fn damaged(&self, problem: impl ToString) -> SegmentError {
        SegmentError::damaged(&self.object, problem)
    }
}

/// Reads a whole segment to verify it, and learns what an index says of it.
pub async fn verify(store: &Store, object: &SegmentObject) -> Result<StoredSegment, SegmentError> {
    let meta = read_meta(store, object).await?;
    let stream = store.read_stream(&object.key(), 0..object.bytes).await?;
    let mut reader = SegmentReader::new(object.clone(), Some(meta.clone()), stream)?;
    while reader.next().await?.is_some() {}
    Ok(StoredSegment { meta, object_bytes: object.bytes, object_blake3: reader.stored.hex() })
}

fn check_digest(object: &SegmentObject, expected: &str, found: &str) -> Result<(), SegmentError> {
    if expected == found {
        return Ok(());
    }
    Err(SegmentError::damaged(object, format!("its checksum is {found}, it was stored with {expected}")))
}
