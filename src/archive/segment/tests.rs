use std::process::{Command, Stdio};

use super::*;
use crate::archive::binlog_index::FileSummary;
use crate::archive::codec::Compression;
use crate::archive::store::{Condition, Store, StoreConfig};
use crate::model::{Flavor, GtidSet};

fn folder() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::Fs { root: dir.path().to_owned() }).unwrap();
    (dir, store)
}

fn id() -> FileId {
    FileId { server: "s".into(), name: "binlog.000001".into(), created_unix: 1 }
}

fn meta(start: u64, end: u64) -> SegmentMeta {
    let none = GtidSet::empty(Flavor::Mysql);
    let summary = FileSummary {
        previous_gtids: none.clone(),
        gtids: none.clone(),
        boundary: end,
        transactions: 0,
        first_commit: None,
        last_commit: None,
        last_gtid: None,
        crc32: true,
        statements: 0,
    };
    let (flavor, server_version) = (Flavor::Mysql, "9.7.0".into());
    let raw_xxh3 = String::new();
    SegmentMeta {
        format: 0,
        file: id(),
        flavor,
        server_version,
        start,
        end,
        raw_xxh3,
        summary,
        gtids: none,
        open_transaction: None,
    }
}

fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed;
    let random = std::iter::repeat_with(|| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    });
    random.take(len).collect()
}

fn encode(start: u64, raw: &[u8], compression: Compression) -> EncodedSegment {
    let mut writer = SegmentWriter::new(compression).unwrap();
    writer.write(raw).unwrap();
    writer.finish(meta(start, start + raw.len() as u64)).unwrap()
}

fn object(stored: &StoredSegment, blake3: bool) -> SegmentObject {
    SegmentObject {
        file: id(),
        start: stored.meta.start,
        end: stored.meta.end,
        bytes: stored.object_bytes,
        blake3: blake3.then(|| stored.object_blake3.clone()),
    }
}

async fn read(store: &Store, object: SegmentObject) -> Result<Vec<u8>, SegmentError> {
    let mut reader = SegmentReader::open(store, object).await?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn stock_zstd_turns_a_files_segments_back_into_the_file() {
    let (dir, store) = folder();
    let raw = bytes(3_000_000, 1);
    let mut at = 0;
    let mut objects = Vec::new();
    for (len, compression) in
        [(700_000, Compression::None), (1, Compression::default()), (2_299_999, Compression::Zstd { level: 1 })]
    {
        let stored = put(&store, encode(at as u64, &raw[at..at + len], compression)).await.unwrap();
        at += len;
        assert_eq!(read_meta(&store, &object(&stored, false)).await.unwrap(), stored.meta);
        objects.extend(std::fs::read(dir.path().join(object(&stored, false).key())).unwrap());
    }
    std::fs::write(dir.path().join("all.zst"), objects).unwrap();
    let zstd =
        Command::new("zstd").args(["-d", "-c"]).arg(dir.path().join("all.zst")).stderr(Stdio::inherit()).output();
    let zstd = zstd.expect("this test needs the zstd program");
    assert!(zstd.status.success());
    assert!(zstd.stdout == raw);
}

#[tokio::test]
async fn a_segment_larger_than_what_is_held_in_memory_goes_through_whole() {
    let (_dir, store) = folder();
    let raw = bytes(20 << 20, 2);
    let end = raw.len() as u64;
    let mut upload = SegmentUpload::begin(&store, &id(), 0, end, Compression::None).await.unwrap();
    for piece in raw.chunks(999_999) {
        upload.write(piece).await.unwrap();
    }
    let stored = upload.finish(meta(0, end)).await.unwrap();
    assert!(stored.object_bytes > read::WHOLE_BYTES);
    for blake3 in [true, false] {
        assert!(read(&store, object(&stored, blake3)).await.unwrap() == raw);
    }
    assert_eq!(verify(&store, &object(&stored, false)).await.unwrap(), stored);
}

#[tokio::test]
async fn equal_bytes_may_be_stored_again_and_others_are_refused() {
    let (dir, store) = folder();
    let raw = bytes(50_000, 3);
    let first = put(&store, encode(0, &raw, Compression::default())).await.unwrap();
    // Compressed otherwise, it is the same segment: what is stored counts.
    assert_eq!(put(&store, encode(0, &raw, Compression::None)).await.unwrap(), first);
    let mut other = raw.clone();
    other[49_999] ^= 1;
    let refused = put(&store, encode(0, &other, Compression::default())).await;
    assert!(matches!(refused, Err(SegmentError::Diverged { ref key, .. }) if *key == object(&first, false).key()));
    assert!(read(&store, object(&first, true)).await.unwrap() == raw);
    assert_eq!(std::fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let (dir, store) = folder();
    let mut upload = SegmentUpload::begin(&store, &id(), 0, 9_000_000, Compression::None).await.unwrap();
    upload.write(&bytes(5_000_000, 4)).await.unwrap();
    drop(upload);
    assert_eq!(store.list("binlog/").await.unwrap(), []);
    assert_eq!(std::fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_damage_is_found_and_named_before_the_end() {
    for (len, compression) in
        [(60_000, Compression::None), (60_000, Compression::default()), ((9 << 20) + 5, Compression::None)]
    {
        let (_dir, store) = folder();
        let raw = bytes(len, 5);
        let stored = put(&store, encode(4, &raw, compression)).await.unwrap();
        let key = object(&stored, false).key();
        let good = store.get(&key).await.unwrap().to_vec();
        let other = encode(4, &bytes(len, 6), compression);
        let elsewhere = encode(5, &raw, compression);
        let mut damages = vec![
            ("cut", good[..good.len() - 7].to_vec()),
            ("halved", good[..good.len() / 2].to_vec()),
            ("emptied", vec![0; good.len()]),
            ("of another offset", elsewhere.object.to_vec()),
        ];
        for at in [0, 5, 9, good.len() / 2, good.len() - 100, good.len() - 9, good.len() - 1] {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            damages.push(("flipped", flipped));
        }
        // A whole, valid object in the place of another: only an index can tell.
        damages.push(("swapped", other.object.to_vec()));
        for (what, damaged) in damages {
            let _ = store.put(&key, damaged.clone().into(), Condition::Overwrite).await.unwrap();
            for blake3 in [true, false] {
                if what == "swapped" && !blake3 {
                    continue;
                }
                let mut listed = object(&stored, blake3);
                listed.bytes = if blake3 { listed.bytes } else { damaged.len() as u64 };
                match read(&store, listed).await {
                    Err(e) => assert!(e.to_string().contains(&key), "{what}: {e}"),
                    // A flipped bit in a frame's header may change nothing that matters (a window's size).
                    Ok(bytes) => {
                        assert!(!blake3 && bytes == raw, "{what} (blake3: {blake3}, {len} bytes) was not found")
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_as_such() {
    let (_dir, store) = folder();
    let stored = put(&store, encode(0, b"abc", Compression::None)).await.unwrap();
    let mut newer = stored.meta.clone();
    newer.format = 2;
    let key = object(&stored, false).key();
    let frame = meta::frame(&key, &newer).unwrap();
    let _ = store.put(&key, frame.clone().into(), Condition::Overwrite).await.unwrap();
    let mut listed = object(&stored, false);
    listed.bytes = frame.len() as u64;
    assert!(matches!(read_meta(&store, &listed).await, Err(SegmentError::Newer { found: 2, .. })));
}
