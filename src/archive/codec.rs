//! Compression of objects. Every stored object is a sequence of zstd frames, whatever the setting, so that there is one way
//! to read an archive: `zstd -d`, behind `age -d` where it is encrypted.

use std::collections::VecDeque;
use std::io;
use std::thread::{self, JoinHandle};

use zstd::bulk::Compressor;
use zstd::stream::raw::{CParameter, DParameter, InBuffer, Operation, OutBuffer};

use super::crypt::{Encrypter, Recipients};

/// Largest window a frame may ask for, as a power of two: what level 19 uses. It bounds a reader's memory.
const WINDOW_LOG_MAX: u32 = 23;
/// Largest block of a frame (RFC 8878, 3.1.1.2.4).
const BLOCK_BYTES: usize = 128 << 10;
/// Raw bytes of a compressed frame. Frames are made in one go: zstd's streaming interface copies its input into a ring, and
/// searching over the ring's seam made up half of all the CPU of a backup. Larger frames save next to nothing.
const FRAME_BYTES: usize = 1 << 20;
/// Level of frames made in a hurry: several times as fast as level 1 on rows of text and numbers, and on most of them larger.
const HURRY_LEVEL: i32 = -5;
/// Pieces a [`Decoder`] hands out.
const PIECE_BYTES: usize = 256 << 10;

/// How objects are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Frames of raw blocks: no size is saved and next to no CPU spent.
    None,
    /// zstd at a level (-7 to 19).
    Zstd {
        /// zstd's compression level.
        level: i32,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd { level: 1 }
    }
}

/// Makes zstd frames of the bytes written to it, at least one, and encrypts them if it is told to.
pub struct Encoder {
    frames: Kind,
    recipients: Recipients,
    /// Of the object at hand; each has its own.
    encrypter: Option<Encrypter>,
}

enum Kind {
    Raw(RawFrame),
    Zstd(ZstdFrames),
}

impl Encoder {
    /// Begins an object. Fails if zstd cannot have the memory.
    pub fn new(compression: Compression, recipients: &Recipients) -> io::Result<Self> {
        let frames = match compression {
            Compression::None => Kind::Raw(RawFrame::new(Vec::new())),
            Compression::Zstd { level } => Kind::Zstd(ZstdFrames::new(level.clamp(-7, 19))?),
        };
        Ok(Self { frames, recipients: recipients.clone(), encrypter: None })
    }

    /// Compresses up to `frames` frames at a time from here on, on threads of their own: for one stream of much data.
    pub fn side_by_side(mut self, frames: usize) -> Self {
        if let Kind::Zstd(zstd) = &mut self.frames {
            zstd.at_once = frames;
        }
        self
    }

    /// Whether frames that begin from here on are made fast rather than small.
    pub fn hurry(&mut self, hurry: bool) {
        if let Kind::Zstd(zstd) = &mut self.frames {
            zstd.hurry = hurry;
        }
    }

    /// Adds raw bytes.
    pub fn write(&mut self, raw: &[u8]) -> io::Result<()> {
        match &mut self.frames {
            Kind::Raw(frame) => frame.write(raw),
            Kind::Zstd(frames) => frames.write(raw)?,
        }
        if self.recipients.is_empty() {
            return Ok(());
        }
        let encrypter = match &mut self.encrypter {
            Some(encrypter) => encrypter,
            none => none.insert(Encrypter::new(&self.recipients, Vec::new())?),
        };
        match &mut self.frames {
            Kind::Raw(frame) => frame.hand_over(|bytes| encrypter.write(bytes)),
            Kind::Zstd(frames) => frames.hand_over(|bytes| encrypter.write(bytes)),
        }
    }

    /// Bytes of the object made so far and not yet taken.
    pub fn pending_bytes(&self) -> usize {
        match (&self.encrypter, &self.frames) {
            (Some(encrypter), _) => encrypter.pending_bytes(),
            (None, Kind::Raw(frame)) => frame.out.len(),
            (None, Kind::Zstd(frames)) => frames.out.len(),
        }
    }

    /// Takes the bytes of the object made so far.
    pub fn take(&mut self) -> Vec<u8> {
        match (&mut self.encrypter, &mut self.frames) {
            (Some(encrypter), _) => encrypter.take(),
            _ if !self.recipients.is_empty() => Vec::new(),
            (None, Kind::Raw(frame)) => frame.take(),
            (None, Kind::Zstd(frames)) => std::mem::take(&mut frames.out),
        }
    }

    /// Ends the object and returns what was not yet taken. Then another may begin; after an error none may.
    pub fn finish(&mut self) -> io::Result<Vec<u8>> {
        let rest = match &mut self.frames {
            Kind::Raw(frame) => frame.finish(),
            Kind::Zstd(frames) => frames.finish()?,
        };
        if self.recipients.is_empty() {
            return Ok(rest);
        }
        let mut encrypter = match self.encrypter.take() {
            Some(encrypter) => encrypter,
            None => Encrypter::new(&self.recipients, Vec::new())?,
        };
        encrypter.write(&rest)?;
        encrypter.finish()
    }

    /// Begins another object, in the empty `buffer` and with the memory it has: who takes all of it at once at the end spares memory that way.
    pub fn begin(&mut self, buffer: Vec<u8>) -> io::Result<()> {
        let (plain, encrypted) = match self.recipients.is_empty() {
            true => (buffer, None),
            false => (Vec::new(), Some(Encrypter::new(&self.recipients, buffer)?)),
        };
        self.encrypter = encrypted;
        match &mut self.frames {
            Kind::Raw(frame) => *frame = RawFrame::new(plain),
            Kind::Zstd(frames) => frames.out = plain,
        }
        Ok(())
    }
}

/// Compressed frames of [`FRAME_BYTES`] each.
struct ZstdFrames {
    level: i32,
    hurry: bool,
    /// Raw bytes of the next frame.
    raw: Vec<u8>,
    out: Vec<u8>,
    frames: u64,
    compressor: FrameCompressor,
    /// Frames made on other threads at once; none for 0.
    at_once: usize,
    /// Those at work, in order.
    at_work: VecDeque<FrameAtWork>,
    /// Those that are done, with the memory of their raw bytes.
    idle: Vec<(FrameCompressor, Vec<u8>)>,
}

impl ZstdFrames {
    fn new(level: i32) -> io::Result<Self> {
        let compressor = FrameCompressor::new()?;
        let (raw, out, idle) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { level, hurry: false, raw, out, frames: 0, compressor, at_once: 0, at_work: VecDeque::new(), idle })
    }

    fn level_now(&self) -> i32 {
        if self.hurry { self.level.min(HURRY_LEVEL) } else { self.level }
    }

    fn write(&mut self, mut raw: &[u8]) -> io::Result<()> {
        while let Some((now, later)) = raw.split_at_checked(FRAME_BYTES - self.raw.len()) {
            if self.raw.is_empty() && self.at_once == 0 {
                self.end_frame(now)?;
            } else {
                self.raw.extend_from_slice(now);
                let mut whole = std::mem::take(&mut self.raw);
                if self.at_once > 0 {
                    self.raw = self.begin_frame(whole)?;
                } else {
                    self.end_frame(&whole)?;
                    whole.clear();
                    self.raw = whole;
                }
            }
            raw = later;
        }
        self.raw.extend_from_slice(raw);
        Ok(())
    }

    /// Gives the frames made so far to `sink` and keeps the memory.
    fn hand_over(&mut self, sink: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        sink(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn end_frame(&mut self, raw: &[u8]) -> io::Result<()> {
        let level = self.level_now();
        self.out.append(self.compressor.compress(raw, level)?);
        self.frames += 1;
        Ok(())
    }

    /// Has a frame made elsewhere; returns memory for the next one's raw bytes.
    fn begin_frame(&mut self, raw: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.at_work.len() == self.at_once {
            self.take_frame()?;
        }
        let (mut compressor, memory) = match self.idle.pop() {
            Some(idle) => idle,
            None => (FrameCompressor::new()?, Vec::with_capacity(FRAME_BYTES)),
        };
        let level = self.level_now();
        let compress = move || compressor.compress(&raw, level).map(drop).map(|()| (compressor, raw));
        self.at_work.push_back(thread::Builder::new().name("zstd".to_owned()).spawn(compress)?);
        self.frames += 1;
        Ok(memory)
    }

    /// Waits for the oldest frame at work.
    fn take_frame(&mut self) -> io::Result<()> {
        if let Some(frame) = self.at_work.pop_front() {
            let done = frame.join().map_err(|_| io::Error::other("compressing ended before its time"))?;
            let (mut compressor, mut raw) = done?;
            self.out.append(&mut compressor.frame);
            raw.clear();
            self.idle.push((compressor, raw));
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.raw);
        if rest.is_empty() && self.frames > 0 {
            self.raw = rest;
        } else if self.at_work.is_empty() {
            self.end_frame(&rest)?;
            rest.clear();
            self.raw = rest;
        } else {
            self.raw = self.begin_frame(rest)?;
        }
        while !self.at_work.is_empty() {
            self.take_frame()?;
        }
        self.frames = 0;
        Ok(std::mem::take(&mut self.out))
    }
}

/// Comes back with the frame and the memory of its raw bytes.
type FrameAtWork = JoinHandle<io::Result<(FrameCompressor, Vec<u8>)>>;

/// Makes one frame at a time.
struct FrameCompressor {
    zstd: Compressor<'static>,
    /// Where a frame is made: its bound is larger than what becomes of it.
    frame: Vec<u8>,
}

impl FrameCompressor {
    fn new() -> io::Result<Self> {
        let mut zstd = Compressor::default();
        zstd.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { zstd, frame: Vec::new() })
    }

    /// The frame of `raw`; whoever takes it leaves it empty.
    fn compress(&mut self, raw: &[u8], level: i32) -> io::Result<&mut Vec<u8>> {
        self.zstd.set_compression_level(level)?;
        self.frame.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.compress_to_buffer(raw, &mut self.frame)?;
        Ok(&mut self.frame)
    }
}

/// A zstd frame (RFC 8878) of raw blocks. It copies at the speed of memory, which no compression level does.
struct RawFrame {
    out: Vec<u8>,
    /// Raw bytes in the block that ends `out`; its header comes once it is full, or the last.
    block_bytes: usize,
}

/// Before each block: last flag, type in two bits, size.
const BLOCK_HEADER_BYTES: usize = 3;

impl RawFrame {
    fn new(mut out: Vec<u8>) -> Self {
        out.extend_from_slice(&0xFD2F_B528u32.to_le_bytes());
        // Descriptor: no content size, no checksum, no dictionary. Window: 2^(10+7) = 128 KiB, the largest block.
        out.extend_from_slice(&[0x00, 7 << 3]);
        out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
        Self { out, block_bytes: 0 }
    }

    fn write(&mut self, mut raw: &[u8]) {
        while !raw.is_empty() {
            // A full block ends only when more follows: the last one carries a flag.
            if self.block_bytes == BLOCK_BYTES {
                self.end_block(false);
                self.out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
                self.block_bytes = 0;
            }
            let (now, later) = raw.split_at(raw.len().min(BLOCK_BYTES - self.block_bytes));
            self.out.extend_from_slice(now);
            self.block_bytes += now.len();
            raw = later;
        }
    }

    fn end_block(&mut self, last: bool) {
        // Type 0 is raw. The size is at most BLOCK_BYTES, so it fits.
        let header = ((self.block_bytes as u32) << 3 | u32::from(last)).to_le_bytes();
        let at = self.out.len() - self.block_bytes - BLOCK_HEADER_BYTES;
        for (to, from) in self.out.iter_mut().skip(at).zip(&header[..BLOCK_HEADER_BYTES]) {
            *to = *from;
        }
    }

    /// Gives whole blocks to `sink` and keeps the memory; the one at hand stays.
    fn hand_over(&mut self, sink: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let whole = self.out.len() - self.block_bytes - BLOCK_HEADER_BYTES;
        sink(self.out.get(..whole).unwrap_or_default())?;
        self.out.drain(..whole);
        Ok(())
    }

    /// Whole blocks; the one at hand stays.
    fn take(&mut self) -> Vec<u8> {
        let rest = self.out.split_off(self.out.len() - self.block_bytes - BLOCK_HEADER_BYTES);
        std::mem::replace(&mut self.out, rest)
    }

    fn finish(&mut self) -> Vec<u8> {
        self.end_block(true);
        std::mem::replace(self, Self::new(Vec::new())).out
    }
}

/// Decodes a sequence of zstd frames piece by piece in bounded memory; skippable frames yield nothing.
pub struct Decoder {
    raw: zstd::stream::raw::Decoder<'static>,
    /// Whether the input so far ends between two frames.
    between_frames: bool,
}

impl Decoder {
    /// Begins. Fails if zstd cannot have the memory.
    pub fn new() -> io::Result<Self> {
        let mut raw = zstd::stream::raw::Decoder::new()?;
        raw.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { raw, between_frames: true })
    }

    /// Decodes from the front of `input`, which it shortens by what it used up, and returns at most 256 KiB of raw bytes. Nothing
    /// comes back only when all of `input` is used up and more is needed.
    pub fn decode(&mut self, input: &mut &[u8]) -> io::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let mut from = InBuffer::around(input);
            let (hint, made) = {
                let mut to = OutBuffer::around(&mut piece);
                let hint = self.raw.run(&mut from, &mut to)?;
                (hint, to.pos())
            };
            let used = from.pos();
            *input = input.get(used..).unwrap_or_default();
            if used > 0 || made > 0 {
                self.between_frames = hint == 0;
            }
            if made > 0 || (used == 0 || input.is_empty()) {
                return Ok(piece);
            }
        }
    }

    /// Whether the input so far is whole.
    pub fn is_whole(&self) -> bool {
        self.between_frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(compression: Compression, at_once: usize, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = Encoder::new(compression, &Recipients::default()).unwrap().side_by_side(at_once);
        let mut out = Vec::new();
        for piece in pieces {
            encoder.write(piece).unwrap();
            out.extend(encoder.take());
        }
        out.extend(encoder.finish().unwrap());
        out
    }

    fn decode(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new()?;
        let mut out = Vec::new();
        for mut input in bytes.chunks(step) {
            loop {
                let piece = decoder.decode(&mut input)?;
                assert!(piece.len() <= PIECE_BYTES);
                if piece.is_empty() {
                    break;
                }
                out.extend(piece);
            }
        }
        if decoder.is_whole() { Ok(out) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn bytes_come_back_whatever_the_pieces(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900_000), 0..8), step in 1usize..100_000,
            at_once in 0usize..4
        ) {
            let raw = pieces.concat();
            for compression in [Compression::None, Compression::Zstd { level: 1 }] {
                let object = encode(compression, at_once, &pieces);
                prop_assert_eq!(&decode(&object, step).unwrap(), &raw);
                prop_assert!(decode(&object[..object.len() - 1], step).is_err());
            }
        }
    }

    #[test]
    fn frames_made_in_a_hurry_are_larger_and_read_like_any_other() {
        // Nothing repeats: only a level that codes its literals makes such digits smaller.
        let mut state = 1u64;
        let mut digit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'0' + u8::try_from((state >> 33) % 10).unwrap()
        };
        let text: Vec<u8> = (0..3_000_000).map(|_| digit()).collect();
        let made = |hurry: bool| {
            let mut encoder = Encoder::new(Compression::Zstd { level: 1 }, &Recipients::default()).unwrap();
            encoder.hurry(hurry);
            encoder.write(&text).unwrap();
            encoder.finish().unwrap()
        };
        let (slow, fast) = (made(false), made(true));
        assert!(slow.len() < fast.len(), "{} {} {}", slow.len(), fast.len(), text.len());
        assert_eq!(decode(&fast, 70_000).unwrap(), text);
        // A level that is faster still stays.
        let mut encoder = ZstdFrames::new(-7).unwrap();
        encoder.hurry = true;
        assert_eq!(encoder.level_now(), -7);
    }

    #[test]
    fn what_expands_enormously_is_handed_out_in_small_pieces() {
        let zeros = vec![vec![0u8; 64 << 20]];
        let object = encode(Compression::default(), 0, &zeros);
        assert!(object.len() < 64 << 10);
        assert_eq!(decode(&object, object.len()).unwrap().len(), 64 << 20);
    }

    #[test]
    fn raw_frames_end_right_at_block_borders() {
        for len in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
            let object = encode(Compression::None, 0, &[vec![7; len]]);
            assert_eq!(zstd::decode_all(&object[..]).unwrap(), vec![7; len], "{len}");
        }
    }
}
