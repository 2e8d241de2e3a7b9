//! The on-store format: what objects there are, what they are called and how they are read and written.
//!
//! `docs/archive-format.md` describes it for people; [`keys`] alone spells object names.

/// The version of the on-store format this binary writes; it reads this one and older ones.
pub const FORMAT: u32 = 1;

pub mod binlog_index;
pub mod keys;
pub mod manifest;
