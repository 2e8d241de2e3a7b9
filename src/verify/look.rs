//! One full or one binlog file, looked at by a listing and what describes it. No data is read.

use std::collections::HashSet;

use super::VerifyError;
use super::compare::{Sizes, against_index, against_manifest, foreign, foreign_in_log, sizes};
use super::finding::{Damage, Finding, Place};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{ArchivedFile, FullHead, load_file, load_index, load_manifest};
use crate::archive::keys::{self, Key};
use crate::archive::logical::DESCRIPTION;
use crate::archive::manifest::FullManifest;
use crate::archive::segment::{SegmentError, SegmentObject, read_any_meta};
use crate::archive::store::{Object, Store};
use crate::archive::{ArchiveError, segment};
use crate::model::{CommitTime, total};

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Look {
    /// The full, if it has a manifest that can be read.
    pub full: Option<FullHead>,
    /// The binlog file, as far as it is whole.
    pub file: Option<ArchivedFile>,
    /// Whether the binlog file has an index that can be read.
    pub indexed: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of other folders that the full's manifest names.
    pub elsewhere: Vec<String>,
    /// Objects that nothing refers to, and that are no finding: of a full that is under way or was given up, or of an interrupted prune.
    pub leftovers: u64,
    /// Bytes of a binlog file without its beginning: left over from a prune, or the rest of a loss. Only its server's other files tell.
    pub headless: bool,
}

impl Look {
    fn of(listing: &[Object]) -> Self {
        let bytes = total(listing.iter().map(|object| object.bytes));
        Self { objects: listing.len() as u64, bytes, ..Self::default() }
    }

    fn find(&mut self, key: &str, damage: Damage, place: Place) {
        self.findings.push(Finding::new(key, damage, place));
    }
}

/// Damage of an object that describes others; none for an error of another kind.
pub fn of_description(error: &ArchiveError) -> Option<Damage> {
    match error {
        ArchiveError::Misplaced { of, .. } => Some(Damage::Duplicated { of: of.clone() }),
        ArchiveError::Changed { .. } => {
            Some(Damage::Changed { problem: "it is not what its own checksum says".to_owned() })
        }
        ArchiveError::Unreadable { source, .. } => {
            Some(Damage::Unreadable { problem: format!("it is not the JSON that this format defines ({source})") })
        }
        _ => None,
    }
}

/// Looks at a full's folder.
pub async fn full(store: &Store, id: &str) -> Result<Look, VerifyError> {
    let dir = keys::full_dir(id);
    let listing = store.list(&dir).await?;
    let mut look = Look::of(&listing);
    let (key, place) = (keys::manifest(id), Place::Full { id: id.to_owned() });
    match load_manifest(store, id).await {
        Ok(manifest) => {
            let elsewhere = elsewhere(store, &dir, &manifest).await?;
            let named: HashSet<&str> = manifest.objects.iter().map(|object| object.key.as_str()).collect();
            let is_left = |key: &str| !named.contains(key) && keys::is_remade(key, manifest.edition.is_some());
            let (left, rest) = listing.into_iter().partition::<Vec<_>, _>(|object| is_left(&object.key));
            look.leftovers = left.len() as u64;
            look.findings = against_manifest(&manifest, &sizes(&rest), &elsewhere);
            look.elsewhere = elsewhere.into_keys().collect();
            look.full = Some(FullHead::from(&manifest));
        }
        // The rows are there, and what was stored when they were; only the manifest is not.
        Err(e) if e.is_not_found() && listing.iter().any(|object| is_description(id, &object.key)) => {
            look.find(&key, Damage::Lost, place);
        }
        Err(e) if e.is_not_found() => look.leftovers = look.objects,
        Err(e) => match of_description(&e) {
            Some(Damage::Duplicated { of }) if is_copy_of(store, &of, &dir, &listing).await? => {
                look.find(&key, Damage::Duplicated { of }, Place::Nothing);
            }
            Some(damage) => look.find(&key, damage, place),
            None => return Err(e.into()),
        },
    }
    Ok(look)
}

fn is_description(of: &str, key: &str) -> bool {
    matches!(keys::parse(key), Some(Key::FullObject { full, name, .. }) if full == of && name == DESCRIPTION)
}

/// Whether all that is in a folder is a copy of the full with that manifest: then no full was ever here.
async fn is_copy_of(store: &Store, manifest: &str, dir: &str, listing: &[Object]) -> Result<bool, VerifyError> {
    let Some(Key::Manifest { full }) = keys::parse(manifest) else { return Ok(false) };
    let objects = match load_manifest(store, &full).await {
        Ok(manifest) => manifest.objects,
        Err(e) if e.is_not_found() || e.is_damage() => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let original = keys::full_dir(&full);
    let names: Sizes =
        objects.iter().filter_map(|o| Some((o.key.strip_prefix(&original)?.to_owned(), o.bytes))).collect();
    let own = |object: &&Object| !matches!(keys::parse(&object.key), Some(Key::Manifest { .. }));
    Ok(listing
        .iter()
        .filter(own)
        .all(|object| object.key.strip_prefix(dir).is_some_and(|name| names.get(name) == Some(&object.bytes))))
}

/// Sizes of the objects that a manifest names in other folders.
async fn elsewhere(store: &Store, dir: &str, manifest: &FullManifest) -> Result<Sizes, VerifyError> {
    let mut found = Sizes::new();
    for object in manifest.objects.iter().filter(|object| !object.key.starts_with(dir)) {
        if let Some(bytes) = store.stat(&object.key).await? {
            found.insert(object.key.clone(), bytes);
        }
    }
    Ok(found)
}

/// Looks at a binlog file's folder.
pub async fn log(store: &Store, id: &FileId) -> Result<Look, VerifyError> {
    let listing = store.list(&keys::file_dir(id)).await?;
    let mut look = Look::of(&listing);
    match load_index(store, id).await {
        Ok(index) => {
            look.findings = against_index(&index, &sizes(&listing));
            let is_left = |segment: &SegmentObject| index.edition.is_some() && segment.edition != index.edition;
            look.leftovers = listing.iter().filter_map(SegmentObject::listed).filter(is_left).count() as u64;
            look.indexed = true;
            look.file = Some(index.into());
            return Ok(look);
        }
        Err(e) if e.is_not_found() => {}
        Err(e) => match of_description(&e) {
            // The segments say the same.
            Some(damage) => look.find(&keys::index(id), damage, Place::Nothing),
            None => return Err(e.into()),
        },
    }
    look.findings.extend(foreign_in_log(listing.iter().map(|object| &object.key)));
    look.file = load_file(store, id).await?;
    let segments: Vec<SegmentObject> = listing.iter().filter_map(SegmentObject::listed).collect();
    let (size, hole_until) = match &look.file {
        Some(file) => (file.size, file.hole_until),
        None => (0, segments.iter().map(|segment| segment.start).filter(|start| *start > 0).min()),
    };
    let after = look.file.as_ref().and_then(|file| file.summary.last_commit);
    // Those that begin where the whole part ends should go on with it.
    let bad: Vec<&SegmentObject> = segments.iter().filter(|segment| segment.start == size).collect();
    match (hole_until, bad.as_slice()) {
        (None, []) => {}
        (Some(_), []) if look.file.is_none() => look.headless = true,
        (Some(until), []) => {
            let place =
                Place::Hole { file: id.clone(), from: size, after, until: newest(store, &segments, &listing).await };
            let encrypted = segments.iter().any(|segment| segment.encrypted);
            look.find(&keys::segment(id, None, size, until, encrypted), Damage::Lost, place);
        }
        (_, bad) => {
            let until = newest(store, &segments, &listing).await;
            for segment in bad {
                let place = Place::Hole { file: id.clone(), from: size, after, until };
                if let Some(damage) = of_meta(store, segment).await? {
                    look.find(&segment.key(), damage, place);
                }
            }
        }
    }
    Ok(look)
}

/// What a segment's own meta says against it; none where it says nothing.
pub async fn of_meta(store: &Store, segment: &SegmentObject) -> Result<Option<Damage>, VerifyError> {
    match read_any_meta(store, segment).await {
        Ok((meta, _)) => {
            let key = meta.key();
            Ok((key != segment.key()).then_some(Damage::Duplicated { of: key }))
        }
        Err(SegmentError::Damaged { problem, .. }) => Ok(Some(Damage::Changed { problem })),
        // Deleted just now: another look will tell.
        Err(e) if e.is_not_found() => Ok(Some(Damage::Lost)),
        Err(e) => Err(e.into()),
    }
}

/// The newest commit that segments behind a hole tell of, or when they were stored.
async fn newest(store: &Store, segments: &[SegmentObject], listing: &[Object]) -> Option<CommitTime> {
    let last = segments.iter().max_by_key(|segment| segment.end)?;
    match segment::read_meta(store, last).await {
        Ok(meta) => meta.summary.last_commit,
        Err(_) => listing.iter().find(|object| object.key == last.key())?.modified.map(CommitTime::from),
    }
}

/// What is at a level of the archive where only folders and known objects belong: `is_ours` tells them.
pub fn strangers(dirs: &[String], objects: &[Object], is_ours: impl Fn(&str) -> bool) -> Vec<Finding> {
    let keys = dirs.iter().chain(objects.iter().map(|object| &object.key));
    keys.filter(|key| !is_ours(key)).map(|key| foreign(key, "a name that nothing in an archive has")).collect()
}
