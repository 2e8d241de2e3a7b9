//! Proves that the target's rows are the full's: counts and checksums, range by range, several at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use snafu::ResultExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::BaseConfig;
use super::description;
use super::error::{BaseError, SqlSnafu, WorkerSnafu};
use super::session::Session;
use super::tables::raw_bytes;
use crate::archive::logical::{Chunk, Table};
use crate::archive::manifest::FullManifest;
use crate::archive::rows::{Discard, Lines};
use crate::archive::store::Store;
use crate::model::{Progress, total};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;

/// Longest row a server can hold, with room for its packet.
const MAX_ROW_BYTES: u64 = 5 << 30;

/// What was proved equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
}

/// Reads every row of the base back and compares it with what the full says. Nothing may have written meanwhile.
pub async fn verify(
    store: &Store,
    manifest: &FullManifest,
    target: &Endpoint,
    config: &BaseConfig,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Verified, BaseError> {
    let mut tables = description::read(store, manifest).await?.tables;
    tables.retain(|table| table.kind.has_rows());
    tables.sort_by_key(|table| std::cmp::Reverse(raw_bytes(table)));
    progress.begin("checksums", total(tables.iter().map(raw_bytes)));
    let verified = Verified { tables: tables.len() as u64, rows: total(tables.iter().map(|table| table.rows)) };
    let mut queue = VecDeque::new();
    for table in tables.into_iter().map(Arc::new) {
        queue.extend((0..table.chunks.len()).map(|chunk| (table.clone(), chunk)));
    }
    let queue = Arc::new(Mutex::new(queue));
    let mut tasks = JoinSet::new();
    for _ in 0..config.connections.max(1) {
        let (queue, target, progress, cancel) = (queue.clone(), target.clone(), progress.clone(), cancel.clone());
        tasks.spawn(async move {
            let mut session = Session::open(&target).await?;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((table, chunk)) = next else { break };
                if let Some(chunk) = table.chunks.get(chunk) {
                    compare(&mut session, &table, chunk, &progress, &cancel).await?;
                }
            }
            session.connection.close().await;
            Ok::<_, BaseError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context(WorkerSnafu)??;
    }
    Ok(verified)
}

async fn compare(
    session: &mut Session,
    table: &Table,
    chunk: &Chunk,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), BaseError> {
    let name = quote::qualified(&table.schema, &table.name);
    let sql = table.select_rows(chunk.condition.as_deref());
    let malformed = |source| BaseError::Sql { doing: format!("reading {name}"), source: Box::new(source) };
    let rows = session.connection.stream_rows(&sql, MAX_ROW_BYTES).await;
    let mut rows = rows.with_context(|_| SqlSnafu { doing: format!("reading {name}") })?;
    let mut lines = Lines::new(table.fields);
    let mut counted = (0, 0);
    loop {
        let row = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(BaseError::Cancelled),
            row = rows.next() => row.map_err(malformed)?,
        };
        let Some(row) = row else { break };
        if row.payload().len() > Lines::PIECE_BYTES {
            lines.push_long(row.fields().map(|field| field.map_err(malformed)), &[], &mut Discard).await?;
        } else if !lines.push(row.fields()).map_err(malformed)? {
            continue;
        }
        lines.discard();
        progress.add(lines.bytes - counted.0, lines.rows - counted.1);
        counted = (lines.bytes, lines.rows);
    }
    progress.add(lines.bytes - counted.0, lines.rows - counted.1);
    if (lines.rows, lines.checksum) == (chunk.rows, chunk.checksum) {
        return Ok(());
    }
    Err(BaseError::Differs {
        table: name.clone(),
        condition: chunk.condition.clone(),
        expected_rows: chunk.rows,
        expected: chunk.checksum.to_string(),
        found_rows: lines.rows,
        found: lines.checksum.to_string(),
    })
}
