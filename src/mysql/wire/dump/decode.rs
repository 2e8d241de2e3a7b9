//! Cuts the byte stream of a dump into items, without I/O.

use bytes::{Buf, Bytes, BytesMut};

use super::{DumpItem, DumpRequest, Piece, SEMI_SYNC_MAGIC, classify};
use crate::model::BinlogPosition;
use crate::mysql::event::{EventHeader, EventType, HEADER_BYTES as HEADER, Heartbeat, Rotate, crc_is_right};
use crate::mysql::wire::error::{Error, ServerError};
use crate::mysql::wire::input::{Input, parse_err};
use crate::mysql::wire::packet::{HEADER_BYTES as PACKET_HEADER, MAX_PAYLOAD};

/// Events up to this size come whole.
const WHOLE_EVENT_BYTES: usize = 64 * 1024;
const MAX_PIECE_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Decoder {
    buf: BytesMut,
    request: DumpRequest,
    file: String,
    /// Where in the file the next event starts.
    offset: u64,
    /// Bytes before this are passed over (a start beyond 32-bit positions).
    wanted_from: u64,
    semi_sync: Option<bool>,
    open: Option<OpenEvent>,
    ended: bool,
}

/// An event of which only a part has been handed out.
#[derive(Debug)]
struct OpenEvent {
    event_type: EventType,
    event_bytes: u32,
    event_left: usize,
    packet_left: usize,
    /// Whether another packet continues the payload when this one is used up.
    continued: bool,
    ack_wanted: bool,
    begun: bool,
    wanted: bool,
}

impl Decoder {
    pub(super) fn new(buf: BytesMut, request: DumpRequest, sent_offset: u64) -> Self {
        let (file, wanted) = (request.start.file.clone(), request.start.offset);
        let wanted_from = if sent_offset < wanted { wanted } else { 0 };
        Self { buf, request, file, offset: sent_offset, wanted_from, semi_sync: None, open: None, ended: false }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn semi_sync_active(&self) -> Option<bool> {
        self.semi_sync
    }

    /// The next item, or `None` when more bytes are needed (or the stream has ended).
    pub(super) fn decode(&mut self) -> Result<Option<DumpItem>, Error> {
        while !self.ended {
            let item = match self.open.take() {
                Some(event) => self.continue_event(event)?,
                None => match self.begin_packet()? {
                    Step::More => return Ok(None),
                    Step::Item(item) => item,
                },
            };
            match item {
                Next::Item(item) => return Ok(Some(item)),
                Next::Nothing => {}
                Next::NeedsBytes => return Ok(None),
            }
        }
        Ok(None)
    }

    fn begin_packet(&mut self) -> Result<Step, Error> {
        let Some((header, packet)) = self.buf.split_at_checked(PACKET_HEADER) else { return Ok(Step::More) };
        let length = (Input::new(header).u32()? & 0xff_ffff) as usize;
        let status = match packet.first() {
            Some(_) if length == 0 => {
                return Err(Error::Malformed { what: "an empty packet in the binary log stream" });
            }
            Some(status) => *status,
            None => return Ok(Step::More),
        };
        match status {
            0x00 => {}
            0xff | 0xfe if length > WHOLE_EVENT_BYTES => {
                return Err(Error::Malformed { what: "an oversized error packet" });
            }
            0xff => {
                let Some(packet) = packet.get(..length) else { return Ok(Step::More) };
                return Err(classify(parse_err(packet)?, &self.request));
            }
            0xfe => {
                self.ended = true;
                return Ok(Step::Item(Next::Nothing));
            }
            _ => return Err(Error::Malformed { what: "neither an event nor an error in the binary log stream" }),
        }
        // Whether a semi-sync header precedes events shows on the first one, a fake ROTATE with timestamp 0.
        let mut prefix = 1;
        let mut ack_wanted = false;
        if self.request.semi_sync && self.semi_sync != Some(false) {
            let Some(mark) = packet.get(1..3) else { return if length < 3 { Err(SHORT) } else { Ok(Step::More) } };
            let marked = mark.first() == Some(&SEMI_SYNC_MAGIC);
            if !marked && self.semi_sync == Some(true) {
                return Err(Error::Malformed { what: "an event without its semi-sync header" });
            }
            self.semi_sync = Some(marked);
            if marked {
                prefix = 3;
                ack_wanted = mark.get(1) == Some(&1);
            }
        } else if self.semi_sync.is_none() {
            self.semi_sync = Some(false);
        }
        let in_packet = length.checked_sub(prefix).filter(|n| *n >= HEADER).ok_or(SHORT)?;
        let event = packet.get(prefix..).unwrap_or_default();
        if event.len() < HEADER || event.len() < in_packet.min(WHOLE_EVENT_BYTES) {
            return Ok(Step::More);
        }
        let header = EventHeader::parse(event).map_err(|_| SHORT)?;
        let event_bytes = header.event_size as usize;
        let continued = length == MAX_PAYLOAD;
        if event_bytes < HEADER || event_bytes < in_packet || (event_bytes > in_packet && !continued) {
            return Err(Error::Malformed { what: "an event whose length is not its packet's" });
        }
        self.begin_event(&header, PACKET_HEADER + prefix, in_packet, continued, ack_wanted).map(Step::Item)
    }

    fn begin_event(
        &mut self,
        header: &EventHeader,
        prefix: usize,
        in_packet: usize,
        continued: bool,
        ack_wanted: bool,
    ) -> Result<Next, Error> {
        let expected = (self.offset + u64::from(header.event_size)) as u32;
        let fake = header.is_artificial() || header.log_pos == 0;
        let in_file = match header.event_type {
            EventType::ROTATE => !(fake && header.timestamp == 0),
            EventType::FORMAT_DESCRIPTION => self.offset == 4,
            EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => false,
            _ => header.log_pos == expected || !header.is_artificial(),
        };
        if !in_file {
            if in_packet > WHOLE_EVENT_BYTES {
                return Err(Error::Malformed { what: "an oversized artificial event" });
            }
            self.buf.advance(prefix);
            let event = self.buf.split_to(in_packet).freeze();
            return self.artificial(header, event);
        }
        // MariaDB 11.7 and later write 0 into most events (binlog_legacy_event_pos = OFF).
        if header.log_pos != expected && header.log_pos != 0 {
            return Err(Error::OutOfStep {
                file: self.file.clone(),
                offset: self.offset,
                expected,
                found: header.log_pos,
            });
        }
        let wanted = self.offset >= self.wanted_from;
        if !wanted && self.offset + u64::from(header.event_size) > self.wanted_from {
            return Err(Error::Malformed { what: "the start position is in the middle of an event" });
        }
        self.buf.advance(prefix);
        if !wanted && header.event_type == EventType::FORMAT_DESCRIPTION && in_packet <= WHOLE_EVENT_BYTES {
            self.offset += in_packet as u64;
            return Ok(Next::Item(DumpItem::Format(self.buf.split_to(in_packet).freeze())));
        }
        self.open = Some(OpenEvent {
            event_type: header.event_type,
            event_bytes: header.event_size,
            event_left: header.event_size as usize,
            packet_left: in_packet,
            continued,
            ack_wanted,
            begun: false,
            wanted,
        });
        Ok(Next::Nothing)
    }

    fn continue_event(&mut self, mut event: OpenEvent) -> Result<Next, Error> {
        if event.packet_left == 0 {
            let Some(header) = self.buf.get(..PACKET_HEADER) else {
                self.open = Some(event);
                return Ok(Next::NeedsBytes);
            };
            let length = (Input::new(header).u32()? & 0xff_ffff) as usize;
            self.buf.advance(PACKET_HEADER);
            event.continued = length == MAX_PAYLOAD;
            event.packet_left = length;
            if length > event.event_left || (length < event.event_left && !event.continued) {
                return Err(Error::Malformed { what: "an event whose length is not its packets'" });
            }
            if length == 0 {
                // The event's last byte filled a whole packet; this empty one only says so.
                return Ok(Next::Nothing);
            }
        }
        let n = self.buf.len().min(event.packet_left).min(MAX_PIECE_BYTES);
        // Pieces of a long event are not worth a wake-up each while they are small.
        if n < event.packet_left.min(WHOLE_EVENT_BYTES) {
            self.open = Some(event);
            return Ok(Next::NeedsBytes);
        }
        let data = self.buf.split_to(n).freeze();
        let offset = self.offset;
        self.offset += n as u64;
        event.packet_left -= n;
        event.event_left -= n;
        let piece = Piece {
            offset,
            data,
            first: !event.begun,
            last: event.event_left == 0,
            event_type: event.event_type,
            event_bytes: event.event_bytes,
            ack_wanted: event.ack_wanted,
        };
        event.begun = true;
        let wanted = event.wanted;
        if event.event_left > 0 || (event.packet_left == 0 && event.continued) {
            self.open = Some(event);
        }
        Ok(if wanted { Next::Item(DumpItem::Piece(piece)) } else { Next::Nothing })
    }

    fn beyond_end(&self) -> Error {
        let message = format!("the file ends at {}", self.offset);
        let BinlogPosition { file, offset } = self.request.start.clone();
        Error::BeyondEnd { file, offset, server: ServerError { code: 1236, sqlstate: String::new(), message } }
    }

    fn artificial(&mut self, header: &EventHeader, event: Bytes) -> Result<Next, Error> {
        // Fake events carry a checksum or not by rules that differ between versions; a right checksum is no accident.
        let checksum_bytes = if crc_is_right(&event) { 4 } else { 0 };
        let end = event.len().saturating_sub(checksum_bytes);
        let body = event.get(HEADER..end).ok_or(SHORT)?;
        match header.event_type {
            EventType::ROTATE => {
                let Rotate { next_file: file, position: offset } = Rotate::parse(body).map_err(|_| BAD_ROTATE)?;
                if (&file, offset) != (&self.file, self.offset) && self.wanted_from > 0 {
                    if self.offset < self.wanted_from {
                        return Err(self.beyond_end());
                    }
                    self.wanted_from = 0;
                }
                self.file = file;
                self.offset = offset;
                let position = BinlogPosition { file: self.file.clone(), offset: offset.max(self.wanted_from) };
                Ok(Next::Item(DumpItem::File(position)))
            }
            EventType::FORMAT_DESCRIPTION => Ok(Next::Item(DumpItem::Format(event))),
            EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => {
                let Heartbeat { file, mut offset } = Heartbeat::parse(header, body).map_err(|_| BAD_HEARTBEAT)?;
                // The first kind has only the low 32 bits; the rest is what has been read.
                if header.event_type == EventType::HEARTBEAT {
                    offset |= self.offset & !0xffff_ffff;
                    if offset > self.offset {
                        offset = offset.checked_sub(1 << 32).unwrap_or(offset);
                    }
                }
                Ok(Next::Item(DumpItem::Heartbeat(BinlogPosition { file, offset })))
            }
            _ => Ok(Next::Nothing),
        }
    }
}

const BAD_ROTATE: Error = Error::Malformed { what: "a ROTATE without a file name" };
const BAD_HEARTBEAT: Error = Error::Malformed { what: "a heartbeat without file or position" };
const SHORT: Error = Error::Malformed { what: "an event shorter than its header" };

enum Step {
    More,
    Item(Next),
}

enum Next {
    Item(DumpItem),
    Nothing,
    NeedsBytes,
}

#[cfg(test)]
mod tests;
