//! Random histories (rotations, fail-overs that lose a tail, fulls anywhere, files the archive lost): a plan restores exactly
//! what was asked for, or there is none.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::archive::binlog_index::{Ending, FileSummary};
use crate::archive::catalog::{Closed, FileEncryption};
use crate::archive::timeline::fold_all;
use crate::model::gtid::MysqlGtidSet;

#[derive(Clone, Debug)]
enum Event {
    Commit(u8),
    Rotate,
    FailOver { lost: u8 },
    Full,
}

/// A transaction of the world: `letter:number`.
pub(crate) type Name = (char, u64);

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The live lineage.
    pub(crate) lineage: Vec<Name>,
    /// Server, what came before, its own transactions.
    pub(crate) files: Vec<(char, Vec<Name>, Vec<Name>)>,
    /// Server, moment (a count of events), what it holds.
    pub(crate) fulls: Vec<(char, i64, Vec<Name>)>,
    /// When each file was begun.
    pub(crate) begun: Vec<i64>,
    /// When each transaction committed, in µs.
    pub(crate) commits: BTreeMap<Name, i64>,
}

pub(crate) fn history() -> impl Strategy<Value = World> {
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

pub(crate) fn set(names: &[Name]) -> GtidSet {
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
    pub(crate) fn facts(&self, dropped: &BTreeSet<usize>) -> Facts {
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
                    last_gtid: own.last().map(|name| Gtid::Mysql(gtid(*name))),
                    crc32: true,
                    statements: 0,
                },
                objects: 1,
                object_bytes: 1,
                open_transaction: None,
                closed: Some(Closed { ending: Ending::Rotate, next_file: None }),
                hole_until: None,
                encryption: FileEncryption::default(),
                further: None,
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
                    log_slave_updates: None,
                    recipients: Vec::new(),
                    method: "logical".into(),
                    objects: 1,
                    bytes: 1,
                    raw_bytes: 1,
                    trace_id: String::new(),
                }
            })
            .collect();
        let timeline = Timeline::new(Flavor::Mysql, &fulls, &files);
        let (prepared, begun, by_id) = (BTreeMap::new(), Vec::new(), OnceLock::new());
        Facts { flavor: Flavor::Mysql, fulls, files, timeline, prepared, begun, by_id }
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

    /// Also from files that are told as one, which must lead to the same.
    pub(crate) fn plan(&self, facts: &Facts, request: &Request) -> Result<Plan, String> {
        let plan = self.plan_once(facts, request).unwrap();
        let files = fold_all(facts.files.clone(), &facts.fulls);
        if files.len() < facts.files.len() {
            let timeline = Timeline::new(facts.flavor, &facts.fulls, &files);
            let folded = Facts { files, timeline, by_id: OnceLock::new(), ..facts.clone() };
            let unfold = |folded: Facts, ids: &[FileId]| {
                let spans = ids.iter().map(|id| folded.file(id).unwrap().ids());
                let single = spans.flat_map(|ids| ids.iter().collect::<Vec<_>>());
                let single = single.map(|id| facts.file(&id).unwrap().clone()).collect();
                folded.unfolded(ids, single)
            };
            let named = folded.folded_target(request);
            let mut folded = unfold(folded, &named);
            let other = loop {
                match self.plan_once(&folded, request) {
                    Ok(plan) => break plan,
                    Err(ids) => folded = unfold(folded, &ids),
                }
            };
            let digest = |plan: &Result<Plan, String>| plan.as_ref().ok().map(Plan::digest);
            assert_eq!(digest(&other), digest(&plan), "{request}: {other:?} instead of {plan:?}");
        }
        plan
    }

    /// Or files that have to be known by themselves first.
    fn plan_once(&self, facts: &Facts, request: &Request) -> Result<Result<Plan, String>, Vec<FileId>> {
        let mut facts = facts.clone();
        for (fork, file, question) in unsure(&facts.clone(), request) {
            let found = self.find(&file.id, &question, &set(&[]));
            let of = &facts.timeline.forks[fork].gtids;
            if found.is_none_or(|found| !found.gtids.intersection(of).is_empty()) {
                facts.begun.push(fork);
            }
        }
        let facts = &facts;
        let mut refused = "no full".to_owned();
        'chains: for chain in facts.timeline.chains.iter().rev() {
            let mut from = 0;
            let cut = loop {
                let asked = ask(facts, request, chain, from);
                if let Ok(Step::Cut(Some(Cut { link, .. })) | Step::Look { link, .. }) = &asked {
                    match facts.folded_links(chain, *link) {
                        folded if folded.is_empty() => {}
                        folded => return Err(folded),
                    }
                }
                match asked {
                    Ok(Step::Cut(cut)) => break cut,
                    Ok(Step::Look { link, question, known }) => {
                        match self.find(&chain.links.get(link).unwrap().file, &question, &known) {
                            Some(found) => break Some(Cut { link, found }),
                            None => from = link + 1,
                        }
                    }
                    Err(Reject::Request(e)) => return Ok(Err(e.to_string())),
                    Err(reject) => {
                        refused = format!("{reject:?}");
                        continue 'chains;
                    }
                }
            };
            match make(facts, request, chain, cut.as_ref(), Throughput::default()) {
                Ok(plan) => return Ok(Ok(plan)),
                Err(Reject::Request(e)) => return Ok(Err(e.to_string())),
                Err(reject) => refused = format!("{reject:?}"),
            }
        }
        Ok(Err(refused))
    }

    /// The server before the last one goes on, with `count` transactions in its old file or a new one, and knows nothing of what the last one
    /// wrote: its promotion is taken back.
    pub(crate) fn take_back(&mut self, count: u8, new_file: bool) {
        let Some((interim, _, own)) = self.files.last().cloned() else { return };
        let Some(file) = self.files.iter().rposition(|file| file.0 != interim).filter(|_| !own.is_empty()) else {
            return;
        };
        let (server, previous, own) = self.files[file].clone();
        let mut next = self.commits.keys().filter(|name| name.0 == server).map(|name| name.1).max().unwrap_or(0);
        let to = if new_file {
            self.files.push((server, [previous, own].concat(), vec![]));
            self.begun.push(100);
            self.files.len() - 1
        } else {
            file
        };
        for i in 0..i64::from(count) {
            next += 1;
            self.commits.insert((server, next), 100_000_000 + i);
            self.files[to].2.push((server, next));
        }
    }

    /// Whether a restore to the latest (none) or to where a log is by a time (those that `takes` takes) may mean a lineage that is not the live
    /// one but committed last: the truth.
    fn is_contested(&self, dropped: &BTreeSet<usize>, takes: Option<&dyn Fn(&Name) -> bool>) -> bool {
        let archived = || self.files.iter().enumerate().filter(|(i, _)| !dropped.contains(i)).map(|(_, file)| file);
        let lives = |name: &Name| self.lineage.contains(name);
        let last = |file: &(char, Vec<Name>, Vec<Name>)| file.2.last().map(|name| self.commits[name]);
        let newest = archived().filter(|file| file.2.iter().all(lives)).filter_map(last).max();
        ('A'..='F').any(|server| {
            let forked: Vec<_> = archived().filter(|file| file.0 == server && !file.2.iter().all(lives)).collect();
            let Some(end) = forked.last() else { return false };
            let had = |name: &Name| end.1.contains(name) || end.2.contains(name);
            let of_fork = forked.iter().flat_map(|file| &file.2).filter(|name| !lives(name));
            let apart = |takes: &dyn Fn(&Name) -> bool| {
                of_fork.clone().any(takes) || self.lineage.iter().any(|name| takes(name) && !had(name))
            };
            forked.iter().filter_map(|file| last(file)).max() >= newest && takes.is_none_or(apart)
        })
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
        back in (0u8..3, any::<bool>()),
        at: prop::sample::Index,
        how in 0u8..8,
    ) {
        let mut world = world;
        let last = world.files.len() - 1;
        let mut dropped: BTreeSet<usize> = dropped.into_iter().filter(|&i| i < last).collect();
        if back.0 > 0 {
            // Without its other files nothing tells where a server comes from.
            dropped.clear();
            world.take_back(back.0, back.1);
        }
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
        let by_then = |name: &Name| world.commits[name] < taken_by || !exclusive && world.commits[name] == taken_by;
        let contested = match &target {
            Target::Latest => world.is_contested(&dropped, None),
            Target::Time(_) => world.is_contested(&dropped, Some(&by_then)),
            _ => false,
        };
        let request = Request { target, exclusive, skip_gtids: None, allow_nearest: false };
        // A transaction of the full itself may be its last or not, and its place is unknown: the full alone does not tell.
        let newest = if how == 1 || how == 6 { count.saturating_sub(1) } else { count };
        let reachable = world.reachable(count, newest, taken_by, &dropped);
        if contested {
            // Where no full leads there on the live lineage either, that is what is said.
            let why = world.plan(&facts, &request).unwrap_err();
            prop_assert!(why.contains("two lineages") || !reachable, "{}", why);
            return Ok(());
        }
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
                let unknown = before && world.is_lost(&world.lineage[count], &dropped);
                // Nothing archived of the live lineage is later, and the newest commit of a file that it has a part of may be one of a fork.
                let lives = |name: &Name| world.lineage.contains(name);
                let last = count.checked_sub(1).map(|i| world.lineage[i]);
                let in_part = world.files.iter().any(|file| last.is_some_and(|n| file.2.contains(&n)) && !file.2.iter().all(lives));
                let later = world.lineage.get(count).is_some_and(|name| !world.is_lost(name, &dropped));
                let unproved = matches!(request.target, Target::Time(_)) && in_part && !later;
                prop_assert!(unknown || unproved || !reachable, "refused: {}", why);
            }
        }
    }
}

/// Server B took over behind A:3 and wrote two transactions, then A went on; both forms of A's log. Times are seconds.
fn taken_back() -> [World; 2] {
    let names = |server: char, numbers: std::ops::RangeInclusive<u64>| numbers.map(|n| (server, n)).collect::<Vec<_>>();
    let (shared, interim, later) = (names('A', 1..=3), names('B', 1..=2), names('A', 4..=5));
    let commits = [shared.clone(), interim.clone(), later.clone()].concat();
    let world = World {
        lineage: [shared.clone(), interim.clone()].concat(),
        files: Vec::new(),
        fulls: vec![('A', 0, vec![])],
        begun: vec![1, 4, 6],
        commits: commits.into_iter().zip(1..).map(|(name, at)| (name, at * 1_000_000)).collect(),
    };
    let (a, b) = (('A', vec![], shared.clone()), ('B', shared.clone(), interim));
    let one_file = ('A', vec![], [shared.clone(), later.clone()].concat());
    [
        World { files: vec![a, b.clone(), ('A', shared, later)], ..world.clone() },
        World { files: vec![one_file, b], ..world },
    ]
}

pub(crate) fn to(target: Target) -> Request {
    Request { target, exclusive: false, skip_gtids: None, allow_nearest: false }
}

fn at(seconds: f64) -> Target {
    Target::Time(Timestamp::from_microsecond((seconds * 1e6) as i64).unwrap())
}

#[test]
fn after_a_promotion_was_taken_back_nobody_is_given_the_interim_servers_lineage_unasked() {
    let all = |plan: Result<Plan, String>| plan.map(|plan| plan.expected_gtids);
    let (a, b) = (uuid('A'), uuid('B'));
    for world in taken_back() {
        let facts = world.facts(&BTreeSet::new());
        let plan = |request: Request| all(world.plan(&facts, &request));
        let live = || Ok(set(&world.lineage));
        for target in [Target::Latest, at(9.0), at(7.0), at(5.5), at(4.5), at(4.0)] {
            let refused = plan(to(target.clone())).unwrap_err();
            for said in [
                format!("Server {b} counts as live"),
                format!("alone has {b}:1-2, committed last at 1970-01-01T00:00:05Z"),
                format!("server {a} alone has {a}:4-5, and committed no earlier, last at 1970-01-01T00:00:07Z"),
            ] {
                assert!(refused.contains(&said), "{target:?}: {said}: {refused}");
            }
            let nearest = Request { allow_nearest: true, ..to(target.clone()) };
            assert!(plan(nearest).is_ok_and(|gtids| gtids.is_subset(&set(&world.lineage))), "{target:?}");
        }
        // Where both lineages are the same there is nothing to ask, nor for whoever says which one.
        for target in [at(3.0), at(3.9)] {
            assert_eq!(plan(to(target)), Ok(set(&world.lineage[..3])));
        }
        assert_eq!(plan(Request { exclusive: true, ..to(at(4.0)) }), Ok(set(&world.lineage[..3])));
        assert_eq!(plan(to(Target::Gtid(set(&[('B', 2)])))), live());
        let latest = Request { allow_nearest: true, ..to(Target::Latest) };
        assert_eq!(plan(latest.clone()), live());
        let told = world.plan(&facts, &latest).unwrap().forks.join("");
        assert!(told.contains(":4-5") && told.contains("nothing tells"), "{told}");
        // The ways out: each lineage by GTID, the other server's from a full of it.
        let refused = plan(to(Target::Latest)).unwrap_err();
        assert!(
            refused.contains(&format!("--to-gtid {b}:2")) && refused.contains("take one of that server"),
            "{refused}"
        );
        let of_a: Vec<Name> = (1..=5).map(|n| ('A', n)).collect();
        for (holds, way_out) in [(4, format!("--to-gtid {a}:5")), (5, format!("--to-gtid {a}:1-5, which full"))] {
            let mut world = world.clone();
            world.fulls.push(('A', 8, of_a[..holds].to_vec()));
            let facts = world.facts(&BTreeSet::new());
            for target in [Target::Latest, at(7.0)] {
                let refused = world.plan(&facts, &to(target)).unwrap_err();
                assert!(refused.contains(&way_out), "{refused}");
            }
            let target = if holds == 4 { set(&of_a[4..]) } else { set(&of_a) };
            assert_eq!(all(world.plan(&facts, &to(Target::Gtid(target)))), Ok(set(&of_a)));
        }
    }
}

#[test]
fn what_the_other_server_wrote_at_the_same_time_is_beyond_the_split_too() {
    for mut world in taken_back() {
        // A's fourth committed before anything of B.
        for (name, at) in [(('A', 4), 3_300_000), (('B', 1), 3_600_000)] {
            world.commits.insert(name, at);
        }
        let facts = world.facts(&BTreeSet::new());
        assert_eq!(world.plan(&facts, &to(at(3.2))).unwrap().expected_gtids, set(&world.lineage[..3]));
        for time in [3.3, 3.4, 4.0] {
            let refused = world.plan(&facts, &to(at(time))).unwrap_err();
            assert!(refused.contains("two lineages"), "{time}: {refused}");
        }
    }
}

#[test]
fn what_a_crash_took_is_asked_about_until_the_server_commits_again() {
    let names: Vec<Name> = (1..=9).map(|n| ('A', n)).collect();
    let mut world = World {
        lineage: names[..5].to_vec(),
        files: vec![('A', vec![], names[..7].to_vec()), ('A', names[..5].to_vec(), vec![])],
        fulls: vec![('A', 0, vec![])],
        begun: vec![1, 8],
        commits: names.iter().copied().zip(1..).map(|(name, at)| (name, at * 1_000_000)).collect(),
    };
    let latest = |world: &World| world.plan(&world.facts(&BTreeSet::new()), &to(Target::Latest));
    let refused = latest(&world).unwrap_err();
    let a = uuid('A');
    for said in [
        format!("Server {a} counts as live: it went on from the other one and alone has nothing"),
        format!("server {a}, as it was before a crash or before its data was put back, alone has {a}:6-7"),
        "for the live lineage --allow-nearest".to_owned(),
    ] {
        assert!(refused.contains(&said), "{said}: {refused}");
    }
    world.lineage.push(('A', 8));
    world.files[1].2.push(('A', 8));
    assert_eq!(latest(&world).unwrap().expected_gtids, set(&world.lineage));
}

#[test]
fn what_a_given_up_server_wrote_on_is_no_boundary_of_a_time() {
    for mut world in taken_back() {
        // A wrote on for a moment after B had taken over, and committed before B did last.
        for (name, at) in [(('A', 4), 4_200_000), (('A', 5), 4_300_000)] {
            world.commits.insert(name, at);
        }
        let facts = world.facts(&BTreeSet::new());
        for (time, count) in [(3.9, 3), (4.0, 4), (4.1, 4), (4.9, 4), (5.0, 5)] {
            let plan = world.plan(&facts, &to(at(time))).unwrap();
            assert_eq!(plan.expected_gtids, set(&world.lineage[..count]), "{time}");
        }
    }
}

#[test]
fn what_prepared_xa_transactions_is_looked_for_only_where_a_plan_needs_that_full() {
    let names: Vec<Name> = (1..=6).map(|n| ('A', n)).collect();
    let world = World {
        lineage: names.clone(),
        files: vec![('A', vec![], names.clone())],
        fulls: vec![('A', 0, vec![]), ('A', 4, names[..4].to_vec())],
        begun: vec![1],
        commits: names.iter().copied().zip(1..).map(|(name, at)| (name, at * 1_000_000)).collect(),
    };
    let mut facts = world.facts(&BTreeSet::new());
    facts.fulls.iter_mut().for_each(|full| full.prepared_xa = Some(vec!["X'78',X'',1".to_owned()]));
    facts.fulls[0].prepared_xa = Some(vec![]);
    let newest = &facts.timeline.chains[1];
    let tried = |request: &Request| {
        let cut = match ask(&facts, request, newest, 0)? {
            Step::Cut(cut) => cut,
            Step::Look { link, question, known } => {
                let found = world.find(&newest.links.get(link).unwrap().file, &question, &known);
                found.map(|found| Cut { link, found })
            }
        };
        make(&facts, request, newest, cut.as_ref(), Throughput::default())
    };
    let before = |target| Request { exclusive: true, ..to(target) };
    for (request, looks) in [
        (to(Target::Latest), true),
        (to(Target::Gtid(set(&names[5..]))), true),
        (to(at(5.0)), true),
        (to(Target::Position(world.position(&names[4]))), true),
        (to(at(3.0)), false),
        (before(at(4.0)), false),
        (to(Target::Gtid(set(&names[1..2]))), false),
        (before(Target::Gtid(set(&names[2..3]))), false),
        (to(Target::Position(world.position(&names[2]))), false),
        (before(Target::Position(world.position(&names[3]))), false),
    ] {
        let tried = tried(&request);
        assert_eq!(matches!(tried, Err(Reject::NotLooked)), looks, "{request}: {tried:?}");
        assert!(looks || world.plan(&facts, &request).is_ok_and(|plan| plan.base.id == "0000"), "{request}");
    }
}
