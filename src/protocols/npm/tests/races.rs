//! Several registries over one store, at the same time. Each is as a process of its own: nothing but the store is shared.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;

async fn four() -> Vec<Arc<TestRegistry>> {
    let first = TestRegistry::new().await;
    let store = Arc::clone(&first.store);
    let mut registries = vec![Arc::new(first)];
    for _ in 0..3 {
        registries.push(Arc::new(TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await));
    }
    registries
}

/// Sends requests at once, spread over the registries.
async fn at_once(registries: &[Arc<TestRegistry>], requests: Vec<TestRequest>) -> Vec<TestResponse> {
    let tasks = requests.into_iter().enumerate().map(|(at, request)| {
        let registry = Arc::clone(&registries[at % registries.len()]);
        tokio::spawn(async move { registry.send(request).await })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_versions_from_four_registries() {
    let registries = four().await;
    let requests = (0..64).map(|at| Package::new("widget", &format!("1.0.{at}")).put()).collect();
    let answers = at_once(&registries, requests).await;
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
    assert_eq!(packument(&fresh, "widget").await["versions"].as_object().unwrap().len(), 64);
    check_whole(&fresh, "widget").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_publishes_of_one_version_one_wins() {
    for _ in 0..10 {
        let registries = four().await;
        let requests =
            (0..10).map(|at| Package::new("widget", "1.0.0").file("which", format!("{at}")).put()).collect();
        let answers = at_once(&registries, requests).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 403, 403, 403, 403, 403, 403, 403, 403, 403]);
        let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
        check_whole(&fresh, "widget").await;
        // The losers took their own tarballs away again.
        let keys = all_keys(&fresh).await;
        assert_eq!(keys.iter().filter(|key| key.contains(".tgz")).count(), 1, "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deprecation_and_a_publish_both_survive() {
    for _ in 0..10 {
        let registries = four().await;
        publish(&registries[0], "widget", "1.0.0").await;
        let mut sent = registries[0].send(TestRequest::get("/npm/widget?write=true")).await.json();
        sent["versions"]["1.0.0"]["deprecated"] = json!("old");
        let requests = vec![
            Package::new("widget", "1.1.0").put(),
            TestRequest::put("/npm/widget").json(&sent),
            TestRequest::put("/npm/-/package/widget/dist-tags/stable").body("\"1.0.0\""),
            Package::new("widget", "1.2.0").put(),
        ];
        for answer in at_once(&registries, requests).await {
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
        let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
        let document = packument(&fresh, "widget").await;
        assert_eq!(document["versions"].as_object().unwrap().len(), 3);
        assert_eq!(document["versions"]["1.0.0"]["deprecated"], "old");
        assert_eq!(document["dist-tags"]["stable"], "1.0.0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unpublish_never_takes_what_it_did_not_see() {
    for _ in 0..10 {
        let registries = four().await;
        for version in ["1.0.0", "1.1.0"] {
            publish(&registries[0], "widget", version).await;
        }
        let mut sent = registries[0].send(TestRequest::get("/npm/widget?write=true")).await.json();
        let rev = sent["_rev"].as_str().unwrap().to_owned();
        sent["versions"].as_object_mut().unwrap().remove("1.1.0");
        let requests = vec![
            TestRequest::put(&format!("/npm/widget/-rev/{rev}")).json(&sent),
            Package::new("widget", "1.2.0").put(),
        ];
        let answers = at_once(&registries, requests).await;
        assert!(matches!(answers[0].status, 201 | 409), "{}", answers[0].text());
        assert_eq!(answers[1].status, 201, "{}", answers[1].text());
        let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
        let versions = packument(&fresh, "widget").await["versions"].clone();
        assert!(versions.get("1.0.0").is_some() && versions.get("1.2.0").is_some());
        assert_eq!(versions.get("1.1.0").is_none(), answers[0].status == 201);
        check_whole(&fresh, "widget").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_publish_and_many_approvals_one_version_comes_out() {
    for _ in 0..10 {
        let registries = four().await;
        publish(&registries[0], "widget", "1.0.0").await;
        let stage = TestRequest::new(http::Method::POST, "/npm/-/stage/package/widget");
        let staged = registries[0].send(stage.json(&Package::new("widget", "1.1.0").body())).await;
        let id = staged.json()["stageId"].as_str().unwrap().to_owned();
        let approve = || TestRequest::new(http::Method::POST, &format!("/npm/-/stage/{id}/approve"));
        let other = Package::new("widget", "1.1.0").file("other", "x");
        let requests = vec![approve(), other.put(), approve(), approve()];
        let answers = at_once(&registries, requests).await;
        assert_eq!(answers[1].status, 403, "{}", answers[1].text());
        let approved = [0, 2, 3].iter().filter(|at| answers[**at].status == 201).count();
        assert!(approved >= 1, "{}", answers[0].text());
        let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
        assert!(packument(&fresh, "widget").await["versions"].get("1.1.0").is_some());
        check_whole(&fresh, "widget").await;
        let keys = fresh.keys(false).await;
        assert_eq!(keys.iter().filter(|key| key.contains(".tgz")).count(), 2, "{keys:?}");
        assert!(!keys.iter().any(|key| key.starts_with("npm/staged/")), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_batches_that_share_a_version_one_wins_and_the_rest_leave_nothing() {
    for _ in 0..10 {
        let registries = four().await;
        let batch = |at: usize| {
            let own = Package::new(&format!("own-{at}"), "1.0.0").body();
            let shared = Package::new("shared", "1.0.0").file("which", format!("{at}")).body();
            TestRequest::put("/npm/-/pnpm/v1/publish").json(&json!({ "packages": [own, shared] }))
        };
        let answers = at_once(&registries, (0..4).map(batch).collect()).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 403, 403, 403]);
        let fresh = TestRegistry::with(json!({}), Some(Arc::clone(&registries[0].store)), None).await;
        check_whole(&fresh, "shared").await;
        for (at, answer) in answers.iter().enumerate() {
            let status = fresh.send(TestRequest::get(&format!("/npm/own-{at}"))).await.status;
            assert_eq!(status, if answer.status == 201 { 200 } else { 404 }, "{at}");
        }
        assert_eq!(fresh.keys(false).await.iter().filter(|key| key.contains(".tgz")).count(), 2);
    }
}
