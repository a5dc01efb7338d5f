//! Promises about conditional writes.

use tokio::task::JoinSet;

use super::{Area, chunks};
use crate::storage::StoreError;
use crate::storage::store::{Condition, GetOptions, PutOptions, Version};

fn on(condition: Condition) -> PutOptions {
    PutOptions { condition, ..PutOptions::default() }
}

pub(super) async fn only_the_first_creates(area: Area) {
    let key = area.key("a/b");
    area.store.put(&key, chunks("one"), on(Condition::Absent)).await.unwrap();
    let second = area.store.put(&key, chunks("two"), on(Condition::Absent)).await;
    assert!(matches!(second, Err(StoreError::Precondition)), "{second:?}");
    assert_eq!(area.read("a/b").await, "one");
    area.store.delete(&key).await.unwrap();
    area.store.put(&key, chunks("three"), on(Condition::Absent)).await.unwrap();
    assert_eq!(area.read("a/b").await, "three");
}

pub(super) async fn one_of_many_creators_wins(area: Area) {
    for round in 0..6 {
        let name = format!("race/{round}/x");
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            let (area, name) = (area.clone(), name.clone());
            tasks.spawn(async move {
                let text = format!("task {task}");
                let outcome = area.store.put(&area.key(&name), chunks(&text), on(Condition::Absent)).await;
                match outcome {
                    Ok(_) => Some(text),
                    Err(StoreError::Precondition | StoreError::Conflict) => None,
                    Err(error) => panic!("{error:?}"),
                }
            });
        }
        let winners: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(area.read(&name).await, winners[0]);
    }
}

pub(super) async fn only_the_known_version_is_replaced(area: Area) {
    let key = area.key("a");
    let first = area.store.put(&key, chunks("one"), on(Condition::Absent)).await.unwrap();
    let second = area.store.put(&key, chunks("two"), on(Condition::Matches(first.clone()))).await.unwrap();
    let stale = area.store.put(&key, chunks("stale"), on(Condition::Matches(first))).await;
    assert!(matches!(stale, Err(StoreError::Precondition)), "{stale:?}");
    assert_eq!(area.read("a").await, "two");
    area.store.delete(&key).await.unwrap();
    let absent = area.store.put(&key, chunks("absent"), on(Condition::Matches(second))).await;
    assert!(matches!(absent, Err(StoreError::Precondition)), "{absent:?}");
    let never = Version("\"00000000000000000000000000000000\"".to_owned());
    let absent = area.store.put(&key, chunks("absent"), on(Condition::Matches(never))).await;
    assert!(matches!(absent, Err(StoreError::Precondition)), "{absent:?}");
    assert!(area.is_missing("a").await);
}

pub(super) async fn no_replacement_is_lost(area: Area) {
    area.put("log", "").await;
    let mut tasks = JoinSet::new();
    for writer in 0..8 {
        let area = area.clone();
        tasks.spawn(async move {
            for number in 0..5 {
                add_line(&area, &format!("{writer}.{number}\n")).await;
            }
        });
    }
    tasks.join_all().await;
    let log = area.read("log").await;
    let mut lines: Vec<_> = std::str::from_utf8(&log).unwrap().lines().collect();
    lines.sort_unstable();
    let all: Vec<_> = (0..40).map(|at| format!("{}.{}", at / 5, at % 5)).collect();
    assert_eq!(lines, all);
}

/// Adds the line once, whatever the answers.
async fn add_line(area: &Area, line: &str) {
    loop {
        let found = area.store.get(&area.key("log"), GetOptions::default()).await.unwrap();
        let version = found.meta.version.clone();
        let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(found.body).await.unwrap();
        let mut text = String::from_utf8(pieces.concat()).unwrap();
        if text.contains(line) {
            return;
        }
        text.push_str(line);
        match area.store.put(&area.key("log"), chunks(&text), on(Condition::Matches(version))).await {
            Ok(_) => return,
            // Whether it has happened is seen at the next read.
            Err(StoreError::Precondition | StoreError::Conflict | StoreError::Unknown(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(super) async fn nothing_is_renamed_over_an_object(area: Area) {
    area.put("from", "new").await;
    area.put("to", "old").await;
    let refused = area.store.rename_absent(&area.key("from"), &area.key("to")).await;
    assert!(matches!(refused, Err(StoreError::Precondition)), "{refused:?}");
    assert_eq!((area.read("from").await, area.read("to").await), ("new".into(), "old".into()));
}
