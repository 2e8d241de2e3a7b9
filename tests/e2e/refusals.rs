//! Manifests that are wrong, each with a word that names the field and the way out; and what only the world can say is wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemark::model::Flavor;

use crate::cluster::{Namespace, condition, operator, succeed};
use crate::database::{Site, Store};

fn policy() -> Value {
    json!({
        "apiVersion": "tidemark.dev/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "good"},
        "spec": {
            "source": {"host": "db", "credentialsSecretRef": {"name": "login"}},
            "schedule": {"cron": "30 2 * * *"},
            "storage": {"s3": {"bucket": "backups", "region": "us-east-1"}}
        }
    })
}

fn full() -> Value {
    json!({
        "apiVersion": "tidemark.dev/v1alpha1", "kind": "FullBackup", "metadata": {"name": "good"},
        "spec": {"policyRef": {"name": "orders"}}
    })
}

fn restore() -> Value {
    json!({
        "apiVersion": "tidemark.dev/v1alpha1", "kind": "RestoreRequest", "metadata": {"name": "good"},
        "spec": {
            "policyRef": {"name": "orders"}, "target": {"latest": true},
            "into": {"image": "mysql:9.7", "storage": {"size": "1Gi"}}
        }
    })
}

/// A good manifest, what is written over it (null takes away), and what kubectl must say.
type Wrong = (fn() -> Value, Value, &'static str);

fn all() -> Vec<Wrong> {
    let s3 = |s3: Value| json!({"spec": {"storage": {"s3": s3}}});
    let source = |source: Value| json!({"spec": {"source": source}});
    let schedule = |schedule: Value| json!({"spec": {"schedule": schedule}});
    let target = |target: Value| json!({"spec": {"target": target}});
    vec![
        (policy, json!({"metadata": {"name": "a".repeat(45)}}), "at most 44 letters"),
        (policy, json!({"metadata": {"name": "with.dot"}}), "at most 44 letters"),
        (policy, json!({"spec": {"source": null}}), "spec.source: Required value"),
        (policy, json!({"spec": {"storage": null}}), "spec.storage: Required value"),
        (policy, source(json!({"host": null})), "exactly one of host, hosts, serviceRef and selector"),
        (policy, source(json!({"serviceRef": {"name": "db"}})), "exactly one of host, hosts, serviceRef and selector"),
        (policy, source(json!({"selector": {"matchLabels": {"app": "db"}}})), "exactly one of host, hosts, serviceRef"),
        (policy, source(json!({"host": null, "selector": {"matchLabels": {}}})), "spec.source.selector.matchLabels"),
        (policy, source(json!({"host": "mysql://db"})), "without scheme"),
        (policy, source(json!({"host": "db:3306"})), "the port is written as port"),
        (policy, source(json!({"host": null, "hosts": []})), "spec.source.hosts"),
        (policy, source(json!({"port": 0})), "spec.source.port"),
        (policy, source(json!({"port": 70_000})), "spec.source.port"),
        (policy, source(json!({"flavor": "postgres"})), "spec.source.flavor: Unsupported value"),
        (policy, source(json!({"credentialsSecretRef": null})), "spec.source.credentialsSecretRef: Required value"),
        (policy, source(json!({"tls": {"mode": "VerifyCA"}})), "VerifyCA needs caSecretRef"),
        (policy, source(json!({"tls": {"mode": "Sometimes"}})), "spec.source.tls.mode: Unsupported value"),
        (policy, schedule(json!({"cron": "every night"})), "write five fields"),
        (policy, schedule(json!({"cron": ""})), "spec.schedule.cron"),
        (policy, schedule(json!({"concurrencyPolicy": "Maybe"})), "spec.schedule.concurrencyPolicy: Unsupported value"),
        (policy, schedule(json!({"startingDeadlineSeconds": -1})), "spec.schedule.startingDeadlineSeconds"),
        (policy, json!({"spec": {"storage": {"fs": {"path": "/a", "claimName": "c"}}}}), "exactly one store"),
        (policy, json!({"spec": {"storage": {"s3": null}}}), "exactly one store"),
        (policy, json!({"spec": {"storage": {"s3": null, "fs": {"path": "a", "claimName": "c"}}}}), "absolute path"),
        (policy, s3(json!({"endpoint": "minio:9000"})), "write https://HOST[:PORT]"),
        (policy, s3(json!({"bucket": ""})), "spec.storage.s3.bucket"),
        (policy, json!({"spec": {"compression": {"level": 22}}}), "spec.compression.level"),
        (policy, json!({"spec": {"method": "magic"}}), "spec.method: Unsupported value"),
        (policy, json!({"spec": {"binlog": {"flushInterval": "soon"}}}), "spec.binlog.flushInterval"),
        (policy, json!({"spec": {"binlog": {"segmentSize": "much"}}}), "spec.binlog.segmentSize"),
        (policy, json!({"spec": {"retention": {"window": "a while"}}}), "spec.retention.window"),
        (policy, json!({"spec": {"retention": {"keepLast": -1}}}), "spec.retention.keepLast"),
        (full, json!({"metadata": {"name": "a".repeat(64)}}), "at most 63 characters"),
        (full, json!({"spec": {"policyRef": null}}), "spec.policyRef: Required value"),
        (restore, json!({"spec": {"policyRef": null}}), "exactly one of policyRef and storage"),
        (restore, json!({"spec": {"storage": {"s3": {"bucket": "backups"}}}}), "exactly one of policyRef and storage"),
        (restore, json!({"spec": {"into": null}}), "exactly one of into and intoExisting"),
        (restore, json!({"metadata": {"name": "1st"}}), "a letter first"),
        (restore, target(json!({"latest": null})), "exactly one target"),
        (restore, target(json!({"gtid": "a:1"})), "exactly one target"),
        (restore, target(json!({"latest": null, "time": "2026-11-21 03:04:05"})), "spec.target.time"),
        (restore, target(json!({"latest": null, "position": "binlog.000001"})), "spec.target.position"),
        (restore, target(json!({"exclusive": true})), "nothing to stop before"),
        (restore, json!({"spec": {"into": {"storage": {"size": "big"}}}}), "spec.into.storage.size"),
        (restore, json!({"spec": {"into": {"image": ""}}}), "spec.into.image"),
    ]
}

/// Writes `over` into `value`, field by field.
fn merge(value: &mut Value, over: &Value) {
    let Value::Object(fields) = over else {
        *value = over.clone();
        return;
    };
    for (key, over) in fields {
        if over.is_null() {
            value.as_object_mut().unwrap().remove(key);
        } else if over.is_object() && value[key].is_object() {
            merge(&mut value[key], over);
        } else {
            value[key] = over.clone();
        }
    }
}

#[test]
fn what_is_wrong_in_a_manifest_is_said_by_kubectl_apply() {
    let _operator = operator();
    let namespace = Namespace::new("refusals");
    for good in [policy, full, restore] {
        succeed(namespace.kubectl(&["apply", "--dry-run=server", "-f", "-"]), Some(&good().to_string()));
    }
    let wrongs = all();
    let mut silent = Vec::new();
    for (good, over, expected) in &wrongs {
        let mut manifest = good();
        merge(&mut manifest, over);
        let said = namespace.refusal(&manifest.to_string());
        if !said.as_ref().is_some_and(|said| said.contains(expected)) {
            silent.push(format!("{over}: expected {expected:?}, kubectl said {said:?}"));
        }
    }
    assert!(silent.is_empty(), "{} of {} manifests:\n{}", silent.len(), wrongs.len(), silent.join("\n"));
    // A piece of work is not changed afterwards.
    for (kind, object, change) in [
        ("fullbackup/good", full(), r#"{"spec":{"policyRef":{"name":"other"}}}"#),
        ("restorerequest/good", restore(), r#"{"spec":{"dryRun":true}}"#),
    ] {
        namespace.apply(&object.to_string());
        let said = namespace.patch_refusal(kind, change);
        assert!(said.contains("make another one"), "{said}");
    }
    println!("{} manifests refused, each by its field", wrongs.len());
}

#[test]
fn what_only_the_world_can_say_becomes_a_condition_with_the_way_out() {
    let _operator = operator();
    let site = Site::new("conditions", Flavor::Mysql, Store::S3);
    let expect = |reason: &str, words: &str| {
        let asked = Instant::now();
        let ready = site.namespace.await_object("backuppolicy/shop", reason, |policy| {
            condition(policy, "Ready").filter(|ready| ready.reason == reason)
        });
        assert_eq!(ready.status, "False", "{ready:?}");
        assert!(ready.message.contains(words), "{ready:?}");
        println!("{reason} after {:.1} s", asked.elapsed().as_secs_f64());
        asked.elapsed()
    };
    // A password that is wrong; a GRANT that is missing; a bucket that is not there; and each of it put right.
    site.source().sql("REVOKE REPLICATION SLAVE ON *.* FROM tidemark");
    site.protect_as("wrong", "nowhere");
    expect("SourceDenied", "tidemark");
    site.protect_as("pw-of-tidemark", "nowhere");
    // The kubelet alone would take a minute or two to put the Secret into the pod.
    let took = expect("BucketMissing", "nowhere");
    assert!(took < Duration::from_secs(50), "a Secret that was corrected is noticed within seconds");
    site.protect();
    expect("MissingGrant", "GRANT REPLICATION SLAVE");
    site.source().sql("GRANT REPLICATION SLAVE ON *.* TO tidemark");
    let mended = Instant::now();
    site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
    println!("Ready {:.1} s after the last was mended", mended.elapsed().as_secs_f64());
}
