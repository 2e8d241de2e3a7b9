//! Files sorted into histories: what one server wrote between two resets of its binlog.

use std::collections::BTreeMap;

use super::Fork;
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::gtid::{MariadbGtid, MariadbGtidSet};
use crate::model::{CommitTime, Flavor, GtidSet};

/// One server's files since its last reset, in order; never empty.
#[derive(Clone, Debug)]
pub(super) struct History<'a> {
    pub(super) files: Vec<&'a ArchivedFile>,
    /// Whether it began with RESET BINARY LOGS (RESET MASTER), after which names and GTIDs are used again.
    after_reset: bool,
}

/// All histories, the one with the newest file first.
#[derive(Clone, Debug)]
pub(super) struct Histories<'a> {
    pub(super) flavor: Flavor,
    all: Vec<History<'a>>,
}

impl<'a> History<'a> {
    pub(super) fn server(&self) -> &'a str {
        self.files.first().map_or("", |file| &file.id.server)
    }

    fn begun(&self) -> u32 {
        self.files.first().map_or(0, |file| file.id.created_unix)
    }

    fn age_key(&self) -> (u32, Option<CommitTime>) {
        self.files.last().map_or((0, None), |file| (file.id.created_unix, file.summary.last_commit))
    }

    /// What of the `i`-th file's transactions the history itself goes on from: all of the last file, else what the next file says came
    /// before it. Less only where a crash took from the server what had been archived already.
    pub(super) fn acknowledged(&self, i: usize) -> GtidSet {
        match (self.files.get(i), self.files.get(i + 1)) {
            (Some(file), Some(next)) => file.summary.gtids.intersection(&next.summary.previous_gtids),
            (Some(file), None) => file.summary.gtids.clone(),
            (None, _) => GtidSet::empty(Flavor::Mysql),
        }
    }

    /// Everything executed at its end.
    pub(super) fn executed(&self, flavor: Flavor) -> GtidSet {
        let Some(last) = self.files.last() else { return GtidSet::empty(flavor) };
        let mut all = last.summary.previous_gtids.clone();
        add(&mut all, &last.summary.gtids);
        all
    }

    /// Whether it went on after the moment a full shows.
    pub(super) fn is_past(&self, full: &FullHead) -> bool {
        let begun = |file: &&ArchivedFile| i64::from(file.id.created_unix) > full.consistent_at.as_second();
        let last_commit = self.files.iter().filter_map(|file| file.summary.last_commit).max();
        self.files.last().is_some_and(begun) || last_commit > Some(CommitTime::from(full.consistent_at))
    }

    /// The index of the file a full's position is in.
    pub(super) fn position_of(&self, full: &FullHead) -> Option<usize> {
        let position = full.position.as_ref()?;
        (full.server == self.server()).then_some(())?;
        self.files.iter().rposition(|file| {
            file.id.name == position.file
                && match full.position_created_unix {
                    Some(created) => file.id.created_unix == created,
                    None => i64::from(file.id.created_unix) <= full.consistent_at.as_second(),
                }
        })
    }

    /// Whether a full was taken before this history began, so that equal GTIDs mean other transactions.
    pub(super) fn reset_after(&self, full: &FullHead) -> bool {
        self.after_reset && self.position_of(full).is_none() && full.consistent_at.as_second() < i64::from(self.begun())
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
        for (_, mut files) in by_server {
            files.sort_by(|a, b| order(&a.id).cmp(&order(&b.id)));
            let mut history = History { files: Vec::new(), after_reset: false };
            for file in files {
                let reset = history.files.last().is_some_and(|last| is_reset(last, file));
                if reset {
                    all.push(std::mem::replace(&mut history, History { files: Vec::new(), after_reset: true }));
                }
                history.files.push(file);
            }
            all.push(history);
        }
        all.sort_by_key(|history| std::cmp::Reverse(history.age_key()));
        Self { flavor, all }
    }

    /// The live lineage's newest part.
    pub(super) fn live(&self) -> Option<&History<'a>> {
        self.all.first()
    }

    /// Of the other servers the one whose files begin right after this history's newest.
    fn successor(&self, of: &History<'a>) -> Option<&History<'a>> {
        let later = self.all.iter().filter(|h| h.server() != of.server() && h.begun() >= of.age_key().0);
        later.min_by_key(|h| h.begun())
    }

    /// A server's own history that a full was taken in.
    pub(super) fn own(&self, full: &FullHead) -> Option<&History<'a>> {
        let mut of_server = self.all.iter().filter(|h| h.server() == full.server && !h.reset_after(full));
        of_server.clone().find(|h| h.position_of(full).is_some()).or_else(|| of_server.next())
    }

    /// The histories that may lend what is missing before `of`: of other servers (or of its own where files lie out of order), newest first;
    /// none from before the reset that `of` began with, and none that ended with a reset of its own.
    pub(super) fn lenders<'b>(&'b self, of: &'b History<'a>) -> impl Iterator<Item = &'b History<'a>> {
        let ended_by_reset = |h: &History| {
            self.all.iter().any(|later| later.server() == h.server() && later.after_reset && later.begun() > h.begun())
        };
        self.all.iter().filter(move |h| {
            h.server() != of.server() && !ended_by_reset(h) && !(of.after_reset && h.age_key().0 < of.begun())
        })
    }
}

/// A file that knows less of what came before than the file before it knew: the server forgot, so it was reset.
fn is_reset(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    if !last.summary.previous_gtids.is_subset(&next.summary.previous_gtids) {
        return true;
    }
    // Both began with nothing: either nothing was committed in between, or it was forgotten. Without GTIDs only the number tells.
    let both_began_empty = next.summary.previous_gtids.is_empty() && last.summary.transactions > 0;
    both_began_empty && (!last.summary.gtids.is_empty() || number(&next.id.name) <= number(&last.id.name))
}

pub(super) fn order(id: &FileId) -> (u32, u64, &str) {
    (id.created_unix, number(&id.name), &id.name)
}

/// The number a file's name ends with.
pub(super) fn number(name: &str) -> u64 {
    name.rsplit_once('.').and_then(|(_, digits)| digits.parse().ok()).unwrap_or(0)
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

/// Transactions that the live lineage does not have.
pub(super) fn forks(histories: &Histories<'_>) -> Vec<Fork> {
    let Some(live) = histories.live() else { return Vec::new() };
    let executed = live.executed(histories.flavor);
    let mut forks = Vec::new();
    for history in std::iter::once(live).chain(histories.lenders(live)) {
        let mut fork =
            Fork { server: history.server().to_owned(), files: Vec::new(), gtids: GtidSet::empty(histories.flavor) };
        for (i, file) in history.files.iter().enumerate() {
            let mut lost = file.summary.gtids.difference(&history.acknowledged(i));
            if history.server() != live.server() {
                add(&mut lost, &file.summary.gtids.difference(&executed));
                if let Some(successor) = histories.successor(history) {
                    add(&mut lost, &overwritten(history, file, successor));
                }
            }
            if !lost.is_empty() {
                fork.files.push(file.id.clone());
                add(&mut fork.gtids, &lost);
            }
        }
        if !fork.files.is_empty() {
            forks.push(fork);
        }
    }
    forks
}

/// On MariaDB a new primary goes on counting where it had got to, so that a dead one's last transactions and the new one's first have
/// the same numbers in the same domain. They are a fork if each wrote its own: the dead server wrote its highest, which is
/// above what the new one started from, and the new one's highest is not the dead one's.
fn overwritten(dead: &History<'_>, file: &ArchivedFile, successor: &History<'_>) -> GtidSet {
    let none = GtidSet::empty(Flavor::Mariadb);
    let (GtidSet::Mariadb(theirs), Some(first)) = (&file.summary.gtids, successor.files.first()) else {
        return GtidSet::empty(file.summary.gtids.flavor());
    };
    let GtidSet::Mariadb(start) = &first.summary.previous_gtids else { return none };
    let GtidSet::Mariadb(now) = successor.executed(Flavor::Mariadb) else { return none };
    let mut suspects = MariadbGtidSet::default();
    for (domain, writer, numbers) in theirs.domains() {
        let own = format!("mariadb-{writer}") == dead.server();
        if let (true, Some(seq)) = (own && now.last(domain).is_some_and(|gtid| gtid.server != writer), numbers.last()) {
            suspects.insert_prefix(&MariadbGtid { domain, server: writer, seq });
        }
    }
    GtidSet::Mariadb(theirs.difference(start).intersection(&suspects))
}
