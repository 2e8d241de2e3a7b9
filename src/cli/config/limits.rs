//! What fulls may cost their source.

use super::refuse;
use crate::api::{BackupPolicy, LimitsSpec};
use crate::backup::logical::Limits;
use crate::cli::manifests::{Document, Problem};

/// A policy's limits; without any a full reads as fast as it goes.
pub fn limits_of(document: &Document<BackupPolicy>, problems: &mut Vec<Problem>) -> Limits {
    let Some(spec) = &document.object.spec.limits else { return Limits::default() };
    refuse(document, spec.problems(), problems);
    let LimitsSpec { bytes_per_second, threads_running, replication_lag } = spec;
    Limits {
        bytes_per_second: bytes_per_second.map(|size| size.0),
        threads_running: *threads_running,
        replication_lag: replication_lag.map(|span| span.0),
    }
}
