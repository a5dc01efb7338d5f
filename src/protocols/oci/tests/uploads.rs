//! Blob uploads in every way in which clients do them.

use super::*;

/// Opens a session and answers its location.
async fn open(registry: &TestRegistry, name: &str) -> String {
    let answer = registry.send(post(&format!("/v2/{name}/blobs/uploads/"))).await;
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-0")));
    answer.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn post_then_put() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let digest = sha256(b"blob");
    let done = registry.send(put(&format!("{place}?digest={digest}")).body("blob")).await;
    assert_eq!((done.status, done.header("docker-content-digest")), (201, Some(digest.as_str())));
    let back = registry.send(get(done.header("location").unwrap())).await;
    assert_eq!((back.status, back.text().as_str()), (200, "blob"));
    assert_eq!(registry.send(get(&place)).await.status, 404);
    // The answer got lost: the retry is told the same.
    assert_eq!(registry.send(put(&format!("{place}?digest={digest}"))).await.status, 201);
}

#[tokio::test]
async fn patch_then_put() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let first = registry.send(patch(&place).body("one ")).await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-3")));
    let second = registry.send(patch(&place).header("content-range", "4-6").body("two")).await;
    assert_eq!((second.status, second.header("range")), (202, Some("0-6")));
    let digest = sha256(b"one two three");
    let done = registry.send(put(&format!("{place}?digest={digest}")).body(" three")).await;
    assert_eq!(done.status, 201, "{done:?}");
    let back = registry.send(get(&format!("/v2/a/blobs/{digest}"))).await;
    assert_eq!(back.text(), "one two three");
}
