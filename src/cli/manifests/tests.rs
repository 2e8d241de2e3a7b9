use super::*;

const POLICY: &str = "\
apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata:
  name: orders
spec:
  source:
    host: db.example
    credentialsSecretRef:
      name: login
  storage:
    fs:
      path: /tmp/archive
---
apiVersion: v1
kind: Secret
metadata:
  name: login
stringData:
  username: tidemark
data:
  password: aHVudGVyMg==
";

fn problems(text: &str) -> Vec<String> {
    match parse(Path::new("policy.yaml"), text) {
        Err(ManifestError::Invalid { problems }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let documents = parse(Path::new("policy.yaml"), &format!("\u{feff}{POLICY}")).unwrap();
    assert_eq!(documents.policies.len(), 1);
}

#[test]
fn a_policy_and_its_secret_are_read_from_one_file() {
    let documents = parse(Path::new("policy.yaml"), POLICY).unwrap();
    let spec = &documents.policies["orders"].object.spec;
    assert_eq!(spec.source.port, 3306);
    assert_eq!(spec.binlog.segment_size, api::Size(4 << 20));
    assert_eq!(documents.secrets["login"].get("password").unwrap().expose_secret(), "hunter2");
}

#[test]
fn a_misspelt_field_is_named_with_its_path_its_line_and_what_was_meant() {
    for (from, to, expected) in [
        (
            "host: db",
            "hst: db",
            "policy.yaml BackupPolicy/orders line 7: spec.source.hst: unknown field; did you mean `host`?",
        ),
        ("fs:\n", "filesystem:\n", "spec.storage.filesystem: unknown field; there are azblob, fs, gcs, s3"),
        ("spec:\n", "speck:\n", "line 5: speck: unknown field; did you mean `spec`?"),
        ("      path:", "      Path:", "line 12: spec.storage.fs.Path: unknown field; did you mean `path`?"),
        ("stringData:", "stringdata:", "policy.yaml Secret/login line 18: stringdata: unknown field"),
    ] {
        let found = problems(&POLICY.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{to}: {found:#?}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_path_and_line() {
    for (from, to, expected) in [
        ("host: db.example", "host: db.example\n    port: 70000", "line 8: spec.source.port: invalid value"),
        ("host: db.example", "host: [db.example]", "line 7: spec.source.host: invalid type"),
        ("  storage:", "  binlog: {flushInterval: 1 sec}\n  storage:", "spec.binlog: \"1 sec\" is not a length"),
        (
            "  storage:",
            "  method: physical\n  storage:",
            "spec.method: unknown variant `physical`, expected `logical` or `clone`",
        ),
        ("v1alpha1", "v1", "line 1: apiVersion: \"tidemark.dev/v1\" is not an API version"),
        ("BackupPolicy", "BackupPolcy", "line 2: kind: \"BackupPolcy\" is not a kind"),
        ("name: orders", "labels: {}", "metadata.name: the document has no name"),
        ("    host: db.example\n", "    host: a\n    host: b\n", "duplicate entry"),
        ("kind: BackupPolicy", "kind BackupPolicy", "line"),
    ] {
        let found = problems(&POLICY.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{to}: {found:#?}");
    }
}

#[test]
fn two_documents_of_one_name_are_refused() {
    let found = problems(&format!("{POLICY}---\n{POLICY}"));
    assert!(found.iter().any(|p| p.contains("BackupPolicy/orders: metadata.name: there are two")), "{found:#?}");
}

#[test]
fn no_message_holds_a_secret() {
    for broken in
        [POLICY.replace("aHVudGVyMg==", "hunter2!"), POLICY.replace("username: tidemark", "password: [hunter2]")]
    {
        let found = problems(&broken).join("\n");
        assert!(!found.contains("hunter2") && !found.contains("aHVudGVy"), "{found}");
    }
    let documents = parse(Path::new("policy.yaml"), POLICY).unwrap();
    assert!(!format!("{documents:?}").contains("hunter2"));
}

#[test]
fn documents_of_other_programs_are_let_pass() {
    let other = format!("---\n# a comment\napiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n---\n{POLICY}---\n");
    assert_eq!(parse(Path::new("all.yaml"), &other).unwrap().policies.len(), 1);
}

#[test]
fn mounted_secrets_count_like_documents_and_one_of_the_same_name_in_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    let (policy, _) = POLICY.split_once("---").unwrap();
    std::fs::write(&file, policy).unwrap();
    let secrets = dir.path().join("secrets");
    std::fs::create_dir_all(secrets.join("login")).unwrap();
    std::fs::write(secrets.join("login/password"), "hunter2").unwrap();
    let args = ManifestArgs { files: vec![file.clone()], secrets: Some(secrets.clone()) };
    let documents = load(&args).unwrap();
    assert_eq!(documents.secrets["login"].get("password").unwrap().expose_secret(), "hunter2");

    let before = fingerprint(&args).unwrap();
    assert_eq!(fingerprint(&args), Some(before));
    std::fs::write(secrets.join("login/password"), "hunter3").unwrap();
    assert_ne!(fingerprint(&args), Some(before), "a rotated password is not noticed");

    std::fs::write(&file, POLICY).unwrap();
    let error = load(&args).unwrap_err().to_string();
    assert!(error.contains("Secret/login: metadata.name: there are two documents"), "{error}");
    assert!(!error.contains("hunter"), "{error}");
}
