//! Objects that are locked, and what a bucket does by itself.

use jiff::{SignedDuration, Timestamp};
use opendal::{ErrorKind, Operator};
use snafu::ResultExt;

use super::error::{AskSnafu, ReadSnafu, WriteSnafu};
use super::protection::{How, Lock, Protection, how};
use super::{Store, StoreError};
use crate::archive::keys;

impl Store {
    /// What the bucket does against the loss of what it holds; none for stores that are no S3 buckets.
    pub async fn protection(&self) -> Result<Option<Protection>, StoreError> {
        match &self.inner.guard {
            Some(guard) => Ok(Some(guard.bucket.protection().await.context(AskSnafu { store: self.url() })?)),
            None => Ok(None),
        }
    }

    /// What objects are to be locked with, as the configuration asks.
    pub fn asked_lock(&self) -> Option<Lock> {
        Some(self.inner.guard.as_ref()?.locking.as_ref()?.asked)
    }

    /// Why objects cannot be locked as the configuration asks, and the way out; none where they can, or nothing is asked for.
    pub fn lock_refusal(&self, protection: &Protection) -> Option<String> {
        let guard = self.inner.guard.as_ref()?;
        how(self.asked_lock()?, protection.locks, guard.bucket.name()).err()
    }

    /// What writes an object of that name: with a lock where one is asked for and the bucket sets none that is as strong. Leases and what is no
    /// part of the archive are never locked: they are written often, and worth nothing later.
    pub(super) async fn writing(&self, key: &str) -> Result<&Operator, StoreError> {
        let Some((guard, locking)) = self.inner.guard.as_ref().and_then(|guard| Some((guard, guard.locking.as_ref()?)))
        else {
            return Ok(&self.inner.operator);
        };
        let how = guard.bucket.how(locking).await.context(AskSnafu { store: self.url() })?;
        let how = how.map_err(|problem| StoreError::Unfit { store: self.url().to_owned(), problem })?;
        match how {
            How::EachObject if keys::is_of_archive(key) => Ok(&locking.operator),
            How::EachObject | How::ByBucket => Ok(&self.inner.operator),
        }
    }

    /// Writes an object again as it is where objects are locked, so that its lock begins anew; unless it was written within `age`. For what
    /// is needed for as long as there is an archive.
    pub async fn renew(&self, key: &str, age: SignedDuration) -> Result<(), StoreError> {
        if self.asked_lock().is_none() {
            return Ok(());
        }
        let operator = &self.inner.operator;
        let meta = match operator.stat(key).await.context(ReadSnafu { key, store: self.url() }) {
            Err(e) if e.is_not_found() => return Ok(()),
            meta => meta?,
        };
        let young = |written: Timestamp| Timestamp::now().duration_since(written) < age;
        if meta.last_modified().map(Timestamp::from).is_some_and(young) {
            return Ok(());
        }
        let Some(etag) = meta.etag() else { return Ok(()) };
        let bytes = self.get(key).await?;
        let written = self.writing(key).await?.write_with(key, bytes).if_match(etag).await;
        match written.context(WriteSnafu { key, store: self.url() }) {
            // Somebody else has written it meanwhile: that is as good.
            Err(StoreError::Write { source, .. }) if source.kind() == ErrorKind::ConditionNotMatch => Ok(()),
            // A store without versions holds what is there.
            Err(e) if e.is_held() => Ok(()),
            written => written.map(|_| ()),
        }
    }
}
