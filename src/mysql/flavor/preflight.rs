//! What is checked on a source before anything is promised, each finding with the statement that mends it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::{ServerVersion, Verb, missing_grants};
use crate::model::Flavor;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, with less than it could.
    Warn,
    /// Going on would promise what cannot be kept.
    Refuse,
}

/// Something about the source that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether to go on.
    pub severity: Severity,
    /// What is wrong and what follows from it.
    pub problem: String,
    /// The statement (or server option) that mends it.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.mend)
    }
}

/// What the checks look at, read from a server by [`crate::mysql::sql::Session::facts`].
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its version.
    pub version: ServerVersion,
    /// Global variables by lower-case name.
    pub variables: BTreeMap<String, String>,
    /// The account in use, quoted: `'tidemark'@'%'`.
    pub account: String,
    /// The rows of SHOW GRANTS for it.
    pub grants: Vec<String>,
}

/// The global variables that [`check`] looks at.
pub const VARIABLES: [&str; 9] = [
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "gtid_mode",
    "enforce_gtid_consistency",
    "binlog_checksum",
    "sync_binlog",
    "server_id",
    "binlog_row_value_options",
];

/// MariaDB: what [`unlogged_replication`] judges.
pub const REPLICATION: &str = "SELECT @@GLOBAL.log_slave_updates, @@GLOBAL.gtid_slave_pos, @@GLOBAL.read_only, \
     (SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'SLAVES_RUNNING')";

/// MariaDB: whether a server logs what it replicates, by its row of [`REPLICATION`].
pub fn logs_replicated(row: &[Option<Bytes>]) -> bool {
    matches!(row.first(), Some(Some(value)) if **value == *b"1" || value.eq_ignore_ascii_case(b"on"))
}

/// MariaDB: a server that is a replica, or has been one or is kept read-only to become one, and does not log what it replicates. A server
/// that shows no sign of replication passes, for OFF is the default.
pub fn unlogged_replication(row: &[Option<Bytes>]) -> Option<Finding> {
    let field = |column: usize| match row.get(column) {
        Some(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let off = |value: &str| value.is_empty() || value == "0" || value.eq_ignore_ascii_case("off");
    let (position, read_only, running) = (field(1), field(2), field(3));
    if logs_replicated(row) {
        return None;
    }
    let problem = match (off(&running), position.as_str()) {
        (false, _) => "this server is a replica and log_slave_updates is OFF: what it replicates is not in its binary log, so none of it is \
                       archived from here: of that, restores have what is in fulls only"
            .to_owned(),
        (true, "") if off(&read_only) => return None,
        (true, "") => "log_slave_updates is OFF on a read-only server: what it replicates, should it become a replica, will not be in its \
                       binary log, and so not in the archive"
            .to_owned(),
        (true, position) => format!(
            "log_slave_updates is OFF and the server has replicated up to {position}: its binary log says nothing of that, so transactions \
             around a failover may be missing from the archive without a trace"
        ),
    };
    let mend = "put `log_slave_updates = ON` under [mysqld] and restart the server".to_owned();
    Some(Finding { severity: Severity::Warn, problem, mend })
}

/// Everything that stands in the way of `verbs` on this source, the worst first.
pub fn check(facts: &Facts, verbs: &[Verb]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |severity, problem: String, mend: String| findings.push(Finding { severity, problem, mend });
    let version = facts.version;
    if !version.is_supported() {
        found(
            Severity::Refuse,
            format!("{version} is too old: MySQL 8.0 or MariaDB 10.11 is needed"),
            "upgrade the server".to_owned(),
        );
    }
    let value = |name: &str| facts.variables.get(name).map(|v| v.to_ascii_uppercase());
    let is = |name: &str, wanted: &[&str]| value(name).is_none_or(|v| wanted.contains(&v.as_str()));
    if verbs.contains(&Verb::Stream) {
        if !is("log_bin", &["ON", "1"]) {
            found(
                Severity::Refuse,
                "the binary log is off: there is nothing to stream, and a restore reaches full backups only".to_owned(),
                "start the server with --log-bin (in my.cnf: log_bin = binlog) and a server_id".to_owned(),
            );
        }
        if !is("binlog_format", &["ROW"]) {
            found(
                Severity::Refuse,
                format!(
                    "binlog_format is {}: statements may do something else when they are replayed",
                    value("binlog_format").unwrap_or_default()
                ),
                persist(version, "binlog_format", "ROW"),
            );
        }
        if !is("binlog_row_image", &["FULL"]) {
            found(
                Severity::Warn,
                format!(
                    "binlog_row_image is {}: rows in the binary log lack columns, so a replay onto data that differs is not noticed",
                    value("binlog_row_image").unwrap_or_default()
                ),
                persist(version, "binlog_row_image", "FULL"),
            );
        }
        if version.flavor == Flavor::Mysql && !is("gtid_mode", &["ON"]) {
            found(
                Severity::Warn,
                format!(
                    "gtid_mode is {}: restores go by file and position, and a failover cannot be followed",
                    value("gtid_mode").unwrap_or_default()
                ),
                "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
                 SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON"
                    .to_owned(),
            );
        }
        if !is("binlog_checksum", &["CRC32"]) {
            found(
                Severity::Warn,
                "binlog_checksum is NONE: bytes that the source's disk damaged are not noticed".to_owned(),
                persist(version, "binlog_checksum", "CRC32"),
            );
        }
        if !is("sync_binlog", &["1"]) {
            found(
                Severity::Warn,
                "sync_binlog is not 1: after a crash of its host the source may lack transactions that were archived"
                    .to_owned(),
                persist(version, "sync_binlog", "1"),
            );
        }
    }
    for verb in verbs {
        if let Some(grant) = missing_grants(version, *verb, &facts.account, &facts.grants) {
            found(Severity::Refuse, format!("the account {} lacks privileges", facts.account), grant);
        }
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}

fn persist(version: ServerVersion, variable: &str, value: &str) -> String {
    match version.flavor {
        Flavor::Mysql => format!("SET PERSIST {variable} = {value}"),
        Flavor::Mariadb => format!("SET GLOBAL {variable} = {value} (and in my.cnf, to outlive a restart)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_logs_nothing_of_what_it_replicates_is_told_and_a_lone_server_is_not() {
        for (row, told) in [
            (["0", "", "0", "0"], None),
            (["1", "0-1-5", "1", "1"], None),
            (["ON", "0-1-5", "ON", "1"], None),
            (["0", "", "0", "1"], Some("is a replica")),
            (["OFF", "0-1-5", "OFF", "1"], Some("is a replica")),
            (["0", "0-1-5", "0", "0"], Some("replicated up to 0-1-5")),
            (["0", "", "NO_LOCK", "0"], Some("read-only server")),
        ] {
            let fields = row.map(|field| Some(Bytes::from_static(field.as_bytes())));
            let finding = unlogged_replication(&fields).map(|finding| finding.to_string());
            assert_eq!(finding.is_some(), told.is_some(), "{row:?}: {finding:?}");
            if let (Some(finding), Some(told)) = (finding, told) {
                assert!(finding.contains(told) && finding.contains("`log_slave_updates = ON`"), "{row:?}: {finding}");
            }
        }
    }
}
