use super::*;

const NOW: &str = "2026-11-25T10:00:00Z";

fn pod(containers: &str) -> Arc<Pod> {
    Arc::new(
        serde_yaml::from_str(&format!("{{metadata: {{name: p}}, status: {{containerStatuses: [{containers}]}}}}"))
            .unwrap(),
    )
}

fn container(name: &str, state: &str, last: &str) -> String {
    format!(
        "{{name: {name}, image: '', imageID: '', ready: false, restartCount: 0, state: {{{state}}}, lastState: {{{last}}}}}"
    )
}

fn terminated(code: i32, outcome: &str) -> String {
    format!("terminated: {{exitCode: {code}, message: '{outcome}'}}")
}

const RUNS: &str = "running: {}";
const BACK_OFF: &str = "waiting: {reason: CrashLoopBackOff, message: back-off}";
const PROVED: &str = r#"{"restore":{"restoredTo":"t","executed":"e","rtoSeconds":1,"warnings":[]}}"#;
const OUTSIDE: &str = r#"{"error":{"reason":"OutsideWindow","message":"m","transient":false}}"#;
const STORE_DOWN: &str = r#"{"error":{"reason":"StoreUnreachable","message":"m","transient":true}}"#;

fn shown(work: &Work) -> String {
    match work {
        Work::Absent => "absent".to_owned(),
        Work::Taken => "taken".to_owned(),
        Work::Waits { reason, message: _ } => format!("waits:{reason}"),
        Work::Runs(_) => "runs".to_owned(),
        Work::Ended(_) => "ended".to_owned(),
        Work::Lost => "lost".to_owned(),
        Work::Failed(error) => format!("failed:{}", error.reason),
    }
}

#[test]
fn the_engine_beside_a_server_is_judged_by_how_it_last_ended_however_often_it_is_started() {
    for (engine, server, stands) in [
        (container("tidemark", RUNS, ""), RUNS, "runs"),
        (container("tidemark", "waiting: {reason: PodInitializing}", ""), RUNS, "waits:Starting"),
        (container("tidemark", "waiting: {reason: ImagePullBackOff, message: no}", ""), RUNS, "waits:ImagePullBackOff"),
        // The kubelet starts it again in a while, and again and again.
        (container("tidemark", &terminated(0, PROVED), ""), RUNS, "ended"),
        (container("tidemark", BACK_OFF, &terminated(0, PROVED)), RUNS, "ended"),
        (container("tidemark", RUNS, &terminated(0, PROVED)), RUNS, "ended"),
        (container("tidemark", BACK_OFF, &terminated(3, OUTSIDE)), RUNS, "failed:OutsideWindow"),
        (container("tidemark", BACK_OFF, &terminated(5, STORE_DOWN)), RUNS, "waits:StoreUnreachable"),
        (container("tidemark", RUNS, &terminated(5, STORE_DOWN)), RUNS, "runs"),
        // Killed: it said nothing.
        (container("tidemark", RUNS, &terminated(137, "")), RUNS, "runs"),
        // The server crashed, and says why.
        (
            container("tidemark", BACK_OFF, &terminated(5, STORE_DOWN)),
            "terminated: {exitCode: 1, message: disk full}",
            "waits:ServerFailed",
        ),
    ] {
        let pods = [pod(&format!("{}, {engine}", container("server", server, "")))];
        assert_eq!(shown(&of_server(&pods, None)), stands, "{engine}");
    }
    assert_eq!(shown(&of_server(&[], None)), "waits:Starting");
    // The pod was replaced after the proof.
    let pods = [pod(&container("tidemark", RUNS, "")), pod(&container("tidemark", &terminated(0, PROVED), ""))];
    assert_eq!(shown(&of_server(&pods, None)), "ended");
}

#[test]
fn why_an_empty_server_could_not_be_made_is_told_in_its_own_last_words() {
    let pod: Pod = serde_yaml::from_str(&format!(
        "{{metadata: {{name: p}}, status: {{initContainerStatuses: [{}]}}}}",
        container("initialize", BACK_OFF, &terminated(1, "the volume holds something already"))
    ))
    .unwrap();
    let (reason, message) = trouble(&pod).unwrap();
    assert_eq!(reason, "ServerFailed");
    assert!(message.contains("`initialize`") && message.ends_with("the volume holds something already"), "{message}");
}

#[test]
fn a_job_is_judged_by_its_pods_and_then_by_itself() {
    let now: Timestamp = NOW.parse().unwrap();
    let job = |conditions: &str| -> Found<Job> {
        Found::Ours(
            serde_yaml::from_str::<Job>(&format!("{{metadata: {{name: j}}, status: {{conditions: [{conditions}]}}}}"))
                .unwrap()
                .into(),
        )
    };
    let complete = |at: &str| job(&format!("{{type: Complete, status: 'True', lastTransitionTime: '{at}'}}"));
    let failed = job("{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: m}");
    let engine = |state: &str| vec![pod(&container("tidemark", state, ""))];
    for (job, pods, stands) in [
        (Found::Nothing, vec![], "absent"),
        (Found::Others, vec![], "taken"),
        (job(""), vec![], "waits:Starting"),
        (job(""), engine(RUNS), "runs"),
        (job(""), engine(&terminated(3, OUTSIDE)), "failed:OutsideWindow"),
        (job(""), engine(&terminated(5, STORE_DOWN)), "waits:StoreUnreachable"),
        (complete("2026-11-25T09:59:59Z"), engine(&terminated(0, PROVED)), "ended"),
        // The Job's end may be seen before its pod's; then the pod may be gone.
        (complete("2026-11-25T09:59:59Z"), engine(RUNS), "waits:Ending"),
        (complete("2026-11-25T09:59:00Z"), vec![], "lost"),
        (failed.clone(), engine(&terminated(5, STORE_DOWN)), "failed:StoreUnreachable"),
        (failed, vec![], "failed:BackoffLimitExceeded"),
    ] {
        assert_eq!(shown(&of_job(&job, &pods, None, now)), stands, "{job:?} {pods:?}");
    }
}

#[test]
fn a_pod_that_is_going_is_not_ready() {
    let ready = "status: {conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-11-25T10:00:00Z'}]}";
    let pod = |meta: &str| serde_yaml::from_str::<Pod>(&format!("{{metadata: {{name: p{meta}}}, {ready}}}")).unwrap();
    assert_eq!(ready_since(&pod("")), Some(NOW.parse().unwrap()));
    assert_eq!(ready_since(&pod(", deletionTimestamp: '2026-11-25T10:00:00Z'")), None);
}
