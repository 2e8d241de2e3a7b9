//! Bytes by key: a folder, S3, Google Cloud Storage or Azure Blob Storage behind one type.

mod bucket;
mod config;
mod error;
mod fs;
mod locks;
mod open;
mod probe;
mod protection;
mod versions;
mod writer;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use opendal::{Entry, EntryMode, ErrorKind, Operator};
use snafu::ResultExt;
use tokio::task::{JoinError, spawn_blocking};

use bucket::Guard;
pub use config::{AzblobConfig, GcsConfig, S3Config, StoreConfig};
use error::{DeleteSnafu, ListSnafu, ReadSnafu, WriteSnafu};
pub use error::{StoreError, Trouble};
use fs::Folder;
pub use protection::{Lock, LockMode, Locks, Protection, Versioning};
pub use writer::StoreWriter;

use super::crypt::Identities;

/// Parts of a [`StoreWriter`] in bytes. At 10,000 parts (S3) an object may have 50 GB; larger ones cost memory.
const PART_BYTES: usize = 5 << 20;

/// An archive's objects, by key relative to its prefix. Clones share connections.
///
/// Every call is retried a few times and bounded in time; what still fails and may pass later says so by
/// [`StoreError::is_transient`].
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    identities: Identities,
    /// What is read is what the store held at this moment; what is written is written now.
    as_of: Option<Timestamp>,
}

struct Inner {
    url: String,
    operator: Operator,
    /// Writes of an `fs` store go here.
    folder: Option<Folder>,
    /// How an S3 bucket protects what it holds.
    guard: Option<Guard>,
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
    /// Sets up a client; makes no connection, but makes the folder of an `fs` store.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        open::open(config)
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

    /// A whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        fail::fail_point!("archive::store::get", |_| Err(injected()).context(ReadSnafu { key, store: self.url() }));
        let read = match self.version_of(key).await? {
            Some(version) => self.inner.operator.read_with(key).version(&version).await,
            None => self.inner.operator.read(key).await,
        };
        Ok(read.context(ReadSnafu { key, store: self.url() })?.to_bytes())
    }

    /// Bytes `range` of an object; fewer than asked for is an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        fail::fail_point!("archive::store::get", |_| Err(injected()).context(ReadSnafu { key, store: self.url() }));
        let wanted = range.end.saturating_sub(range.start);
        let read = self.inner.operator.read_with(key).range(range);
        let read = match self.version_of(key).await? {
            Some(version) => read.version(&version).await,
            None => read.await,
        };
        let bytes = read.context(ReadSnafu { key, store: self.url() })?.to_bytes();
        if bytes.len() as u64 != wanted {
            let e = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends {} bytes early", wanted - bytes.len() as u64),
            );
            return Err(from_io(e)).context(ReadSnafu { key, store: self.url() });
        }
        Ok(bytes)
    }

    /// Bytes `range` of an object as they arrive; a stream that ends without an error had them all.
    pub async fn read_stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        fail::fail_point!("archive::store::get", |_| Err(injected()).context(ReadSnafu { key, store: self.url() }));
        let (key, store) = (key.to_owned(), self.url().to_owned());
        let wanted = range.end.saturating_sub(range.start);
        let reader = self.inner.operator.reader_with(&key);
        let reader = match self.version_of(&key).await? {
            Some(version) => reader.version(&version).await,
            None => reader.await,
        };
        let reader = reader.context(ReadSnafu { key: &key, store: &store })?;
        let stream = reader.into_stream(range).await.context(ReadSnafu { key: &key, store: &store })?;
        let end = (key.clone(), store.clone());
        let mut seen = 0u64;
        Ok(stream
            .map_ok(|buffer| buffer.to_bytes())
            .map(move |piece| piece.context(ReadSnafu { key: &key, store: &store }))
            .map(Some)
            .chain(futures::stream::iter([None]))
            .map(move |piece| match piece {
                Some(piece) => {
                    seen += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                    piece
                }
                None if seen >= wanted => Ok(Bytes::new()),
                None => {
                    let e =
                        io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends after {seen} of {wanted} bytes"));
                    Err(from_io(e)).context(ReadSnafu { key: &end.0, store: &end.1 })
                }
            })
            .boxed())
    }

    /// Writes a whole object: atomic and durable when this returns.
    pub async fn put(&self, key: &str, bytes: Bytes, condition: Condition) -> Result<Put, StoreError> {
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

    /// Every object below `prefix` (a folder: ends with `/`), at any depth, by key. A missing folder is an empty one.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        fail::fail_point!("archive::store::list", |_| Err(injected())
            .context(ListSnafu { key: prefix, store: self.url() }));
        if let Some(at) = self.as_of {
            return Ok(self.shown(prefix, true, at).await?.1);
        }
        let entries = self.inner.operator.list_with(prefix).recursive(true).await;
        let mut objects: Vec<_> = entries
            .context(ListSnafu { key: prefix, store: self.url() })?
            .into_iter()
            .filter(|entry| entry.metadata().mode() == EntryMode::FILE)
            .map(object)
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// The folders right below `prefix` (which ends with `/`), each ending with `/`, by name.
    pub async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.list_level(prefix).await?.0)
    }

    /// What is right below `prefix` (empty, or ending with `/`): the folders, each ending with `/`, and the objects, by name.
    pub async fn list_level(&self, prefix: &str) -> Result<(Vec<String>, Vec<Object>), StoreError> {
        fail::fail_point!("archive::store::list", |_| Err(injected())
            .context(ListSnafu { key: prefix, store: self.url() }));
        if let Some(at) = self.as_of {
            return self.shown(prefix, false, at).await;
        }
        let entries = self.inner.operator.list(prefix).await.context(ListSnafu { key: prefix, store: self.url() })?;
        let (objects, dirs): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.metadata().mode() == EntryMode::FILE);
        let mut objects: Vec<_> = objects.into_iter().map(object).collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((below(prefix, dirs), objects))
    }

    /// Size of an object in bytes; none if there is no such object.
    pub async fn stat(&self, key: &str) -> Result<Option<u64>, StoreError> {
        if let Some(at) = self.as_of {
            return Ok(self.version_at(key, at).await?.map(|version| version.bytes));
        }
        match self.inner.operator.stat(key).await.context(ReadSnafu { key, store: self.url() }) {
            Ok(meta) => Ok(Some(meta.content_length())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes an object, durably: a power cut does not bring it back. One that is not there is no error. A bucket that keeps versions hides it.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
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

    /// Proves that objects can be written (atomically), read, listed and deleted here, or says what stands in the way.
    pub async fn probe(&self) -> Result<(), StoreError> {
        probe::probe(self).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.url).finish()
    }
}

/// The folders among a level's entries, by name.
fn below(prefix: &str, entries: Vec<Entry>) -> Vec<String> {
    let is_below = |path: &String| path.ends_with('/') && path != prefix && path != "/";
    let mut dirs: Vec<_> = entries.into_iter().map(|e| e.into_parts().0).filter(is_below).collect();
    dirs.sort();
    dirs
}

fn object(entry: Entry) -> Object {
    Object {
        bytes: entry.metadata().content_length(),
        modified: entry.metadata().last_modified().map(Timestamp::from),
        key: entry.into_parts().0,
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
