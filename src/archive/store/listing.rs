//! What a store holds, by name.

use futures::TryStreamExt;
use jiff::Timestamp;
use opendal::{Entry, EntryMode};
use snafu::ResultExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::error::ListSnafu;
use super::fs::Folder;
use super::{Object, Store, StoreError, joined};
use crate::archive::keys;

impl Store {
    /// Every object below `prefix` (a folder: ends with `/`), at any depth, by key. A missing folder is an empty one. Of a binlog file's folder without
    /// packs: what is in them is shown instead.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let stored = self.list_stored(prefix).await?;
        match keys::parse_file_dir(prefix) {
            Some(_) => self.without_packs(stored).await,
            None => Ok(stored),
        }
    }

    /// The same as it is stored, packs and all: for who deletes.
    pub async fn list_stored(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        fail::fail_point!("archive::store::list", |_| Err(super::injected())
            .context(ListSnafu { key: prefix, store: self.url() }));
        if let Some(at) = self.as_of {
            return Ok(self.shown(prefix, true, at).await?.1);
        }
        let entries = self.inner.guarded(self.inner.operator.list_with(prefix).recursive(true)).await;
        let mut objects: Vec<_> = entries
            .context(ListSnafu { key: prefix, store: self.url() })?
            .into_iter()
            .filter(|entry| entry.metadata().mode() == EntryMode::FILE)
            .map(object)
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        self.inner.count(pages(objects.len()));
        Ok(objects)
    }

    /// The folders right below `prefix` (which ends with `/`), each ending with `/`, by name.
    pub async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.list_level(prefix).await?.0)
    }

    /// The same one by one, in the order of the store: where there may be a great many.
    pub async fn each_dir(&self, prefix: &str, mut each: impl FnMut(String) + Send) -> Result<(), StoreError> {
        fail::fail_point!("archive::store::list", |_| Err(super::injected())
            .context(ListSnafu { key: prefix, store: self.url() }));
        if self.as_of.is_some() {
            self.list_dirs(prefix).await?.into_iter().for_each(each);
            return Ok(());
        }
        if let Some(folder) = self.inner.folder.clone() {
            return self.each_dir_of(folder, prefix, each).await;
        }
        let mut entries =
            self.inner.operator.lister(prefix).await.context(ListSnafu { key: prefix, store: self.url() })?;
        let mut count = 0;
        while let Some(entry) = entries.try_next().await.context(ListSnafu { key: prefix, store: self.url() })? {
            count += 1;
            below(prefix, vec![entry]).into_iter().for_each(&mut each);
        }
        self.inner.count(pages(count));
        Ok(())
    }

    async fn each_dir_of(
        &self,
        folder: Folder,
        prefix: &str,
        mut each: impl FnMut(String) + Send,
    ) -> Result<(), StoreError> {
        let (sender, mut receiver) = mpsc::channel::<Vec<String>>(2);
        let dir = prefix.to_owned();
        let read = spawn_blocking(move || folder.dirs(&dir, |names| sender.blocking_send(names).is_ok()));
        let mut count = 0;
        while let Some(names) = receiver.recv().await {
            count += names.len();
            names.into_iter().for_each(|name| each(format!("{prefix}{name}/")));
        }
        self.inner.count(pages(count));
        joined(read.await).context(ListSnafu { key: prefix, store: self.url() })
    }

    /// What is right below `prefix` (empty, or ending with `/`): the folders, each ending with `/`, and the objects, by name.
    pub async fn list_level(&self, prefix: &str) -> Result<(Vec<String>, Vec<Object>), StoreError> {
        fail::fail_point!("archive::store::list", |_| Err(super::injected())
            .context(ListSnafu { key: prefix, store: self.url() }));
        if let Some(at) = self.as_of {
            return self.shown(prefix, false, at).await;
        }
        let entries = self.inner.guarded(self.inner.operator.list(prefix)).await;
        let entries = entries.context(ListSnafu { key: prefix, store: self.url() })?;
        self.inner.count(pages(entries.len()));
        let (objects, dirs): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.metadata().mode() == EntryMode::FILE);
        let mut objects: Vec<_> = objects.into_iter().map(object).collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((below(prefix, dirs), objects))
    }
}

/// The folders among a level's entries, by name.
pub(super) fn below(prefix: &str, entries: Vec<Entry>) -> Vec<String> {
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

/// Requests that a listing of so many entries takes.
fn pages(entries: usize) -> u64 {
    entries as u64 / 1000 + 1
}
