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

/// A set of MariaDB transactions: per domain the sequence numbers of each server that wrote some, and those of which
/// nobody said who wrote them.
///
/// A position such as `0-1-100` says that 1 to 100 are executed and that server 1 wrote 100: the others' writers are unknown.
/// `0-1-51..100` are transactions of server 1, and `0-?-51..99` numbers whose writers are unknown.
///
/// One number by two servers is two transactions. A number whose writer is unknown stands for whichever transaction of that
/// number it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MariadbGtidSet {
    /// No domain is empty.
    domains: BTreeMap<u32, Domain>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Domain {
    /// By writer; none is empty.
    known: BTreeMap<u32, IntervalSet>,
    /// Without those that are in `known`.
    unknown: IntervalSet,
}

impl MariadbGtidSet {
    /// What a server's state (`@@gtid_binlog_state`, GTID_LIST) says: everything up to the highest of each domain. It lists every server that
    /// transactions were logged of, so the highest one's server wrote everything after the second highest. (Unless `log_slave_updates` was
    /// switched off in between: then another server may have written some of it. The state does not tell; whoever takes this for true may
    /// miss what is there, but never takes a dead primary's transactions for these.)
    pub fn of_state(state: &[MariadbGtid]) -> Self {
        let mut set = Self::default();
        let mut sorted = state.to_vec();
        sorted.sort_unstable_by_key(|gtid| (gtid.domain, gtid.seq));
        let mut sorted = sorted.iter().peekable();
        let mut below: Option<&MariadbGtid> = None;
        while let Some(gtid) = sorted.next() {
            let is_top = sorted.peek().is_none_or(|next| next.domain != gtid.domain);
            if let Some(below) = below.filter(|below| is_top && below.domain == gtid.domain) {
                set.insert_range(gtid.domain, gtid.server, below.seq.saturating_add(1), gtid.seq);
            }
            set.insert_prefix(gtid);
            below = Some(gtid);
        }
        set
    }

    /// What the writers in a server's state may have written of what it has: every number up to each one's last. For the question whether two
    /// servers have anything in common, where [`Self::of_state`] says too little of a single writer.
    pub fn of_writers(state: &[MariadbGtid]) -> Self {
        let mut set = Self::default();
        state.iter().for_each(|gtid| set.insert_range(gtid.domain, gtid.server, 1, gtid.seq));
        set
    }

    /// The domains with any transaction.
    pub fn domains(&self) -> impl Iterator<Item = u32> {
        self.domains.keys().copied()
    }

    /// The sequence numbers that each server is known to have written, by domain and server; none of them empty.
    pub fn writers(&self) -> impl Iterator<Item = (u32, u32, &IntervalSet)> {
        self.domains.iter().flat_map(|(&domain, of)| of.known.iter().map(move |(&writer, of)| (domain, writer, of)))
    }

    /// The sequence numbers of `domain`, whoever wrote them.
    pub fn numbers(&self, domain: u32) -> IntervalSet {
        self.domains.get(&domain).map(Domain::numbers).unwrap_or_default()
    }

    /// The sequence numbers of `domain` whose writers are unknown.
    pub fn unknown(&self, domain: u32) -> IntervalSet {
        self.domains.get(&domain).map(|of| of.unknown.clone()).unwrap_or_default()
    }

    /// The highest transaction of `domain`; none if its writer is unknown.
    pub fn last(&self, domain: u32) -> Option<MariadbGtid> {
        let (server, seq) = self.domains.get(&domain)?.last()?;
        Some(MariadbGtid { domain, server: server?, seq })
    }

    /// The position: the highest transaction of each domain, as `@@gtid_binlog_pos` and `@@gtid_slave_pos` show it.
    pub fn position(&self) -> String {
        let highest: Vec<String> = self.domains().filter_map(|d| self.last(d)).map(|gtid| gtid.to_string()).collect();
        highest.join(",")
    }

    /// This set and every lower number of its domains: what a server that has executed it says it has. Where a source skipped
    /// numbers (`gtid_seq_no`, a failover), a set gathered from its binlog has holes that its position has not.
    pub fn filled(&self) -> Self {
        let mut all = self.clone();
        for of in all.domains.values_mut() {
            if let Some((_, last)) = of.last() {
                of.add_unknown(&range(1, last));
            }
        }
        all
    }

    /// Those whose writers are known.
    pub fn known(&self) -> Self {
        self.by_domain(|_, of| Domain { known: of.known.clone(), unknown: IntervalSet::default() })
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// How many transactions it holds (saturating).
    pub fn count(&self) -> u64 {
        let all = self.domains.values().flat_map(|of| of.known.values().chain([&of.unknown]));
        all.fold(0, |sum: u64, numbers| sum.saturating_add(numbers.count()))
    }

    /// Whether `gtid` is in it, or its number without a writer.
    pub fn contains(&self, gtid: &MariadbGtid) -> bool {
        self.domains.get(&gtid.domain).is_some_and(|of| {
            of.unknown.contains(gtid.seq) || of.known.get(&gtid.server).is_some_and(|of| of.contains(gtid.seq))
        })
    }

    /// Whether any transaction of this domain and number is in it.
    pub fn contains_number(&self, domain: u32, seq: u64) -> bool {
        self.domains
            .get(&domain)
            .is_some_and(|of| of.unknown.contains(seq) || of.known.values().any(|numbers| numbers.contains(seq)))
    }

    /// Adds one transaction, in O(log n) of the ranges; false when it was there already, or its number without a writer.
    pub fn insert(&mut self, gtid: &MariadbGtid) -> bool {
        let of = self.domains.entry(gtid.domain).or_default();
        let is_new = of.known.entry(gtid.server).or_default().insert(gtid.seq);
        let was_unknown = of.unknown.contains(gtid.seq);
        if was_unknown {
            of.unknown = of.unknown.difference(&range(gtid.seq, gtid.seq));
        }
        is_new && !was_unknown
    }

    /// Adds the transactions `first..=last` of one server; nothing when `last` is below `first`.
    pub fn insert_range(&mut self, domain: u32, server: u32, first: u64, last: u64) {
        if first <= last {
            self.domains.entry(domain).or_default().add(server, &range(first, last));
        }
    }

    /// Adds numbers whose writers are unknown; those that it has already stay as they are.
    pub fn insert_unknown(&mut self, domain: u32, first: u64, last: u64) {
        if first <= last {
            self.domains.entry(domain).or_default().add_unknown(&range(first, last));
        }
    }

    /// Adds what a position's part means: `gtid`, and every lower number of its domain, whoever wrote it.
    pub fn insert_prefix(&mut self, gtid: &MariadbGtid) {
        self.insert(gtid);
        self.insert_unknown(gtid.domain, 1, gtid.seq.saturating_sub(1));
    }

    /// Adds everything `other` has. What either knows the writer of is known.
    pub fn extend(&mut self, other: &Self) {
        for (&domain, theirs) in &other.domains {
            match self.domains.entry(domain) {
                Entry::Vacant(empty) => _ = empty.insert(theirs.clone()),
                Entry::Occupied(mut mine) => {
                    let mine = mine.get_mut();
                    theirs.known.iter().for_each(|(&server, numbers)| mine.add(server, numbers));
                    mine.add_unknown(&theirs.unknown);
                }
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
            Some(theirs) => Domain {
                known: mine.by_writer(|server, numbers| numbers.difference(&theirs.of(server))),
                unknown: mine.unknown.difference(&theirs.numbers()),
            },
            None => mine.clone(),
        })
    }

    /// What both have. What either knows the writer of is known.
    pub fn intersection(&self, other: &Self) -> Self {
        self.by_domain(|domain, mine| match other.domains.get(&domain) {
            Some(theirs) => {
                let mut both = Domain {
                    known: mine.by_writer(|server, numbers| numbers.intersection(&theirs.of(server))),
                    unknown: IntervalSet::default(),
                };
                for (&server, numbers) in &theirs.known {
                    both.add(server, &numbers.intersection(&mine.unknown));
                }
                both.add_unknown(&mine.unknown.intersection(&theirs.unknown));
                both
            }
            None => Domain::default(),
        })
    }

    /// Whether `of` has everything that `self` has.
    pub fn is_subset(&self, of: &Self) -> bool {
        self.difference(of).is_empty()
    }

    fn by_domain(&self, keep: impl Fn(u32, &Domain) -> Domain) -> Self {
        let kept = self.domains.iter().map(|(&domain, of)| (domain, keep(domain, of)));
        Self { domains: kept.filter(|(_, of)| !of.is_empty()).collect() }
    }
}

fn range(first: u64, last: u64) -> IntervalSet {
    let mut numbers = IntervalSet::default();
    numbers.insert_range(first, last);
    numbers
}

impl Domain {
    fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    fn numbers(&self) -> IntervalSet {
        let mut all = self.unknown.clone();
        self.known.values().for_each(|numbers| all.extend(numbers));
        all
    }

    /// What `server` wrote or may have written.
    fn of(&self, server: u32) -> IntervalSet {
        let mut all = self.unknown.clone();
        self.known.get(&server).into_iter().for_each(|numbers| all.extend(numbers));
        all
    }

    /// The highest number and who wrote it: of several the one with the highest id.
    fn last(&self) -> Option<(Option<u32>, u64)> {
        let known = self.known.iter().filter_map(|(&server, numbers)| Some((numbers.last()?, Some(server))));
        let unknown = self.unknown.last().map(|last| (last, None));
        known.chain(unknown).max().map(|(last, server)| (server, last))
    }

    fn add(&mut self, server: u32, numbers: &IntervalSet) {
        if !numbers.is_empty() {
            self.known.entry(server).or_default().extend(numbers);
            self.unknown = self.unknown.difference(numbers);
        }
    }

    fn add_unknown(&mut self, numbers: &IntervalSet) {
        let added = self.known.values().fold(numbers.clone(), |rest, known| rest.difference(known));
        self.unknown.extend(&added);
    }

    fn by_writer(&self, keep: impl Fn(u32, &IntervalSet) -> IntervalSet) -> BTreeMap<u32, IntervalSet> {
        let kept = self.known.iter().map(|(&server, numbers)| (server, keep(server, numbers)));
        kept.filter(|(_, numbers)| !numbers.is_empty()).collect()
    }

    /// Ranges in order: first, last, writer.
    fn ranges(&self) -> Vec<(u64, u64, Option<u32>)> {
        let of = |numbers: &IntervalSet, server| numbers.ranges().map(|(a, b)| (a, b, server)).collect::<Vec<_>>();
        let mut all = of(&self.unknown, None);
        self.known.iter().for_each(|(&server, numbers)| all.extend(of(numbers, Some(server))));
        all.sort_unstable();
        all
    }
}

impl fmt::Display for MariadbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (domain, of) in &self.domains {
            let mut ranges = of.ranges().into_iter().peekable();
            while let Some((mut first, mut last, mut writer)) = ranges.next() {
                // A position: everything up to one transaction whose writer is known.
                if let (1, None, Some(&(next, end, by))) = (first, writer, ranges.peek())
                    && next == last + 1
                    && by.is_some()
                {
                    ranges.next();
                    write!(f, "{comma}{domain}-{}-{next}", by.unwrap_or_default())?;
                    comma = ",";
                    if end == next {
                        continue;
                    }
                    (first, last, writer) = (next + 1, end, by);
                }
                match writer {
                    Some(server) if first == 1 && last == 1 => write!(f, "{comma}{domain}-{server}-1")?,
                    Some(server) => write!(f, "{comma}{domain}-{server}-{first}..{last}")?,
                    None => write!(f, "{comma}{domain}-?-{first}..{last}")?,
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
            let refused =
                || ParseGtidError::new(SET, item, "write DOMAIN-SERVER-SEQUENCE or DOMAIN-SERVER-FIRST..LAST, from 1");
            match item.split_once("..") {
                None => set.insert_prefix(&item.parse().map_err(|_| refused())?),
                Some((begin, last)) => {
                    let last = parse_seq(last).ok_or_else(refused)?;
                    let parts: Vec<&str> = begin.split('-').collect();
                    let [domain, server, first] = parts.as_slice() else { return Err(refused()) };
                    let (domain, first) = parse_number(domain).zip(parse_seq(first)).ok_or_else(refused)?;
                    if first > last {
                        return Err(refused());
                    }
                    match *server {
                        "?" => set.insert_unknown(domain, first, last),
                        server => set.insert_range(domain, parse_number(server).ok_or_else(refused)?, first, last),
                    }
                }
            }
        }
        Ok(set)
    }
}

serde_as_text!(MariadbGtid, MariadbGtidSet);

fn parse_seq(text: &str) -> Option<u64> {
    parse_number(text).filter(|&seq| seq > 0)
}
