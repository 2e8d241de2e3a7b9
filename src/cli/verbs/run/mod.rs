//! Schedule + stream, for every policy.

mod fulls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::stream;
use crate::binlog::{StreamReading, StreamStatus};
use crate::cli::args::RunArgs;
use crate::cli::config::{self, Policy};
use crate::cli::exit;
use crate::cli::manifests;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A stream that lasted this long was healthy: the next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(120);

/// Runs every policy of the manifests until `shutdown`.
pub async fn run(args: RunArgs, trace_id: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let documents = manifests::load(&args.manifests)?;
    let policies = config::policies(&documents)?;
    let mut tasks = JoinSet::new();
    for policy in policies {
        let policy = Arc::new(policy);
        let gap = Arc::new(Notify::new());
        let span = tracing::info_span!("stream", policy = policy.name);
        let streaming = supervise(Arc::clone(&policy), trace_id.to_owned(), shutdown.clone(), Arc::clone(&gap));
        tasks.spawn(streaming.instrument(span));
        tasks.spawn(fulls::keep(policy, trace_id.to_owned(), shutdown.clone(), gap));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of a policy ended abnormally");
            shutdown.cancel();
            anyhow::bail!("a task of a policy ended abnormally: {error}");
        }
    }
    Ok(())
}

/// Streams, and begins again after every failure. A gap, or a store that lost what was archived, asks for a full at once.
async fn supervise(policy: Arc<Policy>, trace_id: String, shutdown: CancellationToken, gap: Arc<Notify>) {
    if policy.binlog.is_none() {
        tracing::warn!(policy = policy.name, "spec.binlog.enabled is false: only the moments of fulls can be restored");
        return;
    }
    let mut pause = FIRST_PAUSE;
    while !shutdown.is_cancelled() {
        let begun = Instant::now();
        let status = StreamStatus::default();
        let watcher = tokio::spawn(watch_gaps(status.clone(), Arc::clone(&gap)));
        let done = stream::stream(&policy, &trace_id, shutdown.clone(), status).await;
        watcher.abort();
        match done {
            Ok(()) => return,
            Err(error) => {
                if begun.elapsed() > HEALTHY {
                    pause = FIRST_PAUSE;
                }
                let seconds = pause.as_secs();
                tracing::error!(
                    policy = policy.name,
                    error = exit::text(&error),
                    "the stream failed; again in {seconds} s"
                );
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn watch_gaps(status: StreamStatus, gap: Arc<Notify>) {
    let mut changes = status.subscribe();
    let told = |reading: &StreamReading| reading.gaps.len() + reading.losses.len();
    let mut known = 0;
    while changes.wait_for(|reading| told(reading) > known).await.map(|reading| known = told(&reading)).is_ok() {
        gap.notify_one();
    }
}
