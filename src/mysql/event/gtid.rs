use uuid::Uuid;

use super::bytes::Reader;
use super::error::{OtherTypeSnafu, ParseEventError};
use super::{EventHeader, EventType};
use crate::model::CommitTime;
use crate::model::gtid::{MAX_GNO, MariadbGtid, MysqlGtid, Tag};

/// GTID (33), ANONYMOUS_GTID (34) or tagged GTID (42): how each MySQL transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlGtidEvent {
    /// The transaction; none when it is anonymous (`gtid_mode=OFF`).
    pub gtid: Option<MysqlGtid>,
    /// When this server committed it.
    pub immediate_commit: Option<CommitTime>,
    /// When the server it was first executed on committed it.
    pub original_commit: Option<CommitTime>,
    /// Size of the transaction in bytes, this event included; none where the server did not say.
    pub transaction_length: Option<u64>,
    /// Logical clock: the last transaction this one must wait for.
    pub last_committed: i64,
    /// Logical clock: this transaction's number in its file.
    pub sequence_number: i64,
}

impl MysqlGtidEvent {
    /// Reads the body of any of the three.
    pub fn parse(event_type: EventType, body: &[u8]) -> Result<Self, ParseEventError> {
        match event_type {
            EventType::GTID => Self::parse_fixed(Reader::new("GTID", body), true),
            EventType::ANONYMOUS_GTID => Self::parse_fixed(Reader::new("ANONYMOUS_GTID", body), false),
            EventType::GTID_TAGGED => Self::parse_tagged(Reader::new("GTID_TAGGED", body)),
            found => OtherTypeSnafu { expected: "a GTID event", found }.fail(),
        }
    }

    /// u8 flags, UUID, i64 gno, u8 = 2, i64 last_committed, i64 sequence_number, u56 commit time (its top bit: a u56
    /// original commit time follows), length-encoded transaction length, versions. Old servers end anywhere behind gno.
    fn parse_fixed(mut input: Reader<'_>, named: bool) -> Result<Self, ParseEventError> {
        const ORIGINAL_FOLLOWS: u64 = 1 << 55;
        const LOGICAL_CLOCK: u8 = 2;

        input.u8()?;
        let uuid = Uuid::from_bytes(input.array()?);
        let gno = input.u64()?;
        let gtid = if named { Some(MysqlGtid { uuid, tag: None, gno: checked_gno(&input, gno)? }) } else { None };
        let mut event = Self {
            gtid,
            immediate_commit: None,
            original_commit: None,
            transaction_length: None,
            last_committed: 0,
            sequence_number: 0,
        };
        if input.rest().is_empty() {
            return Ok(event);
        }
        if input.u8()? != LOGICAL_CLOCK {
            return input.malformed("the logical clock is of a type no server writes");
        }
        event.last_committed = input.i64()?;
        event.sequence_number = input.i64()?;
        if input.rest().is_empty() {
            return Ok(event);
        }
        let immediate = input.u56()?;
        event.immediate_commit = commit_time(immediate & !ORIGINAL_FOLLOWS);
        event.original_commit = match immediate & ORIGINAL_FOLLOWS {
            0 => event.immediate_commit,
            _ => commit_time(input.u56()?),
        };
        if !input.rest().is_empty() {
            event.transaction_length = Some(input.lenenc()?).filter(|&length| length > 0);
        }
        Ok(event)
    }

    /// MySQL's serialisation library: format version, size of the message, id of the last field that must be
    /// understood, then fields, each with its id before it and ids rising; absent fields have their default.
    fn parse_tagged(mut input: Reader<'_>) -> Result<Self, ParseEventError> {
        /// Fields known here: flags, UUID, gno, tag, last_committed, sequence_number, immediate and original commit
        /// time, transaction length, immediate and original server version, commit group ticket.
        const KNOWN_FIELDS: u64 = 12;

        if input.varlen()? != 1 {
            return input.malformed("it is of a serialisation format newer than this program knows");
        }
        let size = input.varlen()?;
        if input.varlen()? > KNOWN_FIELDS {
            return input.malformed("it has a field that must be understood, newer than this program knows");
        }
        let (mut uuid, mut gno, mut tag) = ([0; 16], None, None);
        let mut event = Self {
            gtid: None,
            immediate_commit: None,
            original_commit: None,
            transaction_length: None,
            last_committed: 0,
            sequence_number: 0,
        };
        let mut expected = 0;
        while !input.rest().is_empty() && (input.at() as u64) < size {
            let field = input.varlen()?;
            if field < expected {
                return input.malformed("its fields are out of order");
            }
            expected = field.saturating_add(1);
            match field {
                0 => _ = input.varlen()?,
                1 => {
                    for byte in &mut uuid {
                        *byte = match u8::try_from(input.varlen()?) {
                            Ok(value) => value,
                            Err(_) => return input.malformed("its UUID is malformed"),
                        };
                    }
                }
                2 => gno = u64::try_from(input.varlen_signed()?).ok(),
                3 => tag = Self::tag(&mut input)?,
                4 => event.last_committed = input.varlen_signed()?,
                5 => event.sequence_number = input.varlen_signed()?,
                6 => event.immediate_commit = commit_time(input.varlen()?),
                7 => event.original_commit = commit_time(input.varlen()?),
                8 => event.transaction_length = Some(input.varlen()?).filter(|&length| length > 0),
                9..KNOWN_FIELDS => _ = input.varlen()?,
                _ => break,
            }
        }
        event.original_commit = event.original_commit.or(event.immediate_commit);
        let gno = checked_gno(&input, gno.unwrap_or(0))?;
        event.gtid = Some(MysqlGtid { uuid: Uuid::from_bytes(uuid), tag, gno });
        Ok(event)
    }

    fn tag(input: &mut Reader<'_>) -> Result<Option<Tag>, ParseEventError> {
        let length = input.varlen()?;
        if length == 0 {
            return Ok(None);
        }
        if length > Tag::MAX_BYTES as u64 {
            return input.malformed("its tag is too long");
        }
        match str::from_utf8(input.take(length as usize)?).ok().and_then(Tag::new) {
            Some(tag) => Ok(Some(tag)),
            None => input.malformed("its tag is malformed"),
        }
    }
}

/// GTID of MariaDB (162): how each of its event groups begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariadbGtidEvent {
    /// The transaction.
    pub gtid: MariadbGtid,
    /// Flags, see the constants.
    pub flags: u8,
}

impl MariadbGtidEvent {
    /// The group is one statement, without COMMIT at its end.
    pub const STANDALONE: u8 = 1;
    /// A commit id follows: the groups of one group commit share it.
    pub const GROUP_COMMIT_ID: u8 = 2;
    /// The group holds DDL.
    pub const DDL: u8 = 32;
    /// The group prepares an XA transaction.
    pub const PREPARED_XA: u8 = 64;
    /// The group commits or rolls back a prepared XA transaction.
    pub const COMPLETED_XA: u8 = 128;

    /// Reads u64 sequence, u32 domain, u8 flags; the server is the header's. What follows depends on the flags and
    /// does not matter here.
    pub fn parse(header: &EventHeader, body: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("MariaDB GTID", body);
        let (seq, domain, flags) = (input.u64()?, input.u32()?, input.u8()?);
        if seq == 0 {
            return input.malformed("its sequence number is 0");
        }
        Ok(Self { gtid: MariadbGtid { domain, server: header.server_id, seq }, flags })
    }
}

fn checked_gno(input: &Reader<'_>, gno: u64) -> Result<u64, ParseEventError> {
    if (1..=MAX_GNO).contains(&gno) { Ok(gno) } else { input.malformed("its number is out of range") }
}

/// 0 is a server's way to say that it does not know.
fn commit_time(us: u64) -> Option<CommitTime> {
    i64::try_from(us).ok().filter(|&us| us > 0).map(CommitTime)
}
