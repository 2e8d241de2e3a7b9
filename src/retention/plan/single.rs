//! One full that somebody wants to be gone.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::fulls::{last_good, of_window, xa_need};
use super::{Facts, FileVerdict, FullVerdict, Plan, RetentionError, Rules};
use crate::archive::catalog::{ArchivedFile, Catalog, FullHead};
use crate::archive::timeline::Timeline;
use crate::model::CommitTime;

/// Deletes one full; no log and nothing else goes with it. A full that is not there is gone already. Refused is the last good full, and one
/// that moments of the window or other fulls need.
pub fn one(
    catalog: &Catalog,
    held: &BTreeSet<String>,
    rules: &Rules,
    now: Timestamp,
    id: &str,
) -> Result<Plan, RetentionError> {
    let facts = Facts::new(catalog, held, rules, now)?;
    if facts.fulls().iter().any(|full| full.id == id)
        && let Some(why) = need_of(&facts, id)
    {
        return Err(RetentionError::Needed { id: id.to_owned(), why });
    }
    let verdict = |full: &FullHead| FullVerdict {
        id: full.id.clone(),
        consistent_at: full.consistent_at,
        bytes: full.bytes,
        keep: full.id != id,
        reasons: vec![if full.id == id { "it is to be deleted" } else { OTHER }.to_owned()],
    };
    let file = |file: &ArchivedFile| FileVerdict::new(file, true, OTHER.to_owned());
    Ok(Plan {
        window_from: facts.since.map(CommitTime::timestamp),
        fulls: facts.fulls().iter().map(verdict).collect(),
        files: Timeline::logs(facts.files()).into_iter().flatten().map(file).collect(),
        strays: Vec::new(),
        notes: Vec::new(),
    })
}

const OTHER: &str = "one full alone is deleted";

fn need_of(facts: &Facts<'_>, id: &str) -> Option<String> {
    if facts.held.contains(id) {
        return Some("a restore under way reads it; delete it when that has ended".to_owned());
    }
    if last_good(facts).contains(id) {
        return Some("it is the last good full; take another one first (`tidemark backup`)".to_owned());
    }
    if let Some(since) = facts.since {
        let mut needed = facts.timeline.windows.iter().flat_map(|window| of_window(facts, window, since));
        if let Some(needed) = needed.find(|needed| needed.id == id && needed.alone) {
            let why = format!("moments of the retention window are restored from it ({}); ", needed.why);
            return Some(
                why + "retention deletes it by itself once they are older, or make spec.retention.window shorter",
            );
        }
    }
    let needs = |full: &&FullHead| {
        full.id != id && xa_need(facts, full).is_some_and(|need| need.since.is_some_and(|since| since.id == id))
    };
    let other = facts.fulls().iter().find(needs)?;
    Some(format!("full {} needs it to find what prepared its XA transactions; delete that one first", other.id))
}
