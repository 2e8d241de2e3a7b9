//! Full backups under load and DDL, of big rows; loads that are cut off, refused or fed damaged objects.

use std::process::Stdio;
use std::time::Duration;

use tidemark::archive::keys;
use tidemark::archive::manifest::{Content, FullManifest};
use tidemark::archive::store::Store;
use tidemark::backup::logical;
use tidemark::model::{Flavor, GtidSet, Progress};
use tidemark::mysql::endpoint::Endpoint;
use tidemark::mysql::wire::Connection;
use tidemark::restore::base::{self, BaseConfig, BaseError};
use tidemark::restore::plan::Target;
use tokio_util::sync::CancellationToken;

use crate::fidelity::{back_up, back_up_as, endpoint, folder, restore, small};
use crate::lab::{Lab, request};
use crate::support::{Server, ServerOptions, wait_for};

const LONG: Duration = Duration::from_secs(300);

pub const BANK: &str = "CREATE DATABASE bank; USE bank;
  CREATE TABLE accounts (id INT PRIMARY KEY, balance INT NOT NULL);
  CREATE TABLE ledger (id BIGINT AUTO_INCREMENT PRIMARY KEY, f INT, t INT, amount INT);
  CREATE TABLE filler (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(255));
  INSERT INTO accounts VALUES (1,1000),(2,1000),(3,1000),(4,1000),(5,1000),(6,1000),(7,1000),(8,1000);
  INSERT INTO filler (v) VALUES (REPEAT('x',200)),(REPEAT('y',200));
  INSERT INTO filler (v) SELECT a.v FROM filler a, filler b, filler c, filler d, filler e, filler f, filler g, filler h, filler i, filler j, filler k, filler l, filler m, filler n;
  CREATE TABLE stop (id INT);
  DELIMITER //
  CREATE PROCEDURE transfers() BEGIN
    DECLARE a INT; DECLARE b INT; DECLARE x INT;
    REPEAT
      SET a = 1 + FLOOR(RAND() * 4), b = 5 + FLOOR(RAND() * 4), x = FLOOR(RAND() * 10);
      START TRANSACTION;
      UPDATE accounts SET balance = balance - x WHERE id = a;
      UPDATE accounts SET balance = balance + x WHERE id = b;
      INSERT INTO ledger (f, t, amount) VALUES (a, b, x);
      COMMIT;
      -- A writer that never pauses keeps LOCK TABLES from ever being given (MySQL's rule).
      DO SLEEP(0.001);
    UNTIL EXISTS (SELECT 1 FROM stop) END REPEAT;
  END//";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_under_writes_is_one_moment_of_mysql_and_names_its_gtids() {
    one_moment(Flavor::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_under_writes_is_one_moment_of_mariadb_and_names_its_gtids() {
    one_moment(Flavor::Mariadb).await;
}

async fn one_moment(flavor: Flavor) {
    let source = ServerOptions::of(flavor).start();
    moment_as(&source, endpoint(&source)).await;
}

/// A full by that account, while money moves.
pub async fn moment_as(source: &Server, account: Endpoint) {
    let flavor = source.flavor();
    let target = ServerOptions::of(flavor).start();
    source.sql(BANK);
    let before = GtidSet::parse(flavor, &source.gtids()).unwrap();
    let mut writers: Vec<_> = (0..3)
        .map(|_| source.client().args(["-e", "CALL bank.transfers()"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    wait_for("transfers", LONG, || (source.sql("SELECT COUNT(*) > 50 FROM bank.ledger") == "1").then_some(()));
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up_as(&account, &store).await;
    let count = || source.sql("SELECT COUNT(*) FROM bank.ledger").parse::<u64>().unwrap();
    let at_end = count();
    let count_at_end = wait_for("more transfers", LONG, || Some(count()).filter(|count| *count > at_end));
    source.sql("INSERT INTO bank.stop VALUES (1)");
    writers.iter_mut().for_each(|writer| assert!(writer.wait().unwrap().success()));
    restore(&store, &manifest, &target).await;
    assert_eq!(target.sql("SELECT SUM(balance) FROM bank.accounts"), "8000");
    let ledger: u64 = target.sql("SELECT COUNT(*) FROM bank.ledger").parse().unwrap();
    assert!(ledger > 50 && ledger < count_at_end, "writes went on: {ledger} of {count_at_end}");
    // Every transfer is one transaction: the GTID set says exactly how many the copy holds.
    assert_eq!(manifest.gtids.difference(&before).count(), ledger);
    let moved = "SELECT (SELECT SUM(amount) FROM bank.ledger WHERE t = 5) = (SELECT balance - 1000 FROM bank.accounts WHERE id = 5)";
    assert_eq!(target.sql(moved), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_during_a_full_of_mysql_begins_it_again_and_the_copy_is_whole() {
    ddl_during_a_full(Flavor::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_during_a_full_of_mariadb_begins_it_again_and_the_copy_is_whole() {
    ddl_during_a_full(Flavor::Mariadb).await;
}

async fn ddl_during_a_full(flavor: Flavor) {
    let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
    source.sql(BANK);
    let mut ddl = source
        .client()
        .args(["-e", "SELECT SLEEP(0.02); ALTER TABLE bank.filler ADD COLUMN n INT DEFAULT 7; ALTER TABLE bank.ledger RENAME bank.book;"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    assert!(ddl.wait().unwrap().success());
    restore(&store, &manifest, &target).await;
    // Whichever side of the DDL it shows, the GTIDs say the same.
    let after: bool = manifest.gtids.to_string().replace('\n', "") == source.gtids();
    let columns = target.sql("SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_NAME = 'filler'");
    assert!(!after || columns == "3", "{columns} columns, {}", manifest.gtids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_of_mysql_under_endless_ddl_ends_and_is_one_moment() {
    endless_ddl(Flavor::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_of_mariadb_under_endless_ddl_ends_and_is_one_moment() {
    endless_ddl(Flavor::Mariadb).await;
}

/// Round by round three DDLs: a table comes, another one's comment says which round it is, the table goes.
const CHURN: &str =
    "CREATE DATABASE churn; USE churn; CREATE TABLE stop (id INT); CREATE TABLE round (id INT PRIMARY KEY) COMMENT '0';
  CREATE TABLE odd (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO odd VALUES (1);
  DELIMITER //
  CREATE PROCEDURE churn() BEGIN
    DECLARE k INT DEFAULT 0;
    REPEAT
      SET k = k + 1;
      CREATE TABLE coming (id INT PRIMARY KEY);
      SET @sql = CONCAT('ALTER TABLE round COMMENT ''', k, '''');
      PREPARE said FROM @sql; EXECUTE said;
      DROP TABLE coming;
    UNTIL EXISTS (SELECT 1 FROM stop) END REPEAT;
  END//";

async fn endless_ddl(flavor: Flavor) {
    let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
    source.sql(BANK);
    source.sql(CHURN);
    let before = GtidSet::parse(flavor, &source.gtids()).unwrap();
    let mut ddl = source.client().args(["churn", "-e", "CALL churn()"]).stdout(Stdio::null()).spawn().unwrap();
    let comment = "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_NAME = 'round'";
    let round = |server: &Server| server.sql(comment).parse::<u64>().unwrap();
    wait_for("DDL", LONG, || (round(&source) > 10).then_some(()));
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    let at_end = round(&source);
    // It waits no longer.
    wait_for("more DDL", LONG, || (round(&source) > at_end + 5).then_some(()));
    source.sql("INSERT INTO churn.stop VALUES (1)");
    assert!(ddl.wait().unwrap().success());
    restore(&store, &manifest, &target).await;
    let done = manifest.gtids.difference(&before).count();
    assert!(done > 30, "{done}");
    assert_eq!(round(&target), (done + 1) / 3, "{done} DDLs");
    let coming = target.sql("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME = 'coming'");
    assert_eq!(coming == "1", done % 3 != 0, "{done} DDLs");
    assert_eq!(target.sql("SELECT COUNT(*) FROM bank.filler"), source.sql("SELECT COUNT(*) FROM bank.filler"));
}

/// A bank with a table that knows no transactions, and an empty server to load it into.
fn bank_and_target(flavor: Flavor) -> (Server, Server) {
    let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
    source.sql(BANK);
    source.sql("CREATE TABLE bank.plain (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO bank.plain VALUES (1),(2)");
    (source, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_cut_off_goes_on_and_ends_the_same() {
    let (source, target) = bank_and_target(Flavor::Mysql);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    let config = BaseConfig { connections: 2, defer_keys_above_bytes: 1, ..BaseConfig::default() };
    for rows in [0, 1, 5000, 9000] {
        let progress = Progress::default();
        let cut = async {
            while progress.read().phase != "rows" || progress.read().done_rows < rows {
                tokio::task::yield_now().await;
            }
        };
        let at = endpoint(&target);
        let load = base::load(&store, &manifest, &at, &config, progress.clone(), CancellationToken::new());
        // A dropped load is to the server what a killed process is: connections that end.
        tokio::select! { () = cut => {}, _ = load => {} }
    }
    restore(&store, &manifest, &target).await;
    for table in ["accounts", "ledger", "filler", "plain"] {
        let sql = format!("CHECKSUM TABLE bank.{table}");
        assert_eq!(source.sql(&sql), target.sql(&sql));
    }
    assert_eq!(
        target.sql("SELECT @@GLOBAL.local_infile, @@GLOBAL.innodb_flush_log_at_trx_commit"),
        source.sql("SELECT @@GLOBAL.local_infile, @@GLOBAL.innodb_flush_log_at_trx_commit")
    );
}

/// A load that dies when the tables are there, before their rows are.
async fn make_tables(store: &Store, manifest: &FullManifest, at: &Endpoint) {
    let (config, progress) = (BaseConfig { connections: 1, ..BaseConfig::default() }, Progress::default());
    let tables_are_made = async {
        while progress.read().phase != "rows" {
            tokio::task::yield_now().await;
        }
    };
    let load = base::load(store, manifest, at, &config, progress.clone(), CancellationToken::new());
    tokio::select! { () = tables_are_made => {}, _ = load => panic!("the load ended") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_when_it_had_dropped_a_table_to_make_it_anew_goes_on() {
    let (source, target) = bank_and_target(Flavor::Mysql);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    make_tables(&store, &manifest, &endpoint(&target)).await;
    target.sql("DROP TABLE bank.plain");
    restore(&store, &manifest, &target).await;
    assert_eq!(source.sql("CHECKSUM TABLE bank.plain"), target.sql("CHECKSUM TABLE bank.plain"));
}

/// Connections of `server` that wait to run this statement.
fn waiting(server: &Server, statement: &str) -> Vec<String> {
    let list = "SELECT ID, INFO FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%'";
    server.rows(list).into_iter().filter(|row| row[1] == statement).map(|row| row[0].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_that_died_left_at_work_on_the_server_is_ended_before_the_next_one_goes_on() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let (source, target) = bank_and_target(flavor);
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = back_up(&source, &store).await;
        let (at, config) = (endpoint(&target), BaseConfig { connections: 1, ..BaseConfig::default() });
        make_tables(&store, &manifest, &at).await;

        // The next one dies while the server has it wait for this table.
        let mut reader = target
            .client()
            .args(["-e", "LOCK TABLES bank.plain READ; SELECT 'reads', SLEEP(600)"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let of_reader = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT \\'reads%'";
        let reading = wait_for("the reader", LONG, || target.rows(of_reader).pop());
        let drop_table = "DROP TABLE IF EXISTS `bank`.`plain`";
        let load = || {
            let (store, manifest, at, config) = (store.clone(), manifest.clone(), at.clone(), config.clone());
            tokio::spawn(async move {
                let stop = CancellationToken::new();
                base::load(&store, &manifest, &at, &config, Progress::default(), stop).await.map(drop)
            })
        };
        let left = loop {
            let dies = load();
            let left = wait_for("the load to wait", Duration::from_secs(60), || waiting(&target, drop_table).pop());
            dies.abort();
            assert!(dies.await.unwrap_err().is_cancelled());
            match waiting(&target, drop_table).as_slice() {
                // MariaDB looks once a second whether who waits is still there: it knows already.
                [] => {}
                waiting => {
                    assert_eq!(waiting, [left.as_str()], "{flavor}");
                    break left;
                }
            }
        };

        let next = load();
        wait_for("the next load to wait", Duration::from_secs(60), || {
            waiting(&target, drop_table).into_iter().find(|id| *id != left)
        });
        target.sql(&format!("KILL {}", reading[0]));
        next.await.unwrap().unwrap();
        reader.wait().unwrap();
        assert_eq!(source.sql("CHECKSUM TABLE bank.plain"), target.sql("CHECKSUM TABLE bank.plain"), "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_the_source_ignores_come_back_or_are_named() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let (mut source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
        source.sql("CREATE USER 'named'@'db.example.com'; CREATE USER 'numbered'@'10.0.0.1'");
        source.restart_with("--skip-name-resolve");
        let dir = tempfile::tempdir().unwrap();
        let store = folder(dir.path());
        let manifest = back_up(&source, &store).await;
        restore(&store, &manifest, &target).await;
        let accounts = "SELECT GROUP_CONCAT(user ORDER BY user) FROM mysql.user WHERE user IN ('named', 'numbered')";
        let Content::Logical(content) = &manifest.content;
        match flavor {
            Flavor::Mysql => assert_eq!(target.sql(accounts), "named,numbered"),
            // It shows nothing of an account that it ignores.
            Flavor::Mariadb => {
                assert_eq!(target.sql(accounts), "numbered");
                let told = content.warnings.iter().any(|warning| warning.contains("`named`@`db.example.com`"));
                assert!(told, "{:?}", content.warnings);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_loses_a_deadlock_is_loaded_again() {
    let (source, target) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    source.sql(BANK);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    // Cut off when its tables are there.
    let (at, config, progress) =
        (endpoint(&target), BaseConfig { connections: 1, ..BaseConfig::default() }, Progress::default());
    let cut = async {
        while progress.read().phase != "rows" {
            tokio::task::yield_now().await;
        }
    };
    let load = base::load(&store, &manifest, &at, &config, progress.clone(), CancellationToken::new());
    tokio::select! { biased; () = cut => {}, _ = load => {} }
    // Somebody who has done more than a part holds has the last row, and wants the one before once the load waits for that.
    let mut other = Connection::connect(&at).await.unwrap();
    for sql in [
        "CREATE DATABASE work",
        "CREATE TABLE work.t (a INT PRIMARY KEY)",
        "SET SESSION cte_max_recursion_depth = 100000",
        "BEGIN",
        "INSERT INTO work.t WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 50000) SELECT a FROM n",
    ] {
        other.exec(sql).await.unwrap();
    }
    let last: u64 = source.sql("SELECT MAX(id) FROM bank.filler").parse().unwrap();
    let before: u64 = source.sql(&format!("SELECT MAX(id) FROM bank.filler WHERE id < {last}")).parse().unwrap();
    other.exec(&format!("INSERT INTO bank.filler (id) VALUES ({last})")).await.unwrap();
    let deadlock = async {
        // Not INNODB_TRX: what that shows stands still while somebody reads it more than ten times a second.
        let waiting = "SELECT 1 FROM performance_schema.data_lock_waits LIMIT 1";
        while other.query(waiting).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.query(&format!("SELECT id FROM bank.filler WHERE id = {before} FOR UPDATE")).await.unwrap();
        other.exec("ROLLBACK").await.unwrap();
    };
    tokio::join!(restore(&store, &manifest, &target), deadlock);
    let deadlocks = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'";
    assert_eq!(target.sql(deadlocks), "1");
    let sum = "CHECKSUM TABLE bank.filler";
    assert_eq!(source.sql(sum), target.sql(sum));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_objects_and_targets_are_refused_by_name() {
    let (source, target) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    source.sql(BANK);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    let load = async |target: &Server| {
        base::load(
            &store,
            &manifest,
            &endpoint(target),
            &BaseConfig::default(),
            Progress::default(),
            CancellationToken::new(),
        )
        .await
    };

    let object = manifest.objects.iter().find(|object| object.key.contains("filler")).unwrap();
    let path = dir.path().join(&object.key);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 10;
    bad[last] ^= 1;
    for damage in [Some(bad), Some(good[..good.len() / 2].to_vec()), None] {
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let refused = load(&target).await.unwrap_err().to_string();
        assert!(refused.contains(&object.key), "{refused}");
        assert_eq!(target.sql("SELECT COUNT(*) FROM bank.filler"), "0");
    }
    std::fs::write(&path, &good).unwrap();
    load(&target).await.unwrap();
    // One changed row on the target is found.
    target.sql("UPDATE bank.filler SET v = 'z' WHERE id = 77");
    let (at, config) = (endpoint(&target), BaseConfig::default());
    let differs = base::verify(&store, &manifest, &at, &config, Progress::default(), CancellationToken::new());
    assert!(matches!(differs.await, Err(BaseError::Differs { table, .. }) if table.contains("filler")));

    let other = ServerOptions::mariadb().start();
    assert!(matches!(load(&other).await, Err(BaseError::WrongServer { .. })));
    assert!(matches!(load(&source).await, Err(BaseError::NotEmpty { what }) if what.contains("bank")));
    source.sql("CREATE USER weak@'%' IDENTIFIED BY 'w'; GRANT SELECT ON bank.* TO weak@'%'");
    let weak = tidemark::mysql::endpoint::Endpoint { user: "weak".into(), password: "w".into(), ..endpoint(&source) };
    let refused = logical::run(&small(), &weak, &store, Progress::default(), CancellationToken::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("GRANT SELECT"), "{refused}");
    assert_eq!(
        store.list(keys::FULLS).await.unwrap().iter().filter(|object| object.key.ends_with("manifest.json")).count(),
        1
    );
}

#[test]
fn four_byte_characters_in_definitions_come_back_or_are_told() {
    const DEFAULTS: &str = "CREATE TABLE e.o (a INT PRIMARY KEY, e ENUM('😀','b') DEFAULT '😀'); \
                            CREATE TABLE e.d (a INT PRIMARY KEY, d VARCHAR(20) DEFAULT '😀x')";
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        lab.source.sql(
            "CREATE DATABASE e CHARACTER SET utf8mb4; CREATE TABLE e.t (e ENUM('😀','b')); INSERT INTO e.t VALUES (1),(2); \
             CREATE TABLE e.s (s SET('😀','🙂x')); INSERT INTO e.s VALUES (3)",
        );
        if flavor == Flavor::Mysql {
            lab.source.sql(DEFAULTS);
        }
        lab.full();
        lab.archive();
        let (target, _) = lab.restore(&request(Target::Latest));
        let mut queries = vec!["SELECT HEX(e) FROM e.t ORDER BY e", "SELECT HEX(s) FROM e.s"];
        if flavor == Flavor::Mysql {
            for server in [&lab.source, &target] {
                server.sql("INSERT INTO e.d (a) VALUES (1); INSERT INTO e.o (a) VALUES (1)");
            }
            queries.extend(["SELECT HEX(e) FROM e.o", "SELECT HEX(d) FROM e.d"]);
        }
        for query in queries {
            assert_eq!(target.sql(query), lab.source.sql(query), "{flavor}: {query}");
        }
        // MariaDB shows a default nowhere as it is.
        if flavor == Flavor::Mariadb {
            lab.source.sql(DEFAULTS);
            let Content::Logical(content) = lab.runtime.block_on(back_up(&lab.source, &lab.store)).content;
            let told = content.warnings.join("\n");
            assert!(
                told.contains("`e`.`o`: the DEFAULT of column e") && told.contains("`e`.`d`: the DEFAULT of column d"),
                "{told}"
            );
        }
    }
}

#[test]
fn accounts_of_odd_hosts_subjects_and_expired_passwords_come_back() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::without_full(ServerOptions::of(flavor));
        let (hosts, table, order) = match flavor {
            Flavor::Mysql => (
                "CREATE USER hh@'' IDENTIFIED BY 'one', hh@'%' IDENTIFIED BY 'two'; CREATE USER ''@''; CREATE USER ''@'localhost'; \
                 GRANT SELECT ON *.* TO hh@''",
                "SELECT User, Host, HEX(authentication_string), password_expired, HEX(x509_subject), HEX(x509_issuer) FROM mysql.user",
                "ORDER BY 1, 2",
            ),
            Flavor::Mariadb => (
                "CREATE USER pl@'%' IDENTIFIED BY 'x' ACCOUNT LOCK PASSWORD EXPIRE",
                "SELECT User, Host, HEX(authentication_string), password_expired, HEX(x509_subject), HEX(x509_issuer) FROM mysql.user",
                "ORDER BY 1, 2",
            ),
        };
        lab.source.sql(hosts);
        lab.source.sql(
            "CREATE USER pe@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE; CREATE USER s1@'%' REQUIRE SUBJECT '/CN=O\\'Brien' AND ISSUER '/CN=a\\\\nb'; \
             CREATE USER s2@'%' REQUIRE SUBJECT '/CN=a\\\\nb'",
        );
        lab.full();
        lab.archive();
        let (target, _) = lab.restore(&request(Target::Latest));
        let accounts = |server: &Server| server.sql(&format!("{table} WHERE User <> 'root' {order}"));
        assert_eq!(accounts(&target), accounts(&lab.source), "{flavor}");
        if flavor == Flavor::Mariadb {
            let changed = "SELECT User, JSON_VALUE(Priv, '$.password_last_changed') FROM mysql.global_priv WHERE User IN ('pe', 'pl') ORDER BY 1";
            assert_eq!(target.sql(changed), "pe\t0\npl\t0");
        } else {
            assert_eq!(target.sql("SHOW GRANTS FOR hh@''"), lab.source.sql("SHOW GRANTS FOR hh@''"));
        }
    }
}
