use snafu::{ResultExt, Snafu, ensure};

use super::checksum::EventCrc;
use super::control::{ChecksumAlgorithm, FormatDescription};
use super::error::ParseEventError;
use super::{EventHeader, EventType, HEADER_BYTES, head_bytes};

/// The first bytes of every binlog file.
pub const MAGIC: [u8; 4] = *b"\xfebin";

const ENCRYPTED_MAGIC: [u8; 4] = *b"\xfdbin";

/// Splits the bytes of a binlog *file* into events as they come, and checks each event's checksum. Memory is bounded by
/// [`head_bytes`], however large an event is.
///
/// ```ignore
/// while let Some(scan) = scanner.scan(&mut chunk)? { … }   // for each chunk of bytes
/// scanner.finish()?;                                       // the file must not end within an event
/// ```
#[derive(Debug)]
pub struct FileScanner {
    /// Bytes of the file taken so far.
    position: u64,
    checksum: ChecksumAlgorithm,
    /// What is kept of the event at hand: its header and the head of its body.
    kept: Vec<u8>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Magic,
    /// Before or within an event's header.
    Header,
    /// Within the part of an event that is kept.
    Head {
        offset: u64,
        header: EventHeader,
        crc: EventCrc,
        keep: usize,
    },
    /// Behind that part.
    Rest {
        offset: u64,
        header: EventHeader,
        crc: EventCrc,
    },
    /// The event is whole, and stays readable until the next scan.
    Whole {
        offset: u64,
        header: EventHeader,
    },
}

/// What [`FileScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// The head of an event is known: see [`FileScanner::event`]. Its other bytes and its end follow.
    Head,
    /// More bytes of that event, behind its head.
    Rest(&'a [u8]),
    /// The event is whole and its checksum right; [`FileScanner::event`] still shows it.
    End,
}

/// An event as far as the scanner keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead<'a> {
    /// Its header.
    pub header: EventHeader,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes as they are in the file: header, body and checksum, or only the first of them when it is large.
    pub raw: &'a [u8],
    /// Its body without checksum, or only the first bytes of it. Of a format description all behind the header.
    pub body: &'a [u8],
}

impl EventHead<'_> {
    /// Where the event ends in the file.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.header.event_size.into())
    }
}

/// Bytes that are no whole, undamaged binlog file.
#[derive(Debug, Snafu)]
pub enum ScanError {
    /// The file does not begin as a binlog file does.
    #[snafu(display("cannot read a binary log: it does not begin with the four bytes of one"))]
    NoBinlog,
    /// An event, or one it depends on, is malformed.
    #[snafu(display("cannot read the binary log at {offset}: {source}"))]
    Parse {
        /// The event's offset.
        offset: u64,
        /// Why.
        source: ParseEventError,
    },
    /// The first event is of another type.
    #[snafu(display("cannot read the binary log at {offset}: {found} comes where the format description is due"))]
    NoFormat {
        /// The event's offset.
        offset: u64,
        /// What is there.
        found: EventType,
    },
    /// An event is smaller or larger than its type can be.
    #[snafu(display("cannot read the binary log at {offset}: {event} has an impossible size of {bytes} bytes"))]
    Size {
        /// The event's offset.
        offset: u64,
        /// Its type.
        event: EventType,
        /// Its size.
        bytes: u32,
    },
    /// The checksum does not fit the bytes.
    #[snafu(display(
        "cannot trust the binary log at {offset}: the checksum of {event} is wrong, its bytes are damaged"
    ))]
    Checksum {
        /// The event's offset.
        offset: u64,
        /// Its type.
        event: EventType,
    },
    /// The file ends within an event.
    #[snafu(display(
        "cannot read the binary log to its end: it stops after {position} bytes, within the event at {offset}"
    ))]
    Truncated {
        /// The event's offset.
        offset: u64,
        /// How many bytes there are.
        position: u64,
    },
}

/// Largest event taken whole (PREVIOUS_GTIDS, GTID_LIST, format description): millions of intervals.
const MAX_WHOLE_BYTES: usize = 64 << 20;

impl FileScanner {
    /// Begins with the first byte of a file.
    pub fn new() -> Self {
        Self { position: 0, checksum: ChecksumAlgorithm::Off, kept: Vec::new(), phase: Phase::Magic }
    }

    /// Goes on at `offset`, between two events behind the format description of a file with this checksum.
    pub fn resume(offset: u64, checksum: ChecksumAlgorithm) -> Self {
        Self { position: offset, checksum, kept: Vec::new(), phase: Phase::Header }
    }

    /// Bytes of the file taken so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The checksum that events carry, as the format description said.
    pub fn checksum(&self) -> ChecksumAlgorithm {
        self.checksum
    }

    /// The event at hand: from [`Scan::Head`] until the scan after its [`Scan::End`].
    pub fn event(&self) -> Option<EventHead<'_>> {
        let (offset, header) = match &self.phase {
            Phase::Rest { offset, header, .. } | Phase::Whole { offset, header } => (*offset, *header),
            Phase::Magic | Phase::Header | Phase::Head { .. } => return None,
        };
        let raw = self.kept.as_slice();
        let trailer = self.trailer_bytes(&header);
        let body_end = (header.event_size as usize).saturating_sub(trailer).min(raw.len());
        Some(EventHead { header, offset, raw, body: raw.get(HEADER_BYTES..body_end).unwrap_or_default() })
    }

    /// Takes bytes from the front of `input`; none when it needs more than there are.
    pub fn scan<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Scan<'a>>, ScanError> {
        loop {
            match &mut self.phase {
                Phase::Magic => {
                    if !self.keep(input, MAGIC.len()) {
                        return Ok(None);
                    }
                    if self.kept == ENCRYPTED_MAGIC {
                        return Err(ParseEventError::Encrypted).context(ParseSnafu { offset: 0_u64 });
                    }
                    ensure!(self.kept == MAGIC, NoBinlogSnafu);
                    self.kept.clear();
                    self.phase = Phase::Header;
                }
                Phase::Whole { .. } => {
                    self.kept.clear();
                    self.phase = Phase::Header;
                }
                Phase::Header => {
                    if !self.keep(input, HEADER_BYTES) {
                        return Ok(None);
                    }
                    self.phase = self.begin()?;
                }
                Phase::Head { offset, header, keep, .. } => {
                    let (offset, header, keep) = (*offset, *header, *keep);
                    if !self.keep(input, keep) {
                        return Ok(None);
                    }
                    let Phase::Head { mut crc, .. } = std::mem::replace(&mut self.phase, Phase::Header) else {
                        continue;
                    };
                    crc.update(self.kept.get(HEADER_BYTES..).unwrap_or_default());
                    if header.event_type == EventType::FORMAT_DESCRIPTION {
                        let rest = self.kept.get(HEADER_BYTES..).unwrap_or_default();
                        self.checksum =
                            FormatDescription::parse(&header, rest).context(ParseSnafu { offset })?.checksum;
                    }
                    self.phase = Phase::Rest { offset, header, crc };
                    return Ok(Some(Scan::Head));
                }
                Phase::Rest { offset, header, crc } => {
                    let end = *offset + u64::from(header.event_size);
                    if self.position < end {
                        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
                        let (taken, rest) = input.split_at(left.min(input.len()));
                        *input = rest;
                        if taken.is_empty() {
                            return Ok(None);
                        }
                        crc.update(taken);
                        self.position += taken.len() as u64;
                        return Ok(Some(Scan::Rest(taken)));
                    }
                    let (offset, header) = (*offset, *header);
                    if self.checksum == ChecksumAlgorithm::Crc32 {
                        ensure!(crc.clone().is_right(), ChecksumSnafu { offset, event: header.event_type });
                    }
                    self.phase = Phase::Whole { offset, header };
                    return Ok(Some(Scan::End));
                }
            }
        }
    }

    /// The next whole event; none when `input` is used up.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<EventHead<'_>>, ScanError> {
        loop {
            match self.scan(input)? {
                Some(Scan::End) => return Ok(self.event()),
                Some(Scan::Head | Scan::Rest(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// To be called where the file ends: fails within an event, or before the first.
    pub fn finish(&self) -> Result<(), ScanError> {
        let offset = match &self.phase {
            Phase::Whole { .. } => return Ok(()),
            Phase::Header if self.kept.is_empty() && self.position > MAGIC.len() as u64 => return Ok(()),
            Phase::Magic => 0,
            Phase::Header => self.position - self.kept.len() as u64,
            Phase::Head { offset, .. } | Phase::Rest { offset, .. } => *offset,
        };
        TruncatedSnafu { offset, position: self.position }.fail()
    }

    /// Fills `kept` up to `count` bytes; false when `input` ends before.
    fn keep(&mut self, input: &mut &[u8], count: usize) -> bool {
        let missing = count.saturating_sub(self.kept.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        self.kept.extend_from_slice(taken);
        self.position += taken.len() as u64;
        self.kept.len() >= count
    }

    /// Decides by an event's header how much of it to keep.
    fn begin(&self) -> Result<Phase, ScanError> {
        let offset = self.position - HEADER_BYTES as u64;
        let header = EventHeader::parse(&self.kept).context(ParseSnafu { offset })?;
        let (event, size) = (header.event_type, header.event_size as usize);
        if offset == MAGIC.len() as u64 {
            ensure!(event == EventType::FORMAT_DESCRIPTION, NoFormatSnafu { offset, found: event });
        }
        if event == EventType::START_ENCRYPTION {
            return Err(ParseEventError::Encrypted).context(ParseSnafu { offset });
        }
        let whole = head_bytes(event) == usize::MAX;
        let fits = size >= HEADER_BYTES + self.trailer_bytes(&header) && !(whole && size > MAX_WHOLE_BYTES);
        ensure!(fits, SizeSnafu { offset, event, bytes: header.event_size });
        let keep = head_bytes(event).saturating_add(HEADER_BYTES).min(size);
        Ok(Phase::Head { offset, header, crc: EventCrc::new(&header), keep })
    }

    /// Bytes behind the body that are not the body's. A format description's parser reads its own.
    fn trailer_bytes(&self, header: &EventHeader) -> usize {
        if header.event_type == EventType::FORMAT_DESCRIPTION { 0 } else { self.checksum.bytes() }
    }
}

impl Default for FileScanner {
    fn default() -> Self {
        Self::new()
    }
}
