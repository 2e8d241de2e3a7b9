//! MariaDB: which transactions came before a file. The head of a file names the last transaction of each server at most, and of the
//! other servers nothing where `log_slave_updates` is off; the archive's other files tell the rest.
//!
//! In one domain a log is a line: whoever has a transaction has all that came before it there. So a log that holds the transaction
//! right before the first unknown one (its *anchor*) knows what is unknown.

use super::history::{Histories, History};
use crate::archive::catalog::ArchivedFile;
use crate::model::gtid::{IntervalSet, MariadbGtid, MariadbGtidSet};
use crate::model::{Flavor, GtidSet};

/// The MariaDB set in a set of an archive of that flavor.
pub(super) fn of(set: &GtidSet) -> MariadbGtidSet {
    match set {
        GtidSet::Mariadb(set) => set.clone(),
        GtidSet::Mysql(_) => MariadbGtidSet::default(),
    }
}

/// What came before `file`, by its own words: its head, and in a domain that the head does not name everything below its first
/// transaction (a server without `log_slave_updates` says nothing of what it replicated).
pub(super) fn stated(file: &ArchivedFile) -> MariadbGtidSet {
    let (head, own) = (of(&file.summary.previous_gtids), of(&file.summary.gtids));
    let mut all = head.clone();
    for domain in own.domains().filter(|&domain| head.numbers(domain).is_empty()) {
        let first = own.numbers(domain).ranges().next().map_or(1, |(first, _)| first);
        all.insert_unknown(domain, 1, first.saturating_sub(1));
    }
    all
}

/// Whether `next` goes on with the log of `last`, which has a lower number: it knows what `last` ended with, or ends within it (a crash
/// took the rest).
pub(super) fn goes_on(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    let (head, last) = (of(&next.summary.previous_gtids), last.end());
    let executed = of(last.previous_gtids).union(&of(last.gtids));
    let (known, at) = (head.known(), executed.known());
    let goes_on = executed.domains().all(|domain| {
        let ended_with = executed.last(domain).is_some_and(|gtid| known.contains(&gtid));
        ended_with || head.last(domain).is_some_and(|gtid| at.contains(&gtid))
    });
    goes_on && of(last.previous_gtids).is_subset(&head)
}

/// Whether, where two histories part, `ours` goes on with another server's transactions than before while `theirs` goes on with the same
/// server's: then that one was given up.
pub(super) fn took_over(ours: &MariadbGtidSet, theirs: &MariadbGtidSet) -> bool {
    let both = ours.known().intersection(&theirs.known());
    let turned = |all: &MariadbGtidSet, domain: u32| {
        let rest = all.known().difference(&both);
        let first = rest.numbers(domain).ranges().next().map(|(first, _)| first)?;
        let mut below = MariadbGtidSet::default();
        below.insert_unknown(domain, 1, first.saturating_sub(1));
        let before = both.intersection(&below).last(domain)?;
        // Unless something came in between that nobody knows the writer of.
        let known = all.unknown(domain).ranges().all(|(from, to)| to < before.seq || from > first);
        known.then(|| !rest.contains(&MariadbGtid { seq: first, ..before }))
    };
    let mut parted = ours.domains().filter_map(|d| turned(ours, d).zip(turned(theirs, d))).peekable();
    parted.peek().is_some() && parted.all(|turned| turned == (true, false))
}

/// Numbers that two servers wrote, by domain.
pub(super) fn contested(logged: &MariadbGtidSet, domain: u32) -> IntervalSet {
    let (mut seen, mut twice) = (IntervalSet::default(), IntervalSet::default());
    for (_, _, numbers) in logged.writers().filter(|(of, ..)| *of == domain) {
        twice.extend(&seen.intersection(numbers));
        seen.extend(numbers);
    }
    twice
}

/// Everything in the files of `histories`.
pub(super) fn logged<'b, 'a: 'b>(histories: impl Iterator<Item = &'b History<'a>>) -> MariadbGtidSet {
    let mut all = MariadbGtidSet::default();
    for file in histories.flat_map(|history| &history.files) {
        all.extend(&of(&file.summary.gtids));
    }
    all
}

/// What came before each file of each history, with the writers that the archive tells.
pub(super) fn resolve(histories: &mut Histories<'_>) {
    let count = histories.all.len();
    let lenders: Vec<Vec<usize>> = (0..count).map(|i| histories.lender_indexes(i)).collect();
    // Each pass learns from what the one before learned; a log is told by at most all the others.
    for _ in 0..=count {
        let mut news = false;
        for i in 0..count {
            let previous = before_each(histories, i, lenders.get(i).map(Vec::as_slice).unwrap_or_default());
            if let Some(history) = histories.all.get_mut(i)
                && history.previous != previous
            {
                history.previous = previous;
                news = true;
            }
        }
        if !news {
            return;
        }
    }
}

fn before_each(histories: &Histories<'_>, index: usize, lenders: &[usize]) -> Vec<GtidSet> {
    let Some(history) = histories.all.get(index) else { return Vec::new() };
    let lenders: Vec<&History<'_>> = lenders.iter().filter_map(|&i| histories.all.get(i)).collect();
    let all = logged(lenders.iter().copied());
    let mut previous = Vec::with_capacity(history.files.len());
    let mut carried = MariadbGtidSet::default();
    for file in &history.files {
        let (head, own) = (of(&file.summary.previous_gtids), of(&file.summary.gtids));
        // What the log itself held is surer than what a head lets us infer; the head says how much of it a crash has left.
        let said = stated(file);
        let mut before = up_to_lasts(&carried, &said);
        before.extend(&without_numbers(&said, &before));
        let theirs = possible(&all, &head);
        skipped(&mut before, &own, &all);
        // What is learned is the anchor of what lies below it.
        loop {
            let known = before.known();
            learn(&mut before, &own, &head, &lenders, &theirs);
            if before.known() == known {
                break;
            }
        }
        carried = before.union(&own);
        previous.push(GtidSet::Mariadb(before));
    }
    previous
}

/// The part of `set` that is not above `of`, domain by domain.
fn up_to_lasts(set: &MariadbGtidSet, of: &MariadbGtidSet) -> MariadbGtidSet {
    let mut window = MariadbGtidSet::default();
    for domain in of.domains() {
        window.insert_unknown(domain, 1, of.numbers(domain).last().unwrap_or(0));
    }
    set.intersection(&window)
}

/// `set` without the numbers of `of`, whoever wrote them.
fn without_numbers(set: &MariadbGtidSet, of: &MariadbGtidSet) -> MariadbGtidSet {
    let mut window = MariadbGtidSet::default();
    for domain in of.domains() {
        of.numbers(domain).ranges().for_each(|(first, last)| window.insert_unknown(domain, first, last));
    }
    set.difference(&window)
}

/// What of `logged` may have come before a file with this head: of a server that it names nothing above its last one.
fn possible(logged: &MariadbGtidSet, head: &MariadbGtidSet) -> MariadbGtidSet {
    let mut excluded = MariadbGtidSet::default();
    for (domain, server, numbers) in head.writers() {
        excluded.insert_range(domain, server, numbers.last().unwrap_or(0).saturating_add(1), u64::MAX);
    }
    logged.difference(&excluded)
}

/// Numbers that a server skipped are no transactions. But where others wrote some of them, it went on after those (it replicated them
/// without logging them). That its head names an earlier one of theirs tells nothing: it may have logged what it replicates until then.
fn skipped(before: &mut MariadbGtidSet, own: &MariadbGtidSet, theirs: &MariadbGtidSet) {
    for domain in own.domains() {
        let mut last = before.numbers(domain).last().unwrap_or(0);
        for (first, end) in own.numbers(domain).ranges() {
            let mut hole = IntervalSet::default();
            hole.insert_range(last.saturating_add(1), first.saturating_sub(1));
            if !theirs.numbers(domain).intersection(&hole).is_empty() {
                before.insert_unknown(domain, last.saturating_add(1), first.saturating_sub(1));
            }
            last = last.max(end);
        }
    }
}

/// Fills in writers from other logs.
fn learn(
    before: &mut MariadbGtidSet,
    own: &MariadbGtidSet,
    head: &MariadbGtidSet,
    lenders: &[&History<'_>],
    theirs: &MariadbGtidSet,
) {
    let has = |log: &History<'_>, gtid: &MariadbGtid| logged(std::iter::once(log)).contains(gtid);
    for domain in before.domains().collect::<Vec<_>>() {
        let unknown: Vec<(u64, u64)> = before.unknown(domain).ranges().collect();
        for (first, last) in unknown.into_iter().rev() {
            let knowing = |anchors: Vec<MariadbGtid>| {
                let knows = move |log: &&&History<'_>| anchors.iter().any(|gtid| has(log, gtid));
                lenders.iter().filter(knows).collect::<Vec<_>>()
            };
            let adopt_from = |before: &mut MariadbGtidSet, told_by: Vec<&&History<'_>>| {
                for log in &told_by {
                    let known = possible(&of(&log.executed(Flavor::Mariadb)).known(), head);
                    adopt(before, &known, domain, first, last);
                }
                !told_by.is_empty()
            };
            // The transaction right above; or the last of these, if only one server wrote that number.
            let is_top = !before.numbers(domain).contains(last.saturating_add(1));
            let mut anchored =
                adopt_from(before, knowing(writers_of(&before.union(own), domain, last.saturating_add(1))));
            if is_top
                && before.unknown(domain).contains(last)
                && let [only] = writers_of(theirs, domain, last)[..]
            {
                anchored |= adopt_from(before, knowing(vec![only]));
            }
            if !anchored {
                // Nobody else has archived any of these numbers: whatever there is, is it. Nothing from where two servers did.
                let mut here = IntervalSet::default();
                here.insert_range(first, last);
                let split = contested(theirs, domain).intersection(&here).ranges().next().map(|(from, _)| from);
                let end = split.map_or(last, |from| last.min(from.saturating_sub(1)));
                adopt(before, &theirs.known(), domain, first, end);
            }
        }
    }
}

fn adopt(before: &mut MariadbGtidSet, known: &MariadbGtidSet, domain: u32, first: u64, last: u64) {
    let mut window = MariadbGtidSet::default();
    window.insert_unknown(domain, first, last);
    let mut unknown = MariadbGtidSet::default();
    before.unknown(domain).ranges().for_each(|(from, to)| unknown.insert_unknown(domain, from, to));
    before.extend(&unknown.intersection(&window).intersection(known));
}

fn writers_of(set: &MariadbGtidSet, domain: u32, seq: u64) -> Vec<MariadbGtid> {
    let wrote = set.writers().filter(|(of, _, numbers)| *of == domain && numbers.contains(seq));
    wrote.map(|(_, server, _)| MariadbGtid { domain, server, seq }).collect()
}
