//! Fulls and verifies by schedule, and the stream, for every policy.

mod fulls;
mod verifies;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::binlog::{StreamReading, StreamStatus};
use crate::cli::args::RunArgs;
use crate::cli::config::{self, Policy};
use crate::cli::manifests;
use crate::cli::supervise::{StreamWatch, Supply, supervise};

/// Runs every policy of the manifests until `shutdown`.
pub async fn run(args: RunArgs, trace_id: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let documents = manifests::load(&args.manifests)?;
    let policies = config::policies(&documents)?;
    let mut tasks = JoinSet::new();
    for policy in policies {
        let policy = Arc::new(policy);
        let gap = Arc::new(Notify::new());
        let span = tracing::info_span!("stream", policy = policy.name);
        let streaming = keep_streaming(Arc::clone(&policy), trace_id.to_owned(), shutdown.clone(), Arc::clone(&gap));
        tasks.spawn(streaming.instrument(span));
        tasks.spawn(
            verifies::keep(Arc::clone(&policy), shutdown.clone())
                .instrument(tracing::info_span!("verify", policy = policy.name)),
        );
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

/// Streams, whatever fails. A gap, or a store that lost what was archived, asks for a full at once.
async fn keep_streaming(policy: Arc<Policy>, trace_id: String, shutdown: CancellationToken, gap: Arc<Notify>) {
    if policy.binlog.is_none() {
        tracing::warn!(policy = policy.name, "spec.binlog.enabled is false: only the moments of fulls can be restored");
        return;
    }
    let watch = StreamWatch::default();
    let status = watch.status.clone();
    tokio::select! {
        () = supervise(Supply::Fixed(policy), &trace_id, shutdown, watch) => {}
        () = watch_gaps(status, gap) => {}
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
