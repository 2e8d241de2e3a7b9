use bytes::Bytes;
use uuid::Uuid;

use super::{Condition, Put, Store, StoreError};
use crate::archive::keys;

pub(super) async fn probe(store: &Store) -> Result<(), StoreError> {
    let unfit = |problem: &str| StoreError::Unfit { store: store.url().to_owned(), problem: problem.to_owned() };
    let nonce = Uuid::new_v4().simple().to_string();
    let key = keys::probe(&nonce);
    let bytes = Bytes::from(nonce);

    let _ = store.put(&key, bytes.clone(), Condition::Overwrite).await?;
    let replaced = match store.put(&key, Bytes::from_static(b"other"), Condition::IfAbsent).await {
        // It holds everything from the moment it is there.
        Err(e) if e.is_held() => false,
        put => put? != Put::AlreadyThere,
    };
    if replaced {
        return Err(unfit(
            "it replaced an object although told not to (conditional writes, If-None-Match, are required)",
        ));
    }
    if store.get(&key).await? != bytes {
        return Err(unfit("it returned other bytes than were written"));
    }
    if !store.list(keys::PROBES).await?.iter().any(|object| object.key == key) {
        return Err(unfit("it does not list an object that was just written (consistent listings are required)"));
    }
    match store.delete(&key).await {
        // A retention rule of the bucket holds everything, this too; and who writes need not be one who may delete.
        Err(e) if e.is_held() || e.is_refused() => Ok(()),
        deleted => deleted,
    }
}
