use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;
use jiff::Timestamp;

use super::super::checkpoint::LastRange;
use super::*;
use crate::archive::binlog_index::{Ending, FileId, FileSummary, RawSum};
use crate::archive::catalog::{Closed, FullHead};

const OLD: &str = "11111111-1111-1111-1111-111111111111";
const NEW: &str = "22222222-2222-2222-2222-222222222222";

/// The source's files: name, creation stamp, what was executed before it.
struct Files {
    heads: BTreeMap<String, FileHead>,
    asked: Mutex<usize>,
}

impl Inspect for Files {
    type Error = String;

    async fn inspect(&self, file: &str) -> Result<FileHead, String> {
        *self.asked.lock().unwrap() += 1;
        self.heads.get(file).cloned().ok_or_else(|| format!("{file} is not there"))
    }
}

fn set(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::Mysql, text).unwrap()
}

fn name(number: u32) -> String {
    format!("binlog.{number:06}")
}

fn files(of: &[(u32, u32, &str)]) -> Files {
    let head = |created_unix, previous: &str| FileHead { created_unix, previous_gtids: set(previous) };
    let heads = of.iter().map(|(number, created, previous)| (name(*number), head(*created, previous))).collect();
    Files { heads, asked: Mutex::new(0) }
}

/// A server with those files, each of 1000 bytes.
fn source(server: &str, files: &Files) -> Source {
    let list = files.heads.keys().map(|name| (name.clone(), 1000)).collect();
    Source { server: server.to_owned(), flavor: Flavor::Mysql, gtids_on: true, files: list }
}

fn head(server: &str, number: u32, created_unix: u32, end: u64, previous: &str, own: &str) -> Head {
    let (previous_gtids, gtids) = (set(previous), set(own));
    Head {
        file: FileId { server: server.to_owned(), name: name(number), created_unix },
        flavor: Flavor::Mysql,
        server_version: "9.7.4".to_owned(),
        end,
        summary: FileSummary {
            previous_gtids,
            transactions: gtids.count(),
            gtids,
            boundary: end,
            first_commit: None,
            last_commit: None,
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        open_transaction: None,
        last_range: Some(LastRange { start: 4, key: String::new(), sum: RawSum::default() }),
        closed: None,
        index: None,
    }
}

fn closed(mut head: Head, next: Option<u32>) -> Head {
    head.closed = Some(Closed { ending: Ending::Rotate, next_file: next.map(name) });
    head
}

fn archived(heads: Vec<Head>) -> Archived {
    Archived { heads, ..Archived::default() }
}

fn find(archived: &Archived, source: &Source, files: &Files) -> Result<Start, Refusal<String>> {
    locate(archived, source, files).now_or_never().expect("nothing here waits")
}

/// The file begun with, and what is missing before it.
fn begun(archived: &Archived, source: &Source, files: &Files) -> (String, Option<String>) {
    match find(archived, source, files).unwrap() {
        Start::Resume(head) => (format!("{} at {}", head.file.name, head.end), None),
        Start::File { name, gap, .. } => {
            if let Some(gap) = &gap {
                assert_eq!(gap.resumed_at, name);
            }
            (name, gap.map(|gap| gap.missing.to_string()))
        }
    }
}

fn at(file: &str) -> (String, Option<String>) {
    (file.to_owned(), None)
}

fn gap(file: &str, missing: &str) -> (String, Option<String>) {
    (file.to_owned(), Some(missing.to_owned()))
}

#[test]
fn on_the_same_server_the_stream_goes_on_behind_its_last_byte() {
    let files = files(&[(1, 100, ""), (2, 200, &format!("{OLD}:1-5")), (3, 300, &format!("{OLD}:1-9"))]);
    let source = source(OLD, &files);
    let open = head(OLD, 2, 200, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-7"));
    assert_eq!(begun(&archived(vec![open.clone()]), &source, &files), at("binlog.000002 at 700"));
    assert_eq!(begun(&archived(vec![closed(open, Some(3))]), &source, &files), at("binlog.000003"));
    let newest = closed(head(OLD, 3, 300, 1000, &format!("{OLD}:1-9"), ""), None);
    assert_eq!(begun(&archived(vec![newest]), &source, &files), at("binlog.000003 at 1000"));
}

#[test]
fn of_several_ends_of_one_servers_files_the_source_tells_the_newest() {
    let files = files(&[(2, 4000, ""), (3, 300, &format!("{OLD}:1-9")), (4, 400, &format!("{OLD}:1-9"))]);
    let source = source(OLD, &files);
    let settled = |heads: Vec<Head>, others: Vec<Head>| {
        let mut archived = Archived { heads, others, ..Archived::default() };
        settle(&mut archived, &source, &files).now_or_never().expect("nothing here waits").unwrap();
        (begun(&archived, &source, &files), archived.others.len())
    };
    let stamped = head(OLD, 2, 4000, 1000, "", &format!("{OLD}:1-9"));
    let newest = head(OLD, 3, 300, 700, &format!("{OLD}:1-9"), "");
    assert_eq!(settled(vec![stamped.clone()], vec![newest.clone()]), (at("binlog.000003 at 700"), 1));
    assert_eq!(settled(vec![newest.clone()], vec![stamped.clone()]), (at("binlog.000003 at 700"), 1));
    // Of that name, but of before a reset.
    let other = head(OLD, 4, 399, 900, &format!("{OLD}:1-90"), &format!("{OLD}:91-99"));
    assert_eq!(settled(vec![other], vec![stamped.clone(), newest.clone()]), (at("binlog.000003 at 700"), 2));
    // Of that name, but the source was put back: that is told, and all of it read again.
    let other = head(OLD, 4, 399, 900, &format!("{OLD}:1-9"), &format!("{OLD}:10-12"));
    assert_eq!(settled(vec![other], vec![stamped, newest]), (at("binlog.000002"), 2));
}

#[test]
fn a_file_shorter_than_its_archived_part_has_diverged() {
    let files = files(&[(2, 200, "")]);
    let longer = archived(vec![head(OLD, 2, 200, 1001, "", "")]);
    let found = find(&longer, &source(OLD, &files), &files);
    assert!(matches!(found, Err(Refusal::Diverged { size: 1000, .. })), "{found:?}");
    let as_long = archived(vec![head(OLD, 2, 200, 1000, "", "")]);
    assert_eq!(begun(&as_long, &source(OLD, &files), &files), at("binlog.000002 at 1000"));
}

#[test]
fn a_purge_is_a_gap_of_exactly_what_nobody_has() {
    let files = files(&[(4, 400, &format!("{OLD}:1-12")), (5, 500, &format!("{OLD}:1-20"))]);
    let source = source(OLD, &files);
    let open = head(OLD, 2, 200, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-7"));
    assert_eq!(begun(&archived(vec![open]), &source, &files), gap("binlog.000004", &format!("{OLD}:8-12")));
    // All of the purged file was archived, and the next one is there.
    let whole = closed(head(OLD, 3, 300, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-12")), Some(4));
    assert_eq!(begun(&archived(vec![whole]), &source, &files), at("binlog.000004"));
}

#[test]
fn a_reset_begins_new_files_and_misses_nothing() {
    let files = files(&[(1, 900, "")]);
    let before = archived(vec![head(OLD, 1, 100, 1000, "", &format!("{OLD}:1-7"))]);
    assert_eq!(begun(&before, &source(OLD, &files), &files), at("binlog.000001"));
}

#[test]
fn a_source_that_was_put_back_gives_the_same_gtids_out_again_and_that_is_said() {
    // The archive has binlog.000002 of before; the source has another file of that name.
    let files = files(&[(1, 100, ""), (2, 900, &format!("{OLD}:1-5")), (3, 950, &format!("{OLD}:1-8"))]);
    let before = archived(vec![head(OLD, 2, 200, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-9"))]);
    let source = source(OLD, &files);
    let Ok(Start::File { name, gap: None, again: Some(again) }) = find(&before, &source, &files) else { panic!() };
    assert_eq!((name.as_str(), again), ("binlog.000001", set(&format!("{OLD}:6-9"))));
    // Before it gave any of them out again it just lacks them.
    let start = find(&before, &source, &files).unwrap();
    assert_eq!(fork(&before, OLD, &set(&format!("{OLD}:1-7")), &start), Some(set(&format!("{OLD}:8-9"))));
}

#[test]
fn without_gtids_what_cannot_be_proved_contiguous_is_a_gap() {
    let files = files(&[(4, 400, ""), (5, 500, "")]);
    let mut source = source(OLD, &files);
    source.gtids_on = false;
    let mut open = head(OLD, 2, 200, 700, "", "");
    open.summary.transactions = 7;
    assert_eq!(begun(&archived(vec![open.clone()]), &source, &files), gap("binlog.000004", ""));
    // Closed by a ROTATE to the oldest file that is there: nothing lies between.
    assert_eq!(begun(&archived(vec![closed(open.clone(), Some(4))]), &source, &files), at("binlog.000004"));
    assert_eq!(begun(&archived(vec![closed(open, Some(3))]), &source, &files), gap("binlog.000004", ""));
    // Another server: nothing tells where in its files the archive ends.
    let other = archived(vec![head(NEW, 2, 200, 700, "", "")]);
    assert_eq!(begun(&other, &source, &files), gap("binlog.000005", ""));
}

#[test]
fn after_a_failover_the_newest_file_before_which_all_is_archived_is_found_by_few_questions() {
    let previous: Vec<String> = (0..64).map(|i| format!("{OLD}:1-{}", 10 * i + 1)).collect();
    let list: Vec<_> = previous.iter().zip(1_u32..).map(|(gtids, i)| (i, 100 + i, gtids.as_str())).collect();
    let files = files(&list);
    let old = archived(vec![head(OLD, 9, 900, 700, &format!("{OLD}:1-300"), &format!("{OLD}:301-315"))]);
    // File 32 begins behind 1-311, file 33 behind 1-321.
    assert_eq!(begun(&old, &source(NEW, &files), &files), at("binlog.000032"));
    assert!(*files.asked.lock().unwrap() <= 7);
    let behind = archived(vec![head(OLD, 9, 900, 700, "", "")]);
    assert_eq!(begun(&behind, &source(NEW, &files), &files), gap("binlog.000001", &format!("{OLD}:1")));
}

#[test]
fn a_fail_back_goes_on_where_that_servers_own_files_ended() {
    let files = files(&[(2, 200, &format!("{OLD}:1-5")), (3, 300, &format!("{OLD}:1-9"))]);
    let newest = head(NEW, 7, 900, 400, &format!("{OLD}:1-9"), &format!("{NEW}:1-3"));
    let own = head(OLD, 2, 200, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-7"));
    assert_eq!(begun(&archived(vec![newest, own]), &source(OLD, &files), &files), at("binlog.000002 at 700"));
}

#[test]
fn what_only_a_former_primary_had_is_a_fork() {
    let old = head(OLD, 2, 200, 700, &format!("{OLD}:1-5"), &format!("{OLD}:6-9"));
    let promoted = set(&format!("{OLD}:1-7,{NEW}:1-2"));
    let start = Start::File { name: name(1), gap: None, again: None };
    let reported = fork(&archived(vec![old.clone()]), NEW, &promoted, &start);
    assert_eq!(reported, Some(set(&format!("{OLD}:8-9"))));
    assert_eq!(fork(&archived(vec![old.clone()]), NEW, &set(&format!("{OLD}:1-9")), &start), None);
    // A semi-sync source sends what it has not committed itself yet: its own archive may be ahead of it.
    assert_eq!(fork(&archived(vec![old.clone()]), OLD, &promoted, &Start::Resume(Box::new(old))), None);
    assert_eq!(fork(&archived(Vec::new()), NEW, &promoted, &start), None);
}

fn full(server: &str, gtids: &str, position: Option<(u32, u32)>) -> FullHead {
    FullHead {
        id: "f".to_owned(),
        flavor: Flavor::Mysql,
        server_version: "9.7.4".to_owned(),
        server: server.to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        consistent_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        gtids: set(gtids),
        position: position.map(|(number, _)| BinlogPosition { file: name(number), offset: 500 }),
        position_created_unix: position.map(|(_, created)| created),
        prepared_xa: None,
        log_slave_updates: None,
        recipients: Vec::new(),
        method: "logical".to_owned(),
        objects: 1,
        bytes: 1,
        raw_bytes: 1,
        trace_id: String::new(),
    }
}

#[test]
fn a_fresh_archive_begins_at_the_oldest_fulls_file_or_else_at_the_current_one() {
    let files =
        files(&[(2, 200, &format!("{OLD}:1-5")), (3, 300, &format!("{OLD}:1-9")), (4, 400, &format!("{OLD}:1-12"))]);
    let source = source(OLD, &files);
    let with = |fulls: Vec<FullHead>| begun(&Archived { fulls, ..Archived::default() }, &source, &files);
    assert_eq!(with(Vec::new()), at("binlog.000004"));
    let gtids = format!("{OLD}:1-10");
    assert_eq!(with(vec![full(OLD, &gtids, Some((3, 300)))]), at("binlog.000003"));
    // Of the same name, but begun at another time (a reset): its GTIDs decide.
    assert_eq!(with(vec![full(OLD, &gtids, Some((4, 399)))]), at("binlog.000003"));
    // Of a former primary: its GTIDs decide.
    assert_eq!(with(vec![full(NEW, &gtids, Some((4, 400)))]), at("binlog.000003"));
    // The oldest full is out of reach, the next is not.
    let purged = full(OLD, &format!("{OLD}:1-3"), Some((1, 100)));
    assert_eq!(with(vec![purged.clone(), full(OLD, &gtids, Some((3, 300)))]), at("binlog.000003"));
    assert_eq!(with(vec![purged]), gap("binlog.000002", &format!("{OLD}:4-5")));
}

#[test]
fn a_source_that_cannot_be_asked_or_lists_nothing_is_no_place_to_begin() {
    let none = files(&[]);
    assert!(matches!(find(&archived(Vec::new()), &source(OLD, &none), &none), Err(Refusal::NoFiles)));
    let listed = source(OLD, &files(&[(2, 200, "")]));
    let asked = find(&archived(vec![head(OLD, 2, 200, 700, "", "")]), &listed, &none);
    assert!(matches!(asked, Err(Refusal::Inspect(_))), "{asked:?}");
}
