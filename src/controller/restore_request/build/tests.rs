use std::sync::Arc;

use serde::Serialize;

use super::*;
use crate::api::{BackupPolicy, RestorePlanStatus, RestoreRequestStatus};
use crate::controller::restore_request::validate::{Archive, validate};

const IMAGE: &str = "registry.example/tidemark@sha256:0";

fn request(text: &str, flavor: &str) -> RestoreRequest {
    let mut request: RestoreRequest = serde_yaml::from_str(text).unwrap();
    let plan = RestorePlanStatus { flavor: Some(flavor.to_owned()), ..RestorePlanStatus::default() };
    request.status = Some(RestoreRequestStatus { plan: Some(plan), ..RestoreRequestStatus::default() });
    request
}

fn fresh(flavor: &str) -> RestoreRequest {
    request(include_str!("../testdata/fresh.yaml"), flavor)
}

fn existing() -> RestoreRequest {
    request(include_str!("../testdata/existing.yaml"), "mariadb")
}

fn nothing() -> Facts {
    let policy: BackupPolicy = serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap();
    Facts {
        policy: Some(Arc::new(policy)),
        pruned_by: None,
        plan_manifests: Found::Nothing,
        planned_from: None,
        plan_job: Found::Nothing,
        plan_pods: Vec::new(),
        manifests: Found::Nothing,
        job: Found::Nothing,
        job_pods: Vec::new(),
        stateful_set: Found::Nothing,
        server_pods: Vec::new(),
        service: Found::Nothing,
        report: None,
    }
}

fn built(request: &RestoreRequest, step: Step, seen: &Facts) -> Resources {
    build(request, &validate(request, seen).unwrap(), &step, seen, IMAGE).unwrap()
}

fn waits() -> Doing {
    Doing::waits("Starting", "")
}

/// As YAML, but for the scripts: they are files of their own.
fn yaml(object: &impl Serialize) -> String {
    let mut value = serde_yaml::to_value(object).unwrap();
    shorten(&mut value);
    serde_yaml::to_string(&value).unwrap()
}

fn shorten(value: &mut serde_yaml::Value) {
    match value {
        serde_yaml::Value::String(text)
            if text.lines().count() > 3 && !text.contains("apiVersion") && !text.contains("SET ") =>
        {
            *text = "(a script)".to_owned();
        }
        serde_yaml::Value::Sequence(all) => all.iter_mut().for_each(shorten),
        serde_yaml::Value::Mapping(all) => all.iter_mut().for_each(|(_, value)| shorten(value)),
        _ => {}
    }
}

fn work(resources: Resources) -> Work {
    match resources {
        Resources::Plan(work) | Resources::Restore(work) => *work,
        _ => panic!("a Job is wanted"),
    }
}

fn server(resources: Resources) -> FreshServer {
    match resources {
        Resources::Server(server) => *server,
        _ => panic!("a server is wanted"),
    }
}

#[test]
fn a_plan_is_a_job_that_reads_the_archive_alone() {
    let Work { config_map, job } = work(built(&fresh("mysql"), Step::Plan(waits()), &nothing()));
    insta::assert_snapshot!("plan", format!("{}---\n{}", yaml(&config_map), yaml(&job)));
    let spec = existing().spec;
    let arguments = plan_arguments(&spec.target, None, None);
    assert_eq!(arguments, ["restore", "--dry-run", "--to-gtid=0-1-42", "--exclusive", "--allow-nearest"]);
    let arguments = plan_arguments(&spec.target, Some("2026-11-21T03:04:05Z"), spec.decryption.as_ref());
    assert_eq!(arguments[3..5], ["--as-of=2026-11-21T03:04:05Z", "--identity-secret=backup-key/key.txt"]);
}

#[test]
fn the_archive_is_read_back_from_what_was_planned() {
    let Work { config_map, .. } = work(built(&fresh("mysql"), Step::Plan(waits()), &nothing()));
    let policy: BackupPolicy = serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap();
    let (storage, job_template) = (policy.spec.storage, policy.spec.job_template);
    assert_eq!(manifests::archive(&config_map), Some(Archive { name: "orders".to_owned(), storage, job_template }));
}

#[test]
fn a_server_that_exists_is_restored_by_a_job_that_serves_the_log_where_it_can_be_reached() {
    let Work { config_map, job } = work(built(&existing(), Step::Restore(waits()), &nothing()));
    insta::assert_snapshot!("existing", format!("{}---\n{}", yaml(&config_map), yaml(&job)));
    let mut told = existing();
    told.spec.as_of = Some("2026-11-21T03:04:05Z".to_owned());
    let into = told.spec.into_existing.as_mut().unwrap();
    (into.serve_listen, into.serve_advertise) = (Some("0.0.0.0:1".to_owned()), Some("me".to_owned()));
    let Work { config_map, job } = work(built(&told, Step::Restore(waits()), &nothing()));
    assert!(config_map.data.unwrap()["manifest.yaml"].contains("asOf: 2026-11-21T03:04:05Z"));
    let arguments = job.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
    assert!(!arguments.iter().any(|argument| argument.starts_with("--serve")), "{arguments:?}");
}

#[test]
fn a_fresh_server_is_shut_first() {
    for flavor in ["mysql", "mariadb"] {
        let request = fresh(flavor);
        let made = server(built(&request, Step::Restore(waits()), &nothing()));
        let FreshServer { config_map, login, stateful_set, service, root } = made;
        insta::assert_snapshot!(
            format!("shut-{flavor}"),
            format!("{}---\n{}---\n{}", yaml(&config_map), yaml(&stateful_set), yaml(&service))
        );
        for secret in [login, root] {
            assert!(
                !yaml(&config_map).contains(&secret.string_data.unwrap()["password"]),
                "no password in a ConfigMap"
            );
        }
    }
}

#[test]
fn an_open_server_has_no_engine_and_no_trace_of_it_beside_it() {
    let request = fresh("mysql");
    let made = server(built(&request, Step::Restore(waits()), &nothing()));
    let seen = Facts { stateful_set: Found::Ours(Arc::new(made.stateful_set)), ..nothing() };
    let Resources::Open(template) = built(&request, Step::Open(waits()), &seen) else { panic!("it is to be opened") };
    insta::assert_snapshot!("open", yaml(&*template));
    // Once is enough.
    let mut open = seen.stateful_set.ours().unwrap().clone();
    open.spec.template = *template;
    let seen = Facts { stateful_set: Found::Ours(Arc::new(open)), ..nothing() };
    assert!(matches!(built(&request, Step::Open(waits()), &seen), Resources::Server(_)));
}

#[test]
fn what_is_under_way_is_left_alone() {
    for step in [Step::Plan(Doing::Runs(None)), Step::Restore(Doing::Runs(None)), Step::Proved(Box::default())] {
        assert!(matches!(built(&fresh("mysql"), step, &nothing()), Resources::Nothing));
    }
    assert!(matches!(
        built(&existing(), Step::Finish(Finished::Restored(Default::default())), &nothing()),
        Resources::Nothing
    ));
    assert!(matches!(
        built(&fresh("mysql"), Step::Finish(Finished::Opened(Default::default())), &nothing()),
        Resources::Release
    ));
}
