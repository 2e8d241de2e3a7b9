//! What a full may cost its source: the rate of its reading, and the load of the source at which it yields.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::model::{Pace, Progress};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::sql::{Error, Session};

/// What a full that yields says it does.
pub(super) const WAITING: &str = "waiting for the source";
/// How often the source is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A reader that waits longer reads a little all the same: the server ends a connection that takes nothing for two hours.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What a full may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of rows read in a second.
    pub bytes_per_second: Option<u64>,
    /// Most statements that may run on the source beside the full's own.
    pub threads_running: Option<u32>,
    /// How far the source, a replica, may be behind its own.
    pub replication_lag: Option<Duration>,
}

/// Holds readers up. One for all connections of a full; when it goes, so does its own connection.
#[derive(Debug)]
pub(super) struct Throttle {
    pace: Pace,
    /// Whether readers wait now.
    yields: watch::Receiver<bool>,
    reading: Arc<AtomicU32>,
    _watching: JoinSet<()>,
}

/// A connection at work: it is not counted as load.
pub(super) struct Reading(Arc<AtomicU32>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Throttle {
    /// Begins to watch the source, if there is a reason to.
    pub(super) fn new(limits: Limits, source: &Endpoint, progress: &Progress) -> Self {
        let (tell, yields) = watch::channel(false);
        let reading = Arc::new(AtomicU32::new(0));
        let mut watching = JoinSet::new();
        if limits.threads_running.is_some() || limits.replication_lag.is_some() {
            watching.spawn(keep_looking(limits, source.clone(), reading.clone(), progress.clone(), tell));
        }
        let pace = Pace::new(limits.bytes_per_second);
        Self { pace, yields, reading, _watching: watching }
    }

    /// Notes that one more connection reads, until the result goes.
    pub(super) fn reading(&self) -> Reading {
        self.reading.fetch_add(1, Ordering::Relaxed);
        Reading(self.reading.clone())
    }

    /// Returns when more may be read after `bytes` of rows.
    pub(super) async fn pass(&self, bytes: u64) {
        self.pace.take(usize::try_from(bytes).unwrap_or(usize::MAX)).await;
        // A watch that ended holds nobody up.
        let _ = timeout(LONGEST_WAIT, self.yields.clone().wait_for(|yields| !yields)).await;
    }
}

async fn keep_looking(
    limits: Limits,
    source: Endpoint,
    reading: Arc<AtomicU32>,
    progress: Progress,
    tell: watch::Sender<bool>,
) {
    let mut session = None;
    let mut phase = progress.read().phase;
    loop {
        let why = match look(&mut session, &source, limits, &reading).await {
            Ok(why) => why,
            // The copy itself tells what is wrong with the source.
            Err(error) => {
                tracing::warn!(error = %error, "the source's load cannot be seen; the full goes on");
                session = None;
                None
            }
        };
        let yielded = *tell.borrow();
        match &why {
            Some(why) => {
                if !yielded {
                    tracing::info!(why, "the full yields to the source's load");
                }
                // The full may have begun another phase meanwhile.
                let now = progress.read().phase;
                if now != WAITING {
                    phase = now;
                    progress.rename(WAITING);
                }
            }
            None if yielded => {
                tracing::info!("the full goes on");
                if progress.read().phase == WAITING {
                    progress.rename(phase);
                }
            }
            None => {}
        }
        tell.send_replace(why.is_some());
        sleep(LOOK).await;
    }
}

/// Which limit is passed, in words.
async fn look(
    session: &mut Option<Session>,
    source: &Endpoint,
    limits: Limits,
    reading: &AtomicU32,
) -> Result<Option<String>, Error> {
    let session = match session {
        Some(session) => session,
        none => none.insert(Session::connect(source).await?),
    };
    if let Some(most) = limits.threads_running {
        let row: Option<(String, u32)> = session.first("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
        // This look is one of them.
        let others = row.map_or(0, |(_, running)| running).saturating_sub(1 + reading.load(Ordering::Relaxed));
        if others > most {
            return Ok(Some(format!("{others} statements run there, limits.threadsRunning is {most}")));
        }
    }
    if let Some(most) = limits.replication_lag {
        let dialect = session.dialect();
        let column = dialect.replica_status_columns().seconds_behind;
        let rows = session.named_rows(dialect.show_replica_status()).await?;
        // None, or a replica that has stopped: nothing that a pause would help.
        let behind = rows.iter().filter_map(|row| row.get(column)?.parse().ok()).max().map(Duration::from_secs);
        if let Some(behind) = behind.filter(|behind| *behind > most) {
            let (behind, most) = (behind.as_secs(), most.as_secs());
            return Ok(Some(format!("it is {behind} s behind its own source, limits.replicationLag is {most} s")));
        }
    }
    Ok(None)
}
