//! First stage: the bytes a source sends become segments of its files. Pure: no I/O, no clock.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use snafu::ResultExt;

use super::Error;
use super::checkpoint::Head;
use super::error::EventSnafu;
use crate::archive::FORMAT;
use crate::archive::binlog_index::{Ending, FileId, FileSummary, SegmentMeta};
use crate::model::{BinlogPosition, CommitTime, Flavor, GtidSet};
use crate::mysql::event::{
    ChecksumAlgorithm, EventHeader, EventType, FileScanner, FormatDescription, GtidList, MAGIC, Rotate, Scan,
    ScanError, Step, TransactionTracker, parse_previous_gtids,
};
use crate::mysql::wire::{DumpItem, Piece};

/// Raw bytes go to the next stage in pieces of about this size.
const CHUNK_BYTES: usize = 256 << 10;

/// What the next stage is told, in order.
#[derive(Debug)]
pub(super) enum Cut {
    /// Bytes of the segment at hand.
    Raw(Bytes),
    /// The segment that begins here is one event too large to be held.
    Long { file: FileId, start: u64, end: u64 },
    /// The segment at hand ends.
    Seal(Box<Seal>),
    /// The file is over; everything of it was sealed before.
    Close(Box<Closing>),
}

/// The end of a segment.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// Complete but for the digest of its bytes.
    pub meta: SegmentMeta,
    /// Commit times of the transactions that end in it.
    pub commits: CommitCounts,
    /// Bytes cut in this session up to here, over all files.
    pub upto: u64,
}

/// The end of a file.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub file: FileId,
    pub ending: Ending,
    pub next_file: Option<String>,
}

/// Commit times, equal milliseconds counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitCounts(pub Vec<(CommitTime, u64)>);

impl CommitCounts {
    fn add(&mut self, commit: CommitTime) {
        match self.0.last_mut() {
            Some((last, count)) if last.0 / 1000 == commit.0 / 1000 => *count += 1,
            _ => self.0.push((commit, 1)),
        }
    }
}

/// Turns [`DumpItem`]s into [`Cut`]s.
pub(super) struct Cutter {
    server: String,
    flavor: Flavor,
    segment_bytes: u64,
    /// The source's newest file when this session began: it and later ones can only end by an event that says so. One that
    /// ends otherwise was replaced (RESET BINARY LOGS), and what the source sends next may leave something out.
    newest: String,
    /// Whether that file was reached.
    past_newest: bool,
    file: Option<Open>,
    upto: u64,
}

/// The file being read.
struct Open {
    name: String,
    scanner: FileScanner,
    tracker: TransactionTracker,
    /// Known once the format description is read.
    head: Option<FileHead>,
    /// Whether PREVIOUS_GTIDS or GTID_LIST was read: only behind it a file can be resumed.
    resumable: bool,
    summary: FileSummary,
    /// First byte of the segment at hand.
    segment_start: u64,
    /// Where the last whole event ends.
    event_end: u64,
    segment_gtids: GtidSet,
    commits: CommitCounts,
    chunk: BytesMut,
    long: bool,
    ending: Option<Ending>,
    overlap: Option<Overlap>,
    /// Its index is in the store already.
    closed: bool,
}

#[derive(Clone)]
struct FileHead {
    id: FileId,
    server_version: String,
}

/// The last stored segment, read once more: proof that the source still has the bytes that were archived.
struct Overlap {
    end: u64,
    sha256: String,
    digest: Context,
}

impl Cutter {
    /// For a file of which nothing is stored. It begins with the source's announcement of it.
    pub(super) fn new(server: &str, flavor: Flavor, newest: &str, segment_bytes: u64) -> Self {
        let (server, newest) = (server.to_owned(), newest.to_owned());
        Self {
            server,
            flavor,
            segment_bytes: segment_bytes.max(64 << 10),
            newest,
            past_newest: false,
            file: None,
            upto: 0,
        }
    }

    /// For a file that goes on where the store's part of it ends. The dump must start at [`Self::dump_start`].
    pub(super) fn resume(head: &Head, newest: &str, segment_bytes: u64) -> Self {
        let mut cutter = Self::new(&head.file.server, head.flavor, newest, segment_bytes);
        let crc = if head.summary.crc32 { ChecksumAlgorithm::Crc32 } else { ChecksumAlgorithm::Off };
        let overlap = head.last_range.as_ref().map(|(_, sha256)| Overlap {
            end: head.end,
            sha256: sha256.clone(),
            digest: Context::new(&SHA256),
        });
        let mut open = Open::new(&head.file.name, head.flavor);
        let start = Self::dump_start(head);
        if start > MAGIC.len() as u64 {
            open.scanner = FileScanner::resume(start, crc);
            open.event_end = start;
        }
        open.tracker = TransactionTracker::resume(head.end, head.open_transaction.clone());
        open.head = Some(FileHead { id: head.file.clone(), server_version: head.server_version.clone() });
        open.resumable = true;
        open.summary = head.summary.clone();
        open.segment_start = head.end;
        open.overlap = overlap;
        if open.event_end == 0 {
            open.magic();
        }
        open.closed = head.closed.is_some();
        cutter.file = Some(open);
        cutter
    }

    /// Where in the file the dump must start: at the last stored segment, or behind everything where that is not read again.
    pub(super) fn dump_start(head: &Head) -> u64 {
        head.last_range.as_ref().map_or(head.end, |(start, _)| (*start).max(MAGIC.len() as u64))
    }

    /// Takes the next item; what follows from it is appended to `cuts`.
    pub(super) fn take(&mut self, item: DumpItem, cuts: &mut Vec<Cut>) -> Result<(), Error> {
        match item {
            DumpItem::File(position) => self.begin_file(position, cuts),
            DumpItem::Format(event) => self.check_format(&event),
            DumpItem::Piece(piece) => self.piece(&piece, cuts),
            DumpItem::Heartbeat(_) => Ok(()),
        }
    }

    /// Where the next byte is due.
    pub(super) fn position(&self) -> Option<BinlogPosition> {
        self.file.as_ref().map(Open::position)
    }

    /// Bytes cut so far in this session.
    pub(super) fn upto(&self) -> u64 {
        self.upto
    }

    /// Whether bytes wait that [`Self::seal`] would end a segment with.
    pub(super) fn can_seal(&self) -> bool {
        self.file.as_ref().is_some_and(Open::can_seal)
    }

    /// Commit time of the newest transaction in the segment at hand.
    pub(super) fn oldest_commit(&self) -> Option<CommitTime> {
        self.file.as_ref().and_then(|open| open.commits.0.first()).map(|(commit, _)| *commit)
    }

    /// Ends the segment at hand if it holds whole events only.
    pub(super) fn seal(&mut self, cuts: &mut Vec<Cut>) {
        let upto = self.upto;
        let flavor = self.flavor;
        if let Some(open) = self.file.as_mut().filter(|open| open.can_seal()) {
            open.seal(flavor, upto, cuts);
        }
    }

    fn begin_file(&mut self, position: BinlogPosition, cuts: &mut Vec<Cut>) -> Result<(), Error> {
        if let Some(open) = &mut self.file {
            if open.name == position.file && position.offset == open.event_end {
                return Ok(());
            }
            if open.mid_event() || open.overlap.is_some() {
                return Err(open.diverged("the source's file ends before the archived part of it does"));
            }
            if open.can_seal() {
                open.seal(self.flavor, self.upto, cuts);
            }
            let at_newest = open.name == self.newest || self.past_newest;
            if open.ending.is_none() && !open.closed && at_newest {
                return Err(Error::Replaced { at: open.position() });
            }
            self.past_newest = at_newest;
            if let (false, Some(head)) = (open.closed, &open.head) {
                let ending = open.ending.take().unwrap_or(Ending::Crash);
                let next_file = Some(position.file.clone());
                cuts.push(Cut::Close(Box::new(Closing { file: head.id.clone(), ending, next_file })));
            }
        }
        if position.offset != MAGIC.len() as u64 {
            let detail = "a file that is not archived from its beginning is sent from its middle".to_owned();
            return Err(Error::OutOfOrder { at: position, detail });
        }
        let mut open = Open::new(&position.file, self.flavor);
        self.upto += open.magic();
        self.file = Some(open);
        Ok(())
    }

    /// A dump that begins within a file repeats the file's head: it must be the file that was archived.
    fn check_format(&self, event: &[u8]) -> Result<(), Error> {
        let Some(open) = &self.file else { return Ok(()) };
        let created_unix = EventHeader::parse(event).context(EventSnafu { at: open.position() })?.timestamp;
        match &open.head {
            Some(head) if head.id.created_unix != created_unix => Err(Error::Replaced { at: open.position() }),
            _ => Ok(()),
        }
    }

    fn piece(&mut self, piece: &Piece, cuts: &mut Vec<Cut>) -> Result<(), Error> {
        let Some(open) = &mut self.file else {
            let at = BinlogPosition { file: String::new(), offset: piece.offset };
            return Err(Error::OutOfOrder { at, detail: "bytes came before the file's name".to_owned() });
        };
        if piece.offset != open.scanner.position() || open.ending.is_some() {
            let detail = format!("bytes at {} came where {} is due", piece.offset, open.scanner.position());
            return Err(Error::OutOfOrder { at: open.position(), detail });
        }
        if piece.first && open.overlap.is_none() {
            if open.closed {
                return Err(open.diverged("the source's file goes on behind the end that was archived"));
            }
            let after = open.event_end.saturating_add(piece.event_bytes.into()) - open.segment_start;
            if after > self.segment_bytes && open.can_seal() {
                open.seal(self.flavor, self.upto, cuts);
            }
            if u64::from(piece.event_bytes) > self.segment_bytes
                && let (true, Some(head)) = (open.segment_start == open.event_end, &open.head)
            {
                open.long = true;
                let end = open.event_end.saturating_add(piece.event_bytes.into());
                cuts.push(Cut::Long { file: head.id.clone(), start: open.event_end, end });
            }
        }
        // Long events come in few, large pieces, which need no collecting.
        let own = if piece.data.len() >= CHUNK_BYTES / 4 && open.overlap.is_none() {
            open.flush(cuts);
            cuts.push(Cut::Raw(piece.data.clone()));
            piece.data.len() as u64
        } else {
            open.feed(&piece.data, cuts)
        };
        self.upto += own;
        open.scan(&self.server, &piece.data)?;
        let full = open.event_end.saturating_sub(open.segment_start) >= self.segment_bytes;
        if open.can_seal() && (full || open.long) {
            open.seal(self.flavor, self.upto, cuts);
        }
        Ok(())
    }
}

impl Open {
    fn new(name: &str, flavor: Flavor) -> Self {
        let summary = FileSummary {
            previous_gtids: GtidSet::empty(flavor),
            gtids: GtidSet::empty(flavor),
            boundary: 0,
            transactions: 0,
            first_commit: None,
            last_commit: None,
            last_gtid: None,
            crc32: false,
        };
        Self {
            name: name.to_owned(),
            scanner: FileScanner::new(),
            tracker: TransactionTracker::new(),
            head: None,
            resumable: false,
            summary,
            segment_start: 0,
            event_end: 0,
            segment_gtids: GtidSet::empty(flavor),
            commits: CommitCounts::default(),
            chunk: BytesMut::new(),
            long: false,
            ending: None,
            overlap: None,
            closed: false,
        }
    }

    fn position(&self) -> BinlogPosition {
        BinlogPosition { file: self.name.clone(), offset: self.event_end }
    }

    fn diverged(&self, detail: &str) -> Error {
        Error::Diverged { at: self.position(), detail: detail.to_owned() }
    }

    fn mid_event(&self) -> bool {
        self.scanner.position() != self.event_end
    }

    fn can_seal(&self) -> bool {
        self.overlap.is_none() && self.resumable && !self.mid_event() && self.event_end > self.segment_start
    }

    /// The four bytes before a file's first event, which no source sends.
    fn magic(&mut self) -> u64 {
        // Four right bytes cannot fail and fill no chunk.
        let _ = self.scanner.scan(&mut MAGIC.as_slice());
        self.event_end = MAGIC.len() as u64;
        self.feed(&MAGIC, &mut Vec::new())
    }

    /// Collects bytes of the segment at hand, or compares them with what is stored; returns how many are new.
    fn feed(&mut self, data: &[u8], cuts: &mut Vec<Cut>) -> u64 {
        if let Some(overlap) = &mut self.overlap {
            overlap.digest.update(data);
            return 0;
        }
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        self.chunk.extend_from_slice(data);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush(cuts);
        }
        data.len() as u64
    }

    fn flush(&mut self, cuts: &mut Vec<Cut>) {
        if !self.chunk.is_empty() {
            cuts.push(Cut::Raw(std::mem::take(&mut self.chunk).freeze()));
        }
    }

    /// Walks over the events in `data`.
    fn scan(&mut self, server: &str, mut data: &[u8]) -> Result<(), Error> {
        loop {
            match self.scanner.scan(&mut data) {
                Ok(Some(Scan::End)) => self.end_event(server)?,
                Ok(Some(Scan::Head | Scan::Rest(_))) => {}
                Ok(None) => return Ok(()),
                Err(ScanError::Checksum { event, .. }) => {
                    return Err(Error::Corrupt { at: self.position(), kind: event.to_string() });
                }
                Err(ScanError::Parse { source, .. }) => return Err(source).context(EventSnafu { at: self.position() }),
                Err(e) => return Err(Error::OutOfOrder { at: self.position(), detail: e.to_string() }),
            }
        }
    }

    /// The event at hand is whole and undamaged.
    fn end_event(&mut self, server: &str) -> Result<(), Error> {
        let at = self.position();
        let Some(event) = self.scanner.event() else { return Ok(()) };
        let (header, body, offset, end) = (event.header, event.body, event.offset, event.end());
        let parse = |source| Error::Event { at: at.clone(), source };
        match header.event_type {
            EventType::ROTATE => {
                Rotate::parse(body).map_err(parse)?;
                self.ending = Some(Ending::Rotate);
            }
            EventType::STOP => self.ending = Some(Ending::Stop),
            _ => {}
        }
        self.event_end = end;
        if let Some(overlap) = &self.overlap {
            if end < overlap.end {
                return Ok(());
            }
            let same = end == overlap.end && hex::encode(overlap.digest.clone().finish()) == overlap.sha256;
            if !same {
                return Err(self.diverged("the last archived segment, read again, is not what the source sends now"));
            }
            self.overlap = None;
            return Ok(());
        }
        match header.event_type {
            EventType::FORMAT_DESCRIPTION => {
                let format = FormatDescription::parse(&header, body).map_err(parse)?;
                let id =
                    FileId { server: server.to_owned(), name: self.name.clone(), created_unix: format.created_unix };
                self.summary.crc32 = format.checksum == ChecksumAlgorithm::Crc32;
                self.head = Some(FileHead { id, server_version: format.server_version });
            }
            EventType::PREVIOUS_GTIDS => {
                self.summary.previous_gtids = GtidSet::Mysql(parse_previous_gtids(body).map_err(parse)?);
                self.resumable = true;
            }
            EventType::GTID_LIST if !self.resumable => {
                self.summary.previous_gtids = GtidSet::Mariadb(GtidList::parse(body).map_err(parse)?.executed());
                self.resumable = true;
            }
            _ => {}
        }
        let disorder = |detail: String| Error::OutOfOrder { at: at.clone(), detail };
        match self.tracker.step(&header, offset, body).map_err(|e| disorder(e.to_string()))? {
            Step::Head => self.summary.boundary = end,
            Step::Between | Step::Inside => {}
            Step::Ended(transaction) => {
                self.resumable = true;
                let summary = &mut self.summary;
                summary.boundary = end;
                summary.transactions += 1;
                if let Some(commit) = transaction.commit {
                    summary.first_commit.get_or_insert(commit);
                    summary.last_commit = summary.last_commit.max(Some(commit));
                    self.commits.add(commit);
                }
                if let Some(gtid) = &transaction.gtid {
                    summary.gtids.insert(gtid).map_err(|e| disorder(e.to_string()))?;
                    self.segment_gtids.insert(gtid).map_err(|e| disorder(e.to_string()))?;
                }
                summary.last_gtid = transaction.gtid;
            }
        }
        Ok(())
    }

    fn seal(&mut self, flavor: Flavor, upto: u64, cuts: &mut Vec<Cut>) {
        let Some(head) = self.head.clone() else { return };
        self.flush(cuts);
        let gtids = std::mem::replace(&mut self.segment_gtids, GtidSet::empty(flavor));
        let meta = SegmentMeta {
            format: FORMAT,
            file: head.id,
            flavor,
            server_version: head.server_version,
            start: self.segment_start,
            end: self.event_end,
            raw_sha256: String::new(),
            summary: self.summary.clone(),
            gtids,
            open_transaction: self.tracker.open().cloned(),
        };
        self.segment_start = self.event_end;
        self.long = false;
        cuts.push(Cut::Seal(Box::new(Seal { meta, commits: std::mem::take(&mut self.commits), upto })));
    }
}
