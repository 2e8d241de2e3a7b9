//! What is encrypted to others than the policy's recipients now, or not at all, is written anew for those.
//!
//! ```text
//! due ──▶ each full:        its objects in another edition ──▶ read back ──▶ manifest.json ──▶ the old objects go
//!     └─▶ each closed file: its segments in another edition ─▶ read back ──▶ index.json ─────▶ the old objects go
//! ```
//!
//! An edition is part of the new objects' names, and the manifest or index says which one counts: so a reader finds one or the other, whole, at every
//! moment. It may die anywhere and be run again, or run twice at a time: each run writes an edition of its own, and deletes what the manifest or index
//! named before. While a restore holds a lease the old objects stay, and so does what a killed run left; a later run [sweeps] them.

mod error;
mod file;
mod full;
mod sweep;

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use error::RekeyError;

use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{Catalog, forget_folded, shared};
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::identity::{self, News};
use crate::archive::keys;
use crate::archive::lease::{Hold, Leases};
use crate::archive::store::{Condition, Store};
use crate::model::{Pace, Progress};

/// Objects deleted at a time.
const CONCURRENCY: usize = 8;
/// How often an index or a manifest is written until the store gives it back.
const PUBLISHED: u32 = 3;

/// What is to be written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Due {
    /// Ids of fulls.
    pub fulls: Vec<String>,
    /// Closed binlog files.
    pub files: Vec<FileId>,
    /// Stored bytes of both.
    pub bytes: u64,
    /// Objects of both.
    pub objects: u64,
    /// Binlog files that are not closed and hold what the recipients cannot read: those that are being written, and the last ones of servers that are gone.
    pub open_files: Vec<FileId>,
    /// Damage, in words: what is damaged is left as it is.
    pub problems: Vec<String>,
}

/// What a rekey did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rekeyed {
    /// Fulls written anew.
    pub fulls: u64,
    /// Binlog files written anew.
    pub files: u64,
    /// Objects written.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Old objects deleted.
    pub deleted: u64,
    /// Old objects that stay, as a restore may read them, or the store holds them, or they are not a day old and may be another run's.
    pub left: u64,
    /// What is left as it was although it is due, and why, in words.
    pub failed: Vec<String>,
    /// What somebody should know, in words.
    pub notes: Vec<String>,
}

/// How it is done.
#[derive(Debug)]
pub struct Options {
    /// To whom everything is to be encrypted.
    pub recipients: Recipients,
    /// How what is made anew is compressed.
    pub compression: Compression,
    /// Most bytes read in a second.
    pub bytes_per_second: Option<u64>,
    /// Trace id of the run, for its lease.
    pub trace_id: String,
}

/// What is not encrypted to exactly these recipients.
///
/// # Errors
/// [`RekeyError::NoRecipients`]; [`RekeyError::Unproved`] and [`RekeyError::Locked`] where the store's identities do not open what is new or what is
/// old: before anything is touched.
pub async fn due(store: &Store, recipients: &Recipients) -> Result<Due, RekeyError> {
    let wanted = recipients.names();
    if wanted.is_empty() {
        return Err(RekeyError::NoRecipients);
    }
    if store.identities().check("what is new", &wanted).is_err() {
        return Err(RekeyError::Unproved { recipients: wanted.join(", ") });
    }
    let catalog = Catalog::load(store).await?;
    let mut due = Due { problems: catalog.problems, ..Due::default() };
    for full in catalog.fulls.into_iter().filter(|full| full.recipients != wanted) {
        if !full.recipients.is_empty() {
            store.identities().check(&keys::manifest(&full.id), &full.recipients)?;
        }
        due.bytes = due.bytes.saturating_add(full.bytes);
        due.objects += full.objects;
        due.fulls.push(full.id);
    }
    for file in catalog.files {
        let of = &file.encryption;
        if of.objects == file.objects && of.recipients.iter().all(|set| *set == wanted) {
            continue;
        }
        if file.closed.is_none() {
            due.open_files.push(file.id);
            continue;
        }
        for set in &of.recipients {
            store.identities().check(&keys::index(&file.id), set)?;
        }
        due.bytes = due.bytes.saturating_add(file.object_bytes);
        due.objects += file.objects;
        due.files.push(file.id);
    }
    Ok(due)
}

/// Writes anew what is [due](due()), and deletes what that replaces. What is damaged is left as it is, and told.
///
/// # Errors
/// Where the store fails, or it is cancelled.
pub async fn run(
    store: &Store,
    due: &Due,
    options: &Options,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Rekeyed, RekeyError> {
    progress.begin("rekeying", due.bytes);
    // No prune takes anything away meanwhile, or puts back what it took.
    let hold = Hold::begin_rekey(store, &options.trace_id).await?;
    let pace = Pace::new(options.bytes_per_second);
    let edition = keys::new_edition();
    let done = Rekeyed::default();
    let mut work = Work { store, options, progress, cancel, pace, edition, hold: &hold, shared: None, done };
    let outcome = work.all(due).await;
    let done = work.done;
    let ended = hold.end().await;
    outcome?;
    ended?;
    Ok(done)
}

struct Work<'a> {
    store: &'a Store,
    options: &'a Options,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    pace: Pace,
    edition: String,
    hold: &'a Hold,
    /// Objects that a full refers to in the folder of another one; none where damage keeps that from being known.
    shared: Option<HashSet<String>>,
    done: Rekeyed,
}

impl Work<'_> {
    async fn all(&mut self, due: &Due) -> Result<(), RekeyError> {
        self.done.failed.extend(due.problems.iter().cloned());
        if !due.fulls.is_empty() || !due.files.is_empty() {
            identity::announce(self.store, News::Encryption).await?;
        }
        if !due.files.is_empty() {
            // A binary that knows nothing of editions would miss the segments.
            identity::announce(self.store, News::Editions).await?;
            // It tells whom closed files are encrypted to.
            forget_folded(self.store).await?;
        }
        self.shared = match shared(self.store, &[]).await {
            Err(e) if e.is_damage() => None,
            shared => Some(shared?),
        };
        for id in &due.fulls {
            let done = self.full(id).await;
            self.settle(&keys::full_dir(id), done).await?;
        }
        for id in &due.files {
            let done = self.file(id).await;
            self.settle(&keys::file_dir(id), done).await?;
        }
        self.sweep(due).await?;
        if !due.files.is_empty() {
            // A prune that was ending when this began may have kept it once more.
            forget_folded(self.store).await?;
        }
        if !due.open_files.is_empty() {
            let names: BTreeSet<String> =
                due.open_files.iter().map(|id| format!("{} of server {}", id.name, id.server)).collect();
            self.done.notes.push(format!(
                "binlog files that are not closed stay as they are: {}; run it again once they are (FLUSH BINARY LOGS closes the one that is written)",
                names.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(())
    }

    /// What one file or full is about holds nothing else up.
    async fn settle(&mut self, dir: &str, done: Result<(), RekeyError>) -> Result<(), RekeyError> {
        let Err(error) = done else { return Ok(()) };
        if !error.is_of_one() {
            return Err(error);
        }
        tracing::error!(dir, %error, "left as it is");
        self.done.failed.push(format!("{dir}: {error}"));
        Ok(())
    }

    /// Deletes what was begun in a folder, whose manifest or index nobody has tried to write yet. What is left of it is swept later.
    async fn discard(&self, dir: &str) {
        let begun = self.store.list_stored(dir).await.unwrap_or_default().into_iter();
        let is_own = |key: &str| keys::edition_of(key).flatten().as_ref() == Some(&self.edition);
        let own = begun.filter(|object| is_own(&object.key)).map(|object| object.key);
        if let Err(error) = self.delete(own.collect()).await {
            tracing::warn!(%error, dir, "what was begun could not be deleted; a later rekey does");
        }
    }

    /// Makes an index or a manifest that which counts, and reads it back, as the old objects are to go: a store may take a part of an upload that was
    /// cut off for the whole, even behind a retry that worked. An error says nothing of whether it was made.
    async fn publish(&self, key: &str, dir: &str, json: Bytes, named: HashMap<String, u64>) -> Result<(), RekeyError> {
        // Nobody swept them meanwhile.
        if !self.are_there(dir, &named).await? {
            let problem = "objects that were just written are gone: does another rekey run?".to_owned();
            return Err(RekeyError::Torn { key: key.to_owned(), problem });
        }
        for _ in 0..PUBLISHED {
            let _ = self.store.put(key, json.clone(), Condition::Overwrite).await?;
            let there = self.store.get(key).await?;
            if there == json {
                return Ok(());
            }
            if !json.starts_with(&there) {
                return Err(RekeyError::Changed { key: key.to_owned() });
            }
        }
        Err(RekeyError::Torn { key: key.to_owned(), problem: "a part of it is all that the store keeps".to_owned() })
    }

    /// Deletes what nothing names any more, unless a restore may read it that began before.
    async fn clear(&mut self, old: Vec<String>) -> Result<(), RekeyError> {
        fail::fail_point!("rekey::before_delete");
        let leases = Leases::load(self.store, Timestamp::now()).await?;
        if leases.held.iter().any(|lease| !lease.rekey) {
            self.done.left += old.len() as u64;
            return Ok(());
        }
        self.remove(old).await
    }

    async fn remove(&mut self, old: Vec<String>) -> Result<(), RekeyError> {
        let (deleted, held) = self.delete(old).await?;
        self.done.deleted += deleted;
        self.done.left += held;
        Ok(())
    }

    /// How many are deleted, and how many the store holds.
    async fn delete(&self, keys: Vec<String>) -> Result<(u64, u64), RekeyError> {
        let store = self.store;
        let mut deleted = stream::iter(keys)
            .map(|key| async move {
                let gone = match store.delete(&key).await {
                    Err(e) if e.is_held() => false,
                    deleted => deleted.map(|()| true)?,
                };
                fail::fail_point!("rekey::after_object");
                Ok::<_, RekeyError>(gone)
            })
            .buffer_unordered(CONCURRENCY);
        let (mut gone, mut held) = (0, 0);
        while let Some(is_gone) = deleted.try_next().await? {
            if is_gone { gone += 1 } else { held += 1 }
        }
        Ok((gone, held))
    }

    fn go_on(&self) -> Result<(), RekeyError> {
        if self.cancel.is_cancelled() { Err(RekeyError::Cancelled) } else { Ok(()) }
    }
}
