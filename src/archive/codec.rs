//! Compression of objects. Every stored object is a sequence of zstd frames, whatever the setting, so that there is one way
//! to read an archive: `zstd -d`.

/// How objects are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Frames of raw blocks: no size is saved and next to no CPU spent.
    None,
    /// zstd at a level (1–19).
    Zstd {
        /// zstd's compression level.
        level: i32,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd { level: 3 }
    }
}
