//! A write load with everything a binlog can hold in it: rows, multi-table transactions, large transactions, DDL, XA.
//! It survives the server's death and restart, and stops when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Server;

/// Threads that write until [`Load::stop`].
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Makes the tables in a database `shop` (unless they are there) and starts `workers` threads of writes.
    pub fn start(server: &Server, workers: u64, seed: u64) -> Load {
        server.sql(
            "CREATE DATABASE IF NOT EXISTS shop;
             CREATE TABLE IF NOT EXISTS shop.orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, worker INT, note VARCHAR(400), qty INT DEFAULT 1, KEY (worker));
             CREATE TABLE IF NOT EXISTS shop.lines (order_id BIGINT, n INT, body BLOB, PRIMARY KEY (order_id, n));
             CREATE TABLE IF NOT EXISTS shop.heap (v INT, t TEXT);",
        );
        let (stop, committed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let workers = (0..workers)
            .map(|worker| {
                let (url, stop, committed) = (server.url(), stop.clone(), committed.clone());
                std::thread::spawn(move || work(&url, worker, seed ^ worker, &stop, &committed))
            })
            .collect();
        Load { stop, committed, workers }
    }

    /// Statements acknowledged so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().unwrap();
        }
        self.committed.load(Ordering::Relaxed)
    }
}

fn work(url: &str, worker: u64, seed: u64, stop: &AtomicBool, committed: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let options = mysql_async::OptsBuilder::from_opts(mysql_async::Opts::from_url(url).unwrap())
        // Locks of another worker's XA that a crash left prepared, until that worker is back.
        .init(vec!["SET SESSION innodb_lock_wait_timeout = 1"]);
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            // The server dies now and then: that is part of the test.
            let Ok(mut connection) = mysql_async::Conn::new(options.clone()).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if end_prepared(&mut connection, worker).await.is_err() {
                continue;
            }
            while !stop.load(Ordering::Relaxed) {
                match transaction(&mut connection, statements(worker, &mut random)).await {
                    Ok(()) => _ = committed.fetch_add(1, Ordering::Relaxed),
                    // A deadlock or a table that is gone is the load's daily life; in an XA only a new connection helps.
                    Err(mysql_async::Error::Server(_)) => {
                        if connection.query_drop("ROLLBACK").await.is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
                tokio::time::sleep(Duration::from_micros(random.random_range(0..4000))).await;
            }
        }
    });
}

/// Ends what a crash left prepared of this worker's XA transactions: they keep their locks for good.
async fn end_prepared(connection: &mut mysql_async::Conn, worker: u64) -> mysql_async::Result<()> {
    let prepared: Vec<(u64, u64, u64, String)> = connection.query("XA RECOVER").await?;
    for (n, (.., xid)) in prepared.into_iter().enumerate().filter(|(_, (.., xid))| xid.starts_with(&own_xids(worker))) {
        let end = if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        match connection.query_drop(format!("XA {end} '{xid}'")).await {
            // Another connection of this worker still has it, and is about to end with it.
            Ok(()) | Err(mysql_async::Error::Server(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn own_xids(worker: u64) -> String {
    format!("w{worker}-")
}

async fn transaction(connection: &mut mysql_async::Conn, statements: Vec<String>) -> mysql_async::Result<()> {
    for statement in statements {
        connection.query_drop(statement).await?;
    }
    Ok(())
}

/// One transaction (or DDL statement) of the load.
fn statements(worker: u64, random: &mut StdRng) -> Vec<String> {
    let n: u64 = random.random_range(1..400);
    let text = |random: &mut StdRng, len: usize| -> String {
        (0..len).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
    };
    match random.random_range(0..1000) {
        0..500 => {
            let note = text(random, 60);
            vec![format!("INSERT INTO shop.orders (worker, note) VALUES ({worker}, '{note}'), ({worker}, '🌊 {note}')")]
        }
        500..700 => vec![
            "BEGIN".into(),
            format!("UPDATE shop.orders SET qty = qty + {n} WHERE worker = {worker} ORDER BY id DESC LIMIT 7"),
            format!(
                "INSERT INTO shop.lines SELECT id, {n}, REPEAT('{}', 40) FROM shop.orders WHERE worker = {worker} ORDER BY id DESC LIMIT 3 \
                 ON DUPLICATE KEY UPDATE body = VALUES(body)",
                text(random, 8)
            ),
            "COMMIT".into(),
        ],
        700..800 => vec![format!("DELETE FROM shop.orders WHERE worker = {worker} ORDER BY id LIMIT {}", n % 9)],
        800..900 => vec![format!("INSERT INTO shop.heap VALUES ({n}, '{}')", text(random, 120))],
        900..940 => vec![
            format!("UPDATE shop.heap SET v = v + 1 WHERE v % 40 = {}", n % 40),
            format!("DELETE FROM shop.heap WHERE v % 97 = {}", n % 97),
        ],
        // A transaction of a few MiB: longer than a flush, sometimes longer than a segment.
        940..950 => vec![
            "BEGIN".into(),
            format!(
                "INSERT INTO shop.lines VALUES (-{n}, {worker}, REPEAT('{}', 4000)) ON DUPLICATE KEY UPDATE n = n",
                text(random, 16)
            ),
            format!(
                "REPLACE INTO shop.heap SELECT {n}, REPEAT('{}', 2000) FROM shop.orders LIMIT {}",
                text(random, 10),
                n % 60
            ),
            "COMMIT".into(),
        ],
        950..970 => vec![format!("CREATE TABLE IF NOT EXISTS shop.t{} (id INT PRIMARY KEY, v TEXT) ", n % 12)],
        970..980 => vec![format!("DROP TABLE IF EXISTS shop.t{}", n % 12)],
        // Without a key a replay looks for each row in all of the table: it stays small.
        980..982 => vec!["TRUNCATE TABLE shop.heap".into()],
        982..990 => vec![format!("INSERT INTO shop.t{} VALUES ({n}, '{}')", n % 12, text(random, 30))],
        990..993 => vec![format!("TRUNCATE TABLE shop.t{}", n % 12)],
        993..996 => vec![format!("ALTER TABLE shop.t{} ADD COLUMN c{} INT", n % 12, n % 5)],
        _ => {
            let xid = own_xids(worker) + &text(random, 12);
            vec![
                format!("XA START '{xid}'"),
                format!("INSERT INTO shop.orders (worker, note) VALUES ({worker}, 'xa {xid}')"),
                format!("XA END '{xid}'"),
                format!("XA PREPARE '{xid}'"),
                format!("XA COMMIT '{xid}'"),
            ]
        }
    }
}
