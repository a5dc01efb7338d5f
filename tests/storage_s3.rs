//! The S3 backend against real servers. `scripts/test.mjs` starts them and says in environment variables where they are; a
//! server that is missing is a failure. Only Ceph's is not to be had everywhere: there the script leaves the tests named
//! `rgw_…` out, and says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
// The runner says in the environment where its servers are.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use smartregistry_native::core::secret::Secret;
use smartregistry_native::core::time::Clock;
use smartregistry_native::storage::s3::{S3Descriptor, S3Store};
use smartregistry_native::storage::suite;
use smartregistry_native::storage::{
    CasLevel, Chunks, Condition, GetOptions, Key, Prefix, PutOptions, Store, StoreError,
};

/// The server of this kind: a descriptor as JSON, with a bucket of its own for each call.
fn descriptor(kind: &str) -> S3Descriptor {
    let variable = format!("SMARTREGISTRY_TEST_S3_{kind}");
    let text = std::env::var(&variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run these tests through `npm run test:core`"));
    let given: serde_json::Value = serde_json::from_str(&text).expect("the variable holds a descriptor");
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let bucket = uuid::Uuid::new_v4().simple().to_string();
    S3Descriptor {
        endpoint: text("endpoint").expect("endpoint"),
        port: given["port"].as_u64().map(|port| port.to_string()),
        use_ssl: given["useSsl"].as_bool(),
        access_key: text("accessKey").map(Secret::new),
        access_secret: text("accessSecret").map(Secret::new),
        region: text("region"),
        bucket_name: format!("{}-{}", kind.to_lowercase(), &bucket[..12]),
        directory_path: Some("reg/one".into()),
        ..S3Descriptor::default()
    }
}

async fn store(kind: &str) -> S3Store {
    let store = S3Store::new(&descriptor(kind), Clock::real()).unwrap();
    store.prepare().await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    store
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn bytes(count: usize) -> Bytes {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

async fn read(store: &dyn Store, name: &str, options: GetOptions) -> Bytes {
    let mut body = store.get(&key(name), options).await.unwrap().body;
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        whole.extend_from_slice(&chunk.unwrap());
    }
    whole.into()
}

/// All names, page by page.
async fn all(store: &dyn Store, prefix: &str, limit: usize, by_folder: bool) -> Vec<String> {
    let prefix = Prefix::new(prefix).unwrap();
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(&prefix, after.as_deref(), limit, by_folder).await.unwrap();
        assert!(page.objects.len() + page.prefixes.len() <= limit);
        let mut list = page.prefixes;
        list.extend(page.objects.iter().map(|object| object.key.to_string()));
        list.sort();
        names.append(&mut list);
        after = page.next;
        if after.is_none() {
            return names;
        }
    }
}

async fn basics(kind: &str) {
    let store = store(kind).await;
    let options = PutOptions {
        content_type: Some("application/json".into()),
        user: [("sr-w".to_owned(), "abc".to_owned())].into(),
        ..PutOptions::default()
    };
    let odd = "t/maven/a b+c~d/é(1)/%2f@x.jar";
    let version = store.put(&key(odd), Bytes::from_static(b"hello world").into(), options).await.unwrap();
    let meta = store.head(&key(odd)).await.unwrap();
    assert_eq!((meta.size, &meta.version), (11, &version));
    assert_eq!(meta.content_type.as_deref(), Some("application/json"));
    assert_eq!(meta.user["sr-w"], "abc");
    assert_eq!(read(&store, odd, GetOptions::default()).await, "hello world");
    let ranged = GetOptions { range: Some((6, Some(8))), ..GetOptions::default() };
    assert_eq!(read(&store, odd, ranged).await, "wo");
    let same = GetOptions { if_none_match: Some(version.clone()), ..GetOptions::default() };
    assert!(matches!(store.get(&key(odd), same).await, Err(StoreError::NotModified)));
    assert!(matches!(store.head(&key("no/such")).await, Err(StoreError::NotFound)));
    assert!(matches!(store.get(&key("no/such"), GetOptions::default()).await, Err(StoreError::NotFound)));

    let page = store.list(&Prefix::new("t/").unwrap(), None, 10, false).await.unwrap();
    assert_eq!(page.objects[0].key.as_str(), odd);

    let mut pieces = Chunks::default();
    for at in 0..20 {
        pieces.push(bytes(200_000).slice(at..));
    }
    let sent: Vec<u8> = pieces.pieces().concat();
    store.put(&key("t/pieces"), pieces, PutOptions::default()).await.unwrap();
    assert_eq!(read(&store, "t/pieces", GetOptions::default()).await, sent);

    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    let upload = store.begin(&key("t/big"), options).await.unwrap();
    let part = bytes(8 << 20);
    let mut parts = Vec::new();
    parts.push(store.part(&key("t/big"), &upload, 1, part.clone().into()).await.unwrap());
    parts.push(store.part(&key("t/big"), &upload, 2, bytes(1000).into()).await.unwrap());
    store.complete(&key("t/big"), &upload, &parts).await.unwrap();
    let whole = read(&store, "t/big", GetOptions::default()).await;
    assert_eq!(whole.len(), part.len() + 1000);
    assert!(whole.starts_with(&part) && whole.ends_with(&bytes(1000)));

    store.copy(&key("t/big"), &key("t/copy/of+big")).await.unwrap();
    assert_eq!(store.head(&key("t/copy/of+big")).await.unwrap().size, whole.len() as u64);
    let page = store.list(&Prefix::new("t/").unwrap(), None, 10, true).await.unwrap();
    assert_eq!(page.prefixes, ["t/copy/", "t/maven/"]);
    for limit in 1..4 {
        assert_eq!(all(&store, "t/", limit, true).await, ["t/big", "t/copy/", "t/maven/", "t/pieces"]);
        assert_eq!(all(&store, "t/", limit, false).await, ["t/big", "t/copy/of+big", odd, "t/pieces"]);
    }
    assert_eq!(all(&store, "t/maven/", 9, true).await, ["t/maven/a b+c~d/"]);
    store.delete_many(&[key("t/big"), key("t/copy/of+big"), key(odd), key("t/nothing")]).await.unwrap();
    let page = store.list(&Prefix::new("t/").unwrap(), None, 10, false).await.unwrap();
    assert_eq!(page.objects.len(), 1);
}

#[tokio::test]
async fn moto_basics() {
    basics("MOTO").await;
}

#[tokio::test]
async fn smarts3_basics() {
    basics("SMARTS3").await;
}

#[tokio::test]
async fn rgw_basics() {
    basics("RGW").await;
}

/// Probes a new bucket, then takes the verdict from where it was kept.
async fn probed(kind: &str, level: CasLevel, words: &str) {
    let descriptor = descriptor(kind);
    let store = S3Store::new(&descriptor, Clock::real()).unwrap();
    store.prepare().await.unwrap();
    let first = store.requests();
    let capabilities = store.capabilities();
    assert_eq!(capabilities.cas, level, "{kind}");
    assert!(capabilities.warnings.concat().contains(words), "{kind}: {:?}", capabilities.warnings);
    let again = S3Store::new(&descriptor, Clock::real()).unwrap();
    again.prepare().await.unwrap();
    assert_eq!(again.capabilities(), capabilities, "{kind}");
    // A good verdict takes races and is kept; a bad one takes few requests, at each start.
    let kept = again.requests() <= 2 && first > 50;
    assert_eq!(kept, level == CasLevel::L0, "{kind}: {first} requests, then {}", again.requests());
}

#[tokio::test]
async fn moto_is_probed() {
    probed("MOTO", CasLevel::L0, "").await;
}

#[tokio::test]
async fn smarts3_is_probed() {
    probed("SMARTS3", CasLevel::L2, "ignores conditional writes").await;
}

#[tokio::test]
async fn rgw_is_probed() {
    probed("RGW", CasLevel::L0, "").await;
}

/// Runs the behaviour suite but for `skipped`: what this server is known not to do, or not to survive.
async fn suite(kind: &str, skipped: &[&str]) {
    let store: Arc<dyn Store> = Arc::new(store(kind).await);
    let level = store.capabilities().cas;
    let mut failed = Vec::new();
    for check in suite::CHECKS.iter().filter(|check| check.applies(level) && !skipped.contains(&check.name)) {
        if tokio::spawn(check.run(Arc::clone(&store))).await.is_err() {
            failed.push(check.name);
        }
    }
    assert!(failed.is_empty(), "{kind} breaks {failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_promises() {
    // It answers 500 to a part of an aborted upload.
    suite("MOTO", &["an_aborted_upload_takes_no_part"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smarts3_keeps_the_promises() {
    let unable = [
        // A name of 255 bytes ends its process.
        "any_key_is_kept_apart",
        // It forgets an upload when its completion fails, and has no way to abort one.
        "a_part_stored_again_replaces_the_first",
        "an_aborted_upload_takes_no_part",
        "an_aborted_upload_is_not_completed",
    ];
    suite("SMARTS3", &unable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rgw_keeps_the_promises() {
    suite("RGW", &[]).await;
}
