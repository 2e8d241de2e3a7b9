use futures::{StreamExt, TryStreamExt, stream};

use serde::{Deserialize, Serialize};

use super::CONCURRENCY;
use super::span::Further;
use crate::archive::binlog_index::{
    Ending, FileId, FileIndex, FileSummary, IndexedRange, OpenTransaction, SegmentMeta,
};
use crate::archive::sealed::unseal;
use crate::archive::segment::{SegmentObject, read_meta};
use crate::archive::store::Store;
use crate::archive::{ArchiveError, keys, ranges};
use crate::model::{CommitTime, Flavor, GtidSet, total};

/// A binlog file as far as it is archived without a hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Which file.
    pub id: FileId,
    /// The server's flavor.
    pub flavor: Flavor,
    /// The server's version.
    pub server_version: String,
    /// Bytes `0..size` are archived.
    pub size: u64,
    /// The file up to `size`.
    pub summary: FileSummary,
    /// Objects that hold `0..size`.
    pub objects: u64,
    /// Their stored size in bytes.
    pub object_bytes: u64,
    /// The transaction an open file's archived part ends in the middle of.
    pub open_transaction: Option<OpenTransaction>,
    /// How the file ended; none while it is open (or its index is not written yet).
    pub closed: Option<Closed>,
    /// Where the next stored range begins, if bytes between `size` and it are missing.
    pub hole_until: Option<u64>,
    /// What of it is encrypted.
    pub encryption: FileEncryption,
    /// Files behind it that are told with it as one: everything but `id` is of all of them, then. Only of a catalog that is folded.
    pub further: Option<Box<Further>>,
}

/// What of a file is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEncryption {
    /// Objects that are.
    pub objects: u64,
    /// Public keys of those who can read them: every set of them that is in use. Of an open file the set of its last object alone.
    pub recipients: Vec<Vec<String>>,
    /// Of a closed file by itself: [`FileIndex::edition`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
}

/// That some of these files hold changes which were logged as statements, in words; none if none does.
pub fn by_statement<'a>(files: impl IntoIterator<Item = &'a ArchivedFile>) -> Option<String> {
    let files: Vec<_> = files.into_iter().filter(|file| file.summary.statements > 0).collect();
    let (first, last) = (files.first()?, files.last()?);
    let changes = total(files.iter().map(|file| file.summary.statements));
    let span = if files.len() > 1 { format!(" to {}", last.id.name) } else { String::new() };
    Some(format!(
        "{changes} change(s) in {} binlog file(s) ({}{span}) were logged as statements (binlog_format was STATEMENT or MIXED in a session): a \
         restore runs them again, and what UUID(), RAND(), a variable or the order of rows gave there may be another value then; keep \
         binlog_format = ROW, and take a full after such a change",
        files.len(),
        first.id.name
    ))
}

/// How a closed file ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// How.
    pub ending: Ending,
    /// The server's next file, where known.
    pub next_file: Option<String>,
}

/// One object of an [`ArchivedFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRange {
    /// The object; its checksum is known for closed files.
    pub object: SegmentObject,
    /// [`FileSummary::boundary`] at the range's end.
    pub boundary: u64,
    /// [`FileSummary::last_commit`] at the range's end.
    pub last_commit: Option<CommitTime>,
    /// GTIDs of transactions that end within the range.
    pub gtids: GtidSet,
    /// Public keys of those who can read it; none: it is in clear.
    pub recipients: Vec<String>,
}

impl ArchivedRange {
    /// From the object's own meta.
    pub fn of_meta(object: SegmentObject, meta: SegmentMeta) -> Self {
        let (boundary, last_commit, gtids) = (meta.summary.boundary, meta.summary.last_commit, meta.gtids);
        let recipients = meta.encryption.map(|encryption| encryption.recipients).unwrap_or_default();
        Self { object, boundary, last_commit, gtids, recipients }
    }
}

/// What was found in a file's folder.
#[derive(Default)]
pub(super) struct Found {
    pub(super) file: Option<ArchivedFile>,
    pub(super) unknown: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// One file as [`super::Catalog::load`] would show it; none if nothing of it is stored.
pub async fn load_file(store: &Store, id: &FileId) -> Result<Option<ArchivedFile>, ArchiveError> {
    Ok(find(store, id.clone()).await?.file)
}

/// The objects that hold a file without an index, in order, without holes or overlaps; of their metas only those are read that others overlap.
pub async fn load_chain(store: &Store, file: &ArchivedFile) -> Result<Vec<SegmentObject>, ArchiveError> {
    let listing = ranges::list(store, &file.id).await?;
    let picked = listing.chain.clone();
    let (sound, _) = listing.undoubted(store).await?;
    let all_of_it = |mut chain: Vec<SegmentObject>| {
        // What came since is not part of what the caller has seen.
        chain.retain(|object| object.end <= file.size);
        let found = chain.last().map_or(0, |object| object.end);
        if found == file.size { Ok(chain) } else { Err(found) }
    };
    // A damaged one that no others replace stays: who reads it names it.
    let chain = all_of_it(sound).or_else(|_| all_of_it(picked));
    chain.map_err(|found| ArchiveError::Hole { file: file.id.name.clone(), from: found, to: file.size })
}

/// The objects that hold a file, in order, without holes or overlaps. For a file without an index this reads one meta a segment.
pub async fn load_ranges(store: &Store, file: &ArchivedFile) -> Result<Vec<ArchivedRange>, ArchiveError> {
    if file.closed.is_some() {
        let index = load_index(store, &file.id).await?;
        return Ok(index.ranges.iter().map(|range| from_index(&index, range)).collect());
    }
    stream::iter(load_chain(store, file).await?)
        .map(|object| async move {
            let meta = read_meta(store, &object).await?;
            Ok(ArchivedRange::of_meta(object, meta))
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

/// The files that are told as one, each by itself; of a single file that one. What is gone is left out.
pub async fn unfold(store: &Store, file: &ArchivedFile) -> Result<Vec<ArchivedFile>, ArchiveError> {
    if !file.is_span() {
        return Ok(vec![file.clone()]);
    }
    let ids: Vec<FileId> = file.ids().iter().collect();
    let found: Vec<Option<ArchivedFile>> = stream::iter(ids)
        .map(|id| async move { load_file(store, &id).await })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

pub(super) async fn find(store: &Store, id: FileId) -> Result<Found, ArchiveError> {
    let mut found = Found::default();
    match load_index(store, &id).await {
        Ok(index) => {
            found.file = Some(index.into());
            return Ok(found);
        }
        Err(e) if e.is_not_found() => {}
        // The segments still say what is in the file.
        Err(e) if e.is_damage() => found.problems.push(e.to_string()),
        Err(e) => return Err(e),
    }
    let mut listing = ranges::list(store, &id).await?;
    found.unknown = std::mem::take(&mut listing.unknown);
    while let Some(object) = listing.chain.last().cloned() {
        match read_meta(store, &object).await.map_err(ArchiveError::from) {
            Ok(meta) => {
                let objects = listing.chain.len() as u64;
                let object_bytes = total(listing.chain.iter().map(|o| o.bytes));
                let encrypted = listing.chain.iter().filter(|o| o.encrypted).count() as u64;
                let recipients = meta.encryption.into_iter().map(|encryption| encryption.recipients).collect();
                found.file = Some(ArchivedFile {
                    id,
                    flavor: meta.flavor,
                    server_version: meta.server_version,
                    size: meta.end,
                    summary: meta.summary,
                    objects,
                    object_bytes,
                    open_transaction: meta.open_transaction,
                    closed: None,
                    hole_until: listing.hole_until,
                    encryption: FileEncryption { objects: encrypted, recipients, edition: None },
                    further: None,
                });
                return Ok(found);
            }
            Err(e) if e.is_damage() => {
                listing.without(&object);
                // Others may hold what it was to hold.
                if listing.chain.last().is_none_or(|last| last.end < object.end) {
                    found.problems.push(e.to_string());
                    listing.hole_until = Some(object.end);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Reads the index of a closed file.
pub async fn load_index(store: &Store, id: &FileId) -> Result<FileIndex, ArchiveError> {
    let json = store.get(&keys::index(id)).await?;
    parse_index(id, &json)
}

/// Reads the `index.json` of a file and checks that it speaks of this very file and leaves nothing of it out.
pub fn parse_index(id: &FileId, json: &[u8]) -> Result<FileIndex, ArchiveError> {
    let key = keys::index(id);
    let index: FileIndex = unseal(&key, json)?;
    if index.file != *id {
        return Err(ArchiveError::Misplaced { key, of: keys::index(&index.file) });
    }
    let mut end = 0;
    for range in &index.ranges {
        if range.start != end || range.end <= range.start {
            end = u64::MAX;
            break;
        }
        end = range.end;
    }
    let known = |range: &IndexedRange| range.encrypted_to.is_none_or(|set| set < index.recipients.len());
    if end != index.size || !index.ranges.iter().all(known) {
        use serde::de::Error;
        let source = serde_json::Error::custom("its ranges do not make up the file, or are encrypted to nobody");
        return Err(ArchiveError::Unreadable { key, source });
    }
    Ok(index)
}

impl From<FileIndex> for ArchivedFile {
    fn from(index: FileIndex) -> Self {
        Self {
            id: index.file,
            flavor: index.flavor,
            server_version: index.server_version,
            size: index.size,
            summary: index.summary,
            objects: index.ranges.len() as u64,
            object_bytes: total(index.ranges.iter().map(|range| range.object_bytes)),
            open_transaction: None,
            closed: Some(Closed { ending: index.ending, next_file: index.next_file }),
            hole_until: None,
            encryption: FileEncryption {
                objects: index.ranges.iter().filter(|range| range.encrypted_to.is_some()).count() as u64,
                recipients: index.recipients,
                edition: index.edition,
            },
            further: None,
        }
    }
}

fn from_index(index: &FileIndex, range: &IndexedRange) -> ArchivedRange {
    ArchivedRange {
        object: index.object(range),
        boundary: range.boundary,
        last_commit: range.last_commit,
        gtids: range.gtids.clone(),
        recipients: range.encrypted_to.and_then(|set| index.recipients.get(set)).cloned().unwrap_or_default(),
    }
}
