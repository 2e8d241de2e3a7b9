//! Which of a file's stored segments make up the longest prefix without a hole. Two streamers may have cut the same file at
//! different places, so that ranges overlap; each went on where a prefix ended, so one of the ways through always reaches the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::binlog_index::FileId;
use super::segment::{SegmentObject, read_meta};
use super::store::{Store, StoreError};
use super::{ArchiveError, keys};

/// Metas read at a time.
const CONCURRENCY: usize = 4;

/// What a listing of a file's folder says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Segments from 0 on, each beginning where the one before ends.
    pub(super) chain: Vec<SegmentObject>,
    /// Where the next segment after the chain's end begins, if there is one.
    pub(super) hole_until: Option<u64>,
    /// All segments.
    pub(super) segments: Vec<SegmentObject>,
    /// Keys that are neither segments nor an index of this file.
    pub(super) unknown: Vec<String>,
}

/// Lists a file's folder.
pub(super) async fn list(store: &Store, file: &FileId) -> Result<Listing, StoreError> {
    let mut segments = Vec::new();
    let mut unknown = Vec::new();
    for object in store.list(&keys::file_dir(file)).await? {
        match SegmentObject::listed(&object) {
            Some(segment) => segments.push(segment),
            None if object.key == keys::index(file) => {}
            None => unknown.push(object.key),
        }
    }
    let (chain, hole_until) = furthest_edition(segments.clone());
    Ok(Listing { chain, hole_until, segments, unknown })
}

impl Listing {
    /// Leaves a segment out of it.
    pub(super) fn without(&mut self, left_out: &SegmentObject) {
        self.segments.retain(|segment| segment != left_out);
        (self.chain, self.hole_until) = furthest_edition(self.segments.clone());
    }

    /// The chain without the damaged segments that others overlap, and those. Where two streamers cut differently, one may have been cut off and
    /// the other gone on for however long. Reads the metas of those of the chain that others overlap.
    pub(super) async fn undoubted(
        mut self,
        store: &Store,
    ) -> Result<(Vec<SegmentObject>, Vec<SegmentObject>), ArchiveError> {
        let (mut sound, mut torn) = (HashSet::new(), Vec::new());
        loop {
            let doubted: Vec<_> =
                self.overlapped().into_iter().filter(|object| !sound.contains(&object.key())).collect();
            let read: Vec<_> = stream::iter(doubted)
                .map(|object| async move {
                    let damage = match read_meta(store, &object).await.map_err(ArchiveError::from) {
                        Err(e) if e.is_damage() => Some(e),
                        read => read.map(|_| None)?,
                    };
                    Ok::<_, ArchiveError>((object, damage))
                })
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            let known = torn.len();
            for (object, damage) in read {
                match damage {
                    None => _ = sound.insert(object.key()),
                    Some(error) => {
                        tracing::warn!(%error, "other segments hold what this one was to hold");
                        self.without(&object);
                        torn.push(object);
                    }
                }
            }
            if torn.len() == known {
                return Ok((self.chain, torn));
            }
        }
    }

    /// Those of the chain that others overlap.
    fn overlapped(&self) -> Vec<SegmentObject> {
        if self.segments.len() == self.chain.len() {
            return Vec::new();
        }
        let others: Vec<_> = self.segments.iter().filter(|segment| !self.chain.contains(segment)).collect();
        let meets_another =
            |picked: &&SegmentObject| others.iter().any(|other| picked.start < other.end && other.start < picked.end);
        self.chain.iter().filter(meets_another).cloned().collect()
    }
}

/// The longest chain within one edition, as an index names one; of chains that get equally far that of what was archived first.
fn furthest_edition(segments: Vec<SegmentObject>) -> (Vec<SegmentObject>, Option<u64>) {
    let mut editions: BTreeMap<Option<String>, Vec<SegmentObject>> = BTreeMap::new();
    for segment in segments {
        editions.entry(segment.edition.clone()).or_default().push(segment);
    }
    let end = |(chain, _): &(Vec<SegmentObject>, Option<u64>)| chain.last().map_or(0, |last| last.end);
    let chains = editions.into_values().map(longest_chain);
    chains.reduce(|best, next| if end(&next) > end(&best) { next } else { best }).unwrap_or_default()
}

/// Of all ways from 0 from segment to segment, the one that gets furthest with the fewest. Of the same range, the encrypted one.
fn longest_chain(mut segments: Vec<SegmentObject>) -> (Vec<SegmentObject>, Option<u64>) {
    segments.sort_by_key(|s| (s.start, s.end, !s.encrypted));
    // Offset → (segments needed to get there, the last of them).
    let mut reached: BTreeMap<u64, (usize, Option<usize>)> = BTreeMap::from([(0, (0, None))]);
    for (i, segment) in segments.iter().enumerate() {
        if let Some(&(steps, _)) = reached.get(&segment.start) {
            let way = (steps + 1, Some(i));
            let best = reached.entry(segment.end).or_insert(way);
            if way.0 < best.0 {
                *best = way;
            }
        }
    }
    let end = reached.last_key_value().map_or(0, |(&end, _)| end);
    let mut picked = Vec::new();
    let mut at = end;
    while let Some(&(_, Some(i))) = reached.get(&at) {
        picked.push(i);
        at = segments[i].start;
    }
    let hole_until = segments.iter().map(|s| s.start).filter(|&start| start > end).min();
    let mut by_index: HashMap<usize, SegmentObject> = segments.into_iter().enumerate().collect();
    (picked.into_iter().rev().filter_map(|i| by_index.remove(&i)).collect(), hole_until)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(ranges: &[(u64, u64)]) -> Vec<SegmentObject> {
        let file = FileId { server: "s".into(), name: "b.1".into(), created_unix: 1 };
        ranges
            .iter()
            .map(|&(start, end)| (file.clone(), start, end))
            .map(|(file, start, end)| SegmentObject {
                file,
                start,
                end,
                bytes: 1,
                blake3: None,
                encrypted: false,
                edition: None,
            })
            .collect()
    }

    fn chain(ranges: &[(u64, u64)]) -> (Vec<(u64, u64)>, Option<u64>) {
        let (chain, hole) = longest_chain(segments(ranges));
        (chain.iter().map(|s| (s.start, s.end)).collect(), hole)
    }

    #[test]
    fn two_streamers_that_cut_differently_still_make_one_chain() {
        let both = [(0, 100), (0, 150), (100, 200), (150, 180), (200, 300), (180, 250)];
        assert_eq!(chain(&both), (vec![(0, 100), (100, 200), (200, 300)], None));
        assert_eq!(chain(&[(0, 10), (10, 20), (0, 20)]), (vec![(0, 20)], None));
    }

    #[test]
    fn of_the_same_range_the_encrypted_object_counts() {
        let mut both = segments(&[(0, 10), (0, 10), (10, 20)]);
        both[1].encrypted = true;
        let (chain, _) = longest_chain(both);
        assert_eq!(chain.iter().map(|s| (s.end, s.encrypted)).collect::<Vec<_>>(), [(10, true), (20, false)]);
    }

    #[test]
    fn a_chain_is_of_one_edition() {
        let of = |edition: Option<&str>, ranges: &[(u64, u64)]| {
            let edition = edition.map(str::to_owned);
            segments(ranges)
                .into_iter()
                .map(move |s| SegmentObject { edition: edition.clone(), ..s })
                .collect::<Vec<_>>()
        };
        let chain = |segments: Vec<Vec<SegmentObject>>| {
            let (chain, hole) = furthest_edition(segments.concat());
            (chain.iter().map(|s| (s.end, s.edition.clone())).collect::<Vec<_>>(), hole)
        };
        let new = || Some("1a".to_owned());
        let both = vec![of(None, &[(0, 10), (10, 20)]), of(Some("1a"), &[(0, 10), (10, 20)])];
        assert_eq!(chain(both), (vec![(10, None), (20, None)], None));
        let old_is_going = vec![of(None, &[(10, 20)]), of(Some("1a"), &[(0, 10), (10, 20)])];
        assert_eq!(chain(old_is_going), (vec![(10, new()), (20, new())], None));
        let new_is_coming = vec![of(None, &[(0, 10), (10, 20)]), of(Some("1a"), &[(0, 10), (20, 30)])];
        assert_eq!(chain(new_is_coming), (vec![(10, None), (20, None)], None));
    }

    #[test]
    fn bytes_behind_a_hole_do_not_count() {
        assert_eq!(chain(&[(0, 10), (20, 30), (30, 40)]), (vec![(0, 10)], Some(20)));
        assert_eq!(chain(&[(5, 10)]), (vec![], Some(5)));
        assert_eq!(chain(&[]), (vec![], None));
    }

    proptest! {
        #[test]
        fn a_chain_has_no_hole_no_overlap_and_cannot_be_longer(ranges in prop::collection::vec((0u64..12, 1u64..6), 0..20)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| (start, start + len)).collect();
            let (chain, _) = chain(&ranges);
            let mut end = 0;
            for (from, to) in chain {
                prop_assert_eq!(from, end);
                prop_assert!(ranges.contains(&(from, to)));
                end = to;
            }
            // By brute force.
            let mut can = std::collections::BTreeSet::from([0]);
            for _ in 0..=ranges.len() {
                let next: Vec<u64> = ranges.iter().filter(|r| can.contains(&r.0)).map(|r| r.1).collect();
                can.extend(next);
            }
            prop_assert_eq!(end, *can.last().unwrap());
        }
    }
}
