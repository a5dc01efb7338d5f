//! Manifests: pushed, pulled, refused, deleted.

use futures_util::stream;

use super::*;

#[tokio::test]
async fn a_pushed_image_is_pulled_byte_for_byte() {
    let registry = TestRegistry::new().await;
    let digest = push_image(&registry, "team/app", "v1", b"layer").await;
    let manifest = image(b"{}", b"layer").to_string();
    assert_eq!(digest, sha256(manifest.as_bytes()));
    for reference in ["v1", &digest] {
        for path in
            [format!("/v2/team/app/manifests/{reference}"), format!("/oci/team/app/manifests/{reference}")]
        {
            let answer = registry.send(get(&path).anonymous()).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.text(), manifest);
            assert_eq!(answer.header("content-type"), Some(IMAGE));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
            let head = registry.send(head(&path)).await;
            assert_eq!((head.status, head.bytes().len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(manifest.len().to_string().as_str()));
            let etag = head.header("etag").unwrap();
            assert_eq!(registry.send(get(&path).header("if-none-match", etag)).await.status, 304);
        }
    }
    let layer = registry.send(get(&format!("/v2/team/app/blobs/{}", sha256(b"layer"))).anonymous()).await;
    assert_eq!(layer.bytes().as_ref(), b"layer");
    insta::assert_debug_snapshot!(registry.keys(true).await);
}

#[tokio::test]
async fn a_manifest_may_be_an_object_whose_json_it_is() {
    use crate::core::body::GivenJson;
    let registry = TestRegistry::new().await;
    let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
    let digest = sha256(text.as_bytes());
    let parsed = |reference: &str| {
        let given = GivenJson { text: text.clone().into(), attachments: Vec::new() };
        put(&format!("/v2/a/manifests/{reference}")).header("content-type", INDEX).body(Body::Json(given))
    };
    // Somebody in this process has made it, or the digest says that nothing was lost.
    for request in [
        parsed("v1"),
        parsed(&digest),
        parsed("v2").header("content-length", "0"),
        parsed(&digest).header("content-length", "200"),
        parsed(&digest).header("transfer-encoding", "chunked"),
    ] {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
    }
    assert_eq!(registry.send(get("/v2/a/manifests/v1")).await.text(), text);
    // A body parser has read what a client sent, with blanks or in another order for all we know.
    let other = sha256(b"what was sent");
    for request in [
        parsed("v3").header("content-length", "200"),
        parsed("v3").header("transfer-encoding", "chunked"),
        parsed(&other).header("content-length", "200"),
    ] {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"));
        assert!(answer.text().contains("rawBody"));
    }
    let answer = registry.send(parsed(&other)).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.send(get("/v2/a/manifests/v3")).await.status, 404);
}

/// The status and code of pushing this.
async fn refused(registry: &TestRegistry, request: TestRequest) -> (u16, String) {
    let answer = registry.send(request).await;
    (answer.status, code(&answer))
}

#[tokio::test]
async fn what_is_no_good_manifest_is_refused_and_nothing_is_stored() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "a", b"layer").await;
    let before = registry.keys(true).await;
    let good = image(b"{}", b"layer");
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    let raw = |text: String| put("/v2/a/manifests/v").header("content-type", IMAGE).body(text.into_bytes());
    for text in [
        "{".to_owned(),
        "[]".to_owned(),
        format!("{good}x"),
        good.to_string().replacen("\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2", 1),
        good.to_string().replacen("\"layers\":", "\"manifests\":[],\"layers\":", 1),
        good.to_string().replacen(
            "\"schemaVersion\":2",
            &format!("\"x\":{}{},\"schemaVersion\":2", "[".repeat(99), "]".repeat(99)),
            1,
        ),
    ] {
        assert_eq!(refused(&registry, raw(text.clone())).await, invalid, "{text:.60}");
    }
    assert_eq!(
        refused(&registry, put_manifest("a", "v", &good).header("content-type", INDEX)).await,
        invalid
    );
    assert_eq!(refused(&registry, put_manifest("a", ".bad", &good)).await, invalid);
    assert_eq!(
        refused(&registry, put_manifest("a", &sha256(b"other"), &good)).await,
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(
        refused(&registry, put_manifest("a", "sha256:bad", &good)).await,
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(refused(&registry, put_manifest("A", "v", &good)).await, (400, "NAME_INVALID".into()));
    let large = raw(format!("{}{}", " ".repeat(4 << 20), good));
    assert_eq!(refused(&registry, large).await, (413, "SIZE_INVALID".into()));
    let chunks = std::iter::repeat_n(Bytes::from(vec![b' '; 1 << 20]), 5).map(Ok);
    let streamed =
        put("/v2/a/manifests/v").header("content-type", IMAGE).body(Body::stream(stream::iter(chunks), None));
    assert_eq!(refused(&registry, streamed).await.0, 413);
    let half = Bytes::from(good.to_string()[..40].to_owned());
    let cut = Body::stream(stream::iter([Ok(half)]), Some(good.to_string().len() as u64));
    assert_eq!(
        refused(&registry, put("/v2/a/manifests/v").header("content-type", IMAGE).body(cut)).await,
        invalid
    );
    assert_eq!(registry.keys(true).await, before);
}

#[tokio::test]
async fn what_a_manifest_references_must_be_in_its_own_repository() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "other", b"layer").await;
    let answer = registry.send(put_manifest("a", "v", &image(b"{}", b"layer"))).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(answer.json()["errors"][0]["detail"]["digest"], sha256(b"layer"));
    push_blob(&registry, "a", b"layer").await;
    let mut wrong_size = image(b"{}", b"layer");
    wrong_size["layers"][0]["size"] = json!(7);
    assert_eq!(code(&registry.send(put_manifest("a", "v", &wrong_size)).await), "MANIFEST_INVALID");
    assert_eq!(registry.send(get("/v2/a/manifests/v")).await.status, 404);
    assert_eq!(registry.send(put_manifest("a", "v", &image(b"{}", b"layer"))).await.status, 201);
    // The subject may come later, and so may an index's children, unless that is switched off.
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, b"later")],
                        "subject": descriptor(IMAGE, b"never") });
    let sparse = registry.send(put_manifest("a", "i", &index)).await;
    assert_eq!((sparse.status, sparse.header("oci-subject")), (201, Some(sha256(b"never").as_str())));
    let oci = json!({ "enabled": true, "basePath": "/oci", "features": { "sparseIndex": false } });
    let strict = TestRegistry::with(json!({ "oci": oci }), None, None).await;
    assert_eq!(code(&strict.send(put_manifest("a", "i", &index)).await), "MANIFEST_BLOB_UNKNOWN");
    push_image(&strict, "a", "v", b"layer").await;
    let child = image(b"{}", b"layer").to_string();
    let index =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, child.as_bytes())] });
    assert_eq!(strict.send(put_manifest("a", "i", &index)).await.status, 201);
}

#[tokio::test]
async fn what_an_index_lists_and_is_here_has_the_size_that_it_says() {
    let registry = TestRegistry::new().await;
    push_image(&registry, "a", "v", b"layer").await;
    let child = image(b"{}", b"layer").to_string();
    let index = |children: &[Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    let wrong = |mut one: Value| {
        one["size"] = json!(1);
        one
    };
    let (manifest, blob) = (descriptor(IMAGE, child.as_bytes()), descriptor("application/x-layer", b"layer"));
    let absent = descriptor(IMAGE, b"absent");
    for bad in [&manifest, &blob] {
        let answer =
            registry.send(put_manifest("a", "i", &index(&[absent.clone(), wrong(bad.clone())]))).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"), "{bad}");
        let answer = registry.send(put_manifest("a", "i", &index(&[bad.clone(), wrong(bad.clone())]))).await;
        assert_eq!(code(&answer), "MANIFEST_INVALID", "one of the two is wrong");
    }
    let answer = registry.send(put_manifest("a", "i", &index(&[manifest, blob, wrong(absent)]))).await;
    assert_eq!((answer.status, answer.header("warning")), (201, None));
}

#[tokio::test]
async fn a_blob_that_an_index_lists_is_relied_on_from_then() {
    let registry = TestRegistry::new().await;
    let digest = push_blob(&registry, "a", b"cache").await;
    let link = Key::new(format!("_sr/oci/links/sha256/{}/a/_", &digest[7..])).unwrap();
    let written = async || registry.store.head(&link).await.unwrap().modified;
    let before = written().await;
    registry.clock.advance(std::time::Duration::from_hours(24 * 30));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor("application/x-layer", b"cache")] });
    assert_eq!(registry.send(put_manifest("a", "i", &index)).await.status, 201);
    assert!(written().await > before, "a collection that runs now leaves it alone");
}

#[tokio::test]
async fn a_push_by_digest_can_set_many_tags_at_once() {
    let registry = TestRegistry::new().await;
    push_image(&registry, "a", "v", b"layer").await;
    let manifest = image(b"{}", b"layer");
    let digest = Digest::of(Algorithm::Sha512, manifest.to_string().as_bytes()).to_string();
    let tags: Vec<String> = (0..12).map(|number| format!("t{number:02}")).collect();
    let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
    let answer = registry.send(put_manifest("a", &digest, &manifest).query(&query)).await;
    assert_eq!((answer.status, answer.header("oci-tag")), (201, Some(tags.join(", ").as_str())));
    let back = registry.send(get("/v2/a/manifests/t07")).await;
    assert_eq!(
        (back.text(), back.header("docker-content-digest")),
        (manifest.to_string(), Some(digest.as_str()))
    );
    let many = (0..200).map(|number| format!("tag=x{number}")).collect::<Vec<_>>().join("&");
    assert_eq!(registry.send(put_manifest("a", &digest, &manifest).query(&many)).await.status, 414);
    let bad = registry.send(put_manifest("a", &digest, &manifest).query("tag=ok&tag=..%2fbad")).await;
    assert_eq!((bad.status, code(&bad).as_str()), (400, "MANIFEST_INVALID"));
    let list = registry.send(get("/v2/a/tags/list")).await.json();
    assert_eq!(list["tags"].as_array().unwrap().len(), 13);
}

#[tokio::test]
async fn a_tag_moves_only_on_its_condition() {
    let registry = TestRegistry::new().await;
    let first = push_image(&registry, "a", "v", b"one").await;
    push_blob(&registry, "a", b"two").await;
    let second = || put_manifest("a", "v", &image(b"{}", b"two"));
    assert_eq!(registry.send(second().header("if-none-match", "*")).await.status, 412);
    assert_eq!(registry.send(second().header("if-match", "\"sha256:x\"")).await.status, 412);
    assert_eq!(registry.send(second().header("if-match", &format!("\"{first}\""))).await.status, 201);
    assert_eq!(
        registry
            .send(put_manifest("a", "w", &image(b"{}", b"two")).header("if-none-match", "*"))
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_deleted_tag_leaves_the_manifest_and_a_deleted_manifest_no_tag() {
    let registry = TestRegistry::new().await;
    let digest = push_image(&registry, "a", "one", b"layer").await;
    registry.send(put_manifest("a", "two", &image(b"{}", b"layer"))).await;
    let status = async |request: TestRequest| registry.send(request).await.status;
    assert_eq!(status(delete("/v2/a/manifests/one")).await, 202);
    assert_eq!(status(delete("/v2/a/manifests/one")).await, 404);
    assert_eq!(status(head("/v2/a/manifests/one")).await, 404);
    assert_eq!(status(head("/v2/a/manifests/two")).await, 200);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [{ "mediaType": IMAGE, "digest": digest, "size": image(b"{}", b"layer").to_string().len() }] });
    let indexed = registry.send(put_manifest("a", "i", &index)).await;
    let needed = registry.send(delete(&format!("/v2/a/manifests/{digest}"))).await;
    assert_eq!((needed.status, code(&needed).as_str()), (405, "DENIED"));
    let index = indexed.header("docker-content-digest").unwrap();
    for gone in [index, &digest] {
        assert_eq!(status(delete(&format!("/v2/a/manifests/{gone}"))).await, 202);
        assert_eq!(status(get(&format!("/v2/a/manifests/{gone}"))).await, 404);
        assert_eq!(status(delete(&format!("/v2/a/manifests/{gone}"))).await, 404);
    }
    assert_eq!(status(get("/v2/a/manifests/two")).await, 404);
    assert_eq!(registry.send(get("/v2/a/tags/list")).await.json(), json!({ "name": "a", "tags": [] }));
    let oci = json!({ "enabled": true, "basePath": "/oci", "features": { "delete": false } });
    let kept = TestRegistry::with(json!({ "oci": oci }), None, None).await;
    push_image(&kept, "a", "v", b"layer").await;
    let blob = format!("/v2/a/blobs/{}", sha256(b"layer"));
    for (path, allow) in [("/v2/a/manifests/v", "GET, HEAD, PUT"), (blob.as_str(), "GET, HEAD")] {
        let off = kept.send(delete(path)).await;
        assert_eq!((off.status, code(&off).as_str(), off.header("allow")), (405, "UNSUPPORTED", Some(allow)));
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_never_served() {
    let registry = TestRegistry::new().await;
    let digest = push_image(&registry, "a", "v", b"layer").await;
    let key = Key::new(format!("oci/manifests/a/{digest}")).unwrap();
    registry.store.put(&key, Bytes::from_static(b"{}").into(), PutOptions::default()).await.unwrap();
    let other = TestRegistry::with(json!({}), Some(registry.store.clone()), None).await;
    let answer = other.send(get("/v2/a/manifests/v")).await;
    assert_eq!((answer.status, code(&answer).as_str()), (500, "UNKNOWN"));
}
