//! Memory that segment objects are made in, one after the other: fresh pages would cost as much as hashing what is put there.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one size; as many as were ever in use at a time.
#[derive(Clone, Debug)]
pub struct SegmentBuffers {
    bytes: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Comes back when the last reader is done with it.
struct Lent {
    buffer: Vec<u8>,
    to: SegmentBuffers,
}

impl SegmentBuffers {
    /// Buffers with room for `bytes` each.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, free: Arc::default() }
    }

    /// An empty one.
    pub(super) fn take(&self) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(self.bytes))
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
            self.to.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let buffers = SegmentBuffers::new(1000);
        let mut buffer = buffers.take();
        buffer.extend(b"abc");
        let at = buffer.as_ptr();
        let lent = buffers.clone().lend(buffer);
        let reader = lent.slice(1..);
        drop(lent);
        let other = buffers.take();
        assert_ne!(other.as_ptr(), at);
        assert_eq!(&reader[..], b"bc");
        drop(reader);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
    }
}
