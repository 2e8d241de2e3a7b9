//! What the archive holds of a source's binary log, read from the store alone: where a stream goes on.

use std::cmp::Reverse;

use snafu::ResultExt;

use super::Error;
use super::error::ArchiveSnafu;
use crate::archive::binlog_index::{FileId, FileSummary, RawSum};
use crate::archive::catalog::{self, Catalog, Closed, FullHead};
use crate::archive::index_writer::IndexWriter;
use crate::archive::store::Store;
use crate::archive::timeline::ends;
use crate::archive::{ArchiveError, keys};
use crate::model::{BinlogPosition, CommitTime, Flavor, GtidSet, OpenTransaction};

/// What is archived.
#[derive(Clone, Debug, Default)]
pub(super) struct Archived {
    /// The newest file of each server, the one that committed last first.
    pub heads: Vec<Head>,
    /// Where else a server's files may end: its log of before a reset, or a file whose creation stamp is not in order.
    pub others: Vec<Head>,
    /// Every full, oldest first; only read where no binlog is archived yet.
    pub fulls: Vec<FullHead>,
}

/// A file as far as it is archived without a hole.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub file: FileId,
    pub flavor: Flavor,
    pub server_version: String,
    /// Bytes `0..end` are stored.
    pub end: u64,
    pub summary: FileSummary,
    pub open_transaction: Option<OpenTransaction>,
    /// The last segment of an open file, which is read once more.
    pub last_range: Option<LastRange>,
    /// How a file whose index is written ended.
    pub closed: Option<Closed>,
    /// To index the file when it closes.
    pub index: Option<IndexWriter>,
}

/// A stored range by which a source proves that it still has what was archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastRange {
    /// First byte.
    pub start: u64,
    /// Its object's key.
    pub key: String,
    /// Checksum of its bytes.
    pub sum: RawSum,
}

impl Head {
    /// Where the archived part ends.
    pub fn position(&self) -> BinlogPosition {
        BinlogPosition { file: self.file.name.clone(), offset: self.end }
    }
}

impl Archived {
    /// Makes the `chosen` of [`Self::others`] its server's head.
    pub fn prefer(&mut self, chosen: usize) {
        let server = self.others.get(chosen).map(|other| &other.file.server);
        let head = self.heads.iter_mut().find(|head| Some(&head.file.server) == server);
        if let (Some(head), Some(other)) = (head, self.others.get_mut(chosen)) {
            std::mem::swap(head, other);
        }
    }

    /// Puts the server first that committed last.
    pub fn sort(&mut self) {
        self.heads.sort_by_key(|head| Reverse((ended(head), head.file.created_unix)));
    }

    /// Everything executed at the end of any server's archived part.
    pub fn covered(&self, flavor: Flavor) -> GtidSet {
        let mut covered = GtidSet::empty(flavor);
        for head in self.heads.iter().filter(|head| head.flavor == flavor) {
            // Of one flavor, so neither can fail.
            let _ = covered.extend(&head.summary.previous_gtids);
            let _ = covered.extend(&head.summary.gtids);
        }
        covered
    }
}

/// Reads the newest files: a listing a server, and a few small objects of each file that may be its newest, however large the archive is.
pub(super) async fn load(store: &Store) -> Result<Archived, Error> {
    read(store).await.context(ArchiveSnafu { doing: "read what is archived" })
}

async fn read(store: &Store) -> Result<Archived, ArchiveError> {
    let mut archived = Archived::default();
    for server in store.list_dirs(keys::BINLOGS).await? {
        let dirs = store.list_dirs(&server).await?;
        let mut ends = Vec::new();
        for mut run in ends::runs(dirs.iter().filter_map(|dir| keys::parse_file_dir(dir)).collect()) {
            // A file whose first segment never arrived (only later ones did) holds nothing yet: the one before it counts.
            while let Some(file) = run.pop() {
                if let Some(head) = head(store, file).await? {
                    ends.push(head);
                    break;
                }
            }
        }
        if let Some(newest) = ends::newest(ends.iter().map(|head| (&head.file, &head.summary))) {
            archived.heads.push(ends.swap_remove(newest));
            archived.others.append(&mut ends);
        }
    }
    archived.sort();
    if archived.heads.is_empty() {
        archived.fulls = Catalog::load(store).await?.fulls;
    }
    Ok(archived)
}

/// The newest commit, which no client can put into the future; the stamp only where nothing was committed.
fn ended(head: &Head) -> CommitTime {
    head.summary.last_commit.unwrap_or(head.file.created())
}

async fn head(store: &Store, file: FileId) -> Result<Option<Head>, ArchiveError> {
    let Some(found) = catalog::load_file(store, &file).await? else { return Ok(None) };
    let mut head = Head {
        file,
        flavor: found.flavor,
        server_version: found.server_version,
        end: found.size,
        summary: found.summary,
        open_transaction: found.open_transaction,
        last_range: None,
        closed: found.closed,
        index: None,
    };
    if head.closed.is_none() {
        let index = IndexWriter::resume(store, head.file.clone()).await?;
        let Some(last) = index.last().cloned() else { return Ok(None) };
        let key = last.key();
        head.end = last.end;
        head.summary = last.summary;
        head.open_transaction = last.open_transaction;
        head.last_range = Some(LastRange { start: last.start, key, sum: last.raw });
        head.index = Some(index);
    }
    Ok(Some(head))
}
