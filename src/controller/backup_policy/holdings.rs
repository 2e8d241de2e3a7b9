//! Which FullBackups are of fulls that the archive no longer holds: retention took them, or somebody by hand. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::report::{ArchiveReport, PruneOutcome};
use crate::api::{FullBackup, Phase};
use crate::controller::conditions;
use crate::controller::full_backup::COMPLETE;

/// Ids of the fulls in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    at: Timestamp,
    ids: BTreeSet<String>,
}

impl Holdings {
    /// As the stream's pod last read the archive, or the last prune left it; none where neither says so for sure.
    pub fn newest(report: Option<&ArchiveReport>, prune: Option<&PruneOutcome>) -> Option<Self> {
        // What is damaged is in no list, and is not gone.
        let read = report.filter(|report| report.problems.is_empty() && report.full_ids.len() == report.fulls);
        let read = read.and_then(|report| Self::new(&report.read_at, &report.full_ids));
        let left = prune.filter(|prune| prune.kept.len() as u64 == prune.kept_fulls);
        let left = left.and_then(|prune| Self::new(&prune.at, &prune.kept));
        [read, left].into_iter().flatten().max_by_key(|holdings| holdings.at)
    }

    fn new(at: &str, ids: &[String]) -> Option<Self> {
        let at = at.parse().ok()?;
        Some(Self { at, ids: ids.iter().cloned().collect() })
    }

    /// Those of a policy's FullBackups whose fulls it lacks. It must hold a newer full of theirs: an archive that is another one by now, or was
    /// read by a clock that runs ahead, says nothing of older ones.
    pub fn lacks<'a, F: AsRef<FullBackup>>(&self, fulls: &'a [F]) -> Vec<&'a F> {
        let newest = fulls.iter().filter_map(|full| taken(full.as_ref())).filter(|(id, _)| self.ids.contains(*id));
        let Some(newest) = newest.map(|(_, ended)| ended).max() else { return Vec::new() };
        let lacks = |full: &&F| {
            let taken = taken((*full).as_ref());
            taken.is_some_and(|(id, ended)| !self.ids.contains(id) && ended < newest && ended < self.at)
        };
        fulls.iter().filter(lacks).collect()
    }
}

/// Id of a full that was taken, and when that was seen.
fn taken(full: &FullBackup) -> Option<(&str, Timestamp)> {
    let status = full.status.as_ref().filter(|status| status.phase == Phase::Succeeded)?;
    let complete = conditions::find(&status.conditions, COMPLETE)?;
    Some((status.id.as_deref()?, complete.last_transition_time.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn full(id: &str, minute: u8, phase: &str) -> Arc<FullBackup> {
        Arc::new(
            serde_yaml::from_str(&format!(
                "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: f-{id}}}, spec: {{policyRef: {{name: orders}}}}, \
                 status: {{phase: {phase}, id: {id}, conditions: [{{type: Complete, status: 'True', reason: Taken, message: m, \
                 lastTransitionTime: '2026-11-28T12:{minute:02}:00Z'}}]}}}}"
            ))
            .unwrap(),
        )
    }

    fn report(ids: &[&str], minute: u8) -> ArchiveReport {
        let full_ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let read_at = format!("2026-11-28T12:{minute:02}:30Z");
        ArchiveReport { read_at, fulls: full_ids.len(), full_ids, ..ArchiveReport::default() }
    }

    fn lacking(holdings: Option<Holdings>) -> Vec<String> {
        let fulls =
            [full("a", 1, "Succeeded"), full("b", 2, "Succeeded"), full("c", 3, "Succeeded"), full("d", 0, "Failed")];
        let lacks = holdings.map(|holdings| holdings.lacks(&fulls).into_iter().cloned().collect::<Vec<_>>());
        lacks.unwrap_or_default().iter().map(|full| full.status.clone().unwrap().id.unwrap()).collect()
    }

    #[test]
    fn a_full_is_gone_when_an_archive_that_holds_a_newer_one_lacks_it() {
        let read = |report: &ArchiveReport| lacking(Holdings::newest(Some(report), None));
        assert_eq!(read(&report(&["c"], 9)), ["a", "b"]);
        assert_eq!(read(&report(&["b"], 9)), ["a"], "the archive was read before the newest, or is older than that");
        assert_eq!(read(&report(&["b", "c"], 0)), [""; 0], "it was read before that one was taken, says its clock");
        assert_eq!(read(&report(&[], 9)), [""; 0], "an empty archive may be another one");
        assert_eq!(read(&report(&["x"], 9)), [""; 0], "it is another one");
        let damaged = ArchiveReport { problems: vec!["full a: manifest unreadable".to_owned()], ..report(&["c"], 9) };
        assert_eq!(read(&damaged), [""; 0]);
        let older_pod = ArchiveReport { full_ids: Vec::new(), ..report(&["c"], 9) };
        assert_eq!(read(&older_pod), [""; 0]);
    }

    #[test]
    fn a_prune_says_what_it_left_unless_that_did_not_fit() {
        let prune = |kept: &[&str], kept_fulls| PruneOutcome {
            at: "2026-11-28T12:20:00Z".to_owned(),
            kept: kept.iter().map(|id| (*id).to_owned()).collect(),
            kept_fulls,
            ..PruneOutcome::default()
        };
        assert_eq!(lacking(Holdings::newest(None, Some(&prune(&["c"], 1)))), ["a", "b"]);
        assert_eq!(lacking(Holdings::newest(None, Some(&prune(&[], 1)))), [""; 0]);
        // The newer word counts.
        assert_eq!(lacking(Holdings::newest(Some(&report(&["b", "c"], 9)), Some(&prune(&["c"], 1)))), ["a", "b"]);
        assert_eq!(lacking(Holdings::newest(Some(&report(&["b", "c"], 30)), Some(&prune(&["c"], 1)))), ["a"]);
    }
}
