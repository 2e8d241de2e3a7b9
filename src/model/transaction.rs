use serde::{Deserialize, Serialize};

use super::{CommitTime, Gtid};

/// A transaction that has begun but not ended at some place of a binlog file: all a reader needs to go on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its GTID; none where GTIDs are off.
    pub gtid: Option<Gtid>,
    /// Its commit time, from its GTID event; none where the server does not say.
    pub commit: Option<CommitTime>,
    /// Offset of its first event.
    pub start: u64,
    /// Offset where it must end, where the server says so (MySQL's transaction length).
    pub end: Option<u64>,
    /// What ends it.
    pub ends_by: EndsBy,
}

/// Which event ends a transaction, as far as its first events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndsBy {
    /// One statement, unless that is `BEGIN` (MySQL) or the group turns out to end by XID.
    Statement,
    /// A commit: XID, `COMMIT`, `ROLLBACK`, XA_PREPARE.
    Commit,
}
