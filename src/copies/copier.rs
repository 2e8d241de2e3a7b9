//! Brings a store up to what another one holds.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use tokio_util::sync::CancellationToken;

use super::error::CopyError;
use super::object::{Mode, Wanted, copy, holds_part, put_new};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::parse_index;
use crate::archive::identity::{self, ArchiveInfo, News};
use crate::archive::keys;
use crate::archive::manifest::FullManifest;
use crate::archive::sealed::unseal;
use crate::archive::segment::{self, SegmentError, SegmentObject};
use crate::archive::store::{Condition, Store};
use crate::model::{Pace, Progress};

/// Objects copied at a time.
const CONCURRENCY: usize = 4;

/// What a round brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Everything that the store held at this moment is in the copy (but for what was deleted meanwhile).
    pub as_of: Timestamp,
    /// Objects copied.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Fulls that are whole in the copy only now.
    pub fulls: u64,
}

/// Fills a store from another one, round by round. What it has seen to be there it does not look for again.
pub struct Copier {
    from: Store,
    to: Store,
    /// Folders of fulls and of closed files that are whole in the copy.
    whole: HashSet<String>,
    /// Segments of open files that are in the copy.
    segments: HashSet<String>,
    /// Folders of open files whose copy was looked at.
    opened: HashSet<String>,
    /// Folders that the copy is not to have.
    left_out: HashSet<String>,
    /// Whether the copy does not say that something in it is encrypted.
    in_clear: bool,
    pace: Pace,
    /// What becomes of what is there already.
    mode: Mode,
}

impl Copier {
    /// From `from` to `to`, at most so many bytes in a second.
    pub fn new(from: Store, to: Store, bytes_per_second: Option<u64>) -> Self {
        let pace = Pace::new(bytes_per_second);
        let (whole, segments, opened, left_out) = Default::default();
        Self { from, to, whole, segments, opened, left_out, in_clear: false, pace, mode: Mode::Fill }
    }

    /// Takes a store back to what it held at a moment, object by object: what was deleted or overwritten since is written again, each object
    /// checked as it is read; what came since and is in nobody's way stays.
    ///
    /// # Errors
    /// Of a store that is no S3 bucket.
    pub fn take_back(store: Store, at: Timestamp, dry_run: bool) -> Result<Self, CopyError> {
        let then = store.clone().as_of(at)?;
        Ok(Self { mode: Mode::TakeBack { dry_run }, ..Self::new(then, store, None) })
    }

    /// Leaves these folders of fulls and files out from now on: what the copy's own retention would only delete again.
    pub fn leave_out(&mut self, folders: HashSet<String>) {
        self.left_out = folders;
    }

    /// The store that is read, and the one that is filled.
    pub fn stores(&self) -> (&Store, &Store) {
        (&self.from, &self.to)
    }

    /// One round. It may die anywhere and be begun again; a second copier at the same time does no harm.
    ///
    /// # Errors
    /// Where either store fails; and at its end where an object is damaged: nothing that refers to it is copied then.
    pub async fn round(&mut self, progress: &Progress, cancel: &CancellationToken) -> Result<Copied, CopyError> {
        progress.begin("copying", 0);
        let mut copied = Copied { as_of: Timestamp::now(), objects: 0, bytes: 0, fulls: 0 };
        self.identity().await?;
        let mut fulls = self.from.list_dirs(keys::FULLS).await?;
        let mut files = Vec::new();
        for server in self.from.list_dirs(keys::BINLOGS).await? {
            files.extend(self.from.list_dirs(&server).await?);
        }
        files.retain(|dir| !self.left_out.contains(dir));
        fulls.retain(|dir| !self.left_out.contains(dir));
        let mut damage = None;
        // Logs first: a restore to what is newest needs them, and an older full.
        for dir in files.into_iter().filter_map(|dir| Some((keys::parse_file_dir(&dir)?, dir))) {
            go_on(cancel)?;
            keep_damage(self.file(dir, &mut copied, progress).await, &mut damage)?;
        }
        for dir in fulls {
            go_on(cancel)?;
            keep_damage(self.full(dir, &mut copied, progress, cancel).await, &mut damage)?;
        }
        damage.map_or(Ok(copied), Err)
    }

    async fn identity(&mut self) -> Result<(), CopyError> {
        let ours = identity::must(&self.from).await?;
        if self.mode != Mode::Fill {
            return self.take_identity_back(&ours).await;
        }
        identity::keep_locked(&self.to).await?;
        let json = self.from.get(keys::ARCHIVE).await?;
        let there = match identity::read(&self.to).await {
            Err(e) if e.is_damage() && holds_part(&self.to, keys::ARCHIVE, &json).await? => None,
            there => there?,
        };
        if there.is_none() {
            self.to.probe().await?;
            put_new(&self.to, keys::ARCHIVE, json).await?;
        }
        match identity::read(&self.to).await? {
            Some(theirs) if !theirs.is_of_same(&ours) => Err(CopyError::OtherArchive {
                from: self.from.url().to_owned(),
                to: self.to.url().to_owned(),
                ours: ours.created_at,
                theirs: theirs.created_at,
            }),
            theirs => {
                self.in_clear = theirs.is_some_and(|theirs| !theirs.is_encrypted());
                Ok(())
            }
        }
    }

    /// What is there of the same archive stays: it may have come to hold encrypted objects since.
    async fn take_identity_back(&mut self, ours: &ArchiveInfo) -> Result<(), CopyError> {
        let there = match identity::read(&self.to).await {
            Err(e) if e.is_transient() || e.is_refused() => return Err(e.into()),
            there => there.ok().flatten().filter(|there| there.is_of_same(ours)),
        };
        if there.is_none() && self.mode != (Mode::TakeBack { dry_run: true }) {
            let json = self.from.get(keys::ARCHIVE).await?;
            let _ = self.to.put(keys::ARCHIVE, json, Condition::Overwrite).await?;
        }
        self.in_clear = !there.as_ref().unwrap_or(ours).is_encrypted();
        Ok(())
    }

    /// Before the copy's first encrypted object, as a writer does; the bytes are copied as they are stored, which needs no key.
    async fn announce_encryption(&mut self) -> Result<(), CopyError> {
        if std::mem::take(&mut self.in_clear) && self.mode != (Mode::TakeBack { dry_run: true }) {
            identity::announce(&self.to, News::Encryption).await?;
        }
        Ok(())
    }

    async fn full(
        &mut self,
        dir: String,
        copied: &mut Copied,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), CopyError> {
        let Some(id) = keys::parse_full_dir(&dir).filter(|_| !self.whole.contains(&dir)) else { return Ok(()) };
        let key = keys::manifest(&id);
        if self.mode == Mode::Fill && self.is_referred(&key).await? {
            self.whole.insert(dir);
            return Ok(());
        }
        // Without one it is under way, or going.
        let Some(json) = self.from.find(&key).await? else { return Ok(()) };
        let manifest: FullManifest = unseal(&key, &json)?;
        if !manifest.recipients.is_empty() {
            self.announce_encryption().await?;
        }
        let objects = manifest.objects.into_iter();
        let wanted = objects.map(|o| Wanted { key: o.key, bytes: o.bytes, blake3: Some(o.blake3) }).collect();
        if self.all(wanted, (&key, &json), copied, progress, Some(cancel)).await? {
            copied.fulls += u64::from(self.refer(&key, json, copied).await?);
            self.whole.insert(dir);
        }
        Ok(())
    }

    async fn file(
        &mut self,
        (id, dir): (FileId, String),
        copied: &mut Copied,
        progress: &Progress,
    ) -> Result<(), CopyError> {
        if self.whole.contains(&dir) {
            return Ok(());
        }
        let key = keys::index(&id);
        if self.mode == Mode::Fill && self.is_referred(&key).await? {
            self.forget_segments(&dir);
            self.whole.insert(dir);
            return Ok(());
        }
        let Some(json) = self.from.find(&key).await? else { return self.open_file(&dir, copied, progress).await };
        let index = parse_index(&id, &json)?;
        if !index.recipients.is_empty() {
            self.announce_encryption().await?;
        }
        if index.edition.is_some() && self.mode == Mode::Fill {
            identity::announce(&self.to, News::Editions).await?;
        }
        let objects = index.ranges.iter().map(|range| index.object(range));
        let wanted = objects.map(|object| Wanted { key: object.key(), bytes: object.bytes, blake3: object.blake3 });
        let wanted = wanted.filter(|wanted| !self.segments.contains(&wanted.key));
        if self.all(wanted.collect(), (&key, &json), copied, progress, None).await? {
            self.refer(&key, json, copied).await?;
            self.forget_segments(&dir);
            self.whole.insert(dir);
        }
        Ok(())
    }

    /// What there is of a file that is being written, in its order. Nothing says what its objects must be but they themselves.
    async fn open_file(&mut self, dir: &str, copied: &mut Copied, progress: &Progress) -> Result<(), CopyError> {
        let objects: Vec<_> = self.from.list(dir).await?.iter().filter_map(SegmentObject::listed).collect();
        let fills = self.mode == Mode::Fill;
        if fills && self.opened.insert(dir.to_owned()) {
            self.clear_parts(dir, objects.iter().map(|object| object.end).max().unwrap_or(0)).await?;
        }
        for object in objects {
            let key = object.key();
            if self.segments.contains(&key) {
                continue;
            }
            if object.encrypted {
                self.announce_encryption().await?;
            }
            let wanted = Wanted { key: key.clone(), bytes: object.bytes, blake3: None };
            let made = match copy(&self.from, &self.to, &wanted, &self.pace, self.mode).await {
                // The file was closed and pruned meanwhile.
                Err(e) if e.is_not_found() => return Ok(()),
                made => made?,
            };
            count(copied, progress, &wanted, made);
            if self.mode != (Mode::TakeBack { dry_run: true }) {
                match segment::verify(&self.to, &object).await {
                    // The store itself may hold a part of it, of an upload that was cut off, until the stream has stored it anew.
                    Err(e @ SegmentError::Damaged { .. }) if fills && made => {
                        self.to.delete(&key).await?;
                        return Err(e.into());
                    }
                    verified => _ = verified?,
                }
            }
            self.segments.insert(key);
        }
        Ok(())
    }

    /// Deletes parts of segments from the copy of a file that is being written: what another round copied from a store that held a part of an
    /// upload that was cut off, and did not come to look at. What goes beyond what the store holds, which is up to `end`, stays.
    async fn clear_parts(&self, dir: &str, end: u64) -> Result<(), CopyError> {
        let listed = self.to.list(dir).await?;
        for object in listed.iter().filter_map(SegmentObject::listed).filter(|object| object.end <= end) {
            match segment::verify(&self.to, &object).await {
                Err(SegmentError::Damaged { key, problem, .. }) => {
                    tracing::warn!(
                        key,
                        problem,
                        "a part of a segment goes from the copy; what the store has of it is copied anew"
                    );
                    self.to.delete(&key).await?;
                }
                verified => _ = verified?,
            }
        }
        Ok(())
    }

    /// Copies all that `referrer` refers to. False: it is gone, or names other objects by now, which the next round copies.
    async fn all(
        &self,
        wanted: Vec<Wanted>,
        (referrer, said): (&str, &Bytes),
        copied: &mut Copied,
        progress: &Progress,
        cancel: Option<&CancellationToken>,
    ) -> Result<bool, CopyError> {
        let (from, to, pace, mode) = (&self.from, &self.to, &self.pace, self.mode);
        let mut done = stream::iter(wanted)
            .map(|wanted| async move {
                cancel.map_or(Ok(()), go_on)?;
                let made = copy(from, to, &wanted, pace, mode).await?;
                Ok::<_, CopyError>((wanted, made))
            })
            .buffer_unordered(CONCURRENCY);
        loop {
            match done.try_next().await {
                Ok(Some((wanted, made))) => count(copied, progress, &wanted, made),
                Ok(None) => return Ok(true),
                Err(e) if e.is_not_found() && self.from.find(referrer).await?.as_ref() != Some(said) => {
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes what refers to objects that are there. False: it is there.
    async fn refer(&self, key: &str, json: Bytes, copied: &mut Copied) -> Result<bool, CopyError> {
        fail::fail_point!("copies::before_refer");
        if self.mode != Mode::Fill && self.from.is_unchanged(key).await? {
            return Ok(false);
        }
        copied.objects += 1;
        copied.bytes += json.len() as u64;
        match self.mode {
            Mode::TakeBack { dry_run: true } => {}
            Mode::TakeBack { dry_run: false } => _ = self.to.put(key, json, Condition::Overwrite).await?,
            Mode::Fill => put_new(&self.to, key, json).await?,
        }
        Ok(true)
    }

    /// Whether the copy has a manifest or an index. Less of it than the store has does not count.
    async fn is_referred(&self, key: &str) -> Result<bool, CopyError> {
        let Some(there) = self.to.find(key).await? else { return Ok(false) };
        match unseal::<IgnoredAny>(key, &there) {
            Err(e) if e.is_damage() => match self.from.find(key).await? {
                Some(json) => Ok(!holds_part(&self.to, key, &json).await?),
                None => Ok(true),
            },
            _ => Ok(true),
        }
    }

    fn forget_segments(&mut self, dir: &str) {
        self.segments.retain(|key| !key.starts_with(dir));
        self.opened.remove(dir);
    }
}

/// What is damaged holds nothing else up.
fn keep_damage(done: Result<(), CopyError>, damage: &mut Option<CopyError>) -> Result<(), CopyError> {
    match done {
        Err(e) if e.is_damage() => {
            tracing::error!(error = %e, "not copied");
            damage.get_or_insert(e);
            Ok(())
        }
        done => done,
    }
}

fn count(copied: &mut Copied, progress: &Progress, wanted: &Wanted, made: bool) {
    if made {
        copied.objects += 1;
        copied.bytes += wanted.bytes;
        progress.add(wanted.bytes, 1);
    }
}

fn go_on(cancel: &CancellationToken) -> Result<(), CopyError> {
    if cancel.is_cancelled() { Err(CopyError::Cancelled) } else { Ok(()) }
}
