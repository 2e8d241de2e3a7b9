//! The checksum of everything that is stored: BLAKE3, which `b3sum` checks. SHA-256 alone took as long as receiving the bytes.

/// Bytes being summed up as they come.
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
