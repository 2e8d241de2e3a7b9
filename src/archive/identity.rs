//! `archive.json`: what a prefix holds, so that two sources never share one and an old binary never reads a newer format.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::binlog_index::EDITIONS_FORMAT;
use super::packed::PACKS_FORMAT;
use super::sealed::{seal, unseal};
use super::store::{Condition, Put, Store};
use super::{ArchiveError, format_of, keys};
use crate::model::Flavor;

/// The content of `archive.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// Archive format version: that of the newest object, so that a binary which cannot read all of it reads none of it.
    pub format: u32,
    /// Whether anything in it is encrypted; version 2 says it by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// When the first writer came.
    pub created_at: Timestamp,
    /// The flavor of every server archived here.
    pub flavor: Flavor,
    /// The first server archived here ([`super::binlog_index::FileId::server`]).
    pub first_server: String,
    /// The `tidemark` version that made it.
    pub tidemark_version: String,
}

impl ArchiveInfo {
    fn new(flavor: Flavor, server: &str) -> Self {
        Self {
            format: format_of(false),
            encrypted: false,
            created_at: Timestamp::now(),
            flavor,
            first_server: server.to_owned(),
            tidemark_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether the other one is of the same archive, whatever it has come to hold since.
    pub fn is_of_same(&self, other: &Self) -> bool {
        let Self { format: _, encrypted: _, created_at, flavor, first_server, tidemark_version } = self;
        (created_at, flavor, first_server, tidemark_version)
            == (&other.created_at, &other.flavor, &other.first_server, &other.tidemark_version)
    }

    /// Whether anything in it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted || self.format == format_of(true)
    }

    fn has(&self, what: News) -> bool {
        match what {
            News::Encryption => self.is_encrypted(),
            News::Packs => self.format >= PACKS_FORMAT,
            News::Editions => self.format >= EDITIONS_FORMAT,
        }
    }
}

/// How often somebody else's news may come in between.
const ANNOUNCEMENTS: u32 = 10;

/// What an archive comes to hold that an older binary knows nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Encrypted objects.
    Encryption,
    /// Segments in packs.
    Packs,
    /// Segments that a rekey wrote.
    Editions,
}

/// What the archive says it is; none where there is no archive yet.
pub async fn read(store: &Store) -> Result<Option<ArchiveInfo>, ArchiveError> {
    let json = store.find(keys::ARCHIVE).await?;
    json.map(|json| unseal(keys::ARCHIVE, &json)).transpose()
}

/// What the archive says it is.
///
/// # Errors
/// [`ArchiveError::Missing`] where there is none, [`ArchiveError::Headless`] where only this is missing of it.
pub async fn must(store: &Store) -> Result<ArchiveInfo, ArchiveError> {
    match read(store).await? {
        Some(info) => Ok(info),
        None if is_empty(store).await? => Err(ArchiveError::Missing { store: store.url().to_owned() }),
        // Somebody may have begun it just now.
        None => read(store).await?.ok_or_else(|| ArchiveError::Headless { store: store.url().to_owned() }),
    }
}

/// Whether it holds no binlog and no full. (A full that is under way, or was given up, is none.)
async fn is_empty(store: &Store) -> Result<bool, ArchiveError> {
    for id in store.list_dirs(keys::FULLS).await?.iter().filter_map(|dir| keys::parse_full_dir(dir)) {
        if store.stat(&keys::manifest(&id)).await?.is_some() {
            return Ok(false);
        }
    }
    Ok(store.list_dirs(keys::BINLOGS).await?.is_empty())
}

/// For writers: makes the archive's identity if it has none, and refuses a server of another flavor. What is there without one is
/// somebody's, and nobody knows whose.
pub async fn ensure(store: &Store, flavor: Flavor, server: &str) -> Result<ArchiveInfo, ArchiveError> {
    let mine = ArchiveInfo::new(flavor, server);
    let info = match must(store).await {
        Err(ArchiveError::Missing { .. }) => {
            // What an archive rests on is proved before there is one.
            store.probe().await?;
            match store.put(keys::ARCHIVE, seal(keys::ARCHIVE, &mine)?, Condition::IfAbsent).await? {
                Put::Created => {
                    tracing::info!(
                        store = store.url(),
                        "a new archive is begun: there was none in this store (if there should be one: is the right place mounted and named?)"
                    );
                    mine
                }
                Put::AlreadyThere => read(store).await?.unwrap_or(mine),
            }
        }
        info => info?,
    };
    keep_locked(store).await?;
    if info.flavor != flavor {
        return Err(ArchiveError::OtherFlavor {
            store: store.url().to_owned(),
            archived: info.flavor,
            offered: flavor,
        });
    }
    Ok(info)
}

/// For writers where objects are locked: begins the lock of the archive's identity anew once a day. All else is needed no longer than its own lock
/// lasts, or belongs to what is newer; without this nothing can be read.
pub async fn keep_locked(store: &Store) -> Result<(), ArchiveError> {
    Ok(store.renew(keys::ARCHIVE, SignedDuration::from_hours(24)).await?)
}

/// For writers: a word for who writes in clear into an archive that holds encrypted objects, as somebody may have forgotten the recipients.
pub fn in_clear_again(info: &ArchiveInfo, encrypts: bool) -> Option<String> {
    let word = "the archive holds encrypted objects, and the policy names no recipients: what is written from here on is in CLEAR; name them in \
                spec.encryption.recipients if that is not meant";
    (info.is_encrypted() && !encrypts).then(|| word.to_owned())
}

/// For writers, before the first object of a kind: says in the archive's identity that there are some, so that a binary which knows nothing of
/// them refuses the archive instead of missing them. It stays said.
///
/// # Errors
/// [`ArchiveError::Missing`] where there is no archive (any more).
pub async fn announce(store: &Store, what: News) -> Result<ArchiveInfo, ArchiveError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Read anew each time: of two who announce at once, the later one might have read before the earlier one wrote.
        let info = must(store).await?;
        if info.has(what) || attempt > ANNOUNCEMENTS {
            return Ok(info);
        }
        let encrypted = what == News::Encryption || info.is_encrypted();
        let own = match what {
            News::Encryption => format_of(true),
            News::Packs => PACKS_FORMAT,
            News::Editions => EDITIONS_FORMAT,
        };
        let announced = ArchiveInfo { format: info.format.max(own), encrypted, ..info };
        let _ = store.put(keys::ARCHIVE, seal(keys::ARCHIVE, &announced)?, Condition::Overwrite).await?;
        tracing::info!(
            store = store.url(),
            format = announced.format,
            encrypted,
            "the archive's identity says more from here on"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::StoreConfig;

    #[tokio::test]
    async fn an_archive_without_its_identity_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Fs { root: folder.path().to_owned() }).unwrap();
        assert!(matches!(must(&store).await, Err(ArchiveError::Missing { .. })));
        ensure(&store, Flavor::Mysql, "a").await.unwrap();
        let put = async |key: &str| _ = store.put(key, "x".into(), Condition::IfAbsent).await.unwrap();
        put("full/x/rows/0.zst").await;
        assert_eq!(ensure(&store, Flavor::Mysql, "b").await.unwrap().first_server, "a");
        store.delete(keys::ARCHIVE).await.unwrap();
        assert_eq!(ensure(&store, Flavor::Mysql, "b").await.unwrap().first_server, "b", "a full that was given up");
        store.delete(keys::ARCHIVE).await.unwrap();
        put(&keys::manifest("x")).await;
        assert!(matches!(must(&store).await, Err(ArchiveError::Headless { .. })));
        assert!(matches!(ensure(&store, Flavor::Mysql, "b").await, Err(ArchiveError::Headless { .. })));
        assert!(read(&store).await.unwrap().is_none(), "nothing was made");
    }

    #[tokio::test]
    async fn what_was_announced_stays_said_whatever_comes_later() {
        for order in [[News::Encryption, News::Packs], [News::Packs, News::Encryption]] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&StoreConfig::Fs { root: folder.path().to_owned() }).unwrap();
            assert!(announce(&store, order[0]).await.is_err(), "there is no archive");
            let info = ensure(&store, Flavor::Mysql, "a").await.unwrap();
            assert_eq!((info.format, info.is_encrypted()), (1, false));
            let info = announce(&store, order[0]).await.unwrap();
            assert_eq!(
                (info.format, info.is_encrypted()),
                if order[0] == News::Packs { (3, false) } else { (2, true) }
            );
            announce(&store, order[1]).await.unwrap();
            announce(&store, order[0]).await.unwrap();
            let info = must(&store).await.unwrap();
            assert_eq!((info.format, info.is_encrypted()), (3, true));
            announce(&store, News::Editions).await.unwrap();
            announce(&store, order[0]).await.unwrap();
            let info = must(&store).await.unwrap();
            assert_eq!((info.format, info.is_encrypted()), (4, true));
        }
        // Version 2 says it by itself.
        let two = r#"{"format":2,"created_at":"2026-11-29T00:00:00Z","flavor":"mysql","first_server":"a","tidemark_version":"0"}"#;
        assert!(serde_json::from_str::<ArchiveInfo>(two).unwrap().is_encrypted());
    }
}
