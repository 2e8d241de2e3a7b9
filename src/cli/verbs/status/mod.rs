mod source;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::archive::ArchiveError;
use crate::archive::catalog::{ArchivedFile, Catalog, FullHead};
use crate::archive::timeline::{Fork, Timeline, Window};
use crate::cli::args::{Output, StatusArgs};
use crate::cli::config::{self, Archive};
use crate::cli::inspect::{self, Encryption, End};
use crate::cli::output::say;
use crate::cli::progress::{bytes, duration};
use crate::cli::protection::{self, ProtectionReport};
use crate::cli::{engine, output};
use crate::model::{CommitTime, Flavor, GtidSet, total};
use crate::verify::{self, Ended};
use source::SourceReport;

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    policies: Vec<PolicyReport>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyReport {
    name: String,
    archive: String,
    flavor: Option<Flavor>,
    first_recoverability_point: Option<String>,
    latest_restorable_time: Option<String>,
    windows: Vec<WindowReport>,
    fulls: Vec<FullReport>,
    forks: Vec<ForkReport>,
    source: SourceReport,
    /// What may be missing from the archive without a trace.
    warnings: Vec<String>,
    binlog_files: u64,
    binlog_bytes: u64,
    stored_bytes: u64,
    encryption: Encryption,
    /// What its bucket does against the loss of what it holds; none for stores that are no S3 buckets.
    protection: Option<ProtectionReport>,
    problems: Vec<String>,
    unknown_objects: Vec<String>,
    /// The last verify of each depth.
    verified: Vec<Ended>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WindowReport {
    first: String,
    latest: String,
    fulls: Vec<String>,
    gtids: String,
    /// Why the window ends; none in the one that still grows.
    ends_because: Option<String>,
    /// GTIDs of the gap behind it.
    missing: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FullReport {
    id: String,
    method: String,
    server_version: String,
    consistent_at: String,
    finished_at: String,
    gtids: String,
    position: Option<String>,
    objects: u64,
    bytes: u64,
    raw_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForkReport {
    server: String,
    gtids: String,
    /// Commit time of the newest of them.
    latest: Option<String>,
    /// Whether they were committed no earlier than anything of the live lineage: then nothing tells which of the two is wanted, and a restore
    /// to the latest or to a time behind the split is refused.
    contested: bool,
    /// The server that counts as live.
    live_server: Option<String>,
    /// Commit time of the newest transaction of the live lineage.
    live_latest: Option<String>,
    /// What only the live lineage has.
    live_only: String,
}

/// Shows what can be restored.
pub async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let mut report = Report { policies: Vec::new() };
    for archive in config::archives(&args.archive)? {
        report.policies.push(inspect(&archive, args.as_of.at).await?);
    }
    let problems = report.policies.iter().map(|policy| policy.problems.len()).sum();
    match args.output {
        Output::Json => output::json(&report)?,
        Output::Human => report.policies.iter().for_each(show),
    }
    if problems > 0 { Err(ArchiveError::Problems { count: problems }.into()) } else { Ok(()) }
}

async fn inspect(archive: &Archive, as_of: Option<Timestamp>) -> anyhow::Result<PolicyReport> {
    let mut report = PolicyReport { name: archive.name.clone(), ..PolicyReport::default() };
    let load = async {
        let store = engine::archive_to_read(archive, as_of)?;
        report.archive = store.url().to_owned();
        report.protection = protection::of(&store).await?;
        let catalog = Catalog::load_folded(&store).await?;
        report.verified = verify::ended(&store).await?;
        Ok::<Catalog, anyhow::Error>(catalog)
    };
    let catalog = match load.await {
        Ok(catalog) => catalog,
        Err(error) => match error.downcast::<ArchiveError>() {
            Ok(ArchiveError::Missing { store }) => return Ok(PolicyReport { archive: store, ..report }),
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    let timeline = Timeline::new(catalog.info.flavor, &catalog.fulls, &catalog.files);
    report.flavor = Some(catalog.info.flavor);
    report.first_recoverability_point = timeline.windows.iter().map(|w| w.first).min().map(text);
    report.latest_restorable_time = timeline.windows.iter().map(|w| w.latest).max().map(text);
    report.windows = timeline.windows.iter().map(window).collect();
    report.fulls = catalog.fulls.iter().map(full).collect();
    report.forks = timeline.forks.iter().map(|f| fork(f, &timeline)).collect();
    report.source = source::ask(archive, &timeline).await;
    report.warnings = report.source.warning.iter().cloned().chain(inspect::warnings(&catalog, &timeline)).collect();
    report.warnings.extend(archive.warnings.iter().cloned());
    report.warnings.extend(report.protection.iter().flat_map(|protection| protection.warnings.iter().cloned()));
    report.binlog_files = catalog.files.iter().map(ArchivedFile::count).sum();
    report.binlog_bytes = total(catalog.files.iter().map(|file| file.summary.boundary));
    report.stored_bytes = inspect::stored_bytes(&catalog);
    report.encryption = inspect::encryption(&catalog);
    report.problems = catalog.problems;
    report.unknown_objects = catalog.unknown;
    Ok(report)
}

fn text(time: CommitTime) -> String {
    time.timestamp().to_string()
}

fn gtids(set: &GtidSet) -> String {
    match set {
        GtidSet::Mysql(set) => set.to_string(),
        GtidSet::Mariadb(set) => set.position(),
    }
}

fn window(window: &Window) -> WindowReport {
    let (ends_because, missing) = match inspect::end_of(&window.end) {
        Some(End { reason, missing }) => (Some(reason), missing),
        None => (None, None),
    };
    WindowReport {
        first: text(window.first),
        latest: text(window.latest),
        fulls: window.fulls.clone(),
        gtids: gtids(&window.gtids),
        ends_because,
        missing,
    }
}

fn fork(fork: &Fork, timeline: &Timeline) -> ForkReport {
    ForkReport {
        server: fork.server.clone(),
        gtids: fork.gtids.to_string(),
        latest: fork.last_commit.map(text),
        contested: fork.contested,
        live_server: timeline.live_server.clone(),
        live_latest: timeline.live_commit.map(text),
        live_only: fork.lacks.to_string(),
    }
}

fn full(full: &FullHead) -> FullReport {
    FullReport {
        id: full.id.clone(),
        method: full.method.clone(),
        server_version: full.server_version.clone(),
        consistent_at: full.consistent_at.to_string(),
        finished_at: full.finished_at.to_string(),
        gtids: gtids(&full.gtids),
        position: full.position.as_ref().map(ToString::to_string),
        objects: full.objects,
        bytes: full.bytes,
        raw_bytes: full.raw_bytes,
    }
}

fn show(report: &PolicyReport) {
    say!("policy {}", report.name);
    say!("  archive      {}", report.archive);
    let Some(flavor) = report.flavor else {
        say!("  nothing is archived here yet: run `tidemark run`, or `tidemark backup` and `tidemark stream`");
        return;
    };
    say!(
        "  holds        {flavor}: {} full(s), {} binlog file(s) of {}, {} stored",
        report.fulls.len(),
        report.binlog_files,
        bytes(report.binlog_bytes),
        bytes(report.stored_bytes)
    );
    if let Some(ProtectionReport { text, .. }) = &report.protection {
        say!("  protected    {text}");
    }
    let Encryption { encrypted_objects, clear_objects, recipients } = &report.encryption;
    if *encrypted_objects > 0 {
        let keys = recipients.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        say!("  encrypted    {encrypted_objects} object(s), to {keys}");
        if *clear_objects > 0 {
            say!("  IN CLEAR     {clear_objects} object(s): stored while encryption was off");
        }
    }
    if let Some(lacks) = &report.source.lacks {
        say!(
            "  ANOTHER PAST the source has not executed {lacks}, which is archived: its logs were reset, it was put back to an earlier state, or a \
             server took over that never got it. What it has done since can be restored only behind a full: run `tidemark backup`"
        );
    }
    match (report.source.reachable, report.source.lag_seconds) {
        (true, Some(lag)) if lag <= 0.0 => {
            say!("  lag          none: everything the source has executed is archived")
        }
        (true, Some(lag)) => say!(
            "  lag          up to {}: not archived yet: {}",
            duration(Duration::from_secs_f64(lag)),
            report.source.not_archived.as_deref().unwrap_or_default()
        ),
        (true, None) if report.source.lacks.is_some() => {
            say!("  lag          unknown: its transactions have numbers that others have in the archive");
        }
        (true, None) => say!("  lag          unknown: without GTIDs the source cannot be compared"),
        (false, _) => {
            say!(
                "  lag          unknown: the source cannot be asked ({})",
                report.source.error.as_deref().unwrap_or_default()
            );
        }
    }
    if report.windows.is_empty() {
        say!("  recoverable  NOTHING: there is no complete full; run `tidemark backup`");
    }
    for fork in report.forks.iter().filter(|fork| fork.contested) {
        let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "an unknown time".to_owned());
        let live = fork.live_server.as_deref().unwrap_or_default();
        let before = if fork.server == live { ", before a crash or before its data was put back," } else { "" };
        say!(
            "  TWO LINEAGES server {live} counts as live ({} only there, the newest of {}),",
            if fork.live_only.is_empty() { "nothing" } else { &fork.live_only },
            time(&fork.live_latest)
        );
        say!(
            "               but server {}{before} committed no earlier ({} only there, the newest of {}):",
            fork.server,
            fork.gtids,
            time(&fork.latest)
        );
        say!(
            "               which one is wanted cannot be told, and `restore` to the latest or to a time behind the split is refused"
        );
    }
    for window in &report.windows {
        say!("  recoverable  {} to {}", window.first, window.latest);
        say!("               from {}", window.fulls.join(", "));
        if !window.gtids.is_empty() {
            say!("               up to {}", window.gtids);
        }
        if let Some(reason) = &window.ends_because {
            say!("               ends there: {reason}");
        }
    }
    for full in &report.fulls {
        say!(
            "  full         {} shows {} ({}, {} stored, {} {})",
            full.id,
            full.consistent_at,
            full.method,
            bytes(full.bytes),
            flavor,
            full.server_version
        );
    }
    for fork in &report.forks {
        say!("  fork         only {} had {}: kept, but on no window's way", fork.server, fork.gtids);
    }
    for warning in &report.warnings {
        say!("  WARNING      {warning}");
    }
    for Ended { depth, began: _, at, findings, affected } in &report.verified {
        match findings {
            0 => say!("  verified     {at} ({depth:?}): intact"),
            count => say!(
                "  VERIFIED     {at} ({depth:?}): {count} finding(s), affected: {affected}; `tidemark verify` names them"
            ),
        }
    }
    for problem in &report.problems {
        say!("  DAMAGE       {problem}");
    }
    for key in &report.unknown_objects {
        say!("  unknown      {key}: not of this format; left alone");
    }
}
