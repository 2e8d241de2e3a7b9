//! Whether the target was restarted under a restore: what only its memory held is gone then, and what is no transaction may be there twice or
//! by half.

use super::error::RestoreError;
use super::state::{SCHEMA, State};
use crate::mysql::sql::Session;

/// Two readings of one start may differ by this, in seconds: each is of two whole numbers, and the second may come late.
const JITTER_S: i64 = 2;
/// Tables that an error names.
const NAMED: usize = 5;

/// When the server was started, by its own clock, in seconds since 1970.
pub(super) async fn started(session: &mut Session) -> Result<i64, RestoreError> {
    let uptime: i64 = session.first::<(String, i64)>("SHOW GLOBAL STATUS LIKE 'Uptime'").await?.map_or(0, |(_, s)| s);
    let now: i64 = session.first("SELECT CAST(UNIX_TIMESTAMP() AS SIGNED)").await?.unwrap_or(0);
    Ok(now - uptime)
}

/// Notes a restart since the base was proved. Fails where that may have changed tables whose engines know no transactions.
pub(super) async fn check(session: &mut Session, state: &mut State, address: &str) -> Result<(), RestoreError> {
    let Some(before) = state.server_started else { return Ok(()) };
    if (started(session).await? - before).abs() <= JITTER_S {
        return Ok(());
    }
    let sql = format!(
        "SELECT CONCAT(t.table_schema, '.', t.table_name, ' (', t.engine, ')') FROM information_schema.tables t \
         JOIN information_schema.engines e ON e.engine = t.engine WHERE t.table_type <> 'VIEW' AND e.transactions = 'NO' \
         AND t.engine NOT IN ('BLACKHOLE', 'MRG_MYISAM', 'FEDERATED') AND t.table_schema NOT IN \
         ('mysql', 'sys', 'information_schema', 'performance_schema', '{SCHEMA}') ORDER BY 1"
    );
    let tables: Vec<String> = session.rows(&sql).await?;
    if tables.is_empty() {
        state.restarted = true;
        return Ok(());
    }
    let more = if tables.len() > NAMED { format!(" and {} more", tables.len() - NAMED) } else { String::new() };
    let tables = format!("{}{more}", tables.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "));
    Err(RestoreError::Restarted { address: address.to_owned(), tables })
}

/// Says of an error behind a restart what may have caused it.
pub(super) fn explain(error: RestoreError, state: &State) -> RestoreError {
    match error {
        error @ (RestoreError::Applier { .. } | RestoreError::Proof { .. }) if state.restarted => {
            RestoreError::AfterRestart { source: Box::new(error) }
        }
        error => error,
    }
}
