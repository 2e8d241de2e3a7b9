use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use snafu::ResultExt;
use tokio_util::sync::CancellationToken;

use super::config::LogicalConfig;
use super::copy::{Copier, TableJob};
use super::definitions::Definitions;
use super::donor::Throttle;
use super::error::{DescribeSnafu, LogicalError};
use super::look::{Look, check_names};
use super::output::{Objects, Output};
use super::queue::copy_all;
use super::session::Session;
use super::shield::Wanted;
use super::snapshot::{Snapshot, align};
use super::stamp;
use super::{accounts, extras, ranges};
use crate::archive::catalog::check_kinship;
use crate::archive::identity::{self, News};
use crate::archive::logical::{Account, DESCRIPTION, LogicalContent, ProgramKind, Record, Table, TableKind};
use crate::archive::manifest::{Content, FullManifest};
use crate::archive::sealed::seal;
use crate::archive::store::{Condition, Store};
use crate::archive::{format_of, keys};
use crate::model::{Flavor, Progress};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::flavor::preflight::{REPLICATION, logs_replicated, unlogged_replication};
use crate::mysql::flavor::{lineage, lineage_query};
use crate::mysql::quote;

/// Takes a full and writes its manifest last. An error leaves objects that nothing refers to, and no full. What is returned has the warnings
/// that the stored manifest of an encrypted full keeps to itself.
pub async fn run(
    config: &LogicalConfig,
    source: &Endpoint,
    store: &Store,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<FullManifest, LogicalError> {
    let attempts = config.attempts.max(1);
    let mut what = String::new();
    let mut shield = Wanted::No;
    for attempt in 1..=attempts {
        let outcome = tokio::select! {
            () = cancel.cancelled() => Err(LogicalError::Cancelled),
            outcome = once(config, source, store, &progress, &cancel, &mut shield) => outcome,
        };
        match outcome {
            Err(e) if e.is_definition_change() => {
                tracing::warn!(attempt, attempts, error = %e, "the source changed during the backup; beginning again");
                what = e.to_string();
                if attempt >= UNSHIELDED_ATTEMPTS && shield == Wanted::No {
                    shield = Wanted::Yes;
                }
            }
            other => return other,
        }
    }
    Err(LogicalError::Ddl { what, attempts, denied: shield == Wanted::Denied })
}

/// Attempts during which DDL is let through.
const UNSHIELDED_ATTEMPTS: u32 = 2;

async fn once(
    config: &LogicalConfig,
    source: &Endpoint,
    store: &Store,
    progress: &Progress,
    cancel: &CancellationToken,
    shielded: &mut Wanted,
) -> Result<FullManifest, LogicalError> {
    let started_at = Timestamp::now();
    let full_id = full_id(started_at);
    progress.begin("definitions", 0);
    let mut control = Session::open(source, config.lock_wait).await?;
    accounts::check_privileges(&mut control).await?;
    let (server_version, server) = identity(&mut control).await?;
    let answer = control.value(lineage_query(control.flavor)).await?;
    let lineage = lineage(control.flavor, &answer).map_err(|_| LogicalError::Answer { doing: "its executed GTIDs" })?;
    check_kinship(store, &server, &lineage).await?;
    let resets = stamp::resets(&mut control).await?;

    let (mut shield, mut look) = match control.flavor {
        Flavor::Mariadb => shielded.raise_and_look(source, config, &mut control).await?,
        Flavor::Mysql => (None, Look::read(&mut control).await?),
    };

    let objects = Arc::new(Objects::default());
    let copier = Copier {
        config: config.clone(),
        store: store.clone(),
        full_id: full_id.clone(),
        objects: objects.clone(),
        warnings: Arc::default(),
        throttle: Arc::new(Throttle::new(config.limits, source, progress)),
        progress: progress.clone(),
        cancel: cancel.clone(),
    };
    let locked = jobs(&look, 0, |kind| kind == TableKind::NonTransactional);
    check_locked_size(config, &locked)?;

    let known = &look.definitions.tables;
    let names: Vec<_> = known
        .iter()
        .filter(|(_, head)| head.kind.has_rows() && head.kind != TableKind::System)
        .map(|(name, _)| name.clone())
        .collect();
    let mut held = align(source, config, &names, !locked.is_empty(), shield.is_some(), progress).await?;
    let mut tables = Vec::new();
    progress.begin("tables", known.values().map(|head| head.data_bytes).sum());
    if let Some(worker) = held.snapshot.workers.first_mut() {
        // Those of the snapshot's own moment, at which no DDL is under way.
        check_names(&look.ids, worker).await?;
        worker.exec("SAVEPOINT tidemark").await?;
        for job in &locked {
            tables.extend(copier.copy(worker, job, 0).await?);
        }
        worker.exec("ROLLBACK TO SAVEPOINT tidemark").await?;
    }
    if control.flavor == Flavor::Mysql && held.is_global() {
        shield = shielded.raise(source, config).await?;
    }
    let Snapshot { mut workers, at, gtids, position, prepared_xa } = held.release().await?;
    fail::fail_point!("backup::logical::released");
    let position_created_unix = match &position {
        Some(position) => stamp::created_unix(source, position).await,
        None => None,
    };
    if stamp::resets(&mut control).await? != resets {
        return Err(LogicalError::Changed { what: "the binary log (a RESET was run on the source)".to_owned() });
    }
    fail::fail_point!("backup::logical::aligned");
    let look_again = control.flavor == Flavor::Mysql && shield.is_some();
    let rest = async {
        if look_again {
            // Nothing but rows has changed since the snapshot, whatever changed before it.
            let later = Look::read(&mut control).await?;
            look.check_locked(&later)?;
            look = later;
        } else {
            look.check_unchanged(&mut control).await?;
        }
        let mut free = jobs(&look, locked.len(), |kind| kind != TableKind::NonTransactional);
        cut(config, &mut workers, &mut free).await?;
        tables.extend(copy_all(workers, free, &look.ids, &copier).await?);
        check_names(&look.ids, &mut control).await
    };
    match shield {
        Some(shield) => shield.over(rest).await?,
        None => rest.await?,
    }
    let Look { mut definitions, accounts, .. } = look;
    if control.flavor == Flavor::Mysql {
        // Last: the server makes them anew by itself.
        definitions.server.histograms = extras::histograms(&mut control, &definitions.tables).await?;
    }
    let mut warnings = warnings(&definitions, &accounts.ignored);
    let mut log_slave_updates = None;
    if control.flavor == Flavor::Mariadb {
        let replication = control.row(REPLICATION, "how it replicates").await?;
        log_slave_updates = Some(logs_replicated(&replication));
        warnings.extend(unlogged_replication(&replication).map(|finding| finding.to_string()));
    }
    if !prepared_xa.is_empty() {
        warnings.push(format!(
            "XA transactions were prepared and not ended when the copy was taken, so it lacks them: {}; a restore prepares them again from the \
             archived log",
            prepared_xa.join("; ")
        ));
    }
    warnings.append(&mut copier.warnings.lock().unwrap_or_else(PoisonError::into_inner));
    let totals = tables.iter().fold((0, 0), |(rows, bytes), table| {
        (rows + table.rows, bytes + table.chunks.iter().map(|chunk| chunk.raw_bytes).sum::<u64>())
    });
    let count = tables.len() as u64;
    let encrypted = !config.recipients.is_empty();
    if encrypted {
        definitions.server.warnings.clone_from(&warnings);
    }
    let key = keys::full_object(&full_id, None, DESCRIPTION, encrypted);
    let description = describe(store, key, config, definitions, tables, accounts.known, &objects).await?;
    let mut manifest = FullManifest {
        format: format_of(encrypted),
        id: full_id.clone(),
        flavor: control.flavor,
        server_version,
        server,
        started_at,
        consistent_at: at,
        finished_at: Timestamp::now(),
        gtids,
        position,
        position_created_unix,
        prepared_xa: Some(prepared_xa),
        log_slave_updates,
        recipients: config.recipients.names(),
        edition: None,
        trace_id: config.trace_id.clone(),
        tidemark_version: env!("CARGO_PKG_VERSION").to_owned(),
        objects: objects.take(),
        content: Content::Logical(LogicalContent {
            description,
            tables: count,
            rows: totals.0,
            raw_bytes: totals.1,
            warnings: if encrypted { Vec::new() } else { std::mem::take(&mut warnings) },
        }),
    };
    fail::fail_point!("backup::logical::before_manifest");
    // Refuses the archive of another flavor; the first writer of all makes it.
    let archive = identity::ensure(store, manifest.flavor, &manifest.server).await?;
    let in_clear_again = identity::in_clear_again(&archive, encrypted);
    if encrypted {
        identity::announce(store, News::Encryption).await?;
    }
    let key = keys::manifest(&full_id);
    // The id is ours alone: what a retry finds there can only be a part of this.
    let _ = store.put(&key, seal(&key, &manifest)?, Condition::Overwrite).await?;
    control.connection.close().await;
    let Content::Logical(content) = &mut manifest.content;
    content.warnings.append(&mut warnings);
    content.warnings.extend(in_clear_again);
    Ok(manifest)
}

/// Cuts large tables into ranges, several at a time.
async fn cut(config: &LogicalConfig, workers: &mut [Session], jobs: &mut [TableJob]) -> Result<(), LogicalError> {
    if workers.len() < 2 {
        return Ok(());
    }
    let wanted = |job: &TableJob| job.head.data_bytes / config.range_bytes.max(1) + 1;
    let large = jobs
        .iter_mut()
        .filter(|job| job.head.kind == TableKind::Transactional && !job.head.versioned && wanted(job) > 1);
    let mut shares: Vec<(&mut Session, Vec<&mut TableJob>)> = workers.iter_mut().map(|w| (w, Vec::new())).collect();
    let count = shares.len();
    for (i, job) in large.enumerate() {
        if let Some((_, share)) = shares.get_mut(i % count) {
            share.push(job);
        }
    }
    let planned = shares.into_iter().map(|(worker, share)| async move {
        for job in share {
            worker.exec("SAVEPOINT tidemark").await?;
            job.ranges = ranges::plan(worker, &job.schema, &job.name, wanted(job)).await?;
            // Lets DDL on this table go on.
            worker.exec("ROLLBACK TO SAVEPOINT tidemark").await?;
        }
        Ok::<_, LogicalError>(())
    });
    futures::future::try_join_all(planned).await.map(drop)
}

async fn identity(session: &mut Session) -> Result<(String, String), LogicalError> {
    let version = session.value("SELECT @@version").await?;
    let server = match session.flavor {
        Flavor::Mysql => session.value("SELECT @@server_uuid").await?,
        Flavor::Mariadb => format!("mariadb-{}", session.value("SELECT @@server_id").await?),
    };
    Ok((version, server))
}

fn check_locked_size(config: &LogicalConfig, locked: &[TableJob]) -> Result<(), LogicalError> {
    let bytes = locked.iter().map(|job| job.head.data_bytes).sum();
    if bytes <= config.max_locked_bytes {
        return Ok(());
    }
    let names: Vec<_> = locked.iter().take(10).map(|job| quote::qualified(&job.schema, &job.name)).collect();
    Err(LogicalError::NonTransactional { bytes, limit: config.max_locked_bytes, tables: names.join(", ") })
}

/// Tables of those kinds, numbered from `first`, the largest first.
fn jobs(look: &Look, first: usize, is_wanted: impl Fn(TableKind) -> bool) -> Vec<TableJob> {
    let tables = look.definitions.tables.iter().filter(|(_, head)| is_wanted(head.kind));
    let mut jobs: Vec<_> = (first..)
        .zip(tables)
        .map(|(number, (name, head))| TableJob::new(number, name.clone(), head.clone(), look.hashes.get(name).cloned()))
        .collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.head.data_bytes));
    jobs
}

fn warnings(definitions: &Definitions, ignored_accounts: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    if !ignored_accounts.is_empty() {
        let names = ignored_accounts.join(", ");
        out.push(format!(
            "{names}: not part of the backup, for the source itself ignores an account whose host is a name (skip_name_resolve is on)"
        ));
    }
    for (name, library) in &definitions.server.loadable_functions {
        out.push(format!(
            "loadable function {name} ({library}) is not part of the backup; install its library on the target"
        ));
    }
    for ((schema, name), head) in &definitions.tables {
        if head.kind == TableKind::NoRows {
            let name = quote::qualified(schema, name);
            out.push(format!("{name} has engine {}: its definition is saved, rows it shows are not", head.engine));
        }
    }
    for view in definitions.programs.iter().filter(|program| program.kind == ProgramKind::View) {
        if let Some(why) = &view.broken {
            let name = quote::qualified(&view.schema, &view.name);
            out.push(format!(
                "view {name} is broken, or not to be read by this account ({why}): a restore makes it if it can be made. Where it calls \
                 functions, GRANT EXECUTE ON *.* tells which"
            ));
        }
    }
    out
}

async fn describe(
    store: &Store,
    key: String,
    config: &LogicalConfig,
    definitions: Definitions,
    tables: Vec<Table>,
    accounts: Vec<Account>,
    objects: &Objects,
) -> Result<usize, LogicalError> {
    let Definitions { server, schemas, tables: _, programs } = definitions;
    let records = std::iter::once(Record::Server(server))
        .chain(schemas.into_iter().map(Record::Schema))
        .chain(tables.into_iter().map(Record::Table))
        .chain(programs.into_iter().map(Record::Program))
        .chain(accounts.into_iter().map(Record::Account));
    let mut output = Output::create(store, key, config).await?;
    let mut count = 0;
    for record in records {
        let mut line = serde_json::to_vec(&record).context(DescribeSnafu)?;
        line.push(b'\n');
        output.write(&line).await?;
        count += 1;
    }
    let mut end = serde_json::to_vec(&Record::End { records: count }).context(DescribeSnafu)?;
    end.push(b'\n');
    output.write(&end).await?;
    output.finish(objects).await
}

/// The start as `YYYYMMDDTHHMMSSZ` and a short random suffix: names sort by time.
fn full_id(started_at: Timestamp) -> String {
    format!("{}-{:08x}", started_at.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u32>())
}
