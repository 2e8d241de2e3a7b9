//! What the archive holds of a source's binary log, read from the store alone: where a stream goes on.

use snafu::ResultExt;

use super::Error;
use super::error::ArchiveSnafu;
use crate::archive::binlog_index::{FileId, FileSummary};
use crate::archive::catalog::{self, Catalog, Closed, FullHead};
use crate::archive::index_writer::IndexWriter;
use crate::archive::store::Store;
use crate::archive::{ArchiveError, keys};
use crate::model::{BinlogPosition, Flavor, GtidSet, OpenTransaction};

/// What is archived.
#[derive(Clone, Debug, Default)]
pub(super) struct Archived {
    /// The newest file of each server, the newest of all first.
    pub heads: Vec<Head>,
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
    /// First byte and digest of the last segment of an open file, which is read once more.
    pub last_range: Option<(u64, String)>,
    /// How a file whose index is written ended.
    pub closed: Option<Closed>,
    /// To index the file when it closes.
    pub index: Option<IndexWriter>,
}

impl Head {
    /// Where the archived part ends.
    pub fn position(&self) -> BinlogPosition {
        BinlogPosition { file: self.file.name.clone(), offset: self.end }
    }
}

impl Archived {
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

/// Reads the newest files: two listings a server and a few small objects, however large the archive is.
pub(super) async fn load(store: &Store) -> Result<Archived, Error> {
    read(store).await.context(ArchiveSnafu { doing: "read what is archived" })
}

async fn read(store: &Store) -> Result<Archived, ArchiveError> {
    let mut archived = Archived::default();
    for server in store.list_dirs(keys::BINLOGS).await? {
        let dirs = store.list_dirs(&server).await?;
        let mut files: Vec<FileId> = dirs.iter().filter_map(|dir| keys::parse_file_dir(dir)).collect();
        files.sort_by(|a, b| (a.created_unix, &a.name).cmp(&(b.created_unix, &b.name)));
        // A file whose first segment never arrived (only later ones did) holds nothing yet: the one before it counts.
        while let Some(file) = files.pop() {
            if let Some(head) = head(store, file).await? {
                archived.heads.push(head);
                break;
            }
        }
    }
    archived.heads.sort_by(|a, b| (b.file.created_unix, &b.file.name).cmp(&(a.file.created_unix, &a.file.name)));
    if archived.heads.is_empty() {
        archived.fulls = Catalog::load(store).await?.fulls;
    }
    Ok(archived)
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
        head.end = last.end;
        head.summary = last.summary;
        head.open_transaction = last.open_transaction;
        head.last_range = Some((last.start, last.raw_xxh3));
        head.index = Some(index);
    }
    Ok(Some(head))
}
