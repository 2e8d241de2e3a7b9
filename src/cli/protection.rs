//! What an archive's bucket does against the loss of what it holds, in the words that every report of it uses.

use serde::Serialize;

use crate::archive::store::{Lock, LockMode, Locks, Protection, Store, StoreError, Versioning};

/// What `-o json` shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionReport {
    /// Whether what is deleted and overwritten is kept.
    pub versioning: Versioning,
    /// Whether it can be locked; none where the store does not say.
    pub object_lock: Option<bool>,
    /// What each object is locked with by the bucket's default.
    pub default_lock: Option<LockReport>,
    /// What the policy asks for.
    pub asked_lock: Option<LockReport>,
    /// All of it in words.
    pub text: String,
    /// What is less than was asked for.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockReport {
    /// Who may undo it.
    pub mode: LockMode,
    /// How long it lasts from when an object is written.
    pub seconds: u64,
}

impl From<Lock> for LockReport {
    fn from(Lock { mode, lasts }: Lock) -> Self {
        Self { mode, seconds: lasts.as_secs() }
    }
}

/// Asks a store; none of one that is no S3 bucket.
pub async fn of(store: &Store) -> Result<Option<ProtectionReport>, StoreError> {
    let Some(protection) = store.protection().await? else { return Ok(None) };
    Ok(Some(report(protection, store.asked_lock(), store.lock_refusal(&protection))))
}

fn report(protection: Protection, asked: Option<Lock>, refusal: Option<String>) -> ProtectionReport {
    let Protection { versioning, locks } = protection;
    let (object_lock, default) = match locks {
        Locks::On(default) => (Some(true), default),
        Locks::Off => (Some(false), None),
        Locks::Unknown => (None, None),
    };
    let keeps = match versioning {
        Versioning::Enabled => "the bucket keeps versions",
        Versioning::Suspended => "the bucket keeps old versions and no new ones (versioning is suspended)",
        Versioning::Off => "the bucket keeps no versions: who has a login that deletes can destroy the archive",
        Versioning::Unknown => {
            "whether the bucket keeps versions cannot be told (the store does not say; it takes s3:GetBucketVersioning)"
        }
    };
    let locked = match (asked.filter(|_| refusal.is_none()), default, object_lock) {
        (Some(asked), Some(default), _) if default.mode >= asked.mode && default.lasts >= asked.lasts => {
            format!("and locks them by its default: {default} (the policy asks for {asked})")
        }
        (Some(asked), _, _) => format!("and what is archived is locked: {asked}"),
        (None, Some(default), _) => format!("and locks them by its default: {default}"),
        (None, None, Some(true)) => "and locks nothing, though it could (spec.immutability)".to_owned(),
        (None, None, Some(false)) => "and locks nothing".to_owned(),
        (None, None, None) => {
            "and whether it locks them cannot be told (the store does not say; it takes s3:GetBucketObjectLockConfiguration)".to_owned()
        }
    };
    ProtectionReport {
        versioning,
        object_lock,
        default_lock: default.map(LockReport::from),
        asked_lock: asked.map(LockReport::from),
        text: format!("{keeps}, {locked}"),
        warnings: refusal.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_bucket_does_is_said_as_it_is() {
        let lock = |mode, days: u64| Lock { mode, lasts: Duration::from_secs(days * 86400) };
        let said = |versioning, locks, asked, refusal: Option<&str>| {
            report(Protection { versioning, locks }, asked, refusal.map(str::to_owned)).text
        };
        let asked = Some(lock(LockMode::Governance, 30));
        let on = Versioning::Enabled;
        assert!(
            said(on, Locks::On(None), asked, None).ends_with("what is archived is locked: Governance for 30 day(s)")
        );
        let default = Locks::On(Some(lock(LockMode::Compliance, 30)));
        assert!(said(on, default, asked, None).contains("by its default: Compliance for 30 day(s) (the policy asks"));
        assert!(said(on, Locks::On(None), None, None).contains("locks nothing, though it could"));
        assert!(said(on, Locks::Off, asked, Some("no")).ends_with("and locks nothing"));
        assert!(said(Versioning::Off, Locks::Off, None, None).contains("can destroy the archive"));
        let unknown = said(Versioning::Unknown, Locks::Unknown, None, None);
        assert!(unknown.contains("takes s3:GetBucketVersioning") && unknown.contains("takes s3:GetBucketObjectLock"));
    }
}
