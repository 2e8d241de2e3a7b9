//! The kubectl plugin where there is no cluster; `tests/e2e` uses it on one.

use std::process::{Command, Output};

use crate::support::plugin;

fn run(args: &[&str]) -> (Output, String) {
    let output = Command::new(plugin())
        .args(args)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    (output, text)
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    for args in
        [&["status"][..], &["status", "--kubeconfig", "/nonexistent/config"], &["logs", "policy/a", "--context", "b"]]
    {
        let (output, said) = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("which cluster?") && said.contains("--kubeconfig FILE"), "{args:?}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    // Port 9 discards; nobody listens there.
    std::fs::write(
        &kubeconfig,
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
         users: [{name: u, user: {}}], clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]}",
    )
    .unwrap();
    let (output, said) = run(&["backup", "orders", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot read BackupPolicy orders") && said.contains("refused"), "{said}");
    let (_, said) = run(&["status", "--kubeconfig", kubeconfig.to_str().unwrap(), "--context", "other"]);
    assert!(said.contains("which cluster?") && said.contains("other"), "{said}");
}

#[test]
fn every_verb_teaches_by_examples_and_refuses_what_it_does_not_know() {
    for verb in ["status", "backup", "restore", "logs"] {
        let (output, said) = run(&[verb, "--help"]);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&format!("Usage: kubectl tidemark {verb}")), "{said}");
        assert!(said.contains("Examples:\n  kubectl tidemark ") && said.contains("--namespace"), "{said}");
    }
    for args in [&["logs", "orders"][..], &["restore", "orders", "--latest"], &["verify"]] {
        let (output, said) = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    }
}
