//! The chart names what the binary has: metrics and runbooks; its alerts speak when they should.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::support::tool;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("tidemark_")).collect()
}

#[test]
fn alerts_the_dashboard_and_runbooks_name_metrics_that_there_are() {
    let page = read("docs/metrics.md");
    let documented = metrics(&page);
    for file in ["charts/tidemark/files/alerts.yaml", "charts/tidemark/files/dashboard.json", "docs/runbooks.md"] {
        let text = read(file);
        let named = metrics(&text);
        assert!(!named.is_empty(), "{file} names no metric");
        for metric in named {
            let name = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(documented.contains(name), "{file}: {metric} is not in docs/metrics.md");
        }
    }
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let (alerts, page) = (read("charts/tidemark/files/alerts.yaml"), read("docs/runbooks.md"));
    let told: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let linked: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.split_once("docs/runbooks.md#")).map(|l| l.1).collect();
    let pages: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(told, pages);
    assert_eq!(
        linked,
        told.iter().map(|alert| alert.to_lowercase()).collect::<Vec<_>>().iter().map(String::as_str).collect()
    );
}

#[test]
fn every_alert_is_silent_until_it_should_speak() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases: serde_yaml::Value = serde_yaml::from_str(&read("tests/it/alerts.yaml")).unwrap();
    let (mut silent, mut speak) = (BTreeSet::new(), BTreeSet::new());
    for case in
        cases["tests"].as_sequence().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_sequence().unwrap())
    {
        let none = case["exp_alerts"].as_sequence().unwrap().is_empty();
        if none { &mut silent } else { &mut speak }.insert(case["alertname"].as_str().unwrap());
    }
    let alerts = read("charts/tidemark/files/alerts.yaml");
    let told: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!((&silent, &speak), (&told, &told), "alerts that tests/it/alerts.yaml tries both ways");

    let output = Command::new(tool("promtool", &["promtool"]))
        .args(["test", "rules", "tests/it/alerts.yaml"])
        .current_dir(root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What is rendered is compared by `tests/tools/config --check`, which needs helm.
#[test]
fn what_kustomize_has_was_made_from_this_chart() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tidemark");
    let (mut folders, mut files) = (vec![chart.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&chart).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true if name == "files/crds" => {}
                true => folders.push(path),
                false => files.push((name, fs::read(path).unwrap())),
            }
        }
    }
    files.sort();
    let mut sum = Sha256::new();
    files.iter().for_each(|(_, bytes)| sum.update(bytes));
    let line = format!("# Chart: sha256:{:x}", sum.finalize());
    for file in ["config/default/operator.yaml", "config/monitoring/rules.yaml"] {
        assert_eq!(read(file).lines().nth(1), Some(line.as_str()), "{file} is of another chart: run `make config`");
    }
}

#[test]
fn the_kustomize_base_of_the_crds_has_them_all() {
    let base: serde_yaml::Value = serde_yaml::from_str(&read("crds/kustomization.yaml")).unwrap();
    let listed: BTreeSet<&str> = base["resources"].as_sequence().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    let made: Vec<String> =
        tidemark::api::crds().iter().map(|crd| format!("{}.yaml", crd.metadata.name.as_ref().unwrap())).collect();
    assert_eq!(listed, made.iter().map(String::as_str).collect());
}
