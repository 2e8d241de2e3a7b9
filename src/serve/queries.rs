//! What a replica asks before it asks for the log, and what it is told. Pure.

use crate::model::Flavor;

/// Who we say we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `server_id`: not 0, and no replica's own.
    pub server_id: u32,
    /// `server_uuid` (MySQL): no replica's own.
    pub server_uuid: uuid::Uuid,
    /// The archived server's flavor.
    pub flavor: Flavor,
    /// The archived server's version as its format event states it, for example `9.7.4` or `10.11.19-MariaDB-log`.
    pub version: String,
    /// Whether the archived log has GTIDs.
    pub gtids: bool,
}

/// What a replica told us by `SET`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// `@slave_connect_state` (MariaDB): its GTID position; none for a replica by file and position.
    pub connect_state: Option<String>,
    /// `@slave_until_gtid` (MariaDB): where it wants us to stop.
    pub until: Option<String>,
    /// Heartbeat period in nanoseconds.
    pub heartbeat_ns: Option<u64>,
    /// Whether it said it understands checksums.
    pub checksums: bool,
    /// `@replica_uuid` (MySQL).
    pub uuid: Option<String>,
}

/// The answer to one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// OK.
    Ok,
    /// One row: column names and values.
    Row(Vec<(&'static str, String)>),
    /// No row, of these columns.
    NoRow(Vec<&'static str>),
    /// An error: number, SQLSTATE, text.
    Refuse(u16, &'static str, String),
}

/// Answers `sql`, noting what it sets. `now_unix` is in seconds.
pub fn answer(sql: &str, who: &Identity, settings: &mut ReplicaSettings, now_unix: i64) -> Answer {
    let sql = sql.trim().trim_end_matches(';');
    let lower = sql.to_ascii_lowercase();
    let row = |name, value: String| Answer::Row(vec![(name, value)]);
    if lower.starts_with("set ") {
        return set(sql, settings);
    }
    if lower.starts_with("select unix_timestamp(") {
        return row("UNIX_TIMESTAMP()", now_unix.to_string());
    }
    if lower.starts_with("select version(") || lower == "select @@version" || lower == "select @@global.version" {
        return row("VERSION()", who.version.clone());
    }
    if let Some(rest) = lower.strip_prefix("show ") {
        let rest = rest.trim_start_matches("global ").trim_start_matches("session ");
        let Some(pattern) = rest.strip_prefix("variables like ") else {
            return unknown(sql);
        };
        let name = pattern.trim().trim_matches(['\'', '"', '`']);
        return match variable(name, who) {
            Some(value) => Answer::Row(vec![("Variable_name", name.to_owned()), ("Value", value)]),
            None => Answer::NoRow(vec!["Variable_name", "Value"]),
        };
    }
    let Some(expression) = lower.strip_prefix("select ").map(str::trim) else { return unknown(sql) };
    match expression {
        "@master_binlog_checksum" | "@source_binlog_checksum" => {
            return row("@source_binlog_checksum", "CRC32".to_owned());
        }
        "1" => return row("1", "1".to_owned()),
        _ => {}
    }
    let name = expression.strip_prefix("@@global.").or_else(|| expression.strip_prefix("@@"));
    match name.and_then(|name| variable(name, who)) {
        Some(value) => row("value", value),
        None if name.is_some() => {
            let name = name.unwrap_or_default();
            Answer::Refuse(1193, "HY000", format!("Unknown system variable '{name}'"))
        }
        None => unknown(sql),
    }
}

fn unknown(sql: &str) -> Answer {
    let shown: String = sql.chars().take(80).collect();
    Answer::Refuse(1235, "42000", format!("tidemark serves a binary log, not SQL: it has no answer to {shown:?}"))
}

fn variable(name: &str, who: &Identity) -> Option<String> {
    let mysql = who.flavor == Flavor::Mysql;
    let value = match name {
        "server_id" => who.server_id.to_string(),
        "server_uuid" if mysql => who.server_uuid.to_string(),
        "gtid_mode" if mysql => if who.gtids { "ON" } else { "OFF" }.to_owned(),
        "gtid_domain_id" if !mysql => "0".to_owned(),
        "binlog_checksum" => "CRC32".to_owned(),
        "binlog_format" => "ROW".to_owned(),
        "binlog_row_image" => "FULL".to_owned(),
        "log_bin" => "ON".to_owned(),
        "version" => who.version.clone(),
        _ => return None,
    };
    Some(value)
}

/// `SET a=b, c=d`: user variables a replica tells us things by. Everything else is accepted and ignored, as the values
/// cannot change what the archive holds.
fn set(sql: &str, settings: &mut ReplicaSettings) -> Answer {
    for assignment in split_assignments(sql.get(4..).unwrap_or_default()) {
        let Some((name, value)) = assignment.split_once('=') else { continue };
        let value = value.trim();
        match name.trim().trim_end_matches(':').trim().to_ascii_lowercase().as_str() {
            "@slave_connect_state" => settings.connect_state = Some(unquoted(value)),
            "@slave_until_gtid" => settings.until = Some(unquoted(value)),
            "@master_heartbeat_period" | "@source_heartbeat_period" => settings.heartbeat_ns = value.parse().ok(),
            "@slave_uuid" | "@replica_uuid" => settings.uuid = Some(unquoted(value)),
            "@master_binlog_checksum" | "@source_binlog_checksum" => {
                if unquoted(value).eq_ignore_ascii_case("none") {
                    let text = "tidemark serves events as they were archived, with their checksums: ask for @@global.binlog_checksum";
                    return Answer::Refuse(1231, "42000", text.to_owned());
                }
                settings.checksums = true;
            }
            _ => {}
        }
    }
    Answer::Ok
}

/// Splits at commas outside quotes.
fn split_assignments(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut quote) = (0, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, ',') => {
                parts.push(text.get(begin..i).unwrap_or_default());
                begin = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

fn unquoted(value: &str) -> String {
    value.trim_matches(['\'', '"']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(flavor: Flavor) -> Identity {
        let version = "9.7.4".to_owned();
        Identity { server_id: 7, server_uuid: uuid::Uuid::from_u128(1), flavor, version, gtids: true }
    }

    #[test]
    fn a_mysql_replica_hears_what_a_source_would_say() {
        let (who, mut told) = (who(Flavor::Mysql), ReplicaSettings::default());
        let mut ask = |sql: &str| answer(sql, &who, &mut told, 1_000);
        assert_eq!(ask("SELECT UNIX_TIMESTAMP()"), Answer::Row(vec![("UNIX_TIMESTAMP()", "1000".into())]));
        assert_eq!(ask("SELECT @@GLOBAL.SERVER_ID"), Answer::Row(vec![("value", "7".into())]));
        assert_eq!(ask("SELECT @@GLOBAL.GTID_MODE"), Answer::Row(vec![("value", "ON".into())]));
        assert_eq!(ask("SET @master_heartbeat_period= 5000000000, @source_heartbeat_period= 5000000000"), Answer::Ok);
        let sums =
            "SET @master_binlog_checksum= @@global.binlog_checksum, @source_binlog_checksum= @@global.binlog_checksum";
        assert_eq!(ask(sums), Answer::Ok);
        assert_eq!(ask("SET @slave_uuid= 'a-b', @replica_uuid= 'a-b'"), Answer::Ok);
        assert!(matches!(ask("SELECT @@global.rpl_semi_sync_source_enabled"), Answer::Refuse(1193, ..)));
        assert!(matches!(ask("SET @source_binlog_checksum='NONE'"), Answer::Refuse(1231, ..)));
        assert!(matches!(ask("DROP TABLE t"), Answer::Refuse(1235, ..)));
        assert_eq!(told.heartbeat_ns, Some(5_000_000_000));
        assert_eq!(told.uuid.as_deref(), Some("a-b"));
        assert!(told.checksums);
    }

    #[test]
    fn a_mariadb_replica_hears_what_a_source_would_say() {
        let (who, mut told) = (who(Flavor::Mariadb), ReplicaSettings::default());
        let mut ask = |sql: &str| answer(sql, &who, &mut told, 1_000);
        let id = Answer::Row(vec![("Variable_name", "server_id".into()), ("Value", "7".into())]);
        assert_eq!(ask("SHOW VARIABLES LIKE 'SERVER_ID'"), id);
        assert_eq!(ask("SELECT @@GLOBAL.gtid_domain_id"), Answer::Row(vec![("value", "0".into())]));
        assert_eq!(ask("SET @slave_connect_state='0-1-6533,1-2-5'"), Answer::Ok);
        assert_eq!(ask("SET @slave_until_gtid='0-1-7000'"), Answer::Ok);
        assert_eq!(told.connect_state.as_deref(), Some("0-1-6533,1-2-5"));
        assert_eq!(told.until.as_deref(), Some("0-1-7000"));
    }
}
