//! The store is down, the stream's pod dies, and the source purges what nobody has archived: the spool's claim has it.

use std::thread;
use std::time::Instant;

use tidemark::model::Flavor;

use crate::cluster::{ask_until, condition, image, operator, run, succeed};
use crate::database::{Site, Store};
use crate::load::{Ledger, Load, has_exactly};

#[test]
#[ignore = "long: make e2e"]
fn what_mysql_purged_while_the_store_was_down_and_the_stream_died_comes_from_the_spool() {
    purged_while_the_store_was_down("spool", Flavor::Mysql);
}

#[test]
#[ignore = "long: make e2e"]
fn what_mariadb_purged_while_the_store_was_down_and_the_stream_died_comes_from_the_spool() {
    purged_while_the_store_was_down("spool-mariadb", Flavor::Mariadb);
}

fn purged_while_the_store_was_down(name: &str, flavor: Flavor) {
    let _operator = operator();
    let site = Site::new(name, flavor, Store::S3);
    let store = |replicas: &str| {
        succeed(site.namespace.kubectl(&["scale", "deployment/s3", &format!("--replicas={replicas}")]), None);
    };
    let ledger = Ledger::default();
    let newest = thread::scope(|scope| {
        let load = Load::start(scope, &site, &ledger);
        site.protect_with(
            "schedule: { cron: '30 2 * * *', timeZone: Europe/Berlin }\n  binlog: { spool: { maxSize: 256Mi } }",
        );
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        look_into_the_spool(&site);
        store("0");
        site.namespace.await_condition("backuppolicy/shop", "Streaming", "False");
        let archived = load.acknowledged();
        // The first pod that dies spooled all of it itself; the second starts while the store is down, and goes on behind what it finds.
        for pod in ["first", "second"] {
            let rows = load.acknowledged();
            ask_until("some load", || (load.acknowledged() > rows + 100).then_some(()));
            let purged = spool_a_whole_file(&site);
            let stream = ["delete", "pod", "shop-stream-0", "--force", "--grace-period=0"];
            succeed(site.namespace.kubectl(&stream), None);
            purge_before(&site, &purged);
            let rows = load.acknowledged();
            println!(
                "{flavor}: at row {rows} the {pod} stream is dead and {purged} the oldest log; {archived} rows were written with a store"
            );
        }
        store("1");
        let back = Instant::now();
        site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
        println!("{flavor}: Ready {:.1} s after the store", back.elapsed().as_secs_f64());
        load.stop()
    });
    let end_of_load = site.next_second();
    site.source().sql("CREATE DATABASE later");
    site.await_window_behind(end_of_load);
    let policy = site.namespace.get("backuppolicy/shop").unwrap();
    assert_eq!(condition(&policy, "GapDetected").unwrap().status, "False");
    site.request("rescue", "latest: true");
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);
    println!("{flavor}: {newest} rows are back");
}

/// A pod beside the stream's, which has no shell, that sees the same claim.
fn look_into_the_spool(site: &Site) {
    site.namespace.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: looker }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{ runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, seccompProfile: {{ type: RuntimeDefault }} }}
  containers:
    - name: looker
      image: {}
      args: [sleep, '3600']
      securityContext: {{ allowPrivilegeEscalation: false, capabilities: {{ drop: [ALL] }} }}
      volumeMounts: [{{ name: spool, mountPath: /spool, readOnly: true }}]
  volumes: [{{ name: spool, persistentVolumeClaim: {{ claimName: spool-shop-stream-0 }} }}]
",
        image("s3")
    ));
    succeed(site.namespace.kubectl(&["wait", "--for=condition=Ready", "pod/looker", "--timeout=3m"]), None);
}

/// Has the source begin a new log, and waits until all before it is in the spool. The name of the new one.
fn spool_a_whole_file(site: &Site) -> String {
    site.source().sql("FLUSH BINARY LOGS");
    let logs = logs(site);
    let newest = logs.last().unwrap().clone();
    // The first that tells of it is the end of the log before.
    let look = format!("grep -lF '\"{newest}\"' /spool/*.object");
    ask_until(&format!("the log before {newest} to be in the spool"), || {
        let found = run(site.namespace.kubectl(&["exec", "looker", "--", "sh", "-c", &look]), None);
        (!found.stdout.is_empty()).then_some(())
    });
    newest
}

/// Has the source purge all before that log.
fn purge_before(site: &Site, log: &str) {
    // What is still being sent to a stream that is only just dead stays: asked again, it goes.
    ask_until(&format!("the source to purge what is before {log}"), || {
        site.source().sql(&format!("PURGE BINARY LOGS TO '{log}'"));
        (logs(site)[0] == log).then_some(())
    });
}

/// The source's binary logs.
fn logs(site: &Site) -> Vec<String> {
    let list = site.source().sql("SHOW BINARY LOGS");
    list.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}
