//! Which files are served, and where a replica joins them.

use super::Scope;
use super::error::{self, ServeError};
use crate::archive::ArchiveError;
use crate::archive::catalog::{ArchivedFile, ArchivedRange, Catalog, load_file};
use crate::archive::keys;
use crate::archive::segment::{SegmentObject, read_meta};
use crate::archive::store::Store;
use crate::archive::timeline::{ChainEnd, Gap, Timeline};
use crate::model::{BinlogPosition, Flavor, GtidSet};

/// A file's served prefix: whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: ArchivedFile,
    /// One past the last byte served: the end of a transaction or of the file's head.
    pub end: u64,
    /// Only these of its transactions; none: every one.
    pub take: Option<GtidSet>,
}

impl Part {
    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.file.id.name, self.file.id.server)
    }
}

/// The files to serve to one replica, as they become known.
pub(super) struct Lineage {
    parts: Vec<Part>,
    /// None where the scope is fixed.
    live: Option<Live>,
    gap: Option<Gap>,
}

/// What the store holds.
struct Live {
    store: Store,
    flavor: Flavor,
    /// Folders of the files.
    dirs: Vec<String>,
    files: Vec<ArchivedFile>,
}

impl Lineage {
    /// Reads what there is now, for a replica that has `have`; none: for one that asks by position.
    pub async fn new(store: &Store, scope: &Scope, flavor: Flavor, have: Option<&GtidSet>) -> Result<Self, ServeError> {
        if let Scope::Fixed { parts, .. } = scope {
            return Ok(Self { parts: parts.clone(), live: None, gap: None });
        }
        // Listed first: a file that comes in between is found by the next look.
        let dirs = file_dirs(store).await?;
        let files = Catalog::load(store).await?.files;
        let live = Live { store: store.clone(), flavor, dirs, files };
        let mut lineage = Self { parts: Vec::new(), live: Some(live), gap: None };
        lineage.follow(have)?;
        Ok(lineage)
    }

    /// The files, in the order of the log.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What ends the log after [`Self::parts`] before its newest transaction.
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Looks for news, for a replica that has come to `have`: of files that are being written by one listing and one small object
    /// each; everything is read again only when there are files that were not seen before.
    pub async fn refresh(&mut self, have: Option<&GtidSet>) -> Result<(), ServeError> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let dirs = file_dirs(&live.store).await?;
        if dirs == live.dirs {
            // A file that another of its server follows grows no more.
            let newest = Timeline::live_files(live.flavor, &live.files).last().map(|file| file.id.clone());
            if let Some(last) = live.files.iter_mut().find(|f| Some(&f.id) == newest.as_ref() && f.closed.is_none())
                && let Some(file) = load_file(&live.store, &last.id).await?
            {
                *last = file;
            }
        } else {
            live.dirs = dirs;
            live.files = Catalog::load(&live.store).await?.files;
        }
        self.follow(have)
    }

    fn follow(&mut self, have: Option<&GtidSet>) -> Result<(), ServeError> {
        let Some(live) = &self.live else { return Ok(()) };
        let Some(have) = have else {
            let files = Timeline::live_files(live.flavor, &live.files).into_iter().cloned();
            self.parts = files.map(|file| Part { end: file.summary.boundary, file, take: None }).collect();
            return Ok(());
        };
        let chain = Timeline::onward(live.flavor, &live.files, have);
        self.gap = match chain.end {
            ChainEnd::OffLineage { beyond, .. } => return error::ForkSnafu { gtids: beyond }.fail(),
            ChainEnd::Gap(gap) => Some(gap),
            ChainEnd::Newest => None,
        };
        self.parts.clear();
        for link in &chain.links {
            let file = live.files.iter().find(|file| file.id == link.file).cloned();
            self.parts.extend(file.map(|file| Part { file, end: link.to, take: Some(link.take.clone()) }));
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

/// The objects of an open file that hold what follows `from`; reads one meta for each of those only.
pub(super) async fn tail_ranges(
    store: &Store,
    file: &ArchivedFile,
    from: u64,
) -> Result<Vec<ArchivedRange>, ServeError> {
    let mut objects: Vec<SegmentObject> = Vec::new();
    for object in store.list(&keys::file_dir(&file.id)).await.map_err(ArchiveError::from)? {
        objects.extend(SegmentObject::listed(&object).filter(|object| object.end > from && object.end <= file.size));
    }
    // Where compaction is under way a range is there twice: the largest that goes on without a hole wins.
    objects.sort_by_key(|o| (o.start, std::cmp::Reverse(o.end), !o.encrypted));
    let mut ranges: Vec<ArchivedRange> = Vec::new();
    for object in objects {
        if ranges.last().is_some_and(|last| object.start < last.object.end) {
            continue;
        }
        let meta = read_meta(store, &object).await.map_err(ArchiveError::from)?;
        ranges.push(ArchivedRange::of_meta(object, meta));
    }
    Ok(ranges)
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
