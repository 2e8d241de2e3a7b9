//! Many small segments of a closed file as few large objects: *packs*, which are the segments one behind the other, byte for byte, and
//! `packed.json`, which says where each of them is.
//!
//! Nobody above the store sees packs: [`super::store::Store`] shows a segment under its own name wherever it is. So an index stays what it is, and a
//! reader that meets a segment on its way into a pack finds it in one place or the other.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::binlog_index::FileId;
use super::keys::{self, Key};
use super::sealed::{seal, unseal};

/// The version of the format that `packed.json` states, and an archive that holds packs.
pub const PACKS_FORMAT: u32 = 3;

/// One making of a file's segments: a rekey makes another one, and what is in packs of one is not in those of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edition {
    /// The file.
    pub file: FileId,
    /// [`super::binlog_index::FileIndex::edition`].
    pub id: Option<String>,
}

impl Edition {
    /// That of a segment; none for other objects, which are in no pack.
    pub fn of_segment(key: &str) -> Option<Self> {
        match keys::parse(key)? {
            Key::Segment { file, edition: id, .. } => Some(Self { file, id }),
            _ => None,
        }
    }

    /// Key of its `packed.json`.
    pub fn packed_key(&self) -> String {
        keys::packed(&self.file, self.id.as_deref())
    }
}

/// `packed.json`. It stays as it is for as long as an index names its segments: they are deleted by its word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Archive format version, [`PACKS_FORMAT`].
    format: u32,
    /// The file.
    file: FileId,
    /// The edition of the segments in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edition: Option<String>,
    /// The packs, in the file's order.
    pub packs: Vec<Pack>,
}

/// One pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Its writer's: no two write the same object.
    pub id: String,
    /// Whether its segments are encrypted: all of them or none.
    pub encrypted: bool,
    /// Size of the object in bytes.
    pub bytes: u64,
    /// Hex BLAKE3 of the object.
    pub blake3: String,
    /// Its segments, one behind the other.
    pub segments: Vec<PackedSegment>,
}

/// A segment in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedSegment {
    /// First byte of its range of the binlog file.
    pub start: u64,
    /// One past the last one.
    pub end: u64,
    /// Where it begins in the pack.
    pub offset: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Pack {
    /// Its key; none for one without segments, which is not written.
    pub fn key(&self, of: &Edition) -> Option<String> {
        let (first, last) = (self.segments.first()?, self.segments.last()?);
        Some(keys::pack(&of.file, of.id.as_deref(), first.start, last.end, &self.id, self.encrypted))
    }

    fn is_whole(&self) -> bool {
        let mut end = 0;
        let follows = |segment: &PackedSegment| {
            let follows = segment.offset == end && segment.start < segment.end;
            end = segment.offset.saturating_add(segment.bytes);
            follows
        };
        !self.segments.is_empty() && self.segments.iter().all(follows) && end == self.bytes
    }
}

impl Packed {
    /// Of these packs.
    pub fn new(of: Edition, packs: Vec<Pack>) -> Self {
        Self { format: PACKS_FORMAT, file: of.file, edition: of.id, packs }
    }

    /// Whose segments are in it.
    pub fn edition(&self) -> Edition {
        Edition { file: self.file.clone(), id: self.edition.clone() }
    }

    /// The object.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Bytes, ArchiveError> {
        seal(&self.edition().packed_key(), self)
    }

    /// Reads a `packed.json` and checks that it speaks of this very edition, and that its packs hold what it says.
    ///
    /// # Errors
    /// For what is damaged, or of a newer format.
    pub fn parse(edition: &Edition, json: &[u8]) -> Result<Self, ArchiveError> {
        let key = edition.packed_key();
        let packed: Self = unseal(&key, json)?;
        if packed.edition() != *edition {
            return Err(ArchiveError::Misplaced { key, of: packed.edition().packed_key() });
        }
        if !packed.packs.iter().all(Pack::is_whole) {
            use serde::de::Error;
            let source = serde_json::Error::custom("its segments do not make up its packs");
            return Err(ArchiveError::Unreadable { key, source });
        }
        Ok(packed)
    }

    /// Where each segment is.
    pub fn places(&self) -> Places {
        let (mut places, edition) = (Places::default(), self.edition());
        for pack in &self.packs {
            let Some(key) = pack.key(&edition) else { continue };
            let of = places.packs.len();
            places.packs.push((key, pack.bytes));
            for PackedSegment { start, end, offset, bytes } in &pack.segments {
                places.at.insert((*start, *end, pack.encrypted), (of, *offset, *bytes));
            }
        }
        places
    }
}

/// Where segments of one edition are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Packs: key and size in bytes.
    packs: Vec<(String, u64)>,
    /// By range and whether it is encrypted: which pack, the offset in it, and the size.
    at: HashMap<(u64, u64, bool), (usize, u64, u64)>,
}

/// Where a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack's key.
    pub pack: String,
    /// The pack's size in bytes.
    pub pack_bytes: u64,
    /// Where the segment begins in it.
    pub offset: u64,
    /// The segment's size in bytes.
    pub bytes: u64,
}

impl Places {
    /// How many segments have one.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether none has one.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Where the segment with that key is; none: in no pack.
    pub fn get(&self, key: &str) -> Option<Place> {
        let (pack, offset, bytes) = *self.at.get(&range_of(key)?)?;
        let (pack, pack_bytes) = self.packs.get(pack)?.clone();
        Some(Place { pack, pack_bytes, offset, bytes })
    }

    /// All of them, by the segments' keys.
    pub fn iter(&self, of: &Edition) -> impl Iterator<Item = (String, Place)> {
        self.at.keys().filter_map(move |(start, end, encrypted)| {
            let key = keys::segment(&of.file, of.id.as_deref(), *start, *end, *encrypted);
            let place = self.get(&key)?;
            Some((key, place))
        })
    }

    pub(super) fn remove(&mut self, key: &str) {
        range_of(key).map(|range| self.at.remove(&range));
    }

    pub(super) fn insert(&mut self, key: &str, from: &Self) {
        let (Some(range), Some(place)) = (range_of(key), from.get(key)) else { return };
        let of = self.packs.iter().position(|(pack, _)| *pack == place.pack).unwrap_or_else(|| {
            self.packs.push((place.pack, place.pack_bytes));
            self.packs.len() - 1
        });
        self.at.insert(range, (of, place.offset, place.bytes));
    }
}

fn range_of(key: &str) -> Option<(u64, u64, bool)> {
    match keys::parse(key)? {
        Key::Segment { start, end, encrypted, .. } => Some((start, end, encrypted)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edition() -> Edition {
        let file = FileId { server: "s".into(), name: "binlog.000001".into(), created_unix: 7 };
        Edition { file, id: None }
    }

    fn pack(start: u64, sizes: &[u64]) -> Pack {
        let (mut at, mut offset) = (start, 0);
        let segments = sizes.iter().map(|bytes| {
            let segment = PackedSegment { start: at, end: at + 10, offset, bytes: *bytes };
            (at, offset) = (at + 10, offset + bytes);
            segment
        });
        let segments: Vec<_> = segments.collect();
        Pack { id: "1a2b".into(), encrypted: false, bytes: sizes.iter().sum(), blake3: String::new(), segments }
    }

    proptest! {
        #[test]
        fn every_segment_has_one_place_and_what_contradicts_itself_is_refused(
            sizes in prop::collection::vec(prop::collection::vec(1u64..9, 1..6), 1..5), lie in 0usize..5
        ) {
            let mut start = 0;
            let packs: Vec<Pack> = sizes.iter().map(|sizes| {
                let pack = pack(start, sizes);
                start += 10 * sizes.len() as u64;
                pack
            }).collect();
            let mut packed = Packed::new(edition(), packs);
            let json = packed.to_bytes().unwrap();
            prop_assert_eq!(&Packed::parse(&edition(), &json).unwrap(), &packed);
            let other = Edition { id: Some("1a2b".into()), ..edition() };
            prop_assert!(Packed::parse(&other, &json).is_err());
            let places = packed.places();
            prop_assert_eq!(places.len(), sizes.iter().map(Vec::len).sum::<usize>());
            for (_, place) in places.iter(&edition()) {
                prop_assert!(place.offset + place.bytes <= place.pack_bytes);
            }
            match lie {
                0 => packed.packs[0].bytes += 1,
                1 => packed.packs[0].segments[0].offset = 1,
                2 => packed.packs[0].segments[0].end = packed.packs[0].segments[0].start,
                3 => packed.packs[0].segments.clear(),
                _ => packed.file.created_unix += 1,
            }
            prop_assert!(Packed::parse(&edition(), &packed.to_bytes().unwrap()).is_err());
        }
    }

    #[test]
    fn of_damage_and_of_a_newer_format_it_says_which() {
        let packed = Packed { format: super::super::FORMAT + 1, ..Packed::new(edition(), vec![pack(0, &[3])]) };
        let error = Packed::parse(&edition(), &packed.to_bytes().unwrap()).unwrap_err();
        assert!(matches!(error, ArchiveError::Newer { .. }), "{error}");
        let mut json = Packed::new(edition(), vec![pack(0, &[3])]).to_bytes().unwrap().to_vec();
        *json.iter_mut().find(|byte| **byte == b'3').unwrap() = b'2';
        assert!(Packed::parse(&edition(), &json).is_err());
    }
}
