use super::*;
use crate::api::{GapStatus, WindowStatus};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(rest: &str) -> Schedule {
    Schedule::new(&serde_yaml::from_str(&format!("{{cron: '30 2 * * *', timeZone: Europe/Berlin{rest}}}")).unwrap())
        .unwrap()
}

fn facts(schedule: &Schedule) -> Facts<'_> {
    Facts {
        policy: "orders".to_owned(),
        created: at("2026-11-20T10:00:00Z"),
        schedule: Some(schedule),
        fulls: Vec::new(),
        archive: None,
        stream: None,
        streams: false,
        streams_since: None,
        last_known: None,
    }
}

fn full(name: &str, began: &str, state: State) -> Full {
    Full { name: name.to_owned(), ours: true, began: at(began), due: None, state }
}

fn succeeded(name: &str, began: &str) -> Full {
    let ended = at(began) + Duration::from_secs(300);
    full(name, began, State::Succeeded { ended, shows: at(began) })
}

fn failed(name: &str, began: &str, ended: &str) -> Full {
    full(name, began, State::Failed { ended: at(ended) })
}

/// The name of the full that is begun.
fn started(facts: &Facts<'_>, now: &str) -> Option<String> {
    decide(facts, at(now)).start.map(|start| start.name)
}

fn archive(read_at: &str, windows: &[Option<&str>]) -> ArchiveReport {
    let window = |gtids: &Option<&str>| WindowStatus {
        from: "2026-11-20T10:00:00Z".to_owned(),
        to: "2026-11-20T11:00:00Z".to_owned(),
        base: "f".to_owned(),
        gap: gtids.map(|gtids| GapStatus { gtids: gtids.to_owned(), reason: None }),
    };
    ArchiveReport {
        read_at: read_at.to_owned(),
        fulls: windows.len(),
        last_full_time: (!windows.is_empty()).then(|| "2026-11-20T10:00:00Z".to_owned()),
        windows: windows.iter().map(window).collect(),
        ..ArchiveReport::default()
    }
}

#[test]
fn the_first_full_is_taken_at_once_and_is_named_by_the_policys_birth() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    let now = "2026-11-20T10:00:03Z";
    let start = decide(&facts, at(now)).start.unwrap();
    assert_eq!((start.name.as_str(), start.due), ("orders-20261120-100000", None));
    assert_eq!(started(&facts, "2026-11-20T10:47:11Z"), Some(start.name.clone()), "whenever it is decided");
    facts.fulls.push(full(&start.name, now, State::UnderWay));
    assert_eq!(decide(&facts, at(now)).start, None);
    assert_eq!(decide(&facts, at(now)).look_at, Some(at("2026-11-21T01:30:00Z")));
}

#[test]
fn a_policy_with_a_stream_asks_what_the_archive_holds_before_the_first_full_but_not_for_ever() {
    let schedule = schedule("");
    let mut facts = Facts { streams: true, ..facts(&schedule) };
    let decision = decide(&facts, at("2026-11-20T10:00:05Z"));
    assert_eq!((decision.start, decision.look_at), (None, Some(at("2026-11-20T10:01:00Z"))));
    assert_eq!(started(&facts, "2026-11-20T10:01:00Z").unwrap(), "orders-20261120-100000");
    let empty = archive("2026-11-20T10:00:04Z", &[]);
    facts.archive = Some(&empty);
    assert_eq!(started(&facts, "2026-11-20T10:00:05Z").unwrap(), "orders-20261120-100000");
    let kept = archive("2026-11-20T10:00:04Z", &[None]);
    facts.archive = Some(&kept);
    assert_eq!(started(&facts, "2026-11-20T10:00:05Z"), None, "the archive was there before the policy");
}

#[test]
fn without_immediate_the_first_full_is_the_next_one_due() {
    let schedule = schedule(", immediate: false");
    let facts = facts(&schedule);
    assert_eq!(started(&facts, "2026-11-20T10:00:03Z"), None);
    assert_eq!(started(&facts, "2026-11-21T01:29:59Z"), None);
    assert_eq!(started(&facts, "2026-11-21T01:30:00Z").unwrap(), "orders-20261121-013000");
}

#[test]
fn a_full_is_named_by_the_moment_it_was_due_however_late_it_is() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    assert_eq!(started(&facts, "2026-11-21T01:29:59Z"), None);
    for now in ["2026-11-21T01:30:00Z", "2026-11-21T01:30:07Z", "2026-11-21T19:00:00Z"] {
        let start = decide(&facts, at(now)).start.unwrap();
        assert_eq!((start.name.as_str(), start.due), ("orders-20261121-013000", Some(at("2026-11-21T01:30:00Z"))));
    }
    assert_eq!(started(&facts, "2026-11-24T12:00:00Z").unwrap(), "orders-20261124-013000", "of many missed the newest");
}

#[test]
fn a_missed_full_older_than_the_deadline_is_let_go() {
    let schedule = schedule(", startingDeadlineSeconds: 600");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    assert_eq!(started(&facts, "2026-11-21T01:40:00Z").unwrap(), "orders-20261121-013000");
    let decision = decide(&facts, at("2026-11-21T01:40:01Z"));
    assert_eq!((decision.start, decision.look_at), (None, Some(at("2026-11-22T01:30:00Z"))));
}

#[test]
fn nothing_is_taken_by_schedule_while_it_is_suspended_or_when_there_is_none() {
    let schedule = schedule(", suspend: true");
    let mut facts = facts(&schedule);
    let now = at("2026-12-24T12:00:00Z");
    assert_eq!(decide(&facts, now), Decision::default());
    facts.schedule = None;
    assert_eq!(decide(&facts, now), Decision::default());
}

/// Runs an operator that looks every `step` from `from` to `to`, is started anew each time (it remembers nothing), and whose fulls take
/// `takes`. Returns the fulls it began.
fn lived_through(mut facts: Facts<'_>, from: &str, to: &str, step: Duration, takes: Duration) -> Vec<String> {
    let (mut now, to) = (at(from), at(to));
    let mut begun = Vec::new();
    while now <= to {
        for full in &mut facts.fulls {
            if full.state == State::UnderWay && full.began + takes <= now {
                full.state = State::Succeeded { ended: full.began + takes, shows: full.began };
            }
        }
        // Two operators that both believe to lead, and see the same.
        let decisions = [decide(&facts, now), decide(&facts, now)];
        assert_eq!(decisions[0], decisions[1]);
        if let Some(start) = decisions[0].start.clone() {
            assert!(facts.fulls.iter().all(|full| full.name != start.name), "{} twice", start.name);
            begun.push(start.name.clone());
            facts.fulls.push(Full { name: start.name, ours: true, began: now, due: start.due, state: State::UnderWay });
        }
        now += step;
    }
    begun
}

#[test]
fn each_night_has_one_full_also_where_the_clock_is_put_forward_or_back() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    let step = Duration::from_secs(97);
    let takes = Duration::from_secs(1200);
    // 02:30 does not exist in Berlin on 2026-03-29, and exists twice on 2026-10-25.
    facts.created = at("2026-03-27T12:00:00Z");
    let spring = lived_through(facts.clone(), "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z", step, takes);
    assert_eq!(spring.len(), 4, "{spring:?}");
    assert_eq!(spring[1], "orders-20260328-013000");
    assert!(spring[2].starts_with("orders-20260329-01"), "{spring:?}");
    assert_eq!(spring[3], "orders-20260330-003000");
    facts.created = at("2026-10-23T12:00:00Z");
    let autumn = lived_through(facts, "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z", step, takes);
    let expected =
        ["orders-20261023-120000", "orders-20261024-003000", "orders-20261025-003000", "orders-20261026-013000"];
    assert_eq!(autumn, expected);
}

#[test]
fn an_operator_that_is_started_anew_each_second_around_the_due_moment_takes_one_full() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    let begun = lived_through(
        facts,
        "2026-11-21T01:25:00Z",
        "2026-11-21T01:50:00Z",
        Duration::from_secs(1),
        Duration::from_secs(30),
    );
    assert_eq!(begun, ["orders-20261121-013000"]);
}

#[test]
fn a_clock_that_is_set_back_takes_no_full_twice_and_one_that_ran_ahead_stops_none() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261121-013000", "2026-11-21T01:30:02Z")];
    assert_eq!(started(&facts, "2026-11-21T01:29:30Z"), None);
    assert_eq!(started(&facts, "2026-11-21T01:31:00Z"), None);
    // A clock of the year 2031 took one; then it was put right.
    facts.fulls.push(succeeded("orders-20310101-013000", "2031-01-01T01:30:00Z"));
    facts.last_known = Some(at("2031-01-01T01:30:00Z"));
    assert_eq!(started(&facts, "2026-11-21T12:00:00Z"), None);
    assert_eq!(started(&facts, "2026-11-22T01:30:10Z").unwrap(), "orders-20261122-013000");
    // And failures of that clock neither stop nor hasten others.
    facts.fulls.push(failed("orders-20310102-013000", "2031-01-02T01:30:00Z", "2031-01-02T01:31:00Z"));
    assert_eq!(started(&facts, "2026-11-22T01:30:10Z").unwrap(), "orders-20261122-013000");
}

#[test]
fn an_api_server_whose_clock_is_behind_ours_does_not_make_a_full_due_twice() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261121-013000", "2026-11-21T01:29:55Z")];
    assert_eq!(started(&facts, "2026-11-21T02:00:00Z"), None);
    assert_eq!(started(&facts, "2026-11-22T01:30:00Z").unwrap(), "orders-20261122-013000");
}

#[test]
fn a_full_that_fails_is_taken_again_after_growing_pauses_by_names_that_follow_from_the_failures() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    let mut now = at("2026-11-20T10:00:00Z");
    let mut waited = Vec::new();
    for attempt in 0..9 {
        let decision = decide(&facts, now);
        assert_eq!(decision.failures, attempt.min(FAILURES_KEPT), "{decision:?}");
        let begins = match decision.look_at {
            Some(again) if decision.start.is_none() => again,
            _ => now,
        };
        waited.push((begins.duration_since(now)).as_secs());
        let start = decide(&facts, begins).start.unwrap();
        assert_eq!(start.name, format!("orders-{}", stamp(begins)));
        now = begins + Duration::from_secs(10);
        facts.fulls.push(full(&start.name, &begins.to_string(), State::Failed { ended: now }));
        let forget = decide(&facts, now).forget;
        facts.fulls.retain(|full| !forget.contains(&full.name));
        assert!(facts.fulls.len() <= FAILURES_KEPT, "old failures go");
    }
    assert_eq!(waited, [0, 30, 60, 120, 240, 480, 600, 600, 600]);
    // One that a person made and that succeeded ends it.
    let again = now.to_string();
    facts.fulls.push(Full { ours: false, ..succeeded("by-hand", &again) });
    assert_eq!(decide(&facts, now + Duration::from_secs(400)).failures, 0);
    assert_eq!(decide(&facts, now + Duration::from_secs(700)).start, None);
}

#[test]
fn failures_do_not_hold_up_the_next_due_full_and_a_persons_failures_are_that_persons() {
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![
        succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z"),
        failed("orders-20261121-013000", "2026-11-21T01:30:00Z", "2026-11-21T01:31:00Z"),
    ];
    assert_eq!(started(&facts, "2026-11-21T01:31:29Z"), None);
    assert_eq!(started(&facts, "2026-11-21T01:31:30Z").unwrap(), "orders-20261121-013130");
    assert_eq!(started(&facts, "2026-11-22T01:30:00Z").unwrap(), "orders-20261122-013000", "named by the newer reason");
    // The stream works again: what kept both from the source is mended.
    let streams_since = |text: &str| Facts { streams_since: Some(at(text)), ..facts.clone() };
    let mended = streams_since("2026-11-21T01:31:05Z");
    assert_eq!(started(&mended, "2026-11-21T01:31:04Z"), None);
    assert_eq!(started(&mended, "2026-11-21T01:31:06Z").unwrap(), "orders-20261121-013105");
    assert_eq!(
        started(&streams_since("2026-11-21T01:30:30Z"), "2026-11-21T01:31:06Z"),
        None,
        "that was before it failed"
    );
    facts.fulls[1].ours = false;
    assert_eq!(decide(&facts, at("2026-11-21T01:31:01Z")).failures, 0);
    assert_eq!(started(&facts, "2026-11-21T05:00:00Z"), None, "the name of the moment is taken");
}

#[test]
fn a_full_that_is_due_while_one_is_under_way_waits_runs_beside_it_or_replaces_it() {
    for (policy, start, stop) in [
        ("Forbid", None, vec![]),
        ("Allow", Some("orders-20261121-013000"), vec![]),
        ("Replace", Some("orders-20261121-013000"), vec!["orders-20261120-100000"]),
    ] {
        let schedule = schedule(&format!(", concurrencyPolicy: {policy}"));
        let mut facts = facts(&schedule);
        facts.fulls = vec![full("orders-20261120-100000", "2026-11-20T10:00:00Z", State::UnderWay)];
        let decision = decide(&facts, at("2026-11-21T01:30:00Z"));
        assert_eq!(
            (decision.start.as_ref().map(|start| start.name.as_str()), decision.stop),
            (start, stop.iter().map(|s| s.to_string()).collect()),
            "{policy}"
        );
        // What a person asked for is left in peace.
        facts.fulls[0].ours = false;
        let decision = decide(&facts, at("2026-11-21T01:30:00Z"));
        assert_eq!((decision.start.is_some(), decision.stop), (policy == "Allow", Vec::new()), "{policy}");
    }
    // Forbid: it is made up for when the other is done.
    let schedule = schedule("");
    let mut facts = facts(&schedule);
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    facts.fulls[0].state = State::Succeeded { ended: at("2026-11-21T03:00:00Z"), shows: at("2026-11-20T10:00:00Z") };
    assert_eq!(started(&facts, "2026-11-21T03:00:01Z").unwrap(), "orders-20261121-013000");
}

#[test]
fn a_gap_that_no_full_stands_behind_asks_for_one_at_once_and_once() {
    let schedule = schedule(", suspend: true");
    let mut facts = Facts { streams: true, ..facts(&schedule) };
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    let now = "2026-11-20T12:00:00Z";
    let (gap, closed) =
        (archive("2026-11-20T11:59:50Z", &[Some("u:7-9")]), archive("2026-11-20T11:59:50Z", &[Some("u:7-9"), None]));
    facts.archive = Some(&closed);
    assert_eq!(started(&facts, now), None, "a full stands behind it");
    facts.archive = Some(&gap);
    let start = decide(&facts, at(now)).start.unwrap();
    assert!(start.name.starts_with("orders-gap-") && start.reason.contains("u:7-9"), "{start:?}");
    assert_eq!(decide(&facts, at("2026-11-20T12:10:00Z")).start.unwrap(), start, "whenever it is decided");
    // It ends; the archive was last read before: that says nothing.
    facts.fulls.push(succeeded(&start.name, "2026-11-20T12:00:00Z"));
    assert_eq!(started(&facts, "2026-11-20T12:06:00Z"), None);
    // And where it did not help, another one would not.
    let later = archive("2026-11-20T12:20:00Z", &[Some("u:7-9")]);
    facts.archive = Some(&later);
    assert_eq!(started(&facts, "2026-11-20T12:20:10Z"), None);
    // Another gap is another matter.
    let other = archive("2026-11-20T12:20:00Z", &[Some("u:7-9"), Some("u:20")]);
    facts.archive = Some(&other);
    assert_ne!(started(&facts, "2026-11-20T12:20:10Z").unwrap(), start.name);
    // The stream has not come as far as the newest full yet: no gap.
    let behind = archive("2026-11-20T12:20:00Z", &[Some("u:7-9"), Some("")]);
    let stream = StreamReport {
        gtids_on: true,
        gaps: vec![GapStatus { gtids: "u:7-9".to_owned(), reason: None }],
        ..StreamReport::default()
    };
    (facts.archive, facts.stream) = (Some(&behind), Some(&stream));
    assert_eq!(started(&facts, "2026-11-20T12:20:10Z"), None);
}

#[test]
fn a_full_for_a_gap_that_fails_is_taken_again() {
    let schedule = schedule("");
    let gap = archive("2026-11-20T11:59:50Z", &[Some("u:7-9")]);
    let mut facts = Facts { streams: true, archive: Some(&gap), ..facts(&schedule) };
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    let name = started(&facts, "2026-11-20T12:00:00Z").unwrap();
    facts.fulls.push(failed(&name, "2026-11-20T12:00:00Z", "2026-11-20T12:01:00Z"));
    assert_eq!(started(&facts, "2026-11-20T12:01:10Z"), None);
    assert_eq!(started(&facts, "2026-11-20T12:01:30Z").unwrap(), "orders-20261120-120130");
    assert_eq!(started(&facts, "2026-11-20T12:09:00Z").unwrap(), "orders-20261120-120130");
}

#[test]
fn without_gtids_a_gap_is_what_the_stream_met() {
    let schedule = schedule("");
    let windows = archive("2026-11-20T11:59:50Z", &[Some("")]);
    let mut facts = Facts { streams: true, archive: Some(&windows), ..facts(&schedule) };
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    let now = "2026-11-20T12:00:00Z";
    assert_eq!(started(&facts, now), None, "the stream has not begun yet");
    let gap = GapStatus { gtids: String::new(), reason: Some("binlog.000003 was gone".to_owned()) };
    let stream = StreamReport { gaps: vec![gap], ..StreamReport::default() };
    facts.stream = Some(&stream);
    assert!(started(&facts, now).unwrap().starts_with("orders-gap-"));
}

#[test]
fn an_archive_that_was_emptied_gets_a_new_full() {
    let schedule = schedule("");
    let mut facts = Facts { streams: true, last_known: Some(at("2026-11-20T10:00:00Z")), ..facts(&schedule) };
    facts.fulls = vec![succeeded("orders-20261120-100000", "2026-11-20T10:00:00Z")];
    let just_before = archive("2026-11-20T10:05:30Z", &[]);
    facts.archive = Some(&just_before);
    assert_eq!(started(&facts, "2026-11-20T10:06:00Z"), None, "it was read about when the full ended");
    let ahead = archive("2026-11-20T10:30:00Z", &[]);
    facts.archive = Some(&ahead);
    assert_eq!(started(&facts, "2026-11-20T10:05:10Z"), None, "by a clock that runs ahead");
    let emptied = archive("2026-11-20T14:00:00Z", &[]);
    facts.archive = Some(&emptied);
    assert_eq!(started(&facts, "2026-11-20T14:00:10Z").unwrap(), "orders-20261120-100500");
    assert_eq!(facts.newest_shown(at("2026-11-20T14:00:10Z")), None);
    facts.fulls.push(full("orders-20261120-100500", "2026-11-20T14:00:10Z", State::UnderWay));
    assert_eq!(started(&facts, "2026-11-20T14:00:20Z"), None);
}

#[test]
fn fulls_that_somebody_deleted_are_not_taken_anew() {
    let schedule = schedule("");
    let facts = Facts { last_known: Some(at("2026-11-21T01:30:05Z")), ..facts(&schedule) };
    assert_eq!(started(&facts, "2026-11-21T12:00:00Z"), None);
    assert_eq!(started(&facts, "2026-11-22T01:30:00Z").unwrap(), "orders-20261122-013000");
}

#[test]
fn what_is_made_says_whose_it_is_and_why() {
    let policy: BackupPolicy = serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap();
    let start = Start {
        name: "orders-20261121-013000".to_owned(),
        due: Some(at("2026-11-21T01:30:00Z")),
        reason: "due by schedule".to_owned(),
    };
    let made = build(&policy, &start);
    insta::assert_snapshot!(serde_yaml::to_string(&made).unwrap());
    assert!(Full::new(&made, &policy).ours);
    assert_eq!(Full::new(&made, &policy).due, start.due);
}
