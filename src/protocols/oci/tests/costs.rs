//! What operations cost, in requests to the store; and what they leave behind when any one of them fails.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;
use crate::core::time::Clock;
use crate::storage::Store;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;

/// How many requests to the store these requests of a client make, all of which succeed.
async fn cost(registry: &TestRegistry, requests: Vec<TestRequest>) -> u64 {
    let before = registry.store.requests();
    for request in requests {
        let answer = registry.send(request).await;
        assert!(answer.status < 400, "{answer:?}");
    }
    registry.store.requests() - before
}

#[tokio::test]
async fn a_hot_read_makes_one_request_or_none() {
    let registry = TestRegistry::with(json!({ "limits": { "metadataTtlMs": 600_000 } }), None, None).await;
    let digest = push_image(&registry, "a", "v", b"layer").await;
    let by_digest = format!("/v2/a/manifests/{digest}");
    let layer = format!("/v2/a/blobs/{}", sha256(b"layer"));
    // Another process, once warm.
    let other = TestRegistry::with(
        json!({ "limits": { "metadataTtlMs": 600_000 } }),
        Some(registry.store.clone()),
        None,
    )
    .await;
    assert_eq!(cost(&other, vec![get("/v2/a/manifests/v")]).await, 2, "tags, manifest");
    // A promise to who may be about to push; how old the link is was not known there.
    assert_eq!(cost(&other, vec![head(&layer)]).await, 2, "the link, the blob's metadata");
    for registry in [&registry, &other] {
        assert_eq!(cost(registry, vec![get("/v2/a/manifests/v"), head("/v2/a/manifests/v")]).await, 0);
        assert_eq!(cost(registry, vec![get(&by_digest), head(&by_digest), get("/v2/a/tags/list")]).await, 0);
        assert_eq!(cost(registry, vec![get(&layer)]).await, 1, "the blob itself");
        assert_eq!(cost(registry, vec![head(&layer)]).await, 1, "the blob's metadata");
        assert_eq!(cost(registry, vec![get(&layer).header("range", "bytes=1-2")]).await, 1);
    }
}

#[tokio::test]
async fn a_push_costs_what_it_must() {
    let registry = TestRegistry::with(json!({ "limits": { "metadataTtlMs": 600_000 } }), None, None).await;
    push_image(&registry, "a", "v", b"layer").await;
    let one = super::uploads::big(100, 1);
    let at_once = post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(&one))).body(one);
    assert_eq!(cost(&registry, vec![at_once]).await, 2, "blob, link");
    let place = super::uploads::open(&registry, "a").await;
    let two = super::uploads::big(100, 2);
    let last = put(&format!("{place}?digest={}", sha256(&two))).body(two);
    assert_eq!(cost(&registry, vec![last]).await, 4, "session, blob, link, end of session");
    let missing = cost_of_missing(&registry).await;
    assert_eq!(missing, 1, "the link that is not there");
    // One layer of fifty megabytes as docker pushes it.
    let layer = super::uploads::big(50 << 20, 3);
    let before = registry.store.requests();
    let place = super::uploads::open(&registry, "a").await;
    assert_eq!(registry.send(patch(&place).body(layer.clone())).await.status, 202);
    assert_eq!(registry.send(put(&format!("{place}?digest={}", sha256(&layer)))).await.status, 201);
    let spent = registry.store.requests() - before;
    assert!(spent <= 24, "{spent}");
    let again = put_manifest("a", "w", &image(b"{}", b"layer"));
    let spent = cost(&registry, vec![again]).await;
    assert!(spent <= 6, "two links, manifest, tags, manifest still there, entry in the index: {spent}");
}

#[tokio::test]
async fn a_deletion_reads_only_what_this_process_has_not_read() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
    let registry = TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await;
    let digests: Vec<String> = {
        let mut list = Vec::new();
        for number in 0..60_u8 {
            list.push(push_image(&registry, "a", &format!("t{number}"), &[number]).await);
        }
        list
    };
    push_blob(&registry, "a", b"free").await;
    push_blob(&registry, "a", b"free too").await;
    // Another process, which keeps no manifest in memory.
    let config = json!({ "limits": { "cache": 0 } });
    let other = TestRegistry::with(config, Some(store), None).await;
    let free = |blob: &[u8]| delete(&format!("/v2/a/blobs/{}", sha256(blob)));
    let first = cost(&other, vec![free(b"free")]).await;
    assert!((60..80).contains(&first), "every manifest once, though it looks twice: {first}");
    let second = cost(&other, vec![free(b"free too")]).await;
    assert!(second <= 10, "{second}");
    let gone = cost(&other, vec![delete(&format!("/v2/a/manifests/{}", digests[7]))]).await;
    assert!(gone <= 16, "{gone}");
    // What still counts is found among what is remembered.
    let needed = other.send(free(&[8])).await;
    assert_eq!((needed.status, code(&needed).as_str()), (405, "DENIED"));
    assert_eq!(other.send(free(&[7])).await.status, 202, "the manifest that named it is gone");
}

async fn cost_of_missing(registry: &TestRegistry) -> u64 {
    let before = registry.store.requests();
    let answer = registry.send(head(&format!("/v2/a/blobs/{}", sha256(b"missing")))).await;
    assert_eq!(answer.status, 404);
    registry.store.requests() - before
}

/// A whole push of an image, as docker does it: `true` if everything succeeded.
async fn push(registry: &TestRegistry, layer: &[u8]) -> bool {
    for blob in [&b"{}"[..], layer] {
        let digest = sha256(blob);
        let found = registry.send(head(&format!("/v2/a/blobs/{digest}"))).await;
        if found.status == 200 {
            continue;
        }
        let opened = registry.send(post("/v2/a/blobs/uploads/")).await;
        let Some(place) = opened.header("location") else { return false };
        if registry.send(patch(place).body(blob.to_vec())).await.status != 202
            || registry.send(put(&format!("{place}?digest={digest}"))).await.status != 201
        {
            return false;
        }
    }
    let mut manifest = image(b"{}", layer);
    manifest["subject"] = descriptor(IMAGE, b"subject");
    registry.send(put_manifest("a", "v", &manifest)).await.status == 201
}

/// No tag names a manifest that is not there, no manifest a blob that is not there or not visible, no blob is not its digest.
async fn check(store: &Arc<dyn Store>) {
    let registry = TestRegistry::with(json!({}), Some(Arc::clone(store)), None).await;
    let tags = registry.send(get("/v2/a/tags/list")).await;
    let names = if tags.status == 200 { tags.json()["tags"].as_array().unwrap().clone() } else { Vec::new() };
    for tag in names {
        let answer = registry.send(get(&format!("/v2/a/manifests/{}", tag.as_str().unwrap()))).await;
        assert_eq!(answer.status, 200, "the tag {tag} names nothing");
    }
    for key in registry.keys(false).await {
        if let Some(digest) = key.strip_prefix("oci/manifests/a/") {
            let manifest = registry.send(get(&format!("/v2/a/manifests/{digest}"))).await.json();
            for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
                let path = format!("/v2/a/blobs/{}", blob["digest"].as_str().unwrap());
                assert_eq!(registry.send(get(&path)).await.status, 200, "{path}");
            }
        }
        if let Some(hex) = key.strip_prefix("oci/blobs/sha256/") {
            let found = store.get(&Key::new(key.as_str()).unwrap(), GetOptions::default()).await.unwrap();
            let size = Some(found.meta.size);
            let bytes = Body::stream(found.body, size).into_bytes("blob", u64::MAX).await.unwrap();
            assert_eq!(sha256(&bytes), format!("sha256:{hex}"));
        }
    }
}

#[tokio::test]
async fn a_fault_at_any_call_of_a_push_breaks_nothing_and_a_retry_succeeds() {
    let layer = super::uploads::big((8 << 20) + 5000, 4);
    let mut most = 0;
    for fault in [Fault::Before, Fault::After, Fault::Failed, Fault::ShortBody] {
        let mut call = 0;
        loop {
            let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
            let faulty = Arc::new(Faulty::new(Arc::clone(&memory)));
            let store: Arc<dyn Store> = faulty.clone();
            let registry =
                TestRegistry::with(json!({ "limits": { "metadataTtlMs": 0 } }), Some(store), None).await;
            let start = faulty.calls();
            faulty.fail_at(start + call, fault);
            let pushed = push(&registry, &layer).await;
            let calls = faulty.calls() - start;
            check(&memory).await;
            faulty.heal();
            assert!(push(&registry, &layer).await, "{fault:?} at {call}: the retry fails");
            check(&memory).await;
            if call >= calls {
                assert!(pushed);
                break;
            }
            call += 1;
        }
        most = most.max(call);
    }
    assert!(most > 20, "the faults reach into the push: {most}");
}

/// A registry on a store that takes its time, so that requests meet, and can be told to fail.
async fn slow_registry() -> (TestRegistry, Arc<Faulty<dyn Store>>) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
    let store = Arc::new(Faulty::slow(memory, 1, 5));
    let registry = TestRegistry::with(json!({}), Some(store.clone() as Arc<dyn Store>), None).await;
    (registry, store)
}

/// Blobs pushed at the same moment into one repository; how each was answered.
async fn push_at_once(registry: &TestRegistry, name: &str, count: u8) -> Vec<u16> {
    let pushes = (0..count).map(|n| {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(&[n]));
        async move { registry.send(post(&path).body(vec![n])).await.status }
    });
    join_all(pushes).await
}

#[tokio::test(start_paused = true)]
async fn first_pushes_at_once_create_their_repository_once() {
    let (registry, store) = slow_registry().await;
    let before = store.calls();
    assert_eq!(push_at_once(&registry, "a", 64).await, [201; 64]);
    let names = store.names();
    let spent = names.get(before..).unwrap();
    assert_eq!(spent.iter().filter(|name| **name == "list").count(), 1, "{spent:?}");
    assert!(
        spent.len() <= 2 * 64 + 10,
        "each blob and its link, one look whose it is, one creation: {}",
        spent.len()
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_a_repository_is_created_fails_nobody() {
    let (registry, _) = slow_registry().await;
    for stay in 0..30 {
        let name = format!("a{stay}");
        let leaving = timeout(Duration::from_millis(stay), push_at_once(&registry, &name, 1));
        let (left, stayed) = tokio::join!(leaving, push_at_once(&registry, &name, 8));
        assert_eq!(stayed, [201; 8], "one left after {stay} ms: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_of_a_repository_is_not_kept() {
    for fault in [Fault::Before, Fault::Failed, Fault::Throttled] {
        for call in 0..24 {
            let (registry, store) = slow_registry().await;
            store.fail_at(store.calls() + call, fault);
            let first = push_at_once(&registry, "a", 8).await;
            assert_eq!(push_at_once(&registry, "a", 8).await, [201; 8], "{fault:?} at {call}: {first:?}");
            let listed = registry.send(get("/v2/a/tags/list")).await;
            assert_eq!(listed.status, 200, "{fault:?} at {call}");
        }
    }
}

#[tokio::test]
async fn an_upload_begins_although_the_store_loses_an_answer() {
    for fault in [Fault::Before, Fault::After, Fault::Throttled] {
        let (registry, store) = slow_registry().await;
        for _ in 0..2 {
            store.fail_at(store.calls(), fault);
            let place = super::uploads::open(&registry, "a").await;
            let digest = sha256(b"blob");
            let answer = registry.send(put(&format!("{place}?digest={digest}")).body("blob")).await;
            assert_eq!(answer.status, 201, "{fault:?}");
        }
    }
}
