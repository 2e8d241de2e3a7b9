//! What differs between flavors and versions, in one table: every statement, variable and column name that is not the same
//! on MySQL 8.0, 8.4 and 9 and on MariaDB 10.11 and 11.

mod grants;
mod lineage;
pub mod preflight;
pub mod purge;
mod version;

pub use grants::{Verb, grants, missing_grants};
pub use lineage::{lineage, lineage_query};
pub use version::ServerVersion;

use crate::model::{BinlogPosition, Flavor};

/// The words a server understands. Built from its version; all methods are pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect(ServerVersion);

/// How semi-synchronous replication is switched on and watched on a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemiSyncSource {
    /// Loads the plugin; none where it is built in.
    pub install: Option<&'static str>,
    /// Variable: whether commits wait.
    pub enabled: &'static str,
    /// Variable: how long they wait before going on without, in milliseconds.
    pub timeout_ms: &'static str,
    /// Variable: where in the commit they wait; `AFTER_SYNC` is the one that loses nothing.
    pub wait_point: &'static str,
    /// Status: how many semi-sync replicas are connected.
    pub clients: &'static str,
    /// Status: `ON` while commits really wait.
    pub status: &'static str,
}

/// Columns of [`Dialect::show_replica_status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatusColumns {
    /// `Yes`, `No` or `Connecting`.
    pub io_running: &'static str,
    /// `Yes` or `No`.
    pub sql_running: &'static str,
    /// What the I/O thread does.
    pub io_state: &'static str,
    /// What the applier does.
    pub sql_state: &'static str,
    /// Error number of the I/O thread, 0 for none.
    pub last_io_errno: &'static str,
    /// Its text.
    pub last_io_error: &'static str,
    /// Error number of the applier, 0 for none.
    pub last_sql_errno: &'static str,
    /// Its text.
    pub last_sql_error: &'static str,
    /// File read by the I/O thread.
    pub read_file: &'static str,
    /// Its position in that file.
    pub read_position: &'static str,
    /// File the applier has reached.
    pub applied_file: &'static str,
    /// Its position in that file.
    pub applied_position: &'static str,
    /// Seconds behind the source, or NULL.
    pub seconds_behind: &'static str,
}

/// Where a replica finds its source.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Host name or address.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// Seconds between attempts to connect.
    pub connect_retry_s: u32,
    /// Seconds of silence after which the source sends a heartbeat.
    pub heartbeat_s: u32,
    /// Where to begin, without GTIDs; none: by GTID.
    pub position: Option<&'a BinlogPosition>,
    /// With `position`: the replica gives transactions GTIDs of its own.
    pub assign_gtids: bool,
}

impl Dialect {
    /// The dialect of a server of this version.
    pub fn new(version: ServerVersion) -> Self {
        Self(version)
    }

    /// The version it is for.
    pub fn version(&self) -> ServerVersion {
        self.0
    }

    fn is_mariadb(&self) -> bool {
        self.0.flavor == Flavor::Mariadb
    }

    /// MySQL at this version or later.
    fn mysql(&self, major: u16, minor: u16, patch: u16) -> bool {
        self.0.is(Flavor::Mysql, major, minor, patch)
    }

    fn pick(&self, mysql_new: bool, new: &'static str, old: &'static str) -> &'static str {
        if mysql_new { new } else { old }
    }

    /// The current binlog file and position: columns `File`, `Position`, and on MySQL `Executed_Gtid_Set`.
    pub fn show_binlog_status(&self) -> &'static str {
        self.pick(self.mysql(8, 2, 0), "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    }

    /// All binlog files: columns `Log_name`, `File_size`.
    pub fn show_binary_logs(&self) -> &'static str {
        "SHOW BINARY LOGS"
    }

    /// The session variable that ends statements which take longer; 0 ends none.
    pub fn statement_limit(&self) -> &'static str {
        if self.is_mariadb() { "max_statement_time" } else { "max_execution_time" }
    }

    /// How replication goes; columns by [`Self::replica_status_columns`].
    pub fn show_replica_status(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 22), "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
    }

    /// The columns of [`Self::show_replica_status`].
    pub fn replica_status_columns(&self) -> ReplicaStatusColumns {
        let new = self.mysql(8, 0, 22);
        ReplicaStatusColumns {
            io_running: self.pick(new, "Replica_IO_Running", "Slave_IO_Running"),
            sql_running: self.pick(new, "Replica_SQL_Running", "Slave_SQL_Running"),
            io_state: self.pick(new, "Replica_IO_State", "Slave_IO_State"),
            sql_state: self.pick(new, "Replica_SQL_Running_State", "Slave_SQL_Running_State"),
            last_io_errno: "Last_IO_Errno",
            last_io_error: "Last_IO_Error",
            last_sql_errno: "Last_SQL_Errno",
            last_sql_error: "Last_SQL_Error",
            read_file: self.pick(new, "Source_Log_File", "Master_Log_File"),
            read_position: self.pick(new, "Read_Source_Log_Pos", "Read_Master_Log_Pos"),
            applied_file: self.pick(new, "Relay_Source_Log_File", "Relay_Master_Log_File"),
            applied_position: self.pick(new, "Exec_Source_Log_Pos", "Exec_Master_Log_Pos"),
            seconds_behind: self.pick(new, "Seconds_Behind_Source", "Seconds_Behind_Master"),
        }
    }

    /// Points a replica at a source, without TLS: the source is on loopback. The text holds the password.
    pub fn change_source(&self, source: &Source<'_>) -> String {
        let new = self.mysql(8, 0, 23);
        let (statement, p) =
            if new { ("CHANGE REPLICATION SOURCE TO", "SOURCE") } else { ("CHANGE MASTER TO", "MASTER") };
        let begin = match source.position {
            None if self.is_mariadb() => format!("{p}_USE_GTID = slave_pos"),
            None => format!("{p}_AUTO_POSITION = 1"),
            Some(at) => {
                let place = format!("{p}_LOG_FILE = {}, {p}_LOG_POS = {}", literal(&at.file), at.offset);
                match self.0.flavor {
                    Flavor::Mariadb => format!("{place}, {p}_USE_GTID = no"),
                    Flavor::Mysql if source.assign_gtids => {
                        format!("{place}, {p}_AUTO_POSITION = 0, ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS = LOCAL")
                    }
                    Flavor::Mysql => format!("{place}, {p}_AUTO_POSITION = 0"),
                }
            }
        };
        let login = match (self.is_mariadb(), new) {
            (true, _) => format!("{p}_SSL_VERIFY_SERVER_CERT = 0"),
            (false, true) => "GET_SOURCE_PUBLIC_KEY = 1".to_owned(),
            (false, false) => "GET_MASTER_PUBLIC_KEY = 1".to_owned(),
        };
        format!(
            "{statement} {p}_HOST = {}, {p}_PORT = {}, {p}_USER = {}, {p}_PASSWORD = {}, {p}_SSL = 0, \
             {p}_CONNECT_RETRY = {}, {p}_HEARTBEAT_PERIOD = {}, {begin}, {login}",
            literal(source.host),
            source.port,
            literal(source.user),
            literal(source.password),
            source.connect_retry_s,
            source.heartbeat_s,
        )
    }

    /// Starts both replication threads.
    pub fn start_replica(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 22), "START REPLICA", "START SLAVE")
    }

    /// Stops both replication threads.
    pub fn stop_replica(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 22), "STOP REPLICA", "STOP SLAVE")
    }

    /// Forgets the source.
    pub fn reset_replica_all(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 22), "RESET REPLICA ALL", "RESET SLAVE ALL")
    }

    /// Deletes all binlogs and, on MySQL, all GTID history.
    pub fn reset_binary_logs(&self) -> &'static str {
        self.pick(self.mysql(8, 2, 0), "RESET BINARY LOGS AND GTIDS", "RESET MASTER")
    }

    /// Begins a new binlog file.
    pub fn rotate_binary_log(&self) -> &'static str {
        "FLUSH BINARY LOGS"
    }

    /// Variable with the GTIDs executed (MySQL) or the position of the binlog (MariaDB).
    pub fn gtid_executed(&self) -> &'static str {
        if self.is_mariadb() { "gtid_binlog_pos" } else { "gtid_executed" }
    }

    /// Statement that tells a fresh server what its data already holds. `set` is a GTID set (MySQL) or position (MariaDB).
    pub fn set_gtid_executed(&self, set: &str) -> String {
        let variable = if self.is_mariadb() { "gtid_slave_pos" } else { "gtid_purged" };
        format!("SET GLOBAL {variable} = {}", quote(set))
    }

    /// Waits until a GTID set (MySQL) or position (MariaDB) is applied; the one field is 0 when it is, else the time is up.
    pub fn wait_for_gtid(&self, set: &str, timeout_s: u32) -> String {
        let function = if self.is_mariadb() { "MASTER_GTID_WAIT" } else { "WAIT_FOR_EXECUTED_GTID_SET" };
        format!("SELECT {function}({}, {timeout_s})", quote(set))
    }

    /// Variable: how many applier threads a replica uses.
    pub fn applier_workers(&self) -> &'static str {
        match self.0.flavor {
            Flavor::Mariadb => "slave_parallel_threads",
            Flavor::Mysql => self.pick(self.mysql(8, 0, 26), "replica_parallel_workers", "slave_parallel_workers"),
        }
    }

    /// Variable: seconds of silence after which a replica reconnects.
    pub fn replica_net_timeout(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 26), "replica_net_timeout", "slave_net_timeout")
    }

    /// Variable: longest event a replica accepts, in bytes.
    pub fn replica_max_packet(&self) -> &'static str {
        self.pick(self.mysql(8, 0, 26), "replica_max_allowed_packet", "slave_max_allowed_packet")
    }

    /// How a source is made semi-synchronous.
    pub fn semi_sync_source(&self) -> SemiSyncSource {
        if self.mysql(8, 0, 26) {
            return SemiSyncSource {
                install: Some("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'"),
                enabled: "rpl_semi_sync_source_enabled",
                timeout_ms: "rpl_semi_sync_source_timeout",
                wait_point: "rpl_semi_sync_source_wait_point",
                clients: "Rpl_semi_sync_source_clients",
                status: "Rpl_semi_sync_source_status",
            };
        }
        SemiSyncSource {
            install: (!self.is_mariadb()).then_some("INSTALL PLUGIN rpl_semi_sync_master SONAME 'semisync_master.so'"),
            enabled: "rpl_semi_sync_master_enabled",
            timeout_ms: "rpl_semi_sync_master_timeout",
            wait_point: "rpl_semi_sync_master_wait_point",
            clients: "Rpl_semi_sync_master_clients",
            status: "Rpl_semi_sync_master_status",
        }
    }

    /// Keeps DDL away for the whole of a backup while writes go on; released by [`Self::backup_unlock`].
    pub fn backup_lock(&self) -> &'static [&'static str] {
        if self.is_mariadb() {
            &["BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE BLOCK_DDL"]
        } else {
            &["LOCK INSTANCE FOR BACKUP"]
        }
    }

    /// Releases [`Self::backup_lock`].
    pub fn backup_unlock(&self) -> &'static str {
        if self.is_mariadb() { "BACKUP STAGE END" } else { "UNLOCK INSTANCE" }
    }

    /// Stops all writes for the instant in which connections align their snapshots; released by `UNLOCK TABLES`.
    pub fn global_read_lock(&self) -> &'static str {
        "FLUSH TABLES WITH READ LOCK"
    }

    /// Releases [`Self::global_read_lock`].
    pub fn global_read_unlock(&self) -> &'static str {
        "UNLOCK TABLES"
    }

    /// Switches InnoDB's redo log off (`false`) or on; only MySQL can, from 8.0.21.
    pub fn redo_log(&self, on: bool) -> Option<&'static str> {
        self.mysql(8, 0, 21).then_some(if on {
            "ALTER INSTANCE ENABLE INNODB REDO_LOG"
        } else {
            "ALTER INSTANCE DISABLE INNODB REDO_LOG"
        })
    }
}

/// A literal for statements that take no expression; right as long as NO_BACKSLASH_ESCAPES is off.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A string literal, whatever the SQL mode.
pub fn quote(text: &str) -> String {
    if text.contains('\\') {
        // With NO_BACKSLASH_ESCAPES a backslash stands for itself, without it does not: hex reads the same in both.
        return format!("CONVERT(0x{} USING utf8mb4)", hex::encode(text));
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests;
