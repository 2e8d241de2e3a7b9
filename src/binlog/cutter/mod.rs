//! First stage: the bytes a source sends become segments of its files. Pure: no I/O, no clock of its own.

mod cut;
mod open;
#[cfg(test)]
mod tests;

use snafu::ResultExt;

use super::Error;
use super::checkpoint::Head;
use super::error::EventSnafu;
use crate::archive::binlog_index::Ending;
use crate::archive::digest::RawDigest;
use crate::model::{BinlogPosition, CommitTime, Flavor};
use crate::mysql::event::{ChecksumAlgorithm, EventHeader, FileScanner, MAGIC, TransactionTracker};
use crate::mysql::wire::{DumpItem, Piece};
use open::{FileHead, Open, Overlap};

pub(super) use cut::{Closing, CommitCounts, Cut, Seal};

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
    /// A commit time later than this is not believed.
    latest: CommitTime,
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
            latest: CommitTime(i64::MAX),
        }
    }

    /// For a file that goes on where the store's part of it ends. The dump must start at [`Self::dump_start`].
    pub(super) fn resume(head: &Head, newest: &str, segment_bytes: u64) -> Self {
        let mut cutter = Self::new(&head.file.server, head.flavor, newest, segment_bytes);
        let crc = if head.summary.crc32 { ChecksumAlgorithm::Crc32 } else { ChecksumAlgorithm::Off };
        let overlap = head.last_range.as_ref().map(|last| Overlap {
            end: head.end,
            key: last.key.clone(),
            sum: last.sum.clone(),
            digest: RawDigest::like(&last.sum),
        });
        let mut open = Open::new(&head.file.name, head.flavor);
        let start = Self::dump_start(head);
        if start > MAGIC.len() as u64 {
            open.scanner = FileScanner::resume(start, crc);
            open.event_end = start;
            open.taken = start;
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
        head.last_range.as_ref().map_or(head.end, |last| last.start.max(MAGIC.len() as u64))
    }

    /// Tells the time: nothing that comes next was committed after it. A MariaDB stamp that says so (by `SET TIMESTAMP`) is no commit
    /// time and is not counted as one. MySQL's commit times are its server's clock.
    pub(super) fn set_clock(&mut self, now: CommitTime) {
        if self.flavor == Flavor::Mariadb {
            self.latest = CommitTime(now.0.saturating_add(CommitTime::SKEW_US));
        }
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

    /// Commit time of the first transaction in the segment at hand.
    pub(super) fn oldest_commit(&self) -> Option<CommitTime> {
        self.file.as_ref().and_then(|open| open.commits.0.first()).map(|(commit, _)| *commit)
    }

    /// Commit time of the newest transaction of the file at hand.
    pub(super) fn newest_commit(&self) -> Option<CommitTime> {
        self.file.as_ref().and_then(|open| open.summary.last_commit)
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
                let (file, size) = (head.id.clone(), open.event_end);
                cuts.push(Cut::Close(Box::new(Closing { file, size, ending, next_file })));
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
        // What is compared is needed to judge the event's end; what is collected must not hold a damaged event.
        let comparing = open.overlap.is_some();
        if comparing {
            open.compare(&piece.data);
        }
        open.scan(&self.server, self.latest, &piece.data)?;
        cuts.extend(open.incident.take().map(Cut::Incident));
        if !comparing {
            self.upto += open.feed(&piece.data, cuts);
        }
        let full = open.event_end.saturating_sub(open.segment_start) >= self.segment_bytes;
        if open.can_seal() && (full || open.long) {
            open.seal(self.flavor, self.upto, cuts);
        }
        Ok(())
    }
}
