//! Reads a table's rows, range by range, into objects.

use std::sync::{Arc, Mutex, PoisonError};

use snafu::ResultExt;
use tokio_util::sync::CancellationToken;

use super::columns::{ColumnInfo, Shape, shape};
use super::config::LogicalConfig;
use super::definitions::TableHead;
use super::donor::Throttle;
use super::error::{LogicalError, SqlSnafu};
use super::output::{Objects, Output};
use super::session::{Session, bytes, text};
use super::{json, members};
use crate::archive::digest::Digest;
use crate::archive::keys;
use crate::archive::logical::{Chunk, Part, SqlText, Table, TableKind};
use crate::archive::rows::Lines;
use crate::archive::store::Store;
use crate::model::Progress;
use crate::mysql::quote;
use crate::mysql::wire;

/// Longest row a server can hold, with room for its packet.
const MAX_ROW_BYTES: u64 = 5 << 30;

/// A table on its way: its ranges may be read by several workers.
#[derive(Debug)]
pub(super) struct TableJob {
    pub(super) number: usize,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) head: TableHead,
    /// Its definition's hash before the snapshot; none where it was not taken.
    pub(super) definition: Option<String>,
    pub(super) ranges: Vec<Option<String>>,
    done: Mutex<Progressing>,
}

#[derive(Debug, Default)]
struct Progressing {
    table: Option<Table>,
    chunks: Vec<(usize, Chunk)>,
    /// A document of JSON needed a tail: the table is loaded with this instead.
    load_typed: Option<String>,
}

impl TableJob {
    pub(super) fn new(
        number: usize,
        (schema, name): (String, String),
        head: TableHead,
        definition: Option<String>,
    ) -> Self {
        Self { number, schema, name, head, definition, ranges: vec![None], done: Mutex::default() }
    }

    fn qualified(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }
}

/// What copying needs besides a connection.
#[derive(Clone)]
pub(super) struct Copier {
    pub(super) config: LogicalConfig,
    pub(super) store: Store,
    pub(super) full_id: String,
    pub(super) objects: Arc<Objects>,
    /// What the copy is not exact about.
    pub(super) warnings: Arc<Mutex<Vec<String>>>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) progress: Progress,
    pub(super) cancel: CancellationToken,
}

impl Copier {
    /// Copies one range; returns the whole table once its last range is done. The table's metadata lock stays.
    pub(super) async fn copy(
        &self,
        session: &mut Session,
        job: &TableJob,
        range: usize,
    ) -> Result<Option<Table>, LogicalError> {
        let (table, chunk, load_typed) = self.copy_range(session, job, range).await?;
        let mut done = job.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.table.get_or_insert(table);
        done.chunks.extend(chunk.map(|chunk| (range, chunk)));
        done.load_typed = load_typed.or(done.load_typed.take());
        if job.head.kind.has_rows() && done.chunks.len() < job.ranges.len() {
            return Ok(None);
        }
        let Some(mut table) = done.table.take() else { return Ok(None) };
        done.chunks.sort_by_key(|(range, _)| *range);
        if let Some(load) = done.load_typed.take() {
            table.load = load;
        }
        table.rows = done.chunks.iter().map(|(_, chunk)| chunk.rows).sum();
        table.chunks = done.chunks.drain(..).map(|(_, chunk)| chunk).collect();
        Ok(Some(table))
    }

    async fn copy_range(
        &self,
        session: &mut Session,
        job: &TableJob,
        range: usize,
    ) -> Result<(Table, Option<Chunk>, Option<String>), LogicalError> {
        let qualified = job.qualified();
        if job.head.kind != TableKind::Sequence && job.head.kind != TableKind::NoRows {
            // Takes the metadata lock: from here on the definition cannot change.
            session.exec(&format!("SELECT 1 FROM {qualified} LIMIT 0")).await?;
        }
        let (mut create, hash) = definition(session, &job.schema, &job.name, job.head.kind).await?;
        if job.definition.as_ref().is_some_and(|before| *before != hash) {
            return Err(LogicalError::Changed { what: format!("the definition of {qualified}") });
        }
        let shape = match job.head.kind {
            TableKind::Sequence | TableKind::NoRows => Shape::default(),
            _ => {
                let columns = columns(session, &job.schema, &job.name).await?;
                let warned = members::restore(session, &job.schema, &job.name, &columns, &mut create).await?;
                if range == 0 {
                    self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(warned);
                }
                shape(session.flavor, &columns, job.head.versioned)
            }
        };
        let mut load_session = Vec::new();
        let mut from_suffix = String::new();
        if job.head.versioned {
            if range == 0 && memchr::memmem::find(create.as_bytes(), b" PARTITION BY SYSTEM_TIME LIMIT ").is_some() {
                let warning = format!(
                    "{qualified} is PARTITION BY SYSTEM_TIME LIMIT: its rows of the past come back, but not each in the partition where it was, so \
                     that DROP PARTITION takes other ones; PARTITION BY SYSTEM_TIME INTERVAL keeps them apart"
                );
                self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
            }
            from_suffix = "FOR SYSTEM_TIME ALL".to_owned();
            load_session.push("SET SESSION system_versioning_insert_history = 1".to_owned());
        }
        let table = Table {
            schema: job.schema.clone(),
            name: job.name.clone(),
            kind: job.head.kind,
            create,
            select: shape.select.clone(),
            fields: shape.fields,
            load: shape.load.clone(),
            load_session,
            truncation_is_noise: shape.truncation_is_noise,
            from_suffix,
            rows: 0,
            chunks: Vec::new(),
        };
        if !job.head.kind.has_rows() || table.select.is_empty() {
            return Ok((table, None, None));
        }
        let condition = job.ranges.get(range).cloned().flatten();
        let (chunk, has_tails) = self.read_rows(session, job, range, &table, &shape, condition).await?;
        Ok((table, Some(chunk), has_tails.then_some(shape.load_typed)))
    }

    async fn read_rows(
        &self,
        session: &mut Session,
        job: &TableJob,
        range: usize,
        table: &Table,
        shape: &Shape,
        condition: Option<String>,
    ) -> Result<(Chunk, bool), LogicalError> {
        let sql = table.select_rows(condition.as_deref());
        let doing = || format!("reading {}", job.qualified());
        // What is copied under the lock is in everybody's way, and hurries.
        let throttle = (job.head.kind != TableKind::NonTransactional).then_some(&self.throttle);
        if let Some(throttle) = throttle {
            throttle.pass(0).await;
        }
        let _reading = self.throttle.reading();
        let mut rows =
            session.connection.stream_rows(&sql, MAX_ROW_BYTES).await.with_context(|_| SqlSnafu { doing: doing() })?;
        let mut lines = Lines::new(table.fields);
        let mut parts = Vec::new();
        let mut has_tails = false;
        let mut output: Option<Output> = None;
        let (mut rows_before, mut bytes_before, mut counted) = (0, 0, (0, 0));
        loop {
            let row = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(LogicalError::Cancelled),
                row = rows.next() => row.with_context(|_| SqlSnafu { doing: doing() })?,
            };
            let Some(row) = row else { break };
            let sink = match &mut output {
                Some(output) => output,
                none => {
                    let key = self.object_key(job, range, parts.len());
                    none.insert(Output::create(&self.store, key, &self.config).await?)
                }
            };
            let malformed = |source| LogicalError::Sql { doing: doing(), source: Box::new(source) };
            let tails = if shape.json.is_empty() { Vec::new() } else { tails(job, shape, row.fields(), malformed)? };
            has_tails |= !tails.is_empty();
            if row.payload().len() > Lines::PIECE_BYTES || !tails.is_empty() {
                lines.push_long(row.fields().map(|field| field.map_err(malformed)), &tails, sink).await?;
            } else if !lines.push(row.fields()).map_err(malformed)? {
                continue;
            }
            lines.flush(sink).await?;
            self.progress.add(lines.bytes - counted.0, lines.rows - counted.1);
            if let Some(throttle) = throttle {
                throttle.pass(lines.bytes - counted.0).await;
            }
            counted = (lines.bytes, lines.rows);
            if lines.bytes - bytes_before >= self.config.object_bytes
                && let Some(full) = output.take()
            {
                parts.push(Part { object: full.finish(&self.objects).await?, rows: lines.rows - rows_before });
                (rows_before, bytes_before) = (lines.rows, lines.bytes);
            }
        }
        if let Some(mut last) = output {
            lines.flush(&mut last).await?;
            parts.push(Part { object: last.finish(&self.objects).await?, rows: lines.rows - rows_before });
        }
        self.progress.add(lines.bytes - counted.0, lines.rows - counted.1);
        if let Some(throttle) = throttle {
            throttle.pass(lines.bytes - counted.0).await;
        }
        fail::fail_point!("backup::logical::after_range");
        let chunk = Chunk { condition, rows: lines.rows, raw_bytes: lines.bytes, checksum: lines.checksum, parts };
        Ok((chunk, has_tails))
    }

    fn object_key(&self, job: &TableJob, range: usize, part: usize) -> String {
        let encrypted = !self.config.recipients.is_empty();
        let mut path = format!("{}/{}", keys::escape(&job.schema), keys::escape(&job.name));
        // Folders of the local store have names of at most 255 bytes. Whoever may not read the rows must not read the names either.
        if path.len() > 200 || encrypted {
            path = format!("table-{}", job.number);
        }
        keys::full_object(&self.full_id, None, &format!("rows/{path}/{range:05}-{part:05}.tsv.zst"), encrypted)
    }
}

/// What to write behind documents of JSON so that their types come back, by field.
fn tails(
    job: &TableJob,
    shape: &Shape,
    fields: wire::Fields<'_>,
    malformed: impl Fn(wire::Error) -> LogicalError,
) -> Result<Vec<(usize, Vec<u8>)>, LogicalError> {
    // Most rows need none: the probes are last, and empty.
    let mut probed = fields.clone().skip(shape.fields).take(shape.json.len());
    if probed.all(|field| matches!(field, Ok(Some(b"")))) {
        return Ok(Vec::new());
    }
    let fields = fields.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let field = |number: usize| fields.get(number).copied().flatten().unwrap_or_default();
    let mut out = Vec::new();
    for column in &shape.json {
        match json::tail(field(column.field), field(column.probe)) {
            Ok(tail) => out.extend(tail.map(|tail| (column.field, tail))),
            Err(json::Unrebuildable { path, reason }) => {
                let key: Vec<_> = shape
                    .key
                    .iter()
                    .map(|(number, name)| format!("{name} = {}", String::from_utf8_lossy(field(*number))))
                    .collect();
                let at = if key.is_empty() { "a row without a key".to_owned() } else { key.join(", ") };
                let what = format!("{} at {path} of column {} where {at}", job.qualified(), column.name);
                let reason = format!("{reason}; store the value there as a string");
                return Err(LogicalError::Unsupported { what, reason });
            }
        }
    }
    Ok(out)
}

/// A table's definition and a hash of it that ignores what rows change.
pub(super) async fn definition(
    session: &mut Session,
    schema: &str,
    name: &str,
    kind: TableKind,
) -> Result<(SqlText, String), LogicalError> {
    let qualified = quote::qualified(schema, name);
    if kind == TableKind::Sequence {
        return sequence(session, &qualified).await;
    }
    let row = session.row(&format!("SHOW CREATE TABLE {qualified}"), "SHOW CREATE TABLE").await?;
    let create = bytes(&row, 1).map(|b| b.to_vec()).unwrap_or_default();
    // Not exact on purpose: a counter inside a comment only costs another look.
    let stable = match memchr::memmem::rfind(&create, b" AUTO_INCREMENT=") {
        Some(at) => {
            let (head, tail) = create.split_at(at);
            let digits = tail.iter().skip(16).take_while(|b| b.is_ascii_digit()).count();
            [head, tail.get(16 + digits..).unwrap_or_default()].concat()
        }
        None => create.clone(),
    };
    let hash = Digest::of(&stable);
    Ok((create.into(), hash))
}

/// `CREATE SEQUENCE` and `SETVAL` with what has been handed out (cached values count as used).
async fn sequence(session: &mut Session, qualified: &str) -> Result<(SqlText, String), LogicalError> {
    let row = session.row(&format!("SHOW CREATE SEQUENCE {qualified}"), "SHOW CREATE SEQUENCE").await?;
    let state =
        session.row(&format!("SELECT next_not_cached_value, cycle_count FROM {qualified}"), "a sequence").await?;
    let create = format!("{}\n{}\n{}", text(&row, 1), text(&state, 0), text(&state, 1));
    Ok((create.into(), text(&row, 1)))
}

async fn columns(session: &mut Session, schema: &str, name: &str) -> Result<Vec<ColumnInfo>, LogicalError> {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, EXTRA, GENERATION_EXPRESSION, COLUMN_KEY \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        quote::text(schema),
        quote::text(name)
    );
    let columns: Vec<_> = session
        .query(&sql)
        .await?
        .iter()
        .map(|row| ColumnInfo {
            name: text(row, 0),
            data_type: text(row, 1).to_ascii_lowercase(),
            column_type: text(row, 2),
            charset: text(row, 3),
            extra: text(row, 4).to_ascii_uppercase(),
            generation: text(row, 5).to_ascii_uppercase(),
            is_key: text(row, 6) == "PRI",
        })
        .collect();
    if columns.is_empty() {
        return Err(LogicalError::Changed { what: quote::qualified(schema, name) });
    }
    Ok(columns)
}
