//! Blob uploads in every way in which clients do them.

use futures_util::stream;

use super::*;
use crate::core::body::GivenJson;

/// Opens a session and answers its location.
pub(super) async fn open(registry: &TestRegistry, name: &str) -> String {
    let answer = registry.send(post(&format!("/v2/{name}/blobs/uploads/"))).await;
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-0")));
    let place = answer.header("location").unwrap().to_owned();
    assert!(place.ends_with(answer.header("docker-upload-uuid").unwrap()));
    place
}

/// Where a session stands, or its status.
pub(super) async fn stands(registry: &TestRegistry, place: &str) -> String {
    let answer = registry.send(get(place)).await;
    answer.header("range").map_or_else(|| answer.status.to_string(), str::to_owned)
}

/// A body of these chunks that breaks off, announced as longer.
pub(super) fn cut(chunks: &[&'static str]) -> Body {
    let list: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
    Body::stream(stream::iter(list), Some(1 << 20))
}

pub(super) fn big(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|at| (at / 251) as u8 ^ at as u8 ^ seed).collect()
}

/// Whatever is not a repository's marker.
async fn left(registry: &TestRegistry) -> Vec<String> {
    registry.keys(true).await.into_iter().filter(|key| !key.starts_with("_sr/oci/repositories/")).collect()
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
    assert_eq!(stands(&registry, &place).await, "404");
    // The answer got lost: the retry is told the same.
    assert_eq!(registry.send(put(&format!("{place}?digest={digest}"))).await.status, 201);
    assert_eq!(registry.send(put(&format!("{place}?digest={}", sha256(b"other")))).await.status, 404);
}

#[tokio::test]
async fn patches_with_and_without_a_place_then_put() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let first = registry.send(patch(&place).body("one ")).await;
    assert_eq!(
        (first.status, first.header("range"), first.header("location")),
        (202, Some("0-3"), Some(place.as_str()))
    );
    let second = registry.send(patch(&place).header("content-range", "4-6").body("two")).await;
    assert_eq!((second.status, second.header("range")), (202, Some("0-6")));
    assert_eq!(stands(&registry, &place).await, "0-6");
    let digest = sha256(b"one two three");
    let done = registry.send(put(&format!("{place}?digest={digest}")).body(" three")).await;
    assert_eq!(done.status, 201, "{done:?}");
    let back = registry.send(get(&format!("/v2/a/blobs/{digest}"))).await;
    assert_eq!(back.text(), "one two three");
    assert!(left(&registry).await.iter().all(|key| !key.contains("uploads") && !key.contains("staging")));
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_the_session_lives() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let chunk = |range: &str, body: &'static str| patch(&place).header("content-range", range).body(body);
    let early = registry.send(chunk("4-6", "two")).await;
    assert_eq!((early.status, code(&early).as_str()), (416, "BLOB_UPLOAD_INVALID"));
    assert_eq!(stands(&registry, &place).await, "0-0");
    assert_eq!(registry.send(chunk("0-3", "one ")).await.status, 202);
    let again = registry.send(chunk("0-3", "one ")).await;
    assert_eq!((again.status, again.header("range")), (416, Some("0-3")));
    let digest = sha256(b"one two");
    let last = format!("{place}?digest={digest}");
    assert_eq!(registry.send(put(&last).header("content-range", "5-7").body("two")).await.status, 416);
    assert_eq!(stands(&registry, &last).await, "0-3");
    let wrong = registry.send(chunk("4-9", "two")).await;
    assert_eq!((wrong.status, code(&wrong).as_str()), (400, "SIZE_INVALID"));
    assert_eq!(code(&registry.send(chunk("nonsense", "two")).await), "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.send(put(&last).header("content-range", "4-6").body("two")).await.status, 201);
}

#[tokio::test]
async fn a_cut_body_keeps_what_came() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    assert_eq!(registry.send(patch(&place).body(cut(&["one ", "two"]))).await.status, 400);
    assert_eq!(stands(&registry, &place).await, "0-6");
    // In the last request too.
    let digest = sha256(b"one two three");
    let last = format!("{place}?digest={digest}");
    assert_eq!(registry.send(put(&last).body(cut(&[" th"]))).await.status, 400);
    assert_eq!(stands(&registry, &place).await, "0-9");
    assert_eq!(registry.send(put(&last).body("ree")).await.status, 201);
    // In the only request there is nothing to keep, and the session is as good as new.
    let place = open(&registry, "a").await;
    let last = format!("{place}?digest={digest}");
    assert_eq!(registry.send(put(&last).body(cut(&["one"]))).await.status, 400);
    assert_eq!(stands(&registry, &place).await, "0-0");
    assert_eq!(registry.send(put(&last).body("one two three")).await.status, 201);
    assert_eq!(
        registry
            .send(post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(cut(&["one"])))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn many_parts_in_several_requests() {
    let registry = TestRegistry::new().await;
    let whole = big(37 << 20, 3);
    let place = open(&registry, "a").await;
    for piece in [&whole[..9 << 20], &whole[(9 << 20)..=(9 << 20)], &whole[(9 << 20) + 1..33 << 20]] {
        assert_eq!(registry.send(patch(&place).body(piece.to_vec())).await.status, 202);
    }
    let digest = sha256(&whole);
    let done = registry.send(put(&format!("{place}?digest={digest}")).body(whole[33 << 20..].to_vec())).await;
    assert_eq!(done.status, 201);
    let back = registry.send(get(&format!("/v2/a/blobs/{digest}"))).await;
    assert!(back.bytes().as_ref() == whole, "the blob is what was sent");
    // In one request, with and without an announced length.
    for length in [Some(whole.len() as u64), None] {
        let chunks: Vec<_> = whole.chunks(1 << 20).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = Body::stream(stream::iter(chunks), length);
        let done = registry.send(post(&format!("/v2/b/blobs/uploads/?digest={digest}")).body(body)).await;
        assert_eq!(done.status, 201);
    }
}

#[tokio::test]
async fn a_wrong_digest_is_400_in_every_way_and_leaves_nothing() {
    let registry = TestRegistry::new().await;
    let wrong = sha256(b"something else");
    let at_once = registry.send(post(&format!("/v2/a/blobs/uploads/?digest={wrong}")).body("blob")).await;
    assert_eq!((at_once.status, code(&at_once).as_str()), (400, "DIGEST_INVALID"));
    let place = open(&registry, "a").await;
    let put_all = registry.send(put(&format!("{place}?digest={wrong}")).body("blob")).await;
    assert_eq!((put_all.status, code(&put_all).as_str()), (400, "DIGEST_INVALID"));
    for size in [4, 20 << 20] {
        let place = open(&registry, "a").await;
        assert_eq!(registry.send(patch(&place).body(big(size, 0))).await.status, 202);
        let patched = registry.send(put(&format!("{place}?digest={wrong}"))).await;
        assert_eq!((patched.status, code(&patched).as_str()), (400, "DIGEST_INVALID"));
        assert_eq!(stands(&registry, &place).await, "404");
        let place = open(&registry, "a").await;
        let large = registry.send(put(&format!("{place}?digest={wrong}")).body(big(size, 1))).await;
        assert_eq!(large.status, 400);
    }
    for malformed in
        ["sha256:baddigeststring", "md5:00000000000000000000000000000000", "", &wrong.to_uppercase()]
    {
        let bad = registry.send(post(&format!("/v2/a/blobs/uploads/?digest={malformed}")).body("blob")).await;
        assert_eq!((bad.status, code(&bad).as_str()), (400, "DIGEST_INVALID"), "{malformed}");
    }
    assert_eq!(registry.keys(false).await, Vec::<String>::new());
    assert!(
        left(&registry).await.iter().all(|key| !key.starts_with("_sr/oci")),
        "{:?}",
        left(&registry).await
    );
    // No digest at all: the session is kept.
    let place = open(&registry, "a").await;
    assert_eq!(code(&registry.send(put(&place).body("blob")).await), "DIGEST_INVALID");
    assert_eq!(stands(&registry, &place).await, "0-0");
}

#[tokio::test]
async fn sha512_with_and_without_being_announced() {
    let registry = TestRegistry::new().await;
    for (hint, size) in [("", 5), ("", 20 << 20), ("?digest-algorithm=sha512", 20 << 20)] {
        let whole = big(size, 7);
        let digest = Digest::of(Algorithm::Sha512, &whole).to_string();
        let opened = registry.send(post(&format!("/v2/a/blobs/uploads/{hint}"))).await;
        let place = opened.header("location").unwrap().to_owned();
        assert_eq!(registry.send(patch(&place).body(whole.clone())).await.status, 202);
        let done = registry.send(put(&format!("{place}?digest={digest}"))).await;
        assert_eq!((done.status, done.header("docker-content-digest")), (201, Some(digest.as_str())));
        let back = registry.send(get(&format!("/v2/a/blobs/{digest}"))).await;
        assert!(back.bytes().as_ref() == whole);
        registry.send(delete(&format!("/v2/a/blobs/{digest}"))).await;
    }
    assert!(
        left(&registry).await.iter().all(|key| key.starts_with("oci/blobs/sha512/")),
        "{:?}",
        left(&registry).await
    );
    assert_eq!(registry.send(post("/v2/a/blobs/uploads/?digest-algorithm=md5")).await.status, 400);
    let wrong = Digest::of(Algorithm::Sha512, b"else");
    let place = open(&registry, "a").await;
    registry.send(patch(&place).body("blob")).await;
    assert_eq!(code(&registry.send(put(&format!("{place}?digest={wrong}"))).await), "DIGEST_INVALID");
    assert_eq!(stands(&registry, &place).await, "404");
}

#[tokio::test]
async fn the_empty_blob_in_every_way() {
    let registry = TestRegistry::new().await;
    let digest = sha256(b"");
    assert_eq!(registry.send(post(&format!("/v2/a/blobs/uploads/?digest={digest}"))).await.status, 201);
    let place = open(&registry, "b").await;
    assert_eq!(registry.send(put(&format!("{place}?digest={digest}"))).await.status, 201);
    let place = open(&registry, "c").await;
    assert_eq!(registry.send(patch(&place)).await.header("range"), Some("0-0"));
    assert_eq!(registry.send(put(&format!("{place}?digest={digest}"))).await.status, 201);
    for name in ["a", "b", "c"] {
        for method in [Method::GET, Method::HEAD] {
            let back = registry.send(TestRequest::new(method, &format!("/v2/{name}/blobs/{digest}"))).await;
            assert_eq!((back.status, back.header("content-length")), (200, Some("0")));
        }
    }
}

#[tokio::test]
async fn a_session_is_ended_by_its_client() {
    let registry = TestRegistry::new().await;
    for size in [0, 5, 20 << 20] {
        let place = open(&registry, "a").await;
        registry.send(patch(&place).body(big(size, 0))).await;
        assert_eq!(registry.send(delete(&place)).await.status, 204);
        for again in [
            get(&place),
            delete(&place),
            patch(&place).body("x"),
            put(&format!("{place}?digest={}", sha256(b""))),
        ] {
            assert_eq!(registry.send(again).await.status, 404);
        }
    }
}

#[tokio::test]
async fn ids_from_elsewhere_are_404() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let id = place.rsplit('/').next().unwrap();
    registry.send(patch(&place).body("blob")).await;
    for path in [
        format!("/v2/b/blobs/uploads/{id}"),
        "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000".to_owned(),
        format!("/v2/a/blobs/uploads/{}", id.to_uppercase()),
        "/v2/a/blobs/uploads/x".to_owned(),
    ] {
        for request in [
            get(&path),
            patch(&path).body("x"),
            put(&format!("{path}?digest={}", sha256(b"blob"))),
            delete(&path),
        ] {
            let answer = registry.send(request).await;
            assert_eq!((answer.status, code(&answer).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"), "{path}");
        }
    }
    assert_eq!(stands(&registry, &place).await, "0-3");
    assert_eq!(registry.send(get("/v2/a/blobs/uploads/..%2f..%2fetc")).await.status, 400);
}

#[tokio::test]
async fn a_blob_beyond_the_limit_is_413_and_leaves_nothing() {
    let registry = TestRegistry::with(json!({ "limits": { "artifact": 10 } }), None, None).await;
    let long = "01234567890";
    let digest = sha256(long.as_bytes());
    let stream = || Body::stream(stream::iter([Ok(Bytes::from_static(long.as_bytes()))]), None);
    for body in [Body::from(long), stream()] {
        let answer = registry.send(post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(body)).await;
        assert_eq!(answer.status, 413);
        assert!(answer.text().contains("10 bytes"));
    }
    let place = open(&registry, "a").await;
    assert_eq!(registry.send(patch(&place).body("0123456789")).await.status, 202);
    assert_eq!(registry.send(patch(&place).body("0")).await.status, 413);
    assert_eq!(registry.keys(false).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_parsed_body_is_refused_and_says_why() {
    let registry = TestRegistry::new().await;
    let place = open(&registry, "a").await;
    let given = || Body::Json(GivenJson { text: "{}".into(), attachments: Vec::new() });
    for request in [
        post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(b"{}"))).body(given()),
        patch(&place).body(given()),
        put(&format!("{place}?digest={}", sha256(b"{}"))).body(given()),
    ] {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "BLOB_UPLOAD_INVALID"));
        assert!(answer.text().contains("rawBody"));
    }
    let manifest = put("/v2/a/manifests/v1").header("content-length", "2").body(given());
    let answer = registry.send(manifest).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"));
    assert!(answer.text().contains("rawBody"));
}
