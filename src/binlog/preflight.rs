use std::collections::BTreeMap;

use super::Acknowledge;
use crate::model::Flavor;

/// The server variables that preflight reads; one that the server does not have is simply absent from the answer.
pub(super) const VARIABLES: &[&str] = &[
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_image",
    "encrypt_binlog",
    "expire_logs_days",
    "gtid_mode",
    "log_bin",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_point",
    "server_id",
    "server_uuid",
];

/// What the source is and how it logs, as far as the stream cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// [`crate::archive::binlog_index::FileId::server`].
    pub server: String,
    pub gtids_on: bool,
    /// What makes streaming impossible, each with the way out.
    pub refusals: Vec<String>,
    /// What makes the archive weaker than it could be, each with the statement that mends it.
    pub warnings: Vec<String>,
}

/// [`crate::archive::binlog_index::FileId::server`] of the server that has these variables.
pub(super) fn server_name(flavor: Flavor, variables: &BTreeMap<String, String>) -> String {
    let get = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    match flavor {
        Flavor::Mysql => get("server_uuid").to_ascii_lowercase(),
        Flavor::Mariadb => format!("mariadb-{}", get("server_id")),
    }
}

/// Judges a server by its variables. Pure.
pub(super) fn judge(flavor: Flavor, variables: &BTreeMap<String, String>, acknowledge: Acknowledge) -> Findings {
    let get = |name: &str| variables.get(name).map(String::as_str);
    let on = |name: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case("on") || v == "1");
    let persist = match flavor {
        Flavor::Mysql => "SET PERSIST",
        Flavor::Mariadb => "SET GLOBAL",
    };
    let mut refusals = Vec::new();
    let mut warnings = Vec::new();

    let server_id = get("server_id").unwrap_or_default();
    let server = server_name(flavor, variables);
    if !on("log_bin") {
        refusals.push(
            "the binary log is off: put `log_bin = binlog` and a unique `server_id` under [mysqld] and restart the server"
                .to_owned(),
        );
    }
    if server_id == "0" || server_id.is_empty() || server.is_empty() {
        refusals.push(format!(
            "the server has no server_id or server_uuid: {persist} server_id = 1 (unique among its peers)"
        ));
    }
    if on("encrypt_binlog") {
        refusals.push(
            "encrypt_binlog is on: MariaDB streams such a file without its encryption event, so it cannot be archived byte for byte; \
             set `encrypt_binlog = OFF` under [mysqld] and restart the server"
                .to_owned(),
        );
    }
    match get("binlog_format") {
        Some(format) if !format.eq_ignore_ascii_case("row") => warnings.push(format!(
            "binlog_format is {format}: statements may replay differently than they ran; {persist} binlog_format = 'ROW'"
        )),
        _ => {}
    }
    match get("binlog_row_image") {
        Some(image) if !image.eq_ignore_ascii_case("full") => warnings.push(format!(
            "binlog_row_image is {image}: rows are found by their key alone at replay; {persist} binlog_row_image = 'FULL'"
        )),
        _ => {}
    }
    let gtids_on = match flavor {
        Flavor::Mysql => get("gtid_mode").is_some_and(|mode| mode.eq_ignore_ascii_case("on")),
        Flavor::Mariadb => true,
    };
    if !gtids_on {
        warnings.push(
            "GTIDs are off: the stream follows file and position on this one server and cannot follow a failover; \
             SET PERSIST enforce_gtid_consistency = ON, then SET PERSIST gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE and ON, one after the other"
                .to_owned(),
        );
    }
    let expire_seconds = get("binlog_expire_logs_seconds")
        .and_then(|v| v.parse::<f64>().ok())
        .or_else(|| get("expire_logs_days").and_then(|v| v.parse::<f64>().ok()).map(|days| days * 86_400.0));
    match expire_seconds {
        Some(seconds) if seconds > 0.0 && seconds < 3600.0 => warnings.push(format!(
            "the source drops its binlogs after {seconds} s: an outage of the stream that lasts longer loses them; \
             {persist} binlog_expire_logs_seconds = 259200"
        )),
        _ => {}
    }
    if acknowledge == Acknowledge::ObjectStore {
        semi_sync(flavor, &get, &mut warnings);
    }
    Findings { server, gtids_on, refusals, warnings }
}

/// Semi-sync is the source's to switch on: without it commits do not wait, which the user must know but need not stop for.
fn semi_sync<'v>(flavor: Flavor, get: &impl Fn(&str) -> Option<&'v str>, warnings: &mut Vec<String>) {
    let variable = |what: &str| {
        ["source", "master"]
            .into_iter()
            .map(|word| format!("rpl_semi_sync_{word}_{what}"))
            .find_map(|name| get(&name).map(|value| (name, value)))
    };
    let persist = match flavor {
        Flavor::Mysql => "SET PERSIST",
        Flavor::Mariadb => "SET GLOBAL",
    };
    match variable("enabled") {
        None => warnings.push(
            "acknowledge: ObjectStore needs semi-synchronous replication: INSTALL PLUGIN rpl_semi_sync_source SONAME \
             'semisync_source.so' (rpl_semi_sync_master, 'semisync_master.so' before 8.0.26), then SET PERSIST rpl_semi_sync_source_enabled = ON"
                .to_owned(),
        ),
        Some((name, value)) if !value.eq_ignore_ascii_case("on") && value != "1" => warnings
            .push(format!("acknowledge: ObjectStore has no effect while {name} is {value}: {persist} {name} = ON")),
        Some(_) => {}
    }
    match variable("wait_point") {
        Some((name, value)) if !value.eq_ignore_ascii_case("after_sync") => warnings.push(format!(
            "{name} is {value}: others see a commit before it is durable in the store; {persist} {name} = 'AFTER_SYNC'"
        )),
        _ => {}
    }
    match variable("timeout") {
        Some((name, value)) if value.parse::<u64>().is_ok_and(|ms| ms < 3_600_000) => warnings.push(format!(
            "{name} is {value} ms: when the store does not answer for that long, commits stop waiting for it; \
             {persist} {name} = 4294967295 makes them wait"
        )),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let sound = [
            ("log_bin", "ON"),
            ("server_id", "7"),
            ("server_uuid", "AB-cd"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("gtid_mode", "ON"),
        ];
        sound.iter().chain(pairs).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_sound_server_passes_without_a_word() {
        let findings = judge(Flavor::Mysql, &variables(&[]), Acknowledge::None);
        let sound = Findings { server: "ab-cd".to_owned(), gtids_on: true, refusals: Vec::new(), warnings: Vec::new() };
        assert_eq!(findings, sound);
        let findings = judge(Flavor::Mariadb, &variables(&[]), Acknowledge::None);
        assert_eq!(findings, Findings { server: "mariadb-7".to_owned(), ..sound });
    }

    #[test]
    fn what_weakens_the_archive_is_named_with_the_statement_that_mends_it() {
        for (variable, value, refused, mends) in [
            ("log_bin", "OFF", true, "log_bin = binlog"),
            ("server_id", "0", true, "SET PERSIST server_id"),
            ("encrypt_binlog", "ON", true, "encrypt_binlog = OFF"),
            ("binlog_format", "MIXED", false, "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "MINIMAL", false, "SET PERSIST binlog_row_image = 'FULL'"),
            ("gtid_mode", "OFF_PERMISSIVE", false, "SET PERSIST gtid_mode"),
            ("binlog_expire_logs_seconds", "60", false, "SET PERSIST binlog_expire_logs_seconds"),
        ] {
            let findings = judge(Flavor::Mysql, &variables(&[(variable, value)]), Acknowledge::None);
            let (said, silent) =
                if refused { (findings.refusals, findings.warnings) } else { (findings.warnings, findings.refusals) };
            assert!(silent.is_empty(), "{variable}: {silent:?}");
            assert!(said.len() == 1 && said[0].contains(mends), "{variable}: {said:?}");
        }
    }

    #[test]
    fn semi_sync_settings_that_void_the_promise_are_named() {
        let told = |pairs: &[(&str, &str)]| judge(Flavor::Mysql, &variables(pairs), Acknowledge::ObjectStore).warnings;
        assert!(told(&[])[0].contains("INSTALL PLUGIN rpl_semi_sync_source"));
        let sound = [
            ("rpl_semi_sync_source_enabled", "ON"),
            ("rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
            ("rpl_semi_sync_source_timeout", "4294967295"),
        ];
        assert_eq!(told(&sound), Vec::<String>::new());
        for (i, (value, mends)) in
            [("OFF", "source_enabled = ON"), ("AFTER_COMMIT", "'AFTER_SYNC'"), ("10000", "timeout = 4294967295")]
                .into_iter()
                .enumerate()
        {
            let mut pairs = sound;
            pairs[i].1 = value;
            let told = told(&pairs);
            assert!(told.len() == 1 && told[0].contains(mends), "{told:?}");
        }
    }
}
