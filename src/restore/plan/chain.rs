//! How far the log goes on from a full without a hole.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Facts, FullFacts, LogFacts};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, CommitTime, GtidSet};

/// A stretch of time to any point of which the archive can restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The full it begins with.
    pub full: String,
    /// The moment that full shows.
    pub from: Timestamp,
    /// What that full contains.
    pub from_gtids: GtidSet,
    /// The newest reachable commit; none when no transaction follows the full.
    pub to: Option<CommitTime>,
    /// What a restore to its end has executed.
    pub to_gtids: GtidSet,
    /// Where its log ends.
    pub to_position: Option<BinlogPosition>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to.map_or(self.from, CommitTime::timestamp).max(self.from);
        write!(f, "{} to {to}", self.from)?;
        match (&self.to_position, self.to_gtids.is_empty()) {
            (_, false) => write!(f, " (GTIDs up to {})", shown(&self.to_gtids)),
            (Some(position), true) => write!(f, " (up to {position})"),
            (None, true) => Ok(()),
        }
    }
}

/// Where the log goes on from a full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Index of the first file needed.
    pub start: usize,
    /// Offset in it of the first event that may be needed.
    pub start_offset: u64,
    /// Index of the last file that is reached without a hole.
    pub reach: usize,
    /// What is missing right after `reach`: a GTID set or words. None where the chain goes on to the end of the log.
    pub gap: Option<Gap>,
    positions: bool,
}

/// A hole in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// By GTID.
    Gtids(GtidSet),
    /// Where GTIDs are off: between which files.
    Files(String),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gtids(gtids) => gtids.fmt(f),
            Self::Files(words) => f.write_str(words),
        }
    }
}

impl Chain {
    /// Whether it goes by file and position, for want of GTIDs.
    pub fn by_position(&self) -> bool {
        self.positions
    }

    /// Follows the log from `full` as far as it goes. An error is the hole right behind the full.
    pub fn from(full: &FullFacts, files: &[LogFacts]) -> Result<Self, Gap> {
        if full.gtids.is_empty() && files.iter().any(|f| f.summary.transactions > 0 && f.summary.gtids.is_empty()) {
            return Self::from_position(full, files);
        }
        let start = files.iter().rposition(|f| f.summary.previous_gtids.is_subset(&full.gtids)).ok_or_else(|| {
            let missing = files.first().map(|f| f.summary.previous_gtids.difference(&full.gtids));
            Gap::Gtids(missing.unwrap_or_else(|| full.gtids.clone()))
        })?;
        let mut known = closure(&full.gtids);
        let mut chain = Self { start, start_offset: 4, reach: start, gap: None, positions: false };
        for (i, file) in files.iter().enumerate().skip(start) {
            let missing = file.summary.previous_gtids.difference(&known);
            if !missing.is_empty() {
                chain.gap = Some(Gap::Gtids(missing));
                break;
            }
            chain.reach = i;
            known = closure(&joined(&known, &file.summary.gtids));
        }
        Ok(chain)
    }

    fn from_position(full: &FullFacts, files: &[LogFacts]) -> Result<Self, Gap> {
        let Some(position) = &full.position else {
            return Err(Gap::Files("the full has no binlog position (the binlog was off)".to_owned()));
        };
        let start = files
            .iter()
            .rposition(|f| {
                f.file.name == position.file
                    && f.file.server == full.server
                    && full.position_created_unix.is_none_or(|created| created == f.file.created_unix)
            })
            .filter(|&i| files.get(i).is_some_and(|f| f.closed || f.summary.boundary >= position.offset))
            .ok_or_else(|| Gap::Files(format!("the log from {position} on, where the full was taken")))?;
        let mut chain = Self { start, start_offset: position.offset, reach: start, gap: None, positions: true };
        for (before, after) in files.iter().zip(files.iter().skip(1)).skip(start) {
            let follows = before.closed
                && before.file.server == after.file.server
                && before.next_file.as_ref().is_none_or(|next| *next == after.file.name);
            if !follows {
                let gap =
                    format!("the log between {}:{} and {}", before.file.name, before.summary.boundary, after.file.name);
                chain.gap = Some(Gap::Files(gap));
                break;
            }
            chain.reach += 1;
        }
        Ok(chain)
    }
}

/// Every stretch of the log that can be restored to, oldest first; a full that an older full's log reaches adds none.
pub fn windows(facts: &Facts) -> Vec<Window> {
    let mut found: Vec<(Window, Option<usize>)> = Vec::new();
    for full in &facts.fulls {
        let chain = Chain::from(full, &facts.files).ok();
        let reach = chain.as_ref().map(|c| c.reach);
        if reach.is_some() && found.last().is_some_and(|(_, before)| *before == reach) {
            continue;
        }
        let reached = chain.as_ref().and_then(|c| facts.files.get(c.start..=c.reach)).unwrap_or_default();
        let to_gtids = reached.iter().fold(full.gtids.clone(), |all, f| joined(&all, &f.summary.gtids));
        let to = reached.iter().filter_map(|f| f.summary.last_commit).max();
        let end = reached.last().map(|f| BinlogPosition { file: f.file.name.clone(), offset: f.summary.boundary });
        let window = Window {
            full: full.id.clone(),
            from: full.consistent_at,
            from_gtids: full.gtids.clone(),
            to,
            to_gtids,
            to_position: end.or_else(|| full.position.clone()),
        };
        found.push((window, reach));
    }
    found.into_iter().map(|(window, _)| window).collect()
}

/// The union of two sets of one archive (which has one flavor).
pub(super) fn joined(a: &GtidSet, b: &GtidSet) -> GtidSet {
    a.union(b).unwrap_or_else(|_| a.clone())
}

/// What a server that has executed `set` says it has executed. MariaDB says a position, which stands for every lower
/// number too, so numbers that no transaction ever had are no holes.
pub(super) fn closure(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mysql(_) => set.clone(),
        GtidSet::Mariadb(of) => {
            let mut closed = MariadbGtidSet::default();
            for (domain, ..) in of.domains() {
                if let Some(last) = of.last(domain) {
                    closed.insert_prefix(&last);
                }
            }
            GtidSet::Mariadb(closed)
        }
    }
}

/// A set as people read it: MariaDB's as a position.
pub(super) fn shown(set: &GtidSet) -> String {
    match set {
        GtidSet::Mysql(set) => set.to_string(),
        GtidSet::Mariadb(set) => set.position(),
    }
}
