//! From archive facts and a request to a plan.

use super::chain::{Chain, Gap, closure, joined, shown, windows};
use super::error::{self, PlanError, at};
use super::{BasePlan, Coordinates, Facts, FilePart, FullFacts, LogFacts, Plan, Request, Target, Throughput};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, CommitTime, Gtid, GtidSet};

/// A prefix of one file, up to the end of a whole transaction (or of the file's head).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it ends.
    pub offset: u64,
    /// GTIDs of its transactions.
    pub gtids: GtidSet,
    /// Highest commit time in it.
    pub last_commit: Option<CommitTime>,
    /// The transaction that ends at `offset`.
    pub last_gtid: Option<Gtid>,
    /// Whether an offset that was asked for lies inside the transaction after `offset`.
    pub inside: bool,
}

/// Where the log is cut: everything before file `file` (an index into [`Facts::files`]), and `found` of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Index of the last file.
    pub file: usize,
    /// What of it.
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
    /// The end of the log is known; none: the restore ends with a full, before any log.
    Cut(Option<Cut>),
    /// Somebody must look into this file; transactions of `known` count for nothing (an earlier file has them).
    Look {
        /// Index of the file.
        file: usize,
        /// What to find.
        question: Question,
        /// GTIDs of earlier files.
        known: GtidSet,
    },
}

/// Says where to cut the log for `request`, or which file (from index `from` on) to look into. Ask again with the next
/// index when the answer is not in that file (all that matched were copies of earlier transactions).
pub fn ask(facts: &Facts, request: &Request, from: usize) -> Result<Step, PlanError> {
    if facts.fulls.is_empty() {
        return error::NoFullSnafu.fail();
    }
    let words = words(request);
    let nearest_end = || Step::Cut(end_of_log(facts));
    match &request.target {
        Target::Latest => Ok(nearest_end()),
        Target::Time(time) => {
            let wanted = CommitTime::from(*time);
            let beyond = |commit: CommitTime| if request.exclusive { commit >= wanted } else { commit > wanted };
            let holds = |f: &LogFacts| f.summary.last_commit.is_some_and(beyond);
            if let Some(file) = facts.files.iter().skip(from).position(holds).map(|i| i + from) {
                let question = match request.exclusive {
                    true => Question::BeforeTime(wanted),
                    false => Question::UpToTime(wanted),
                };
                return Ok(look(facts, file, question));
            }
            let last = facts.files.iter().filter_map(|f| f.summary.last_commit).max();
            let proved = !request.exclusive && last == Some(wanted);
            if proved || request.allow_nearest {
                return Ok(nearest_end());
            }
            error::TooLateSnafu { target: words, windows: windows(facts) }.fail()
        }
        Target::Gtid(set) => ask_gtids(facts, request, &exact(set), set, from),
        Target::Position(position) => {
            let file = file_called(facts, &position.file)?;
            let Some(log) = facts.files.get(file) else { return Ok(nearest_end()) };
            if position.offset > log.end {
                if request.allow_nearest {
                    return Ok(Step::Cut(Some(whole(file, log))));
                }
                return error::TooLateSnafu { target: words, windows: windows(facts) }.fail();
            }
            let question = match request.exclusive {
                true => Question::BeforeOffset(position.offset),
                false => Question::UpToOffset(position.offset),
            };
            Ok(look(facts, file, question))
        }
    }
}

fn ask_gtids(
    facts: &Facts,
    request: &Request,
    wanted: &GtidSet,
    given: &GtidSet,
    from: usize,
) -> Result<Step, PlanError> {
    if given.flavor() != facts.flavor {
        let detail = format!("has no GTID such as {given}");
        return error::WrongCoordinatesSnafu { flavor: facts.flavor, detail }.fail();
    }
    let is_given = |full: &FullFacts| !full.gtids.is_empty() && closure(&full.gtids) == closure(given);
    if !request.exclusive && facts.fulls.iter().any(is_given) {
        return Ok(Step::Cut(None));
    }
    let mut remaining = wanted.clone();
    let (mut first, mut last) = (None, None);
    for (i, file) in facts.files.iter().enumerate() {
        let before = remaining.count();
        remaining = remaining.difference(&file.summary.gtids);
        if remaining.count() < before {
            first = first.or(Some(i));
            last = Some(i);
        }
    }
    let purged = facts.files.first().map(|f| f.summary.previous_gtids.clone());
    let unknown = purged.as_ref().map_or_else(|| remaining.clone(), |p| remaining.difference(p));
    if !unknown.is_empty() {
        if request.allow_nearest && !request.exclusive {
            return Ok(Step::Cut(end_of_log(facts)));
        }
        let missing = unknown.to_string();
        return error::MissingGtidsSnafu { target: words(request), missing, windows: windows(facts) }.fail();
    }
    let too_early = || error::TooEarlySnafu { target: words(request), windows: windows(facts) }.fail();
    match (request.exclusive, first, last) {
        (true, Some(file), _) if remaining.is_empty() => {
            Ok(look(facts, file.max(from), Question::BeforeGtids(wanted.clone())))
        }
        (false, _, Some(file)) => Ok(look(facts, file.max(from), Question::UpToGtids(wanted.clone()))),
        _ => too_early(),
    }
}

fn look(facts: &Facts, file: usize, question: Question) -> Step {
    Step::Look { file, question, known: before(facts, file) }
}

/// Everything the log had before file `file`.
fn before(facts: &Facts, file: usize) -> GtidSet {
    let empty = GtidSet::empty(facts.flavor);
    facts.files.iter().take(file).fold(empty, |all, f| joined(&all, &f.summary.gtids))
}

fn whole(file: usize, log: &LogFacts) -> Cut {
    let s = &log.summary;
    let found = Found {
        offset: s.boundary,
        gtids: s.gtids.clone(),
        last_commit: s.last_commit,
        last_gtid: s.last_gtid.clone(),
        inside: false,
    };
    Cut { file, found }
}

fn end_of_log(facts: &Facts) -> Option<Cut> {
    let file = facts.files.len().checked_sub(1)?;
    facts.files.get(file).map(|log| whole(file, log))
}

fn file_called(facts: &Facts, name: &str) -> Result<usize, PlanError> {
    let called = |f: &LogFacts| f.file.name == name || format!("{}@{}", f.file.name, f.file.created_unix) == name;
    let found: Vec<usize> = facts.files.iter().enumerate().filter(|(_, f)| called(f)).map(|(i, _)| i).collect();
    let spelled = |f: &LogFacts| format!("{}@{}", f.file.name, f.file.created_unix);
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let name_of = |f: Option<&LogFacts>| f.map_or_else(|| "nothing".to_owned(), spelled);
            let (first, last) = (name_of(facts.files.first()), name_of(facts.files.last()));
            error::NoSuchFileSnafu { file: name, first, last }.fail()
        }
        several => {
            let candidates: Vec<String> = several.iter().filter_map(|&i| facts.files.get(i)).map(spelled).collect();
            error::AmbiguousFileSnafu { name, candidates: candidates.join(", ") }.fail()
        }
    }
}

/// MariaDB: a GTID names one transaction here, not all before it.
fn exact(set: &GtidSet) -> GtidSet {
    let GtidSet::Mariadb(of) = set else { return set.clone() };
    let mut out = MariadbGtidSet::default();
    for (domain, _, numbers) in of.domains() {
        let prefix = numbers.ranges().next().is_some_and(|(first, _)| first == 1);
        let kept = numbers.ranges().filter(|_| !prefix);
        let Some(last) = of.last(domain) else { continue };
        out.insert(&last);
        for (low, high) in kept {
            (low..=high).for_each(|seq| _ = out.insert(&crate::model::gtid::MariadbGtid { seq, ..last }));
        }
    }
    GtidSet::Mariadb(out)
}

/// Makes the plan for a log cut at `cut` (none: end with a full that equals the target).
pub fn make(facts: &Facts, request: &Request, cut: Option<&Cut>, speed: Throughput) -> Result<Plan, PlanError> {
    let Some(cut) = cut else { return base_only(facts, request, speed) };
    if let (Target::Position(position), true, false) = (&request.target, cut.found.inside, request.exclusive)
        && !request.allow_nearest
    {
        let (file, offset, before) = (position.file.clone(), position.offset, cut.found.offset);
        return error::InsideTransactionSnafu { file, offset, before }.fail();
    }
    let executed = executed_at(facts, cut);
    let mut hole: Option<(Gap, Option<Chain>)> = None;
    for full in facts.fulls.iter().rev().filter(|f| f.flavor == facts.flavor) {
        match follow(full, facts, cut, &executed) {
            Follow::Not => {}
            Follow::Gap(gap, chain) => {
                let farther = |old: &Option<Chain>| chain.as_ref().map(|c| c.reach) > old.as_ref().map(|c| c.reach);
                if hole.as_ref().is_none_or(|(_, old)| farther(old)) {
                    hole = Some((gap, chain));
                }
            }
            Follow::Reaches(chain) => {
                let skipped_bases = facts.fulls.iter().rev().take_while(|f| f.id != full.id).count();
                return build(facts, request, full, &chain, cut, speed, skipped_bases);
            }
        }
    }
    let Some((gap, chain)) = hole else {
        return error::TooEarlySnafu { target: words(request), windows: windows(facts) }.fail();
    };
    let nearest = chain.filter(|_| request.allow_nearest).map(|c| c.reach).filter(|&reach| reach < cut.file);
    if let Some((reach, log)) = nearest.and_then(|reach| facts.files.get(reach).map(|log| (reach, log))) {
        let mut plan = make(facts, request, Some(&whole(reach, log)), speed)?;
        plan.explanation.push(format!(
            "the target itself cannot be reached: the log misses {gap}; this is the nearest point before it"
        ));
        return Ok(plan);
    }
    error::MissingGtidsSnafu { target: words(request), missing: gap.to_string(), windows: windows(facts) }.fail()
}

enum Follow {
    /// The full is newer than the cut.
    Not,
    Gap(Gap, Option<Chain>),
    Reaches(Chain),
}

/// What a server that replayed the log up to `cut` has executed.
fn executed_at(facts: &Facts, cut: &Cut) -> GtidSet {
    let upto = facts.files.iter().take(cut.file + 1);
    let previous = upto.fold(before(facts, cut.file), |all, f| joined(&all, &f.summary.previous_gtids));
    closure(&joined(&previous, &cut.found.gtids))
}

fn follow(full: &FullFacts, facts: &Facts, cut: &Cut, executed: &GtidSet) -> Follow {
    if !full.gtids.is_subset(executed) {
        return Follow::Not;
    }
    let chain = match Chain::from(full, &facts.files) {
        Ok(chain) => chain,
        // Without GTIDs a full that has no place in the log cannot be compared with the cut: it is no candidate.
        Err(gap @ Gap::Gtids(_)) => return Follow::Gap(gap, None),
        Err(Gap::Files(_)) => return Follow::Not,
    };
    if chain.by_position() && (chain.start, chain.start_offset) > (cut.file, cut.found.offset) {
        return Follow::Not;
    }
    match &chain.gap {
        Some(gap) if chain.reach < cut.file => Follow::Gap(gap.clone(), Some(chain)),
        _ => Follow::Reaches(chain),
    }
}

fn build(
    facts: &Facts,
    request: &Request,
    full: &FullFacts,
    chain: &Chain,
    cut: &Cut,
    speed: Throughput,
    newer_fulls: usize,
) -> Result<Plan, PlanError> {
    let coordinates = if chain.by_position() { Coordinates::Position } else { Coordinates::Gtid };
    let start = chain.start.min(cut.file);
    let needed = facts.files.get(start..=cut.file).unwrap_or_default();
    let mut replay = GtidSet::empty(facts.flavor);
    let mut restored_to = None;
    let mut files = Vec::new();
    for (i, log) in (start..).zip(needed) {
        let last = i == cut.file;
        let gtids = if last { &cut.found.gtids } else { &log.summary.gtids };
        let anonymous = log.summary.transactions > log.summary.gtids.count();
        if coordinates == Coordinates::Gtid && facts.flavor == crate::model::Flavor::Mysql && anonymous {
            return error::MixedGtidsSnafu { file: log.file.name.clone(), base: full.id.clone() }.fail();
        }
        replay = joined(&replay, gtids);
        restored_to = restored_to.max(if last { cut.found.last_commit } else { log.summary.last_commit });
        let begin = if i == chain.start { chain.start_offset } else { 4 };
        let end = if last { cut.found.offset } else { log.summary.boundary };
        files.push(FilePart { file: log.file.clone(), start: begin, end });
    }
    replay = replay.difference(&full.gtids);
    let expected = closure(&joined(&full.gtids, &replay));
    let lost = executed_at(facts, cut).difference(&expected);
    if coordinates == Coordinates::Gtid && !lost.is_empty() {
        let missing = lost.to_string();
        return error::MissingGtidsSnafu { target: words(request), missing, windows: windows(facts) }.fail();
    }
    let nothing = match coordinates {
        Coordinates::Gtid => replay.is_empty(),
        Coordinates::Position => (chain.start, chain.start_offset) == (cut.file, cut.found.offset),
    };
    if nothing {
        files.clear();
        restored_to = None;
    }
    let skipped = request.skip_gtids.as_ref().map_or_else(|| GtidSet::empty(facts.flavor), exact);
    let unknown = skipped.difference(&replay);
    if !unknown.is_empty() {
        return error::SkipNotReplayedSnafu { gtids: unknown, base: full.id.clone() }.fail();
    }
    let end = facts.files.get(cut.file).map(|f| BinlogPosition { file: f.file.name.clone(), offset: cut.found.offset });
    let mut plan = Plan {
        flavor: facts.flavor,
        server_version: full.server_version.clone(),
        coordinates,
        base: base_plan(full),
        replay_bytes: files.iter().map(|f| f.end.saturating_sub(f.start)).sum(),
        files,
        replay_gtids: replay,
        skipped,
        expected_gtids: expected,
        end: end.filter(|_| !nothing),
        last_gtid: cut.found.last_gtid.clone().filter(|_| !nothing),
        restored_to,
        eta_s: 0,
        explanation: vec![format!("target: {}", words(request))],
    };
    plan.eta_s = eta(&plan, speed);
    let base = &plan.base;
    plan.explanation.push(match newer_fulls {
        0 => format!("base: {} is the newest full, and the target contains all of it", base.id),
        n => format!(
            "base: {} is the newest full that the target contains; {n} newer are not within it or lack log",
            base.id
        ),
    });
    plan.explanation.push(match &plan.end {
        None => "nothing to replay: the full is the target".to_owned(),
        Some(end) => format!("replay: the log up to {end}"),
    });
    if !plan.skipped.is_empty() {
        plan.explanation.push(format!(
            "skipped: {} run as empty transactions of the same GTID; what later transactions did to their rows may fail to replay",
            plan.skipped
        ));
    }
    Ok(plan)
}

fn base_only(facts: &Facts, request: &Request, speed: Throughput) -> Result<Plan, PlanError> {
    let wanted = match &request.target {
        Target::Gtid(set) => Some(closure(set)),
        _ => None,
    };
    let fits = |f: &&FullFacts| wanted.as_ref().is_none_or(|w| closure(&f.gtids) == *w);
    let Some(full) = facts.fulls.iter().rev().find(fits) else { return error::NoFullSnafu.fail() };
    if let Some(skip) = &request.skip_gtids {
        return error::SkipNotReplayedSnafu { gtids: skip.clone(), base: full.id.clone() }.fail();
    }
    let by_position = full.gtids.is_empty() && full.position.is_some();
    let mut plan = Plan {
        flavor: facts.flavor,
        server_version: full.server_version.clone(),
        coordinates: if by_position { Coordinates::Position } else { Coordinates::Gtid },
        base: base_plan(full),
        files: Vec::new(),
        replay_gtids: GtidSet::empty(facts.flavor),
        skipped: GtidSet::empty(facts.flavor),
        expected_gtids: closure(&full.gtids),
        end: None,
        last_gtid: None,
        restored_to: None,
        replay_bytes: 0,
        eta_s: 0,
        explanation: vec![
            format!("target: {}", words(request)),
            format!("base: {} is exactly that; nothing to replay", full.id),
        ],
    };
    plan.eta_s = eta(&plan, speed);
    Ok(plan)
}

fn base_plan(full: &FullFacts) -> BasePlan {
    BasePlan {
        id: full.id.clone(),
        consistent_at: full.consistent_at,
        gtids: full.gtids.clone(),
        position: full.position.clone(),
        bytes: full.bytes,
        raw_bytes: full.raw_bytes,
    }
}

fn eta(plan: &Plan, speed: Throughput) -> u64 {
    let load = plan.base.raw_bytes / speed.load_bytes_per_s.max(1);
    let replay = plan.replay_bytes / speed.replay_bytes_per_s.max(1);
    load + replay + 1
}

/// The target in words, as texts for people begin.
fn words(request: &Request) -> String {
    let point = match &request.target {
        Target::Latest => return "the end of the archive".to_owned(),
        Target::Time(time) => at(*time),
        Target::Gtid(set) => format!("GTID {}", shown(set)),
        Target::Position(position) => format!("position {position}"),
    };
    if request.exclusive { format!("the last transaction before {point}") } else { point }
}
