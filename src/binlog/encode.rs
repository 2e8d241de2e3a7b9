//! Second stage: raw bytes become segment objects. Hashing, compressing and encrypting block, so this runs on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::cutter::{Closing, Cut, Seal};
use super::spool::Loader;
use crate::archive::binlog_index::FileId;
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::segment::{EncodedSegment, SegmentBuffers, SegmentError, SegmentWriter};

/// What goes to the store, in order.
pub(super) enum Object {
    Whole {
        segment: Box<EncodedSegment>,
        seal: Box<Seal>,
    },
    Long {
        file: FileId,
        start: u64,
        end: u64,
        raw: mpsc::Receiver<Long>,
    },
    /// A segment that waits in the spool.
    Spooled(Box<Loader>),
    Close(Box<Closing>),
}

/// The content of a segment that is too large to be held; without a final `Seal` it was cut off and must not be stored.
pub(super) enum Long {
    Raw(bytes::Bytes),
    Seal(Box<Seal>),
}

/// Pieces of a long segment that wait, of up to 1 MiB each.
const LONG_QUEUE: usize = 4;

/// What a segment's object may have beyond the raw bytes, as a rule.
const ROOM_BYTES: usize = 64 << 10;

/// Whether the stream is far behind its source. Then segments are compressed fast rather than small: what is not durable yet is lost
/// with the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    /// The reading stage says so.
    pub fn set(&self, hurry: bool) {
        self.0.store(hurry, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Encodes until either neighbour is gone.
pub(super) fn run(
    mut cuts: mpsc::Receiver<Cut>,
    objects: &mpsc::Sender<Object>,
    (compression, recipients): (Compression, Recipients),
    segment_bytes: u64,
    hurry: &Hurry,
) -> Result<(), SegmentError> {
    // For uncompressed segments with their meta; pages that are not used cost nothing.
    let room = usize::try_from(segment_bytes).unwrap_or_default().saturating_add(ROOM_BYTES);
    let buffers = SegmentBuffers::new(room, compression, recipients);
    let mut whole: Option<SegmentWriter> = None;
    let mut long: Option<mpsc::Sender<Long>> = None;
    while let Some(cut) = cuts.blocking_recv() {
        let delivered = match cut {
            Cut::Raw(bytes) => match &long {
                Some(long) => long.blocking_send(Long::Raw(bytes)).is_ok(),
                None => {
                    let writer = match &mut whole {
                        Some(writer) => writer,
                        None => whole.insert(SegmentWriter::with_buffers(&buffers)?),
                    };
                    writer.hurry(hurry.get());
                    writer.write(&bytes)?;
                    true
                }
            },
            Cut::Long { file, start, end } => {
                // It needs what the others leave.
                buffers.rest();
                let (sender, raw) = mpsc::channel(LONG_QUEUE);
                long = Some(sender);
                objects.blocking_send(Object::Long { file, start, end, raw }).is_ok()
            }
            Cut::Seal(seal) => match (long.take(), whole.take()) {
                (Some(long), _) => long.blocking_send(Long::Seal(seal)).is_ok(),
                (None, Some(writer)) => {
                    let segment = Box::new(writer.finish(seal.meta.clone())?);
                    objects.blocking_send(Object::Whole { segment, seal }).is_ok()
                }
                (None, None) => true,
            },
            // The pump reports it; its bytes are archived like any.
            Cut::Incident(_) => true,
            Cut::Close(closing) => objects.blocking_send(Object::Close(closing)).is_ok(),
        };
        if !delivered {
            break;
        }
    }
    Ok(())
}
