use super::*;
use crate::controller::backup_policy::validate;

fn policy(verify: &str, rest: &str) -> BackupPolicy {
    let mut policy: BackupPolicy = serde_yaml::from_str(include_str!("../testdata/policy.yaml")).unwrap();
    policy.spec.verify = serde_yaml::from_str(verify).unwrap();
    if !rest.is_empty() {
        let rest: BackupPolicy = serde_yaml::from_str(&format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: x}}, spec: {{source: {{host: h, credentialsSecretRef: \
             {{name: l}}}}, storage: {{s3: {{bucket: abc}}}}}}, status: {{{rest}}}}}"
        ))
        .unwrap();
        policy.status = rest.status;
    }
    policy
}

fn ask(policy: &mut BackupPolicy, text: &str) {
    policy.annotations_mut().insert(VERIFY_NOW.to_owned(), text.to_owned());
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn job(name: &str, condition: &str) -> Arc<Job> {
    let text = format!(
        "{{metadata: {{name: {name}, uid: u}}, status: {{conditions: [{{type: {condition}, status: 'True', reason: R, message: m}}]}}}}"
    );
    Arc::new(serde_yaml::from_str(&text).unwrap())
}

fn ended(job: Arc<Job>, depth: &str, findings: u64) -> Seen {
    let message = serde_json::json!({"verify": {"at": "T2", "depth": depth, "objects": 7, "bytes": 2048, "findings": findings,
        "shown": ["Lost a: it is not there"], "affected": if findings > 0 { "full f" } else { "" }}});
    let pod = serde_json::json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Job", "name": "j", "uid": "u"}]},
        "status": {"containerStatuses": [{"name": "tidemark", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 4, "message": message.to_string()}}}]}});
    Seen { jobs: vec![job], pods: vec![Arc::new(serde_json::from_value(pod).unwrap())], ..Seen::default() }
}

const SUNDAYS: &str = "{cron: '0 4 * * 0', depth: Deep, bytesPerSecond: 50Mi}";

#[test]
fn it_is_begun_once_when_it_is_due_in_the_schedules_time_zone_and_once_for_each_request() {
    // A Sunday; the policy was made on a Friday before.
    let (before, after) = (at("2026-11-29T02:59:00Z"), at("2026-11-29T03:00:01Z"));
    let mut weekly = policy(SUNDAYS, "");
    let validated = validate(&weekly).unwrap();
    assert_eq!(due(&weekly, &validated, &Seen::default(), before).unwrap().job, "orders-verify-20261122-030000");
    let begin = due(&weekly, &validated, &Seen::default(), after).unwrap();
    assert_eq!(begin, Begin { job: "orders-verify-20261129-030000".to_owned(), depth: VerifyDepth::Deep });
    let seen = |jobs: Vec<Arc<Job>>| Seen { jobs, ..Seen::default() };
    for condition in ["Complete", "Failed", "Suspended"] {
        assert_eq!(due(&weekly, &validated, &seen(vec![job(&begin.job, condition)]), after), None, "{condition}");
    }
    // The status remembers it when the Job is gone.
    let told = status(&weekly, &validated, &seen(vec![job(&begin.job, "Complete")]), None, after).unwrap();
    assert_eq!(told.last_schedule_time.as_deref(), Some("2026-11-29T03:00:00Z"));
    weekly.status = Some(crate::api::BackupPolicyStatus { verification: Some(told), ..Default::default() });
    assert_eq!(due(&weekly, &validated, &Seen::default(), after), None);

    // A person asks: at once, whatever is due, but not beside another one.
    ask(&mut weekly, "Quick@2026-11-29T10:00:00Z");
    let asked = due(&weekly, &validated, &Seen::default(), after).unwrap();
    assert!(asked.job.starts_with("orders-verify-") && asked.depth == VerifyDepth::Quick, "{asked:?}");
    assert_eq!(due(&weekly, &validated, &seen(vec![job("orders-verify-1", "Suspended")]), after), None);
    let told = status(&weekly, &validated, &Seen::default(), Some(&asked), after).unwrap();
    assert_eq!((told.phase, told.last_request.as_deref()), (Some(Phase::Pending), Some("Quick@2026-11-29T10:00:00Z")));
    weekly.status = Some(crate::api::BackupPolicyStatus { verification: Some(told), ..Default::default() });
    assert_eq!(due(&weekly, &validated, &Seen::default(), after), None, "it was acted on");

    // Without spec.verify only who asks gets one, and nothing is said before.
    let mut never = policy("null", "");
    let validated = validate(&never).unwrap();
    assert_eq!(due(&never, &validated, &Seen::default(), after), None);
    assert_eq!(status(&never, &validated, &Seen::default(), None, after), None);
    ask(&mut never, "Deep@2026-11-29T10:00:00Z");
    assert_eq!(due(&never, &validated, &Seen::default(), after).unwrap().depth, VerifyDepth::Deep);
}

#[test]
fn a_verify_is_a_job_that_knows_its_depth_its_pace_and_what_retention_may_have_deleted() {
    let policy = policy(SUNDAYS, "");
    let validated = validate(&policy).unwrap();
    let begin = Begin { job: "orders-verify-1".to_owned(), depth: VerifyDepth::Deep };
    let (config_map, job) = build(&policy, &validated, &begin, "image").unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].args.as_ref().unwrap()[..2], ["verify", "--deep"]);
    let text = &config_map.data.unwrap()["manifest.yaml"];
    for part in ["bytesPerSecond: 50Mi", "window: 30d", "timeZone: Europe/Berlin"] {
        assert!(text.contains(part), "{text}");
    }
    let quick = Begin { depth: VerifyDepth::Quick, ..begin };
    let (_, job) = build(&policy, &validated, &quick, "image").unwrap();
    assert_ne!(job.spec.unwrap().template.spec.unwrap().containers[0].args.as_ref().unwrap()[1], "--deep");
}

#[test]
fn what_was_found_is_said_and_only_as_thorough_a_look_takes_it_back() {
    let now = at("2026-11-29T12:00:00Z");
    let fresh = policy(SUNDAYS, "");
    let validated = validate(&fresh).unwrap();
    let found = ended(job("j", "Failed"), "Deep", 3);
    let said = verdict(&fresh, &found).unwrap();
    assert_eq!((said.holds, said.reason.as_str()), (Some(false), "Damaged"));
    assert!(said.message.contains("3 findings; affected: full f. Lost a: it is not there"), "{}", said.message);
    let told = status(&fresh, &validated, &found, None, now).unwrap();
    assert_eq!((told.phase, told.findings, told.depth), (Some(Phase::Succeeded), Some(3), Some(VerifyDepth::Deep)));
    assert_eq!((told.affected.as_deref(), told.last_intact.as_deref()), (Some("full f"), None));
    assert_eq!(told.shown, ["Lost a: it is not there"]);

    let damaged = policy(
        SUNDAYS,
        "verification: {phase: Succeeded, lastRun: T1, depth: Deep, findings: 3, affected: full f}, \
         conditions: [{type: Intact, status: 'False', reason: Damaged, message: m, lastTransitionTime: '2026-11-28T10:00:00Z'}]",
    );
    for seen in [ended(job("j", "Complete"), "Quick", 0), Seen { jobs: vec![job("j", "Failed")], ..Seen::default() }] {
        assert_eq!(verdict(&damaged, &seen), None);
        assert_eq!(status(&damaged, &validated, &seen, None, now).unwrap().findings, Some(3));
    }
    let mended = ended(job("j", "Complete"), "Deep", 0);
    assert_eq!(verdict(&damaged, &mended).unwrap().holds, Some(true));
    let told = status(&damaged, &validated, &mended, None, now).unwrap();
    assert_eq!((told.findings, told.affected, told.last_intact.as_deref()), (Some(0), None, Some("T2")));

    // Who could not look does not know.
    let failed = verdict(&fresh, &Seen { jobs: vec![job("j", "Failed")], ..Seen::default() }).unwrap();
    assert_eq!((failed.holds, failed.reason.as_str()), (None, "R"));
}

#[test]
fn only_the_pod_of_a_deep_verify_that_names_an_identity_mounts_it() {
    let mut policy =
        policy("{cron: '0 4 * * 0', depth: Deep, decryption: {identitySecretRef: {name: backup-key}}}", "");
    let mounts = |policy: &BackupPolicy, depth: VerifyDepth| {
        let (_, job) =
            build(policy, &validate(policy).unwrap(), &Begin { job: "j".to_owned(), depth }, "image").unwrap();
        serde_json::to_string(&job).unwrap().contains("backup-key")
    };
    assert!(mounts(&policy, VerifyDepth::Deep));
    assert!(!mounts(&policy, VerifyDepth::Quick), "who reads no data needs no key");
    let stream = crate::controller::backup_policy::build::build(&policy, &validate(&policy).unwrap(), "image").unwrap();
    assert!(!serde_yaml::to_string(&stream.stateful_set).unwrap().contains("backup-key"));
    assert!(!serde_yaml::to_string(&stream.config_map).unwrap().contains("backup-key"));
    policy.spec.verify.as_mut().unwrap().decryption = None;
    assert!(!mounts(&policy, VerifyDepth::Deep));
}

#[test]
fn what_was_not_decoded_is_said() {
    let mut seen = ended(job("j", "Complete"), "Deep", 0);
    let pod = Arc::make_mut(&mut seen.pods[0]);
    let ended = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].state;
    let message = ended.as_mut().unwrap().terminated.as_mut().unwrap().message.as_mut().unwrap();
    *message = message.replace("\"findings\"", "\"undecoded\":5,\"findings\"");
    let said = verdict(&policy(SUNDAYS, ""), &seen).unwrap();
    assert!(said.holds == Some(true) && said.message.contains("5 encrypted ones"), "{said:?}");
}
