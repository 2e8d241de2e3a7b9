//! Aligns several connections on one moment of the source and says which.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::config::LogicalConfig;
use super::error::LogicalError;
use super::quiet;
use super::session::{Session, bytes, number, text};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, Flavor, GtidSet, Progress};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;

/// Connections whose transactions all show the same moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) workers: Vec<Session>,
    pub(super) at: Timestamp,
    pub(super) gtids: GtidSet,
    pub(super) position: Option<BinlogPosition>,
    /// XA transactions that are prepared and so not visible: [`crate::archive::manifest::FullManifest::prepared_xa`].
    pub(super) prepared_xa: Vec<String>,
}

/// What keeps writes away while the snapshots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    /// FLUSH TABLES WITH READ LOCK.
    Global,
    /// MariaDB's BACKUP STAGE BLOCK_COMMIT: does not wait for running queries.
    Stage,
    /// LOCK TABLES … READ on every table, where the service forbids the global lock.
    Tables,
    /// None: MariaDB's snapshots name their binlog position, so that equal ones prove themselves.
    None,
}

/// A snapshot whose lock is still held.
pub(super) struct Held {
    pub(super) snapshot: Snapshot,
    holder: Session,
    lock: Lock,
}

impl Held {
    /// Whether nothing at all can be written.
    pub(super) fn is_global(&self) -> bool {
        self.lock == Lock::Global
    }

    /// Lets writes go on.
    pub(super) async fn release(mut self) -> Result<Snapshot, LogicalError> {
        match self.lock {
            Lock::Global | Lock::Tables => drop(self.holder.exec("UNLOCK TABLES").await?),
            Lock::Stage => drop(self.holder.exec("BACKUP STAGE END").await?),
            Lock::None => {}
        }
        self.holder.connection.close().await;
        Ok(self.snapshot)
    }
}

/// How often snapshots are begun in a row where nothing holds writes back.
const UNLOCKED_TRIES: u32 = 100;

/// Each attempt becomes as many where LOCK TABLES is waited for: MySQL gives the lock only in a moment in which nobody writes to the table,
/// and lets all writers pass meanwhile.
const TABLES_PATIENCE: u32 = 6;

/// Takes the snapshots. `tables` are all base tables; `keep_lock` asks for a lock that also stops non-transactional writes; `staged`: a backup
/// stage is held already (MariaDB has only one).
pub(super) async fn align(
    endpoint: &Endpoint,
    config: &LogicalConfig,
    tables: &[(String, String)],
    keep_lock: bool,
    staged: bool,
    progress: &Progress,
) -> Result<Held, LogicalError> {
    let mut workers = Vec::new();
    for _ in 0..config.connections.max(1) {
        let mut worker = Session::open(endpoint, config.lock_wait).await?;
        if !worker.give_tables_back().await? && workers.is_empty() {
            tracing::warn!(
                "the account lacks BINLOG ADMIN: DDL on a table that was copied waits for the end of the full, and others behind it"
            );
        }
        workers.push(worker);
    }
    let mut holder = Session::open(endpoint, config.lock_wait).await?;
    let flavor = holder.flavor;
    let mut lock = match flavor {
        Flavor::Mysql => Lock::Global,
        Flavor::Mariadb if !staged => Lock::Stage,
        Flavor::Mariadb if keep_lock => Lock::Global,
        // The global lock would wait for an ALTER that copies its table, hold all writes up behind it, and make it a deadlock's victim at its end.
        Flavor::Mariadb => Lock::None,
    };
    let mut denied = None;
    // For all attempts together.
    let quiet_until = Instant::now() + config.statement_wait;
    let mut attempt = 0;
    while attempt <= config.attempts.max(1) * if lock == Lock::Tables { TABLES_PATIENCE } else { 1 } {
        if attempt > 0 {
            let pause = if lock == Lock::Tables { 0 } else { attempt.min(5) };
            tokio::time::sleep(Duration::from_millis(500 << pause)).await;
        }
        attempt += 1;
        if lock == Lock::Global && flavor == Flavor::Mysql {
            quiet::wait(&mut holder, config, progress, quiet_until).await?;
        }
        match take(&mut holder, lock, tables).await {
            Ok(()) => {}
            Err(LogicalError::Sql { source, doing }) => match source.server_error().map(|e| e.code) {
                Some(1205 | 1213) => {
                    holder = Session::open(endpoint, config.lock_wait).await?;
                    continue;
                }
                Some(1044 | 1045 | 1142 | 1227 | 1290 | 1235) if lock == Lock::Tables => {
                    return Err(LogicalError::NoLock { source: denied.unwrap_or(source) });
                }
                Some(1044 | 1045 | 1142 | 1227 | 1290 | 1235) => {
                    lock = if flavor == Flavor::Mariadb && !keep_lock { Lock::None } else { Lock::Tables };
                    tracing::warn!(error = %source, "the account may not take the global lock; falling back");
                    denied = Some(source);
                    continue;
                }
                _ => return Err(LogicalError::Sql { source, doing }),
            },
            Err(e) => return Err(e),
        }
        fail::fail_point!("backup::logical::locked");
        // Without a lock only luck aligns them: it is tried often instead of waited for.
        for _ in 0..if lock == Lock::None { UNLOCKED_TRIES } else { 1 } {
            if let Some((at, gtids, position, prepared_xa)) = begin(&mut holder, &mut workers, lock).await? {
                return Ok(Held { snapshot: Snapshot { workers, at, gtids, position, prepared_xa }, holder, lock });
            }
            for worker in &mut workers {
                worker.exec("ROLLBACK").await?;
            }
        }
        if lock == Lock::None && denied.is_none() {
            tracing::warn!(
                "snapshots without a lock met none of the moments between two commits; taking the global lock"
            );
            lock = Lock::Global;
        }
    }
    Err(match denied {
        Some(source) => LogicalError::Unaligned { source },
        None => LogicalError::LockWait { seconds: config.lock_wait.as_secs(), attempts: config.attempts },
    })
}

async fn take(holder: &mut Session, lock: Lock, tables: &[(String, String)]) -> Result<(), LogicalError> {
    match lock {
        Lock::Global => drop(holder.exec("FLUSH TABLES WITH READ LOCK").await?),
        Lock::Stage => {
            for stage in ["START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"] {
                holder.exec(&format!("BACKUP STAGE {stage}")).await?;
            }
        }
        Lock::Tables if tables.is_empty() => {}
        Lock::Tables => {
            let list: Vec<_> = tables.iter().map(|(s, t)| format!("{} READ", quote::qualified(s, t))).collect();
            let sql = format!("LOCK TABLES {}", list.join(", "));
            // Writers that hold one table and want another make it a victim now and then.
            for _ in 0..100 {
                match holder.exec(&sql).await {
                    Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1213) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    other => return other.map(drop),
                }
            }
            holder.exec(&sql).await?;
        }
        Lock::None => {}
    }
    Ok(())
}

type Moment = (Timestamp, GtidSet, Option<BinlogPosition>, Vec<String>);

/// Starts every transaction; none if writes slipped in between.
async fn begin(holder: &mut Session, workers: &mut [Session], lock: Lock) -> Result<Option<Moment>, LogicalError> {
    let before = place(holder).await?;
    // Outside of all the rest: whatever is begun after the first look and ends before the last one is counted by that.
    let begun = xa_begun(holder, lock).await?;
    let prepared = prepared(holder).await?;
    futures::future::try_join_all(
        workers.iter_mut().map(|worker| worker.exec("START TRANSACTION WITH CONSISTENT SNAPSHOT")),
    )
    .await?;
    fail::fail_point!("backup::logical::begun");
    let mut after = place(holder).await?;
    // Under a lock of every kind nothing may have moved; without the global one, system tables still may.
    if before != after && lock != Lock::None {
        return Ok(None);
    }
    if lock == Lock::None && (self::prepared(holder).await? != prepared || xa_begun(holder, lock).await? != begun) {
        return Ok(None);
    }
    if holder.flavor == Flavor::Mariadb && after.position.is_some() {
        let mut seen = None;
        for worker in workers.iter_mut() {
            let own = snapshot_position(worker).await?;
            if seen.get_or_insert_with(|| own.clone()) != &own {
                return Ok(None);
            }
        }
        if let Some(position) = seen.flatten() {
            let sql = format!("SELECT BINLOG_GTID_POS({}, {})", quote::text(&position.file), position.offset);
            after.logged = holder.value(&sql).await?;
            after.position = Some(position);
        }
    }
    let executed = furthest(&after.logged, &after.replicated)?;
    if executed != after.logged && before.replicated != after.replicated {
        return Ok(None);
    }
    let micros = holder.value("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    let at = micros.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    let at = at.ok_or(LogicalError::Answer { doing: "the time" })?;
    let gtids =
        GtidSet::parse(holder.flavor, &executed).map_err(|_| LogicalError::Answer { doing: "its executed GTIDs" })?;
    Ok(Some((at, gtids, after.position, prepared)))
}

/// How many XA statements were begun by now, where no lock keeps what is prepared as it is. (LOCK TABLES is not given while a transaction that
/// wrote to one of them is open, and what is logged moves the server's place.) Where that is the same later, and so is what is prepared,
/// nothing came and went in between.
async fn xa_begun(session: &mut Session, lock: Lock) -> Result<Vec<String>, LogicalError> {
    if lock != Lock::None {
        return Ok(Vec::new());
    }
    let counters = session.query("SHOW GLOBAL STATUS LIKE 'Com\\_xa\\_%'").await?;
    Ok(counters.iter().filter(|row| text(row, 0) != "Com_xa_recover").map(|row| text(row, 1)).collect())
}

/// The XA transactions that are prepared.
async fn prepared(session: &mut Session) -> Result<Vec<String>, LogicalError> {
    let rows = session.query("XA RECOVER").await.map_err(|e| match e {
        LogicalError::Sql { source, .. } if source.server_error().is_some_and(|e| matches!(e.code, 1227 | 1401)) => {
            LogicalError::XaPrivilege { source }
        }
        other => other,
    })?;
    fail::fail_point!("backup::logical::xa_recovered");
    let mut ids = Vec::new();
    for row in &rows {
        let data = bytes(row, 3).ok_or(LogicalError::Answer { doing: "XA RECOVER" })?;
        let global = usize::try_from(number(row, 1)).ok().filter(|length| *length <= data.len());
        let (global, branch) = data.split_at(global.ok_or(LogicalError::Answer { doing: "XA RECOVER" })?);
        ids.push(format!("X'{}',X'{}',{}", hex::encode(global), hex::encode(branch), text(row, 0)));
    }
    ids.sort();
    Ok(ids)
}

/// Where a server is.
#[derive(PartialEq, Eq)]
struct Place {
    /// The GTIDs that its binlog says are executed.
    logged: String,
    /// MariaDB: those that it replicated, and without log_slave_updates did not log.
    replicated: String,
    position: Option<BinlogPosition>,
}

async fn place(session: &mut Session) -> Result<Place, LogicalError> {
    let (logged, replicated) = match session.flavor {
        Flavor::Mysql => (session.value("SELECT @@GLOBAL.gtid_executed").await?, String::new()),
        Flavor::Mariadb => (
            session.value("SELECT @@GLOBAL.gtid_binlog_pos").await?,
            session.value("SELECT @@GLOBAL.gtid_slave_pos").await?,
        ),
    };
    let status = match session.query("SHOW BINARY LOG STATUS").await {
        // 8.0, 8.1 and MariaDB below 10.5.2 know the old words only.
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1064) => {
            session.query("SHOW MASTER STATUS").await?
        }
        other => other?,
    };
    let position = status.first().map(|row| BinlogPosition { file: text(row, 0), offset: number(row, 1) });
    Ok(Place { logged, replicated, position })
}

/// What a server has executed that logged and replicated this: on MariaDB the further position of each domain.
fn furthest(logged: &str, replicated: &str) -> Result<String, LogicalError> {
    if replicated.is_empty() {
        return Ok(logged.to_owned());
    }
    let parse = |text: &str| text.parse().map_err(|_| LogicalError::Answer { doing: "its executed GTIDs" });
    let (logged, replicated): (MariadbGtidSet, MariadbGtidSet) = (parse(logged)?, parse(replicated)?);
    let mut furthest = MariadbGtidSet::default();
    let last_of = |set: &MariadbGtidSet, domain| set.last(domain).map(|gtid| (gtid.seq, gtid));
    for domain in logged.union(&replicated).domains() {
        let last = last_of(&logged, domain).max(last_of(&replicated, domain));
        last.iter().for_each(|(_, gtid)| furthest.insert_prefix(gtid));
    }
    Ok(furthest.position())
}

async fn snapshot_position(session: &mut Session) -> Result<Option<BinlogPosition>, LogicalError> {
    let rows = session.query("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'").await?;
    let of = |name: &str| rows.iter().find(|row| text(row, 0).eq_ignore_ascii_case(name)).map(|row| text(row, 1));
    match (of("binlog_snapshot_file"), of("binlog_snapshot_position").and_then(|p| p.parse().ok())) {
        (Some(file), Some(offset)) if !file.is_empty() => Ok(Some(BinlogPosition { file, offset })),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::furthest;

    #[test]
    fn what_a_server_replicated_without_logging_it_is_executed_too() {
        for (logged, replicated, executed) in [
            ("0-2-50", "0-1-100", "0-1-100"),
            ("0-2-105", "0-1-100", "0-2-105"),
            ("", "0-1-100,3-1-7", "0-1-100,3-1-7"),
            ("1-2-9", "0-1-100,1-1-8", "0-1-100,1-2-9"),
            ("0-1-5", "", "0-1-5"),
        ] {
            assert_eq!(furthest(logged, replicated).unwrap(), executed);
        }
    }
}
