//! The archive as a replication source of stock replicas.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidemark::binlog::StreamConfig;
use tidemark::model::Flavor;
use tidemark::serve::{Identity, Scope, ServeConfig, Server};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, checksums, executed};
use crate::support::{ServerOptions, wait_for};

#[test]
fn a_stock_replica_catches_up_and_follows_what_is_archived_later() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let lab = Lab::new(ServerOptions::of(flavor));
        let streaming =
            lab.stream(StreamConfig { flush_interval: Duration::from_millis(50), ..StreamConfig::default() });
        lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
        lab.durable(&streaming);
        let version = lab.source.sql("SELECT VERSION()");
        let config = ServeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            user: "r".into(),
            password: "secret".into(),
            identity: Identity {
                server_id: 4_000_000,
                server_uuid: uuid::Uuid::new_v4(),
                flavor,
                version,
                gtids: true,
            },
            scope: Scope::Everything { follow: Some(Duration::from_millis(200)) },
        };
        let cancel = CancellationToken::new();
        let server = lab.runtime.block_on(Server::bind(config, lab.store.clone())).unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = lab.runtime.spawn(server.run(cancel.clone()));
        let replica = ServerOptions::of(flavor).start();
        replica.sql(&match flavor {
            Flavor::Mysql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='r', SOURCE_PASSWORD='secret', \
                 SOURCE_SSL=0, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
            ),
            Flavor::Mariadb => format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='r', MASTER_PASSWORD='secret', \
                 MASTER_USE_GTID=slave_pos; START SLAVE"
            ),
        });
        let caught_up = |what: &str| {
            let status = if flavor == Flavor::Mysql { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
            wait_for(what, Duration::from_secs(30), || {
                let errors = replica.sql(status);
                assert!(!errors.contains("tidemark: "), "{flavor}: {errors}");
                (executed(&replica) == lab.source.gtids()).then_some(())
            });
            assert_eq!(checksums(&replica), checksums(&lab.source), "{flavor}");
        };
        caught_up("the replica to catch up");
        for round in 3..6 {
            lab.source.sql(&format!(
                "INSERT INTO d.t VALUES ({round}); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (-{round})"
            ));
            caught_up("the replica to follow");
        }
        cancel.cancel();
        lab.runtime.block_on(serving).unwrap();
        lab.stop(streaming);
    }
}
