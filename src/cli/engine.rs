//! Validated config → what the engine's modules take.

use jiff::Timestamp;

use super::config::Archive;
use crate::archive::ArchiveError;
use crate::archive::codec::Compression;
use crate::archive::store::{Store, StoreConfig};

/// A client of the archive's store.
pub fn store(config: &StoreConfig) -> anyhow::Result<Store> {
    Ok(Store::open(config)?)
}

/// A client that only reads: a mistyped folder is not made. One that was there before is away, which says nothing of the archive in it.
pub fn store_to_read(config: &StoreConfig) -> anyhow::Result<Store> {
    match config {
        StoreConfig::Fs { root } if !root.exists() && !Store::was_opened(config) => {
            Err(ArchiveError::Missing { store: root.display().to_string() }.into())
        }
        config => store(config),
    }
}

/// A client of an archive that is read, as it is or was at a moment, with what opens it.
pub fn archive_to_read(archive: &Archive, as_of: Option<Timestamp>) -> anyhow::Result<Store> {
    let store = store_to_read(&archive.store)?.with_identities(archive.identities.clone());
    Ok(match as_of {
        Some(at) => store.as_of(at)?,
        None => store,
    })
}

/// How objects are compressed, as a policy says it.
pub fn compression(level: i32) -> Compression {
    match level {
        0 => Compression::None,
        level => Compression::Zstd { level },
    }
}
