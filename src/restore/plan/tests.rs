//! Random histories (rotations, fail-overs that lose a tail, fulls anywhere, files the archive lost): a plan restores exactly
//! what was asked for, or there is none.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::archive::binlog_index::{Ending, FileSummary};
use crate::archive::catalog::Closed;
use crate::model::gtid::MysqlGtidSet;

#[derive(Clone, Debug)]
enum Event {
    Commit(u8),
    Rotate,
    FailOver { lost: u8 },
    Full,
}

/// A transaction of the world: `letter:number`.
type Name = (char, u64);

#[derive(Clone, Debug, Default)]
struct World {
    /// The live lineage.
    lineage: Vec<Name>,
    /// Server, what came before, its own transactions.
    files: Vec<(char, Vec<Name>, Vec<Name>)>,
    /// Server, moment (a count of events), what it holds.
    fulls: Vec<(char, i64, Vec<Name>)>,
    /// When each file was begun.
    begun: Vec<i64>,
    /// When each transaction committed, in µs.
    commits: BTreeMap<Name, i64>,
}

fn history() -> impl Strategy<Value = World> {
    let event = prop_oneof![
        5 => (1u8..4).prop_map(Event::Commit),
        3 => Just(Event::Rotate),
        1 => (0u8..3).prop_map(|lost| Event::FailOver { lost }),
        2 => Just(Event::Full),
    ];
    prop::collection::vec(event, 1..30).prop_map(|events| {
        let mut world = World { files: vec![('A', vec![], vec![])], begun: vec![1], ..World::default() };
        let mut next = [1u64; 6];
        for (at, event) in (2..).zip(events) {
            let (server, _, own) = world.files.last().unwrap().clone();
            match event {
                Event::Commit(n) => {
                    for i in 0..n {
                        let number = &mut next[server as usize - 'A' as usize];
                        world.commits.insert((server, *number), at * 1_000_000 + i64::from(i));
                        world.lineage.push((server, *number));
                        world.files.last_mut().unwrap().2.push((server, *number));
                        *number += 1;
                    }
                }
                Event::Rotate => {
                    world.files.push((server, world.lineage.clone(), vec![]));
                    world.begun.push(at);
                }
                Event::FailOver { lost } => {
                    if server == 'F' || own.len() <= usize::from(lost) {
                        continue;
                    }
                    world.lineage.truncate(world.lineage.len() - usize::from(lost));
                    world.files.push(((server as u8 + 1) as char, world.lineage.clone(), vec![]));
                    world.begun.push(at);
                }
                Event::Full => world.fulls.push((server, at, world.lineage.clone())),
            }
        }
        world
    })
}

fn set(names: &[Name]) -> GtidSet {
    let mut set = MysqlGtidSet::default();
    for name in names {
        set.insert(&gtid(*name));
    }
    GtidSet::Mysql(set)
}

fn gtid((server, number): Name) -> crate::model::gtid::MysqlGtid {
    format!("{0}-0000-0000-0000-000000000000:{number}", server.to_string().repeat(8)).parse().unwrap()
}

/// Where the first `count` transactions of a file end.
fn end_of(count: usize) -> u64 {
    100 * (count as u64 + 1)
}

fn uuid(server: char) -> String {
    format!("{}-0000-0000-0000-000000000000", server.to_string().repeat(8).to_lowercase())
}

impl World {
    fn facts(&self, dropped: &BTreeSet<usize>) -> Facts {
        let mut files = Vec::new();
        for (i, (server, previous, own)) in self.files.iter().enumerate().filter(|(i, _)| !dropped.contains(i)) {
            let commit = |name: &Name| CommitTime(self.commits[name]);
            let size = end_of(own.len());
            files.push(ArchivedFile {
                id: FileId {
                    server: uuid(*server),
                    name: format!("binlog.{:06}", i + 1),
                    created_unix: u32::try_from(self.begun[i]).unwrap(),
                },
                flavor: Flavor::Mysql,
                server_version: "9.7.0".into(),
                size,
                summary: FileSummary {
                    previous_gtids: set(previous),
                    gtids: set(own),
                    boundary: size,
                    transactions: own.len() as u64,
                    first_commit: own.first().map(commit),
                    last_commit: own.last().map(commit),
                    last_gtid: None,
                    crc32: true,
                },
                objects: 1,
                object_bytes: 1,
                open_transaction: None,
                closed: Some(Closed { ending: Ending::Rotate, next_file: None }),
                hole_until: None,
            });
        }
        let fulls: Vec<FullHead> = self
            .fulls
            .iter()
            .map(|(server, at, names)| {
                let at = Timestamp::from_second(*at).unwrap();
                FullHead {
                    id: format!("{:04}", at.as_second()),
                    flavor: Flavor::Mysql,
                    server_version: "9.7.0".into(),
                    server: uuid(*server),
                    started_at: at,
                    consistent_at: at,
                    finished_at: at,
                    gtids: set(names),
                    position: None,
                    position_created_unix: None,
                    prepared_xa: None,
                    method: "logical".into(),
                    objects: 1,
                    bytes: 1,
                    raw_bytes: 1,
                    trace_id: String::new(),
                }
            })
            .collect();
        let timeline = Timeline::new(Flavor::Mysql, &fulls, &files);
        Facts { flavor: Flavor::Mysql, fulls, files, timeline, prepared: BTreeMap::new() }
    }

    /// The place where a transaction ends.
    fn position(&self, name: &Name) -> BinlogPosition {
        let holds = |own: &[Name]| own.iter().position(|other| other == name);
        let (i, nth) = self.files.iter().enumerate().find_map(|(i, file)| Some((i, holds(&file.2)?))).unwrap();
        BinlogPosition { file: format!("binlog.{:06}", i + 1), offset: end_of(nth + 1) }
    }

    /// What looking into a file finds; as `resolve` does it, over names instead of bytes.
    fn find(&self, file: &FileId, question: &Question, known: &GtidSet) -> Option<Found> {
        let index: usize = file.name.rsplit('.').next()?.parse().ok()?;
        let own = &self.files[index - 1].2;
        let is = |set: &GtidSet, name: Name| set.contains(&Gtid::Mysql(gtid(name)));
        let upto = match question {
            Question::UpToGtids(wanted) => own.iter().rposition(|n| is(wanted, *n) && !is(known, *n))? + 1,
            Question::BeforeGtids(wanted) => own.iter().position(|n| is(wanted, *n) && !is(known, *n))?,
            Question::UpToTime(time) => own.iter().position(|n| self.commits[n] > time.0 && !is(known, *n))?,
            Question::BeforeTime(time) => own.iter().position(|n| self.commits[n] >= time.0 && !is(known, *n))?,
            Question::UpToOffset(offset) => (1..=own.len()).rev().find(|&count| end_of(count) <= *offset).unwrap_or(0),
            Question::BeforeOffset(offset) => (1..=own.len()).rev().find(|&count| end_of(count) < *offset).unwrap_or(0),
        };
        Some(Found {
            offset: end_of(upto),
            gtids: set(&own[..upto]),
            last_commit: own[..upto].last().map(|name| CommitTime(self.commits[name])),
            last_gtid: None,
            inside: false,
        })
    }

    fn plan(&self, facts: &Facts, request: &Request) -> Result<Plan, String> {
        let mut refused = "no full".to_owned();
        'chains: for chain in facts.timeline.chains.iter().rev() {
            let mut from = 0;
            let cut = loop {
                match ask(facts, request, chain, from) {
                    Ok(Step::Cut(cut)) => break cut,
                    Ok(Step::Look { link, question, known }) => {
                        match self.find(&chain.links[link].file, &question, &known) {
                            Some(found) => break Some(Cut { link, found }),
                            None => from = link + 1,
                        }
                    }
                    Err(Reject::Request(e)) => return Err(e.to_string()),
                    Err(reject) => {
                        refused = format!("{reject:?}");
                        continue 'chains;
                    }
                }
            };
            match make(facts, request, chain, cut.as_ref(), Throughput::default()) {
                Ok(plan) => return Ok(plan),
                Err(reject) => refused = format!("{reject:?}"),
            }
        }
        Err(refused)
    }

    fn is_lost(&self, name: &Name, dropped: &BTreeSet<usize>) -> bool {
        !self.files.iter().enumerate().any(|(i, file)| !dropped.contains(&i) && file.2.contains(name))
    }

    /// Whether the archive can take some full of at most `newest` transactions, taken no later than `time`, to the first `count`
    /// transactions of the lineage: the truth.
    fn reachable(&self, count: usize, newest: usize, time: i64, dropped: &BTreeSet<usize>) -> bool {
        self.fulls.iter().any(|(_, at, holds)| {
            let prefix = holds.len() <= newest && holds[..] == self.lineage[..holds.len()];
            prefix
                && at * 1_000_000 <= time
                && !self.lineage[holds.len()..count].iter().any(|name| self.is_lost(name, dropped))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn a_plan_is_exactly_the_target_or_there_is_none(
        world in history(),
        dropped in prop::collection::btree_set(0usize..12, 0..3),
        at: prop::sample::Index,
        how in 0u8..8,
    ) {
        let last = world.files.len() - 1;
        let dropped: BTreeSet<usize> = dropped.into_iter().filter(|&i| i < last).collect();
        let facts = world.facts(&dropped);
        if how > 0 && world.lineage.is_empty() {
            return Ok(());
        }
        // Up to a transaction, or up to just before it.
        let index = if how == 0 { 0 } else { at.index(world.lineage.len()) };
        let time = |us: i64| Target::Time(Timestamp::from_microsecond(us).unwrap());
        let commit = || world.commits[&world.lineage[index]];
        let (target, exclusive) = match how {
            0 => (Target::Latest, false),
            1 | 2 => (Target::Gtid(set(&world.lineage[index..=index])), how == 2),
            3 | 4 => (time(commit()), how == 4),
            5 => (time(commit() - 1), false),
            _ => (Target::Position(world.position(&world.lineage[index])), how == 7),
        };
        let before = exclusive || how == 5;
        let count = match how {
            0 => world.lineage.len(),
            _ => index + usize::from(!before),
        };
        let taken_by = match &target {
            Target::Time(time) => time.as_microsecond(),
            _ => i64::MAX,
        };
        let request = Request { target, exclusive, skip_gtids: None, allow_nearest: false };
        match world.plan(&facts, &request) {
            Ok(plan) => {
                let mut result = plan.base.gtids.clone();
                for part in &plan.files {
                    prop_assert!(part.take.intersection(&result).is_empty(), "twice: {:?}", part);
                    let file = facts.file(&part.file).unwrap();
                    prop_assert!(part.take.is_subset(&file.summary.gtids) && part.end <= file.summary.boundary);
                    result.extend(&part.take).unwrap();
                }
                prop_assert_eq!(&result, &set(&world.lineage[..count]));
                prop_assert_eq!(&result, &plan.expected_gtids);
            }
            // What comes before a transaction is known only if it is archived itself.
            Err(why) => {
                // A transaction of the full itself may be its last or not, and its place is unknown: the full alone does not tell.
                let newest = if how == 1 || how == 6 { count - 1 } else { count };
                let unknown = before && world.is_lost(&world.lineage[count], &dropped);
                prop_assert!(unknown || !world.reachable(count, newest, taken_by, &dropped), "refused: {}", why);
            }
        }
    }
}
