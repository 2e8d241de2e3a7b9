use bytes::Bytes;
use proptest::prelude::*;

use super::super::checkpoint::LastRange;
use super::*;
use crate::archive::binlog_index::{FileId, RawSum, SegmentMeta};
use crate::archive::digest::RawDigest;
use crate::model::{Gtid, GtidSet};
use crate::mysql::event::{EventType, HEADER_BYTES};

const SERVER: &str = "11111111-1111-1111-1111-111111111111";
const SMALLEST: u64 = 64 << 10;
/// Whole events come in pieces up to this size, as the wire cuts them.
const WHOLE: usize = 64 << 10;

/// A binlog file as a server writes it.
#[derive(Clone)]
struct Log {
    name: String,
    bytes: Vec<u8>,
    /// Where each event begins, and where the last one ends.
    borders: Vec<usize>,
    crc: bool,
}

impl Log {
    fn new(name: &str, created_unix: u32, crc: bool) -> Log {
        let mut log = Log { name: name.to_owned(), bytes: MAGIC.to_vec(), borders: vec![4], crc };
        let mut format = 4_u16.to_le_bytes().to_vec();
        format.extend(b"9.7.4");
        format.resize(2 + 50 + 4, 0);
        format.push(HEADER_BYTES as u8);
        format.extend([0; 42]);
        format.push(crc.into());
        // The format description always has its checksum.
        log.crc = true;
        log.stamped(created_unix, EventType::FORMAT_DESCRIPTION, &format);
        log.crc = crc;
        log.event(EventType::PREVIOUS_GTIDS, &[0; 8]);
        log
    }

    fn event(&mut self, event_type: EventType, body: &[u8]) {
        self.stamped(1000, event_type, body);
    }

    fn stamped(&mut self, timestamp: u32, event_type: EventType, body: &[u8]) {
        let event_size = (HEADER_BYTES + body.len() + if self.crc { 4 } else { 0 }) as u32;
        let log_pos = self.bytes.len() as u32 + event_size;
        let header = EventHeader { timestamp, event_type, server_id: 7, event_size, log_pos, flags: 0 };
        let event = [header.encode().as_slice(), body].concat();
        self.bytes.extend(&event);
        if self.crc {
            self.bytes.extend(crc32fast::hash(&event).to_le_bytes());
        }
        self.borders.push(self.bytes.len());
    }

    /// GTID, BEGIN, a row event for each body, XID.
    fn transaction(&mut self, gno: u64, bodies: &[usize]) {
        let mut gtid = vec![0];
        gtid.extend([0x11; 16]);
        gtid.extend(gno.to_le_bytes());
        gtid.extend([2; 17]);
        gtid.extend(&(1_000_000 * gno).to_le_bytes()[..7]);
        self.event(EventType::GTID, &gtid);
        let mut begin = vec![0; 14];
        begin.extend(b"BEGIN");
        self.event(EventType::QUERY, &begin);
        for body in bodies {
            self.event(EventType::WRITE_ROWS, &vec![b'r'; *body]);
        }
        self.event(EventType::XID, &[0; 8]);
    }

    fn rotate(&mut self, next: &str) {
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(next.as_bytes());
        self.event(EventType::ROTATE, &body);
    }

    fn announced(&self, offset: u64) -> DumpItem {
        DumpItem::File(BinlogPosition { file: self.name.clone(), offset })
    }

    /// What the wire makes of the file from `start` on.
    fn items(&self, start: u64) -> Vec<DumpItem> {
        let mut items = vec![self.announced(start)];
        if start > 4 {
            items.push(DumpItem::Format(Bytes::copy_from_slice(&self.bytes[4..self.borders[1]])));
        }
        for event in self.borders.windows(2).filter(|event| event[0] as u64 >= start) {
            let event_type = EventType(self.bytes[event[0] + 4]);
            let bytes = Bytes::copy_from_slice(&self.bytes[event[0]..event[1]]);
            let pieces = bytes.len().div_ceil(WHOLE);
            for (i, data) in bytes.chunks(WHOLE).enumerate() {
                items.push(DumpItem::Piece(Piece {
                    offset: (event[0] + i * WHOLE) as u64,
                    data: bytes.slice_ref(data),
                    first: i == 0,
                    last: i + 1 == pieces,
                    event_type,
                    event_bytes: bytes.len() as u32,
                    ack_wanted: false,
                }));
            }
        }
        items
    }

    fn id(&self) -> FileId {
        FileId {
            server: SERVER.to_owned(),
            name: self.name.clone(),
            created_unix: u32::from_le_bytes(self.bytes[4..8].try_into().unwrap()),
        }
    }
}

/// Segments as the store would have them: their seal and their bytes.
#[derive(Default)]
struct Stored {
    segments: Vec<(Seal, Vec<u8>)>,
    long: Vec<(u64, u64)>,
    closed: Vec<Closing>,
    incidents: Vec<String>,
    /// Bytes of a segment that no seal ends: these must never be stored.
    cut_off: Vec<u8>,
}

impl Stored {
    fn of(cuts: Vec<Cut>) -> Stored {
        let mut stored = Stored::default();
        for cut in cuts {
            match cut {
                Cut::Raw(bytes) => stored.cut_off.extend(bytes),
                Cut::Long { start, end, .. } => stored.long.push((start, end)),
                Cut::Seal(seal) => stored.segments.push((*seal, std::mem::take(&mut stored.cut_off))),
                Cut::Incident(incident) => stored.incidents.push(incident.message),
                Cut::Close(closing) => stored.closed.push(*closing),
            }
        }
        stored
    }

    /// The file's bytes, after a check that the segments follow each other and that each knows its own length.
    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (seal, bytes) in &self.segments {
            assert_eq!(seal.meta.start, all.len() as u64, "segments follow each other");
            all.extend(bytes);
            assert_eq!(seal.meta.end, all.len() as u64, "a segment is as long as it says");
        }
        all
    }

    fn last(&self) -> &SegmentMeta {
        &self.segments.last().unwrap().0.meta
    }

    /// What a new session finds of an open file.
    fn head(&self) -> Head {
        let (seal, bytes) = self.segments.last().unwrap();
        Head {
            file: seal.meta.file.clone(),
            flavor: seal.meta.flavor,
            server_version: seal.meta.server_version.clone(),
            end: seal.meta.end,
            summary: seal.meta.summary.clone(),
            open_transaction: seal.meta.open_transaction.clone(),
            last_range: Some(LastRange { start: seal.meta.start, key: String::new(), sum: sum(bytes) }),
            closed: None,
            index: None,
        }
    }
}

fn sum(bytes: &[u8]) -> RawSum {
    let mut digest = RawDigest::new(false);
    digest.update(bytes);
    digest.sum("")
}

fn cutter(segment_bytes: u64) -> Cutter {
    Cutter::new(SERVER, Flavor::Mysql, "binlog.000009", segment_bytes)
}

/// Takes items until they end or one is refused; then what is whole is sealed, as at the end of every session.
fn run(mut cutter: Cutter, items: Vec<DumpItem>) -> (Stored, Result<(), Error>) {
    let mut cuts = Vec::new();
    let result = items.into_iter().try_for_each(|item| cutter.take(item, &mut cuts));
    cutter.seal(&mut cuts);
    (Stored::of(cuts), result)
}

fn whole(cutter: Cutter, items: Vec<DumpItem>) -> Stored {
    let (stored, result) = run(cutter, items);
    result.unwrap();
    stored
}

fn sample() -> Log {
    let mut log = Log::new("binlog.000001", 500, true);
    log.transaction(1, &[100, 200]);
    log.transaction(2, &[70_000, 300_000, 10]);
    log.transaction(3, &[50]);
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn segments_are_the_files_bytes_whatever_its_events_and_wherever_a_session_ends(
        transactions in prop::collection::vec(prop::collection::vec(0_usize..200_000, 0..5), 0..8),
        segment_bytes in SMALLEST..400_000,
        crc in any::<bool>(),
        interrupted in any::<prop::sample::Index>(),
    ) {
        let mut log = Log::new("binlog.000001", 500, crc);
        for (i, bodies) in transactions.iter().enumerate() {
            log.transaction(i as u64 + 1, bodies);
        }
        let items = log.items(4);
        let in_one_go = whole(cutter(segment_bytes), items.clone());
        prop_assert!(in_one_go.bytes() == log.bytes);
        prop_assert_eq!(in_one_go.last().summary.transactions, transactions.len() as u64);
        prop_assert!(in_one_go.segments.iter().all(|(seal, _)| log.borders.contains(&(seal.meta.end as usize))));

        let first = whole(cutter(segment_bytes), items[..interrupted.index(items.len())].to_vec());
        if first.segments.is_empty() {
            return Ok(());
        }
        let head = first.head();
        let resumed = Cutter::resume(&head, "binlog.000009", segment_bytes);
        let second = whole(resumed, log.items(Cutter::dump_start(&head)));
        let mut both = Stored { segments: first.segments, ..Stored::default() };
        both.segments.extend(second.segments);
        prop_assert!(both.bytes() == log.bytes);
        prop_assert_eq!(&both.last().summary, &in_one_go.last().summary);
        let mut gtids = GtidSet::empty(Flavor::Mysql);
        for (seal, _) in &both.segments {
            gtids.extend(&seal.meta.gtids).unwrap();
        }
        prop_assert_eq!(gtids, both.last().summary.gtids.clone());
    }
}

#[test]
fn a_damaged_event_stops_the_stream_there_and_all_before_it_is_kept() {
    let sound = sample();
    for (i, event) in sound.borders.windows(2).enumerate().skip(2) {
        let mut log = sound.clone();
        log.bytes[event[0] + HEADER_BYTES + 2] ^= 1;
        let (stored, result) = run(cutter(1 << 20), log.items(4));
        let Err(Error::Corrupt { at, .. }) = result else { panic!("event {i}: {result:?}") };
        assert_eq!(at.offset, event[0] as u64);
        let kept = stored.bytes();
        assert!(kept == sound.bytes[..kept.len()], "event {i}: the damage was archived");
        assert!(kept.len() <= event[0]);
        if event[1] - event[0] <= WHOLE && sound.borders[..=i].windows(2).all(|e| e[1] - e[0] <= WHOLE) {
            assert_eq!(kept.len(), event[0], "event {i}: what came whole before it is kept");
        }
    }
}

#[test]
fn bytes_that_differ_from_the_last_stored_segment_are_never_followed() {
    let log = sample();
    let stored = whole(cutter(1 << 20), log.items(4));
    let head = stored.head();
    let resume = |log: &Log| run(Cutter::resume(&head, "binlog.000009", 1 << 20), log.items(4)).1;
    assert!(resume(&log).is_ok());

    let mut other = Log::new("binlog.000001", 500, true);
    other.transaction(1, &[100, 200]);
    other.transaction(2, &[70_000, 300_000, 10]);
    other.transaction(4, &[50]);
    let Err(Error::Diverged { at, .. }) = resume(&other) else { panic!("other bytes, right CRCs") };
    assert_eq!(at.offset, log.bytes.len() as u64);

    let mut shorter = Log::new("binlog.000001", 500, true);
    shorter.transaction(1, &[100, 200]);
    shorter.rotate("binlog.000002");
    let mut items = shorter.items(4);
    items.push(Log::new("binlog.000002", 501, true).announced(4));
    let ended = run(Cutter::resume(&head, "binlog.000009", 1 << 20), items).1;
    assert!(matches!(ended, Err(Error::Diverged { .. })), "{ended:?}");

    let mut other_borders = Log::new("binlog.000001", 500, true);
    other_borders.transaction(1, &[400_000]);
    assert!(matches!(resume(&other_borders), Err(Error::Diverged { .. })));
}

#[test]
fn a_file_of_the_same_name_begun_at_another_time_is_another_file() {
    let stored = whole(cutter(SMALLEST), sample().items(4));
    let head = stored.head();
    let mut other = sample();
    other.bytes[4..8].copy_from_slice(&501_u32.to_le_bytes());
    let result = run(Cutter::resume(&head, "binlog.000009", SMALLEST), other.items(Cutter::dump_start(&head))).1;
    assert!(matches!(result, Err(Error::Replaced { .. })), "{result:?}");
}

#[test]
fn a_closed_file_that_goes_on_is_a_difference() {
    let mut log = sample();
    let mut head = whole(cutter(1 << 20), log.items(4)).head();
    head.last_range = None;
    head.closed = Some(crate::archive::catalog::Closed { ending: Ending::Crash, next_file: None });
    let end = Cutter::dump_start(&head);
    assert_eq!(end, log.bytes.len() as u64);
    log.transaction(4, &[1]);
    let result = run(Cutter::resume(&head, "binlog.000009", 1 << 20), log.items(end)).1;
    assert!(matches!(result, Err(Error::Diverged { .. })), "{result:?}");
}

#[test]
fn a_segment_that_ends_within_a_transaction_says_so_and_keeps_the_boundary_before_it() {
    let log = sample();
    let stored = whole(cutter(SMALLEST), log.items(4));
    let (open, between): (Vec<_>, Vec<_>) =
        stored.segments.iter().map(|(seal, _)| &seal.meta).partition(|meta| meta.open_transaction.is_some());
    assert!(open.len() >= 2 && !between.is_empty());
    for meta in open {
        let transaction = meta.open_transaction.as_ref().unwrap();
        assert!(meta.summary.boundary <= transaction.start && transaction.start < meta.end);
        assert_eq!(transaction.gtid.as_ref().map(Gtid::to_string), Some(format!("{SERVER}:2")));
        assert_eq!(meta.summary.transactions, 1);
    }
    for meta in between {
        assert_eq!(meta.summary.boundary, meta.end);
    }
}

#[test]
fn only_an_event_larger_than_a_segment_is_stored_as_one_of_its_own() {
    let overhead = HEADER_BYTES + 4;
    for (event_bytes, long) in [(SMALLEST - 1, false), (SMALLEST, false), (SMALLEST + 1, true), (5 * SMALLEST, true)] {
        let mut log = Log::new("binlog.000001", 500, true);
        log.transaction(1, &[10, event_bytes as usize - overhead, 10]);
        let stored = whole(cutter(SMALLEST), log.items(4));
        assert!(stored.bytes() == log.bytes);
        let event = log.borders.windows(2).find(|e| e[1] - e[0] == event_bytes as usize).unwrap();
        let own = (event[0] as u64, event[1] as u64);
        assert_eq!(stored.long, if long { vec![own] } else { Vec::new() }, "{event_bytes} bytes");
        let alone = stored.segments.iter().any(|(seal, _)| (seal.meta.start, seal.meta.end) == own);
        assert!(alone || !long, "{event_bytes} bytes");
    }
}

#[test]
fn a_file_closes_by_what_ended_it() {
    let second = Log::new("binlog.000002", 501, true);
    let end = |log: &Log, newest: &str| {
        let cutter = Cutter::new(SERVER, Flavor::Mysql, newest, 1 << 20);
        run(cutter, [log.items(4), second.items(4)].concat())
    };
    let mut rotated = sample();
    rotated.rotate("binlog.000002");
    let mut stopped = sample();
    stopped.event(EventType::STOP, &[]);
    for (log, ending) in [(rotated, Ending::Rotate), (stopped, Ending::Stop), (sample(), Ending::Crash)] {
        let (stored, result) = end(&log, "binlog.000002");
        result.unwrap();
        let [closing] = &stored.closed[..] else { panic!("{ending:?}: {:?}", stored.closed) };
        assert_eq!((&closing.file, &closing.ending), (&log.id(), &ending));
        assert_eq!(closing.next_file.as_deref(), Some("binlog.000002"));
        let (first, other): (Vec<_>, Vec<_>) = stored.segments.iter().partition(|(seal, _)| seal.meta.file == log.id());
        assert_eq!((first.len(), other.len()), (1, 1));
        assert!(first[0].1 == log.bytes && other[0].1 == second.bytes);
    }
    // The file being written cannot end without a word: it was replaced, and what follows may leave something out.
    let (stored, result) = end(&sample(), "binlog.000001");
    assert!(matches!(result, Err(Error::Replaced { .. })), "{result:?}");
    assert!(stored.closed.is_empty() && stored.bytes() == sample().bytes);
}

#[test]
fn bytes_out_of_order_are_refused() {
    let items = sample().items(4);
    let mut skipped = items.clone();
    skipped.remove(4);
    let mut doubled = items.clone();
    doubled.insert(4, items[3].clone());
    let nameless = items[1..].to_vec();
    let from_its_middle = sample().items(sample().borders[3] as u64);
    for items in [skipped, doubled, nameless, from_its_middle] {
        let result = run(cutter(1 << 20), items).1;
        assert!(matches!(result, Err(Error::OutOfOrder { .. })), "{result:?}");
    }
}

/// A MariaDB session may stamp its transactions as it likes. One far in the future must not make the archive claim to reach it.
#[test]
fn a_mariadb_stamp_of_0_or_in_the_future_is_no_commit_time() {
    let mut log = Log::new("binlog.000001", 1, true);
    let second = |s: i64| CommitTime(s * 1_000_000 + 999_999);
    for (seq, stamp) in [(1_u64, 0), (2, 1000), (3, u32::MAX), (4, 1060), (5, 1061), (6, 999)] {
        let gtid = [&seq.to_le_bytes()[..], &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        log.stamped(stamp, EventType::MARIADB_GTID, &gtid);
        log.stamped(stamp, EventType::QUERY, &[&[0; 14][..], b"DROP TABLE t"].concat());
    }
    let stored = |flavor, now| {
        let mut cutter = Cutter::new(SERVER, flavor, "binlog.000001", SMALLEST);
        cutter.set_clock(now);
        let (mut stored, result) = run(cutter, log.items(4));
        result.unwrap();
        stored.segments.pop().unwrap().0
    };
    let seal = stored(Flavor::Mariadb, second(1000));
    assert_eq!(seal.meta.summary.gtids.to_string(), "0-7-1..6", "every transaction is archived");
    assert_eq!(seal.meta.summary.first_commit, Some(second(1000)));
    assert_eq!(seal.meta.summary.last_commit, Some(second(1060)), "clocks may differ by a minute, not by more");
    let believed: Vec<_> = seal.commits.0.iter().map(|(commit, _)| *commit).collect();
    assert_eq!(believed, [second(1000), second(1060), second(999)]);
}

#[test]
fn an_incident_is_archived_and_told() {
    let mut log = sample();
    log.event(EventType::INCIDENT, b"\x01\0\x05lost!");
    log.transaction(4, &[1]);
    let stored = whole(cutter(1 << 20), log.items(4));
    assert!(stored.bytes() == log.bytes);
    assert_eq!(stored.incidents, ["lost!"]);
}
