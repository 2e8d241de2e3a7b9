use std::io;

use snafu::Snafu;

use super::filter::FilterError;
use super::lineage::Part;
use crate::archive::ArchiveError;
use crate::model::GtidSet;
use crate::mysql::event::{ParseEventError, ScanError, TrackError};
use crate::mysql::wire;

/// Why a replica is not, or no longer, served. The replica is told the same words, as error 1236.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum ServeError {
    /// The address cannot be listened on.
    #[snafu(display("cannot listen on {address}: {source}; choose another address or port"))]
    Listen {
        /// The address.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// The connection failed, or a login was refused.
    #[snafu(transparent)]
    Replica {
        /// Cause.
        source: wire::Error,
    },
    /// The archive cannot be read.
    #[snafu(transparent)]
    Archive {
        /// Cause.
        source: ArchiveError,
    },
    /// A file that was being served is gone from the archive.
    #[snafu(display(
        "the archive no longer has the file {file} that was being served; start the replica from a newer full backup"
    ))]
    Gone {
        /// The file.
        file: String,
    },
    /// The archived bytes are no binlog file.
    #[snafu(display("archived file {file}: {source}"))]
    Scan {
        /// The file.
        file: String,
        /// Cause.
        source: ScanError,
    },
    /// The archived events are out of order.
    #[snafu(display("archived file {file}: {source}"))]
    Track {
        /// The file.
        file: String,
        /// Cause.
        source: TrackError,
    },
    /// An event does not parse.
    #[snafu(display("archived file {file} at {offset}: {source}"))]
    Parse {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// Cause.
        source: ParseEventError,
    },
    /// A file ends before it should.
    #[snafu(display("archived file {file} cannot be read up to {end}: it ends before that, or within a transaction"))]
    Short {
        /// The file.
        file: String,
        /// Where it should end.
        end: u64,
    },
    /// The replica needs what is not archived.
    #[snafu(display(
        "the replica lacks transactions that the archive does not hold: {missing}; start it from a full backup that has them"
    ))]
    Missing {
        /// The GTIDs, or words where there are none.
        missing: String,
    },
    /// The replica went another way than the live lineage.
    #[snafu(display(
        "the replica has transactions that only a dead primary had and that the live lineage lacks: {gtids}; rebuild it from a full backup \
         of the live lineage"
    ))]
    Fork {
        /// The GTIDs.
        gtids: GtidSet,
    },
    /// The replica asks for a place in the log that is not archived.
    #[snafu(display("the archive has no {file}:{offset} to begin at; it holds {first} to {last}"))]
    NoSuchPosition {
        /// The file asked for.
        file: String,
        /// The offset asked for.
        offset: u64,
        /// The first archived file.
        first: String,
        /// The last archived file.
        last: String,
    },
    /// What the replica says it has does not parse.
    #[snafu(display("the replica's GTID set cannot be read: {message}"))]
    BadRequest {
        /// Cause.
        message: String,
    },
    /// The replica's history is another one.
    #[snafu(transparent)]
    Diverged {
        /// Cause.
        source: FilterError,
    },
    /// The replica does not understand checksums, which the archived events carry.
    #[snafu(display(
        "the replica did not say that it understands binlog checksums; use one of MySQL 8.0, MariaDB 10.11 or later"
    ))]
    NoChecksums,
}

impl ServeError {
    /// Whether the archive's objects are not what was written, or not there.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_damage() || source.is_not_found(),
            Self::Scan { .. } | Self::Track { .. } | Self::Parse { .. } | Self::Gone { .. } | Self::Short { .. } => {
                true
            }
            _ => false,
        }
    }

    pub(super) fn scan(part: &Part, source: ScanError) -> Self {
        Self::Scan { file: part.name(), source }
    }

    pub(super) fn track(part: &Part, source: TrackError) -> Self {
        Self::Track { file: part.name(), source }
    }

    pub(super) fn parse(part: &Part, offset: u64, source: ParseEventError) -> Self {
        Self::Parse { file: part.name(), offset, source }
    }

    pub(super) fn short(part: &Part) -> Self {
        Self::Short { file: part.name(), end: part.end }
    }

    /// Whether the replica may succeed by connecting again, with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Replica { source } => source.is_transient(),
            Self::Archive { source } => source.is_transient(),
            _ => false,
        }
    }
}
