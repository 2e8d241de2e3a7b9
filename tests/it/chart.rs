//! The chart names what the binary has: metrics and runbooks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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
