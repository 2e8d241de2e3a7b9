//! How far one full can be taken forward.

use super::history::{Histories, History, add, filled, number};
use super::{Addressing, Chain, ChainEnd, Fork, Gap, Link, OffLineage};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::{CommitTime, GtidSet};

pub(super) fn build(full: &FullHead, histories: &Histories<'_>, forks: &[Fork]) -> Chain {
    let mut chain = empty(full.id.clone(), &full.gtids, CommitTime::from(full.consistent_at));
    let Some(live) = histories.live() else { return chain };
    let mut beyond = full.gtids.difference(&filled(&live.executed(histories.flavor)));
    let lost = lost(&full.gtids, &beyond, live, forks);
    add(&mut beyond, &lost);
    // A server cannot fork from itself: what it has beyond its archived files is only not archived yet.
    let same_server = full.server == live.server();
    let reset = live.reset_after(full);
    let on_live = !reset && (beyond.is_empty() || same_server);
    let cause = if reset {
        OffLineage::Reset
    } else if !lost.is_empty() || live.is_past(full) {
        OffLineage::Fork
    } else {
        OffLineage::Ahead
    };
    let (history, end) = match (on_live, histories.own(full)) {
        (true, _) => (live, ChainEnd::Newest),
        (false, Some(own)) => (own, ChainEnd::OffLineage { beyond, cause }),
        (false, None) => {
            chain.end = ChainEnd::OffLineage { beyond, cause };
            return chain;
        }
    };
    if full.gtids.is_empty() && has_anonymous(history, full) {
        by_position(&mut chain, full, history);
    } else {
        by_gtid(&mut chain, histories, history);
    }
    if chain.end == ChainEnd::Newest {
        chain.end = end;
    }
    chain
}

pub(super) fn onward(have: &GtidSet, histories: &Histories<'_>, forks: &[Fork]) -> Chain {
    let mut chain = empty(String::new(), have, CommitTime(0));
    let Some(live) = histories.live() else { return chain };
    let beyond = lost(have, &have.difference(&filled(&live.executed(histories.flavor))), live, forks);
    if !beyond.is_empty() {
        chain.end = ChainEnd::OffLineage { beyond, cause: OffLineage::Fork };
        return chain;
    }
    by_gtid(&mut chain, histories, live);
    chain
}

fn empty(full: String, gtids: &GtidSet, first: CommitTime) -> Chain {
    Chain {
        full,
        addressing: Addressing::Gtid,
        first,
        latest: first,
        base_gtids: gtids.clone(),
        gtids: gtids.clone(),
        links: Vec::new(),
        end: ChainEnd::Newest,
    }
}

/// What of `set` only dead servers had; `beyond` is what of it the live lineage lacks. MariaDB's live lineage has other
/// transactions of the same numbers: there the highest one's writer tells.
fn lost(set: &GtidSet, beyond: &GtidSet, live: &History<'_>, forks: &[Fork]) -> GtidSet {
    let mut lost = GtidSet::empty(set.flavor());
    for fork in forks.iter().filter(|fork| fork.server != live.server()) {
        add(&mut lost, &beyond.intersection(&fork.gtids));
        let (GtidSet::Mariadb(set), GtidSet::Mariadb(of)) = (set, &fork.gtids) else { continue };
        for (domain, writer, numbers) in of.domains() {
            if set.last(domain).is_some_and(|last| last.server == writer && numbers.contains(last.seq)) {
                add(&mut lost, &fork.gtids);
            }
        }
    }
    lost
}

/// Whether transactions without a GTID follow the full (on MySQL with GTIDs off).
fn has_anonymous(history: &History<'_>, full: &FullHead) -> bool {
    let from = history.position_of(full).unwrap_or(0);
    history.files.iter().skip(from).any(|file| file.summary.transactions > file.summary.gtids.count())
}

fn by_gtid(chain: &mut Chain, histories: &Histories<'_>, history: &History<'_>) {
    let lenders: Vec<&History<'_>> = histories.lenders(history).collect();
    for (i, file) in history.files.iter().enumerate() {
        let previous = &file.summary.previous_gtids;
        if !previous.is_subset(&filled(&chain.gtids)) {
            borrow(chain, previous, &lenders);
        }
        let missing = previous.difference(&filled(&chain.gtids));
        if !missing.is_empty() {
            let reason = format!("{missing} came before {} and is not in the archive", file.id.name);
            chain.end = ChainEnd::Gap(Gap { before: Some(file.id.clone()), missing, reason });
            return;
        }
        take(chain, file, &history.acknowledged(i));
    }
}

/// Takes what is needed from other servers' files. A lender's file is used after what it needs itself has been borrowed from older
/// histories, and only for what is needed: beyond that it may have gone another way.
fn borrow(chain: &mut Chain, need: &GtidSet, lenders: &[&History<'_>]) {
    let Some((newest, older)) = lenders.split_first() else { return };
    for (i, file) in newest.files.iter().enumerate() {
        let offered = newest.acknowledged(i).intersection(need);
        if offered.is_subset(&chain.gtids) {
            continue;
        }
        let before = file.summary.previous_gtids.intersection(need);
        if !before.is_subset(&filled(&chain.gtids)) {
            borrow(chain, &before, older);
        }
        if before.is_subset(&filled(&chain.gtids)) {
            take(chain, file, &offered);
        }
    }
    if !need.is_subset(&filled(&chain.gtids)) {
        borrow(chain, need, older);
    }
}

fn take(chain: &mut Chain, file: &ArchivedFile, offered: &GtidSet) {
    let take = offered.difference(&chain.gtids);
    if take.is_empty() {
        return;
    }
    add(&mut chain.gtids, &take);
    // The newest commit of a file that is used in part may be one that is not used.
    if file.summary.gtids.is_subset(&chain.gtids) {
        chain.latest = chain.latest.max(file.summary.last_commit.unwrap_or(chain.latest));
    }
    chain.links.push(Link {
        file: file.id.clone(),
        from: 0,
        to: file.summary.boundary,
        take,
        last_commit: file.summary.last_commit,
    });
}

/// Without GTIDs: from the full's position through the same server's files, each the next number of the one before, all whole.
fn by_position(chain: &mut Chain, full: &FullHead, history: &History<'_>) {
    chain.addressing = Addressing::Position;
    let gap = |before: Option<&ArchivedFile>, reason: String| {
        ChainEnd::Gap(Gap { before: before.map(|f| f.id.clone()), missing: full.gtids.clone(), reason })
    };
    let (Some(position), Some(begin)) = (&full.position, history.position_of(full)) else {
        let reason = "GTIDs are off and the file the full's position names is not in the archive: only the full itself can be restored";
        chain.end = gap(None, reason.to_owned());
        return;
    };
    let mut from = position.offset;
    let mut previous: Option<&ArchivedFile> = None;
    for file in history.files.iter().skip(begin).copied() {
        if let Some(last) = previous
            && !follows(last, file)
        {
            let reason = format!(
                "{} is archived up to byte {} only and {} is not the next",
                last.id.name, last.size, file.id.name
            );
            chain.end = gap(Some(file), reason);
            return;
        }
        if file.summary.boundary > from {
            chain.latest = chain.latest.max(file.summary.last_commit.unwrap_or(chain.latest));
            chain.links.push(Link {
                file: file.id.clone(),
                from,
                to: file.summary.boundary,
                take: GtidSet::empty(full.flavor),
                last_commit: file.summary.last_commit,
            });
        }
        from = 0;
        previous = Some(file);
    }
}

pub(super) fn follows(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    let Some(closed) = &last.closed else { return false };
    match &closed.next_file {
        Some(name) => *name == next.id.name,
        None => number(&next.id.name) == number(&last.id.name) + 1,
    }
}
