//! The node loses its power, or the operator is upgraded, while something is restored. Only for the tests' own cluster: one of somebody else
//! is not rebooted from here.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark::model::Flavor;

use crate::cluster::{OPERATOR_NAMESPACE, PATIENCE, ask_until, helm, image, kubectl, operator_alone, run, succeed};
use crate::database::{Site, Store};
use crate::load::{Ledger, Load, has_exactly};

/// Rows of the table that makes each part of a restore last: loaded from the full, and written once more in the log behind it.
const ROWS: u32 = 150_000;

fn cluster(args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/cluster");
    let mut command = Command::new(script);
    command.args(args);
    succeed(command, None);
}

/// A source with a full, a log behind it, and a dropped table: the newest row of the ledger, the moment before, and the sum of the large table.
fn lost(site: &Site) -> (u64, String, String) {
    let ledger = Ledger::default();
    let newest = thread::scope(|scope| {
        let load = Load::start(scope, site, &ledger);
        let depth = match site.flavor {
            Flavor::Mysql => "cte_max_recursion_depth",
            Flavor::Mariadb => "max_recursive_iterations",
        };
        site.source().sql(&format!(
            "USE shop; CREATE TABLE shop.bulk (id INT PRIMARY KEY, a CHAR(200), b CHAR(200), n INT DEFAULT 0, KEY (a), KEY (b)); SET SESSION \
             {depth} = {ROWS}; INSERT INTO shop.bulk (id, a, b) WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r \
             WHERE i < {ROWS}) SELECT i, RPAD(SHA2(i, 256), 200, SHA2(i + 1, 256)), RPAD(SHA2(-i, 256), 200, SHA2(i, 256)) FROM r"
        ));
        site.protect();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        let step = ROWS / 50;
        for from in (0..ROWS).step_by(step as usize) {
            let to = from + step;
            site.source()
                .sql(&format!("UPDATE shop.bulk SET n = n + 1, a = REVERSE(a) WHERE id > {from} AND id <= {to}"));
        }
        load.stop()
    });
    let sum = sum(&site.source());
    let before = site.next_second();
    site.source().sql("DROP TABLE shop.orders, shop.bulk");
    site.await_window_behind(before);
    (newest, before.to_string(), sum)
}

fn sum(server: &crate::database::Server<'_>) -> String {
    server.sql("SELECT COUNT(*), SUM(n), SUM(CRC32(CONCAT(id, a, b))) FROM shop.bulk")
}

/// Waits until the operator says that the restore `name` is at one of these steps.
fn await_step(site: &Site, name: &str, steps: &[&str]) -> String {
    let object = format!("restorerequest/{name}");
    site.namespace.await_object(&object, &format!("to be at {steps:?}"), |request| {
        let status = &request["status"];
        assert!(!matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")), "it has ended: {status:#}");
        let step = status["progress"]["step"].as_str().unwrap_or_default();
        steps.contains(&step).then(|| step.to_owned())
    })
}

/// Waits until the restore's pod itself says so: what does not last is over before the operator asks.
fn await_step_of_the_pod(site: &Site, name: &str, step: &str) -> String {
    let path = format!("/api/v1/namespaces/{}/pods/{name}-0:8080/proxy/status", site.namespace.0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = run(kubectl(&["get", "--raw", &path]), None);
        let report = serde_json::from_slice::<Value>(&told.stdout).unwrap_or_default();
        let at = report["progress"]["step"].as_str().unwrap_or_default();
        if at == step {
            return at.to_owned();
        }
        assert!(at != "replay" && Instant::now() < deadline, "{name} was not seen at {step}: {report:#}");
    }
}

/// Waits for a pod of the restore with this part in the world.
fn await_pod(site: &Site, name: &str, component: &str) -> String {
    let pod = format!("--selector=tidemark.dev/restore-request={name},app.kubernetes.io/component={component}");
    ask_until(&format!("its pod that is {component}"), || {
        let there = run(site.namespace.kubectl(&["get", "pods", &pod, "--output=name"]), None);
        (!there.stdout.is_empty()).then_some(())
    });
    format!("a pod that is {component}")
}

fn restored(site: &Site, name: &str, newest: u64, expected: &str) {
    site.await_restored(name);
    ask_until("the restored server", || site.restored(name).try_sql("SELECT 1").ok());
    has_exactly(&site.restored(name), newest);
    assert_eq!(sum(&site.restored(name)), expected, "the large table");
    // Room for the next one.
    succeed(site.namespace.kubectl(&["delete", "statefulset", name]), None);
}

#[test]
#[ignore = "long: make e2e"]
fn a_restore_of_mysql_survives_that_the_node_loses_its_power_in_any_phase() {
    let site = ("reboot", Flavor::Mysql, Store::S3);
    the_node_loses_its_power(site, &["plan", "server", "load", "replay", "opening"]);
}

#[test]
#[ignore = "long: make e2e"]
fn a_restore_of_mariadb_survives_that_the_node_loses_its_power_while_its_server_is_filled() {
    let site = ("reboot-mariadb", Flavor::Mariadb, Store::Claim);
    the_node_loses_its_power(site, &["load", "replay", "opening"]);
}

fn the_node_loses_its_power((name, flavor, store): (&str, Flavor, Store), phases: &[&str]) {
    let _alone = operator_alone();
    let site = Site::new(name, flavor, store);
    let (newest, before, sum) = lost(&site);
    for phase in phases.iter().copied() {
        let name = format!("rescue-{phase}");
        site.request(&name, &format!("time: '{before}'"));
        let met = match phase {
            "plan" => await_pod(&site, &name, "plan"),
            "server" => await_pod(&site, &name, "server"),
            "load" => await_step_of_the_pod(&site, &name, "rows"),
            phase => await_step(&site, &name, &[phase]),
        };
        let lost = Instant::now();
        cluster(&["reboot"]);
        println!(
            "{flavor}, {phase}: the node lost its power at {met:?}, and is back after {:.1} s",
            lost.elapsed().as_secs_f64()
        );
        restored(&site, &name, newest, &sum);
        println!("{flavor}, {phase}: restored {:.1} s after the power was lost", lost.elapsed().as_secs_f64());
    }
    // And the stream goes on, with no gap.
    let now = site.next_second();
    site.source().sql("CREATE DATABASE later");
    site.await_window_behind(now);
    site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
    site.namespace.await_condition("backuppolicy/shop", "GapDetected", "False");
}

#[test]
#[ignore = "long: make e2e"]
fn a_restore_survives_an_upgrade_of_the_operator() {
    let _alone = operator_alone();
    let site = Site::new("upgrade", Flavor::Mysql, Store::S3);
    let (newest, before, sum) = lost(&site);
    site.request("rescue", &format!("time: '{before}'"));
    let met = await_step(&site, "rescue", &["replay"]);
    let image = image("tidemark");
    let (repository, tag) = image.rsplit_once(':').unwrap();
    // The same binary by another name: what counts is that every pod is another one afterwards.
    cluster(&["node", "ctr", "-n", "k8s.io", "images", "tag", "--force", &image, &format!("{repository}:next")]);
    let upgrade = |tag: &str| {
        let set = format!("image.repository={repository},image.tag={tag}");
        let args =
            ["upgrade", "tidemark", "charts/tidemark", "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "3m"];
        helm(&[&args[..], &["--set", &set]].concat());
    };
    let begun = Instant::now();
    upgrade("next");
    println!("upgraded in {:.1} s while the restore was at {met:?}", begun.elapsed().as_secs_f64());
    restored(&site, "rescue", newest, &sum);
    // The stream's pod is a new one, too, and nothing was missed.
    let deadline = Instant::now() + PATIENCE;
    let stream = || site.namespace.get("pod/shop-stream-0");
    while stream().is_none_or(|pod| pod["spec"]["containers"][0]["image"] != format!("{repository}:next")) {
        assert!(Instant::now() < deadline, "the stream's pod is not replaced");
        thread::sleep(Duration::from_millis(500));
    }
    let now = site.source().now();
    site.source().sql("CREATE DATABASE later");
    site.await_window_behind(now);
    site.namespace.await_condition("backuppolicy/shop", "GapDetected", "False");
    upgrade(tag);
    let leader = ["--namespace", OPERATOR_NAMESPACE, "rollout", "status", "deployment/tidemark", "--timeout=3m"];
    succeed(kubectl(&leader), None);
}
