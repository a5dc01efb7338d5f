//! Promises about single objects.

use std::collections::BTreeMap;

use futures_util::StreamExt;

use super::{Area, chunks, pattern};
use crate::storage::StoreError;
use crate::storage::store::{GetOptions, PutOptions, Version};

pub(super) async fn what_is_put_is_read(area: Area) {
    let user =
        BTreeMap::from([("sr-w".to_owned(), "one".to_owned()), ("sha256".to_owned(), "00".to_owned())]);
    let options = PutOptions {
        content_type: Some("application/json".to_owned()),
        user: user.clone(),
        ..PutOptions::default()
    };
    let mut data = chunks("{\"a\":");
    data.push("1}".into());
    let version = area.store.put(&area.key("a.json"), data, options).await.unwrap();
    let meta = area.store.head(&area.key("a.json")).await.unwrap();
    assert_eq!(meta.version, version);
    assert_eq!(meta.size, 7);
    assert_eq!(meta.content_type.as_deref(), Some("application/json"));
    assert_eq!(meta.user, user);
    let found = area.store.get(&area.key("a.json"), GetOptions::default()).await.unwrap();
    assert_eq!(found.meta, meta);
    assert_eq!(area.read("a.json").await, "{\"a\":1}");
}

pub(super) async fn nothing_is_not_found(area: Area) {
    assert!(area.is_missing("none").await);
    area.put("a/b", "x").await;
    assert!(area.is_missing("a").await, "a folder is no object");
    assert!(area.is_missing("a/b/c").await, "below an object is nothing");
}

pub(super) async fn an_overwrite_has_another_version(area: Area) {
    let first = area.put("a", "one").await;
    let second = area.put("a", "two").await;
    assert_ne!(first.version, second.version);
    assert_eq!(area.read("a").await, "two");
}

pub(super) async fn a_range_is_cut_to_the_object(area: Area) {
    area.put("a", "0123456789").await;
    for (range, expected) in [
        ((0, Some(1)), "0"),
        ((3, Some(7)), "3456"),
        ((9, None), "9"),
        ((4, None), "456789"),
        ((8, Some(1 << 40)), "89"),
        ((0, Some(10)), "0123456789"),
    ] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let found = area.store.get(&area.key("a"), options.clone()).await.unwrap();
        assert_eq!((found.range.start, found.range.len()), (range.0, expected.len() as u64), "{range:?}");
        assert_eq!(found.meta.size, 10, "the size is the object's, not the range's");
        assert_eq!(area.get("a", options).await.unwrap(), expected, "{range:?}");
    }
    for range in [(10, None), (11, Some(12))] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let error = area.get("a", options).await.unwrap_err();
        assert!(matches!(error, StoreError::Range { size: 10 }), "{range:?}: {error:?}");
    }
}

pub(super) async fn an_unchanged_object_is_not_sent_again(area: Area) {
    let first = area.put("a", "one").await.version;
    let options = GetOptions { if_none_match: Some(first), ..GetOptions::default() };
    assert!(matches!(area.get("a", options.clone()).await, Err(StoreError::NotModified)));
    area.put("a", "two").await;
    assert_eq!(area.get("a", options.clone()).await.unwrap(), "two");
    assert!(matches!(area.get("none", options).await, Err(StoreError::NotFound)));
}

pub(super) async fn a_read_goes_on_only_in_the_same_version(area: Area) {
    let first = area.put("a", "one").await.version;
    let options = GetOptions { range: Some((1, None)), if_match: Some(first), ..GetOptions::default() };
    assert_eq!(area.get("a", options.clone()).await.unwrap(), "ne");
    area.put("a", "two").await;
    assert!(matches!(area.get("a", options.clone()).await, Err(StoreError::Precondition)));
    let never = GetOptions { if_match: Some(Version("\"never\"".into())), ..GetOptions::default() };
    assert!(matches!(area.get("a", never).await, Err(StoreError::Precondition)));
    assert!(matches!(area.get("none", options).await, Err(StoreError::NotFound)));
}

pub(super) async fn an_empty_object_is_an_object(area: Area) {
    let meta = area.put("a", "").await;
    assert_eq!(meta.size, 0);
    assert_eq!(area.read("a").await, "");
    let options = GetOptions { range: Some((0, None)), ..GetOptions::default() };
    assert!(matches!(area.get("a", options).await, Err(StoreError::Range { size: 0 })));
    let page = area.store.list(&area.prefix(""), None, 10, false).await.unwrap();
    assert_eq!(page.objects.len(), 1);
}

pub(super) async fn any_key_is_kept_apart(area: Area) {
    let long = "x".repeat(255);
    let names = [
        "maven/1.0+build/a-1.0+build.jar",
        "maven/1.0 build/a-1.0 build.jar",
        "npm/@scope/name",
        "npm/@scope%2fname",
        "npm/@scope%2Fname",
        "npm/@scope%252fname",
        "gems/RedCloth",
        "gems/redcloth",
        "oci/sha256:00ff",
        "ünïcödé/日本/🦀",
        "a=b&c=d?e#f;g,h'i\"j<k>l|m*n~o!p(q)r[s]t{u}v^w`x$y@z",
        ".hidden",
        "con",
        "nul.txt",
        "dots...",
        "...",
        "-",
        long.as_str(),
    ];
    for name in names {
        area.put(name, name).await;
    }
    for name in names {
        assert_eq!(area.read(name).await, name.as_bytes(), "{name}");
    }
    let page = area.store.list(&area.prefix(""), None, 100, false).await.unwrap();
    let mut expected: Vec<_> = names.iter().map(|name| area.key(name)).collect();
    expected.sort();
    assert_eq!(page.objects.into_iter().map(|one| one.key).collect::<Vec<_>>(), expected);
}

pub(super) async fn deleting_is_final_and_idempotent(area: Area) {
    area.put("a", "x").await;
    area.store.delete(&area.key("a")).await.unwrap();
    assert!(area.is_missing("a").await);
    area.store.delete(&area.key("a")).await.unwrap();
    area.put("a", "y").await;
    assert_eq!(area.read("a").await, "y");
}

pub(super) async fn many_are_deleted_at_once(area: Area) {
    area.put("kept", "x").await;
    // More than one request of S3 can name, most of them missing.
    let keys: Vec<_> = (0..1100).map(|number| area.key(&format!("n/{number} +"))).collect();
    for at in [0, 1, 500, 999, 1000, 1099] {
        area.put(&format!("n/{at} +"), "x").await;
    }
    area.store.delete_many(&keys).await.unwrap();
    area.store.delete_many(&[]).await.unwrap();
    let page = area.store.list(&area.prefix(""), None, 100, false).await.unwrap();
    assert_eq!(page.objects.iter().map(|one| &one.key).collect::<Vec<_>>(), [&area.key("kept")]);
}

pub(super) async fn a_copy_has_bytes_and_metadata(area: Area) {
    let options = PutOptions {
        content_type: Some("text/plain".to_owned()),
        user: BTreeMap::from([("sha256".to_owned(), "00".to_owned())]),
        ..PutOptions::default()
    };
    area.store.put(&area.key("from"), chunks("bytes"), options).await.unwrap();
    area.put("to/there", "old").await;
    area.store.copy(&area.key("from"), &area.key("to/there")).await.unwrap();
    let (from, to) = (area.key("from"), area.key("to/there"));
    let (from, to) = (area.store.head(&from).await.unwrap(), area.store.head(&to).await.unwrap());
    assert_eq!((to.size, to.content_type, to.user), (from.size, from.content_type, from.user));
    area.put("from", "changed").await;
    assert_eq!(area.read("to/there").await, "bytes");
    let missing = area.store.copy(&area.key("none"), &area.key("to/there")).await;
    assert!(matches!(missing, Err(StoreError::NotFound)));
    assert_eq!(area.read("to/there").await, "bytes");
}

pub(super) async fn a_rename_leaves_nothing_behind(area: Area) {
    area.put("from/here", "bytes").await;
    area.put("to", "old").await;
    area.store.rename(&area.key("from/here"), &area.key("to")).await.unwrap();
    assert!(area.is_missing("from/here").await);
    assert_eq!(area.read("to").await, "bytes");
    let missing = area.store.rename(&area.key("from/here"), &area.key("to")).await;
    assert!(matches!(missing, Err(StoreError::NotFound)));
    assert_eq!(area.read("to").await, "bytes");
    area.store.rename_absent(&area.key("to"), &area.key("deep/er/to")).await.unwrap();
    assert_eq!(area.read("deep/er/to").await, "bytes");
}

pub(super) async fn a_reader_never_sees_a_mixture(area: Area) {
    area.put("a", &"0".repeat(1000)).await;
    let writer = area.clone();
    let writing = tokio::spawn(async move {
        for round in 0..40u32 {
            let digit = char::from_digit(round % 10, 10).unwrap();
            let len = 1 + (round as usize * 7919) % 200_000;
            let data = chunks(&digit.to_string().repeat(len));
            writer.store.put(&writer.key("a"), data, PutOptions::default()).await.unwrap();
        }
    });
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let area = area.clone();
        readers.spawn(async move {
            for _ in 0..25 {
                let bytes = area.read("a").await;
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture of {} bytes", bytes.len());
            }
        });
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    writing.await.unwrap();
}

pub(super) async fn an_open_read_outlives_the_object(area: Area) {
    let data = pattern(0, 3_000_000);
    area.store.put(&area.key("a"), data.clone().into(), PutOptions::default()).await.unwrap();
    let mut found = area.store.get(&area.key("a"), GetOptions::default()).await.unwrap();
    let mut read = found.body.next().await.unwrap().unwrap().to_vec();
    area.store.put(&area.key("a"), pattern(7, 3_000_000).into(), PutOptions::default()).await.unwrap();
    area.store.delete(&area.key("a")).await.unwrap();
    // The rest of the same bytes, or an error: never another's bytes, never a quiet end.
    while let Some(chunk) = found.body.next().await {
        match chunk {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(_) => return,
        }
    }
    assert!(read == data, "another object's bytes came in");
}
