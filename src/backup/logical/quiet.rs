//! MySQL: waits for the statements that the global read lock would wait for, before that is asked for.
//!
//! FLUSH TABLES WITH READ LOCK holds all writes up while it waits. One that has given up leaves its flush pending: whoever opens a table that
//! such a statement reads waits until that statement has ended, however long that is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::config::LogicalConfig;
use super::donor::WAITING;
use super::error::LogicalError;
use super::session::{Row, Session, number, text};
use crate::model::Progress;

/// How often the source is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Which of those connections hold what is in the lock's way, and whether that is the right to write (GLOBAL; DDL that itself waits for a table
/// has it, too) or a table.
const HELD: &str = "SELECT t.PROCESSLIST_ID, MAX(l.OBJECT_TYPE = 'GLOBAL') \
    FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
    WHERE l.LOCK_STATUS = 'GRANTED' AND l.OBJECT_TYPE IN ('GLOBAL', 'TABLE') AND t.PROCESSLIST_ID IN ";

/// Whether the server shows them.
const SHOWN: &str = "SELECT COUNT(*) FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl' AND ENABLED = 'YES'";

/// A statement for 2 s and more at work: shorter ones end while the lock is waited for.
#[derive(Debug)]
struct Statement {
    connection: u64,
    user: String,
    seconds: u64,
    state: String,
}

impl Statement {
    fn of(row: &Row) -> Option<Self> {
        let (connection, user, command) = (number(row, 0), text(row, 1), text(row, 4));
        let (seconds, state) = (number(row, 5), text(row, 6));
        let is_users = !["system user", "event_scheduler", "mysql.session"].contains(&user.as_str());
        let is_long = seconds >= 2 && ["Query", "Execute"].contains(&command.as_str());
        (is_users && is_long).then_some(Self { connection, user, seconds, state })
    }

    /// Whether it waits for a lock itself, and so for nobody who waits for it.
    fn waits(&self) -> bool {
        self.state.starts_with("Waiting for ") && (self.state.ends_with("lock") || self.state.ends_with("flush"))
    }
}

/// Returns when none is at work, or the account may not have the lock anyway. Fails where one still is at that time.
pub(super) async fn wait(
    holder: &mut Session,
    config: &LogicalConfig,
    progress: &Progress,
    until: Instant,
) -> Result<(), LogicalError> {
    let Some(Statement { connection, user, seconds, .. }) = at_work(holder).await? else { return Ok(()) };
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
    while let Some(Statement { connection, user, seconds, .. }) = at_work(holder).await? {
        if Instant::now() >= until {
            let waited = config.statement_wait.as_secs();
            return Err(LogicalError::AtWork { connection, user, seconds, waited });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The one that is longest at work. In the lock's way is who has tables open, or the right to write. A server that does not show these locks
/// tells states only.
async fn at_work(session: &mut Session) -> Result<Option<Statement>, LogicalError> {
    // Not information_schema.PROCESSLIST, which fails while any statement has a character of four bytes.
    let mut long: Vec<_> = session.query("SHOW PROCESSLIST").await?.iter().filter_map(Statement::of).collect();
    if long.is_empty() {
        return Ok(None);
    }
    if session.value(SHOWN).await? == "0" {
        long.retain(|statement| !statement.waits() && statement.state != "User lock");
    } else {
        let ids: Vec<_> = long.iter().map(|statement| statement.connection.to_string()).collect();
        let held = session.query(&format!("{HELD}({}) GROUP BY 1", ids.join(","))).await?;
        let held: HashMap<_, _> = held.iter().map(|row| (number(row, 0), number(row, 1) == 1)).collect();
        long.retain(|statement| held.get(&statement.connection).is_some_and(|writes| *writes || !statement.waits()));
    }
    Ok(long.into_iter().max_by_key(|statement| statement.seconds))
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
