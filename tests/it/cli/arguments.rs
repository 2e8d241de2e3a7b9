//! Arguments and manifests: what is wrong is refused by name before anything is touched.

use super::*;

#[test]
fn help_teaches_and_usage_errors_exit_with_2() {
    for verb in ["run", "backup", "stream", "status", "restore", "serve"] {
        let output = tidemark(&[verb, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("Examples:") && text.contains("policy.yaml"),
            "{verb}: {text}"
        );
    }
    assert!(String::from_utf8_lossy(&tidemark(&["--help"]).stdout).contains("Exit codes:"));
    for arguments in [&["backup"][..], &["conjure"], &["restore", "-f", "x", "--latest", "--to-gtid", "y"]] {
        assert_eq!(tidemark(arguments).status.code(), Some(USAGE), "{arguments:?}");
    }
}

#[test]
fn a_manifest_that_is_wrong_or_asks_for_what_is_not_there_yet_is_refused_by_field() {
    let desk = Desk::new();
    let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
    for (source, spec, words) in [
        ("hst: x", "", &["spec.source.hst", "did you mean `host`"][..]),
        ("", "copies: [{name: b, storage: {fs: {path: /b}}}]", &["spec.copies", "does not keep copies yet"]),
        ("", "encryption: {recipients: [age1x]}", &["spec.encryption", "does not encrypt archives yet"]),
        ("", "drill: {cron: '0 0 * * *'}", &["spec.drill"]),
        ("", "method: clone", &["spec.method", "logical"]),
        ("", "schedule: {cron: '0 0 * *'}", &["spec.schedule.cron", "five fields"]),
        ("", "schedule: {cron: '0 0 * * *', timeZone: Mars/Base}", &["spec.schedule.timeZone", "Mars/Base"]),
        ("hosts: [a, b]", "", &["spec.source", "exactly one of host, hosts and serviceRef"]),
        ("tls: {mode: VerifyCA}", "", &["spec.source.tls", "caSecretRef"]),
        ("tls: {caSecretRef: {name: ca}}", "", &["spec.source.tls.caSecretRef", "no Secret \"ca\"", "there: login"]),
    ] {
        let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), source, &format!("{storage}\n  {spec}"));
        refused(&["backup", "-f", &policy], USAGE, words);
    }
    let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), "", "storage: {}");
    refused(&["backup", "-f", &policy], USAGE, &["spec.storage", "exactly one store"]);
    let service = std::fs::read_to_string(&policy).unwrap().replace("host: 127.0.0.1", "serviceRef: {name: db}");
    let service = desk.file("service.yaml", &service);
    refused(&["backup", "-f", &service], USAGE, &["spec.source.serviceRef", "in a cluster only"]);
    refused(&["backup", "-f", "/nowhere.yaml"], USAGE, &["/nowhere.yaml"]);
    refused(&["backup", "-f", &policy, "--policy", "other"], USAGE, &["other", "there are: shop"]);
    assert!(desk.contents().is_empty());
}

#[test]
fn a_restore_names_its_target_its_server_and_its_login_or_is_refused() {
    let desk = Desk::new();
    let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
    let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), "", &storage);
    let restore = |rest: &[&str], words: &[&str]| {
        let mut arguments = vec!["restore", "-f", policy.as_str()];
        arguments.extend(rest);
        refused(&arguments, USAGE, words)
    };
    restore(&["--to-time", "2026-11-21T03:04:05", "--dry-run"], &["2026-11-21T03:04:05", "with a zone"]);
    restore(&["--to-position", "binlog.000001", "--dry-run"], &["FILE:OFFSET"]);
    restore(&["--latest"], &["--into HOST:PORT"]);
    restore(&["--latest", "--into", "db.example"], &["HOST:PORT"]);
    restore(&["--latest", "--into", "127.0.0.1:1"], &["TIDEMARK_TARGET_PASSWORD"]);
    restore(&["--latest", "--into", "127.0.0.1:1", "--into-secret", "x"], &["no Secret \"x\""]);
    restore(&[], &["--to-time", "RestoreRequest"]);
}

#[test]
fn a_restore_into_another_host_says_how_that_host_reaches_this_one() {
    let desk = Desk::new();
    let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
    let policy = desk.policy_on("127.0.0.1", 1, ("u", "p"), "", &storage);
    let arguments = ["restore", "-f", &policy, "--latest", "--dry-run", "--serve-listen", "0.0.0.0:3310"];
    refused(&arguments, USAGE, &["no server can connect to 0.0.0.0", "--serve-advertise"]);
    let request = desk.file(
        "request.yaml",
        "apiVersion: tidemark.dev/v1alpha1\nkind: RestoreRequest\nmetadata: {name: r}\nspec:\n  policyRef: {name: shop}\n  \
         target: {latest: true}\n  intoExisting: {host: h, credentialsSecretRef: {name: login}, serveListen: backup.example:3310}\n",
    );
    refused(&["restore", "-f", &policy, "-f", &request], USAGE, &["spec.intoExisting.serveListen", "192.0.2.7:3310"]);
}
