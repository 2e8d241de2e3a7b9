//! Moves what the source sends through the cutter into the pipeline, decides when a segment ends, and acknowledges.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use snafu::ResultExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::cutter::{Cut, Cutter};
use super::encode::Hurry;
use super::error::SourceSnafu;
use super::status::StreamStatus;
use super::upload::Durable;
use crate::model::{BinlogPosition, CommitTime};
use crate::mysql::wire::{Acks, DumpItem, DumpStream};

/// A source that has sent nothing for this long has nothing: a dump thread sends what there is at once.
const IDLE: Duration = Duration::from_millis(200);
/// Segments on their way before a waiting commit no longer ends one at once: those that come meanwhile share the next.
const EAGER_SEGMENTS: u64 = 2;
/// A stream whose newest commit is older than this, and that has more to read, is behind.
const BEHIND_US: i64 = 5_000_000;
/// Items taken, if they have arrived already, before looking around again.
const BATCH: usize = 64;

/// Why reading ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Cancelled,
    BySource,
}

/// What leads to the stages behind the reading one, and back.
pub(super) struct Downstream {
    pub cuts: mpsc::Sender<Cut>,
    pub durable: watch::Receiver<Durable>,
    pub hurry: Hurry,
}

pub(super) struct Pump {
    dump: DumpStream,
    acks: Option<Acks>,
    cutter: Cutter,
    downstream: Downstream,
    flush_interval: Duration,
    status: StreamStatus,
    queue: Vec<Cut>,
    /// When the segment at hand must end.
    deadline: Option<Instant>,
    sealed: u64,
    /// Commits that wait for an acknowledgement: [`Cutter::upto`] behind each, and where that is.
    waiting: VecDeque<(u64, BinlogPosition)>,
    /// Segments on their way: `upto` and first commit of each.
    pending: VecDeque<(u64, CommitTime)>,
}

impl Pump {
    pub(super) fn new(
        dump: DumpStream,
        acks: Option<Acks>,
        cutter: Cutter,
        downstream: Downstream,
        flush_interval: Duration,
        status: StreamStatus,
    ) -> Self {
        Self {
            dump,
            acks,
            cutter,
            downstream,
            flush_interval,
            status,
            queue: Vec::new(),
            deadline: None,
            sealed: 0,
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    /// Reads until cancelled, until the source ends the stream, or until something fails. What is whole is then flushed.
    pub(super) async fn run(mut self, cancel: &CancellationToken) -> Result<Ended, Error> {
        let ended = self.read(cancel).await;
        self.cutter.seal(&mut self.queue);
        let flushed = self.send().await;
        let ended = ended?;
        flushed.map(|()| ended)
    }

    async fn read(&mut self, cancel: &CancellationToken) -> Result<Ended, Error> {
        let mut caught_up = false;
        loop {
            if cancel.is_cancelled() {
                return Ok(Ended::Cancelled);
            }
            if self.downstream.durable.has_changed().map_err(|_| Error::Stage { stage: "upload" })? {
                self.settle().await?;
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.seal().await?;
            }
            let doing = "read the source's binlog";
            let item = match self.dump.next_ready().context(SourceSnafu { doing })? {
                Some(item) => Some(item),
                None => {
                    if !self.waiting.is_empty()
                        && self.sealed - self.downstream.durable.borrow().segments < EAGER_SEGMENTS
                    {
                        self.seal().await?;
                    }
                    let deadline = self.deadline;
                    tokio::select! {
                        biased;
                        item = self.dump.next() => item.context(SourceSnafu { doing })?,
                        () = cancel.cancelled() => return Ok(Ended::Cancelled),
                        _ = self.downstream.durable.changed() => { self.downstream.durable.mark_changed(); continue }
                        () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => continue,
                        () = sleep(IDLE), if !caught_up => {
                            caught_up = true;
                            self.downstream.hurry.set(false);
                            let nothing_waits = !self.cutter.can_seal() && self.sealed == self.downstream.durable.borrow().segments;
                            let spooled = self.status.read().spool.is_some_and(|spool| spool.end.is_some());
                            if nothing_waits && !spooled {
                                self.status.store_works();
                            }
                            self.status.update(|s| s.caught_up = true);
                            continue;
                        }
                    }
                }
            };
            let Some(item) = item else { return Ok(Ended::BySource) };
            if caught_up && matches!(item, DumpItem::Piece(_)) {
                caught_up = false;
                self.status.update(|s| s.caught_up = false);
            }
            let now = CommitTime::from(Timestamp::now());
            self.cutter.set_clock(now);
            self.downstream
                .hurry
                .set(self.cutter.newest_commit().is_some_and(|newest| newest.0.saturating_add(BEHIND_US) < now.0));
            self.take(item).await?;
            for _ in 1..BATCH {
                let Some(item) = self.dump.next_ready().context(SourceSnafu { doing })? else { break };
                self.take(item).await?;
            }
        }
    }

    async fn take(&mut self, item: DumpItem) -> Result<(), Error> {
        let ack_wanted = matches!(&item, DumpItem::Piece(piece) if piece.last && piece.ack_wanted);
        self.cutter.take(item, &mut self.queue)?;
        if ack_wanted
            && self.acks.is_some()
            && let Some(position) = self.cutter.position()
        {
            self.waiting.push_back((self.cutter.upto(), position));
            // Of the part that is read once more, everything is durable already.
            self.downstream.durable.mark_changed();
        }
        if !self.queue.is_empty() {
            self.send().await?;
        }
        if !self.cutter.can_seal() {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(Instant::now() + self.flush_interval);
        }
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), Error> {
        self.cutter.seal(&mut self.queue);
        self.deadline = None;
        self.send().await
    }

    /// Hands over what was cut; waits while the stages behind are full, which is what bounds memory.
    async fn send(&mut self) -> Result<(), Error> {
        let mut raw_bytes = 0;
        for cut in self.queue.drain(..) {
            match &cut {
                Cut::Incident(incident) => {
                    tracing::error!(
                        at = %incident.at,
                        message = incident.message,
                        "INCIDENT: the source says that its binlog lacks events; take a full backup now: no restore goes past this place"
                    );
                    self.status.update(|s| {
                        if !s.incidents.contains(incident) {
                            s.incidents.push(incident.clone());
                        }
                    });
                    continue;
                }
                Cut::Raw(bytes) => raw_bytes += bytes.len() as u64,
                Cut::Seal(seal) => {
                    self.sealed += 1;
                    if let Some((commit, _)) = seal.commits.0.first() {
                        self.pending.push_back((seal.upto, *commit));
                    }
                }
                Cut::Long { .. } | Cut::Close(_) => {}
            }
            self.downstream.cuts.send(cut).await.map_err(|_| Error::Stage { stage: "encode" })?;
        }
        let read = self.cutter.position();
        let pending = self.pending.front().map(|(_, commit)| *commit).or(self.cutter.oldest_commit());
        self.status.update(|s| {
            s.bytes_read += raw_bytes;
            s.read = read;
            s.oldest_pending_commit = pending;
        });
        Ok(())
    }

    /// Takes note of what has become durable: commits that wait for it may return.
    async fn settle(&mut self) -> Result<(), Error> {
        let upto = self.downstream.durable.borrow_and_update().upto;
        while self.pending.front().is_some_and(|(end, _)| *end <= upto) {
            self.pending.pop_front();
        }
        let pending = self.pending.front().map(|(_, commit)| *commit).or(self.cutter.oldest_commit());
        self.status.update(|s| s.oldest_pending_commit = pending);
        let mut safe = None;
        while self.waiting.front().is_some_and(|(end, _)| *end <= upto) {
            safe = self.waiting.pop_front();
        }
        if let (Some((_, position)), Some(acks)) = (safe, &mut self.acks) {
            fail::fail_point!("binlog::ack::before");
            acks.ack(&position).await.context(SourceSnafu { doing: "acknowledge what is durable" })?;
        }
        Ok(())
    }
}
