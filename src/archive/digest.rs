//! The checksums of the archive. SHA-256 would take as long as receiving the bytes does.

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

/// Of a segment's raw bytes, to tell whether a source still has what was archived: XXH3-128, which `xxhsum -H2` checks. Not against
/// forgery: who could forge a source's bytes could as well write them first.
#[derive(Clone, Default)]
pub struct RawDigest(twox_hash::xxhash3_128::Hasher);

impl RawDigest {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The hex digest (32 digits) of all bytes so far.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0.finish_128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_tools_print_the_same() {
        assert_eq!(Digest::of(b"abc"), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        let mut raw = RawDigest::new();
        raw.update(b"a");
        raw.update(b"bc");
        assert_eq!(raw.hex(), "06b05ab6733a618578af5f94892f3950");
    }
}
