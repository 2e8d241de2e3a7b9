//! What a restore will do, as pure data: made before anything is touched, shown by `--dry-run`, kept in the target.
//!
//! [`make`] is pure: archive facts and a request in, a [`Plan`] or a [`PlanError`] out. Only where the target falls within
//! a file does somebody have to look at bytes; [`Cut`] says which file, [`super::resolve`] looks.

mod choose;
mod contested;
mod error;
mod explain;
mod prepared;
mod show;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use choose::{Cut, Found, Question, Reject, Step, ask, make};
pub(super) use choose::{closure, joined};
pub use contested::unsure;
pub(super) use error::SplitXaSnafu;

pub use error::PlanError;
pub use prepared::{PreparedXa, after_replay, before_replay};

use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, Catalog, FullHead};
use crate::archive::digest::Digest;
use crate::archive::timeline::{Chain, Timeline, Window};
use crate::model::gtid::ParseGtidError;
use crate::model::{BinlogPosition, CommitTime, Flavor, Gtid, GtidSet};

/// Where a restore shall end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Everything the archive holds.
    Latest,
    /// Every transaction committed at or before this moment, in the order of the log.
    Time(Timestamp),
    /// The log up to and including the last of these transactions; or exactly what a full holds, if the set is a full's.
    Gtid(GtidSet),
    /// The log up to this offset of this file. `file` may be `name@created` where the archive holds several of that name.
    Position(BinlogPosition),
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Where to end.
    pub target: Target,
    /// End before the target (time, GTID or position) instead of at it.
    pub exclusive: bool,
    /// Transactions to leave out; each is replaced by an empty one of the same GTID.
    pub skip_gtids: Option<GtidSet>,
    /// End at the nearest reachable point before the target where the target itself cannot be reached.
    pub allow_nearest: bool,
}

impl Request {
    /// What ends a log at `time`.
    fn by_time(&self, time: CommitTime) -> Question {
        if self.exclusive { Question::BeforeTime(time) } else { Question::UpToTime(time) }
    }
}

/// What the archive holds.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The archive's flavor.
    pub flavor: Flavor,
    /// Every complete full.
    pub fulls: Vec<FullHead>,
    /// Every binlog file.
    pub files: Vec<ArchivedFile>,
    /// What follows from them.
    pub timeline: Timeline,
    /// By full: what the log before it says of its [`FullHead::prepared_xa`]; looked up where a plan needs it ([`Reject::NotLooked`]).
    pub prepared: BTreeMap<String, PreparedXa>,
    /// The contested forks, by their place in the timeline, of which something had committed by the time that is asked for. Whoever asks for a
    /// plan to a time looks first, into what [`unsure`] names.
    pub begun: Vec<usize>,
    /// The files' indexes by their ids: there may be thousands, each asked for again and again.
    by_id: OnceLock<Vec<usize>>,
}

impl Facts {
    /// Computes the timeline of a catalog.
    pub fn of(catalog: Catalog) -> Self {
        let Catalog { info, fulls, files, .. } = catalog;
        let timeline = Timeline::new(info.flavor, &fulls, &files);
        let (prepared, begun, by_id) = (BTreeMap::new(), Vec::new(), OnceLock::new());
        Self { flavor: info.flavor, fulls, files, timeline, prepared, begun, by_id }
    }

    /// With `files` instead of those that were told as one.
    pub fn unfolded(mut self, folded: &[FileId], files: Vec<ArchivedFile>) -> Self {
        let folded: HashSet<&FileId> = folded.iter().collect();
        self.files.retain(|file| !folded.contains(&file.id));
        self.files.extend(files);
        self.by_id = OnceLock::new();
        self.timeline = Timeline::new(self.flavor, &self.fulls, &self.files);
        self
    }

    /// Files told as one of which it must be known by itself what they are, before anything is planned: where a target may be in any of them.
    pub fn folded_target(&self, request: &Request) -> Vec<FileId> {
        let spans = self.files.iter().filter(|file| file.is_span());
        let named = |file: &&ArchivedFile| match &request.target {
            Target::Position(at) => {
                let name = at.file.split('@').next().unwrap_or_default();
                file.ids().iter().any(|id| id.name == name)
            }
            Target::Latest | Target::Time(_) | Target::Gtid(_) => false,
        };
        let unsure = contested::unsure(self, request).into_iter().map(|(_, file, _)| file);
        let unsure = unsure.filter(|file| file.is_span());
        spans.filter(named).chain(unsure).map(|file| file.id.clone()).collect()
    }

    /// The same of those that a plan along `chain`, up to that link, is made of.
    pub fn folded_links(&self, chain: &Chain, link: usize) -> Vec<FileId> {
        let links = chain.links.iter().take(link.saturating_add(1));
        let spans = links.filter_map(|link| self.file(&link.file)).filter(|file| file.is_span());
        spans.map(|file| file.id.clone()).collect()
    }

    /// Of a chain the files that are told as one and used in part: how far their own files are complete is not known before they are told apart.
    pub fn folded_in_part(&self, chain: &Chain) -> Vec<FileId> {
        let spans = chain.links.iter().filter_map(|link| self.file(&link.file)).filter(|file| file.is_span());
        spans.filter(|file| !file.summary.gtids.is_subset(&chain.gtids)).map(|file| file.id.clone()).collect()
    }

    /// One file.
    pub fn file(&self, id: &FileId) -> Option<&ArchivedFile> {
        let id_of = |i: &usize| self.files.get(*i).map(|file| &file.id);
        let by_id = self.by_id.get_or_init(|| {
            let mut by_id: Vec<usize> = (0..self.files.len()).collect();
            by_id.sort_by_key(id_of);
            by_id
        });
        let at = by_id.binary_search_by(|i| id_of(i).cmp(&Some(id))).ok()?;
        self.files.get(*by_id.get(at)?)
    }

    /// What can be restored, in words: times and GTIDs.
    pub fn reachable(&self) -> String {
        let windows: Vec<String> = self.timeline.windows.iter().map(|w| self.in_words(w)).collect();
        if windows.is_empty() {
            "nothing is reachable".to_owned()
        } else {
            format!("reachable: {}", windows.join("; "))
        }
    }

    fn in_words(&self, window: &Window) -> String {
        let span = format!("{} to {}", window.first.timestamp(), window.latest.timestamp());
        let chain = window.fulls.first().and_then(|full| self.timeline.chain(full));
        match chain.and_then(|c| c.links.last()) {
            _ if !window.gtids.is_empty() => format!("{span} (GTIDs up to {})", shown(&window.gtids)),
            Some(link) => format!("{span} (up to {}:{})", link.file.name, link.to),
            None => span,
        }
    }
}

/// A set as people read it: MariaDB's as a position.
pub(crate) fn shown(set: &GtidSet) -> String {
    match set {
        GtidSet::Mysql(set) => set.to_string(),
        GtidSet::Mariadb(set) => set.position(),
    }
}

/// Measured speeds, for the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Raw bytes of a full loaded a second.
    pub load_bytes_per_s: u64,
    /// Raw bytes of binlog replayed a second.
    pub replay_bytes_per_s: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { load_bytes_per_s: 30_000_000, replay_bytes_per_s: 6_000_000 }
    }
}

/// How the end of a replay is named and proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Coordinates {
    /// By GTID set.
    Gtid,
    /// By file and position: the source had no GTIDs.
    Position,
}

/// The full a restore starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasePlan {
    /// Its id.
    pub id: String,
    /// The moment it shows.
    pub consistent_at: Timestamp,
    /// What it contains.
    pub gtids: GtidSet,
    /// Binlog position of the copy.
    pub position: Option<BinlogPosition>,
    /// Stored bytes to read.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
}

/// A part of a binlog file to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilePart {
    /// Which file.
    pub file: FileId,
    /// Offset of the first event that may be needed (4: the file's head).
    pub start: u64,
    /// One past the last byte needed: always the end of a transaction or of the file's head.
    pub end: u64,
    /// Exactly the transactions to replay from it; empty where they have no GTIDs, and all from `start` on are replayed.
    pub take: GtidSet,
}

/// A restore, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What was asked for.
    pub request: Request,
    /// Flavor of the source, and so of the target.
    pub flavor: Flavor,
    /// The version of the server the base was taken from; the target must not be older.
    pub server_version: String,
    /// How the end is named and proved.
    pub coordinates: Coordinates,
    /// The full to load first.
    pub base: BasePlan,
    /// The log to replay after it, in order; empty when the base is the target.
    pub files: Vec<FilePart>,
    /// GTIDs to be replayed, exactly, those of `skipped` and `prepared` included.
    pub replay_gtids: GtidSet,
    /// GTIDs of the base that are replayed all the same: what they did was prepared, and not in the copy.
    pub prepared: GtidSet,
    /// GTIDs that are replayed as empty transactions.
    pub skipped: GtidSet,
    /// What the target has executed at the end, exactly.
    pub expected_gtids: GtidSet,
    /// Where the replayed log ends (file and offset of the source).
    pub end: Option<BinlogPosition>,
    /// The last replayed transaction.
    pub last_gtid: Option<Gtid>,
    /// Commit time of the newest transaction in the result; none when nothing is replayed.
    pub restored_to: Option<CommitTime>,
    /// Binlog bytes to read.
    pub replay_bytes: u64,
    /// Estimated duration in seconds.
    pub eta_s: u64,
    /// Why this base and this end, in words.
    pub explanation: Vec<String>,
    /// What the result leaves out, in words: archived transactions that the live lineage lacks, and what may never have been archived.
    pub forks: Vec<String>,
}

impl Plan {
    /// Whether transactions of several MariaDB domains are replayed: only the log tells their order.
    pub(super) fn has_domains(&self) -> bool {
        matches!(&self.replay_gtids, GtidSet::Mariadb(set) if set.domains().count() > 1)
    }

    /// A hex digest of everything that decides the result: two plans of equal digest restore the same.
    /// The estimate, the words and the way it was asked for are left out.
    pub fn digest(&self) -> String {
        let Self { flavor, server_version: _, coordinates, base, files, replay_gtids, skipped, expected_gtids, .. } =
            self;
        let decisive = (flavor, coordinates, &base.id, files, replay_gtids, skipped, expected_gtids);
        let json = serde_json::to_vec(&decisive).unwrap_or_default();
        Digest::of(&json)
    }
}

/// Reads GTIDs that stand for themselves: on MariaDB `0-1-5` is one transaction here (`0-1-3..5` are three), where a position of
/// the same text would mean all up to it.
pub fn parse_gtids(flavor: Flavor, text: &str) -> Result<GtidSet, ParseGtidError> {
    GtidSet::parse(flavor, text).map(|set| choose::exact(&set))
}
