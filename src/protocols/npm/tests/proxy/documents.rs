//! Packuments: how they are shown, how long they are kept, and what is asked of the upstream.

use std::time::Duration;

use super::*;

/// Asks until the upstream has been asked `count` times in all: what is asked beside an answer takes a moment.
async fn settles(fake: &FakeUpstream, count: usize) {
    for _ in 0..200 {
        if fake.count() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(
        fake.count(),
        count,
        "{:?}",
        fake.asked().iter().map(|one| one.path.clone()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_packument_is_shown_under_our_own_addresses() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "@them/widget", &["1.0.0", "1.1.0"]);
    let registry = over(&fake).await;
    let full = registry.send(get("/@them%2fwidget")).await;
    assert_eq!(full.status, 200, "{}", full.text());
    let document = full.json();
    let dist = &document["versions"]["1.1.0"]["dist"];
    assert_eq!(dist["tarball"], "http://registry.example.com/npm/@them/widget/-/widget-1.1.0.tgz");
    assert_eq!(dist["signatures"][0]["keyid"], "SHA256:theirs", "what they signed stays signed by them");
    assert_eq!(document["time"]["1.1.0"], "2020-01-02T00:00:00.000Z");
    assert_eq!(document["dist-tags"]["latest"], "1.1.0");
    assert_eq!(document["readme"], "hello");
    let abbreviated = get("/@them%2fwidget").header("accept", "application/vnd.npm.install-v1+json");
    let abbreviated = registry.send(abbreviated).await;
    assert!(abbreviated.json()["versions"]["1.0.0"].get("readme").is_none());
    assert_eq!(registry.send(get("/@them/widget/latest")).await.json()["version"], "1.1.0");
    assert_eq!(registry.send(get("/-/package/@them%2fwidget/dist-tags")).await.json()["latest"], "1.1.0");
    assert_eq!(fake.count(), 1, "one document makes all of these");
    let asked = &fake.asked()[0];
    assert_eq!((asked.path.as_str(), asked.header("authorization")), ("/@them%2fwidget", None));
    assert_eq!(asked.header("accept-encoding"), Some("gzip"));
    assert!(asked.header("user-agent").unwrap().starts_with("smartregistry-native/"));
}

#[tokio::test]
async fn a_version_without_a_signature_is_not_signed_by_us() {
    let fake = FakeUpstream::start().await;
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    document["versions"]["1.0.0"]["dist"].as_object_mut().unwrap().remove("signatures");
    fake.on("/widget", Reply::json(&document));
    let registry = over(&fake).await;
    let shown = registry.send(get("/widget")).await.json();
    assert!(shown["versions"]["1.0.0"]["dist"].get("signatures").is_none());
}

#[tokio::test]
async fn inside_its_time_nothing_is_asked_and_after_it_only_whether_it_changed() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry =
        with(&fake, json!({ "cache": { "defaultTtlSeconds": 60, "staleMaxAgeSeconds": 600 } })).await;
    let first = registry.send(get("/widget")).await;
    for _ in 0..5 {
        registry.send(get("/widget")).await;
    }
    assert_eq!(fake.count(), 1);
    registry.clock.advance(Duration::from_secs(61));
    let stale = registry.send(get("/widget")).await;
    assert_eq!(stale.text(), first.text(), "it is served at once");
    settles(&fake, 2).await;
    assert_eq!(fake.asked()[1].header("if-none-match"), Some("\"one\""));
    let again = registry.send(get("/widget")).await;
    assert_eq!(again.header("etag"), first.header("etag"), "unchanged is unchanged");
    settles(&fake, 2).await;

    registry.clock.advance(Duration::from_secs(61));
    let new = packument(&fake, "widget", &["1.0.0", "2.0.0"]);
    fake.on("/widget", Reply::json(&new).etag("\"two\""));
    registry.send(get("/widget")).await;
    settles(&fake, 3).await;
    assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "2.0.0");

    // Far too old to be shown unasked.
    fake.on("/widget", Reply::json(&packument(&fake, "widget", &["3.0.0"])).etag("\"three\""));
    registry.clock.advance(Duration::from_hours(3));
    assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "3.0.0");
}

#[tokio::test]
async fn other_processes_find_it_in_the_bucket() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let config = json!({ "upstreams": { "npm": fake.config() } });
    let registry = TestRegistry::with(config.clone(), None, None).await;
    registry.send(get("/widget")).await;
    let other = registry.another(config, None).await;
    assert_eq!(other.send(get("/widget")).await.status, 200);
    assert_eq!(fake.count(), 1);
    registry.clock.advance(Duration::from_secs(301));
    other.send(get("/widget")).await;
    settles(&fake, 2).await;
    // What one has asked for the other need not.
    registry.send(get("/widget")).await;
    settles(&fake, 2).await;
}

#[tokio::test]
async fn an_answer_that_comes_late_does_not_hide_what_another_process_has_heard() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let config = json!({ "upstreams": { "npm": fake.config_with(
        json!({ "cache": { "defaultTtlSeconds": 60, "staleMaxAgeSeconds": 0 } })
    ) } });
    let registry = Arc::new(TestRegistry::with(config.clone(), None, None).await);
    let other = registry.another(config, None).await;
    for one in [registry.as_ref(), &other] {
        one.send(get("/widget")).await;
    }
    registry.clock.advance(Duration::from_secs(61));
    let old = Reply::json(&packument(&fake, "widget", &["1.0.0"])).etag("\"one\"");
    fake.on("/widget", old.delay(Duration::from_millis(500)));
    let late = Arc::clone(&registry);
    let late = tokio::spawn(async move { late.send(get("/widget")).await });
    while fake.count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    registry.clock.advance(Duration::from_secs(1));
    let new = packument(&fake, "widget", &["1.0.0", "2.0.0"]);
    fake.on("/widget", Reply::json(&new).etag("\"two\""));
    assert_eq!(other.send(get("/widget")).await.json()["dist-tags"]["latest"], "2.0.0");
    assert_eq!(late.await.unwrap().json()["dist-tags"]["latest"], "1.0.0", "as it was told");
    for _ in 0..2 {
        assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "2.0.0");
        registry.clock.advance(Duration::from_secs(61));
    }
}

#[tokio::test]
async fn a_warm_hit_costs_the_store_no_more_than_one_of_ours() {
    use crate::core::time::Clock;
    use crate::storage::Store;
    use crate::storage::memory::MemoryStore;
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let memory = Arc::new(MemoryStore::new(Clock::real()));
    let config = json!({ "upstreams": { "npm": fake.config() }, "limits": { "metadataTtlMs": 600_000 } });
    let registry = TestRegistry::with(config, Some(Arc::clone(&memory) as Arc<dyn Store>), None).await;
    let cost = async |path: &str| {
        let before = memory.requests();
        assert_eq!(registry.send(get(path)).await.status, 200);
        memory.requests() - before
    };
    for path in ["/widget", "/widget/-/widget-1.0.0.tgz"] {
        cost(path).await;
    }
    assert_eq!(cost("/widget").await, 0);
    assert_eq!(cost("/widget/latest").await, 0);
    assert_eq!(cost("/widget/-/widget-1.0.0.tgz").await, 1, "the file itself");
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_request() {
    let fake = FakeUpstream::start().await;
    let reply = Reply::json(&packument(&fake, "widget", &["1.0.0"])).delay(Duration::from_millis(100));
    fake.on("/widget", reply);
    let registry = over(&fake).await;
    let all = futures_util::future::join_all((0..50).map(|_| registry.send(get("/widget")))).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_remembered_for_a_while() {
    let fake = FakeUpstream::start().await;
    let registry = over(&fake).await;
    for _ in 0..3 {
        assert_eq!(registry.send(get("/widget")).await.status, 404);
    }
    assert_eq!(fake.count(), 1);
    registry.clock.advance(Duration::from_secs(61));
    serve(&fake, "widget", &["1.0.0"]);
    assert_eq!(registry.send(get("/widget")).await.status, 200);
}

#[tokio::test]
async fn a_package_that_was_taken_away_is_gone_and_its_tarballs_stay() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    assert_eq!(
        registry.send(get("/widget/-/widget-1.0.0.tgz")).await.bytes(),
        &Bytes::from(tarball("1.0.0"))
    );
    fake.script(|_| Some(Reply::new(404, "{}")));
    registry.clock.advance(Duration::from_hours(3));
    assert_eq!(registry.send(get("/widget")).await.status, 404);
    assert_eq!(
        registry.send(get("/widget/-/widget-1.0.0.tgz")).await.bytes(),
        &Bytes::from(tarball("1.0.0"))
    );
    assert_eq!(registry.send(get("/widget/-/widget-1.0.1.tgz")).await.status, 404);
    let strict = TestRegistry::with(
        json!({
            "upstreams": { "npm": fake.config() },
            "npm": { "enabled": true, "basePath": "/npm", "features": { "keepRemoved": false } },
        }),
        Some(Arc::clone(&registry.store)),
        None,
    )
    .await;
    assert_eq!(strict.send(get("/widget/-/widget-1.0.0.tgz")).await.status, 404);
}

#[tokio::test]
async fn while_the_upstream_is_away_everything_that_was_seen_is_there() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    registry.send(get("/widget")).await;
    registry.send(get("/widget/-/widget-1.0.0.tgz")).await;
    drop(fake);
    registry.clock.advance(Duration::from_hours(24));
    assert_eq!(registry.send(get("/widget")).await.status, 200);
    assert_eq!(registry.send(get("/widget/-/widget-1.0.0.tgz")).await.status, 200);
    let unseen = registry.send(get("/gadget")).await;
    assert_eq!(unseen.status, 503, "a 404 would be believed");
    assert!(unseen.header("retry-after").is_some());
    assert!(unseen.json()["error"].as_str().unwrap().contains("upstream fake"), "{}", unseen.text());
    registry.clock.advance(Duration::from_hours(24 * 40));
    assert_eq!(registry.send(get("/widget")).await.status, 503, "too old to be told as true");
}

#[tokio::test]
async fn answers_say_how_they_came_about_if_that_is_wanted() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let npm = json!({ "enabled": true, "basePath": "/npm", "features": { "cacheStatus": true } });
    let config = json!({ "upstreams": { "npm": fake.config() }, "npm": npm });
    let registry = TestRegistry::with(config, None, None).await;
    let status = async |path: &str| registry.send(get(path)).await.header("cache-status").map(str::to_owned);
    assert_eq!(status("/widget").await.as_deref(), Some("\"fake\"; fwd=miss; stored"));
    assert_eq!(status("/widget").await.as_deref(), Some("\"fake\"; hit"));
    let quiet = over(&fake).await;
    assert_eq!(quiet.send(get("/widget")).await.header("cache-status"), None);
    let metrics = registry.registry.metrics().render();
    let answers = |verdict: &str| {
        format!(
            "smartregistry_upstream_answers_total{{protocol=\"npm\",upstream=\"fake\",verdict=\"{verdict}\"}} 1"
        )
    };
    assert!(metrics.contains(&answers("miss")) && metrics.contains(&answers("hit")), "{metrics}");
}

#[tokio::test]
async fn what_was_cached_can_be_thrown_away() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    serve(&fake, "gadget", &["1.0.0"]);
    let config = json!({ "upstreams": { "npm": fake.config() }, "limits": { "metadataTtlMs": 0 } });
    let registry = TestRegistry::with(config.clone(), None, None).await;
    let other = registry.another(config, None).await;
    for name in ["widget", "gadget"] {
        registry.send(get(&format!("/{name}"))).await;
        registry.send(get(&format!("/{name}/-/{name}-1.0.0.tgz"))).await;
        other.send(get(&format!("/{name}"))).await;
    }
    assert_eq!(fake.count(), 4);
    assert!(registry.registry.purge("npm", Some("widget")).await.unwrap() >= 3);
    assert_eq!(cached(&registry).await.len(), 1, "the other package's tarball stays");
    other.send(get("/widget")).await;
    assert_eq!(fake.count(), 5, "another process has heard of it");
    other.send(get("/gadget")).await;
    assert_eq!(fake.count(), 5);
    registry.registry.purge("npm", None).await.unwrap();
    assert!(cached(&registry).await.is_empty());
    assert_eq!(registry.registry.warm("npm", "widget@^1").await.unwrap(), 1);
    assert_eq!(registry.registry.warm("npm", "widget").await.unwrap(), 0, "it is here");
    let asked = fake.count();
    registry.send(get("/widget/-/widget-1.0.0.tgz")).await;
    assert_eq!(fake.count(), asked);
}
