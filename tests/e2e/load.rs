//! A write load with a ledger of its own: what the database acknowledged, noted outside of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::cluster::ask_until;
use crate::database::{Server, Site};

/// Writes the rows 1, 2, 3, … of `shop.orders` one after another, as fast as they are acknowledged, until told to stop.
pub struct Load<'scope> {
    acknowledged: &'scope AtomicU64,
    writing: &'scope AtomicBool,
    stop: &'scope AtomicBool,
    writer: Option<ScopedJoinHandle<'scope, ()>>,
}

/// What a [`Load`] needs to outlive it.
#[derive(Default)]
pub struct Ledger {
    acknowledged: AtomicU64,
    /// Whether it has a connection.
    writing: AtomicBool,
    stop: AtomicBool,
}

impl<'scope> Load<'scope> {
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>, site: &'env Site, ledger: &'env Ledger) -> Self {
        site.source().sql(
            "CREATE DATABASE shop; CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, note VARCHAR(100), at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6)); \
             CREATE TABLE shop.visits (id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BIGINT)",
        );
        let Ledger { acknowledged, writing, stop } = ledger;
        let writer = scope.spawn(move || write(site, ledger));
        Self { acknowledged, writing, stop, writer: Some(writer) }
    }

    /// The newest row that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// The newest row that the next primary has: what it lacks is written again there. A server whose pod was deleted may acknowledge more until
    /// it is dead.
    pub fn went_back_to(&self, newest: u64) {
        ask_until("the load to lose the dead primary", || (!self.writing.load(Ordering::SeqCst)).then_some(()));
        self.acknowledged.store(newest, Ordering::SeqCst);
    }

    /// Ends it; the newest row.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.writer.take().unwrap().join().unwrap();
        self.acknowledged.load(Ordering::SeqCst)
    }
}

/// A test that failed ends it, too.
impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Note of a row.
fn note(id: u64) -> String {
    format!("order {id}, {}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Reconnects when the database's pod was lost; then it asks for what was not acknowledged.
fn write(site: &Site, ledger: &Ledger) {
    let Ledger { acknowledged, writing, stop } = ledger;
    while !stop.load(Ordering::SeqCst) {
        let server = site.source();
        let Ok(newest) = server.try_sql("SELECT COALESCE(MAX(id), 0) FROM shop.orders") else {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        };
        let newest: u64 = newest.parse().unwrap();
        let known = acknowledged.load(Ordering::SeqCst);
        assert!(newest == known || newest == known + 1, "{known} rows were acknowledged, the newest is {newest}");
        acknowledged.store(newest, Ordering::SeqCst);
        let mut client =
            server.client().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        writing.store(true, Ordering::SeqCst);
        let _ = session(&mut client, acknowledged, stop);
        let _ = client.kill();
        let _ = client.wait();
        writing.store(false, Ordering::SeqCst);
    }
}

/// Writes until the connection is lost.
fn session(client: &mut Child, acknowledged: &AtomicU64, stop: &AtomicBool) -> std::io::Result<()> {
    let mut input = client.stdin.take().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    while !stop.load(Ordering::SeqCst) {
        let id = acknowledged.load(Ordering::SeqCst) + 1;
        let note = note(id);
        writeln!(
            input,
            "BEGIN; INSERT INTO shop.visits (order_id) VALUES ({id}); INSERT INTO shop.orders (id, note) VALUES ({id}, '{note}'); COMMIT; SELECT {id};"
        )?;
        input.flush()?;
        line.clear();
        if output.read_line(&mut line)? == 0 || line.trim() != id.to_string() {
            return Ok(());
        }
        acknowledged.store(id, Ordering::SeqCst);
    }
    Ok(())
}

/// Fails unless the server has exactly the rows of the ledger up to `newest`.
pub fn has_exactly(server: &Server<'_>, newest: u64) {
    let rows = server.sql("SELECT id, note FROM shop.orders ORDER BY id");
    let mut expected = 1;
    for row in rows.lines() {
        assert_eq!(row, format!("{expected}\t{}", note(expected)), "row {expected} of {newest}");
        expected += 1;
    }
    assert_eq!(expected - 1, newest, "rows that were restored");
    assert_eq!(
        server.sql("SELECT COUNT(*), COALESCE(MAX(order_id), 0) FROM shop.visits"),
        format!("{newest}\t{newest}")
    );
}
