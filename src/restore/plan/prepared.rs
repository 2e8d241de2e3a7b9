//! XA transactions that were prepared when the base was taken: the base lacks what they did, and the log after it only ends them. Their preparing
//! transactions are replayed first, although they are among the base's GTIDs: nobody else could touch their rows in between.

use super::choose::{Reject, joined};
use super::{Coordinates, Facts, FilePart, Request, error};
use crate::archive::catalog::FullHead;
use crate::model::GtidSet;
use crate::model::gtid::{MariadbGtid, MariadbGtidSet};

/// What the log says of the XA transactions that were prepared when a full was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedXa {
    /// Where the transactions are that prepared them, one a part.
    pub parts: Vec<FilePart>,
    /// Those of which nothing is known, since not all of the log before the full is archived. (One that changed nothing is not logged at all.)
    pub unknown: Vec<String>,
}

/// Puts what prepared them before everything else in `files`. Returns its GTIDs, and in words what the result lacks.
pub(super) fn prepend(
    facts: &Facts,
    request: &Request,
    full: &FullHead,
    coordinates: Coordinates,
    files: &mut Vec<FilePart>,
) -> Result<(GtidSet, Option<String>), Reject> {
    let mut gtids = GtidSet::empty(facts.flavor);
    let ids = full.prepared_xa.as_deref().unwrap_or_default();
    if ids.is_empty() {
        return Ok((gtids, None));
    }
    let found = facts.prepared.get(&full.id);
    if found.is_none() && coordinates == Coordinates::Gtid {
        return Err(Reject::NotLooked);
    }
    let found = found.filter(|_| coordinates == Coordinates::Gtid);
    let unknown = found.map_or(ids, |found| &found.unknown).join("; ");
    if !unknown.is_empty() && !request.allow_nearest {
        let (target, full, reachable) = (request.to_string(), full.id.clone(), facts.reachable());
        return Err(Reject::Unreachable(error::PreparedXaSnafu { target, full, ids: unknown, reachable }.build()));
    }
    let mut before = Vec::new();
    for part in found.iter().flat_map(|found| &found.parts) {
        gtids = joined(&gtids, &part.take);
        let same = |other: &&mut FilePart| other.file == part.file;
        match files.iter_mut().find(same).or_else(|| before.iter_mut().find(same)) {
            Some(other) => {
                other.take = joined(&other.take, &part.take);
                other.end = other.end.max(part.end);
            }
            None => before.push(part.clone()),
        }
    }
    // They were found from the newest file to the oldest.
    files.splice(0..0, before.into_iter().rev());
    let lacks = format!(
        "XA transactions that were prepared when full {} was taken are not restored, as what prepared them is not archived: {unknown}",
        full.id
    );
    Ok((gtids, (!unknown.is_empty()).then_some(lacks)))
}

/// What a server holds that has loaded the base and shall replay `prepared`. MariaDB knows positions only: one before the first of them, so
/// that what is between counts as not executed there until the replay is over ([`after_replay`]).
pub fn before_replay(base: &GtidSet, prepared: &GtidSet) -> GtidSet {
    let (GtidSet::Mariadb(base), GtidSet::Mariadb(prepared)) = (base, prepared) else {
        return base.difference(prepared);
    };
    let mut out = MariadbGtidSet::default();
    for last in base.domains().filter_map(|domain| base.last(domain)) {
        let first = prepared.numbers(last.domain).ranges().next();
        match first.map(|(low, _)| low) {
            None => out.insert_prefix(&last),
            Some(0 | 1) => {}
            Some(first) => out.insert_prefix(&MariadbGtid { seq: first - 1, ..last }),
        }
    }
    GtidSet::Mariadb(out)
}

/// MariaDB: where a server is that has replayed all of `replay`, if the last thing in a domain was one of `prepared`: it says so, and has all of
/// the base. None where it says what it should already, or something else altogether.
pub fn after_replay(executed: &GtidSet, prepared: &GtidSet, replay: &GtidSet, expected: &GtidSet) -> Option<GtidSet> {
    let (GtidSet::Mariadb(executed), GtidSet::Mariadb(prepared)) = (executed, prepared) else { return None };
    let (GtidSet::Mariadb(replay), GtidSet::Mariadb(expected)) = (replay, expected) else { return None };
    let mut out = executed.clone();
    for last in prepared.domains().filter_map(|domain| prepared.last(domain)) {
        let there = executed.last(last.domain).is_some_and(|at| at.seq == last.seq);
        let nothing_else = replay.last(last.domain).is_some_and(|of| of.seq == last.seq);
        if there
            && nothing_else
            && let Some(end) = expected.last(last.domain)
        {
            out.insert_prefix(&end);
        }
    }
    (out.position() != executed.position()).then_some(GtidSet::Mariadb(out))
}
