//! When versions came out, by upstreams that do not say so.

use std::time::Duration;

use super::*;

fn undated(fake: &FakeUpstream, versions: &[&str]) -> Value {
    let mut document = packument(fake, "widget", versions);
    document.as_object_mut().unwrap().remove("time");
    document
}

fn abbreviated() -> TestRequest {
    get("/widget").header("accept", "application/vnd.npm.install-v1+json")
}

fn strict() -> Value {
    json!({ "cache": { "staleMaxAgeSeconds": 0 } })
}

#[tokio::test]
async fn what_nobody_dates_is_as_old_as_we_know_it() {
    let fake = FakeUpstream::start().await;
    fake.on("/widget", Reply::json(&undated(&fake, &["1.0.0"])));
    let registry = with(&fake, strict()).await;
    let seen = registry.clock.now().rfc3339();
    let full = registry.send(get("/widget")).await;
    assert_eq!(
        (&full.json()["time"]["1.0.0"], &full.json()["time"]["modified"]),
        (&json!(seen), &json!(seen))
    );
    assert_eq!(full.header("last-modified"), Some(registry.clock.now().http_date().as_str()));
    assert_eq!(registry.send(abbreviated()).await.json()["modified"], seen);
    // Asked for again it is the same, also for a process that knows it from the bucket alone.
    registry.clock.advance(Duration::from_hours(3));
    let again = registry.send(get("/widget")).await;
    assert_eq!(fake.count(), 2);
    assert_eq!((again.text(), again.header("etag")), (full.text(), full.header("etag")));
    let other = registry.another(json!({ "upstreams": { "npm": fake.config_with(strict()) } }), None).await;
    registry.clock.advance(Duration::from_hours(3));
    assert_eq!(other.send(abbreviated()).await.json()["modified"], seen);
    assert_eq!(fake.count(), 3);
    // What is new is new.
    fake.on("/widget", Reply::json(&undated(&fake, &["1.0.0", "1.1.0"])));
    registry.clock.advance(Duration::from_hours(3));
    let now = registry.clock.now().rfc3339();
    assert_eq!(other.send(abbreviated()).await.json()["modified"], now);
}

#[tokio::test]
async fn what_the_upstream_says_of_the_document_is_believed() {
    let fake = FakeUpstream::start().await;
    let said = "2024-05-06T07:08:09.000Z";
    let reply =
        Reply::json(&undated(&fake, &["1.0.0"])).header("last-modified", "Mon, 06 May 2024 07:08:09 GMT");
    fake.on("/widget", reply);
    assert_eq!(over(&fake).await.send(abbreviated()).await.json()["modified"], said);
    // An abbreviated form says it itself.
    let mut document = undated(&fake, &["1.0.0"]);
    document["modified"] = json!(said);
    fake.on("/widget", Reply::json(&document));
    assert_eq!(over(&fake).await.send(abbreviated()).await.json()["modified"], said);
    // Nothing is from the future, and what is dated stays dated.
    let reply =
        Reply::json(&undated(&fake, &["1.0.0"])).header("last-modified", "Mon, 06 May 2124 07:08:09 GMT");
    fake.on("/widget", reply);
    let registry = over(&fake).await;
    let now = registry.clock.now().rfc3339();
    assert_eq!(registry.send(abbreviated()).await.json()["modified"], now);
    fake.on("/widget", Reply::json(&packument(&fake, "widget", &["1.0.0"])));
    let dated = over(&fake).await.send(get("/widget")).await.json();
    assert_eq!(dated["time"]["1.0.0"], "2020-01-02T00:00:00.000Z");
}
