//! Ranges of tables, read by as many workers as there are snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use snafu::ResultExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::copy::{Copier, TableJob};
use super::error::{LogicalError, WorkerSnafu};
use super::look::check_names;
use super::session::Session;
use crate::archive::logical::Table;

/// How long a worker keeps DDL from what it has copied, to look at the names of all of it at once: that takes longer, the more tables there are.
const KEPT: Duration = Duration::from_secs(1);
/// How many ranges that are at the most.
const KEPT_RANGES: usize = 256;
/// Size of a range in bytes for which nothing else is kept.
const LARGE_BYTES: u64 = 16 << 20;

type Range = (Arc<TableJob>, usize);

struct Queue(Mutex<VecDeque<Range>>);

impl Queue {
    fn next(&self) -> Option<Range> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn next_small(&self) -> Option<Range> {
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (job, _) = ranges.front()?;
        if job.head.data_bytes / job.ranges.len().max(1) as u64 > LARGE_BYTES {
            return None;
        }
        ranges.pop_front()
    }
}

/// Every range of every table, in the order of `jobs`. `ids` are InnoDB's when the names were looked at.
pub(super) async fn copy_all(
    workers: Vec<Session>,
    jobs: Vec<TableJob>,
    ids: &BTreeMap<String, u64>,
    copier: &Copier,
) -> Result<Vec<Table>, LogicalError> {
    let mut ranges = VecDeque::new();
    for job in jobs.into_iter().map(Arc::new) {
        ranges.extend((0..job.ranges.len()).map(|range| (job.clone(), range)));
    }
    let (queue, ids) = (Arc::new(Queue(Mutex::new(ranges))), Arc::new(ids.clone()));
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        let (queue, ids, copier) = (queue.clone(), ids.clone(), copier.clone());
        tasks.spawn(async move {
            let mut done = Vec::new();
            while let Some(first) = queue.next() {
                copy_some(&mut worker, first, &queue, &ids, &copier, &mut done).await?;
            }
            worker.connection.close().await;
            Ok::<_, LogicalError>(done)
        });
    }
    let mut tables = Vec::new();
    while let Some(done) = tasks.join_next().await {
        tables.extend(done.context(WorkerSnafu)??);
    }
    Ok(tables)
}

/// Copies a range, and small ones behind it.
async fn copy_some(
    worker: &mut Session,
    first: Range,
    queue: &Queue,
    ids: &BTreeMap<String, u64>,
    copier: &Copier,
    done: &mut Vec<Table>,
) -> Result<(), LogicalError> {
    let began = Instant::now();
    let mut next = Some(first);
    let mut copied = 0;
    worker.exec("SAVEPOINT tidemark").await?;
    while let Some((job, range)) = next {
        done.extend(copier.copy(worker, &job, range).await?);
        copied += 1;
        let more = copied < KEPT_RANGES && began.elapsed() < KEPT;
        next = if more { queue.next_small() } else { None };
    }
    // While their locks are held: two tables that change their names, and change them back, are told from those that never did.
    check_names(ids, worker).await?;
    // Lets DDL on these tables go on; the snapshot stays.
    worker.exec("ROLLBACK TO SAVEPOINT tidemark").await.map(drop)
}
