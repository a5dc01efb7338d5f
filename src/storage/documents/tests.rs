//! One read for many, nothing stale after a write, nothing kept too long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::error::Result;
use crate::core::time::Clock;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;
use crate::storage::{Document, Edit, Key, PutOptions, Storage, StorageLimits, Store};

#[derive(Clone, Default, PartialEq, Debug)]
struct Text(String);

impl Document for Text {
    const CONTENT_TYPE: &'static str = "text/plain";
    const LIMIT: u64 = 10 << 20;
    const NAME: &'static str = "text";

    fn parse(bytes: &Bytes) -> Result<Self> {
        Ok(Self(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn serialize(&self) -> Result<Bytes> {
        Ok(self.0.clone().into())
    }
}

fn key() -> Key {
    Key::new("texts/one").unwrap()
}

fn setup(ttl: Duration) -> (Arc<Faulty<MemoryStore>>, Storage) {
    let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new(Clock::real()))));
    let limits = StorageLimits { metadata_ttl: ttl, ..StorageLimits::default() };
    (store.clone(), Storage::new(store, None, &limits, Clock::real()))
}

async fn set(storage: &Storage, text: &str) {
    let text = Text(text.to_owned());
    let change = move |document: &mut Text| {
        *document = text.clone();
        Ok(Edit::Changed(()))
    };
    storage.update(&key(), change).await.unwrap();
}

async fn foreign(store: &Faulty<MemoryStore>, text: &str) {
    let data = Bytes::copy_from_slice(text.as_bytes());
    store.inner().put(&key(), data.into(), PutOptions::default()).await.unwrap();
}

async fn read(storage: &Storage) -> Option<String> {
    storage.document::<Text>(&key()).await.unwrap().map(|loaded| loaded.document.0.clone())
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_read() {
    let (store, storage) = setup(Duration::from_mins(1));
    foreign(&store, "\u{feff}text").await;
    store.fail_at(0, Fault::Delay(Duration::from_millis(20)));
    let asked = futures_util::future::join_all((0..100).map(|_| read(&storage))).await;
    assert!(asked.iter().all(|text| text.as_deref() == Some("text")));
    assert_eq!(store.calls(), 1);
    assert!(storage.0.documents.flights.lock().is_empty());
}

#[tokio::test]
async fn whoever_goes_away_leaves_the_others_their_answer() {
    let (store, storage) = setup(Duration::from_mins(1));
    foreign(&store, "text").await;
    store.fail_at(0, Fault::Delay(Duration::from_millis(20)));
    let mut first = Box::pin(read(&storage));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(read(&storage));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.as_deref(), Some("text"));
    assert_eq!(store.calls(), 1);
    let name = Key::new("texts/none").unwrap();
    let mut alone = Box::pin(storage.document::<Text>(&name));
    let _ = futures_util::poll!(&mut alone);
    drop(alone);
    assert!(storage.0.documents.flights.lock().is_empty());
}

#[tokio::test]
async fn an_error_is_not_kept() {
    let (store, storage) = setup(Duration::from_mins(1));
    foreign(&store, "text").await;
    store.fail_at(0, Fault::Failed);
    assert!(storage.document::<Text>(&key()).await.is_err());
    assert_eq!(read(&storage).await.as_deref(), Some("text"));
}

#[tokio::test]
async fn a_read_that_began_before_a_write_neither_answers_nor_replaces_it() {
    let (store, storage) = setup(Duration::from_mins(1));
    foreign(&store, "old").await;
    // The store answers the first read with the old text, and late.
    store.fail_at(0, Fault::ShortBody);
    let slow = storage.document::<Text>(&key()).await;
    assert!(slow.is_err());
    let mut slow = Box::pin(read(&storage));
    store.fail_at(1, Fault::Delay(Duration::from_millis(30)));
    assert!(futures_util::poll!(&mut slow).is_pending());
    set(&storage, "new").await;
    assert_eq!(read(&storage).await.as_deref(), Some("new"));
    let _ = slow.await;
    assert_eq!(read(&storage).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_is_missing_is_remembered_until_it_is_written() {
    let (store, storage) = setup(Duration::from_mins(1));
    assert_eq!((read(&storage).await, read(&storage).await), (None, None));
    assert_eq!(store.calls(), 1);
    set(&storage, "here").await;
    assert_eq!(read(&storage).await.as_deref(), Some("here"));
    assert_eq!(store.names(), ["get", "put"], "what is known to be missing is created without asking again");
}

#[tokio::test]
async fn an_old_document_costs_a_conditional_read() {
    let (store, storage) = setup(Duration::ZERO);
    set(&storage, "one").await;
    let first = storage.document::<Text>(&key()).await.unwrap().unwrap();
    let second = storage.document::<Text>(&key()).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the same version is not parsed again");
    foreign(&store, "two").await;
    assert_eq!(read(&storage).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_large_document_is_read_and_changed() {
    let (_, storage) = setup(Duration::ZERO);
    set(&storage, &"x".repeat(2 << 20)).await;
    set(&storage, &"y".repeat(3 << 20)).await;
    assert_eq!(read(&storage).await.unwrap().len(), 3 << 20);
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let store = Arc::new(MemoryStore::new(Clock::real()));
    let limits = StorageLimits { cache_bytes: 100_000, ..StorageLimits::default() };
    let storage = Storage::new(store, None, &limits, Clock::real());
    for number in 0..100 {
        let key = Key::new(format!("texts/{number}")).unwrap();
        let change = |document: &mut Text| {
            document.0 = "x".repeat(5000);
            Ok(Edit::Changed(()))
        };
        storage.update(&key, change).await.unwrap();
    }
    storage.0.documents.cache.run_pending_tasks();
    assert!(storage.0.documents.cache.weighted_size() <= 100_000);
    assert!(storage.0.documents.cache.entry_count() >= 5);
}

#[tokio::test]
async fn what_was_read_stands_until_this_process_writes_or_learns_of_a_change() {
    let (store, storage) = setup(Duration::ZERO);
    let mut last = storage.generation();
    let mut moved = |storage: &Storage| {
        let now = storage.generation();
        std::mem::replace(&mut last, now) != now
    };
    set(&storage, "one").await;
    assert!(moved(&storage), "written");
    assert_eq!(read(&storage).await.as_deref(), Some("one"));
    assert!(!moved(&storage), "looked for, and the same");
    foreign(&store, "two").await;
    assert!(!moved(&storage), "nobody here knows yet");
    assert_eq!(read(&storage).await.as_deref(), Some("two"));
    assert!(moved(&storage), "learnt");
    storage.delete_document(&key()).await.unwrap();
    assert!(moved(&storage), "deleted");
    assert_eq!(read(&storage).await, None);
    assert!(moved(&storage), "found missing");
    assert_eq!(read(&storage).await, None);
    assert!(!moved(&storage), "missing still");
}

#[test]
fn what_was_read_stands_for_a_tenth_of_what_a_change_may_take_to_be_seen() {
    for (ttl, standing) in [(0, 0), (500, 50), (1000, 100), (600_000, 100)] {
        assert_eq!(setup(Duration::from_millis(ttl)).1.standing(), Duration::from_millis(standing));
    }
}
