//! Questions to the source: what it is, which binlog files it has, how a file begins.

use std::collections::BTreeMap;

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{AnswerSnafu, SourceSnafu};
use super::locate::Source;
use super::preflight::{self, Findings, VARIABLES};
use super::{Acknowledge, Error};
use crate::model::gtid::ParseGtidError;
use crate::model::{Flavor, GtidSet};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::flavor::preflight::{REPLICATION, unlogged_replication};
use crate::mysql::flavor::{lineage, lineage_query};
use crate::mysql::wire::{self, Connection};

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

pub(super) async fn survey(endpoint: &Endpoint, acknowledge: Acknowledge) -> Result<Survey, Error> {
    let mut connection = Connection::connect(endpoint).await.context(SourceSnafu { doing: "connect to the source" })?;
    let flavor = connection.flavor();
    let names = VARIABLES.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let rows = connection
        .query(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
        .await
        .context(SourceSnafu { doing: "read the source's settings" })?;
    let variables: BTreeMap<String, String> = rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
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
    let grant = format!("GRANT REPLICATION SLAVE, {} ON *.* TO '{}'@'…'", monitor(flavor), endpoint.user);
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
