use super::*;
use crate::controller::conditions::find;
use crate::controller::restore_request::validate::Archive;

fn now() -> Timestamp {
    "2026-11-25T10:04:03Z".parse().unwrap()
}

fn fresh() -> RestoreRequest {
    serde_yaml::from_str(include_str!("../testdata/fresh.yaml")).unwrap()
}

fn validated(request: &RestoreRequest) -> Validated {
    Validated {
        name: "rescue".to_owned(),
        uid: "u1".to_owned(),
        archive: Archive { name: "orders".to_owned(), storage: crate::api::StorageSpec::default(), job_template: None },
        as_of: None,
        target: request.spec.target.clone(),
        into: Into::Fresh(Box::new(request.spec.into.clone().unwrap())),
        decryption: None,
        dry_run: false,
    }
}

/// The request after these steps.
fn after(steps: Vec<Step>) -> RestoreRequest {
    let mut request = fresh();
    for step in steps {
        request.status = Some(compute(&request, &validated(&request), step, &Ok(Applied::Done), now()));
    }
    request
}

fn report(step: &str, done_bytes: u64, total_bytes: u64) -> Doing {
    let progress = Some(ProgressStatus { step: step.to_owned(), done_bytes, total_bytes });
    Doing::Runs(Some(Box::new(PodReport { progress, ..PodReport::default() })))
}

fn plan() -> Step {
    Step::Planned(Box::new(RestorePlanStatus {
        base: "f1".to_owned(),
        flavor: Some("mysql".to_owned()),
        binlogs: 3,
        last_binlog: Some("binlog.000003:99".to_owned()),
        bytes: 3 << 30,
        eta: Some("5m".to_owned()),
        ..RestorePlanStatus::default()
    }))
}

fn proof() -> Step {
    let restore = RestoreOutcome {
        restored_to: Some("2026-11-21T02:04:05Z".to_owned()),
        executed: "u:1-9".to_owned(),
        rto_seconds: 200.0,
        warnings: vec!["a warning".to_owned()],
    };
    Step::Proved(Box::new(Outcome { restore: Some(restore), ..Outcome::default() }))
}

fn condition<'a>(request: &'a RestoreRequest, type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = find(&request.status.as_ref().unwrap().conditions, type_).unwrap();
    (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str())
}

#[test]
fn a_life_as_its_status_tells_it() {
    let request = after(vec![Step::Plan(Doing::waits("ImagePullBackOff", "no such image"))]);
    assert_eq!((phase(&request), condition(&request, COMPLETE).1), (Phase::Pending, "ImagePullBackOff"));
    let request = after(vec![Step::Plan(Doing::Runs(None))]);
    assert_eq!((phase(&request), condition(&request, PLANNED).0), (Phase::Running, "Unknown"));
    let request = after(vec![plan()]);
    let (status, _, message) = condition(&request, PLANNED);
    assert_eq!((status, message), ("True", "full f1, then 3 binlogs up to binlog.000003:99: 3.0GiB, about 5m"));
    for (engine, shown, percent) in [
        ("planning", "planning", None),
        ("rows", "loading", Some("25%")),
        ("checksums", "verifying", Some("25%")),
        ("replay", "replay", Some("25%")),
        ("cleanup", "proof", None),
    ] {
        let total = if percent.is_some() { 400 } else { 0 };
        let status = after(vec![plan(), Step::Restore(report(engine, 100, total))]).status.unwrap();
        assert_eq!(status.progress.unwrap().step, shown);
        assert_eq!(status.progress_percent.as_deref(), percent, "{engine}");
        assert_eq!(status.phase, Phase::Running);
    }
    let proved = after(vec![plan(), Step::Restore(report("replay", 1, 2)), proof()]);
    let status = proved.status.as_ref().unwrap();
    assert_eq!(status.restored_to.as_deref(), Some("2026-11-21T02:04:05Z"));
    assert!(condition(&proved, PROVED).2.contains("3m20s") && condition(&proved, PROVED).2.contains("a warning"));
    assert_eq!((status.phase, status.service.as_deref()), (Phase::Running, None));
    let opened = "2026-11-25T10:04:00Z".parse().unwrap();
    let open =
        after(vec![plan(), proof(), Step::Open(Doing::waits("Opening", "m")), Step::Finish(Finished::Opened(opened))]);
    let status = open.status.as_ref().unwrap();
    assert_eq!((status.phase, condition(&open, COMPLETE).1), (Phase::Succeeded, "Open"));
    assert_eq!(status.measured_rto.as_deref(), Some("4m0s"));
    assert_eq!((status.service.as_deref(), status.secret.as_deref()), (Some("rescue"), Some("rescue-root")));
    assert_eq!((&status.progress, status.restored_to.as_deref()), (&None, Some("2026-11-21T02:04:05Z")));
}

#[test]
fn figures_stay_while_a_pod_does_not_answer_or_an_attempt_waits_for_the_next() {
    let seen = Step::Restore(report("replay", 1, 2));
    for step in [Doing::Runs(None), Doing::waits("StoreUnreachable", "m")] {
        let status = after(vec![plan(), seen.clone(), Step::Restore(step)]).status.unwrap();
        assert_eq!(
            (status.progress.unwrap().step.as_str(), status.progress_percent.as_deref()),
            ("replay", Some("50%"))
        );
    }
}

#[test]
fn a_failure_is_told_of_what_was_not_done_yet() {
    let fail = || Step::Fail(PodError { reason: "Not Proved!".to_owned(), message: "m".to_owned(), transient: false });
    let failed = after(vec![fail()]);
    assert_eq!((condition(&failed, PLANNED).0, condition(&failed, COMPLETE).1), ("False", "NotProved"));
    let failed = after(vec![plan(), fail()]);
    assert_eq!(
        (condition(&failed, PLANNED).0, condition(&failed, PROVED).0, condition(&failed, COMPLETE).0),
        ("True", "False", "False")
    );
    let failed = after(vec![plan(), proof(), fail()]);
    assert_eq!((condition(&failed, PROVED).0, condition(&failed, COMPLETE).0), ("True", "False"));
    assert_eq!(phase(&failed), Phase::Failed);
}

#[test]
fn what_could_not_be_made_or_let_go_of_is_said_and_nothing_is_finished() {
    let request = after(vec![plan(), proof()]);
    let taken = compute(
        &request,
        &validated(&request),
        Step::Restore(Doing::waits("Restoring", "")),
        &Ok(Applied::Taken),
        now(),
    );
    assert_eq!(find(&taken.conditions, COMPLETE).unwrap().reason, "NameTaken");
    let forbidden = kube::Error::Api(Box::new(kube::core::Status::failure("no", "Forbidden").with_code(403)));
    let refused = Err(Error::Api { doing: "release it".to_owned(), source: forbidden });
    let status = compute(&request, &validated(&request), Step::Finish(Finished::Opened(now())), &refused, now());
    assert_eq!(
        (status.phase, find(&status.conditions, COMPLETE).unwrap().reason.as_str()),
        (Phase::Running, "Forbidden")
    );
}

#[test]
fn a_refusal_for_good_fails_and_another_waits() {
    let refusal = |forever| Refusal { forever, reason: "PolicyMissing", message: "m".to_owned() };
    assert_eq!(refused(&fresh(), refusal(true), now()).phase, Phase::Failed);
    let waits = refused(&fresh(), refusal(false), now());
    assert_eq!((waits.phase, find(&waits.conditions, COMPLETE).unwrap().status.as_str()), (Phase::Pending, "Unknown"));
}
