//! Whether what stays still leads where everything led: computed from what stays, as a restore will compute it.

use std::collections::BTreeSet;

use super::Facts;
use super::fulls::Decided;
use crate::archive::binlog_index::FileId;
use crate::archive::timeline::{Chain, ChainEnd, Fork, Timeline};

/// What a deletion would change.
pub(super) struct Flaw {
    /// The server whose log it takes; none: it is not about one server.
    pub(super) server: Option<String>,
    /// What would change, in words.
    pub(super) why: String,
}

/// The first thing that would be restored otherwise without `dropped`.
pub(super) fn flaw(facts: &Facts<'_>, fulls: &[Decided<'_>], dropped: &BTreeSet<&FileId>) -> Option<Flaw> {
    if dropped.is_empty() {
        return None;
    }
    let kept_fulls: Vec<_> = fulls.iter().filter(|full| full.verdict.keep).map(|full| full.full.clone()).collect();
    let kept_files: Vec<_> = facts.files().iter().filter(|file| !dropped.contains(&file.id)).cloned().collect();
    let before = &facts.timeline;
    let after = Timeline::new(facts.catalog.info.flavor, &kept_fulls, &kept_files);
    let is_gone = |fork: &Fork| fork.files.iter().any(|file| dropped.contains(file));
    let (gone, stay): (Vec<&Fork>, Vec<&Fork>) = before.forks.iter().partition(|fork| is_gone(fork));
    let of_gone =
        |fork: &&Fork| gone.iter().any(|gone| gone.server == fork.server && fork.gtids.is_subset(&gone.gtids));
    let same_lineage = before.live_server == after.live_server
        && before.live_commit == after.live_commit
        && stay.iter().all(|fork| after.forks.contains(fork))
        && after.forks.iter().all(|fork| stay.contains(&fork) || of_gone(&fork));
    if !same_lineage {
        let why = "what is left would not tell which server's log is the live one, or what others have beside it";
        return Some(Flaw { server: None, why: why.to_owned() });
    }
    let led_elsewhere = |full: &&Decided<'_>| match (before.chain(&full.full.id), after.chain(&full.full.id)) {
        (Some(before), Some(after)) if full.with_log => before != after,
        (Some(before), Some(after)) => !is_beginning(after, before),
        _ => true,
    };
    let full = fulls.iter().filter(|full| full.verdict.keep).find(led_elsewhere)?;
    let why = format!("what is left of the log would lead full {} elsewhere", full.full.id);
    Some(Flaw { server: Some(full.full.server.clone()), why })
}

/// Whether all that `after` leads to `before` led to as well, and `after` says so where it ends sooner.
fn is_beginning(after: &Chain, before: &Chain) -> bool {
    let honest = match (&after.end, &before.end) {
        (ChainEnd::Gap(_), _) => true,
        (ChainEnd::OffLineage { cause: after, .. }, ChainEnd::OffLineage { cause: before, .. }) => after == before,
        (after_end, before_end) => after_end == before_end && after.links.len() == before.links.len(),
    };
    honest && before.links.starts_with(&after.links)
}
