//! Sources that cannot be used, or have lost what was not archived.

use super::*;
use crate::support::Authority;

#[test]
fn a_source_that_cannot_be_used_is_named_with_the_way_out_and_nothing_is_written() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "nobody", "");
    account(&server, "locked_out", &format!("{FULL_GRANTS} locked_out@'%'; ALTER USER locked_out@'%' ACCOUNT LOCK;"));
    let wrong = desk.policy(&server, ("nobody", "wrong"), "", "");
    for verb in ["backup", "stream"] {
        refused(&[verb, "-f", &wrong], UNREACHABLE, &["refused the login of user \"nobody\"", "password"]);
        let locked = desk.policy(&server, ("locked_out", "secret"), "", "");
        refused(&[verb, "-f", &locked], UNREACHABLE, &["UNLOCK"]);
        let poor = desk.policy(&server, ("nobody", "secret"), "", "");
        refused(&[verb, "-f", &poor], 1, &["GRANT"]);
        let storage = format!("storage: {{fs: {{path: {}}}}}", desk.archive().display());
        let nowhere = desk.policy_on("127.0.0.1", 9, ("nobody", "secret"), "", &storage);
        refused(&[verb, "-f", &nowhere], UNREACHABLE, &["127.0.0.1:9", "check host and port"]);
        let other = desk.policy(&server, ("nobody", "secret"), "flavor: mariadb", "");
        refused(&[verb, "-f", &other], USAGE, &["is MySQL", "spec.source.flavor"]);
        desk.policy(&server, ("nobody", "wrong"), "", "");
    }
    assert!(desk.contents().is_empty(), "{:?}", desk.contents());
}

#[test]
fn tls_is_refused_where_the_server_has_none_or_shows_another_certificate() {
    let desk = Desk::new();
    let authority = Authority::new();
    let plain = ServerOptions::mariadb().start();
    account(&plain, "u", "");
    let policy = desk.policy(&plain, ("u", "secret"), "tls: {mode: Required}", "");
    refused(&["backup", "-f", &policy], UNREACHABLE, &["offers no TLS"]);
    let server = ServerOptions::mysql().start();
    account(&server, "u", "");
    let policy = desk.policy(&server, ("u", "secret"), "tls: {mode: VerifyCA, caSecretRef: {name: ca}}", "");
    let pem: String =
        std::fs::read_to_string(authority.ca()).unwrap().lines().map(|line| format!("    {line}\n")).collect();
    let ca = desk.file(
        "ca.yaml",
        &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData:\n  ca.crt: |\n{pem}"),
    );
    refused(&["backup", "-f", &policy, "-f", &ca], UNREACHABLE, &["not trusted", "CA that signed it"]);
    assert!(desk.contents().is_empty());
}

#[test]
fn a_source_without_a_usable_binary_log_is_refused_with_the_statement_that_mends_it() {
    let desk = Desk::new();
    let off = ServerOptions::mysql().arg("--skip-log-bin").start();
    account(&off, "u", &format!("{FULL_GRANTS} u@'%';"));
    let policy = desk.policy(&off, ("u", "secret"), "", "");
    refused(&["stream", "-f", &policy], 1, &["log"]);
    let statement = ServerOptions::mysql().arg("--binlog-format=STATEMENT").start();
    account(&statement, "u", &format!("{FULL_GRANTS} u@'%';"));
    let policy = desk.policy(&statement, ("u", "secret"), "", "");
    let mut stream = Process::spawn(tidemark_command(["stream", "-f", &policy]));
    stream.wait_for_line("binlog_format", Duration::from_secs(20));
}

#[test]
fn a_purged_binary_log_is_named_by_gtid_and_no_restore_goes_past_it() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    done(&["backup", "-f", &policy, "-o", "json"]);
    let stream = stream_of(&policy);
    desk.archived();
    stop(stream);
    let before = desk.contents();
    let uuid = server.sql("SELECT @@server_uuid");
    let last: u64 = server.gtids().rsplit_once('-').unwrap().1.parse().unwrap();
    server.sql("INSERT INTO d.t (id) VALUES (3); FLUSH BINARY LOGS; INSERT INTO d.t (id) VALUES (4)");
    let newest = server.binlogs().last().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    server.sql(&format!("PURGE BINARY LOGS TO '{newest}'"));

    let missing = format!("{uuid}:{}", last + 1);
    let mut stream = stream_of(&policy);
    let line = stream.wait_for_line("GAP", Duration::from_secs(30));
    assert!(line.contains(&missing), "{line}");
    let status = wait_for("the gap in the status", Duration::from_secs(30), || {
        Some(desk.status()).filter(|status| status["windows"][0]["missing"] == missing.as_str())
    });
    stop(stream);
    assert_eq!(status["windows"].as_array().map(Vec::len), Some(1), "{status:#}");
    let screen = String::from_utf8(tidemark(&["status", "-f", &policy]).stdout).unwrap();
    assert!(screen.lines().any(|line| line.contains("GAP") && line.contains(&missing)), "{screen}");
    let behind = format!("{uuid}:{}", last + 2);
    for target in [&missing, &behind] {
        refused(
            &["restore", "-f", &policy, "--dry-run", "--to-gtid", target],
            REFUSED,
            &[missing.as_str(), "reachable", &format!("{uuid}:1-{last}")],
        );
    }
    desk.keeps(&before);
}
