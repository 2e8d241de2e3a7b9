//! The manifests people write (`tidemark.dev/v1alpha1`): the same types in a file given to the binary and in a cluster.
//!
//! Types only: what a field means to this version, and which combinations it refuses, is decided where manifests are
//! validated. Objects of a newer version may carry fields these types do not know: a cluster must be able to read
//! them, so the types ignore such fields, and the reader of *files* refuses them (see `cli::manifests`).

// kube's `printcolumn` repeats the same keys in one attribute, which is how it is meant.
#![allow(clippy::duplicated_attributes)]

mod backup_policy;
mod encryption;
mod full_backup;
mod immutability;
mod limits;
pub mod report;
mod restore_request;
mod source;
mod status;
mod storage;
pub mod unsupported;
mod values;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use backup_policy::{
    Acknowledge, BackupPolicy, BackupPolicySpec, BinlogSpec, CompressionSpec, ConcurrencyPolicy, CopySpec, DrillSpec,
    Method, PurgeProtection, RetentionSpec, ScheduleSpec, SpoolSpec, VerifyDepth, VerifySpec,
};
pub use encryption::EncryptionSpec;
pub use full_backup::{DeletionPolicy, FullBackup, FullBackupSpec, FullBackupStatus};
pub use immutability::{ImmutabilityMode, ImmutabilitySpec};
pub use limits::{LimitsSpec, rate_problem};
pub use restore_request::{
    ChecksSpec, DecryptionSpec, IntoExistingSpec, IntoSpec, IntoStorageSpec, RestorePlanStatus, RestoreRequest,
    RestoreRequestSpec, RestoreRequestStatus, TargetSpec,
};
pub use source::{FlavorChoice, ObjectRef, PodSelector, SecretKeyRef, ServiceRef, SourceSpec, TlsMode, TlsSpec};
pub use status::{BackupPolicyStatus, CopyStatus, GapStatus, Phase, ProgressStatus, VerificationStatus, WindowStatus};
pub use storage::{AzblobSpec, FsSpec, GcsSpec, S3Spec, StorageSpec};
pub use values::{ParseValueError, Size, Span};

/// The API group of every kind.
pub const GROUP: &str = "tidemark.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
/// Annotation of a BackupPolicy by which a person asks for a verify now: `Quick@…` or `Deep@…` with the moment (RFC 3339), so that each request is
/// another one. A manifest in Git need not have it, and is not changed by it.
pub const VERIFY_NOW: &str = "tidemark.dev/verify-now";

/// The definitions of every kind, in the order in which a person meets them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![BackupPolicy::crd(), FullBackup::crd(), RestoreRequest::crd()]
}
