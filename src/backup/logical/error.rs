use std::io;

use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::store::StoreError;
use crate::mysql::wire;

/// What can end a logical full without a manifest.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum LogicalError {
    #[snafu(display("cannot connect to the source: {source}"))]
    Connect {
        #[snafu(source(from(wire::Error, Box::new)))]
        source: Box<wire::Error>,
    },

    #[snafu(display("{doing} failed: {source}{}", privilege_hint(source)))]
    Sql {
        doing: String,
        #[snafu(source(from(wire::Error, Box::new)))]
        source: Box<wire::Error>,
    },

    #[snafu(display("{source}"), context(false))]
    Store { source: StoreError },

    #[snafu(display("{source}"), context(false))]
    Archive { source: ArchiveError },

    #[snafu(display("cannot compress or encrypt: {source}"))]
    Compress { source: io::Error },

    #[snafu(display(
        "the account lacks {missing}, so the backup might silently miss data; run GRANT {missing} ON *.* TO {account}"
    ))]
    Privilege { missing: String, account: String },

    #[snafu(display(
        "the account may not see which XA transactions are prepared ({source}), and they are not in a copy; run GRANT XA_RECOVER_ADMIN ON *.* \
         TO the account"
    ))]
    XaPrivilege { source: Box<wire::Error> },

    #[snafu(display(
        "could not take the lock that aligns the snapshots within {seconds} s, {attempts} times: a long query or transaction is in \
         its way (see SHOW PROCESSLIST and XA RECOVER); end it, wait until it has ended, or take fulls from a replica"
    ))]
    LockWait { seconds: u64, attempts: u32 },

    #[snafu(display(
        "connection {connection} of user {user} has a statement at work for {seconds} s that the global read lock would wait for, and others behind \
         it; waited {waited} s without asking for that lock: run KILL {connection}, wait until it has ended, or take fulls from a replica"
    ))]
    AtWork { connection: u64, user: String, seconds: u64, waited: u64 },

    #[snafu(display(
        "could not align the snapshots: the account may neither take the global lock ({source}) nor lock every table; run GRANT RELOAD ON \
         *.* TO the account, or GRANT LOCK TABLES ON *.* where the service forbids that one"
    ))]
    NoLock { source: Box<wire::Error> },

    #[snafu(display(
        "could not align the snapshots: the account may not take the global lock ({source}), and writes never paused long enough for \
         LOCK TABLES; run GRANT RELOAD ON *.* TO the account"
    ))]
    Unaligned { source: Box<wire::Error> },

    #[snafu(display(
        "the source kept changing during the backup ({what}), {attempts} times in a row; {}",
        if *denied {
            "run GRANT BACKUP_ADMIN (MariaDB: RELOAD) ON *.* TO the account, so that it can make DDL wait, or take it when no DDL runs"
        } else {
            "take it when no DDL runs"
        }
    ))]
    Ddl { what: String, attempts: u32, denied: bool },

    #[snafu(display("{what} changed during the backup"))]
    Changed { what: String },

    #[snafu(display(
        "the connection that kept DDL waiting was lost during the backup ({source}), so that definitions may have changed"
    ))]
    ShieldLost { source: Box<wire::Error> },

    #[snafu(display(
        "tables of non-transactional engines hold {bytes} bytes, more than the {limit} that may be copied while writes wait ({tables}); \
         run ALTER TABLE … ENGINE=InnoDB on them"
    ))]
    NonTransactional { bytes: u64, limit: u64, tables: String },

    #[snafu(display("cannot back up {what}: {reason}"))]
    Unsupported { what: String, reason: String },

    #[snafu(display("the source answered {doing} in an unknown form"))]
    Answer { doing: &'static str },

    #[snafu(display("cannot write the description: {source}"))]
    Describe { source: serde_json::Error },

    #[snafu(display("the backup was stopped"))]
    Cancelled,

    #[snafu(display("a worker ended abnormally: {source}"))]
    Worker { source: tokio::task::JoinError },
}

impl LogicalError {
    /// Whether the same backup may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source } | Self::Sql { source, .. } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Archive { source } => source.is_transient(),
            Self::LockWait { .. }
            | Self::AtWork { .. }
            | Self::Ddl { .. }
            | Self::Changed { .. }
            | Self::ShieldLost { .. } => true,
            _ => false,
        }
    }

    /// Whether a new snapshot may succeed where this one did not: a definition changed under it, or may have.
    pub(super) fn is_definition_change(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::ShieldLost { .. } => true,
            // No such schema, table, column, routine, event, trigger or view any more; table definition changed; a lock of DDL, in whose
            // way only DDL can be: rows are read without locks.
            Self::Sql { source, .. } => source.server_error().is_some_and(|e| {
                matches!(
                    e.code,
                    1049 | 1146 | 1054 | 1305 | 1360 | 1412 | 1539 | 1735 | 1356 | 1141 | 1396 | 1269 | 1205 | 1213
                )
            }),
            _ => false,
        }
    }
}

fn privilege_hint(source: &wire::Error) -> &'static str {
    match source.server_error().map(|e| e.code) {
        Some(1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1419) => {
            "; run GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, PROCESS, RELOAD, REPLICATION CLIENT ON *.* TO the account"
        }
        _ => "",
    }
}
