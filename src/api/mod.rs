//! The manifests people write (`tidemark.dev/v1alpha1`): the same types in a file given to the binary and in a cluster.
//!
//! Types only: what a field means to this version, and which combinations it refuses, is decided where manifests are
//! validated. Objects of a newer version may carry fields these types do not know: a cluster must be able to read
//! them, so the types ignore such fields, and the reader of *files* refuses them (see `cli::manifests`).

// kube's `printcolumn` repeats the same keys in one attribute, which is how it is meant.
#![allow(clippy::duplicated_attributes)]

mod backup_policy;
mod full_backup;
mod restore_request;
mod source;
mod status;
mod storage;
mod values;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use backup_policy::{
    Acknowledge, BackupPolicy, BackupPolicySpec, BinlogSpec, CompressionSpec, ConcurrencyPolicy, CopySpec, DrillSpec,
    EncryptionSpec, Method, PurgeProtection, RetentionSpec, ScheduleSpec, SpoolSpec,
};
pub use full_backup::{FullBackup, FullBackupSpec, FullBackupStatus};
pub use restore_request::{
    ChecksSpec, DecryptionSpec, IntoExistingSpec, IntoSpec, IntoStorageSpec, RestorePlanStatus, RestoreRequest,
    RestoreRequestSpec, RestoreRequestStatus, TargetSpec,
};
pub use source::{FlavorChoice, ObjectRef, SecretKeyRef, ServiceRef, SourceSpec, TlsMode, TlsSpec};
pub use status::{BackupPolicyStatus, GapStatus, Phase, ProgressStatus, WindowStatus};
pub use storage::{AzblobSpec, FsSpec, GcsSpec, S3Spec, StorageSpec};
pub use values::{ParseValueError, Size, Span};

/// The API group of every kind.
pub const GROUP: &str = "tidemark.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";

/// The definitions of every kind, in the order in which a person meets them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![BackupPolicy::crd(), FullBackup::crd(), RestoreRequest::crd()]
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// What is written of an object reads back as the same object, its defaults included.
    fn round_trips<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(minimal: &str) -> T {
        let object: T = serde_yaml::from_str(minimal).unwrap_or_else(|e| panic!("{minimal}: {e}"));
        let text = serde_yaml::to_string(&object).unwrap();
        let again: T = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(again, object, "{text}");
        let json = serde_json::to_value(&object).unwrap();
        assert_eq!(serde_json::from_value::<T>(json).unwrap(), object);
        object
    }

    #[test]
    fn defaults_survive_a_round_trip() {
        let policy: BackupPolicySpec = round_trips(
            "{source: {host: h, credentialsSecretRef: {name: l}}, schedule: {cron: '0 0 * * *'}, storage: {fs: {path: /a}}}",
        );
        assert_eq!((policy.source.port, policy.source.tls.mode), (3306, TlsMode::Required));
        assert_eq!((policy.binlog.enabled, policy.binlog.flush_interval.to_string()), (true, "1s".to_owned()));
        assert_eq!((policy.binlog.segment_size.to_string(), policy.compression.level), ("16Mi".to_owned(), 3));
        let schedule = policy.schedule.unwrap();
        assert_eq!((schedule.time_zone.as_str(), schedule.immediate), ("UTC", true));
        round_trips::<BackupPolicySpec>(
            "{source: {hosts: [a, b], port: 3307, credentialsSecretRef: {name: l}, tls: {mode: VerifyCA, caSecretRef: {name: c}}}, \
             binlog: {enabled: false, flushInterval: 2m30s, segmentSize: 1Mi, acknowledge: ObjectStore, spool: {maxSize: 1Gi}}, \
             storage: {s3: {bucket: b}}, retention: {window: 7d, keepLast: 3}, method: clone, compression: {level: 0}}",
        );
        let restore: RestoreRequestSpec = round_trips(
            "{policyRef: {name: p}, target: {latest: true}, intoExisting: {host: h, credentialsSecretRef: {name: l}}}",
        );
        let existing = restore.into_existing.unwrap();
        assert_eq!((existing.port, existing.tls.mode, existing.serve_listen), (3306, TlsMode::Required, None));
        round_trips::<RestoreRequestSpec>(
            "{storage: {fs: {path: /a}}, target: {gtid: 'u:1', exclusive: true, skipGTIDs: 'u:2', allowNearest: true}, dryRun: true, \
             intoExisting: {host: h, port: 1, credentialsSecretRef: {name: l}, serveListen: '[::]:3310', serveAdvertise: b}}",
        );
        round_trips::<FullBackupSpec>("{policyRef: {name: p}}");
    }
}
