//! Files sorted into histories: what one server wrote between two resets of its binlog.
//!
//! Creation stamps tell files of one name apart, but say nothing of their order: clocks jump, and MariaDB lets clients choose them. Order
//! is told by file numbers and by what each file says came before it; only where both are silent by the times.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::logs::{is_reset, logs, number};
use super::steps::Steps;
use super::{OffLineage, writers};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{CommitTime, Flavor, GtidSet};

/// One server's files since its last reset, in order; never empty.
#[derive(Clone, Debug)]
pub(super) struct History<'a> {
    pub(super) files: Vec<&'a ArchivedFile>,
    /// What came before each of them: on MariaDB with the writers that the whole archive tells.
    pub(super) previous: Vec<GtidSet>,
    /// Whether it began with RESET BINARY LOGS (RESET MASTER), after which names and GTIDs are used again.
    after_reset: bool,
    /// The files' indexes by their names, for there may be as many fulls as days; worked out when the first full is looked for.
    pub(super) by_name: OnceCell<Vec<usize>>,
    /// Worked out when the first chain comes by.
    steps: OnceCell<Steps>,
}

/// All histories, the live one first.
#[derive(Clone, Debug)]
pub(super) struct Histories<'a> {
    pub(super) flavor: Flavor,
    pub(super) all: Vec<History<'a>>,
    /// MariaDB: every archived transaction of the histories that count.
    logged: MariadbGtidSet,
}

impl<'a> History<'a> {
    fn new(files: Vec<&'a ArchivedFile>) -> Self {
        let previous = files.iter().map(|file| file.summary.previous_gtids.clone()).collect();
        Self { files, previous, after_reset: false, by_name: OnceCell::new(), steps: OnceCell::new() }
    }

    pub(super) fn server(&self) -> &'a str {
        self.files.first().map_or("", |file| &file.id.server)
    }

    /// No later than its first commit.
    fn begun(&self) -> CommitTime {
        let commits = self.files.iter().filter_map(|file| file.summary.first_commit.or(file.summary.last_commit));
        let created = self.files.first().map_or(CommitTime(0), |file| file.id.created());
        commits.min().map_or(created, |first| first.min(created))
    }

    /// The newest commit, which no client can put into the future; the stamp only where nothing was committed.
    fn ended(&self) -> CommitTime {
        let last_commit = self.files.iter().filter_map(|file| file.summary.last_commit).max();
        last_commit.unwrap_or_else(|| self.files.last().map_or(CommitTime(0), |file| file.id.created()))
    }

    /// What of the `i`-th file's transactions the history itself goes on from: all of the last file, else what the next file says came
    /// before it. Less only where a crash took from the server what had been archived already.
    pub(super) fn acknowledged(&self, i: usize) -> GtidSet {
        match (self.files.get(i), self.previous.get(i + 1)) {
            (Some(file), Some(previous)) => file.summary.gtids.intersection(previous),
            (Some(file), None) => file.summary.gtids.clone(),
            (None, _) => GtidSet::empty(Flavor::Mysql),
        }
    }

    /// What of a full's transactions its server gave out again in this history, so that they are others: what it wrote there and in
    /// `other`, the history that the full was taken in.
    fn given_out_again(&self, other: &Self, full: &FullHead) -> GtidSet {
        let flavor = full.flavor;
        self.written(flavor).intersection(&other.written(flavor)).intersection(&full.gtids)
    }

    /// What of a full's transactions a crash took from this server after the full was taken. It may have given their GTIDs out again.
    fn taken_by_a_crash(&self, full: &FullHead) -> GtidSet {
        let Some(i) = self.position_of(full) else { return GtidSet::empty(full.flavor) };
        let all = self.files.get(i).map_or_else(|| GtidSet::empty(full.flavor), |file| file.summary.gtids.clone());
        all.difference(&self.acknowledged(i)).intersection(&full.gtids)
    }

    /// What is taken from file to file.
    pub(super) fn steps(&self, histories: &Histories<'_>) -> &Steps {
        self.steps.get_or_init(|| Steps::new(histories, self))
    }

    /// As it was before the crash that took what the full has, if there was one.
    pub(super) fn before_the_crash(&self, full: &FullHead) -> Option<Self> {
        let i = self.position_of(full).filter(|_| !self.taken_by_a_crash(full).is_empty())?;
        let (files, previous) = (self.files.get(..=i)?.to_vec(), self.previous.get(..=i)?.to_vec());
        // Nothing that was worked out of all of it holds for its beginning.
        Some(Self { files, previous, after_reset: self.after_reset, by_name: OnceCell::new(), steps: OnceCell::new() })
    }

    /// Everything executed at its end.
    pub(super) fn executed(&self, flavor: Flavor) -> GtidSet {
        let (Some(last), Some(previous)) = (self.files.last(), self.previous.last()) else {
            return GtidSet::empty(flavor);
        };
        let mut all = previous.clone();
        add(&mut all, &last.summary.gtids);
        all
    }

    /// What its own server wrote.
    pub(super) fn written(&self, flavor: Flavor) -> GtidSet {
        let mut all = GtidSet::empty(flavor);
        for file in &self.files {
            add(&mut all, &by_server(&file.summary.gtids, self.server()));
        }
        all
    }

    /// Whether this log of a full's server had got to later files than the full's when it ended, which was before the full.
    fn was_past(&self, full: &FullHead) -> bool {
        let (Some(position), Some(_)) = (&full.position, full.position_created_unix) else { return false };
        let later = self.files.last().is_some_and(|newest| newest.end().number > number(&position.file));
        full.server == self.server() && later && self.ended() < CommitTime::from(full.consistent_at)
    }
}

impl<'a> Histories<'a> {
    pub(super) fn new(flavor: Flavor, files: &'a [ArchivedFile]) -> Self {
        let mut by_server: BTreeMap<&str, Vec<&ArchivedFile>> = BTreeMap::new();
        let fits = |file: &&ArchivedFile| {
            file.summary.previous_gtids.flavor() == flavor && file.summary.gtids.flavor() == flavor
        };
        for file in files.iter().filter(fits) {
            by_server.entry(&file.id.server).or_default().push(file);
        }
        let mut all = Vec::new();
        for (_, files) in by_server {
            let mut logs: Vec<History<'_>> = logs(files).into_iter().map(History::new).collect();
            logs.sort_by_key(|log| (log.ended(), log.begun()));
            for i in 1..logs.len() {
                let before = logs.get(i - 1).and_then(|log| log.files.last().copied());
                if let (Some(before), Some(log)) = (before, logs.get_mut(i)) {
                    log.after_reset = log.files.first().is_some_and(|first| is_reset(before, first));
                }
            }
            all.extend(logs);
        }
        all.sort_by_key(|history| Reverse((!history.executed(flavor).is_empty(), history.ended(), history.begun())));
        let mut histories = Self { flavor, all, logged: MariadbGtidSet::default() };
        if flavor == Flavor::Mariadb {
            writers::resolve(&mut histories);
        }
        let live = histories.choose_live();
        if live < histories.all.len() {
            let live = histories.all.remove(live);
            histories.all.insert(0, live);
        }
        if let Some(live) = histories.live() {
            histories.logged = writers::logged(std::iter::once(live).chain(histories.lenders(live)));
        }
        histories
    }

    /// The live lineage's newest part.
    pub(super) fn live(&self) -> Option<&History<'a>> {
        self.all.first()
    }

    /// The index of the history that went on from the others: which has all of another and more; or which, where the two part, has
    /// another server's transaction while the other has the same server's as before (MariaDB), or knows what the other's server wrote
    /// while that one knows nothing of its own (MySQL). Where GTIDs do not tell, the one that committed last.
    fn choose_live(&self) -> usize {
        let executed: Vec<GtidSet> = self.all.iter().map(|history| history.executed(self.flavor)).collect();
        let written: Vec<GtidSet> = self.all.iter().map(|history| history.written(self.flavor)).collect();
        let none = GtidSet::empty(self.flavor);
        let knows = |a: usize, b: usize| {
            let (executed, written) = (executed.get(a).unwrap_or(&none), written.get(b).unwrap_or(&none));
            !known(executed).intersection(written).is_empty()
        };
        let went_on_from = |a: usize, b: usize| {
            if !self.lender_indexes(b).contains(&a) || !self.lender_indexes(a).contains(&b) {
                return false;
            }
            let (ours, theirs) = (executed.get(a).unwrap_or(&none), executed.get(b).unwrap_or(&none));
            match (theirs.is_subset(ours), ours.is_subset(theirs)) {
                // MariaDB's stamps are the clients': there the one that got further, even if the other wrote nothing.
                (true, is_same) => !is_same && (self.flavor == Flavor::Mariadb || knows(a, b)),
                (false, true) => false,
                (false, false) => match (ours, theirs) {
                    (GtidSet::Mariadb(ours), GtidSet::Mariadb(theirs)) => writers::took_over(ours, theirs),
                    _ => knows(a, b) && !knows(b, a),
                },
            }
        };
        let mut live = 0;
        for _ in 0..self.all.len() {
            match (0..self.all.len()).find(|&other| other != live && went_on_from(other, live)) {
                Some(later) => live = later,
                None => break,
            }
        }
        live
    }

    /// A server's own history that a full was taken in.
    pub(super) fn own(&self, full: &FullHead) -> Option<&History<'a>> {
        if self.began_anew(full) {
            return None;
        }
        let mut of_server = self.all.iter().filter(|h| h.server() == full.server && !self.reset_after(h, full));
        of_server.clone().find(|h| h.position_of(full).is_some()).or_else(|| of_server.next())
    }

    /// Whether a full was taken in a log that is not archived yet, and that began anew: its server's archived files have its names, or later
    /// ones and ended before it, but are others, so that equal GTIDs mean other transactions.
    pub(super) fn began_anew(&self, full: &FullHead) -> bool {
        self.all.iter().all(|h| h.position_of(full).is_none())
            && self.all.iter().any(|h| h.has_other_file_of(full) || h.was_past(full))
    }

    /// Whether a full was taken before `history` began with a reset, so that equal GTIDs mean other transactions.
    pub(super) fn reset_after(&self, history: &History<'a>, full: &FullHead) -> bool {
        if !history.after_reset || history.position_of(full).is_some() {
            return false;
        }
        let taken = CommitTime::from(full.consistent_at);
        let before = self.all.iter().filter(|h| h.server() == history.server() && h.ended() <= history.ended());
        let mut others = before.filter(|h| !std::ptr::eq(*h, history));
        taken < history.begun() || others.any(|h| h.position_of(full).is_some() || taken <= h.ended())
    }

    /// The histories that may lend what is missing before `of`, newest first; none from before the reset that `of` began with, and
    /// none that ended with a reset of its own.
    pub(super) fn lenders<'b>(&'b self, of: &'b History<'a>) -> impl Iterator<Item = &'b History<'a>> {
        let index = self.all.iter().position(|h| std::ptr::eq(h, of));
        let indexes = index.map(|index| self.lender_indexes(index)).unwrap_or_default();
        indexes.into_iter().filter_map(|i| self.all.get(i))
    }

    pub(super) fn lender_indexes(&self, index: usize) -> Vec<usize> {
        let Some(of) = self.all.get(index) else { return Vec::new() };
        let ended_by_reset = |h: &History<'_>| {
            let mut later = self.all.iter().filter(|l| l.server() == h.server() && l.after_reset);
            later.any(|l| !std::ptr::eq(l, h) && (l.ended(), l.begun()) >= (h.ended(), h.begun()))
        };
        let lends = |(i, h): &(usize, &History<'_>)| {
            let forgotten = of.after_reset && (h.server() == of.server() || h.ended() < of.begun());
            *i != index && !ended_by_reset(h) && !forgotten
        };
        self.all.iter().enumerate().filter(lends).map(|(i, _)| i).collect()
    }

    /// What of `previous` a server that has executed `covered` lacks. On MariaDB numbers below its position that no archived transaction
    /// has are no holes: nobody used them.
    pub(super) fn missing(&self, previous: &GtidSet, covered: &GtidSet) -> GtidSet {
        match (previous, covered) {
            (GtidSet::Mariadb(previous), GtidSet::Mariadb(covered)) => {
                let mut missing = previous.difference(&covered.filled());
                missing.extend(&previous.known().intersection(&self.logged).difference(covered));
                GtidSet::Mariadb(missing)
            }
            _ => previous.difference(covered),
        }
    }

    /// What of `set` (a full's, a replica's) the live lineage does not have.
    pub(super) fn beyond(&self, set: &GtidSet, live: &History<'a>) -> GtidSet {
        set.difference(&filled(&live.executed(self.flavor)))
    }

    /// What of a full's transactions its server gave out again after it was put back to an earlier state: equal GTIDs of the live history
    /// mean others.
    pub(super) fn given_out_again(&self, full: &FullHead, live: &History<'a>) -> GtidSet {
        let mut again = GtidSet::empty(self.flavor);
        for history in self.all.iter().filter(|history| history.server() == full.server) {
            add(&mut again, &history.taken_by_a_crash(full));
        }
        if live.position_of(full).is_none() {
            for other in
                self.lenders(live).filter(|other| other.server() == full.server && live.server() == full.server)
            {
                add(&mut again, &live.given_out_again(other, full));
            }
        }
        again
    }

    /// Which of `set` are other transactions than the live lineage's of the same number, or cannot be told from such: two servers wrote
    /// that number or a lower one, and the archive does not tell whose the live lineage has.
    pub(super) fn contradicted(&self, set: &MariadbGtidSet) -> MariadbGtidSet {
        let executed = self.live().map(|live| writers::of(&live.executed(self.flavor))).unwrap_or_default();
        let mut found = MariadbGtidSet::default();
        for gtid in set.domains().filter_map(|domain| set.last(domain)) {
            let unknown = executed.unknown(gtid.domain);
            let another = executed.contains_number(gtid.domain, gtid.seq) && !executed.contains(&gtid);
            let contested = writers::contested(&self.logged, gtid.domain).intersection(&unknown);
            let unclear =
                unknown.contains(gtid.seq) && contested.ranges().next().is_some_and(|(first, _)| first <= gtid.seq);
            if another || unclear {
                found.insert(&gtid);
            }
        }
        found
    }

    /// Whether the live lineage has what the full lacks, or went on after the moment it shows.
    fn went_on_without(&self, live: &History<'a>, full: &FullHead) -> bool {
        let taken = CommitTime::from(full.consistent_at);
        let more = live.executed(self.flavor).difference(&filled(&full.gtids));
        !more.is_empty() || live.ended() > taken || live.files.last().is_some_and(|file| file.id.created() > taken)
    }

    /// Why the live lineage lacks `beyond` of a full.
    pub(super) fn cause(&self, full: &FullHead, live: &History<'a>, lost: &GtidSet) -> OffLineage {
        if self.began_anew(full) {
            OffLineage::Ahead
        } else if self.reset_after(live, full) {
            OffLineage::Reset
        } else if !lost.is_empty() || self.went_on_without(live, full) {
            OffLineage::Fork
        } else {
            OffLineage::Ahead
        }
    }
}

/// One server's files: its logs, the one that committed last first.
pub(super) fn newest_first(files: Vec<&ArchivedFile>) -> Vec<&ArchivedFile> {
    by_age(files).into_iter().rev().flat_map(|log| log.into_iter().rev()).collect()
}

/// One server's logs, the one that committed last last.
pub(super) fn by_age(files: Vec<&ArchivedFile>) -> Vec<Vec<&ArchivedFile>> {
    let mut logs: Vec<History<'_>> = logs(files).into_iter().map(History::new).collect();
    logs.sort_by_key(|log| (log.ended(), log.begun()));
    logs.into_iter().map(|log| log.files).collect()
}

/// Unions sets of the one flavor that [`Histories::new`] let in.
pub(super) fn add(to: &mut GtidSet, more: &GtidSet) {
    let same_flavor = to.extend(more).is_ok();
    debug_assert!(same_flavor);
}

/// What a server that has executed `set` counts as executed: on MariaDB a position, in which numbers that no transaction ever
/// had are no holes.
pub(super) fn filled(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mysql(_) => set.clone(),
        GtidSet::Mariadb(set) => GtidSet::Mariadb(set.filled()),
    }
}

/// Those whose writers are known.
pub(super) fn known(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mysql(_) => set.clone(),
        GtidSet::Mariadb(set) => GtidSet::Mariadb(set.known()),
    }
}

/// What of `set` the server that is archived as `server` wrote.
pub(super) fn by_server(set: &GtidSet, server: &str) -> GtidSet {
    match set {
        GtidSet::Mysql(set) => GtidSet::Mysql(set.of_sources(|uuid| uuid.to_string() == server)),
        GtidSet::Mariadb(set) => {
            let mut own = MariadbGtidSet::default();
            for (domain, writer, numbers) in set.writers().filter(|(_, by, _)| format!("mariadb-{by}") == server) {
                numbers.ranges().for_each(|(first, last)| own.insert_range(domain, writer, first, last));
            }
            GtidSet::Mariadb(own)
        }
    }
}
