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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
}
