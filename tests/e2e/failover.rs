//! A primary that dies and a replica that is promoted; and a server that was there before.

use std::thread;

use tidemark::model::Flavor;

use crate::cluster::{ask_until, condition, operator, succeed};
use crate::database::{Site, Store};
use crate::load::{Ledger, Load, has_exactly};

#[test]
#[ignore = "long: make e2e"]
fn a_restore_across_a_failover_of_mysql_is_exact_and_tells_what_only_the_dead_primary_had() {
    fail_over("failover", Flavor::Mysql, Site::protect_pair);
}

#[test]
#[ignore = "long: make e2e"]
fn a_restore_across_a_failover_of_mariadb_is_exact_and_tells_what_only_the_dead_primary_had() {
    fail_over("failover-mariadb", Flavor::Mariadb, Site::protect_pair);
}

#[test]
#[ignore = "long: make e2e"]
fn a_failover_is_followed_where_the_source_is_named_by_the_labels_of_its_pods() {
    fail_over("failover-pods", Flavor::Mysql, Site::protect_pods);
}

fn fail_over(name: &str, flavor: Flavor, protect: fn(&Site)) {
    let _operator = operator();
    let site = Site::new(name, flavor, Store::S3);
    site.add_second();
    site.second().sql(match flavor {
        // What its first start made, the first server's log makes again.
        Flavor::Mysql => {
            "DROP USER 'root'@'%'; RESET BINARY LOGS AND GTIDS; SET GLOBAL super_read_only = ON; CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'mysql', \
             SOURCE_USER = 'root', SOURCE_PASSWORD = 'secret-of-the-tests', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA"
        }
        Flavor::Mariadb => {
            "RESET MASTER; SET GLOBAL read_only = ON; CHANGE MASTER TO MASTER_HOST = 'mariadb', MASTER_USER = 'root', \
             MASTER_PASSWORD = 'secret-of-the-tests', MASTER_USE_GTID = slave_pos; START SLAVE"
        }
    });
    let ledger = Ledger::default();
    let (newest, before) = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        protect(&site);
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        // What is committed now, only the first server and the archive will ever have.
        site.second().sql(match flavor {
            Flavor::Mysql => "STOP REPLICA IO_THREAD",
            Flavor::Mariadb => "STOP SLAVE IO_THREAD",
        });
        let alone = site.first().now();
        site.await_window_behind(alone);
        let on_first = load.acknowledged();
        let (pod, workload) = (format!("{}-0", site.name()), format!("statefulset/{}", site.name()));
        succeed(site.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]), None);
        succeed(site.namespace.kubectl(&["delete", &workload]), None);
        let newest = promote(&site);
        assert!(newest < on_first, "{newest} rows of {on_first} were replicated: nothing was lost with the primary");
        load.went_back_to(newest);
        site.fail_over();
        // The stream follows, and the window goes on.
        site.await_window_behind(site.second().now());
        // What is told of forks is looked up less often than the window grows.
        let told = site.namespace.await_object("backuppolicy/shop", "what only the dead primary had", |policy| {
            condition(policy, "Streaming").map(|c| c.message).filter(|told| told.contains("only a former primary had"))
        });
        println!("failover: {newest} of {on_first} rows were replicated; {told}");
        let newest = load.stop();
        let before = site.next_second();
        site.second().sql("DROP TABLE shop.orders");
        (newest, before)
    });
    site.await_window_behind(before);
    site.request("rescue", &format!("time: '{before}'"));
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);
}

/// Makes the second server the primary; the newest row it has.
fn promote(site: &Site) -> u64 {
    let second = site.second();
    let (status, applied, open) = match site.flavor {
        Flavor::Mysql => (
            "SHOW REPLICA STATUS",
            "Replica has read all relay log",
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
        ),
        Flavor::Mariadb => (
            "SHOW SLAVE STATUS",
            "Slave has read all relay log",
            "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = OFF",
        ),
    };
    ask_until("the relay log to be applied", || second.sql(status).contains(applied).then_some(()));
    second.sql(open);
    second.sql("SELECT MAX(id) FROM shop.orders").parse().unwrap()
}

#[test]
fn a_server_that_was_there_before_is_restored_into_if_it_is_empty_and_refused_if_not() {
    let _operator = operator();
    let site = Site::new("existing", Flavor::Mysql, Store::S3);
    site.add_second();
    let ledger = Ledger::default();
    let newest = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        site.protect();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        load.stop()
    });
    // The window ends with the newest commit: one after the load's.
    let end_of_load = site.source().now();
    site.source().sql("CREATE DATABASE later");
    site.await_window_behind(end_of_load);
    site.second().sql("CREATE DATABASE precious; CREATE TABLE precious.t (a INT)");
    site.request_into_second("refused", "latest: true");
    let complete = site.namespace.await_condition("restorerequest/refused", "Complete", "False");
    assert!(complete.message.contains("precious"), "{complete:?}");
    site.second().sql("DROP DATABASE precious");
    site.request_into_second("refill", "latest: true");
    site.await_restored("refill");
    has_exactly(&site.second(), newest);
}
