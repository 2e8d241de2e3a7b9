//! What the first stage makes of the bytes.

use bytes::Bytes;

use crate::archive::binlog_index::{Ending, FileId, SegmentMeta};
use crate::binlog::status::Incident;
use crate::model::CommitTime;

/// What the next stage is told, in order.
#[derive(Debug)]
pub(in crate::binlog) enum Cut {
    /// Bytes of the segment at hand.
    Raw(Bytes),
    /// The segment that begins here is one event too large to be held.
    Long { file: FileId, start: u64, end: u64 },
    /// The segment at hand ends.
    Seal(Box<Seal>),
    /// The source wrote that its binlog lacks something.
    Incident(Incident),
    /// The file is over; everything of it was sealed before.
    Close(Box<Closing>),
}

/// The end of a segment.
#[derive(Clone, Debug)]
pub(in crate::binlog) struct Seal {
    /// Complete but for the digest of its bytes.
    pub meta: SegmentMeta,
    /// Commit times of the transactions that end in it.
    pub commits: CommitCounts,
    /// Bytes cut in this session up to here, over all files.
    pub upto: u64,
}

/// The end of a file.
#[derive(Clone, Debug)]
pub(in crate::binlog) struct Closing {
    pub file: FileId,
    /// Bytes of the whole file.
    pub size: u64,
    pub ending: Ending,
    pub next_file: Option<String>,
}

/// Commit times, equal milliseconds counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::binlog) struct CommitCounts(pub Vec<(CommitTime, u64)>);

impl CommitCounts {
    pub(super) fn add(&mut self, commit: CommitTime) {
        match self.0.last_mut() {
            Some((last, count)) if last.0 / 1000 == commit.0 / 1000 => *count += 1,
            _ => self.0.push((commit, 1)),
        }
    }
}
