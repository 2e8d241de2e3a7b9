//! Everything an archive holds, read from O(binlog files) small objects: never the data, never every segment.

mod files;
mod fulls;
mod kinship;

#[cfg(test)]
mod tests;

use futures::{StreamExt, TryStreamExt, stream};

pub use files::{
    ArchivedFile, ArchivedRange, Closed, FileEncryption, by_statement, load_chain, load_file, load_index, load_ranges,
    parse_index,
};
pub use fulls::{FullHead, load_manifest};
pub use kinship::check_kinship;

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
    /// Reads it. An archive of a newer format is refused.
    pub async fn load(store: &Store) -> Result<Self, ArchiveError> {
        let info = identity::must(store).await?;
        let mut catalog =
            Self { info, fulls: Vec::new(), files: Vec::new(), unknown: Vec::new(), problems: Vec::new() };
        catalog.load_fulls(store).await?;
        catalog.load_files(store).await?;
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

    async fn load_files(&mut self, store: &Store) -> Result<(), ArchiveError> {
        let servers = store.list_dirs(keys::BINLOGS).await?;
        let dirs: Vec<Vec<String>> = stream::iter(servers)
            .map(|server| async move { store.list_dirs(&server).await })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut ids = Vec::new();
        for dir in dirs.into_iter().flatten() {
            match keys::parse_file_dir(&dir) {
                Some(id) => ids.push(id),
                None => self.unknown.push(dir),
            }
        }
        let mut found = stream::iter(ids).map(|id| async move { files::find(store, id).await }).buffered(CONCURRENCY);
        while let Some(found) = found.try_next().await? {
            self.files.extend(found.file);
            self.unknown.extend(found.unknown);
            self.problems.extend(found.problems);
        }
        Ok(())
    }
}
