//! Binlog events of both flavors: headers, the events that say where files and transactions begin and end, the split of
//! a file into events, and the few events a source makes up. No I/O.
//!
//! Row data is never parsed. Parsers take the event's body without its checksum and return errors, whatever the bytes;
//! of a body larger than [`head_bytes`] its first bytes are enough.

mod bytes;
mod checksum;
mod control;
mod error;
mod gtid;
mod header;
mod scanner;
mod statement;
#[cfg(test)]
mod tests;
mod tracker;
pub mod write;

pub use checksum::{EventCrc, crc_is_right};
pub use control::{ChecksumAlgorithm, FormatDescription, GtidList, Heartbeat, Incident, Rotate, parse_previous_gtids};
pub use error::ParseEventError;
pub use gtid::{MariadbGtidEvent, MysqlGtidEvent};
pub use header::{EventHeader, EventType, HEADER_BYTES};
pub use scanner::{EventHead, FileScanner, MAGIC, Scan, ScanError};
pub use statement::{QueryKind, TransactionPayload, XaPrepare, changes_rows, query_event};
pub use tracker::{Step, TrackError, Transaction, TransactionTracker};

/// Most bytes of a body that a parser looks at, but for the events that [`head_bytes`] wants whole: a QUERY event's
/// fixed part, the longest possible status variables and schema, and the first words of its statement.
pub const HEAD_BYTES: usize = 65 * 1024;

/// How many bytes of the body parsers need of an event of this type; `usize::MAX` for all of it.
pub fn head_bytes(event_type: EventType) -> usize {
    match event_type {
        EventType::FORMAT_DESCRIPTION | EventType::PREVIOUS_GTIDS | EventType::GTID_LIST => usize::MAX,
        EventType::QUERY
        | EventType::ROTATE
        | EventType::GTID
        | EventType::ANONYMOUS_GTID
        | EventType::GTID_TAGGED
        | EventType::MARIADB_GTID
        | EventType::HEARTBEAT
        | EventType::HEARTBEAT_V2
        | EventType::INCIDENT
        | EventType::XA_PREPARE => HEAD_BYTES,
        EventType::TRANSACTION_PAYLOAD => 64,
        _ => 0,
    }
}
