//! Connections set up so that what they read does not depend on the server's or the account's settings.

use std::time::Duration;

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{ConnectSnafu, LogicalError, SqlSnafu};
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;
use crate::mysql::wire::{Connection, Done};

/// A row of a small result.
pub(super) type Row = Vec<Option<Bytes>>;

/// One connection to the source.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) flavor: Flavor,
}

const ALWAYS: &[&str] = &[
    quote::AS_STORED,
    "SET SESSION time_zone = '+00:00', sql_mode = '', sql_quote_show_create = 1, autocommit = 1, completion_type = 0",
    "SET SESSION group_concat_max_len = 1073741824",
    "SET SESSION net_write_timeout = 7200, net_read_timeout = 7200, wait_timeout = 604800",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

/// Not every version knows these.
const WHERE_KNOWN: &[&str] = &[
    "SET SESSION lc_messages = 'en_US'",
    "SET SESSION max_execution_time = 0",
    "SET SESSION max_statement_time = 0",
    "SET SESSION information_schema_stats_expiry = 0",
    "SET SESSION show_gipk_in_create_table_and_information_schema = ON",
    "SET SESSION print_identified_with_as_hex = ON",
    "SET SESSION use_secondary_engine = OFF",
    "SET SESSION resultset_metadata = FULL",
];

impl Session {
    pub(super) async fn open(endpoint: &Endpoint, lock_wait: Duration) -> Result<Self, LogicalError> {
        let connection = Connection::connect(endpoint).await.context(ConnectSnafu)?;
        let mut session = Self { flavor: connection.flavor(), connection };
        for sql in ALWAYS {
            session.exec(sql).await?;
        }
        session.wait_for_locks(lock_wait.as_secs()).await?;
        for sql in WHERE_KNOWN {
            match session.exec(sql).await {
                Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1193) => {}
                other => drop(other?),
            }
        }
        Ok(session)
    }

    /// How long statements wait for locks of DDL from now on.
    pub(super) async fn wait_for_locks(&mut self, seconds: u64) -> Result<(), LogicalError> {
        self.exec(&format!("SET SESSION lock_wait_timeout = {}", seconds.max(1))).await.map(drop)
    }

    /// MariaDB: lets ROLLBACK TO SAVEPOINT give back the tables that were read since. It keeps them for the transaction while the session may write
    /// to the binary log. False where the account may not say so (BINLOG ADMIN). MySQL gives them back anyway.
    pub(super) async fn give_tables_back(&mut self) -> Result<bool, LogicalError> {
        if self.flavor == Flavor::Mysql {
            return Ok(true);
        }
        match self.exec("SET SESSION sql_log_bin = 0").await {
            Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1227) => Ok(false),
            done => done.map(|_| true),
        }
    }

    pub(super) async fn exec(&mut self, sql: &str) -> Result<Done, LogicalError> {
        self.connection.exec(sql).await.context(SqlSnafu { doing: "a statement on the source" })
    }

    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, LogicalError> {
        self.connection.query(sql).await.context(SqlSnafu { doing: "a query on the source" })
    }

    /// The first row of a result that must have one.
    pub(super) async fn row(&mut self, sql: &str, doing: &'static str) -> Result<Row, LogicalError> {
        self.query(sql).await?.into_iter().next().ok_or(LogicalError::Answer { doing })
    }

    /// The first field of the first row; empty when it is NULL or absent.
    pub(super) async fn value(&mut self, sql: &str) -> Result<String, LogicalError> {
        Ok(self.query(sql).await?.first().map(|row| text(row, 0)).unwrap_or_default())
    }
}

/// A field as text; empty when NULL or absent.
pub(super) fn text(row: &Row, column: usize) -> String {
    bytes(row, column).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
}

/// A field as a number; 0 when NULL, absent or none.
pub(super) fn number(row: &Row, column: usize) -> u64 {
    text(row, column).parse().unwrap_or(0)
}

/// A field's bytes.
pub(super) fn bytes(row: &Row, column: usize) -> Option<&Bytes> {
    row.get(column).and_then(Option::as_ref)
}
