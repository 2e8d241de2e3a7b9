//! How far one full can be taken forward.

use super::history::{Histories, History, add, known};
use super::steps::Steps;
use super::{Addressing, Chain, ChainEnd, Fork, Gap, Link, Links, OffLineage};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::{CommitTime, GtidSet};

pub(super) fn build(full: &FullHead, histories: &Histories<'_>, forks: &[Fork]) -> Chain {
    let mut chain = empty(full.id.clone(), &full.gtids, CommitTime::from(full.consistent_at));
    let Some(live) = histories.live() else { return chain };
    let mut beyond = histories.beyond(&full.gtids, live);
    let mut lost = lost(&full.gtids, &beyond, histories, forks);
    add(&mut lost, &histories.given_out_again(full, live));
    add(&mut beyond, &lost);
    let reset = histories.reset_after(live, full);
    // A server cannot fork from itself: what it has beyond its archived files is only not archived yet.
    let ahead_of_itself = full.server == live.server() && lost.is_empty() && !live.has_other_file_of(full);
    let on_live = !reset && !histories.began_anew(full) && (beyond.is_empty() || ahead_of_itself);
    let cut;
    let (history, end) = match (on_live, histories.own(full)) {
        (true, _) => (live, ChainEnd::Newest),
        (false, own) => {
            let end = ChainEnd::OffLineage { beyond, cause: histories.cause(full, live, &lost) };
            let Some(own) = own else {
                chain.end = end;
                return chain;
            };
            cut = own.before_the_crash(full);
            (cut.as_ref().unwrap_or(own), end)
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
    let beyond = lost(have, &histories.beyond(have, live), histories, forks);
    if !beyond.is_empty() {
        chain.end = ChainEnd::OffLineage { beyond, cause: OffLineage::Fork };
        return chain;
    }
    by_gtid(&mut chain, histories, live);
    chain
}

pub(super) fn empty(full: String, gtids: &GtidSet, first: CommitTime) -> Chain {
    Chain {
        full,
        addressing: Addressing::Gtid,
        first,
        latest: first,
        base_gtids: gtids.clone(),
        gtids: gtids.clone(),
        links: Links::default(),
        end: ChainEnd::Newest,
    }
}

/// What of `set` the live lineage went on without; `beyond` is what of it the live lineage lacks. On MariaDB also what has the number of
/// another transaction of the live lineage, or of one that cannot be known: two servers wrote that number or a lower one, and the
/// archive does not tell whose the live lineage has.
fn lost(set: &GtidSet, beyond: &GtidSet, histories: &Histories<'_>, forks: &[Fork]) -> GtidSet {
    let mut lost = GtidSet::empty(set.flavor());
    for fork in forks {
        add(&mut lost, &beyond.intersection(&fork.gtids));
    }
    if let GtidSet::Mariadb(set) = set {
        add(&mut lost, &GtidSet::Mariadb(histories.contradicted(set)));
    }
    lost
}

/// Whether transactions without a GTID follow the full (on MySQL with GTIDs off).
fn has_anonymous(history: &History<'_>, full: &FullHead) -> bool {
    let from = history.position_of(full).unwrap_or(0);
    history.files.iter().skip(from).any(|file| file.summary.transactions > file.summary.gtids.count())
}

fn by_gtid(chain: &mut Chain, histories: &Histories<'_>, history: &History<'_>) {
    #[cfg(test)]
    let mut by_itself = chain.clone();
    walk(chain, histories, history, Some(history.steps(histories)));
    // In every test: shared steps lead where a chain gets by itself.
    #[cfg(test)]
    {
        walk(&mut by_itself, histories, history, None);
        assert_eq!(*chain, by_itself);
    }
}

fn walk(chain: &mut Chain, histories: &Histories<'_>, history: &History<'_>, steps: Option<&Steps>) {
    let lenders: Vec<&History<'_>> = histories.lenders(history).collect();
    let mut i = 0;
    loop {
        if let Some(steps) = steps {
            i = steps.skip(histories, history, i, &chain.gtids);
            if let Some(end) = steps.join(history, i, chain) {
                i = end;
                continue;
            }
        }
        let (Some(file), Some(previous)) = (history.files.get(i), history.previous.get(i)) else { return };
        if !histories.missing(previous, &chain.gtids).is_empty() {
            borrow(chain, previous, histories, &lenders);
        }
        let missing = histories.missing(previous, &chain.gtids);
        if !missing.is_empty() {
            let reason = format!("{missing} came before {} and is not in the archive", file.id.name);
            chain.end = ChainEnd::Gap(Gap { before: Some(file.id.clone()), missing, reason });
            return;
        }
        take(chain, file, &history.acknowledged(i));
        i += 1;
    }
}

/// Takes what is needed from other histories' files. A lender's file is used after what it needs itself, and only for what is needed:
/// beyond that it may have gone another way.
pub(super) fn borrow(chain: &mut Chain, need: &GtidSet, histories: &Histories<'_>, lenders: &[&History<'_>]) {
    // Of a number whose writer is not known nobody can say that a lender's transaction is the one.
    let wanted = known(need);
    loop {
        let links = chain.links.len();
        for lender in lenders {
            for (i, (file, previous)) in lender.files.iter().zip(&lender.previous).enumerate() {
                let offered = lender.acknowledged(i).intersection(&wanted);
                let ready = || histories.missing(&previous.intersection(need), &chain.gtids).is_empty();
                if !offered.is_subset(&chain.gtids) && ready() {
                    take(chain, file, &offered);
                }
            }
        }
        if chain.links.len() == links || histories.missing(need, &chain.gtids).is_empty() {
            return;
        }
    }
}

pub(super) fn take(chain: &mut Chain, file: &ArchivedFile, offered: &GtidSet) {
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
        None => next.id.number() == last.end().number.saturating_add(1),
    }
}
