//! Questions to the source: what it is, which binlog files it has, how a file begins.

use std::collections::BTreeMap;

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{AnswerSnafu, SourceSnafu};
use super::locate::{FileHead, Source};
use super::preflight::{self, Findings, VARIABLES};
use super::{Acknowledge, Error, purge};
use crate::model::gtid::ParseGtidError;
use crate::model::{Flavor, GtidSet};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::event::{EventType, FileScanner, FormatDescription, GtidList, MAGIC, parse_previous_gtids};
use crate::mysql::flavor::preflight::{REPLICATION, unlogged_replication};
use crate::mysql::flavor::{lineage, lineage_query};
use crate::mysql::wire::{self, Connection, DumpItem, DumpRequest};

/// The source as it is now.
pub(super) struct Survey {
    pub source: Source,
    pub findings: Findings,
    /// Everything it has executed; empty where GTIDs are off.
    pub executed: GtidSet,
    /// [`lineage`].
    pub lineage: GtidSet,
}

/// Server errors that mean a missing privilege.
const DENIED: [u16; 3] = [1045, 1142, 1227];

pub(super) async fn survey(endpoint: &Endpoint, acknowledge: Acknowledge, hold_purge: bool) -> Result<Survey, Error> {
    let mut connection = Connection::connect(endpoint).await.context(SourceSnafu { doing: "connect to the source" })?;
    let flavor = connection.flavor();
    let variables = variables(&mut connection, VARIABLES).await?;
    let mut findings = preflight::judge(flavor, &variables, acknowledge);
    if !findings.refusals.is_empty() {
        return Err(Error::Unfit { problems: findings.refusals });
    }
    if flavor == Flavor::Mariadb {
        let rows =
            connection.query(REPLICATION).await.context(SourceSnafu { doing: "read how the source replicates" })?;
        let finding = rows.first().and_then(|row| unlogged_replication(row));
        findings.warnings.extend(finding.map(|finding| finding.to_string()));
    }
    let files = list(&mut connection, &endpoint.user).await?;
    if hold_purge {
        purge::check(&mut connection, &endpoint.user).await?;
    }
    let (question, doing) = match flavor {
        Flavor::Mysql => ("SELECT @@GLOBAL.gtid_executed", "read the source's gtid_executed"),
        Flavor::Mariadb => ("SELECT @@GLOBAL.gtid_binlog_pos", "read the source's gtid_binlog_pos"),
    };
    let executed = ask(&mut connection, question, doing, |answer| GtidSet::parse(flavor, answer)).await?;
    let question = lineage_query(flavor);
    let lineage = ask(&mut connection, question, "read whose transactions it has", |a| lineage(flavor, a)).await?;
    connection.close().await;
    let source = Source { server: findings.server.clone(), flavor, gtids_on: findings.gtids_on, files };
    Ok(Survey { source, findings, executed, lineage })
}

async fn ask(
    connection: &mut Connection,
    question: &'static str,
    doing: &'static str,
    read: impl Fn(&str) -> Result<GtidSet, ParseGtidError>,
) -> Result<GtidSet, Error> {
    let rows = connection.query(question).await.context(SourceSnafu { doing })?;
    let answer = rows.first().map(|row| text(row, 0)).unwrap_or_default();
    read(&answer).map_err(|_| AnswerSnafu { question, answer }.build())
}

/// Reads the head of one of the source's files: a short dump, ended as soon as PREVIOUS_GTIDS or GTID_LIST came. `request` begins there.
pub(super) async fn head(source: &Endpoint, request: &DumpRequest, grant: &str) -> Result<FileHead, Error> {
    let doing = "read the head of a binlog file";
    let connection = Connection::connect(source).await.context(SourceSnafu { doing: "connect to the source" })?;
    let start = &request.start;
    let denied = |e| denied(e, doing, grant);
    let (mut dump, _acks) = connection.dump(request).await.map_err(denied)?;
    let mut scanner = FileScanner::new();
    let _ = scanner.scan(&mut MAGIC.as_slice());
    let mut created_unix = None;
    while let Some(item) = dump.next().await.map_err(denied)? {
        let DumpItem::Piece(piece) = item else { continue };
        let mut data = &piece.data[..];
        while let Some(event) =
            scanner.next_event(&mut data).map_err(|e| Error::OutOfOrder { at: start.clone(), detail: e.to_string() })?
        {
            let malformed = |source| Error::Event { at: start.clone(), source };
            let previous_gtids = match event.header.event_type {
                EventType::FORMAT_DESCRIPTION => {
                    let format = FormatDescription::parse(&event.header, event.body).map_err(malformed)?;
                    created_unix = Some(format.created_unix);
                    continue;
                }
                EventType::PREVIOUS_GTIDS => GtidSet::Mysql(parse_previous_gtids(event.body).map_err(malformed)?),
                EventType::GTID_LIST => GtidSet::Mariadb(GtidList::parse(event.body).map_err(malformed)?.executed()),
                _ => {
                    let detail = "the file does not begin with what was executed before it".to_owned();
                    return Err(Error::OutOfOrder { at: start.clone(), detail });
                }
            };
            if let Some(created_unix) = created_unix {
                return Ok(FileHead { created_unix, previous_gtids });
            }
        }
    }
    let ended = wire::Error::ConnectionLost {
        doing: format!("reading the head of {}", start.file),
        source: std::io::ErrorKind::UnexpectedEof.into(),
    };
    Err(ended).context(SourceSnafu { doing })
}

/// The source's global variables of these names, by lower-case name; those it does not have are absent.
pub(super) async fn variables(connection: &mut Connection, names: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let names = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let rows = connection
        .query(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
        .await
        .context(SourceSnafu { doing: "read the source's settings" })?;
    Ok(rows.iter().map(|row| (text(row, 0).to_ascii_lowercase(), text(row, 1))).collect())
}

/// The source's binlog files and their sizes, oldest first.
pub(super) async fn list(connection: &mut Connection, user: &str) -> Result<Vec<(String, u64)>, Error> {
    let grant = format!("GRANT REPLICATION SLAVE, {} ON *.* TO '{user}'@'…'", monitor(connection.flavor()));
    let rows =
        connection.query("SHOW BINARY LOGS").await.map_err(|e| denied(e, "list the source's binlogs", &grant))?;
    let mut files = Vec::with_capacity(rows.len());
    for row in &rows {
        let size = text(row, 1);
        let Ok(size) = size.parse() else {
            return AnswerSnafu { question: "SHOW BINARY LOGS", answer: size }.fail();
        };
        files.push((text(row, 0), size));
    }
    Ok(files)
}

fn monitor(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => "REPLICATION CLIENT",
        Flavor::Mariadb => "BINLOG MONITOR",
    }
}

/// Names the GRANT when the server said no for want of one.
pub(super) fn denied(source: wire::Error, doing: &'static str, grant: &str) -> Error {
    match source.server_error() {
        Some(server) if DENIED.contains(&server.code) => {
            Error::Privilege { doing, grant: grant.to_owned(), source: Box::new(source) }
        }
        _ => Error::Source { doing, source },
    }
}

fn text(row: &[Option<Bytes>], column: usize) -> String {
    let field = row.get(column).and_then(Option::as_ref);
    field.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}
