//! What the operator counts of its own work, and whether policies are ready: who streams no more has no figures of its own. What pods
//! count is theirs. Names and meanings are in `docs/metrics.md` and do not change.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::backup_policy::is_ready;
use crate::api::{BackupPolicy, VerificationStatus};

/// Figures of the controllers.
#[derive(Clone)]
pub struct Metrics {
    seconds: Family<OfKind, Histogram, fn() -> Histogram>,
    errors: Family<OfKind, Counter>,
    policies: Policies,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

/// The policies that are looked after, once this operator leads.
#[derive(Clone, Debug, Default)]
struct Policies(Arc<OnceLock<Store<BackupPolicy>>>);

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let (seconds, errors) = (Family::new_with_constructor(buckets), Family::default());
        let policies = Policies::default();
        let help = "Time that one look at an object takes";
        registry.register_with_unit("tidemark_reconcile_duration", help, Unit::Seconds, seconds.clone());
        registry.register("tidemark_reconcile_errors", "Looks at an object that failed", errors.clone());
        registry.register_collector(Box::new(policies.clone()));
        Self { seconds, errors, policies }
    }

    /// Shows these policies from now on.
    pub fn show(&self, policies: Store<BackupPolicy>) {
        // A process leads once.
        let _ = self.policies.0.set(policies);
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

impl Collector for Policies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let policies = self.0.get().map(Store::state).unwrap_or_default();
        let help = "Whether the policy's condition Ready is True";
        let mut family = encoder.encode_descriptor("tidemark_policy_ready", help, None, MetricType::Gauge)?;
        for policy in &policies {
            let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
            let labels = [("namespace", namespace.as_str()), ("policy", name.as_str())];
            let ready = policy.status.as_ref().is_some_and(is_ready);
            family.encode_family(&labels)?.encode_gauge(&u32::from(ready))?;
        }
        let seconds = |text: &Option<String>| -> Option<f64> {
            Some(text.as_ref()?.parse::<Timestamp>().ok()?.as_millisecond() as f64 / 1000.0)
        };
        let of = |policy: &BackupPolicy| policy.status.as_ref().and_then(|status| status.verification.clone());
        type Figure<'a> = (&'a str, &'a str, &'a dyn Fn(&VerificationStatus) -> Option<f64>);
        let figures: [Figure<'_>; 3] = [
            ("tidemark_policy_verify_findings", "Findings of the last verify", &|it| {
                it.findings.map(|count| count as f64)
            }),
            ("tidemark_policy_verify_timestamp_seconds", "When a verify last came to its end", &|it| {
                seconds(&it.last_run)
            }),
            ("tidemark_policy_verify_intact_timestamp_seconds", "When a verify last found nothing", &|it| {
                seconds(&it.last_intact)
            }),
        ];
        for (metric, help, figure) in figures {
            let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
            for policy in &policies {
                let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
                let labels = [("namespace", namespace.as_str()), ("policy", name.as_str())];
                if let Some(value) = of(policy).as_ref().and_then(figure) {
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(policies: &[&str]) -> String {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (store, mut writer) = reflector::store();
        for policy in policies {
            writer.apply_watcher_event(&Event::Apply(serde_yaml::from_str(policy).unwrap()));
        }
        metrics.show(store);
        metrics.looked("BackupPolicy", Duration::from_millis(3), true);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn policy(name: &str, status: &str) -> String {
        format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{source: {{host: \
             db, credentialsSecretRef: {{name: l}}}}, storage: {{s3: {{bucket: abc}}}}}}{status}}}"
        )
    }

    #[test]
    fn a_policy_is_ready_only_when_it_says_so() {
        let status = |ready: &str| {
            format!(
                ", status: {{conditions: [{{type: Ready, status: '{ready}', reason: R, message: m, lastTransitionTime: \
                 '2026-11-25T10:00:00Z'}}]}}"
            )
        };
        let verified = ", status: {verification: {phase: Succeeded, findings: 2, lastRun: '1970-01-01T00:01:00.5Z'}}";
        let policies =
            [policy("a", &status("True")), policy("b", &status("False")), policy("c", ""), policy("d", verified)];
        let text = text(&policies.each_ref().map(String::as_str));
        for line in [
            "tidemark_policy_ready{namespace=\"shop\",policy=\"a\"} 1",
            "tidemark_policy_ready{namespace=\"shop\",policy=\"b\"} 0",
            "tidemark_policy_ready{namespace=\"shop\",policy=\"c\"} 0",
            "tidemark_policy_verify_findings{namespace=\"shop\",policy=\"d\"} 2.0",
            "tidemark_policy_verify_timestamp_seconds{namespace=\"shop\",policy=\"d\"} 60.5",
            "tidemark_reconcile_errors_total{kind=\"BackupPolicy\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "there is no line {line}\n{text}");
        }
        assert!(!text.contains("verify_findings{namespace=\"shop\",policy=\"c\"}"), "nobody knows: {text}");
    }

    #[test]
    fn every_metric_of_the_operator_is_documented_and_nothing_else_is() {
        let text = text(&[]);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let told: BTreeSet<String> = types
            .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
            .collect();
        let (_, page) = include_str!("../../docs/metrics.md").split_once("### The operator\n").unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `tidemark_"));
        let documented: BTreeSet<String> =
            rows.filter_map(|row| row.split(['`', '{']).next()).map(|name| format!("tidemark_{name}")).collect();
        assert_eq!(told, documented);
    }
}
