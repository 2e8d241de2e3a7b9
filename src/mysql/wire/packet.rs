//! Packets: a 3-byte length and a sequence number before each; a payload of 16 MiB − 1 or more continues in the next one.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Error;

/// A payload this long is continued by another packet.
pub(crate) const MAX_PAYLOAD: usize = 0xff_ffff;
pub(crate) const HEADER_BYTES: usize = 4;
const READ_BYTES: usize = 256 * 1024;
/// A joined packet's buffer larger than this is given back before the next one is read.
const KEEP_BYTES: usize = 4 * 1024 * 1024;

/// Packets that must be joined are as long as a row: one connection of the process holds such a one at a time, the others wait.
static HUGE: Semaphore = Semaphore::const_new(1);

/// Reads packets out of one reusable buffer.
#[derive(Debug, Default)]
pub(crate) struct PacketReader {
    buf: BytesMut,
    lent: usize,
    joined: Vec<u8>,
    huge: Option<SemaphorePermit<'static>>,
    /// Sequence number the next packet we write in this exchange should carry.
    pub(crate) next_seq: u8,
}

pub(crate) fn lost(doing: &str, source: io::Error) -> Error {
    Error::ConnectionLost { doing: doing.to_owned(), source }
}

/// Reads once into `buf`, which grows to hold at least `need` bytes in all.
pub(crate) async fn read_more<R: AsyncRead + Unpin>(io: &mut R, buf: &mut BytesMut, need: usize) -> Result<(), Error> {
    let missing = need.saturating_sub(buf.len()).max(1);
    if buf.capacity() - buf.len() < missing.max(READ_BYTES / 8) {
        buf.reserve(missing.max(READ_BYTES));
    }
    match io.read_buf(buf).await {
        Ok(0) => Err(lost("reading", io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(e) => Err(lost("reading", e)),
    }
}

impl PacketReader {
    /// Lends the next packet's payload, joined if it came in several. `limit_bytes` bounds what is held.
    pub(crate) async fn read<R: AsyncRead + Unpin>(&mut self, io: &mut R, limit_bytes: u64) -> Result<&[u8], Error> {
        self.buf.advance(std::mem::take(&mut self.lent));
        self.joined.clear();
        if self.joined.capacity() > KEEP_BYTES {
            self.joined = Vec::new();
        }
        self.huge = None;
        let mut length = self.header(io).await?;
        if length as u64 > limit_bytes {
            return Err(Error::PacketTooLarge { bytes: length as u64, limit: limit_bytes });
        }
        if length <= READ_BYTES {
            while self.buf.len() < length {
                read_more(io, &mut self.buf, length).await?;
            }
            self.lent = length;
            return Ok(self.buf.get(..length).unwrap_or_default());
        }
        if length == MAX_PAYLOAD {
            self.huge = HUGE.acquire().await.ok();
        }
        loop {
            self.join(io, length).await?;
            if length < MAX_PAYLOAD {
                return Ok(&self.joined);
            }
            length = self.header(io).await?;
            let total = self.joined.len() as u64 + length as u64;
            if total > limit_bytes {
                return Err(Error::PacketTooLarge { bytes: total, limit: limit_bytes });
            }
        }
    }

    /// What was read from the connection but not asked for yet.
    pub(crate) fn into_rest(mut self) -> BytesMut {
        self.buf.advance(self.lent);
        self.buf
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buf.len() == self.lent
    }

    async fn header<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<usize, Error> {
        while self.buf.len() < HEADER_BYTES {
            read_more(io, &mut self.buf, HEADER_BYTES).await?;
        }
        let header = self.buf.get_u32_le();
        self.next_seq = ((header >> 24) as u8).wrapping_add(1);
        Ok((header & 0xff_ffff) as usize)
    }

    async fn join<R: AsyncRead + Unpin>(&mut self, io: &mut R, length: usize) -> Result<(), Error> {
        // Exact, so that a row of hundreds of megabytes is not held twice while the vector doubles.
        self.joined.reserve_exact(length);
        let ready = self.buf.split_to(length.min(self.buf.len()));
        self.joined.extend_from_slice(&ready);
        let mut missing = length - ready.len();
        drop(ready);
        while missing > 0 {
            let n = (&mut *io).take(missing as u64).read_buf(&mut self.joined).await.map_err(|e| lost("reading", e))?;
            if n == 0 {
                return Err(lost("reading", io::ErrorKind::UnexpectedEof.into()));
            }
            missing = missing.saturating_sub(n);
        }
        Ok(())
    }
}

/// Writes a payload as one or more packets, from sequence number `seq` on; returns the next one. Does not flush.
pub(crate) async fn write_packet<W: AsyncWrite + Unpin>(io: &mut W, mut seq: u8, payload: &[u8]) -> Result<u8, Error> {
    let mut rest = payload;
    loop {
        let (piece, tail) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        let header = packet_header(piece.len(), seq);
        let mut both = Buf::chain(&header[..], piece);
        io.write_all_buf(&mut both).await.map_err(|e| lost("writing", e))?;
        seq = seq.wrapping_add(1);
        if piece.len() < MAX_PAYLOAD {
            return Ok(seq);
        }
        rest = tail;
    }
}

pub(crate) fn packet_header(length: usize, seq: u8) -> [u8; HEADER_BYTES] {
    let [a, b, c, ..] = length.to_le_bytes();
    [a, b, c, seq]
}
