//! `archive.json`: what a prefix holds, so that two sources never share one and an old binary never reads a newer format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Flavor;

/// The content of `archive.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// Archive format version, [`super::FORMAT`].
    pub format: u32,
    /// When the first writer came.
    pub created_at: Timestamp,
    /// The flavor of every server archived here.
    pub flavor: Flavor,
    /// The first server archived here ([`super::binlog_index::FileId::server`]).
    pub first_server: String,
    /// The `tidemark` version that made it.
    pub tidemark_version: String,
}
