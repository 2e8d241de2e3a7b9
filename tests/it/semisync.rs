//! RPO 0: with `acknowledge: ObjectStore`, what the source has acknowledged is in the store, whatever dies.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tidemark::model::Flavor;

use crate::support::{Process, ROOT_PASSWORD, ServerOptions, tidemark_command, wait_for};

#[test]
fn mysql_loses_no_acknowledged_commit_when_source_and_streamer_die() {
    no_acknowledged_commit_is_lost(Flavor::Mysql);
}

#[test]
fn mariadb_loses_no_acknowledged_commit_when_source_and_streamer_die() {
    no_acknowledged_commit_is_lost(Flavor::Mariadb);
}

fn no_acknowledged_commit_is_lost(flavor: Flavor) {
    let after_sync = match flavor {
        Flavor::Mysql => "--loose-rpl-semi-sync-source-wait-point=AFTER_SYNC",
        Flavor::Mariadb => "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    };
    let mut source = ServerOptions::of(flavor).semisync_source(Duration::from_secs(3600)).arg(after_sync).start();
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(
        &policy,
        format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: p}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
             binlog: {{acknowledge: ObjectStore}}\n  storage: {{fs: {{path: {}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
            source.port(),
            dir.path().join("archive").display()
        ),
    )
    .unwrap();
    let tidemark = |args: &[&str]| {
        let mut command = tidemark_command(&args[..1]);
        command.arg("-f").arg(&policy).args(&args[1..]).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    };
    // The streamer comes first: without it no commit returns.
    let mut streamer = Process::spawn(tidemark(&["stream"]));
    let clients = match flavor {
        Flavor::Mysql => "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'",
        Flavor::Mariadb => "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'",
    };
    wait_for("the streamer to register for semi-sync", Duration::from_secs(30), || {
        assert!(streamer.try_wait().is_none(), "{}", streamer.output());
        (source.rows(clients)[0][1] == "1").then_some(())
    });
    source.sql("CREATE DATABASE shop; CREATE TABLE shop.paid (id BIGINT PRIMARY KEY, note VARCHAR(100))");
    let backup = tidemark(&["backup"]).output().unwrap();
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));

    // Four clients write; each notes the highest id that the server has acknowledged to it.
    let acknowledged: Vec<Arc<AtomicU64>> = (0..4).map(|_| Arc::default()).collect();
    let clients: Vec<_> = acknowledged
        .iter()
        .enumerate()
        .map(|(client, acknowledged)| {
            let (url, acknowledged) = (source.url(), acknowledged.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut connection = mysql_async::Conn::from_url(&url).await.unwrap();
                    for n in 1_u64.. {
                        let id = n * 4 + client as u64;
                        let insert = format!("INSERT INTO shop.paid VALUES ({id}, REPEAT('x', 50))");
                        if connection.query_drop(insert).await.is_err() {
                            return; // the server is dead: what it did not acknowledge may be lost
                        }
                        acknowledged.store(n, Ordering::SeqCst);
                    }
                });
            })
        })
        .collect();
    wait_for("acknowledged commits", Duration::from_secs(60), || {
        assert!(streamer.try_wait().is_none(), "{}", streamer.output());
        acknowledged.iter().all(|n| n.load(Ordering::SeqCst) >= 25).then_some(())
    });
    source.kill9();
    streamer.kill9();
    for client in clients {
        client.join().unwrap();
    }

    let target = ServerOptions::of(flavor).start();
    let into = target.addr().to_string();
    let restore = tidemark(&["restore", "--latest", "--into", &into, "--into-tls", "Disabled"]).output().unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    let mut commits = 0;
    for (client, acknowledged) in acknowledged.iter().enumerate() {
        let n = acknowledged.load(Ordering::SeqCst);
        let restored =
            target.sql(&format!("SELECT COUNT(*) FROM shop.paid WHERE id % 4 = {client} AND id <= {}", n * 4 + 3));
        assert_eq!(restored, n.to_string(), "client {client}: {n} commits acknowledged, {restored} restored");
        commits += n;
    }
    println!("{flavor}: {commits} commits acknowledged before source and streamer were killed, none lost");
}
