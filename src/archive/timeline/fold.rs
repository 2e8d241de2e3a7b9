//! Which files may be told as one without anything else following from them.

use std::collections::BTreeSet;

use super::history::add;
use super::writers::of;
use super::{Timeline, as_executed, chain};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::model::{Flavor, GtidSet};

/// The newest files of a log stay as they are: what is to come may look at them.
const NEWEST: u64 = 200;
/// Fewer files are not worth it.
const FILES_MIN: u64 = 16;

/// Tells files of long logs as one where they go right on from one another, up to the next file that a full was taken in, as its position or its GTIDs say. The files come back in no
/// particular order.
pub fn fold(files: Vec<ArchivedFile>, fulls: &[FullHead]) -> Vec<ArchivedFile> {
    fold_by(files, fulls, NEWEST, FILES_MIN)
}

/// Whatever can be told as one.
#[cfg(test)]
pub(crate) fn fold_all(files: Vec<ArchivedFile>, fulls: &[FullHead]) -> Vec<ArchivedFile> {
    fold_by(files, fulls, 1, 2)
}

fn fold_by(files: Vec<ArchivedFile>, fulls: &[FullHead], newest: u64, files_min: u64) -> Vec<ArchivedFile> {
    let positions: BTreeSet<(&str, &str)> =
        fulls.iter().filter_map(|full| Some((full.server.as_str(), full.position.as_ref()?.file.as_str()))).collect();
    let mut folded = Vec::new();
    for log in Timeline::logs(&files) {
        let mut behind: u64 = log.iter().map(|file| file.count()).sum();
        let mut spans: Vec<Vec<&ArchivedFile>> = Vec::new();
        for file in log {
            let is_old = behind > newest;
            behind -= file.count();
            match spans.last_mut() {
                Some(span)
                    if is_old
                        && span.last().is_some_and(|last| goes_right_on(last, file, &positions))
                        && !fulls.iter().any(|full| is_within(full, span.last(), file)) =>
                {
                    span.push(file);
                }
                _ => spans.push(vec![file]),
            }
        }
        for span in spans {
            if span.iter().map(|file| file.count()).sum::<u64>() < files_min {
                folded.extend(span.into_iter().cloned());
                continue;
            }
            let mut span = span.into_iter().cloned();
            let Some(mut first) = span.next() else { continue };
            span.for_each(|file| first.append(file));
            folded.push(first);
        }
    }
    folded
}

/// Whether a full has all that came before `next`, and not all of it.
fn is_within(full: &FullHead, last: Option<&&ArchivedFile>, next: &ArchivedFile) -> bool {
    let has = |set: &GtidSet| set.is_subset(&full.gtids);
    last.is_some_and(|last| has(&last.summary.gtids)) && !has(&next.summary.gtids)
}

/// Whether nothing is to be said of `next` that does not follow from its being the file after `last`.
fn goes_right_on(last: &ArchivedFile, next: &ArchivedFile, positions: &BTreeSet<(&str, &str)>) -> bool {
    let is_plain = |file: &ArchivedFile| {
        file.closed.is_some() && file.hole_until.is_none() && file.summary.transactions == file.summary.gtids.count()
    };
    let mut executed = last.summary.previous_gtids.clone();
    add(&mut executed, &last.summary.gtids);
    is_plain(last)
        && is_plain(next)
        && last.is_named_before(&next.id)
        && chain::follows(last, next)
        && (&last.server_version, last.summary.crc32) == (&next.server_version, next.summary.crc32)
        && !positions.contains(&(next.id.server.as_str(), next.id.name.as_str()))
        && !executed.is_empty()
        && leads_to(&executed, next)
}

fn leads_to(executed: &GtidSet, next: &ArchivedFile) -> bool {
    let previous = &next.summary.previous_gtids;
    if executed.flavor() == Flavor::Mysql {
        return executed == previous;
    }
    // A head names the last transactions only.
    let (before, own) = (of(executed), of(&next.summary.gtids));
    as_executed(executed) == as_executed(previous)
        && own.domains().all(|domain| {
            let first = before.numbers(domain).last().unwrap_or(0).saturating_add(1);
            let numbers = own.numbers(domain);
            numbers.range_count() == 1 && numbers.ranges().next().is_some_and(|(from, _)| from == first)
        })
}
