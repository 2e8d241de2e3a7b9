use std::io;

use bytes::Bytes;
use snafu::ResultExt;
use tokio::sync::mpsc;

use super::buffers::SegmentBuffers;
use super::{CompressSnafu, SegmentError, SegmentObject, StoredSegment, meta, verify};
use crate::archive::binlog_index::{FileId, SegmentEncryption, SegmentMeta};
use crate::archive::codec::{Compression, Encoder};
use crate::archive::crypt::Recipients;
use crate::archive::digest::{Digest, RawDigest};
use crate::archive::store::{Condition, Put, Store, StoreWriter};
use crate::archive::{format_of, keys};

/// Sent to a streaming upload at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Frames compressed at once: with two, a source sends about as fast as they come.
const FRAMES_AT_ONCE: usize = 2;

/// Makes a segment object of raw binlog bytes as they come. CPU only: give big writes to a thread that may block.
pub struct SegmentWriter {
    encoder: Encoder,
    recipients: Recipients,
    raw: RawDigest,
    raw_bytes: u64,
    object: Digest,
    object_bytes: u64,
    buffers: Option<SegmentBuffers>,
}

/// A whole segment object, ready to be stored.
#[derive(Clone, Debug)]
pub struct EncodedSegment {
    /// The complete meta.
    pub meta: SegmentMeta,
    /// The part of the object that was not taken before: all of it, unless [`SegmentWriter::take`] was used.
    pub object: Bytes,
    /// Size of the whole object in bytes.
    pub object_bytes: u64,
    /// Hex BLAKE3 of the whole object.
    pub object_blake3: String,
}

impl SegmentWriter {
    /// Begins an object.
    pub fn new(compression: Compression, recipients: &Recipients) -> Result<Self, SegmentError> {
        Self::over(Encoder::new(compression, recipients), recipients, None)
    }

    /// Begins an object that is made in memory, in one of `buffers`.
    pub fn with_buffers(buffers: &SegmentBuffers) -> Result<Self, SegmentError> {
        Self::over(buffers.encoder(), buffers.recipients(), Some(buffers.clone()))
    }

    fn over(
        encoder: io::Result<Encoder>,
        recipients: &Recipients,
        buffers: Option<SegmentBuffers>,
    ) -> Result<Self, SegmentError> {
        let encoder = encoder.context(CompressSnafu)?.side_by_side(FRAMES_AT_ONCE);
        let (raw, object) = (RawDigest::new(!recipients.is_empty()), Digest::new());
        Ok(Self { encoder, recipients: recipients.clone(), raw, raw_bytes: 0, object, object_bytes: 0, buffers })
    }

    /// Adds raw bytes of the file.
    pub fn write(&mut self, raw: &[u8]) -> Result<(), SegmentError> {
        self.raw.update(raw);
        self.raw_bytes += raw.len() as u64;
        self.encoder.write(raw).context(CompressSnafu)
    }

    /// Whether what comes next is compressed fast rather than small.
    pub fn hurry(&mut self, hurry: bool) {
        self.encoder.hurry(hurry);
    }

    /// Raw bytes written so far.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Object bytes that wait in memory (besides what is held back for the next frame, at most 3 MiB).
    pub fn pending_bytes(&self) -> usize {
        self.encoder.pending_bytes()
    }

    /// Takes the object bytes made so far, for an object larger than memory.
    pub fn take(&mut self) -> Bytes {
        let bytes = self.encoder.take();
        self.object.update(&bytes);
        self.object_bytes += bytes.len() as u64;
        bytes.into()
    }

    /// Ends the object. `meta` comes complete but for its format, `raw` and `encryption`, which are filled in; its range must be as long as
    /// what was written.
    pub fn finish(mut self, mut meta: SegmentMeta) -> Result<EncodedSegment, SegmentError> {
        let encrypted = !self.recipients.is_empty();
        let key = keys::segment(&meta.file, meta.edition.as_deref(), meta.start, meta.end, encrypted);
        if meta.start.checked_add(self.raw_bytes) != Some(meta.end) || self.raw_bytes == 0 {
            return Err(SegmentError::Length { key, raw_bytes: self.raw_bytes });
        }
        let mut rest = self.encoder.finish().context(CompressSnafu)?;
        let mut object = self.object;
        object.update(&rest);
        meta.format = format_of(encrypted);
        meta.raw = self.raw.sum(&key);
        meta.encryption =
            encrypted.then(|| SegmentEncryption { recipients: self.recipients.names(), age_blake3: object.hex() });
        let frame = meta::frame(&key, &meta)?;
        object.update(&frame);
        rest.extend(frame);
        Ok(EncodedSegment {
            meta,
            object_bytes: self.object_bytes + rest.len() as u64,
            object: match self.buffers {
                Some(buffers) => {
                    buffers.put_back(self.encoder);
                    buffers.lend(rest)
                }
                None => rest.into(),
            },
            object_blake3: object.hex(),
        })
    }
}

/// Stores a segment made in memory. If one is there already, its bytes are compared: equal ones are a success, others
/// [`SegmentError::Diverged`]. Durable when this returns.
pub async fn put(store: &Store, segment: EncodedSegment) -> Result<StoredSegment, SegmentError> {
    let EncodedSegment { meta, object, object_bytes, object_blake3 } = segment;
    let key = meta.key();
    let put = store.put(&key, object, Condition::IfAbsent).await?;
    settle(store, put, StoredSegment { meta, object_bytes, object_blake3 }).await
}

/// As [`put`], for a segment object that was made before and is read in `pieces`. What they are is checked before the object appears: if
/// they are not `ours`, nothing is stored.
pub async fn put_pieces(
    store: &Store,
    ours: StoredSegment,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<StoredSegment, SegmentError> {
    let blake3 = Some(ours.object_blake3.clone());
    let object = SegmentObject { blake3, ..SegmentObject::of_meta(&ours.meta, ours.object_bytes) };
    let mut upload = store.writer(&object.key(), Condition::IfAbsent).await?;
    let (mut digest, mut bytes) = (Digest::new(), 0);
    while let Some(piece) = pieces.recv().await {
        digest.update(&piece);
        bytes += piece.len() as u64;
        upload.write(piece).await?;
    }
    if bytes != ours.object_bytes || digest.hex() != ours.object_blake3 {
        return Err(SegmentError::damaged(&object, "the copy of it that was to be stored is not what was made"));
    }
    let put = upload.finish().await?;
    settle(store, put, ours).await
}

/// A segment that goes to the store while it is made: for one huge event, whose end is known before its bytes have come.
pub struct SegmentUpload {
    store: Store,
    upload: StoreWriter,
    writer: SegmentWriter,
}

impl SegmentUpload {
    /// Begins the object for bytes `start..end` of `file`, in that edition.
    pub async fn begin(
        store: &Store,
        file: &FileId,
        edition: Option<&str>,
        start: u64,
        end: u64,
        compression: Compression,
        recipients: &Recipients,
    ) -> Result<Self, SegmentError> {
        let key = keys::segment(file, edition, start, end, !recipients.is_empty());
        let upload = store.writer(&key, Condition::IfAbsent).await?;
        Ok(Self { store: store.clone(), upload, writer: SegmentWriter::new(compression, recipients)? })
    }

    /// Adds raw bytes. After an error the upload is lost and leaves nothing behind.
    pub async fn write(&mut self, raw: &[u8]) -> Result<(), SegmentError> {
        for piece in raw.chunks(PIECE_BYTES) {
            self.writer.write(piece)?;
            if self.writer.pending_bytes() >= PIECE_BYTES {
                self.upload.write(self.writer.take()).await?;
            }
        }
        Ok(())
    }

    /// Ends and publishes the object; see [`SegmentWriter::finish`] and [`put`].
    pub async fn finish(mut self, meta: SegmentMeta) -> Result<StoredSegment, SegmentError> {
        let EncodedSegment { meta, object, object_bytes, object_blake3 } = self.writer.finish(meta)?;
        self.upload.write(object).await?;
        let put = self.upload.finish().await?;
        settle(&self.store, put, StoredSegment { meta, object_bytes, object_blake3 }).await
    }
}

/// An object that was there already must hold the same bytes: invariant 5. One that is damaged, while nothing refers to it, is what an upload left
/// that was cut off where the store took a part for the whole: it goes, as its bytes are at hand.
async fn settle(store: &Store, put: Put, ours: StoredSegment) -> Result<StoredSegment, SegmentError> {
    if put == Put::Created {
        return Ok(ours);
    }
    let key = ours.meta.key();
    // Gone again would be a deletion under way: the next attempt writes it anew.
    let bytes = store.stat(&key).await?.unwrap_or_default();
    let object = SegmentObject::of_meta(&ours.meta, bytes);
    let theirs = match verify(store, &object).await {
        Err(SegmentError::Damaged { problem, .. }) if store.stat(&keys::index(&object.file)).await?.is_none() => {
            tracing::warn!(%key, problem, "the store kept a part of an upload that was cut off; it is deleted and stored anew");
            store.delete(&key).await?;
            return Err(SegmentError::Torn { key });
        }
        theirs => theirs?,
    };
    if theirs.meta.raw != ours.meta.raw {
        return Err(SegmentError::Diverged { key, stored: theirs.meta.raw, offered: ours.meta.raw });
    }
    Ok(theirs)
}
