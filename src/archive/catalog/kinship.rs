//! Whether a server belongs to the cluster that an archive is of.

use super::Catalog;
use crate::archive::store::Store;
use crate::archive::{ArchiveError, identity, keys};
use crate::model::GtidSet;

/// For writers: refuses a server that was never archived here and has executed nothing of what the archive knows. Its log would count as the
/// live lineage, and the archived cluster's as a fork. `lineage` is [`crate::mysql::flavor::lineage`]. Without GTIDs on either side nothing can
/// be told, nor of MariaDB servers of the same `server_id`.
///
/// # Errors
/// [`ArchiveError::OtherCluster`], or what kept the archive from being read.
pub async fn check_kinship(store: &Store, server: &str, lineage: &GtidSet) -> Result<(), ArchiveError> {
    let Some(info) = identity::read(store).await? else { return Ok(()) };
    if info.first_server == server || store.list_dirs(keys::BINLOGS).await?.contains(&keys::server_dir(server)) {
        return Ok(());
    }
    let catalog = Catalog::load_folded(store).await?;
    let mut known = GtidSet::empty(info.flavor);
    let of_files = catalog.files.iter().flat_map(|file| [&file.summary.previous_gtids, &file.summary.gtids]);
    // Sets of another flavor are not of this archive.
    of_files.chain(catalog.fulls.iter().map(|full| &full.gtids)).for_each(|set| drop(known.extend(set)));
    let of_full = catalog.fulls.iter().any(|full| full.server == server);
    if let GtidSet::Mariadb(set) = &mut known {
        // Numbers of unknown writers would do for anybody's.
        *set = set.known();
    }
    if of_full || known.is_empty() || !known.intersection(lineage).is_empty() {
        return Ok(());
    }
    Err(ArchiveError::OtherCluster {
        store: store.url().to_owned(),
        first_server: info.first_server,
        server: server.to_owned(),
    })
}
