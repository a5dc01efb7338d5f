//! Packuments of many versions: what a publish and a GET cost, and where growth ends.

use std::sync::Arc;

use super::*;
use crate::core::time::{Clock, Timestamp};
use crate::storage::memory::MemoryStore;
use crate::storage::{Key, PutOptions, Store};

const INDEX: &str = "npm/packages/widget/index.json";

/// A packument of so many versions as another program has written it, each of about `size` bytes.
fn many(versions: usize, size: usize) -> Vec<u8> {
    let filler = "x".repeat(size.saturating_sub(330));
    let mut list = Vec::new();
    let mut time = Vec::new();
    for at in 0..versions {
        list.push(format!(
            r#""1.0.{at}":{{"name":"widget","version":"1.0.{at}","scripts":{{"test":"{filler}"}},"dependencies":{{"a":"^1.0.0"}},"dist":{{"tarball":"http://x.example.com/widget-1.0.{at}.tgz","integrity":"sha512-{}","signatures":[{{"keyid":"k","sig":"s"}}]}}}}"#,
            "A".repeat(88)
        ));
        time.push(format!(r#""1.0.{at}":"2026-01-01T00:00:00.000Z""#));
    }
    format!(
        r#"{{"_id":"widget","_rev":"{versions}-x","name":"widget","dist-tags":{{"latest":"1.0.{}"}},"versions":{{{}}},"time":{{"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z",{}}},"maintainers":[{{"name":"admin"}}]}}"#,
        versions - 1,
        list.join(","),
        time.join(",")
    )
    .into_bytes()
}

async fn holding(document: Vec<u8>, config: Value) -> (TestRegistry, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::new(Clock::manual(Timestamp::from_millis(1_790_000_000_000))));
    memory
        .put(&Key::new(INDEX).unwrap(), bytes::Bytes::from(document).into(), PutOptions::default())
        .await
        .unwrap();
    // The first process over a bucket indexes it; another has read nothing of it.
    let open = || TestRegistry::with(config.clone(), Some(Arc::clone(&memory) as Arc<dyn Store>), None);
    open().await;
    (open().await, memory)
}

#[tokio::test]
async fn five_thousand_versions_are_read_once_and_written_once() {
    let text = many(5000, 1200);
    let size = text.len() as u64;
    assert!(size > 5_500_000, "{size}");
    let (registry, memory) = holding(text, json!({ "limits": { "metadataTtlMs": 600_000 } })).await;
    let mark = || (memory.requests(), memory.moved());
    let (requests, (read, _)) = mark();
    let document = packument(&registry, "widget").await;
    assert_eq!(document["versions"].as_object().unwrap().len(), 5000);
    let (after, (read_after, _)) = mark();
    assert_eq!((after - requests, read_after - read), (1, size));
    // Any number of further requests, in both forms, and a 304: nothing is read and nothing is made again.
    let accept = "application/vnd.npm.install-v1+json";
    for _ in 0..5 {
        packument(&registry, "widget").await;
        let short = registry.send(TestRequest::get("/npm/widget").header("accept", accept)).await;
        assert_eq!(short.status, 200);
        let tag = short.header("etag").unwrap().to_owned();
        let again = TestRequest::get("/npm/widget").header("accept", accept).header("if-none-match", &tag);
        assert_eq!(registry.send(again).await.status, 304);
    }
    assert_eq!(mark().0, after);
    // One more version: the tarball, the key, and the document once.
    registry.send(TestRequest::get("/npm/-/npm/v1/keys")).await;
    let (requests, (read, written)) = mark();
    let package = publish(&registry, "widget", "2.0.0").await;
    let (requests_after, (read_after, written_after)) = mark();
    assert_eq!((requests_after - requests, read_after - read), (3, 0));
    let tarball = package.tgz().len() as u64;
    let growth = written_after - written - tarball - size;
    assert!(growth < 4096, "{growth}");
    check_last(&registry).await;
}

/// The other versions have no tarballs here.
async fn check_last(registry: &TestRegistry) {
    let document = packument(registry, "widget").await;
    assert_eq!(document["versions"].as_object().unwrap().len(), 5001);
    assert_eq!(document["dist-tags"]["latest"], "2.0.0");
    assert_eq!(document["versions"]["1.0.4999"]["scripts"]["test"].as_str().unwrap().len(), 870);
}

#[tokio::test]
async fn beyond_the_limit_it_is_said_which_and_nothing_is_lost() {
    let text = many(100, 1200);
    let limit = text.len() as u64;
    let (registry, _) = holding(text, json!({ "limits": { "packument": limit } })).await;
    let mut last = 0;
    for minor in 1..40 {
        let answer = registry.send(Package::new("widget", &format!("2.{minor}.0")).put()).await;
        last = answer.status;
        if last == 413 {
            let error = error_of(&answer);
            assert!(error.contains("limits.packument") && error.contains(&limit.to_string()), "{error}");
            break;
        }
        assert_eq!(last, 201, "{}", answer.text());
    }
    assert_eq!(last, 413);
    let versions = packument(&registry, "widget").await["versions"].as_object().unwrap().len();
    let tarballs = registry.keys(false).await.iter().filter(|key| key.contains(".tgz")).count();
    assert_eq!(versions, 100 + tarballs, "the refused one has left no tarball");
    // Smaller changes still go.
    let tag = TestRequest::put("/npm/-/package/widget/dist-tags/old").body("\"1.0.0\"");
    assert_eq!(registry.send(tag).await.status, 201);
    let long = json!({ "versions": { "1.0.0": { "deprecated": "x".repeat(40_000) } } });
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&long)).await.status, 413);
}

#[tokio::test]
async fn the_same_publish_counts_as_a_retry_for_as_long_as_is_configured() {
    for (seconds, after, status) in [(3600, 3500, 201), (3600, 3700, 403), (0, 1, 403)] {
        let config = json!({ "npm": { "enabled": true, "basePath": "/npm", "publish": { "idempotentWindow": seconds } } });
        let registry = TestRegistry::with(config, None, None).await;
        let package = publish(&registry, "widget", "1.0.0").await;
        registry.clock.advance(std::time::Duration::from_secs(after));
        let again = registry.send(package.put()).await;
        assert_eq!(again.status, status, "{seconds} {after}");
        let program = TestRequest::put("/npm/widget").json(&package.body());
        assert_eq!(registry.send(program).await.status, 403, "a program wants to know");
        let other = registry.send(package.clone().file("x", "y").put()).await;
        assert_eq!(other.status, 403);
        assert_eq!(registry.keys(false).await.len(), 2);
        check_whole(&registry, "widget").await;
    }
}
