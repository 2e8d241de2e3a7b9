use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter;

/// Numbers as disjoint closed ranges that never touch: the numbers of one server and tag, or of one domain.
///
/// Inserting costs O(log n) of the ranges; a number just behind the last range only extends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IntervalSet {
    /// First number of each range → its last.
    ranges: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// The ranges in ascending order, as (first, last).
    pub fn ranges(&self) -> Ranges<'_> {
        Ranges(self.ranges.iter())
    }

    /// How many ranges there are.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers it holds (saturating).
    pub fn count(&self) -> u64 {
        self.ranges().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// The highest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, &last)| last)
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: u64) -> bool {
        self.ranges.range(..=n).next_back().is_some_and(|(_, &last)| last >= n)
    }

    /// Adds one number; false when it was there already.
    pub fn insert(&mut self, n: u64) -> bool {
        if let Some(mut range) = self.ranges.last_entry()
            && n > *range.get()
        {
            if n - 1 == *range.get() {
                *range.get_mut() = n;
            } else {
                self.ranges.insert(n, n);
            }
            return true;
        }
        if self.contains(n) {
            return false;
        }
        self.insert_range(n, n);
        true
    }

    /// Adds `first..=last`; nothing when `last` is below `first`.
    pub fn insert_range(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        if let Some((&before, &end)) = self.ranges.range(..=first).next_back()
            && end >= first.saturating_sub(1)
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.ranges.range(first..=last.saturating_add(1)).next() {
            self.ranges.remove(&start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// Adds everything `other` has.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.ranges() {
            self.insert_range(first, last);
        }
    }

    /// What `self` has and `other` lacks.
    pub fn difference(&self, other: &Self) -> Self {
        let mut ranges = BTreeMap::new();
        for (first, last) in self.ranges() {
            let mut rest = Some(first);
            for (start, end) in other.overlaps(first, last) {
                if let Some(from) = rest.filter(|&from| from < start) {
                    ranges.insert(from, start - 1);
                }
                rest = end.checked_add(1);
            }
            if let Some(from) = rest.filter(|&from| from <= last) {
                ranges.insert(from, last);
            }
        }
        Self { ranges }
    }

    /// What both have.
    pub fn intersection(&self, other: &Self) -> Self {
        Self { ranges: self.ranges().flat_map(|(first, last)| other.overlaps(first, last)).collect() }
    }

    /// Whether `of` has everything that `self` has.
    pub fn is_subset(&self, of: &Self) -> bool {
        self.ranges().all(|(first, last)| of.ranges.range(..=first).next_back().is_some_and(|(_, &end)| end >= last))
    }

    /// The parts of the ranges that lie within `first..=last`.
    fn overlaps(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let before = self.ranges.range(..first).next_back().filter(|&(_, &end)| end >= first);
        iter::chain(before, self.ranges.range(first..=last))
            .map(move |(&start, &end)| (start.max(first), end.min(last)))
    }
}

/// Iterator of [`IntervalSet::ranges`].
#[derive(Clone, Debug)]
pub struct Ranges<'a>(btree_map::Iter<'a, u64, u64>);

impl Iterator for Ranges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(&first, &last)| (first, last))
    }
}
