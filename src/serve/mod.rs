//! The archive as a replication source: stock MySQL and MariaDB replicas read it as if it were the server that was archived.
//!
//! ```text
//! Server::run ─▶ session (login, the replica's questions) ─▶ dump (its events) ◀─ lineage (which files)
//! ```
//! A replica gets whole transactions it does not have, in the order of the log, exactly as archived. At the end of a fixed
//! scope it is told so by error [`END_OF_SCOPE`]: it stops reading and applies what it has. A server that follows waits
//! for more instead.

mod dump;
mod error;
mod events;
mod filter;
mod lineage;
mod queries;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use snafu::ResultExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::ServeError;
pub use lineage::Part;
pub use queries::Identity;

use crate::archive::store::Store;
use crate::model::{BinlogPosition, GtidSet};

/// With this text begins the error 1236 that a replica gets when everything in scope was sent.
pub const END_OF_SCOPE: &str = "tidemark: everything in scope was sent";

/// How the archive is served.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one account that replicas log in with.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Who we say we are.
    pub identity: Identity,
    /// What is served.
    pub scope: Scope,
}

/// What is served.
#[derive(Clone, Debug)]
pub enum Scope {
    /// The live lineage as it is archived when a replica asks for it.
    Everything {
        /// Whether to go on with what is archived later, looking for it this often; none: end there.
        follow: Option<Duration>,
    },
    /// Exactly these parts of files, in this order.
    Fixed {
        /// The files.
        parts: Vec<Part>,
        /// Of their transactions, sent as empty transactions of the same GTID.
        skip: Option<GtidSet>,
    },
}

/// What a server has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeStatus {
    /// Replicas that are connected now.
    pub replicas: u32,
    /// Where the last event sent to any replica ends.
    pub position: Option<BinlogPosition>,
    /// Bytes of events sent, to all replicas.
    pub sent_bytes: u64,
    /// Transactions sent, to all replicas.
    pub sent_transactions: u64,
    /// How many times a replica was told that everything in scope was sent.
    pub completed: u64,
    /// The last failure that was not a replica's own going away.
    pub failure: Option<String>,
    /// How many there were.
    pub failures: u64,
    /// Whether one of them was damage of the archive.
    pub damaged: bool,
}

impl ServeStatus {
    fn failed(&mut self, error: &ServeError) {
        self.failure = Some(error.to_string());
        self.failures += 1;
        self.damaged |= error.is_damage();
    }
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    config: ServeConfig,
    store: Store,
    status: watch::Sender<ServeStatus>,
    next_connection: AtomicU32,
}

impl Server {
    /// Listens; nobody is served before [`Self::run`].
    pub async fn bind(config: ServeConfig, store: Store) -> Result<Self, ServeError> {
        let listen = TcpListener::bind(config.listen).await;
        let listener = listen.context(error::ListenSnafu { address: config.listen.to_string() })?;
        let (status, _) = watch::channel(ServeStatus::default());
        let shared = Shared { config, store, status, next_connection: AtomicU32::new(1) };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// The address replicas connect to.
    pub fn local_addr(&self) -> Result<SocketAddr, ServeError> {
        let listen = self.shared.config.listen.to_string();
        self.listener.local_addr().context(error::ListenSnafu { address: listen })
    }

    /// What it has done, as it goes on.
    pub fn status(&self) -> watch::Receiver<ServeStatus> {
        self.shared.status.subscribe()
    }

    /// Serves until `cancel`; every replica's connection is closed before this returns.
    pub async fn run(self, cancel: CancellationToken) {
        let sessions = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (shared, cancel) = (Arc::clone(&self.shared), cancel.clone());
                    let connection_id = shared.next_connection.fetch_add(1, Ordering::Relaxed);
                    sessions.spawn(async move {
                        tokio::select! {
                            () = cancel.cancelled() => {}
                            () = session::serve(&shared, stream, peer, connection_id) => {}
                        }
                    });
                }
                // Out of descriptors, for example: what is connected goes on, and a moment later there may be room.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a replica");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        sessions.close();
        sessions.wait().await;
    }
}
