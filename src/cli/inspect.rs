//! What an archive holds, in the words that every report of it uses.

use crate::archive::catalog::Catalog;
use crate::archive::timeline::ChainEnd;
use crate::model::total;

/// Why a window ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// In words.
    pub reason: String,
    /// GTIDs of the gap behind it, where that is why.
    pub missing: Option<String>,
}

/// Why a window ends; none for one that still grows.
pub fn end_of(end: &ChainEnd) -> Option<End> {
    match end {
        ChainEnd::Newest => None,
        ChainEnd::Gap(gap) => Some(End { reason: gap.reason.clone(), missing: Some(gap.missing.to_string()) }),
        ChainEnd::OffLineage { beyond, .. } => {
            let reason = if beyond.is_empty() {
                "the full is older than the log that is archived: only the full itself can be restored".to_owned()
            } else {
                format!("the full holds transactions that the archived log does not have (yet): {beyond}")
            };
            Some(End { reason, missing: None })
        }
    }
}

/// Bytes of all objects.
pub fn stored_bytes(catalog: &Catalog) -> u64 {
    total(catalog.files.iter().map(|file| file.object_bytes).chain(catalog.fulls.iter().map(|full| full.bytes)))
}
