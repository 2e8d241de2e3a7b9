//! `make bench-operator`: what 1,000 BackupPolicies cost the operator and the API server.
//!
//! Their streams are off and they have no schedule, so no pod is made. The operator is a process here (of the release build, in
//! TIDEMARK_BINARY), with the account and exactly the rights that `config/default` gives it: an API server is all that is needed. Measured
//! by the operator's own metrics, by those of the API server, and by the kernel.

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

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use cluster::{Namespace, OPERATOR_NAMESPACE, kubectl, run, succeed};
use story::{chapter, fact};
use support::{Process, Signal, wait_for};

const POLICIES: u64 = 1000;
const REST: Duration = Duration::from_secs(60);
/// The goal, and the chart's limit.
const RESIDENT_BYTES_MAX: u64 = 128 << 20;
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    chapter("The CRDs, and an account with the operator's rights");
    succeed(kubectl(&["apply", "--server-side", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/config/default")]), None);
    // Its own pod would be a second operator.
    let deployment = ["--namespace", OPERATOR_NAMESPACE, "scale", "deployment/tidemark", "--replicas=0"];
    succeed(kubectl(&deployment), None);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig_of_the_operator()).unwrap();
    let namespace = Namespace::new("bench");

    chapter(&format!("An operator that runs, and {POLICIES} policies that come"));
    let operator = Operator::start(&kubeconfig);
    let begun = Instant::now();
    succeed(namespace.kubectl(&["create", "-f", "-"]), Some(&policies()));
    fact("created", &format!("in {:.1} s by kubectl", begun.elapsed().as_secs_f64()));
    await_looked_at(&namespace);
    fact("looked at", &format!("all of them {:.1} s after the first was created", begun.elapsed().as_secs_f64()));
    operator.tell_looks();
    let mut peak_bytes = operator.end();

    chapter("Another one starts, with all of them there");
    let started = Instant::now();
    let operator = Operator::start(&kubeconfig);
    wait_for("a look at every policy", PATIENCE, || (operator.looks()? >= POLICIES as f64).then_some(()));
    fact("looked at", &format!("all of them {:.1} s after its start", started.elapsed().as_secs_f64()));
    operator.tell_looks();

    chapter("At rest");
    // What the start brought about has ended once no look follows for a while.
    wait_for("rest", PATIENCE, || {
        let before = operator.looks()?;
        sleep(Duration::from_secs(5));
        (operator.looks()? - before < 5.0).then_some(())
    });
    let (requested, looked, since) = (requests(), operator.looks().unwrap(), Instant::now());
    sleep(REST);
    let per_second = |now: f64, then: f64| (now - then) / since.elapsed().as_secs_f64();
    let rate = per_second(requests(), requested);
    fact("requests", &format!("{rate:.2} a second to the API server, the renewals of its lease among them"));
    fact("looks", &format!("{:.2} a second", per_second(operator.looks().unwrap(), looked)));
    peak_bytes = peak_bytes.max(operator.end());
    let good = peak_bytes <= RESIDENT_BYTES_MAX;
    fact("memory", &format!("{:.0} MiB resident at most (RSS)", peak_bytes as f64 / f64::from(1 << 20)));
    println!("\n{} the goal is {} MiB", if good { "REACHED" } else { "MISSED" }, RESIDENT_BYTES_MAX >> 20);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The kubeconfig in use, with a token of the operator's account.
fn kubeconfig_of_the_operator() -> String {
    let token = succeed(kubectl(&["--namespace", OPERATOR_NAMESPACE, "create", "token", "tidemark"]), None);
    let text = succeed(kubectl(&["config", "view", "--minify", "--flatten", "--output=json"]), None);
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    config.to_string()
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
    wait_for("a status of every policy", PATIENCE, || {
        let told = succeed(namespace.kubectl(&["get", "backuppolicies", "--output", template]), None);
        let looked_at = told.lines().filter(|line| !line.is_empty()).count() as u64;
        if looked_at < POLICIES {
            sleep(Duration::from_secs(1));
        }
        (looked_at == POLICIES).then_some(())
    });
}

/// Requests of service accounts outside of kube-system since the API server started: on a cluster of its own the operator's.
fn requests() -> f64 {
    let flow = ["flow_schema=\"service-accounts\""];
    let text = metrics::raw("/metrics").expect("the API server answers");
    metrics::sum(&text, "apiserver_flowcontrol_dispatched_requests_total", &flow)
}

const KIND: [&str; 1] = ["kind=\"BackupPolicy\""];
const DURATION: &str = "tidemark_reconcile_duration_seconds";

/// `tidemark operator` as a process.
struct Operator {
    process: Process,
    port: u16,
}

impl Operator {
    /// Starts it; it leads then.
    fn start(kubeconfig: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["operator", "--image", "none", "--lease-namespace", OPERATOR_NAMESPACE, "--identity", "bench"];
        let release = std::env::var_os("TIDEMARK_BINARY");
        let binary = release.expect("`make bench-operator` names the release build in TIDEMARK_BINARY");
        let mut command = Command::new(binary);
        command.args([&arguments[..], &["--listen", &listen]].concat()).env_remove("RUST_LOG");
        command.env("KUBECONFIG", kubeconfig);
        let mut process = Process::spawn(command);
        process.wait_for_line("leading", Duration::from_secs(60));
        Self { process, port }
    }

    /// Ends it; the most memory that it had.
    fn end(mut self) -> u64 {
        let peak_bytes = self.process.peak_rss_bytes();
        self.process.signal(Signal::Terminate);
        let ended = self.process.wait(Duration::from_secs(60));
        assert!(ended.success(), "{ended}\n{}", self.process.output());
        peak_bytes
    }

    fn metrics(&self) -> Option<String> {
        let mut command = Command::new("curl");
        command.args(["-fsS", &format!("http://127.0.0.1:{}/metrics", self.port)]);
        let output = run(command, None);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Looks at policies since it started; none before the first.
    fn looks(&self) -> Option<f64> {
        Some(metrics::sum(&self.metrics()?, &format!("{DURATION}_count"), &KIND)).filter(|count| *count > 0.0)
    }

    fn tell_looks(&self) {
        let text = self.metrics().expect("the operator answers");
        let within = |share| metrics::quantile(&text, DURATION, &KIND, share) * 1000.0;
        let failed = metrics::sum(&text, "tidemark_reconcile_errors_total", &[]);
        let count = metrics::sum(&text, &format!("{DURATION}_count"), &KIND);
        let (half, most) = (within(0.5), within(0.99));
        fact(
            "a look takes",
            &format!("p50 within {half:.0} ms, p99 within {most:.0} ms ({count} looks, {failed} failed)"),
        );
    }
}
