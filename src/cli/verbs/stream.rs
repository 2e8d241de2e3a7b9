use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::binlog::{self, Acknowledge, StreamConfig, StreamReading};
use crate::cli::args::StreamArgs;
use crate::cli::config::{self, Policy};
use crate::cli::manifests::ManifestError;
use crate::cli::report::{self, StreamSubject};
use crate::cli::supervise::{StreamWatch, Supply, supervise};
use crate::cli::{copies, engine, exit, source};
use crate::model::CommitTime;
use crate::mysql::sql;

/// How long a source that was never reached is waited for.
const FIRST_CONTACT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Archives one policy's binary log until `shutdown`. One that reports does so whatever fails, and tries again; others end.
pub async fn run(args: StreamArgs, trace_id: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let watch = StreamWatch::default();
    if let Some(listen) = args.report.listen {
        return reporting(args, listen, trace_id, shutdown, watch).await;
    }
    let policy = config::one_policy(&args.policy)?;
    check_enabled(&policy)?;
    if !first_contact(&policy, &shutdown).await? {
        return Ok(());
    }
    let supply = Arc::new(Supply::Fixed(Arc::new(policy.clone())));
    // Where the stream ends, so does the process.
    let copies = copies::keep(supply, shutdown.clone(), watch.clone());
    tokio::select! {
        done = stream(&policy, trace_id, shutdown.clone(), &watch) => done,
        () = never_after(copies) => Ok(()),
    }
}

/// Copies that are no longer filled, or that there are none of, end nothing.
async fn never_after(copies: impl Future<Output = ()>) {
    copies.await;
    std::future::pending::<()>().await;
}

async fn reporting(
    args: StreamArgs,
    listen: SocketAddr,
    trace_id: &str,
    shutdown: CancellationToken,
    watch: StreamWatch,
) -> anyhow::Result<()> {
    if args.policy.manifests.files.iter().any(|file| file == Path::new("-")) {
        let message = "-f -: with --report-listen manifests are read again while the stream runs, and standard input can be read once: \
                       name a file"
            .to_owned();
        return Err(ManifestError::Choice { message }.into());
    }
    let subject = StreamSubject::new(watch.clone(), args.policy.policy.clone());
    let _archive = subject.read_archive(shutdown.clone());
    let _server = report::serve(listen, subject, &shutdown).await?;
    supervise(Supply::Files(args.policy), trace_id, shutdown, watch).await;
    Ok(())
}

/// Refuses a policy that wants no stream.
pub fn check_enabled(policy: &Policy) -> Result<(), ManifestError> {
    if policy.binlog.is_some() {
        return Ok(());
    }
    let message = format!("policy {}: spec.binlog.enabled is false: there is nothing to stream", policy.name);
    Err(ManifestError::Choice { message })
}

/// Waits for a source that is only just starting, but not for one that is not where the policy says. False once shut down.
async fn first_contact(policy: &Policy, shutdown: &CancellationToken) -> anyhow::Result<bool> {
    let until = Instant::now() + FIRST_CONTACT;
    loop {
        let Some(found) = shutdown.run_until_cancelled(source::choose(policy)).await else { return Ok(false) };
        let Err(error) = found else { return Ok(true) };
        let passes =
            error.chain().any(|cause| cause.downcast_ref::<sql::Error>().is_some_and(sql::Error::is_transient));
        if !passes || Instant::now() >= until {
            return Err(error);
        }
        let seconds_left = until.saturating_duration_since(Instant::now()).as_secs();
        tracing::error!(policy = policy.name, error = exit::text(&error), seconds_left, "no source yet; trying again");
        if shutdown.run_until_cancelled(sleep(FIRST_PAUSE)).await.is_none() {
            return Ok(false);
        }
    }
}

/// Archives a policy's binary log until `cancel`; what was read by then is stored. Logs what changes, and figures now and then.
pub async fn stream(
    policy: &Policy,
    trace_id: &str,
    cancel: CancellationToken,
    watch: &StreamWatch,
) -> anyhow::Result<()> {
    let Some(wanted) = &policy.binlog else { return Ok(()) };
    let (mut endpoint, info) = source::choose(policy).await?;
    let store = engine::store(&policy.store)?;
    let status = &watch.status;
    tracing::info!(
        policy = policy.name,
        source = endpoint.address(),
        server = info.identity(),
        version = info.version_text,
        store = store.url(),
        "streaming the binary log"
    );
    let config = StreamConfig {
        flush_interval: wanted.flush_interval,
        segment_bytes: wanted.segment_bytes,
        compression: engine::compression(policy.compression_level),
        recipients: policy.recipients.clone(),
        acknowledge: if wanted.semi_sync { Acknowledge::ObjectStore } else { Acknowledge::None },
        spool: wanted.spool.clone(),
        hold_purge: wanted.hold_purge,
        trace_id: trace_id.to_owned(),
        ..StreamConfig::default()
    };
    let reporter = tokio::spawn(tell(policy.name.clone(), watch.clone()).in_current_span());
    let done = loop {
        watch.reads(endpoint.address());
        let attempt = cancel.child_token();
        let streaming =
            binlog::stream(config.clone(), endpoint.clone(), store.clone(), attempt.clone(), status.clone());
        tokio::pin!(streaming);
        let next = tokio::select! {
            done = &mut streaming => break done,
            next = source::successor(policy, &endpoint, status) => next,
        };
        tracing::warn!(
            policy = policy.name,
            lost = endpoint.address(),
            source = next.address(),
            "failover: going on at the new primary"
        );
        attempt.cancel();
        if let Err(error) = streaming.await {
            break Err(error);
        }
        endpoint = next;
    };
    reporter.abort();
    line(&policy.name, &status.read(), "the stream has stopped");
    Ok(done?)
}

/// Logs changes at once and figures every few seconds.
async fn tell(policy: String, watch: StreamWatch) {
    let status = &watch.status;
    let mut changes = status.subscribe();
    let mut ticks = tokio::time::interval(LINE_INTERVAL);
    ticks.tick().await;
    let mut known = StreamReading::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => line(&policy, &status.read(), "streaming"),
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = changes.borrow_and_update().clone();
                if now.connected {
                    watch.works();
                }
                differences(&policy, &known, &now);
                known = now;
                // The engine changes its figures with every event; people need to know within a blink only.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn differences(policy: &str, known: &StreamReading, now: &StreamReading) {
    if now.connected != known.connected {
        let position = now.durable.as_ref().map(ToString::to_string);
        if now.connected {
            tracing::info!(policy, position, "connected to the source");
        } else {
            tracing::warn!(policy, position, "lost the source; connecting again");
        }
    }
    if now.store_failing != known.store_failing {
        if now.store_failing {
            tracing::error!(policy, "the store refuses writes: nothing new is protected; trying again");
        } else {
            tracing::info!(policy, "the store takes writes again");
        }
    }
    for gap in now.gaps.iter().skip(known.gaps.len()) {
        tracing::error!(
            policy,
            missing = %gap.missing,
            resumed_at = gap.resumed_at,
            "a gap: the source no longer had these transactions; restores into it fail, a new window begins with the next full"
        );
    }
    for incident in now.incidents.iter().skip(known.incidents.len()) {
        let at = incident.at.to_string();
        tracing::error!(policy, at, message = incident.message, "the source's binlog lacks events: take a full now");
    }
    for fork in now.forks.iter().skip(known.forks.len()) {
        tracing::warn!(policy, gtids = %fork, "a fork: only a former primary had these transactions; they are kept aside");
    }
    for warning in now.warnings.iter().filter(|warning| !known.warnings.contains(warning)) {
        tracing::warn!(policy, "{warning}");
    }
}

fn line(policy: &str, now: &StreamReading, message: &str) {
    let ms = |q: f64| now.rpo.quantile_us(q).map(|us| us / 1000);
    tracing::info!(
        policy,
        durable = now.durable.as_ref().map(ToString::to_string),
        lag_s = now.lag_seconds(CommitTime::from(Timestamp::now())),
        bytes_read = now.bytes_read,
        bytes_stored = now.bytes_stored,
        uploads = now.uploads,
        rpo_transactions = now.rpo.count(),
        rpo_p50_ms = ms(0.5),
        rpo_p99_ms = ms(0.99),
        rpo_max_ms = now.rpo.max_us() / 1000,
        "{message}"
    );
}
