//! The write load, and its own book of what the server acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::{ROOT_PASSWORD, Server};

const ACCOUNTS: u64 = 200;
const FIRST_ORDERS: u64 = 20_000;

/// What must be in the database.
#[derive(Default)]
pub struct Ledger {
    /// Account and note of each order, by id.
    pub orders: BTreeMap<u64, (u64, u64, String)>,
    /// Balance by account.
    pub accounts: BTreeMap<u64, u64>,
    /// Transactions that the server acknowledged to the load.
    pub transactions: u64,
}

/// Clients that write until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<Entry>>>,
}

/// One acknowledged transaction.
struct Entry {
    order: u64,
    account: u64,
    amount: u64,
    note: String,
}

/// The tables and their first rows.
pub fn create_shop(server: &Server) {
    server.sql(&format!(
        "CREATE DATABASE shop; USE shop; SET SESSION cte_max_recursion_depth = 1000000;
         CREATE TABLE accounts (id BIGINT UNSIGNED PRIMARY KEY, balance BIGINT UNSIGNED NOT NULL);
         CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, account BIGINT UNSIGNED NOT NULL, amount BIGINT UNSIGNED NOT NULL,
           note VARCHAR(200) NOT NULL, placed TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6), KEY (account),
           FOREIGN KEY (account) REFERENCES accounts (id));
         INSERT INTO accounts WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
           SELECT i, 0 FROM n;
         INSERT INTO orders (id, account, amount, note) WITH RECURSIVE n (i) AS
           (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FIRST_ORDERS}) SELECT i, 1 + i % {ACCOUNTS}, i % 97, CONCAT('first ', i) FROM n;
         UPDATE accounts SET balance = (SELECT SUM(amount) FROM orders WHERE account = accounts.id);"
    ));
}

fn first_rows() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.accounts.extend((1..=ACCOUNTS).map(|id| (id, 0)));
    for id in 1..=FIRST_ORDERS {
        let (account, amount) = (1 + id % ACCOUNTS, id % 97);
        *ledger.accounts.get_mut(&account).unwrap() += amount;
        ledger.orders.insert(id, (account, amount, format!("first {id}")));
    }
    ledger
}

impl Load {
    /// Starts `writers` clients.
    pub fn start(runtime: &Runtime, server: &Server, writers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let next_order = Arc::new(AtomicU64::new(FIRST_ORDERS + 1));
        let writers = (0..writers)
            .map(|_| {
                let writer =
                    write(server.port(), Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&next_order));
                runtime.spawn(writer)
            })
            .collect();
        Load { stop, acknowledged, writers }
    }

    /// Transactions that the server acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the load and adds up what must be there.
    pub fn stop(self, runtime: &Runtime) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = first_rows();
        for writer in self.writers {
            for entry in runtime.block_on(writer).unwrap() {
                ledger.transactions += 1;
                *ledger.accounts.get_mut(&entry.account).unwrap() += entry.amount;
                let row = (entry.account, entry.amount, entry.note);
                assert!(ledger.orders.insert(entry.order, row).is_none(), "order {} twice", entry.order);
            }
        }
        ledger
    }
}

/// Places orders until told to stop, or until there is no table to write to.
async fn write(
    port: u16,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    next_order: Arc<AtomicU64>,
) -> Vec<Entry> {
    let mut conn = connect(port).await;
    let mut entries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let order = next_order.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            order,
            account: 1 + order % ACCOUNTS,
            amount: order % 89,
            note: format!("order {order} — ünïcode ✓"),
        };
        match place(&mut conn, &entry).await {
            Ok(()) => {
                entries.push(entry);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // The table is gone; whatever of this transaction was done is undone.
            Err(mysql_async::Error::Server(error)) if error.code == 1146 => {
                let _ = conn.query_drop("ROLLBACK").await;
                break;
            }
            // Writers of one account may meet.
            Err(mysql_async::Error::Server(error)) if matches!(error.code, 1205 | 1213) => {
                conn.query_drop("ROLLBACK").await.unwrap();
            }
            Err(error) => panic!("the load failed: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    conn.disconnect().await.unwrap();
    entries
}

async fn place(conn: &mut Conn, entry: &Entry) -> Result<(), mysql_async::Error> {
    let Entry { order, account, amount, note } = entry;
    conn.query_drop("START TRANSACTION").await?;
    conn.exec_drop(
        "INSERT INTO shop.orders (id, account, amount, note) VALUES (?, ?, ?, ?)",
        (order, account, amount, note),
    )
    .await?;
    conn.exec_drop("UPDATE shop.accounts SET balance = balance + ? WHERE id = ?", (amount, account)).await?;
    conn.query_drop("COMMIT").await
}

async fn connect(port: u16) -> Conn {
    let options =
        OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root")).pass(Some(ROOT_PASSWORD));
    Conn::new(options.prefer_socket(false)).await.unwrap()
}

/// Drops the table and returns the transaction's GTID, found as a person would: in the binary log.
pub fn drop_orders(server: &Server) -> String {
    server.sql("DROP TABLE shop.orders");
    let files = server.binlogs();
    let file = files.last().unwrap().file_name().unwrap().to_str().unwrap();
    let events = server.rows(&format!("SHOW BINLOG EVENTS IN '{file}'"));
    let info = |row: &Vec<String>| row.last().cloned().unwrap_or_default();
    let drop = events.iter().rposition(|row| info(row).contains("DROP TABLE")).expect("the drop is in the binary log");
    let gtid = events[..drop].iter().rev().map(info).find(|info| info.contains("GTID_NEXT")).unwrap();
    gtid.split('\'').nth(1).unwrap().to_owned()
}

/// Every difference between the ledger and the restored server.
pub fn compare(ledger: &Ledger, target: &Server, drop_gtid: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let mut orders: BTreeMap<u64, (u64, u64, String)> = BTreeMap::new();
    for row in target.rows("SELECT id, account, amount, note FROM shop.orders") {
        let [id, account, amount, note] = <[String; 4]>::try_from(row).unwrap();
        orders.insert(id.parse().unwrap(), (account.parse().unwrap(), amount.parse().unwrap(), note));
    }
    for (id, expected) in &ledger.orders {
        match orders.remove(id) {
            Some(found) if found == *expected => {}
            Some(found) => differences.push(format!("order {id} is {found:?} instead of {expected:?}")),
            None => differences.push(format!("order {id} is missing")),
        }
    }
    differences.extend(orders.keys().map(|id| format!("order {id} was never acknowledged")));
    let mut accounts: BTreeMap<u64, u64> = BTreeMap::new();
    for row in target.rows("SELECT id, balance FROM shop.accounts") {
        accounts.insert(row[0].parse().unwrap(), row[1].parse().unwrap());
    }
    if accounts != ledger.accounts {
        differences.push(format!("the accounts' balances differ: {accounts:?} instead of {:?}", ledger.accounts));
    }
    let (uuid, number) = drop_gtid.rsplit_once(':').unwrap();
    let expected = format!("{uuid}:1-{}", number.parse::<u64>().unwrap() - 1);
    let executed = target.gtids();
    if executed != expected {
        differences.push(format!("the server has executed {executed} instead of {expected}"));
    }
    differences
}
