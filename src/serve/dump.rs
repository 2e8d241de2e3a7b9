//! One replica's stream: events of the archived files as a source would send them.

use std::time::Duration;

use tokio::pin;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::error::ServeError;
use super::events::empty_transaction;
use super::filter::{Filter, Verdict};
use super::lineage::{Part, tail_ranges};
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, Gtid, GtidSet};
use crate::mysql::event::write::{Source, format_for_stream};
use crate::mysql::event::{
    ChecksumAlgorithm, EventHead, EventType, FileScanner, MariadbGtidEvent, MysqlGtidEvent, Scan, Step,
    TransactionTracker,
};
use crate::mysql::wire::server::ReplicaConnection;

/// How a stream goes on after a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// With what follows.
    More,
    /// Not at all: the replica asked to stop here, or is gone.
    Stop,
}

/// The state of one replica's stream.
pub(super) struct Dump<'a> {
    replica: &'a mut ReplicaConnection,
    store: Store,
    shared: &'a Shared,
    filter: Filter,
    until: Option<MariadbGtidSet>,
    heartbeat: Duration,
    /// Says what made-up events end with.
    source: Source,
    /// Where the replica believes to be.
    at: BinlogPosition,
    last_sent: Instant,
    /// Where to go on in the last file: its scanner's checksum is needed to read on in it.
    tail_checksum: ChecksumAlgorithm,
    bytes: u64,
    transactions: u64,
}

/// The event being passed on.
enum Passing {
    /// Nothing of it is sent.
    No,
    /// Its bytes are sent as they come, but for the last four: those follow once the checksum proved right.
    Yes { left: usize, held: Vec<u8> },
    /// It is changed first, so it is sent when it is whole.
    Whole,
}

const HELD_BYTES: usize = 4;

impl<'a> Dump<'a> {
    pub fn new(
        replica: &'a mut ReplicaConnection,
        store: &Store,
        shared: &'a Shared,
        filter: Filter,
        until: Option<MariadbGtidSet>,
        heartbeat: Duration,
    ) -> Self {
        // What the replica expects before the first format description is what we told it: CRC32.
        let source = Source { server_id: shared.config.identity.server_id, checksum: ChecksumAlgorithm::Crc32 };
        Self {
            replica,
            store: store.clone(),
            shared,
            filter,
            until,
            heartbeat,
            source,
            at: BinlogPosition { file: String::new(), offset: 4 },
            last_sent: Instant::now(),
            tail_checksum: ChecksumAlgorithm::Crc32,
            bytes: 0,
            transactions: 0,
        }
    }

    /// What the replica has by now.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Where the replica is.
    pub fn position(&self) -> &BinlogPosition {
        &self.at
    }

    /// Begins a file: names it, sends its format description, then its events from `from` (at least 4) to the part's end.
    pub async fn file(&mut self, part: &Part, from: u64) -> Result<Onward, ServeError> {
        self.at = BinlogPosition { file: part.file.id.name.clone(), offset: from.max(4) };
        let rotate = self.source.fake_rotate(&self.at);
        self.replica.event(&rotate).await?;
        if from <= 4 {
            let (scanner, tracker) = (FileScanner::new(), TransactionTracker::new());
            let feed = BinlogReader::open(&self.store, &part.file, 0, part.end).await?;
            return self.range(part, feed, scanner, tracker, false).await;
        }
        let checksum = self.format(part).await?;
        let (scanner, tracker) = (FileScanner::resume(from, checksum), TransactionTracker::resume(from, None));
        let feed = BinlogReader::open(&self.store, &part.file, from, part.end).await?;
        self.range(part, feed, scanner, tracker, true).await
    }

    /// Goes on in the file served last, from `from` to the part's new end.
    pub async fn tail(&mut self, part: &Part, from: u64) -> Result<Onward, ServeError> {
        let scanner = FileScanner::resume(from, self.tail_checksum);
        let ranges = tail_ranges(&self.store, &part.file, from).await?;
        let feed = BinlogReader::of_ranges(&self.store, &part.file.id.name, ranges, from, part.end)?;
        self.range(part, feed, scanner, TransactionTracker::resume(from, None), true).await
    }

    /// Sends only the format description of a file that is joined in the middle.
    async fn format(&mut self, part: &Part) -> Result<ChecksumAlgorithm, ServeError> {
        let mut feed = BinlogReader::open(&self.store, &part.file, 0, part.end).await?;
        let mut scanner = FileScanner::new();
        while let Some(piece) = feed.next().await? {
            let mut input = &piece[..];
            if let Some(event) = scanner.next_event(&mut input).map_err(|e| ServeError::scan(part, e))? {
                let sent = format_for_stream(event.raw, true).map_err(|e| ServeError::parse(part, event.offset, e))?;
                self.replica.event(&sent).await?;
                self.source.checksum = scanner.checksum();
                return Ok(scanner.checksum());
            }
        }
        Err(ServeError::short(part))
    }

    async fn range(
        &mut self,
        part: &Part,
        mut feed: BinlogReader,
        mut scanner: FileScanner,
        mut tracker: TransactionTracker,
        resumed: bool,
    ) -> Result<Onward, ServeError> {
        let mut verdict = Verdict::Send;
        let mut passing = Passing::No;
        let mut seen_format = resumed;
        loop {
            let piece = match self.wait(&mut feed, matches!(passing, Passing::Yes { .. }) || !seen_format).await? {
                Waited::Piece(piece) => piece,
                Waited::End => break,
                Waited::Gone => return Ok(Onward::Stop),
            };
            let mut input = &piece[..];
            while let Some(scan) = scanner.scan(&mut input).map_err(|e| ServeError::scan(part, e))? {
                match scan {
                    Scan::Head => {
                        let Some(event) = scanner.event() else { continue };
                        let was_open = tracker.open().is_some();
                        let step = tracker
                            .step(&event.header, event.offset, event.body)
                            .map_err(|e| ServeError::track(part, e))?;
                        let begins = !was_open && step == Step::Inside;
                        if begins {
                            let gtid = gtid_of(&event).map_err(|e| ServeError::parse(part, event.offset, e))?;
                            if self.until_reached(gtid.as_ref()) {
                                return self.end_at_until(&event).await;
                            }
                            verdict = self.filter.begin(gtid.as_ref(), part.take.as_ref())?;
                            if verdict == Verdict::Empty {
                                self.send_empty(&event, gtid.as_ref()).await?;
                            }
                        }
                        let inside = was_open || begins;
                        passing = self.pass(&event, inside.then_some(verdict)).await?;
                        if let Passing::Yes { left, held } = &mut passing {
                            send(self.replica, left, held, event.raw).await?;
                        }
                        if matches!(step, Step::Ended(_)) && verdict != Verdict::Omit {
                            self.transactions += 1;
                        }
                    }
                    Scan::Rest(bytes) => {
                        if let Passing::Yes { left, held } = &mut passing {
                            send(self.replica, left, held, bytes).await?;
                        }
                    }
                    Scan::End => {
                        let Some(event) = scanner.event() else { continue };
                        match &passing {
                            Passing::No => {}
                            Passing::Yes { held, .. } => self.replica.event_data(held).await?,
                            Passing::Whole => {
                                let sent = format_for_stream(event.raw, false)
                                    .map_err(|e| ServeError::parse(part, event.offset, e))?;
                                self.replica.event(&sent).await?;
                                self.source.checksum = scanner.checksum();
                                seen_format = true;
                            }
                        }
                        if !matches!(passing, Passing::No) {
                            self.bytes += u64::from(event.header.event_size);
                            self.last_sent = Instant::now();
                            self.at.offset = event.end();
                        }
                        passing = Passing::No;
                    }
                }
            }
            self.publish();
        }
        if scanner.position() != part.end || scanner.finish().is_err() || tracker.open().is_some() {
            return Err(ServeError::short(part));
        }
        self.tail_checksum = scanner.checksum();
        self.replica.flush().await?;
        self.publish();
        Ok(Onward::More)
    }

    /// Decides on one event; `verdict` is that of the transaction it belongs to.
    async fn pass(&mut self, event: &EventHead<'_>, verdict: Option<Verdict>) -> Result<Passing, ServeError> {
        match (event.header.event_type, verdict) {
            (EventType::FORMAT_DESCRIPTION, _) => return Ok(Passing::Whole),
            // The next file is named when it begins, which may be another than this server went on to.
            (EventType::ROTATE | EventType::STOP, _) => return Ok(Passing::No),
            (_, Some(Verdict::Omit | Verdict::Empty)) => return Ok(Passing::No),
            _ => {}
        }
        let size = event.header.event_size as usize;
        self.replica.begin_event(size).await?;
        Ok(Passing::Yes { left: size, held: Vec::with_capacity(HELD_BYTES) })
    }

    async fn send_empty(&mut self, event: &EventHead<'_>, gtid: Option<&Gtid>) -> Result<(), ServeError> {
        let mariadb = match gtid {
            Some(Gtid::Mariadb(gtid)) => Some(gtid),
            _ => None,
        };
        for made in empty_transaction(event, mariadb, self.source.checksum) {
            self.replica.event(&made).await?;
        }
        self.last_sent = Instant::now();
        Ok(())
    }

    /// MariaDB: whether `START SLAVE UNTIL`'s position lies before the transaction that begins now.
    fn until_reached(&self, gtid: Option<&Gtid>) -> bool {
        let (Some(until), Some(Gtid::Mariadb(_))) = (&self.until, gtid) else { return false };
        let GtidSet::Mariadb(have) = self.filter.have() else { return false };
        let reached = |domain| have.last(domain).map(|g| g.seq) >= until.last(domain).map(|g| g.seq);
        until.domains().all(reached)
    }

    async fn end_at_until(&mut self, event: &EventHead<'_>) -> Result<Onward, ServeError> {
        let until = self.until.iter().flat_map(|u| u.domains().filter_map(|d| u.last(d)));
        let reached = self.source.until_reached(&until.collect::<Vec<_>>(), event.offset as u32);
        self.replica.event(&reached).await?;
        self.replica.eof().await?;
        self.replica.closed().await;
        Ok(Onward::Stop)
    }

    /// The feed's next piece. While it does not come, buffered events go out, then heartbeats: not within an event, and
    /// not before the replica knows the file's format.
    async fn wait(&mut self, feed: &mut BinlogReader, quiet: bool) -> Result<Waited, ServeError> {
        let next = feed.next();
        pin!(next);
        if let Some(piece) = futures::FutureExt::now_or_never(next.as_mut()) {
            if !quiet && self.last_sent.elapsed() >= self.heartbeat {
                self.beat().await?;
            }
            return Ok(piece?.map_or(Waited::End, Waited::Piece));
        }
        self.replica.flush().await?;
        loop {
            tokio::select! {
                piece = &mut next => return Ok(piece?.map_or(Waited::End, Waited::Piece)),
                () = self.replica.closed() => return Ok(Waited::Gone),
                () = sleep_until(self.last_sent + self.heartbeat), if !quiet => {}
            }
            self.beat().await?;
        }
    }

    /// Waits for news of the archive, keeping the replica; false when it is gone.
    pub async fn idle(&mut self, pause: Duration) -> Result<bool, ServeError> {
        let until = Instant::now() + pause;
        loop {
            let beat_at = self.last_sent + self.heartbeat;
            tokio::select! {
                () = self.replica.closed() => return Ok(false),
                () = sleep_until(until.min(beat_at)) => {}
            }
            if Instant::now() >= until {
                return Ok(true);
            }
            self.beat().await?;
        }
    }

    async fn beat(&mut self) -> Result<(), ServeError> {
        let heartbeat = self.source.heartbeat(&self.at);
        self.replica.event(&heartbeat).await?;
        self.replica.flush().await?;
        self.last_sent = Instant::now();
        Ok(())
    }

    fn publish(&mut self) {
        let (bytes, transactions) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.transactions));
        let at = &self.at;
        self.shared.status.send_modify(|status| {
            status.sent_bytes += bytes;
            status.sent_transactions += transactions;
            status.position = Some(at.clone());
        });
    }
}

enum Waited {
    Piece(bytes::Bytes),
    End,
    /// The replica closed its connection.
    Gone,
}

/// Sends `bytes` of an event that has `left` to come, holding back its last four.
async fn send(
    replica: &mut ReplicaConnection,
    left: &mut usize,
    held: &mut Vec<u8>,
    bytes: &[u8],
) -> Result<(), ServeError> {
    let now = left.saturating_sub(HELD_BYTES).min(bytes.len());
    let (send, hold) = bytes.split_at(now);
    replica.event_data(send).await?;
    held.extend_from_slice(hold);
    *left = left.saturating_sub(bytes.len());
    Ok(())
}

fn gtid_of(event: &EventHead<'_>) -> Result<Option<Gtid>, crate::mysql::event::ParseEventError> {
    match event.header.event_type {
        EventType::MARIADB_GTID => {
            MariadbGtidEvent::parse(&event.header, event.body).map(|e| Some(Gtid::Mariadb(e.gtid)))
        }
        EventType::GTID | EventType::ANONYMOUS_GTID | EventType::GTID_TAGGED => {
            MysqlGtidEvent::parse(event.header.event_type, event.body).map(|e| e.gtid.map(Gtid::Mysql))
        }
        _ => Ok(None),
    }
}

/// A heartbeat period that suits what the replica asked for (nanoseconds), at most ten seconds.
pub(super) fn heartbeat_period(asked_ns: Option<u64>) -> Duration {
    let asked = asked_ns.filter(|&ns| ns > 0).map_or(Duration::from_secs(10), Duration::from_nanos);
    asked.clamp(Duration::from_millis(100), Duration::from_secs(10))
}
