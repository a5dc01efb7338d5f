//! The log, its views, and what of them survives what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::rebuild::{Reconciled, Source, rebuild, reconcile};
use super::{Card, Change, Index, Wanted};
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::{Clock, Timestamp};
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;
use crate::storage::{Prefix, Storage, StorageLimits, Store};

struct Bench {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        Self { store: Arc::new(MemoryStore::new(clock.clone())), clock }
    }

    /// An index as another process has it.
    fn index(&self) -> Index {
        let limits = StorageLimits { metadata_ttl: Duration::ZERO, ..StorageLimits::default() };
        let storage = Storage::new(Arc::clone(&self.store), None, &limits, self.clock.clone());
        Index::new(&storage, ProtocolName::new("npm"), self.clock.clone()).unwrap()
    }

    async fn segments(&self) -> usize {
        let page = self.store.list(&Prefix::new("_sr/log/npm/").unwrap(), None, 1000, false).await.unwrap();
        page.objects.iter().filter(|one| one.key.as_str().contains(".jsonl.gz")).count()
    }
}

fn change(name: &str, description: &str) -> Change {
    let card = Card {
        description: description.to_owned(),
        shown: serde_json::value::to_raw_value(&serde_json::json!({ "name": name })).ok(),
        ..Card::default()
    };
    Change { name: name.to_owned(), event: "publish".into(), card: Some(card), ..Change::default() }
}

fn gone(name: &str) -> Change {
    Change { name: name.to_owned(), event: "delete".into(), gone: true, ..Change::default() }
}

async fn found(index: &Index, text: &str) -> Vec<String> {
    let words = text.split_whitespace().map(str::to_owned).collect();
    let found = index.search(&Wanted { words, ..Wanted::default() }, 0, 100).await.unwrap();
    assert_eq!(found.total, found.hits.len());
    found.hits.into_iter().map(|hit| hit.name).collect()
}

async fn names(index: &Index) -> Vec<String> {
    index.names(None, 100_000).await.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn every_process_sees_what_any_has_entered() {
    let bench = Bench::new();
    let (one, other) = (bench.index(), bench.index());
    assert_eq!(other.count().await.unwrap(), 0);
    one.record(vec![change("b", "second letter")]).await;
    other.record(vec![change("a", "first letter")]).await;
    for index in [&one, &other] {
        assert_eq!(names(index).await, ["a", "b"]);
        assert_eq!(found(index, "letter").await.len(), 2);
        assert_eq!(found(index, "first").await, ["a"]);
    }
    other.record(vec![gone("b")]).await;
    assert_eq!((names(&one).await, found(&one, "second").await), (vec!["a".to_owned()], vec![]));
    let (changes, serial) = one.changes(1, 10).await.unwrap();
    let seen: Vec<_> = changes.iter().map(|one| (one.serial, &*one.name, one.gone)).collect();
    assert_eq!((seen, serial), (vec![(2, "a", false), (3, "b", true)], 3));
}

#[tokio::test]
async fn compacting_loses_nothing_and_old_segments_go_after_the_grace_time() {
    let bench = Bench::new();
    let (index, other) = (bench.index(), bench.index());
    let mut expected = BTreeMap::new();
    for round in 0..20_u32 {
        for n in 0..5 {
            let name = format!("p{}", (round * 3 + n) % 23);
            index.record(vec![change(&name, &format!("round {round}"))]).await;
            expected.insert(name, round);
        }
        index.log.compact().await.unwrap();
    }
    let wanted: Vec<String> = expected.keys().cloned().collect();
    for index in [&index, &other, &bench.index()] {
        assert_eq!(names(index).await, wanted);
        for (name, round) in &expected {
            assert!(found(index, &format!("round {round}")).await.contains(name), "{name}");
        }
    }
    assert!(bench.segments().await > 20, "readers may still be at them");
    bench.clock.advance(Duration::from_hours(2));
    index.log.compact().await.unwrap();
    assert!(bench.segments().await < 12, "{}", bench.segments().await);
    assert_eq!(names(&bench.index()).await, wanted);
}

#[tokio::test]
async fn a_full_head_is_compacted_by_itself() {
    let bench = Bench::new();
    let index = bench.index();
    for n in 0..700 {
        index.record(vec![change(&format!("package-{n:03}"), &"x".repeat(100))]).await;
    }
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if index.log.head().await.unwrap().unwrap().size < 200 << 10 {
            break;
        }
    }
    assert!(index.log.head().await.unwrap().unwrap().size < 200 << 10);
    assert!(bench.segments().await > 0);
    assert_eq!(names(&bench.index()).await.len(), 700);
}

#[tokio::test]
async fn many_writers_lose_nothing_and_share_their_writes() {
    let bench = Bench::new();
    let indexes: Vec<_> = (0..4).map(|_| Arc::new(bench.index())).collect();
    let mut tasks = Vec::new();
    for n in 0..256 {
        let index = Arc::clone(&indexes[n % 4]);
        tasks.push(tokio::spawn(async move {
            index.record(vec![change(&format!("p{n:03}"), "")]).await;
            if n % 50 == 0 {
                index.log.compact().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let index = bench.index();
    assert_eq!(index.count().await.unwrap(), 256);
    let (changes, serial) = index.changes(0, 1000).await.unwrap();
    let serials: Vec<_> = changes.iter().map(|one| one.serial).collect();
    assert_eq!((serials, serial), ((1..=256).collect(), 256));
}

#[tokio::test]
async fn a_lost_answer_enters_nothing_twice() {
    for fault in [Fault::Before, Fault::After, Fault::Throttled] {
        for call in 0..4 {
            let memory = Arc::new(MemoryStore::new(Clock::real()));
            let faulty = Arc::new(Faulty::new(Arc::clone(&memory)));
            let storage =
                Storage::new(Arc::clone(&faulty) as _, None, &StorageLimits::default(), Clock::real());
            let index = Index::new(&storage, ProtocolName::new("npm"), Clock::real()).unwrap();
            index.record(vec![change("a", "")]).await;
            faulty.fail_at(faulty.calls() + call, fault);
            index.record(vec![change("b", "")]).await;
            faulty.heal();
            let bench = Bench { store: memory, clock: Clock::real() };
            let (changes, serial) = bench.index().changes(0, 10).await.unwrap();
            assert_eq!((changes.len(), serial), (2, 2), "{fault:?} at {call}");
        }
    }
}

#[derive(Default)]
struct Bucket(Mutex<BTreeMap<String, String>>);

impl Bucket {
    fn put(&self, name: &str, description: &str) {
        self.0.lock().insert(name.to_owned(), description.to_owned());
    }
}

#[async_trait]
impl Source for Bucket {
    async fn names(&self, after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
        let map = self.0.lock();
        let rest: Vec<String> = map
            .keys()
            .filter(|name| after.as_ref().is_none_or(|after| *name > after))
            .take(7)
            .cloned()
            .collect();
        let next = (rest.len() == 7).then(|| rest.last().cloned()).flatten();
        Ok((rest, next))
    }

    async fn change(&self, name: &str) -> Result<Option<Change>> {
        Ok(self.0.lock().get(name).map(|description| change(name, description)))
    }
}

#[tokio::test]
async fn an_old_bucket_is_entered_and_a_damaged_index_is_made_anew() {
    let (bench, bucket) = (Bench::new(), Bucket::default());
    for n in 0..30 {
        bucket.put(&format!("p{n:02}"), "old");
    }
    let index = bench.index();
    index.record(vec![change("p03", "new")]).await;
    index.record(vec![change("ghost", "")]).await;
    assert!(!index.is_complete().await.unwrap());
    let done = reconcile(&index, &bucket, |_| {}).await.unwrap();
    assert_eq!(done, Reconciled { names: 30, entered: 29, removed: 1 });
    let other = bench.index();
    assert!(other.is_complete().await.unwrap());
    assert_eq!((names(&other).await.len(), found(&other, "new").await), (30, vec!["p03".to_owned()]));
    assert_eq!(
        reconcile(&other, &bucket, |_| {}).await.unwrap(),
        Reconciled { names: 30, ..Reconciled::default() }
    );
    // Made anew, it is what the bucket says; processes that know the old one see that too.
    bucket.put("p03", "changed behind our back");
    bucket.0.lock().remove("p05");
    let done = rebuild(&index, &bucket, |_| {}).await.unwrap();
    assert_eq!(done, Reconciled { names: 29, entered: 29, removed: 0 });
    for index in [&index, &other] {
        assert_eq!((names(index).await.len(), found(index, "new").await.len()), (29, 0));
        assert_eq!(found(index, "behind").await, ["p03"]);
    }
}

#[tokio::test]
async fn results_are_ranked_as_people_expect() {
    let bench = Bench::new();
    let index = bench.index();
    for (name, description) in [
        ("left-pad", "String left pad"),
        ("@acme/left-pad", "Our own padding"),
        ("pad-left", "Left pad a string"),
        ("leftpad-cli", "Command line"),
        ("express", "Fast web framework"),
        ("express-session", "Session middleware for express"),
        ("webby", "Uses express for the web"),
    ] {
        index.record(vec![change(name, description)]).await;
    }
    let first = |list: Vec<String>| list.first().cloned().unwrap_or_default();
    assert_eq!(found(&index, "express").await, ["express", "express-session", "webby"]);
    assert_eq!(found(&index, "EXPR").await[0], "express");
    assert_eq!(first(found(&index, "left-pad").await), "left-pad");
    assert_eq!(first(found(&index, "left pad").await), "left-pad");
    assert_eq!(found(&index, "nothing-of-the-kind").await, [""; 0]);
    assert_eq!(found(&index, "web framework").await, ["express"]);
    assert_eq!(found(&index, "").await.len(), 7);
    assert_eq!(found(&index, "").await[0], "webby", "without words the newest comes first");
    let scoped = Wanted { scope: Some("acme".into()), ..Wanted::default() };
    assert_eq!(index.search(&scoped, 0, 10).await.unwrap().hits[0].name, "@acme/left-pad");
    // Room is made for what can be there, not for what is asked for.
    for (words, total) in [(vec![], 7), (vec!["web".to_owned()], 2)] {
        let wanted = Wanted { words, ..Wanted::default() };
        for (offset, limit) in
            [(usize::MAX, 1), (0, usize::MAX), (usize::MAX, usize::MAX), (1 << 50, 1 << 50)]
        {
            let found = index.search(&wanted, offset, limit).await.unwrap();
            let shown = if offset == 0 { total } else { 0 };
            assert_eq!((found.total, found.hits.len()), (total, shown), "{offset} {limit}");
        }
    }
    for odd in ["*", "\"", "a:b", "(", "[x TO y]", "~", "\u{0}", "é"] {
        found(&index, odd).await;
    }
}

#[tokio::test]
async fn what_was_imported_is_no_event_and_no_reason_to_wait() {
    let bench = Bench::new();
    let index = bench.index();
    index.log.import(vec![change("a", ""), change("b", "")]).await.unwrap();
    index.record(vec![change("a", "new")]).await;
    let all = index.events(0).await.unwrap();
    let told: Vec<_> = all.entries.iter().map(|one| (one.serial, one.name.as_str())).collect();
    assert_eq!((told, all.newest, all.gap), (vec![(3, "a")], 3, false));
    // Each change of a name that changed twice, also when the log was compacted in between.
    index.record(vec![change("a", "newer")]).await;
    index.log.compact().await.unwrap();
    let rest = bench.index().events(2).await.unwrap();
    assert_eq!((rest.entries.len(), rest.newest, rest.gap), (2, 4, false));
    index.log.clear().await.unwrap();
    index.log.import((0..200).map(|n| change(&format!("p{n}"), "")).collect()).await.unwrap();
    let made_anew = index.events(4).await.unwrap();
    assert_eq!((made_anew.entries.len(), made_anew.newest, made_anew.gap), (0, 204, true));
}
