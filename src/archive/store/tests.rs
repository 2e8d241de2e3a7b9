use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Condition, Put, Store, StoreConfig, StoreError, Trouble};
use crate::archive::identity;
use crate::model::Flavor;

const CONTENT: Bytes = Bytes::from_static(b"content");

fn open(root: &Path) -> Store {
    Store::open(&StoreConfig::Fs { root: root.to_owned() }).unwrap()
}

/// Every kind of call, with how it ended.
async fn calls(store: &Store) -> Vec<(&'static str, Result<(), StoreError>)> {
    let streamed = async { store.read_stream("a/one", 0..7).await?.try_collect::<Vec<Bytes>>().await };
    vec![
        ("get", store.get("a/one").await.map(drop)),
        ("get what never was", store.get("a/never").await.map(drop)),
        ("find", store.find("a/never").await.map(drop)),
        ("get_range", store.get_range("a/one", 0..7).await.map(drop)),
        ("read_stream", streamed.await.map(drop)),
        ("stat", store.stat("a/one").await.map(drop)),
        ("list", store.list("a/").await.map(drop)),
        ("list_dirs", store.list_dirs("a/").await.map(drop)),
        ("list_level", store.list_level("").await.map(drop)),
        ("each_dir", store.each_dir("a/", drop).await),
        ("put", store.put("a/new", CONTENT, Condition::IfAbsent).await.map(drop)),
        ("put at the root", store.put("new", CONTENT, Condition::Overwrite).await.map(drop)),
        ("writer", store.writer("a/new", Condition::IfAbsent).await.map(drop)),
        ("delete", store.delete("a/never").await),
        (
            "the archive's identity",
            identity::read(store).await.map(drop).map_err(|e| match e {
                crate::archive::ArchiveError::Store { source } => source,
                other => panic!("{other}"),
            }),
        ),
    ]
}

fn is_away(what: &str, outcome: Result<(), StoreError>) {
    let error = outcome.expect_err(what);
    assert_eq!(error.trouble(), Trouble::NoBucket, "{what}: {error}");
    assert!(error.is_transient() && !error.is_not_found() && !error.is_refused(), "{what}: {error:?}");
}

#[tokio::test]
async fn a_folder_that_is_away_is_no_empty_one_and_nothing_is_made_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (root, away) = (dir.path().join("store"), dir.path().join("away"));
    let store = open(&root);
    for in_its_place in [false, true] {
        let put = store.put("a/one", CONTENT, Condition::Overwrite).await.unwrap();
        assert_eq!(put, Put::Created);
        let mut begun = store.writer("a/begun", Condition::IfAbsent).await.unwrap();
        begun.write(CONTENT).await.unwrap();
        fs::rename(&root, &away).unwrap();
        if in_its_place {
            fs::create_dir_all(root.join(".tmp")).unwrap();
        }
        for store in [store.clone(), open(&root)] {
            for (what, outcome) in calls(&store).await {
                is_away(what, outcome);
            }
        }
        is_away("finish", begun.finish().await.map(drop));
        if in_its_place {
            assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
            fs::remove_dir_all(&root).unwrap();
        }
        assert!(!root.exists());
        fs::rename(&away, &root).unwrap();
        for (what, outcome) in calls(&store).await {
            assert_eq!(outcome.err().filter(|e| !e.is_not_found()).map(|e| e.to_string()), None, "{what}");
        }
        assert_eq!(store.get("a/one").await.unwrap(), CONTENT);
        assert_eq!(store.stat("a/begun").await.unwrap(), None);
        for object in store.list("").await.unwrap() {
            store.delete(&object.key).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_numbered_anew_is_known_by_its_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (root, away) = (dir.path().join("store"), dir.path().join("away"));
    let store = open(&root);
    identity::ensure(&store, Flavor::Mysql, "server").await.unwrap();
    let renumber = |archive: &Path| {
        fs::rename(&root, &away).unwrap();
        fs::create_dir(&root).unwrap();
        fs::copy(archive, root.join("archive.json")).unwrap();
    };
    store.list("").await.unwrap();
    renumber(&away.join("archive.json"));
    assert!(identity::read(&store).await.unwrap().is_some());
    fs::remove_dir_all(&away).unwrap();

    let other = dir.path().join("other");
    identity::ensure(&open(&other), Flavor::Mysql, "server").await.unwrap();
    renumber(&other.join("archive.json"));
    is_away("another archive", store.get("archive.json").await.map(drop));
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    assert!(identity::read(&store).await.unwrap().is_some());
}

#[tokio::test]
async fn a_name_that_has_come_to_mean_another_folder_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("store");
    for place in ["first", "second"] {
        fs::create_dir(dir.path().join(place)).unwrap();
        let _ = fs::remove_file(&name);
        std::os::unix::fs::symlink(place, &name).unwrap();
        let _ = open(&name).put(place, CONTENT, Condition::IfAbsent).await.unwrap();
        assert!(dir.path().join(place).join(place).exists());
    }
}
