use bytes::Bytes;

use super::*;
use crate::archive::binlog_index::{Ending, FileId, FileSummary, RawSum, SegmentMeta};
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::index_writer::IndexWriter;
use crate::archive::reader::BinlogReader;
use crate::archive::segment::{SegmentWriter, StoredSegment, put};
use crate::archive::store::{Condition, StoreConfig};
use crate::model::{Flavor, GtidSet};

const UUID: &str = "aaaaaaaa-0000-0000-0000-000000000000";

fn set(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::Mysql, text).unwrap()
}

fn id(number: u32) -> FileId {
    FileId { server: UUID.into(), name: format!("binlog.{number:06}"), created_unix: number }
}

/// Stores bytes `start..end` of a file whose byte `n` is `n % 251`; the `n`-th transaction ends at byte `100 * n`.
async fn segment(store: &Store, file: &FileId, start: u64, end: u64) -> StoredSegment {
    let upto = |n: u64| if n == 0 { set("") } else { set(&format!("{UUID}:1-{n}")) };
    let meta = SegmentMeta {
        format: 0,
        file: file.clone(),
        flavor: Flavor::Mysql,
        server_version: "9.7.0".into(),
        start,
        end,
        raw: RawSum::default(),
        summary: FileSummary {
            previous_gtids: set(""),
            gtids: upto(end / 100),
            boundary: end / 100 * 100,
            transactions: end / 100,
            first_commit: None,
            last_commit: None,
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        gtids: upto(end / 100).difference(&upto(start / 100)),
        open_transaction: None,
        encryption: None,
        edition: None,
    };
    let mut writer = SegmentWriter::new(Compression::default(), &Recipients::default()).unwrap();
    writer.write(&raw(start, end)).unwrap();
    put(store, writer.finish(meta).unwrap()).await.unwrap()
}

fn raw(start: u64, end: u64) -> Vec<u8> {
    (start..end).map(|n| (n % 251) as u8).collect()
}

async fn folder() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::Fs { root: dir.path().to_owned() }).unwrap();
    identity::ensure(&store, Flavor::Mysql, UUID).await.unwrap();
    (dir, store)
}

async fn read(store: &Store, file: &ArchivedFile, from: u64, to: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut reader = BinlogReader::open(store, file, from, to).await?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn an_open_file_is_known_up_to_its_first_hole_and_a_closed_one_whole() {
    let (_dir, store) = folder().await;
    // Open, cut by two streamers, with a hole.
    for (start, end) in [(0, 150), (0, 250), (150, 320), (250, 300), (400, 500)] {
        segment(&store, &id(1), start, end).await;
    }
    // Closed, half of it by a process that died.
    for (start, end) in [(0, 150), (150, 320)] {
        segment(&store, &id(2), start, end).await;
    }
    let mut writer = IndexWriter::resume(&store, id(2)).await.unwrap();
    assert_eq!((writer.end(), writer.last().unwrap().summary.boundary), (320, 300));
    writer.push(segment(&store, &id(2), 320, 400).await).unwrap();
    assert!(matches!(
        writer.push(segment(&store, &id(2), 600, 700).await),
        Err(ArchiveError::Hole { from: 400, to: 600, .. })
    ));
    let again = writer.clone();
    let index = writer.finish(&store, Ending::Rotate, Some("binlog.000003".into()), "t").await.unwrap();
    assert_eq!(again.finish(&store, Ending::Rotate, None, "u").await.unwrap(), index);

    let catalog = Catalog::load(&store).await.unwrap();
    assert_eq!((&catalog.problems, &catalog.unknown), (&vec![], &vec![]));
    let [open, closed] = &catalog.files[..] else { panic!("{catalog:?}") };
    assert_eq!((open.size, open.hole_until, open.closed.is_none()), (320, Some(400), true));
    assert_eq!(open.summary.gtids, set(&format!("{UUID}:1-3")));
    assert_eq!((closed.size, closed.objects, closed.closed.is_some()), (400, 3, true));
    for file in [open, closed] {
        let ranges = load_ranges(&store, file).await.unwrap();
        assert_eq!(ranges[1].gtids, set(&format!("{UUID}:2-3")));
        assert_eq!(read(&store, file, 0, file.size).await.unwrap(), raw(0, file.size));
        assert_eq!(read(&store, file, 149, 151).await.unwrap(), raw(149, 151));
        assert_eq!(read(&store, file, 150, 300).await.unwrap(), raw(150, 300));
        assert!(matches!(read(&store, file, 0, file.size + 1).await, Err(ArchiveError::Hole { .. })));
    }
}

#[tokio::test]
async fn damage_is_reported_and_what_is_behind_it_does_not_count() {
    let (_dir, store) = folder().await;
    let first = segment(&store, &id(1), 0, 150).await;
    segment(&store, &id(1), 150, 320).await;
    let writer = IndexWriter::resume(&store, id(1)).await.unwrap();
    writer.finish(&store, Ending::Rotate, None, "t").await.unwrap();
    let before = Catalog::load(&store).await.unwrap();

    // The index is lost: the segments still tell.
    let _ = store.put(&keys::index(&id(1)), Bytes::from_static(b"{\"format\":1,"), Condition::Overwrite).await.unwrap();
    let catalog = Catalog::load(&store).await.unwrap();
    assert_eq!((catalog.files[0].size, catalog.files[0].closed.is_none()), (320, true));
    assert!(catalog.problems[0].contains("index.json"), "{:?}", catalog.problems);

    // The last segment is lost as well.
    let last = keys::segment(&id(1), None, 150, 320, false);
    let half = store.get(&last).await.unwrap();
    let _ = store.put(&last, half.slice(..half.len() / 2), Condition::Overwrite).await.unwrap();
    let catalog = Catalog::load(&store).await.unwrap();
    assert_eq!((catalog.files[0].size, catalog.files[0].hole_until), (150, Some(320)));
    assert!(catalog.problems[1].contains(&last));
    let failed = read(&store, &before.files[0], 0, 320).await.unwrap_err().to_string();
    assert!(failed.contains("index.json"), "{failed}");

    // Objects that changed places, under an index.
    let index = IndexWriter::new(id(2));
    let mut index = { index };
    index.push(segment(&store, &id(2), 0, 150).await).unwrap();
    index.finish(&store, Ending::Stop, None, "t").await.unwrap();
    let theirs = store.get(&keys::segment(&first.meta.file, None, 0, 150, false)).await.unwrap();
    let _ = store.put(&keys::segment(&id(2), None, 0, 150, false), theirs, Condition::Overwrite).await.unwrap();
    let file = load_file(&store, &id(2)).await.unwrap().unwrap();
    let failed = read(&store, &file, 0, 150).await.unwrap_err();
    assert!(failed.is_damage() && failed.to_string().contains("binlog.000002@2"), "{failed}");
}

#[tokio::test]
async fn what_a_dead_streamer_left_half_stored_is_stored_anew_whatever_its_borders() {
    let (_dir, store) = folder().await;
    let ends = [0, 150, 250, 320, 400];
    for span in ends.windows(2) {
        segment(&store, &id(1), span[0], span[1]).await;
    }
    // Of the three that were on their way the first is cut off.
    let torn = keys::segment(&id(1), None, 150, 250, false);
    let half = store.get(&torn).await.unwrap();
    let _ = store.put(&torn, half.slice(..half.len() / 2), Condition::Overwrite).await.unwrap();
    let mut writer = IndexWriter::resume(&store, id(1)).await.unwrap();
    assert_eq!(writer.end(), 150);
    writer.push(segment(&store, &id(1), 150, 200).await).unwrap();
    writer.clear_torn(&store).await;
    assert!(store.stat(&torn).await.unwrap().is_some(), "its bytes are not all stored");
    writer.push(segment(&store, &id(1), 200, 320).await).unwrap();
    writer.clear_torn(&store).await;
    assert_eq!(store.stat(&torn).await.unwrap(), None);
    writer.push(segment(&store, &id(1), 320, 400).await).unwrap();
    let key = keys::index(&id(1));
    let _ = store.put(&key, "{\"format\":1,".into(), Condition::Overwrite).await.unwrap();
    writer.finish(&store, Ending::Rotate, None, "t").await.unwrap();
    let file = load_file(&store, &id(1)).await.unwrap().unwrap();
    assert_eq!((file.size, file.closed.is_some()), (400, true));
    assert_eq!(read(&store, &file, 0, 400).await.unwrap(), raw(0, 400));

    // One that was cut off long ago, where another streamer cut otherwise and went on.
    for span in [0, 150, 200, 250, 320, 400, 450].windows(2) {
        segment(&store, &id(3), span[0], span[1]).await;
    }
    let torn = keys::segment(&id(3), None, 150, 250, false);
    let _ = store.put(&torn, half.slice(..half.len() / 2), Condition::Overwrite).await.unwrap();
    // (Who reads meanwhile reads the others.)
    let file = load_file(&store, &id(3)).await.unwrap().unwrap();
    assert_eq!((file.size, read(&store, &file, 0, 450).await.unwrap()), (450, raw(0, 450)));
    let mut writer = IndexWriter::resume(&store, id(3)).await.unwrap();
    assert_eq!(writer.end(), 450);
    writer.push(segment(&store, &id(3), 450, 500).await).unwrap();
    writer.clear_torn(&store).await;
    assert_eq!(store.stat(&torn).await.unwrap(), None);
    writer.finish(&store, Ending::Rotate, None, "t").await.unwrap();
    let file = load_file(&store, &id(3)).await.unwrap().unwrap();
    assert_eq!(read(&store, &file, 0, 500).await.unwrap(), raw(0, 500));

    // One that is the last, beside others that hold its bytes.
    for span in [0, 150, 200, 250].windows(2) {
        segment(&store, &id(4), span[0], span[1]).await;
    }
    let torn = keys::segment(&id(4), None, 150, 250, false);
    let _ = store.put(&torn, half.slice(..half.len() / 2), Condition::Overwrite).await.unwrap();
    let catalog = Catalog::load(&store).await.unwrap();
    let file = catalog.files.iter().find(|file| file.id == id(4)).unwrap();
    assert_eq!((file.size, file.hole_until, &catalog.problems), (250, None, &Vec::<String>::new()));
    assert_eq!(read(&store, file, 0, 250).await.unwrap(), raw(0, 250));
    let mut writer = IndexWriter::resume(&store, id(4)).await.unwrap();
    assert_eq!(writer.end(), 250);
    writer.clear_torn(&store).await;
    assert_eq!(store.stat(&torn).await.unwrap(), None, "its bytes are stored, and nothing else is to come");

    // Stored whole under its own name meanwhile, it stays.
    for (start, end) in [(0, 150), (150, 250)] {
        segment(&store, &id(2), start, end).await;
    }
    let last = keys::segment(&id(2), None, 150, 250, false);
    let whole = store.get(&last).await.unwrap();
    let _ = store.put(&last, vec![0; whole.len()].into(), Condition::Overwrite).await.unwrap();
    let mut writer = IndexWriter::resume(&store, id(2)).await.unwrap();
    assert_eq!(writer.end(), 150);
    store.delete(&last).await.unwrap();
    writer.push(segment(&store, &id(2), 150, 250).await).unwrap();
    writer.clear_torn(&store).await;
    assert_eq!(store.get(&last).await.unwrap(), whole);
}

#[tokio::test]
async fn a_newer_archive_and_another_flavor_are_refused_and_strangers_are_left_alone() {
    let (_dir, store) = folder().await;
    let other = identity::ensure(&store, Flavor::Mariadb, "mariadb-1").await;
    assert!(matches!(other, Err(ArchiveError::OtherFlavor { .. })));
    let _ = store.put("binlog/x/odd/y.zst", Bytes::from_static(b"?"), Condition::Overwrite).await.unwrap();
    let _ =
        store.put("full/20260101T000000Z-abc/rows.zst", Bytes::from_static(b"?"), Condition::Overwrite).await.unwrap();
    let _ = store
        .put("full/broken/manifest.json", Bytes::from_static(b"{\"format\":1}"), Condition::Overwrite)
        .await
        .unwrap();
    let catalog = Catalog::load(&store).await.unwrap();
    assert_eq!(catalog.unknown, ["binlog/x/odd/"]);
    assert!(catalog.fulls.is_empty());
    assert!(catalog.problems[0].contains("full/broken/manifest.json"));

    let newer = Bytes::from_static(b"{\"format\":5,\"anything\":[]}");
    let _ = store.put("full/broken/manifest.json", newer.clone(), Condition::Overwrite).await.unwrap();
    assert!(matches!(Catalog::load(&store).await, Err(ArchiveError::Newer { found: 5, .. })));
    let _ = store.put(keys::ARCHIVE, newer, Condition::Overwrite).await.unwrap();
    assert!(matches!(Catalog::load(&store).await, Err(ArchiveError::Newer { found: 5, .. })));
    let empty = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::Fs { root: empty.path().to_owned() }).unwrap();
    assert!(matches!(Catalog::load(&store).await, Err(ArchiveError::Missing { .. })));
}

/// A closed file of one segment; its transactions go on from those of the files before it.
async fn closed(store: &Store, number: u32) {
    let first = u64::from(number - 1) * 3 + 1;
    let upto = |last: u64| if last == 0 { set("") } else { set(&format!("{UUID}:1-{last}")) };
    let own = set(&format!("{UUID}:{first}-{}", first + 2));
    let meta = SegmentMeta {
        format: 0,
        file: id(number),
        flavor: Flavor::Mysql,
        server_version: "9.7.0".into(),
        start: 0,
        end: 300,
        raw: RawSum::default(),
        summary: FileSummary {
            previous_gtids: upto(first - 1),
            gtids: own.clone(),
            boundary: 300,
            transactions: 3,
            first_commit: None,
            last_commit: None,
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        gtids: own,
        open_transaction: None,
        encryption: None,
        edition: None,
    };
    let mut writer = SegmentWriter::new(Compression::default(), &Recipients::default()).unwrap();
    writer.write(&raw(0, 300)).unwrap();
    let mut index = IndexWriter::new(id(number));
    index.push(put(store, writer.finish(meta).unwrap()).await.unwrap()).unwrap();
    index.finish(store, Ending::Rotate, None, "trace").await.unwrap();
}

#[tokio::test]
async fn a_long_log_is_told_by_few_files_as_long_as_the_listing_shows_all_of_them() {
    let (_dir, store) = folder().await;
    for number in 1..=260 {
        closed(&store, number).await;
    }
    let single = Catalog::load(&store).await.unwrap();
    let folded = crate::archive::timeline::fold(single.files.clone(), &[]);
    let counts = |files: &[ArchivedFile]| files.iter().map(ArchivedFile::count).collect::<Vec<_>>();
    let long: Vec<u64> = counts(&folded).into_iter().filter(|count| *count > 1).collect();
    assert_eq!((long, folded.len()), (vec![60], 201));
    keep_folded(&store, &folded).await.unwrap();

    let by_spans = Catalog::load_folded(&store).await.unwrap();
    assert_eq!(by_spans.files.len(), 201);
    let span = &by_spans.files[0];
    assert_eq!((&span.id, span.count(), span.objects, span.size), (&id(1), 60, 60, 18_000));
    assert_eq!(span.summary.gtids, set(&format!("{UUID}:1-180")));
    assert_eq!(unfold(&store, span).await.unwrap(), single.files[..60]);
    assert_eq!(Catalog::load(&store).await.unwrap().files, single.files, "nobody else knows of it");

    // What is not listed any more is not told, and the others are read.
    let index = keys::index(&id(7));
    let bytes = store.get(&index).await.unwrap();
    for object in store.list(&keys::file_dir(&id(7))).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    store.remove_empty_dir(&keys::file_dir(&id(7))).await;
    let files = Catalog::load_folded(&store).await.unwrap().files;
    assert_eq!(files.len(), 259);
    assert!(files.iter().all(|file| !file.is_span() && file.id != id(7)));
    let _ = store.put(&index, bytes, Condition::IfAbsent).await.unwrap();
    assert_eq!(Catalog::load_folded(&store).await.unwrap().files.len(), 201);

    // A full whose position is in the middle splits it: nothing else would tell what comes before.
    let at = |file: &str| {
        let mut known = folded::Known::default();
        known.take(vec![span.clone()]);
        (1..=60).for_each(|number| assert!(known.see(&id(number))));
        assert!(!known.see(&id(61)) && !known.see(&FileId { created_unix: 1, ..id(2) }));
        let mut full = crate::archive::timeline::tests::full("A", 1, set(""));
        full.server = UUID.into();
        full.position = Some(crate::model::BinlogPosition { file: file.into(), offset: 4 });
        let (spans, single) = known.settle(&[full]);
        (spans.len(), single.len())
    };
    for (file, expected) in
        [("binlog.000001", (1, 0)), ("binlog.000002", (0, 60)), ("binlog.000060", (0, 60)), ("binlog.000061", (1, 0))]
    {
        assert_eq!(at(file), expected, "{file}");
    }

    // A damaged account is none.
    let _ = store.put(keys::FOLDED, "{\"format\":1,".into(), Condition::Overwrite).await.unwrap();
    assert_eq!(Catalog::load_folded(&store).await.unwrap().files.len(), 260);
    forget_folded(&store).await.unwrap();
    assert_eq!(Catalog::load_folded(&store).await.unwrap().files.len(), 260);
}
