//! MySQL: waits for the statements that the global read lock would wait for, before that is asked for.
//!
//! FLUSH TABLES WITH READ LOCK holds all writes up while it waits. One that has given up leaves its flush pending: whoever opens a table that
//! such a statement reads waits until that statement has ended, however long that is.

use std::time::{Duration, Instant};

use super::config::LogicalConfig;
use super::donor::WAITING;
use super::error::LogicalError;
use super::session::{Session, number, text};
use crate::model::Progress;

/// How often the source is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The statement that is longest at work, of those for 2 s and more: shorter ones end while the lock is waited for. In its way is what has tables
/// open, or holds the right to write (GLOBAL; DDL that itself waits for a table does, too). A server that does not show these locks tells
/// states only.
const AT_WORK: &str = "SELECT p.ID, p.USER, p.TIME FROM \
    (SELECT *, STATE LIKE 'Waiting for %lock' OR STATE LIKE 'Waiting for %flush' AS WAITS FROM information_schema.PROCESSLIST) p \
    WHERE p.COMMAND IN ('Query','Execute') AND p.TIME >= 2 AND p.ID <> CONNECTION_ID() \
    AND p.USER NOT IN ('system user','event_scheduler','mysql.session') AND IF( \
    EXISTS (SELECT 1 FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl' AND ENABLED = 'YES'), \
    EXISTS (SELECT 1 FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
    WHERE t.PROCESSLIST_ID = p.ID AND l.LOCK_STATUS = 'GRANTED' \
    AND (l.OBJECT_TYPE = 'GLOBAL' OR (l.OBJECT_TYPE = 'TABLE' AND NOT COALESCE(p.WAITS, 0)))), \
    NOT COALESCE(p.WAITS OR p.STATE = 'User lock', 0)) ORDER BY p.TIME DESC LIMIT 1";

struct Statement {
    connection: u64,
    user: String,
    seconds: u64,
}

/// Returns when none is at work, or the account may not have the lock anyway. Fails where one still is at that time.
pub(super) async fn wait(
    holder: &mut Session,
    config: &LogicalConfig,
    progress: &Progress,
    until: Instant,
) -> Result<(), LogicalError> {
    let Some(Statement { connection, user, seconds }) = at_work(holder).await? else { return Ok(()) };
    if is_refused(holder).await? {
        return Ok(());
    }
    // Not its text, which may hold secrets.
    tracing::warn!(
        connection,
        user,
        seconds,
        "a statement is at work on the source that the global read lock would wait for, and others behind it; waiting until it has ended"
    );
    let phase = progress.read().phase;
    progress.rename(WAITING);
    let outcome = until_quiet(holder, config, until).await;
    progress.rename(phase);
    outcome
}

async fn until_quiet(holder: &mut Session, config: &LogicalConfig, until: Instant) -> Result<(), LogicalError> {
    while let Some(Statement { connection, user, seconds }) = at_work(holder).await? {
        if Instant::now() >= until {
            let waited = config.statement_wait.as_secs();
            return Err(LogicalError::AtWork { connection, user, seconds, waited });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn at_work(session: &mut Session) -> Result<Option<Statement>, LogicalError> {
    let rows = session.query(AT_WORK).await?;
    Ok(rows.first().map(|row| Statement { connection: number(row, 0), user: text(row, 1), seconds: number(row, 2) }))
}

/// Whether the account may not have the lock, so that others are taken, which wait for no reader. Services refuse it to who has every grant for
/// it, so it is asked for where it cannot be given: while the session holds tables. (Nobody writes to this one.)
async fn is_refused(session: &mut Session) -> Result<bool, LogicalError> {
    match session.exec("LOCK TABLES mysql.time_zone READ").await {
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some() => return Ok(false),
        other => drop(other?),
    }
    let refused = match session.exec("FLUSH TABLES WITH READ LOCK").await {
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code != 1192) => true,
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some() => false,
        other => other.map(|_| false)?,
    };
    session.exec("UNLOCK TABLES").await?;
    Ok(refused)
}
