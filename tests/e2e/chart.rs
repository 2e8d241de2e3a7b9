//! The chart and the samples, as the cluster takes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Namespace, helm, operator, succeed};

#[test]
fn the_chart_is_clean_and_renders_with_everything_switched_on() {
    helm(&["lint", "--strict", "charts/tidemark"]);
    let _operator = operator();
    let everything = "replicas=2,networkPolicy.enabled=true,metrics.dashboard.enabled=true,watchNamespace=team-a";
    let rendered = helm(&[
        "template",
        "all",
        "charts/tidemark",
        "--kube-version",
        "1.31",
        "--namespace",
        "default",
        "--set",
        everything,
    ]);
    let namespace = Namespace::new("team-a");
    let rendered = rendered.replace("namespace: team-a", &format!("namespace: {}", namespace.0));
    succeed(crate::cluster::kubectl(&["apply", "--dry-run=server", "-f", "-"]), Some(&rendered));
}

#[test]
fn kustomize_renders_what_helm_renders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut check = Command::new(root.join("tests/tools/config"));
    check.arg("--check");
    succeed(check, None);
    let objects = |text: &str| -> BTreeMap<String, Value> {
        let documents = serde_yaml::Deserializer::from_str(text).map(|d| Value::deserialize(d).unwrap());
        let named = documents.filter(|object| object != &Value::Null).map(|mut object| {
            without_helm(&mut object);
            (format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap()), object)
        });
        named.collect()
    };
    let version = ["--kube-version", "1.31"];
    let namespace = ["--namespace", "tidemark-system"];
    let rendered = helm(&[&["template", "tidemark", "charts/tidemark"][..], &version[..], &namespace[..]].concat());
    let mut built =
        objects(&succeed(crate::cluster::kubectl(&["kustomize", root.join("config/default").to_str().unwrap()]), None));
    assert!(built.remove("Namespace/tidemark-system").is_some(), "helm makes it by --create-namespace");
    assert_eq!(built, objects(&rendered));
}

/// What only Helm needs.
fn without_helm(object: &mut Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for part in ["labels", "annotations"] {
        let Some(entries) = metadata.get_mut(part).and_then(Value::as_object_mut) else { continue };
        entries.retain(|key, value| !key.starts_with("helm.sh/") && value != "Helm");
        if entries.is_empty() {
            metadata.remove(part);
        }
    }
}

#[test]
fn the_api_server_takes_every_sample() {
    let _operator = operator();
    let namespace = Namespace::new("samples");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut samples = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let path = path.to_str().unwrap();
        succeed(namespace.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", path]), None);
        samples += 1;
    }
    assert!(samples >= 3);
}
