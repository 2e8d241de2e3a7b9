//! Where in the source's binary log to begin, given what the archive holds. It decides; asking the server is the caller's.

use super::checkpoint::{Archived, Head};
use super::status::Gap;
use crate::model::{BinlogPosition, Flavor, GtidSet};

/// The source, as it is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// [`crate::archive::binlog_index::FileId::server`].
    pub server: String,
    pub flavor: Flavor,
    pub gtids_on: bool,
    /// Its binlog files and their sizes, oldest first. The last is the one being written.
    pub files: Vec<(String, u64)>,
}

/// What the head of one of the source's files says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    pub created_unix: u32,
    pub previous_gtids: GtidSet,
}

/// Reads the heads of the source's files.
pub(super) trait Inspect {
    type Error;
    fn inspect(&self, file: &str) -> impl Future<Output = Result<FileHead, Self::Error>> + Send;
}

/// Where the stream begins.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// In the file whose beginning the archive has.
    Resume(Box<Head>),
    /// At byte 0 of a file the archive does not have; `again`: what the archive has of the source's own transactions that the source was
    /// put back behind, so that it gives their GTIDs out again.
    File { name: String, gap: Option<Gap>, again: Option<GtidSet> },
}

/// What makes a start impossible.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    /// The source's file is shorter than what the archive has of it.
    Diverged { head: Box<Head>, size: u64 },
    /// The source lists no file at all.
    NoFiles,
    /// Asking the source failed.
    Inspect(E),
}

impl<E> From<E> for Refusal<E> {
    fn from(error: E) -> Self {
        Self::Inspect(error)
    }
}

/// Makes the newest of the source's files that the archive has an end of its head: the order of the source's own list is sure.
pub(super) async fn settle<I: Inspect>(archived: &mut Archived, source: &Source, files: &I) -> Result<(), I::Error> {
    if !archived.others.iter().any(|other| other.file.server == source.server) {
        return Ok(());
    }
    for (name, _) in source.files.iter().rev() {
        let is_end = |head: &&Head| head.file.server == source.server && head.file.name == *name;
        if !archived.heads.iter().chain(&archived.others).any(|head| is_end(&head)) {
            continue;
        }
        let found = files.inspect(name).await?;
        let same = |head: &Head| is_end(&head) && head.file.created_unix == found.created_unix;
        let head = archived.heads.iter().find(is_end);
        if head.is_some_and(|head| same(head) || put_back(head, &found)) {
            return Ok(());
        }
        if let Some(chosen) = archived.others.iter().position(same) {
            archived.prefer(chosen);
            return Ok(());
        }
    }
    Ok(())
}

/// Finds the start. It looks into O(log files) of the source's files.
///
/// - The source's own newest archived file is still there (same name *and* creation stamp): go on after its last byte.
/// - It is gone: from the oldest file the source still has, whether it purged (then what is missing is a gap) or reset its
///   logs (then names start again, and GTIDs may, so GTID arithmetic would lie).
/// - Another server (failover): the newest file before which everything is archived; without one, a gap and the oldest file.
/// - A fresh archive: the file that the oldest full still in reach begins at, or else the current file.
pub(super) async fn locate<I: Inspect>(
    archived: &Archived,
    source: &Source,
    files: &I,
) -> Result<Start, Refusal<I::Error>> {
    let (Some((oldest, _)), Some((current, _))) = (source.files.first(), source.files.last()) else {
        return Err(Refusal::NoFiles);
    };
    if let Some(head) = archived.heads.iter().find(|head| head.file.server == source.server) {
        return continue_server(head, archived, source, oldest, files).await;
    }
    if !archived.heads.is_empty() {
        let after = archived.heads.first().map(Head::position);
        if !source.gtids_on {
            let gap = Gap { missing: GtidSet::empty(source.flavor), after, resumed_at: current.clone() };
            return Ok(Start::File { name: current.clone(), gap: Some(gap), again: None });
        }
        return by_gtid(&archived.covered(source.flavor), after, source, oldest, files).await;
    }
    let mut last_full = None;
    for full in &archived.fulls {
        if full.server == source.server
            && let Some(position) = &full.position
            && source.files.iter().any(|(name, _)| *name == position.file)
            && (full.position_created_unix.is_none()
                || full.position_created_unix == Some(files.inspect(&position.file).await?.created_unix))
        {
            return Ok(Start::File { name: position.file.clone(), gap: None, again: None });
        }
        if source.gtids_on && !full.gtids.is_empty() {
            let found = by_gtid(&full.gtids, full.position.clone(), source, oldest, files).await?;
            if matches!(found, Start::File { gap: None, .. }) {
                return Ok(found);
            }
            last_full = Some(found);
        }
    }
    Ok(last_full.unwrap_or_else(|| Start::File { name: current.clone(), gap: None, again: None }))
}

/// What is archived but not `executed` by the server that the stream goes on with: what only a former primary had, or what the server
/// itself had before it was put back to an earlier state.
pub(super) fn fork(archived: &Archived, server: &str, executed: &GtidSet, start: &Start) -> Option<GtidSet> {
    let another_wrote_last = archived.heads.first().is_some_and(|head| head.file.server != server);
    let own = archived.heads.iter().find(|head| head.file.server == server).filter(|_| !executed.is_empty());
    let goes_on = matches!(start, Start::Resume(_));
    let fork = match (another_wrote_last, own) {
        (true, _) => archived.covered(executed.flavor()).difference(executed),
        (false, Some(head)) if !goes_on => head.summary.gtids.difference(executed),
        (false, _) => return None,
    };
    (!fork.is_empty()).then_some(fork)
}

async fn continue_server<I: Inspect>(
    head: &Head,
    archived: &Archived,
    source: &Source,
    oldest: &str,
    files: &I,
) -> Result<Start, Refusal<I::Error>> {
    let at = source.files.iter().position(|(name, _)| *name == head.file.name);
    let mut again = None;
    let at = at.and_then(|at| Some((at, source.files.get(at)?)));
    let same_name = match at {
        Some((_, (name, _))) => Some(files.inspect(name).await?),
        None => None,
    };
    if let Some(other) = same_name.as_ref().filter(|other| put_back(head, other)) {
        // Without transactions nothing is given out twice.
        again = Some(head.summary.gtids.difference(&other.previous_gtids)).filter(|gtids| !gtids.is_empty());
    }
    if let Some((at, (_, size))) = at
        && same_name.is_some_and(|found| found.created_unix == head.file.created_unix)
    {
        if *size < head.end {
            return Err(Refusal::Diverged { head: Box::new(head.clone()), size: *size });
        }
        return Ok(match (head.closed.is_some(), source.files.get(at + 1)) {
            (true, Some((next, _))) => Start::File { name: next.clone(), gap: None, again: None },
            // A closed file that is the newest: the server has not begun the next yet. The dump goes there by itself.
            _ => Start::Resume(Box::new(head.clone())),
        });
    }
    let next = files.inspect(oldest).await?;
    let successor = head.closed.as_ref().and_then(|closed| closed.next_file.as_deref());
    let follows = successor == Some(oldest) && next.created_unix >= head.file.created_unix;
    let anonymous = head.summary.transactions > head.summary.gtids.count();
    let missing = next.previous_gtids.difference(&archived.covered(source.flavor));
    let reset = next.created_unix >= head.file.created_unix && next.previous_gtids.is_empty() && source.gtids_on;
    let gap = !follows && (!missing.is_empty() || !source.gtids_on || (anonymous && !reset));
    let gap = gap.then(|| Gap { missing, after: Some(head.position()), resumed_at: oldest.to_owned() });
    Ok(Start::File { name: oldest.to_owned(), gap, again })
}

/// Whether `found`, of the name of `head`, is another file because the source was put back to a state before it: it goes on from the same
/// log, while a reset begins with nothing.
fn put_back(head: &Head, found: &FileHead) -> bool {
    found.created_unix != head.file.created_unix
        && !found.previous_gtids.is_empty()
        && head.summary.previous_gtids.is_subset(&found.previous_gtids)
}

async fn by_gtid<I: Inspect>(
    covered: &GtidSet,
    after: Option<BinlogPosition>,
    source: &Source,
    oldest: &str,
    files: &I,
) -> Result<Start, Refusal<I::Error>> {
    // MariaDB: what this server wrote itself may have the numbers of what a dead one wrote last, and so look covered.
    let begun_by_other = newest_covered(source, files, |head| {
        head.previous_gtids.is_subset(covered) && !wrote_last(&source.server, &head.previous_gtids)
    });
    let begin = match begun_by_other.await? {
        Some(name) => Some(name),
        None => newest_covered(source, files, |head| head.previous_gtids.is_subset(covered)).await?,
    };
    if let Some(name) = begin {
        return Ok(Start::File { name, gap: None, again: None });
    }
    let missing = files.inspect(oldest).await?.previous_gtids.difference(covered);
    let gap = Gap { missing, after, resumed_at: oldest.to_owned() };
    Ok(Start::File { name: oldest.to_owned(), gap: Some(gap), again: None })
}

/// Whether the highest number of any domain in `set` is by the MariaDB server that is archived as `server`.
fn wrote_last(server: &str, set: &GtidSet) -> bool {
    let GtidSet::Mariadb(set) = set else { return false };
    set.domains().filter_map(|d| set.last(d)).any(|last| format!("mariadb-{}", last.server) == server)
}

/// The newest file whose head is `covered`. What precedes a file only grows from file to file, so those are a prefix of the list.
async fn newest_covered<I: Inspect>(
    source: &Source,
    files: &I,
    covered: impl Fn(&FileHead) -> bool,
) -> Result<Option<String>, Refusal<I::Error>> {
    let (mut low, mut high) = (0, source.files.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let Some((name, _)) = source.files.get(middle) else { break };
        if covered(&files.inspect(name).await?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1).and_then(|last| source.files.get(last)).map(|(name, _)| name.clone()))
}

#[cfg(test)]
mod tests;
