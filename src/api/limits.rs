use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::values::{Size, Span};

/// What a full may cost its source and the way to the store. While a limit is passed the full yields: it keeps its snapshot and reads no rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.bytesPerSecond) || has(self.threadsRunning) || has(self.replicationLag)", "set at least one limit, for example threadsRunning: 40, or remove the field"))]
pub struct LimitsSpec {
    /// The most bytes of rows (before compression) that are read in a second, for example `50Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Size>,
    /// The full yields while more statements than this run on the source beside its own (`Threads_running`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threads_running: Option<u32>,
    /// The full yields while the server it reads, a replica, is further behind its own source than this, for example `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_lag: Option<Span>,
}

impl LimitsSpec {
    /// What is wrong with it: a field each, and the way out.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let Self { bytes_per_second, threads_running, replication_lag: _ } = self;
        let mut problems = Vec::new();
        if *self == Self::default() {
            problems
                .push(("spec.limits", "set at least one limit, for example threadsRunning: 40, or remove the field"));
        }
        problems.extend(rate_problem(*bytes_per_second).map(|message| ("spec.limits.bytesPerSecond", message)));
        if *threads_running == Some(0) {
            problems.push(("spec.limits.threadsRunning", "0 would never end: write at least 1, or remove the field"));
        }
        problems
    }
}

/// What is wrong with a rate.
pub fn rate_problem(bytes_per_second: Option<Size>) -> Option<&'static str> {
    (bytes_per_second == Some(Size(0))).then_some("0 would never end: write for example 50Mi, or remove the field")
}
