use super::*;
use crate::controller::names::MANAGED_BY;

#[test]
fn secrets_hold_what_people_and_the_server_need_and_nothing_of_it_is_logged() {
    let passwords = Passwords::fixed("rootpw", "restorepw");
    let metadata = ObjectMeta { name: Some("rescue-root".to_owned()), ..ObjectMeta::default() };
    let shown = [
        passwords.login(metadata.clone(), Flavor::Mysql),
        passwords.login(metadata.clone(), Flavor::Mariadb),
        passwords.root(metadata, "rescue.shop.svc"),
    ];
    insta::assert_snapshot!("secrets", shown.map(|secret| serde_yaml::to_string(&secret).unwrap()).join("---\n"));
    for (_, sql) in shown_sql(&passwords) {
        assert!(sql.starts_with("SET SESSION sql_log_bin = 0;\n"), "{sql}");
        assert!(sql.lines().all(|line| line.ends_with(';')), "a statement a line: {sql}");
    }
}

fn shown_sql(passwords: &Passwords) -> Vec<(String, String)> {
    let secrets = [
        passwords.login(ObjectMeta::default(), Flavor::Mysql),
        passwords.login(ObjectMeta::default(), Flavor::Mariadb),
        passwords.root(ObjectMeta::default(), "h"),
    ];
    let keys = secrets.into_iter().flat_map(|secret| secret.string_data.unwrap_or_default());
    keys.filter(|(key, _)| key.ends_with(".sql")).collect()
}

#[test]
fn passwords_are_long_differ_and_need_no_quotes() {
    let of = |passwords: &Passwords| {
        let login = passwords.login(ObjectMeta::default(), Flavor::Mysql).string_data.unwrap();
        let root = passwords.root(ObjectMeta::default(), "h").string_data.unwrap();
        [login["password"].clone(), root["password"].clone()]
    };
    let all: std::collections::BTreeSet<String> =
        [Passwords::random(), Passwords::random()].iter().flat_map(of).collect();
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|one| one.len() >= 24 && one.bytes().all(|byte| byte.is_ascii_alphanumeric())));
}

#[test]
fn a_service_leads_to_the_open_pod_of_this_very_request() {
    let request: RestoreRequest = serde_yaml::from_str(include_str!("../testdata/fresh.yaml")).unwrap();
    let selector = labels(SERVER, "rescue", "u1");
    assert_eq!(selector.get(MANAGED_BY.0).map(String::as_str), Some(MANAGED_BY.1));
    let into = request.spec.into.clone().unwrap();
    let validated = Validated {
        name: "rescue".to_owned(),
        uid: "u1".to_owned(),
        archive: crate::controller::restore_request::validate::Archive {
            name: "orders".to_owned(),
            storage: crate::api::StorageSpec::default(),
            job_template: None,
        },
        as_of: None,
        target: crate::api::TargetSpec::default(),
        decryption: None,
        into: crate::controller::restore_request::validate::Into::Fresh(Box::new(into.clone())),
        dry_run: false,
    };
    let selector = service(&request, &validated, &into).spec.unwrap().selector.unwrap();
    let open = pod::open(&validated, &into, Flavor::Mysql).metadata.unwrap().labels.unwrap();
    assert!(selector.iter().all(|pair| open.iter().any(|label| label == pair)), "{selector:?} in {open:?}");
    let map = ConfigMap::default();
    let shut = pod::shut(&validated, &into, Flavor::Mysql, "i", &map).metadata.unwrap().labels.unwrap();
    assert!(!selector.iter().all(|pair| shut.iter().any(|label| label == pair)));
}
