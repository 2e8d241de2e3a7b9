//! What manifests can say and this version cannot do: refused by name rather than ignored, in a file and in a cluster alike. Pure.

use super::{BackupPolicySpec, FullBackupSpec, Method, RestoreRequestSpec};

/// A field, and the way out.
pub type Refusal = (&'static str, &'static str);

const METHOD: Refusal = ("spec.method", "this version takes logical fulls only: write logical or remove the field");

/// Fields of a policy.
pub fn of_policy(spec: &BackupPolicySpec) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let mut refuse = |applies: bool, refusal: Refusal| refused.extend(applies.then_some(refusal));
    refuse(
        !spec.copies.is_empty() && !spec.binlog.enabled,
        ("spec.copies", "the stream fills copies: set spec.binlog.enabled, or remove the field"),
    );
    refuse(spec.method != Method::Logical, METHOD);
    refuse(
        spec.drill.is_some(),
        (
            "spec.drill",
            "this version makes no drills yet: remove the field, and restore by hand now and then (spec.verify looks whether the archive is intact)",
        ),
    );
    refuse(
        spec.source.prefer_replica,
        ("spec.source.preferReplica", "this version reads from the first server it reaches: remove the field"),
    );
    refused
}

/// Fields of a full.
pub fn of_full(spec: &FullBackupSpec) -> Option<Refusal> {
    spec.method.filter(|method| *method != Method::Logical).map(|_| METHOD)
}

/// Fields of a restore.
pub fn of_restore(spec: &RestoreRequestSpec) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let mut refuse = |applies: bool, field, message| refused.extend(applies.then_some((field, message)));
    let whole = "this version restores whole servers only: remove the field, restore into an empty server and copy what you need from it";
    refuse(!spec.tables.is_empty(), "spec.tables", whole);
    refuse(!spec.databases.is_empty(), "spec.databases", whole);
    refuse(
        spec.checks.is_some(),
        "spec.checks",
        "this version runs no queries of yours yet: remove the field; the proof is always made",
    );
    refused
}
