//! Between encoding and uploading: passes objects on while the store takes them, and puts them into the spool while it does not.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::file::{self, Content, Part, Segment};
use super::{Entry, Loader, Spool};
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::segment::SegmentWriter;
use crate::binlog::Error;
use crate::binlog::cutter::Closing;
use crate::binlog::encode::{Long, Object};
use crate::binlog::status::StreamStatus;
use crate::binlog::upload::Durable;

/// A store that has taken nothing for this long is down, even if it has refused nothing.
const STALLED: Duration = Duration::from_secs(5);
/// A folder that could not be written is tried again after this long.
const MENDED: Duration = Duration::from_secs(10);

/// One object on its way, in order.
struct Waiting {
    held: Held,
    /// As [`crate::binlog::cutter::Seal::upto`]; 0 for what an earlier session spooled.
    upto: u64,
}

enum Held {
    /// Only here (and, once it is sent, with the uploader).
    Memory(Object),
    /// In the file of that number.
    Disk(u64),
    /// With the uploader alone: too large for the spool.
    Passed,
}

/// Where an object that has come may go.
enum Place {
    Memory,
    Disk,
    /// Nowhere, until something else has gone.
    None,
}

/// The stage of one session. The spool is its own meanwhile.
pub(in crate::binlog) struct Stage {
    spool: OwnedMutexGuard<Spool>,
    status: StreamStatus,
    /// How a segment is made of one huge event.
    coding: (Compression, Recipients),
    /// What is on disk comes first.
    queue: VecDeque<Waiting>,
    /// How many of the first the uploader has.
    sent: usize,
    /// How many of the last are not on disk.
    in_memory: usize,
    /// Objects that have left the queue.
    landed: u64,
    progressed_at: Instant,
    /// The folder could not be written: not before this moment again.
    broken_until: Option<Instant>,
}

impl Stage {
    /// What the spool holds comes first.
    pub fn new(spool: OwnedMutexGuard<Spool>, status: StreamStatus, coding: (Compression, Recipients)) -> Self {
        let waiting = |entry: &Entry| Waiting { held: Held::Disk(entry.number), upto: 0 };
        let queue = spool.entries.iter().map(waiting).collect();
        spool.publish(&status, false);
        Self {
            spool,
            status,
            coding,
            queue,
            sent: 0,
            in_memory: 0,
            landed: 0,
            progressed_at: Instant::now(),
            broken_until: None,
        }
    }

    /// Passes objects on until there are no more and all of them are stored, or in the spool while the store is down: then `uploading` is
    /// cancelled. Once `stopping`, what has no room is given up: it is read again.
    pub async fn run(
        mut self,
        mut from: mpsc::Receiver<Object>,
        to: mpsc::Sender<Object>,
        mut durable: watch::Receiver<Durable>,
        stopping: CancellationToken,
        uploading: CancellationToken,
    ) -> Result<(), Error> {
        let (mut more, mut uploader) = (true, true);
        let mut homeless = None;
        let mut changes = self.status.subscribe();
        loop {
            let landed = durable.borrow_and_update().landed;
            self.settle(landed)?;
            self.broken_until = self.broken_until.filter(|until| *until > Instant::now());
            let failing = self.status.read().store_failing;
            let stalled_at = self.progressed_at + STALLED;
            let down = failing || !uploader || (!self.queue.is_empty() && stalled_at <= Instant::now());
            if down {
                self.save().await;
            }
            if let Some(object) = homeless.take() {
                homeless = self.place(object, down).await;
            }
            self.spool.publish(&self.status, homeless.is_some());
            let over = !more && homeless.is_none() && self.queue.is_empty();
            let given_up = down && (!more || (homeless.is_some() && stopping.is_cancelled()));
            if over || given_up || (!uploader && !failing) {
                break;
            }
            let backlog = self.sent < self.queue.len();
            let room = more && homeless.is_none() && (down || !backlog || self.in_memory == 0);
            let look_again = match (homeless.is_some(), self.broken_until) {
                (true, Some(until)) => Some(until),
                _ if !down && !self.queue.is_empty() => Some(stalled_at),
                _ => None,
            };
            tokio::select! {
                object = from.recv(), if room => match object {
                    Some(object) => homeless = Some(object),
                    None => more = false,
                },
                permit = to.reserve(), if uploader && backlog => match permit {
                    Ok(permit) => if let Some(object) = self.send()? { permit.send(object) },
                    Err(_) => uploader = false,
                },
                changed = durable.changed(), if uploader => uploader = changed.is_ok(),
                Ok(_) = changes.wait_for(|s| s.store_failing != failing) => {}
                () = stopping.cancelled(), if homeless.is_some() && !stopping.is_cancelled() => {}
                () = sleep_until(look_again.unwrap_or(stalled_at)), if look_again.is_some() => {}
            }
        }
        if !self.queue.is_empty() {
            uploading.cancel();
        }
        Ok(())
    }

    /// Takes out of the spool what has come into the store.
    fn settle(&mut self, landed: u64) -> Result<(), Error> {
        if landed > self.landed || self.queue.is_empty() {
            self.progressed_at = Instant::now();
        }
        while self.landed < landed {
            self.landed += 1;
            self.sent = self.sent.saturating_sub(1);
            match self.queue.pop_front() {
                Some(Waiting { held: Held::Disk(_), .. }) => {
                    self.spool.drop_first().map_err(|source| self.failed(source))?;
                }
                Some(Waiting { held: Held::Memory(_) | Held::Passed, .. }) => {
                    self.in_memory = self.in_memory.saturating_sub(1);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Puts into the spool what is in memory alone, oldest first.
    async fn save(&mut self) {
        while self.in_memory > 0 {
            let at = self.queue.len() - self.in_memory;
            let Some(Waiting { held: Held::Memory(object), upto }) = self.queue.get(at) else { return };
            let (Some(object), upto) = (copy(object), *upto) else { return };
            let Some((number, _)) = self.write(object, upto).await else { return };
            if let Some(waiting) = self.queue.get_mut(at) {
                waiting.held = Held::Disk(number);
            }
            self.in_memory -= 1;
        }
    }

    /// Finds a place for an object; it comes back where there is none at the moment.
    async fn place(&mut self, object: Object, down: bool) -> Option<Object> {
        let upto = upto_of(&object);
        match self.place_for(&object, down) {
            Place::None => return Some(object),
            Place::Memory => {
                self.in_memory += 1;
                self.queue.push_back(Waiting { held: Held::Memory(object), upto });
            }
            Place::Disk => {
                let kept = copy(&object);
                match self.write(object, upto).await {
                    Some((number, upto)) => self.queue.push_back(Waiting { held: Held::Disk(number), upto }),
                    // A huge event that was cut off, or whose file could not be written, is read again.
                    None => return kept,
                }
            }
        }
        None
    }

    fn place_for(&self, object: &Object, down: bool) -> Place {
        let (bytes, long) = match object {
            Object::Whole { segment, .. } => (segment.object_bytes, false),
            Object::Long { start, end, .. } => (end.saturating_sub(*start), true),
            Object::Spooled(_) | Object::Close(_) => (0, false),
        };
        let backlog = self.sent < self.queue.len();
        let broken = self.broken_until.is_some();
        let fits = !broken && self.spool.fits(bytes) && self.in_memory == 0;
        match (long, down || backlog) {
            (true, _) if broken || !self.spool.ever_fits(bytes) => match self.queue.is_empty() && !down {
                true => Place::Memory,
                false => Place::None,
            },
            // One that the store fails to take can be sent again from a file only.
            (true, _) | (false, true) if fits => Place::Disk,
            (true, _) | (false, true) => Place::None,
            (false, false) => Place::Memory,
        }
    }

    /// Writes a file of the spool; its number, and what `upto` is for it. None: it could not be written, and why is logged.
    async fn write(&mut self, object: Object, upto: u64) -> Option<(u64, u64)> {
        let bytes = match &object {
            Object::Whole { segment, .. } => segment.object_bytes,
            _ => 0,
        };
        if self.broken_until.is_some() || !self.spool.fits(bytes) {
            return None;
        }
        let (folder, number, coding) = (self.spool.config.folder.clone(), self.spool.next_number, self.coding.clone());
        let written = spawn_blocking(move || {
            let mut part = Part::begin(&folder, number)?;
            let (content, upto) = match object {
                Object::Whole { segment, seal } => {
                    part.write(&segment.object)?;
                    (Content::Segment(Box::new(Segment::new(&segment, &seal))), upto)
                }
                Object::Close(closing) => (Content::of_close(&closing), upto),
                Object::Long { raw, .. } => match long(&mut part, raw, coding)? {
                    Some((segment, upto)) => (Content::Segment(Box::new(segment)), upto),
                    None => return Ok(None),
                },
                Object::Spooled(_) => return Ok(None),
            };
            let bytes = part.finish(content.clone())?;
            Ok::<_, io::Error>(Some((Entry::new(number, bytes, &content), upto)))
        });
        match written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Some((entry, upto))) => {
                self.spool.push(entry);
                Some((number, upto))
            }
            Ok(None) => None,
            Err(error) => {
                let folder = self.spool.config.folder.display();
                tracing::error!(%folder, %error, "cannot write to the spool: the source keeps its files meanwhile");
                self.broken_until = Some(Instant::now() + MENDED);
                None
            }
        }
    }

    /// What the uploader is given of the next object.
    fn send(&mut self) -> Result<Option<Object>, Error> {
        let Some(waiting) = self.queue.get_mut(self.sent) else { return Ok(None) };
        self.sent += 1;
        let (number, upto) = match &waiting.held {
            Held::Disk(number) => (*number, waiting.upto),
            Held::Memory(object) => {
                let copied = copy(object);
                return Ok(copied.or_else(|| match std::mem::replace(&mut waiting.held, Held::Passed) {
                    Held::Memory(object) => Some(object),
                    Held::Disk(_) | Held::Passed => None,
                }));
            }
            Held::Passed => return Ok(None),
        };
        let folder = self.spool.config.folder.clone();
        let (content, _) = file::read(&folder, number).map_err(|source| self.failed(source))?;
        Ok(Some(match content {
            Content::Segment(_) => {
                let doubted = Arc::clone(&self.spool.doubted);
                Object::Spooled(Box::new(Loader { folder, number, upto, doubted }))
            }
            Content::Close { file, size, ending, next_file } => {
                Object::Close(Box::new(Closing { file, size, ending, next_file }))
            }
        }))
    }

    fn failed(&self, source: io::Error) -> Error {
        self.spool.doubted.store(true, Ordering::Relaxed);
        let folder = self.spool.config.folder.display().to_string();
        Error::Spool { doing: "use the spool", folder, source }
    }
}

fn upto_of(object: &Object) -> u64 {
    match object {
        Object::Whole { seal, .. } => seal.upto,
        // Known once its bytes have come.
        Object::Long { .. } | Object::Spooled(_) | Object::Close(_) => 0,
    }
}

/// Objects share their bytes; what comes in pieces cannot be had twice.
fn copy(object: &Object) -> Option<Object> {
    match object {
        Object::Whole { segment, seal } => Some(Object::Whole { segment: segment.clone(), seal: seal.clone() }),
        Object::Close(closing) => Some(Object::Close(closing.clone())),
        Object::Long { .. } | Object::Spooled(_) => None,
    }
}

/// Makes the segment of one huge event as it comes. None: it was cut off.
fn long(
    part: &mut Part,
    mut raw: mpsc::Receiver<Long>,
    (compression, recipients): (Compression, Recipients),
) -> io::Result<Option<(Segment, u64)>> {
    let mut writer = SegmentWriter::new(compression, &recipients).map_err(io::Error::other)?;
    while let Some(piece) = raw.blocking_recv() {
        match piece {
            Long::Raw(bytes) => {
                writer.write(&bytes).map_err(io::Error::other)?;
                part.write(&writer.take())?;
            }
            Long::Seal(seal) => {
                let encoded = writer.finish(seal.meta.clone()).map_err(io::Error::other)?;
                part.write(&encoded.object)?;
                return Ok(Some((Segment::new(&encoded, &seal), seal.upto)));
            }
        }
    }
    Ok(None)
}
