//! What is checked on a source before anything is promised, each finding with the statement that mends it.

use std::collections::BTreeMap;

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
