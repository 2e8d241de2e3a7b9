//! Somebody drops a table.

use std::thread;
use std::time::Instant;

use tidemark::model::Flavor;

use crate::cluster::operator;
use crate::database::{Site, Store, time};
use crate::load::{Ledger, Load, has_exactly};

#[test]
fn a_table_of_mysql_that_was_dropped_comes_back_from_s3_in_a_fresh_pod() {
    a_dropped_table_comes_back("mysql-s3", Flavor::Mysql, Store::S3);
}

#[test]
fn a_table_of_mariadb_that_was_dropped_comes_back_from_a_claim_in_a_fresh_pod() {
    a_dropped_table_comes_back("mariadb-claim", Flavor::Mariadb, Store::Claim);
}

fn a_dropped_table_comes_back(name: &str, flavor: Flavor, store: Store) {
    operator();
    let site = Site::new(name, flavor, store);
    let ledger = Ledger::default();
    let (newest, before) = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        let applied = Instant::now();
        site.protect();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        println!(
            "{flavor}: protected {:.1} s after kubectl apply, {} rows in",
            applied.elapsed().as_secs_f64(),
            load.acknowledged()
        );
        // The window grows under load.
        site.await_window_behind(site.source().now());
        let newest = load.stop();
        let before = site.source().now();
        site.source()
            .sql("DROP TABLE shop.orders; CREATE TABLE shop.orders (wrong INT); INSERT INTO shop.orders VALUES (1)");
        (newest, before)
    });
    site.await_window_behind(before);

    let asked = Instant::now();
    site.request("rescue", &format!("time: '{before}'"));
    let request = site.await_restored("rescue");
    println!(
        "{flavor}: {newest} rows served from a fresh pod {:.1} s after kubectl apply",
        asked.elapsed().as_secs_f64()
    );
    has_exactly(&site.restored("rescue"), newest);
    assert!(time(&request["status"]["restoredTo"]).is_some_and(|to| to <= before), "{:#}", request["status"]);
    // The source was only read.
    assert_eq!(site.source().sql("SELECT * FROM shop.orders"), "1");
}
