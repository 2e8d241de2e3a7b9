//! From archive facts and a request to a plan.
//!
//! Each full has a chain of log behind it ([`Timeline`]). The newest full that the target contains and whose chain reaches
//! the target is the base; [`ask`] and [`make`] try one chain.

use super::error::{self, PlanError};
use super::explain::{explain, left_out};
use super::{BasePlan, Coordinates, Facts, FilePart, Plan, Request, Target, Throughput, contested, prepared, shown};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead, by_statement};
use crate::archive::timeline::{Addressing, Chain, ChainEnd, Link, OffLineage, unlogged};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, CommitTime, Flavor, Gtid, GtidSet, total};

/// A prefix of one file, up to the end of a whole transaction (or of the file's head).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it ends.
    pub offset: u64,
    /// GTIDs of its transactions.
    pub gtids: GtidSet,
    /// Highest commit time in it.
    pub last_commit: Option<CommitTime>,
    /// The transaction that ends at `offset`, where known.
    pub last_gtid: Option<Gtid>,
    /// Whether an offset that was asked for lies inside the transaction after `offset`.
    pub inside: bool,
}

/// Where a chain's log is cut: everything before link `link`, and `found` of that link's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Index into [`Chain::links`].
    pub link: usize,
    /// What of its file.
    pub found: Found,
}

/// What has to be found in a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The end of the last transaction before the first one that committed after this.
    UpToTime(CommitTime),
    /// The end of the last transaction before the first one that committed at or after this.
    BeforeTime(CommitTime),
    /// The end of the last transaction of these.
    UpToGtids(GtidSet),
    /// The end of the last transaction before the first of these.
    BeforeGtids(GtidSet),
    /// The end of the last transaction that ends at or before this offset.
    UpToOffset(u64),
    /// The end of the last transaction that ends before this offset.
    BeforeOffset(u64),
}

/// The next step towards a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The end is known; none: nothing of the chain's log is needed.
    Cut(Option<Cut>),
    /// Somebody must look into the file of this link; transactions of `known` count for nothing: an earlier file has them, or they are a fork.
    Look {
        /// Index into [`Chain::links`].
        link: usize,
        /// What to find.
        question: Question,
        /// GTIDs of earlier links, and what of the file the chain does not take.
        known: GtidSet,
    },
}

/// Why a chain does not do.
#[derive(Debug)]
pub enum Reject {
    /// The target does not contain all of its full: an older one may do.
    TooNew,
    /// Its log does not reach the target.
    Unreachable(PlanError),
    /// It does, but XA transactions were prepared when its full was taken: look what the log says of them ([`Facts::prepared`]), and make the
    /// plan again.
    NotLooked,
    /// It does, but files of it are told as one: look at them by themselves, and make the plan again.
    Folded(Vec<FileId>),
    /// The request is wrong, whatever the chain.
    Request(PlanError),
}

/// Says where to cut `chain`, or which file (of the links from `from` on) to look into. Ask again with the next link when
/// the answer is not in that file (all that matched were copies of earlier transactions).
pub fn ask(facts: &Facts, request: &Request, chain: &Chain, from: usize) -> Result<Step, Reject> {
    contested::check(facts, request, None)?;
    match &request.target {
        Target::Latest | Target::Time(_) if is_elsewhere(request, chain) => Err(off_lineage(facts, request, chain)),
        Target::Latest if matches!(chain.end, ChainEnd::Gap(_)) && !request.allow_nearest => {
            Err(unreachable(facts, request, chain))
        }
        Target::Latest => Ok(Step::Cut(end_of(facts, chain))),
        Target::Time(time) => ask_time(facts, request, chain, CommitTime::from(*time), from),
        Target::Gtid(set) if set.flavor() != facts.flavor => {
            let detail = format!("has no GTID such as {set}");
            Err(Reject::Request(error::WrongCoordinatesSnafu { flavor: facts.flavor, detail }.build()))
        }
        Target::Gtid(set) => ask_gtids(facts, request, chain, set, from),
        Target::Position(position) => ask_position(facts, request, chain, position),
    }
}

/// Whether a chain is not of the history that this target means. Before a reset there was another one, but at its own times.
fn is_elsewhere(request: &Request, chain: &Chain) -> bool {
    match chain.end {
        ChainEnd::OffLineage { cause: OffLineage::Fork, .. } => true,
        ChainEnd::OffLineage { cause: OffLineage::Reset, .. } => request.target == Target::Latest,
        _ => false,
    }
}

fn off_lineage(facts: &Facts, request: &Request, chain: &Chain) -> Reject {
    let ChainEnd::OffLineage { beyond, .. } = &chain.end else { return Reject::TooNew };
    let why = match beyond.is_empty() {
        true => "its server's log was reset since".to_owned(),
        false => format!("it holds {} beyond it, or its server's log was reset since", shown(beyond)),
    };
    let (target, full, reachable) = (request.to_string(), chain.full.clone(), facts.reachable());
    Reject::Unreachable(error::OffLineageSnafu { target, full, why, reachable }.build())
}

fn ask_time(facts: &Facts, request: &Request, chain: &Chain, wanted: CommitTime, from: usize) -> Result<Step, Reject> {
    if wanted < chain.first {
        return Err(Reject::TooNew);
    }
    let beyond = |commit: CommitTime| if request.exclusive { commit >= wanted } else { commit > wanted };
    let holds = |link: &Link| link.last_commit.is_some_and(beyond);
    if let Some(link) = chain.links.iter().skip(from).position(holds).map(|i| i + from) {
        return Ok(look(facts, chain, link, request.by_time(wanted)));
    }
    // Nothing archived is later than the target: that it is complete up to there is known only if it is no later than
    // the newest thing the archive has seen.
    let proved = wanted < chain.latest || (wanted == chain.latest && !request.exclusive);
    if proved || request.allow_nearest {
        return Ok(Step::Cut(end_of(facts, chain)));
    }
    // "Too late" would name a way that is none.
    contested::check(facts, request, Some(&chain.gtids))?;
    Err(unreachable(facts, request, chain))
}

fn ask_gtids(facts: &Facts, request: &Request, chain: &Chain, set: &GtidSet, from: usize) -> Result<Step, Reject> {
    let wanted = exact(set);
    if !request.exclusive && !set.is_empty() && closure(&wanted) == closure(&chain.base_gtids) {
        return Ok(Step::Cut(None));
    }
    let after_base: Vec<GtidSet> = chain.links.iter().map(|l| l.take.intersection(&wanted)).collect();
    let has = |set: &GtidSet| !set.is_empty();
    let (first, last) = (after_base.iter().position(has), after_base.iter().rposition(has));
    let in_base = !wanted.intersection(&chain.base_gtids).is_empty();
    let missing = wanted.difference(&chain.gtids);
    match (request.exclusive, first, last) {
        (true, ..) if in_base => Err(inside_full(facts, request, chain)),
        (_, None, _) if missing.is_empty() => Err(inside_full(facts, request, chain)),
        _ if !missing.is_empty() && request.allow_nearest && !request.exclusive => Ok(Step::Cut(end_of(facts, chain))),
        _ if !missing.is_empty() => Err(Reject::Unreachable(
            error::MissingGtidsSnafu {
                target: request.to_string(),
                missing: missing.to_string(),
                reachable: facts.reachable(),
            }
            .build(),
        )),
        (true, Some(link), _) => Ok(look(facts, chain, link.max(from), Question::BeforeGtids(wanted))),
        (false, _, Some(link)) => {
            let here = after_base.get(link).cloned().unwrap_or(wanted);
            Ok(look(facts, chain, link.max(from), Question::UpToGtids(here)))
        }
        _ => Err(Reject::TooNew),
    }
}

/// The target is among what the chain's full holds, of which nobody knows the order: an older full may do.
fn inside_full(facts: &Facts, request: &Request, chain: &Chain) -> Reject {
    let (target, full, holds) = (request.to_string(), chain.full.clone(), shown(&chain.base_gtids));
    Reject::Unreachable(error::InsideFullSnafu { target, full, holds, reachable: facts.reachable() }.build())
}

fn ask_position(facts: &Facts, request: &Request, chain: &Chain, at: &BinlogPosition) -> Result<Step, Reject> {
    let file = file_called(facts, &at.file).map_err(Reject::Request)?;
    let Some(link) = chain.links.iter().position(|l| l.file == file.id) else { return Err(Reject::TooNew) };
    if at.offset > file.size {
        return match request.allow_nearest {
            true => Ok(Step::Cut(Some(whole(facts, chain, link)))),
            false => Err(unreachable(facts, request, chain)),
        };
    }
    if chain.addressing == Addressing::Position && chain.links.get(link).is_some_and(|l| l.from > at.offset) {
        return Err(Reject::TooNew);
    }
    let question = match request.exclusive {
        true => Question::BeforeOffset(at.offset),
        false => Question::UpToOffset(at.offset),
    };
    Ok(look(facts, chain, link, question))
}

fn look(facts: &Facts, chain: &Chain, link: usize, question: Question) -> Step {
    let file = chain.links.get(link).and_then(|l| facts.file(&l.file));
    let fork = file.map(|file| file.summary.gtids.difference(&chain.gtids));
    let before = taken_before(facts, chain, link);
    Step::Look { link, question, known: fork.map_or_else(|| before.clone(), |fork| joined(&before, &fork)) }
}

/// What the links before `link` take.
fn taken_before(facts: &Facts, chain: &Chain, link: usize) -> GtidSet {
    let empty = GtidSet::empty(facts.flavor);
    chain.links.iter().take(link).fold(empty, |all, l| joined(&all, &l.take))
}

fn whole(facts: &Facts, chain: &Chain, link: usize) -> Cut {
    let empty = GtidSet::empty(facts.flavor);
    let file = chain.links.get(link).and_then(|l| facts.file(&l.file));
    let summary = file.map(|f| &f.summary);
    let found = Found {
        offset: summary.map_or(0, |s| s.boundary),
        gtids: summary.map_or(empty, |s| s.gtids.clone()),
        last_commit: summary.and_then(|s| s.last_commit),
        last_gtid: summary.and_then(|s| s.last_gtid.clone()),
        inside: false,
    };
    Cut { link, found }
}

fn end_of(facts: &Facts, chain: &Chain) -> Option<Cut> {
    chain.links.len().checked_sub(1).map(|last| whole(facts, chain, last))
}

/// The log of `chain` ends before the target: in a hole, or because nothing newer is archived.
fn unreachable(facts: &Facts, request: &Request, chain: &Chain) -> Reject {
    let (target, reachable) = (request.to_string(), facts.reachable());
    Reject::Unreachable(match &chain.end {
        ChainEnd::Gap(gap) => {
            let missing = if gap.missing.is_empty() { gap.reason.clone() } else { gap.missing.to_string() };
            error::MissingGtidsSnafu { target, missing, reachable }.build()
        }
        ChainEnd::Newest | ChainEnd::OffLineage { .. } => error::TooLateSnafu { target, reachable }.build(),
    })
}

fn file_called<'a>(facts: &'a Facts, name: &str) -> Result<&'a ArchivedFile, PlanError> {
    let spelled = |f: &ArchivedFile| format!("{}@{}", f.id.name, f.id.created_unix);
    let in_chains = |f: &&ArchivedFile| {
        (f.id.name == name || spelled(f) == name)
            && facts.timeline.chains.iter().any(|c| c.links.iter().any(|l| l.file == f.id))
    };
    let found: Vec<&ArchivedFile> = facts.files.iter().filter(in_chains).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => error::NoSuchFileSnafu { file: name, reachable: facts.reachable() }.fail(),
        several => {
            let candidates: Vec<String> = several.iter().map(|f| spelled(f)).collect();
            error::AmbiguousFileSnafu { name, candidates: candidates.join(", ") }.fail()
        }
    }
}

/// MariaDB: `0-1-5` names one transaction here, not all before it.
pub(super) fn exact(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mysql(_) => set.clone(),
        GtidSet::Mariadb(set) => GtidSet::Mariadb(set.known()),
    }
}

/// The union of two sets of one archive (which has one flavor).
pub(in crate::restore) fn joined(a: &GtidSet, b: &GtidSet) -> GtidSet {
    a.union(b).unwrap_or_else(|_| a.clone())
}

/// What a server that has executed `set` says it has executed. MariaDB says a position, which stands for every lower
/// number too, so numbers that no transaction ever had are no holes.
pub(in crate::restore) fn closure(set: &GtidSet) -> GtidSet {
    let GtidSet::Mariadb(of) = set else { return set.clone() };
    let mut closed = MariadbGtidSet::default();
    for last in of.domains().filter_map(|domain| of.last(domain)) {
        closed.insert_prefix(&last);
    }
    GtidSet::Mariadb(closed)
}

/// Makes the plan for `chain` cut at `cut` (none: its full alone).
pub fn make(
    facts: &Facts,
    request: &Request,
    chain: &Chain,
    cut: Option<&Cut>,
    speed: Throughput,
) -> Result<Plan, Reject> {
    let full = facts.fulls.iter().find(|f| f.id == chain.full).ok_or(Reject::TooNew)?;
    let coordinates = match chain.addressing {
        Addressing::Gtid => Coordinates::Gtid,
        Addressing::Position => Coordinates::Position,
    };
    if let (Some(cut), Target::Position(at)) = (cut, &request.target)
        && cut.found.inside
        && !request.exclusive
        && !request.allow_nearest
    {
        let (file, offset, before) = (at.file.clone(), at.offset, cut.found.offset);
        return Err(Reject::Request(error::InsideTransactionSnafu { file, offset, before }.build()));
    }
    let mut replay = GtidSet::empty(facts.flavor);
    let mut restored_to = None;
    let mut files = Vec::new();
    let links = cut.map_or(0, |c| c.link + 1);
    for (i, link) in chain.links.iter().take(links).enumerate() {
        let Some(file) = facts.file(&link.file) else { return Err(Reject::TooNew) };
        let last = cut.filter(|c| c.link == i).map(|c| &c.found);
        let (end, commit) = last.map_or((link.to, link.last_commit), |f| (f.offset, f.last_commit));
        let take = last.map_or_else(|| link.take.clone(), |f| link.take.intersection(&f.gtids));
        let anonymous = file.summary.transactions > file.summary.gtids.count();
        if coordinates == Coordinates::Gtid && facts.flavor == Flavor::Mysql && anonymous {
            let mixed = error::MixedGtidsSnafu { file: link.file.name.clone(), base: full.id.clone() };
            return Err(Reject::Unreachable(mixed.build()));
        }
        // What a server that read this file up to the cut has executed must include all of the full.
        if let (Some(found), Coordinates::Gtid) = (last, coordinates) {
            let executed = joined(&joined(&file.summary.previous_gtids, &found.gtids), &replay);
            if !full.gtids.is_subset(&closure(&executed)) {
                return Err(Reject::TooNew);
            }
        }
        let needed = match coordinates {
            Coordinates::Gtid => !take.is_empty(),
            Coordinates::Position => end > link.from,
        };
        if needed {
            replay = joined(&replay, &take);
            restored_to = restored_to.max(commit);
            files.push(FilePart { file: link.file.clone(), start: link.from.max(4), end, take });
        }
    }
    contested::check(facts, request, Some(&joined(&full.gtids, &replay)))?;
    let (prepared, lacks) = prepared::prepend(facts, request, full, coordinates, &mut files)?;
    replay = joined(&replay, &prepared);
    let skipped = request.skip_gtids.as_ref().map_or_else(|| GtidSet::empty(facts.flavor), exact);
    let unknown = skipped.difference(&replay);
    if !unknown.is_empty() {
        return Err(Reject::Request(error::SkipNotReplayedSnafu { gtids: unknown, base: full.id.clone() }.build()));
    }
    let last_gtid = cut.and_then(|c| c.found.last_gtid.clone());
    let end = files.last().map(|f| BinlogPosition { file: f.file.name.clone(), offset: f.end });
    let mut plan = Plan {
        request: request.clone(),
        flavor: facts.flavor,
        server_version: full.server_version.clone(),
        coordinates,
        base: base_plan(full),
        replay_bytes: total(files.iter().map(|f| f.end.saturating_sub(f.start))),
        expected_gtids: closure(&joined(&full.gtids, &replay)),
        last_gtid: last_gtid.filter(|gtid| replay.contains(gtid)),
        replay_gtids: replay,
        prepared,
        skipped,
        end,
        restored_to,
        files,
        eta_s: 0,
        explanation: Vec::new(),
        forks: Vec::new(),
    };
    let load = plan.base.raw_bytes / speed.load_bytes_per_s.max(1);
    plan.eta_s = total([load, plan.replay_bytes / speed.replay_bytes_per_s.max(1), 1]);
    plan.explanation = explain(facts, request, full, &plan);
    let taken: Vec<(&str, &GtidSet)> = plan.files.iter().map(|p| (p.file.server.as_str(), &p.take)).collect();
    let unlogged = unlogged(&facts.fulls, full, &taken);
    let statements = by_statement(plan.files.iter().filter_map(|part| facts.file(&part.file)));
    plan.forks = left_out(facts, &plan).into_iter().chain(lacks).chain(unlogged).chain(statements).collect();
    Ok(plan)
}

fn base_plan(full: &FullHead) -> BasePlan {
    BasePlan {
        id: full.id.clone(),
        consistent_at: full.consistent_at,
        gtids: full.gtids.clone(),
        position: full.position.clone(),
        bytes: full.bytes,
        raw_bytes: full.raw_bytes,
    }
}
