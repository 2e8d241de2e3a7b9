//! A short account of long logs, kept beside the archive: no part of it, and nothing is restored by its word. It may be deleted at any time.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::files::ArchivedFile;
use super::fulls::FullHead;
use crate::archive::binlog_index::{FileId, file_number};
use crate::archive::sealed::{seal, unseal};
use crate::archive::store::{Condition, Store};
use crate::archive::{ArchiveError, keys};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Folded {
    format: u32,
    spans: Vec<ArchivedFile>,
}

/// Keeps those of `files` that are several told as one, for the next [`super::Catalog::load_folded`].
///
/// # Errors
/// Where the store fails.
pub async fn keep_folded(store: &Store, files: &[ArchivedFile]) -> Result<(), ArchiveError> {
    let spans: Vec<ArchivedFile> = files.iter().filter(|file| file.is_span()).cloned().collect();
    let json = seal(keys::FOLDED, &Folded { format: FORMAT, spans })?;
    let _ = store.put(keys::FOLDED, json, Condition::Overwrite).await?;
    Ok(())
}

/// Deletes that account: before what it speaks of is deleted.
///
/// # Errors
/// Where the store fails.
pub async fn forget_folded(store: &Store) -> Result<(), ArchiveError> {
    Ok(store.delete(keys::FOLDED).await?)
}

/// By number and stamp: which span, and which of its files.
type Places = HashMap<(u64, u32), (usize, usize)>;

/// What was kept, to be compared with what a listing shows.
#[derive(Default)]
pub(super) struct Known {
    spans: Vec<ArchivedFile>,
    places: HashMap<String, Places>,
    /// By span: which of its files were listed.
    seen: Vec<Vec<bool>>,
}

impl Known {
    /// Without it everything is read anew: so it does not matter why it cannot be read.
    pub(super) async fn load(store: &Store) -> Result<Self, ArchiveError> {
        let Some(json) = store.find(keys::FOLDED).await? else { return Ok(Self::default()) };
        let spans = match unseal(keys::FOLDED, &json) {
            Ok(Folded { format: FORMAT, spans }) => spans,
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the account of closed binlog files is not used; the next prune writes it anew");
                Vec::new()
            }
        };
        let mut known = Self::default();
        known.take(spans);
        Ok(known)
    }

    pub(super) fn take(&mut self, spans: Vec<ArchivedFile>) {
        for (i, span) in spans.iter().enumerate() {
            let of_server = self.places.entry(span.id.server.clone()).or_default();
            for (n, id) in span.ids().iter().enumerate() {
                of_server.insert((id.number(), id.created_unix), (i, n));
            }
            self.seen.push(vec![false; usize::try_from(span.count()).unwrap_or_default()]);
        }
        self.spans = spans;
    }

    /// Whether a listed file is one of them.
    pub(super) fn see(&mut self, id: &FileId) -> bool {
        let place = self.places.get(&id.server).and_then(|places| places.get(&(id.number(), id.created_unix)));
        let Some(&(span, n)) = place else { return false };
        let Some(found) = self.spans.get(span).and_then(|span| span.ids().get(n)) else { return false };
        if found != *id {
            return false;
        }
        if let Some(seen) = self.seen.get_mut(span).and_then(|seen| seen.get_mut(n)) {
            *seen = true;
        }
        true
    }

    /// What of it still holds, and files that have to be read one by one: of spans that have lost some, and of those that a full's position would be
    /// in the middle of, as nothing tells then what comes before it.
    pub(super) fn settle(self, fulls: &[FullHead]) -> (Vec<ArchivedFile>, Vec<FileId>) {
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        let positions =
            fulls.iter().filter_map(|full| Some((full.server.as_str(), full.position.as_ref()?.file.as_str())));
        let mut inside: HashMap<&str, Vec<(u64, &str)>> = HashMap::new();
        for (server, file) in positions {
            inside.entry(server).or_default().push((file_number(file), file));
        }
        inside.values_mut().for_each(|of_server| of_server.sort_unstable());
        for (span, seen) in self.spans.into_iter().zip(self.seen) {
            let ids = span.ids();
            let (first, last) = (span.id.number(), span.end().number);
            let is_split = inside.get(span.id.server.as_str()).is_some_and(|of_server| {
                let from = of_server.partition_point(|(number, _)| *number <= first);
                of_server.get(from).is_some_and(|(number, _)| *number <= last)
            });
            if seen.iter().all(|seen| *seen) && !is_split {
                whole.push(span);
            } else {
                single.extend(ids.iter().zip(seen).filter(|(_, seen)| *seen).map(|(id, _)| id));
            }
        }
        (whole, single)
    }
}
