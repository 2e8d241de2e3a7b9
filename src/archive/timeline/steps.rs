//! What a chain takes from file to file of a history, worked out once for all chains that come by.
//!
//! Who has executed all that came before a file, and nothing else that is archived, goes on from there as everybody does who has. So a chain is worked
//! out by itself only until it has come to such a place, and from a place where what a file goes on from is not what came before it
//! (something was borrowed, or is missing) to the next.

use std::sync::Arc;

use super::chain::{borrow, empty, take};
use super::history::{Histories, History, add};
use super::{Chain, Link, writers};
use crate::model::gtid::IntervalSet;
use crate::model::{CommitTime, GtidSet};

/// The steps of a history, one a file.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    /// What is taken, file by file.
    links: Arc<Vec<Link>>,
    /// By file: how many links come before it; at the end how many there are.
    starts: Vec<usize>,
    /// By file: the first one from there on whose step leads elsewhere than to what came before the next one.
    ends: Vec<usize>,
    /// By link: the newest commit that it brings.
    newest: Vec<Option<CommitTime>>,
    /// Everything that is archived of this history and of its lenders.
    archived: GtidSet,
    /// MariaDB: numbers that two servers wrote, by domain.
    contested: Vec<(u32, IntervalSet)>,
}

impl Steps {
    pub(super) fn new(histories: &Histories<'_>, history: &History<'_>) -> Self {
        let lenders: Vec<&History<'_>> = histories.lenders(history).collect();
        let mut archived = history.executed(histories.flavor);
        for file in std::iter::once(history).chain(lenders.iter().copied()).flat_map(|history| &history.files) {
            add(&mut archived, &file.summary.gtids);
        }
        let count = history.files.len();
        let (mut links, mut newest) = (Vec::new(), Vec::new());
        let (mut starts, mut whole) = (Vec::with_capacity(count + 1), Vec::with_capacity(count));
        for (i, (file, previous)) in history.files.iter().zip(&history.previous).enumerate() {
            let mut step = empty(String::new(), previous, CommitTime(i64::MIN));
            take(&mut step, file, &history.acknowledged(i));
            let leads_on = history.previous.get(i + 1).is_none_or(|next| {
                if !histories.missing(next, &step.gtids).is_empty() {
                    borrow(&mut step, next, histories, &lenders);
                }
                histories.missing(next, &step.gtids).is_empty() && step.gtids == *next
            });
            starts.push(links.len());
            whole.push(leads_on);
            if leads_on {
                let latest = Some(step.latest).filter(|latest| *latest > CommitTime(i64::MIN));
                newest.extend(step.links.iter().map(|_| latest));
                links.extend(step.links.iter().cloned());
            }
        }
        starts.push(links.len());
        let mut ends = vec![count; count];
        for i in (0..count).rev() {
            let next = ends.get(i + 1).copied().unwrap_or(count);
            ends[i] = if whole[i] { next } else { i };
        }
        let logged = writers::of(&archived);
        let contested = logged.domains().map(|domain| (domain, writers::contested(&logged, domain)));
        let contested = contested.filter(|(_, numbers)| !numbers.is_empty()).collect();
        Self { links: Arc::new(links), starts, ends, newest, archived, contested }
    }

    /// The first file from `from` on that may have something for who has executed `gtids`: all files before it were executed, and so was what came
    /// before it.
    pub(super) fn skip(&self, histories: &Histories<'_>, history: &History<'_>, from: usize, gtids: &GtidSet) -> usize {
        let has = |previous: &GtidSet| previous.is_subset(gtids) && histories.missing(previous, gtids).is_empty();
        // Within steps that lead on, what came before grows from file to file.
        let end = self.ends.get(from).map_or(from, |end| end + 1);
        let executed =
            history.previous.get(from..end.min(history.previous.len())).unwrap_or_default().partition_point(has);
        from + executed.saturating_sub(1)
    }

    /// Whether a set has numbers of unknown writers that two servers wrote: it may stand for either's.
    fn is_unclear(&self, set: &GtidSet) -> bool {
        let GtidSet::Mariadb(set) = set else { return false };
        self.contested.iter().any(|(domain, numbers)| !set.unknown(*domain).intersection(numbers).is_empty())
    }

    /// Takes a chain forward from file `from` by shared steps: as far as they lead on, to the file that is returned. None: the chain is elsewhere.
    pub(super) fn join(&self, history: &History<'_>, from: usize, chain: &mut Chain) -> Option<usize> {
        let end = *self.ends.get(from).filter(|end| **end > from)?;
        let previous = history.previous.get(from)?;
        if self.is_unclear(previous) || self.is_unclear(&chain.gtids) {
            return None;
        }
        if !previous.is_subset(&chain.gtids)
            || !chain.gtids.difference(previous).intersection(&self.archived).is_empty()
        {
            return None;
        }
        let (first, last) = (*self.starts.get(from)?, *self.starts.get(end)?);
        let reached = match history.previous.get(end) {
            Some(previous) => previous.clone(),
            None => history.executed(chain.gtids.flavor()),
        };
        add(&mut chain.gtids, &reached.difference(previous));
        chain.latest = self.newest.get(first..last)?.iter().flatten().copied().fold(chain.latest, CommitTime::max);
        chain.links.share(&self.links, first, last);
        Some(end)
    }
}
