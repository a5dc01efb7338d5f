//! Upstreams of which nothing is kept: each document is what it says, and no other.

use super::*;

fn uncached() -> Value {
    json!({ "cache": { "enabled": false } })
}

#[tokio::test]
async fn what_changes_there_changes_here() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = with(&fake, uncached()).await;
    let first = registry.send(get("/widget")).await;
    let tag = first.header("etag").unwrap().to_owned();
    let known = || get("/widget").header("if-none-match", &tag);
    assert_eq!(registry.send(known()).await.status, 304, "unchanged is unchanged");
    serve(&fake, "widget", &["1.0.0", "1.1.0"]);
    let second = registry.send(known()).await;
    assert_eq!((second.status, &second.json()["dist-tags"]["latest"]), (200, &json!("1.1.0")));
    assert_eq!(registry.send(get("/widget/latest")).await.json()["version"], "1.1.0");
    let abbreviated = get("/widget").header("accept", "application/vnd.npm.install-v1+json");
    assert!(registry.send(abbreviated).await.json()["versions"]["1.1.0"].is_object());
}

#[tokio::test]
async fn a_policy_tells_packages_and_their_states_apart() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "evilpkg", &["6.6.6"]);
    serve(&fake, "lodash", &["4.0.0"]);
    let policy = json!({ "block": [{ "name": "elsewhere" }] });
    let registry = with(&fake, json!({ "cache": { "enabled": false }, "policy": policy })).await;
    assert_eq!(registry.send(get("/evilpkg")).await.json()["name"], "evilpkg");
    let other = registry.send(get("/lodash")).await.json();
    assert_eq!((&other["name"], &other["dist-tags"]["latest"]), (&json!("lodash"), &json!("4.0.0")));
    serve(&fake, "lodash", &["4.0.0", "4.0.1"]);
    assert_eq!(registry.send(get("/lodash/latest")).await.json()["version"], "4.0.1");
}

#[tokio::test]
async fn a_merged_package_follows_theirs() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = with(&fake, json!({ "cache": { "enabled": false }, "merge": ["widget"] })).await;
    publish(&registry, "widget", "0.1.0").await;
    assert!(registry.send(get("/widget")).await.json()["versions"]["1.0.0"].is_object());
    serve(&fake, "widget", &["1.0.0", "1.1.0"]);
    assert!(registry.send(get("/widget")).await.json()["versions"]["1.1.0"].is_object());
}

#[tokio::test]
async fn without_dates_the_first_look_is_what_is_known() {
    let fake = FakeUpstream::start().await;
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    document.as_object_mut().unwrap().remove("time");
    fake.on("/widget", Reply::json(&document));
    let registry = with(&fake, uncached()).await;
    let seen = registry.clock.now().rfc3339();
    for _ in 0..2 {
        assert_eq!(registry.send(get("/widget")).await.json()["time"]["1.0.0"], seen);
        registry.clock.advance(std::time::Duration::from_hours(1));
    }
}
