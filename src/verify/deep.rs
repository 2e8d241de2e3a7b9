//! Reads every object there is a name for, folder by folder and key by key, so that one place says how far it has come.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::VerifyError;
use super::compare::{Sizes, sizes};
use super::finding::{Damage, Finding, Place};
use super::look::of_description;
use super::read::{Bad, FullCheck, SegmentCheck, Source};
use super::state::{DeepState, State, Suspect};
use super::survey::{FINDINGS_PER_FOLDER, Unit};
use crate::archive::ArchiveError;
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{load_chain, load_file, load_index, load_manifest};
use crate::archive::manifest::Content;
use crate::archive::segment::{SegmentObject, read_meta};
use crate::archive::store::Store;
use crate::model::{Pace, Progress};

/// Objects read at a time.
const CONCURRENCY: usize = 4;
/// How often it is kept how far it has come.
const KEEP: Duration = Duration::from_secs(5);

/// What is read of one object.
#[derive(Clone, Debug)]
enum Check {
    Segment(SegmentCheck, Place),
    Object(FullCheck, Place),
    /// It was read before the others, as it tells of them.
    Done(String, Option<Bad>, Place),
}

impl Check {
    fn key(&self) -> String {
        match self {
            Self::Segment(check, _) => check.object.key(),
            Self::Object(check, _) => check.entry.key.clone(),
            Self::Done(key, ..) => key.clone(),
        }
    }
}

/// A deep verify under way.
pub struct Deep<'a> {
    source: Source,
    cancel: &'a CancellationToken,
    state: &'a mut State,
    kept_at: Instant,
    may_keep: bool,
    /// Objects read by this process.
    pub objects: u64,
}

impl<'a> Deep<'a> {
    /// Begins, or goes on from what `state` says.
    pub fn new(
        store: &Store,
        bytes_per_second: Option<u64>,
        progress: &Progress,
        cancel: &'a CancellationToken,
        state: &'a mut State,
    ) -> Self {
        let pace = Arc::new(Pace::new(bytes_per_second));
        let source = Source { store: store.clone(), pace, progress: progress.clone(), bytes: Arc::default() };
        Self { source, cancel, state, kept_at: Instant::now(), may_keep: true, objects: 0 }
    }

    /// Bytes read by this process.
    pub fn bytes(&self) -> u64 {
        self.source.bytes.load(Ordering::Relaxed)
    }

    /// Reads all of `units`, which are in the order of their folders. What seemed wrong is looked at once more at the end, so that what was pruned
    /// or mended meanwhile is not told. Also how many
    /// encrypted objects were not decoded.
    pub async fn run(&mut self, units: &[Unit], mut deep: DeepState) -> Result<(Vec<Finding>, u64), VerifyError> {
        for unit in units {
            let dir = unit.dir();
            if deep.is_past(&dir) {
                continue;
            }
            self.unit(unit, &dir, &mut deep).await?;
        }
        let suspects = self.look_again(units, &deep.suspects).await?;
        self.state.deep = None;
        Ok((suspects, deep.undecoded))
    }

    async fn unit(&mut self, unit: &Unit, dir: &str, deep: &mut DeepState) -> Result<(), VerifyError> {
        let found = sizes(&self.source.store.list(dir).await?);
        let mut checks = self.checks(unit, &found).await?;
        checks.retain(|check| !deep.has(dir, &check.key()));
        if checks.is_empty() {
            return Ok(());
        }
        if deep.dir != dir {
            (deep.dir, deep.key) = (dir.to_owned(), String::new());
        }
        let source = self.source.clone();
        let mut results = stream::iter(checks)
            .map(|check| {
                let (source, found) = (source.clone(), found.get(&check.key()).copied());
                async move {
                    let bad = run(&source, &check, found).await;
                    fail::fail_point!("verify::deep::after_object");
                    (check, found, bad)
                }
            })
            .buffered(CONCURRENCY);
        loop {
            let next = tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    drop(results);
                    self.keep(deep, true).await;
                    return Err(VerifyError::Cancelled);
                }
                next = results.next() => next,
            };
            let Some((check, bytes, bad)) = next else { return Ok(()) };
            if let Some(bad) = bad? {
                let place = self.exact(unit, &check).await;
                let of_folder = deep.suspects.iter().filter(|suspect| suspect.finding.key.starts_with(dir)).count();
                if of_folder < FINDINGS_PER_FOLDER {
                    let finding = Finding::new(check.key(), bad.damage, place);
                    deep.suspects.push(Suspect { finding, blake3: bad.blake3 });
                }
            }
            deep.key = check.key();
            deep.objects += 1;
            deep.undecoded += u64::from(!self.source.decodes(&deep.key));
            deep.bytes += bytes.unwrap_or_default();
            self.objects += 1;
            self.source.progress.add(0, 1);
            self.keep(deep, false).await;
        }
    }

    /// Keeps how far it has come, now and then.
    async fn keep(&mut self, deep: &DeepState, now: bool) {
        if self.may_keep && (now || self.kept_at.elapsed() >= KEEP) {
            self.state.deep = Some(deep.clone());
            self.may_keep = self.state.save(&self.source.store).await;
            self.kept_at = Instant::now();
        }
    }

    /// What to read of a folder, by key; nothing of one that is gone.
    async fn checks(&self, unit: &Unit, found: &Sizes) -> Result<Vec<Check>, VerifyError> {
        let mut checks = match unit {
            Unit::Log(file) => self.of_log(file).await,
            Unit::Full(id) => self.of_full(id, found).await,
        }?;
        checks.sort_by_cached_key(Check::key);
        Ok(checks)
    }

    async fn of_log(&self, file: &FileId) -> Result<Vec<Check>, VerifyError> {
        let store = &self.source.store;
        match load_index(store, file).await {
            Ok(index) => {
                let mut after = None;
                let checks = index.ranges.iter().map(|range| {
                    let place = Place::Log { file: file.clone(), from: range.start, to: range.end, after };
                    after = range.last_commit.or(after);
                    let object = index.object(range);
                    let indexed = Some((range.boundary, range.gtids.clone()));
                    Check::Segment(SegmentCheck { object, crc32: index.summary.crc32, indexed }, place)
                });
                return Ok(checks.collect());
            }
            Err(e) if e.is_not_found() || of_description(&e).is_some() => {}
            Err(e) => return Err(e.into()),
        }
        let Some(archived) = load_file(store, file).await? else { return Ok(Vec::new()) };
        let chain = match load_chain(store, &archived).await {
            Ok(chain) => chain,
            // It is being deleted.
            Err(ArchiveError::Hole { .. }) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let check = |object: SegmentObject| {
            let place = Place::Log { file: file.clone(), from: object.start, to: object.end, after: None };
            Check::Segment(SegmentCheck { object, crc32: archived.summary.crc32, indexed: None }, place)
        };
        Ok(chain.into_iter().map(check).collect())
    }

    async fn of_full(&self, id: &str, found: &Sizes) -> Result<Vec<Check>, VerifyError> {
        let manifest = match load_manifest(&self.source.store, id).await {
            Ok(manifest) => manifest,
            Err(e) if e.is_not_found() || of_description(&e).is_some() => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let place = Place::Full { id: id.to_owned() };
        let Content::Logical(content) = &manifest.content;
        let Some(description) = manifest.objects.get(content.description) else { return Ok(Vec::new()) };
        let recipients = &manifest.recipients;
        let bytes = self.size(&description.key, found).await?;
        let (rows, bad) = match bytes {
            Some(bytes) => {
                let read = self.source.description(description, recipients, bytes, manifest.objects.len()).await?;
                (read.rows, read.bad)
            }
            None => (Vec::new(), Some(Damage::Lost.into())),
        };
        // Half a description says half of the rows.
        let rows = if bad.is_none() { rows } else { Vec::new() };
        let mut done = Some(Check::Done(description.key.clone(), bad, place.clone()));
        let checks = manifest.objects.into_iter().enumerate().filter_map(|(i, entry)| {
            if i == content.description {
                return done.take();
            }
            let rows = rows.get(i).copied().flatten();
            Some(Check::Object(FullCheck { entry, recipients: recipients.clone(), rows }, place.clone()))
        });
        Ok(checks.collect())
    }

    /// An object's size now; of one that another folder holds, too.
    async fn size(&self, key: &str, found: &Sizes) -> Result<Option<u64>, VerifyError> {
        match found.get(key) {
            Some(bytes) => Ok(Some(*bytes)),
            None => Ok(self.source.store.stat(key).await?),
        }
    }

    /// Where the damage is, with the newest commit before it: of an open file the segment before tells.
    async fn exact(&self, unit: &Unit, check: &Check) -> Place {
        let (Unit::Log(file), Check::Segment(SegmentCheck { object, .. }, place)) = (unit, check) else {
            return match check {
                Check::Segment(_, place) | Check::Object(_, place) | Check::Done(_, _, place) => place.clone(),
            };
        };
        let Place::Log { file: of, from, to, after: None } = place.clone() else { return place.clone() };
        let Ok(Some(archived)) = load_file(&self.source.store, file).await else { return place.clone() };
        let chain = load_chain(&self.source.store, &archived).await.unwrap_or_default();
        let Some(before) = chain.iter().find(|before| before.end == object.start) else { return place.clone() };
        let meta = read_meta(&self.source.store, before).await;
        let after = meta.ok().and_then(|meta| meta.summary.last_commit);
        Place::Log { file: of, from, to, after }
    }

    /// What is wrong still, and whose the bytes are that an object holds.
    async fn look_again(&self, units: &[Unit], suspects: &[Suspect]) -> Result<Vec<Finding>, VerifyError> {
        let mut by_dir: BTreeMap<String, Vec<&Suspect>> = BTreeMap::new();
        let dirs: Vec<(String, &Unit)> = units.iter().map(|unit| (unit.dir(), unit)).collect();
        for suspect in suspects {
            let of = |(dir, unit): &&(String, &Unit)| match (&suspect.finding.place, unit) {
                (Place::Full { id }, Unit::Full(of)) => id == of,
                _ => suspect.finding.key.starts_with(dir.as_str()),
            };
            if let Some((dir, _)) = dirs.iter().find(of) {
                by_dir.entry(dir.clone()).or_default().push(suspect);
            }
        }
        let mut still: Vec<Suspect> = Vec::new();
        for (dir, suspects) in by_dir {
            let Some((_, unit)) = dirs.iter().find(|(of, _)| *of == dir) else { continue };
            let found = sizes(&self.source.store.list(&dir).await?);
            let keys: HashMap<&str, &Place> =
                suspects.iter().map(|suspect| (suspect.finding.key.as_str(), &suspect.finding.place)).collect();
            for check in self.checks(unit, &found).await? {
                let key = check.key();
                let Some(place) = keys.get(key.as_str()) else { continue };
                let bytes = self.size(&key, &found).await?;
                if let Some(Bad { damage, blake3 }) = run(&self.source, &check, bytes).await? {
                    still.push(Suspect { finding: Finding::new(key, damage, (*place).clone()), blake3 });
                }
            }
        }
        let owners = self.owners(units, &still).await?;
        let wrong: HashSet<String> = still.iter().map(|suspect| suspect.finding.key.clone()).collect();
        let told = still.into_iter().map(|Suspect { mut finding, blake3 }| {
            let owners = blake3.and_then(|blake3| owners.get(&blake3)).map(Vec::as_slice).unwrap_or_default();
            // Equal rows of several fulls are equal bytes: those that are not where they belong are the likeliest.
            let owner = owners.iter().find(|owner| wrong.contains(*owner)).or(owners.first());
            if let Some(of) = owner {
                finding.damage = Damage::Duplicated { of: of.clone() };
            }
            finding
        });
        Ok(told.collect())
    }

    /// By their BLAKE3: the objects of fulls whose bytes were found elsewhere.
    async fn owners(&self, units: &[Unit], suspects: &[Suspect]) -> Result<HashMap<String, Vec<String>>, VerifyError> {
        let wanted: HashSet<&String> = suspects.iter().filter_map(|suspect| suspect.blake3.as_ref()).collect();
        let mut owners: HashMap<String, Vec<String>> = HashMap::new();
        if wanted.is_empty() {
            return Ok(owners);
        }
        for unit in units {
            let Unit::Full(id) = unit else { continue };
            let Ok(manifest) = load_manifest(&self.source.store, id).await else { continue };
            for object in manifest.objects.into_iter().filter(|object| wanted.contains(&object.blake3)) {
                owners.entry(object.blake3).or_default().push(object.key);
            }
        }
        Ok(owners)
    }
}

/// Reads one object.
async fn run(source: &Source, check: &Check, found: Option<u64>) -> Result<Option<Bad>, VerifyError> {
    if let Check::Done(_, bad, _) = check {
        return Ok(bad.clone());
    }
    let found = match found {
        Some(found) => Some(found),
        // Of another folder, or gone since the listing.
        None => source.store.stat(&check.key()).await?,
    };
    let Some(found) = found else { return Ok(Some(Damage::Lost.into())) };
    match check {
        Check::Segment(check, _) => source.segment(check, found).await,
        Check::Object(check, _) => source.object(check, found).await,
        Check::Done(_, bad, _) => Ok(bad.clone()),
    }
}
