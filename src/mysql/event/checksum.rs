use super::{EventHeader, EventType, HEADER_BYTES};

/// Where a header keeps its flags' low byte.
const FLAGS_AT: usize = 17;

/// The checksum of one event, computed over it piece by piece.
#[derive(Clone, Debug)]
pub struct EventCrc {
    crc: crc32fast::Hasher,
    /// Bytes still to come before the checksum itself.
    left: u64,
    /// The checksum's own bytes seen so far.
    stored: [u8; 4],
    stored_len: usize,
}

impl EventCrc {
    /// Begins with an event's header; its other bytes go to [`Self::update`].
    ///
    /// A server checks a format description as if its in-use flag were clear: it sets the flag without a new checksum.
    pub fn new(header: &EventHeader) -> Self {
        let mut crc = crc32fast::Hasher::new();
        let mut header = *header;
        if header.event_type == EventType::FORMAT_DESCRIPTION {
            header.flags &= !EventHeader::IN_USE;
        }
        crc.update(&header.encode());
        let left = u64::from(header.event_size).saturating_sub(HEADER_BYTES as u64 + 4);
        Self { crc, left, stored: [0; 4], stored_len: 0 }
    }

    /// Takes the event's next bytes; the last four of the event are its checksum.
    pub fn update(&mut self, bytes: &[u8]) {
        let of_body = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (body, stored) = bytes.split_at(of_body);
        self.crc.update(body);
        self.left -= of_body as u64;
        for (to, from) in self.stored.iter_mut().skip(self.stored_len).zip(stored) {
            *to = *from;
            self.stored_len += 1;
        }
    }

    /// Whether all bytes came and their checksum is the one they end with.
    pub fn is_right(self) -> bool {
        self.stored_len == 4 && self.crc.finalize() == u32::from_le_bytes(self.stored)
    }
}

/// Whether a whole event, header to checksum, ends with its right checksum.
pub fn crc_is_right(event: &[u8]) -> bool {
    let Ok(header) = EventHeader::parse(event) else { return false };
    let mut crc = EventCrc::new(&header);
    crc.update(event.get(HEADER_BYTES..).unwrap_or_default());
    crc.is_right() && event.len() as u64 == u64::from(header.event_size)
}

/// Puts the right checksum into the last four bytes of a whole event, and clears a format description's in-use flag.
pub(super) fn finish(mut event: Vec<u8>) -> Vec<u8> {
    let is_format = event.get(4) == Some(&EventType::FORMAT_DESCRIPTION.0);
    if let Some(flags) = event.get_mut(FLAGS_AT).filter(|_| is_format) {
        *flags &= !(EventHeader::IN_USE as u8);
    }
    if let Some((body, stored)) = event.split_last_chunk_mut::<4>() {
        *stored = crc32fast::hash(body).to_le_bytes();
    }
    event
}
