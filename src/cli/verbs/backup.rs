use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::api::report::{FullOutcome, Outcome};
use crate::archive::manifest::{Content, FullManifest};
use crate::archive::{ArchiveError, identity};
use crate::backup::logical::{self, LogicalConfig};
use crate::cli::args::{BackupArgs, Output};
use crate::cli::config::{self, Policy};
use crate::cli::output::say;
use crate::cli::progress::{Display, bytes, duration};
use crate::cli::report::{self, WorkSubject, outcome};
use crate::cli::{engine, output, source};
use crate::model::{Progress, total};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    policy: String,
    id: String,
    flavor: crate::model::Flavor,
    server_version: String,
    consistent_at: jiff::Timestamp,
    started_at: jiff::Timestamp,
    finished_at: jiff::Timestamp,
    gtids: String,
    position: Option<String>,
    objects: usize,
    bytes: u64,
    raw_bytes: u64,
    seconds: f64,
    trace_id: String,
    /// What the full does not hold, in words.
    warnings: Vec<String>,
}

/// Takes one full backup, prints what it is, and says how that ended.
pub async fn run(args: BackupArgs, trace_id: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let done = one(&args, trace_id, shutdown, &mut outcome).await;
    if let Some(file) = &args.outcome.file {
        outcome::write(file, outcome, done.as_ref().err());
    }
    done
}

async fn one(
    args: &BackupArgs,
    trace_id: &str,
    shutdown: CancellationToken,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let policy = config::one_policy(&args.policy)?;
    let progress = Progress::default();
    progress.begin("connecting", 0);
    let _server = match args.report.listen {
        Some(listen) => {
            let subject = WorkSubject::new("backup", &policy.name, progress.clone());
            Some(report::serve(listen, subject, &shutdown).await?)
        }
        None => None,
    };
    let display = Display::start(progress.clone(), args.output == Output::Human);
    let report = take(&policy, args.threads, trace_id, shutdown, progress).await;
    drop(display);
    let report = report?;
    outcome.full = Some(report.outcome());
    match args.output {
        Output::Json => output::json(&report),
        Output::Human => {
            say!("full {} of policy {}", report.id, report.policy);
            say!("  shows    {}", report.consistent_at);
            say!("  holds    {}", if report.gtids.is_empty() { "(no GTIDs)" } else { &report.gtids });
            if let Some(position) = &report.position {
                say!("  at       {position}");
            }
            say!(
                "  stored   {} in {} objects ({} before compression), {}",
                bytes(report.bytes),
                report.objects,
                bytes(report.raw_bytes),
                duration(std::time::Duration::from_secs_f64(report.seconds))
            );
            for warning in &report.warnings {
                say!("  warning  {warning}");
            }
            Ok(())
        }
    }
}

/// Takes a policy's full.
pub async fn take(
    policy: &Policy,
    threads: Option<u16>,
    trace_id: &str,
    cancel: CancellationToken,
    progress: Progress,
) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let (endpoint, info) = source::choose(policy).await?;
    let store = engine::store(&policy.store)?;
    // The engine looks again before it publishes; this is before hours of copying.
    if let Some(archive) = identity::read(&store).await?.filter(|archive| archive.flavor != info.flavor()) {
        let (archived, offered) = (archive.flavor, info.flavor());
        return Err(ArchiveError::OtherFlavor { store: store.url().to_owned(), archived, offered }.into());
    }
    let defaults = LogicalConfig::default();
    let config = LogicalConfig {
        connections: threads.map_or(defaults.connections, usize::from),
        compression: engine::compression(policy.compression_level),
        recipients: policy.recipients.clone(),
        limits: policy.limits,
        trace_id: trace_id.to_owned(),
        ..defaults
    };
    let full = logical::run(&config, &endpoint, &store, progress, cancel).await?;
    let report = describe(policy, &full, begun.elapsed().as_secs_f64());
    tracing::info!(
        policy = policy.name,
        full = report.id,
        consistent_at = %report.consistent_at,
        bytes = report.bytes,
        raw_bytes = report.raw_bytes,
        seconds = report.seconds,
        "the full is complete"
    );
    for warning in &report.warnings {
        tracing::warn!(policy = policy.name, full = report.id, "{warning}");
    }
    Ok(report)
}

impl Report {
    fn outcome(&self) -> FullOutcome {
        FullOutcome {
            id: self.id.clone(),
            consistent_at: self.consistent_at.to_string(),
            bytes: self.bytes,
            raw_bytes: self.raw_bytes,
            seconds: self.seconds,
            gtid_set: self.gtids.clone(),
            binlog_position: self.position.clone(),
            warnings: self.warnings.clone(),
        }
    }
}

fn describe(policy: &Policy, full: &FullManifest, seconds: f64) -> Report {
    let Content::Logical(content) = &full.content;
    Report {
        policy: policy.name.clone(),
        id: full.id.clone(),
        flavor: full.flavor,
        server_version: full.server_version.clone(),
        consistent_at: full.consistent_at,
        started_at: full.started_at,
        finished_at: full.finished_at,
        gtids: full.gtids.to_string(),
        position: full.position.as_ref().map(ToString::to_string),
        objects: full.objects.len(),
        bytes: total(full.objects.iter().map(|object| object.bytes)),
        raw_bytes: total(full.objects.iter().map(|object| object.raw_bytes)),
        seconds,
        trace_id: full.trace_id.clone(),
        warnings: content.warnings.clone(),
    }
}
