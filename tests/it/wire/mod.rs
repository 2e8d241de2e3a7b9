//! `mysql::wire` and `mysql::sql` against real servers of both flavors.

mod bulk;
mod dump;
mod login;
mod serving;

use std::time::Duration;

use secrecy::SecretString;
use tidemark::mysql::endpoint::{Endpoint, Tls, TlsMode};
use tidemark::mysql::wire::Connection;

use crate::support::{ROOT_PASSWORD, Server};

/// `root` on a server, without TLS.
fn root(server: &Server) -> Endpoint {
    endpoint(server, "root", ROOT_PASSWORD)
}

fn endpoint(server: &Server, user: &str, password: &str) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        at: None,
        port: server.port(),
        user: user.to_owned(),
        password: SecretString::from(password),
        tls: Tls { mode: TlsMode::Disabled, ca_pem: None },
        connect_timeout: Duration::from_secs(20),
    }
}

async fn connect(server: &Server) -> Connection {
    Connection::connect(&root(server)).await.unwrap()
}
