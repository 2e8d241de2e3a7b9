//! A pod that is turned away may have been given better credentials since. The kubelet puts a changed Secret into a running pod once a minute
//! or so, but at once when the pod itself is changed: so an annotation is, now and then, as long as that may help. The operator needs no right
//! to read Secrets for it. Pure but for the writing.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::dereference::{Facts, StreamSeen};
use super::status::STREAMING;
use crate::api::BackupPolicy;
use crate::controller::error::text;
use crate::controller::names::LOOK_AGAIN;
use crate::controller::{Context, conditions};

/// How often, at first: somebody is at it. The longer it fails, the less often.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Has the kubelet look for changed Secrets, if it is time to. Where that fails, it looks by itself, later.
pub async fn refresh(context: &Context, policy: &BackupPolicy, seen: &Facts, now: Timestamp) {
    let Some(pod) = seen.pod.as_ref().filter(|pod| is_due(policy, pod, &seen.stream, now)) else { return };
    if let Err(error) = context.applier.annotate(pod, LOOK_AGAIN, &now.to_string()).await {
        tracing::warn!(
            namespace = pod.namespace(),
            pod = pod.name_any(),
            error = text(&error),
            "cannot refresh its Secrets"
        );
    }
}

fn is_due(policy: &BackupPolicy, pod: &Pod, stream: &StreamSeen, now: Timestamp) -> bool {
    let error = stream.report().and_then(|report| report.stream.as_ref()?.error.as_ref());
    if error.is_none_or(|error| error.transient) {
        return false;
    }
    let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let told = policy.status.as_ref().and_then(|status| conditions::find(&status.conditions, STREAMING));
    let failing =
        told.filter(|told| told.status != "True").map_or(Duration::ZERO, |told| age(told.last_transition_time.0));
    let pause = (failing / 20).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    let last = pod.annotations().get(LOOK_AGAIN).and_then(|text| text.parse().ok());
    last.is_none_or(|last: Timestamp| age(last) >= pause || last > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::report::{PodError, PodReport, StreamReport};

    #[test]
    fn a_pod_that_is_turned_away_is_told_to_look_again_often_at_first_and_one_that_works_is_left_alone() {
        let at = |text: &str| -> Timestamp { format!("2026-11-28T{text}Z").parse().unwrap() };
        let policy: BackupPolicy = serde_yaml::from_str(
            "{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {name: orders}, spec: {source: {host: db, \
             credentialsSecretRef: {name: l}}, storage: {s3: {bucket: abc}}}, status: {conditions: [{type: Streaming, status: 'False', \
             reason: SourceDenied, message: m, lastTransitionTime: '2026-11-28T12:00:00Z'}]}}",
        )
        .unwrap();
        let pod = |last: &str| -> Pod {
            serde_yaml::from_str(&format!("{{metadata: {{annotations: {{{LOOK_AGAIN}: '2026-11-28T{last}Z'}}}}}}"))
                .unwrap()
        };
        let stream = |error: Option<bool>| {
            let error = error.map(|transient| PodError { transient, ..PodError::default() });
            let stream = Some(StreamReport { error, ..StreamReport::default() });
            StreamSeen::Reports(Box::new(PodReport { stream, ..PodReport::default() }))
        };
        let due = |pod: &Pod, error, now| is_due(&policy, pod, &stream(error), at(now));
        assert!(due(&Pod::default(), Some(false), "12:00:01"));
        assert!(!due(&Pod::default(), Some(true), "12:00:01"), "that passes by itself");
        assert!(!due(&Pod::default(), None, "12:00:01"));
        assert!(!is_due(&policy, &Pod::default(), &StreamSeen::Starting, at("12:00:01")));
        assert!(!due(&pod("12:00:01"), Some(false), "12:00:05"));
        assert!(due(&pod("12:00:01"), Some(false), "12:00:06"));
        assert!(!due(&pod("12:10:00"), Some(false), "12:10:29"));
        assert!(due(&pod("12:10:00"), Some(false), "12:10:40"));
        assert!(due(&pod("18:00:00"), Some(false), "18:01:00"));
        assert!(due(&pod("19:00:00"), Some(false), "18:01:00"), "a clock was set back");
    }
}
