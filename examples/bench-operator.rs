//! `make bench-operator`: what 1,000 BackupPolicies cost the operator and the API server.
//!
//! Their streams are off and they have no schedule, so no pod is made: it is the operator alone that is measured, by its own metrics, by
//! those of the API server, and by the kubelet.

// Of what the tests on a cluster are made of, it uses a part.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/e2e/cluster.rs"]
mod cluster;
#[path = "../tests/e2e/metrics.rs"]
mod metrics;
#[path = "demo/story.rs"]
mod story;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use cluster::{Namespace, OPERATOR_NAMESPACE, kill_operator, kubectl, operator, succeed};
use story::{chapter, fact};

const POLICIES: u64 = 1000;
const REST: Duration = Duration::from_secs(120);
/// The goal, and the chart's limit.
const RESIDENT_BYTES_MAX: u64 = 128 << 20;
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    chapter(&format!("An operator, and {POLICIES} policies"));
    operator();
    let namespace = Namespace::new("bench");
    let begun = Instant::now();
    namespace.apply(&policies());
    fact("applied", &format!("in {:.0} s by kubectl", begun.elapsed().as_secs_f64()));
    await_looked_at(&namespace);
    fact("looked at", &format!("all of them {:.0} s after the first was applied", begun.elapsed().as_secs_f64()));
    tell_looks();

    chapter("The operator is killed and starts again");
    let killed = Instant::now();
    kill_operator();
    support::wait_for("a look at every policy", PATIENCE, || (looks()? >= POLICIES as f64).then_some(()));
    fact("looked at", &format!("all of them {:.0} s after the kill", killed.elapsed().as_secs_f64()));
    tell_looks();

    chapter("At rest");
    // What the start brought about has ended once no look follows for a while.
    support::wait_for("rest", PATIENCE, || {
        let before = looks()?;
        sleep(Duration::from_secs(10));
        (looks()? - before < 5.0).then_some(())
    });
    let (requests, looked, since) = (requests(), looks().unwrap(), Instant::now());
    sleep(REST);
    let seconds = since.elapsed().as_secs_f64();
    let per_second = |now: f64, then: f64| (now - then) / seconds;
    fact(
        "requests",
        &format!("{:.2} a second to the API server, its lease among them", per_second(self::requests(), requests)),
    );
    fact("looks", &format!("{:.2} a second", per_second(looks().unwrap(), looked)));
    let resident = resident_bytes();
    fact("RSS", &format!("{:.0} MiB", resident as f64 / f64::from(1 << 20)));
    let good = resident <= RESIDENT_BYTES_MAX && restarts() == 0;
    println!("{} goal: at most {} MiB, no restart", if good { "REACHED" } else { "MISSED" }, RESIDENT_BYTES_MAX >> 20);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Policies that ask for no pod.
fn policies() -> String {
    let policies: Vec<_> = (0..POLICIES)
        .map(|number| {
            json!({"apiVersion": "tidemark.dev/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": format!("policy-{number:04}")},
                "spec": {"source": {"host": "db", "credentialsSecretRef": {"name": "login"}}, "binlog": {"enabled": false},
                    "storage": {"fs": {"path": "/archive", "claimName": "archive"}}}})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": policies}).to_string()
}

fn await_looked_at(namespace: &Namespace) {
    let template = "jsonpath={range .items[*]}{.status.observedGeneration}{\"\\n\"}{end}";
    support::wait_for("a status of every policy", PATIENCE, || {
        let told = succeed(namespace.kubectl(&["get", "backuppolicies", "--output", template]), None);
        let looked_at = told.lines().filter(|line| !line.is_empty()).count() as u64;
        if looked_at < POLICIES {
            sleep(Duration::from_secs(1));
        }
        (looked_at == POLICIES).then_some(())
    });
}

const KIND: [&str; 1] = ["kind=\"BackupPolicy\""];
const DURATION: &str = "tidemark_reconcile_duration_seconds";

fn own_metrics() -> Option<String> {
    metrics::of(OPERATOR_NAMESPACE, "services/tidemark:8080")
}

/// Looks at policies since the operator started; none before the first.
fn looks() -> Option<f64> {
    Some(metrics::sum(&own_metrics()?, &format!("{DURATION}_count"), &KIND)).filter(|count| *count > 0.0)
}

fn tell_looks() {
    let text = own_metrics().expect("the operator answers");
    let within = |share| metrics::quantile(&text, DURATION, &KIND, share) * 1000.0;
    let errors = metrics::sum(&text, "tidemark_reconcile_errors_total", &[]);
    fact(
        "a look takes",
        &format!(
            "p50 within {:.0} ms, p99 within {:.0} ms of {} looks; {errors} failed",
            within(0.5),
            within(0.99),
            looks().unwrap_or_default()
        ),
    );
}

/// Requests of service accounts outside of kube-system since the API server started: on this cluster the operator's.
fn requests() -> f64 {
    let flow = ["flow_schema=\"service-accounts\""];
    metrics::sum(
        &metrics::raw("/metrics").expect("the API server answers"),
        "apiserver_flowcontrol_dispatched_requests_total",
        &flow,
    )
}

fn pod(path: &str) -> String {
    let selector = "--selector=app.kubernetes.io/name=tidemark-operator";
    let template = format!("jsonpath={{.items[0]{path}}}");
    succeed(kubectl(&["--namespace", OPERATOR_NAMESPACE, "get", "pods", selector, "--output", &template]), None)
}

fn resident_bytes() -> u64 {
    let (node, name) = (pod(".spec.nodeName"), pod(".metadata.name"));
    support::wait_for("the kubelet's figures", PATIENCE, || {
        metrics::resident_bytes(&node, &name).filter(|bytes| *bytes > 0)
    })
}

fn restarts() -> u64 {
    pod(".status.containerStatuses[0].restartCount").parse().unwrap()
}
