//! Makes the index of a file that is being archived: from the segments as they are stored, or, after a restart, from what the
//! store holds.

use futures::{StreamExt, TryStreamExt, stream};

use super::binlog_index::{EDITIONS_FORMAT, Ending, FileId, FileIndex, FileSummary, IndexedRange, SegmentMeta};
use super::ranges;
use super::sealed::{seal, unseal};
use super::segment::{SegmentObject, StoredSegment, read_meta, verify};
use super::store::{Condition, Put, Store};
use super::{ArchiveError, format_of, keys};

/// Segments read at a time where an index is made anew.
const CONCURRENCY: usize = 4;
/// Segments that a streamer may have had on their way when it died, all of which may have been cut off.
pub const IN_FLIGHT: usize = 3;

/// The segments of one file so far: a contiguous prefix, all of it in the store.
#[derive(Clone, Debug)]
pub struct IndexWriter {
    file: FileId,
    ranges: Vec<Known>,
    /// Whom the ranges known so far are encrypted to, each set once.
    recipients: Vec<Vec<String>>,
    last: Option<SegmentMeta>,
    /// What a streamer's death left half stored. It goes when its bytes are stored.
    torn: Vec<SegmentObject>,
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
        Self { file, ranges: Vec::new(), recipients: Vec::new(), last: None, torn: Vec::new() }
    }

    /// Takes up what the store holds of a file: its longest contiguous prefix, by one listing and a few metas. A damaged segment at its end
    /// does not count: an upload that was cut off may have left it, and the source has its bytes. Nor does one elsewhere that others overlap.
    pub async fn resume(store: &Store, file: FileId) -> Result<Self, ArchiveError> {
        let (mut chain, mut torn) = ranges::list(store, &file).await?.undoubted(store).await?;
        let mut last = None;
        let mut sound = 0;
        while sound < IN_FLIGHT {
            let Some(object) = chain.len().checked_sub(sound + 1).map(|at| &chain[at]) else { break };
            match read_meta(store, object).await.map_err(ArchiveError::from) {
                Ok(meta) => {
                    last = last.or(Some(meta));
                    sound += 1;
                }
                Err(e) if e.is_damage() => {
                    tracing::warn!(error = %e, "what the store has from there on is read from the source again");
                    torn.extend(chain.drain(chain.len() - sound - 1..).take(1));
                    (last, sound) = (None, 0);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Self { file, ranges: chain.into_iter().map(Known::Listed).collect(), recipients: Vec::new(), last, torn })
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
        let other_edition = self.last.as_ref().is_some_and(|last| last.edition != stored.meta.edition);
        if stored.meta.file != self.file || stored.meta.start != self.end() || other_edition {
            return Err(ArchiveError::Hole { file: self.file.name.clone(), from: self.end(), to: stored.meta.start });
        }
        self.ranges.push(Known::Indexed(indexed(&stored, &mut self.recipients)));
        self.last = Some(stored.meta);
        Ok(())
    }

    /// Deletes what was found half stored, once its bytes are stored under other borders: a listing may not count it again.
    pub async fn clear_torn(&mut self, store: &Store) {
        let end = self.end();
        for object in self.torn.extract_if(.., |object| object.end <= end) {
            let key = object.key();
            // Whoever stored its bytes under its own name has put them in its place.
            let still = match store.stat(&key).await {
                Ok(Some(bytes)) if bytes == object.bytes => read_meta(store, &object).await.map_err(ArchiveError::from),
                _ => continue,
            };
            if !still.is_err_and(|e| e.is_damage()) {
                continue;
            }
            if let Err(error) = store.delete(&key).await {
                tracing::warn!(%key, %error, "a damaged object whose bytes are stored otherwise could not be deleted; delete it");
            }
        }
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
        let mut recipients = self.recipients;
        let edition = last.edition;
        let mut known = stream::iter(self.ranges)
            .map(|known| async {
                Ok::<_, ArchiveError>(match known {
                    Known::Indexed(range) => Read::Before(range),
                    Known::Listed(object) => Read::Now(Box::new(verify(store, &object).await?)),
                })
            })
            .buffered(CONCURRENCY);
        let mut ranges = Vec::new();
        while let Some(read) = known.try_next().await? {
            ranges.push(match read {
                Read::Before(range) => range,
                Read::Now(stored) => indexed(&stored, &mut recipients),
            });
        }
        drop(known);
        let index = FileIndex {
            format: if edition.is_some() { EDITIONS_FORMAT } else { format_of(!recipients.is_empty()) },
            file: self.file,
            flavor: last.flavor,
            server_version: last.server_version,
            size: last.end,
            summary: last.summary,
            ending,
            next_file,
            ranges,
            recipients,
            edition,
            trace_id: trace_id.to_owned(),
        };
        fail::fail_point!("archive::index::before_put");
        let key = keys::index(&index.file);
        if store.put(&key, seal(&key, &index)?, Condition::IfAbsent).await? == Put::Created {
            return Ok(index);
        }
        let stored: FileIndex = match unseal(&key, &store.get(&key).await?) {
            Err(e) if e.is_damage() => {
                tracing::warn!(error = %e, "a damaged index is written anew");
                let _ = store.put(&key, seal(&key, &index)?, Condition::Overwrite).await?;
                return Ok(index);
            }
            stored => stored?,
        };
        // Which stamps were in the future depends on when a streamer saw them.
        let FileSummary { first_commit, last_commit, .. } = stored.summary;
        let same = stored.summary == FileSummary { first_commit, last_commit, ..index.summary };
        if stored.size != index.size || !same {
            return Err(ArchiveError::IndexDiverged { key, stored_bytes: stored.size, offered_bytes: index.size });
        }
        Ok(stored)
    }
}

/// A range on its way into the index.
enum Read {
    Before(IndexedRange),
    Now(Box<StoredSegment>),
}

/// What an index says of a segment that is stored; `recipients` are the index's sets of them so far.
pub fn indexed(stored: &StoredSegment, recipients: &mut Vec<Vec<String>>) -> IndexedRange {
    let StoredSegment { meta, object_bytes, object_blake3 } = stored;
    let encrypted_to = meta.encryption.as_ref().map(|encryption| {
        recipients.iter().position(|set| *set == encryption.recipients).unwrap_or_else(|| {
            recipients.push(encryption.recipients.clone());
            recipients.len() - 1
        })
    });
    IndexedRange {
        start: meta.start,
        end: meta.end,
        object_bytes: *object_bytes,
        object_blake3: object_blake3.clone(),
        boundary: meta.summary.boundary,
        last_commit: meta.summary.last_commit,
        gtids: meta.gtids.clone(),
        encrypted_to,
    }
}
