//! The raw bytes of an archived file, in order, with the next objects fetched ahead.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tokio_util::task::AbortOnDropHandle;

use super::ArchiveError;
use super::catalog::{ArchivedFile, ArchivedRange, load_ranges};
use super::segment::{SegmentError, SegmentReader};
use super::store::Store;

/// Objects that are fetched while one is handed out. With 8 MiB at most each ([`super::segment::SegmentReader`] streams what is larger)
/// a reader stays under about 32 MiB.
const AHEAD: usize = 2;

/// Raw binlog bytes `from..to` of one file, verified; see [`SegmentReader`] for when damage shows.
pub struct BinlogReader {
    store: Store,
    ranges: VecDeque<ArchivedRange>,
    ahead: VecDeque<AbortOnDropHandle<Result<SegmentReader, SegmentError>>>,
    current: Option<SegmentReader>,
    /// Offset of the next byte [`SegmentReader::next`] yields.
    at: u64,
    from: u64,
    to: u64,
}

impl BinlogReader {
    /// Begins to read. Asking for bytes that are not archived is an error.
    pub async fn open(store: &Store, file: &ArchivedFile, from: u64, to: u64) -> Result<Self, ArchiveError> {
        let ranges = load_ranges(store, file).await?;
        Self::of_ranges(store, &file.id.name, ranges, from, to)
    }

    /// As [`BinlogReader::open`], over ranges that are loaded already.
    pub fn of_ranges(
        store: &Store,
        file_name: &str,
        ranges: Vec<ArchivedRange>,
        from: u64,
        to: u64,
    ) -> Result<Self, ArchiveError> {
        let ranges: VecDeque<_> = ranges.into_iter().filter(|r| r.object.start < to && from < r.object.end).collect();
        let mut known = from;
        for range in &ranges {
            if range.object.start > known {
                break;
            }
            known = range.object.end;
        }
        if known < to {
            return Err(ArchiveError::Hole { file: file_name.to_owned(), from: known, to });
        }
        let at = ranges.front().map_or(from, |range| range.object.start);
        Ok(Self { store: store.clone(), ranges, ahead: VecDeque::new(), current: None, at, from, to })
    }

    /// The next bytes, at most 256 KiB; none after `to`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            self.fetch_ahead();
            let Some(current) = &mut self.current else {
                let Some(next) = self.ahead.pop_front() else { return Ok(None) };
                // It can only fail to join when the runtime shuts down.
                let opened = next.await.map_err(|e| ArchiveError::Interrupted { source: e })?;
                self.current = Some(opened?);
                continue;
            };
            let Some(mut bytes) = current.next().await? else {
                self.current = None;
                continue;
            };
            let start = self.at;
            self.at += bytes.len() as u64;
            let skip = self.from.saturating_sub(start).min(bytes.len() as u64);
            let keep = self.to.saturating_sub(start).min(bytes.len() as u64);
            // Both are at most the piece's length. What lies beyond `to` is read all the same: it verifies the object.
            bytes.truncate(keep as usize);
            if keep > skip {
                bytes.advance(skip as usize);
                return Ok(Some(bytes));
            }
        }
    }

    fn fetch_ahead(&mut self) {
        while self.ahead.len() < AHEAD {
            let Some(range) = self.ranges.pop_front() else { return };
            let store = self.store.clone();
            let open = tokio::spawn(async move { SegmentReader::open(&store, range.object).await });
            self.ahead.push_back(AbortOnDropHandle::new(open));
        }
    }
}
