//! Makes tables, streams their rows in and builds their keys, several at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use snafu::ResultExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::BaseConfig;
use super::ddl::{self, SplitTable};
use super::error::{BaseError, SqlSnafu, WorkerSnafu};
use super::session::{Session, text};
use super::target::{STATE, Steps, note};
use super::{object, takeover};
use crate::archive::logical::{Part, Table, TableKind};
use crate::archive::manifest::FullManifest;
use crate::archive::store::Store;
use crate::model::{Flavor, Progress, total};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;

/// What all workers share.
pub(super) struct Loader {
    pub(super) store: Store,
    pub(super) manifest: Arc<FullManifest>,
    pub(super) config: BaseConfig,
    pub(super) progress: Progress,
    pub(super) cancel: CancellationToken,
    pub(super) steps: Steps,
}

/// How often a part that is the victim of a deadlock is loaded again.
const DEADLOCK_TRIES: u32 = 20;

/// A table on its way.
struct Job {
    table: Table,
    split: SplitTable,
    /// Parts not loaded yet.
    left: AtomicUsize,
}

enum Task {
    Create(Arc<Job>),
    /// One part of a transactional table.
    Part(Arc<Job>, usize, usize),
    /// All rows of a table whose engine knows no transactions.
    Whole(Arc<Job>),
    Keys(Arc<Job>),
}

impl Loader {
    /// Loads every table but for foreign keys.
    pub(super) async fn load(self: &Arc<Self>, target: &Endpoint, mut tables: Vec<Table>) -> Result<(), BaseError> {
        tables.sort_by_key(|table| std::cmp::Reverse(raw_bytes(table)));
        let jobs: Vec<_> = tables
            .into_iter()
            .map(|table| {
                let large = raw_bytes(&table) >= self.config.defer_keys_above_bytes;
                let defer = large && table.kind == TableKind::Transactional && table.from_suffix.is_empty();
                let split = match table.kind {
                    TableKind::Sequence => ddl::split(b"", true),
                    _ => ddl::split(table.create.as_bytes(), !defer),
                };
                let left = AtomicUsize::new(table.chunks.iter().map(|chunk| chunk.parts.len()).sum());
                Arc::new(Job { table, split, left })
            })
            .collect();
        // Sequences first: a column's default may draw from one.
        let (sequences, others): (Vec<_>, Vec<_>) =
            jobs.iter().cloned().partition(|job| job.table.kind == TableKind::Sequence);
        self.run(target, sequences.into_iter().map(Task::Create).collect()).await?;
        self.run(target, others.into_iter().map(Task::Create).collect()).await?;
        self.progress.begin("rows", total(jobs.iter().map(|job| raw_bytes(&job.table))));
        let mut queue = VecDeque::new();
        for job in jobs.iter().filter(|job| job.table.kind.has_rows()) {
            if job.table.kind == TableKind::Transactional {
                for (c, chunk) in job.table.chunks.iter().enumerate() {
                    queue.extend((0..chunk.parts.len()).map(|p| Task::Part(job.clone(), c, p)));
                }
            } else {
                queue.push_back(Task::Whole(job.clone()));
            }
        }
        self.run(target, queue).await?;
        let mut constrained = Session::open(target).await?;
        takeover::mark(&mut constrained).await?;
        for job in &jobs {
            self.add_foreign_keys(&mut constrained, job).await?;
        }
        Ok(())
    }

    async fn run(self: &Arc<Self>, target: &Endpoint, queue: VecDeque<Task>) -> Result<(), BaseError> {
        let workers = self.config.connections.clamp(1, queue.len().max(1));
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (loader, queue, target) = (self.clone(), queue.clone(), target.clone());
            tasks.spawn(async move {
                let mut session = Session::open(&target).await?;
                takeover::mark(&mut session).await?;
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(task) = next else { break };
                    let follow_up = tokio::select! {
                        () = loader.cancel.cancelled() => return Err(BaseError::Cancelled),
                        done = loader.work(&mut session, task) => done?,
                    };
                    if let Some(task) = follow_up {
                        loader.work(&mut session, task).await?;
                    }
                }
                session.connection.close().await;
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.context(WorkerSnafu)??;
        }
        Ok(())
    }

    /// Does a task; the last part of a table asks for its keys.
    async fn work(&self, session: &mut Session, task: Task) -> Result<Option<Task>, BaseError> {
        match task {
            Task::Create(job) => self.create(session, &job.table, &job.split.create).await.map(|()| None),
            Task::Part(job, chunk, part) => {
                self.load_part(session, &job.table, chunk, part).await?;
                let last = job.left.fetch_sub(1, Ordering::AcqRel) == 1;
                Ok((last && !job.split.keys.is_empty()).then_some(Task::Keys(job)))
            }
            Task::Whole(job) => self.load_whole(session, &job.table, &job.split.create).await.map(|()| None),
            Task::Keys(job) => self.add_keys(session, &job).await.map(|()| None),
        }
    }

    async fn create(&self, session: &mut Session, table: &Table, create: &[u8]) -> Result<(), BaseError> {
        if table.kind == TableKind::System {
            return Ok(());
        }
        let name = quote::qualified(&table.schema, &table.name);
        let step = format!("create {name}");
        if self.steps.done(&step) {
            return Ok(());
        }
        session.exec(&format!("USE {}", quote::identifier(&table.schema))).await?;
        if table.kind == TableKind::Sequence {
            create_sequence(session, table, &name).await?;
        } else {
            match session.define_table(create, &format!("creating {name}")).await {
                // Made by a load that was cut off before it could note so; it is empty.
                Err(e) if e.code() == Some(1050) && !self.steps.0.is_empty() => {
                    session.exec(&format!("DROP TABLE {name}")).await?;
                    session.define_table(create, &format!("creating {name}")).await?;
                }
                other => drop(other?),
            }
        }
        session.exec(&note(&step)).await.map(drop)
    }

    async fn load_part(
        &self,
        session: &mut Session,
        table: &Table,
        chunk: usize,
        part: usize,
    ) -> Result<(), BaseError> {
        let name = quote::qualified(&table.schema, &table.name);
        let step = format!("rows {name} {chunk} {part}");
        let Some(wanted) = table.chunks.get(chunk).and_then(|c| c.parts.get(part)) else { return Ok(()) };
        if self.steps.done(&step) {
            return Ok(());
        }
        let mut tries = DEADLOCK_TRIES;
        loop {
            session.exec("START TRANSACTION").await?;
            match self.stream(session, table, &name, wanted).await {
                // Rows of neighbouring ranges may want the same gap.
                Err(e) if e.code() == Some(1213) && tries > 0 => {
                    tracing::debug!(table = name, error = %e, "loading a part again");
                    session.exec("ROLLBACK").await?;
                    tries -= 1;
                }
                other => break other?,
            }
        }
        fail::fail_point!("restore::base::before_commit");
        session.exec(&note(&step)).await?;
        session.exec("COMMIT").await?;
        fail::fail_point!("restore::base::after_commit");
        Ok(())
    }

    async fn load_whole(&self, session: &mut Session, table: &Table, create: &[u8]) -> Result<(), BaseError> {
        let name = quote::qualified(&table.schema, &table.name);
        let step = format!("rows {name}");
        if self.steps.done(&step) {
            return Ok(());
        }
        if table.kind == TableKind::System {
            session.exec(&format!("DELETE FROM {name}")).await?;
        } else if !self.steps.0.is_empty() {
            // A load that was cut off may have left some rows; not every engine can delete them. Or it was cut off right here.
            session.exec(&format!("USE {}", quote::identifier(&table.schema))).await?;
            session.exec(&format!("DROP TABLE IF EXISTS {name}")).await?;
            session.define_table(create, &format!("creating {name}")).await?;
        }
        for part in table.chunks.iter().flat_map(|chunk| &chunk.parts) {
            self.stream(session, table, &name, part).await?;
        }
        session.exec(&note(&step)).await.map(drop)
    }

    async fn stream(&self, session: &mut Session, table: &Table, name: &str, part: &Part) -> Result<(), BaseError> {
        for sql in &table.load_session {
            session.exec(sql).await?;
        }
        let entry = object::entry(&self.manifest, part.object)?;
        if session.flavor == Flavor::Mariadb {
            // Unchecked it fills an empty table in bulk, and hangs for good on a value that is as large as its redo log.
            let bytes = entry.raw_bytes.saturating_mul(2);
            session.exec(&format!("SET SESSION unique_checks = (@@GLOBAL.innodb_log_file_size <= {bytes})")).await?;
        }
        let kept = Arc::new(Mutex::new(None));
        let source = object::keep_error(object::read(&self.store, &self.manifest, entry).await?, kept.clone());
        let sql = format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {name} CHARACTER SET binary {}", table.load);
        let loaded = session.connection.load_data(&sql, source).await;
        if let Some(damaged) = kept.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(damaged);
        }
        let done = loaded.with_context(|_| SqlSnafu { doing: format!("loading {name} from {}", entry.key) })?;
        let refuse = |reason| Err(BaseError::Rows { table: name.to_owned(), key: entry.key.clone(), reason });
        if done.affected_rows != part.rows {
            return refuse(format!("{} rows of {} were taken ({})", done.affected_rows, part.rows, done.info));
        }
        if done.warnings > 0 {
            let warnings = session.query("SHOW WARNINGS").await?;
            let noise = |code: &str| table.truncation_is_noise && code == "1265";
            if let Some(first) = warnings.iter().find(|row| !noise(&text(row, 1))) {
                return refuse(format!("{} warnings, such as {}: {}", done.warnings, text(first, 1), text(first, 2)));
            }
        }
        self.progress.add(entry.raw_bytes, part.rows);
        Ok(())
    }

    async fn add_keys(&self, session: &mut Session, job: &Job) -> Result<(), BaseError> {
        let there = |e: &BaseError| e.code() == Some(1061);
        self.alter(session, &job.table, "keys", &job.split.keys, there).await
    }

    async fn add_foreign_keys(&self, session: &mut Session, job: &Job) -> Result<(), BaseError> {
        let there = |e: &BaseError| match e.code() {
            // MariaDB has one code for whatever keeps a constraint from being made.
            Some(1005) => e.message().contains("errno: 121"),
            code => code == Some(1826),
        };
        self.alter(session, &job.table, "foreign keys", &job.split.foreign_keys, there).await
    }

    /// Adds all of them at once: they are there or not, together.
    async fn alter(
        &self,
        session: &mut Session,
        table: &Table,
        what: &str,
        adds: &[Vec<u8>],
        there: impl Fn(&BaseError) -> bool,
    ) -> Result<(), BaseError> {
        if adds.is_empty() {
            return Ok(());
        }
        let name = quote::qualified(&table.schema, &table.name);
        let step = format!("{what} {name}");
        if self.steps.done(&step) {
            return Ok(());
        }
        session.exec(&format!("USE {}", quote::identifier(&table.schema))).await?;
        let adds: Vec<_> = adds.iter().map(|add| [b"ADD ", add.as_slice()].concat()).collect();
        let sql = [format!("ALTER TABLE {name} ").as_bytes(), &adds.join(&b", "[..])].concat();
        match session.define_table(&sql, &format!("adding {what} of {name}")).await {
            Err(e) if there(&e) && !self.steps.0.is_empty() => {}
            other => drop(other?),
        }
        session.exec(&note(&step)).await.map(drop)
    }
}

/// The definition's lines: `CREATE SEQUENCE`, next value, cycle count.
async fn create_sequence(session: &mut Session, table: &Table, name: &str) -> Result<(), BaseError> {
    let definition = String::from_utf8_lossy(table.create.as_bytes()).into_owned();
    let mut lines = definition.rsplitn(3, '\n');
    let (Some(cycles), Some(next), Some(create)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(BaseError::Refused {
            what: name.to_owned(),
            reason: "its definition is not understood".to_owned(),
        });
    };
    session.exec(&format!("DROP SEQUENCE IF EXISTS {name}")).await?;
    session.define(create.as_bytes(), &format!("creating {name}")).await?;
    session.exec(&format!("DO SETVAL({name}, {next}, 0, {cycles})")).await.map(drop)
}

/// Size of a table's rows in bytes.
pub(super) fn raw_bytes(table: &Table) -> u64 {
    total(table.chunks.iter().map(|chunk| chunk.raw_bytes))
}

/// Drops the state.
pub(super) async fn forget(session: &mut Session) -> Result<(), BaseError> {
    session.exec(&format!("DROP DATABASE IF EXISTS {STATE}")).await.map(drop)
}
