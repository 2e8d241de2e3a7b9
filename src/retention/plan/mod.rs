//! What goes and what stays, as pure data, with a reason for each.
//!
//! [`plan`] follows a policy's rules, [`one`] deletes one full that somebody names. Without rules nothing goes; nothing goes either where the
//! archive is damaged. Time passes only as far as the archive shows: when fulls and commits stop coming, nothing grows old.

mod fulls;
mod logs;
mod proof;
mod single;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::error::RetentionError;
use super::strays::Stray;
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, Catalog, FileIds, FullHead};
use crate::archive::timeline::Timeline;
use crate::model::{CommitTime, total};

pub use single::one;

/// Objects that nothing refers to are swept when they are older than this: they may be of a full that is under way.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);

/// How long fulls and binlogs are kept; a count of 0 is a rule that is not set.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Every moment of this last stretch of time stays recoverable.
    pub window: Option<Duration>,
    /// The last fulls.
    pub last: u32,
    /// The last full of each of the last days that have one.
    pub daily: u32,
    /// Of weeks, which begin on Mondays.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
    /// The time zone of days and weeks.
    pub zone: TimeZone,
}

impl Rules {
    /// Whether nothing is ever to be deleted.
    pub fn is_empty(&self) -> bool {
        let Self { window, last, daily, weekly, monthly, yearly, zone: _ } = self;
        window.is_none() && [last, daily, weekly, monthly, yearly].iter().all(|count| **count == 0)
    }
}

/// A prune, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Every moment since then stays recoverable as far as it is; none without a window.
    pub window_from: Option<Timestamp>,
    /// Every full, oldest first.
    pub fulls: Vec<FullVerdict>,
    /// Every binlog file, log by log and oldest first.
    pub files: Vec<FileVerdict>,
    /// What nothing refers to.
    pub strays: Vec<StrayVerdict>,
    /// What somebody should know, in words.
    pub notes: Vec<String>,
}

/// What happens to a full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FullVerdict {
    /// Its id.
    pub id: String,
    /// The moment it shows.
    pub consistent_at: Timestamp,
    /// Stored bytes of its objects.
    pub bytes: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<String>,
}

/// What happens to a binlog file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileVerdict {
    /// Which file.
    pub file: FileId,
    /// The last one, where several that follow one another are told as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_file: Option<String>,
    /// All of them.
    #[serde(skip)]
    pub ids: FileIds,
    /// Stored bytes of its objects.
    pub bytes: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reason: String,
}

/// What happens to a folder of objects that nothing refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StrayVerdict {
    /// The folder.
    pub dir: String,
    /// Stored bytes in it.
    pub bytes: u64,
    /// Whether it stays for now.
    pub keep: bool,
    /// Why.
    pub reason: String,
}

impl FileVerdict {
    fn new(file: &ArchivedFile, keep: bool, reason: String) -> Self {
        let ids = file.ids();
        let last_file = file.is_span().then(|| ids.last().name);
        Self { file: file.id.clone(), last_file, ids, bytes: file.object_bytes, keep, reason }
    }
}

impl Plan {
    /// Stored bytes that it frees.
    pub fn freed_bytes(&self) -> u64 {
        let fulls = self.fulls.iter().filter(|full| !full.keep).map(|full| full.bytes);
        let files = self.files.iter().filter(|file| !file.keep).map(|file| file.bytes);
        let strays = self.strays.iter().filter(|stray| !stray.keep).map(|stray| stray.bytes);
        total(fulls.chain(files).chain(strays))
    }
}

/// What a plan is made of.
struct Facts<'a> {
    catalog: &'a Catalog,
    timeline: Timeline,
    /// The clock, as it was given.
    now: Timestamp,
    /// Every moment after this one is of the window.
    since: Option<CommitTime>,
    /// Fulls that restores under way go on from.
    held: &'a BTreeSet<String>,
}

impl<'a> Facts<'a> {
    fn new(
        catalog: &'a Catalog,
        held: &'a BTreeSet<String>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Self, RetentionError> {
        if !catalog.problems.is_empty() {
            return Err(RetentionError::Damaged { problems: catalog.problems.clone() });
        }
        let Catalog { info, fulls, files, .. } = catalog;
        let timeline = Timeline::new(info.flavor, fulls, files);
        let since = rules.window.and_then(|window| {
            let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
            let since = shown(catalog, now)?.checked_sub(window).unwrap_or(Timestamp::MIN);
            Some(CommitTime::from(since))
        });
        Ok(Self { catalog, timeline, now, since, held })
    }

    fn fulls(&self) -> &'a [FullHead] {
        &self.catalog.fulls
    }

    fn files(&self) -> &'a [ArchivedFile] {
        &self.catalog.files
    }

    /// Whether a full shows a moment that is still to come: its clock was ahead, or this one is behind.
    fn is_of_the_future(&self, full: &FullHead) -> bool {
        full.consistent_at > self.now
    }
}

/// The newest moment that the archive knows of, but none that is still to come; none where it knows of none.
fn shown(catalog: &Catalog, now: Timestamp) -> Option<Timestamp> {
    let fulls = catalog.fulls.iter().map(|full| full.finished_at);
    let commits = catalog.files.iter().filter_map(|file| file.summary.last_commit).map(CommitTime::timestamp);
    Some(fulls.chain(commits).max()?.min(now))
}

/// Decides by a policy's rules what of an archive goes; `held` are the fulls that restores under way go on from.
pub fn plan(
    catalog: &Catalog,
    strays: &[Stray],
    held: &BTreeSet<String>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Plan, RetentionError> {
    let facts = Facts::new(catalog, held, rules, now)?;
    let mut notes = Vec::new();
    let fulls = fulls::decide(&facts, rules);
    let files = logs::decide(&facts, rules, &fulls, &mut notes);
    Ok(Plan {
        window_from: facts.since.map(CommitTime::timestamp),
        fulls: fulls.into_iter().map(|full| full.verdict).collect(),
        files,
        strays: strays_of(catalog, strays, rules, now),
        notes,
    })
}

fn strays_of(catalog: &Catalog, strays: &[Stray], rules: &Rules, now: Timestamp) -> Vec<StrayVerdict> {
    let limit = shown(catalog, now).and_then(|moment| moment.checked_sub(GRACE).ok());
    let verdict = |stray: &Stray| {
        let old = stray.modified.zip(limit).is_some_and(|(modified, limit)| modified < limit);
        let (keep, reason) = match (rules.is_empty(), old) {
            (true, _) => (true, NO_RULES.to_owned()),
            (false, true) => (false, "nothing refers to it, and nothing was added for a day".to_owned()),
            (false, false) => (true, "nothing refers to it, but it may be of a full that is under way".to_owned()),
        };
        StrayVerdict { dir: stray.dir.clone(), bytes: stray.bytes, keep, reason }
    };
    strays.iter().map(verdict).collect()
}

const NO_RULES: &str = "no retention is set: everything stays";
