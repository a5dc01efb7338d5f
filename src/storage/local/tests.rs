//! What only the folder promises; the promises of every store are in the behaviour suite.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::naming::Naming;
use super::{Durability, LocalStore};
use crate::core::time::{Clock, Timestamp};
use crate::storage::store::{Chunks, Condition, GetOptions, PutOptions, Store, UploadId};
use crate::storage::{Key, Prefix, StoreError, suite};

async fn store(root: &Path) -> LocalStore {
    let store = LocalStore::new(root.to_path_buf(), Durability::Full, Clock::real()).with_part_size(1000);
    store.prepare().await.unwrap();
    store
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn chunks(text: &str) -> Chunks {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

async fn read(store: &LocalStore, name: &str) -> Result<String, StoreError> {
    use futures_util::TryStreamExt;
    let found = store.get(&key(name), GetOptions::default()).await?;
    let pieces: Vec<Bytes> = found.body.try_collect().await.unwrap();
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_promise() {
    for durability in [Durability::Relaxed, Durability::Full] {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::new(root.path().to_path_buf(), durability, Clock::real());
        let store: Arc<dyn Store> = Arc::new(store.with_part_size(300_000));
        store.prepare().await.unwrap();
        suite::run(&store, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_promise_on_a_volume_that_holds_little() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(".sr-naming"), r#"{"reserved":true,"folds":true}"#).unwrap();
    let store = LocalStore::new(root.path().to_path_buf(), Durability::Relaxed, Clock::real());
    let store: Arc<dyn Store> = Arc::new(store.with_part_size(300_000));
    store.prepare().await.unwrap();
    suite::run(&store, &[]).await;
}

#[tokio::test]
async fn a_key_is_a_plain_file_and_a_foreign_file_is_an_object() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let name = "oci/manifests/a/sha256:00";
    store.put(&key(name), chunks("ours"), PutOptions::default()).await.unwrap();
    assert_eq!(fs::read_to_string(root.path().join(name)).unwrap(), "ours");
    fs::create_dir_all(root.path().join("npm/packages/x")).unwrap();
    fs::write(root.path().join("npm/packages/x/index.json"), "{}").unwrap();
    let meta = store.head(&key("npm/packages/x/index.json")).await.unwrap();
    assert_eq!((meta.size, meta.content_type), (2, None));
    let options = PutOptions { condition: Condition::Matches(meta.version), ..PutOptions::default() };
    store.put(&key("npm/packages/x/index.json"), chunks("{ }"), options).await.unwrap();
    let page = store.list(&Prefix::new("").unwrap(), None, 10, false).await.unwrap();
    assert_eq!(page.objects.len(), 2);
}

#[tokio::test]
async fn bytes_that_a_foreign_program_changed_have_another_version() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let options = PutOptions { content_type: Some("text/plain".into()), ..PutOptions::default() };
    let version = store.put(&key("a/b"), chunks("first"), options).await.unwrap();
    fs::write(root.path().join("a/b"), "other").unwrap();
    let meta = store.head(&key("a/b")).await.unwrap();
    assert_ne!(meta.version, version);
    assert_eq!(meta.content_type.as_deref(), Some("text/plain"));
}

#[tokio::test]
async fn an_object_and_a_folder_share_a_name() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    for name in ["a", "a/b", "a/b/c", "x/y", "x"] {
        store.put(&key(name), chunks(name), PutOptions::default()).await.unwrap();
    }
    for name in ["a", "a/b", "a/b/c", "x/y", "x"] {
        assert_eq!(read(&store, name).await.unwrap(), name);
    }
    store.delete(&key("a/b/c")).await.unwrap();
    store.put(&key("a/b"), chunks("again"), PutOptions::default()).await.unwrap();
    assert_eq!(read(&store, "a/b").await.unwrap(), "again");
    let page = store.list(&Prefix::new("").unwrap(), None, 10, false).await.unwrap();
    let names: Vec<_> = page.objects.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(names, ["a", "a/b", "x", "x/y"]);
    for name in names {
        store.delete(&key(name)).await.unwrap();
    }
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with(".sr-")), "{left:?}");
}

#[tokio::test]
async fn writers_and_deleters_of_neighbours_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(
        LocalStore::new(root.path().to_path_buf(), Durability::Relaxed, Clock::real()).with_part_size(1000),
    );
    store.prepare().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..50 {
                let name = key(&format!("deep/{}/er/{task}", round % 3));
                store.put(&name, chunks("x"), PutOptions::default()).await.unwrap();
                store.head(&name).await.unwrap();
                store.delete(&name).await.unwrap();
                assert!(matches!(store.head(&name).await, Err(StoreError::NotFound)));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_volume_that_folds_case_keeps_both_names() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::new(root.path().to_path_buf(), Durability::Relaxed, Clock::real());
    store.folder.naming.set(Naming { reserved: true, folds: true }).unwrap();
    for name in ["gems/RedCloth", "gems/redcloth", "gems/ünï:*?", "gems/con"] {
        store.put(&key(name), chunks(name), PutOptions::default()).await.unwrap();
    }
    let files: Vec<_> =
        fs::read_dir(root.path().join("gems")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(files.iter().all(|file| file.to_str().unwrap().is_ascii()), "{files:?}");
    let page = store.list(&Prefix::new("gems/").unwrap(), None, 10, false).await.unwrap();
    let names: Vec<_> = page.objects.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(names, ["gems/RedCloth", "gems/con", "gems/redcloth", "gems/ünï:*?"]);
}

#[tokio::test]
async fn an_upload_goes_on_in_another_process_and_late_writes_cannot_change_it() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (store(root.path()).await, store(root.path()).await);
    let name = key("blobs/x");
    let upload = here.begin(&name, PutOptions::default()).await.unwrap();
    let one = here.part(&name, &upload, 1, chunks(&"a".repeat(1000))).await.unwrap();
    here.flush(&name, &upload).await.unwrap();
    let two = there.part(&name, &upload, 2, chunks("bb")).await.unwrap();
    // A request that lags behind writes the part again: what was promised for it no longer holds.
    let evil = here.part(&name, &upload, 1, chunks(&"e".repeat(1000))).await.unwrap();
    let error = there.complete(&name, &upload, &[one, two.clone()]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchUpload));
    there.complete(&name, &upload, &[evil, two]).await.unwrap();
    let late = here.part(&name, &upload, 1, chunks("late")).await.unwrap_err();
    assert!(matches!(late, StoreError::NoSuchUpload));
    assert_eq!(read(&there, "blobs/x").await.unwrap(), "e".repeat(1000) + "bb");
    assert_eq!(fs::read_dir(root.path().join(".sr-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_foreign_upload_id_never_becomes_a_path() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    store.put(&key("victim"), chunks("safe"), PutOptions::default()).await.unwrap();
    let id = UploadId("../victim".to_owned());
    store.abort(&key("x"), &id).await.unwrap();
    assert!(store.part(&key("x"), &id, 1, chunks("evil")).await.is_err());
    assert_eq!(read(&store, "victim").await.unwrap(), "safe");
}

#[tokio::test]
async fn the_sweep_takes_what_nobody_touched_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Clock::real().now());
    let store = LocalStore::new(root.path().to_path_buf(), Durability::Relaxed, clock.clone());
    store.prepare().await.unwrap();
    store.put(&key("kept"), chunks("kept"), PutOptions::default()).await.unwrap();
    let upload = store.begin(&key("x"), PutOptions::default()).await.unwrap();
    assert_eq!(store.sweep(Duration::from_hours(1)).await.unwrap(), 0);
    clock.advance(Duration::from_secs(3700));
    assert_eq!(store.sweep(Duration::from_hours(1)).await.unwrap(), 2);
    let gone = store.part(&key("x"), &upload, 1, chunks("x")).await.unwrap_err();
    assert!(matches!(gone, StoreError::NoSuchUpload));
    assert_eq!(read(&store, "kept").await.unwrap(), "kept");
    assert!(store.head(&key("kept")).await.unwrap().modified > Timestamp::from_millis(0));
}

#[tokio::test]
async fn our_own_folders_are_no_objects() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    store.put(&key(".sr-tmp/x"), chunks("x"), PutOptions::default()).await.unwrap();
    assert!(root.path().join("%2Esr-tmp/x").is_file());
    let page = store.list(&Prefix::new("").unwrap(), None, 10, false).await.unwrap();
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].key.as_str(), ".sr-tmp/x");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_ours_is_for_nobody_else_on_the_machine() {
    use std::os::unix::fs::PermissionsExt;
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("new/data");
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    let store = store(&root).await;
    store.put(&key("_sr/auth/jwt-secret"), chunks("s"), PutOptions::default()).await.unwrap();
    store.copy(&key("_sr/auth/jwt-secret"), &key("_sr/auth/copy")).await.unwrap();
    let large = key("_sr/upstream/npm/large");
    let upload = store.begin(&large, PutOptions::default()).await.unwrap();
    let part = store.part(&large, &upload, 1, chunks("x")).await.unwrap();
    store.complete(&large, &upload, &[part]).await.unwrap();
    for folder in ["", ".sr-tmp", ".sr-lock", "_sr", "_sr/auth", "_sr/upstream/npm"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["_sr/auth/jwt-secret", "_sr/auth/copy", "_sr/upstream/npm/large"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    // The sidecars, where the volume has no attributes or they are too long for one.
    let long = [("note".to_owned(), "n".repeat(4000))].into_iter().collect();
    store.put(&key("npm/x"), chunks("x"), PutOptions { user: long, ..PutOptions::default() }).await.unwrap();
    assert_eq!(mode(".sr-meta"), 0o700);
    // What is staged becomes a package's file and is no secret by itself: it is as open as any other, also once it has its place.
    fs::write(above.path().join("plain"), "").unwrap();
    let ordinary = fs::metadata(above.path().join("plain")).unwrap().permissions().mode() & 0o777;
    store.put(&key("_sr/staging/1"), chunks("x"), PutOptions::default()).await.unwrap();
    store.rename(&key("_sr/staging/1"), &key("oci/blobs/1")).await.unwrap();
    assert_eq!((mode("oci/blobs/1"), mode("npm/x")), (ordinary, ordinary));
    assert!(store.capabilities().warnings.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn secrets_that_are_open_already_are_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let set = |path: &str, mode| {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(root.path().join("_sr/auth")).unwrap();
    for folder in ["", "_sr", "_sr/auth"] {
        set(folder, 0o755);
    }
    let warnings = store(root.path()).await.capabilities().warnings;
    assert!(warnings.iter().any(|one| one.contains("chmod 700")), "{warnings:?}");
    // One closed folder on the way is enough.
    for folder in ["", "_sr", "_sr/auth"] {
        set(folder, 0o750);
        assert!(store(root.path()).await.capabilities().warnings.is_empty(), "{folder}");
        set(folder, 0o755);
    }
}
