use std::time::Duration;

use secrecy::SecretString;
use tidemark::model::Flavor;
use tidemark::mysql::endpoint::{Endpoint, Tls, TlsMode};
use tidemark::mysql::flavor::Source;
use tidemark::mysql::sql::Session;
use tidemark::mysql::wire::server::{Command, ReplicaConnection, ServerConfig};
use tidemark::mysql::wire::{Connection, Error, ServerError};
use tokio::net::TcpListener;

use super::root;
use crate::support::{Server, ServerOptions};

fn config(flavor: Flavor) -> ServerConfig {
    let version = match flavor {
        Flavor::Mysql => "9.7.4",
        Flavor::Mariadb => "10.11.19-MariaDB-log",
    };
    ServerConfig {
        flavor,
        version: version.to_owned(),
        user: "replica".to_owned(),
        password: SecretString::from("it's \"secret\""),
    }
}

fn endpoint(port: u16, password: &str) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        at: None,
        port,
        user: "replica".to_owned(),
        password: SecretString::from(password),
        tls: Tls { mode: TlsMode::Disabled, ca_pem: None },
        connect_timeout: Duration::from_secs(10),
    }
}

/// Answers a replica's questions up to its dump command.
async fn up_to_the_dump(replica: &mut ReplicaConnection, config: &ServerConfig) -> Command {
    loop {
        let command = replica.next_command().await.unwrap().expect("the replica stays until it may dump");
        let Command::Query(sql) = &command else {
            match command {
                Command::RegisterReplica { server_id } => assert_ne!(server_id, 0),
                Command::Ping => {}
                _ => return command,
            }
            replica.ok().await.unwrap();
            continue;
        };
        let sql = sql.to_lowercase();
        let one = |value: &str| vec![vec![Some(value.to_owned())]];
        let rows = match sql.as_str() {
            s if s.contains("unix_timestamp") => one("1700000000"),
            s if s.contains("like 'server_id'") => vec![vec![Some("server_id".to_owned()), Some("77".to_owned())]],
            s if s.contains("@@global.server_id") => one("77"),
            s if s.contains("@@global.server_uuid") => one("11111111-2222-3333-4444-555555555555"),
            s if s.contains("gtid_mode") => one("ON"),
            s if s.contains("gtid_domain_id") => one("0"),
            s if s.starts_with("select") && s.contains("binlog_checksum") => one("CRC32"),
            s if s.starts_with("select version()") => one(&config.version),
            _ => {
                replica.ok().await.unwrap();
                continue;
            }
        };
        let names = ["Variable_name", "Value"];
        replica.result_set(&names[..rows[0].len()], &rows).await.unwrap();
    }
}

#[tokio::test]
async fn a_stock_replica_of_each_flavor_logs_in_and_asks_for_the_binlog() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = config(flavor);
        let server = Server::start(ServerOptions::of(flavor));
        let mut session = Session::connect(&root(&server)).await.unwrap();
        let source = Source {
            host: "127.0.0.1",
            port,
            user: "replica",
            password: "it's \"secret\"",
            connect_retry_s: 1,
            heartbeat_s: 5,
            position: None,
            assign_gtids: false,
        };
        let dialect = session.dialect();
        session.exec(&dialect.change_source(&source)).await.unwrap();
        session.exec(dialect.start_replica()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut replica = ReplicaConnection::accept(stream, &config, 1).await.unwrap();
        let dump = up_to_the_dump(&mut replica, &config).await;
        match (flavor, &dump) {
            (Flavor::Mysql, Command::BinlogDumpGtid { server_id, gtid_data, .. }) => {
                assert_eq!((*server_id, gtid_data.as_ref()), (server.server_id(), [0; 8].as_slice()));
            }
            (Flavor::Mariadb, Command::BinlogDump { server_id, .. }) => assert_eq!(*server_id, server.server_id()),
            _ => panic!("{flavor}: {dump:?}"),
        }
        let end = ServerError { code: 1236, sqlstate: "HY000".to_owned(), message: "the end, as agreed".to_owned() };
        replica.error(&end).await.unwrap();
        let columns = dialect.replica_status_columns();
        let status = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let status = session.named_rows(dialect.show_replica_status()).await.unwrap().remove(0);
                if status[columns.last_io_errno] != "0" && status[columns.io_running] == "No" {
                    break status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let status = status.await.unwrap();
        assert!(status[columns.last_io_error].contains("the end, as agreed"), "{flavor}: {status:?}");
        assert_eq!(status[columns.sql_running], "Yes");
    }
}

#[tokio::test]
async fn the_served_source_takes_its_own_clients_and_refuses_others() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut verdicts = Vec::new();
            for id in 0..3 {
                let (stream, _) = listener.accept().await.unwrap();
                match ReplicaConnection::accept(stream, &config(flavor), id).await {
                    Ok(mut client) => {
                        let Some(Command::Query(sql)) = client.next_command().await.unwrap() else { panic!() };
                        let answer = vec![vec![Some(sql), None], vec![Some(String::new()), Some("x".repeat(300))]];
                        client.result_set(&["a", "b"], &answer).await.unwrap();
                        assert_eq!(client.next_command().await.unwrap(), Some(Command::Quit));
                        verdicts.push(true);
                    }
                    Err(e) => {
                        assert!(matches!(e, Error::ReplicaDenied { .. }), "{e}");
                        verdicts.push(false);
                    }
                }
            }
            verdicts
        });
        let mut client = Connection::connect(&endpoint(port, "it's \"secret\"")).await.unwrap();
        assert_eq!(client.flavor(), flavor);
        let rows = client.query("SELECT whatever").await.unwrap();
        assert_eq!(rows[0][0].as_deref(), Some(b"SELECT whatever".as_slice()));
        assert_eq!((rows[0][1].as_deref(), rows[1][1].as_ref().map(|b| b.len())), (None, Some(300)));
        client.close().await;
        let wrong = Connection::connect(&endpoint(port, "wrong")).await;
        assert!(matches!(wrong, Err(Error::AccessDenied { .. })), "{wrong:?}");
        let stranger = Endpoint { user: "stranger".to_owned(), ..endpoint(port, "it's \"secret\"") };
        assert!(matches!(Connection::connect(&stranger).await, Err(Error::AccessDenied { .. })));
        assert_eq!(served.await.unwrap(), [true, false, false]);
    }
}
