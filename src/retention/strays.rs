//! Objects that nothing refers to: what a prune or a full that was killed left behind.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::error::RetentionError;
use crate::archive::catalog::Catalog;
use crate::archive::keys::{self, Key};
use crate::archive::store::{Object, Store};
use crate::model::total;

/// Folders listed at a time.
const CONCURRENCY: usize = 8;

/// The objects of a folder that belongs to no full and no binlog file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The folder.
    pub dir: String,
    /// Its objects, as far as this format knows their names.
    pub keys: Vec<String>,
    /// Their stored bytes.
    pub bytes: u64,
    /// When the newest of them was written; none where the store does not say.
    pub modified: Option<Timestamp>,
}

/// Finds them: folders of fulls without a manifest, and of binlog files without an index and without their first segment (or what says in
/// which pack it is).
pub async fn strays(store: &Store, catalog: &Catalog) -> Result<Vec<Stray>, RetentionError> {
    let fulls: BTreeSet<String> = catalog.fulls.iter().map(|full| keys::full_dir(&full.id)).collect();
    // There may be a great many: of each only what tells it from others of its server.
    let mut files: HashMap<&str, HashSet<(u64, u32)>> = HashMap::new();
    for file in &catalog.files {
        let of_server = files.entry(&file.id.server).or_default();
        of_server.extend(file.ids().iter().map(|id| (id.number(), id.created_unix)));
    }
    let is_known = |dir: &str| {
        let id = keys::parse_file_dir(dir);
        id.is_some_and(|id| {
            files.get(id.server.as_str()).is_some_and(|ids| ids.contains(&(id.number(), id.created_unix)))
        })
    };
    let mut dirs = store.list_dirs(keys::FULLS).await?;
    dirs.retain(|dir| !fulls.contains(dir));
    for server in store.list_dirs(keys::BINLOGS).await? {
        let each = |dir: String| dirs.extend(Some(dir).filter(|dir| !is_known(dir)));
        store.each_dir(&server, each).await?;
    }
    dirs.sort();
    let found: Vec<Option<Stray>> = stream::iter(dirs)
        .map(|dir| async move { Ok::<_, RetentionError>(stray(store.list_stored(&dir).await?, dir)) })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// A folder's objects, unless they make a full or a file.
pub(super) fn stray(objects: Vec<Object>, dir: String) -> Option<Stray> {
    let mut ours = Vec::new();
    for object in objects {
        match keys::parse(&object.key) {
            Some(Key::Manifest { .. } | Key::Index { .. } | Key::Segment { start: 0, .. }) => return None,
            // By its word others may have deleted; where it is damaged a person decides.
            Some(Key::Packed { .. }) => return None,
            Some(Key::FullObject { .. } | Key::Segment { .. } | Key::Pack { .. }) => ours.push(object),
            Some(Key::Archive | Key::Lease { .. }) | None => {}
        }
    }
    let modified = ours.iter().map(|object| object.modified).min().flatten();
    let newest = ours.iter().map(|object| object.modified).max().flatten();
    Some(Stray {
        dir,
        bytes: total(ours.iter().map(|object| object.bytes)),
        // Of which one is unknown, all are.
        modified: modified.and(newest),
        keys: ours.into_iter().map(|object| object.key).collect(),
    })
    .filter(|stray| !stray.keys.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(objects: &[(&str, Option<i64>)]) -> Option<(usize, Option<i64>)> {
        let object = |(key, at): &(&str, Option<i64>)| Object {
            key: (*key).to_owned(),
            bytes: 1,
            modified: at.map(|second| Timestamp::from_second(second).unwrap()),
        };
        let stray = stray(objects.iter().map(object).collect(), "d/".to_owned())?;
        Some((stray.keys.len(), stray.modified.map(Timestamp::as_second)))
    }

    #[test]
    fn what_belongs_to_something_is_no_stray_and_the_newest_object_tells_the_age() {
        let part = |from: u64, to: u64| format!("binlog/s/b.1@7/{from:020}-{to:020}.zst");
        let (first, second) = (part(0, 5), part(5, 9));
        assert_eq!(found(&[("full/a/x", Some(1)), ("full/a/y/z", Some(9))]), Some((2, Some(9))));
        assert_eq!(found(&[("full/a/x", Some(1)), ("full/a/y", None)]), Some((2, None)));
        assert_eq!(found(&[("full/a/x", Some(1)), ("full/a/manifest.json", Some(1))]), None);
        assert_eq!(found(&[(&second, Some(3))]), Some((1, Some(3))));
        assert_eq!(found(&[(&first, Some(1)), (&second, Some(3))]), None);
        assert_eq!(found(&[(&second, Some(3)), ("binlog/s/b.1@7/index.json", Some(3))]), None);
        let pack = format!("binlog/s/b.1@7/{:020}-{:020}.1a2b.pack.zst", 0, 9);
        assert_eq!(found(&[(&pack, Some(3)), ("binlog/s/b.1@7/packed.json", Some(3))]), None);
        assert_eq!(found(&[(&pack, Some(3))]), Some((1, Some(3))), "nothing says what is in it");
        // Of a newer format, perhaps.
        assert_eq!(found(&[("binlog/s/b.1@7/other", Some(3))]), None);
        assert_eq!(found(&[("binlog/s/b.1@7/other", Some(3)), (&second, Some(3))]), Some((1, Some(3))));
    }
}
