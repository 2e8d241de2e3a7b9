//! The oracle: what the source's own binlog files say, read and replayed by the stock `mysqlbinlog`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tidemark::model::Flavor;

use super::{Server, ServerOptions};

/// One transaction of the source's history, in binlog order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// As the stock tool prints it: `uuid:5` or `0-1-5`.
    pub gtid: String,
    /// MySQL: the commit in µs. MariaDB: the last µs of the commit's second, for its binlog has no more; of one without a time (DDL that a server logs as
    /// it recovers from a crash) that of the next one in its file, or else of the one before.
    pub commit_us: i64,
}

/// A server's whole history so far: keep its binlogs (`--binlog-expire-logs-seconds=0`) and stop writing first.
pub struct History {
    flavor: Flavor,
    files: Vec<PathBuf>,
    tool: PathBuf,
    pub transactions: Vec<Transaction>,
}

impl History {
    pub fn read(source: &Server) -> History {
        let files = source.binlogs();
        let tool = PathBuf::from(source.binlog_command().get_program());
        let mut history = History { flavor: source.flavor(), files, tool, transactions: Vec::new() };
        let mut command = history.stock();
        command.arg("--base64-output=DECODE-ROWS");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        history.transactions = match history.flavor {
            Flavor::Mysql => mysql_transactions(&output.stdout),
            Flavor::Mariadb => mariadb_transactions(&output.stdout),
        };
        assert!(!history.transactions.is_empty(), "the source has no history");
        history
    }

    /// How many transactions a restore to the moment `commit_us` holds: all before the first one that committed later.
    pub fn count_at(&self, commit_us: i64) -> usize {
        self.transactions.iter().position(|t| t.commit_us > commit_us).unwrap_or(self.transactions.len())
    }

    /// The GTID set of the first `count` transactions.
    pub fn gtid_set(&self, count: usize) -> String {
        let last = &self.transactions[count - 1].gtid;
        match self.flavor {
            Flavor::Mysql => {
                let (uuid, number) = last.rsplit_once(':').unwrap();
                if number == "1" { last.clone() } else { format!("{uuid}:1-{number}") }
            }
            Flavor::Mariadb => last.clone(),
        }
    }

    /// A fresh server on which the stock tools will replay as much of this as they are told to.
    pub fn oracle(&self) -> Oracle<'_> {
        // It commits one by one: flushing each would take most of the time.
        let options = ServerOptions::of(self.flavor).arg("--max-allowed-packet=1G");
        let server = options.arg("--sync-binlog=0").arg("--innodb-flush-log-at-trx-commit=2").start();
        server.sql(match self.flavor {
            Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
            Flavor::Mariadb => "RESET MASTER",
        });
        Oracle { history: self, server, count: 0 }
    }

    fn stock(&self) -> Command {
        let mut command = Command::new(&self.tool);
        command.arg("--no-defaults").env("TZ", "UTC").args(&self.files);
        command
    }
}

/// A server that holds the first transactions of a history, replayed by the stock tools.
pub struct Oracle<'a> {
    history: &'a History,
    server: Server,
    count: usize,
}

impl Oracle<'_> {
    /// The server, taken forward to exactly the first `count` transactions. It never goes back.
    pub fn at(&mut self, count: usize) -> &Server {
        assert!(count >= self.count, "the oracle holds {} transactions already", self.count);
        if count > self.count {
            self.replay(count);
            self.count = count;
        }
        let expected = self.history.gtid_set(count);
        assert_eq!(self.server.gtids(), expected, "the oracle itself is not where it should be");
        &self.server
    }

    fn replay(&self, count: usize) {
        let mut command = self.history.stock();
        let last = self.history.gtid_set(count);
        match self.history.flavor {
            Flavor::Mysql => {
                let (uuid, number) = (last.split(':').next().unwrap(), last.rsplit([':', '-']).next().unwrap());
                command.arg(format!("--include-gtids={uuid}:{}-{number}", self.count + 1));
            }
            Flavor::Mariadb => {
                if self.count > 0 {
                    command.arg(format!("--start-position={}", self.history.gtid_set(self.count)));
                }
                command.arg(format!("--stop-position={last}"));
            }
        }
        let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = self.server.client().arg("--binary-mode").stdin(reader.stdout.take().unwrap()).output().unwrap();
        assert!(output.status.success(), "the oracle's replay failed: {}", String::from_utf8_lossy(&output.stderr));
        assert!(reader.wait().unwrap().success());
    }
}

/// Name and `CHECKSUM TABLE` of every user table, and the definition of each.
pub fn fingerprint(server: &Server) -> Vec<(String, String, String)> {
    let tables = server.rows(
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables
         WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1",
    );
    tables
        .into_iter()
        .map(|row| {
            let table = row[0].clone();
            let checksum = server.rows(&format!("CHECKSUM TABLE {table} EXTENDED"))[0][1].clone();
            // AUTO_INCREMENT is not part of the history: a rolled-back insert moves it and leaves no event.
            let definition = server.sql(&format!("SHOW CREATE TABLE {table}"));
            let definition =
                definition.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>();
            (table, checksum, definition.join(" "))
        })
        .collect()
}

fn mysql_transactions(text: &[u8]) -> Vec<Transaction> {
    let (mut transactions, mut commit_us) = (Vec::new(), 0);
    for line in text.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        if let Some(rest) = line.strip_prefix("# immediate_commit_timestamp=") {
            commit_us = rest.split(' ').next().unwrap().parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("SET @@SESSION.GTID_NEXT= '") {
            let gtid = rest.split('\'').next().unwrap();
            if gtid != "AUTOMATIC" {
                transactions.push(Transaction { gtid: gtid.to_lowercase(), commit_us });
            }
        }
    }
    transactions
}

/// Lines such as `#261121  5:30:01 server id 1  end_log_pos 405 CRC32 0x…  GTID 0-1-5 trans`, in UTC.
fn mariadb_transactions(text: &[u8]) -> Vec<Transaction> {
    let mut transactions: Vec<Transaction> = Vec::new();
    let (mut timeless, mut newest) = (0, 0);
    for line in text.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        if line.contains("\tStart: binlog") {
            give_time(&mut transactions, std::mem::take(&mut timeless), newest);
        }
        let Some((head, tail)) = line.split_once("\tGTID ") else { continue };
        let Some(stamp) = head.strip_prefix('#') else { continue };
        let gtid = tail.split_whitespace().next().unwrap().to_owned();
        let words: Vec<&str> = stamp.split_whitespace().collect();
        if words[0] == "700101" {
            transactions.push(Transaction { gtid, commit_us: 0 });
            timeless += 1;
            continue;
        }
        let date: u32 = words[0].parse().unwrap();
        let clock: Vec<i8> = words[1].split(':').map(|part| part.parse().unwrap()).collect();
        let (year, month, day) = (2000 + (date / 10_000) as i16, (date / 100 % 100) as i8, (date % 100) as i8);
        let second = jiff::civil::date(year, month, day).at(clock[0], clock[1], clock[2], 0);
        let second = second.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond();
        newest = second + 999_999;
        give_time(&mut transactions, std::mem::take(&mut timeless), newest);
        transactions.push(Transaction { gtid, commit_us: newest });
    }
    give_time(&mut transactions, timeless, newest);
    transactions
}

/// Gives the last `count` transactions that time.
fn give_time(transactions: &mut [Transaction], count: usize, commit_us: i64) {
    let from = transactions.len() - count;
    transactions[from..].iter_mut().for_each(|transaction| transaction.commit_us = commit_us);
}
