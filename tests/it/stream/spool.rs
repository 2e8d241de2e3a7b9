//! While the store is down the stream goes on into a folder. What is there is not durable, and not lost.

use tidemark::restore::RestoreOptions;

use super::*;
use crate::support::history::fingerprint;

const BOUND: u64 = 6 << 20;

fn table(server: &Server) {
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)");
}

/// Uncompressed, so that what is written tells what is spooled.
fn spooling(folder: &Path, max_bytes: u64) -> StreamConfig {
    StreamConfig {
        compression: Compression::None,
        segment_bytes: 256 << 10,
        spool: Some(SpoolConfig { folder: folder.to_owned(), max_bytes }),
        ..config()
    }
}

/// Files of the spool, oldest first.
fn spooled(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "object")).collect();
    files.sort();
    files
}

fn bytes_of(folder: &Path) -> u64 {
    // One may go while we look.
    spooled(folder).iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum()
}

fn take_full(server: &Server, store: &Store) {
    let (config, progress) = (LogicalConfig::default(), Progress::default());
    wait_on(logical::run(&config, &endpoint(server), store, progress, CancellationToken::new())).unwrap();
}

/// A restore to the latest transaction holds what the source does.
fn assert_restores(store: &Store, server: &Server) {
    let latest = Request { target: Target::Latest, exclusive: false, skip_gtids: None, allow_nearest: false };
    let target = ServerOptions::of(server.flavor()).start();
    wait_on(async {
        let plan = restore::plan(store, &latest, Throughput::default()).await.unwrap();
        let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
        restore::run(&plan, store, &endpoint(&target), &options, &Progress::default(), &cancel).await.unwrap()
    });
    assert_eq!(fingerprint(&target), fingerprint(server), "{}", server.flavor());
}

#[test]
fn what_the_source_purged_while_the_store_was_down_and_the_stream_was_killed_comes_from_the_spool() {
    for flavor in FLAVORS {
        let mut s3 = S3Server::start();
        let store = self::s3(&s3);
        let work = tempfile::tempdir().unwrap();
        let spool = work.path().join("spool");
        let server = ServerOptions::of(flavor).start();
        table(&server);
        take_full(&server, &store);
        let process = |s3: &S3Server, failpoint: &'static str, pass: usize| {
            let streamer = StreamerProcess {
                failpoint,
                pass,
                s3: Some(s3),
                segment_bytes: Some(256 << 10),
                level: Some(0),
                spool: Some((&spool, BOUND)),
                ..StreamerProcess::default()
            };
            streamer.start(&server, work.path())
        };
        // Dies as it is about to finish its sixth file.
        let mut child = process(&s3, "binlog::spool::before_finish", 5);
        archived_all(&store, &server);
        s3.kill9();
        let write = |rounds: usize| {
            for i in 0..rounds {
                server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 90000)), (REPEAT('y', 90000))");
                server.sql("INSERT INTO d.t (b) VALUES ('small')");
                if i % 6 == 3 {
                    server.sql("INSERT INTO d.t (b) VALUES (REPEAT('z', 900000)); FLUSH BINARY LOGS");
                }
            }
        };
        write(8);
        assert!(!child.wait(LONG).success(), "{flavor}: {}", child.output());
        let before = spooled(&spool);
        assert!(before.len() >= 3, "{flavor}: {before:?}");

        // With the store still down, it goes on behind what is in the spool, until that is full.
        let mut child = process(&s3, "", 0);
        write(40);
        wait_for("the spool to be full", LONG, || {
            let bytes = bytes_of(&spool);
            assert!(bytes <= BOUND, "{flavor}: the spool holds {bytes} bytes");
            assert!(child.try_wait().is_none(), "{flavor}: {}", child.output());
            (bytes > BOUND - (512 << 10)).then_some(())
        });
        let copies = work.path().join("copies");
        std::fs::create_dir(&copies).unwrap();
        for path in server.binlogs() {
            std::fs::copy(&path, copies.join(path.file_name().unwrap())).unwrap();
        }
        child.kill9();
        assert!(bytes_of(&spool) <= BOUND);
        assert!(spooled(&spool).starts_with(&before), "{flavor}: what was spooled before is still there");

        // The source purges what is in the spool; all but the file in which reading stopped.
        let stopped_in = {
            let status = StreamStatus::default();
            let config = spooling(&spool, BOUND);
            let runtime = Runtime::new().unwrap();
            let (cancel, seen) = (CancellationToken::new(), status.clone());
            let task = runtime.spawn(stream(config, endpoint(&server), store.clone(), cancel.clone(), status));
            let end = wait_for("the spool's end", LONG, || seen.read().spool.and_then(|spool| spool.end));
            cancel.cancel();
            runtime.block_on(task).unwrap().unwrap();
            end.file
        };
        let first = server.binlogs()[0].file_name().unwrap().to_str().unwrap().to_owned();
        assert!(stopped_in > first, "{flavor}: {stopped_in}");
        wait_for("the purge", LONG, || {
            server.sql(&format!("PURGE BINARY LOGS TO '{stopped_in}'"));
            server.binlogs()[0].ends_with(&stopped_in).then_some(())
        });

        s3.restart();
        let streaming = Streaming::start(spooling(&spool, BOUND), &server, &store);
        let reading = streaming.caught_up(&server);
        streaming.stop();
        assert!(reading.gaps.is_empty() && reading.losses.is_empty(), "{flavor}: {reading:?}");
        assert_eq!(spooled(&spool), Vec::<PathBuf>::new(), "{flavor}: what is stored has left the spool");
        let files = assert_identical(&store, &server);
        let purged: Vec<_> = files.iter().filter(|file| file.id.name < stopped_in).collect();
        assert!(!purged.is_empty(), "{flavor}");
        for file in purged {
            assert_same_bytes(&store, file, &copies.join(&file.id.name));
        }
        assert_restores(&store, &server);
    }
}

#[test]
fn a_spool_drains_while_the_stream_goes_on_and_nothing_in_it_counts_as_durable() {
    for flavor in FLAVORS {
        let mut s3 = S3Server::start();
        let store = self::s3(&s3);
        let work = tempfile::tempdir().unwrap();
        let server = ServerOptions::of(flavor).start();
        table(&server);
        let streaming = Streaming::start(spooling(work.path(), 64 << 20), &server, &store);
        let durable = streaming.caught_up(&server).durable_gtids.unwrap();
        s3.kill9();
        for _ in 0..10 {
            // The large ones are longer than a segment, so that they go into the spool as they come.
            server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 90000)), (REPEAT('y', 3000000)); FLUSH BINARY LOGS");
            server.sql("INSERT INTO d.t (b) VALUES ('small')");
        }
        let end = server.binlogs().pop().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let all =
            |s: &StreamReading| s.spool.as_ref().and_then(|spool| spool.end.as_ref()).is_some_and(|at| at.file == end);
        let reading = streaming.wait("everything to be in the spool", all);
        assert_eq!(reading.durable_gtids.as_ref(), Some(&durable), "{flavor}: only the store is durable");
        assert!(reading.lag_seconds(CommitTime(i64::MAX)) > 0.0, "{flavor}: {reading:?}");
        // Told when the tries of an upload have ended.
        streaming.wait("the store to be told as failing", |s| s.store_failing);
        // The source comes and goes: reading goes on behind the spool all the same.
        let id = server.rows("SHOW PROCESSLIST").into_iter().find(|row| row[4].starts_with("Binlog Dump")).unwrap();
        server.sql(&format!("KILL {}", id[0]));
        streaming.wait("the connection to be lost", |s| !s.connected);
        server.sql("INSERT INTO d.t (b) VALUES ('while both were away'); FLUSH BINARY LOGS");
        let end = server.binlogs().pop().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let all =
            |s: &StreamReading| s.spool.as_ref().and_then(|spool| spool.end.as_ref()).is_some_and(|at| at.file == end);
        streaming.wait("everything to be in the spool", all);
        s3.restart();
        server.sql("INSERT INTO d.t (b) VALUES ('the store is back')");
        let reading = streaming.caught_up(&server);
        assert_eq!(as_the_server_says(&reading.durable_gtids.unwrap()), server.gtids(), "{flavor}");
        streaming.wait("the spool to be empty", |s| s.spool.as_ref().is_some_and(|spool| spool.bytes == 0));
        assert_eq!(spooled(work.path()), Vec::<PathBuf>::new());
        streaming.stop();
        assert_identical(&store, &server);
    }
}

#[test]
fn a_torn_spool_is_dropped_from_there_on_and_another_archives_is_refused() {
    let mut s3 = S3Server::start();
    let store = self::s3(&s3);
    let work = tempfile::tempdir().unwrap();
    let server = ServerOptions::mysql().start();
    table(&server);
    let streaming = Streaming::start(spooling(work.path(), 64 << 20), &server, &store);
    streaming.caught_up(&server);
    s3.kill9();
    for _ in 0..12 {
        server.sql("INSERT INTO d.t (b) VALUES (REPEAT('x', 200000)); FLUSH BINARY LOGS");
    }
    let end = server.binlogs().pop().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let all =
        |s: &StreamReading| s.spool.as_ref().and_then(|spool| spool.end.as_ref()).is_some_and(|at| at.file == end);
    streaming.wait("everything to be in the spool", all);

    let refused = |store: &Store| {
        let stream = Streaming::start(spooling(work.path(), 64 << 20), &server, store);
        let ended = stream.runtime.block_on(async { tokio::time::timeout(LONG, stream.task).await });
        ended.unwrap().unwrap().unwrap_err()
    };
    let is_in_use = |error: &Error| error.to_string().contains("another stream uses this folder");
    let error = refused(&store);
    assert!(is_in_use(&error), "{error}");
    streaming.stop();

    let before = spooled(work.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = fs(elsewhere.path());
    // A process that another test is just starting holds the lock until it is that program.
    let error = wait_for("the lock", LONG, || Some(refused(&other)).filter(|error| !is_in_use(error)));
    assert!(matches!(&error, Error::OtherSpool { objects, .. } if *objects == before.len()), "{error}");
    assert_eq!((catalog(&other).files, spooled(work.path())), (Vec::new(), before.clone()));

    // A byte of an object, and an end that never reached the disk.
    let is_segment = |path: &&PathBuf| std::fs::metadata(path).unwrap().len() > 100_000;
    let torn = before[before.len() / 2..].iter().find(is_segment).unwrap();
    let mut bytes = std::fs::read(torn).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(torn, bytes).unwrap();
    let cut = &before[before.len() - 2];
    std::fs::write(cut, &std::fs::read(cut).unwrap()[..40]).unwrap();
    std::fs::write(work.path().join(format!("{:020}.part", 999)), "half").unwrap();
    s3.restart();
    let streaming = Streaming::start(spooling(work.path(), 64 << 20), &server, &store);
    let reading = streaming.caught_up(&server);
    assert!(reading.gaps.is_empty(), "{reading:?}");
    streaming.wait("the spool to be empty", |s| s.spool.as_ref().is_some_and(|spool| spool.bytes == 0));
    streaming.stop();
    assert_identical(&store, &server);
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the lock and the archive's name are left: {left:?}");
}
