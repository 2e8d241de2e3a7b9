//! The few events a source makes up for its replicas. Each is a whole event, header to checksum.

use super::checksum::{self, crc_is_right};
use super::control::{ChecksumAlgorithm, FormatDescription, GtidList};
use super::error::{MalformedSnafu, ParseEventError};
use super::{EventHeader, EventType, HEADER_BYTES};
use crate::model::BinlogPosition;
use crate::model::gtid::MariadbGtid;

/// Who makes up an event, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// `server_id` in the header.
    pub server_id: u32,
    /// What the replica expects at the end of an event.
    pub checksum: ChecksumAlgorithm,
}

impl Source {
    /// The ROTATE that names the file whose events follow, or go on at `position.offset`.
    pub fn fake_rotate(&self, position: &BinlogPosition) -> Vec<u8> {
        let body = [position.offset.to_le_bytes().as_slice(), position.file.as_bytes()].concat();
        self.event(EventType::ROTATE, EventHeader::ARTIFICIAL, 0, &body)
    }

    /// A heartbeat: the source has sent all it has, up to `position`. Version 1, which every replica takes; past 4 GiB
    /// version 2, which MySQL 8.0.26 and later take.
    pub fn heartbeat(&self, position: &BinlogPosition) -> Vec<u8> {
        let name = position.file.as_bytes();
        if let Ok(log_pos) = u32::try_from(position.offset) {
            return self.event(EventType::HEARTBEAT, 0, log_pos, name);
        }
        let mut body = vec![1];
        push_lenenc(&mut body, name.len() as u64);
        body.extend_from_slice(name);
        let mut offset = Vec::new();
        push_lenenc(&mut offset, position.offset);
        body.push(2);
        push_lenenc(&mut body, offset.len() as u64);
        body.extend_from_slice(&offset);
        body.push(0);
        self.event(EventType::HEARTBEAT_V2, 0, 0, &body)
    }

    /// The GTID_LIST that ends MariaDB's `START SLAVE UNTIL`: `gtids` are reached, the replica stops.
    pub fn until_reached(&self, gtids: &[MariadbGtid], log_pos: u32) -> Vec<u8> {
        let count = u32::try_from(gtids.len()).unwrap_or(u32::MAX) & GtidList::COUNT_MASK;
        let mut body = (count | GtidList::UNTIL_REACHED).to_le_bytes().to_vec();
        for gtid in gtids {
            body.extend_from_slice(&gtid.domain.to_le_bytes());
            body.extend_from_slice(&gtid.server.to_le_bytes());
            body.extend_from_slice(&gtid.seq.to_le_bytes());
        }
        self.event(EventType::GTID_LIST, EventHeader::ARTIFICIAL, log_pos, &body)
    }

    fn event(&self, event_type: EventType, flags: u16, log_pos: u32, body: &[u8]) -> Vec<u8> {
        let size = HEADER_BYTES + body.len() + self.checksum.bytes();
        let header = EventHeader {
            timestamp: 0,
            event_type,
            server_id: self.server_id,
            event_size: u32::try_from(size).unwrap_or(u32::MAX),
            log_pos,
            flags,
        };
        let mut event = [header.encode().as_slice(), body].concat();
        match self.checksum {
            ChecksumAlgorithm::Off => event,
            ChecksumAlgorithm::Crc32 => {
                event.extend_from_slice(&[0; 4]);
                checksum::finish(event)
            }
        }
    }
}

/// A file's own format description as a source sends it: the in-use flag cleared. With `mid_file` it also says, by a
/// zero creation stamp and position, that the events after it do not follow it in the file.
pub fn format_for_stream(event: &[u8], mid_file: bool) -> Result<Vec<u8>, ParseEventError> {
    const LOG_POS: std::ops::Range<usize> = 13..17;
    const STARTED: std::ops::Range<usize> = HEADER_BYTES + 52..HEADER_BYTES + 56;

    let header = EventHeader::parse(event)?;
    let format = FormatDescription::parse(&header, event.get(HEADER_BYTES..).unwrap_or_default())?;
    if format.checksum == ChecksumAlgorithm::Crc32 && !crc_is_right(event) {
        let reason = "its checksum is wrong, its bytes are damaged";
        return MalformedSnafu { event: "FORMAT_DESCRIPTION", at: event.len(), reason }.fail();
    }
    let mut event = event.to_vec();
    for field in [LOG_POS, STARTED].into_iter().filter(|_| mid_file) {
        event.get_mut(field).unwrap_or_default().fill(0);
    }
    Ok(checksum::finish(event))
}

fn push_lenenc(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    let (prefix, count) = match value {
        0..=250 => (None, 1),
        251..=0xffff => (Some(252), 2),
        0x1_0000..=0xff_ffff => (Some(253), 3),
        _ => (Some(254), 8),
    };
    out.extend(prefix);
    out.extend(bytes.iter().take(count));
}
