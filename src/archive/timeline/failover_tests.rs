//! MariaDB's failovers, with and without `log_slave_updates`: a chain is exactly the live lineage, whatever the stamps say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{file, full, maria, timeline};
use super::*;
use crate::archive::catalog::FullHead;
use crate::model::gtid::MariadbGtid;

/// What a chain takes, link by link.
fn takes(chain: &Chain) -> Vec<String> {
    chain.links.iter().map(|link| format!("{} {}", link.file.server, link.take)).collect()
}

/// The dead primary 1 wrote 101 to 103, which nobody else has; server 2 went on from 100.
fn dead_primary(log_slave_updates: bool) -> Vec<ArchivedFile> {
    let copies = if log_slave_updates { "0-1-96..100,0-2-101..150" } else { "0-2-101..150" };
    vec![
        file("mariadb-1", 4, 10, maria("0-1-60"), maria("0-1-61..90")),
        file("mariadb-1", 5, 20, maria("0-1-90"), maria("0-1-91..103")),
        file("mariadb-2", 8, 30, maria(if log_slave_updates { "0-1-95" } else { "" }), maria(copies)),
        file("mariadb-2", 9, 40, head(log_slave_updates, "0-1-100", "0-2-101..150", "0-2-150"), maria("0-2-151..160")),
    ]
}

/// The head of a file: with log_slave_updates it says who wrote what.
fn head(log_slave_updates: bool, shared: &str, own: &str, position: &str) -> GtidSet {
    if log_slave_updates { maria(&format!("{shared},{own}")) } else { maria(position) }
}

#[test]
fn what_only_a_dead_primary_had_is_found_by_its_writer() {
    for log_slave_updates in [true, false] {
        let files = dead_primary(log_slave_updates);
        let before = full("mariadb-1", 11, maria("0-1-70"));
        let forked = full("mariadb-1", 29, maria("0-1-102"));
        let after = full("mariadb-2", 31, maria("0-2-120"));
        let t = timeline(&[before, forked, after], &files);
        let (theirs, ours) = match log_slave_updates {
            // Files are borrowed up to where the new primary's own log begins.
            true => ("mariadb-1 0-1-91..95", "mariadb-2 0-1-96..100,0-2-101..150"),
            false => ("mariadb-1 0-1-91..100", "mariadb-2 0-2-101..150"),
        };
        assert_eq!(takes(&t.chains[0]), ["mariadb-1 0-1-71..90", theirs, ours, "mariadb-2 0-2-151..160"]);
        assert_eq!(t.chains[0].end, ChainEnd::Newest);
        let ChainEnd::OffLineage { beyond, cause: OffLineage::Fork } = &t.chains[1].end else {
            panic!("{log_slave_updates}: {:?}", t.chains[1])
        };
        assert_eq!(beyond.to_string(), "0-1-102..102");
        assert_eq!(takes(&t.chains[2])[0], "mariadb-2 0-2-121..150");
        assert_eq!((t.forks.len(), t.forks[0].gtids.to_string().as_str()), (1, "0-1-101..103"));
        assert_eq!(t.windows.len(), 2, "{:?}", t.windows);
        assert_eq!(t.live_server.as_deref(), Some("mariadb-2"));
        // Nor does it matter that the new primary's clock is behind.
        let mut behind = files.clone();
        behind[2..].iter_mut().for_each(|file| file.summary.last_commit = Some(CommitTime(1)));
        let t = timeline(&[full("mariadb-1", 11, maria("0-1-70"))], &behind);
        assert_eq!((t.live_server.as_deref(), t.chains[0].links.len()), (Some("mariadb-2"), 4));
        assert_eq!(t.forks[0].gtids.to_string(), "0-1-101..103");
        // A full with the fork's last transaction before the new primary has got as far.
        let mut early = files.clone();
        early.truncate(3);
        early[2].summary.gtids = maria(if log_slave_updates { "0-1-96..100,0-2-101..101" } else { "0-2-101..101" });
        let t = timeline(&[full("mariadb-1", 29, maria("0-1-103"))], &early);
        assert!(matches!(t.chains[0].end, ChainEnd::OffLineage { cause: OffLineage::Fork, .. }), "{:?}", t.chains[0]);
    }
}

#[test]
fn a_dead_primary_that_was_rebuilt_as_a_replica_and_promoted_again_is_another_history() {
    for log_slave_updates in [true, false] {
        let mut files = dead_primary(log_slave_updates);
        // Rebuilt from a backup at 155, so its log begins there, under a name it had before.
        let own = if log_slave_updates { "0-2-156..160,0-1-161..170" } else { "0-1-161..170" };
        files.push(file("mariadb-1", 5, 50, maria(""), maria(own)));
        let fulls = [
            full("mariadb-1", 11, maria("0-1-70")),
            full("mariadb-1", 29, maria("0-1-103")),
            full("mariadb-2", 31, maria("0-2-120")),
            full("mariadb-1", 55, maria("0-1-165")),
        ];
        let t = timeline(&fulls, &files);
        let last = |chain: &Chain| takes(chain).last().cloned().unwrap();
        for (i, expected) in [(0, own), (2, own), (3, "0-1-166..170")] {
            assert_eq!(t.chains[i].end, ChainEnd::Newest, "{log_slave_updates} {i}");
            assert_eq!(last(&t.chains[i]), format!("mariadb-1 {expected}"), "{:?}", takes(&t.chains[i]));
        }
        assert_eq!(takes(&t.chains[0])[1], "mariadb-1 0-1-91..100");
        assert!(matches!(t.chains[1].end, ChainEnd::OffLineage { cause: OffLineage::Fork, .. }), "{:?}", t.chains[1]);
        assert_eq!(t.forks.iter().map(|fork| fork.gtids.to_string()).collect::<Vec<_>>(), ["0-1-101..103"]);
    }
}

#[test]
fn what_a_new_primary_replicated_but_nobody_archived_is_a_gap() {
    // log_slave_updates is off: server 2's log begins with 101, server 1's archive ends with 98.
    let files = [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..98")),
        file("mariadb-2", 1, 20, maria(""), maria("0-2-101..110")),
    ];
    let t = timeline(&[full("mariadb-1", 11, maria("0-1-50")), full("mariadb-2", 21, maria("0-1-100"))], &files);
    assert!(matches!(&t.chains[0].end, ChainEnd::Gap(gap) if gap.missing == maria("0-?-99..100")), "{:?}", t.chains[0]);
    assert_eq!(t.chains[0].gtids.to_string(), "0-1-50,0-1-51..98", "reachable up to the gap");
    assert_eq!((t.chains[1].end.clone(), takes(&t.chains[1]).len()), (ChainEnd::Newest, 1));
}

#[test]
fn two_dead_primaries_whose_numbers_overlap_and_a_log_that_does_not_say_whose_it_has_are_not_mixed() {
    // Server 3 does not log what it replicated: was 103 server 1's or server 2's?
    let files = [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..105")),
        file("mariadb-2", 1, 20, maria(""), maria("0-2-101..106")),
        file("mariadb-3", 1, 30, maria(""), maria("0-3-104..110")),
    ];
    let fulls = [
        full("mariadb-1", 11, maria("0-1-50")),
        full("mariadb-1", 12, maria("0-1-103")),
        full("mariadb-2", 21, maria("0-2-103")),
        full("mariadb-3", 31, maria("0-3-104")),
    ];
    let t = timeline(&fulls, &files);
    assert!(matches!(&t.chains[0].end, ChainEnd::Gap(_)), "{:?}", t.chains[0]);
    assert_eq!(t.chains[0].gtids.to_string(), "0-1-50,0-1-51..100");
    for chain in &t.chains[1..3] {
        assert!(matches!(chain.end, ChainEnd::OffLineage { .. }), "{chain:?}");
    }
    assert_eq!(t.chains[3].end, ChainEnd::Newest);
}

/// Server 2's log after `log_slave_updates` was switched off there: its head goes on naming what it logged before, 100 of server 1.
fn switched_off() -> [ArchivedFile; 3] {
    let state = |gtids: &[&str]| {
        let gtids: Vec<MariadbGtid> = gtids.iter().map(|gtid| gtid.parse().unwrap()).collect();
        GtidSet::Mariadb(MariadbGtidSet::of_state(&gtids))
    };
    [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..150")),
        file("mariadb-2", 7, 20, state(&["0-1-100"]), maria("0-2-151..160")),
        file("mariadb-2", 8, 30, state(&["0-1-100", "0-2-160"]), maria("0-2-161..170")),
    ]
}

#[test]
fn numbers_that_another_server_wrote_are_not_passed_over_because_a_head_names_an_earlier_one_of_it() {
    // 101 to 150 came before 151 on server 2, or it would have gone on with 101; its head does not say so.
    let files = switched_off();
    let t = timeline(&[full("mariadb-1", 11, maria("0-1-50"))], &files);
    assert!(
        matches!(&t.chains[0].end, ChainEnd::Gap(gap) if gap.missing == maria("0-?-101..150")),
        "{:?}",
        t.chains[0]
    );
    assert_eq!(takes(&t.chains[0]), ["mariadb-1 0-1-51..100"]);
}

#[test]
fn where_the_archive_does_not_tell_whose_a_heads_numbers_are_there_is_a_gap() {
    // Two histories, one archive, in which server 2's log begins with file 8. In the one, server 2 replicated 101 to 150 after log_slave_updates
    // was switched off. In the other it always logged what it replicated, server 1 died at 103, which is a fork from 101 on, and server 2 wrote
    // 101 to 160 into files that were never archived. Its head says the same, so what it does not have of server 2 is missing in both.
    let [first, _, last] = switched_off();
    let files = [first, last];
    let t = timeline(&[full("mariadb-1", 11, maria("0-1-50")), full("mariadb-2", 29, maria("0-2-160"))], &files);
    assert!(
        matches!(&t.chains[0].end, ChainEnd::Gap(gap) if gap.missing == maria("0-2-101..160")),
        "{:?}",
        t.chains[0]
    );
    assert_eq!(takes(&t.chains[0]), ["mariadb-1 0-1-51..100"]);
    assert_eq!(
        (t.chains[1].end.clone(), takes(&t.chains[1])),
        (ChainEnd::Newest, vec!["mariadb-2 0-2-161..170".to_owned()])
    );
    assert_eq!(t.forks[0].gtids, maria("0-1-101..150"), "said, not lost sight of");
}

#[derive(Clone, Debug)]
enum Event {
    Commit(u8),
    Rotate,
    Full,
    /// To another server, which lacks the last transactions; and how many of the last ones its newest file has, if it logs them.
    FailOver {
        to: u32,
        lost: u8,
        copies: u8,
    },
}

/// One server's log.
#[derive(Clone, Debug, Default)]
struct Log {
    /// Last number of each server in it.
    state: BTreeMap<u32, u64>,
    number: u32,
    /// How many of the lineage's transactions are in `state`.
    at: usize,
    /// Whether it has transactions of a fork.
    forked: bool,
}

/// Server, number, head, transactions, newest commit.
type File = (u32, u32, BTreeMap<u32, u64>, Vec<(u32, u64)>, u32);
/// Server, index of its file, when, what it holds.
type Full = (u32, usize, u32, Vec<(u32, u64)>);

#[derive(Clone, Debug, Default)]
struct World {
    log_slave_updates: bool,
    lineage: Vec<(u32, u64)>,
    files: Vec<File>,
    fulls: Vec<Full>,
    logs: BTreeMap<u32, Log>,
    /// Transactions of forks.
    lost: Vec<(u32, u64)>,
    /// Nothing tells which of two transactions of a number is the live one: a server that logged nothing of what came before went on after
    /// it. Then less may be restored, but nothing wrong.
    unclear: bool,
    /// A failover was taken back: the old primary went on with nothing of what the interim one wrote. GTIDs say the same of a primary
    /// that wrote on after it was given up.
    taken_back: bool,
    /// A rebuilt server gave a GTID of its own fork out once more: one GTID for two transactions.
    given_out_again: bool,
}

impl World {
    fn new(log_slave_updates: bool, events: Vec<Event>) -> Self {
        let mut world =
            World { log_slave_updates, files: vec![(1, 1, BTreeMap::new(), vec![], 1)], ..World::default() };
        world.logs.insert(1, Log { number: 1, ..Log::default() });
        let mut primary = 1;
        for (now, event) in (2..).zip(events) {
            match event {
                Event::Commit(n) => (0..n).for_each(|_| world.commit(primary, now)),
                Event::Rotate => world.rotate(primary, now),
                Event::Full => world.fulls.push((primary, world.files.len() - 1, now, world.lineage.clone())),
                Event::FailOver { to, lost, copies } if to != primary => {
                    world.fail_over(primary, to, lost.into(), copies.into(), now);
                    primary = to;
                    // Until somebody wrote, nothing tells that the old primary is not the live one.
                    world.commit(primary, now);
                }
                Event::FailOver { .. } => {}
            }
        }
        world.commit(primary, 1000);
        world
    }

    fn commit(&mut self, primary: u32, now: u32) {
        let seq = self.lineage.last().map_or(1, |last| last.1 + 1);
        self.lineage.push((primary, seq));
        self.given_out_again |= self.lost.contains(&(primary, seq));
        let log = self.logs.get_mut(&primary).unwrap();
        log.state.insert(primary, seq);
        log.at = self.lineage.len();
        let file = self.files.last_mut().unwrap();
        file.3.push((primary, seq));
        file.4 = now;
    }

    fn rotate(&mut self, server: u32, now: u32) {
        let log = self.logs.get_mut(&server).unwrap();
        log.number += 1;
        self.files.push((server, log.number, log.state.clone(), vec![], now));
    }

    fn fail_over(&mut self, dead: u32, to: u32, lost: usize, copies: usize, now: u32) {
        // What the old primary wrote itself in its newest file may be lost, and nothing else.
        let own = self.files.last().unwrap().3.iter().rev().take_while(|(by, _)| *by == dead).count();
        let lost = lost.min(own);
        self.lost.extend_from_slice(&self.lineage[self.lineage.len() - lost..]);
        self.lineage.truncate(self.lineage.len() - lost);
        let last = self.lineage.last().map_or(0, |gtid| gtid.1);
        let contested = self.lost.iter().any(|gtid| gtid.1 == last);
        self.unclear |= !self.log_slave_updates && contested;
        self.taken_back |= lost > 0 && self.lineage.last().is_some_and(|(by, _)| *by == to);
        let dead = self.logs.get_mut(&dead).unwrap();
        (dead.forked, dead.at) = (lost > 0, dead.at - lost);
        let join = self.lineage.len();
        let mut log = self.logs.get(&to).cloned().unwrap_or_default();
        if log.forked {
            // Rebuilt from a backup: it knows nothing of what came before that. (No server replicates what it wrote itself.)
            let own = self.lineage.iter().rposition(|(by, _)| *by == to).map_or(0, |last| last + 1);
            log = Log { at: own.max(join - copies.min(join)), ..Log::default() };
            // A log that begins with the very first transaction looks like one that was reset.
            self.unclear |= log.at == 0 || log.at == join && contested;
        }
        log.number += 1;
        let mut gtids = Vec::new();
        if self.log_slave_updates {
            let from = (join - copies.min(join)).max(log.at);
            for (by, seq) in &self.lineage[log.at..from] {
                log.state.insert(*by, *seq);
            }
            self.files.push((to, log.number, log.state.clone(), vec![], now));
            for (by, seq) in &self.lineage[from..] {
                log.state.insert(*by, *seq);
                gtids.push((*by, *seq));
            }
            self.files.last_mut().unwrap().3 = gtids;
        } else {
            self.files.push((to, log.number, log.state.clone(), vec![], now));
        }
        log.at = join;
        self.logs.insert(to, log);
    }

    fn archived(&self, stamps: &[u32]) -> Vec<ArchivedFile> {
        let files = self.files.iter().enumerate().map(|(i, (server, number, state, gtids, last))| {
            let state: Vec<_> = state.iter().map(|(&server, &seq)| MariadbGtid { domain: 0, server, seq }).collect();
            let previous = GtidSet::Mariadb(MariadbGtidSet::of_state(&state));
            let stamp = stamps[i % stamps.len()] * 1000 + u32::try_from(i).unwrap();
            let mut file = file(&format!("mariadb-{server}"), *number, stamp, previous, set(gtids));
            file.summary.first_commit = None;
            file.summary.last_commit = (!gtids.is_empty()).then_some(CommitTime(i64::from(*last) * 1_000_000));
            file
        });
        files.collect()
    }
}

fn set(of: &[(u32, u64)]) -> GtidSet {
    let mut set = MariadbGtidSet::default();
    for (server, seq) in of {
        set.insert(&MariadbGtid { domain: 0, server: *server, seq: *seq });
    }
    GtidSet::Mariadb(set)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => (1u8..4).prop_map(Event::Commit),
        2 => Just(Event::Rotate),
        2 => Just(Event::Full),
        3 => (1u32..4, 0u8..3, 0u8..6).prop_map(|(to, lost, copies)| Event::FailOver { to, lost, copies }),
    ];
    prop::collection::vec(event, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn a_chain_has_every_live_transaction_and_none_of_a_fork(
        log_slave_updates: bool,
        events in events(),
        // Any order, and any jump.
        stamps in prop::collection::vec(1u32..4_000_000, 1..12),
    ) {
        let world = World::new(log_slave_updates, events);
        if world.taken_back || world.given_out_again {
            return Ok(());
        }
        let files = world.archived(&stamps);
        let fulls: Vec<FullHead> = world.fulls.iter().map(|(server, file, now, holds)| {
            let mut position = MariadbGtidSet::default();
            if let Some((by, seq)) = holds.last() {
                position.insert_prefix(&MariadbGtid { domain: 0, server: *by, seq: *seq });
            }
            let mut full = full(&format!("mariadb-{server}"), i64::from(*now), GtidSet::Mariadb(position));
            full.position = Some(crate::model::BinlogPosition { file: files[*file].id.name.clone(), offset: 4 });
            full.position_created_unix = Some(files[*file].id.created_unix);
            full
        }).collect();
        let t = Timeline::new(Flavor::Mariadb, &fulls, &files);
        let mut forks = MariadbGtidSet::default();
        for fork in &t.forks {
            let GtidSet::Mariadb(of) = &fork.gtids else { panic!() };
            forks.extend(of);
        }
        let mut expected: Vec<(u32, u64)> = world.files.iter().flat_map(|file| file.3.clone()).collect();
        expected.retain(|gtid| !world.lineage.contains(gtid));
        let told = GtidSet::Mariadb(forks);
        prop_assert!(told == set(&expected) || world.unclear && told.is_subset(&set(&expected)), "{} {:?}", told, expected);
        for (chain, (.., holds)) in t.chains.iter().zip(&world.fulls) {
            let off = matches!(chain.end, ChainEnd::OffLineage { .. });
            if world.lineage.get(..holds.len()) != Some(&holds[..]) {
                prop_assert!(off, "{:?}", chain);
                continue;
            }
            if off && world.unclear {
                continue;
            }
            prop_assert!(chain.end == ChainEnd::Newest || world.unclear, "{:?}", chain);
            let mut replayed = Vec::new();
            for link in &chain.links {
                let index = files.iter().position(|file| file.id == link.file).unwrap();
                let taken = |gtid: &&(u32, u64)| !link.take.intersection(&set(&[**gtid])).is_empty();
                replayed.extend(world.files[index].3.iter().filter(taken).copied());
            }
            let live = &world.lineage[holds.len()..];
            prop_assert!(replayed == live || world.unclear && live.starts_with(&replayed), "{:?} {:?}", replayed, live);
        }
    }
}
