//! Many writers, many processes, refusals, unknown outcomes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Change, Waiting, Worker};
use crate::core::error::{Error, Kind, Result};
use crate::core::time::Clock;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::local::{Durability, LocalStore};
use crate::storage::memory::MemoryStore;
use crate::storage::{CasLevel, Document, Edit, Key, Storage, StorageLimits, Store};

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Counts(BTreeMap<String, u64>);

impl Document for Counts {
    const CONTENT_TYPE: &'static str = "application/json";
    const LIMIT: u64 = 100_000;
    const NAME: &'static str = "count";

    fn parse(bytes: &Bytes) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|_| Error::internal("broken counts"))
    }

    fn serialize(&self) -> Result<Bytes> {
        Ok(serde_json::to_vec(self).unwrap().into())
    }
}

fn key() -> Key {
    Key::new("counts/all.json").unwrap()
}

fn storage(store: Arc<dyn Store>) -> Storage {
    Storage::new(store, None, &StorageLimits::default(), Clock::real())
}

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Clock::real()))
}

async fn folder(root: &Path) -> Arc<dyn Store> {
    let store = LocalStore::new(root.to_path_buf(), Durability::Relaxed, Clock::real());
    store.prepare().await.unwrap();
    Arc::new(store)
}

/// Not idempotent on purpose: a change that is applied twice shows.
async fn count(storage: &Storage, name: String) -> Result<(u64, Option<u64>)> {
    let change = move |counts: &mut Counts| {
        let count = counts.0.entry(name.clone()).or_default();
        *count += 1;
        Ok(Edit::Changed(*count))
    };
    storage.update(&key(), change).await
}

async fn now(storage: &Storage) -> BTreeMap<String, u64> {
    let loaded = storage.document_revalidated::<Counts>(&key()).await.unwrap();
    loaded.map(|loaded| loaded.document.0.clone()).unwrap_or_default()
}

/// Every storage, as a process of its own, changes the document in 64 ways at once, twice each.
async fn crowd(storages: Vec<Storage>) {
    let mut tasks = JoinSet::new();
    for (process, storage) in storages.iter().enumerate() {
        for task in 0..64 {
            let storage = storage.clone();
            tasks.spawn(async move {
                for round in 1..=2 {
                    let (count, size) = count(&storage, format!("{process}-{task}")).await.unwrap();
                    assert_eq!(count, round);
                    assert!(size.is_some());
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let counts = now(&storages[0]).await;
    assert_eq!(counts.len(), storages.len() * 64);
    assert!(counts.values().all(|count| *count == 2));
    assert!(storages.iter().all(|storage| storage.0.updates.is_idle()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_and_few_writes_are_made() {
    let store = memory();
    let storages: Vec<_> = (0..4).map(|_| storage(store.clone())).collect();
    crowd(storages.clone()).await;
    let figures: Vec<_> = storages.iter().map(Storage::update_figures).collect();
    let (writes, changes): (u64, u64) =
        figures.iter().fold((0, 0), |(w, c), f| (w + f.writes, c + f.changes));
    assert_eq!(changes, 512);
    assert!(writes <= 128, "{writes} writes for {changes} changes: {figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_in_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let mut storages = Vec::new();
    for _ in 0..4 {
        storages.push(storage(folder(root.path()).await));
    }
    crowd(storages).await;
}

/// A worker that has found nothing left to do is about to end when somebody comes who gets a new one.
#[tokio::test]
async fn a_worker_that_ends_takes_nothing_of_the_next_one() {
    let storage = storage(memory());
    let id = (key(), TypeId::of::<Counts>());
    let change = || -> Box<dyn Change<Counts>> {
        let nothing = |_: &mut Counts| Ok(Edit::Unchanged(()));
        Box::new(Waiting { change: nothing, answer: None, uncertain: false, reply: oneshot::channel().0 })
    };
    let updates = &storage.0.updates;
    let mut first = Worker::<Counts>::new(storage.clone(), id.clone());
    assert!(updates.push(&id, change()));
    assert!(first.next().is_some());
    assert!(!updates.push(&id, change()), "the first one is at it");
    assert!(first.next().is_some());
    assert!(first.next().is_none());
    assert!(updates.push(&id, change()), "the next one has it");
    drop(first);
    assert_eq!(updates.take::<Counts>(&id).map(|batch| batch.len()), Some(1));
    assert!(updates.take::<Counts>(&id).is_none());
    assert!(updates.push(&id, change()));
    drop(Worker::<Counts>::new(storage.clone(), id));
    assert!(updates.is_idle(), "one that was stopped leaves nobody waiting");
}

/// One process of [`two_processes_share_a_folder`].
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by two_processes_share_a_folder in processes of its own"]
async fn counting_process() {
    let root = std::env::var("COUNTING_ROOT").unwrap();
    let name = std::env::var("COUNTING_NAME").unwrap();
    let storage = storage(folder(Path::new(&root)).await);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (storage, name) = (storage.clone(), name.clone());
        tasks.spawn(async move {
            for _ in 0..25 {
                count(&storage, name.clone()).await.unwrap();
                count(&storage, "both".to_owned()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "storage::update::tests::counting_process"])
            .env("COUNTING_ROOT", root.path())
            .env("COUNTING_NAME", name)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children = [start("one"), start("two")];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let counts = now(&storage(folder(root.path()).await)).await;
    let expected = [("both", 400), ("one", 200), ("two", 200)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, expected.into());
}

#[tokio::test]
async fn a_refusal_leaves_the_batch_alone() {
    let store = memory();
    let storage = storage(store.clone());
    let refuse = |counts: &mut Counts| {
        counts.0.insert("half done".to_owned(), 1);
        Err::<Edit<()>, _>(Error::denied("no"))
    };
    let panicking = |_: &mut Counts| -> Result<Edit<()>> { panic!("a bug in a change") };
    let unchanged = |counts: &mut Counts| {
        counts.0.insert("not really".to_owned(), 1);
        Ok(Edit::Unchanged(7))
    };
    let key = key();
    let (one, refused, broken, same, two, last) = tokio::join!(
        count(&storage, "one".to_owned()),
        storage.update(&key, refuse),
        storage.update(&key, panicking),
        storage.update(&key, unchanged),
        count(&storage, "two".to_owned()),
        storage.update(&key, refuse),
    );
    assert_eq!((one.unwrap().0, two.unwrap().0, same.unwrap()), (1, 1, (7, None)));
    assert_eq!(refused.unwrap_err().kind(), Kind::Denied);
    assert_eq!(last.unwrap_err().kind(), Kind::Denied);
    assert_eq!(broken.unwrap_err().kind(), Kind::Internal);
    assert_eq!(storage.update_figures().writes, 1);
    assert_eq!(now(&storage).await.into_keys().collect::<Vec<_>>(), ["one", "two"]);
}

#[tokio::test]
async fn a_refusal_never_rests_on_an_old_document() {
    let store = memory();
    let (here, there) = (storage(store.clone()), storage(store));
    count(&here, "a".to_owned()).await.unwrap();
    there
        .update(&key(), |counts: &mut Counts| {
            counts.0.clear();
            Ok(Edit::Changed(()))
        })
        .await
        .unwrap();
    let create = |counts: &mut Counts| match counts.0.insert("a".to_owned(), 1) {
        None => Ok(Edit::Changed(())),
        Some(_) => Err(Error::new(Kind::Conflict, "it exists")),
    };
    here.update(&key(), create).await.unwrap();
    assert_eq!(here.update(&key(), create).await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_warm_change_costs_one_write() {
    let store = memory();
    let storage = storage(store.clone());
    count(&storage, "a".to_owned()).await.unwrap();
    let before = store.requests();
    count(&storage, "a".to_owned()).await.unwrap();
    assert_eq!(store.requests() - before, 1);
    assert_eq!(storage.document::<Counts>(&key()).await.unwrap().unwrap().document.0["a"], 2);
    assert_eq!(store.requests() - before, 1, "a process reads its own writes from memory");
}

#[tokio::test]
async fn what_is_too_large_fails_alone() {
    let storage = storage(memory());
    let key = key();
    let large = |counts: &mut Counts| {
        counts.0.insert("x".repeat(100_000), 1);
        Ok(Edit::Changed(()))
    };
    let (one, large, two) = tokio::join!(
        count(&storage, "one".to_owned()),
        storage.update(&key, large),
        count(&storage, "two".to_owned()),
    );
    assert_eq!(large.unwrap_err().kind(), Kind::TooLarge);
    assert_eq!((one.unwrap().0, two.unwrap().0), (1, 1));
}

#[tokio::test]
async fn a_change_survives_the_one_who_asked_for_it() {
    let storage = storage(memory());
    {
        let change = count(&storage, "a".to_owned());
        tokio::pin!(change);
        assert!(futures_util::poll!(&mut change).is_pending());
    }
    count(&storage, "b".to_owned()).await.unwrap();
    assert_eq!(now(&storage).await.len(), 2);
}

#[tokio::test]
async fn an_unknown_outcome_is_neither_lost_nor_doubled() {
    for fault in [Fault::Before, Fault::After, Fault::Throttled] {
        for call in 0..6 {
            let store = Arc::new(Faulty::new(memory()));
            let storage = storage(store.clone());
            // Both in one batch, then one on the cached document.
            store.fail_at(call, fault);
            let (a, b) = tokio::join!(count(&storage, "a".to_owned()), count(&storage, "b".to_owned()));
            let again = count(&storage, "a".to_owned()).await;
            let answers = (a.unwrap().0, b.unwrap().0, again.unwrap().0);
            assert_eq!(answers, (1, 1, 2), "{fault:?} at {call} of {:?}", store.names());
            store.heal();
            assert_eq!(now(&storage).await, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        }
    }
}

#[tokio::test]
async fn a_store_that_refuses_for_good_is_told_to_everybody() {
    let store = Arc::new(Faulty::new(memory()));
    let storage = storage(store.clone());
    store.fail_at(1, Fault::Failed);
    let (a, b) = tokio::join!(count(&storage, "a".to_owned()), count(&storage, "b".to_owned()));
    assert_eq!((a.unwrap_err().kind(), b.unwrap_err().kind()), (Kind::Internal, Kind::Internal));
    assert_eq!(count(&storage, "a".to_owned()).await.unwrap().0, 1);
}

#[tokio::test]
async fn a_store_that_stays_away_ends_in_503() {
    let store = Arc::new(Faulty::new(memory()));
    let storage = storage(store.clone());
    count(&storage, "a".to_owned()).await.unwrap();
    for call in 0..100 {
        store.fail_at(2 + call, Fault::Before);
    }
    let error = count(&storage, "a".to_owned()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.headers().iter().any(|(name, _)| name == http::header::RETRY_AFTER));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_conditional_writes_one_process_still_loses_nothing() {
    let store = Arc::new(MemoryStore::new(Clock::real()).with_cas(CasLevel::L2));
    crowd(vec![storage(store)]).await;
}
