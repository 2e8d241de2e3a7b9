//! `make demo-k8s`: the operator's version of the demo, on the test cluster or on the one of KUBECONFIG.
//!
//! The chart is installed, a MySQL pod is written to under a ledger, and protected by a Secret and a BackupPolicy. Its table is dropped and
//! comes back in a fresh pod, to the moment before; every row is compared with the ledger. What it does is what `tests/e2e` tests.

// Of what the tests on a cluster are made of, it uses a part.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/e2e/cluster.rs"]
mod cluster;
#[path = "../tests/e2e/database.rs"]
mod database;
#[path = "../tests/e2e/disaster.rs"]
mod disaster;
#[path = "../tests/e2e/load.rs"]
mod load;
#[path = "../tests/e2e/metrics.rs"]
mod metrics;
#[path = "../tests/e2e/secrets.rs"]
mod secrets;
#[path = "demo/story.rs"]
mod story;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use tidemark::model::Flavor;

use cluster::{helm, image, kubectl_tidemark, operator, succeed};
use database::{SCHEDULE, Site, Store};
use disaster::{Lost, lose_a_table};
use load::has_exactly;
use story::{chapter, fact, say, verdict};

fn main() {
    let begun = Instant::now();
    chapter("The operator, installed by its chart");
    say("$ helm upgrade --install tidemark charts/tidemark --namespace tidemark-system --create-namespace --wait");
    let _operator = operator();
    say(helm(&["list", "--namespace", cluster::OPERATOR_NAMESPACE]).trim_end());

    chapter("A MySQL pod with a shop in it, an S3 server, and a client that writes");
    let site = Site::new("demo", Flavor::Mysql, Store::S3);
    let tidemark = |args: &[&str]| {
        say(&format!("$ kubectl tidemark {} -n {}", args.join(" "), site.namespace.0));
        let said = succeed(kubectl_tidemark(&site.namespace, args), None);
        say(said.trim_end());
    };
    fact("server", &format!("MySQL {}", site.source().sql("SELECT VERSION()")));
    say("$ kubectl apply -f policy.yaml          # two Secrets and a BackupPolicy");
    let Lost { newest, before } = lose_a_table(&site, SCHEDULE, |took, rows| {
        fact("protected", &format!("{:.1} s after kubectl apply, with {rows} orders in", took.as_secs_f64()));
        tidemark(&["status", "shop"]);
        chapter("Somebody drops the table");
        say("mysql> DROP TABLE shop.orders;");
    });
    fact("lost", &format!("{newest} orders"));
    let stream = metrics::of(&site.namespace.0, "pods/shop-stream-0:8080").expect("the stream's pod answers");
    let within = |share| metrics::quantile(&stream, "tidemark_rpo_seconds", &["policy=\"shop\""], share);
    let rpo = format!("p50 within {:.2} s, p99 within {:.2} s from commit to durable in S3", within(0.5), within(0.99));

    chapter("A fresh server, to the moment before");
    let (time, image) = (before.to_string(), image("mysql"));
    let restore = ["restore", "shop", "--to-time", &time, "--name", "rescue", "--image", &image, "--storage", "1Gi"];
    tidemark(&[&restore[..], &["--dry-run"]].concat());
    let asked = Instant::now();
    tidemark(&[&restore[..], &["--wait"]].concat());
    let rto = asked.elapsed();

    chapter("Row by row against the load's own ledger");
    has_exactly(&site.restored("rescue"), newest);
    fact("RPO", &rpo);
    fact("RTO", &format!("{:.1} s from the command to a server that is proved and open", rto.as_secs_f64()));
    fact("demo", &format!("{:.0} s in all", begun.elapsed().as_secs_f64()));
    verdict(true, &format!("{newest} acknowledged transactions, none lost, none doubled"));
}
