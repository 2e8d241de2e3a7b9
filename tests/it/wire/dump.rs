use std::path::Path;
use std::time::Duration;

use tidemark::model::{BinlogPosition, Flavor};
use tidemark::mysql::event::{EventHeader, EventType, crc_is_right};
use tidemark::mysql::wire::{Connection, DumpItem, DumpRequest, DumpStream, Error};

use super::{connect, endpoint};
use crate::support::{Server, ServerOptions, wait_for};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

fn request(file: &str, offset: u64) -> DumpRequest {
    DumpRequest {
        start: BinlogPosition { file: file.to_owned(), offset },
        server_id: 4_000_000_001,
        replica_uuid: "5b3c4a52-0000-4000-8000-000000000001".to_owned(),
        heartbeat: Duration::from_secs(1),
        semi_sync: false,
        follow: false,
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The bytes of each file in order of arrival, each with its first offset; checks what the items promise.
async fn drain(mut stream: DumpStream) -> (Vec<(String, u64, Vec<u8>)>, u32) {
    let (mut files, mut formats): (Vec<(String, u64, Vec<u8>)>, u32) = (Vec::new(), 0);
    let mut in_event = 0;
    while let Some(item) = stream.next().await.unwrap() {
        match item {
            DumpItem::File(p) => files.push((p.file, p.offset, Vec::new())),
            DumpItem::Format(event) => {
                formats += 1;
                assert_eq!(EventHeader::parse(&event).unwrap().event_type, EventType::FORMAT_DESCRIPTION);
                assert!(crc_is_right(&event));
            }
            DumpItem::Piece(piece) => {
                let (_, start, bytes) = files.last_mut().expect("a file comes first");
                assert_eq!(piece.offset, *start + bytes.len() as u64, "no hole, no overlap");
                assert_eq!(piece.first, in_event == 0);
                assert!(piece.data.len() <= 1 << 20);
                if piece.first {
                    assert_eq!(EventHeader::parse(&piece.data).unwrap().event_type, piece.event_type);
                    in_event = piece.event_bytes as usize;
                    assert!(piece.last || in_event > 64 << 10, "small events come whole");
                }
                in_event -= piece.data.len();
                assert_eq!(piece.last, in_event == 0);
                bytes.extend_from_slice(&piece.data);
            }
            DumpItem::Heartbeat(p) => panic!("{p} while not following"),
        }
    }
    (files, formats)
}

/// The file as it is once it is closed: the flag that says it is being written is never sent.
fn on_disk(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[4 + 17] &= !1;
    bytes
}

fn write_history(server: &Server) {
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)");
    for _ in 0..20 {
        server.sql("INSERT INTO d.t (v) VALUES ('a'), (NULL); UPDATE d.t SET v = REPEAT('b', 300) WHERE id = 1");
    }
    server.sql("INSERT INTO d.t (v) VALUES (REPEAT('c', 100000)); FLUSH BINARY LOGS");
    // Rows whose events end just below, at and above the edge of a packet, and one over two packets.
    for over in -60..-20 {
        server.sql(&format!("INSERT INTO d.t (v) VALUES (REPEAT('d', {}))", 16_777_215 + over));
    }
    server.sql(
        "INSERT INTO d.t (v) VALUES (REPEAT('e', 40000000)); FLUSH BINARY LOGS; SET GLOBAL binlog_checksum = NONE",
    );
    server.sql("INSERT INTO d.t (v) VALUES ('f'), ('g'); SET GLOBAL binlog_checksum = CRC32; DROP TABLE d.t");
}

#[tokio::test]
async fn dumped_files_are_the_servers_own_byte_for_byte() {
    for options in [ServerOptions::mysql(), ServerOptions::mysql().without_gtids(), ServerOptions::mariadb()] {
        let server = options.arg("--max-allowed-packet=64M").start();
        write_history(&server);
        let paths = server.binlogs();
        let what = format!("{} gtid {}", server.flavor(), server.gtids());
        let (stream, _acks) = connect(&server).await.dump(&request(&name(&paths[0]), 4)).await.unwrap();
        let (files, formats) = drain(stream).await;
        assert_eq!((files.len(), formats), (paths.len(), 0), "{what}");
        for ((file, start, bytes), path) in files.iter().zip(&paths) {
            assert_eq!((file, *start), (&name(path), 4), "{what}");
            assert!(*bytes == on_disk(path)[4..], "{what}: {file} differs");
        }
        // From the middle: after each of the first events of the file with the large ones.
        let whole = on_disk(&paths[1]);
        let mut offset = 4usize;
        for _ in 0..8 {
            offset += EventHeader::parse(&whole[offset..]).unwrap().event_size as usize;
            let (stream, _acks) = connect(&server).await.dump(&request(&name(&paths[1]), offset as u64)).await.unwrap();
            let (files, formats) = drain(stream).await;
            assert_eq!((files[0].1, formats), (offset as u64, 1), "{what}: the format event is repeated");
            assert!(files[0].2 == whole[offset..], "{what} from {offset}");
        }
    }
}

#[tokio::test]
async fn a_source_without_news_sends_heartbeats_and_news_come_at_once() {
    for flavor in BOTH {
        let server = Server::start(ServerOptions::of(flavor));
        let path = server.binlogs().pop().unwrap();
        let follow = DumpRequest { follow: true, heartbeat: Duration::from_secs(3), ..request(&name(&path), 4) };
        let (mut stream, _acks) = connect(&server).await.dump(&follow).await.unwrap();
        let heartbeat = loop {
            match stream.next().await.unwrap().unwrap() {
                DumpItem::Heartbeat(position) => break position,
                DumpItem::File(_) | DumpItem::Piece(_) => {}
                item => panic!("{item:?}"),
            }
        };
        assert_eq!(heartbeat.file, name(&path));
        assert_eq!(heartbeat.offset, std::fs::metadata(&path).unwrap().len(), "{flavor}: the end of the file");
        server.sql("CREATE DATABASE d");
        let began = std::time::Instant::now();
        while !matches!(stream.next().await.unwrap().unwrap(), DumpItem::Piece(p) if p.event_type == EventType::QUERY) {
        }
        assert!(began.elapsed() < follow.heartbeat / 2, "it came with the next heartbeat");
        // A frozen source: nothing is heard any more.
        let mut server = server;
        server.freeze(true);
        let error = loop {
            match stream.next().await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(matches!(error, Error::Silent { .. }) && error.is_transient(), "{error}");
        server.freeze(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semi_sync_commit_waits_for_the_acknowledgement() {
    for flavor in BOTH {
        let server = ServerOptions::of(flavor).semisync_source(Duration::from_secs(600)).start();
        let path = server.binlogs().pop().unwrap();
        let semi_sync = DumpRequest { follow: true, semi_sync: true, ..request(&name(&path), 4) };
        let (mut stream, mut acks) = connect(&server).await.dump(&semi_sync).await.unwrap();
        let mut writer = connect(&server).await;
        let commit = tokio::spawn(async move { writer.exec("CREATE DATABASE d").await });
        let position =
            tokio::time::timeout(Duration::from_secs(20), wanted_ack(&mut stream, &name(&path))).await.unwrap();
        assert_eq!(stream.semi_sync_active(), Some(true));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!commit.is_finished(), "{flavor}: nobody acknowledged, so the commit must wait");
        acks.ack(&position).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), commit).await.unwrap().unwrap().unwrap();
        let clients = server.sql("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_yes_tx'");
        assert!(clients.ends_with("\t1"), "{flavor}: {clients}");
    }
}

/// Reads up to the end of an event that wants an acknowledgement.
async fn wanted_ack(stream: &mut DumpStream, file: &str) -> BinlogPosition {
    loop {
        match stream.next().await.unwrap().unwrap() {
            DumpItem::Piece(p) if p.last && p.ack_wanted => {
                return BinlogPosition { file: file.to_owned(), offset: p.offset + p.data.len() as u64 };
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_a_source_refuses_is_told_apart() {
    for flavor in BOTH {
        let server = Server::start(ServerOptions::of(flavor));
        let first = server.binlogs().remove(0);
        server.sql("CREATE USER nobody IDENTIFIED BY 'n'; FLUSH BINARY LOGS");
        let current = name(&server.binlogs().pop().unwrap());
        // MariaDB keeps a file until its background thread has noted that no crash recovery needs it.
        wait_for("the purge", Duration::from_secs(60), || {
            server.sql(&format!("PURGE BINARY LOGS TO '{current}'"));
            (server.binlogs().len() == 1).then_some(())
        });
        let purged = refusal(connect(&server).await, &request(&name(&first), 4)).await;
        assert!(matches!(&purged, Error::Purged { file, .. } if *file == name(&first)), "{flavor}: {purged}");
        let beyond = refusal(connect(&server).await, &request(&current, 1 << 30)).await;
        assert!(matches!(beyond, Error::BeyondEnd { .. }), "{flavor}: {beyond}");
        assert!(!purged.is_transient() && !beyond.is_transient());
        let nobody = Connection::connect(&endpoint(&server, "nobody", "n")).await.unwrap();
        let denied = refusal(nobody, &request(&current, 4)).await;
        assert!(matches!(denied, Error::DumpDenied { .. }), "{flavor}: {denied}");

        let follow = DumpRequest { follow: true, ..request(&current, 4) };
        let (mut first, _acks) = connect(&server).await.dump(&follow).await.unwrap();
        assert!(matches!(first.next().await.unwrap(), Some(DumpItem::File(_))));
        let (mut second, _acks) = connect(&server).await.dump(&follow).await.unwrap();
        assert!(matches!(second.next().await.unwrap(), Some(DumpItem::File(_))));
        let displaced = loop {
            match first.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{flavor}: ended without a word"),
                Err(e) => break e,
            }
        };
        assert!(matches!(displaced, Error::DuplicateReplica { .. }), "{flavor}: {displaced}");
        wait_for("the displaced stream to be gone", Duration::from_secs(10), || {
            let dumps =
                server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'");
            (dumps == "1").then_some(())
        });
    }
}

async fn refusal(connection: Connection, request: &DumpRequest) -> Error {
    match connection.dump(request).await {
        Err(e) => e,
        Ok((mut stream, _acks)) => loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the source took {request:?}"),
                Err(e) => break e,
            }
        },
    }
}
