//! All of an archive, looked at folder by folder: requests follow fulls and binlog files, never objects; memory one folder's listing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::finding::{Damage, Finding, Place};
use super::look::{self, Look, of_description, strangers};
use super::{VerifyError, gaps};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::archive::identity::{self, ArchiveInfo};
use crate::archive::store::Store;
use crate::archive::timeline::Timeline;
use crate::archive::{ArchiveError, keys};
use crate::model::{Flavor, Progress};

/// Of one folder more are not told: the first ones say all of what cannot be restored.
pub const FINDINGS_PER_FOLDER: usize = 50;
/// Folders looked at at a time.
const CONCURRENCY: usize = 4;
/// What a finding is given to turn out as something that was just being written or deleted.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// A folder whose objects belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A binlog file.
    Log(FileId),
    /// A full.
    Full(String),
}

impl Unit {
    /// Its folder.
    pub fn dir(&self) -> String {
        match self {
            Self::Log(file) => keys::file_dir(file),
            Self::Full(id) => keys::full_dir(id),
        }
    }
}

/// What an archive holds, and what is wrong with it as far as listings tell.
#[derive(Debug, Default)]
pub struct Survey {
    /// `archive.json`, if it can be read.
    pub info: Option<ArchiveInfo>,
    /// Every full with a manifest that can be read.
    pub fulls: Vec<FullHead>,
    /// Every binlog file, as far as it is whole.
    pub files: Vec<ArchivedFile>,
    /// All folders of fulls and files, by name.
    pub units: Vec<Unit>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_PER_FOLDER`].
    pub more: u64,
    /// Objects there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that nothing refers to, of what is under way or was interrupted.
    pub leftovers: u64,
}

/// What was known before, and what may be missing.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// Ends of logs that were seen.
    pub tails: &'a [gaps::Tail],
    /// What is older may have been deleted by retention; none: nothing may.
    pub kept_since: Option<Timestamp>,
}

impl Survey {
    /// Looks at everything; at what seems wrong a second time, as it may just have been written or deleted.
    pub async fn take(
        store: &Store,
        known: &Known<'_>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Self, VerifyError> {
        progress.begin("listing", 0);
        let mut survey = Self::look(store, known, progress, cancel).await?;
        if survey.findings.is_empty() {
            return Ok(survey);
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(VerifyError::Cancelled),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let first = std::mem::take(&mut survey.findings);
        survey = Self::look(store, known, &Progress::default(), cancel).await?;
        survey.findings.retain(|finding| first.iter().any(|seen| seen.is_same(finding)));
        Ok(survey)
    }

    /// With identities everything is decoded: whoever gives some that do not open all of it learns that before anything is read.
    pub fn check_identities(&self, store: &Store) -> Result<(), VerifyError> {
        let identities = store.identities();
        if identities.is_empty() {
            return Ok(());
        }
        let fulls = self.fulls.iter().filter(|full| !full.recipients.is_empty());
        let fulls = fulls.map(|full| (keys::manifest(&full.id), &full.recipients));
        let files = self.files.iter().flat_map(|file| {
            let of = keys::file_dir(&file.id);
            file.encryption.recipients.iter().map(move |set| (of.clone(), set))
        });
        for (key, recipients) in fulls.chain(files) {
            identities.check(&key, recipients).map_err(ArchiveError::from)?;
        }
        Ok(())
    }

    /// What can be restored if nothing was wrong.
    pub fn timeline(&self) -> Timeline {
        Timeline::new(self.flavor(), &self.fulls, &self.files)
    }

    fn flavor(&self) -> Flavor {
        let info = self.info.as_ref().map(|info| info.flavor);
        let first = self.fulls.first().map(|full| full.flavor);
        info.or(first).or(self.files.first().map(|file| file.flavor)).unwrap_or(Flavor::Mysql)
    }

    async fn look(
        store: &Store,
        known: &Known<'_>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Self, VerifyError> {
        let mut survey = Self::default();
        survey.find_units(store).await?;
        survey.read_identity(store).await?;
        let units = survey.units.clone();
        let mut looks = stream::iter(units)
            .map(|unit| async move {
                if cancel.is_cancelled() {
                    return Err(VerifyError::Cancelled);
                }
                let look = match &unit {
                    Unit::Full(id) => look::full(store, id).await?,
                    Unit::Log(file) => look::log(store, file).await?,
                };
                progress.add(0, look.objects);
                Ok((unit, look))
            })
            .buffered(CONCURRENCY);
        let (mut headless, mut elsewhere, mut without) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        while let Some((unit, look)) = looks.try_next().await? {
            let Look {
                full,
                file,
                indexed,
                findings,
                objects,
                bytes,
                elsewhere: more,
                leftovers,
                headless: is_headless,
            } = look;
            if let (Unit::Log(id), false) = (&unit, indexed) {
                let told = findings.iter().any(|finding| finding.key == keys::index(id));
                without.extend((!told).then(|| id.clone()));
            }
            if let (Unit::Log(id), true) = (unit, is_headless) {
                headless.push((id, objects));
            }
            survey.fulls.extend(full);
            survey.files.extend(file);
            survey.more += findings.len().saturating_sub(FINDINGS_PER_FOLDER) as u64;
            survey.findings.extend(findings.into_iter().take(FINDINGS_PER_FOLDER));
            survey.objects += objects;
            survey.bytes = survey.bytes.saturating_add(bytes);
            survey.leftovers += leftovers;
            elsewhere.extend(more);
        }
        drop(looks);
        survey.fulls.sort_by(|a, b| (a.consistent_at, &a.id).cmp(&(b.consistent_at, &b.id)));
        // What another full's manifest names is no stranger, wherever it is.
        let is_named = |finding: &Finding| finding.damage.word() == "Foreign" && elsewhere.contains(&finding.key);
        survey.findings.retain(|finding| !is_named(finding));
        for (id, objects) in headless {
            survey.judge_headless(id, objects);
        }
        survey.judge_whole(known, &without);
        Ok(survey)
    }

    /// Lists the levels above fulls and binlog files.
    async fn find_units(&mut self, store: &Store) -> Result<(), VerifyError> {
        let (dirs, objects) = store.list_level("").await?;
        let is_ours = |key: &str| {
            [keys::ARCHIVE, keys::FULLS, keys::BINLOGS, keys::LEASES].contains(&key) || keys::is_scratch_dir(key)
        };
        let mut found = strangers(&dirs, &objects, is_ours);
        self.objects += objects.len() as u64;
        self.bytes += objects.iter().map(|object| object.bytes).sum::<u64>();
        let (dirs, objects) = store.list_level(keys::FULLS).await?;
        found.extend(strangers(&dirs, &objects, |key| keys::parse_full_dir(key).is_some()));
        let mut units: Vec<Unit> = dirs.iter().filter_map(|dir| keys::parse_full_dir(dir)).map(Unit::Full).collect();
        let (servers, objects) = store.list_level(keys::BINLOGS).await?;
        found.extend(strangers(&[], &objects, |_| false));
        for server in servers {
            let (dirs, objects) = store.list_level(&server).await?;
            found.extend(strangers(&dirs, &objects, |key| keys::parse_file_dir(key).is_some()));
            units.extend(dirs.iter().filter_map(|dir| keys::parse_file_dir(dir)).map(Unit::Log));
        }
        units.sort_by_cached_key(Unit::dir);
        self.units = units;
        // A folder of a file system may be empty: then there is no object, and nothing is foreign.
        for finding in found {
            let is_dir = finding.key.ends_with('/');
            let inside = if is_dir { store.list(&finding.key).await?.len() as u64 } else { 0 };
            if is_dir && inside == 0 {
                continue;
            }
            self.objects += inside;
            self.findings.push(finding);
        }
        Ok(())
    }

    async fn read_identity(&mut self, store: &Store) -> Result<(), VerifyError> {
        match identity::read(store).await {
            Ok(Some(info)) => self.info = Some(info),
            Ok(None) if self.units.is_empty() => {
                return Err(ArchiveError::Missing { store: store.url().to_owned() }.into());
            }
            Ok(None) => self.findings.push(Finding::new(keys::ARCHIVE, Damage::Lost, Place::Archive)),
            Err(e) => match of_description(&e) {
                Some(damage) => self.findings.push(Finding::new(keys::ARCHIVE, damage, Place::Archive)),
                None => return Err(e.into()),
            },
        }
        Ok(())
    }

    /// Segments without their beginning: an interrupted prune leaves them of a server's oldest file, and never of its newest.
    fn judge_headless(&mut self, id: FileId, objects: u64) {
        let mut of_server = self.files.iter().filter(|file| file.id.server == id.server).peekable();
        if of_server.peek().is_some() && of_server.all(|file| file.id.created_unix >= id.created_unix) {
            self.leftovers += objects;
            return;
        }
        let after =
            self.files.iter().filter(|file| file.id.server == id.server).filter_map(|file| file.summary.last_commit);
        let place = Place::Hole { after: after.max(), until: None, from: 0, file: id.clone() };
        self.findings.push(Finding::new(keys::file_dir(&id), Damage::Lost, place));
    }

    /// What only all of it together shows.
    fn judge_whole(&mut self, known: &Known<'_>, without_index: &BTreeSet<FileId>) {
        let timeline = self.timeline();
        self.findings.extend(gaps::missing(&timeline, &self.files, known.kept_since));
        self.findings.extend(gaps::lost_indexes(&self.files, without_index));
        self.findings.extend(gaps::lost_tails(known.tails, &self.files));
        if let Some(info) = &self.info {
            self.findings.extend(gaps::foreign(info, &self.fulls, &self.files));
        }
        // One object, one finding: the first says the most.
        let mut told = BTreeSet::new();
        self.findings.retain(|finding| told.insert(finding.key.clone()));
    }
}
