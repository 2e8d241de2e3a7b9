//! Somebody drops a table.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidemark::model::Flavor;

use crate::cluster::operator;
use crate::database::{SCHEDULE, Site, Store, time};
use crate::load::{Ledger, Load, has_exactly};
use crate::secrets;

#[test]
fn a_table_of_mysql_that_was_dropped_comes_back_from_s3_in_a_fresh_pod() {
    a_dropped_table_comes_back("mysql-s3", Flavor::Mysql, Store::S3);
}

#[test]
fn a_table_of_mariadb_that_was_dropped_comes_back_from_a_claim_in_a_fresh_pod() {
    a_dropped_table_comes_back("mariadb-claim", Flavor::Mariadb, Store::Claim);
}

fn a_dropped_table_comes_back(name: &str, flavor: Flavor, store: Store) {
    let _operator = operator();
    let site = Site::new(name, flavor, store);
    let Lost { newest, before } = lose_a_table(&site, SCHEDULE, |took, rows| {
        println!("{flavor}: protected {:.1} s after kubectl apply, {rows} rows in", took.as_secs_f64());
    });
    let asked = Instant::now();
    site.request("rescue", &format!("time: '{before}'"));
    let request = site.await_restored("rescue");
    println!(
        "{flavor}: {newest} rows served from a fresh pod {:.1} s after kubectl apply",
        asked.elapsed().as_secs_f64()
    );
    has_exactly(&site.restored("rescue"), newest);
    assert!(time(&request["status"]["restoredTo"]).is_some_and(|to| to <= before), "{:#}", request["status"]);
    secrets::none_shows(&site, "rescue", &[]);
    // The source was only read.
    assert_eq!(site.source().sql("SELECT * FROM shop.orders"), "1");
}

/// What was lost.
pub struct Lost {
    /// The newest row that the database acknowledged.
    pub newest: u64,
    /// A moment behind it, and before the drop.
    pub before: Timestamp,
}

/// Protects a database under load by a policy that says `rest` beside its source and store, drops its table once the window grows, and waits
/// until the drop itself is archived. `protected` is told how long it took until the policy was Ready, and how many rows there were by then.
pub fn lose_a_table(site: &Site, rest: &str, protected: impl FnOnce(Duration, u64)) -> Lost {
    let ledger = Ledger::default();
    let lost = thread::scope(|scope| {
        let load = Load::start(scope, site, &ledger);
        let applied = Instant::now();
        site.protect_with(rest);
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        let (took, rows) = (applied.elapsed(), load.acknowledged());
        // The window grows under load.
        site.await_window_behind(site.source().now());
        protected(took, rows);
        let newest = load.stop();
        let before = site.next_second();
        site.source()
            .sql("DROP TABLE shop.orders; CREATE TABLE shop.orders (wrong INT); INSERT INTO shop.orders VALUES (1)");
        Lost { newest, before }
    });
    site.await_window_behind(lost.before);
    lost
}
