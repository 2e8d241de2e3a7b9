//! What dies, dies at random; nothing is lost, nothing is stuck, nothing stays behind.

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark::model::Flavor;

use crate::cluster::{ask_until, condition, kill_operator, operator, run, succeed};
use crate::database::{Site, Store};
use crate::load::{Ledger, Load, has_exactly};

const ROUNDS: u32 = 20;
const OUTAGE: Duration = Duration::from_secs(120);

#[test]
#[ignore = "long: make e2e"]
fn pods_that_die_at_random_lose_nothing_and_leave_nothing() {
    let _operator = operator();
    let site = Site::new("chaos", Flavor::Mysql, Store::S3);
    let ledger = Ledger::default();
    let seed = std::env::var("TIDEMARK_E2E_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("TIDEMARK_E2E_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let kill = |selector: &str| {
        let args = ["delete", "pods", "--selector", selector, "--force", "--grace-period=0"];
        run(site.namespace.kubectl(&args), None);
    };
    let (newest, before) = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        site.protect();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        for round in 1..=ROUNDS {
            let moment = site.source().now();
            let victim = random.random_range(0..4);
            match victim {
                0 => kill("app.kubernetes.io/component=stream"),
                1 => kill_operator(),
                2 => kill("app=mysql"),
                _ => {
                    // While a full is taken.
                    let name = format!("now-{round}");
                    site.namespace.apply(&format!(
                        "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: {name}}}, spec: {{policyRef: {{name: shop}}}}}}"
                    ));
                    thread::sleep(Duration::from_millis(random.random_range(0..4000)));
                    kill(&format!("tidemark.dev/full-backup={name}"));
                    site.namespace.await_object(&format!("fullbackup/{name}"), "its end", |full| {
                        (full["status"]["phase"] == "Succeeded").then_some(())
                    });
                }
            }
            site.await_window_behind(moment);
            println!("round {round}: {} rows", load.acknowledged());
        }
        let newest = load.stop();
        let before = site.source().now();
        site.source().sql("DROP TABLE shop.orders");
        (newest, before)
    });
    site.await_window_behind(before);

    // The restore's pods die, too, and the operator in the middle of it.
    site.request("rescue", &format!("time: '{before}'"));
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(random.random_range(0..5000)));
        kill("tidemark.dev/restore-request=rescue");
        if random.random() {
            kill_operator();
        }
    }
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);

    // What was made goes with what asked for it; the server that was restored is its user's.
    succeed(site.namespace.kubectl(&["delete", "restorerequests,fullbackups,backuppolicies", "--all"]), None);
    let ours = "app.kubernetes.io/managed-by=tidemark";
    let left =
        || succeed(site.namespace.kubectl(&["get", "all,configmaps", "--selector", ours, "--output=name"]), None);
    ask_until("all of it to go", || left().lines().all(|name| name.contains("rescue")).then_some(()));
    has_exactly(&site.restored("rescue"), newest);
}

#[test]
#[ignore = "long: make e2e"]
fn a_store_that_is_gone_for_two_minutes_is_told_and_leaves_no_gap() {
    let _operator = operator();
    let site = Site::new("outage", Flavor::Mysql, Store::S3);
    let ledger = Ledger::default();
    let scale = |replicas: u8| {
        let replicas = format!("--replicas={replicas}");
        succeed(site.namespace.kubectl(&["scale", "deployment/s3", &replicas]), None);
    };
    let (newest, before) = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        site.protect();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        scale(0);
        let gone = Instant::now();
        let streaming = site.namespace.await_condition("backuppolicy/shop", "Streaming", "False");
        println!(
            "Streaming=False ({}: {}) after {:.1} s",
            streaming.reason,
            streaming.message,
            gone.elapsed().as_secs_f64()
        );
        assert!(streaming.reason.starts_with("Store"), "{streaming:?}");
        thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
        scale(1);
        let back = Instant::now();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        println!("Ready again {:.1} s after the store", back.elapsed().as_secs_f64());
        assert!(back.elapsed() < OUTAGE / 2, "a store that is back is looked at soon, however long the last look took");
        let newest = load.stop();
        let before = site.source().now();
        site.source().sql("DROP TABLE shop.orders");
        (newest, before)
    });
    site.await_window_behind(before);
    let policy = site.namespace.get("backuppolicy/shop").unwrap();
    assert_eq!(condition(&policy, "GapDetected").unwrap().status, "False");
    site.request("rescue", &format!("time: '{before}'"));
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);
}
