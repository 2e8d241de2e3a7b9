//! Everything an archive holds, read from O(binlog files) small objects: never the data, never every segment.

mod files;
mod folded;
mod fulls;
mod kinship;
mod span;

#[cfg(test)]
mod tests;

use futures::{StreamExt, TryStreamExt, stream};

pub use files::{
    ArchivedFile, ArchivedRange, Closed, FileEncryption, by_statement, load_chain, load_file, load_index, load_ranges,
    parse_index, unfold,
};
use folded::Known;
pub use folded::{forget_folded, keep_folded};
pub use fulls::{FullHead, load_manifest, shared};
pub use kinship::check_kinship;
pub use span::{FileEnd, FileIds, Further};

use super::identity::{self, ArchiveInfo};
use super::store::Store;
use super::{ArchiveError, keys};

/// Small objects read at a time.
const CONCURRENCY: usize = 16;

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// `archive.json`.
    pub info: ArchiveInfo,
    /// Every full with a readable manifest, by the moment it shows, oldest first.
    pub fulls: Vec<FullHead>,
    /// Every binlog file, by key.
    pub files: Vec<ArchivedFile>,
    /// Objects whose names this format does not know; they are left alone.
    pub unknown: Vec<String>,
    /// Damage found on the way, in words; what is damaged is not counted as archived.
    pub problems: Vec<String>,
}

impl Catalog {
    /// Reads it, file by file. An archive of a newer format is refused.
    pub async fn load(store: &Store) -> Result<Self, ArchiveError> {
        Self::load_with(store, Known::default()).await
    }

    /// Reads it; of long logs the closed files that were [kept folded](keep_folded) are told as one, those of each span between two fulls. Whoever
    /// needs one of them by itself [unfolds](unfold) it. What the listing does not show any more is not told.
    pub async fn load_folded(store: &Store) -> Result<Self, ArchiveError> {
        Self::load_with(store, Known::load(store).await?).await
    }

    async fn load_with(store: &Store, known: Known) -> Result<Self, ArchiveError> {
        let info = identity::must(store).await?;
        let mut catalog =
            Self { info, fulls: Vec::new(), files: Vec::new(), unknown: Vec::new(), problems: Vec::new() };
        catalog.load_fulls(store).await?;
        catalog.load_files(store, known).await?;
        Ok(catalog)
    }

    async fn load_fulls(&mut self, store: &Store) -> Result<(), ArchiveError> {
        let ids = store.list_dirs(keys::FULLS).await?.into_iter().map(|dir| keys::parse_full_dir(&dir).ok_or(dir));
        let heads: Vec<_> = stream::iter(ids)
            .map(|id| async move {
                match id {
                    Ok(id) => Ok(fulls::load_head(store, &id).await),
                    Err(unknown) => Err(unknown),
                }
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        for head in heads {
            match head {
                Ok(Ok(head)) => self.fulls.push(head),
                // Under way, or given up: without a manifest there is no full.
                Ok(Err(e)) if e.is_not_found() => {}
                Ok(Err(e)) if e.is_damage() => self.problems.push(e.to_string()),
                Ok(Err(e)) => return Err(e),
                Err(unknown) => self.unknown.push(unknown),
            }
        }
        // Ids name whole seconds.
        self.fulls.sort_by(|a, b| (a.consistent_at, &a.id).cmp(&(b.consistent_at, &b.id)));
        Ok(())
    }

    async fn load_files(&mut self, store: &Store, mut known: Known) -> Result<(), ArchiveError> {
        let mut ids = Vec::new();
        for server in store.list_dirs(keys::BINLOGS).await? {
            let each = |dir: String| match keys::parse_file_dir(&dir) {
                Some(id) if known.see(&id) => {}
                Some(id) => ids.push(id),
                None => self.unknown.push(dir),
            };
            store.each_dir(&server, each).await?;
        }
        let (spans, single) = known.settle(&self.fulls);
        ids.extend(single);
        ids.sort_by_cached_key(keys::file_dir);
        let mut found = stream::iter(ids).map(|id| async move { files::find(store, id).await }).buffered(CONCURRENCY);
        while let Some(found) = found.try_next().await? {
            self.files.extend(found.file);
            self.unknown.extend(found.unknown);
            self.problems.extend(found.problems);
        }
        if !spans.is_empty() {
            self.files.extend(spans);
            self.files.sort_by_cached_key(|file| keys::file_dir(&file.id));
        }
        Ok(())
    }
}
