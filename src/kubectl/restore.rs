//! `kubectl tidemark restore`.

use std::fmt::Write;

use indicatif::HumanBytes;
use kube::ResourceExt;
use kube::api::{DeleteParams, ObjectMeta};
use snafu::ResultExt;

use super::args::RestoreArgs;
use super::cluster::Cluster;
use super::error::{ApiSnafu, Error, explain};
use super::follow::follow;
use crate::api::{
    BackupPolicy, DecryptionSpec, IntoSpec, IntoStorageSpec, ObjectRef, RestorePlanStatus, RestoreRequest,
    RestoreRequestSpec, RestoreRequestStatus, SecretKeyRef, TargetSpec,
};

/// Longest name of a request that makes a server.
const NAME_MAX: usize = 50;

/// Makes a RestoreRequest, or shows what it would do.
pub async fn run(cluster: &Cluster, args: RestoreArgs) -> Result<(), Error> {
    cluster.get::<BackupPolicy>(&args.policy).await?;
    let made = cluster.create(&request(&args)).await?;
    let name = made.name_any();
    if args.dry_run {
        let planned = tokio::select! {
            planned = follow(cluster, &made) => planned,
            _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
        };
        // It was made for the plan alone.
        let deleted = cluster.api::<RestoreRequest>().delete(&name, &DeleteParams::default()).await;
        if let Err(error) = &deleted {
            eprintln!("restorerequest/{name} was made for the plan and is still there, delete it: {}", explain(error));
        }
        let status = planned?.status.unwrap_or_default();
        print!("{}", plan_in_words(&status.plan.unwrap_or_default()));
        return deleted.map(|_| ()).context(ApiSnafu { doing: format!("delete restorerequest/{name}") });
    }
    println!("restorerequest.tidemark.dev/{name} created");
    if args.wait {
        let status = follow(cluster, &made).await?.status.unwrap_or_default();
        print!("{}", result_in_words(&cluster.namespace, &status));
    }
    Ok(())
}

fn request(args: &RestoreArgs) -> RestoreRequest {
    let RestoreArgs {
        policy,
        to_time,
        to_gtid,
        to_position,
        latest,
        exclusive,
        skip_gtid,
        allow_nearest,
        as_of,
        identity_secret,
        name,
        image,
        storage,
        storage_class,
        dry_run,
        wait: _,
    } = args;
    let metadata = if *dry_run {
        // Room for the five letters that the API server adds. A dry run must not take the name of the restore that follows it.
        let kept: String = name.chars().take(NAME_MAX - "-plan-".len() - 5).collect();
        ObjectMeta { generate_name: Some(format!("{kept}-plan-")), ..ObjectMeta::default() }
    } else {
        ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() }
    };
    let target = TargetSpec {
        time: to_time.clone(),
        gtid: to_gtid.clone(),
        position: to_position.clone(),
        latest: *latest,
        exclusive: *exclusive,
        skip_gtids: skip_gtid.clone(),
        allow_nearest: *allow_nearest,
    };
    let disk = IntoStorageSpec { size: *storage, storage_class_name: storage_class.clone(), labels: [].into() };
    let into = IntoSpec { image: image.clone(), storage: disk, resources: None, service: None, pod_template: None };
    let spec = RestoreRequestSpec {
        policy_ref: Some(ObjectRef { name: policy.clone() }),
        storage: None,
        as_of: as_of.clone(),
        target,
        tables: Vec::new(),
        databases: Vec::new(),
        into: Some(into),
        into_existing: None,
        decryption: identity_secret.as_deref().map(decryption),
        checks: None,
        dry_run: *dry_run,
    };
    RestoreRequest { metadata, spec, status: None }
}

/// `NAME` or `NAME/KEY`.
fn decryption(secret: &str) -> DecryptionSpec {
    let (name, key) = secret.split_once('/').map_or((secret, None), |(name, key)| (name, Some(key.to_owned())));
    DecryptionSpec { identity_secret_ref: SecretKeyRef { name: name.to_owned(), key } }
}

fn plan_in_words(plan: &RestorePlanStatus) -> String {
    let RestorePlanStatus { base, flavor, server_version, binlogs, first_binlog, last_binlog, bytes, eta, notes } =
        plan;
    let mut out = String::new();
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<9} {value}");
    };
    let source = [flavor.as_deref(), server_version.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    fact("full", &if source.is_empty() { base.clone() } else { format!("{base} of {source}") });
    fact(
        "binlogs",
        &match (first_binlog, last_binlog) {
            (Some(first), Some(last)) => format!("{binlogs}, {first} to {last}"),
            _ => binlogs.to_string(),
        },
    );
    fact("to read", &HumanBytes(*bytes).to_string());
    if let Some(eta) = eta {
        fact("takes", &format!("about {eta}, without waiting for a node, the image and the disk"));
    }
    for note in notes {
        fact("note", note);
    }
    let _ = writeln!(out, "Nothing was made: run it again without --dry-run.");
    out
}

fn result_in_words(namespace: &str, status: &RestoreRequestStatus) -> String {
    let mut out = String::new();
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    if status.restored_to.is_some() {
        let _ = writeln!(out, "restored to {}", known(&status.restored_to));
    }
    let _ = writeln!(out, "proved and open after {}", known(&status.measured_rto));
    if let (Some(service), Some(secret)) = (&status.service, &status.secret) {
        let _ = writeln!(out, "server      Service {service} in {namespace}");
        let path = "-o jsonpath='{.data.password}' | base64 -d";
        let _ = writeln!(out, "password    kubectl get secret {secret} -n {namespace} {path}");
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json, to_value};

    use super::*;
    use crate::kubectl::args::{Cli, Verb};

    fn body(extra: &[&str]) -> Value {
        let given =
            ["kubectl-tidemark", "restore", "orders", "--name", "rescue", "--image", "mysql:9.7", "--storage", "50Gi"];
        let Verb::Restore(args) = Cli::try_parse_from([&given, extra].concat()).unwrap().verb else { panic!() };
        to_value(request(&args)).unwrap()
    }

    /// What the manifest must say beside the target.
    fn expected(metadata: Value, target: Value, dry_run: bool) -> Value {
        json!({"apiVersion": "tidemark.dev/v1alpha1", "kind": "RestoreRequest", "metadata": metadata, "spec": {
            "policyRef": {"name": "orders"}, "target": target, "into": {"image": "mysql:9.7", "storage": {"size": "50Gi"}},
            "dryRun": dry_run}})
    }

    #[test]
    fn arguments_become_the_manifest_that_a_person_would_write() {
        let target = |known: Value| {
            let mut target = json!({"latest": false, "exclusive": false, "allowNearest": false});
            target.as_object_mut().unwrap().extend(known.as_object().unwrap().clone());
            target
        };
        let time = "2026-11-21T03:04:05+01:00";
        let named = json!({"name": "rescue"});
        assert_eq!(body(&["--to-time", time]), expected(named.clone(), target(json!({"time": time})), false));
        assert_eq!(
            body(&["--to-gtid", "0-1-7", "--exclusive", "--skip-gtid", "0-1-5", "--allow-nearest"]),
            expected(
                named.clone(),
                target(json!({"gtid": "0-1-7", "exclusive": true, "skipGTIDs": "0-1-5", "allowNearest": true})),
                false
            )
        );
        assert_eq!(
            body(&["--to-position", "binlog.000042:1337"]),
            expected(named.clone(), target(json!({"position": "binlog.000042:1337"})), false)
        );
        assert_eq!(body(&["--latest"]), expected(named, target(json!({"latest": true})), false));
        assert_eq!(
            body(&["--latest", "--dry-run"]),
            expected(json!({"generateName": "rescue-plan-"}), target(json!({"latest": true})), true)
        );
        let classy = body(&["--latest", "--storage-class", "fast"]);
        assert_eq!(classy["spec"]["into"]["storage"], json!({"size": "50Gi", "storageClassName": "fast"}));
    }

    #[test]
    fn a_plan_and_a_result_are_told_in_full() {
        let plan = RestorePlanStatus {
            base: "20261121T023000Z-1".to_owned(),
            flavor: Some("mysql".to_owned()),
            server_version: Some("9.7.0".to_owned()),
            binlogs: 12,
            first_binlog: Some("binlog.000042".to_owned()),
            last_binlog: Some("binlog.000053:1337".to_owned()),
            bytes: 1_503_238_554,
            eta: Some("5m0s".to_owned()),
            notes: vec!["0-1-5 is left out".to_owned()],
        };
        assert_eq!(
            plan_in_words(&plan),
            "full      20261121T023000Z-1 of mysql 9.7.0
binlogs   12, binlog.000042 to binlog.000053:1337
to read   1.40 GiB
takes     about 5m0s, without waiting for a node, the image and the disk
note      0-1-5 is left out
Nothing was made: run it again without --dry-run.
"
        );
        let status = RestoreRequestStatus {
            restored_to: Some("2026-11-21T02:04:04.9Z".to_owned()),
            measured_rto: Some("1m12s".to_owned()),
            service: Some("rescue".to_owned()),
            secret: Some("rescue-root".to_owned()),
            ..RestoreRequestStatus::default()
        };
        assert_eq!(
            result_in_words("shop", &status),
            "restored to 2026-11-21T02:04:04.9Z
proved and open after 1m12s
server      Service rescue in shop
password    kubectl get secret rescue-root -n shop -o jsonpath='{.data.password}' | base64 -d
"
        );
    }
}
