use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::archive::error::check_format;
use crate::archive::manifest::{Content, FullManifest};
use crate::archive::sealed::{SealCheck, unseal};
use crate::archive::store::{Store, StoreError};
use crate::archive::{ArchiveError, keys};
use crate::model::{BinlogPosition, Flavor, GtidSet, total};

/// A manifest of so many bytes, or fewer, is read at once.
const SMALL_BYTES: u64 = 256 << 10;
/// Whole manifests in memory at a time.
const MANIFESTS: usize = 4;

/// A full's manifest without its lists, whose length grows with the data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Head")]
pub struct FullHead {
    /// [`FullManifest::id`].
    pub id: String,
    /// [`FullManifest::flavor`].
    pub flavor: Flavor,
    /// [`FullManifest::server_version`].
    pub server_version: String,
    /// [`FullManifest::server`].
    pub server: String,
    /// [`FullManifest::started_at`].
    pub started_at: Timestamp,
    /// [`FullManifest::consistent_at`].
    pub consistent_at: Timestamp,
    /// [`FullManifest::finished_at`].
    pub finished_at: Timestamp,
    /// [`FullManifest::gtids`].
    pub gtids: GtidSet,
    /// [`FullManifest::position`].
    pub position: Option<BinlogPosition>,
    /// [`FullManifest::position_created_unix`].
    pub position_created_unix: Option<u32>,
    /// [`FullManifest::prepared_xa`].
    pub prepared_xa: Option<Vec<String>>,
    /// [`FullManifest::log_slave_updates`].
    pub log_slave_updates: Option<bool>,
    /// [`FullManifest::recipients`].
    pub recipients: Vec<String>,
    /// How it was taken: the tag of [`crate::archive::manifest::Content`], for example `logical`.
    pub method: String,
    /// Objects it lists.
    pub objects: u64,
    /// Their stored size in bytes.
    pub bytes: u64,
    /// Their size before compression in bytes.
    pub raw_bytes: u64,
    /// [`FullManifest::trace_id`].
    pub trace_id: String,
}

/// Reads a full's whole manifest.
pub async fn load_manifest(store: &Store, id: &str) -> Result<FullManifest, ArchiveError> {
    let manifest: FullManifest = read_json(store, &keys::manifest(id)).await?;
    check_id(id, &manifest.id)?;
    Ok(manifest)
}

/// Keys of objects that a full refers to in the folder of another one, of all fulls but those `without`.
///
/// # Errors
/// Also for a manifest that cannot be read: nobody knows what it refers to.
pub async fn shared(store: &Store, without: &[&str]) -> Result<HashSet<String>, ArchiveError> {
    let dirs = store.list_dirs(keys::FULLS).await?.into_iter();
    let ids =
        dirs.filter_map(|dir| Some((keys::parse_full_dir(&dir).filter(|id| !without.contains(&id.as_str()))?, dir)));
    let ids: Vec<(String, String)> = ids.collect();
    let mut manifests = stream::iter(ids)
        .map(|(id, dir)| async move {
            match load_manifest(store, &id).await {
                Ok(manifest) => {
                    let keys = manifest.objects.into_iter().map(|object| object.key);
                    Ok(keys.filter(|key| !key.starts_with(&dir)).collect::<Vec<_>>())
                }
                Err(e) if e.is_not_found() => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        })
        .buffer_unordered(MANIFESTS);
    let mut shared = HashSet::new();
    while let Some(keys) = manifests.try_next().await? {
        shared.extend(keys);
    }
    Ok(shared)
}

/// Reads a full's head: the manifest streams by, in bounded memory.
pub(super) async fn load_head(store: &Store, id: &str) -> Result<FullHead, ArchiveError> {
    let head: FullHead = read_json(store, &keys::manifest(id)).await?;
    check_id(id, &head.id)?;
    Ok(head)
}

/// A copied folder must not count as another full.
fn check_id(id: &str, found: &str) -> Result<(), ArchiveError> {
    if id == found {
        return Ok(());
    }
    Err(ArchiveError::Misplaced { key: keys::manifest(id), of: keys::manifest(found) })
}

impl From<&FullManifest> for FullHead {
    fn from(manifest: &FullManifest) -> Self {
        let method = match &manifest.content {
            Content::Logical(_) => "logical",
        };
        Self {
            id: manifest.id.clone(),
            flavor: manifest.flavor,
            server_version: manifest.server_version.clone(),
            server: manifest.server.clone(),
            started_at: manifest.started_at,
            consistent_at: manifest.consistent_at,
            finished_at: manifest.finished_at,
            gtids: manifest.gtids.clone(),
            position: manifest.position.clone(),
            position_created_unix: manifest.position_created_unix,
            prepared_xa: manifest.prepared_xa.clone(),
            log_slave_updates: manifest.log_slave_updates,
            recipients: manifest.recipients.clone(),
            method: method.to_owned(),
            objects: manifest.objects.len() as u64,
            bytes: total(manifest.objects.iter().map(|object| object.bytes)),
            raw_bytes: total(manifest.objects.iter().map(|object| object.raw_bytes)),
            trace_id: manifest.trace_id.clone(),
        }
    }
}

impl From<Head> for FullHead {
    fn from(head: Head) -> Self {
        Self {
            id: head.id,
            flavor: head.flavor,
            server_version: head.server_version,
            server: head.server,
            started_at: head.started_at,
            consistent_at: head.consistent_at,
            finished_at: head.finished_at,
            gtids: head.gtids,
            position: head.position,
            position_created_unix: head.position_created_unix,
            prepared_xa: head.prepared_xa,
            log_slave_updates: head.log_slave_updates,
            recipients: head.recipients,
            method: head.content.method,
            objects: head.objects.count,
            bytes: head.objects.bytes,
            raw_bytes: head.objects.raw_bytes,
            trace_id: head.trace_id,
        }
    }
}

#[derive(Deserialize)]
struct Head {
    id: String,
    flavor: Flavor,
    server_version: String,
    server: String,
    started_at: Timestamp,
    consistent_at: Timestamp,
    finished_at: Timestamp,
    gtids: GtidSet,
    position: Option<BinlogPosition>,
    position_created_unix: Option<u32>,
    #[serde(default)]
    prepared_xa: Option<Vec<String>>,
    #[serde(default)]
    log_slave_updates: Option<bool>,
    #[serde(default)]
    recipients: Vec<String>,
    trace_id: String,
    objects: ObjectSums,
    content: ContentHead,
}

#[derive(Deserialize)]
struct ContentHead {
    method: String,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A manifest's object list, added up as it streams by.
#[derive(Default)]
struct ObjectSums {
    count: u64,
    bytes: u64,
    raw_bytes: u64,
}

impl<'de> Deserialize<'de> for ObjectSums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Sizes {
            bytes: u64,
            raw_bytes: u64,
        }
        struct Adder;
        impl<'de> Visitor<'de> for Adder {
            type Value = ObjectSums;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ObjectSums, A::Error> {
                let mut sums = ObjectSums::default();
                while let Some(sizes) = list.next_element::<Sizes>()? {
                    sums.count += 1;
                    sums.bytes = sums.bytes.saturating_add(sizes.bytes);
                    sums.raw_bytes = sums.raw_bytes.saturating_add(sizes.raw_bytes);
                }
                Ok(sums)
            }
        }
        deserializer.deserialize_seq(Adder)
    }
}

/// Parses a JSON object: a small one whole, a large one as it streams in.
async fn read_json<T: DeserializeOwned + Send + 'static>(store: &Store, key: &str) -> Result<T, ArchiveError> {
    let Some(bytes) = store.stat(key).await? else {
        // The store words what is missing.
        store.get(key).await?;
        return Err(ArchiveError::Missing { store: store.url().to_owned() });
    };
    if bytes <= SMALL_BYTES {
        return unseal(key, &store.get(key).await?);
    }
    // The format first: whatever a newer one changed must not pass for damage.
    let (FormatOnly { format }, _) = stream_json(store, key, bytes).await?;
    check_format(key, format)?;
    let (value, check) = stream_json(store, key, bytes).await?;
    check.finish(key)?;
    Ok(value)
}

async fn stream_json<T>(store: &Store, key: &str, bytes: u64) -> Result<(T, SealCheck), ArchiveError>
where
    T: DeserializeOwned + Send + 'static,
{
    let stream = store.read_stream(key, 0..bytes).await?;
    let object = Blocking { stream, piece: Bytes::new(), check: SealCheck::default(), runtime: Handle::current() };
    let mut reader = BufReader::with_capacity(64 << 10, object);
    // It reads to the end: what follows the value is an error.
    let read = move || serde_json::from_reader(&mut reader).map(|value| (value, reader.into_inner().check));
    let parsed = spawn_blocking(read).await;
    let e = match parsed {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) if !e.is_io() => return Err(ArchiveError::Unreadable { key: key.to_owned(), source: e }),
        Ok(Err(e)) => io::Error::from(e),
        Err(e) => io::Error::other(e),
    };
    match e.downcast::<StoreError>() {
        Ok(store_error) => Err(store_error.into()),
        Err(e) => Err(ArchiveError::Unreadable { key: key.to_owned(), source: serde_json::Error::io(e) }),
    }
}

/// A stream as a reader for a thread that may block.
struct Blocking {
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    piece: Bytes,
    /// Of what was handed out or is next to be.
    check: SealCheck,
    runtime: Handle,
}

impl Read for Blocking {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(piece) => {
                    self.piece = piece.map_err(io::Error::other)?;
                    self.check.update(&self.piece);
                }
                None => return Ok(0),
            }
        }
        let bytes = self.piece.len().min(to.len());
        self.piece.copy_to_slice(&mut to[..bytes]);
        Ok(bytes)
    }
}
