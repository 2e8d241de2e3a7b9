use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn decoder(offset: u64, sent: u64) -> Decoder {
    let request = DumpRequest {
        start: BinlogPosition { file: "b.000001".to_owned(), offset },
        server_id: 1,
        replica_uuid: String::new(),
        heartbeat: Duration::from_secs(1),
        semi_sync: true,
        follow: false,
    };
    Decoder::new(BytesMut::new(), request, sent)
}

fn event(event_type: EventType, end: u64, body: &[u8]) -> Vec<u8> {
    let event_size = (HEADER + body.len()) as u32;
    let flags = if end == 0 { EventHeader::ARTIFICIAL } else { 0 };
    let header = EventHeader { timestamp: 0, event_type, server_id: 1, event_size, log_pos: end as u32, flags };
    [&header.encode()[..], body].concat()
}

/// As a source sends it: with a semi-sync header, in packets.
fn packets(event: &[u8]) -> Vec<u8> {
    let payload = [&[0, SEMI_SYNC_MAGIC, 1], event].concat();
    let mut out = Vec::new();
    let mut rest = payload.as_slice();
    loop {
        let (piece, tail) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        out.extend_from_slice(piece);
        rest = tail;
        if piece.len() < MAX_PAYLOAD {
            return out;
        }
    }
}

fn rotate(file: &str, offset: u64) -> Vec<u8> {
    packets(&event(EventType::ROTATE, 0, &[&offset.to_le_bytes(), file.as_bytes()].concat()))
}

/// Feeds `wire` in steps of `step` bytes; the file's bytes as they come out.
fn decoded(decoder: &mut Decoder, wire: &[u8], step: usize) -> Result<(u64, Vec<u8>), Error> {
    let (mut first, mut bytes) = (u64::MAX, Vec::new());
    for chunk in wire.chunks(step) {
        decoder.buffer().extend_from_slice(chunk);
        while let Some(item) = decoder.decode()? {
            if let DumpItem::Piece(piece) = item {
                first = first.min(piece.offset);
                assert_eq!(piece.offset, first + bytes.len() as u64);
                bytes.extend_from_slice(&piece.data);
            }
        }
    }
    Ok((first, bytes))
}

#[test]
fn events_at_the_edge_of_a_packet_come_whole_however_they_arrive() {
    for over in [0, 1, 2, 3, MAX_PAYLOAD + 3] {
        let body = vec![7; MAX_PAYLOAD - 3 - HEADER - 1 + over];
        let end = 4 + (HEADER + body.len()) as u64;
        let (big, small) = (event(EventType::WRITE_ROWS, end, &body), event(EventType::XID, end + 27, &[1; 8]));
        let wire = [rotate("b.000001", 4), packets(&big), packets(&small)].concat();
        let (first, bytes) = decoded(&mut decoder(4, 4), &wire, 1_000_003).unwrap();
        assert!(first == 4 && bytes == [big, small].concat(), "{over}");
    }
}

#[test]
fn a_start_past_32_bits_is_reached_by_passing_over_what_lies_before() {
    let events: Vec<_> = (1..=3).map(|n| event(EventType::XID, 4 + n * 27, &[n as u8; 8])).collect();
    let wire = [rotate("b.000001", 4), events.iter().flat_map(|e| packets(e)).collect()].concat();
    let (first, bytes) = decoded(&mut decoder(58, 4), &wire, 7).unwrap();
    assert_eq!((first, bytes), (58, events[2].clone()));
    assert!(matches!(decoded(&mut decoder(59, 4), &wire, 7), Err(Error::Malformed { .. })));
    let short = [wire, rotate("b.000002", 4)].concat();
    assert!(matches!(decoded(&mut decoder(1 << 33, 4), &short, 7), Err(Error::BeyondEnd { .. })));
}

#[test]
fn a_hole_in_the_stream_is_an_error() {
    let wire = [rotate("b.000001", 4), packets(&event(EventType::XID, 4 + 27 + 63, &[1; 8]))].concat();
    assert!(matches!(decoded(&mut decoder(4, 4), &wire, 64), Err(Error::OutOfStep { offset: 4, .. })));
    // Offsets past 4 GiB wrap in the header, and that is no hole.
    let far = (1 << 32) + 100;
    let wire = [rotate("b.000001", far), packets(&event(EventType::XID, far + 27, &[1; 8]))].concat();
    assert_eq!(decoded(&mut decoder(far, far), &wire, 64).unwrap().0, far);
}

proptest! {
    #[test]
    fn no_bytes_from_a_source_make_it_panic(wire in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
        let mut wire = wire;
        // Plausible packet headers reach further into the decoder.
        if let Some(head) = wire.get_mut(..5) {
            head[1..].copy_from_slice(&[0, 0, 0, 0]);
        }
        let _ = decoded(&mut decoder(4, 4), &wire, step);
    }
}
