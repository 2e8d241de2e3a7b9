//! A folder where segments wait, encoded, while the store is down. Bounded: when it is full, reading stops and the source keeps its files.
//!
//! What is here is not durable: a checkpoint, an acknowledgement and the lag know the store alone. It outlives the process. The next stream
//! stores it first if it goes on where the store ends (`connect`), and reads on behind it, even if the source purged meanwhile.

mod connect;
mod file;
mod load;
pub(super) mod stage;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::Error;
use super::status::StreamStatus;
use crate::archive::binlog_index::FileId;
use crate::archive::identity::ArchiveInfo;
use crate::archive::keys;
use crate::archive::sealed::{seal, unseal};
use crate::model::{BinlogPosition, CommitTime};
use file::Content;
pub(super) use load::Loader;

/// Held by the process that uses the folder.
const LOCK: &str = "lock";
/// Says which archive the content is for.
const IDENTITY: &str = keys::ARCHIVE;

/// What a file may have beyond its object, as a rule.
const TAIL_ROOM_BYTES: u64 = 64 << 10;

/// Where to spool, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder, of this stream alone. It is made if it is not there.
    pub folder: PathBuf,
    /// The most its files may take, in bytes.
    pub max_bytes: u64,
}

/// What a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpoolReading {
    /// Bytes of its files.
    pub bytes: u64,
    /// The most they may take.
    pub max_bytes: u64,
    /// Where what it holds ends; none when it is empty.
    pub end: Option<BinlogPosition>,
    /// Commit time of the oldest transaction in it.
    pub oldest_commit: Option<CommitTime>,
    /// Whether reading stands still because it has no room, or cannot be written.
    pub full: bool,
}

/// One file of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub number: u64,
    /// The file's size.
    pub bytes: u64,
    pub file: FileId,
    /// The range of a segment; of the end of a file, an empty one there.
    pub range: (u64, u64),
    pub closes: bool,
    pub encrypted: bool,
    pub first_commit: Option<CommitTime>,
    /// Where the stream goes on behind it.
    pub next: BinlogPosition,
}

impl Entry {
    fn new(number: u64, bytes: u64, content: &Content) -> Self {
        let file = content.file().clone();
        let (range, first_commit, next) = match content {
            Content::Segment(segment) => {
                let meta = &segment.meta;
                let next = BinlogPosition { file: file.name.clone(), offset: meta.end };
                ((meta.start, meta.end), segment.commits.first().map(|(commit, _)| *commit), next)
            }
            Content::Close { size, next_file, .. } => {
                let next = next_file.clone().map(|file| BinlogPosition { file, offset: 0 });
                let here = || BinlogPosition { file: file.name.clone(), offset: *size };
                ((*size, *size), None, next.unwrap_or_else(here))
            }
        };
        let closes = matches!(content, Content::Close { .. });
        let encrypted = matches!(content, Content::Segment(segment) if segment.meta.encryption.is_some());
        Self { number, bytes, file, range, closes, encrypted, first_commit, next }
    }
}

/// An open spool. Its files are in order, each goes on where the one before ends.
pub(super) struct Spool {
    config: SpoolConfig,
    /// The archive that the content is for.
    archive: Option<ArchiveInfo>,
    entries: VecDeque<Entry>,
    /// Bytes of all files.
    bytes: u64,
    next_number: u64,
    /// Whether a file was found damaged since they were checked.
    doubted: Arc<AtomicBool>,
    /// Keeps others out until it is dropped.
    _lock: File,
}

impl Spool {
    /// Opens the folder, and checks every file in it. What is torn, and all behind it, is dropped: the source is asked for it again.
    pub fn open(config: SpoolConfig) -> Result<Self, Error> {
        let failed = |doing: &'static str| {
            let folder = config.folder.display().to_string();
            move |source| Error::Spool { doing, folder, source }
        };
        fs::create_dir_all(&config.folder).map_err(failed("make the spool"))?;
        let lock = File::create(config.folder.join(LOCK)).map_err(failed("open the spool"))?;
        lock.try_lock().map_err(|error| {
            let source = match error {
                fs::TryLockError::WouldBlock => {
                    io::Error::other("another stream uses this folder: give each one its own")
                }
                fs::TryLockError::Error(error) => error,
            };
            failed("open the spool")(source)
        })?;
        let archive = identity(&config.folder).map_err(failed("read the spool"))?;
        let mut spool = Self {
            config: config.clone(),
            archive,
            entries: VecDeque::new(),
            bytes: 0,
            next_number: 0,
            doubted: Arc::default(),
            _lock: lock,
        };
        spool.load().map_err(failed("read the spool"))?;
        if !spool.entries.is_empty() {
            tracing::info!(
                objects = spool.entries.len(),
                bytes = spool.bytes,
                "the spool holds what is not in the store yet"
            );
        }
        Ok(spool)
    }

    /// Checks every file again if one was found damaged.
    pub fn check_again(&mut self) -> Result<(), Error> {
        if !self.doubted.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let folder = self.config.folder.display().to_string();
        self.load().map_err(|source| Error::Spool { doing: "read the spool", folder, source })
    }

    fn load(&mut self) -> io::Result<()> {
        let folder = self.config.folder.clone();
        (self.entries, self.bytes) = (VecDeque::new(), 0);
        let mut good = self.archive.is_some();
        for number in file::numbers(&folder)? {
            self.next_number = number + 1;
            let checked = match good {
                true => file::each_piece(&folder, number, |_| Ok(())).and_then(|content| {
                    let bytes = fs::metadata(file::path(&folder, number))?.len();
                    Ok(Entry::new(number, bytes, &content))
                }),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "nothing whole leads up to it")),
            };
            match checked {
                Ok(entry) => self.push(entry),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(number, %error, "dropped from the spool: what was in it is read from the source again");
                    good = false;
                    fs::remove_file(file::path(&folder, number))?;
                }
                Err(error) => return Err(error),
            }
        }
        file::sync(&folder)
    }

    /// Says which archive the content is for. Content for another one is refused.
    pub fn bind(&mut self, archive: &ArchiveInfo) -> Result<(), Error> {
        if self.archive.as_ref().is_some_and(|bound| bound.is_of_same(archive)) {
            return Ok(());
        }
        let folder = self.config.folder.display().to_string();
        if !self.entries.is_empty() {
            return Err(Error::OtherSpool { folder, objects: self.entries.len() });
        }
        let write = || -> io::Result<()> {
            let (path, part) = (self.config.folder.join(IDENTITY), self.config.folder.join(format!("{IDENTITY}.part")));
            fs::write(&part, seal(IDENTITY, archive).map_err(io::Error::other)?)?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
            file::sync(&self.config.folder)
        };
        write().map_err(|source| Error::Spool { doing: "write to the spool", folder, source })?;
        self.archive = Some(archive.clone());
        Ok(())
    }

    /// The first file that is not in the store, and the archive it is for.
    pub fn first(&self) -> Option<(&Entry, &ArchiveInfo)> {
        self.entries.front().zip(self.archive.as_ref())
    }

    /// Whether anything in it is encrypted.
    pub fn holds_encrypted(&self) -> bool {
        self.entries.iter().any(|entry| entry.encrypted)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.next_number = self.next_number.max(entry.number + 1);
        self.entries.push_back(entry);
    }

    /// Whether an object of this size has room, with what describes it.
    fn fits(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes).saturating_add(TAIL_ROOM_BYTES) <= self.config.max_bytes
    }

    /// Whether it had room in an empty spool.
    fn ever_fits(&self, bytes: u64) -> bool {
        bytes.saturating_add(TAIL_ROOM_BYTES) <= self.config.max_bytes
    }

    /// Forgets the oldest file, which is in the store now (or of no use).
    fn drop_first(&mut self) -> io::Result<()> {
        let Some(entry) = self.entries.pop_front() else { return Ok(()) };
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        match fs::remove_file(file::path(&self.config.folder, entry.number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Publishes what it holds.
    pub fn publish(&self, status: &StreamStatus, full: bool) {
        let reading = SpoolReading {
            bytes: self.bytes,
            max_bytes: self.config.max_bytes,
            end: self.entries.back().map(|entry| entry.next.clone()),
            oldest_commit: self.entries.iter().find_map(|entry| entry.first_commit),
            full,
        };
        status.update(|s| s.spool = Some(reading));
    }
}

fn identity(folder: &Path) -> io::Result<Option<ArchiveInfo>> {
    match fs::read(folder.join(IDENTITY)) {
        // One that is torn binds nothing: the content is dropped.
        Ok(json) => Ok(unseal(IDENTITY, &json).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
