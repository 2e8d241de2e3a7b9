//! Binlog files of real servers, in every shape they write, against what the servers' own tools say of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use tidemark::model::gtid::{IntervalSet, MariadbGtid, MariadbGtidSet};
use tidemark::model::{Flavor, GtidSet, OpenTransaction};
use tidemark::mysql::event::{
    ChecksumAlgorithm, EventHeader, EventType, FileScanner, FormatDescription, GtidList, Rotate, Scan, ScanError, Step,
    TrackError, Transaction, TransactionTracker, crc_is_right, parse_previous_gtids, write,
};

use crate::support::{Server, ServerOptions};

/// A kept event: header, offset, head of the body.
type Event = (EventHeader, u64, Vec<u8>);

/// Splits a whole file, given in pieces of `chunk` bytes.
fn scan(bytes: &[u8], chunk: usize) -> Result<Vec<Event>, ScanError> {
    let mut scanner = FileScanner::new();
    let mut events = Vec::new();
    for mut piece in bytes.chunks(chunk) {
        while let Some(event) = scanner.next_event(&mut piece)? {
            events.push((event.header, event.offset, event.body.to_vec()));
        }
    }
    scanner.finish()?;
    Ok(events)
}

fn track(mut tracker: TransactionTracker, events: &[Event]) -> Result<Vec<Transaction>, TrackError> {
    let mut transactions = Vec::new();
    for (header, offset, body) in events {
        if let Step::Ended(transaction) = tracker.step(header, *offset, body)? {
            transactions.push(transaction);
        }
    }
    assert_eq!(tracker.open(), None, "a file of a server that was not killed ends between transactions");
    Ok(transactions)
}

/// What the stock tool's text says of a transaction.
#[derive(Debug, PartialEq, Eq)]
struct Stated {
    /// Empty where the transaction is anonymous.
    gtid: String,
    /// MySQL's immediate commit time; 0 for MariaDB.
    commit_us: i64,
    start: u64,
    end: u64,
}

/// Reads the stock tool's text of a file: a transaction goes from its GTID event to the last event before the next
/// GTID event or an event about files.
fn stated_by_stock_tool(server: &Server, path: &Path) -> Vec<Stated> {
    let mut command = server.binlog_command();
    command
        .args(["--no-defaults", "--force-if-open", "--verify-binlog-checksum", "--base64-output=DECODE-ROWS"])
        .arg(path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut stated, mut at, mut open): (Vec<Stated>, u64, bool) = (Vec::new(), 0, false);
    for line in text.lines() {
        if let Some(offset) = line.strip_prefix("# at ") {
            at = offset.parse().unwrap();
        } else if let Some((head, rest)) = line.split_once(" end_log_pos ")
            && head.starts_with('#')
            && head.contains(" server id ")
        {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let end = digits.parse().unwrap();
            let kind = rest.split('\t').nth(1).unwrap_or_default();
            let word = kind.split(' ').next().unwrap_or_default();
            match word {
                "GTID" | "Anonymous_GTID" => {
                    let gtid = kind.split(' ').nth(1).unwrap_or_default().to_owned();
                    let commit = rest.split("immediate_commit_timestamp=").nth(1).and_then(|t| t.split('\t').next());
                    stated.push(Stated { gtid, commit_us: commit.map_or(0, |us| us.parse().unwrap()), start: at, end });
                    open = true;
                }
                "Start:" | "Previous-GTIDs" | "Gtid" | "Binlog" | "Rotate" | "Stop" => open = false,
                _ if open => stated.last_mut().unwrap().end = end,
                other => panic!("{other} outside of a transaction at {at} of {}", path.display()),
            }
        } else if let Some(next) = line.strip_prefix("SET @@SESSION.GTID_NEXT= '") {
            let gtid = next.split('\'').next().unwrap();
            if gtid != "ANONYMOUS" && gtid != "AUTOMATIC" {
                stated.last_mut().unwrap().gtid = gtid.to_owned();
            }
        }
    }
    stated
}

/// Everything that must hold for one file; returns its transactions.
fn check_file(server: &Server, path: &Path) -> Vec<Transaction> {
    let bytes = fs::read(path).unwrap();
    let events = scan(&bytes, 65_521).unwrap();
    let sizes: u64 = events.iter().map(|(header, ..)| u64::from(header.event_size)).sum();
    assert_eq!(sizes + 4, bytes.len() as u64, "every byte belongs to an event");
    let transactions = track(TransactionTracker::new(), &events).unwrap();

    let stated = stated_by_stock_tool(server, path);
    assert_eq!(transactions.len(), stated.len(), "{}", path.display());
    for (found, stated) in transactions.iter().zip(&stated) {
        let commit = found.commit.expect("every server of today states it").0;
        let gtid = found.gtid.as_ref().map(ToString::to_string).unwrap_or_default();
        let commit_us = if server.flavor() == Flavor::Mysql { commit } else { 0 };
        assert_eq!(&Stated { gtid, commit_us, start: found.start, end: found.end }, stated, "{}", path.display());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64;
        assert!((now - 3_600_000_000..now + 1_000_000).contains(&commit), "commit time {commit}, now {now}");
    }
    if bytes.len() < 1 << 14 {
        for chunk in [1, 7, 4096] {
            assert_eq!(scan(&bytes, chunk).unwrap(), events, "in pieces of {chunk} bytes");
        }
        resuming_at_any_event_finds_the_same(&events, &transactions);
        no_damage_passes(&bytes, &transactions);
    }
    transactions
}

/// A tracker restored from its stored form goes on as if never stopped.
fn resuming_at_any_event_finds_the_same(events: &[Event], transactions: &[Transaction]) {
    let mut tracker = TransactionTracker::new();
    let mut head = true;
    for (index, (header, offset, body)) in events.iter().enumerate() {
        if !head {
            let stored = serde_json::to_string(&tracker.open()).unwrap();
            let open: Option<OpenTransaction> = serde_json::from_str(&stored).unwrap();
            let rest = track(TransactionTracker::resume(*offset, open), &events[index..]).unwrap();
            let expected: Vec<_> =
                transactions.iter().filter(|transaction| transaction.end > *offset).cloned().collect();
            assert_eq!(rest, expected, "resumed at {offset}");
        }
        head &= tracker.step(header, *offset, body).unwrap() == Step::Head;
    }
}

/// With checksums no flipped byte passes; a cut shows within an event, and an event left out shows by its transaction.
fn no_damage_passes(bytes: &[u8], transactions: &[Transaction]) {
    let events = scan(bytes, bytes.len()).unwrap();
    let format = FormatDescription::parse(&events[0].0, &events[0].2).unwrap();
    let mut damaged = bytes.to_vec();
    for at in 0..bytes.len() {
        damaged[at] ^= 0x40;
        let result = scan(&damaged, bytes.len());
        assert!(format.checksum == ChecksumAlgorithm::Off || result.is_err(), "the byte at {at} was changed unnoticed");
        damaged[at] ^= 0x40;
    }
    let ends: BTreeSet<u64> = events.iter().map(|(header, offset, _)| offset + u64::from(header.event_size)).collect();
    for cut in 0..=bytes.len() {
        let whole = scan(&bytes[..cut], bytes.len()).is_ok();
        assert_eq!(whole, ends.contains(&(cut as u64)), "cut at {cut}");
    }
    for left_out in 1..events.len() {
        let mut tracker = TransactionTracker::new();
        let mut fewer = events.clone();
        let (gone, at, _) = fewer.remove(left_out);
        fewer[left_out..].iter_mut().for_each(|(_, offset, _)| *offset -= u64::from(gone.event_size));
        let result: Result<Vec<_>, _> =
            fewer.iter().map(|(header, at, body)| tracker.step(header, *at, body)).collect();
        let of_data = transactions.iter().any(|transaction| (transaction.start..transaction.end).contains(&at));
        let mysql = format.flavor() == Flavor::Mysql;
        assert!(
            !(of_data && mysql) || result.is_err() || tracker.open().is_some(),
            "{} at {at} was left out unnoticed",
            gone.event_type
        );
    }
}

/// Every file of the server: its own checks, and what the files say of each other and of the server's GTIDs.
fn check_server(server: &Server) -> usize {
    let mut executed = GtidSet::empty(server.flavor());
    let (mut count, mut next_file) = (0, None);
    for path in server.binlogs() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(next_file.is_none() || next_file.as_deref() == Some(name.as_str()), "{name} follows {next_file:?}");
        next_file = None;
        let events = scan(&fs::read(&path).unwrap(), 1 << 20).unwrap();
        let format = FormatDescription::parse(&events[0].0, &events[0].2).unwrap();
        assert_eq!(format.flavor(), server.flavor());
        assert!(server.sql("SELECT VERSION()").contains(&format.server_version));
        for (header, _, body) in &events {
            let previous = match header.event_type {
                EventType::PREVIOUS_GTIDS => GtidSet::Mysql(parse_previous_gtids(body).unwrap()),
                EventType::GTID_LIST => GtidSet::Mariadb(GtidList::parse(body).unwrap().executed()),
                EventType::ROTATE => {
                    next_file = Some(Rotate::parse(body).unwrap().next_file);
                    continue;
                }
                _ => continue,
            };
            assert_eq!(previous, as_stated(&executed), "what {name} says was executed before it");
        }
        for transaction in check_file(server, &path) {
            count += 1;
            if let Some(gtid) = transaction.gtid {
                assert!(executed.insert(&gtid).unwrap(), "{gtid} is there twice");
            }
        }
    }
    // The server's text of the set, or of the position, is ours.
    match &executed {
        GtidSet::Mysql(set) => assert_eq!(set.to_string(), server.gtids()),
        GtidSet::Mariadb(set) => {
            let position: MariadbGtidSet = server.gtids().parse().unwrap();
            assert_eq!(set.position(), position.position());
        }
    }
    count
}

/// What a server states that has executed `set`: MariaDB names the last transaction of each server, which says no writers of the others.
fn as_stated(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::Mysql(_) => set.clone(),
        GtidSet::Mariadb(set) => {
            let last = |(domain, server, numbers): (u32, u32, &IntervalSet)| {
                numbers.last().map(|seq| MariadbGtid { domain, server, seq })
            };
            let state: Vec<MariadbGtid> = set.writers().filter_map(last).collect();
            GtidSet::Mariadb(MariadbGtidSet::of_state(&state))
        }
    }
}

const MYSQL_SHAPES: &str = "
    CREATE DATABASE d; USE d;
    CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB); CREATE TABLE m (id INT) ENGINE=MyISAM;
    INSERT INTO a (v) VALUES ('x'); CREATE TABLE b SELECT id FROM a; CREATE TEMPORARY TABLE tmp (id INT); DROP TABLE tmp;
    BEGIN; INSERT INTO a (v) VALUES ('s'); SAVEPOINT s; UPDATE a SET v = 't'; ROLLBACK TO s; DELETE FROM a LIMIT 1; COMMIT;
    XA START 'x1'; INSERT INTO a (v) VALUES ('q'); XA END 'x1'; XA PREPARE 'x1';
    XA COMMIT 'x1';
    XA START 'x2', 'branch', 7; INSERT INTO a (v) VALUES ('q'); XA END 'x2', 'branch', 7; XA PREPARE 'x2', 'branch', 7;
    XA ROLLBACK 'x2', 'branch', 7;
    XA START 'x3'; INSERT INTO a (v) VALUES ('q'); XA END 'x3'; XA COMMIT 'x3' ONE PHASE;
    SET binlog_format = STATEMENT;
    SET @v = 'uservar'; INSERT INTO a (v) VALUES (CONCAT(@v, RAND(), UUID())); INSERT INTO m VALUES (LAST_INSERT_ID());
    CREATE TEMPORARY TABLE tmp (id INT); DROP TEMPORARY TABLE tmp; TRUNCATE TABLE b;
    SET binlog_format = ROW; SET binlog_rows_query_log_events = ON; UPDATE a SET v = 'annotated'; FLUSH LOGS;
    SET binlog_transaction_compression = ON;
    INSERT INTO a (v) VALUES (REPEAT('z', 1000)); BEGIN; UPDATE a SET v = 'c'; DELETE FROM a LIMIT 1; COMMIT;
    XA START 'x4'; INSERT INTO a (v) VALUES ('q'); XA END 'x4'; XA PREPARE 'x4'; XA COMMIT 'x4';
    ALTER TABLE a ADD COLUMN c INT; CREATE USER u IDENTIFIED BY 'x'; DROP USER u; FLUSH TABLES;
";

#[test]
fn every_shape_of_mysql_is_split_as_mysqlbinlog_splits_it() {
    let mut server = ServerOptions::mysql().arg("--local-infile=1").start();
    server.sql(MYSQL_SHAPES);
    server.sql(
        "USE d; SET gtid_next = 'AUTOMATIC:Tag_1'; INSERT INTO a (v) VALUES ('tagged'); CREATE TABLE tagged (id INT);
         SET gtid_next = 'F0000000-71CA-11E1-9E33-C80AA94295FF:other:9223372036854775806'; INSERT INTO a (v) VALUES (1);
         SET gtid_next = 'F0000000-71CA-11E1-9E33-C80AA94295FF:4000000000'; BEGIN; COMMIT;
         SET gtid_next = 'AUTOMATIC'; SET GLOBAL binlog_checksum = NONE; INSERT INTO a (v) VALUES ('no checksum');
         XA START 'x5'; INSERT INTO a (v) VALUES ('q'); XA END 'x5'; XA PREPARE 'x5';",
    );
    server.sql("FLUSH LOGS; XA COMMIT 'x5'; SET GLOBAL binlog_checksum = CRC32");
    server.sql(
        "USE d; INSERT INTO a (v) VALUES (2); FLUSH LOGS;
         INSERT INTO a (v) VALUES (REPEAT('20 MB', 4000000)); SET binlog_format = STATEMENT;
         INSERT INTO a (v) VALUES (3);",
    );
    load_data(&server);
    assert!(check_server(&server) > 30);
    server.stop();
    server.restart();
    check_server(&server);
}

/// Transactions over engines with and without rollback, which GTIDs forbid.
const MIXED_ENGINES: &str = "
    USE d; SET binlog_format = STATEMENT;
    BEGIN; INSERT INTO a (v) VALUES ('begin'); INSERT INTO m VALUES (2); ROLLBACK;
    BEGIN; INSERT INTO a (v) VALUES ('commit'); SAVEPOINT s; INSERT INTO m VALUES (3); ROLLBACK TO s; COMMIT;
";

#[test]
fn mysql_without_gtids_is_split_as_mysqlbinlog_splits_it() {
    let server = ServerOptions::mysql().without_gtids().start();
    server.sql(MYSQL_SHAPES);
    server.sql(MIXED_ENGINES);
    assert!(check_server(&server) > 25);
    assert_eq!(server.gtids(), "");
}

const MARIADB_SHAPES: &str = "
    CREATE DATABASE d; USE d;
    CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB); CREATE TABLE m (id INT) ENGINE=MyISAM;
    INSERT INTO a (v) VALUES ('x'), (REPEAT('z', 1000)); CREATE TABLE b SELECT id FROM a; INSERT INTO m VALUES (1);
    CREATE TEMPORARY TABLE tmp (id INT); DROP TABLE tmp;
    BEGIN; INSERT INTO a (v) VALUES ('s'); SAVEPOINT s; UPDATE a SET v = 't'; ROLLBACK TO s; DELETE FROM a LIMIT 1; COMMIT;
    SET gtid_domain_id = 3; INSERT INTO a (v) VALUES ('other domain'); CREATE TABLE c (id INT); SET gtid_domain_id = 0;
    XA START 'x1'; INSERT INTO a (v) VALUES ('q'); XA END 'x1'; XA PREPARE 'x1'; XA COMMIT 'x1';
    XA START 'x2', 'branch', 7; INSERT INTO a (v) VALUES ('q'); XA END 'x2', 'branch', 7; XA PREPARE 'x2', 'branch', 7;
    XA ROLLBACK 'x2', 'branch', 7;
    XA START 'x3'; INSERT INTO a (v) VALUES ('q'); XA END 'x3'; XA COMMIT 'x3' ONE PHASE;
    SET binlog_format = STATEMENT;
    SET @v = 'uservar'; INSERT INTO a (v) VALUES (CONCAT(@v, RAND())); INSERT INTO m VALUES (LAST_INSERT_ID());
    BEGIN; INSERT INTO a (v) VALUES ('begin'); INSERT INTO m VALUES (2); ROLLBACK;
    BEGIN; INSERT INTO a (v) VALUES ('commit'); SAVEPOINT s; INSERT INTO m VALUES (3); ROLLBACK TO s; COMMIT;
    CREATE TEMPORARY TABLE tmp (id INT); INSERT INTO tmp VALUES (1); DROP TEMPORARY TABLE tmp; TRUNCATE TABLE b;
    SET binlog_format = ROW; CREATE SEQUENCE s; SELECT NEXTVAL(s); SET binlog_alter_two_phase = ON;
    ALTER TABLE a ADD COLUMN c INT, ALGORITHM = COPY; CREATE OR REPLACE TABLE c AS SELECT id FROM a; ANALYZE TABLE a;
    CREATE USER u IDENTIFIED BY 'x'; DROP USER u; FLUSH TABLES;
";

#[test]
fn every_shape_of_mariadb_is_split_as_mariadb_binlog_splits_it() {
    let options = ServerOptions::mariadb().arg("--log-bin-compress=ON").arg("--log-bin-compress-min-len=10");
    let mut server = options.arg("--local-infile=1").start();
    server.sql(MARIADB_SHAPES);
    server.sql(
        "USE d; FLUSH LOGS; SET GLOBAL log_bin_compress = OFF; INSERT INTO a (v) VALUES ('plain');
         XA START 'x5'; INSERT INTO a (v) VALUES ('q'); XA END 'x5'; XA PREPARE 'x5';",
    );
    server.sql(
        "USE d; FLUSH LOGS; XA COMMIT 'x5'; SET GLOBAL binlog_checksum = NONE; INSERT INTO a (v) VALUES ('no checksum'); FLUSH LOGS;
         SET GLOBAL binlog_checksum = CRC32; INSERT INTO a (v) VALUES (2); FLUSH LOGS;",
    );
    load_data(&server);
    server.sql(
        "USE d; FLUSH LOGS; INSERT INTO a (v) VALUES (REPEAT('15 MB', 3000000)); SET SESSION gtid_seq_no = 5000;
        INSERT INTO a (v) VALUES ('jump');",
    );
    assert!(check_server(&server) > 30);
    server.stop();
    server.restart();
    check_server(&server);
}

#[test]
fn every_shape_of_mariadb_11_is_split_as_mariadb_binlog_splits_it() {
    let server = ServerOptions::mariadb_11().start();
    server.sql(MARIADB_SHAPES);
    assert!(check_server(&server) > 30);
}

fn load_data(server: &Server) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "4\n5\n".repeat(100_000)).unwrap();
    let load =
        format!("SET binlog_format = STATEMENT; LOAD DATA LOCAL INFILE '{}' INTO TABLE d.m", file.path().display());
    let output = server.client().args(["--local-infile=1", &format!("--execute={load}")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_format_description_is_sent_as_the_server_sends_it() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let server = ServerOptions::of(flavor).start();
        let bytes = fs::read(&server.binlogs()[0]).unwrap();
        let (mut scanner, mut input) = (FileScanner::new(), bytes.as_slice());
        while scanner.scan(&mut input).unwrap() != Some(Scan::End) {}
        let event = scanner.event().unwrap();
        assert_ne!(event.header.flags & EventHeader::IN_USE, 0, "the server is writing this file");
        let sent = write::format_for_stream(event.raw, false).unwrap();
        assert_eq!(EventHeader::parse(&sent).unwrap().flags & EventHeader::IN_USE, 0);
        assert!(crc_is_right(&sent));
        let mid_file = EventHeader::parse(&write::format_for_stream(event.raw, true).unwrap()).unwrap();
        assert_eq!(mid_file.log_pos, 0);
    }
}
