//! The checksums of the archive. SHA-256 would take as long as receiving the bytes does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Of a stored object: BLAKE3, which `b3sum` checks.
#[derive(Clone, Debug, Default)]
pub struct Digest(blake3::Hasher);

impl Digest {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The hex digest of `bytes`.
    pub fn of(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    /// Adds bytes; those of a few KiB and more at a time go several times as fast.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hex digest (64 digits) of all bytes so far.
    pub fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// What a segment's raw bytes are known by without them, to tell whether a source still has what was archived. Not against forgery: who
/// could forge a source's bytes could as well write them first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RawSum {
    /// Hex XXH3-128, which `xxhsum -H2` checks.
    #[serde(rename = "raw_xxh3")]
    Xxh3(String),
    /// Of an encrypted segment: hex BLAKE3 of the bytes and, behind them, the object's key. XXH3 in clear would give bytes away that
    /// somebody lacks of a segment known otherwise; the key makes equal bytes of two segments look different.
    #[serde(rename = "raw_blake3")]
    Blake3(String),
}

impl Default for RawSum {
    fn default() -> Self {
        Self::Xxh3(String::new())
    }
}

impl fmt::Display for RawSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xxh3(hex) | Self::Blake3(hex) => f.write_str(hex),
        }
    }
}

/// Makes a [`RawSum`].
#[derive(Clone)]
pub enum RawDigest {
    /// Of a segment in clear.
    Xxh3(Box<twox_hash::xxhash3_128::Hasher>),
    /// Of an encrypted one.
    Blake3(Box<blake3::Hasher>),
}

impl RawDigest {
    /// Of no bytes yet.
    pub fn new(encrypted: bool) -> Self {
        match encrypted {
            false => Self::Xxh3(Box::default()),
            true => Self::Blake3(Box::default()),
        }
    }

    /// To be compared with `sum`.
    pub fn like(sum: &RawSum) -> Self {
        Self::new(matches!(sum, RawSum::Blake3(_)))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxh3(hasher) => hasher.write(bytes),
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
        }
    }

    /// The sum of all bytes so far as those of the object called `key`.
    pub fn sum(&self, key: &str) -> RawSum {
        match self {
            Self::Xxh3(hasher) => RawSum::Xxh3(format!("{:032x}", hasher.finish_128())),
            Self::Blake3(hasher) => {
                let mut hasher = hasher.clone();
                hasher.update(key.as_bytes());
                RawSum::Blake3(hasher.finalize().to_hex().to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_tools_print_the_same() {
        assert_eq!(Digest::of(b"abc"), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        let sum = |encrypted: bool| {
            let mut raw = RawDigest::new(encrypted);
            raw.update(b"a");
            raw.update(b"bc");
            raw.sum("key")
        };
        assert_eq!(sum(false), RawSum::Xxh3("06b05ab6733a618578af5f94892f3950".to_owned()));
        assert_eq!(sum(true), RawSum::Blake3(Digest::of(b"abckey")));
    }
}
