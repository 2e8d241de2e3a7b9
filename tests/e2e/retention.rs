//! What the archive may lose, and what not: retention, FullBackups that take their fulls with them, and restores that read meanwhile.

use serde_json::Value;
use tidemark::model::Flavor;

use crate::cluster::{ask_until, condition, operator, succeed};
use crate::database::{Site, Store};
use crate::load::{Ledger, Load, has_exactly};

/// A policy whose first full is taken.
fn protected(name: &str, rest: &str) -> Site {
    let site = Site::new(name, Flavor::Mysql, Store::S3);
    site.source().sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT)");
    site.protect_with(rest);
    site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
    site
}

/// Takes a full by hand; its id.
fn full(site: &Site, name: &str, rest: &str) -> String {
    // A window has moments only where something was committed.
    site.source().sql("INSERT INTO shop.t VALUES ()");
    site.namespace.apply(&format!(
        "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: {name}}}, spec: {{policyRef: {{name: shop}}{rest}}}}}"
    ));
    let full = site.namespace.await_object(&format!("fullbackup/{name}"), "its end", |full| {
        matches!(full["status"]["phase"].as_str(), Some("Succeeded" | "Failed")).then(|| full.clone())
    });
    assert_eq!(full["status"]["phase"], "Succeeded", "{:#}", full["status"]);
    full["status"]["id"].as_str().unwrap().to_owned()
}

/// Ids of the fulls that are in the bucket, by what the S3 server has on its disk.
fn stored(site: &Site) -> Vec<String> {
    let list = ["exec", "deployment/s3", "--", "find", "/data/objects/backups/shop/full", "-name", "manifest.json"];
    let files = succeed(site.namespace.kubectl(&list), None);
    let mut ids: Vec<String> = files.lines().filter_map(|file| Some(file.rsplit('/').nth(1)?.to_owned())).collect();
    ids.sort();
    ids
}

fn names(site: &Site) -> Vec<String> {
    let fulls = site.namespace.list("fullbackups");
    fulls.iter().map(|full| full["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn await_gone(site: &Site, full: &str) {
    ask_until(&format!("{full} to go"), || (!names(site).contains(&full.to_owned())).then_some(()));
}

fn delete(site: &Site, object: &str) {
    succeed(site.namespace.kubectl(&["delete", object, "--wait=false"]), None);
}

fn patch(site: &Site, object: &str, patch: &str) {
    succeed(site.namespace.kubectl(&["patch", object, "--type=merge", "--patch", patch]), None);
}

#[test]
#[ignore = "long: make e2e"]
fn what_retention_lets_go_goes_from_the_bucket_and_its_full_backups_follow_but_not_under_a_restore() {
    let _operator = operator();
    let site = protected("retention", "schedule: { cron: '30 2 * * *' }\n  retention: { keepLast: 1 }");
    let first = names(&site);
    let kept = full(&site, "by-hand", "");
    ask_until("the policy's first full to be pruned", || (stored(&site) == [kept.clone()]).then_some(()));
    let pruned = site.namespace.await_object("backuppolicy/shop", "what the prune did", |policy| {
        condition(policy, "Pruned").filter(|pruned| pruned.message.contains("1 fulls and"))
    });
    println!("Pruned: {}", pruned.message);
    await_gone(&site, &first[0]);

    // A restore that is not finished (its image is nowhere) holds the next prune back.
    let into = "into: { image: 'tidemark.test/nowhere:1', storage: { size: 1Gi } }";
    site.request_into("rescue", "latest: true", into);
    let next = full(&site, "next", "");
    let held = site.namespace.await_object("backuppolicy/shop", "the prune to wait", |policy| {
        condition(policy, "Pruned").filter(|pruned| pruned.reason == "RestoreUnderWay")
    });
    assert!(held.message.contains("RestoreRequest rescue"), "{held:?}");
    assert_eq!(stored(&site), [kept, next.clone()]);
    let made = ["get", "all,configmaps,secrets,persistentvolumeclaims", "--output=name"];
    let left = || succeed(site.namespace.kubectl(&made), None);
    ask_until("it to make something", || left().contains("rescue").then_some(()));
    // It is cancelled: what it made goes, its disk too.
    delete(&site, "restorerequest/rescue");
    ask_until("what it made to go", || (!left().contains("rescue")).then_some(()));
    ask_until("the prune to go on", || (stored(&site) == [next.clone()]).then_some(()));
    // What a person made stays, and says that its full is gone.
    let gone = site.namespace.await_condition("fullbackup/by-hand", "Deleted", "True");
    assert_eq!(gone.reason, "Gone");
    assert_eq!(condition(&site.namespace.get("fullbackup/next").unwrap(), "Deleted").map(|c| c.status), None);
    delete(&site, "fullbackup/by-hand");
    await_gone(&site, "by-hand");
}

#[test]
#[ignore = "long: make e2e"]
fn a_full_goes_with_its_full_backup_unless_it_is_needed_and_all_of_it_outlives_the_policy() {
    let _operator = operator();
    let site = Site::new("deletion", Flavor::Mysql, Store::S3);
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        site.source().sql("CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT)");
        site.protect_with("schedule: { cron: '30 2 * * *', immediate: false }");
        // There is no other one: without it nothing could be restored.
        let last = full(&site, "last", ", deletionPolicy: Delete");
        delete(&site, "fullbackup/last");
        let refused = site.namespace.await_condition("fullbackup/last", "Deleted", "False");
        assert_eq!(refused.reason, "FullNeeded");
        println!("FullNeeded: {}", refused.message);
        assert_eq!(stored(&site), [last]);
        // The next one takes its place.
        let next = full(&site, "next", ", deletionPolicy: Delete");
        await_gone(&site, "last");
        assert_eq!(stored(&site), std::slice::from_ref(&next));
        // Under the eyes of a restore nothing goes: a Job that waits for a node is stopped when the restore comes.
        let third = full(&site, "third", ", deletionPolicy: Delete");
        patch(
            &site,
            "backuppolicy/shop",
            r#"{"spec": {"jobTemplate": {"spec": {"nodeSelector": {"nowhere": "yes"}}}}}"#,
        );
        delete(&site, "fullbackup/next");
        site.namespace.await_object("fullbackup/next", "its Job to wait", |full| {
            condition(full, "Deleted").filter(|deleted| deleted.reason == "Unschedulable")
        });
        patch(&site, "backuppolicy/shop", r#"{"spec": {"jobTemplate": null}}"#);
        site.request_into(
            "stuck",
            "latest: true",
            "into: { image: 'tidemark.test/nowhere:1', storage: { size: 1Gi } }",
        );
        let held = site.namespace.await_object("fullbackup/next", "to be held", |full| {
            condition(full, "Deleted").filter(|deleted| deleted.reason == "RestoreUnderWay")
        });
        assert!(held.message.contains("RestoreRequest stuck"), "{held:?}");
        site.namespace.await_condition("restorerequest/stuck", "Planned", "True");
        assert_eq!(stored(&site), [next, third.clone()]);
        delete(&site, "restorerequest/stuck");
        await_gone(&site, "next");
        assert_eq!(stored(&site), std::slice::from_ref(&third));

        // Whatever was deleted, what is promised can be restored.
        let newest = load.stop();
        let before = site.source().now();
        site.source().sql("DROP TABLE shop.orders");
        site.await_window_behind(before);
        site.request("rescue", &format!("time: '{before}'"));
        site.await_restored("rescue");
        has_exactly(&site.restored("rescue"), newest);

        // The policy goes, and what it made; the archive stays, and an object that could not take its full with it says so.
        delete(&site, "backuppolicy/shop");
        let ours =
            ["get", "all,configmaps", "--selector=app.kubernetes.io/managed-by=tidemark,tidemark.dev/policy=shop"];
        let left = || succeed(site.namespace.kubectl(&[&ours[..], &["--output=name"]].concat()), None);
        // (What the FullBackup by hand made is its own.)
        ask_until("what the policy made to go", || left().lines().all(|name| name.contains("third")).then_some(()));
        delete(&site, "fullbackup/third");
        await_gone(&site, "third");
        let told = site.namespace.list("events").iter().any(|event| {
            event["reason"] == "FullKept" && event["message"].as_str().is_some_and(|text| text.contains(&third))
        });
        assert!(told, "{:#}", Value::from(site.namespace.list("events")));
        assert_eq!(stored(&site), [third]);
    });
}
