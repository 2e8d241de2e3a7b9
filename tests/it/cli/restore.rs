//! Restores through the binary: what is refused, what is asked for by a document, what a signal interrupts.

use super::*;

#[test]
fn a_target_outside_the_window_is_refused_with_what_is_reachable_and_the_plan_is_shown_without_a_server() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let plan = |target: &[&str]| {
        let mut arguments = vec!["restore", "-f", policy.as_str(), "--dry-run", "-o", "json"];
        arguments.extend(target);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let no_full: Vec<String> = plan(&["--latest"]);
    let no_full: Vec<&str> = no_full.iter().map(String::as_str).collect();
    refused(&no_full, 1, &["no archive"]);
    let full = done(&["backup", "-f", &policy, "-o", "json"]);
    let archive = desk.contents();
    for target in [
        &["--to-time", "2020-01-01T00:00:00Z"][..],
        &["--to-time", "2100-01-01T00:00:00Z"],
        &["--to-gtid", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"],
    ] {
        let arguments = plan(target);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&arguments, REFUSED, &["reachable"]);
    }
    let arguments = plan(&["--to-gtid", full["gtids"].as_str().unwrap()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(done(&arguments)["plan"]["base"]["id"], full["id"]);
    assert_eq!(desk.contents(), archive, "planning changed the archive");
}

#[test]
fn a_server_that_is_not_fit_is_refused_untouched_with_the_reason() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    done(&["backup", "-f", &policy, "-o", "json"]);
    let archive = desk.contents();
    let refused = |target: &Server, words: &[&str]| {
        let schemas = "SELECT GROUP_CONCAT(schema_name ORDER BY 1) FROM information_schema.schemata";
        let (before, gtids) = (target.sql(schemas), target.gtids());
        let (code, _, error) = outcome(restore_command(&policy, target, &["--latest"]));
        assert_eq!(code, Some(REFUSED), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        assert_eq!((target.sql(schemas), target.gtids()), (before, gtids), "the server was touched");
    };
    let mysql = ServerOptions::mysql().start();
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let manifest = &archive.iter().find(|(path, _)| path.ends_with("manifest.json")).unwrap().0;
    let honest = text(manifest);
    let version = server.sql("SELECT VERSION()");
    std::fs::write(manifest, honest.replace(&format!("\"{version}\""), "\"99.1.0\"")).unwrap();
    assert_ne!(text(manifest), honest);
    refused(&mysql, &["is older than the source's 99.1.0", "99.1 or later"]);
    std::fs::write(manifest, honest).unwrap();
    refused(&ServerOptions::mariadb().start(), &["it is MariaDB, the archive is of MySQL"]);
    mysql.sql("CREATE DATABASE precious");
    refused(&mysql, &["not empty", "precious", "fresh server"]);
    assert_eq!(desk.contents(), archive, "the archive was changed");
}

#[test]
fn a_restore_request_is_carried_out_and_the_server_fetches_the_log_where_it_was_told() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    done(&["backup", "-f", &policy, "-o", "json"]);
    let stream = stream_of(&policy);
    server.sql("INSERT INTO d.t (id) VALUES (3); DROP TABLE d.t");
    desk.archived();
    stop(stream);
    let archive = desk.contents();
    let (uuid, last) = (server.sql("SELECT @@server_uuid"), server.gtids().rsplit_once('-').unwrap().1.to_owned());
    let target = ServerOptions::mysql().start();
    let request = desk.file(
        "request.yaml",
        &format!(
            "apiVersion: tidemark.dev/v1alpha1
kind: RestoreRequest
metadata: {{name: before-the-drop}}
spec:
  policyRef: {{name: shop}}
  target: {{gtid: '{uuid}:{last}', exclusive: true}}
  intoExisting: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: target}}, serveListen: '0.0.0.0:0', serveAdvertise: 127.0.0.7}}
---
apiVersion: v1
kind: Secret
metadata: {{name: target}}
stringData: {{username: root, password: {ROOT_PASSWORD}}}
",
            target.port()
        ),
    );
    let mut command = tidemark_command(["restore", "-f", &policy, "-f", &request, "-o", "json"]);
    command.env("FAILPOINTS", "restore::replay::before_start=sleep(1500)");
    let mut restore = Process::spawn(command);
    wait_for("replication from the advertised address", Duration::from_secs(60), || {
        let host = target.sql("SELECT host FROM performance_schema.replication_connection_configuration");
        assert!(["", "127.0.0.7"].contains(&host.as_str()), "the target reads from {host}");
        assert!(restore.try_wait().is_none(), "{}", restore.output());
        (host == "127.0.0.7").then_some(())
    });
    assert!(restore.wait(Duration::from_secs(60)).success(), "{}", restore.output());
    assert_eq!(target.sql("SELECT GROUP_CONCAT(id ORDER BY id) FROM d.t"), "1,2,3");
    let number: u64 = last.parse().unwrap();
    assert_eq!(target.gtids(), format!("{uuid}:1-{}", number - 1));
    assert!(!restore.output().contains(ROOT_PASSWORD), "a password was shown");
    assert_eq!(desk.contents(), archive, "the archive was changed");
}

#[test]
fn a_signal_ends_backup_and_restore_with_a_word_on_how_to_go_on_and_they_do() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let mut command = tidemark_command(["backup", "-f", &policy]);
    command.env("FAILPOINTS", "backup::logical::aligned=sleep(2000)");
    let mut backup = Process::spawn(command);
    wait_for("the backup's connections", Duration::from_secs(30), || {
        let count = server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'u'");
        (count.parse::<u32>().unwrap() > 1).then_some(())
    });
    backup.signal(Signal::Terminate);
    assert_eq!(backup.wait(Duration::from_secs(20)).code(), Some(1), "{}", backup.output());
    assert!(backup.stderr().contains("start it again"), "{}", backup.output());
    assert_eq!(desk.status()["fulls"], serde_json::json!([]), "half a full counts");

    done(&["backup", "-f", &policy, "-o", "json"]);
    let stream = stream_of(&policy);
    server.sql("INSERT INTO d.t (id) VALUES (3), (4)");
    desk.archived();
    stop(stream);
    let target = ServerOptions::mysql().start();
    for point in ["restore::base::loaded", "restore::replay::before_start"] {
        let mut command = restore_command(&policy, &target, &["--latest"]);
        command.env("FAILPOINTS", format!("{point}=sleep(2000)"));
        let mut restore = Process::spawn(command);
        restore.wait_for_line("restoring", Duration::from_secs(30));
        let begun = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd' OR table_schema = 'tidemark_restore'";
        wait_for("the restore's first table", Duration::from_secs(30), || (target.sql(begun) != "0").then_some(()));
        restore.signal(Signal::Terminate);
        assert_eq!(restore.wait(Duration::from_secs(20)).code(), Some(1), "{}", restore.output());
        assert!(restore.stderr().contains("start the same restore again"), "{}", restore.output());
    }
    let (code, report, error) = outcome(restore_command(&policy, &target, &["--latest"]));
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["result"]["resumed"], target.gtids()), (&Value::Bool(true), server.gtids()));
    assert_eq!(target.sql("SELECT COUNT(*) FROM d.t"), "4");
}
