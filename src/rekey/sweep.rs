//! What an earlier run left: old objects that a restore held or that it did not come to, and new ones that nothing came to name.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::{Due, RekeyError, Work};
use crate::archive::ArchiveError;
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{load_index, load_manifest};
use crate::archive::keys;
use crate::archive::lease::Leases;
use crate::archive::store::Object;

/// What is younger may be another run's, whose index or manifest is still to come.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

impl Work<'_> {
    /// Sweeps what is not of the edition that counts, of everything that a rekey wrote before this one.
    pub(super) async fn sweep(&mut self, due: &Due) -> Result<(), RekeyError> {
        let just_done: HashSet<String> =
            due.fulls.iter().map(|id| keys::full_dir(id)).chain(due.files.iter().map(keys::file_dir)).collect();
        for server in self.store.list_dirs(keys::BINLOGS).await? {
            for dir in self.store.list_dirs(&server).await?.into_iter().filter(|dir| !just_done.contains(dir)) {
                self.go_on()?;
                if let Some(id) = keys::parse_file_dir(&dir) {
                    self.sweep_file(&id, &dir).await?;
                }
            }
        }
        for dir in self.store.list_dirs(keys::FULLS).await?.into_iter().filter(|dir| !just_done.contains(dir)) {
            self.go_on()?;
            if let Some(id) = keys::parse_full_dir(&dir) {
                self.sweep_full(&id, &dir).await?;
            }
        }
        Ok(())
    }

    async fn sweep_file(&mut self, id: &FileId, dir: &str) -> Result<(), RekeyError> {
        let Some(index) = found(load_index(self.store, id).await)?.filter(|index| index.edition.is_some()) else {
            return Ok(());
        };
        let stored = self.store.list_stored(dir).await?;
        let old: Vec<Object> =
            stored.into_iter().filter(|o| keys::edition_of(&o.key).is_some_and(|of| of != index.edition)).collect();
        let named = index.ranges.iter().map(|range| (index.object(range).key(), range.object_bytes));
        self.sweep_folder(dir, old, named.collect()).await
    }

    async fn sweep_full(&mut self, id: &str, dir: &str) -> Result<(), RekeyError> {
        let Some(manifest) = found(load_manifest(self.store, id).await)?.filter(|full| full.edition.is_some()) else {
            return Ok(());
        };
        let Some(shared) = &self.shared else { return Ok(()) };
        let named: HashMap<String, u64> =
            manifest.objects.into_iter().map(|object| (object.key, object.bytes)).collect();
        let is_left = |key: &str| keys::is_remade(key, true) && !named.contains_key(key) && !shared.contains(key);
        let old = self.store.list_stored(dir).await?.into_iter().filter(|object| is_left(&object.key)).collect();
        self.sweep_folder(dir, old, named).await
    }

    /// Deletes old objects of a folder, if all that its index or manifest names is there: else they may be the only good ones.
    async fn sweep_folder(
        &mut self,
        dir: &str,
        old: Vec<Object>,
        named: HashMap<String, u64>,
    ) -> Result<(), RekeyError> {
        if old.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let is_old = |object: &Object| object.modified.is_some_and(|at| now.duration_since(at) > GRACE);
        let (old, young): (Vec<_>, Vec<_>) = old.into_iter().partition(is_old);
        self.done.left += young.len() as u64;
        // Another rekey may be writing what nothing names yet, for however long.
        let leases = Leases::load(self.store, now).await?;
        if leases.held.iter().any(|lease| self.hold.is_other(lease)) || !self.are_there(dir, &named).await? {
            self.done.left += old.len() as u64;
            return Ok(());
        }
        self.remove(old.into_iter().map(|object| object.key).collect()).await
    }

    /// Whether a folder holds all of these, each of that size in bytes.
    pub(super) async fn are_there(&self, dir: &str, named: &HashMap<String, u64>) -> Result<bool, RekeyError> {
        let listed = self.store.list(dir).await?;
        let there = listed.iter().filter(|object| named.get(&object.key) == Some(&object.bytes)).count();
        Ok(there == named.len())
    }
}

/// None for what is not there, or damaged.
fn found<T>(read: Result<T, ArchiveError>) -> Result<Option<T>, ArchiveError> {
    match read {
        Err(e) if e.is_not_found() || e.is_damage() => Ok(None),
        read => read.map(Some),
    }
}
