//! Memory that segment objects are made in, one after the other: fresh pages would cost as much as hashing what is put there.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::archive::codec::{Compression, Encoder};
use crate::archive::crypt::Recipients;

/// Buffers of one size and the encoders that fill them; as many as were ever in use at a time.
#[derive(Clone)]
pub struct SegmentBuffers {
    bytes: usize,
    compression: Compression,
    recipients: Recipients,
    free: Arc<Mutex<Free>>,
}

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    encoders: Vec<Encoder>,
    /// Whether what comes back is given up instead of kept.
    resting: bool,
}

/// Comes back when the last reader is done with it.
struct Lent {
    buffer: Vec<u8>,
    to: SegmentBuffers,
}

impl SegmentBuffers {
    /// Buffers with room for `bytes` each.
    pub fn new(bytes: usize, compression: Compression, recipients: Recipients) -> Self {
        Self { bytes, compression, recipients, free: Arc::default() }
    }

    /// To whom what is made in them is encrypted.
    pub(super) fn recipients(&self) -> &Recipients {
        &self.recipients
    }

    /// An encoder that makes its object in one.
    pub(super) fn encoder(&self) -> io::Result<Encoder> {
        let (buffer, encoder) = {
            let mut free = self.free();
            free.resting = false;
            (free.buffers.pop(), free.encoders.pop())
        };
        let mut encoder = encoder.map_or_else(|| Encoder::new(self.compression, &self.recipients), Ok)?;
        encoder.begin(buffer.unwrap_or_else(|| Vec::with_capacity(self.bytes)))?;
        Ok(encoder)
    }

    /// Gives up what is kept, and what comes back, until the next is asked for: something else needs the memory.
    pub fn rest(&self) {
        *self.free() = Free { resting: true, ..Free::default() };
    }

    /// Takes an encoder back that has finished.
    pub(super) fn put_back(&self, encoder: Encoder) {
        let mut free = self.free();
        if !free.resting {
            free.encoders.push(encoder);
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of one, until nobody needs it.
    pub(super) fn lend(self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, to: self })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        // What had to grow is not kept.
        if buffer.capacity() <= self.to.bytes {
            buffer.clear();
            let mut free = self.to.free();
            if !free.resting {
                free.buffers.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let buffers = SegmentBuffers::new(1000, Compression::None, Recipients::default());
        let fill = || buffers.encoder().unwrap().finish().unwrap();
        let buffer = fill();
        let at = buffer.as_ptr();
        let lent = buffers.clone().lend(buffer);
        let reader = lent.slice(1..);
        drop(lent);
        let other = fill();
        assert_ne!(other.as_ptr(), at);
        assert_eq!(reader[..3], other[1..4]);
        drop(reader);
        let again = fill();
        assert_eq!(again.as_ptr(), at);
        let lent = buffers.clone().lend(again);
        buffers.rest();
        drop(lent);
        assert!(buffers.free().buffers.is_empty());
        drop(buffers.clone().lend(fill()));
        assert_eq!(buffers.free().buffers.len(), 1);
    }
}
