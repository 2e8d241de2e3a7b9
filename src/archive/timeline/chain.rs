//! How far one full can be taken forward.

use super::history::{Histories, History, add, number};
use super::{Addressing, Chain, ChainEnd, Gap, Link};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::{CommitTime, GtidSet};

pub(super) fn build(full: &FullHead, histories: &Histories<'_>) -> Chain {
    let first = CommitTime::from(full.consistent_at);
    let mut chain = Chain {
        full: full.id.clone(),
        addressing: Addressing::Gtid,
        first,
        latest: first,
        base_gtids: full.gtids.clone(),
        gtids: full.gtids.clone(),
        links: Vec::new(),
        end: ChainEnd::Newest,
    };
    let Some(live) = histories.live() else { return chain };
    let executed = live.executed(histories.flavor);
    let beyond = full.gtids.difference(&executed);
    // A server cannot fork from itself: what it has beyond its archived files is only not archived yet.
    let same_server = full.server == live.server();
    let on_live = !live.reset_after(full) && (beyond.is_empty() || same_server);
    let (history, end) = match (on_live, histories.own(full)) {
        (true, _) => (live, ChainEnd::Newest),
        (false, Some(own)) => (own, ChainEnd::OffLineage { beyond }),
        (false, None) => {
            chain.end = ChainEnd::OffLineage { beyond };
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

/// Whether transactions without a GTID follow the full (on MySQL with GTIDs off).
fn has_anonymous(history: &History<'_>, full: &FullHead) -> bool {
    let from = history.position_of(full).unwrap_or(0);
    history.files.iter().skip(from).any(|file| file.summary.transactions > file.summary.gtids.count())
}

fn by_gtid(chain: &mut Chain, histories: &Histories<'_>, history: &History<'_>) {
    let lenders: Vec<&History<'_>> = histories.lenders(history).collect();
    for (i, file) in history.files.iter().enumerate() {
        let previous = &file.summary.previous_gtids;
        if !previous.is_subset(&chain.gtids) {
            borrow(chain, previous, &lenders);
        }
        let missing = previous.difference(&chain.gtids);
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
        if !before.is_subset(&chain.gtids) {
            borrow(chain, &before, older);
        }
        if before.is_subset(&chain.gtids) {
            take(chain, file, &offered);
        }
    }
    if !need.is_subset(&chain.gtids) {
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

fn follows(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    let Some(closed) = &last.closed else { return false };
    match &closed.next_file {
        Some(name) => *name == next.id.name,
        None => number(&next.id.name) == number(&last.id.name) + 1,
    }
}
