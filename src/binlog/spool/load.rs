use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::super::Error;
use super::super::cutter::Seal;
use super::file::{self, Content};
use crate::archive::ArchiveError;
use crate::archive::segment::{self, EncodedSegment, SegmentError, StoredSegment};
use crate::archive::store::Store;

/// An object up to this size is read whole, as one that comes from the encoder is held whole.
const WHOLE_BYTES: u64 = 8 << 20;
/// Pieces of a larger one that wait, of 1 MiB each.
const PIECES: usize = 2;

/// Takes a segment of the spool to the store.
#[derive(Clone, Debug)]
pub(in crate::binlog) struct Loader {
    pub(super) folder: PathBuf,
    pub(super) number: u64,
    /// As [`Seal::upto`].
    pub(super) upto: u64,
    pub(super) doubted: Arc<AtomicBool>,
}

impl Loader {
    /// Reads the file, checks it, and stores what it holds.
    pub async fn store(&self, store: &Store, doing: &'static str) -> Result<(StoredSegment, Box<Seal>), Error> {
        let archive = |source: SegmentError| Error::Archive { doing, source: Box::new(ArchiveError::from(source)) };
        let (folder, number) = (self.folder.clone(), self.number);
        let (content, bytes) = self.blocking(move || file::read(&folder, number)).await?;
        let Content::Segment(spooled) = content else {
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidData, "it is the end of a file")));
        };
        let seal = Box::new(spooled.seal(self.upto));
        let StoredSegment { meta, object_bytes, object_blake3 } = spooled.stored();
        let (folder, number) = (self.folder.clone(), self.number);
        let stored = if object_bytes <= WHOLE_BYTES {
            let object = self.blocking(move || {
                let mut object = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
                file::each_piece(&folder, number, |piece| {
                    object.extend_from_slice(piece);
                    Ok(())
                })?;
                Ok(Bytes::from(object))
            });
            let object = object.await?;
            segment::put(store, EncodedSegment { meta, object, object_bytes, object_blake3 }).await.map_err(archive)?
        } else {
            let (sender, pieces) = mpsc::channel(PIECES);
            let reading = spawn_blocking(move || {
                file::each_piece(&folder, number, |piece| {
                    sender.blocking_send(Bytes::copy_from_slice(piece)).map_err(io::Error::other)
                })
            });
            let ours = StoredSegment { meta, object_bytes, object_blake3 };
            let copied = segment::put_pieces(store, ours, pieces).await;
            let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            match (copied, read) {
                // Only what was read whole, and is what it should be, is finished.
                (_, Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(self.failed(error)),
                (copied, _) => copied.map_err(archive)?,
            }
        };
        Ok((stored, seal))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        self.doubted.store(true, Ordering::Relaxed);
        Error::Spool { doing: "read the spool", folder: self.folder.display().to_string(), source }
    }
}
