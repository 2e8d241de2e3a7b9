use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::archive::ArchiveError;
use crate::archive::binlog_index::{Ending, FileSummary, RawSum, SegmentMeta};
use crate::archive::catalog::{Catalog, load_file, load_ranges};
use crate::archive::codec::Compression;
use crate::archive::crypt::{Identities, Recipients};
use crate::archive::index_writer::IndexWriter;
use crate::archive::reader::BinlogReader;
use crate::archive::segment::{SegmentWriter, put};
use crate::archive::store::StoreConfig;
use crate::model::{Flavor, GtidSet};

const SERVER: &str = "aaaaaaaa-0000-0000-0000-000000000000";
/// Raw bytes of each segment.
const STEP: u64 = 1000;

struct Rig {
    dir: tempfile::TempDir,
    store: Store,
    recipients: Recipients,
}

impl Rig {
    async fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let identity = age::x25519::Identity::generate();
        let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
        let identities = Identities::parse(&identity.to_string()).unwrap();
        let store = Store::open(&StoreConfig::Fs { root: dir.path().to_owned() }).unwrap().with_identities(identities);
        identity::ensure(&store, Flavor::Mysql, SERVER).await.unwrap();
        Rig { dir, store, recipients }
    }

    /// Another process's view.
    fn fresh(&self) -> Store {
        let store = Store::open(&StoreConfig::Fs { root: self.dir.path().to_owned() }).unwrap();
        store.with_identities(self.store.identities().clone())
    }

    /// A closed file of such segments: true for an encrypted one.
    async fn file(&self, number: u32, segments: &[bool]) -> ArchivedFile {
        let set = |first: u64, last: u64| {
            let text = if first > last { String::new() } else { format!("{SERVER}:{first}-{last}") };
            GtidSet::parse(Flavor::Mysql, &text).unwrap()
        };
        let file = FileId { server: SERVER.into(), name: format!("binlog.{number:06}"), created_unix: number };
        let before = u64::from(number - 1) * 100;
        let mut index = IndexWriter::new(file.clone());
        for (n, encrypted) in (0..).zip(segments) {
            let (start, end) = (n * STEP, (n + 1) * STEP);
            let meta = SegmentMeta {
                format: 0,
                file: file.clone(),
                flavor: Flavor::Mysql,
                server_version: "9.7.0".into(),
                start,
                end,
                raw: RawSum::default(),
                summary: FileSummary {
                    previous_gtids: set(1, before),
                    gtids: set(before + 1, before + n + 1),
                    boundary: end,
                    transactions: n + 1,
                    first_commit: None,
                    last_commit: None,
                    last_gtid: None,
                    crc32: true,
                    statements: 0,
                },
                gtids: set(before + n + 1, before + n + 1),
                open_transaction: None,
                encryption: None,
                edition: None,
            };
            let none = Recipients::default();
            let recipients = if *encrypted { &self.recipients } else { &none };
            let mut writer = SegmentWriter::new(Compression::default(), recipients).unwrap();
            writer.write(&raw(start, end)).unwrap();
            index.push(put(&self.store, writer.finish(meta).unwrap()).await.unwrap()).unwrap();
        }
        index.finish(&self.store, Ending::Rotate, None, "trace").await.unwrap();
        load_file(&self.store, &file).await.unwrap().unwrap()
    }

    async fn compact(&self) -> Result<Compacted, CompactionError> {
        let store = self.fresh();
        let files = Catalog::load(&store).await.unwrap().files;
        let due = due(&store, &files).await?;
        compact(&store, &due, &Progress::default(), &CancellationToken::new()).await
    }

    /// Names of what is stored of a file; of packs without what tells them from others of the same range.
    fn names(&self, file: &ArchivedFile) -> Vec<String> {
        let dir = self.dir.path().join(keys::file_dir(&file.id));
        let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| name(entry.unwrap().path()))
            .map(|name| match name.split('.').collect::<Vec<_>>()[..] {
                [range, _, "pack", ref rest @ ..] => [&[range, "pack"], rest].concat().join("."),
                _ => name,
            })
            .collect();
        names.sort();
        names
    }

    /// The one pack of a file.
    fn pack(&self, file: &ArchivedFile) -> std::path::PathBuf {
        let mut packs = std::fs::read_dir(self.dir.path().join(keys::file_dir(&file.id))).unwrap();
        packs
            .find_map(|entry| Some(entry.unwrap().path()).filter(|path| path.to_str().unwrap().contains(".pack.")))
            .unwrap()
    }

    fn path(&self, key: &str) -> std::path::PathBuf {
        self.dir.path().join(key)
    }

    /// What a reader of another process sees: the folder, and the bytes.
    async fn seen(&self, file: &ArchivedFile) -> (Vec<(String, u64)>, Result<Vec<u8>, ArchiveError>) {
        let store = self.fresh();
        let listed = store.list(&keys::file_dir(&file.id)).await.unwrap();
        (listed.into_iter().map(|object| (object.key, object.bytes)).collect(), read_all(&store, file).await)
    }
}

async fn read_all(store: &Store, file: &ArchivedFile) -> Result<Vec<u8>, ArchiveError> {
    let mut reader = BinlogReader::open(store, file, 0, file.size).await?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

fn raw(start: u64, end: u64) -> Vec<u8> {
    (start..end).map(|n| (n % 251) as u8).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_reader_sees_the_same_before_and_after_and_few_objects_are_left() {
    let rig = Rig::new().await;
    let clear = rig.file(1, &[false; 9]).await;
    let mixed = rig.file(2, &[false, false, true, true, true, false]).await;
    let small = rig.file(3, &[false; 3]).await;
    let before = [rig.seen(&clear).await, rig.seen(&mixed).await, rig.seen(&small).await];
    let begun = load_ranges(&rig.store, &clear).await.unwrap();

    let done = rig.compact().await.unwrap();
    assert_eq!((done.files, done.segments, done.packs), (2, 15, 4));
    for (file, (listed, bytes)) in [&clear, &mixed, &small].into_iter().zip(before) {
        let (listed_now, bytes_now) = rig.seen(file).await;
        assert_eq!(listed_now, listed);
        assert_eq!(bytes_now.unwrap(), bytes.unwrap());
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        rig.names(&clear),
        names(&["00000000000000000000-00000000000000009000.pack.zst", "index.json", "packed.json"])
    );
    assert_eq!(
        rig.names(&mixed),
        names(&[
            "00000000000000000000-00000000000000002000.pack.zst",
            "00000000000000002000-00000000000000005000.pack.zst.age",
            "00000000000000005000-00000000000000006000.pack.zst",
            "index.json",
            "packed.json"
        ])
    );
    assert_eq!(rig.names(&small).len(), 4, "three segments and an index");
    // A reader that learned of the segments before goes on.
    let mut late = BinlogReader::of_ranges(&rig.store, "f", begun, 0, clear.size).unwrap();
    let mut all = Vec::new();
    while let Some(piece) = late.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(all, raw(0, clear.size));
    // An older binary refuses it from here on, and a second run finds nothing to do.
    assert_eq!(identity::must(&rig.store).await.unwrap().format, 3);
    assert_eq!(rig.compact().await.unwrap(), Compacted::default());
}

#[tokio::test]
async fn a_compaction_that_died_anywhere_is_ended_by_the_next() {
    let rig = Rig::new().await;
    let file = rig.file(1, &[false; 6]).await;
    let wanted = rig.seen(&file).await;
    let key = |n: u64| keys::segment(&file.id, None, n * STEP, (n + 1) * STEP, false);
    let segments: Vec<Vec<u8>> = (0..6).map(|n| std::fs::read(rig.path(&key(n))).unwrap()).collect();
    rig.compact().await.unwrap();
    let (pack, packed) = (rig.pack(&file), rig.path(&keys::packed(&file.id, None)));
    let (pack_bytes, packed_bytes) = (std::fs::read(&pack).unwrap(), std::fs::read(&packed).unwrap());
    let ended = rig.names(&file);
    // (packed.json, pack, segments that are left): what each step, cut off or not, leaves behind.
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let states = [
        (None, Some(half(&pack_bytes)), 0..6),
        (None, Some(pack_bytes.clone()), 0..6),
        (Some(packed_bytes.clone()), Some(pack_bytes.clone()), 0..6),
        (Some(packed_bytes.clone()), Some(pack_bytes.clone()), 3..6),
        (Some(packed_bytes.clone()), Some(pack_bytes.clone()), 0..1),
    ];
    for (i, (packed_now, pack_now, left)) in states.into_iter().enumerate() {
        let _ = std::fs::remove_file(rig.pack(&file));
        let _ = std::fs::remove_file(&packed);
        if let Some(bytes) = packed_now {
            std::fs::write(&packed, bytes).unwrap();
        }
        if let Some(bytes) = pack_now {
            std::fs::write(&pack, bytes).unwrap();
        }
        for n in left {
            std::fs::write(rig.path(&key(n)), &segments[n as usize]).unwrap();
        }
        let (listed, bytes) = rig.seen(&file).await;
        assert_eq!(listed, wanted.0, "state {i}");
        assert_eq!(&bytes.unwrap(), wanted.1.as_ref().unwrap(), "state {i}");
        rig.compact().await.unwrap();
        assert_eq!(rig.names(&file), ended, "state {i}");
        assert_eq!(&rig.seen(&file).await.1.unwrap(), wanted.1.as_ref().unwrap(), "state {i}");
    }
    // A part of packed.json is nobody's word, and is left to a person.
    for n in 0..6 {
        std::fs::write(rig.path(&key(n)), &segments[n as usize]).unwrap();
    }
    std::fs::write(&packed, half(&packed_bytes)).unwrap();
    let done = rig.compact().await.unwrap();
    assert!(done.files == 0 && done.notes[0].contains("packed.json"), "{done:?}");
    assert_eq!(&rig.seen(&file).await.1.unwrap(), wanted.1.as_ref().unwrap());
}

#[tokio::test]
async fn what_is_damaged_is_not_packed_and_no_segment_goes_for_a_damaged_pack() {
    let rig = Rig::new().await;
    let (bad, good) = (rig.file(1, &[false; 5]).await, rig.file(2, &[false; 5]).await);
    flip(&rig.path(&keys::segment(&bad.id, None, STEP, 2 * STEP, false)), 20);
    let done = rig.compact().await.unwrap();
    assert_eq!(done.files, 1);
    assert!(done.notes[0].contains("binlog.000001") && done.notes[0].contains("is damaged"), "{:?}", done.notes);
    assert_eq!(rig.names(&bad).len(), 6, "five segments and an index");

    // All segments are there again, and the pack is not what packed.json says.
    let pack = rig.pack(&good);
    let key = |n: u64| keys::segment(&good.id, None, n * STEP, (n + 1) * STEP, false);
    for n in 0..5 {
        let bytes: Bytes = rig.store.get(&key(n)).await.unwrap();
        std::fs::write(rig.path(&key(n)), bytes).unwrap();
    }
    flip(&pack, 20);
    let done = rig.compact().await.unwrap();
    assert!(done.segments == 0 && done.notes.iter().any(|note| note.contains(".pack.zst")), "{done:?}");
    assert_eq!(rig.seen(&good).await.1.unwrap(), raw(0, good.size), "nothing was deleted");
    // Who knew the segments to be in the pack finds them where they are good.
    assert_eq!(read_all(&rig.store, &good).await.unwrap(), raw(0, good.size));

    // A pack that is lost, or cut off, has no segments.
    for n in 0..5 {
        std::fs::remove_file(rig.path(&key(n))).unwrap();
    }
    assert!(matches!(rig.seen(&good).await.1.unwrap_err(), ArchiveError::Segment { .. }), "a flipped bit");
    let whole = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(rig.seen(&good).await.0.len(), 1, "the index alone");
    assert_eq!(rig.fresh().stat(&key(0)).await.unwrap(), None);
    std::fs::remove_file(&pack).unwrap();
    let (listed, bytes) = rig.seen(&good).await;
    assert_eq!(listed.len(), 1, "the index alone");
    assert!(bytes.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_segment_is_found_where_it_is_moved_to_while_it_is_looked_for() {
    let rig = Rig::new().await;
    let file = rig.file(1, &[false; 4]).await;
    let key = keys::segment(&file.id, None, 0, STEP, false);
    let bytes = rig.store.get(&key).await.unwrap();
    rig.compact().await.unwrap();
    // Known to be in a pack by now; then a repair puts back plain objects, and the packs go.
    assert_eq!(rig.store.get(&key).await.unwrap(), bytes);
    std::fs::write(rig.path(&key), &bytes).unwrap();
    std::fs::remove_file(rig.pack(&file)).unwrap();
    std::fs::remove_file(rig.path(&keys::packed(&file.id, None))).unwrap();
    assert_eq!(rig.store.get(&key).await.unwrap(), bytes);
    assert_eq!(rig.store.stat(&key).await.unwrap(), Some(bytes.len() as u64));
    assert_eq!(rig.store.get_range(&key, 3..9).await.unwrap(), bytes.slice(3..9));
    assert!(rig.store.get_range(&key, 3..bytes.len() as u64 + 1).await.is_err());
}

#[tokio::test]
async fn what_somebody_stores_too_late_under_a_packed_segments_name_does_not_hide_it() {
    let rig = Rig::new().await;
    let file = rig.file(1, &[false; 4]).await;
    let key = keys::segment(&file.id, None, STEP, 2 * STEP, false);
    let bytes = rig.store.get(&key).await.unwrap();
    rig.compact().await.unwrap();
    // A part of an upload that was cut off, and as many bytes of another making.
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for stray in [&bytes[..bytes.len() / 2], &other] {
        std::fs::write(rig.path(&key), stray).unwrap();
        assert_eq!(rig.seen(&file).await.1.unwrap(), raw(0, file.size), "by a listing");
        assert_eq!(read_all(&rig.fresh(), &file).await.unwrap(), raw(0, file.size), "without one");
    }
}

#[tokio::test]
async fn a_part_of_a_packed_segment_ends_where_the_segment_does() {
    let rig = Rig::new().await;
    let file = rig.file(1, &[false; 4]).await;
    let key = keys::segment(&file.id, None, STEP, 2 * STEP, false);
    let bytes = rig.store.get(&key).await.unwrap();
    let size = bytes.len() as u64;
    rig.compact().await.unwrap();
    let store = rig.fresh();
    assert_eq!(store.get_range(&key, 3..size).await.unwrap(), bytes.slice(3..));
    assert!(store.get_range(&key, 3..size + 1).await.is_err(), "the next segment's bytes are not its own");
    let read = async |range: std::ops::Range<u64>| {
        let pieces = store.read_stream(&key, range).await?;
        pieces.try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat())).await
    };
    assert_eq!(read(0..size).await.unwrap(), bytes);
    assert_eq!(read(5..7).await.unwrap(), bytes.slice(5..7));
    assert!(read(0..size + 1).await.is_err());
}

proptest! {
    #[test]
    fn packs_hold_all_ranges_in_order_and_never_both_kinds(
        ranges in prop::collection::vec((1u64..200 << 20, any::<bool>()), 1..40)
    ) {
        let range = |(n, (bytes, encrypted)): (u64, &(u64, bool))| crate::archive::binlog_index::IndexedRange {
            start: n, end: n + 1, object_bytes: *bytes, object_blake3: String::new(), boundary: n + 1, last_commit: None,
            gtids: GtidSet::empty(Flavor::Mysql), encrypted_to: encrypted.then_some(0),
        };
        let ranges: Vec<_> = (0..).zip(&ranges).map(range).collect();
        let packs = pack::split(&ranges);
        prop_assert_eq!(packs.concat(), ranges.clone());
        for pack in &packs {
            prop_assert!(pack.iter().all(|range| range.encrypted_to == pack[0].encrypted_to));
            prop_assert!(pack.len() == 1 || pack.iter().map(|range| range.object_bytes).sum::<u64>() <= 128 << 20);
        }
        for pair in packs.windows(2) {
            let (last, next) = (pair[0], &pair[1][0]);
            let full = last.iter().map(|range| range.object_bytes).sum::<u64>() + next.object_bytes > 128 << 20;
            prop_assert!(full || last[0].encrypted_to != next.encrypted_to, "as few as can be");
        }
    }
}
