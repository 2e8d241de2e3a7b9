use std::process::{Command, Stdio};

use super::*;
use secrecy::ExposeSecret;

use crate::archive::binlog_index::FileSummary;
use crate::archive::codec::Compression;
use crate::archive::crypt::{Identities, Recipients};
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
    SegmentMeta {
        format: 0,
        file: id(),
        flavor,
        server_version,
        start,
        end,
        raw: RawSum::default(),
        summary,
        gtids: none,
        open_transaction: None,
        encryption: None,
        edition: None,
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
    encode_to(&Recipients::default(), start, raw, compression)
}

fn encode_to(recipients: &Recipients, start: u64, raw: &[u8], compression: Compression) -> EncodedSegment {
    let mut writer = SegmentWriter::new(compression, recipients).unwrap();
    writer.write(raw).unwrap();
    writer.finish(meta(start, start + raw.len() as u64)).unwrap()
}

fn object(stored: &StoredSegment, blake3: bool) -> SegmentObject {
    let blake3 = blake3.then(|| stored.object_blake3.clone());
    SegmentObject { blake3, ..SegmentObject::of_meta(&stored.meta, stored.object_bytes) }
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
    let key = Key::new();
    for recipients in [Recipients::default(), key.recipients()] {
        let mut upload =
            SegmentUpload::begin(&store, &id(), None, 0, end, Compression::None, &recipients).await.unwrap();
        for piece in raw.chunks(999_999) {
            upload.write(piece).await.unwrap();
        }
        let stored = upload.finish(meta(0, end)).await.unwrap();
        assert!(stored.object_bytes > read::WHOLE_BYTES);
        for blake3 in [true, false] {
            assert!(read(&key.opens(&store), object(&stored, blake3)).await.unwrap() == raw);
        }
        assert_eq!(verify(&store, &object(&stored, false)).await.unwrap(), stored);
    }
}

/// An age identity.
struct Key(age::x25519::Identity);

impl Key {
    fn new() -> Self {
        Self(age::x25519::Identity::generate())
    }

    fn recipients(&self) -> Recipients {
        Recipients::parse(&[self.0.to_public().to_string()]).unwrap()
    }

    fn opens(&self, store: &Store) -> Store {
        store.clone().with_identities(Identities::parse(&self.0.to_string().expose_secret().to_owned().into()).unwrap())
    }
}

#[tokio::test]
async fn an_encrypted_segment_is_read_with_its_key_and_checked_and_compared_without() {
    let (dir, store) = folder();
    let (key, other) = (Key::new(), Key::new());
    let marker = b"a value that must not be read";
    let raw = marker.repeat(20_000);
    for compression in [Compression::None, Compression::default()] {
        let start = if compression == Compression::None { 0 } else { raw.len() as u64 };
        let encoded = encode_to(&key.recipients(), start, &raw, compression);
        let first = put(&store, encoded.clone()).await.unwrap();
        let object = object(&first, false);
        assert!(object.key().ends_with(".zst.age"));
        assert_eq!((first.meta.format, read_meta(&store, &object).await.unwrap()), (2, first.meta.clone()));
        let stored = std::fs::read(dir.path().join(object.key())).unwrap();
        assert!(memchr::memmem::find(&stored, &marker[..12]).is_none());
        assert!(read(&key.opens(&store), object.clone()).await.unwrap() == raw);
        assert_eq!(verify(&store, &object).await.unwrap(), first, "without a key");
        // Encrypted anew it is other bytes, and the same segment.
        let again = encode_to(&other.recipients(), start, &raw, Compression::default());
        assert_ne!(again.object, encoded.object);
        assert_eq!(put(&store, again).await.unwrap(), first);
        let mut changed = raw.clone();
        changed[77] ^= 1;
        let refused = put(&store, encode_to(&key.recipients(), start, &changed, compression)).await;
        assert!(matches!(refused, Err(SegmentError::Diverged { .. })), "{refused:?}");
        for (keys, reason) in [(store.clone(), "no identity was given"), (other.opens(&store), "give that of one")] {
            let error = read(&keys, object.clone()).await.unwrap_err();
            assert!(error.is_locked() && error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains(&key.0.to_public().to_string()), "{error}");
            assert!(try_to_open(&keys, &object).await.unwrap_err().is_locked());
        }
        try_to_open(&key.opens(&store), &object).await.unwrap();
    }
}

#[test]
fn each_object_made_in_the_same_memory_has_a_key_of_its_own() {
    let key = Key::new();
    let buffers = SegmentBuffers::new(1 << 20, Compression::default(), key.recipients());
    let made = || {
        let mut writer = SegmentWriter::with_buffers(&buffers).unwrap();
        writer.write(&[7; 100_000]).unwrap();
        writer.finish(meta(0, 100_000)).unwrap().object.to_vec()
    };
    let (one, two) = (made(), made());
    let header = |object: &[u8]| object[..memchr::memmem::find(object, b"\n--- ").unwrap()].to_vec();
    assert_ne!(header(&one), header(&two));
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
async fn a_part_that_a_store_took_for_the_whole_goes_unless_an_index_lists_it() {
    let (_dir, store) = folder();
    let raw = bytes(50_000, 3);
    for compression in [Compression::default(), Compression::None] {
        let segment = encode(0, &raw, compression);
        let key = keys::segment(&id(), None, 0, 50_000, false);
        let torn = segment.object.slice(..segment.object.len() / 2);
        let _ = store.put(&key, torn.clone(), Condition::Overwrite).await.unwrap();
        let first = put(&store, segment.clone()).await.unwrap_err();
        assert!(first.is_transient() && matches!(first, SegmentError::Torn { .. }), "{first:?}");
        let stored = put(&store, segment.clone()).await.unwrap();
        assert!(read(&store, object(&stored, true)).await.unwrap() == raw);
        let _ = store.put(&key, torn.clone(), Condition::Overwrite).await.unwrap();
        let _ = store.put(&keys::index(&id()), "{}".into(), Condition::Overwrite).await.unwrap();
        assert!(matches!(put(&store, segment).await, Err(SegmentError::Damaged { .. })));
        assert_eq!(store.get(&key).await.unwrap(), torn, "what an index lists is left to who looks into it");
        store.delete(&keys::index(&id())).await.unwrap();
    }
}

#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let (dir, store) = folder();
    let mut upload = SegmentUpload::begin(&store, &id(), None, 0, 9_000_000, Compression::None, &Recipients::default())
        .await
        .unwrap();
    upload.write(&bytes(5_000_000, 4)).await.unwrap();
    drop(upload);
    assert_eq!(store.list("binlog/").await.unwrap(), []);
    assert_eq!(std::fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_damage_is_found_and_named_before_the_end() {
    let secret = Key::new();
    let (clear, encrypted) = (Recipients::default(), secret.recipients());
    for (len, compression, recipients) in [
        (60_000, Compression::None, &clear),
        (60_000, Compression::default(), &clear),
        ((9 << 20) + 5, Compression::None, &clear),
        (60_000, Compression::default(), &encrypted),
        ((9 << 20) + 5, Compression::None, &encrypted),
    ] {
        let (_dir, store) = folder();
        let store = secret.opens(&store);
        let raw = bytes(len, 5);
        let stored = put(&store, encode_to(recipients, 4, &raw, compression)).await.unwrap();
        let key = object(&stored, false).key();
        let good = store.get(&key).await.unwrap().to_vec();
        let other = encode_to(recipients, 4, &bytes(len, 6), compression);
        let elsewhere = encode_to(recipients, 5, &raw, compression);
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
                        let harmless = !blake3 && bytes == raw && recipients.is_empty();
                        assert!(harmless, "{what} (blake3: {blake3}, {len} bytes) was not found")
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
    newer.format = crate::archive::FORMAT + 1;
    let key = object(&stored, false).key();
    let frame = meta::frame(&key, &newer).unwrap();
    let _ = store.put(&key, frame.clone().into(), Condition::Overwrite).await.unwrap();
    let mut listed = object(&stored, false);
    listed.bytes = frame.len() as u64;
    assert!(matches!(read_meta(&store, &listed).await, Err(SegmentError::Newer { found: 5, .. })));
}

/// Figures for the documents: `cargo test --release … -- --ignored --nocapture what_encryption_costs`.
#[test]
#[ignore = "prints figures"]
fn what_encryption_costs() {
    const SEGMENT_BYTES: usize = 4 << 20;
    // About as compressible as rows of text and numbers.
    let noise = bytes(SEGMENT_BYTES / 4, 7);
    let raw: Vec<u8> = noise.iter().flat_map(|byte| [b'a' + (byte & 15), b'0' + (byte >> 5), *byte, b'x']).collect();
    let key = Key::new();
    let run = |name: &str, compression: Compression, recipients: &Recipients| {
        let (began, cpu) = (std::time::Instant::now(), cpu_ms());
        let mut stored = 0;
        let buffers = SegmentBuffers::new(SEGMENT_BYTES + (64 << 10), compression, recipients.clone());
        for _ in 0..100 {
            let mut writer = SegmentWriter::with_buffers(&buffers).unwrap();
            raw.chunks(256 << 10).for_each(|piece| writer.write(piece).unwrap());
            stored += writer.finish(meta(0, raw.len() as u64)).unwrap().object_bytes;
        }
        let (wall, cpu) = (began.elapsed(), cpu_ms() - cpu);
        println!("{name}: 400 MiB in {} ms, {cpu} ms of CPU, {} MiB stored", wall.as_millis(), stored >> 20);
    };
    for _ in 0..3 {
        for (name, compression) in [("zstd 1", Compression::default()), ("no compression", Compression::None)] {
            run(name, compression, &Recipients::default());
            run(&format!("{name}, encrypted"), compression, &key.recipients());
        }
    }
}

fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<i64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').filter_map(|field| field.parse().ok()).collect();
    // The state is no number: user and system time are the 11th and 12th that are, in 1/100 s.
    (fields[10] + fields[11]) as u64 * 10
}
