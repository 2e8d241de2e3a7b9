//! Targets that are set up otherwise than their source, and what the log does to things that a full holds in an odd form.

use std::time::Duration;

use tidemark::archive::manifest::Content;
use tidemark::backup::logical;
use tidemark::model::{Flavor, Progress};
use tidemark::restore::base::{self, BaseConfig};
use tidemark::restore::plan::Target;
use tokio_util::sync::CancellationToken;

use crate::fidelity::{back_up, endpoint, folder, restore, small};
use crate::lab::{Lab, checksums, executed, request};
use crate::support::{Server, ServerOptions};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

#[test]
fn the_log_finds_views_that_were_broken_when_the_full_was_taken() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql(
            "CREATE DATABASE d; USE d; CREATE TABLE gone (a INT, b TEXT CHARACTER SET latin1); CREATE TABLE t (id INT PRIMARY KEY, x INT); INSERT INTO t VALUES (1, 2); \
             CREATE VIEW altered AS SELECT a FROM gone; CREATE VIEW dropped AS SELECT a FROM gone; CREATE VIEW renamed AS SELECT x FROM t; \
             CREATE VIEW mended AS SELECT x FROM t; CREATE VIEW replaced AS SELECT a FROM gone; CREATE VIEW left_alone AS SELECT a FROM gone; \
             CREATE VIEW odd_altered AS SELECT b COLLATE latin1_german1_ci AS b FROM gone; CREATE VIEW odd_dropped AS SELECT * FROM odd_altered; \
             CREATE VIEW odd_renamed AS SELECT b COLLATE latin1_bin AS b FROM gone; \
             DROP TABLE gone; ALTER TABLE t DROP COLUMN x;",
        );
        lab.full();
        lab.source.sql(
            "USE d; ALTER VIEW altered AS SELECT id FROM t; DROP VIEW dropped; RENAME TABLE renamed TO d.other; CREATE OR REPLACE VIEW replaced AS SELECT 7 AS n; \
             ALTER VIEW odd_altered AS SELECT 8 AS n; DROP VIEW odd_dropped; RENAME TABLE odd_renamed TO odd_other; \
             ALTER TABLE t ADD COLUMN x INT DEFAULT 5; CREATE VIEW of_mended AS SELECT x FROM mended;",
        );
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        // What stands in for what they lack is left by a load that dies, and gone in the end.
        lab.run_dying_at(&plan, &target, "restore::base::stood_in");
        assert_eq!(target.sql("SHOW TABLES FROM d LIKE 'gone'"), "gone", "{flavor}");
        let report = lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor}: {e}"));
        let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME <> 'odd_other' ORDER BY 1";
        assert_eq!(target.sql(tables), lab.source.sql(tables), "{flavor}");
        let views = "SELECT TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME <> 'odd_other' ORDER BY 1";
        assert_eq!(target.sql(views), lab.source.sql(views), "{flavor}");
        for works in ["altered", "mended", "of_mended", "other", "replaced", "odd_altered"] {
            let rows = format!("SELECT * FROM d.{works}");
            assert_eq!(target.sql(&rows), lab.source.sql(&rows), "{flavor} {works}");
        }
        // What could not be made as it was is gone in the end, and was said.
        assert_eq!(target.sql("SHOW FULL TABLES FROM d LIKE 'odd%other'"), "", "{flavor}");
        assert!(report.warnings.iter().any(|w| w.contains("`d`.`odd_renamed`")), "{flavor}: {:#?}", report.warnings);
    }
}

/// What a restore must leave as it was found.
fn state(server: &Server) -> String {
    let shut = match server.flavor() {
        Flavor::Mysql => "@@GLOBAL.super_read_only",
        Flavor::Mariadb => "0",
    };
    server.sql(&format!(
        "SELECT @@GLOBAL.read_only, {shut}, @@GLOBAL.event_scheduler, @@GLOBAL.local_infile, @@GLOBAL.autocommit, @@GLOBAL.completion_type, \
         @@GLOBAL.default_storage_engine; SHOW DATABASES"
    ))
}

#[test]
fn a_target_that_is_refused_stays_as_it_was_found() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)");
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        for (occupy, free, names) in [
            ("CREATE USER somebody@'%'", "DROP USER somebody@'%'", "`somebody`@`%`"),
            ("CREATE DATABASE x; CREATE TABLE x.t (id INT)", "DROP DATABASE x", "x"),
        ] {
            target.sql(occupy);
            let before = state(&target);
            let refused = lab.run(&plan, &target).unwrap_err().to_string();
            assert!(refused.contains("not empty") && refused.contains(names), "{flavor}: {refused}");
            assert!(!refused.contains("allow"), "{flavor}: there is no such option: {refused}");
            assert_eq!(state(&target), before, "{flavor}");
            target.sql(free);
        }
        // Made empty, it takes the restore.
        lab.source.sql("DO 0");
        let before = state(&target);
        if flavor == Flavor::Mysql {
            target.sql("RESET BINARY LOGS AND GTIDS");
        } else {
            target.sql("RESET MASTER");
        }
        lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor}: {e}"));
        assert_eq!(state(&target).lines().next(), before.lines().next(), "{flavor}");
    }
}

#[test]
fn what_a_target_gives_its_users_by_default_is_nothing_to_the_restore() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor).arg("--default-storage-engine=MyISAM"));
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.before_full (id INT PRIMARY KEY)");
        lab.full();
        lab.source.sql(
            "USE d; CREATE TABLE plain (id INT PRIMARY KEY); CREATE TABLE said (id INT PRIMARY KEY) ENGINE=InnoDB; \
             BEGIN; INSERT INTO said VALUES (1); INSERT INTO said VALUES (2); COMMIT; INSERT INTO plain VALUES (1); \
             BEGIN; INSERT INTO plain VALUES (2); ROLLBACK; CREATE TABLE later (id INT PRIMARY KEY); INSERT INTO said VALUES (3);",
        );
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        for completion in ["CHAIN", "RELEASE"] {
            let target = ServerOptions::of(flavor)
                .arg("--autocommit=OFF")
                .arg(&format!("--completion-type={completion}"))
                .start();
            let before = state(&target);
            let report = lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor} {completion}: {e}"));
            assert_eq!(executed(&target), report.executed);
            assert_eq!(checksums(&target), checksums(&lab.source), "{flavor} {completion}");
            let engines =
                "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' ORDER BY 1";
            assert_eq!(target.sql(engines), lab.source.sql(engines), "{flavor} {completion}");
            assert!(target.sql(engines).contains("later\tMyISAM"), "{}", target.sql(engines));
            assert_eq!(state(&target).lines().next(), before.lines().next(), "{flavor} {completion}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_the_source_s_engines_is_refused_and_makes_no_other_ones() {
    for (flavor, engine, odd, names) in [
        (Flavor::Mysql, "MyISAM", "--disabled-storage-engines=MyISAM", "MyISAM"),
        (Flavor::Mariadb, "MyISAM", "--enforce-storage-engine=InnoDB", "enforce_storage_engine"),
    ] {
        let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).arg(odd).start());
        source.sql(&format!("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE={engine}"));
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = back_up(&source, &store).await;
        let (at, config) = (endpoint(&target), BaseConfig::default());
        let checked = base::check(&store, &manifest, &at, &config).await;
        let load = base::load(&store, &manifest, &at, &config, Progress::default(), CancellationToken::new());
        let refused = match checked {
            Err(e) => e.to_string(),
            Ok(()) => load.await.unwrap_err().to_string(),
        };
        assert!(refused.contains(names), "{flavor}: {refused}");
        assert_eq!(target.sql("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'"), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_mariadb_that_do_not_come_back_exactly_are_said_or_refused_at_the_full() {
    for options in [ServerOptions::mariadb, ServerOptions::mariadb_11] {
        let source = options().start();
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        source.sql(
            "CREATE DATABASE d; USE d; CREATE TABLE rotating (id INT PRIMARY KEY) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME LIMIT 9 PARTITIONS 3; \
             CREATE TABLE by_time (id INT PRIMARY KEY) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME INTERVAL 1 YEAR PARTITIONS 3",
        );
        let Content::Logical(content) = back_up(&source, &store).await.content;
        let said: Vec<_> = content.warnings.iter().filter(|w| w.contains("SYSTEM_TIME LIMIT")).collect();
        assert!(said.len() == 1 && said[0].contains("`d`.`rotating`"), "{:#?}", content.warnings);
        source.sql(
            "CREATE TABLE d.by_id (id INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, \
             PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING",
        );
        let (config, at) = (small(), endpoint(&source));
        let full = logical::run(&config, &at, &store, Progress::default(), CancellationToken::new());
        let refused = full.await.unwrap_err().to_string();
        assert!(refused.contains("`d`.`by_id`") && refused.contains("DROP SYSTEM VERSIONING"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_larger_than_the_target_s_redo_log_is_loaded() {
    for (flavor, small_log) in
        [(Flavor::Mysql, "--innodb-redo-log-capacity=8M"), (Flavor::Mariadb, "--innodb-log-file-size=8M")]
    {
        let options = || ServerOptions::of(flavor).arg("--max-allowed-packet=64M");
        let (source, target) = (options().start(), options().arg(small_log).start());
        source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b LONGBLOB); INSERT INTO d.t VALUES (1, REPEAT(RANDOM_BYTES(1024), 12 << 10))");
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = back_up(&source, &store).await;
        let restored = tokio::time::timeout(Duration::from_secs(120), restore(&store, &manifest, &target));
        assert!(restored.await.is_ok(), "{flavor}: it hangs");
        let sum = "CHECKSUM TABLE d.t";
        assert_eq!(target.sql(sum), source.sql(sum), "{flavor}");
    }
}

#[test]
fn a_target_that_makes_other_names_or_takes_no_writes_is_refused_and_left_alone() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql("CREATE DATABASE CamelDb; CREATE TABLE CamelDb.MyTab (a INT PRIMARY KEY)");
        lab.full();
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let lower = "--lower-case-table-names=1";
        let target = ServerOptions::of(flavor).init_arg(lower).arg(lower).start();
        let refused = lab.run(&plan, &target).unwrap_err().to_string();
        assert!(refused.contains("lower_case_table_names is 1, the source's 0"), "{flavor}: {refused}");
        assert_eq!(target.sql("SHOW DATABASES LIKE '%camel%'") + &target.sql("SHOW DATABASES LIKE 'tidemark%'"), "");
        if flavor == Flavor::Mysql {
            let target = ServerOptions::of(flavor).start();
            target.sql("SET GLOBAL super_read_only = ON");
            let refused = lab.run(&plan, &target).unwrap_err().to_string();
            assert!(refused.contains("SET GLOBAL super_read_only = OFF"), "{refused}");
        }
        // The restore's own schema is no source's.
        lab.source.sql("CREATE DATABASE tidemark_restore");
        let (config, source) = (small(), endpoint(&lab.source));
        let full = logical::run(&config, &source, &lab.store, Progress::default(), CancellationToken::new());
        let refused = lab.runtime.block_on(full).unwrap_err().to_string();
        assert!(
            refused.contains("schema tidemark_restore") && refused.contains("drop or rename it"),
            "{flavor}: {refused}"
        );
    }
}

#[test]
fn a_target_whose_settings_differ_takes_what_its_source_took_and_gets_its_settings_back() {
    for flavor in BOTH {
        let options = ServerOptions::of(flavor).arg("--innodb-strict-mode=OFF").arg("--max-allowed-packet=1G");
        let lab = Lab::without_full(options);
        let (roles, user) = match flavor {
            Flavor::Mysql => ("CREATE ROLE r; SET GLOBAL mandatory_roles = 'r'", "DEFAULT ROLE r"),
            Flavor::Mariadb => ("CREATE ROLE r", ""),
        };
        let one = "IDENTIFIED BY 'one'";
        let json = "SELECT CONCAT('[\"', REPEAT('x', 18 << 20), '\"]')";
        lab.source.sql(&format!(
            "{roles}; CREATE DATABASE d; USE d; CREATE USER early {one} {user}; CREATE TABLE doc (id INT PRIMARY KEY, j JSON); \
             CREATE TABLE packed (id INT PRIMARY KEY, t TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8; \
             INSERT INTO doc {}; INSERT INTO packed VALUES (1, 'x')",
            json.replace("SELECT", "SELECT 1,")
        ));
        lab.full();
        lab.source.sql(&format!(
            "USE d; CREATE USER late {one} {user}; INSERT INTO doc {}; \
             CREATE TABLE odd (id INT PRIMARY KEY) ROW_FORMAT=COMPACT KEY_BLOCK_SIZE=4; INSERT INTO odd VALUES (1); \
             CREATE TABLE late_packed (id INT PRIMARY KEY) ROW_FORMAT=COMPRESSED; INSERT INTO late_packed VALUES (7)",
            json.replace("SELECT", "SELECT 2,")
        ));
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let odd: &[&str] = match flavor {
            Flavor::Mysql => &["--max-execution-time=1", "--character-set-server=utf16"],
            Flavor::Mariadb => &["--max-statement-time=0.001", "--character-set-server=utf16", "--old-passwords=1"],
        };
        let names = match flavor {
            Flavor::Mysql => "@@GLOBAL.max_execution_time, @@GLOBAL.mandatory_roles",
            Flavor::Mariadb => "@@GLOBAL.max_statement_time, @@GLOBAL.old_passwords",
        };
        let settings = format!(
            "SET NAMES utf8mb4; SELECT {names}, @@GLOBAL.innodb_file_per_table, @@GLOBAL.innodb_strict_mode, @@GLOBAL.max_allowed_packet, \
             @@GLOBAL.character_set_server"
        );
        let target = ["--innodb-file-per-table=OFF", "--max-allowed-packet=16M"]
            .iter()
            .chain(odd)
            .fold(ServerOptions::of(flavor), |options, arg| options.arg(arg))
            .start();
        let before = target.sql(&settings);
        lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor}: {e}"));
        assert_eq!(target.sql(&settings), before, "{flavor}");
        // With its own settings it could not even read its documents.
        let limit = names.split(", ").next().unwrap();
        target.sql(&format!("SET GLOBAL max_allowed_packet = 1 << 30; SET {limit} = 0"));
        for table in ["doc", "packed", "odd", "late_packed"] {
            for sql in [format!("CHECKSUM TABLE d.{table}"), format!("SHOW CREATE TABLE d.{table}")] {
                assert_eq!(target.sql(&sql), lab.source.sql(&sql), "{flavor} {table}");
            }
        }
        for account in ["early", "late"] {
            let sql = format!("SHOW CREATE USER {account}");
            assert_eq!(target.sql(&sql), lab.source.sql(&sql), "{flavor} {account}");
        }
    }
}

#[test]
fn what_users_made_in_the_servers_own_schemas_comes_back() {
    for flavor in BOTH {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql(
            "CREATE TABLE mysql.heartbeat (id INT PRIMARY KEY, value BIGINT); INSERT INTO mysql.heartbeat VALUES (1, 10); \
             CREATE TABLE mysql.notes (t TEXT) ENGINE=MyISAM; INSERT INTO mysql.notes VALUES ('x'); \
             CREATE TABLE sys.mine (id INT PRIMARY KEY); INSERT INTO sys.mine VALUES (3); \
             CREATE VIEW sys.view_of_mine AS SELECT id FROM sys.mine; CREATE PROCEDURE mysql.p() SELECT 1; \
             CREATE FUNCTION sys.f() RETURNS INT DETERMINISTIC RETURN 7; CREATE VIEW mysql.v AS SELECT sys.f() AS n",
        );
        lab.full();
        lab.source.sql(
            "UPDATE mysql.heartbeat SET value = 11; INSERT INTO mysql.notes VALUES ('y'); DELETE FROM sys.mine; INSERT INTO sys.mine VALUES (4); \
             DROP PROCEDURE mysql.p; CREATE PROCEDURE mysql.q() SELECT 2; CREATE OR REPLACE VIEW sys.view_of_mine AS SELECT id + 1 AS id FROM sys.mine",
        );
        lab.archive();
        let plan = lab.plan(&request(Target::Latest)).unwrap();
        let target = ServerOptions::of(flavor).start();
        lab.run(&plan, &target).unwrap_or_else(|e| panic!("{flavor}: {e}"));
        for sql in [
            "SELECT * FROM mysql.heartbeat",
            "SELECT * FROM mysql.notes",
            "SELECT * FROM sys.view_of_mine",
            "SELECT * FROM mysql.v",
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ('mysql', 'sys') ORDER BY 1, 2",
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('mysql', 'sys') ORDER BY 1, 2",
        ] {
            assert_eq!(target.sql(sql), lab.source.sql(sql), "{flavor}: {sql}");
        }
    }
}
