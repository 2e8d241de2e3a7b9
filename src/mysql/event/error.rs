use snafu::Snafu;

use super::EventType;

/// Bytes that are not the event they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum ParseEventError {
    /// The event ends before its fields do.
    #[snafu(display("cannot parse the {event} event: it ends after {have} bytes, within a field"))]
    Truncated {
        /// What was being read.
        event: &'static str,
        /// How many bytes there were.
        have: usize,
    },
    /// A field holds what no server writes.
    #[snafu(display("cannot parse the {event} event at byte {at}: {reason}"))]
    Malformed {
        /// What was being read.
        event: &'static str,
        /// Where in the event's body.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A set of GTIDs within an event does not decode.
    #[snafu(display("cannot parse the PREVIOUS_GTIDS event: {source}"))]
    GtidSet {
        /// Why.
        source: crate::model::gtid::DecodeGtidSetError,
    },
    /// The bytes behind this event are cipher text.
    #[snafu(display(
        "cannot parse an encrypted binary log: its bytes on disk are cipher text; read it through the server instead \
         (a replication stream is decrypted), which is what streaming does"
    ))]
    Encrypted,
    /// The parser was given another kind of event.
    #[snafu(display("cannot parse {found} as {expected}"))]
    OtherType {
        /// What the parser reads.
        expected: &'static str,
        /// What it was given.
        found: EventType,
    },
}
