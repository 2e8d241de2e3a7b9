//! What can be restored: pure arithmetic over what a [`super::catalog::Catalog`] shows.
//!
//! Each full begins a [`Chain`]: the binlog files, in order, whose transactions take it forward along the live lineage, up to the
//! newest archived transaction or the first one that nobody archived (a [`Gap`]). Chains that end at the same place make a
//! [`Window`]. Servers are joined by GTID arithmetic: a file's `previous_gtids` says what must come before it, and a file counts
//! only for what the files after it acknowledge, so that transactions only a dead primary had are never replayed, but shown as a
//! [`Fork`].

mod chain;
pub mod ends;
mod fold;
mod forks;
mod history;
mod links;
mod logs;
mod positions;
mod steps;
mod unlogged;
mod writers;

#[cfg(test)]
mod failover_tests;
#[cfg(test)]
pub(in crate::archive) mod tests;

use std::collections::BTreeMap;

use super::binlog_index::FileId;
use super::catalog::{ArchivedFile, ArchivedRange, FullHead};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{CommitTime, Flavor, GtidSet};
pub use fold::fold;
#[cfg(test)]
pub(crate) use fold::fold_all;
use forks::forks;
use history::Histories;
pub use links::{Links, Seen};
pub use unlogged::unlogged;

/// Everything that can be restored, and what cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// One a full, in the fulls' order.
    pub chains: Vec<Chain>,
    /// Spans in which every transaction can be restored to, oldest first.
    pub windows: Vec<Window>,
    /// Transactions that the live lineage does not have.
    pub forks: Vec<Fork>,
    /// The server that went on from all others, by GTIDs; where they do not tell, the one that committed last.
    pub live_server: Option<String>,
    /// The newest commit of the live lineage.
    pub live_commit: Option<CommitTime>,
}

/// What one full can be taken forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The full's id.
    pub full: String,
    /// How places in it are named.
    pub addressing: Addressing,
    /// The moment the full shows: the earliest target.
    pub first: CommitTime,
    /// Commit time of the newest transaction it reaches (the full's own moment if that is later).
    pub latest: CommitTime,
    /// What the full holds.
    pub base_gtids: GtidSet,
    /// Everything it reaches, the full included.
    pub gtids: GtidSet,
    /// The files to replay, in this order.
    pub links: Links,
    /// Why it ends where it does.
    pub end: ChainEnd,
}

/// How a chain names places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// By GTID.
    Gtid,
    /// By file and offset on one server: GTIDs are off.
    Position,
}

/// One file's part in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The file.
    pub file: FileId,
    /// Where replay begins: always between transactions. Behind the file's head only with [`Addressing::Position`].
    pub from: u64,
    /// Where its last whole archived transaction ends.
    pub to: u64,
    /// Exactly the transactions to replay from this file; others in it are in the base, in an earlier link, or a fork. Empty with
    /// [`Addressing::Position`], where all of `from..to` is replayed.
    pub take: GtidSet,
    /// Highest commit time in the file up to `to`.
    pub last_commit: Option<CommitTime>,
}

/// Why a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// At the newest archived transaction of the live lineage.
    Newest,
    /// Something that comes next was never archived.
    Gap(Gap),
    /// The full holds transactions that the live lineage has not (yet); it is taken no further than its own server's files.
    OffLineage {
        /// What it holds beyond the live lineage.
        beyond: GtidSet,
        /// Why the live lineage lacks them.
        cause: OffLineage,
    },
}

/// Why a full is not on the live lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffLineage {
    /// The archive has not got as far as the full, which is of another server than the live one, or of a log that began anew.
    Ahead,
    /// The live lineage went on without what the full holds.
    Fork,
    /// The live server's log was reset since: equal GTIDs mean other transactions.
    Reset,
}

/// Transactions that nobody archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The file that cannot be replayed because of it; none if the binlog of the full's server is not archived at all.
    pub before: Option<FileId>,
    /// What is missing, where GTIDs are on.
    pub missing: GtidSet,
    /// The same in words.
    pub reason: String,
}

/// A span in which every transaction can be restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The fulls that reach its end, oldest first.
    pub fulls: Vec<String>,
    /// `firstRecoverabilityPoint`: the moment of the oldest of these fulls.
    pub first: CommitTime,
    /// `latestRestorableTime`: commit time of the newest transaction.
    pub latest: CommitTime,
    /// Everything executed at its end.
    pub gtids: GtidSet,
    /// Why it ends.
    pub end: ChainEnd,
}

/// Transactions in a server's files that the live lineage does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The server that has them.
    pub server: String,
    /// Its files with such transactions.
    pub files: Vec<FileId>,
    /// The transactions.
    pub gtids: GtidSet,
    /// What the live lineage has and that server had not, as far as those files go.
    pub lacks: GtidSet,
    /// Newest commit in those files.
    pub last_commit: Option<CommitTime>,
    /// Whether it committed no earlier than the live lineage did last: then nothing tells that this server is not the one that is in use, as
    /// after a failover that was taken back.
    pub contested: bool,
}

impl Timeline {
    /// Computes it. Fulls and files of another flavor are left out: an archive has one.
    pub fn new(flavor: Flavor, fulls: &[FullHead], files: &[ArchivedFile]) -> Self {
        let timeline = Self::compute(flavor, fulls, files);
        #[cfg(test)]
        tests::assert_same_when_folded(&timeline, flavor, fulls, files);
        timeline
    }

    fn compute(flavor: Flavor, fulls: &[FullHead], files: &[ArchivedFile]) -> Self {
        let histories = Histories::new(flavor, files);
        let (forks, live_commit) = forks(&histories);
        let fulls = fulls.iter().filter(|full| full.flavor == flavor && full.gtids.flavor() == flavor);
        let chains: Vec<Chain> = fulls.map(|full| chain::build(full, &histories, &forks)).collect();
        let mut windows: Vec<Window> = Vec::new();
        let mut by_age: Vec<&Chain> = chains.iter().collect();
        by_age.sort_by_key(|chain| chain.first);
        for chain in by_age {
            let gtids = as_executed(&chain.gtids);
            let same = windows.iter_mut().find(|w| w.end == chain.end && w.gtids == gtids && reach(chain, &chains, w));
            match same {
                Some(window) => {
                    window.fulls.push(chain.full.clone());
                    window.latest = window.latest.max(chain.latest);
                }
                None => windows.push(Window {
                    fulls: vec![chain.full.clone()],
                    first: chain.first,
                    latest: chain.latest,
                    gtids,
                    end: chain.end.clone(),
                }),
            }
        }
        let live_server = histories.live().map(|h| h.server().to_owned());
        Self { chains, windows, forks, live_server, live_commit }
    }

    /// What takes a server that has executed `have` forward along the live lineage of `files`, as a chain without a full.
    /// [`ChainEnd::OffLineage`]: it has transactions of a fork, and nothing can take it there.
    pub fn onward(flavor: Flavor, files: &[ArchivedFile], have: &GtidSet) -> Chain {
        let histories = Histories::new(flavor, files);
        chain::onward(have, &histories, &forks(&histories).0)
    }

    /// The live server's files as far back as each is whole and followed by the next: its log by file and offset.
    pub fn live_files(flavor: Flavor, files: &[ArchivedFile]) -> Vec<&ArchivedFile> {
        let histories = Histories::new(flavor, files);
        let of_live = histories.live().map(|live| live.files.clone()).unwrap_or_default();
        let broken = of_live.windows(2).rposition(|pair| !chain::follows(pair[0], pair[1]));
        of_live.get(broken.map_or(0, |i| i + 1)..).unwrap_or_default().to_vec()
    }

    /// The files of the full's server with something of `gtids`, newest first, as far back as each is whole and followed by the next;
    /// none after the one its position is in, which may be of another log (after a reset).
    pub fn back_from<'a>(files: &'a [ArchivedFile], full: &FullHead, gtids: &GtidSet) -> Vec<&'a ArchivedFile> {
        let own: Vec<_> = files.iter().filter(|file| file.id.server == full.server).collect();
        let mut own = history::newest_first(own);
        if let (Some(position), Some(created_unix)) = (&full.position, full.position_created_unix) {
            let is_at = |file: &&ArchivedFile| file.id.name == position.file && file.id.created_unix == created_unix;
            own = own.into_iter().skip_while(|file| !is_at(file)).collect();
        }
        own.retain(|file| !file.summary.gtids.intersection(gtids).is_empty());
        let broken = own.windows(2).position(|pair| !chain::follows(pair[1], pair[0]));
        own.truncate(broken.map_or(usize::MAX, |i| i + 1));
        own
    }

    /// Each server's logs, the newest of a server last; the files of each in their order. A log ends where the server's log was reset or put
    /// back.
    pub fn logs(files: &[ArchivedFile]) -> Vec<Vec<&ArchivedFile>> {
        let mut by_server: BTreeMap<(&str, bool), Vec<&ArchivedFile>> = BTreeMap::new();
        for file in files {
            // An archive has one flavor; a stranger is in no log of the others.
            let is_mysql = file.summary.gtids.flavor() == Flavor::Mysql;
            by_server.entry((&file.id.server, is_mysql)).or_default().push(file);
        }
        by_server.into_values().flat_map(history::by_age).collect()
    }

    /// The chain of a full.
    pub fn chain(&self, full: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.full == full)
    }
}

/// A set as a server says it: on MariaDB a position.
pub fn as_executed(set: &GtidSet) -> GtidSet {
    let GtidSet::Mariadb(set) = set else { return set.clone() };
    let mut position = MariadbGtidSet::default();
    set.domains().filter_map(|domain| set.last(domain)).for_each(|last| position.insert_prefix(&last));
    GtidSet::Mariadb(position)
}

/// Without GTIDs every set is empty: then the last file and offset tell whether chains end at the same place.
fn reach(chain: &Chain, chains: &[Chain], window: &Window) -> bool {
    let end = |chain: &Chain| chain.links.last().map(|link| (link.file.clone(), link.to));
    chain.addressing == Addressing::Gtid
        || chains.iter().any(|other| window.fulls.contains(&other.full) && end(other) == end(chain))
}

impl Chain {
    /// The first link with a transaction that committed after `time`: whoever restores to `time` decodes it, in the range that
    /// [`first_range_after`] names, to find the boundary. None if nothing in the chain is later.
    pub fn first_link_after(&self, time: CommitTime) -> Option<usize> {
        self.links.iter().position(|link| link.last_commit > Some(time))
    }
}

/// The first range of a file with a transaction that committed after `time`.
pub fn first_range_after(ranges: &[ArchivedRange], time: CommitTime) -> Option<usize> {
    ranges.iter().position(|range| range.last_commit > Some(time))
}

/// The ranges of a file in which transactions of `gtids` end: the first and the last one.
pub fn ranges_with(ranges: &[ArchivedRange], gtids: &GtidSet) -> Option<(usize, usize)> {
    let has = |range: &ArchivedRange| !range.gtids.intersection(gtids).is_empty();
    Some((ranges.iter().position(has)?, ranges.iter().rposition(has)?))
}
