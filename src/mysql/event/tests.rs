use super::*;
use crate::model::gtid::MariadbGtid;
use crate::model::{BinlogPosition, Flavor};
use write::Source;

const PLAIN: Source = Source { server_id: 7, checksum: ChecksumAlgorithm::Off };
const CRC: Source = Source { server_id: 7, checksum: ChecksumAlgorithm::Crc32 };

fn at(offset: u64) -> BinlogPosition {
    BinlogPosition { file: "binlog.000042".into(), offset }
}

/// Header and body of a made-up event, which must be what its header says.
fn taken_apart(event: &[u8], source: Source) -> (EventHeader, &[u8]) {
    let header = EventHeader::parse(event).unwrap();
    assert_eq!((header.event_size as usize, header.server_id), (event.len(), source.server_id));
    assert!(header.is_artificial() && header.timestamp == 0);
    assert_eq!(crc_is_right(event), source.checksum == ChecksumAlgorithm::Crc32);
    (header, &event[HEADER_BYTES..event.len() - source.checksum.bytes()])
}

#[test]
fn a_made_up_rotate_names_the_file_and_the_place_in_it() {
    for source in [PLAIN, CRC] {
        for offset in [4, 1 << 33] {
            let event = source.fake_rotate(&at(offset));
            let (header, body) = taken_apart(&event, source);
            assert_eq!((header.event_type, header.log_pos), (EventType::ROTATE, 0));
            assert_eq!(Rotate::parse(body).unwrap(), Rotate { next_file: "binlog.000042".into(), position: offset });
        }
    }
    for name in [&b""[..], b"../x", b"a\0b", b"\xff"] {
        assert!(Rotate::parse(&[&[4, 0, 0, 0, 0, 0, 0, 0], name].concat()).is_err(), "{name:?}");
    }
}

#[test]
fn a_heartbeat_is_of_the_first_version_up_to_4_gib_and_of_the_second_beyond() {
    let most = u64::from(u32::MAX);
    for source in [PLAIN, CRC] {
        for (offset, expected) in [
            (4, EventType::HEARTBEAT),
            (most, EventType::HEARTBEAT),
            (most + 1, EventType::HEARTBEAT_V2),
            (u64::MAX, EventType::HEARTBEAT_V2),
        ] {
            let event = source.heartbeat(&at(offset));
            let (header, body) = taken_apart(&event, source);
            assert_eq!(header.event_type, expected);
            assert_eq!(Heartbeat::parse(&header, body).unwrap(), Heartbeat { file: "binlog.000042".into(), offset });
            for cut in 1..body.len().min(12) {
                let cut = Heartbeat::parse(&header, &body[..cut]);
                assert!(cut.is_err() || cut.unwrap().file != "binlog.000042", "half a name is not the name");
            }
        }
    }
}

#[test]
fn until_reached_says_which_transactions() {
    let gtids = [MariadbGtid { domain: 0, server: 1, seq: 9 }, MariadbGtid { domain: 3, server: 2, seq: 1 << 40 }];
    let event = CRC.until_reached(&gtids, 400);
    let (header, body) = taken_apart(&event, CRC);
    assert_eq!((header.event_type, header.log_pos), (EventType::GTID_LIST, 400));
    let list = GtidList::parse(body).unwrap();
    assert_eq!((list.gtids.as_slice(), list.until_reached), (gtids.as_slice(), true));
    assert!(GtidList::parse(&body[..body.len() - 1]).is_err());
}

#[test]
fn an_incident_has_a_number_and_words() {
    let incident = |body: &[u8]| Incident::parse(body).map(|i| (i.number, i.message));
    assert_eq!(incident(b"\x01\x00\x04LOST").unwrap(), (1, "LOST".to_owned()));
    assert_eq!(incident(b"\x01\x00").unwrap(), (1, String::new()));
    assert!(incident(b"\x01\x00\x05LOST").is_err() && incident(b"\x01").is_err());
}

#[test]
fn a_compressed_transaction_says_its_sizes_before_its_payload() {
    // Compression, payload size, uncompressed size, as mysqld 9.7 writes them; then an unknown field, and the end.
    let body = [2, 1, 0, 3, 3, 252, 0x10, 0x27, 1, 1, 99, 7, 1, 5, 0, 0xaa, 0xbb];
    let payload = TransactionPayload::parse(&body).unwrap();
    let expected = TransactionPayload { zstd: true, payload_bytes: 99, uncompressed_bytes: 10_000, payload_at: 15 };
    assert_eq!(payload, expected);
    assert!(!TransactionPayload::parse(&[2, 3, 252, 255, 0, 0]).unwrap().zstd, "255 is no compression");
    for cut in 0..15 {
        assert!(TransactionPayload::parse(&body[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_xa_prepare_says_which_branch() {
    let body = [&[1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0][..], b"x2b"].concat();
    let xa = XaPrepare::parse(&body).unwrap();
    assert_eq!(xa, XaPrepare { one_phase: true, format_id: 7, global: b"x2".into(), branch: b"b".into() });
    assert!(XaPrepare::parse(&body[..body.len() - 1]).is_err());
    let long = [&[0, 7, 0, 0, 0, 65, 0, 0, 0, 0, 0, 0, 0][..], &[b'x'; 65]].concat();
    assert!(XaPrepare::parse(&long).is_err(), "no XA id is that long");
}

#[test]
fn an_encrypted_file_is_refused_with_the_way_out() {
    let scan = |mut bytes: &[u8]| FileScanner::new().scan(&mut bytes).map(|_| ()).unwrap_err().to_string();
    assert!(scan(b"\xfdbin").contains("read it through the server"), "encrypted by MySQL");
    let start = event(EventType::START_ENCRYPTION, &[0; 17]);
    let mut scanner = FileScanner::resume(256, ChecksumAlgorithm::Off);
    let error = scanner.next_event(&mut start.as_slice()).unwrap_err().to_string();
    assert!(error.contains("at 256") && error.contains("read it through the server"), "{error}");
    let header = EventHeader::parse(&start).unwrap();
    assert!(TransactionTracker::resume(256, None).step(&header, 256, &[]).is_err());
}

/// Found by fuzzing: a field number of 64 ones.
#[test]
fn a_tagged_gtid_with_the_highest_field_number_is_refused() {
    let fields = [&[0x02, 0x80, 0x00][..], &[0xff; 9]].concat();
    for body in [fields.clone(), [fields, vec![0xff; 200]].concat()] {
        assert!(MysqlGtidEvent::parse(EventType::GTID_TAGGED, &body).is_err());
    }
}

/// An event without a checksum.
fn event(event_type: EventType, body: &[u8]) -> Vec<u8> {
    let event_size = (HEADER_BYTES + body.len()) as u32;
    let header = EventHeader { timestamp: 1, event_type, server_id: 1, event_size, log_pos: 0, flags: 0 };
    [header.encode().as_slice(), body].concat()
}

mod tracking {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// What a transaction does, or something that is none.
    #[derive(Clone, Debug)]
    enum Shape {
        Rows(u8),
        Ddl,
        Compressed,
        Xa(u8),
        BetweenTransactions,
    }

    fn query(statement: &[u8]) -> Vec<u8> {
        event(EventType::QUERY, &[&[0; 8][..], &[0], &[0; 2], &[0; 2], &[0], statement].concat())
    }

    fn mysql(gno: u64, shape: &Shape) -> Vec<Vec<u8>> {
        let rest = match shape {
            Shape::Rows(rows) => [vec![query(b"BEGIN")], rows_of(*rows), vec![event(EventType::XID, &[0; 8])]].concat(),
            Shape::Ddl => vec![query(b"CREATE TABLE t (id INT)")],
            Shape::Compressed => vec![event(EventType::TRANSACTION_PAYLOAD, &[0; 9])],
            Shape::Xa(rows) => {
                let end = vec![query(b"XA END X'01'"), event(EventType::XA_PREPARE, &[0; 13])];
                [vec![query(b"XA START X'01'")], rows_of(*rows), end].concat()
            }
            Shape::BetweenTransactions => return vec![event(EventType::IGNORABLE, &[0; 3])],
        };
        let mut body = [&[1][..], &[9; 16], &gno.to_le_bytes(), &[2], &[0; 16], &[1; 7], &[254]].concat();
        let length = HEADER_BYTES + body.len() + 8 + rest.iter().map(Vec::len).sum::<usize>();
        body.extend_from_slice(&(length as u64).to_le_bytes());
        [vec![event(EventType::GTID, &body)], rest].concat()
    }

    fn mariadb(seq: u64, shape: &Shape) -> Vec<Vec<u8>> {
        let gtid = |flags: u8| {
            vec![event(EventType::MARIADB_GTID, &[&seq.to_le_bytes()[..], &[0; 4], &[flags], &[0; 6]].concat())]
        };
        let rest = match shape {
            Shape::Rows(rows) => [gtid(0), rows_of(*rows), vec![event(EventType::XID, &[0; 8])]],
            Shape::Ddl => [gtid(MariadbGtidEvent::STANDALONE), vec![], vec![query(b"CREATE TABLE t (id INT)")]],
            Shape::Compressed => {
                [gtid(MariadbGtidEvent::STANDALONE), vec![], vec![event(EventType::QUERY_COMPRESSED, &[0; 20])]]
            }
            Shape::Xa(rows) => {
                let end = vec![query(b"XA END X'01'"), event(EventType::XA_PREPARE, &[0; 13])];
                [gtid(MariadbGtidEvent::PREPARED_XA), rows_of(*rows), end]
            }
            Shape::BetweenTransactions => return vec![event(EventType::BINLOG_CHECKPOINT, &[0; 6])],
        };
        rest.concat()
    }

    fn rows_of(rows: u8) -> Vec<Vec<u8>> {
        let rows = (0..rows).map(|n| event(EventType::WRITE_ROWS, &vec![0; usize::from(n)]));
        std::iter::once(event(EventType::TABLE_MAP, &[0; 9])).chain(rows).collect()
    }

    fn shapes() -> impl Strategy<Value = Vec<Shape>> {
        let shape = prop_oneof![
            (0..4_u8).prop_map(Shape::Rows),
            Just(Shape::Ddl),
            Just(Shape::Compressed),
            (0..3_u8).prop_map(Shape::Xa),
            Just(Shape::BetweenTransactions),
        ];
        prop::collection::vec(shape, 1..12)
    }

    /// A transaction's GTID, its first byte, and one past its last.
    type Bounds = (String, u64, u64);

    /// The transactions as the tracker finds them, and whether one is left open.
    fn track(start: u64, events: &[Vec<u8>]) -> Result<(Vec<Bounds>, bool), TrackError> {
        let (mut tracker, mut offset, mut found) = (TransactionTracker::resume(start, None), start, Vec::new());
        for event in events {
            let header = EventHeader::parse(event).unwrap();
            if let Step::Ended(t) = tracker.step(&header, offset, &event[HEADER_BYTES..])? {
                found.push((t.gtid.unwrap().to_string(), t.start, t.end));
            }
            offset += event.len() as u64;
        }
        Ok((found, tracker.open().is_some()))
    }

    fn groups(flavor: Flavor, shapes: &[Shape]) -> Vec<Vec<Vec<u8>>> {
        let make = if flavor == Flavor::Mysql { mysql } else { mariadb };
        shapes.iter().zip(1..).map(|(shape, number)| make(number, shape)).collect()
    }

    proptest! {
        #[test]
        fn every_sequence_of_transactions_is_split_at_their_ends(shapes in shapes(), mysql: bool, start in 4..1_u64 << 40) {
            let groups = groups(if mysql { Flavor::Mysql } else { Flavor::Mariadb }, &shapes);
            let mut at = start;
            let mut expected = Vec::new();
            for (group, shape) in groups.iter().zip(&shapes) {
                let end = at + group.iter().map(|event| event.len() as u64).sum::<u64>();
                if !matches!(shape, Shape::BetweenTransactions) {
                    expected.push((at, end));
                }
                at = end;
            }
            let (found, open) = track(start, &groups.concat()).unwrap();
            prop_assert!(!open);
            prop_assert_eq!(found.into_iter().map(|(_, start, end)| (start, end)).collect::<Vec<_>>(), expected);
        }

        /// MySQL states each transaction's length, so that nothing of it can go missing. MariaDB does not: there every transaction
        /// that is found whole is one that was written, and none swallows another.
        #[test]
        fn an_event_left_out_is_noticed_or_moves_no_boundary(shapes in shapes(), mysql: bool, which: Index) {
            let flavor = if mysql { Flavor::Mysql } else { Flavor::Mariadb };
            let groups = groups(flavor, &shapes);
            let places: Vec<_> = groups.iter().enumerate().flat_map(|(g, group)| (0..group.len()).map(move |e| (g, e))).collect();
            let (group, position) = places[which.index(places.len())];
            let mut fewer = groups.clone();
            fewer[group].remove(position);
            let of_transaction = !matches!(shapes[group], Shape::BetweenTransactions);
            match track(4, &fewer.concat()) {
                Err(_) => prop_assert!(of_transaction),
                Ok((_, open)) if mysql && of_transaction => prop_assert!(open, "{:?} lost event {position}", shapes[group]),
                Ok((found, _)) => {
                    let mut at = 4;
                    let mut bounds = Vec::new();
                    for group in &fewer {
                        let end = at + group.iter().map(|event| event.len() as u64).sum::<u64>();
                        bounds.push((at, end));
                        at = end;
                    }
                    for (gtid, start, end) in found {
                        prop_assert!(bounds.contains(&(start, end)), "{gtid} is said to be {start}..{end}, of {bounds:?}");
                    }
                }
            }
        }
    }
}
