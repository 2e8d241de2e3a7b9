//! One contract for every store: what the archive relies on, proved for a folder and for a real S3 server.

use bytes::Bytes;
use futures::TryStreamExt;
use secrecy::SecretString;
use tidemark::archive::store::{Condition, Object, Put, S3Config, Store, StoreConfig};

use crate::support::S3Server;

pub fn s3_config(server: &S3Server) -> S3Config {
    S3Config {
        endpoint: Some(server.endpoint().into()),
        region: server.region().into(),
        bucket: server.bucket().into(),
        prefix: "some/prefix".into(),
        access_key: Some(server.access_key().into()),
        secret_key: Some(SecretString::from(server.secret_key().to_owned())),
        ..S3Config::default()
    }
}

fn bytes(len: usize, seed: u8) -> Bytes {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

pub async fn contract(store: &Store) {
    store.probe().await.unwrap();
    assert_eq!(store.list("probe/").await.unwrap(), []);

    // Whole objects, ranges, sizes.
    let one = bytes(100_000, 1);
    assert_eq!(store.put("a/b/one", one.clone(), Condition::IfAbsent).await.unwrap(), Put::Created);
    assert_eq!(store.get("a/b/one").await.unwrap(), one);
    assert_eq!(store.get_range("a/b/one", 99_990..100_000).await.unwrap(), one.slice(99_990..));
    assert!(store.get_range("a/b/one", 99_990..100_001).await.is_err(), "bytes past the end");
    let streamed: Vec<Bytes> = store.read_stream("a/b/one", 5..70_005).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), one[5..70_005]);
    assert_eq!(store.stat("a/b/one").await.unwrap(), Some(100_000));

    // Of two writers one wins, the object stays what it was.
    assert_eq!(store.put("a/b/one", bytes(3, 2), Condition::IfAbsent).await.unwrap(), Put::AlreadyThere);
    assert_eq!(store.get("a/b/one").await.unwrap(), one);
    let race =
        futures::future::join_all((0..8).map(|n| store.put("a/race", bytes(50_000, n), Condition::IfAbsent))).await;
    let won: Vec<_> = (0..8).filter(|&n| *race[n as usize].as_ref().unwrap() == Put::Created).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(store.get("a/race").await.unwrap(), bytes(50_000, won[0]));
    assert_eq!(store.put("a/race", bytes(3, 9), Condition::Overwrite).await.unwrap(), Put::Created);
    assert_eq!(store.get("a/race").await.unwrap(), bytes(3, 9));

    // Larger than a part, piece by piece.
    let big = bytes((19 << 20) + 7, 4);
    let mut writer = store.writer("a/big", Condition::IfAbsent).await.unwrap();
    for piece in big.chunks(3_000_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(store.stat("a/big").await.unwrap(), None, "an unfinished object shows");
    assert_eq!(writer.finish().await.unwrap(), Put::Created);
    assert!(store.get("a/big").await.unwrap() == big);
    let mut late = store.writer("a/big", Condition::IfAbsent).await.unwrap();
    late.write(bytes((9 << 20) + 1, 5)).await.unwrap();
    assert_eq!(late.finish().await.unwrap(), Put::AlreadyThere);
    assert!(store.get("a/big").await.unwrap() == big);
    let mut abandoned = store.writer("a/never", Condition::IfAbsent).await.unwrap();
    abandoned.write(bytes(9 << 20, 6)).await.unwrap();
    drop(abandoned);
    assert_eq!(store.stat("a/never").await.unwrap(), None);

    // Listings.
    let object = |key: &str, bytes| (key.to_owned(), bytes);
    let listed = async |prefix: &str| {
        let objects = store.list(prefix).await.unwrap();
        let age = |object: &Object| jiff::Timestamp::now().duration_since(object.modified.unwrap()).as_secs().abs();
        assert!(objects.iter().all(|object| age(object) < 3600), "{objects:?}");
        objects.into_iter().map(|object| (object.key, object.bytes)).collect::<Vec<_>>()
    };
    let all = [object("a/b/one", 100_000), object("a/big", (19 << 20) + 7), object("a/race", 3)];
    assert_eq!(listed("a/").await, all);
    assert_eq!(listed("a/b/").await, all[..1]);
    assert_eq!(store.list_dirs("a/").await.unwrap(), ["a/b/"]);
    assert_eq!(listed("nothing/").await, []);
    assert_eq!(store.list_dirs("nothing/").await.unwrap(), Vec::<String>::new());
    let mut dirs = Vec::new();
    store.each_dir("a/", |dir| dirs.push(dir)).await.unwrap();
    store.each_dir("nothing/", |dir| dirs.push(dir)).await.unwrap();
    assert_eq!(dirs, ["a/b/"]);

    // Absence.
    let absent = store.get("a/absent").await.unwrap_err();
    assert!(absent.is_not_found() && !absent.is_transient(), "{absent}");
    let absent = async { store.read_stream("a/absent", 0..1).await?.try_collect::<Vec<Bytes>>().await };
    assert!(absent.await.unwrap_err().is_not_found());
    store.delete("a/absent").await.unwrap();
    for object in store.list("a/").await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(store.list("a/").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::Fs { root: dir.path().join("made/on/demand") }).unwrap();
    contract(&store).await;
    let left: Vec<_> = std::fs::read_dir(dir.path().join("made/on/demand/.tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    for outside in ["../x", "a/../../x", "/etc/x", ""] {
        assert!(store.put(outside, Bytes::new(), Condition::Overwrite).await.is_err(), "{outside}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_s3_server_keeps_the_contract() {
    let server = S3Server::start();
    let store = Store::open(&StoreConfig::S3(s3_config(&server))).unwrap();
    contract(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_said_in_words_and_without_the_secret() {
    let server = S3Server::start();
    let mut no_bucket = s3_config(&server);
    no_bucket.bucket = "tidemark-no-such-bucket".into();
    let mut wrong_secret = s3_config(&server);
    wrong_secret.secret_key = Some(SecretString::from("not-the-secret".to_owned()));
    let mut wrong_key = s3_config(&server);
    wrong_key.access_key = Some("nobody".into());
    let mut nobody_there = s3_config(&server);
    nobody_there.endpoint = Some("http://127.0.0.1:9".into());
    for (config, words, transient) in [
        (no_bucket, "does not exist", false),
        (wrong_secret, "refused the credentials", false),
        (wrong_key, "refused the credentials", false),
        (nobody_there, "did not answer", true),
    ] {
        let secret = "secret-of-the-tests";
        assert!(!format!("{config:?}").contains(secret));
        let store = Store::open(&StoreConfig::S3(config)).unwrap();
        let error = store.probe().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}: {error:?}");
        assert_eq!(error.is_transient(), transient, "{error:?}");
        assert!(!error.is_not_found());
        let all = format!("{error:?} {error} {store:?}");
        assert!(!all.contains(secret) && !all.contains("not-the-secret"), "{all}");
    }
}
