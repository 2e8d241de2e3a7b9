//! Figures as Prometheus would read them, through the API server.

use crate::cluster::{kubectl, run};

/// The answer to a GET at the API server; none where nobody answers.
pub fn raw(path: &str) -> Option<String> {
    let output = run(kubectl(&["get", "--raw", path]), None);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Metrics of a pod or Service (`pods/NAME:PORT`, `services/NAME:PORT`).
pub fn of(namespace: &str, target: &str) -> Option<String> {
    raw(&format!("/api/v1/namespaces/{namespace}/{target}/proxy/metrics"))
}

/// Values of a metric whose labels hold all of these `name="value"`, each with its labels.
fn values<'a>(text: &'a str, metric: &str, labels: &[&str]) -> Vec<(&'a str, f64)> {
    text.lines()
        .filter_map(|line| {
            let (series, value) = line.strip_prefix(metric)?.split_once("} ")?;
            let series = series.strip_prefix('{')?;
            labels.iter().all(|label| series.contains(label)).then(|| (series, value.parse().unwrap()))
        })
        .collect()
}

/// The sum of a metric over what has these labels.
pub fn sum(text: &str, metric: &str, labels: &[&str]) -> f64 {
    // Not `sum()`: of nothing that is -0.
    values(text, metric, labels).iter().fold(0.0, |sum, (_, value)| sum + value)
}

/// The bound of the bucket that a quantile of a histogram is in; infinite where it is in none.
pub fn quantile(text: &str, histogram: &str, labels: &[&str], share: f64) -> f64 {
    let buckets = values(text, &format!("{histogram}_bucket"), labels);
    let bound = |series: &str| -> f64 {
        let text = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
        text.parse().unwrap_or(f64::INFINITY)
    };
    let mut buckets: Vec<(f64, f64)> = buckets.iter().map(|(series, count)| (bound(series), *count)).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = buckets.last().map_or(0.0, |bucket| bucket.1);
    buckets.iter().find(|(_, count)| *count >= all * share).map_or(f64::INFINITY, |bucket| bucket.0)
}
