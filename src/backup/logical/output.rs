//! Objects of a full as they are written: compressed, encrypted, hashed, numbered.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use snafu::ResultExt;

use super::config::LogicalConfig;
use super::error::{CompressSnafu, LogicalError};
use crate::archive::codec::Encoder;
use crate::archive::digest::Digest;
use crate::archive::manifest::ObjectEntry;
use crate::archive::rows::LineSink;
use crate::archive::store::{Condition, Store, StoreWriter};

/// Compressed bytes are handed to the store in pieces of at least this size.
const WRITE_BYTES: usize = 512 << 10;

/// The objects written so far; the manifest lists them in this order.
#[derive(Debug, Default)]
pub(super) struct Objects(Mutex<Vec<ObjectEntry>>);

impl Objects {
    fn add(&self, entry: ObjectEntry) -> usize {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.push(entry);
        objects.len() - 1
    }

    pub(super) fn take(&self) -> Vec<ObjectEntry> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One object being written.
pub(super) struct Output {
    key: String,
    encoder: Encoder,
    writer: StoreWriter,
    blake3: Digest,
    bytes: u64,
    raw_bytes: u64,
}

impl Output {
    pub(super) async fn create(store: &Store, key: String, config: &LogicalConfig) -> Result<Self, LogicalError> {
        Ok(Self {
            encoder: Encoder::new(config.compression, &config.recipients).context(CompressSnafu)?,
            writer: store.writer(&key, Condition::Overwrite).await?,
            key,
            blake3: Digest::new(),
            bytes: 0,
            raw_bytes: 0,
        })
    }

    /// Adds bytes.
    pub(super) async fn write(&mut self, raw: &[u8]) -> Result<(), LogicalError> {
        self.raw_bytes += raw.len() as u64;
        self.encoder.write(raw).context(CompressSnafu)?;
        if self.encoder.pending_bytes() >= WRITE_BYTES {
            let piece = self.encoder.take();
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Ends the object and returns its number.
    pub(super) async fn finish(mut self, objects: &Objects) -> Result<usize, LogicalError> {
        let last = self.encoder.finish().context(CompressSnafu)?;
        self.send(last).await?;
        fail::fail_point!("backup::logical::before_finish");
        let _ = self.writer.finish().await?;
        let blake3 = self.blake3.hex();
        Ok(objects.add(ObjectEntry { key: self.key, bytes: self.bytes, raw_bytes: self.raw_bytes, blake3 }))
    }

    async fn send(&mut self, piece: Vec<u8>) -> Result<(), LogicalError> {
        self.blake3.update(&piece);
        self.bytes += piece.len() as u64;
        Ok(self.writer.write(Bytes::from(piece)).await?)
    }
}

impl LineSink for Output {
    type Error = LogicalError;

    async fn take(&mut self, lines: &mut Vec<u8>) -> Result<(), LogicalError> {
        self.write(lines).await?;
        lines.clear();
        Ok(())
    }
}
