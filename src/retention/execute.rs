//! Deletion in an order that a crash cannot turn into a lie: what refers to objects goes before they do.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::RetentionError;
use super::plan::Plan;
use super::strays::stray;
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{forget_folded, load_manifest, shared};
use crate::archive::keys::{self, Key};
use crate::archive::lease::Leases;
use crate::archive::store::{Condition, Object, Put, Store, StoreError, Versioning};
use crate::model::{Progress, total};

/// Objects deleted at a time.
const CONCURRENCY: usize = 8;

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Fulls deleted.
    pub fulls: u64,
    /// Binlog files deleted.
    pub files: u64,
    /// Objects deleted.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// What became of their room.
    pub room: Room,
    /// Objects that the store holds until a later time (a lock, a retention rule): another prune tries them again.
    pub held_objects: u64,
    /// Their stored bytes.
    pub held_bytes: u64,
}

/// What becomes of the room of what is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Room {
    /// It is free.
    #[default]
    Freed,
    /// It is taken: the bucket keeps versions, and a delete hides. A rule of the bucket for versions that are not current frees it.
    Hidden,
    /// Nobody knows: the store does not say whether it keeps versions, or keeps some.
    Unknown,
}

impl Room {
    /// Asks a store what becomes of the room of what is deleted there.
    pub async fn of(store: &Store) -> Result<Self, StoreError> {
        Ok(match store.protection().await?.map(|protection| protection.versioning) {
            None if store.is_folder() => Self::Freed,
            Some(Versioning::Off) => Self::Freed,
            Some(Versioning::Enabled) => Self::Hidden,
            None | Some(Versioning::Suspended | Versioning::Unknown) => Self::Unknown,
        })
    }
}

/// Does what `plan` says: first fulls, then logs from their beginning on, then strays. It may die anywhere and be run again: what it
/// leaves behind belongs to nothing, and is swept later. It stops where a restore begins that `leases`, those of the plan, do not know.
pub async fn execute(
    store: &Store,
    plan: &Plan,
    leases: &Leases,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Pruned, RetentionError> {
    progress.begin("prune", plan.freed_bytes());
    let pruned = Pruned { room: Room::of(store).await?, ..Pruned::default() };
    let mut work = Work { store, leases, progress, cancel, shared: HashSet::new(), pruned };
    let fulls: Vec<&str> = plan.fulls.iter().filter(|full| !full.keep).map(|full| full.id.as_str()).collect();
    let strays = || plan.strays.iter().filter(|stray| !stray.keep);
    if !fulls.is_empty() || strays().next().is_some() {
        work.go_on()?;
        work.shared = shared(store, &fulls).await?;
    }
    for full in fulls {
        work.delete_full(full).await?;
    }
    let files = || plan.files.iter().filter(|file| !file.keep);
    if files().next().is_some() {
        // It would tell of files that are gone.
        forget_folded(store).await?;
    }
    for file in files().flat_map(|file| file.ids.iter()) {
        work.delete_file(&file).await?;
    }
    for stray in strays() {
        work.sweep(&stray.dir).await?;
    }
    for lease in &leases.over {
        match store.delete(lease).await {
            Err(e) if e.is_held() => {}
            done => done?,
        }
    }
    store.remove_stale_temps().await;
    Ok(work.pruned)
}

struct Work<'a> {
    store: &'a Store,
    leases: &'a Leases,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    /// Objects that a full which stays (whenever it came) refers to in the folder of another one.
    shared: HashSet<String>,
    pruned: Pruned,
}

impl Work<'_> {
    async fn delete_full(&mut self, id: &str) -> Result<(), RetentionError> {
        self.go_on()?;
        let manifest = match load_manifest(self.store, id).await {
            Ok(manifest) => manifest,
            // Somebody else deletes it, too.
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        tracing::info!(full = id, "deleting a full");
        let objects = manifest.objects.into_iter().map(|object| (object.key, object.bytes));
        let own: Vec<_> = objects.filter(|(key, _)| !self.shared.contains(key)).collect();
        if !self.take_away(&keys::manifest(id)).await? {
            self.hold(&own);
            return Ok(());
        }
        self.pruned.fulls += 1;
        fail::fail_point!("retention::execute::after_manifest");
        self.delete(own).await?;
        // What a rekey replaced, or had begun: without the manifest it would look like one that is lost.
        let left = self.store.list_stored(&keys::full_dir(id)).await?.into_iter();
        let left = left.filter(|object| keys::is_remade(&object.key, true) && !self.shared.contains(&object.key));
        self.delete(left.map(|object| (object.key, object.bytes)).collect()).await?;
        self.store.remove_empty_dir(&keys::full_dir(id)).await;
        Ok(())
    }

    async fn delete_file(&mut self, file: &FileId) -> Result<(), RetentionError> {
        self.go_on()?;
        let dir = keys::file_dir(file);
        tracing::info!(server = file.server, file = file.name, "deleting a binlog file");
        let is_gone = self.take_away(&keys::index(file)).await?;
        // Behind it: a compaction that does not find it adds nothing any more.
        let objects = self.store.list_stored(&dir).await?;
        if !is_gone {
            self.hold(&objects.into_iter().map(|object| (object.key, object.bytes)).collect::<Vec<_>>());
            return Ok(());
        }
        fail::fail_point!("retention::execute::after_index");
        let segments = objects.into_iter().filter_map(|object| match keys::parse(&object.key) {
            Some(Key::Segment { start, .. }) => Some((start == 0, (object.key, object.bytes))),
            // What is in packs is where this says, and so is a segment that begins at 0.
            Some(Key::Packed { .. }) => Some((true, (object.key, object.bytes))),
            Some(Key::Pack { .. }) => Some((false, (object.key, object.bytes))),
            _ => None,
        });
        // Without its beginning a file does not exist; what is left of one with it would look like a file that is being written.
        let (begin, rest): (Vec<_>, Vec<_>) = segments.partition(|(is_begin, _)| *is_begin);
        self.delete(begin.into_iter().map(|(_, object)| object).collect()).await?;
        self.pruned.files += 1;
        fail::fail_point!("retention::execute::after_first_segment");
        self.delete(rest.into_iter().map(|(_, object)| object).collect()).await?;
        self.store.remove_empty_dir(&dir).await;
        Ok(())
    }

    /// Deletes what is in a folder of strays, if that is still what they are.
    async fn sweep(&mut self, dir: &str) -> Result<(), RetentionError> {
        self.go_on()?;
        let objects = self.store.list_stored(dir).await?;
        let sizes: Vec<(String, u64)> = objects.iter().map(|Object { key, bytes, .. }| (key.clone(), *bytes)).collect();
        let Some(found) = stray(objects, dir.to_owned()) else { return Ok(()) };
        tracing::info!(dir, "sweeping objects that nothing refers to");
        let own = sizes.into_iter().filter(|(key, _)| found.keys.contains(key) && !self.shared.contains(key));
        self.delete(own.collect()).await?;
        self.store.remove_empty_dir(dir).await;
        Ok(())
    }

    /// Deletes what makes a full or a closed file exist, and brings it back if a restore began that may have found it. False: the store holds it.
    async fn take_away(&self, key: &str) -> Result<bool, RetentionError> {
        let taken = self.store.find(key).await?;
        self.no_restore_began().await?;
        match self.store.delete(key).await {
            Err(e) if e.is_held() => return Ok(false),
            done => done?,
        }
        fail::fail_point!("retention::execute::taken_away");
        let Err(began) = self.no_restore_began().await else { return Ok(true) };
        if let Some(bytes) = taken {
            self.put_back(key, bytes).await?;
        }
        Err(began)
    }

    /// Not over what a rekey may have written there meanwhile, but over a part of it, which an upload that was cut off may have left.
    async fn put_back(&self, key: &str, bytes: Bytes) -> Result<(), RetentionError> {
        if self.store.put(key, bytes.clone(), Condition::IfAbsent).await? == Put::Created {
            return Ok(());
        }
        let there = self.store.get(key).await?;
        if there.len() < bytes.len() && bytes.starts_with(&there) {
            let _ = self.store.put(key, bytes, Condition::Overwrite).await?;
        }
        Ok(())
    }

    async fn no_restore_began(&self) -> Result<(), RetentionError> {
        let Leases { held, .. } = Leases::load(self.store, Timestamp::now()).await?;
        match held.into_iter().find(|lease| !self.leases.held.contains(lease)) {
            Some(lease) => Err(RetentionError::Restoring { lease: keys::lease(&lease.id) }),
            None => Ok(()),
        }
    }

    fn hold(&mut self, objects: &[(String, u64)]) {
        self.pruned.held_objects += objects.len() as u64;
        self.pruned.held_bytes += total(objects.iter().map(|(_, bytes)| *bytes));
    }

    async fn delete(&mut self, objects: Vec<(String, u64)>) -> Result<(), RetentionError> {
        let (store, progress, cancel) = (self.store, self.progress, self.cancel);
        let mut deleted = stream::iter(objects)
            .map(|(key, bytes)| async move {
                if cancel.is_cancelled() {
                    return Err(RetentionError::Cancelled);
                }
                match store.delete(&key).await {
                    Err(e) if e.is_held() => return Ok((false, bytes)),
                    done => done?,
                }
                fail::fail_point!("retention::execute::after_object");
                progress.add(bytes, 1);
                Ok((true, bytes))
            })
            .buffer_unordered(CONCURRENCY);
        while let Some((gone, bytes)) = deleted.try_next().await? {
            let Pruned { objects, bytes: sum, held_objects, held_bytes, .. } = &mut self.pruned;
            let (objects, sum) = if gone { (objects, sum) } else { (held_objects, held_bytes) };
            *objects += 1;
            *sum += bytes;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), RetentionError> {
        if self.cancel.is_cancelled() { Err(RetentionError::Cancelled) } else { Ok(()) }
    }
}
