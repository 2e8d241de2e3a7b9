//! The chart and the samples, as the cluster takes them.

use std::fs;
use std::path::Path;

use crate::cluster::{Namespace, helm, operator, succeed};

#[test]
fn the_chart_is_clean_and_renders_with_everything_switched_on() {
    helm(&["lint", "--strict", "charts/tidemark"]);
    operator();
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
fn the_api_server_takes_every_sample() {
    operator();
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
