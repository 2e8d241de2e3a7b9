//! The on-store format: what objects there are, what they are called and how they are read and written.
//!
//! `docs/archive-format.md` describes it for people; [`keys`] alone spells object names. From the bottom up:
//! [`store`] (bytes by key, whether [`packed`] or not) → [`codec`] (zstd) and [`crypt`] (age) → [`segment`] (a range of a binlog file as one object) →
//! [`index_writer`] (a closed file) → [`catalog`] (everything there is) → [`timeline`] (what can be restored) and [`reader`] (a file's
//! bytes).

/// The newest version of the on-store format; this binary reads it and older ones.
pub const FORMAT: u32 = 4;

/// The version that an object states: 2 where anything it holds or names is encrypted. What is in clear is of version 1, as it always was.
pub fn format_of(encrypted: bool) -> u32 {
    if encrypted { 2 } else { 1 }
}

pub mod binlog_index;
pub mod catalog;
pub mod codec;
pub mod crypt;
pub mod digest;
mod error;
pub mod identity;
pub mod index_writer;
pub mod keys;
pub mod lease;
pub mod logical;
pub mod manifest;
pub mod packed;
mod ranges;
pub mod reader;
pub mod rows;
pub mod sealed;
pub mod segment;
pub mod store;
pub mod timeline;

pub use error::ArchiveError;
