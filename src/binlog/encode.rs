//! Second stage: raw bytes become segment objects. Hashing and compressing block, so that runs on threads of its own, several
//! segments at a time.

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cutter::{Closing, Cut, Seal};
use crate::archive::binlog_index::{FileId, SegmentMeta};
use crate::archive::codec::Compression;
use crate::archive::segment::{EncodedSegment, SegmentError, SegmentWriter};

/// What goes to the store, in order.
pub(super) enum Object {
    /// Still being encoded.
    Whole {
        segment: JoinHandle<Result<EncodedSegment, SegmentError>>,
        seal: Box<Seal>,
    },
    Long {
        file: FileId,
        start: u64,
        end: u64,
        raw: mpsc::Receiver<Long>,
    },
    Close(Box<Closing>),
}

/// The content of a segment that is too large to be held; without a final `Seal` it was cut off and must not be stored.
pub(super) enum Long {
    Raw(Bytes),
    Seal(Box<Seal>),
}

/// Pieces of a long segment that wait, of up to 1 MiB each.
const LONG_QUEUE: usize = 4;
/// What an object may have beyond its raw bytes, as a rule.
const ROOM_BYTES: usize = 64 << 10;

/// Hands on until either neighbour is gone.
pub(super) async fn run(mut cuts: mpsc::Receiver<Cut>, objects: mpsc::Sender<Object>, compression: Compression) {
    let mut whole = Vec::new();
    let mut long: Option<mpsc::Sender<Long>> = None;
    while let Some(cut) = cuts.recv().await {
        let delivered = match cut {
            Cut::Raw(bytes) => match &long {
                Some(long) => long.send(Long::Raw(bytes)).await.is_ok(),
                None => {
                    whole.push(bytes);
                    true
                }
            },
            Cut::Long { file, start, end } => {
                let (sender, raw) = mpsc::channel(LONG_QUEUE);
                long = Some(sender);
                objects.send(Object::Long { file, start, end, raw }).await.is_ok()
            }
            Cut::Seal(seal) => match long.take() {
                Some(long) => long.send(Long::Seal(seal)).await.is_ok(),
                None if whole.is_empty() => true,
                None => match objects.reserve().await {
                    // Not before there is room for the result: that is what bounds memory.
                    Ok(permit) => {
                        let (raw, meta) = (std::mem::take(&mut whole), seal.meta.clone());
                        let segment = Handle::current().spawn_blocking(move || encode(raw, meta, compression));
                        permit.send(Object::Whole { segment, seal });
                        true
                    }
                    Err(_) => false,
                },
            },
            // The pump reports it; its bytes are archived like any.
            Cut::Incident(_) => true,
            Cut::Close(closing) => objects.send(Object::Close(closing)).await.is_ok(),
        };
        if !delivered {
            break;
        }
    }
}

fn encode(raw: Vec<Bytes>, meta: SegmentMeta, compression: Compression) -> Result<EncodedSegment, SegmentError> {
    // Room for an uncompressed segment; pages that are not used cost nothing.
    let room = raw.iter().map(Bytes::len).sum::<usize>() + ROOM_BYTES;
    let mut writer = SegmentWriter::with_capacity(compression, room)?;
    for bytes in raw {
        writer.write(&bytes)?;
    }
    writer.finish(meta)
}
