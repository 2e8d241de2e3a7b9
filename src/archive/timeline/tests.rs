use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::archive::binlog_index::{Ending, FileSummary};
use crate::archive::catalog::{Closed, FileEncryption};
use crate::model::BinlogPosition;

/// `A:1-5` with one-letter servers instead of UUIDs.
pub(super) fn set(text: &str) -> GtidSet {
    let mut long = String::new();
    for c in text.chars() {
        match c {
            'A'..='F' => long.push_str(&format!("{0}-0000-0000-0000-000000000000", c.to_string().repeat(8))),
            c => long.push(c),
        }
    }
    GtidSet::parse(Flavor::Mysql, &long).unwrap()
}

pub(super) fn maria(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::Mariadb, text).unwrap()
}

/// `A` as in [`set`]; others as they are.
fn server_name(server: &str) -> String {
    match server {
        "A" | "B" | "C" | "D" | "E" | "F" => {
            format!("{}-0000-0000-0000-000000000000", server.to_lowercase().repeat(8))
        }
        other => other.to_owned(),
    }
}

pub(super) fn file(server: &str, number: u32, created: u32, previous: GtidSet, gtids: GtidSet) -> ArchivedFile {
    let transactions = gtids.count();
    ArchivedFile {
        id: FileId { server: server_name(server), name: format!("binlog.{number:06}"), created_unix: created },
        flavor: gtids.flavor(),
        server_version: "9.7.0".into(),
        size: 1000,
        summary: FileSummary {
            previous_gtids: previous,
            gtids,
            boundary: 1000,
            transactions,
            first_commit: Some(CommitTime(i64::from(created) * 1_000_000)),
            last_commit: (transactions > 0).then_some(CommitTime(i64::from(created) * 1_000_000 + 500_000)),
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        objects: 1,
        object_bytes: 500,
        open_transaction: None,
        closed: Some(Closed { ending: Ending::Rotate, next_file: None }),
        hole_until: None,
        encryption: FileEncryption::default(),
        further: None,
    }
}

pub(in crate::archive) fn full(server: &str, at: i64, gtids: GtidSet) -> FullHead {
    let at = Timestamp::from_second(at).unwrap();
    FullHead {
        id: format!("full-{server}-{at}"),
        flavor: gtids.flavor(),
        server_version: "9.7.0".into(),
        server: server_name(server),
        started_at: at,
        consistent_at: at,
        finished_at: at,
        gtids,
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
}

pub(super) fn timeline(fulls: &[FullHead], files: &[ArchivedFile]) -> Timeline {
    Timeline::new(fulls[0].flavor, fulls, files)
}

/// In every test: files that are told as one lead where they lead one by one.
pub(super) fn assert_same_when_folded(timeline: &Timeline, flavor: Flavor, fulls: &[FullHead], files: &[ArchivedFile]) {
    let folded = fold_all(files.to_vec(), fulls);
    if folded.len() == files.len() {
        return;
    }
    let count: u64 = folded.iter().map(ArchivedFile::count).sum();
    assert_eq!(count, files.iter().map(ArchivedFile::count).sum::<u64>());
    let mut other = Timeline::compute(flavor, fulls, &folded);
    assert_eq!(timeline.chains.len(), other.chains.len());
    let mut used_in_part = false;
    for (chain, other) in timeline.chains.iter().zip(&mut other.chains) {
        let in_part = |link: &Link| {
            let file = folded.iter().find(|file| file.id == link.file).unwrap();
            file.is_span() && !file.summary.gtids.is_subset(&other.gtids)
        };
        // How far it is known to be complete is that of its files which are used whole: of a span it is less.
        if other.links.iter().any(in_part) {
            assert!(other.latest <= chain.latest);
            used_in_part |= other.latest < chain.latest;
        }
        let taken =
            |chain: &Chain| chain.links.iter().fold(GtidSet::empty(flavor), |all, link| all.union(&link.take).unwrap());
        assert_eq!(taken(chain), taken(other));
        other.links = chain.links.clone();
    }
    if used_in_part {
        return;
    }
    assert_eq!(timeline.forks.len(), other.forks.len());
    for (fork, other) in timeline.forks.iter().zip(&mut other.forks) {
        other.files = fork.files.clone();
    }
    assert_eq!(*timeline, other);
}

pub(super) fn links(chain: &Chain) -> Vec<(String, String)> {
    let letter =
        |text: &str| text.replace("-0000-0000-0000-000000000000", "").replace("aaaaaaaa", "A").replace("bbbbbbbb", "B");
    let name = |l: &Link| (letter(&format!("{}/{}", l.file.server, l.file.name)), letter(&l.take.to_string()));
    chain.links.iter().map(name).collect()
}

pub(super) fn link(file: &str, take: &str) -> (String, String) {
    (file.into(), take.into())
}

#[test]
fn a_full_in_the_middle_takes_only_what_it_lacks() {
    let files = [
        file("A", 1, 10, set(""), set("A:1-5")),
        file("A", 2, 20, set("A:1-5"), set("A:6-9")),
        file("A", 3, 30, set("A:1-9"), set("A:10")),
    ];
    let t = timeline(&[full("A", 25, set("A:1-7"))], &files);
    assert_eq!(links(&t.chains[0]), [link("A/binlog.000002", "A:8-9"), link("A/binlog.000003", "A:10")]);
    assert_eq!(t.chains[0].gtids, set("A:1-10"));
    assert_eq!(t.windows.len(), 1);
    assert_eq!((t.windows[0].first, t.windows[0].latest), (CommitTime(25_000_000), CommitTime(30_500_000)));
    assert_eq!(t.chains[0].first_link_after(CommitTime(20_500_000)), Some(1));
    assert_eq!(t.chains[0].first_link_after(CommitTime(30_500_000)), None);
}

#[test]
fn a_gap_ends_the_window_and_the_next_full_begins_another() {
    let files = [file("A", 1, 10, set(""), set("A:1-5")), file("A", 3, 30, set("A:1-9"), set("A:10-12"))];
    let t = timeline(&[full("A", 11, set("A:1-2")), full("A", 31, set("A:1-11"))], &files);
    let ChainEnd::Gap(gap) = &t.chains[0].end else { panic!("{:?}", t.chains[0]) };
    assert_eq!(gap.missing, set("A:6-9"));
    assert_eq!(t.chains[0].gtids, set("A:1-5"));
    assert_eq!(t.chains[1].end, ChainEnd::Newest);
    assert_eq!(t.chains[1].gtids, set("A:1-12"));
    assert_eq!(t.windows.len(), 2);
}

#[test]
fn what_only_a_dead_primary_had_is_a_fork_and_is_not_replayed() {
    let files = [file("A", 1, 10, set(""), set("A:1-8")), file("B", 7, 20, set("A:1-6"), set("B:1-4"))];
    let t = timeline(&[full("A", 11, set("A:1-2"))], &files);
    assert_eq!(links(&t.chains[0]), [link("A/binlog.000001", "A:3-6"), link("B/binlog.000007", "B:1-4")]);
    assert_eq!(t.chains[0].gtids, set("A:1-6,B:1-4"));
    assert_eq!(t.live_server, Some(server_name("B")));
    assert_eq!(t.forks.len(), 1);
    assert_eq!((&t.forks[0].server, &t.forks[0].gtids), (&server_name("A"), &set("A:7-8")));
    // A full that holds the fork is never taken into the live lineage.
    let t = timeline(&[full("A", 15, set("A:1-7"))], &files);
    assert!(
        matches!(&t.chains[0].end, ChainEnd::OffLineage { beyond, cause: OffLineage::Fork } if *beyond == set("A:7"))
    );
    assert_eq!(t.chains[0].gtids, set("A:1-8"));
}

#[test]
fn fail_over_and_back_with_reused_names() {
    let files = [
        file("A", 1, 10, set(""), set("A:1-5")),
        file("B", 1, 20, set("A:1-5"), set("B:1-3")),
        file("A", 2, 30, set("A:1-5,B:1-3"), set("A:6-7")),
        file("A", 3, 40, set("A:1-7,B:1-3"), set("A:8")),
    ];
    let t = timeline(&[full("A", 9, set(""))], &files);
    let expected = [("A", 1, "A:1-5"), ("B", 1, "B:1-3"), ("A", 2, "A:6-7"), ("A", 3, "A:8")];
    let expected: Vec<_> = expected.iter().map(|(s, n, take)| link(&format!("{s}/binlog.{n:06}"), take)).collect();
    assert_eq!(links(&t.chains[0]), expected);
    assert_eq!(t.chains[0].end, ChainEnd::Newest);
    assert!(t.forks.is_empty());
}

#[test]
fn after_a_reset_equal_gtids_are_other_transactions() {
    let files = [file("A", 1, 10, set(""), set("A:1-5")), file("A", 1, 50, set(""), set("A:1-9"))];
    let t = timeline(&[full("A", 12, set("A:1-3")), full("A", 55, set("A:1-2"))], &files);
    assert!(matches!(t.chains[0].end, ChainEnd::OffLineage { cause: OffLineage::Reset, .. }), "{:?}", t.chains[0]);
    assert_eq!(t.chains[0].gtids, set("A:1-5"));
    assert_eq!(t.chains[0].links.get(0).unwrap().file.created_unix, 10);
    assert_eq!((t.chains[1].links.len(), &t.chains[1].gtids), (1, &set("A:1-9")));
    assert_eq!(t.chains[1].links.get(0).unwrap().file.created_unix, 50);
}

#[test]
fn what_a_crash_took_from_the_server_is_not_mistaken_for_what_it_wrote_next() {
    // Archived A:6-7 were lost with the crash; the server gave 6 out again.
    let files = [file("A", 1, 10, set(""), set("A:1-7")), file("A", 2, 20, set("A:1-5"), set("A:6-9"))];
    let t = timeline(&[full("A", 9, set(""))], &files);
    assert_eq!(links(&t.chains[0]), [link("A/binlog.000001", "A:1-5"), link("A/binlog.000002", "A:6-9")]);
    assert_eq!(t.forks[0].gtids, set("A:6-7"));
}

#[test]
fn a_full_that_holds_what_a_crash_took_afterwards_leads_nowhere_but_to_there() {
    let maria = |text: &str| GtidSet::parse(Flavor::Mariadb, text).unwrap();
    let taken = |gtids: GtidSet| FullHead {
        position: Some(BinlogPosition { file: "binlog.000001".to_owned(), offset: 4 }),
        position_created_unix: Some(10),
        flavor: gtids.flavor(),
        ..full("mariadb-1", 15, gtids)
    };
    let server = "mariadb-1";
    let a = [file(server, 1, 10, set(""), set("A:1-7")), file(server, 2, 20, set("A:1-5"), set("A:6-9"))];
    let m = [file(server, 1, 10, maria(""), maria("0-1-1..7")), file(server, 2, 20, maria("0-1-5"), maria("0-1-6..9"))];
    for (files, full, lost) in [(a, set("A:1-6"), set("A:6")), (m, maria("0-1-1..6"), maria("0-1-6..6"))] {
        // Also where another server went on from what the crash left.
        let mut promoted = files.to_vec();
        promoted.push(ArchivedFile {
            id: FileId { server: "mariadb-2".to_owned(), ..files[1].id.clone() },
            ..files[1].clone()
        });
        for files in [files.to_vec(), promoted] {
            let t = timeline(&[taken(full.clone())], &files);
            let ChainEnd::OffLineage { beyond, cause: OffLineage::Fork } = &t.chains[0].end else {
                panic!("{:?}", t.chains[0]);
            };
            assert_eq!(*beyond, lost);
            assert!(t.chains[0].links.iter().all(|link| link.file.name == "binlog.000001"), "{:?}", t.chains[0]);
        }
    }
}

#[test]
fn a_full_of_a_log_that_began_anew_and_is_not_archived_yet_leads_nowhere() {
    // After RESET BINARY LOGS AND GTIDS the server wrote A:1-2 anew; a full was taken before the stream had the new file.
    let full = FullHead {
        position: Some(BinlogPosition { file: "binlog.000001".to_owned(), offset: 400 }),
        position_created_unix: Some(50),
        ..full("A", 60, set("A:1-2"))
    };
    let old = file("A", 1, 10, set(""), set("A:1-14"));
    let t = timeline(std::slice::from_ref(&full), std::slice::from_ref(&old));
    assert_eq!((links(&t.chains[0]), t.chains[0].gtids.clone()), (vec![], set("A:1-2")));
    assert!(matches!(t.chains[0].end, ChainEnd::OffLineage { .. }), "{:?}", t.chains[0].end);
    // Nor where retention has taken the old file of that name, and the new log got as far as the next one's beginning.
    let later = FullHead { gtids: set("A:1-20"), ..full.clone() };
    let t = timeline(&[later], &[file("A", 4, 10, set("A:1-14"), set("A:15-30"))]);
    assert_eq!(links(&t.chains[0]), vec![]);
    // Once it has, that alone is replayed.
    let t = timeline(&[full], &[old, file("A", 1, 50, set(""), set("A:1-5"))]);
    assert_eq!((t.chains[0].links.len(), t.chains[0].links.get(0).unwrap().file.created_unix), (1, 50));
    assert_eq!((t.chains[0].gtids.clone(), t.chains[0].end.clone()), (set("A:1-5"), ChainEnd::Newest));
}

#[test]
fn a_search_back_from_a_full_keeps_to_the_log_it_was_taken_in() {
    // After RESET BINARY LOGS AND GTIDS the first file's name and the GTIDs came again.
    let files = [file("A", 1, 10, set(""), set("A:1-100")), file("A", 1, 50, set(""), set("A:1-150"))];
    let full = FullHead {
        position: Some(BinlogPosition { file: "binlog.000001".to_owned(), offset: 4 }),
        position_created_unix: Some(10),
        ..full("A", 20, set("A:1-100"))
    };
    let found = Timeline::back_from(&files, &full, &full.gtids);
    assert_eq!(found.iter().map(|file| file.id.created_unix).collect::<Vec<_>>(), [10]);
}

#[test]
fn a_server_put_back_to_an_earlier_state_gives_the_same_gtids_to_other_transactions() {
    // From 6 on the server's data directory was put back, and it began binlog.000002 anew.
    let files = [
        file("A", 1, 10, set(""), set("A:1-5")),
        file("A", 2, 20, set("A:1-5"), set("A:6-9")),
        file("A", 2, 30, set("A:1-5"), set("A:6-8")),
        file("A", 3, 40, set("A:1-8"), set("A:9-12")),
    ];
    let at = |full: FullHead, file: u32, created: u32| FullHead {
        position: Some(BinlogPosition { file: format!("binlog.{file:06}"), offset: 4 }),
        position_created_unix: Some(created),
        ..full
    };
    let fulls = [
        at(full("A", 15, set("A:1-4")), 1, 10),
        at(full("A", 25, set("A:1-7")), 2, 20),
        at(full("A", 35, set("A:1-7")), 2, 30),
        full("A", 26, set("A:1-7")),
    ];
    let t = timeline(&fulls, &files);
    assert_eq!(t.chains[0].end, ChainEnd::Newest);
    let created: Vec<_> = t.chains[0].links.iter().map(|link| link.file.created_unix).collect();
    assert_eq!(created, [10, 30, 40]);
    for i in [1, 3] {
        assert!(matches!(t.chains[i].end, ChainEnd::OffLineage { cause: OffLineage::Fork, .. }), "{:?}", t.chains[i]);
    }
    assert_eq!((t.chains[2].end.clone(), links(&t.chains[2]).len()), (ChainEnd::Newest, 2));
    assert_eq!(t.forks.iter().map(|fork| fork.gtids.clone()).collect::<Vec<_>>(), [set("A:6-9")]);
}

#[test]
fn the_order_of_files_is_that_of_numbers_and_gtids_whatever_their_stamps_say() {
    // Stamps of 2099 and of 1970, as a client or a clock may have set them.
    let stamps = [40, 4_070_908_800, 1, 30];
    let sets = ["", "A:1-5", "A:1-9", "A:1-10"];
    let own = ["A:1-5", "A:6-9", "A:10", "A:11-14"];
    let mut files: Vec<_> = (0..4).map(|i| file("A", i as u32 + 1, stamps[i], set(sets[i]), set(own[i]))).collect();
    files.push(file("B", 9, 20, set("A:1-12"), set("B:1-2")));
    // The newest commit is told by the archive's clock, not by the stamp.
    files.iter_mut().for_each(|file| file.summary.last_commit = Some(CommitTime(50_000_000)));
    let t = timeline(&[full("A", 45, set("A:1-2"))], &files);
    let taken: Vec<_> = t.chains[0].links.iter().map(|link| link.take.clone()).collect();
    assert_eq!(taken, [set("A:3-5"), set("A:6-9"), set("A:10"), set("A:11-12"), set("B:1-2")]);
    assert_eq!((t.live_server, t.chains[0].end.clone()), (Some(server_name("B")), ChainEnd::Newest));
    assert_eq!(t.forks[0].gtids, set("A:13-14"));
}

#[test]
fn a_lineage_that_committed_last_is_contested_and_a_dead_primarys_last_transactions_are_not() {
    let m = |head: &str| maria(head);
    let (shared, none) = (set("A:1-100"), set(""));
    // Server 1 wrote on for days after server 2's promotion was taken back; on MariaDB also where nothing replicated is logged.
    let cases = [
        (
            [
                file("A", 1, 10, none.clone(), shared.clone()),
                file("B", 1, 20, shared.clone(), set("B:1-5")),
                file("A", 2, 30, shared.clone(), set("A:101-900")),
            ],
            set("B:1-5"),
        ),
        (
            [
                file("mariadb-1", 1, 10, m(""), m("0-1-1..100")),
                file("mariadb-2", 1, 20, m("0-1-100"), m("0-2-101..105")),
                file("mariadb-1", 2, 30, m("0-1-100"), m("0-1-101..900")),
            ],
            m("0-2-101..105"),
        ),
        (
            [
                file("mariadb-1", 1, 10, m(""), m("0-1-1..100")),
                file("mariadb-2", 1, 20, m(""), m("0-2-101..105")),
                file("mariadb-1", 2, 30, m("0-1-100"), m("0-1-101..900")),
            ],
            m("0-2-101..105"),
        ),
    ];
    for (files, interim) in cases {
        let later = files[2].summary.gtids.clone();
        let forks = |files: &[ArchivedFile]| {
            let t = Timeline::new(interim.flavor(), &[], files);
            assert_eq!(t.live_server.as_ref(), Some(&files[1].id.server));
            assert_eq!(t.live_commit, files[1].summary.last_commit);
            t.forks
        };
        let found = forks(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].gtids, &found[0].lacks, found[0].contested), (&later, &interim, true));
        assert_eq!(found[0].last_commit, Some(CommitTime(30_500_000)));
        // The same, but server 1 died before the other one wrote last; or in that very moment, which tells nothing.
        for (died, contested) in [(20_499_999, false), (20_500_000, true)] {
            let mut files = files.clone();
            files[2].summary.last_commit = Some(CommitTime(died));
            let found = forks(&files);
            assert_eq!((found.len(), found[0].contested), (1, contested), "{died}");
        }
        // A clock that is behind: until the new primary's passes what the dead one's said.
        let mut behind = files.clone();
        behind[2].summary.last_commit = Some(CommitTime(20_600_000));
        assert!(forks(&behind)[0].contested);
        behind[1].summary.last_commit = Some(CommitTime(20_700_000));
        assert!(!forks(&behind)[0].contested);
    }
}

#[test]
fn what_a_crash_took_is_contested_until_the_server_has_committed_again() {
    let mut files = [file("A", 1, 10, set(""), set("A:1-7")), file("A", 2, 20, set("A:1-5"), set(""))];
    let t = timeline(&[full("A", 9, set(""))], &files);
    assert_eq!((t.forks[0].gtids.clone(), t.forks[0].contested), (set("A:6-7"), true));
    files[1] = file("A", 2, 20, set("A:1-5"), set("A:6-9"));
    let t = timeline(&[full("A", 9, set(""))], &files);
    assert_eq!((&t.forks[0].gtids, &t.forks[0].lacks), (&set("A:6-7"), &set("A:6-9")));
    assert!(!t.forks[0].contested);
}

#[test]
fn a_server_that_is_told_it_has_the_interim_servers_transactions_is_live_again() {
    // The old primary was given the interim one's GTIDs as empty transactions.
    let files = [
        file("A", 1, 10, set(""), set("A:1-100")),
        file("B", 1, 20, set("A:1-100"), set("B:1-5")),
        file("A", 2, 30, set("A:1-100"), set("A:101-900,B:1-5")),
    ];
    let t = timeline(&[full("A", 9, set(""))], &files);
    assert_eq!((t.live_server, t.forks), (Some(server_name("A")), vec![]));
    assert_eq!(t.chains[0].gtids, set("A:1-900,B:1-5"));
    assert!(t.chains[0].links.iter().all(|link| link.file.server == server_name("A")));
}

#[test]
fn a_full_ahead_of_the_stream_is_on_the_lineage_of_its_own_server_only() {
    let files = [file("A", 1, 10, set(""), set("A:1-5"))];
    let t = timeline(&[full("A", 20, set("A:1-8")), full("B", 20, set("A:1-8"))], &files);
    assert_eq!(t.chains[0].end, ChainEnd::Newest);
    assert!(matches!(t.chains[1].end, ChainEnd::OffLineage { cause: OffLineage::Ahead, .. }));
    assert_eq!(t.chains[1].gtids, set("A:1-8"));
}

#[test]
fn mariadb_numbers_that_two_primaries_gave_out_are_told_apart() {
    let files = [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..103")),
        file("mariadb-2", 1, 20, maria("0-1-100"), maria("0-2-101..150")),
        file("mariadb-3", 1, 30, maria("0-2-150"), maria("0-3-151..160,7-3-1..2")),
    ];
    let t = timeline(&[full("mariadb-1", 11, maria("0-1-50"))], &files);
    let takes: Vec<_> = t.chains[0].links.iter().map(|l| l.take.to_string()).collect();
    assert_eq!(takes, ["0-1-51..100", "0-2-101..150", "0-3-151..160,7-3-1..2"]);
    assert_eq!(t.chains[0].gtids, maria("0-1-50,0-1-51..100,0-2-101..150,0-3-151..160,7-3-1..2"));
    assert_eq!(t.forks.len(), 1, "{:?}", t.forks);
    assert_eq!(t.forks[0].gtids, maria("0-1-101..103"));
}

#[test]
fn mariadb_numbers_that_nobody_used_are_no_gap() {
    let files = [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..5,0-1-1000..1003")),
        file("mariadb-1", 2, 20, maria("0-1-1003"), maria("0-1-1004..1009,3-1-1..71")),
        file("mariadb-1", 3, 30, maria("0-1-1009,3-1-71"), maria("0-1-2000..2000")),
    ];
    for base in ["", "0-1-3", "0-1-1002", "0-1-1009,3-1-70"] {
        let t = timeline(&[full("mariadb-2", 11, maria(base))], &files);
        assert_eq!(t.chains[0].end, ChainEnd::Newest, "{base}");
        let GtidSet::Mariadb(all) = &t.chains[0].gtids else { panic!() };
        assert_eq!(all.position(), "0-1-2000,3-1-71");
    }
    let lost = [files[0].clone(), files[2].clone()];
    let t = timeline(&[full("mariadb-1", 11, maria("0-1-3"))], &lost);
    assert!(
        matches!(&t.chains[0].end, ChainEnd::Gap(gap) if gap.missing.to_string() == "0-?-1004..1008,0-1-1009..1009,3-1-71"),
        "{t:?}"
    );
}

#[test]
fn a_server_is_taken_forward_along_the_live_lineage_from_where_it_is() {
    let files = [
        file("A", 1, 10, set(""), set("A:1-5")),
        file("A", 2, 15, set("A:1-5"), set("A:6-8")),
        // Begun before A's last one: creation stamps say nothing about the order of two servers.
        file("B", 7, 12, set("A:1-4"), set("A:5-6,B:1-4")),
        file("B", 8, 20, set("A:1-6,B:1-4"), set("B:5")),
    ];
    let onward = |have: &str| Timeline::onward(Flavor::Mysql, &files, &set(have));
    let all =
        [link("A/binlog.000001", "A:1-4"), link("B/binlog.000007", "A:5-6,B:1-4"), link("B/binlog.000008", "B:5")];
    assert_eq!(links(&onward("")).len(), 3);
    for ((file, take), (expected, gtids)) in links(&onward("")).iter().zip(&all) {
        assert_eq!((file, take.replace('b', "B")), (expected, gtids.clone()));
    }
    assert!(onward("A:1-6,B:1-5").links.is_empty());
    let off = onward("A:1-7");
    assert!(off.links.is_empty());
    assert!(matches!(off.end, ChainEnd::OffLineage { beyond, .. } if beyond == set("A:7")));
    assert_eq!(onward("C:1-3,A:1-6,B:1-4").end, ChainEnd::Newest, "a replica's own transactions do no harm");
    let files = [
        file("mariadb-1", 1, 10, maria(""), maria("0-1-1..103")),
        file("mariadb-2", 1, 20, maria("0-1-100"), maria("0-2-101..150")),
        file("mariadb-2", 2, 30, maria("0-2-150"), maria("0-2-151..160")),
    ];
    let onward = |have: &str| Timeline::onward(Flavor::Mariadb, &files, &maria(have));
    assert!(matches!(onward("0-1-102").end, ChainEnd::OffLineage { .. }));
    assert_eq!(onward("0-2-102").links.len(), 2);
    // A full of the dead server that holds its fork.
    let t = timeline(&[full("mariadb-1", 15, maria("0-1-102"))], &files);
    assert!(matches!(t.chains[0].end, ChainEnd::OffLineage { cause: OffLineage::Fork, .. }), "{:?}", t.chains[0]);
}

fn without_gtids(number: u32, next: Option<&str>) -> ArchivedFile {
    let mut file = file("A", number, 10 * number, set(""), set(""));
    file.summary.transactions = 3;
    file.summary.last_commit = Some(CommitTime(i64::from(number) * 10_000_000 + 1));
    file.closed = Some(Closed { ending: Ending::Rotate, next_file: next.map(str::to_owned) });
    file
}

#[test]
fn without_gtids_files_follow_by_number_and_position() {
    let files = [
        without_gtids(1, None),
        without_gtids(2, Some("binlog.000003")),
        without_gtids(3, None),
        without_gtids(5, None),
    ];
    let mut base = full("A", 12, set(""));
    base.position = Some(BinlogPosition { file: "binlog.000001".into(), offset: 400 });
    let t = timeline(std::slice::from_ref(&base), &files);
    let parts: Vec<_> = t.chains[0].links.iter().map(|l| (l.file.name.as_str(), l.from, l.to)).collect();
    assert_eq!(parts, [("binlog.000001", 400, 1000), ("binlog.000002", 0, 1000), ("binlog.000003", 0, 1000)]);
    assert_eq!(t.chains[0].addressing, Addressing::Position);
    assert!(matches!(&t.chains[0].end, ChainEnd::Gap(gap) if gap.reason.contains("binlog.000005")));
    // An older file that is not whole is as good as missing.
    let mut open = files.clone();
    open[1].closed = None;
    assert_eq!(timeline(std::slice::from_ref(&base), &open).chains[0].links.len(), 2);
    base.position = None;
    assert!(matches!(&timeline(&[base], &files).chains[0].end, ChainEnd::Gap(_)));
}

/// A cluster that rotates, fails over (losing a tail) and whose archive loses files.
#[derive(Debug, Clone)]
enum Step {
    Commit(u8),
    Rotate,
    FailOver { lost: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u8..5).prop_map(Step::Commit),
        3 => Just(Step::Rotate),
        1 => (0u8..3).prop_map(|lost| Step::FailOver { lost }),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #[test]
    fn a_chain_is_the_true_history_up_to_the_first_loss(steps in steps(), dropped in prop::collection::btree_set(0usize..20, 0..3), at: prop::sample::Index) {
        // The truth: every transaction of the live lineage, in order, and the file it is in.
        let mut lineage: Vec<(String, usize)> = Vec::new();
        let mut files: Vec<(char, Vec<String>, Vec<String>)> = vec![('A', vec![], vec![])];
        let mut next = [1u64; 6];
        for step in steps {
            let (server, previous, own) = files.last().unwrap().clone();
            let here = files.len() - 1;
            match step {
                Step::Commit(n) => for _ in 0..n {
                    let number = &mut next[server as usize - 'A' as usize];
                    let gtid = format!("{server}:{number}");
                    *number += 1;
                    files.last_mut().unwrap().2.push(gtid.clone());
                    lineage.push((gtid, here));
                },
                Step::Rotate => {
                    let all = lineage.iter().map(|(g, _)| g.clone()).collect();
                    files.push((server, all, vec![]));
                }
                Step::FailOver { lost } => {
                    if server == 'F' || own.len() <= usize::from(lost) { continue; }
                    let _ = previous;
                    lineage.truncate(lineage.len() - usize::from(lost));
                    let all = lineage.iter().map(|(g, _)| g.clone()).collect();
                    files.push(((server as u8 + 1) as char, all, vec![]));
                }
            }
        }
        let last = files.len() - 1;
        let dropped: BTreeSet<usize> = dropped.into_iter().filter(|&i| i != last).collect();
        let archived: Vec<_> = files.iter().enumerate().filter(|(i, _)| !dropped.contains(i)).map(|(i, (server, previous, own))| {
            let i = u32::try_from(i).unwrap();
            file(&server.to_string(), i + 1, 10 * (i + 1), set(&previous.join(",")), set(&own.join(",")))
        }).collect();
        let begin = at.index(lineage.len() + 1);
        let names = |to: usize| set(&lineage[..to].iter().map(|(g, _)| g.as_str()).collect::<Vec<_>>().join(","));
        // The server the full is from is one that lives on, so that it is never taken to be a fork.
        let base = full(&files[last].0.to_string(), 5, names(begin));
        let t = timeline(&[base], &archived);
        let chain = &t.chains[0];
        let reach = lineage[begin..].iter().position(|(_, file)| dropped.contains(file)).map_or(lineage.len(), |n| begin + n);

        let mut covered = names(begin);
        for link in &chain.links {
            prop_assert!(link.take.intersection(&covered).is_empty());
            let source = archived.iter().find(|f| f.id == link.file).unwrap();
            prop_assert!(link.take.is_subset(&source.summary.gtids));
            prop_assert!(source.summary.previous_gtids.intersection(&names(lineage.len())).is_subset(&covered));
            covered = covered.union(&link.take).unwrap();
        }
        prop_assert_eq!(&chain.gtids, &covered);
        prop_assert_eq!(&chain.gtids, &names(reach));
        prop_assert_eq!(chain.end == ChainEnd::Newest, reach == lineage.len());
        if let ChainEnd::Gap(gap) = &chain.end {
            prop_assert!(!gap.missing.is_empty() && gap.missing.intersection(&covered).is_empty());
        }
    }
}
