//! Several packages in one request: all or none.

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::core::body::Body;

fn put(packages: &[Value]) -> TestRequest {
    let agent = "pnpm/12.21.0 npm/? node/? linux x64";
    TestRequest::put("/npm/-/pnpm/v1/publish")
        .header("user-agent", agent)
        .json(&json!({ "packages": packages }))
}

#[tokio::test]
async fn all_packages_of_a_batch_are_there() {
    let registry = TestRegistry::new().await;
    let bodies = [
        Package::new("widget", "1.0.0").body(),
        Package::new("@acme/gadget", "0.1.0").body(),
        Package::new("widget", "1.1.0").file("x", "y").body(),
    ];
    let answer = registry.send(put(&bodies)).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (201, &json!(true)), "{}", answer.text());
    assert_eq!(answer.json()["packages"].as_array().unwrap().len(), 3);
    // As pnpm 12 calls it.
    let other = TestRequest::put("/npm/-/pnpr/v0/publish")
        .json(&json!({ "packages": [Package::new("other", "1.0.0").body()] }));
    assert_eq!(registry.send(other).await.status, 201);
    for name in ["widget", "@acme/gadget", "other"] {
        check_whole(&registry, name).await;
    }
    assert_eq!(packument(&registry, "widget").await["versions"].as_object().unwrap().len(), 2);
    // Sent again, since the answer got lost.
    assert_eq!(registry.send(put(&bodies)).await.status, 201);
    check_whole(&registry, "widget").await;
    assert_eq!(registry.keys(false).await.iter().filter(|key| key.contains(".tgz")).count(), 4);
}

#[tokio::test]
async fn the_body_may_come_in_any_pieces() {
    let registry = TestRegistry::new().await;
    // Yarn's order of keys, too.
    let first = Package::new("one", "1.0.0");
    let first = format!(
        r#"{{"_id":"one","_attachments":{},"name":"one","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{}}}}}"#,
        first.attachments(),
        first.manifest()
    );
    let text = format!(r#"{{"packages":[{first},{}]}}"#, Package::new("two", "1.0.0").body());
    let pieces: Vec<_> = text.as_bytes().chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let request = TestRequest::put("/npm/-/pnpm/v1/publish").body(Body::stream(stream::iter(pieces), None));
    assert_eq!(registry.send(request).await.status, 201);
    let packed = gzip(json!({ "packages": [Package::new("three", "1.0.0").body()] }).to_string().as_bytes());
    let request = TestRequest::put("/npm/-/pnpm/v1/publish").header("content-encoding", "gzip").body(packed);
    assert_eq!(registry.send(request).await.status, 201);
    for name in ["one", "two", "three"] {
        check_whole(&registry, name).await;
    }
}

#[tokio::test]
async fn one_that_is_refused_takes_all_with_it() {
    let registry = TestRegistry::new().await;
    publish(&registry, "taken", "1.0.0").await;
    let keys = all_keys(&registry).await;
    let good = || Package::new("widget", "1.0.0").body();
    let mut broken = Package::new("broken", "1.0.0").body();
    broken["versions"]["1.0.0"]["dist"]["integrity"] = json!("sha512-AAAA");
    let mut nameless = Package::new("nameless", "1.0.0").body();
    nameless.as_object_mut().unwrap().remove("name");
    let mut bare = Package::new("bare", "1.0.0").body();
    bare["_attachments"] = json!({});
    let mut traversing = Package::new("traversing", "1.0.0").body();
    let attachment = traversing["_attachments"]["traversing-1.0.0.tgz"].take();
    traversing["_attachments"] = json!({ "../../../traversing-1.0.0.tgz": attachment });
    let mut polluting = Package::new("polluting", "1.0.0").body();
    polluting["dist-tags"] = json!({ "constructor": "1.0.0" });
    for (status, bodies) in [
        (400, vec![good(), traversing]),
        (400, vec![good(), polluting]),
        (403, vec![good(), Package::new("taken", "1.0.0").file("x", "y").body()]),
        (400, vec![good(), broken]),
        (400, vec![good(), nameless]),
        (400, vec![good(), bare]),
        (400, vec![good(), good()]),
        (400, vec![good(), Package::new("../evil", "1.0.0").body()]),
        (400, vec![good(), Package::new("Upper", "1.0.0").body()]),
        (400, vec![]),
    ] {
        let answer = registry.send(put(&bodies)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        error_of(&answer);
        assert_eq!(all_keys(&registry).await, keys, "{}", answer.text());
    }
    for (token, status) in [("reader", 403), ("user:eve", 403), ("wrong", 401)] {
        assert_eq!(registry.send(put(&[good()]).token(token)).await.status, status, "{token}");
    }
    assert_eq!(registry.send(put(&[good()]).anonymous()).await.status, 401);
    let cut = format!(r#"{{"packages":[{},{{"name":"#, good());
    let answer = registry.send(TestRequest::put("/npm/-/pnpm/v1/publish").body(cut.into_bytes())).await;
    assert_eq!(answer.status, 400);
    assert_eq!(all_keys(&registry).await, keys);
    assert_eq!(registry.send(TestRequest::get("/npm/widget")).await.status, 404);
    let many = vec![json!({}); 1001];
    assert_eq!(registry.send(put(&many)).await.status, 413);
    assert_eq!(all_keys(&registry).await, keys);
}
