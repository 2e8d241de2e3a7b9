//! Replay: the target becomes a replica of our own `serve` until it has applied the planned log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::error::RestoreError;
use super::plan::{Coordinates, Plan, after_replay, closure};
use super::prove::{executed, replayed};
use super::{RestoreOptions, settings};
use crate::archive::catalog::load_file;
use crate::archive::store::Store;
use crate::model::{BinlogPosition, Flavor, GtidSet, Progress};
use crate::mysql::flavor::Source;
use crate::mysql::sql::Session;
use crate::serve::{END_OF_SCOPE, Identity, Part, Scope, ServeConfig, ServeStatus, Server};

const POLL: Duration = Duration::from_millis(100);
/// How long the target may fail to read from us before the restore gives up.
const STALL: Duration = Duration::from_secs(60);
/// How long an applier that has read everything may take to say what it executed.
const SETTLE: Duration = Duration::from_secs(3);
const USER: &str = "tidemark";

/// Replays what the plan says. Begun again after a crash it goes on by what the target has executed.
pub(super) async fn replay(
    session: &mut Session,
    plan: &Plan,
    store: &Store,
    options: &RestoreOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    progress.begin("replay", plan.replay_bytes);
    let dialect = session.dialect();
    // An applier left over from a killed run; in position mode it knows how far the target is.
    let resumed = status(session).await?;
    if resumed.is_some() {
        session.exec(dialect.stop_replica()).await?;
    }
    let resumed = if resumed.is_some() { status(session).await? } else { None };
    // Several workers apply several domains side by side, whatever the order of the log, which is that of the commits.
    let workers = if plan.has_domains() { 0 } else { options.workers };
    settings::ready_applier(session, workers).await?;
    let source = serve(session, plan, store, options, cancel).await?;
    let begin = match plan.coordinates {
        Coordinates::Gtid => {
            // Relay logs that a crash may have damaged are not needed: the target's GTIDs say what is.
            if resumed.is_some() {
                session.exec(dialect.reset_replica_all()).await?;
            }
            None
        }
        Coordinates::Position => {
            let applied = resumed.and_then(|s| s.applied).filter(|p| !p.file.is_empty());
            let first = plan.files.first().map(|f| BinlogPosition { file: f.file.name.clone(), offset: f.start });
            applied.or(first)
        }
    };
    let host = options.advertise_host.clone().unwrap_or_else(|| source.address.ip().to_string());
    let gtid_mode_on = session.variable("gtid_mode").await?.is_some_and(|v| v.eq_ignore_ascii_case("ON"));
    let change = dialect.change_source(&Source {
        host: &host,
        port: source.address.port(),
        user: USER,
        password: source.password.expose_secret(),
        connect_retry_s: 1,
        heartbeat_s: 5,
        position: begin.as_ref(),
        assign_gtids: begin.is_some() && gtid_mode_on,
    });
    session.exec(&change).await.map_err(|e| without_password(e, source.password.expose_secret()))?;
    fail::fail_point!("restore::replay::before_start");
    settings::shut_admins(session, true).await?;
    session.exec(dialect.start_replica()).await?;
    let outcome = watch_applier(session, plan, source.status.clone(), progress, cancel).await;
    // Whatever the outcome, nothing more is to be applied behind our back. A lost connection is the worse news.
    let stopped = session.exec(dialect.stop_replica()).await;
    outcome?;
    stopped?;
    Ok(())
}

/// Our own source, as long as this lives.
struct LoopbackSource {
    address: SocketAddr,
    password: SecretString,
    status: watch::Receiver<ServeStatus>,
    _task: AbortOnDropHandle<()>,
}

async fn serve(
    session: &Session,
    plan: &Plan,
    store: &Store,
    options: &RestoreOptions,
    cancel: &CancellationToken,
) -> Result<LoopbackSource, RestoreError> {
    let gtids = plan.coordinates == Coordinates::Gtid;
    let mut parts = Vec::new();
    for wanted in &plan.files {
        let file = load_file(store, &wanted.file).await?.filter(|f| f.summary.boundary >= wanted.end);
        let gone = || RestoreError::PlannedFileGone { file: wanted.file.name.clone(), end: wanted.end };
        let take = gtids.then(|| wanted.take.clone());
        parts.push(Part { file: file.ok_or_else(gone)?, end: wanted.end, take });
    }
    let version = parts.last().map_or_else(|| plan.server_version.clone(), |p| p.file.server_version.clone());
    let mut server_id = rand::rng().random_range(1_000_000..u32::MAX);
    if server_id == session.info().server_id {
        server_id -= 1;
    }
    let password: String = rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
    let password = SecretString::from(password);
    let config = ServeConfig {
        listen: options.listen,
        user: USER.to_owned(),
        password: password.clone(),
        identity: Identity { server_id, server_uuid: uuid::Uuid::new_v4(), flavor: plan.flavor, version, gtids },
        scope: Scope::Fixed { parts, skip: Some(plan.skipped.clone()) },
    };
    let server = Server::bind(config, store.clone()).await?;
    let (address, status) = (server.local_addr()?, server.status());
    let task = AbortOnDropHandle::new(tokio::spawn(server.run(cancel.child_token())));
    Ok(LoopbackSource { address, password, status, _task: task })
}

async fn watch_applier(
    session: &mut Session,
    plan: &Plan,
    source: watch::Receiver<ServeStatus>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    let (mut sent_bytes, mut done) = (0, 0);
    let mut read_ok_at = Instant::now();
    let mut moved_at = Instant::now();
    // A replica that connects again and again looks as if all were well: failures since it got anything new say otherwise.
    let (mut furthest, mut forgiven) = (None, 0);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Err(RestoreError::Cancelled),
            () = sleep(POLL) => {}
        }
        let now = status(session).await?.unwrap_or_default();
        let served = source.borrow().clone();
        let executed = match plan.coordinates {
            Coordinates::Gtid => Some(executed(session).await?),
            Coordinates::Position => None,
        };
        let replayed = executed.as_ref().map_or(served.sent_transactions, |e| replayed(plan, e));
        let reached_in_log = served
            .position
            .as_ref()
            .map(|at| (plan.files.iter().rposition(|wanted| wanted.file.name == at.file), at.offset));
        if replayed > done || reached_in_log > furthest {
            furthest = furthest.max(reached_in_log);
            forgiven = served.failures;
        }
        if replayed > done || served.sent_bytes > sent_bytes {
            progress.add(served.sent_bytes.saturating_sub(sent_bytes), replayed.saturating_sub(done));
            (sent_bytes, done) = (served.sent_bytes.max(sent_bytes), replayed.max(done));
            moved_at = Instant::now();
        }
        fail::fail_point!("restore::replay::watching");
        if reached(plan, executed.as_ref(), &now) {
            return Ok(());
        }
        if now.sql_running == "No" {
            return Err(applier_error(session, plan, &now, executed.as_ref()).await?);
        }
        let complete = now.io_error.contains(END_OF_SCOPE);
        if complete {
            // It got everything and applied everything, and still is not where it should be: the proof says how it differs.
            let idle = now.sql_state.contains("has read all relay log");
            if idle && moved_at.elapsed() > SETTLE {
                return Ok(());
            }
            continue;
        }
        match now.io_running.as_str() {
            "Yes" if served.failures == forgiven => read_ok_at = Instant::now(),
            "No" if now.io_errno != 0 => {
                let message = served.failure.unwrap_or(now.io_error);
                return Err(if served.damaged {
                    RestoreError::Damaged { message: format!("the archived log cannot be replayed: {message}") }
                } else {
                    RestoreError::Stream { message }
                });
            }
            _ if read_ok_at.elapsed() > STALL => {
                let failure = served.failure.unwrap_or(now.io_error);
                return Err(RestoreError::Stalled { after_s: STALL.as_secs(), failure });
            }
            _ => {}
        }
    }
}

/// Whether the target has executed all that was planned.
fn reached(plan: &Plan, executed: Option<&GtidSet>, now: &ReplicaStatus) -> bool {
    match (executed, &plan.expected_gtids) {
        (None, _) => now.applied == plan.end && now.io_error.contains(END_OF_SCOPE),
        (Some(GtidSet::Mariadb(executed)), GtidSet::Mariadb(expected)) => {
            executed.position() == expected.position() || complete(plan, &GtidSet::Mariadb(executed.clone()))
        }
        (Some(executed), expected) => expected.is_subset(executed),
    }
}

/// MariaDB: everything was replayed, and the last of it was of the base.
fn complete(plan: &Plan, executed: &GtidSet) -> bool {
    let (prepared, replay, expected) = (&plan.prepared, &plan.replay_gtids, &plan.expected_gtids);
    after_replay(executed, prepared, replay, expected).is_some_and(|all| all == closure(expected))
}

async fn applier_error(
    session: &mut Session,
    plan: &Plan,
    now: &ReplicaStatus,
    executed: Option<&GtidSet>,
) -> Result<RestoreError, RestoreError> {
    let (mut code, mut message) = (now.sql_errno, now.sql_error.clone());
    let mut at = match executed {
        Some(GtidSet::Mariadb(set)) => format!("the transaction after {}", set.position()),
        _ => now.applied.as_ref().map_or_else(|| "an unknown position".to_owned(), ToString::to_string),
    };
    if plan.flavor == Flavor::Mysql {
        // The coordinator only says that a worker failed; the worker says at what.
        let worker: Option<(u32, String, String)> = session
            .first(
                "SELECT last_error_number, last_error_message, applying_transaction \
                 FROM performance_schema.replication_applier_status_by_worker WHERE last_error_number <> 0 \
                 ORDER BY last_error_timestamp LIMIT 1",
            )
            .await?;
        if let Some((number, text, transaction)) = worker {
            (code, message) = (number, text);
            if !transaction.is_empty() {
                at = transaction;
            }
        }
    }
    Ok(RestoreError::Applier { at, code, message })
}

/// What the target says of its replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ReplicaStatus {
    io_running: String,
    io_errno: u32,
    io_error: String,
    sql_running: String,
    sql_errno: u32,
    sql_error: String,
    sql_state: String,
    applied: Option<BinlogPosition>,
}

/// None where replication is not configured.
async fn status(session: &mut Session) -> Result<Option<ReplicaStatus>, RestoreError> {
    let dialect = session.dialect();
    let columns = dialect.replica_status_columns();
    let rows = session.named_rows(dialect.show_replica_status()).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let text = |row: &BTreeMap<String, String>, name: &str| row.get(name).cloned().unwrap_or_default();
    let offset = text(&row, columns.applied_position).parse().ok();
    Ok(Some(ReplicaStatus {
        io_running: text(&row, columns.io_running),
        io_errno: text(&row, columns.last_io_errno).parse().unwrap_or(0),
        io_error: text(&row, columns.last_io_error),
        sql_running: text(&row, columns.sql_running),
        sql_errno: text(&row, columns.last_sql_errno).parse().unwrap_or(0),
        sql_error: text(&row, columns.last_sql_error),
        sql_state: text(&row, columns.sql_state),
        applied: offset.map(|offset| BinlogPosition { file: text(&row, columns.applied_file), offset }),
    }))
}

/// The error of a statement that held a password.
fn without_password(e: crate::mysql::sql::Error, password: &str) -> RestoreError {
    let message = e.to_string().replace(password, "…");
    RestoreError::Stream { message }
}
