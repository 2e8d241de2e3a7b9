//! What the stream does when the source, the network or the store misbehaves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;

use tidemark::archive::crypt::Recipients;
use tidemark::archive::segment::{SegmentReader, SegmentWriter, read_meta};
use tidemark::archive::store::Condition;

use super::*;
use crate::support::{free_port, tidemark_command};

/// What a [`Proxy`] does to what passes it.
#[derive(Default)]
struct Mischief {
    /// Flips a byte of this text, this many times, on its way to the client.
    damage: Option<&'static str>,
    damages_left: AtomicU32,
    /// Answers HTTP requests by 503.
    unavailable: AtomicBool,
}

/// Stands between a client and a server.
struct Proxy {
    port: u16,
    mischief: Arc<Mischief>,
}

impl Proxy {
    fn start(to: u16, mischief: Mischief) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), mischief: Arc::new(mischief) };
        let mischief = proxy.mischief.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mischief = mischief.clone();
                thread::spawn(move || {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                    let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let upwards = mischief.clone();
                    thread::spawn(move || carry(from, into, &upwards, false));
                    carry(server, client, &mischief, true);
                });
            }
        });
        proxy
    }
}

fn carry(mut from: TcpStream, mut into: TcpStream, mischief: &Mischief, to_client: bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer) {
        let bytes = &mut buffer[..read];
        if !to_client && mischief.unavailable.load(Ordering::SeqCst) {
            let _ = from.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            break;
        }
        if let (true, Some(text)) = (to_client, mischief.damage)
            && let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes())
            && mischief
                .damages_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
        {
            bytes[at] ^= 1;
        }
        if read == 0 || into.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
}

fn table(server: &Server) {
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
}

/// How a stream ends that nobody stops.
fn end(server: &Server, store: &Store) -> (Error, StreamReading) {
    let streaming = Streaming::start(config(), server, store);
    let Streaming { runtime, task, status, .. } = streaming;
    let ended = runtime.block_on(async { tokio::time::timeout(LONG, task).await });
    (ended.expect("the stream stops by itself").unwrap().unwrap_err(), status.read())
}

#[test]
fn an_event_damaged_at_the_source_stops_the_stream_and_is_never_archived() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        table(&server);
        server.sql("INSERT INTO d.t (b) VALUES ('sound')");
        let sound = server.gtids();
        server.sql("INSERT INTO d.t (b) VALUES ('to be damaged')");
        server.sql("INSERT INTO d.t (b) VALUES ('after')");
        let path = server.binlogs().pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(13).rposition(|window| window == b"to be damaged").unwrap();
        bytes[at] ^= 1;
        std::os::unix::fs::FileExt::write_at(
            &File::options().write(true).open(&path).unwrap(),
            &bytes[at..=at],
            at as u64,
        )
        .unwrap();

        let (error, reading) = end(&server, &store);
        assert!(matches!(error, Error::Corrupt { .. }), "{flavor}: {error}");
        assert!(error.to_string().contains("wrong CRC32"), "{error}");
        assert_eq!(
            (reading.stopped, reading.errors["corrupt"]),
            (Some("corrupt"), 4),
            "{flavor}: it was read again thrice"
        );
        let file = catalog(&store).files.pop().unwrap();
        assert!(file.size <= at as u64, "{flavor}: the damage was archived");
        assert_eq!(
            as_the_server_says(&reading.durable_gtids.unwrap()),
            sound,
            "{flavor}: all before the damage is archived"
        );
    }
}

#[test]
fn an_event_damaged_on_the_way_is_read_again() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        table(&server);
        server.sql("INSERT INTO d.t (b) VALUES ('damage me')");
        let proxy = Proxy::start(
            server.port(),
            Mischief { damage: Some("damage me"), damages_left: AtomicU32::new(2), ..Mischief::default() },
        );
        let through = Endpoint { port: proxy.port, ..endpoint(&server) };
        let streaming = Streaming::start_at(config(), through, &store);
        let reading = streaming.caught_up(&server);
        assert!(reading.errors.contains_key("corrupt") && reading.stopped.is_none(), "{flavor}: {reading:?}");
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn archived_bytes_that_differ_from_the_sources_stop_the_stream_and_stay() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        table(&server);
        server.sql("INSERT INTO d.t (b) VALUES ('archived')");
        let streaming = Streaming::start(config(), &server, &store);
        streaming.caught_up(&server);
        streaming.stop();
        // Another history of the same file: a valid segment with one other byte.
        let file = catalog(&store).files.pop().unwrap();
        let last = wait_on(load_ranges(&store, &file)).unwrap().pop().unwrap();
        let meta = wait_on(read_meta(&store, &last.object)).unwrap();
        let mut raw = wait_on(async {
            let mut reader = SegmentReader::open(&store, last.object.clone()).await.unwrap();
            let mut raw = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                raw.extend_from_slice(&piece);
            }
            raw
        });
        let at = raw.len() - 1;
        raw[at] ^= 1;
        let mut writer = SegmentWriter::new(Compression::default(), &Recipients::default()).unwrap();
        writer.write(&raw).unwrap();
        let other = writer.finish(meta).unwrap().object;
        let _ = wait_on(store.put(&last.object.key(), other.clone(), Condition::Overwrite)).unwrap();

        server.sql("INSERT INTO d.t (b) VALUES ('more')");
        let (error, reading) = end(&server, &store);
        assert!(matches!(error, Error::Diverged { .. }), "{flavor}: {error}");
        assert!(error.to_string().contains("differs from what is archived"), "{error}");
        assert_eq!(reading.stopped, Some("diverged"));
        assert_eq!(wait_on(store.get(&last.object.key())).unwrap(), other, "{flavor}: nothing was overwritten");
        assert_eq!(catalog(&store).files.pop().unwrap().size, file.size, "{flavor}: nothing was added");
    }
}

#[test]
fn two_streamers_of_one_source_agree() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).start();
        table(&server);
        let other = StreamConfig { flush_interval: Duration::from_millis(37), segment_bytes: 100 << 10, ..config() };
        let streams = [Streaming::start(config(), &server, &store), Streaming::start(other, &server, &store)];
        for i in 0..60 {
            server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 30000)), (REPEAT('y', 150000))");
            if i % 10 == 3 {
                server.sql("INSERT INTO d.t (b) VALUES (REPEAT('z', 3000000)); FLUSH BINARY LOGS");
            }
        }
        for streaming in streams {
            let reading = streaming.caught_up(&server);
            assert!(reading.errors.is_empty() && reading.gaps.is_empty(), "{flavor}: {reading:?}");
            streaming.stop();
        }
        let files = assert_identical(&store, &server);
        assert!(files.iter().rev().skip(1).all(|file| file.closed.is_some()));
    }
}

#[test]
fn a_kill_on_a_new_connection_or_before_an_acknowledgement_loses_nothing() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor).semisync_source(Duration::from_secs(3600)).start();
        let rows = "INSERT INTO d.t (b) VALUES (REPEAT('x', 3000));".repeat(1500);
        let create = "CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB);";
        let mut client = server.client();
        client.arg(format!("--execute={create} {rows}"));
        let mut client = Process::spawn(client);
        for pass in [0, 3, 11] {
            let failpoint = "binlog::ack::before";
            let mut child = StreamerProcess { failpoint, pass, semi_sync: true, ..StreamerProcess::default() }
                .start(&server, folder.path());
            assert!(!child.wait(LONG).success(), "{flavor}: {}", child.output());
            assert!(client.try_wait().is_none(), "{flavor}: a commit waits for its acknowledgement");
            let mut child = StreamerProcess {
                failpoint: "binlog::session::reconnect",
                semi_sync: true,
                ..StreamerProcess::default()
            }
            .start(&server, folder.path());
            wait_for("the streamer to be killed as it connects again", LONG, || {
                for row in
                    server.rows("SELECT ID FROM INFORMATION_SCHEMA.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
                {
                    let _ = server.try_sql(&format!("KILL {}", row[0]));
                }
                child.try_wait()
            });
        }
        let acknowledge = Acknowledge::ObjectStore;
        let streaming = Streaming::start(StreamConfig { acknowledge, ..config() }, &server, &store);
        assert!(client.wait(LONG * 3).success(), "{flavor}: {}", client.output());
        streaming.caught_up(&server);
        streaming.stop();
        assert_eq!(server.sql("SELECT COUNT(*) FROM d.t"), "1500");
        assert_identical(&store, &server);
    }
}

#[test]
fn a_store_that_hangs_or_refuses_under_load_is_waited_for_in_bounded_memory() {
    let mut s3 = S3Server::start();
    let port = s3.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port, Mischief::default());
    let store = self::s3(&s3);
    let server = ServerOptions::mysql().start();
    table(&server);
    let endpoint = format!("http://127.0.0.1:{}", proxy.port);
    let mut child = StreamerProcess {
        segment_bytes: None,
        s3: Some(&s3),
        s3_endpoint: Some(&endpoint),
        ..StreamerProcess::default()
    }
    .start(&server, Path::new(""));
    let load = |rows: usize| {
        for _ in 0..rows {
            server.sql("INSERT INTO d.t (b) VALUES (RANDOM_BYTES(1024)); INSERT INTO d.t (b) VALUES (REPEAT(RANDOM_BYTES(1000), 900))");
        }
    };
    load(10);
    archived_all(&store, &server);
    proxy.mischief.unavailable.store(true, Ordering::SeqCst);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        load(5);
    }
    assert!(!has_all(&store, &server));
    child.wait_for_line("the store failed", LONG);
    proxy.mischief.unavailable.store(false, Ordering::SeqCst);
    archived_all(&store, &server);
    s3.freeze(true);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        load(5);
    }
    s3.freeze(false);
    archived_all(&store, &server);
    assert!(child.try_wait().is_none(), "{}", child.output());
    let peak = child.peak_anon_bytes() >> 20;
    println!("{peak} MiB at most");
    assert!(peak <= 64, "{peak} MiB");
    child.kill9();
    assert_identical(&store, &server);
}

#[test]
fn a_store_that_turns_a_running_stream_away_is_named_and_the_stream_goes_on_once_it_is_put_right() {
    let mut s3 = S3Server::start();
    let store = self::s3(&s3);
    let server = ServerOptions::mysql().start();
    table(&server);
    let streaming = Streaming::start(config(), &server, &store);
    streaming.caught_up(&server);
    let refused = |names: &str| {
        server.sql("INSERT INTO d.t (b) VALUES ('while the store refuses us'); FLUSH BINARY LOGS");
        server.sql("INSERT INTO d.t (b) VALUES ('and in the next file')");
        streaming.wait("the refusal to be told", |s| {
            s.store_failing && s.last_error.as_ref().is_some_and(|error| error.to_string().contains(names))
        });
    };
    let goes_on = || {
        let reading = streaming.caught_up(&server);
        assert!(!streaming.wait("recovery", |s| !s.store_failing).store_failing);
        assert!(reading.gaps.is_empty() && reading.forks.is_empty() && reading.losses.is_empty(), "{reading:?}");
        assert!(reading.errors.contains_key("store"), "{reading:?}");
    };
    let secret = s3.secret_key().to_owned();
    s3.restart_with_secret("another-secret");
    refused("correct the access key and the secret key");
    s3.restart_with_secret(&secret);
    goes_on();

    let (bucket, aside) = (s3.objects(), s3.objects().with_file_name("aside"));
    std::fs::rename(&bucket, &aside).unwrap();
    refused("the bucket (or container) does not exist");
    std::fs::rename(&aside, &bucket).unwrap();
    goes_on();
    assert_identical(&store, &server);

    // A bucket that is made anew holds nothing of what was stored: that is said, and the log archived anew from a file's beginning.
    std::fs::remove_dir_all(&bucket).unwrap();
    refused("the bucket (or container) does not exist");
    s3.create_bucket(s3.bucket());
    streaming.caught_up(&server);
    let reading = streaming.wait("the loss to be told", |s| !s.losses.is_empty());
    assert!(reading.losses[0].contains("take a full backup now"), "{reading:?}");
    streaming.stop();
    assert_identical(&store, &server);
}

#[test]
fn a_full_store_is_told_and_the_stream_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount =
        |args: &[&str]| assert!(Command::new(args[0]).args(&args[1..]).arg(folder.path()).status().unwrap().success());
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tidemark-test"]);
    let store = fs(folder.path());
    let server = ServerOptions::mysql().start();
    table(&server);
    let none = StreamConfig { compression: Compression::None, ..config() };
    let streaming = Streaming::start(none, &server, &store);
    for _ in 0..8 {
        server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 900000))");
    }
    let reading = streaming.wait("the full store to be told", |s| s.store_failing && s.last_error.is_some());
    assert!(reading.last_error.as_ref().unwrap().to_string().contains("No space left"), "{reading:?}");
    mount(&["mount", "-o", "remount,size=40m"]);
    streaming.caught_up(&server);
    assert!(!streaming.wait("recovery", |s| !s.store_failing).store_failing);
    streaming.stop();
    assert_identical(&store, &server);
    mount(&["umount"]);
}

#[test]
fn an_incident_that_the_source_logged_is_archived_and_told() {
    for flavor in FLAVORS {
        let folder = tempfile::tempdir().unwrap();
        let store = fs(folder.path());
        let server = ServerOptions::of(flavor)
            .arg("--max-binlog-stmt-cache-size=4096")
            .arg("--binlog-stmt-cache-size=4096")
            .arg("--max-allowed-packet=64M")
            .start();
        server.sql("CREATE DATABASE d; CREATE TABLE d.m (b LONGBLOB) ENGINE=MyISAM");
        let streaming = Streaming::start(config(), &server, &store);
        // A table that cannot roll back, a change too large for the log: the server changes the rows and logs an incident.
        let refused =
            server.try_sql("INSERT INTO d.m VALUES (REPEAT('x', 100000)), (REPEAT('y', 100000))").unwrap_err();
        let reading = streaming.caught_up(&server);
        assert_eq!(reading.incidents.len(), 1, "{flavor}: {refused} {reading:?}");
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn encrypted_binlogs_of_mariadb_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = fs(folder.path());
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("1;{}\n", "0123456789abcdef".repeat(4))).unwrap();
    let mut server = ServerOptions::mariadb()
        .arg("--plugin-load-add=file_key_management")
        .arg(&format!("--loose-file-key-management-filename={}", keys.display()))
        .arg("--encrypt-binlog=ON")
        .start();
    table(&server);
    let (error, _) = end(&server, &store);
    assert!(error.to_string().contains("encrypt_binlog is on"), "{error}");
    // Switched off, but an older file is encrypted still: a fresh archive begins behind it, one that has its beginning cannot.
    server.restart_with("--encrypt-binlog=OFF");
    server.sql("INSERT INTO d.t (b) VALUES ('plain')");
    let streaming = Streaming::start(config(), &server, &store);
    streaming.caught_up(&server);
    streaming.stop();
}

#[test]
fn a_source_that_was_never_there_ends_the_stream_within_a_bounded_time() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let nobody = free_port();
    let manifest = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: p}}\nspec:\n  \
         source: {{host: 127.0.0.1, port: {nobody}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
         storage: {{fs: {{path: {}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: x}}}}\n",
        dir.path().join("archive").display()
    );
    std::fs::write(&policy, manifest).unwrap();
    let mut command = tidemark_command(["stream", "-f"]);
    command.arg(&policy);
    let began = Instant::now();
    let mut process = Process::spawn(command);
    process.wait_for_line("no source yet; trying again", Duration::from_secs(20));
    let ended = process.wait(LONG);
    assert_eq!(ended.code(), Some(5), "{}", process.output());
    assert!(process.stderr().contains("cannot reach 127.0.0.1"), "{}", process.output());
    assert!((50..90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
