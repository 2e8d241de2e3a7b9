use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::*;

fn full(phase: &str) -> FullBackup {
    let text = include_str!("../testdata/full.yaml").to_owned();
    serde_yaml::from_str(&format!("{text}status: {{phase: {phase}}}\n")).unwrap()
}

fn job(condition: &str) -> Option<Arc<Job>> {
    let conditions = match condition {
        "" => String::new(),
        type_ => format!(
            "conditions: [{{type: {type_}, status: 'True', reason: BackoffLimitExceeded, message: tried enough, \
             lastTransitionTime: '2026-11-21T12:00:00Z'}}]"
        ),
    };
    Some(Arc::new(serde_yaml::from_str(&format!("{{status: {{{conditions}}}}}")).unwrap()))
}

fn pod(phase: &str, state: &str) -> Arc<Pod> {
    Arc::new(
        serde_yaml::from_str(&format!(
            "{{status: {{phase: {phase}, containerStatuses: [{{name: tidemark, image: '', imageID: '', ready: false, restartCount: 0, \
             state: {{{state}}}}}]}}}}"
        ))
        .unwrap(),
    )
}

fn ended(code: i32, message: &str) -> Arc<Pod> {
    pod("Failed", &format!("terminated: {{exitCode: {code}, reason: Error, message: '{message}'}}"))
}

fn seen(job: Option<Arc<Job>>, pods: &[Arc<Pod>]) -> Facts {
    Facts { policy: None, job, config_map: None, pods: pods.to_vec(), progress: None }
}

fn now(seconds: u64) -> Timestamp {
    "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(seconds)
}

fn reason(standing: &Standing) -> (&'static str, String) {
    match standing {
        Standing::Waits { reason, .. } => ("waits", reason.clone()),
        Standing::Runs(_) => ("runs", String::new()),
        Standing::Succeeded(full) => ("succeeded", full.id.clone()),
        Standing::Failed { reason, stop: true, .. } => ("failed for good", reason.clone()),
        Standing::Failed { reason, stop: false, .. } => ("failed", reason.clone()),
    }
}

const TRANSIENT: &str = r#"{"error":{"reason":"SourceUnreachable","message":"m","transient":true}}"#;
const LASTING: &str = r#"{"error":{"reason":"MissingGrant","message":"m","transient":false}}"#;
const TAKEN: &str = r#"{"full":{"id":"20261121T120000Z-1","bytes":5}}"#;

#[test]
fn a_full_stands_as_its_job_and_pods_say() {
    let running = || pod("Running", "running: {}");
    let stuck = || pod("Pending", "waiting: {reason: ImagePullBackOff, message: no such image}");
    let killed = || pod("Failed", "terminated: {exitCode: 137, reason: OOMKilled}");
    for (seen, phase, seconds, expected) in [
        (seen(None, &[]), "Pending", 0, ("waits", "Pending")),
        (seen(job(""), &[]), "Pending", 0, ("waits", "Starting")),
        (seen(job(""), &[stuck()]), "Pending", 0, ("waits", "ImagePullBackOff")),
        (seen(job(""), &[running()]), "Pending", 0, ("runs", "")),
        // A new attempt runs; an older one failed for a reason that passes.
        (seen(job(""), &[running(), ended(5, TRANSIENT)]), "Running", 0, ("runs", "")),
        (seen(job(""), &[ended(5, TRANSIENT)]), "Running", 0, ("waits", "SourceUnreachable")),
        (seen(job("Failed"), &[ended(5, TRANSIENT)]), "Running", 0, ("failed", "SourceUnreachable")),
        // What lasts is not tried again.
        (seen(job(""), &[ended(1, LASTING)]), "Running", 0, ("failed for good", "MissingGrant")),
        (seen(job(""), &[running(), ended(1, LASTING)]), "Running", 0, ("failed for good", "MissingGrant")),
        // The pod may be seen to end before the Job does, or long after.
        (seen(job(""), &[ended(0, TAKEN)]), "Running", 0, ("succeeded", "20261121T120000Z-1")),
        (seen(job("Complete"), &[ended(0, TAKEN)]), "Running", 0, ("succeeded", "20261121T120000Z-1")),
        (seen(job("Complete"), &[running()]), "Running", 29, ("runs", "")),
        (seen(job("Complete"), &[running()]), "Running", 30, ("failed", "ResultUnknown")),
        (seen(job("Complete"), &[]), "Running", 30, ("failed", "ResultUnknown")),
        // One that was taken is taken, whatever another attempt says.
        (seen(job(""), &[ended(1, LASTING), ended(0, TAKEN)]), "Running", 0, ("succeeded", "20261121T120000Z-1")),
        (seen(job("Failed"), &[killed()]), "Running", 0, ("failed", "OOMKilled")),
        (seen(job("Failed"), &[]), "Running", 0, ("failed", "BackoffLimitExceeded")),
        (seen(None, &[]), "Running", 0, ("failed", "ResultUnknown")),
    ] {
        let standing = standing(&full(phase), &seen, None, now(seconds));
        let (kind, reason) = reason(&standing);
        assert_eq!((kind, reason.as_str()), expected, "{standing:?}");
    }
}
