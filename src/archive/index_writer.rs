//! Makes the index of a file that is being archived: from the segments as they are stored, or, after a restart, from what the
//! store holds.

use futures::{StreamExt, TryStreamExt, stream};

use super::binlog_index::{Ending, FileId, FileIndex, FileSummary, IndexedRange, SegmentMeta};
use super::sealed::{seal, unseal};
use super::segment::{SegmentObject, StoredSegment, read_meta, verify};
use super::store::{Condition, Put, Store};
use super::{ArchiveError, FORMAT, keys, ranges};

/// Segments read at a time where an index is made anew.
const CONCURRENCY: usize = 4;

/// The segments of one file so far: a contiguous prefix, all of it in the store.
#[derive(Clone, Debug)]
pub struct IndexWriter {
    file: FileId,
    ranges: Vec<Known>,
    last: Option<SegmentMeta>,
}

#[derive(Clone, Debug)]
enum Known {
    /// Stored by this process.
    Indexed(IndexedRange),
    /// Found in the store; read and verified when the index is written.
    Listed(SegmentObject),
}

impl IndexWriter {
    /// For a file of which nothing is stored.
    pub fn new(file: FileId) -> Self {
        Self { file, ranges: Vec::new(), last: None }
    }

    /// Takes up what the store holds of a file: its longest contiguous prefix, by one listing and one meta.
    pub async fn resume(store: &Store, file: FileId) -> Result<Self, ArchiveError> {
        let chain = ranges::list(store, &file).await?.chain;
        let last = match chain.last() {
            Some(object) => Some(read_meta(store, object).await?),
            None => None,
        };
        Ok(Self { file, ranges: chain.into_iter().map(Known::Listed).collect(), last })
    }

    /// The file.
    pub fn file(&self) -> &FileId {
        &self.file
    }

    /// Bytes `0..end` of the file are in the store.
    pub fn end(&self) -> u64 {
        self.last.as_ref().map_or(0, |meta| meta.end)
    }

    /// Meta of the last segment: what is known of the file up to [`IndexWriter::end`].
    pub fn last(&self) -> Option<&SegmentMeta> {
        self.last.as_ref()
    }

    /// Adds a segment that begins where the last one ends.
    pub fn push(&mut self, stored: StoredSegment) -> Result<(), ArchiveError> {
        let StoredSegment { meta, object_bytes, object_blake3 } = stored;
        if meta.file != self.file || meta.start != self.end() {
            return Err(ArchiveError::Hole { file: self.file.name.clone(), from: self.end(), to: meta.start });
        }
        self.ranges.push(Known::Indexed(indexed(&meta, object_bytes, object_blake3)));
        self.last = Some(meta);
        Ok(())
    }

    /// Writes the index: from now on the file is closed. What an earlier process stored is read and verified first. An equal
    /// index that is there already is a success.
    pub async fn finish(
        self,
        store: &Store,
        ending: Ending,
        next_file: Option<String>,
        trace_id: &str,
    ) -> Result<FileIndex, ArchiveError> {
        let Some(last) = self.last else {
            return Err(ArchiveError::Hole { file: self.file.name, from: 0, to: 4 });
        };
        let ranges: Vec<_> = stream::iter(self.ranges)
            .map(|known| async {
                match known {
                    Known::Indexed(range) => Ok(range),
                    Known::Listed(object) => {
                        let stored = verify(store, &object).await?;
                        Ok::<_, ArchiveError>(indexed(&stored.meta, stored.object_bytes, stored.object_blake3))
                    }
                }
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let index = FileIndex {
            format: FORMAT,
            file: self.file,
            flavor: last.flavor,
            server_version: last.server_version,
            size: last.end,
            summary: last.summary,
            ending,
            next_file,
            ranges,
            trace_id: trace_id.to_owned(),
        };
        fail::fail_point!("archive::index::before_put");
        let key = keys::index(&index.file);
        if store.put(&key, seal(&key, &index)?, Condition::IfAbsent).await? == Put::Created {
            return Ok(index);
        }
        let stored: FileIndex = unseal(&key, &store.get(&key).await?)?;
        // Which stamps were in the future depends on when a streamer saw them.
        let FileSummary { first_commit, last_commit, .. } = stored.summary;
        let same = stored.summary == FileSummary { first_commit, last_commit, ..index.summary };
        if stored.size != index.size || !same {
            return Err(ArchiveError::IndexDiverged { key, stored_bytes: stored.size, offered_bytes: index.size });
        }
        Ok(stored)
    }
}

fn indexed(meta: &SegmentMeta, object_bytes: u64, object_blake3: String) -> IndexedRange {
    IndexedRange {
        start: meta.start,
        end: meta.end,
        object_bytes,
        object_blake3,
        boundary: meta.summary.boundary,
        last_commit: meta.summary.last_commit,
        gtids: meta.gtids.clone(),
    }
}
