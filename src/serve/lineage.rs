//! Which files are served, and where a replica joins them.

use super::Scope;
use super::error::{self, ServeError};
use crate::archive::ArchiveError;
use crate::archive::catalog::{ArchivedFile, ArchivedRange, Catalog, load_file};
use crate::archive::keys::{self, Key};
use crate::archive::segment::{SegmentObject, read_meta};
use crate::archive::store::Store;
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, GtidSet};

/// A file's served prefix: whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: ArchivedFile,
    /// One past the last byte served: the end of a transaction or of the file's head.
    pub end: u64,
}

impl Part {
    /// All of a file that is archived in whole transactions.
    pub fn whole(file: ArchivedFile) -> Self {
        let end = file.summary.boundary;
        Self { file, end }
    }

    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.file.id.name, self.file.id.server)
    }
}

/// The files to serve, as they become known.
pub(super) struct Lineage {
    store: Store,
    parts: Vec<Part>,
    /// Folders of files seen in the store; none where the scope is fixed.
    dirs: Option<Vec<String>>,
}

impl Lineage {
    /// Reads what there is now.
    pub async fn new(store: &Store, scope: &Scope) -> Result<Self, ServeError> {
        let (parts, dirs) = match scope {
            Scope::Fixed { parts, .. } => (parts.clone(), None),
            Scope::Everything { .. } => {
                let dirs = file_dirs(store).await?;
                (live(store).await?, Some(dirs))
            }
        };
        Ok(Self { store: store.clone(), parts, dirs })
    }

    /// The files, in the order of the log.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Looks for news: of the last file by one listing and one small object; everything is read again only when there are
    /// files that were not seen before.
    pub async fn refresh(&mut self) -> Result<(), ServeError> {
        let Some(seen) = &mut self.dirs else { return Ok(()) };
        let dirs = file_dirs(&self.store).await?;
        if dirs != *seen {
            *seen = dirs;
            self.parts = live(&self.store).await?;
            return Ok(());
        }
        if let Some(last) = self.parts.last_mut().filter(|p| p.file.closed.is_none())
            && let Some(file) = load_file(&self.store, &last.file.id).await?
        {
            *last = Part::whole(file);
        }
        Ok(())
    }
}

/// The folders of all binlog files.
async fn file_dirs(store: &Store) -> Result<Vec<String>, ArchiveError> {
    let mut dirs = Vec::new();
    for server in store.list_dirs(keys::BINLOGS).await? {
        dirs.extend(store.list_dirs(&server).await?);
    }
    Ok(dirs)
}

/// The live lineage, whole.
async fn live(store: &Store) -> Result<Vec<Part>, ServeError> {
    let mut files = Catalog::load(store).await?.files;
    files.sort_by(|a, b| (a.id.created_unix, &a.id.name).cmp(&(b.id.created_unix, &b.id.name)));
    Ok(files.into_iter().map(Part::whole).collect())
}

/// The objects of an open file that hold what follows `from`; reads one meta for each of those only.
pub(super) async fn tail_ranges(
    store: &Store,
    file: &ArchivedFile,
    from: u64,
) -> Result<Vec<ArchivedRange>, ServeError> {
    let mut objects: Vec<SegmentObject> = Vec::new();
    for object in store.list(&keys::file_dir(&file.id)).await.map_err(ArchiveError::from)? {
        if let Some(Key::Segment { file: id, start, end }) = keys::parse(&object.key)
            && end > from
            && end <= file.size
        {
            objects.push(SegmentObject { file: id, start, end, bytes: object.bytes, sha256: None });
        }
    }
    // Where compaction is under way a range is there twice: the largest that goes on without a hole wins.
    objects.sort_by_key(|o| (o.start, std::cmp::Reverse(o.end)));
    let mut ranges: Vec<ArchivedRange> = Vec::new();
    for object in objects {
        if ranges.last().is_some_and(|last| object.start < last.object.end) {
            continue;
        }
        let meta = read_meta(store, &object).await.map_err(ArchiveError::from)?;
        let (boundary, last_commit) = (meta.summary.boundary, meta.summary.last_commit);
        ranges.push(ArchivedRange { object, boundary, last_commit, gtids: meta.gtids });
    }
    Ok(ranges)
}

/// The index of the part that a replica with `have` begins at.
pub(super) fn join_by_gtid(parts: &[Part], have: &GtidSet) -> Result<usize, ServeError> {
    let joins = |p: &Part| lacking(&p.file.summary.previous_gtids, have).is_empty();
    if let Some(index) = parts.iter().rposition(joins) {
        return Ok(index);
    }
    match parts.first() {
        Some(first) => error::MissingSnafu { missing: lacking(&first.file.summary.previous_gtids, have) }.fail(),
        None => Ok(0),
    }
}

/// The index of the part that holds `position`, and the offset to begin at.
pub(super) fn join_by_position(parts: &[Part], position: &BinlogPosition) -> Result<(usize, u64), ServeError> {
    if position.file.is_empty() {
        return Ok((0, 4));
    }
    let holds = |p: &Part| p.file.id.name == position.file && position.offset <= p.file.size;
    match parts.iter().rposition(holds) {
        Some(index) => Ok((index, position.offset.max(4))),
        None => {
            let name = |p: Option<&Part>| p.map_or_else(|| "nothing".to_owned(), |p| p.file.id.name.clone());
            let (file, offset) = (position.file.clone(), position.offset);
            error::NoSuchPositionSnafu { file, offset, first: name(parts.first()), last: name(parts.last()) }.fail()
        }
    }
}

/// What of `needed` a replica with `have` lacks. On MariaDB a position stands for all before it, so that numbers no
/// transaction ever had do not count.
pub(super) fn lacking(needed: &GtidSet, have: &GtidSet) -> GtidSet {
    let (GtidSet::Mariadb(needed), GtidSet::Mariadb(have)) = (needed, have) else {
        return needed.difference(have);
    };
    let mut lacking = MariadbGtidSet::default();
    for last in needed.domains().filter_map(|(domain, ..)| needed.last(domain)) {
        if have.last(last.domain).is_none_or(|h| h.seq < last.seq) {
            lacking.insert(&last);
        }
    }
    GtidSet::Mariadb(lacking)
}
