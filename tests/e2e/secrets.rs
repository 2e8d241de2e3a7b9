//! Nothing but a Secret shows a secret.

use crate::cluster::{OPERATOR_NAMESPACE, kubectl, run, succeed};
use crate::database::{Site, Store};

/// Fails if a password or a key of the site, of the server that `request` made, or one of `more` is in any object of the namespace but its Secrets, in a
/// log, or in what the archive says in clear.
pub fn none_shows(site: &Site, request: &str, more: &[&str]) {
    let mut secrets = site.secrets(request).to_vec();
    secrets.extend(more.iter().map(|secret| (*secret).to_owned()));
    let namespace = &site.namespace;
    let kinds = "all,configmaps,endpoints,persistentvolumeclaims,events,tidemark";
    let mut places =
        vec![("the objects".to_owned(), succeed(namespace.kubectl(&["get", kinds, "--output=yaml"]), None))];
    for pod in namespace.list("pods") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        for previous in ["--previous=false", "--previous"] {
            let log = run(namespace.kubectl(&["logs", name, "--all-containers", "--ignore-errors", previous]), None);
            places.push((format!("the log of {name}"), String::from_utf8_lossy(&log.stdout).into_owned()));
        }
    }
    let operator = ["--namespace", OPERATOR_NAMESPACE, "logs", "deployment/tidemark"];
    places.push(("the operator's log".to_owned(), succeed(kubectl(&operator), None)));
    if site.store() == Store::S3 {
        let read = "find /data -name '*.json' -type f -exec cat '{}' +";
        let archive = succeed(namespace.kubectl(&["exec", "deployment/s3", "--", "sh", "-c", read]), None);
        assert!(archive.contains("\"first_server\""), "the archive's objects are somewhere else: {archive}");
        places.push(("the archive".to_owned(), archive));
    }
    for (place, text) in &places {
        for secret in &secrets {
            assert!(secret.len() > 8 && !text.contains(secret), "{place} shows a secret");
        }
    }
    let seen = places.iter().map(|(_, text)| text.len()).sum::<usize>();
    assert!(seen > 10_000, "nothing was looked at");
    println!("no secret in {seen} bytes of objects, logs and archive");
}
