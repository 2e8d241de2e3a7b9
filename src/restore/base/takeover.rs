//! One load at a time. A server goes on with the statements of a client that died until they end: what a load that was cut off left at work
//! would change tables under the one that goes on from there.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::BaseError;
use super::session::{Session, text};

/// Each connection of a load holds one of these user-level locks, which the server lets go when the connection is gone.
const LOCK: &str = "tidemark_restore";
/// More than a load has connections, and those that it is closing.
const LOCKS: usize = 160;
/// What is rolled back may take a while.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);

/// Marks a connection as one that loads.
pub(super) async fn mark(session: &mut Session) -> Result<(), BaseError> {
    for n in 0..LOCKS {
        if session.value(&format!("SELECT GET_LOCK('{LOCK}.{n}', 0)")).await? == "1" {
            return Ok(());
        }
    }
    Err(BaseError::Busy { connection: "all of its locks are taken".to_owned() })
}

/// Ends the connections of any other load, and waits until they are gone.
pub(super) async fn take_over(session: &mut Session) -> Result<(), BaseError> {
    let locks: Vec<_> = (0..LOCKS).map(|n| format!("IS_USED_LOCK('{LOCK}.{n}')")).collect();
    let sql = format!("SELECT {}", locks.join(", "));
    let began = Instant::now();
    loop {
        let used = session.query(&sql).await?;
        let at_work: Vec<_> =
            used.iter().flat_map(|row| (0..row.len()).map(|n| text(row, n))).filter(|id| !id.is_empty()).collect();
        let Some(one) = at_work.first() else { return Ok(()) };
        if began.elapsed() > PATIENCE {
            return Err(BaseError::Busy { connection: format!("connection {one}: KILL {one}") });
        }
        for connection in &at_work {
            match session.exec(&format!("KILL {connection}")).await {
                // It is gone by now, or another account's.
                Err(e) if matches!(e.code(), Some(1094 | 1095)) => {}
                other => drop(other?),
            }
        }
        sleep(POLL).await;
    }
}
