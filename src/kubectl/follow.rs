//! Follows a piece of work until it has ended.

use std::pin::pin;

use futures::StreamExt;
use indicatif::HumanBytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};

use super::cluster::{Cluster, Kind};
use super::error::Error;
use super::report::condition;
use crate::api::{BackupPolicy, FullBackup, Phase, ProgressStatus, RestoreRequest};

/// Answers that fail in a row before it gives up; the pauses between them grow.
const FAILURES_TOLERATED: u32 = 5;

/// An object that ends.
pub trait Work: Kind {
    /// How far it is.
    fn standing(&self) -> Standing<'_>;
}

/// How far a piece of work is.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    phase: Phase,
    progress: Option<&'a ProgressStatus>,
    /// Whether it is complete, and why not.
    complete: Option<&'a Condition>,
}

impl Work for FullBackup {
    fn standing(&self) -> Standing<'_> {
        let status = self.status.as_ref();
        Standing {
            phase: status.map(|status| status.phase).unwrap_or_default(),
            progress: status.and_then(|status| status.progress.as_ref()),
            complete: status.and_then(|status| condition(&status.conditions, "Complete")),
        }
    }
}

impl Work for RestoreRequest {
    fn standing(&self) -> Standing<'_> {
        let status = self.status.as_ref();
        Standing {
            phase: status.map(|status| status.phase).unwrap_or_default(),
            progress: status.and_then(|status| status.progress.as_ref()),
            complete: status.and_then(|status| condition(&status.conditions, "Complete")),
        }
    }
}

impl Standing<'_> {
    /// On one line.
    fn line(&self) -> String {
        let Self { phase, progress, complete } = self;
        let phase = format!("{phase:?}");
        let what = match (progress, complete) {
            (Some(ProgressStatus { step, done_bytes, total_bytes }), _) if !self.phase.is_terminal() => {
                match (u128::from(*done_bytes) * 100).checked_div(u128::from(*total_bytes)) {
                    Some(percent) => format!("{step} {}% of {}", percent.min(100), HumanBytes(*total_bytes)),
                    None => step.clone(),
                }
            }
            (_, Some(complete)) => complete.message.clone(),
            (_, None) => "the operator has not looked at it yet".to_owned(),
        };
        format!("{phase:<9} {what}")
    }
}

/// The verify of a policy that was asked for by that annotation: how far it is.
pub fn verify_standing<'a>(policy: &'a BackupPolicy, request: &str) -> Standing<'a> {
    let status = policy.status.as_ref();
    let known = status.and_then(|status| status.verification.as_ref());
    let ours = known.filter(|known| known.last_request.as_deref() == Some(request));
    let phase = ours.and_then(|known| known.phase).unwrap_or_default();
    // Until then the condition is of the verify before.
    let ended = ours.and(status).filter(|_| phase.is_terminal());
    Standing {
        phase,
        progress: ours.and_then(|known| known.progress.as_ref()),
        complete: ended.and_then(|status| condition(&status.conditions, "Intact")),
    }
}

/// Tells each change on standard error until it has ended; what it is then. One that ended badly is an error.
pub async fn follow<K: Work>(cluster: &Cluster, object: &K) -> Result<K, Error> {
    follow_by(cluster, object, K::standing).await
}

/// The same, where `standing` says how far it is.
pub async fn follow_by<K, F>(cluster: &Cluster, object: &K, standing: F) -> Result<K, Error>
where
    K: Kind,
    F: Fn(&K) -> Standing<'_>,
{
    let shown = format!("{}/{}", K::kind(&()).to_lowercase(), object.name_any());
    let mut changes = pin!(watch_object(cluster.api::<K>(), &object.name_any()).default_backoff());
    let (mut last, mut failures) = (String::new(), 0);
    while let Some(change) = changes.next().await {
        let seen = match change {
            Ok(Some(seen)) if seen.uid() == object.uid() => seen,
            Ok(_) => return Err(Error::Deleted { object: shown }),
            Err(error) => {
                failures += 1;
                if failures < FAILURES_TOLERATED && !is_final(&error) {
                    continue;
                }
                return Err(Error::Watch { object: shown, why: in_words(error) });
            }
        };
        failures = 0;
        let standing = standing(&seen);
        let line = standing.line();
        if line != last {
            eprintln!("{line}");
            last = line;
        }
        match standing.phase {
            Phase::Pending | Phase::Running => {}
            Phase::Succeeded => return Ok(seen),
            Phase::Failed => {
                let complete = standing.complete;
                let text = |of: fn(&Condition) -> &String| complete.map(of).cloned().unwrap_or_default();
                let (reason, message) = (text(|complete| &complete.reason), text(|complete| &complete.message));
                return Err(Error::Failed { object: shown, reason, message });
            }
        }
    }
    Err(Error::Watch { object: shown, why: "the API server ended the watch".to_owned() })
}

fn cause(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => Some(source),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
    }
}

/// Whether trying again cannot help: the account may not watch.
fn is_final(error: &watcher::Error) -> bool {
    matches!(cause(error), Some(kube::Error::Api(status)) if matches!(status.code, 401 | 403))
}

fn in_words(error: watcher::Error) -> String {
    cause(&error).map_or_else(|| error.to_string(), super::error::explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: &str) -> String {
        let text = format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: f}}, spec: {{policyRef: {{name: p}}}}, status: {status}}}"
        );
        let full: FullBackup = serde_yaml::from_str(&text).unwrap();
        full.standing().line()
    }

    #[test]
    fn a_line_says_the_phase_and_how_far_it_is_or_what_it_waits_for() {
        let complete = |status: &str, message: &str| {
            format!(
                "conditions: [{{type: Complete, status: '{status}', reason: R, message: {message}, lastTransitionTime: \
                 '2026-11-25T10:00:00Z'}}]"
            )
        };
        let waits = complete("Unknown", "no node has room for its pod");
        for (status, shown) in [
            ("{}".to_owned(), "Pending   the operator has not looked at it yet"),
            (format!("{{phase: Pending, {waits}}}"), "Pending   no node has room for its pod"),
            (
                format!(
                    "{{phase: Running, progress: {{step: tables, doneBytes: 1073741824, totalBytes: 2147483648}}, {waits}}}"
                ),
                "Running   tables 50% of 2.00 GiB",
            ),
            (
                "{phase: Running, progress: {step: connecting, doneBytes: 0, totalBytes: 0}}".to_owned(),
                "Running   connecting",
            ),
            (
                format!("{{phase: Succeeded, {}}}", complete("True", "the full is in the archive")),
                "Succeeded the full is in the archive",
            ),
        ] {
            assert_eq!(line(&status), shown);
        }
    }
}
