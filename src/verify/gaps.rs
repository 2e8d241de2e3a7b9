//! What the archive as a whole lacks, or has of another cluster: by GTIDs and by what was there before. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::{Damage, Finding, Place};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::archive::identity::ArchiveInfo;
use crate::archive::keys;
use crate::archive::timeline::{Addressing, Chain, ChainEnd, Gap, Timeline};
use crate::model::{CommitTime, Flavor, GtidSet};

/// Transactions between a full and the end of the log that no file holds. `kept_since`: what is older may have been deleted by retention; none:
/// nothing may.
pub fn missing(timeline: &Timeline, files: &[ArchivedFile], kept_since: Option<Timestamp>) -> Vec<Finding> {
    let logs = Timeline::logs(files);
    let begins_a_log = |file: &FileId| logs.iter().any(|log| log.first().is_some_and(|first| first.id == *file));
    let mut gaps: BTreeMap<String, (&Gap, Vec<&Chain>)> = BTreeMap::new();
    for chain in &timeline.chains {
        let ChainEnd::Gap(gap) = &chain.end else { continue };
        // No log was ever archived, or none of that server.
        let Some(before) = &gap.before else { continue };
        if chain.links.is_empty() && begins_a_log(before) && may_be_pruned(chain, timeline, kept_since) {
            continue;
        }
        gaps.entry(keys::file_dir(before)).or_insert_with(|| (gap, Vec::new())).1.push(chain);
    }
    let finding = |(dir, (gap, chains)): (String, (&Gap, Vec<&Chain>))| {
        let from = chains.iter().map(|chain| chain.latest).max()?;
        // Where another full begins, or at the first commit behind it that is known: from there on moments belong to others.
        let to = timeline.chains.iter().map(|chain| chain.first).filter(|first| *first > from).min();
        let fulls = chains.iter().map(|chain| chain.full.clone()).collect();
        let damage = Damage::MissingGtids { gtids: gap.missing.to_string(), problem: gap.reason.clone() };
        Some(Finding::new(dir, damage, Place::Gap { fulls, from, to }))
    };
    gaps.into_iter().filter_map(finding).collect()
}

/// Whether retention may have deleted the log that a full would begin with: not while the full is the newest, and with a window only if another
/// full stands between it and the window.
fn may_be_pruned(chain: &Chain, timeline: &Timeline, kept_since: Option<Timestamp>) -> bool {
    let Some(kept_since) = kept_since.map(CommitTime::from) else { return false };
    timeline.chains.iter().any(|other| other.first > chain.first && other.first <= kept_since)
}

/// Files without an index though the next one of their log goes right on from them: their index is lost.
pub fn lost_indexes(files: &[ArchivedFile], without: &BTreeSet<FileId>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for log in Timeline::logs(files) {
        for pair in log.windows(2) {
            let [file, next] = pair else { continue };
            // Without GTIDs nothing tells whether something came between.
            let silent = file.summary.transactions > file.summary.gtids.count();
            let is_cut = file.hole_until.is_some() || file.open_transaction.is_some();
            if !without.contains(&file.id) || is_cut || silent {
                continue;
            }
            let mut executed = file.summary.previous_gtids.clone();
            let mixed = executed.extend(&file.summary.gtids).is_err();
            // Where something came between, it is a gap: its end was never archived, and it never had an index.
            if !mixed && next.summary.previous_gtids.is_subset(&executed) {
                // The segments say the same.
                findings.push(Finding::new(keys::index(&file.id), Damage::Lost, Place::Nothing));
            }
        }
    }
    findings
}

/// The end of a server's log as it was once seen: what only the last object of an open file holds leaves no other trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tail {
    /// The server's newest file.
    pub file: FileId,
    /// How much of it was archived, in bytes.
    pub size: u64,
    /// Its newest commit.
    pub last_commit: Option<CommitTime>,
    /// Whether its last object is encrypted.
    #[serde(default)]
    pub encrypted: bool,
}

/// The ends of all logs.
pub fn tails(files: &[ArchivedFile]) -> Vec<Tail> {
    let tail = |log: Vec<&ArchivedFile>| {
        let file = log.last()?;
        Some(Tail {
            file: file.id.clone(),
            size: file.size,
            last_commit: file.summary.last_commit,
            encrypted: !file.encryption.recipients.is_empty(),
        })
    };
    Timeline::logs(files).into_iter().filter_map(tail).collect()
}

/// Ends that were seen and are there no more. Retention takes a log's beginning, and never a server's newest file.
pub fn lost_tails(seen: &[Tail], files: &[ArchivedFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for tail in seen {
        let Tail { file, size, last_commit, encrypted } = tail;
        let found = files.iter().find(|found| found.id == *file);
        let newer =
            |other: &&ArchivedFile| other.id.server == file.server && other.id.created_unix >= file.created_unix;
        let older = |other: &&ArchivedFile| other.id.server == file.server && other.id.created_unix < file.created_unix;
        let (from, after) = match found {
            Some(found) if found.size >= *size => continue,
            // A finding of its own.
            Some(found) if found.hole_until.is_some() => continue,
            Some(found) => (found.size, found.summary.last_commit),
            None if files.iter().any(|f| newer(&f)) && !files.iter().any(|f| older(&f)) => continue,
            None => (0, files.iter().filter(older).filter_map(|f| f.summary.last_commit).max()),
        };
        let place = Place::Hole { file: file.clone(), from, after, until: *last_commit };
        findings.push(Finding::new(keys::segment(file, None, from, *size, *encrypted), Damage::Lost, place));
    }
    findings
}

/// What is of another flavor or cluster than the archive. Without GTIDs nothing tells.
pub fn foreign(info: &ArchiveInfo, fulls: &[FullHead], files: &[ArchivedFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |key: String, problem: String| {
        findings.push(Finding::new(key, Damage::Foreign { problem }, Place::Nothing));
    };
    let other_flavor = |flavor: Flavor| format!("it is of {flavor}, the archive is of {}", info.flavor);
    for full in fulls.iter().filter(|full| full.flavor != info.flavor) {
        find(keys::full_dir(&full.id), other_flavor(full.flavor));
    }
    for file in files.iter().filter(|file| file.flavor != info.flavor) {
        find(keys::file_dir(&file.id), other_flavor(file.flavor));
    }
    // Per server: everything it has executed, as far as the archive tells.
    let mut servers: BTreeMap<&str, GtidSet> = BTreeMap::new();
    let of_files = files
        .iter()
        .flat_map(|file| [&file.summary.previous_gtids, &file.summary.gtids].map(|set| (file.id.server.as_str(), set)));
    let of_fulls = fulls.iter().map(|full| (full.server.as_str(), &full.gtids));
    for (server, set) in of_files.chain(of_fulls).filter(|(_, set)| set.flavor() == info.flavor) {
        let known = servers.entry(server).or_insert_with(|| GtidSet::empty(info.flavor));
        // Of one flavor.
        let _ = known.extend(&who_is_known(set));
    }
    // Where the first server left nothing to compare with, the others cannot be told.
    if servers.get(info.first_server.as_str()).is_none_or(GtidSet::is_empty) {
        return findings;
    }
    for (server, own) in servers.iter().filter(|(server, _)| **server != info.first_server) {
        let is_kin = |(other, set): (&&str, &GtidSet)| other != server && !own.intersection(set).is_empty();
        let archived = files.iter().any(|file| file.id.server == *server);
        if archived && !own.is_empty() && !servers.iter().any(is_kin) {
            let problem = format!(
                "server {server} has no transaction in common with the others of this archive: it is of another cluster"
            );
            findings.push(Finding::new(keys::server_dir(server), Damage::Foreign { problem }, Place::Nothing));
        }
    }
    findings
}

/// Numbers of unknown writers would do for anybody's.
fn who_is_known(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mariadb(set) => GtidSet::Mariadb(set.known()),
        set => set.clone(),
    }
}

/// What somebody should know, and what is no finding: the newest full may be ahead of the log for as long as the stream is behind.
pub fn notes(timeline: &Timeline, fulls: &[FullHead]) -> Vec<String> {
    let newest = fulls.iter().max_by_key(|full| full.consistent_at);
    let ahead = newest.and_then(|full| Some((full, timeline.chain(&full.id)?)));
    let mut notes = Vec::new();
    for chain in timeline.chains.iter().filter(|chain| chain.end == ChainEnd::Newest) {
        if let Some((full, _)) = &ahead
            && chain.full != full.id
            && chain.addressing == Addressing::Gtid
        {
            let beyond = full.gtids.difference(&chain.gtids);
            if !beyond.is_empty() {
                notes.push(format!(
                    "full {} holds {beyond}, which the archived log does not have: the stream is behind, or the end of its log was lost",
                    full.id
                ));
                break;
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, full, set};
    use super::*;

    fn words(findings: &[Finding]) -> Vec<(String, &'static str)> {
        findings.iter().map(|finding| (finding.key.clone(), finding.damage.word())).collect()
    }

    fn three() -> Vec<ArchivedFile> {
        vec![
            file("A", 1, 10, set(""), set("A:1-5")),
            file("A", 2, 20, set("A:1-5"), set("A:6-9")),
            file("A", 3, 30, set("A:1-9"), set("A:10-12")),
        ]
    }

    #[test]
    fn transactions_that_nobody_has_are_missing_unless_retention_may_have_taken_them() {
        let fulls = [
            full("one", "A", 11, set("A:1-2")),
            full("two", "A", 25, set("A:1-7")),
            full("three", "A", 31, set("A:1-11")),
        ];
        let missing = |drop: &[usize], kept_since: Option<i64>| {
            let files = three().into_iter().enumerate().filter(|(i, _)| !drop.contains(i)).map(|(_, file)| file);
            let files: Vec<_> = files.collect();
            let timeline = Timeline::new(Flavor::Mysql, &fulls, &files);
            let found = super::missing(&timeline, &files, kept_since.map(|s| Timestamp::from_second(s).unwrap()));
            found.into_iter().map(|finding| (finding.damage, finding.place)).collect::<Vec<_>>()
        };
        assert_eq!(missing(&[], None), []);
        // In the middle: whatever retention says.
        for kept_since in [None, Some(28)] {
            let found = missing(&[1], kept_since);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(matches!(&found[0].0, Damage::MissingGtids { gtids, .. } if *gtids == set("A:6-9").to_string()));
            let fulls = vec!["one".to_owned(), "two".to_owned()];
            let (from, to) = (CommitTime(25_000_000), Some(CommitTime(31_000_000)));
            assert_eq!(found[0].1, Place::Gap { fulls, from, to });
        }
        // At the beginning: a full that stands between it and the window tells that retention may have been at work.
        assert_eq!(missing(&[0], None).len(), 1);
        assert_eq!(missing(&[0], Some(24)).len(), 1);
        assert_eq!(missing(&[0], Some(25)), []);
    }

    #[test]
    fn an_index_is_lost_where_the_log_goes_right_on_and_not_where_the_stream_left_a_file() {
        let mut files = three();
        files[0].closed = None;
        files[2].closed = None;
        let without = |indexes: &[usize]| indexes.iter().map(|i| three()[*i].id.clone()).collect::<BTreeSet<_>>();
        let lost = lost_indexes(&files, &without(&[0, 2]));
        assert_eq!(words(&lost), [(keys::index(&files[0].id), "Lost")], "the newest file is open");
        files[0].summary.gtids = set("A:1-4");
        assert_eq!(lost_indexes(&files, &without(&[0, 2])), [], "its end was never archived");
    }

    #[test]
    fn an_end_that_was_seen_and_is_gone_is_lost_and_one_that_retention_took_is_not() {
        let files = three();
        let seen = tails(&files);
        assert_eq!(seen.len(), 1);
        assert_eq!(lost_tails(&seen, &files), []);
        let mut shorter = files.clone();
        shorter[2].size = 400;
        let lost = lost_tails(&seen, &shorter);
        assert_eq!(words(&lost), [(keys::segment(&files[2].id, None, 400, 1000, false), "Lost")]);
        assert_eq!(
            words(&lost_tails(&seen, &files[..2])),
            [(keys::segment(&files[2].id, None, 0, 1000, false), "Lost")]
        );
        assert_eq!(lost_tails(&seen, &[]).len(), 1, "a server's newest file stays");
        let later = [file("A", 4, 40, set("A:1-12"), set("A:13"))];
        assert_eq!(lost_tails(&seen, &later), [], "pruned, as there is a newer one and no older one");
    }

    #[test]
    fn a_server_without_a_common_transaction_and_another_flavor_are_foreign() {
        let info = ArchiveInfo {
            format: 1,
            encrypted: false,
            created_at: Timestamp::UNIX_EPOCH,
            flavor: Flavor::Mysql,
            first_server: "A".into(),
            tidemark_version: String::new(),
        };
        let mut files = three();
        files.push(file("B", 1, 40, set("A:1-12"), set("B:1-3")));
        assert_eq!(foreign(&info, &[full("f", "A", 11, set("A:1-2"))], &files), [], "after a failover");
        files.push(file("C", 1, 40, set(""), set("C:1-3")));
        assert_eq!(words(&foreign(&info, &[], &files)), [(keys::server_dir("C"), "Foreign")]);
        let none = GtidSet::empty(Flavor::Mariadb);
        files = vec![file("M", 1, 10, none.clone(), none)];
        assert_eq!(words(&foreign(&info, &[], &files)), [(keys::file_dir(&files[0].id), "Foreign")]);
    }
}
