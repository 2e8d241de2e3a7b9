use std::collections::BTreeSet;

use super::preflight::{Facts, Severity, check};
use super::purge::PurgeHold;
use super::*;

const VERSIONS: [&str; 6] = ["8.0.11", "8.0.36-28", "8.4.5", "9.7.4", "10.11.19-MariaDB-log", "5.5.5-11.8.3-MariaDB"];

fn picked(what: impl Fn(&Dialect) -> &'static str) -> [&'static str; 6] {
    VERSIONS.map(|v| what(&Dialect::new(ServerVersion::parse(v).unwrap())))
}

#[test]
fn versions_are_read_as_servers_write_them() {
    let read = VERSIONS.map(|v| ServerVersion::parse(v).unwrap().to_string());
    let expected = ["MySQL 8.0.11", "MySQL 8.0.36", "MySQL 8.4.5", "MySQL 9.7.4", "MariaDB 10.11.19", "MariaDB 11.8.3"];
    assert_eq!(read, expected);
    assert_eq!(ServerVersion::parse("not a version"), None);
    let supported = |v| ServerVersion::parse(v).unwrap().is_supported();
    assert!(VERSIONS.into_iter().all(supported));
    assert!(!supported("5.7.44") && !supported("10.6.20-MariaDB"));
}

#[test]
fn each_version_gets_the_statement_it_understands() {
    let (old, new) = ("SHOW MASTER STATUS", "SHOW BINARY LOG STATUS");
    assert_eq!(picked(Dialect::show_binlog_status), [old, old, new, new, old, old]);
    let (old, new) = ("RESET MASTER", "RESET BINARY LOGS AND GTIDS");
    assert_eq!(picked(Dialect::reset_binary_logs), [old, old, new, new, old, old]);
    let (old, new) = ("SHOW SLAVE STATUS", "SHOW REPLICA STATUS");
    assert_eq!(picked(Dialect::show_replica_status), [old, new, new, new, old, old]);
    let (old, new) = ("START SLAVE", "START REPLICA");
    assert_eq!(picked(Dialect::start_replica), [old, new, new, new, old, old]);
    let (old, new) = ("STOP SLAVE", "STOP REPLICA");
    assert_eq!(picked(Dialect::stop_replica), [old, new, new, new, old, old]);
    let (old, new) = ("RESET SLAVE ALL", "RESET REPLICA ALL");
    assert_eq!(picked(Dialect::reset_replica_all), [old, new, new, new, old, old]);
    let (old, new) = ("Slave_IO_Running", "Replica_IO_Running");
    assert_eq!(picked(|d| d.replica_status_columns().io_running), [old, new, new, new, old, old]);
    let (old, new) = ("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled");
    assert_eq!(picked(|d| d.semi_sync_source().enabled), [old, new, new, new, old, old]);
    let (old, new) = ("slave_parallel_workers", "replica_parallel_workers");
    let maria = "slave_parallel_threads";
    assert_eq!(picked(Dialect::applier_workers), [old, new, new, new, maria, maria]);
    let (mysql, maria) = ("UNLOCK INSTANCE", "BACKUP STAGE END");
    assert_eq!(picked(Dialect::backup_unlock), [mysql, mysql, mysql, mysql, maria, maria]);
    let redo = |d: &Dialect| d.redo_log(false).unwrap_or("-");
    let off = "ALTER INSTANCE DISABLE INNODB REDO_LOG";
    assert_eq!(picked(redo), ["-", off, off, off, "-", "-"]);
    let install = picked(|d| d.semi_sync_source().install.unwrap_or("built in"));
    assert_eq!(install[3], "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'");
    assert_eq!(install[4..], ["built in", "built in"]);
}

#[test]
fn a_replica_is_pointed_at_its_source_in_its_own_words() {
    let source = Source {
        host: "h",
        port: 1,
        user: "u'",
        password: "p\\",
        connect_retry_s: 2,
        heartbeat_s: 3,
        position: None,
        assign_gtids: false,
    };
    let said = ["8.0.11", "9.7.4", "10.11.19-MariaDB"]
        .map(|v| Dialect::new(ServerVersion::parse(v).unwrap()).change_source(&source));
    assert_eq!(
        said[1],
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'h', SOURCE_PORT = 1, SOURCE_USER = 'u''', \
         SOURCE_PASSWORD = 'p\\\\', SOURCE_SSL = 0, SOURCE_CONNECT_RETRY = 2, SOURCE_HEARTBEAT_PERIOD = 3, \
         SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
    );
    assert!(said[0].starts_with("CHANGE MASTER TO MASTER_HOST = 'h'"), "{}", said[0]);
    assert!(said[0].ends_with("MASTER_AUTO_POSITION = 1, GET_MASTER_PUBLIC_KEY = 1"), "{}", said[0]);
    assert!(said[2].ends_with("MASTER_USE_GTID = slave_pos, MASTER_SSL_VERIFY_SERVER_CERT = 0"), "{}", said[2]);
}

#[test]
fn the_grant_names_only_what_is_missing() {
    let version = ServerVersion::parse("9.7.4").unwrap();
    let shown = [
        "GRANT SELECT, REPLICATION CLIENT ON *.* TO `u`@`%`".to_owned(),
        "GRANT RELOAD ON `d`.* TO `u`@`%`".to_owned(),
    ];
    let missing = missing_grants(version, Verb::Stream, "'u'@'%'", &shown);
    assert_eq!(missing.as_deref(), Some("GRANT REPLICATION SLAVE ON *.* TO 'u'@'%'"));
    let all = ["GRANT ALL PRIVILEGES ON *.* TO `u`@`%` WITH GRANT OPTION".to_owned()];
    assert_eq!(missing_grants(version, Verb::Restore, "'u'@'%'", &all), None);
    let facts = Facts {
        version,
        variables: [("log_bin".to_owned(), "OFF".to_owned())].into(),
        account: "'u'@'%'".to_owned(),
        grants: shown.to_vec(),
    };
    let findings = check(&facts, &[Verb::Stream]);
    assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Refuse, Severity::Refuse]);
}

#[test]
fn the_page_of_permissions_grants_exactly_what_a_full_and_a_stream_need() {
    let page = include_str!("../../../docs/permissions.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let told = page.split("GRANT ").filter_map(|text| text.split_once(" ON *.* TO 'tidemark'@'%'"));
    let set = |list: &str| list.split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
    let told: Vec<BTreeSet<String>> = told.map(|(privileges, _)| set(privileges)).collect();
    let needed = |version: &str| -> BTreeSet<String> {
        let version = ServerVersion::parse(version).unwrap();
        let all = [Verb::Stream, Verb::LogicalBackup].map(|verb| grants(version, verb, "u").concat());
        let lists = all.iter().filter_map(|grant| grant.strip_prefix("GRANT ")?.strip_suffix(" ON *.* TO u"));
        lists.flat_map(set).collect()
    };
    let [mysql, mariadb] = [Flavor::Mysql, Flavor::Mariadb].map(|flavor| set(PurgeHold::privilege(flavor)));
    assert_eq!(told, [needed("9.7.0"), needed("10.11.6-MariaDB"), mysql, mariadb]);
}
