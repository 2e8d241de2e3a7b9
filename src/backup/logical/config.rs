use std::time::Duration;

use super::donor::Limits;
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;

/// How a logical full is taken.
#[derive(Clone, Debug)]
pub struct LogicalConfig {
    /// Connections that read tables at the same time.
    pub connections: usize,
    /// How chunks are compressed.
    pub compression: Compression,
    /// To whom every object is encrypted.
    pub recipients: Recipients,
    /// Rows are cut into objects of about this size before compression.
    pub object_bytes: u64,
    /// A key range aims at this size; only larger tables are read by several connections.
    pub range_bytes: u64,
    /// Longest wait for the lock that aligns the snapshots; others wait behind it meanwhile.
    pub lock_wait: Duration,
    /// MySQL: how long the statements that the global lock would wait for are waited for before it is asked for. Nobody waits behind that, so it is
    /// long: a report may end. It is bounded, so that one that never ends is told of while the next full is not yet due.
    pub statement_wait: Duration,
    /// Attempts to get that lock, or a snapshot without DDL during the copy, before giving up.
    pub attempts: u32,
    /// Largest size of all tables of non-transactional engines together (they are copied while the lock is held).
    pub max_locked_bytes: u64,
    /// What it may cost the source.
    pub limits: Limits,
    /// Trace id of this run, for the manifest.
    pub trace_id: String,
}

impl Default for LogicalConfig {
    fn default() -> Self {
        Self {
            connections: 2,
            compression: Compression::Zstd { level: 1 },
            recipients: Recipients::default(),
            object_bytes: 64 << 20,
            range_bytes: 256 << 20,
            lock_wait: Duration::from_secs(5),
            statement_wait: Duration::from_secs(600),
            attempts: 5,
            max_locked_bytes: 256 << 20,
            limits: Limits::default(),
            trace_id: String::new(),
        }
    }
}
