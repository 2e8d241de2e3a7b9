//! Asks pods how they are.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use snafu::{ResultExt, Snafu};

use crate::api::report::{Outcome, PodReport, REPORT_PORT};

/// A pod that does not answer within this is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The client that asks.
pub struct Reports(reqwest::Client);

/// Why a pod could not be asked.
#[derive(Debug, Snafu)]
pub enum ReportError {
    /// The client could not be made.
    #[snafu(display("cannot make an HTTP client"))]
    Client {
        /// Cause.
        source: reqwest::Error,
    },
    /// It has no address yet.
    #[snafu(display("the pod has no address yet"))]
    NoAddress,
    /// It speaks another language: a pod of another version.
    #[snafu(display("the pod's report cannot be read"))]
    Read {
        /// Cause.
        source: serde_json::Error,
    },
    /// It did not answer.
    #[snafu(display(
        "the pod does not answer on port {REPORT_PORT} (does a NetworkPolicy keep the operator from it?)"
    ))]
    Ask {
        /// Cause.
        source: reqwest::Error,
    },
}

impl Reports {
    /// A client.
    pub fn new() -> Result<Self, ReportError> {
        let client = reqwest::Client::builder().timeout(PATIENCE).connect_timeout(PATIENCE).no_proxy().build();
        client.map(Self).context(ClientSnafu)
    }

    /// What `pod` says of itself now.
    pub async fn ask(&self, pod: &Pod) -> Result<PodReport, ReportError> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).ok_or(ReportError::NoAddress)?;
        let host = if address.contains(':') { format!("[{address}]") } else { address };
        let answer = self.0.get(format!("http://{host}:{REPORT_PORT}/status")).send().await.context(AskSnafu)?;
        let bytes = answer.error_for_status().context(AskSnafu)?.bytes().await.context(AskSnafu)?;
        serde_json::from_slice(&bytes).context(ReadSnafu)
    }
}

/// The outcome that the container `name` of `pod` left when it last ended, and its exit code.
pub fn outcome(pod: &Pod, name: &str) -> Option<(i32, Outcome)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == name)?;
    let ended = |state: &k8s_openapi::api::core::v1::ContainerState| state.terminated.clone();
    let ended = status.state.as_ref().and_then(ended).or_else(|| status.last_state.as_ref().and_then(ended))?;
    let outcome = ended.message.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Some((ended.exit_code, outcome))
}

/// What ended the container `name` of `pod` (or the pod) from outside, before it could say anything itself.
pub fn killed(pod: &Pod, name: &str) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    if let Some(reason) = &status.reason {
        return Some((reason.clone(), format!("its pod was ended: {}", status.message.as_deref().unwrap_or(reason))));
    }
    let container = status.container_statuses.as_ref()?.iter().find(|container| container.name == name)?;
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    match ended.reason.as_deref() {
        Some("OOMKilled") => {
            let message = "its container was killed for want of memory: raise resources.limits.memory of the container `tidemark` in \
                           spec.jobTemplate of the policy";
            Some(("OOMKilled".to_owned(), message.to_owned()))
        }
        Some(reason) if reason != "Error" && reason != "Completed" => {
            let message = ended.message.clone().unwrap_or_default();
            Some((reason.to_owned(), format!("its container ended: {reason} {message}")))
        }
        _ => None,
    }
}

/// The condition of a Job that holds, of that type.
pub fn job_condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Why a pod does not run, in the kubelet's or the scheduler's words; none while it does or nobody says.
pub fn waits_for(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref()).find_map(|waiting| {
        let reason = waiting.reason.clone()?;
        let trouble = !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing");
        trouble.then(|| (reason, waiting.message.clone().unwrap_or_default()))
    });
    let unscheduled = || {
        let condition =
            status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some((condition.reason.clone()?, condition.message.clone().unwrap_or_default()))
    };
    waiting.or_else(unscheduled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_from_a_pod_that_ended_and_from_one_that_was_started_anew() {
        let pod = |text: &str| serde_json::from_value::<Pod>(serde_json::from_str(text).unwrap()).unwrap();
        let ended = pod(
            r#"{"status":{"containerStatuses":[{"name":"tidemark","image":"","imageID":"","ready":false,"restartCount":0,
               "state":{"terminated":{"exitCode":3,"message":"{\"error\":{\"reason\":\"OutsideWindow\",\"message\":\"m\",\"transient\":false}}"}}}]}}"#,
        );
        let (code, outcome) = super::outcome(&ended, "tidemark").unwrap();
        assert_eq!((code, outcome.error.unwrap().reason.as_str()), (3, "OutsideWindow"));
        let killed = pod(
            r#"{"status":{"containerStatuses":[{"name":"tidemark","image":"","imageID":"","ready":false,"restartCount":1,
               "state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"message":"not JSON"}}}]}}"#,
        );
        assert_eq!(super::outcome(&killed, "tidemark").unwrap(), (137, Outcome::default()));
        assert_eq!(super::outcome(&killed, "other"), None);
        let stuck = pod(
            r#"{"status":{"containerStatuses":[{"name":"tidemark","image":"","imageID":"","ready":false,"restartCount":0,
               "state":{"waiting":{"reason":"ImagePullBackOff","message":"no such image"}}}]}}"#,
        );
        assert_eq!(waits_for(&stuck).unwrap().0, "ImagePullBackOff");
    }
}
