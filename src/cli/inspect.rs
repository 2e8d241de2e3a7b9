//! What an archive holds, in the words that every report of it uses.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::archive::catalog::{Catalog, by_statement};
use crate::archive::timeline::{ChainEnd, Timeline, unlogged};
use crate::model::{GtidSet, total};

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

/// What may be missing behind each full, or come back as something else, once.
pub fn warnings(catalog: &Catalog, timeline: &Timeline) -> Vec<String> {
    let fulls = &catalog.fulls;
    let mut notes: Vec<String> = by_statement(&catalog.files).into_iter().collect();
    for full in fulls {
        let links = timeline.chain(&full.id).into_iter().flat_map(|chain| &chain.links);
        let taken: Vec<(&str, &GtidSet)> = links.map(|link| (link.file.server.as_str(), &link.take)).collect();
        let more = unlogged(fulls, full, &taken);
        notes.extend(more.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    }
    notes
}

/// Lineages that nothing tells from the live one: a restore to the latest, or to a time behind the split, is refused.
pub fn contested(timeline: &Timeline) -> Vec<String> {
    let live = timeline.live_server.as_deref().unwrap_or_default();
    let told = timeline.forks.iter().filter(|fork| fork.contested).map(|fork| {
        format!(
            "two lineages: server {live} counts as live, but server {} committed no earlier ({} only there); which one is wanted cannot be \
             told, and a restore to the latest or to a time behind the split is refused: name a GTID, or allow the nearest for the live one",
            fork.server, fork.gtids
        )
    });
    told.collect()
}

/// Bytes of all objects.
pub fn stored_bytes(catalog: &Catalog) -> u64 {
    total(catalog.files.iter().map(|file| file.object_bytes).chain(catalog.fulls.iter().map(|full| full.bytes)))
}

/// What of an archive is encrypted, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// Objects of fulls and binlog files that are encrypted.
    pub encrypted_objects: u64,
    /// Those that are in clear.
    pub clear_objects: u64,
    /// Public keys that something is encrypted to. (Of a file that is being written those of its last object.)
    pub recipients: BTreeSet<String>,
}

/// What is encrypted.
pub fn encryption(catalog: &Catalog) -> Encryption {
    let mut found = Encryption::default();
    for full in &catalog.fulls {
        let count = if full.recipients.is_empty() { &mut found.clear_objects } else { &mut found.encrypted_objects };
        *count += full.objects;
        found.recipients.extend(full.recipients.iter().cloned());
    }
    for file in &catalog.files {
        found.encrypted_objects += file.encryption.objects;
        found.clear_objects += file.objects.saturating_sub(file.encryption.objects);
        found.recipients.extend(file.encryption.recipients.iter().flatten().cloned());
    }
    found
}
