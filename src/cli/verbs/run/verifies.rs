//! Verifies the archive when that is due.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::config::{Policy, Verify};
use crate::cli::exit;
use crate::cli::verbs::verify;

/// The clock is looked at this often at least: it may be set while a long sleep lasts.
const LOOK: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Verifies a policy's archive by schedule until `shutdown`: also what was due while no process ran, once.
pub async fn keep(policy: Arc<Policy>, shutdown: CancellationToken) {
    let Some(spec) = policy.verify.clone() else { return };
    let started = Timestamp::now();
    let (mut last, mut pause) = (None, FIRST_PAUSE);
    while !shutdown.is_cancelled() {
        let wait = match once(&policy, &spec, &mut last, started, &shutdown).await {
            Ok(wait) => {
                pause = FIRST_PAUSE;
                wait
            }
            Err(_) if shutdown.is_cancelled() => return,
            Err(error) => {
                let (seconds, error) = (pause.as_secs(), exit::text(&error));
                tracing::error!(policy = policy.name, error, "cannot verify the archive; again in {seconds} s");
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Verifies if it is due; how long nothing will be. `last` is when the last one began: this process's, else what the archive says.
async fn once(
    policy: &Policy,
    spec: &Verify,
    last: &mut Option<Timestamp>,
    started: Timestamp,
    shutdown: &CancellationToken,
) -> anyhow::Result<Duration> {
    let known = match *last {
        Some(last) => last,
        // An archive that was never verified is verified when it is next due.
        None => verify::last(policy, spec.depth).await?.unwrap_or(started),
    };
    let now = Timestamp::now();
    if spec.times.last_due(now).is_some_and(|due| due > known) {
        verify::by_policy(policy, spec, shutdown).await?;
        *last = Some(now);
    } else {
        *last = Some(known);
    }
    let next = spec.times.next_after(Timestamp::now());
    let wait = next.map(|next| Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default());
    Ok(wait.unwrap_or(LOOK).clamp(Duration::from_millis(100), LOOK))
}
