//! Durable, atomic writes into a folder.
//!
//! OpenDAL's `fs` service reads and lists here, but does not write: with `atomic_write_dir` its `if_not_exists` is a
//! look before a rename that replaces (two writers both win), without it a crash leaves a torn file under the final name, and it
//! never syncs a directory, so that a power cut can take back a finished write. Here: write to `.tmp/` on the same file system,
//! sync the file, link (only if absent) or rename it into place, sync the directory. Nor does it delete: a manifest must not come back
//! after a power cut that took the objects it lists. Nor does it list where there may be very many folders: it changes threads for each.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use super::root::Root;
use super::{Condition, Put};

const TMP: &str = ".tmp";
/// Names handed over at a time.
const NAMES: usize = 1000;
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The folder of an `fs` store.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: Arc<Root>,
    /// Directories whose entry in their parent is known to be on disk.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A file being written under a temporary name; dropped before [`TempFile::publish`] it vanishes.
#[derive(Debug)]
pub(super) struct TempFile {
    folder: Folder,
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Of a root that is there: whatever is done in it later is done in that directory, or not at all.
    pub(super) fn new(root: PathBuf) -> io::Result<Self> {
        Ok(Self { root: Arc::new(Root::new(root)?), durable: Arc::default() })
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Refuses a root that is no longer the directory that was opened. Blocks.
    pub(super) fn check(&self) -> io::Result<()> {
        self.root.check()
    }

    /// Writes a whole object. Blocks.
    pub(super) fn put(&self, key: &str, bytes: &Bytes, condition: Condition) -> io::Result<Put> {
        let mut temp = self.create_temp()?;
        temp.write(bytes)?;
        temp.publish(key, condition)
    }

    /// Begins an object. Blocks.
    pub(super) fn create_temp(&self) -> io::Result<TempFile> {
        self.root.guarded(|| {
            let dir = self.root().join(TMP);
            self.root.create_dir(&dir)?;
            let path = dir.join(Uuid::new_v4().simple().to_string());
            let file = File::options().write(true).create_new(true).open(&path)?;
            Ok(TempFile { folder: self.clone(), path, file })
        })
    }

    /// Deletes an object, and syncs its directory. Blocks.
    pub(super) fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path_of(key)?;
        self.root.guarded(|| match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_dir(path.parent().unwrap_or(self.root()))),
        })
    }

    /// The names of the directories right below one, so many at a time, until `take` wants no more. A missing one is empty. Blocks.
    pub(super) fn dirs(&self, dir: &str, take: impl FnMut(Vec<String>) -> bool) -> io::Result<()> {
        let path = self.path_of(dir.trim_end_matches('/'))?;
        self.root.guarded(|| dirs(&path, take))
    }

    /// Removes a directory if it holds nothing but empty ones. Blocks.
    pub(super) fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.path_of(dir.trim_end_matches('/'))?;
        self.root.guarded(|| remove_empty(&path))
    }

    /// A whole object. Blocks.
    pub(super) fn read(&self, key: &str) -> io::Result<Vec<u8>> {
        let path = self.path_of(key)?;
        self.root.guarded(|| fs::read(path))
    }

    /// Removes what writers killed long ago left behind. Blocks.
    pub(super) fn remove_stale_temps(&self) -> io::Result<()> {
        self.check()?;
        let entries = match fs::read_dir(self.root().join(TMP)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            if age.is_some_and(|age| age > STALE) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where `key` lives. A key never leaves the root.
    fn path_of(&self, key: &str) -> io::Result<PathBuf> {
        let relative = Path::new(key);
        if key.is_empty() || relative.components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{key:?} is not an object's key")));
        }
        Ok(self.root().join(relative))
    }

    /// Makes `dir` and sees to it that its whole path survives a power cut.
    fn create_dir_durably(&self, dir: &Path) -> io::Result<()> {
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(dir) && dir.is_dir() {
            return Ok(());
        }
        self.root.create_dir(dir)?;
        let mut at = dir;
        while let (true, Some(parent)) = (at != self.root(), at.parent()) {
            sync_dir(parent)?;
            at = parent;
        }
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
        Ok(())
    }
}

impl TempFile {
    /// Appends bytes. Blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Makes the object appear, whole and durable, or not at all; below the root that was opened, or it does not count. Blocks.
    pub(super) fn publish(self, key: &str, condition: Condition) -> io::Result<Put> {
        self.file.sync_all()?;
        fail::fail_point!("archive::store::fs::before_publish");
        let target = self.folder.path_of(key)?;
        self.folder.root.guarded(|| self.move_to(&target, condition))
    }

    fn move_to(&self, target: &Path, condition: Condition) -> io::Result<Put> {
        let dir = target.parent().unwrap_or(self.folder.root());
        self.folder.create_dir_durably(dir)?;
        let put = match condition {
            Condition::IfAbsent => match fs::hard_link(&self.path, target) {
                Ok(()) => Put::Created,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Put::AlreadyThere,
                Err(e) => return Err(e),
            },
            Condition::Overwrite => {
                fs::rename(&self.path, target)?;
                Put::Created
            }
        };
        fail::fail_point!("archive::store::fs::before_dir_sync");
        // Also when the object was there: whoever made it may have died before this line.
        sync_dir(dir)?;
        Ok(put)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a rename it is gone already; what cannot be removed goes with the stale ones.
        let _ = fs::remove_file(&self.path);
    }
}

fn dirs(dir: &Path, mut take: impl FnMut(Vec<String>) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
        if names.len() == NAMES && !take(std::mem::take(&mut names)) {
            return Ok(());
        }
    }
    take(names);
    Ok(())
}

fn remove_empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
