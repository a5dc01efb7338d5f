//! What broken-off publishes leave, and that nothing else goes.

use std::time::Duration;

use super::*;
use crate::core::time::Clock;
use crate::maintenance::Progress;
use crate::storage::memory::MemoryStore;
use crate::storage::{Key, PutOptions, Store};

async fn collect(registry: &TestRegistry, dry_run: bool) -> (u64, u64, Vec<String>) {
    let done = registry.registry.collect_garbage(dry_run, Progress::default()).await.unwrap();
    let report = &done.protocols["npm"];
    (report.count("files"), report.bytes, report.details.iter().map(|one| one.name.clone()).collect())
}

#[tokio::test]
async fn only_what_nothing_names_goes_and_only_when_it_is_old() {
    let registry = TestRegistry::new().await;
    publish(&registry, "@acme/widget", "1.0.0").await;
    let staged = TestRequest::new(http::Method::POST, "/npm/-/stage/package/@acme%2fwidget");
    let staged = registry.send(staged.json(&Package::new("@acme/widget", "2.0.0").body())).await;
    assert_eq!(staged.status, 201);
    let folder = "npm/packages/@acme/widget";
    let put = async |key: &str| {
        let key = Key::new(key).unwrap();
        registry
            .store
            .put(&key, bytes::Bytes::from_static(b"left over").into(), PutOptions::default())
            .await
            .unwrap();
    };
    let left =
        [format!("{folder}/acme-widget-1.1.0.tgz"), format!("{folder}/attestations/1.1.0.0a0a0a0a.json")];
    for key in &left {
        put(key).await;
    }
    put(&format!("{folder}/notes.txt")).await;
    let before = registry.keys(false).await;
    assert_eq!(collect(&registry, false).await.0, 0, "they may belong to a publish that is under way");
    registry.clock.advance(Duration::from_hours(25));
    assert_eq!(collect(&registry, true).await, (2, 18, left.to_vec()));
    assert_eq!(registry.keys(false).await, before);
    assert_eq!(collect(&registry, false).await, (2, 18, left.to_vec()));
    let after: Vec<_> = before.into_iter().filter(|key| !left.contains(key)).collect();
    assert_eq!(registry.keys(false).await, after);
    check_whole(&registry, "@acme/widget").await;
    let id = staged.json()["stageId"].as_str().unwrap().to_owned();
    let approve = TestRequest::new(http::Method::POST, &format!("/npm/-/stage/{id}/approve"));
    assert_eq!(registry.send(approve).await.status, 201);
    check_whole(&registry, "@acme/widget").await;
}

#[tokio::test]
async fn what_another_program_keeps_under_any_of_the_usual_names_stays() {
    let store = std::sync::Arc::new(MemoryStore::new(Clock::real()));
    let packument = json!({
        "name": "@acme/widget", "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": "@acme/widget", "version": "1.0.0", "dist": {} } },
    });
    let folder = "npm/packages/@acme/widget";
    for (file, text) in [
        ("index.json", packument.to_string()),
        ("@acme/widget-1.0.0.tgz", "x".to_owned()),
        ("widget-1.0.0.tgz", "x".to_owned()),
    ] {
        store
            .put(
                &Key::new(format!("{folder}/{file}")).unwrap(),
                bytes::Bytes::from(text).into(),
                PutOptions::default(),
            )
            .await
            .unwrap();
    }
    let registry = TestRegistry::with(json!({}), Some(store), None).await;
    registry.clock.advance(Duration::from_hours(24 * 3650));
    assert_eq!(collect(&registry, false).await.0, 0);
    assert_eq!(registry.keys(false).await.len(), 3);
}
