//! What the operator counts of its own work. The pods count theirs.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of the controllers.
#[derive(Clone)]
pub struct Metrics {
    seconds: Family<OfKind, Histogram, fn() -> Histogram>,
    errors: Family<OfKind, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let (seconds, errors) = (Family::new_with_constructor(buckets), Family::default());
        let help = "Time that one look at an object takes";
        registry.register_with_unit("tidemark_reconcile_duration", help, Unit::Seconds, seconds.clone());
        registry.register("tidemark_reconcile_errors", "Looks at an object that failed", errors.clone());
        Self { seconds, errors }
    }

    /// One look at an object of `kind`.
    pub fn looked(&self, kind: &str, took: Duration, failed: bool) {
        let of = OfKind { kind: kind.to_owned() };
        self.seconds.get_or_create(&of).observe(took.as_secs_f64());
        if failed {
            self.errors.get_or_create(&of).inc();
        }
    }
}
