use super::*;

fn full(status: Option<FullBackupStatus>) -> FullBackup {
    let mut full: FullBackup = serde_yaml::from_str(include_str!("../testdata/full.yaml")).unwrap();
    full.status = status;
    full
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn runs(step: &str, done_bytes: u64) -> Standing {
    Standing::Runs(Some(ProgressStatus { step: step.to_owned(), done_bytes, total_bytes: 100 }))
}

fn then(status: &FullBackupStatus, standing: Standing) -> FullBackupStatus {
    compute(&full(Some(status.clone())), standing, now())
}

#[test]
fn a_full_that_was_taken_says_what_it_is() {
    let running = then(&FullBackupStatus::default(), runs("tables", 7));
    assert_eq!((running.phase, running.progress.as_ref().unwrap().done_bytes), (Phase::Running, 7));
    let outcome = FullOutcome {
        id: "20261121T115500Z-1".to_owned(),
        consistent_at: "2026-11-21T11:55:01.5Z".to_owned(),
        bytes: 1_503_238_554,
        raw_bytes: 42_278_584_320,
        seconds: 192.0,
        gtid_set: "u:1-9".to_owned(),
        binlog_position: Some("binlog.000003:7".to_owned()),
        warnings: vec!["user x was left out".to_owned()],
    };
    let taken = then(&running, Standing::Succeeded(Box::new(outcome)));
    insta::assert_snapshot!(serde_yaml::to_string(&taken).unwrap());
}

#[test]
fn a_failure_says_why_and_a_pause_between_attempts_is_no_step_back() {
    let running = then(&FullBackupStatus::default(), runs("tables", 7));
    let standing = Standing::Waits { reason: "SourceUnreachable".to_owned(), message: "m".to_owned() };
    let waiting = then(&running, standing);
    assert_eq!(waiting.phase, Phase::Running);
    let failed = Standing::Failed { reason: "Missing Grant!".to_owned(), message: "GRANT it".to_owned(), stop: true };
    let failed = then(&waiting, failed);
    let complete = conditions::find(&failed.conditions, COMPLETE).unwrap();
    assert_eq!((failed.phase, complete.status.as_str()), (Phase::Failed, "False"));
    assert_eq!((complete.reason.as_str(), complete.message.as_str()), ("MissingGrant", "GRANT it"));
}

#[test]
fn what_it_asks_for_itself_fails_for_good_and_a_missing_policy_is_waited_for() {
    for (forever, phase) in [(true, Phase::Failed), (false, Phase::Pending)] {
        assert_eq!(refused(&full(None), forever, "PolicyMissing", "m".to_owned(), now()).phase, phase);
    }
}

#[test]
fn progress_is_written_now_and_then_and_a_step_at_once() {
    let old = then(&FullBackupStatus::default(), runs("tables", 7));
    let (soon, late) = (Some(Duration::from_secs(9)), Some(Duration::from_secs(10)));
    let further = then(&old, runs("tables", 8));
    assert!(!worth_writing(&old, &further, soon) && worth_writing(&old, &further, late));
    assert!(worth_writing(&old, &then(&old, runs("definitions", 0)), soon));
    assert!(!worth_writing(&old, &then(&old, runs("tables", 7)), None));
}
