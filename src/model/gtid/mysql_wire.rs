//! The binary form of a MySQL set: the body of PREVIOUS_GTIDS and what a replica sends with its dump request.
//!
//! Untagged: u64 count, then per server 16 bytes of UUID, u64 n, n × (u64 first, u64 one past the last).
//! Tagged (once any tag is known): the count's lowest and highest byte are 1 and the count is between them; after each
//! UUID comes the tag, as one byte (length × 2) and the text.

use snafu::{OptionExt, Snafu, ensure};
use uuid::Uuid;

use super::mysql::{MAX_GNO, MysqlGtidSet, Tag};

const TAGGED: u64 = 1;

/// Bytes that are not a GTID set in MySQL's binary form.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("cannot decode a binary GTID set at byte {at} of {len}: {reason}"))]
pub struct DecodeGtidSetError {
    at: usize,
    len: usize,
    reason: &'static str,
}

impl MysqlGtidSet {
    /// The set in the server's binary form: untagged unless it has a tag.
    pub fn encode_wire(&self) -> Vec<u8> {
        let tagged = self.sources.keys().any(|(_, tag)| tag.is_some());
        let count = self.sources.len() as u64;
        let mut out = Vec::with_capacity(8 + self.sources.len() * 40);
        let head = if tagged { TAGGED << 56 | count << 8 | TAGGED } else { count };
        out.extend_from_slice(&head.to_le_bytes());
        for (uuid, tag, numbers) in self.sources() {
            out.extend_from_slice(uuid.as_bytes());
            if tagged {
                let tag = tag.map_or("", Tag::as_str);
                // At most 32 bytes: the length always fits the one-byte form.
                out.push((tag.len() as u8) << 1);
                out.extend_from_slice(tag.as_bytes());
            }
            out.extend_from_slice(&(numbers.range_count() as u64).to_le_bytes());
            for (first, last) in numbers.ranges() {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.saturating_add(1).to_le_bytes());
            }
        }
        out
    }

    /// Reads the server's binary form; all of `bytes` must belong to it. Memory stays in proportion to `bytes`,
    /// whatever counts they claim.
    pub fn decode_wire(bytes: &[u8]) -> Result<Self, DecodeGtidSetError> {
        let mut input = Input { bytes, at: 0 };
        let head = input.u64()?;
        let tagged = head >> 56 == TAGGED;
        let count = match head >> 56 {
            0 => head,
            TAGGED if head & 0xff == TAGGED => (head << 8) >> 16,
            _ => return input.refuse("the set is of a format newer than this program knows"),
        };
        let mut set = Self::default();
        for _ in 0..count {
            let uuid = Uuid::from_bytes(*input.take::<16>()?);
            let tag = if tagged { input.tag()? } else { None };
            for _ in 0..input.u64()? {
                let (first, end) = (input.u64()?, input.u64()?);
                if first == 0 || first >= end || end > MAX_GNO + 1 {
                    return input.refuse("an interval is empty or out of range");
                }
                set.insert_range(uuid, tag.clone(), first, end - 1);
            }
        }
        if input.at != bytes.len() {
            return input.refuse("bytes follow its end");
        }
        Ok(set)
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn refuse<T>(&self, reason: &'static str) -> Result<T, DecodeGtidSetError> {
        DecodeGtidSetSnafu { at: self.at, len: self.bytes.len(), reason }.fail()
    }

    fn take<const N: usize>(&mut self) -> Result<&[u8; N], DecodeGtidSetError> {
        let short = DecodeGtidSetSnafu { at: self.at, len: self.bytes.len(), reason: "it ends too early" };
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).context(short)?;
        self.at += N;
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, DecodeGtidSetError> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn tag(&mut self) -> Result<Option<Tag>, DecodeGtidSetError> {
        let [length] = *self.take::<1>()?;
        let length = usize::from(length >> 1) | usize::from(length & 1) << 8;
        if length == 0 {
            return Ok(None);
        }
        let wrong = DecodeGtidSetSnafu { at: self.at, len: self.bytes.len(), reason: "a tag is malformed" };
        ensure!(length <= Tag::MAX_BYTES, wrong);
        let text = self.bytes.get(self.at..self.at + length).context(wrong)?;
        let tag = str::from_utf8(text).ok().and_then(Tag::new).context(wrong)?;
        self.at += length;
        Ok(Some(tag))
    }
}
