//! Connections to the target, set up to take what the source gave.

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{BaseError, ConnectSnafu, SqlSnafu};
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;
use crate::mysql::wire::{Connection, Done};

/// A row of a small result.
pub(super) type Row = Vec<Option<Bytes>>;

/// One connection to the target.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) flavor: Flavor,
}

/// Takes what the source has; a table's engine is its own or an error.
pub(super) const SQL_MODE: &str =
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'";

const ALWAYS: &[&str] = &[
    quote::AS_STORED,
    "SET SESSION sql_log_bin = 0",
    "SET SESSION foreign_key_checks = 0, unique_checks = 0, autocommit = 1, completion_type = 0, max_error_count = 65535, time_zone = '+00:00'",
    SQL_MODE,
    "SET SESSION group_concat_max_len = 1073741824",
    "SET SESSION net_write_timeout = 7200, net_read_timeout = 7200, wait_timeout = 604800, lock_wait_timeout = 3600",
];

/// Not every version knows these, and some need a privilege that only matters where the setting does.
const WHERE_KNOWN: &[&str] = &[
    "SET SESSION lc_messages = 'en_US'",
    "SET SESSION innodb_strict_mode = OFF",
    "SET SESSION old_passwords = 0",
    "SET SESSION check_constraint_checks = OFF",
    "SET SESSION sql_require_primary_key = OFF",
    "SET SESSION sql_generate_invisible_primary_key = OFF",
    "SET SESSION show_gipk_in_create_table_and_information_schema = ON",
    "SET SESSION explicit_defaults_for_timestamp = ON",
    "SET SESSION restrict_fk_on_non_standard_key = OFF",
    "SET SESSION innodb_ddl_buffer_size = 67108864",
    "SET SESSION max_execution_time = 0",
    "SET SESSION max_statement_time = 0",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

impl Session {
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, BaseError> {
        let connection = Connection::connect(endpoint).await.context(ConnectSnafu)?;
        let mut session = Self { flavor: connection.flavor(), connection };
        for sql in ALWAYS {
            session.exec(sql).await?;
        }
        for sql in WHERE_KNOWN {
            match session.exec(sql).await {
                Err(e) if matches!(e.code(), Some(1193 | 1227 | 1238)) => {}
                other => drop(other?),
            }
        }
        Ok(session)
    }

    pub(super) async fn exec(&mut self, sql: &str) -> Result<Done, BaseError> {
        let doing = || sql.chars().take(80).collect::<String>();
        self.connection.exec(sql).await.with_context(|_| SqlSnafu { doing: doing() })
    }

    /// Runs a definition, whatever its character set; `what` names it in errors.
    pub(super) async fn define(&mut self, sql: &[u8], what: &str) -> Result<Done, BaseError> {
        self.connection.exec_bytes(sql).await.with_context(|_| SqlSnafu { doing: what.to_owned() })
    }

    /// Runs a table's definition. Servers print it in UTF-8, and convert what it says of values (members, defaults, bounds of partitions)
    /// into the columns' own character sets: it has to be said in which one they are.
    pub(super) async fn define_table(&mut self, sql: &[u8], what: &str) -> Result<Done, BaseError> {
        self.exec("SET NAMES utf8mb4").await?;
        let made = self.define(sql, what).await;
        self.exec(quote::AS_STORED).await?;
        made
    }

    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, BaseError> {
        let doing = || sql.chars().take(80).collect::<String>();
        self.connection.query(sql).await.with_context(|_| SqlSnafu { doing: doing() })
    }

    /// The first field of the first row; empty when it is NULL or absent.
    pub(super) async fn value(&mut self, sql: &str) -> Result<String, BaseError> {
        Ok(self.query(sql).await?.first().map(|row| text(row, 0)).unwrap_or_default())
    }
}

/// A field as text; empty when NULL or absent.
pub(super) fn text(row: &Row, column: usize) -> String {
    row.get(column).and_then(Option::as_ref).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
}
