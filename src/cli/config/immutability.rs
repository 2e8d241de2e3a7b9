//! What is locked, in the first store and in each copy.

use std::time::Duration;

use crate::api::{BackupPolicy, ImmutabilityMode, ImmutabilitySpec, RetentionSpec, StorageSpec};
use crate::archive::store::{Lock, LockMode, S3Config, StoreConfig};
use crate::cli::manifests::{Document, Problem};

/// A store, as `immutability` beside its `storage` asks for it: `field` holds both (`spec`, `spec.copies[0]`).
pub fn locked(
    document: &Document<BackupPolicy>,
    field: &str,
    written: Option<&ImmutabilitySpec>,
    storage: &StorageSpec,
    store: Option<StoreConfig>,
    problems: &mut Vec<Problem>,
) -> Option<StoreConfig> {
    let Some(spec) = written else { return store };
    if let Some((at, message)) = spec.problem(storage) {
        problems.push(document.problem(&format!("{field}.immutability{at}"), message));
        return None;
    }
    let ImmutabilitySpec { mode, lock_for } = spec;
    let mode = match mode {
        ImmutabilityMode::Governance => LockMode::Governance,
        ImmutabilityMode::Compliance => LockMode::Compliance,
    };
    // Whole seconds: what a lock's end is written in.
    let lock = Lock { mode, lasts: Duration::from_secs(lock_for.0.as_secs()) };
    match store? {
        StoreConfig::S3(s3) => Some(StoreConfig::S3(S3Config { lock: Some(lock), ..s3 })),
        other => Some(other),
    }
}

/// What a lock does not withstand, although somebody may think so.
pub fn too_short(written: Option<&ImmutabilitySpec>, retention: Option<&RetentionSpec>) -> Vec<String> {
    written.and_then(|spec| spec.too_short(retention)).into_iter().collect()
}
