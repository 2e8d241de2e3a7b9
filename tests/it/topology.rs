//! Sources that are not one lonely server: replicas of replicas, several domains, servers that change who they are.

use std::fs;

use tidemark::model::Flavor;
use tidemark::restore::plan::Target;

use crate::lab::{Lab, checksums, executed, replicate, request, same_gtids};
use crate::support::{Server, ServerOptions};

#[test]
fn a_replica_of_a_replica_is_a_source_like_any_other() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let options = || match flavor {
            Flavor::Mysql => ServerOptions::mysql(),
            Flavor::Mariadb => ServerOptions::mariadb().arg("--log-slave-updates"),
        };
        let (primary, middle) = (options().start(), options().start());
        let lab = Lab::without_full(options());
        replicate(&middle, &primary);
        replicate(&lab.source, &middle);
        primary.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        write(&primary, "t", 0..10);
        same_gtids(&lab.source, &primary);
        lab.full();
        write(&primary, "t", 10..20);
        let (half, wanted) = (primary.gtids(), checksums(&primary));
        write(&primary, "t", 20..30);
        same_gtids(&lab.source, &primary);
        lab.archive();

        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(checksums(&target), checksums(&primary), "{flavor}");
        assert_eq!(lab.gtids(&report.executed), lab.gtids(&primary.gtids()), "{flavor}");
        let (target, _) = lab.restore(&request(Target::Gtid(lab.gtids(&half))));
        assert_eq!(checksums(&target), wanted, "{flavor}");
        assert_eq!(lab.gtids(&executed(&target)), lab.gtids(&half), "{flavor}");
    }
}

#[test]
fn a_mariadb_whose_transactions_are_in_several_domains_is_restored_to_where_each_of_them_was() {
    let lab = Lab::new(ServerOptions::mariadb());
    lab.source.sql("CREATE DATABASE d");
    for domain in 0..3 {
        lab.source.sql(&format!(
            "SET gtid_domain_id = {domain}; CREATE TABLE d.t{domain} (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)"
        ));
    }
    let turns = |turns: std::ops::Range<u32>| {
        for turn in turns {
            // No two domains are equally far.
            for domain in (0..3).filter(|domain| turn % (domain + 1) == 0) {
                lab.source.sql(&format!(
                    "SET gtid_domain_id = {domain}; INSERT INTO d.t{domain} (text) VALUES ('turn {turn}')"
                ));
            }
        }
    };
    turns(0..8);
    lab.full();
    turns(8..14);
    lab.source.sql("FLUSH BINARY LOGS");
    turns(14..20);
    let (half, wanted) = (lab.source.gtids(), checksums(&lab.source));
    turns(20..26);
    lab.archive();
    assert_eq!(half.split(',').count(), 3, "{half}");

    let (target, report) = lab.restore(&request(Target::Latest));
    assert_eq!(checksums(&target), checksums(&lab.source));
    assert_eq!(lab.gtids(&report.executed), lab.gtids(&lab.source.gtids()));
    let (target, report) = lab.restore(&request(Target::Gtid(lab.gtids(&half))));
    assert_eq!(checksums(&target), wanted);
    assert_eq!(lab.gtids(&report.executed), lab.gtids(&half));
}

#[test]
fn a_server_that_got_another_identity_goes_on_where_it_was() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let mut lab = Lab::new(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        write(&lab.source, "t", 0..10);
        lab.archive();
        write(&lab.source, "t", 10..20);
        match flavor {
            Flavor::Mysql => {
                fs::remove_file(lab.source.datadir().join("auto.cnf")).unwrap();
                lab.source.restart();
            }
            Flavor::Mariadb => lab.source.restart_with("--server-id=4711"),
        }
        write(&lab.source, "t", 20..30);
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        assert!(plan.forks.is_empty(), "{flavor}: {:?}", plan.forks);
        let (target, _) = lab.restore(&request(Target::Latest));
        assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
    }
}

#[test]
fn a_mariadb_that_says_of_no_event_where_it_ends_is_archived_and_restored() {
    let lab = Lab::new(ServerOptions::mariadb_11());
    assert_eq!(lab.source.sql("SELECT @@GLOBAL.binlog_legacy_event_pos"), "0", "its default");
    lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text LONGTEXT)");
    write(&lab.source, "t", 0..10);
    lab.archive();
    lab.source.sql("FLUSH BINARY LOGS; BEGIN; INSERT INTO d.t (text) VALUES (REPEAT('x', 300000)); UPDATE d.t SET text = 'y'; COMMIT");
    write(&lab.source, "t", 10..20);
    // It goes on within a file, too.
    lab.archive();
    let plan = lab.plan(&request(Target::Latest)).unwrap();
    let target = ServerOptions::mariadb_11().start();
    let report = lab.run(&plan, &target).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checksums(&target), checksums(&lab.source));
    assert_eq!(lab.gtids(&report.executed), lab.gtids(&lab.source.gtids()));
}

fn write(server: &Server, table: &str, rows: std::ops::Range<u32>) {
    for row in rows {
        server.sql(&format!("INSERT INTO d.{table} (text) VALUES ('row {row}')"));
    }
}
