use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::intervals::IntervalSet;
use super::text::{ParseGtidError, parse_number, serde_as_text};

/// Highest transaction number the server gives out: 2⁶³ − 2.
pub const MAX_GNO: u64 = i64::MAX as u64 - 1;

const SET: &str = "a MySQL GTID set (such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7)";
const ONE: &str = "a MySQL GTID (such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:5)";
const BAD_UUID: &str = "it does not begin with a server UUID";
const BAD_INTERVAL: &str =
    "each part after the UUID must be N or N-M (rising, from 1 to 9223372036854775806), or a tag";

/// A tag of MySQL 8.3 and later: a letter or `_`, then at most 31 more letters, digits or `_`; always lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Longest tag in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Reads a tag, lower-casing it as the server does; none when it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (begins && goes_on && text.len() <= Self::MAX_BYTES).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One MySQL transaction: `uuid:5`, or `uuid:tag:5`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MysqlGtid {
    /// The server that committed it.
    pub uuid: Uuid,
    /// Its tag, since MySQL 8.3.
    pub tag: Option<Tag>,
    /// Its number, 1 to [`MAX_GNO`].
    pub gno: u64,
}

impl fmt::Display for MysqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}:{}", self.uuid, self.gno),
            None => write!(f, "{}:{}", self.uuid, self.gno),
        }
    }
}

impl FromStr for MysqlGtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':').map(str::trim);
        let uuid = parts.next().and_then(parse_uuid).ok_or_else(|| ParseGtidError::new(ONE, text, BAD_UUID))?;
        let rest: Vec<&str> = parts.collect();
        let (tag, gno) = match rest.as_slice() {
            [gno] => (None, parse_gno(gno)),
            [tag, gno] => (Some(Tag::new(tag)), parse_gno(gno)),
            _ => (None, None),
        };
        match (tag, gno) {
            (None, Some(gno)) => Ok(Self { uuid, tag: None, gno }),
            (Some(Some(tag)), Some(gno)) => Ok(Self { uuid, tag: Some(tag), gno }),
            _ => Err(ParseGtidError::new(ONE, text, "the UUID must be followed by :NUMBER or :TAG:NUMBER")),
        }
    }
}

/// A set of MySQL transactions. Its text is the server's own, without the line feed the server puts behind commas.
///
/// Reading takes what the server takes, but for three slips of the pen that the server takes for nothing: numbers that
/// fall (`5-3`), a UUID or a tag without numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MysqlGtidSet {
    /// Numbers by who wrote them. No entry is empty. The order is the server's: by UUID, untagged first.
    pub(super) sources: BTreeMap<(Uuid, Option<Tag>), IntervalSet>,
}

impl MysqlGtidSet {
    /// The numbers of each server and tag, in the server's order; none of them empty.
    pub fn sources(&self) -> impl Iterator<Item = (Uuid, Option<&Tag>, &IntervalSet)> {
        self.sources.iter().map(|((uuid, tag), numbers)| (*uuid, tag.as_ref(), numbers))
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions it holds (saturating).
    pub fn count(&self) -> u64 {
        self.sources.values().fold(0, |sum: u64, numbers| sum.saturating_add(numbers.count()))
    }

    /// Whether `gtid` is in it.
    pub fn contains(&self, gtid: &MysqlGtid) -> bool {
        self.sources.get(&(gtid.uuid, gtid.tag.clone())).is_some_and(|numbers| numbers.contains(gtid.gno))
    }

    /// Adds one transaction; false when it was there already.
    pub fn insert(&mut self, gtid: &MysqlGtid) -> bool {
        self.sources.entry((gtid.uuid, gtid.tag.clone())).or_default().insert(gtid.gno)
    }

    /// Adds the numbers `first..=last`; nothing when `last` is below `first`.
    pub fn insert_range(&mut self, uuid: Uuid, tag: Option<Tag>, first: u64, last: u64) {
        if first <= last {
            self.sources.entry((uuid, tag)).or_default().insert_range(first, last);
        }
    }

    /// Adds everything `other` has.
    pub fn extend(&mut self, other: &Self) {
        for (source, numbers) in &other.sources {
            match self.sources.entry(source.clone()) {
                Entry::Vacant(empty) => _ = empty.insert(numbers.clone()),
                Entry::Occupied(mut mine) => mine.get_mut().extend(numbers),
            }
        }
    }

    /// What either has.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    /// What `self` has and `other` lacks.
    pub fn difference(&self, other: &Self) -> Self {
        self.by_source(|source, numbers| match other.sources.get(source) {
            Some(theirs) => numbers.difference(theirs),
            None => numbers.clone(),
        })
    }

    /// What both have.
    pub fn intersection(&self, other: &Self) -> Self {
        self.by_source(|source, numbers| match other.sources.get(source) {
            Some(theirs) => numbers.intersection(theirs),
            None => IntervalSet::default(),
        })
    }

    /// Whether `of` has everything that `self` has.
    pub fn is_subset(&self, of: &Self) -> bool {
        self.sources.iter().all(|(source, mine)| of.sources.get(source).is_some_and(|theirs| mine.is_subset(theirs)))
    }

    /// Those that servers with such UUIDs wrote.
    pub fn of_sources(&self, is_such: impl Fn(Uuid) -> bool) -> Self {
        self.by_source(|(uuid, _), numbers| if is_such(*uuid) { numbers.clone() } else { IntervalSet::default() })
    }

    fn by_source(&self, keep: impl Fn(&(Uuid, Option<Tag>), &IntervalSet) -> IntervalSet) -> Self {
        let kept = self.sources.iter().map(|(source, numbers)| (source.clone(), keep(source, numbers)));
        Self { sources: kept.filter(|(_, numbers)| !numbers.is_empty()).collect() }
    }
}

impl fmt::Display for MysqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = None;
        for (uuid, tag, numbers) in self.sources() {
            if previous != Some(uuid) {
                let comma = if previous.is_some() { "," } else { "" };
                write!(f, "{comma}{uuid}")?;
                previous = Some(uuid);
            }
            if let Some(tag) = tag {
                write!(f, ":{tag}")?;
            }
            for (first, last) in numbers.ranges() {
                write!(f, ":{first}")?;
                if first != last {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for MysqlGtidSet {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let refused = |reason| ParseGtidError::new(SET, item, reason);
            let mut parts = item.split(':').map(str::trim);
            let uuid = parts.next().and_then(parse_uuid).ok_or_else(|| refused(BAD_UUID))?;
            let mut tag = None;
            let mut numbers = None;
            for part in parts {
                if let Some(next) = Tag::new(part) {
                    if tag.is_some() && numbers.is_none() {
                        return Err(refused("a tag must be followed by numbers"));
                    }
                    tag = Some(next);
                    numbers = None;
                } else {
                    let (first, last) = parse_interval(part).ok_or_else(|| refused(BAD_INTERVAL))?;
                    set.insert_range(uuid, tag.clone(), first, last);
                    numbers = Some(());
                }
            }
            if numbers.is_none() {
                return Err(refused("numbers are missing after the last colon or the UUID"));
            }
        }
        Ok(set)
    }
}

serde_as_text!(MysqlGtid, MysqlGtidSet);

fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| !text.starts_with("urn"))
}

fn parse_gno(text: &str) -> Option<u64> {
    parse_number(text).filter(|gno| (1..=MAX_GNO).contains(gno))
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    match text.split_once('-') {
        Some((first, last)) => parse_gno(first).zip(parse_gno(last)).filter(|(first, last)| first <= last),
        None => parse_gno(text).map(|gno| (gno, gno)),
    }
}
