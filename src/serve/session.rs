//! One replica's connection, from login to its end.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dump::{Dump, Onward, heartbeat_period};
use super::error::ServeError;
use super::filter::Filter;
use super::lineage::{Lineage, join_by_position};
use super::queries::{Answer, ReplicaSettings, answer};
use super::{END_OF_SCOPE, Scope, Shared, error};
use crate::model::gtid::{MariadbGtidSet, MysqlGtidSet};
use crate::model::{BinlogPosition, Flavor, GtidSet};
use crate::mysql::wire::server::{Command, ReplicaConnection, ServerConfig};
use crate::mysql::wire::{self, ServerError};

/// How long a replica may take to close after it was told the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a replica asked to be sent.
enum Request {
    /// Everything that is not in this set.
    Gtids(GtidSet),
    /// Everything from here on.
    Position(BinlogPosition),
}

/// Serves a connection to its end; failures are logged and kept in the status.
pub(super) async fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr, connection_id: u32) {
    shared.status.send_modify(|s| s.replicas += 1);
    let outcome = session(shared, stream, connection_id).await;
    shared.status.send_modify(|s| s.replicas -= 1);
    match outcome {
        Ok(()) => tracing::debug!(%peer, "replica served"),
        Err(ServeError::Replica { source }) => tracing::info!(%peer, error = %source, "replica connection ended"),
        Err(error) => tracing::warn!(%peer, %error, "cannot serve replica"),
    }
}

async fn session(shared: &Shared, stream: TcpStream, connection_id: u32) -> Result<(), ServeError> {
    let config = &shared.config;
    let login = ServerConfig {
        flavor: config.identity.flavor,
        version: config.identity.version.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
    };
    let mut replica = ReplicaConnection::accept(stream, &login, connection_id).await?;
    let mut settings = ReplicaSettings::default();
    while let Some(command) = replica.next_command().await? {
        let request = match command {
            Command::Query(sql) => {
                reply(&mut replica, answer(&sql, &config.identity, &mut settings, now_unix())).await?;
                continue;
            }
            Command::RegisterReplica { .. } | Command::Ping => {
                replica.ok().await?;
                continue;
            }
            Command::Quit => return Ok(()),
            Command::Other(number) => {
                let message = format!("tidemark serves a binary log: it does not know command {number}");
                replica.error(&refusal(1047, "08S01", message)).await?;
                continue;
            }
            Command::BinlogDump { position, file, .. } => by_position(&settings, file, position.into()),
            Command::BinlogDumpGtid { file, position, gtid_data, .. } => by_gtid(file, position, &gtid_data),
        };
        let outcome = match request {
            Ok(_) if !settings.checksums => error::NoChecksumsSnafu.fail(),
            Ok(request) => dump(shared, &mut replica, &settings, request).await,
            Err(e) => Err(e),
        };
        return finish(shared, &mut replica, outcome).await;
    }
    Ok(())
}

/// Tells the replica how its stream ended, which makes it stop reading, and waits for it to go.
async fn finish(
    shared: &Shared,
    replica: &mut ReplicaConnection,
    outcome: Result<Option<BinlogPosition>, ServeError>,
) -> Result<(), ServeError> {
    let text = match &outcome {
        Ok(None) => return Ok(()),
        Err(ServeError::Replica { .. }) => return outcome.map(|_| ()),
        // The replica connects again by itself when its connection just ends, and the cause may have passed by then.
        Err(e) if e.is_transient() => {
            shared.status.send_modify(|s| s.failed(e));
            return outcome.map(|_| ());
        }
        Ok(Some(at)) => format!("{END_OF_SCOPE}, up to {at}"),
        Err(e) => format!("tidemark: {e}"),
    };
    if let Err(e) = &outcome {
        shared.status.send_modify(|s| s.failed(e));
    }
    // The servers cut longer texts.
    let text: String = text.chars().take(480).collect();
    replica.error(&refusal(1236, "HY000", text)).await?;
    if outcome.is_ok() {
        shared.status.send_modify(|s| s.completed += 1);
    }
    _ = timeout(CLOSE_TIMEOUT, replica.closed()).await;
    outcome.map(|_| ())
}

/// Streams; some position: everything in scope was sent. None: the replica is gone.
async fn dump(
    shared: &Shared,
    replica: &mut ReplicaConnection,
    settings: &ReplicaSettings,
    request: Request,
) -> Result<Option<BinlogPosition>, ServeError> {
    let flavor = shared.config.identity.flavor;
    let (follow, skip) = match &shared.config.scope {
        Scope::Everything { follow } => (*follow, None),
        Scope::Fixed { skip, .. } => (None, skip.clone()),
    };
    let (have, position) = match request {
        Request::Gtids(have) => (have, None),
        Request::Position(position) => (GtidSet::empty(flavor), Some(position)),
    };
    let by_gtid = position.is_none();
    let mut lineage = Lineage::new(&shared.store, &shared.config.scope, flavor, by_gtid.then_some(&have)).await?;
    let (mut index, mut from) = match &position {
        Some(position) => join_by_position(lineage.parts(), position)?,
        None => (0, 4),
    };
    let until = match settings.until.as_deref().filter(|_| flavor == Flavor::Mariadb) {
        Some(text) => Some(mariadb_set(text)?),
        None => None,
    };
    let heartbeat = heartbeat_period(settings.heartbeat_ns);
    let filter = Filter::new(have, skip);
    let mut dump = Dump::new(replica, &shared.store, shared, filter, until, heartbeat);
    // The file at hand, and how much of it was read.
    let mut current: Option<(crate::archive::binlog_index::FileId, u64)> = None;
    loop {
        for part in lineage.parts().iter().skip(index) {
            let onward = match &current {
                Some((id, read)) if *id == part.file.id => {
                    if *read >= part.end {
                        continue;
                    }
                    dump.tail(part, *read).await?
                }
                _ if by_gtid && part.take.as_ref().is_some_and(|t| t.is_subset(dump.filter().have())) => continue,
                _ => dump.file(part, std::mem::replace(&mut from, 4)).await?,
            };
            if onward == Onward::Stop {
                return Ok(None);
            }
            current = Some((part.file.id.clone(), part.end));
        }
        if let Some(gap) = lineage.gap() {
            let missing = if gap.missing.is_empty() { gap.reason.clone() } else { gap.missing.to_string() };
            return error::MissingSnafu { missing }.fail();
        }
        let Some(pause) = follow else { return Ok(Some(dump.position().clone())) };
        if !dump.idle(pause).await? {
            return Ok(None);
        }
        lineage.refresh(by_gtid.then(|| dump.filter().have())).await?;
        index = match &current {
            // Asked by GTID, the lineage is what the replica still lacks.
            Some((id, _)) if !by_gtid => {
                lineage.parts().iter().position(|p| p.file.id == *id).ok_or_else(|| gone(id))?
            }
            _ => 0,
        };
    }
}

fn gone(id: &crate::archive::binlog_index::FileId) -> ServeError {
    ServeError::Gone { file: format!("{} of {}", id.name, id.server) }
}

fn by_position(settings: &ReplicaSettings, file: String, offset: u64) -> Result<Request, ServeError> {
    match &settings.connect_state {
        Some(state) => Ok(Request::Gtids(GtidSet::Mariadb(mariadb_set(state)?))),
        None => Ok(Request::Position(BinlogPosition { file, offset })),
    }
}

fn by_gtid(file: String, offset: u64, data: &[u8]) -> Result<Request, ServeError> {
    // A replica that knows its position sends no set.
    if data.is_empty() {
        return Ok(Request::Position(BinlogPosition { file, offset }));
    }
    match MysqlGtidSet::decode_wire(data) {
        Ok(set) => Ok(Request::Gtids(GtidSet::Mysql(set))),
        Err(e) => error::BadRequestSnafu { message: e.to_string() }.fail(),
    }
}

fn mariadb_set(text: &str) -> Result<MariadbGtidSet, ServeError> {
    text.parse().map_err(|e: crate::model::gtid::ParseGtidError| ServeError::BadRequest { message: e.to_string() })
}

async fn reply(replica: &mut ReplicaConnection, answer: Answer) -> Result<(), wire::Error> {
    match answer {
        Answer::Ok => replica.ok().await,
        Answer::Row(row) => {
            let (names, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
            replica.result_set(&names, &[values.into_iter().map(Some).collect()]).await
        }
        Answer::NoRow(names) => replica.result_set(&names, &[]).await,
        Answer::Refuse(code, state, message) => replica.error(&refusal(code, state, message)).await,
    }
}

fn refusal(code: u16, sqlstate: &str, message: String) -> ServerError {
    ServerError { code, sqlstate: sqlstate.to_owned(), message }
}

fn now_unix() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
