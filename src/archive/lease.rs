//! Leases: who restores says what it reads, and a prune leaves that alone.
//!
//! A lease is held before the archive is read for a plan, and renewed until the restore ends. One that is not renewed any more (its process was
//! killed) counts for [`LASTS`] after it was last written, by the store's clock. A prune looks for leases before it takes a full or a
//! binlog file away and once more after that, before any data goes: whichever of the two comes first, the other one sees it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys;
use super::sealed::{seal, unseal};
use super::store::{Condition, Object, Store};
use super::{ArchiveError, format_of};

/// How long a lease counts that is not renewed.
pub const LASTS: Duration = Duration::from_secs(3600);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(600);
/// Leases read at a time.
const CONCURRENCY: usize = 8;

/// `lease/<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The archive's format version, [`format_of`].
    pub format: u32,
    /// Its id: a UUID.
    pub id: String,
    /// The full that is restored, with all of the log that goes on from it; none while the restore is being planned, which may need anything.
    pub full: Option<String>,
    /// Whether it is a rekey's: no restore reads by it, but no prune takes anything away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rekey: bool,
    /// The trace id of the run.
    pub trace_id: String,
}

/// Leases that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Them.
    pub held: Vec<Lease>,
    /// Objects of leases that do not count any more.
    pub over: Vec<String>,
}

impl Leases {
    /// Reads them. `now` is compared with when the store says that a lease was written; where it does not say that, a lease counts until
    /// somebody deletes it.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, ArchiveError> {
        let objects = store.list(keys::LEASES).await?;
        let (held, over): (Vec<Object>, Vec<Object>) = objects
            .into_iter()
            .filter(|object| matches!(keys::parse(&object.key), Some(keys::Key::Lease { .. })))
            .partition(|object| counts(object.modified, now));
        let held = stream::iter(held)
            .map(|object| async move {
                // None: it ended meanwhile.
                let json = store.find(&object.key).await?;
                json.map(|json| unseal::<Lease>(&object.key, &json)).transpose()
            })
            .buffered(CONCURRENCY)
            .try_filter_map(|lease| async move { Ok(lease) })
            .try_collect()
            .await?;
        Ok(Self { held, over: over.into_iter().map(|object| object.key).collect() })
    }
}

fn counts(written: Option<Timestamp>, now: Timestamp) -> bool {
    written
        .is_none_or(|written| now.duration_since(written) < jiff::SignedDuration::try_from(LASTS).unwrap_or_default())
}

/// A lease that is held. Dropped, it is no longer renewed, and counts for a while: the restore may go on.
pub struct Hold {
    store: Store,
    lease: Lease,
    renewal: Option<(DropGuard, JoinHandle<()>)>,
}

impl Hold {
    /// Holds everything, until [`Self::narrow`] says what is read.
    ///
    /// # Errors
    /// Those of the store, above all credentials that may only read.
    pub async fn begin(store: &Store, trace_id: &str) -> Result<Self, ArchiveError> {
        Self::begin_for(store, trace_id, false).await
    }

    /// Holds everything for a rekey: prunes wait.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin_rekey(store: &Store, trace_id: &str) -> Result<Self, ArchiveError> {
        Self::begin_for(store, trace_id, true).await
    }

    async fn begin_for(store: &Store, trace_id: &str, rekey: bool) -> Result<Self, ArchiveError> {
        let id = uuid::Uuid::new_v4().to_string();
        let lease = Lease { format: format_of(false), id, full: None, rekey, trace_id: trace_id.to_owned() };
        write(store, &lease).await?;
        let mut hold = Self { store: store.clone(), lease, renewal: None };
        hold.renew();
        Ok(hold)
    }

    /// Holds `full` and the log from there on, and nothing else.
    pub async fn narrow(&mut self, full: &str) -> Result<(), ArchiveError> {
        self.stop_renewal().await;
        let before = self.lease.full.replace(full.to_owned());
        match write(&self.store, &self.lease).await {
            Err(ArchiveError::Store { source }) if source.is_held() => {
                tracing::warn!(error = %source, "the restore goes on holding back everything: prunes wait for it");
                self.lease.full = before;
            }
            written => written?,
        }
        self.renew();
        Ok(())
    }

    /// Whether a lease is another one's.
    pub fn is_other(&self, lease: &Lease) -> bool {
        lease.id != self.lease.id
    }

    /// Lets go.
    pub async fn end(mut self) -> Result<(), ArchiveError> {
        self.stop_renewal().await;
        match self.store.delete(&keys::lease(&self.lease.id)).await {
            // It counts for an hour, and is in nobody's way then.
            Err(e) if e.is_held() => {}
            deleted => deleted?,
        }
        self.store.remove_empty_dir(keys::LEASES).await;
        Ok(())
    }

    fn renew(&mut self) {
        let cancel = CancellationToken::new();
        let (guard, store, lease) = (cancel.clone().drop_guard(), self.store.clone(), self.lease.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = sleep(RENEWED) => {}
                }
                if let Err(error) = write(&store, &lease).await {
                    tracing::warn!(%error, lease = lease.id, "the lease that holds prunes back could not be renewed; it is tried again");
                }
            }
        });
        self.renewal = Some((guard, task));
    }

    /// Waits for a write that is under way: it would bring back what is deleted next.
    async fn stop_renewal(&mut self) {
        if let Some((guard, task)) = self.renewal.take() {
            drop(guard);
            // It ends in no other way.
            let _ = task.await;
        }
    }
}

async fn write(store: &Store, lease: &Lease) -> Result<(), ArchiveError> {
    let key = keys::lease(&lease.id);
    let _ = store.put(&key, seal(&key, lease)?, Condition::Overwrite).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::StoreConfig;

    #[tokio::test]
    async fn a_lease_counts_for_an_hour_after_it_was_written_and_not_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Fs { root: folder.path().to_owned() }).unwrap();
        let now = Timestamp::now();
        assert_eq!(Leases::load(&store, now).await.unwrap(), Leases::default());
        let mut hold = Hold::begin(&store, "trace").await.unwrap();
        let held = |leases: Leases| leases.held.into_iter().map(|lease| lease.full).collect::<Vec<_>>();
        assert_eq!(held(Leases::load(&store, now).await.unwrap()), [None]);
        hold.narrow("x").await.unwrap();
        assert_eq!(held(Leases::load(&store, now + Duration::from_secs(3500)).await.unwrap()), [Some("x".to_owned())]);
        let later = Leases::load(&store, now + Duration::from_secs(3700)).await.unwrap();
        assert_eq!((later.held.len(), later.over.len()), (0, 1));
        hold.end().await.unwrap();
        assert_eq!(Leases::load(&store, now).await.unwrap(), Leases::default());
    }
}
