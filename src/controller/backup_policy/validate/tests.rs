use super::*;
use crate::cli::{config, manifests};

/// A policy with a spec of these fields beside a source and a store.
fn text(source: &str, storage: &str, rest: &str) -> String {
    format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  source: {{{source}}}\n  \
         storage: {{{storage}}}\n{rest}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{username: u, password: p}}\n"
    )
}

fn policy(text: &str) -> BackupPolicy {
    serde_yaml::from_str(text.split("---").next().unwrap()).unwrap()
}

const HOST: &str = "host: db, credentialsSecretRef: {name: login}";
const BUCKET: &str = "s3: {bucket: abc}";

#[test]
fn everything_that_cannot_be_done_is_refused_by_field_as_the_binary_alone_refuses_it() {
    let of_source = |source: &'static str| (source, BUCKET, "");
    let with = |rest: &'static str| (HOST, BUCKET, rest);
    for ((source, storage, rest), reason, field) in [
        (of_source("host: 'db:3306', credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source.host"),
        (of_source("host: 'mysql://db', credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source.host"),
        (of_source("hosts: [], credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source.hosts"),
        (of_source("host: a, hosts: [b], credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source"),
        (of_source("credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source"),
        (
            of_source("host: a, selector: {matchLabels: {app: db}}, credentialsSecretRef: {name: login}"),
            "InvalidSpec",
            "spec.source",
        ),
        (
            of_source("selector: {matchLabels: {}}, credentialsSecretRef: {name: login}"),
            "InvalidSpec",
            "spec.source.selector",
        ),
        (of_source("host: db, port: 0, credentialsSecretRef: {name: login}"), "InvalidSpec", "spec.source.port"),
        (
            of_source("host: db, preferReplica: true, credentialsSecretRef: {name: login}"),
            "Unsupported",
            "spec.source.preferReplica",
        ),
        (with("  method: clone"), "Unsupported", "spec.method"),
        (with("  copies: [{name: far, storage: {}}]"), "InvalidSpec", "spec.copies[0].storage"),
        (
            with("  copies: [{name: far, storage: {s3: {bucket: abc}}}, {name: far, storage: {s3: {bucket: bcd}}}]"),
            "InvalidSpec",
            "spec.copies[1].name",
        ),
        (
            with(
                "  copies: [{name: far, storage: {fs: {path: /b, claimName: c}}}, {name: off, storage: {fs: {path: /b/, claimName: d}}}]",
            ),
            "InvalidSpec",
            "spec.copies[1].storage.fs.path",
        ),
        (
            with("  copies: [{name: far, storage: {s3: {bucket: abc}}, retention: {keepLast: 0}}]"),
            "InvalidSpec",
            "spec.copies[0].retention.keepLast",
        ),
        (
            with("  copies: [{name: far, storage: {s3: {bucket: abc}}}]\n  binlog: {enabled: false}"),
            "Unsupported",
            "spec.copies",
        ),
        (with("  encryption: {recipients: []}"), "InvalidSpec", "spec.encryption.recipients"),
        (with("  encryption: {recipients: [age1x]}"), "InvalidSpec", "spec.encryption.recipients"),
        (with("  encryption: {recipients: [AGE-SECRET-KEY-1XYZ]}"), "InvalidSpec", "spec.encryption.recipients"),
        (with("  drill: {cron: '0 3 * * *'}"), "Unsupported", "spec.drill"),
        (with("  binlog: {spool: {maxSize: 1Mi, path: /spool}}"), "InvalidSpec", "spec.binlog.spool.maxSize"),
        (with("  binlog: {flushInterval: 2h}"), "InvalidSpec", "spec.binlog.flushInterval"),
        (with("  binlog: {segmentSize: 1Ki}"), "InvalidSpec", "spec.binlog.segmentSize"),
        (with("  compression: {level: 20}"), "InvalidSpec", "spec.compression.level"),
        (with("  schedule: {cron: 'every day'}"), "InvalidSpec", "spec.schedule.cron"),
        (with("  schedule: {cron: '0 3 * * *', timeZone: Berlin}"), "InvalidSpec", "spec.schedule.timeZone"),
        (with("  retention: {}"), "InvalidSpec", "spec.retention"),
        (with("  retention: {window: 0s}"), "InvalidSpec", "spec.retention.window"),
        (with("  retention: {window: 7d, keepLast: 0}"), "InvalidSpec", "spec.retention.keepLast"),
        (with("  verify: {cron: 'every day'}"), "InvalidSpec", "spec.verify.cron"),
        (
            with("  verify: {cron: '@weekly', depth: Deep, bytesPerSecond: 0}"),
            "InvalidSpec",
            "spec.verify.bytesPerSecond",
        ),
        (with("  verify: {cron: '@weekly', bytesPerSecond: 50Mi}"), "InvalidSpec", "spec.verify.bytesPerSecond"),
        ((HOST, "", ""), "InvalidSpec", "spec.storage"),
        ((HOST, "s3: {bucket: abc, endpoint: 'minio:9000'}", ""), "InvalidSpec", "spec.storage.s3.endpoint"),
    ] {
        let text = text(source, storage, rest);
        let refusal = validate(&policy(&text)).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{text}");
        assert!(refusal.message().starts_with(&format!("{field}: ")), "{field}: {}", refusal.message());
        assert!(!refusal.message().contains("1XYZ"), "a secret key is not told on: {}", refusal.message());
        let documents = manifests::parse(std::path::Path::new("p"), &text).unwrap();
        let alone = config::policies(&documents).unwrap_err().to_string();
        assert!(alone.contains(&format!("{field}: ")), "the binary alone: {alone}");
    }
}

#[test]
fn what_is_fine_is_fine_for_both() {
    for rest in [
        "",
        "  schedule: {cron: '@daily', timeZone: Europe/Berlin, concurrencyPolicy: Replace}",
        "  binlog: {enabled: false, flushInterval: 2h}",
        "  retention: {window: 30d}",
        "  compression: {level: -7}",
        "  encryption: {recipients: [age13pej588wz8rlqc835hykw8qpfkutjekppg6wlc9tmhvt464w8cvsejfqqt]}",
    ] {
        let text = text(HOST, BUCKET, rest);
        assert!(validate(&policy(&text)).is_ok(), "{rest}");
        let documents = manifests::parse(std::path::Path::new("p"), &text).unwrap();
        assert!(config::policies(&documents).is_ok(), "{rest}");
    }
}

#[test]
fn services_and_pods_become_host_names_and_secrets_are_named() {
    let of = |source: &str| {
        let storage = "s3: {bucket: abc, credentialsSecretRef: {name: keys}}";
        validate(&policy(&text(source, storage, ""))).unwrap()
    };
    let near = of(
        "serviceRef: {name: db}, credentialsSecretRef: {name: login}, tls: {mode: VerifyCA, caSecretRef: {name: ca}}",
    );
    assert_eq!((near.source.host.as_deref(), &near.source.service_ref), (Some("db.shop.svc"), &None));
    assert_eq!(near.secrets.iter().map(String::as_str).collect::<Vec<_>>(), ["ca", "keys", "login"]);
    let far = of("serviceRef: {name: db, namespace: data}, credentialsSecretRef: {name: login}");
    assert_eq!(far.source.host.as_deref(), Some("db.data.svc"));
    let pods = of("selector: {matchLabels: {app: db}}, credentialsSecretRef: {name: login}");
    assert_eq!(pods.source.hosts.as_deref(), Some(&["source-orders.shop.svc".to_owned()][..]), "a list: a group");
    assert_eq!((pods.source.host, pods.source.selector), (None, None));
    let hosts = of("hosts: [a, '2001:db8::1'], credentialsSecretRef: {name: login}");
    assert_eq!((hosts.source.hosts.unwrap().len(), hosts.source.host), (2, None));
}

#[test]
fn a_folder_in_a_cluster_is_an_absolute_path_on_a_claim() {
    for (fs, field) in [
        ("path: /archive", "spec.storage.fs.claimName"),
        ("path: archive, claimName: c", "spec.storage.fs.path"),
        ("path: /, claimName: c", "spec.storage.fs.path"),
        ("path: '/a:b', claimName: c", "spec.storage.fs.path"),
        ("path: /etc/tidemark, claimName: c", "spec.storage.fs.path"),
        ("path: /tmp, claimName: c", "spec.storage.fs.path"),
    ] {
        let refusal = validate(&policy(&text(HOST, &format!("fs: {{{fs}}}"), ""))).unwrap_err();
        assert_eq!(refusal.reason(), "InvalidSpec");
        assert!(refusal.message().starts_with(field), "{fs}: {}", refusal.message());
    }
    assert!(validate(&policy(&text(HOST, "fs: {path: /tmpfiles/a, claimName: c}", ""))).is_ok());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let refusal = validate(&policy(&text(HOST, "fs: {path: a}", "  method: clone"))).unwrap_err();
    assert_eq!(refusal.reason(), "InvalidSpec", "what is wrong comes before what is not done yet");
    for field in ["spec.method", "spec.storage.fs.claimName", "spec.storage.fs.path"] {
        assert!(refusal.message().contains(field), "{}", refusal.message());
    }
}
