//! Stores that cannot be written.

use super::*;
use crate::support::S3Server;

#[test]
fn a_store_that_cannot_be_written_is_named_with_the_way_out() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    let s3 = S3Server::start();
    let store = |bucket: &str, key: &str| {
        let bucket = format!(
            "storage: {{s3: {{bucket: {bucket}, endpoint: '{}', region: {}, credentialsSecretRef: {{name: s3}}}}}}",
            s3.endpoint(),
            s3.region()
        );
        let policy = desk.policy_on("127.0.0.1", server.port(), ("u", "secret"), "", &bucket);
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s3}}\nstringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{key}'}}\n",
            s3.access_key()
        );
        let text = std::fs::read_to_string(policy).unwrap() + &secret;
        desk.file("s3.yaml", &text)
    };
    refused(&["backup", "-f", &store("no-such-bucket", s3.secret_key())], UNREACHABLE, &["bucket", "does not exist"]);
    refused(&["backup", "-f", &store(s3.bucket(), "wrong-key")], UNREACHABLE, &["credentials"]);
    let file = desk.file("occupied", "a file, not a folder");
    let policy =
        desk.policy_on("127.0.0.1", server.port(), ("u", "secret"), "", &format!("storage: {{fs: {{path: {file}}}}}"));
    refused(&["backup", "-f", &policy], UNREACHABLE, &["occupied"]);
}

/// `tidemark` without root's right to write anywhere.
fn powerless(arguments: &[&str]) -> std::process::Command {
    let tidemark = tidemark_command(arguments);
    let mut command = std::process::Command::new("setpriv");
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    }
    command.arg("--").arg(tidemark.get_program()).args(tidemark.get_args()).env_remove("RUST_LOG");
    command
}

#[test]
fn a_read_only_store_is_named_and_left_as_it_is() {
    let desk = Desk::new();
    let server = shop();
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    done(&["backup", "-f", &policy, "-o", "json"]);
    let archive = desk.contents();
    let chmod = |mode: &str| {
        let done = std::process::Command::new("chmod").args(["-R", mode]).arg(desk.archive()).status().unwrap();
        assert!(done.success());
    };
    chmod("a-w");
    let (code, _, error) = outcome(powerless(&["backup", "-f", &policy]));
    let place = desk.archive().display().to_string();
    assert!(
        code == Some(UNREACHABLE) && error.contains(&place) && error.contains("ermission denied"),
        "{code:?} {error}"
    );
    let mut stream = Process::spawn(powerless(&["stream", "-f", &policy]));
    stream.wait_for_line("ermission denied", Duration::from_secs(30));
    drop(stream);
    let (code, _, error) = outcome(powerless(&["status", "-f", &policy]));
    assert_eq!(code, Some(0), "reading needs no right to write: {error}");
    chmod("u+w");
    assert_eq!(desk.contents(), archive, "the archive was changed");
}

#[test]
fn a_full_store_is_named_and_no_full_counts() {
    let desk = Desk::new();
    let server = shop();
    server.sql("INSERT INTO d.t SELECT id + 10, TO_BASE64(RANDOM_BYTES(1024)) FROM d.t");
    for _ in 0..10 {
        server.sql("INSERT INTO d.t SELECT id + (SELECT MAX(id) FROM d.t), TO_BASE64(RANDOM_BYTES(1024)) FROM d.t");
    }
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    std::fs::create_dir(desk.archive()).unwrap();
    // A disk of 1 MiB that only this process sees.
    let tidemark = tidemark_command(["backup", "-f", policy.as_str()]);
    let script = r#"mount -t tmpfs -o size=1M none "$1" || exit 99; shift
                    "$@"; code=$?; find "$DISK" -name manifest.json >&2; exit $code"#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(desk.archive());
    command.arg(tidemark.get_program()).args(tidemark.get_args()).env("DISK", desk.archive());
    let (code, _, error) = outcome(command);
    assert_eq!(code, Some(UNREACHABLE), "{error}");
    assert!(error.contains("No space left") && error.contains(desk.archive().to_str().unwrap()), "{error}");
    assert!(!error.contains("manifest.json"), "an incomplete full got a manifest: {error}");
}
