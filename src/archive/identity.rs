//! `archive.json`: what a prefix holds, so that two sources never share one and an old binary never reads a newer format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sealed::{seal, unseal};
use super::store::{Condition, Put, Store};
use super::{ArchiveError, format_of, keys};
use crate::model::Flavor;

/// The content of `archive.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// Archive format version: that of the newest object, so that a binary which cannot read all of it reads none of it.
    pub format: u32,
    /// When the first writer came.
    pub created_at: Timestamp,
    /// The flavor of every server archived here.
    pub flavor: Flavor,
    /// The first server archived here ([`super::binlog_index::FileId::server`]).
    pub first_server: String,
    /// The `tidemark` version that made it.
    pub tidemark_version: String,
}

/// What the archive says it is; none where there is no archive yet.
pub async fn read(store: &Store) -> Result<Option<ArchiveInfo>, ArchiveError> {
    match store.get(keys::ARCHIVE).await {
        Ok(json) => unseal(keys::ARCHIVE, &json).map(Some),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// For writers: makes the archive's identity if it has none, and refuses a server of another flavor.
pub async fn ensure(store: &Store, flavor: Flavor, server: &str) -> Result<ArchiveInfo, ArchiveError> {
    let mine = ArchiveInfo {
        format: format_of(false),
        created_at: Timestamp::now(),
        flavor,
        first_server: server.to_owned(),
        tidemark_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let info = match read(store).await? {
        Some(info) => info,
        None => match store.put(keys::ARCHIVE, seal(keys::ARCHIVE, &mine)?, Condition::IfAbsent).await? {
            Put::Created => mine,
            Put::AlreadyThere => read(store).await?.unwrap_or(mine),
        },
    };
    if info.flavor != flavor {
        return Err(ArchiveError::OtherFlavor {
            store: store.url().to_owned(),
            archived: info.flavor,
            offered: flavor,
        });
    }
    Ok(info)
}

/// For writers, before the first encrypted object: says in the archive's identity that there are some, so that a binary which knows nothing of
/// them refuses the archive instead of missing them. It stays said.
pub async fn announce_encryption(store: &Store, info: ArchiveInfo) -> Result<(), ArchiveError> {
    let format = format_of(true);
    if info.format >= format {
        return Ok(());
    }
    let announced = ArchiveInfo { format, ..info };
    let _ = store.put(keys::ARCHIVE, seal(keys::ARCHIVE, &announced)?, Condition::Overwrite).await?;
    tracing::info!(store = store.url(), format, "the archive is encrypted from here on");
    Ok(())
}
