//! Staged publishing, as `npm stage` and `pnpm stage` do it.

use std::time::Duration;

use http::Method;

use super::*;

fn post(path: &str) -> TestRequest {
    TestRequest::new(Method::POST, path)
}

fn delete(path: &str) -> TestRequest {
    TestRequest::new(Method::DELETE, path)
}

async fn stage(registry: &TestRegistry, name: &str, version: &str) -> String {
    let path = format!("/npm/-/stage/package/{}", name.replace('/', "%2f"));
    let answer = registry.send(post(&path).json(&Package::new(name, version).body())).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(answer.json()["message"].is_string());
    answer.json()["stageId"].as_str().unwrap().to_owned()
}

async fn list(registry: &TestRegistry, query: &str) -> Value {
    let answer = registry.send(TestRequest::get(&format!("/npm/-/stage?{query}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_staged_version_is_seen_by_nobody_until_it_is_approved() {
    let registry = TestRegistry::new().await;
    publish(&registry, "@acme/widget", "1.0.0").await;
    let before = packument(&registry, "@acme/widget").await;
    let id = stage(&registry, "@acme/widget", "1.1.0").await;
    assert!(crate::core::id::is_uuid(&id));
    assert_eq!(packument(&registry, "@acme/widget").await, before);
    assert_eq!(registry.send(TestRequest::get("/npm/@acme/widget/-/widget-1.1.0.tgz")).await.status, 404);
    assert_eq!(registry.send(TestRequest::get("/npm/@acme/widget/1.1.0")).await.status, 404);

    let all = list(&registry, "page=0&perPage=100").await;
    assert_eq!((&all["total"], &all["page"], &all["perPage"]), (&json!(1), &json!(0), &json!(100)));
    let item = &all["items"][0];
    for (field, value) in [
        ("id", id.as_str()),
        ("packageName", "@acme/widget"),
        ("version", "1.1.0"),
        ("tag", "latest"),
        ("actor", "admin"),
        ("actorType", "user"),
    ] {
        assert_eq!(item[field], value);
    }
    let tgz = Package::new("@acme/widget", "1.1.0").tgz();
    assert_eq!(item["shasum"], Digest::of(Algorithm::Sha1, &tgz).hex());
    assert!(item["createdAt"].is_string());
    assert_eq!(list(&registry, "package=%40acme%2Fwidget").await["total"], 1);
    assert_eq!(list(&registry, "package=other").await["total"], 0);
    assert_eq!(&registry.send(TestRequest::get(&format!("/npm/-/stage/{id}"))).await.json(), item);
    let tarball = registry.send(TestRequest::get(&format!("/npm/-/stage/{id}/tarball"))).await;
    assert_eq!(
        (tarball.bytes().as_ref(), tarball.header("content-type")),
        (&tgz[..], Some("application/octet-stream"))
    );

    // Its number is taken, for a publish and for another stage.
    let again = registry.send(Package::new("@acme/widget", "1.1.0").file("x", "y").put()).await;
    assert_eq!(again.status, 403);
    assert_eq!(error_of(&again), "You cannot publish over the previously published versions: 1.1.0.");
    for version in ["1.0.0", "1.1.0"] {
        let body = Package::new("@acme/widget", version).body();
        let answer = registry.send(post("/npm/-/stage/package/@acme%2fwidget").json(&body)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }

    let answer = registry.send(post(&format!("/npm/-/stage/{id}/approve"))).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (201, &json!(true)), "{}", answer.text());
    let after = packument(&registry, "@acme/widget").await;
    assert_eq!(after["dist-tags"], json!({ "latest": "1.1.0" }));
    assert_eq!(
        after["versions"]["1.1.0"]["_npmUser"],
        json!({ "name": "admin", "email": "", "approver": { "name": "admin", "email": "" } })
    );
    check_whole(&registry, "@acme/widget").await;
    let accept = "application/vnd.npm.install-v1+json";
    let short = registry.send(TestRequest::get("/npm/@acme/widget").header("accept", accept)).await.json();
    assert_eq!(
        short["versions"]["1.1.0"]["_npmUser"],
        json!({ "approver": { "name": "admin", "email": "" } })
    );
    assert!(short["versions"]["1.0.0"].get("_npmUser").is_none());
    for request in [
        post(&format!("/npm/-/stage/{id}/approve")),
        delete(&format!("/npm/-/stage/{id}")),
        TestRequest::get(&format!("/npm/-/stage/{id}")),
    ] {
        assert_eq!(registry.send(request).await.status, 404);
    }
    assert!(!registry.keys(false).await.iter().any(|key| key.contains("staged")));
}

#[tokio::test]
async fn a_rejected_version_leaves_nothing() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let keys = registry.keys(false).await;
    let id = stage(&registry, "widget", "1.1.0").await;
    assert!(registry.keys(false).await.len() > keys.len());
    let answer = registry.send(delete(&format!("/npm/-/stage/{id}"))).await;
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    assert_eq!(registry.keys(false).await, keys);
    publish(&registry, "widget", "1.1.0").await;
}

#[tokio::test]
async fn a_brand_new_package_can_be_staged_and_is_hidden_meanwhile() {
    let registry = TestRegistry::new().await;
    let id = stage(&registry, "fresh", "1.0.0").await;
    assert_eq!(registry.send(TestRequest::get("/npm/fresh")).await.status, 404);
    let search = registry.send(TestRequest::get("/npm/-/v1/search?text=fresh")).await.json();
    assert_eq!(search["total"], 0);
    assert_eq!(registry.send(post(&format!("/npm/-/stage/{id}/approve"))).await.status, 201);
    assert_eq!(packument(&registry, "fresh").await["dist-tags"], json!({ "latest": "1.0.0" }));
    check_whole(&registry, "fresh").await;
}

#[tokio::test]
async fn pages_end_and_strangers_see_nothing() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let mut ids = Vec::new();
    for minor in 1..=5 {
        registry.clock.advance(Duration::from_secs(1));
        ids.push(stage(&registry, "widget", &format!("1.{minor}.0")).await);
    }
    let mut seen = Vec::new();
    for page in 0..4 {
        let answer = list(&registry, &format!("page={page}&perPage=2")).await;
        assert_eq!(answer["total"], 5);
        let items = answer["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, ids);
    let stranger = registry.send(TestRequest::get("/npm/-/stage").token("user:eve")).await.json();
    assert_eq!((&stranger["total"], &stranger["items"]), (&json!(0), &json!([])));
    let id = &ids[0];
    for request in [
        TestRequest::get(&format!("/npm/-/stage/{id}")),
        TestRequest::get(&format!("/npm/-/stage/{id}/tarball")),
        post(&format!("/npm/-/stage/{id}/approve")),
        delete(&format!("/npm/-/stage/{id}")),
    ] {
        assert_eq!(registry.send(request.token("user:eve")).await.status, 404);
    }
    assert_eq!(registry.send(TestRequest::get("/npm/-/stage").anonymous()).await.status, 401);
    assert_eq!(registry.send(post("/npm/-/stage/package/widget").token("reader")).await.status, 403);
    for bad in ["x", "..x", "00000000-0000-4000-8000-000000000000"] {
        assert_eq!(
            registry.send(TestRequest::get(&format!("/npm/-/stage/{bad}"))).await.status,
            404,
            "{bad}"
        );
    }
    let nothing = json!({ "name": "widget", "versions": { "2.0.0": {} } });
    assert_eq!(registry.send(post("/npm/-/stage/package/widget").json(&nothing)).await.status, 400);
}

#[tokio::test]
async fn what_waits_too_long_is_taken_away() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let keys = registry.keys(false).await;
    let id = stage(&registry, "widget", "1.1.0").await;
    registry.clock.advance(Duration::from_hours(24 * 30));
    assert_eq!(registry.send(post(&format!("/npm/-/stage/{id}/approve"))).await.status, 404);
    assert_eq!(list(&registry, "").await["total"], 0);
    assert_eq!(registry.keys(false).await, keys);
    publish(&registry, "widget", "1.1.0").await;
    check_whole(&registry, "widget").await;
}
