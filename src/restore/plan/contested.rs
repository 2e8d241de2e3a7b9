//! Where the archive holds two lineages and the one that does not count as live committed last, nothing tells which of the two "the latest" or a
//! moment behind the split means: then a restore goes neither way unasked.

use super::choose::Reject;
use super::error::{self, PlanError};
use super::{Facts, Question, Request, Target, shown};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::archive::timeline::{ChainEnd, Fork};
use crate::model::{CommitTime, Gtid, GtidSet};

/// What has to be found out of the contested forks before a restore to a time is planned: what of a fork's first file (by the fork's place in
/// the timeline) had committed by then. See [`Facts::begun`].
pub fn unsure<'a>(facts: &'a Facts, request: &Request) -> Vec<(usize, &'a ArchivedFile, Question)> {
    let Target::Time(time) = &request.target else { return Vec::new() };
    if request.allow_nearest {
        return Vec::new();
    }
    let forks = facts.timeline.forks.iter().enumerate().filter(|(_, fork)| fork.contested);
    let first = |(i, fork): (usize, &'a Fork)| {
        let file = fork.files.first().and_then(|id| facts.file(id))?;
        Some((i, file, request.by_time(CommitTime::from(*time))))
    };
    forks.filter_map(first).collect()
}

/// Refuses a target that may mean another lineage than the live one; `result` is what of the live one it would be.
pub(super) fn check(facts: &Facts, request: &Request, result: Option<&GtidSet>) -> Result<(), Reject> {
    if request.allow_nearest {
        return Ok(());
    }
    let beyond_split = |(i, fork): &(usize, &Fork)| match &request.target {
        Target::Latest => true,
        Target::Time(_) => {
            facts.begun.contains(i) || result.is_some_and(|set| !set.intersection(&fork.lacks).is_empty())
        }
        Target::Gtid(_) | Target::Position(_) => false,
    };
    let contested = facts.timeline.forks.iter().enumerate().filter(|(_, fork)| fork.contested).filter(beyond_split);
    match contested.max_by_key(|(_, fork)| fork.last_commit) {
        Some((_, fork)) => Err(Reject::Request(refusal(facts, request, fork))),
        None => Ok(()),
    }
}

fn refusal(facts: &Facts, request: &Request, fork: &Fork) -> PlanError {
    let (live, lacks, gtids) = (facts.timeline.live_server.clone().unwrap_or_default(), &fork.lacks, &fork.gtids);
    let to_live = last_gtid(facts, &live, None).map(|gtid| format!("--to-gtid {gtid}, or --allow-nearest"));
    error::ContestedSnafu {
        target: request.to_string(),
        lacks: if lacks.is_empty() { "nothing".to_owned() } else { lacks.to_string() },
        live_commit: at(facts.timeline.live_commit),
        to_live: to_live.unwrap_or_else(|| "--allow-nearest".to_owned()),
        server: if fork.server == live {
            format!("{live}, as it was before a crash or before its data was put back,")
        } else {
            fork.server.clone()
        },
        live,
        gtids: gtids.to_string(),
        last_commit: at(fork.last_commit),
        to_fork: way_to(facts, fork),
    }
    .build()
}

/// How to restore the lineage of a fork.
fn way_to(facts: &Facts, fork: &Fork) -> String {
    if let Some(gtid) = last_gtid(facts, &fork.server, Some(fork)) {
        return format!("--to-gtid {gtid}");
    }
    let holds = |full: &&FullHead| full.server == fork.server && !full.gtids.intersection(&fork.gtids).is_empty();
    match facts.fulls.iter().rfind(holds) {
        Some(full) => format!("--to-gtid {}, which full {} holds; later ones once they are archived", shown(&full.gtids), full.id),
        None => "no full leads there: take one of that server (`tidemark backup`) while it has them, then name a GTID of its log by --to-gtid"
            .to_owned(),
    }
}

/// The last transaction of the server's log (of `fork`, if that is asked for) that some full can be taken forward to.
fn last_gtid(facts: &Facts, server: &str, fork: Option<&Fork>) -> Option<Gtid> {
    let mut last: Option<(Option<CommitTime>, Gtid)> = None;
    let chains = facts.timeline.chains.iter();
    let chains = chains.filter(|chain| fork.is_some() || !matches!(chain.end, ChainEnd::OffLineage { .. }));
    for link in chains.flat_map(|chain| &chain.links).filter(|link| link.file.server == server) {
        let gtid = facts.file(&link.file).and_then(|file| file.summary.last_gtid.clone());
        let wanted = |gtid: &Gtid| link.take.contains(gtid) && fork.is_none_or(|fork| fork.gtids.contains(gtid));
        if let Some(gtid) = gtid.filter(wanted)
            && last.as_ref().is_none_or(|(commit, _)| *commit <= link.last_commit)
        {
            last = Some((link.last_commit, gtid));
        }
    }
    last.map(|(_, gtid)| gtid)
}

fn at(commit: Option<CommitTime>) -> String {
    commit.map_or_else(|| "at an unknown time".to_owned(), |commit| format!("at {}", commit.timestamp()))
}
