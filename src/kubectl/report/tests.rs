use super::*;

fn policy(status: &str) -> BackupPolicy {
    serde_yaml::from_str(&format!(
        "
apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata: {{ name: orders, namespace: shop }}
spec:
  source: {{ host: db, credentialsSecretRef: {{ name: orders-login }} }}
  storage: {{ s3: {{ bucket: backups }} }}
status: {status}
"
    ))
    .unwrap()
}

fn full(name: &str, of: &str, created: &str, status: &str) -> FullBackup {
    serde_yaml::from_str(&format!(
        "
apiVersion: tidemark.dev/v1alpha1
kind: FullBackup
metadata: {{ name: {name}, namespace: shop, creationTimestamp: '{created}' }}
spec: {{ policyRef: {{ name: {of} }} }}
status: {status}
"
    ))
    .unwrap()
}

fn condition_of(type_: &str, status: &str, reason: &str, message: &str) -> String {
    format!(
        "{{type: {type_}, status: '{status}', reason: {reason}, message: {message}, lastTransitionTime: '2026-11-25T10:00:00Z'}}"
    )
}

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

#[test]
fn a_policy_with_a_gap_in_its_past_is_drawn_with_it() {
    let policy = policy(&format!(
        "
  conditions: [{}]
  firstRecoverabilityPoint: '2026-11-23T12:00:00Z'
  latestRestorableTime: '2026-11-25T11:59:59.5Z'
  lag: 0.4s
  lastFullTime: '2026-11-25T00:00:00Z'
  nextScheduleTime: '2026-11-26T01:30:00Z'
  windows:
  - {{from: '2026-11-23T12:00:00Z', to: '2026-11-24T06:00:00.25Z', base: a, gap: {{gtids: '0-1-5..9', reason: purged before it was archived}}}}
  - {{from: '2026-11-24T12:00:00Z', to: '2026-11-25T11:59:59.5Z', base: b}}
",
        condition_of("Ready", "True", "Protected", "what is committed is archived and can be restored")
    ));
    let taken = |at: &str| format!("{{phase: Succeeded, consistentAt: '{at}', size: 1.4GiB, duration: 3m12s}}");
    let fulls = [
        full("b", "orders", "2026-11-24T11:58:00Z", &taken("2026-11-24T12:00:00Z")),
        full("a", "orders", "2026-11-23T11:58:00Z", &taken("2026-11-23T12:00:00Z")),
        full("of-another", "users", "2026-11-24T18:00:00Z", &taken("2026-11-24T18:00:00Z")),
        full("c", "orders", "2026-11-24T23:58:00Z", &taken("2026-11-25T00:00:00Z")),
    ];
    let report = PolicyReport::new(&policy, &fulls);
    assert_eq!(
        report.draw(now(), Paint::Plain),
        "\
orders in shop: Ready (Protected)
  what is committed is archived and can be restored

  fulls        ▼                             ▼             ▼
  restorable   ━━━━━━━━━━━━━━━━━━━━━━╳╳╳╳╳╳╳╳━━━━━━━━━━━━━━━━━━━━━━━━━━━━━▶
               2026-11-23T12:00:00Z                    2026-11-25T12:00:00Z
               ▼ a full   ━ every transaction   ╳ never archived

  restorable   2026-11-23T12:00:00Z to 2026-11-24T06:00:00.25Z, 18h 0m
  gap          0-1-5..9 missing: purged before it was archived
  restorable   2026-11-24T12:00:00Z to 2026-11-25T11:59:59.5Z (0s ago), 23h 59m, growing
  lag          0.4s
  last full    2026-11-25T00:00:00Z (12h 0m ago)
  next full    2026-11-26T01:30:00Z (in 13h 30m)
"
    );
    // Without their objects: where windows begin, and the newest.
    let alone = PolicyReport::new(&policy, &[]);
    assert_eq!(alone.draw(now(), Paint::Plain), report.draw(now(), Paint::Plain));
    let names: Vec<&str> = report.fulls.iter().map(|full| full.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["ready"], &json["nextFullTime"]), (&true.into(), &"2026-11-26T01:30:00Z".into()));
    assert_eq!(
        (&json["windows"][0]["gap"]["gtids"], &json["fulls"][0]["size"]),
        (&"0-1-5..9".into(), &"1.4GiB".into())
    );
}

#[test]
fn colours_mark_what_is_well_and_what_is_not() {
    let policy = policy(&format!("{{conditions: [{}]}}", condition_of("Ready", "False", "StoreDenied", "mend it")));
    let drawn = PolicyReport::new(&policy, &[]).draw(now(), Paint::Colour);
    assert!(drawn.contains("\x1b[1;31mNOT READY (StoreDenied)\x1b[0m"), "{drawn:?}");
}

#[test]
fn a_policy_without_a_full_says_that_nothing_can_be_restored() {
    let under_way = condition_of("Complete", "Unknown", "Running", "the full is being taken");
    let failed = condition_of("Complete", "False", "SourceBusy", "no quiet moment");
    let fulls = [
        full("first", "orders", "2026-11-25T10:00:00Z", &format!("{{phase: Failed, conditions: [{failed}]}}")),
        full("second", "orders", "2026-11-25T11:00:00Z", &format!("{{phase: Running, conditions: [{under_way}]}}")),
    ];
    let conditions = |recoverable| {
        [
            condition_of("Ready", "False", "NoFull", "wait for it"),
            condition_of("Recoverable", recoverable, "NoFull", "wait for it"),
        ]
        .join(", ")
    };
    let unknown = policy(&format!("{{conditions: [{}]}}", conditions("Unknown")));
    let drawn = PolicyReport::new(&unknown, &fulls).draw(now(), Paint::Plain);
    assert!(drawn.contains("what can be restored is not known yet"), "{drawn}");
    let policy = policy(&format!("{{conditions: [{}]}}", conditions("False")));
    assert_eq!(
        PolicyReport::new(&policy, &fulls).draw(now(), Paint::Plain),
        "\
orders in shop: NOT READY (NoFull)
  wait for it

  nothing can be restored yet: the archive holds no full

  lag          unknown
  last full    none
  next full    none by schedule
  under way    FullBackup second: the full is being taken
  failed       FullBackup first (SourceBusy): no quiet moment
"
    );
}

#[test]
fn without_a_stream_the_moments_of_fulls_are_drawn() {
    let taken = |at: &str| format!("{{phase: Succeeded, consistentAt: '{at}'}}");
    let fulls = [
        full("a", "orders", "2026-11-23T12:00:00Z", &taken("2026-11-23T12:00:00Z")),
        full("b", "orders", "2026-11-24T12:00:00Z", &taken("2026-11-24T12:00:00Z")),
    ];
    let policy =
        policy("{firstRecoverabilityPoint: '2026-11-23T12:00:00Z', latestRestorableTime: '2026-11-24T12:00:00Z'}");
    let drawn = PolicyReport::new(&policy, &fulls).draw(now(), Paint::Plain);
    let lines: Vec<&str> = drawn.lines().skip(3).take(4).collect();
    assert_eq!(
        lines,
        [
            "  fulls        ▼                             ▼",
            "  restorable   ●·····························●·····························",
            "               2026-11-23T12:00:00Z                    2026-11-25T12:00:00Z",
            "               ▼ a full   ● this moment only",
        ]
    );
    assert!(drawn.contains("the operator has not looked at it yet"), "{drawn}");
    assert!(drawn.contains("the moments of fulls only, 2026-11-23T12:00:00Z to 2026-11-24T12:00:00Z"), "{drawn}");
}
