//! Which binlog files stay.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fulls::{Decided, xa_need};
use super::{Facts, FileVerdict, NO_RULES, Rules, proof};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::archive::timeline::{Chain, Seen, Timeline, as_executed};
use crate::model::CommitTime;

const GONE: &str = "no full that stays needs it";

/// Of each server's log a beginning goes, up to the first file that is needed. What XA transactions need of it stays all the same.
pub(super) fn decide(
    facts: &Facts<'_>,
    rules: &Rules,
    fulls: &[Decided<'_>],
    notes: &mut Vec<String>,
) -> Vec<FileVerdict> {
    let logs = Timeline::logs(facts.files());
    let everything = |why: &str| {
        let files = logs.iter().flatten();
        files.map(|file| verdict(file, true, why.to_owned())).collect()
    };
    if rules.is_empty() {
        return everything(NO_RULES);
    }
    if !fulls.iter().any(|full| full.with_log) {
        return everything("no full is archived yet: the first one may need it");
    }
    let needed = needed(facts, fulls);
    let prepared = prepared(facts, fulls);
    let mut verdicts = Vec::new();
    for (i, log) in logs.iter().enumerate() {
        let server = log.first().map(|file| &file.id.server);
        let is_newest_log = logs.get(i + 1).and_then(|next| next.first()).map(|file| &file.id.server) != server;
        let last = log.len().saturating_sub(1);
        let newest = "the stream of this server goes on behind it";
        let why = |(i, file): (usize, &&ArchivedFile)| {
            let newest = (is_newest_log && i == last).then(|| newest.to_owned());
            needed.get(&file.id).cloned().or(newest)
        };
        let reasons: Vec<Option<String>> = log.iter().enumerate().map(why).collect();
        let first = reasons.iter().position(Option::is_some).unwrap_or(log.len());
        for (i, (file, why)) in log.iter().zip(reasons).enumerate() {
            let prepared = prepared.get(&file.id);
            verdicts.push(match (i >= first, why.as_ref().or(prepared)) {
                (_, Some(why)) => verdict(file, true, why.clone()),
                (true, None) => verdict(file, true, "it is between files that are needed".to_owned()),
                (false, None) => verdict(file, false, GONE.to_owned()),
            });
        }
    }
    prove(facts, fulls, &mut verdicts, notes);
    verdicts
}

fn verdict(file: &ArchivedFile, keep: bool, reason: String) -> FileVerdict {
    FileVerdict::new(file, keep, reason)
}

/// Takes back deletions that would lead a full elsewhere: of the servers that the proof names, or all.
fn prove(facts: &Facts<'_>, fulls: &[Decided<'_>], verdicts: &mut [FileVerdict], notes: &mut Vec<String>) {
    for attempt in 0..2 {
        let dropped: BTreeSet<&FileId> = verdicts.iter().filter(|file| !file.keep).map(|file| &file.file).collect();
        let Some(flaw) = proof::flaw(facts, fulls, &dropped) else { return };
        let of =
            |file: &FileVerdict| attempt == 0 && flaw.server.as_ref().is_some_and(|server| *server != file.file.server);
        notes.push(format!("more of the log stays than the rules ask for: {}", flaw.why));
        for file in verdicts.iter_mut().filter(|file| !file.keep && !of(file)) {
            file.keep = true;
            file.reason = format!("without it something else would be restored: {}", flaw.why);
        }
    }
}

/// Files from which on a log is needed, with the reason.
fn needed(facts: &Facts<'_>, fulls: &[Decided<'_>]) -> BTreeMap<FileId, String> {
    let mut needed = BTreeMap::new();
    let mut need = |file: &FileId, why: &dyn Fn() -> String| {
        needed.entry(file.clone()).or_insert_with(why);
    };
    let oldest = fulls.iter().filter(|full| full.with_log).map(|full| CommitTime::from(full.full.consistent_at)).min();
    let since = facts.since.or(oldest);
    let with_log = || fulls.iter().filter(|full| full.with_log).map(|full| full.full);
    // There may be as many fulls as days, and files of all of them behind each.
    let chains: HashMap<&str, &Chain> =
        facts.timeline.chains.iter().map(|chain| (chain.full.as_str(), chain)).collect();
    let mut seen = Seen::default();
    let mut positions: HashMap<(&str, &str), Vec<&FullHead>> = HashMap::new();
    for full in with_log() {
        let links = chains.get(full.id.as_str()).map(|chain| chain.links.unseen(&mut seen));
        links.into_iter().flatten().for_each(|link| need(&link.file, &|| format!("full {} goes on with it", full.id)));
        if let Some(position) = &full.position {
            positions.entry((&full.server, &position.file)).or_default().push(full);
        }
    }
    for file in facts.files() {
        let at = positions.get(&(file.id.server.as_str(), file.id.name.as_str())).into_iter().flatten();
        let is_at =
            |full: &&&FullHead| full.position_created_unix.is_none_or(|created| created == file.id.created_unix);
        at.filter(is_at).for_each(|full| need(&file.id, &|| format!("the position of full {} is in it", full.id)));
    }
    for file in facts.files().iter().filter(|file| since.is_some() && file.summary.last_commit > since) {
        need(&file.id, &|| "it holds what was committed since the beginning of the window".to_owned());
    }
    for fork in &facts.timeline.forks {
        if fork.contested || fork.last_commit.is_none() || fork.last_commit > since {
            let why = || format!("it holds what server {} alone has", fork.server);
            fork.files.iter().for_each(|file| need(file, &why));
        }
    }
    needed
}

/// Files before kept fulls in which their XA transactions may have been prepared.
fn prepared(facts: &Facts<'_>, fulls: &[Decided<'_>]) -> BTreeMap<FileId, String> {
    let mut files = BTreeMap::new();
    for need in fulls.iter().filter(|full| full.verdict.keep).filter_map(|full| xa_need(facts, full.full)) {
        let known = need.since.map(|since| as_executed(&since.gtids));
        for file in Timeline::back_from(facts.files(), need.of, &as_executed(&need.of.gtids)) {
            let why = || format!("XA transactions of full {} may be prepared in it", need.of.id);
            files.entry(file.id.clone()).or_insert_with(why);
            if known.as_ref().is_some_and(|known| file.summary.previous_gtids.is_subset(known)) {
                break;
            }
        }
    }
    files
}
