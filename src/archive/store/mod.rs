//! Bytes by key: a folder, S3, Google Cloud Storage or Azure Blob Storage behind one type.

mod bucket;
mod config;
mod error;
mod fs;
mod listing;
mod locks;
mod open;
mod packs;
mod probe;
mod protection;
mod root;
#[cfg(test)]
mod tests;
mod versions;
mod writer;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use opendal::options::ReadOptions;
use opendal::{ErrorKind, Operator};
use snafu::ResultExt;
use tokio::task::{JoinError, spawn_blocking};

use bucket::Guard;
pub use config::{AzblobConfig, GcsConfig, S3Config, StoreConfig};
use error::{DeleteSnafu, ReadSnafu, WriteSnafu};
pub use error::{StoreError, Trouble};
use fs::Folder;
pub use protection::{Lock, LockMode, Locks, Protection, Versioning};
pub use writer::StoreWriter;

use packs::Packs;

use super::crypt::Identities;

/// Parts of a [`StoreWriter`] in bytes. At 10,000 parts (S3) an object may have 50 GB; larger ones cost memory.
const PART_BYTES: usize = 5 << 20;

/// An archive's objects, by key relative to its prefix. Clones share connections.
///
/// Every call is retried a few times and bounded in time; what still fails and may pass later says so by
/// [`StoreError::is_transient`].
///
/// What reads shows the segments that are in packs as if they were objects of their own; what writes and deletes knows only what is stored.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    identities: Identities,
    /// What is read is what the store held at this moment; what is written is written now.
    as_of: Option<Timestamp>,
    packs: Arc<Packs>,
}

struct Inner {
    url: String,
    operator: Operator,
    /// Writes of an `fs` store go here.
    folder: Option<Folder>,
    /// How an S3 bucket protects what it holds.
    guard: Option<Guard>,
    /// Requests so far, but for retries and the parts of uploads; a listing is one for each thousand entries, as in a bucket.
    requests: AtomicU64,
}

impl Inner {
    fn count(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        tracing::debug!(store = self.url, requests = self.requests.load(Ordering::Relaxed), "requests to the store");
    }
}

/// When a write may take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Only if no such object exists: of two writers one wins.
    IfAbsent,
    /// Whatever was there is replaced.
    Overwrite,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// The object now is what was written, and durable.
    Created,
    /// [`Condition::IfAbsent`] and an object was there: it is untouched. After a retry it may be our own.
    AlreadyThere,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock; none where the store does not say.
    pub modified: Option<Timestamp>,
}

impl Store {
    /// Sets up a client; makes no connection, but makes the folder of an `fs` store, unless this process had it open before: then it is away, and
    /// whatever is asked of it fails until it is back ([`Trouble::NoBucket`]).
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        open::open(config)
    }

    /// Whether it is a folder that this process has opened before.
    pub fn was_opened(config: &StoreConfig) -> bool {
        open::was_opened(config)
    }

    /// For a reader: the same store, with what opens its encrypted objects. Bytes come from here as they are stored; whoever gives them a meaning
    /// decrypts them.
    pub fn with_identities(self, identities: Identities) -> Self {
        Self { identities, ..self }
    }

    /// What opens encrypted objects; none for a writer.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Where this is, for people: `s3://bucket/prefix`, `/a/folder`. No secrets.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.inner.folder.is_some()
    }

    /// A whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.read(key, None).await
    }

    /// A whole object; none if there is no such object.
    pub async fn find(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.get(key).await {
            Err(e) if e.is_not_found() => Ok(None),
            there => there.map(Some),
        }
    }

    /// Bytes `range` of an object; fewer than asked for is an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self.read(key, Some(range)).await?;
        match wanted.checked_sub(bytes.len() as u64) {
            Some(0) => Ok(bytes),
            missing => Err(self.ended_early(key, missing.unwrap_or_default())),
        }
    }

    fn ended_early(&self, key: &str, missing: u64) -> StoreError {
        let e = from_io(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends {missing} bytes early")));
        StoreError::Read { key: key.to_owned(), store: self.url().to_owned(), source: Box::new(e) }
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        fail::fail_point!("archive::store::get", |_| Err(injected()).context(ReadSnafu { key, store: self.url() }));
        let mut look = self.look(key);
        loop {
            let (key_there, range_there) = look.at(key, range.clone());
            match self.read_stored(&key_there, range_there).await {
                Err(e) if e.is_not_found() => look = self.look_on(key, &look).await?.ok_or(e)?,
                read => return read,
            }
        }
    }

    async fn read_stored(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.inner.count(1);
        // Read in pieces, a buffer of 2 MiB is filled with zeros for each small object.
        if let (Some(folder), None) = (self.inner.folder.clone(), &range) {
            let path = key.to_owned();
            let read = joined(spawn_blocking(move || folder.read(&path)).await);
            return Ok(read.context(ReadSnafu { key, store: self.url() })?.into());
        }
        let mut options = ReadOptions { version: self.version_of(key).await?, ..ReadOptions::default() };
        if let Some(range) = range {
            options.range = range.into();
        }
        let read = self.inner.guarded(self.inner.operator.read_options(key, options)).await;
        Ok(read.context(ReadSnafu { key, store: self.url() })?.to_bytes())
    }

    /// Bytes `range` of an object as they arrive; a stream that ends without an error had them all.
    pub async fn read_stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        fail::fail_point!("archive::store::get", |_| Err(injected()).context(ReadSnafu { key, store: self.url() }));
        packs::stream(self.clone(), key.to_owned(), range).await
    }

    /// It may end early without an error.
    async fn stream_stored(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let (key, store) = (key.to_owned(), self.url().to_owned());
        self.inner.count(1);
        let reader = self.inner.operator.reader_with(&key);
        let reader = match self.version_of(&key).await? {
            Some(version) => reader.version(&version),
            None => reader,
        };
        let stream = self.inner.guarded(async { reader.await?.into_stream(range).await }).await;
        let inner = self.inner.clone();
        let gone_or = move |e| {
            let inner = inner.clone();
            async move { inner.check().await.and(Err(e)) }
        };
        let pieces = stream.context(ReadSnafu { key: &key, store: &store })?.map_ok(|buffer| buffer.to_bytes());
        let pieces = pieces.or_else(gone_or);
        Ok(pieces.map(move |piece| piece.context(ReadSnafu { key: &key, store: &store })).boxed())
    }

    /// Writes a whole object: atomic and durable when this returns.
    pub async fn put(&self, key: &str, bytes: Bytes, condition: Condition) -> Result<Put, StoreError> {
        self.inner.count(1);
        fail::fail_point!("archive::store::put", |_| Err(injected()).context(WriteSnafu { key, store: self.url() }));
        let put = match &self.inner.folder {
            Some(folder) => {
                let (folder, key) = (folder.clone(), key.to_owned());
                joined(spawn_blocking(move || folder.put(&key, &bytes, condition)).await)
            }
            None => {
                let write = self.writing(key).await?.write_with(key, bytes);
                let write = write.if_not_exists(condition == Condition::IfAbsent);
                match write.await {
                    Ok(_) => Ok(Put::Created),
                    Err(e) if e.kind() == ErrorKind::ConditionNotMatch && condition == Condition::IfAbsent => {
                        Ok(Put::AlreadyThere)
                    }
                    Err(e) => Err(e),
                }
            }
        };
        fail::fail_point!("archive::store::after_put", |_| Err(injected())
            .context(WriteSnafu { key, store: self.url() }));
        put.context(WriteSnafu { key, store: self.url() })
    }

    /// Begins an object that is written piece by piece, for what is larger than memory.
    pub async fn writer(&self, key: &str, condition: Condition) -> Result<StoreWriter, StoreError> {
        self.inner.count(1);
        fail::fail_point!("archive::store::writer", |_| Err(injected()).context(WriteSnafu { key, store: self.url() }));
        if let Some(folder) = self.inner.folder.clone() {
            let temp = joined(spawn_blocking(move || folder.create_temp()).await);
            let temp = temp.context(WriteSnafu { key, store: self.url() })?;
            return Ok(StoreWriter::folder(self.clone(), key, condition, temp));
        }
        // One part at a time: whoever writes much writes several objects at once, and each part more is memory.
        let writer = self.writing(key).await?.writer_with(key).chunk(PART_BYTES);
        let writer = writer.if_not_exists(condition == Condition::IfAbsent).await;
        Ok(StoreWriter::remote(self.clone(), key, condition, writer.context(WriteSnafu { key, store: self.url() })?))
    }

    /// Size of an object in bytes; none if there is no such object.
    pub async fn stat(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let mut look = self.look(key);
        loop {
            let found = match &look.place {
                None => self.stat_stored(key).await?,
                Some(place) => {
                    let pack = self.stat_stored(&place.pack).await?;
                    pack.filter(|bytes| *bytes == place.pack_bytes).map(|_| place.bytes)
                }
            };
            look = match found {
                Some(bytes) => return Ok(Some(bytes)),
                None => match self.look_on(key, &look).await? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
        }
    }

    /// The same of what is stored under that very name.
    pub async fn stat_stored(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.count(1);
        if let Some(at) = self.as_of {
            return Ok(self.version_at(key, at).await?.map(|version| version.bytes));
        }
        let stat = self.inner.guarded(self.inner.operator.stat(key)).await;
        match stat.context(ReadSnafu { key, store: self.url() }) {
            Ok(meta) => Ok(Some(meta.content_length())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes an object, durably: a power cut does not bring it back. One that is not there is no error. A bucket that keeps versions hides it.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.count(1);
        fail::fail_point!("archive::store::delete", |_| Err(injected())
            .context(DeleteSnafu { key, store: self.url() }));
        let deleted = match &self.inner.folder {
            Some(folder) => {
                let (folder, key) = (folder.clone(), key.to_owned());
                joined(spawn_blocking(move || folder.delete(&key)).await)
            }
            None => self.inner.operator.delete(key).await,
        };
        deleted.context(DeleteSnafu { key, store: self.url() })
    }

    /// Removes a folder (ends with `/`) that holds nothing any more. Only an `fs` store has folders of their own; what is not empty stays.
    pub async fn remove_empty_dir(&self, dir: &str) {
        if let Some(folder) = self.inner.folder.clone() {
            let dir = dir.to_owned();
            // An empty folder is in nobody's way.
            let _ = spawn_blocking(move || folder.remove_empty_dir(&dir)).await;
        }
    }

    /// Removes what writers that were killed a day ago or earlier left in a folder, which is no object and only takes room.
    pub async fn remove_stale_temps(&self) {
        if let Some(folder) = self.inner.folder.clone() {
            match spawn_blocking(move || folder.remove_stale_temps()).await {
                Ok(Err(error)) => {
                    tracing::warn!(%error, store = self.url(), "what killed writers left could not be removed")
                }
                removed => drop(removed),
            }
        }
    }

    /// Proves that objects can be written (atomically), read, listed and deleted here, or says what stands in the way. Who may not delete leaves a few bytes below `probe/`.
    pub async fn probe(&self) -> Result<(), StoreError> {
        probe::probe(self).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.url).finish()
    }
}

/// The outcome of blocking file work as the error every other store gives.
fn joined<T>(outcome: Result<io::Result<T>, JoinError>) -> Result<T, opendal::Error> {
    outcome.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(from_io)
}

fn from_io(e: io::Error) -> opendal::Error {
    let kind = match e.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Unexpected,
    };
    opendal::Error::new(kind, e.to_string()).set_source(e)
}

/// What a failpoint's `return` makes a store call end in.
#[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "failpoints that are not there return nothing"))]
fn injected() -> opendal::Error {
    opendal::Error::new(ErrorKind::Unexpected, "injected by a failpoint").set_temporary()
}
