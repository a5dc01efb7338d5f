//! What only the index knows: searches, the change feed, and documents that another process has changed.

use std::sync::Arc;

use super::*;
use crate::core::time::Clock;
use crate::storage::Store;
use crate::storage::memory::MemoryStore;

async fn publish_with(registry: &TestRegistry, name: &str, version: &str, fields: Value) {
    let answer = registry.send(Package::new(name, version).fields(fields).put()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn found(registry: &TestRegistry, query: &str) -> (Vec<String>, u64) {
    let answer = registry.send(TestRequest::get("/npm/-/v1/search").query(query)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let value = answer.json();
    let names = value["objects"].as_array().unwrap().iter();
    let names = names.map(|one| one["package"]["name"].as_str().unwrap().to_owned()).collect();
    (names, value["total"].as_u64().unwrap())
}

#[tokio::test]
async fn the_best_match_comes_first_and_every_word_counts() {
    let registry = TestRegistry::new().await;
    for (name, description, keywords) in [
        ("pad", "Fills texts", json!(["text"])),
        ("left-pad", "Pads on the left", json!(["text", "pad"])),
        ("padding-box", "Layout", json!([])),
        ("@acme/pad", "Ours", json!(["internal"])),
        ("unrelated", "Knows how to pad as well", json!([])),
    ] {
        publish_with(&registry, name, "1.0.0", json!({ "description": description, "keywords": keywords }))
            .await;
    }
    let (names, total) = found(&registry, "text=pad").await;
    assert_eq!(total, 5);
    assert_eq!(names[..2], ["pad", "@acme/pad"], "{names:?}");
    assert_eq!(names.last().unwrap(), "unrelated", "{names:?}");
    assert_eq!(found(&registry, "text=left+pad").await.0, ["left-pad"]);
    assert_eq!(found(&registry, "text=scope:acme").await.0, ["@acme/pad"]);
    assert_eq!(found(&registry, "text=keywords:text%2Bpad").await.0, ["left-pad"]);
    assert_eq!(found(&registry, "text=keywords:text,-pad").await.0, ["pad"]);
    assert_eq!(found(&registry, "text=maintainer:admin").await.1, 5);
    assert_eq!(found(&registry, "text=author:nobody").await, (vec![], 0));
    let (page, total) = found(&registry, "text=pad&from=2&size=2").await;
    assert_eq!((page, total), (names[2..4].to_vec(), 5));
    // What has changed or gone is found as it is now.
    publish_with(&registry, "unrelated", "1.0.1", json!({ "description": "Nothing" })).await;
    let rev = packument(&registry, "pad").await["_rev"].as_str().unwrap().to_owned();
    let gone = TestRequest::new(http::Method::DELETE, &format!("/npm/pad/-rev/{rev}"));
    assert_eq!(registry.send(gone).await.status, 200);
    let (names, total) = found(&registry, "text=pad").await;
    assert_eq!((names.contains(&"pad".to_owned()), total), (false, 3), "{names:?}");
}

#[tokio::test]
async fn nobody_finds_what_they_may_not_read() {
    let auth = json!({
        "jwtSecret": "0123456789abcdef0123456789abcdef", "selfRegistration": true,
        "visibility": [{ "pattern": "npm:package:@secret/*", "visibility": "private" }],
    });
    let registry = TestRegistry::with_users(json!({ "auth": auth }), &[]).await;
    let token = super::users::log_in(&registry, "bob", "right horse").await;
    for name in ["@secret/tool", "@open/tool", "tool"] {
        let package = Package::new(name, "1.0.0");
        let mut body = package.body();
        if name == "tool" {
            body["access"] = json!("restricted");
        }
        let answer = registry.send(TestRequest::put(&package.path()).token(&token).json(&body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let ask = async |request: TestRequest| {
        let value = registry.send(request).await.json();
        let list = value.get("objects").or(value.get("results")).unwrap().as_array().unwrap().clone();
        let name = |one: &Value| {
            one.pointer("/package/name").or(one.get("id")).unwrap().as_str().unwrap().to_owned()
        };
        let mut names: Vec<String> = list.iter().map(name).collect();
        names.sort();
        names
    };
    let search = || TestRequest::get("/npm/-/v1/search").query("text=tool");
    let feed = || TestRequest::get("/npm/_changes");
    for request in [search, feed] {
        assert_eq!(ask(request().anonymous()).await, ["@open/tool"]);
        assert_eq!(ask(request().token(&token)).await, ["@open/tool", "@secret/tool", "tool"]);
    }
    let counted = registry.send(search().anonymous()).await.json();
    assert_eq!(counted["total"], 1, "what is hidden is not counted either");
}

#[tokio::test]
async fn a_mirror_follows_the_feed() {
    let registry = TestRegistry::new().await;
    for (name, version) in [("a", "1.0.0"), ("b", "1.0.0"), ("a", "1.1.0")] {
        publish(&registry, name, version).await;
    }
    let feed = async |query: &str| registry.send(TestRequest::get("/npm/_changes").query(query)).await.json();
    let all = feed("").await;
    let rev = packument(&registry, "a").await["_rev"].clone();
    assert_eq!(all["results"].as_array().unwrap().len(), 2);
    assert_eq!(all["results"][1], json!({ "seq": 3, "id": "a", "changes": [{ "rev": rev }] }));
    assert_eq!(all["last_seq"], 3);
    let root = registry.send(TestRequest::get("/npm/").anonymous()).await.json();
    assert_eq!(root, json!({ "db_name": "registry", "update_seq": 3 }));
    let page = feed("limit=1").await;
    assert_eq!((&page["results"][0]["id"], &page["last_seq"]), (&json!("b"), &json!(2)));
    assert_eq!(feed("limit=0").await["last_seq"], 2, "nothing is passed over that was not told");
    assert_eq!(feed("since=now").await, json!({ "results": [], "last_seq": 3 }));
    let rev = packument(&registry, "b").await["_rev"].as_str().unwrap().to_owned();
    registry.send(TestRequest::new(http::Method::DELETE, &format!("/npm/b/-rev/{rev}"))).await;
    let rest = feed("since=3").await;
    assert_eq!((&rest["results"][0]["deleted"], &rest["last_seq"]), (&json!(true), &json!(4)));
    assert_eq!(registry.send(TestRequest::get("/npm/_changes").query("since=x")).await.status, 400);
}

#[tokio::test]
async fn a_bucket_from_elsewhere_is_indexed_when_it_is_first_opened() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
    let first = TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await;
    for name in ["a", "@acme/b", "@acme/c", "d"] {
        publish(&first, name, "1.0.0").await;
    }
    for key in first
        .store
        .list(&crate::storage::Prefix::new("_sr/").unwrap(), None, 100, false)
        .await
        .unwrap()
        .objects
    {
        first.store.delete(&key.key).await.unwrap();
    }
    let other = TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await;
    let (mut names, total) = found(&other, "text=").await;
    names.sort();
    assert_eq!((names, total), (["@acme/b", "@acme/c", "a", "d"].map(str::to_owned).to_vec(), 4));
    let log = crate::storage::Prefix::new("_sr/log/npm/").unwrap();
    let before = store.list(&log, None, 100, false).await.unwrap().objects.len();
    let third = TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await;
    assert_eq!(found(&third, "text=").await.1, 4);
    assert_eq!(store.list(&log, None, 100, false).await.unwrap().objects.len(), before, "once is enough");
}

#[tokio::test]
async fn one_small_read_tells_which_documents_are_old() {
    let memory = Arc::new(MemoryStore::new(Clock::real()));
    let open = |ttl: u64| {
        let store = Arc::clone(&memory) as Arc<dyn Store>;
        TestRegistry::with(json!({ "limits": { "metadataTtlMs": ttl } }), Some(store), None)
    };
    let writer = open(0).await;
    for number in 0..20 {
        publish(&writer, &format!("p{number}"), "1.0.0").await;
    }
    let reader = open(50).await;
    let read_all = async || {
        let start = memory.requests();
        for number in 0..20 {
            packument(&reader, &format!("p{number}")).await;
        }
        memory.requests() - start
    };
    read_all().await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert!(read_all().await <= 2, "the head of the feed, not twenty documents");
    publish(&writer, "p7", "1.1.0").await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let spent = read_all().await;
    assert!(spent <= 3, "the head, and the one that changed: {spent}");
    assert_eq!(packument(&reader, "p7").await["dist-tags"]["latest"], "1.1.0");
}
