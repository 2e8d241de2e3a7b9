//! Transactions that the live lineage does not have, and whether anything tells that they are not what is wanted.
//!
//! GTIDs say which server went on from which: a promoted one from a dead one. They say the same of a server that was promoted by mistake and
//! left again. But then the first one wrote on, and committed last. So a fork whose newest commit is no earlier than the live lineage's is
//! *contested*. The newest commits are compared, not where the lineages part: a dead primary may have written on for a while after another one
//! took over, and clocks that differ only delay the answer, as the server in use commits on and passes whatever the other one's clock said.

use super::Fork;
use super::history::{Histories, add, by_server};
use crate::model::{CommitTime, GtidSet};

/// Transactions that the live lineage does not have; and its newest commit.
pub(super) fn forks(histories: &Histories<'_>) -> (Vec<Fork>, Option<CommitTime>) {
    let Some(live) = histories.live() else { return (Vec::new(), None) };
    let (executed, written) = (live.executed(histories.flavor), live.written(histories.flavor));
    let mut newest = None;
    let mut forks: Vec<Fork> = Vec::new();
    for history in std::iter::once(live).chain(histories.lenders(live)) {
        let none = GtidSet::empty(histories.flavor);
        let mut fork = Fork {
            server: history.server().to_owned(),
            files: Vec::new(),
            gtids: none.clone(),
            lacks: none,
            last_commit: None,
            contested: false,
        };
        for (i, (file, previous)) in history.files.iter().zip(&history.previous).enumerate() {
            let mut lost = file.summary.gtids.difference(&history.acknowledged(i));
            if !std::ptr::eq(history, live) {
                add(&mut lost, &file.summary.gtids.difference(&executed));
                // A server that was put back to an earlier state gives the same GTIDs out again.
                if history.server() == live.server() {
                    add(&mut lost, &written.intersection(&by_server(&file.summary.gtids, live.server())));
                }
            }
            if lost.is_empty() {
                newest = newest.max(file.summary.last_commit);
                continue;
            }
            fork.files.push(file.id.clone());
            add(&mut fork.gtids, &lost);
            // Of a file that is a fork in part: no earlier than the fork's newest.
            fork.last_commit = fork.last_commit.max(file.summary.last_commit);
            let mut had = previous.clone();
            add(&mut had, &file.summary.gtids);
            fork.lacks = executed.difference(&had);
        }
        if !fork.files.is_empty() {
            // Of these the live lineage has others by the same GTIDs.
            let again = fork.gtids.intersection(&executed);
            add(&mut fork.lacks, &again);
            forks.push(fork);
        }
    }
    for fork in &mut forks {
        fork.contested = fork.last_commit.is_none() || fork.last_commit >= newest;
    }
    (forks, newest)
}
