//! One file of the source, as far as its bytes have come.

use bytes::{Bytes, BytesMut};
use snafu::ResultExt;

use super::cut::{CommitCounts, Cut, Seal};
use crate::archive::binlog_index::{Ending, FileId, FileSummary, RawSum, SegmentMeta};
use crate::archive::digest::RawDigest;
use crate::binlog::Error;
use crate::binlog::error::EventSnafu;
use crate::binlog::status::Incident;
use crate::model::{BinlogPosition, CommitTime, EndsBy, Flavor, GtidSet};
use crate::mysql::event::{
    self, ChecksumAlgorithm, EventType, FileScanner, FormatDescription, GtidList, MAGIC, Rotate, Scan, ScanError, Step,
    TransactionTracker, changes_rows, parse_previous_gtids, query_event,
};

/// Raw bytes go to the next stage in pieces of about this size.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// The file being read.
pub(super) struct Open {
    pub name: String,
    pub scanner: FileScanner,
    pub tracker: TransactionTracker,
    /// Known once the format description is read.
    pub head: Option<FileHead>,
    /// Whether PREVIOUS_GTIDS or GTID_LIST was read: only behind it a file can be resumed.
    pub resumable: bool,
    pub summary: FileSummary,
    /// First byte of the segment at hand.
    pub segment_start: u64,
    /// Where the last whole event ends.
    pub event_end: u64,
    /// Where the last byte that was collected or compared ends.
    pub taken: u64,
    segment_gtids: GtidSet,
    pub commits: CommitCounts,
    chunk: BytesMut,
    pub long: bool,
    pub ending: Option<Ending>,
    pub overlap: Option<Overlap>,
    /// What the last event said that the file lacks.
    pub incident: Option<Incident>,
    /// Its index is in the store already.
    pub closed: bool,
    /// Whether a time stamp in the future was reported.
    warned: bool,
}

#[derive(Clone)]
pub(super) struct FileHead {
    pub id: FileId,
    pub server_version: String,
}

/// The last stored segment, read once more: proof that the source still has the bytes that were archived.
pub(super) struct Overlap {
    pub end: u64,
    pub key: String,
    pub sum: RawSum,
    pub digest: RawDigest,
}

impl Open {
    pub fn new(name: &str, flavor: Flavor) -> Self {
        let summary = FileSummary {
            previous_gtids: GtidSet::empty(flavor),
            gtids: GtidSet::empty(flavor),
            boundary: 0,
            transactions: 0,
            first_commit: None,
            last_commit: None,
            last_gtid: None,
            crc32: false,
            statements: 0,
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
            taken: 0,
            segment_gtids: GtidSet::empty(flavor),
            commits: CommitCounts::default(),
            chunk: BytesMut::new(),
            long: false,
            ending: None,
            overlap: None,
            incident: None,
            closed: false,
            warned: false,
        }
    }

    pub fn position(&self) -> BinlogPosition {
        BinlogPosition { file: self.name.clone(), offset: self.event_end }
    }

    pub fn diverged(&self, detail: &str) -> Error {
        Error::Diverged { at: self.position(), detail: detail.to_owned() }
    }

    pub fn mid_event(&self) -> bool {
        self.taken != self.event_end
    }

    pub fn can_seal(&self) -> bool {
        self.overlap.is_none() && self.resumable && !self.mid_event() && self.event_end > self.segment_start
    }

    /// The four bytes before a file's first event, which no source sends.
    pub fn magic(&mut self) -> u64 {
        // Four right bytes cannot fail and fill no chunk.
        let _ = self.scanner.scan(&mut MAGIC.as_slice());
        self.event_end = MAGIC.len() as u64;
        if self.overlap.is_some() {
            self.compare(&MAGIC);
            return 0;
        }
        self.feed(&Bytes::from_static(&MAGIC), &mut Vec::new())
    }

    /// Bytes that are stored already.
    pub fn compare(&mut self, data: &[u8]) {
        if let Some(overlap) = &mut self.overlap {
            overlap.digest.update(data);
            self.taken += data.len() as u64;
        }
    }

    /// Collects bytes of the segment at hand; returns how many.
    pub fn feed(&mut self, data: &Bytes, cuts: &mut Vec<Cut>) -> u64 {
        let length = data.len() as u64;
        self.taken += length;
        // Long events come in few, large pieces, which need no collecting.
        if data.len() >= CHUNK_BYTES / 4 {
            self.flush(cuts);
            cuts.push(Cut::Raw(data.clone()));
            return length;
        }
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        self.chunk.extend_from_slice(data);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush(cuts);
        }
        length
    }

    pub fn flush(&mut self, cuts: &mut Vec<Cut>) {
        if !self.chunk.is_empty() {
            cuts.push(Cut::Raw(std::mem::take(&mut self.chunk).freeze()));
        }
    }

    /// Walks over the events in `data`.
    pub fn scan(&mut self, server: &str, latest: CommitTime, mut data: &[u8]) -> Result<(), Error> {
        loop {
            match self.scanner.scan(&mut data) {
                Ok(Some(Scan::End)) => self.end_event(server, latest)?,
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
    fn end_event(&mut self, server: &str, latest: CommitTime) -> Result<(), Error> {
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
            EventType::INCIDENT => {
                let message = event::Incident::parse(body).map_err(parse)?.message;
                self.incident = Some(Incident { at: at.clone(), message });
            }
            _ => {}
        }
        if let Some(overlap) = &self.overlap {
            self.event_end = end;
            if end < overlap.end {
                return Ok(());
            }
            let same = end == overlap.end && overlap.digest.sum(&overlap.key) == overlap.sum;
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
        let by_statement = match header.event_type {
            EventType::QUERY => query_event(body).is_ok_and(|(_, statement)| changes_rows(statement)),
            EventType::EXECUTE_LOAD_QUERY => true,
            // MariaDB compresses no statement that ends a transaction, and of rows it logs no statement.
            EventType::QUERY_COMPRESSED => self.tracker.open().is_some_and(|open| open.ends_by == EndsBy::Commit),
            _ => false,
        };
        let disorder = |detail: String| Error::OutOfOrder { at: at.clone(), detail };
        let step = self.tracker.step(&header, offset, body).map_err(|e| disorder(e.to_string()))?;
        // Only now: an event that is refused is not part of what is sealed.
        self.event_end = end;
        if by_statement {
            self.by_statement(offset);
        }
        match step {
            Step::Head => self.summary.boundary = end,
            Step::Between | Step::Inside => {}
            Step::Ended(transaction) => {
                self.resumable = true;
                let summary = &mut self.summary;
                summary.boundary = end;
                summary.transactions += 1;
                if let Some(commit) = transaction.commit.filter(|commit| *commit > latest) {
                    if !std::mem::replace(&mut self.warned, true) {
                        let (file, stamp) = (&self.name, commit.timestamp());
                        tracing::warn!(
                            file, offset, %stamp,
                            "a transaction's time stamp is in the future (SET TIMESTAMP, or a clock is wrong): restores by \
                             time place it by its neighbours; further ones in this file are not reported",
                        );
                    }
                } else if let Some(commit) = transaction.commit {
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

    /// A change of rows was logged as the statement that made it.
    fn by_statement(&mut self, offset: u64) {
        if self.summary.statements == 0 {
            let file = &self.name;
            tracing::warn!(
                file,
                offset,
                "a change was logged as a statement (binlog_format was STATEMENT or MIXED in a session): a restore runs it again, and what \
                 UUID(), RAND() or a variable gave there may be another value then; further ones in this file are counted only",
            );
        }
        self.summary.statements += 1;
    }

    pub fn seal(&mut self, flavor: Flavor, upto: u64, cuts: &mut Vec<Cut>) {
        let Some(head) = self.head.clone() else { return };
        self.flush(cuts);
        let gtids = std::mem::replace(&mut self.segment_gtids, GtidSet::empty(flavor));
        // Whoever makes the object says in which format, how it is encrypted, and the checksum.
        let meta = SegmentMeta {
            format: 0,
            file: head.id,
            flavor,
            server_version: head.server_version,
            start: self.segment_start,
            end: self.event_end,
            raw: RawSum::default(),
            summary: self.summary.clone(),
            gtids,
            open_transaction: self.tracker.open().cloned(),
            encryption: None,
            edition: None,
        };
        self.segment_start = self.event_end;
        self.long = false;
        cuts.push(Cut::Seal(Box::new(Seal { meta, commits: std::mem::take(&mut self.commits), upto })));
    }
}
