//! Whether an archive is what was stored, and what cannot be restored where it is not.
//!
//! ```text
//! survey (listings, manifests, indexes) ─▶ compare, gaps (pure) ─┐
//! deep (every object's bytes) ─▶ read ────────────────────────────┴─▶ findings ─▶ affected (pure) ─▶ report
//!        └─▶ state: how far it has come, where the logs ended
//! ```
//!
//! A quick verify reads no data and makes a few requests a full and a binlog file, however many objects those have. A deep one reads every byte,
//! at a pace, and goes on where the last one stopped. What seems wrong is looked at twice before it is told: a stream, a full or a prune may be
//! at work.

mod affected;
mod compare;
mod deep;
mod error;
mod finding;
mod gaps;
mod look;
mod read;
mod state;
mod survey;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::archive::store::Store;
use crate::model::Progress;
use affected::affected;
use deep::Deep;
pub use error::VerifyError;
pub use finding::{Affected, Damage, Finding, Place, Stretch};
pub use state::Ended;
use state::{DeepState, State};
use survey::{FINDINGS_PER_FOLDER, Known, Survey, Unit};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Listings against what manifests and indexes name: names, sizes, GTIDs.
    Quick,
    /// That, and every byte.
    Deep,
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is looked at.
    pub depth: Depth,
    /// Most bytes that a deep verify reads in a second; none: as many as it can.
    pub bytes_per_second: Option<u64>,
    /// Logs older than this may have been deleted by retention; none: nothing is ever deleted.
    pub kept_since: Option<Timestamp>,
}

/// How an archive was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How much was looked at.
    pub depth: Depth,
    /// When it began; a deep one that went on began with the first part.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Objects there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects whose bytes were read, by this process.
    pub read_objects: u64,
    /// Bytes read, by this process.
    pub read_bytes: u64,
    /// Objects that an earlier process had read.
    pub resumed_objects: u64,
    /// Encrypted ones of those that were read whose bytes were compared with the checksums they were stored with, and not decoded: no identity was
    /// given.
    pub undecoded_objects: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings beyond those told, of folders with very many.
    pub more: u64,
    /// What cannot be restored because of all of it.
    pub affected: Affected,
    /// Objects that nothing refers to, of fulls that are under way or were given up, or of an interrupted prune. They harm nothing.
    pub leftovers: u64,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// Verifies an archive. Findings are a result, no error.
pub async fn verify(
    store: &Store,
    options: &Options,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Report, VerifyError> {
    let now = Timestamp::now();
    let mut state = State::load(store, now).await?;
    let before = state.clone();
    let known = Known { tails: &before.tails, kept_since: options.kept_since };
    let survey = Survey::take(store, &known, progress, cancel).await?;
    let timeline = survey.timeline();
    let mut report = Report {
        depth: options.depth,
        started_at: now,
        finished_at: now,
        objects: survey.objects,
        bytes: survey.bytes,
        read_objects: 0,
        read_bytes: 0,
        resumed_objects: 0,
        undecoded_objects: 0,
        findings: survey.findings.clone(),
        more: 0,
        affected: Affected::default(),
        leftovers: survey.leftovers,
        notes: gaps::notes(&timeline, &survey.fulls),
    };
    if options.depth == Depth::Deep {
        survey.check_identities(store)?;
        let resumed = state.deep.clone().unwrap_or_else(|| DeepState::new(now));
        (report.started_at, report.resumed_objects) = (resumed.started_at, resumed.objects);
        tracing::info!(
            objects = survey.objects,
            bytes = survey.bytes,
            before = resumed.objects,
            "reading every object"
        );
        progress.begin("reading", survey.bytes);
        progress.add(resumed.bytes, resumed.objects);
        let mut deep = Deep::new(store, options.bytes_per_second, progress, cancel, &mut state);
        let (found, undecoded) = deep.run(&survey.units, resumed).await?;
        (report.read_objects, report.read_bytes) = (deep.objects, deep.bytes());
        report.undecoded_objects = undecoded;
        // Who has read it knows more.
        report.findings.retain(|finding| !found.iter().any(|read| read.key == finding.key));
        report.findings.extend(found);
    }
    name_swaps(&mut report.findings);
    report.more = survey.more + limit(&mut report.findings, &survey.units);
    for finding in &mut report.findings {
        finding.affected = affected(&timeline, &[&finding.place]);
    }
    let places: Vec<&Place> = report.findings.iter().map(|finding| &finding.place).collect();
    report.affected = affected(&timeline, &places);
    report.finished_at = Timestamp::now();
    // An end that is lost stays so until the log has passed it again.
    let lost = gaps::lost_tails(&before.tails, &survey.files);
    let is_lost = |tail: &gaps::Tail| {
        lost.iter().any(|finding| matches!(&finding.place, Place::Hole { file, .. } if *file == tail.file))
    };
    state.tails = gaps::tails(&survey.files).into_iter().filter(|tail| !is_lost(tail)).collect();
    state.tails.extend(before.tails.iter().filter(|tail| is_lost(tail)).cloned());
    state.ended.retain(|ended| ended.depth != options.depth);
    state.ended.push(Ended {
        depth: options.depth,
        began: report.started_at,
        at: report.finished_at,
        findings: report.found(),
        affected: report.affected.to_string(),
    });
    state.save(store).await;
    Ok(report)
}

/// The last verify of each depth that came to its end, as far as that was kept.
pub async fn ended(store: &Store) -> Result<Vec<Ended>, VerifyError> {
    Ok(State::load(store, Timestamp::now()).await?.ended)
}

impl Report {
    /// How much is wrong.
    pub fn found(&self) -> u64 {
        self.findings.len() as u64 + self.more
    }
}

/// An object that holds another one's bytes is a copy of it, unless that one does not hold them.
fn name_swaps(findings: &mut [Finding]) {
    let wrong: Vec<String> = findings.iter().map(|finding| finding.key.clone()).collect();
    for finding in findings {
        if let Damage::Duplicated { of } = &finding.damage
            && wrong.contains(of)
        {
            finding.damage = Damage::Swapped { holds: of.clone() };
        }
    }
}

/// Cuts what is told of each folder; how much that is.
fn limit(findings: &mut Vec<Finding>, units: &[Unit]) -> u64 {
    let dirs: Vec<String> = units.iter().map(Unit::dir).collect();
    let mut of_dir: BTreeMap<usize, usize> = BTreeMap::new();
    let all = findings.len();
    findings.retain(|finding| {
        // Folders are sorted, and none holds another.
        let at = dirs.partition_point(|dir| dir.as_str() <= finding.key.as_str());
        let count = of_dir.entry(at).or_default();
        *count += 1;
        *count <= FINDINGS_PER_FOLDER
    });
    (all - findings.len()) as u64
}
