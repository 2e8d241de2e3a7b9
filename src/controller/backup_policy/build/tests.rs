use super::*;
use crate::controller::backup_policy::validate;

const IMAGE: &str = "registry.example/tidemark@sha256:0";

fn policy() -> BackupPolicy {
    serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap()
}

fn built(policy: &BackupPolicy) -> Resources {
    build(policy, &validate(policy).unwrap(), IMAGE).unwrap()
}

#[test]
fn a_stream_is_a_stateful_set_of_one_pod_and_the_manifest_that_it_reads() {
    let Resources { config_map, stateful_set, service } = built(&policy());
    assert_eq!(service, None);
    insta::assert_snapshot!(format!(
        "{}---\n{}",
        serde_yaml::to_string(&config_map).unwrap(),
        serde_yaml::to_string(&stateful_set).unwrap()
    ));
}

#[test]
fn a_folder_is_a_claim_that_is_mounted_there() {
    let mut policy = policy();
    policy.spec.storage = serde_yaml::from_str("fs: {path: /archive, claimName: backups}").unwrap();
    policy.spec.pod_template = None;
    let set = built(&policy).stateful_set.unwrap();
    let spec = set.spec.template.spec.unwrap();
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == "archive").unwrap();
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "backups");
    let mount = spec.containers[0].volume_mounts.iter().flatten().find(|mount| mount.name == "archive").unwrap();
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/archive", Some(false)));
}

#[test]
fn a_spool_is_a_claim_of_the_streams_own_that_its_manifest_names() {
    let mut policy = policy();
    policy.spec.pod_template = None;
    policy.spec.binlog.spool =
        Some(serde_yaml::from_str("{maxSize: 8Gi, path: /srv/elsewhere, storageClassName: fast}").unwrap());
    let Resources { config_map, stateful_set, .. } = built(&policy);
    let set = stateful_set.unwrap();
    let spec = set.spec;
    insta::assert_snapshot!(serde_yaml::to_string(&spec.volume_claim_templates).unwrap());
    let pod = spec.template.spec.unwrap();
    let mount = pod.containers[0].volume_mounts.iter().flatten().find(|mount| mount.name == "spool").unwrap();
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/var/lib/tidemark/spool", Some(false)));
    let manifest = config_map.unwrap().data.unwrap().remove(MANIFEST).unwrap();
    assert!(manifest.contains("path: /var/lib/tidemark/spool") && !manifest.contains("elsewhere"), "{manifest}");
    // Another claim is another StatefulSet; anything else is not.
    let made_from = set.metadata.annotations.unwrap().remove(CLAIMS);
    assert_eq!(made_from.as_deref(), Some("fast/8Gi"));
    policy.spec.binlog.spool = None;
    let without = built(&policy).stateful_set.unwrap();
    assert!(without.metadata.annotations.is_none_or(|annotations| !annotations.contains_key(CLAIMS)));
    assert_eq!(without.spec.volume_claim_templates, None);
}

#[test]
fn without_a_binlog_nothing_is_wanted() {
    let mut policy = policy();
    policy.spec.binlog.enabled = false;
    let Resources { config_map, stateful_set, service } = built(&policy);
    assert_eq!((config_map, stateful_set, service), (None, None, None));
}

#[test]
fn pods_by_their_labels_are_a_service_whose_name_leads_to_each_of_them() {
    let mut policy = policy();
    policy.spec.source = serde_yaml::from_str(
        "{selector: {matchLabels: {app: db}}, port: 3307, credentialsSecretRef: {name: orders-login}, tls: {mode: Disabled}}",
    )
    .unwrap();
    let service = built(&policy).service.unwrap();
    assert_eq!((service.name_any().as_str(), service.owner_references()[0].name.as_str()), ("source-orders", "orders"));
    let spec = service.spec.unwrap();
    assert_eq!((spec.cluster_ip.as_deref(), spec.publish_not_ready_addresses), (Some("None"), Some(true)));
    assert_eq!((spec.selector.unwrap()["app"].as_str(), spec.ports.unwrap()[0].port), ("db", 3307));
    // Fulls need it, too.
    policy.spec.binlog.enabled = false;
    assert!(built(&policy).service.is_some());
}

#[test]
fn what_a_stream_does_not_need_does_not_start_it_anew() {
    let template = |change: fn(&mut BackupPolicy)| {
        let mut policy = policy();
        change(&mut policy);
        built(&policy).stateful_set.unwrap().spec.template
    };
    let as_it_was = template(|_| {});
    for change in [
        (|policy| policy.spec.schedule = None) as fn(&mut BackupPolicy),
        |policy| policy.spec.retention = None,
        |policy| policy.spec.job_template = None,
        |policy| policy.status = Some(crate::api::BackupPolicyStatus::default()),
        |policy| policy.metadata.generation = Some(4),
        |policy| policy.metadata.resource_version = Some("77".to_owned()),
    ] {
        assert_eq!(template(change), as_it_was);
    }
    for change in [
        (|policy| policy.spec.source.port = 3307) as fn(&mut BackupPolicy),
        |policy| policy.spec.compression.level = 3,
        |policy| policy.spec.binlog.flush_interval = "2s".parse().unwrap(),
    ] {
        assert_ne!(template(change), as_it_was);
    }
}

#[test]
fn the_pod_can_read_what_it_is_given() {
    use crate::cli::{config, manifests};
    let login = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {username: u, password: p, ca.crt: c, \
                 AWS_ACCESS_KEY_ID: a, AWS_SECRET_ACCESS_KEY: s}\n";
    let mut text = manifests(&validate(&policy()).unwrap()).unwrap();
    for name in ["orders-login", "orders-ca", "bucket-login"] {
        text.push_str(&login.replace("NAME", name));
    }
    let documents = manifests::parse(std::path::Path::new("manifest.yaml"), &text).unwrap();
    let policies = config::policies(&documents).unwrap();
    assert_eq!((policies.len(), policies[0].name.as_str()), (1, "orders"));
    assert_eq!(policies[0].sources[0].host, "orders-mysql.databases.svc");
}
