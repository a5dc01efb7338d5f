//! Manifests and tags.

use super::*;

#[tokio::test]
async fn a_pushed_image_is_pulled_byte_for_byte() {
    let registry = TestRegistry::new().await;
    let digest = push_image(&registry, "team/app", "v1", b"layer").await;
    let manifest = image(b"{}", b"layer").to_string();
    assert_eq!(digest, sha256(manifest.as_bytes()));
    for reference in ["v1", &digest] {
        for path in [format!("/v2/team/app/manifests/{reference}"), format!("/oci/team/app/manifests/{reference}")] {
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
