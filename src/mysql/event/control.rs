//! Events about files, not about data: format description, rotate, previous GTIDs, heartbeats, incidents.

use snafu::ResultExt;

use super::bytes::Reader;
use super::error::{GtidSetSnafu, OtherTypeSnafu, ParseEventError};
use super::{EventHeader, EventType};
use crate::model::Flavor;
use crate::model::gtid::{MariadbGtid, MariadbGtidSet, MysqlGtidSet};

/// Bytes behind each event's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// None.
    Off,
    /// CRC32 over header and body, 4 bytes.
    Crc32,
}

impl ChecksumAlgorithm {
    /// How many bytes of an event are its checksum.
    pub fn bytes(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Crc32 => 4,
        }
    }
}

/// FORMAT_DESCRIPTION (15): the first event of every file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatDescription {
    /// The server's version, for example `9.7.4` or `10.11.19-MariaDB-log`.
    pub server_version: String,
    /// The header's time stamp: with server and name it identifies a file.
    pub created_unix: u32,
    /// The body's own creation stamp: 0 unless the file was begun by a server start.
    pub started_unix: u32,
    /// Length of the fixed part of each event type's body, by type, from type 1 on.
    pub post_header_bytes: Vec<u8>,
    /// What ends the events that follow.
    pub checksum: ChecksumAlgorithm,
    /// Whether the file was being written when this was read.
    pub in_use: bool,
}

impl FormatDescription {
    /// Bytes behind the body of every format description, whatever its algorithm: u8 algorithm, u32 checksum.
    pub const TRAILER_BYTES: usize = 5;

    /// Reads all that follows the header, including the algorithm and the checksum at the event's end.
    pub fn parse(header: &EventHeader, rest: &[u8]) -> Result<Self, ParseEventError> {
        if header.event_type != EventType::FORMAT_DESCRIPTION {
            return OtherTypeSnafu { expected: "FORMAT_DESCRIPTION", found: header.event_type }.fail();
        }
        let mut input = Reader::new("FORMAT_DESCRIPTION", rest);
        if input.u16()? != 4 {
            return input.malformed("only binary log version 4 is supported");
        }
        let version = input.take(50)?;
        let version = version.split(|&b| b == 0).next().unwrap_or_default();
        let server_version = String::from_utf8_lossy(version).into_owned();
        let started_unix = input.u32()?;
        if usize::from(input.u8()?) != super::HEADER_BYTES {
            return input.malformed("event headers are not of 19 bytes");
        }
        let Some(count) = input.rest().len().checked_sub(Self::TRAILER_BYTES) else {
            return input.malformed("the checksum algorithm is missing: the server is too old");
        };
        let post_header_bytes = input.take(count)?.to_vec();
        let checksum = match input.u8()? {
            0 => ChecksumAlgorithm::Off,
            1 => ChecksumAlgorithm::Crc32,
            _ => return input.malformed("the checksum algorithm is not known"),
        };
        let in_use = header.flags & EventHeader::IN_USE != 0;
        Ok(Self { server_version, created_unix: header.timestamp, started_unix, post_header_bytes, checksum, in_use })
    }

    /// Whose server wrote the file.
    pub fn flavor(&self) -> Flavor {
        if self.server_version.contains("MariaDB") { Flavor::Mariadb } else { Flavor::Mysql }
    }
}

/// ROTATE (4): the name of the next file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// The next file's name.
    pub next_file: String,
    /// Where to go on in it: 4, its first event.
    pub position: u64,
}

impl Rotate {
    /// Reads u64 position and the name, which takes the rest.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("ROTATE", body);
        let position = input.u64()?;
        let next_file = file_name(&input, input.rest())?;
        Ok(Self { next_file, position })
    }
}

/// Reads PREVIOUS_GTIDS (35), which needs its whole body: everything executed before this file.
pub fn parse_previous_gtids(body: &[u8]) -> Result<MysqlGtidSet, ParseEventError> {
    MysqlGtidSet::decode_wire(body).context(GtidSetSnafu)
}

/// GTID_LIST (163): the state of a MariaDB binary log where the file begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidList {
    /// The last transaction of each domain and server; a domain's newest comes last of its own.
    pub gtids: Vec<MariadbGtid>,
    /// A source tells its replica that it reached what `START SLAVE UNTIL` asked for.
    pub until_reached: bool,
}

impl GtidList {
    pub(super) const UNTIL_REACHED: u32 = 1 << 28;
    pub(super) const COUNT_MASK: u32 = Self::UNTIL_REACHED - 1;

    /// Reads the whole body: u32 count and flags, then u32 domain, u32 server, u64 sequence each.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("GTID_LIST", body);
        let head = input.u32()?;
        let mut gtids = Vec::new();
        for _ in 0..head & Self::COUNT_MASK {
            gtids.push(MariadbGtid { domain: input.u32()?, server: input.u32()?, seq: input.u64()? });
        }
        Ok(Self { gtids, until_reached: head & Self::UNTIL_REACHED != 0 })
    }

    /// Everything executed before this file.
    pub fn executed(&self) -> MariadbGtidSet {
        MariadbGtidSet::of_state(&self.gtids)
    }
}

/// HEARTBEAT (27) or its second version (41): a source without news. Never part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The file the source is at.
    pub file: String,
    /// Where in it; version 1 keeps 32 bits only.
    pub offset: u64,
}

impl Heartbeat {
    /// Reads either version.
    pub fn parse(header: &EventHeader, body: &[u8]) -> Result<Self, ParseEventError> {
        const END: u64 = 0;
        const FILE: u64 = 1;
        const OFFSET: u64 = 2;

        let mut input = Reader::new("HEARTBEAT", body);
        let mut heartbeat = Self { file: String::new(), offset: header.log_pos.into() };
        match header.event_type {
            EventType::HEARTBEAT => heartbeat.file = file_name(&input, body)?,
            EventType::HEARTBEAT_V2 => {
                while !input.rest().is_empty() {
                    let field = input.lenenc()?;
                    if field == END {
                        break;
                    }
                    let length = usize::try_from(input.lenenc()?).unwrap_or(usize::MAX);
                    let value = input.take(length)?;
                    match field {
                        FILE => heartbeat.file = file_name(&input, value)?,
                        OFFSET => heartbeat.offset = Reader::new("HEARTBEAT", value).lenenc()?,
                        _ => {}
                    }
                }
            }
            found => return OtherTypeSnafu { expected: "HEARTBEAT", found }.fail(),
        }
        Ok(heartbeat)
    }
}

/// INCIDENT (26): the source could not log something; its data and its binary log differ from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// 1: events were lost.
    pub number: u16,
    /// The server's words.
    pub message: String,
}

impl Incident {
    /// Reads u16 number, u8 length, text.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("INCIDENT", body);
        let number = input.u16()?;
        let length = if input.rest().is_empty() { 0 } else { input.u8()?.into() };
        Ok(Self { number, message: String::from_utf8_lossy(input.take(length)?).into_owned() })
    }
}

fn file_name(input: &Reader<'_>, bytes: &[u8]) -> Result<String, ParseEventError> {
    match str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && !name.contains(['/', '\0']) => Ok(name.to_owned()),
        _ => input.malformed("the file name is malformed"),
    }
}
