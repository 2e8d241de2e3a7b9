use std::time::Duration;

use super::*;
use crate::api::report::{ArchiveReport, PodError, PurgeReport};
use crate::controller::backup_policy::fulls::{Full, Start};
use crate::controller::backup_policy::validate;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy() -> BackupPolicy {
    serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap()
}

fn working() -> PodReport {
    PodReport {
        verb: "stream".to_owned(),
        stream: Some(StreamReport {
            connected: true,
            gtids_on: true,
            source: Some("orders-mysql.databases.svc:3306".to_owned()),
            lag_seconds: 0.44,
            ..StreamReport::default()
        }),
        archive: Some(ArchiveReport {
            read_at: "2026-11-21T12:00:00Z".to_owned(),
            fulls: 2,
            windows: vec![window("2026-11-20T10:00:00Z", "2026-11-21T12:00:00.5Z", None)],
            last_full_time: Some("2026-11-21T01:30:02Z".to_owned()),
            ..ArchiveReport::default()
        }),
        ..PodReport::default()
    }
}

fn window(from: &str, to: &str, gap: Option<&str>) -> WindowStatus {
    let gap = gap.map(|gtids| GapStatus { gtids: gtids.to_owned(), reason: Some("purged".to_owned()) });
    WindowStatus { from: from.to_owned(), to: to.to_owned(), base: "f".to_owned(), gap }
}

fn seen(stream: StreamSeen) -> Seen {
    Seen {
        stateful_set: None,
        config_map: None,
        service: None,
        pod: None,
        stream,
        full_backups: Vec::new(),
        going: Vec::new(),
        retention: retention::Seen::default(),
        verification: verification::Seen::default(),
    }
}

fn reports(change: impl FnOnce(&mut PodReport)) -> Seen {
    let mut report = working();
    change(&mut report);
    seen(StreamSeen::Reports(Box::new(report)))
}

fn stream_of(report: &mut PodReport) -> &mut StreamReport {
    report.stream.as_mut().unwrap()
}

fn archive_of(report: &mut PodReport) -> &mut ArchiveReport {
    report.archive.as_mut().unwrap()
}

fn status_of(policy: &BackupPolicy, seen: &Seen, decision: &Decision) -> BackupPolicyStatus {
    let validated = validate(policy).unwrap();
    let facts = Facts::new(policy, &validated, seen);
    compute(policy, &validated, seen, &facts, decision, None, at("2026-11-21T12:00:01Z"))
}

/// Status and reason of a condition.
fn condition(status: &BackupPolicyStatus, type_: &str) -> (String, String) {
    let condition = conditions::find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn all(status: &BackupPolicyStatus) -> String {
    [READY, STREAMING, RECOVERABLE, GAP_DETECTED]
        .map(|type_| {
            let (status, reason) = condition(status, type_);
            format!("{type_}={status}/{reason}")
        })
        .join(" ")
}

#[test]
fn a_policy_whose_stream_works_and_whose_window_grows_is_ready() {
    let status = status_of(&policy(), &reports(|_| {}), &Decision::default());
    insta::assert_snapshot!(serde_yaml::to_string(&status).unwrap());
}

#[test]
fn a_full_whose_log_retention_took_is_no_gap_and_nothing_is_recoverable_from_it() {
    let moment = || window("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z", Some("u:1-5"));
    let with = |more: WindowStatus| reports(|report| archive_of(report).windows.insert(0, more));
    let status = status_of(&policy(), &with(moment()), &Decision::default());
    assert_eq!(condition(&status, GAP_DETECTED), ("False".to_owned(), "NoGap".to_owned()));
    assert_eq!(status.first_recoverability_point.as_deref(), Some("2026-11-20T10:00:00Z"));
    assert_eq!(status.windows.len(), 2);
    let stretch = window("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", Some("u:1-5"));
    let status = status_of(&policy(), &with(stretch), &Decision::default());
    assert_eq!(condition(&status, GAP_DETECTED).0, "True");
    // Without a window that grows it is one.
    let alone = reports(|report| archive_of(report).windows = vec![moment()]);
    assert_eq!(condition(&status_of(&policy(), &alone, &Decision::default()), GAP_DETECTED).0, "True");
}

#[test]
fn every_trouble_has_its_reason() {
    let error = |reason: &str| Some(PodError { reason: reason.to_owned(), message: "m".to_owned(), transient: true });
    let fine = "Streaming=True/Streaming Recoverable=True/Recoverable GapDetected=False/NoGap";
    let starting = |reason: &str| StreamSeen::Waits { reason: reason.to_owned(), message: "m".to_owned() };
    for (seen, expected) in [
        (seen(StreamSeen::Starting), "Ready=False/Starting Streaming=Unknown/Starting Recoverable=Unknown/NotReadYet GapDetected=Unknown/NotReadYet".to_owned()),
        (
            seen(starting("ImagePullBackOff")),
            "Ready=False/ImagePullBackOff Streaming=False/ImagePullBackOff Recoverable=Unknown/NotReadYet GapDetected=Unknown/NotReadYet".to_owned(),
        ),
        (
            reports(|report| {
                stream_of(report).connected = false;
                stream_of(report).error = error("SourceDenied");
            }),
            "Ready=False/SourceDenied Streaming=False/SourceDenied Recoverable=True/Recoverable GapDetected=False/NoGap".to_owned(),
        ),
        (
            reports(|report| stream_of(report).connected = false),
            "Ready=False/Connecting Streaming=Unknown/Connecting Recoverable=True/Recoverable GapDetected=False/NoGap".to_owned(),
        ),
        (
            reports(|report| {
                stream_of(report).store_failing = true;
                stream_of(report).error = error("StoreDenied");
            }),
            "Ready=False/StoreDenied Streaming=False/StoreDenied Recoverable=True/Recoverable GapDetected=False/NoGap".to_owned(),
        ),
        (
            reports(|report| *archive_of(report) = ArchiveReport { read_at: "2026-11-21T12:00:00Z".to_owned(), ..ArchiveReport::default() }),
            "Ready=False/NoFull Streaming=True/Streaming Recoverable=False/NoFull GapDetected=False/NoGap".to_owned(),
        ),
        (
            reports(|report| report.archive = None),
            "Ready=False/NotReadYet Streaming=True/Streaming Recoverable=Unknown/NotReadYet GapDetected=Unknown/NotReadYet".to_owned(),
        ),
        (
            reports(|report| archive_of(report).windows = vec![window("2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", Some("u:7-9"))]),
            "Ready=False/Gap Streaming=True/Streaming Recoverable=True/RecoverableToThePast GapDetected=True/FullNeeded".to_owned(),
        ),
        (
            reports(|report| archive_of(report).windows.insert(0, window("2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z", Some("u:7-9")))),
            "Ready=True/Protected Streaming=True/Streaming Recoverable=True/Recoverable GapDetected=True/FullTaken".to_owned(),
        ),
        (
            reports(|report| archive_of(report).problems = vec!["damaged".to_owned()]),
            format!("Ready=False/ArchiveProblems {fine}"),
        ),
    ] {
        assert_eq!(all(&status_of(&policy(), &seen, &Decision::default())), expected);
    }
    let warned = reports(|report| archive_of(report).warnings = vec!["0-2-7 may be missing".to_owned()]);
    let warned = status_of(&policy(), &warned, &Decision::default());
    assert_eq!(all(&warned), format!("Ready=True/Protected {fine}"));
    let message = &conditions::find(&warned.conditions, RECOVERABLE).unwrap().message;
    assert!(message.ends_with("; but 0-2-7 may be missing"), "{message}");
    let failing = Decision { failures: 3, ..Decision::default() };
    assert_eq!(all(&status_of(&policy(), &reports(|_| {}), &failing)), format!("Ready=False/FullsFail {fine}"));
}

#[test]
fn without_a_full_the_message_says_what_comes() {
    let empty = || {
        reports(|report| {
            *archive_of(report) =
                ArchiveReport { read_at: "2026-11-21T12:00:00Z".to_owned(), ..ArchiveReport::default() }
        })
    };
    let message = |policy: &BackupPolicy, decision: &Decision| {
        let status = status_of(policy, &empty(), decision);
        conditions::find(&status.conditions, READY).unwrap().message.clone()
    };
    let start = Start { name: "orders-20261120-100000".to_owned(), due: None, reason: String::new() };
    let starting = Decision { start: Some(start), ..Decision::default() };
    assert!(message(&policy(), &starting).contains("orders-20261120-100000 is under way"));
    assert!(message(&policy(), &Decision { failures: 2, ..Decision::default() }).contains("2 failed"));
    assert!(message(&policy(), &Decision::default()).contains("due at 2026-11-22T01:30:00Z"));
    let mut none = policy();
    none.spec.schedule = None;
    assert!(message(&none, &Decision::default()).contains("no spec.schedule"));
}

#[test]
fn without_a_stream_the_moments_of_fulls_are_what_there_is() {
    let mut policy = policy();
    policy.spec.binlog.enabled = false;
    let validated = validate(&policy).unwrap();
    let seen = seen(StreamSeen::Starting);
    let mut facts = Facts::new(&policy, &validated, &seen);
    let full = |shows: &str| Full {
        name: shows.to_owned(),
        ours: true,
        began: at(shows),
        due: Some(at(shows)),
        state: State::Succeeded { ended: at(shows), shows: at(shows) },
    };
    facts.fulls = vec![full("2026-11-20T01:30:00Z"), full("2026-11-21T01:30:00Z")];
    let status = compute(&policy, &validated, &seen, &facts, &Decision::default(), None, at("2026-11-21T12:00:01Z"));
    assert_eq!(
        all(&status),
        "Ready=True/Protected Streaming=False/Disabled Recoverable=True/FullsOnly GapDetected=False/NoGap"
    );
    assert_eq!(status.first_recoverability_point.as_deref(), Some("2026-11-20T01:30:00Z"));
    assert_eq!(status.latest_restorable_time.as_deref(), Some("2026-11-21T01:30:00Z"));
    assert_eq!((status.lag, status.last_schedule_time.as_deref()), (None, Some("2026-11-21T01:30:00Z")));
}

#[test]
fn a_stream_that_is_away_for_a_moment_leaves_what_was_known() {
    let mut policy = policy();
    let known = status_of(&policy, &reports(|_| {}), &Decision::default());
    policy.status = Some(known.clone());
    let status =
        status_of(&policy, &seen(StreamSeen::Silent { message: "no answer".to_owned() }), &Decision::default());
    assert_eq!((&status.windows, &status.latest_restorable_time), (&known.windows, &known.latest_restorable_time));
    assert_eq!((&status.last_full_time, &status.lag), (&known.last_full_time, &None));
    assert_eq!(condition(&status, STREAMING), ("Unknown".to_owned(), "NotReporting".to_owned()));
    assert_eq!(condition(&status, READY).0, "False");
    assert_eq!(condition(&status, RECOVERABLE).0, "True");
}

#[test]
fn a_refusal_leaves_the_rest_as_it_was() {
    let mut policy = policy();
    policy.status = Some(status_of(&policy, &reports(|_| {}), &Decision::default()));
    policy.spec.method = crate::api::Method::Clone;
    policy.metadata.generation = Some(4);
    let status = refused(&policy, validate(&policy).unwrap_err(), at("2026-11-21T13:00:00Z"));
    assert_eq!(condition(&status, READY), ("False".to_owned(), "Unsupported".to_owned()));
    assert_eq!(condition(&status, STREAMING).0, "True");
    assert_eq!(status.observed_generation, Some(4));
    assert_eq!(status.windows, policy.status.unwrap().windows);
}

#[test]
fn a_status_is_written_when_something_happened_and_else_now_and_then() {
    let old = status_of(&policy(), &reports(|_| {}), &Decision::default());
    let moved = status_of(
        &policy(),
        &reports(|report| {
            stream_of(report).lag_seconds = 7.0;
            archive_of(report).windows[0].to = "2026-11-21T12:00:09Z".to_owned();
        }),
        &Decision::default(),
    );
    let (soon, late) = (Some(Duration::from_secs(29)), Some(Duration::from_secs(30)));
    assert!(!worth_writing(&old, &old.clone(), late) && !worth_writing(&old, &old.clone(), None));
    assert!(!worth_writing(&old, &moved, soon));
    assert!(worth_writing(&old, &moved, late) && worth_writing(&old, &moved, None));
    let lost = status_of(&policy(), &seen(StreamSeen::Starting), &Decision::default());
    assert!(worth_writing(&old, &lost, Some(Duration::ZERO)));
    let taken = status_of(
        &policy(),
        &reports(|report| archive_of(report).last_full_time = Some("2026-11-21T12:00:00Z".to_owned())),
        &Decision::default(),
    );
    assert!(worth_writing(&old, &taken, soon));
}

#[test]
fn the_risk_of_a_purge_is_told_as_the_pod_sees_it_and_unknown_where_it_does_not() {
    let purge = |risk: Option<bool>, reason: &str| {
        let purge =
            PurgeReport { risk, reason: reason.to_owned(), message: "in 2h".to_owned(), ..PurgeReport::default() };
        let seen = reports(|report| stream_of(report).purge = purge);
        status_of(&policy(), &seen, &Decision::default())
    };
    let (near, far) = (purge(Some(true), "PurgeNear"), purge(Some(false), "TimeEnough"));
    let told = |status: &BackupPolicyStatus| condition(status, PURGE_RISK);
    assert_eq!(told(&near), ("True".to_owned(), "PurgeNear".to_owned()));
    assert_eq!(conditions::find(&near.conditions, PURGE_RISK).unwrap().message, "in 2h");
    assert_eq!(told(&far), ("False".to_owned(), "TimeEnough".to_owned()));
    assert_eq!(told(&purge(None, "CannotLook")), ("Unknown".to_owned(), "CannotLook".to_owned()));
    assert_eq!(told(&purge(None, "")), ("Unknown".to_owned(), "NotLooked".to_owned()));
    let starting = status_of(&policy(), &seen(StreamSeen::Starting), &Decision::default());
    assert_eq!(told(&starting), ("Unknown".to_owned(), "NotLooked".to_owned()));
    let news = |old: &BackupPolicyStatus, new: &BackupPolicyStatus| -> Vec<&'static str> {
        news::between(old, new).into_iter().map(|news| news.reason).collect()
    };
    assert_eq!(news(&far, &near), ["PurgeRisk"]);
    assert_eq!(news(&near, &far), ["PurgeRiskPassed"]);
}

#[test]
fn what_turned_is_told_once() {
    let told = |old: &BackupPolicyStatus, new: &BackupPolicyStatus| -> Vec<&'static str> {
        news::between(old, new).into_iter().map(|news| news.reason).collect()
    };
    let none = BackupPolicyStatus::default();
    let starting = status_of(&policy(), &seen(StreamSeen::Starting), &Decision::default());
    let fine = status_of(&policy(), &reports(|_| {}), &Decision::default());
    let lost = status_of(
        &policy(),
        &reports(|report| {
            stream_of(report).connected = false;
            stream_of(report).error =
                Some(PodError { reason: "SourceUnreachable".to_owned(), message: "m".to_owned(), transient: true });
        }),
        &Decision::default(),
    );
    let gap = status_of(
        &policy(),
        &reports(|report| {
            archive_of(report).windows = vec![window("2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", Some("u:7"))]
        }),
        &Decision::default(),
    );
    assert_eq!(told(&none, &starting), Vec::<&str>::new());
    assert_eq!(told(&starting, &fine), ["Recoverable"], "the first full");
    assert_eq!(told(&fine, &fine), Vec::<&str>::new());
    assert_eq!(told(&fine, &lost), ["StreamingLost"]);
    assert_eq!(told(&lost, &fine), ["StreamingRecovered"]);
    assert_eq!(told(&fine, &gap), ["GapDetected"]);
    let mut invalid = policy();
    invalid.spec.method = crate::api::Method::Clone;
    let refused = refused(&invalid, validate(&invalid).unwrap_err(), at("2026-11-21T13:00:00Z"));
    assert_eq!(told(&none, &refused), ["Refused"]);
}
