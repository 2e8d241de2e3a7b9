//! What a verb in a pod says of itself: over HTTP while it works, in a file when it ends.
//!
//! ```text
//! stream ──▶ StreamSubject (archive: reads the store now and then) ─┐             ┌─▶ /healthz /readyz
//! backup, restore ──▶ WorkSubject (progress, plan) ─────────────────┴─▶ Snapshot ─┼─▶ /status   (api::report::PodReport)
//!                  └─▶ outcome (api::report::Outcome → FILE)                      └─▶ /metrics  (docs/metrics.md)
//! ```

mod archive;
mod metrics;
pub mod outcome;
mod server;
mod stream;
mod work;

use crate::api::report::PodReport;
use metrics::Figures;

pub use server::{ReportError, serve};
pub use stream::StreamSubject;
pub use work::{WorkSubject, plan_status};

/// A verb that can be asked how it is.
pub trait Subject: Send + Sync + 'static {
    /// How it is now.
    fn snapshot(&self) -> Snapshot;
}

/// A verb at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The policy it works for; empty while that is not known.
    pub policy: String,
    /// Whether it does what it is for.
    pub ready: bool,
    /// What it says.
    pub report: PodReport,
    /// A stream's figures that are no part of that.
    pub figures: Option<Figures>,
}
