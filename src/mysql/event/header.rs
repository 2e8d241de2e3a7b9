use std::fmt;

use super::bytes::Reader;
use super::error::ParseEventError;

/// Length of the header every event begins with.
pub const HEADER_BYTES: usize = 19;

/// The type byte of an event. The numbers from 160 are MariaDB's, 30 to 42 MySQL's, the others common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u8);

/// Declares the constants and the name of each.
macro_rules! event_types {
    ($($number:literal $name:ident)+) => {
        #[allow(missing_docs, reason = "each is the server's own name of the event")]
        impl EventType {
            $(pub const $name: Self = Self($number);)+

            /// The server's name of this type; none for types this program does not know.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    2 QUERY
    3 STOP
    4 ROTATE
    5 INTVAR
    9 APPEND_BLOCK
    11 DELETE_FILE
    13 RAND
    14 USER_VAR
    15 FORMAT_DESCRIPTION
    16 XID
    17 BEGIN_LOAD_QUERY
    18 EXECUTE_LOAD_QUERY
    19 TABLE_MAP
    23 WRITE_ROWS_V1
    24 UPDATE_ROWS_V1
    25 DELETE_ROWS_V1
    26 INCIDENT
    27 HEARTBEAT
    28 IGNORABLE
    29 ROWS_QUERY
    30 WRITE_ROWS
    31 UPDATE_ROWS
    32 DELETE_ROWS
    33 GTID
    34 ANONYMOUS_GTID
    35 PREVIOUS_GTIDS
    36 TRANSACTION_CONTEXT
    37 VIEW_CHANGE
    38 XA_PREPARE
    39 PARTIAL_UPDATE_ROWS
    40 TRANSACTION_PAYLOAD
    41 HEARTBEAT_V2
    42 GTID_TAGGED
    160 ANNOTATE_ROWS
    161 BINLOG_CHECKPOINT
    162 MARIADB_GTID
    163 GTID_LIST
    164 START_ENCRYPTION
    165 QUERY_COMPRESSED
    166 WRITE_ROWS_COMPRESSED_V1
    167 UPDATE_ROWS_COMPRESSED_V1
    168 DELETE_ROWS_COMPRESSED_V1
    169 WRITE_ROWS_COMPRESSED
    170 UPDATE_ROWS_COMPRESSED
    171 DELETE_ROWS_COMPRESSED
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 19 bytes every event begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// Seconds since 1970: when the *statement* began, not when it committed.
    pub timestamp: u32,
    /// What kind of event it is.
    pub event_type: EventType,
    /// `server_id` of the server that wrote it first.
    pub server_id: u32,
    /// Size of the whole event in bytes: header, body and checksum.
    pub event_size: u32,
    /// Where the next event begins, as the low 32 bits of an offset; 0 in artificial events.
    pub log_pos: u32,
    /// Flags, see the constants.
    pub flags: u16,
}

impl EventHeader {
    /// Flag of a format description: the file is being written (or its server crashed). Checksums leave it out.
    pub const IN_USE: u16 = 0x01;
    /// Flag of events that a source makes up for its replica: they are no bytes of a file.
    pub const ARTIFICIAL: u16 = 0x20;
    /// Flag of events that a reader which does not know their type may pass over.
    pub const IGNORABLE: u16 = 0x80;

    /// Reads the first 19 bytes of an event; more may follow.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("header", bytes);
        let header = Self {
            timestamp: input.u32()?,
            event_type: EventType(input.u8()?),
            server_id: input.u32()?,
            event_size: input.u32()?,
            log_pos: input.u32()?,
            flags: input.u16()?,
        };
        if (header.event_size as usize) < HEADER_BYTES {
            return input.malformed("the event claims to be shorter than its header");
        }
        Ok(header)
    }

    /// The 19 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let [t0, t1, t2, t3] = self.timestamp.to_le_bytes();
        let [i0, i1, i2, i3] = self.server_id.to_le_bytes();
        let [s0, s1, s2, s3] = self.event_size.to_le_bytes();
        let [p0, p1, p2, p3] = self.log_pos.to_le_bytes();
        let [f0, f1] = self.flags.to_le_bytes();
        let EventType(event_type) = self.event_type;
        [t0, t1, t2, t3, event_type, i0, i1, i2, i3, s0, s1, s2, s3, p0, p1, p2, p3, f0, f1]
    }

    /// Whether a source made it up for its replica: it belongs to no file and takes no offset.
    pub fn is_artificial(&self) -> bool {
        self.flags & Self::ARTIFICIAL != 0 || matches!(self.event_type, EventType::HEARTBEAT | EventType::HEARTBEAT_V2)
    }
}
