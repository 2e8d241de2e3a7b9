//! What a manifest or an index names, against what a listing shows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Damage, Finding, Place};
use crate::archive::binlog_index::FileIndex;
use crate::archive::keys::{self, Key};
use crate::archive::manifest::FullManifest;
use crate::archive::store::Object;

/// Sizes of objects in bytes, by key.
pub type Sizes = BTreeMap<String, u64>;

/// The sizes in a listing.
pub fn sizes(listing: &[Object]) -> Sizes {
    listing.iter().map(|object| (object.key.clone(), object.bytes)).collect()
}

/// What an index names, and what of the rest is no object of this file. Segments that it does not name are another streamer's: they do not
/// count, and hurt nobody.
pub fn against_index(index: &FileIndex, found: &Sizes) -> Vec<Finding> {
    let mut findings = foreign_in_log(found.keys());
    let mut after = None;
    for range in &index.ranges {
        let key = index.object(range).key();
        let damage = of_object(range.object_bytes, found.get(&key).copied());
        findings.extend(damage.map(|damage| {
            let (file, from, to) = (index.file.clone(), range.start, range.end);
            Finding::new(key, damage, Place::Log { file, from, to, after })
        }));
        after = range.last_commit.or(after);
    }
    findings
}

/// Objects in a binlog file's folder that this format does not know.
pub fn foreign_in_log<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<Finding> {
    let unknown = keys.filter(|key| !matches!(keys::parse(key), Some(Key::Segment { .. } | Key::Index { .. })));
    unknown.map(|key| foreign(key, "a name that no object of a binlog file has")).collect()
}

/// What a manifest names, and what is in its folder beside that. `elsewhere` are the objects of other folders that it names.
pub fn against_manifest(manifest: &FullManifest, found: &Sizes, elsewhere: &Sizes) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named = BTreeSet::from([keys::manifest(&manifest.id)]);
    for object in &manifest.objects {
        let bytes = found.get(&object.key).or_else(|| elsewhere.get(&object.key)).copied();
        let place = || Place::Full { id: manifest.id.clone() };
        let damage = of_object(object.bytes, bytes);
        findings.extend(damage.map(|damage| Finding::new(object.key.clone(), damage, place())));
        named.insert(object.key.clone());
    }
    let rest = found.keys().filter(|key| !named.contains(*key));
    findings.extend(rest.map(|key| foreign(key, "no manifest names it")));
    findings
}

/// An object that does not belong here.
pub fn foreign(key: &str, problem: &str) -> Finding {
    Finding::new(key, Damage::Foreign { problem: problem.to_owned() }, Place::Nothing)
}

fn of_object(stored: u64, found: Option<u64>) -> Option<Damage> {
    match found {
        None => Some(Damage::Lost),
        Some(found) if found != stored => Some(Damage::of_size(stored, found)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{file, set};
    use super::*;
    use crate::archive::binlog_index::{Ending, IndexedRange};
    use crate::model::{CommitTime, Flavor};

    fn index(sizes: &[u64]) -> FileIndex {
        let archived = file("A", 1, 10, set(""), set("A:1-5"));
        let range = |(i, bytes): (usize, &u64)| IndexedRange {
            start: i as u64 * 10,
            end: i as u64 * 10 + 10,
            object_bytes: *bytes,
            object_blake3: String::new(),
            boundary: i as u64 * 10 + 10,
            last_commit: Some(CommitTime(i as i64)),
            gtids: set(""),
            encrypted_to: (i % 2 == 1).then_some(0),
        };
        FileIndex {
            format: 1,
            file: archived.id,
            flavor: Flavor::Mysql,
            server_version: String::new(),
            size: sizes.len() as u64 * 10,
            summary: archived.summary,
            ending: Ending::Rotate,
            next_file: None,
            ranges: sizes.iter().enumerate().map(range).collect(),
            recipients: vec![vec!["age1".to_owned()]],
            edition: None,
            trace_id: String::new(),
        }
    }

    proptest! {
        #[test]
        fn each_object_that_is_gone_or_of_another_size_is_named_and_no_other(
            stored in prop::collection::vec(1u64..9, 1..12), changes in prop::collection::vec(0usize..4, 12), strangers in 0usize..3
        ) {
            let index = index(&stored);
            let mut found = Sizes::from([(keys::index(&index.file), 7)]);
            let mut expected = BTreeMap::new();
            for (i, range) in index.ranges.iter().enumerate() {
                let key = index.object(range).key();
                match changes[i] {
                    1 => { expected.insert(key, "Lost"); }
                    2 => { found.insert(key.clone(), range.object_bytes - 1); expected.insert(key, "Truncated"); }
                    3 => { found.insert(key.clone(), range.object_bytes + 1); expected.insert(key, "Changed"); }
                    _ => { found.insert(key, range.object_bytes); }
                }
            }
            // Another streamer's ranges.
            found.insert(keys::segment(&index.file, None, 0, 7, false), 3);
            for i in 0..strangers {
                let key = format!("{}stranger-{i}", keys::file_dir(&index.file));
                found.insert(key.clone(), 1);
                expected.insert(key, "Foreign");
            }
            let findings = against_index(&index, &found);
            let told: BTreeMap<String, &str> = findings.iter().map(|f| (f.key.clone(), f.damage.word())).collect();
            prop_assert_eq!(told, expected);
            for finding in &findings {
                if let Place::Log { from, after, .. } = &finding.place {
                    let before = from.checked_sub(10).map(|at| CommitTime(at as i64 / 10));
                    prop_assert_eq!(*after, before, "{:?}", finding);
                }
            }
        }
    }
}
