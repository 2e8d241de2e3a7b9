#![no_main]
//! A binlog file in pieces: the pieces' size must not matter, memory stays bounded, and every parser sees every body.

use libfuzzer_sys::fuzz_target;
use tidemark::model::OpenTransaction;
use tidemark::mysql::event::{
    ChecksumAlgorithm, EventHeader, EventType, FileScanner, FormatDescription, GtidList, HEADER_BYTES, Heartbeat,
    Incident, MariadbGtidEvent, MysqlGtidEvent, QueryKind, Rotate, TransactionPayload, TransactionTracker, XaPrepare,
    parse_previous_gtids, write,
};

type Seen = (Vec<(u64, EventType, Option<OpenTransaction>)>, Result<(), String>);

fuzz_target!(|data: &[u8]| {
    let Some((&choice, file)) = data.split_first() else { return };
    // A file from its start, or from between two events without checksums (which a mutation would rarely get right).
    let scanner = || match choice & 1 {
        0 => FileScanner::new(),
        _ => FileScanner::resume(4096, ChecksumAlgorithm::Off),
    };
    let tracker = || match choice & 1 {
        0 => TransactionTracker::new(),
        _ => TransactionTracker::resume(4096, None),
    };
    let whole = read(scanner(), tracker(), file, file.len().max(1));
    let pieces = read(scanner(), tracker(), file, usize::from(choice >> 1) + 1);
    assert_eq!(whole, pieces);
    parse_all(file);
});

fn read(mut scanner: FileScanner, mut tracker: TransactionTracker, file: &[u8], piece: usize) -> Seen {
    let mut seen = Vec::new();
    for mut piece in file.chunks(piece) {
        loop {
            let event = match scanner.next_event(&mut piece) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(e) => return (seen, Err(e.to_string())),
            };
            assert!(event.raw.len() as u64 <= u64::from(event.header.event_size));
            assert!(event.body.len() + HEADER_BYTES <= event.raw.len());
            if let Err(e) = tracker.step(&event.header, event.offset, event.body) {
                return (seen, Err(e.to_string()));
            }
            seen.push((event.offset, event.header.event_type, tracker.open().cloned()));
        }
    }
    (seen, scanner.finish().map_err(|e| e.to_string()))
}

fn parse_all(body: &[u8]) {
    if let Ok(header) = EventHeader::parse(body) {
        assert_eq!(header.encode(), body[..HEADER_BYTES]);
        let rest = &body[HEADER_BYTES..];
        for event_type in [EventType::FORMAT_DESCRIPTION, EventType::HEARTBEAT, EventType::HEARTBEAT_V2] {
            let header = EventHeader { event_type, ..header };
            _ = FormatDescription::parse(&header, rest);
            _ = Heartbeat::parse(&header, rest);
        }
        _ = MariadbGtidEvent::parse(&header, rest);
        _ = write::format_for_stream(body, true);
    }
    for event_type in [EventType::GTID, EventType::ANONYMOUS_GTID, EventType::GTID_TAGGED] {
        _ = MysqlGtidEvent::parse(event_type, body);
    }
    _ = Rotate::parse(body);
    _ = GtidList::parse(body).map(|list| list.executed());
    _ = parse_previous_gtids(body);
    _ = QueryKind::parse(body);
    _ = XaPrepare::parse(body);
    _ = TransactionPayload::parse(body);
    _ = Incident::parse(body);
}
