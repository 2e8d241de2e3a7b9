//! The stream: archives a server's binary log as it is written, byte for byte, and follows it through rotations, restarts and
//! failovers.
//!
//! A run is a row of *sessions*, one a connection. Each begins from the store alone: [`checkpoint`] reads what is archived,
//! [`locate`] decides where in the source's files to go on, then three stages run in order of position, with bounded queues:
//!
//! ```text
//! session: dump events → cutter (segments, at event boundaries) ─▶ encode (zstd, age, BLAKE3; own thread) ─▶ upload (a few at once)
//!             ▲ semi-sync acknowledgement ◀── durable position, over a contiguous prefix only ◀───────────┘
//! ```
//! With a [`spool`] there is a stage before the last: while the store is down it puts the objects on disk, in order, up to a bound.

mod begin;
mod checkpoint;
mod cutter;
mod encode;
mod error;
mod files;
mod locate;
mod preflight;
mod pump;
mod purge;
mod session;
mod spool;
mod status;
mod upload;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::store::Store;
use crate::mysql::endpoint::Endpoint;

pub use error::Error;
pub use purge::{Hold, PurgeLook, PurgeOutlook, Risk};
pub use spool::{SpoolConfig, SpoolReading};
pub use status::{Gap, Incident, RpoHistogram, StreamReading, StreamStatus};

/// How to stream.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// The replica id shown to the source: non-zero and unique among its replicas. Without one a random high one is taken.
    pub server_id: Option<u32>,
    /// How long bytes wait for company before they are stored: an object is written this often while there is data.
    pub flush_interval: Duration,
    /// Raw bytes after which an object is written without waiting. Bounds memory: about six of these are held at most, eight with a spool.
    pub segment_bytes: u64,
    /// How segments are compressed.
    pub compression: Compression,
    /// To whom they are encrypted.
    pub recipients: Recipients,
    /// What the source's commits wait for.
    pub acknowledge: Acknowledge,
    /// Where segments wait while the store is down; without one reading stops then.
    pub spool: Option<SpoolConfig>,
    /// Whether the source's own purging is held back while something is not archived.
    pub hold_purge: bool,
    /// Silence of the source after which a connection counts as dead. It sends heartbeats several times within.
    pub dead_after: Duration,
    /// Trace id of this run; it lands in what the run writes.
    pub trace_id: String,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            server_id: None,
            flush_interval: Duration::from_secs(1),
            segment_bytes: 4 << 20,
            compression: Compression::default(),
            recipients: Recipients::default(),
            acknowledge: Acknowledge::None,
            spool: None,
            hold_purge: false,
            dead_after: Duration::from_secs(30),
            trace_id: String::new(),
        }
    }
}

/// What the source's commits wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// Nothing: the stream trails the source by about the flush interval.
    #[default]
    None,
    /// Semi-synchronous replication: a commit returns only when its bytes are durable in the object store.
    ObjectStore,
}

/// Archives the binary log of `source` in `store` until `cancel`led; then what is whole is flushed and `Ok` returned.
///
/// Survives lost connections, server restarts, and outages of the store, by itself and without end. Returns an error only
/// for what waiting does not mend: refused credentials, a source whose binlog is off, bytes that differ from the archived ones.
pub async fn stream(
    config: StreamConfig,
    source: Endpoint,
    store: Store,
    cancel: CancellationToken,
    status: StreamStatus,
) -> Result<(), Error> {
    session::run(config, source, store, cancel, status).await
}
