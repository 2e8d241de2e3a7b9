//! Whether a store's folder is still the one that was opened: what is unmounted leaves nothing, or an empty folder of another file system, behind,
//! and what is written there is lost once it is back.

use std::fs;
use std::future::{Future, IntoFuture};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use snafu::Snafu;
use tokio::task::spawn_blocking;

use super::{Inner, joined};
use crate::archive::identity::ArchiveInfo;
use crate::archive::keys;
use crate::archive::sealed::unseal;

/// A folder is away. It may come back by itself.
#[derive(Debug, Snafu)]
pub(super) enum Gone {
    #[snafu(display(
        "the folder is not there any more ({source}): is what it lies on mounted? No other is made in its place; this goes on when it is back"
    ))]
    Missing { source: io::Error },
    #[snafu(display(
        "another folder is in the place of the one that was opened: is what it lies on mounted? Nothing is written there; this goes on when \
         the first is back (if the other is meant, start this process anew)"
    ))]
    Replaced,
}

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> Self {
        io::Error::other(gone)
    }
}

/// Whether that is why something failed.
pub(super) fn is_gone(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<Gone>())
}

/// The root of an `fs` store, and which directory that was.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    device: u64,
    inode: u64,
    /// The archive in it, once there is one.
    archive: Option<ArchiveInfo>,
}

impl Root {
    /// Of a folder that is there.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let (device, inode) = look(&path)?;
        let archive = archive_in(&path);
        Ok(Self { path, known: Mutex::new(Known { device, inode, archive }) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a root that is no longer the directory that was opened. Blocks.
    ///
    /// The same file system may have another device number once it is mounted anew (NFS, a USB disk), and some number a directory anew when the kernel has
    /// forgotten it (FUSE, SMB): so one of the two numbers may change where the same archive is in it.
    pub(super) fn check(&self) -> io::Result<()> {
        let (device, inode) = match look(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
            looked => looked.map_err(|source| Gone::Missing { source })?,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if (device, inode) == (known.device, known.inode) {
            if known.archive.is_none() {
                known.archive = archive_in(&self.path);
            }
            return Ok(());
        }
        let is_known = |found: ArchiveInfo| known.archive.as_ref().is_some_and(|archive| archive.is_of_same(&found));
        if device != known.device && inode != known.inode || !archive_in(&self.path).is_some_and(is_known) {
            return Err(Gone::Replaced.into());
        }
        (known.device, known.inode) = (device, inode);
        Ok(())
    }

    /// Does something where the root is the directory that was opened, before it and behind it. Blocks.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        let done = work();
        self.check()?;
        done
    }

    /// Makes a directory below the root, and those between, but never the root. Blocks.
    pub(super) fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir == self.path {
            return Ok(());
        }
        match (fs::create_dir(dir), dir.parent()) {
            (Err(e), _) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound && parent != self.path => {
                self.create_dir(parent)?;
                self.create_dir(dir)
            }
            (made, _) => made,
        }
    }
}

/// Device and inode. The dot makes an automounter mount what it is to mount there.
fn look(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path.join("."))?;
    Ok((found.dev(), found.ino()))
}

/// What archive is in a folder; none where there is none, or nobody can tell.
fn archive_in(path: &Path) -> Option<ArchiveInfo> {
    unseal(keys::ARCHIVE, &fs::read(path.join(keys::ARCHIVE)).ok()?).ok()
}

impl Inner {
    /// Does something in a folder that OpenDAL does there, where it is the one that was opened, before it and behind it. Other stores answer for themselves.
    pub(super) async fn guarded<T>(
        &self,
        work: impl IntoFuture<Output = Result<T, opendal::Error>, IntoFuture: Future + Send>,
    ) -> Result<T, opendal::Error> {
        self.check().await?;
        let done = work.await;
        self.check().await?;
        done
    }

    /// Refuses a folder that is not the one that was opened.
    pub(super) async fn check(&self) -> Result<(), opendal::Error> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        joined(spawn_blocking(move || folder.check()).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_while_the_folder_goes_away_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("store"), dir.path().join("away"));
        fs::create_dir(&path).unwrap();
        let root = Root::new(path.clone()).unwrap();
        let gone = root.guarded(|| fs::rename(&path, &away)).unwrap_err();
        assert!(is_gone(&gone) && gone.kind() != io::ErrorKind::NotFound, "{gone}");
        assert!(root.create_dir(&path.join("a/b")).is_err() && !path.exists());
        fs::create_dir(&path).unwrap();
        assert!(is_gone(&root.guarded(|| Ok(())).unwrap_err()), "another one is not it");
        fs::remove_dir(&path).unwrap();
        let back = root.guarded(|| Ok(()));
        assert!(is_gone(&back.unwrap_err()));
        fs::rename(&away, &path).unwrap();
        root.guarded(|| root.create_dir(&path.join("a/b"))).unwrap();
        assert!(path.join("a/b").is_dir());
    }
}
