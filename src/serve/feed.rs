//! A file's bytes out of the archive, the next object fetched while the last one is served.

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::archive::catalog::{ArchivedFile, ArchivedRange};
use crate::archive::segment::{SegmentError, SegmentObject, SegmentReader};
use crate::archive::store::Store;

/// Reads bytes `at..end` of one file, verified.
pub(super) struct Feed {
    store: Store,
    objects: std::vec::IntoIter<SegmentObject>,
    current: Option<SegmentReader>,
    next: Option<Fetch>,
    /// Offset of the next byte that the current object gives.
    object_at: u64,
    at: u64,
    end: u64,
}

struct Fetch {
    start: u64,
    task: JoinHandle<Result<SegmentReader, SegmentError>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Begins at offset `at`; `end` is at most what the file has archived.
    pub fn new(store: &Store, file: &ArchivedFile, at: u64, end: u64) -> Self {
        let wanted = |r: &&ArchivedRange| r.end > at && r.start < end;
        let object = |r: &ArchivedRange| SegmentObject {
            file: file.id.clone(),
            start: r.start,
            end: r.end,
            bytes: r.object_bytes,
            sha256: r.object_sha256.clone(),
        };
        let objects: Vec<_> = file.ranges.iter().filter(wanted).map(object).collect();
        let mut feed = Self {
            store: store.clone(),
            objects: objects.into_iter(),
            current: None,
            next: None,
            object_at: 0,
            at,
            end,
        };
        feed.prefetch();
        feed
    }

    /// The next bytes; none at `end`. Cancel-safe only in that a cancelled feed must be dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SegmentError> {
        while self.at < self.end {
            let Some(reader) = &mut self.current else {
                let Some(mut fetch) = self.next.take() else { return Ok(None) };
                self.object_at = fetch.start;
                let opened = (&mut fetch.task).await;
                drop(fetch);
                // The task only ends without a result when the runtime shuts down.
                let Ok(reader) = opened else { return Ok(None) };
                self.current = Some(reader?);
                self.prefetch();
                continue;
            };
            let Some(mut piece) = reader.next().await? else {
                self.current = None;
                continue;
            };
            let start = self.object_at;
            self.object_at += piece.len() as u64;
            let before = usize::try_from(self.at.saturating_sub(start)).unwrap_or(usize::MAX).min(piece.len());
            let behind = usize::try_from(self.object_at.saturating_sub(self.end)).unwrap_or(usize::MAX);
            piece.truncate(piece.len().saturating_sub(behind));
            let piece = piece.slice(before.min(piece.len())..);
            if !piece.is_empty() {
                self.at += piece.len() as u64;
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn prefetch(&mut self) {
        let Some(object) = self.objects.next() else { return };
        let (store, start) = (self.store.clone(), object.start);
        let task = tokio::spawn(async move { SegmentReader::open(&store, object).await });
        self.next = Some(Fetch { start, task });
    }
}
