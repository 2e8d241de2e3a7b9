use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use super::intervals::IntervalSet;
use super::text::{ParseGtidError, parse_number, serde_as_text};

const SET: &str = "a MariaDB GTID position or set (such as 0-1-100,1-2-5 or 0-1-51..100)";
const ONE: &str = "a MariaDB GTID (such as 0-1-100)";

/// One MariaDB transaction: `domain-server-sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MariadbGtid {
    /// Replication domain; sequence numbers rise within one.
    pub domain: u32,
    /// `server_id` of the server that committed it.
    pub server: u32,
    /// Sequence number, from 1.
    pub seq: u64,
}

impl fmt::Display for MariadbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.seq)
    }
}

impl FromStr for MariadbGtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('-').collect();
        let parsed = match parts.as_slice() {
            [domain, server, seq] => parse_number(domain).zip(parse_number(server)).zip(parse_seq(seq)),
            _ => None,
        };
        let ((domain, server), seq) = parsed
            .ok_or_else(|| ParseGtidError::new(ONE, text, "write DOMAIN-SERVER-SEQUENCE, the sequence from 1"))?;
        Ok(Self { domain, server, seq })
    }
}

/// A set of MariaDB transactions: per domain the sequence numbers, and the server that wrote the highest.
///
/// A position such as `0-1-100` stands for all of 1 to 100. What is no such prefix prints as ranges, `0-1-51..100`.
/// The writers of lower numbers are not kept. A domain's highest number written by two servers is two transactions:
/// neither set contains the other's, and a union keeps its left side's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MariadbGtidSet {
    /// No domain is empty.
    domains: BTreeMap<u32, Domain>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Domain {
    numbers: IntervalSet,
    /// Who wrote the highest number.
    server: u32,
}

impl MariadbGtidSet {
    /// The sequence numbers of each domain and the server that wrote the highest; none of them empty.
    pub fn domains(&self) -> impl Iterator<Item = (u32, u32, &IntervalSet)> {
        self.domains.iter().map(|(&domain, of)| (domain, of.server, &of.numbers))
    }

    /// The highest transaction of `domain`.
    pub fn last(&self, domain: u32) -> Option<MariadbGtid> {
        let of = self.domains.get(&domain)?;
        Some(MariadbGtid { domain, server: of.server, seq: of.numbers.last()? })
    }

    /// The position: the highest transaction of each domain, as `@@gtid_binlog_pos` and `@@gtid_slave_pos` show it.
    pub fn position(&self) -> String {
        let highest: Vec<String> =
            self.domains.keys().filter_map(|&domain| self.last(domain)).map(|gtid| gtid.to_string()).collect();
        highest.join(",")
    }

    /// What the position of this set means to a server: per domain all numbers up to the highest. Where a source skipped
    /// numbers (`gtid_seq_no`, a failover), a set gathered from its binlog has holes that its position has not.
    pub fn filled(&self) -> Self {
        let mut all = Self::default();
        for gtid in self.domains.keys().filter_map(|&domain| self.last(domain)) {
            all.insert_prefix(&gtid);
        }
        all
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// How many transactions it holds (saturating).
    pub fn count(&self) -> u64 {
        self.domains.values().fold(0, |sum: u64, of| sum.saturating_add(of.numbers.count()))
    }

    /// Whether `gtid` is in it. The server is compared for the domain's highest number; below it is not known.
    pub fn contains(&self, gtid: &MariadbGtid) -> bool {
        self.domains.get(&gtid.domain).is_some_and(|of| {
            of.numbers.contains(gtid.seq) && (of.numbers.last() != Some(gtid.seq) || of.server == gtid.server)
        })
    }

    /// Adds one transaction; false when its number was there already (whoever wrote it): in a binlog that is a
    /// sequence out of order, which `gtid_strict_mode` would have refused.
    pub fn insert(&mut self, gtid: &MariadbGtid) -> bool {
        match self.domains.entry(gtid.domain) {
            Entry::Vacant(empty) => {
                empty.insert(Domain::of(gtid.server, gtid.seq, gtid.seq));
                true
            }
            Entry::Occupied(mut of) => {
                let of = of.get_mut();
                if of.numbers.last().is_none_or(|last| gtid.seq > last) {
                    of.server = gtid.server;
                }
                of.numbers.insert(gtid.seq)
            }
        }
    }

    /// Adds what a position's part means: `gtid` and every lower number of its domain.
    pub fn insert_prefix(&mut self, gtid: &MariadbGtid) {
        self.insert_range(gtid, 1);
    }

    /// Adds everything `other` has.
    pub fn extend(&mut self, other: &Self) {
        for (&domain, theirs) in &other.domains {
            match self.domains.entry(domain) {
                Entry::Vacant(empty) => _ = empty.insert(theirs.clone()),
                Entry::Occupied(mut mine) => mine.get_mut().extend(theirs),
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
        self.by_domain(|domain, mine| match other.domains.get(&domain) {
            Some(theirs) => {
                let mut numbers = mine.numbers.difference(&theirs.numbers);
                if let Some(seq) = mine.fork(theirs) {
                    numbers.insert(seq);
                }
                mine.with(numbers, theirs)
            }
            None => mine.clone(),
        })
    }

    /// What both have.
    pub fn intersection(&self, other: &Self) -> Self {
        self.by_domain(|domain, mine| match other.domains.get(&domain) {
            Some(theirs) => {
                let mut numbers = mine.numbers.intersection(&theirs.numbers);
                if let Some(seq) = mine.fork(theirs) {
                    numbers = numbers.difference(&Domain::of(mine.server, seq, seq).numbers);
                }
                mine.with(numbers, theirs)
            }
            None => mine.with(IntervalSet::default(), mine),
        })
    }

    /// Whether `of` has everything that `self` has.
    pub fn is_subset(&self, of: &Self) -> bool {
        self.domains.iter().all(|(domain, mine)| {
            of.domains
                .get(domain)
                .is_some_and(|theirs| mine.numbers.is_subset(&theirs.numbers) && mine.fork(theirs).is_none())
        })
    }

    fn insert_range(&mut self, last: &MariadbGtid, first: u64) {
        if first > last.seq {
            return;
        }
        let added = Domain::of(last.server, first, last.seq);
        match self.domains.entry(last.domain) {
            Entry::Vacant(empty) => _ = empty.insert(added),
            Entry::Occupied(mut of) => of.get_mut().extend(&added),
        }
    }

    fn by_domain(&self, keep: impl Fn(u32, &Domain) -> Domain) -> Self {
        let kept = self.domains.iter().map(|(&domain, of)| (domain, keep(domain, of)));
        Self { domains: kept.filter(|(_, of)| !of.numbers.is_empty()).collect() }
    }
}

impl Domain {
    fn of(server: u32, first: u64, last: u64) -> Self {
        let mut numbers = IntervalSet::default();
        numbers.insert_range(first, last);
        Self { numbers, server }
    }

    fn extend(&mut self, other: &Self) {
        if other.numbers.last() > self.numbers.last() {
            self.server = other.server;
        }
        self.numbers.extend(&other.numbers);
    }

    /// The number both have as their highest, written by different servers.
    fn fork(&self, other: &Self) -> Option<u64> {
        (self.server != other.server && self.numbers.last() == other.numbers.last()).then(|| self.numbers.last())?
    }

    /// `numbers` and who is known to have written the highest of them; `self`'s server where nobody is.
    fn with(&self, numbers: IntervalSet, other: &Self) -> Self {
        let theirs = numbers.last() != self.numbers.last() && numbers.last() == other.numbers.last();
        Self { numbers, server: if theirs { other.server } else { self.server } }
    }
}

impl fmt::Display for MariadbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (domain, server, numbers) in self.domains() {
            for (first, last) in numbers.ranges() {
                write!(f, "{comma}{domain}-{server}-")?;
                if first == 1 {
                    write!(f, "{last}")?;
                } else {
                    write!(f, "{first}..{last}")?;
                }
                comma = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for MariadbGtidSet {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let parsed = match item.split_once("..") {
                Some((gtid, last)) => gtid.parse().ok().zip(parse_seq(last)).map(|(gtid, last)| {
                    let MariadbGtid { domain, server, seq } = gtid;
                    (MariadbGtid { domain, server, seq: last }, seq)
                }),
                None => item.parse().ok().map(|gtid| (gtid, 1)),
            };
            let (last, first) = parsed.filter(|(last, first)| *first <= last.seq).ok_or_else(|| {
                ParseGtidError::new(SET, item, "write DOMAIN-SERVER-SEQUENCE or DOMAIN-SERVER-FIRST..LAST, from 1")
            })?;
            set.insert_range(&last, first);
        }
        Ok(set)
    }
}

serde_as_text!(MariadbGtid, MariadbGtidSet);

fn parse_seq(text: &str) -> Option<u64> {
    parse_number(text).filter(|&seq| seq > 0)
}
