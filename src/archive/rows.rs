//! The text form of rows in chunks, and the checksum that proves them equal elsewhere.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_128;

/// A checksum of a set of rows that does not depend on their order: the sum, modulo 2^128, of each row's XXH3-128.
/// It is taken over the row's line as [`encode_field`] makes it, newline included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(u128);

impl Checksum {
    /// Adds one row.
    #[inline]
    pub fn add_row(&mut self, line: &[u8]) {
        self.0 = self.0.wrapping_add(XxHash3_128::oneshot(line));
    }

    /// Adds one row whose hash was taken piece by piece.
    pub fn add_hashed_row(&mut self, hasher: RowHasher) {
        self.0 = self.0.wrapping_add(hasher.0.finish_128());
    }

    /// Adds another set of rows.
    pub fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The hash of one row too large to hold in memory as a line.
#[derive(Clone, Default)]
pub struct RowHasher(twox_hash::xxhash3_128::Hasher);

impl RowHasher {
    /// Goes on with the line's next bytes.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.write(piece);
    }
}

impl fmt::Debug for RowHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowHasher")
    }
}

/// Bytes that need an escape in a field.
const fn escape_of(byte: u8) -> u8 {
    match byte {
        0 => b'0',
        b'\t' => b't',
        b'\n' => b'n',
        b'\\' => b'\\',
        _ => 0,
    }
}

const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = escape_of(i as u8);
        i += 1;
    }
    table
};

/// Appends a field (`None` is NULL) as a chunk writes it, without the tab or newline after it.
#[inline]
pub fn encode_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.extend_from_slice(b"\\N"),
        Some(bytes) => encode_bytes(out, bytes),
    }
}

/// Appends bytes of a field with their escapes; a field may be encoded in pieces.
#[inline]
pub fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut from = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape != 0 {
            out.extend_from_slice(&bytes[from..i]);
            out.extend_from_slice(&[b'\\', escape]);
            from = i + 1;
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

/// Where [`Lines`] go.
pub trait LineSink {
    /// What can go wrong there.
    type Error;
    /// Takes all bytes out of `lines`: whole lines and pieces of long ones.
    fn take(&mut self, lines: &mut Vec<u8>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A sink for those who want the checksum only.
#[derive(Debug)]
pub struct Discard;

impl LineSink for Discard {
    type Error = std::convert::Infallible;

    async fn take(&mut self, lines: &mut Vec<u8>) -> Result<(), Self::Error> {
        lines.clear();
        Ok(())
    }
}

/// Makes lines of rows, counts and sums them up.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    extra: Vec<u8>,
    fields: usize,
    /// Rows so far.
    pub rows: u64,
    /// Bytes of lines so far.
    pub bytes: u64,
    /// Checksum of the rows so far.
    pub checksum: Checksum,
}

impl Lines {
    /// Lines go to the sink in pieces of about this size; rows above it are never held as a line.
    pub const PIECE_BYTES: usize = 512 << 10;

    /// Rows whose first `fields` fields make the line; those after count in the checksum only.
    pub fn new(fields: usize) -> Self {
        Self { buffer: Vec::new(), extra: Vec::new(), fields, rows: 0, bytes: 0, checksum: Checksum::default() }
    }

    /// Adds a row of at most [`Self::PIECE_BYTES`]. Call [`Self::flush`] when it says so.
    #[inline]
    pub fn push<'a, E>(&mut self, fields: impl Iterator<Item = Result<Option<&'a [u8]>, E>>) -> Result<bool, E> {
        let start = self.buffer.len();
        self.extra.clear();
        for (i, field) in fields.enumerate() {
            let field = field?;
            let out = if i < self.fields { &mut self.buffer } else { &mut self.extra };
            if i > 0 && i != self.fields {
                out.push(b'\t');
            }
            encode_field(out, field);
        }
        if self.extra.is_empty() {
            self.buffer.push(b'\n');
            self.checksum.add_row(self.buffer.get(start..).unwrap_or_default());
        } else {
            let mut hasher = RowHasher::default();
            hasher.update(self.buffer.get(start..).unwrap_or_default());
            hasher.update(b"\t");
            hasher.update(&self.extra);
            hasher.update(b"\n");
            self.checksum.add_hashed_row(hasher);
            self.buffer.push(b'\n');
        }
        self.bytes += (self.buffer.len() - start) as u64;
        self.rows += 1;
        Ok(self.buffer.len() >= Self::PIECE_BYTES)
    }

    /// Adds a row of any size: its line goes out in pieces. `tails` are written behind the fields of those numbers, but are no
    /// part of the checksum.
    pub async fn push_long<'a, E, S>(
        &mut self,
        fields: impl Iterator<Item = Result<Option<&'a [u8]>, E>> + Send,
        tails: &[(usize, Vec<u8>)],
        sink: &mut S,
    ) -> Result<(), E>
    where
        S: LineSink,
        E: From<S::Error>,
    {
        sink.take(&mut self.buffer).await?;
        let mut hasher = RowHasher::default();
        for (i, field) in fields.enumerate() {
            let field = field?;
            if i > 0 {
                self.buffer.push(b'\t');
            }
            if i == self.fields {
                // What follows is hashed, tab included, but not written.
                hasher.update(b"\t");
                self.buffer.clear();
            }
            let written = i < self.fields;
            for piece in field.unwrap_or_default().chunks(Self::PIECE_BYTES) {
                encode_bytes(&mut self.buffer, piece);
                self.end_piece(&mut hasher, written, sink).await?;
            }
            if field.is_none() {
                encode_field(&mut self.buffer, None);
            }
            self.end_piece(&mut hasher, written, sink).await?;
            for (_, tail) in tails.iter().filter(|(number, _)| *number == i) {
                encode_bytes(&mut self.buffer, tail);
                self.bytes += self.buffer.len() as u64;
                sink.take(&mut self.buffer).await?;
                self.buffer.clear();
            }
        }
        hasher.update(b"\n");
        self.checksum.add_hashed_row(hasher);
        self.buffer.push(b'\n');
        self.bytes += 1;
        self.rows += 1;
        Ok(())
    }

    async fn end_piece<S: LineSink>(
        &mut self,
        hasher: &mut RowHasher,
        written: bool,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        hasher.update(&self.buffer);
        if written {
            self.bytes += self.buffer.len() as u64;
            sink.take(&mut self.buffer).await?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Drops what a sink would get.
    pub fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Hands over what is still here.
    pub async fn flush<S: LineSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        sink.take(&mut self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Collect(Vec<u8>);

    impl LineSink for Collect {
        type Error = Infallible;
        async fn take(&mut self, lines: &mut Vec<u8>) -> Result<(), Infallible> {
            self.0.append(lines);
            Ok(())
        }
    }

    /// What `LOAD DATA` makes of a field.
    fn decode(field: &[u8]) -> Option<Vec<u8>> {
        if field == b"\\N" {
            return None;
        }
        let mut out = Vec::new();
        let mut bytes = field.iter();
        while let Some(&byte) = bytes.next() {
            out.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b'0') => 0,
                    Some(b't') => b'\t',
                    Some(b'n') => b'\n',
                    Some(&other) => other,
                    None => b'\\',
                },
                other => other,
            });
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn a_field_reads_back_as_it_was_and_never_breaks_the_line(bytes: Option<Vec<u8>>) {
            let mut out = Vec::new();
            encode_field(&mut out, bytes.as_deref());
            prop_assert!(!out.contains(&b'\t') && !out.contains(&b'\n') && !out.contains(&0));
            prop_assert_eq!(decode(&out), bytes);
        }

        #[test]
        fn the_checksum_depends_on_rows_and_their_number_but_not_on_their_order(
            mut rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)
        ) {
            let sum = |rows: &[Vec<u8>]| {
                let mut sum = Checksum::default();
                rows.iter().for_each(|row| sum.add_row(row));
                sum
            };
            let all = sum(&rows);
            let mut pieces = Checksum::default();
            for row in rows.iter().rev() {
                let mut hasher = RowHasher::default();
                row.chunks(7).for_each(|piece| hasher.update(piece));
                pieces.add_hashed_row(hasher);
            }
            prop_assert_eq!(all, pieces);
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), all);
            rows.push(rows[0].clone());
            prop_assert_ne!(sum(&rows), all);
        }
    }

    #[test]
    fn a_long_row_makes_the_same_line_and_checksum_as_a_short_one() {
        let long = [b"x\t".repeat(Lines::PIECE_BYTES), b"\\".to_vec()].concat();
        for (fields, row) in [
            (3, vec![Some(&b"a\n"[..]), None, Some(b"")]),
            (2, vec![Some(&long[..]), None, Some(&long[..]), Some(b"z")]),
            (1, vec![None, Some(&long[..])]),
        ] {
            let values = || row.iter().map(|field| Ok::<_, Infallible>(*field));
            let (mut short, mut out) = (Lines::new(fields), Collect::default());
            short.push(values()).unwrap();
            futures::executor::block_on(short.flush(&mut out)).unwrap();
            let (mut pieces, mut out2) = (Lines::new(fields), Collect::default());
            futures::executor::block_on(async {
                pieces.push_long(values(), &[], &mut out2).await.unwrap();
                pieces.flush(&mut out2).await.unwrap();
            });
            assert!(out.0 == out2.0 && out.0.ends_with(b"\n"));
            assert_eq!((short.rows, short.bytes, short.checksum), (pieces.rows, pieces.bytes, pieces.checksum));
            assert_eq!(short.bytes, out.0.len() as u64);
        }
    }
}
