//! Blobs: ranges, conditions, headers, and who can see them.

use super::*;

async fn with_blob(size: usize) -> (TestRegistry, String, Vec<u8>) {
    let registry = TestRegistry::new().await;
    let bytes = super::uploads::big(size, 5);
    let digest = push_blob(&registry, "a", &bytes).await;
    (registry, format!("/v2/a/blobs/{digest}"), bytes)
}

#[tokio::test]
async fn a_blob_has_the_headers_that_clients_look_for() {
    let (registry, path, bytes) = with_blob(2048).await;
    for request in [get(&path), head(&path)] {
        let answer = registry.send(request).await;
        assert_eq!(answer.status, 200);
        let digest = path.rsplit('/').next().unwrap();
        for (name, value) in [
            ("content-length", "2048"),
            ("content-type", "application/octet-stream"),
            ("docker-content-digest", digest),
            ("accept-ranges", "bytes"),
            ("etag", &format!("\"{digest}\"")),
            ("cache-control", "public, max-age=31536000, immutable, no-transform"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert!(answer.bytes().is_empty() || answer.bytes().as_ref() == bytes);
    }
    let etag = format!("\"{}\"", path.rsplit('/').next().unwrap());
    assert_eq!(registry.send(get(&path).header("if-none-match", &etag)).await.status, 304);
    let missing = registry.send(get(&format!("/v2/a/blobs/{}", sha256(b"x")))).await;
    assert_eq!((missing.status, code(&missing).as_str()), (404, "BLOB_UNKNOWN"));
    let missing = registry.send(head(&format!("/v2/a/blobs/{}", sha256(b"x")))).await;
    assert_eq!((missing.status, missing.bytes().len()), (404, 0));
}

#[tokio::test]
async fn single_ranges() {
    let (registry, path, bytes) = with_blob(2048).await;
    for (range, wanted) in [
        ("500-1499", 500..1500),
        ("500-", 500..2048),
        ("-500", 1548..2048),
        ("2000-99999", 2000..2048),
        ("0-0", 0..1),
    ] {
        let answer = registry.send(get(&path).header("range", &format!("bytes={range}"))).await;
        assert_eq!(answer.status, 206, "{range}");
        let content_range = format!("bytes {}-{}/2048", wanted.start, wanted.end - 1);
        assert_eq!(answer.header("content-range"), Some(content_range.as_str()));
        assert_eq!(answer.header("content-length"), Some(wanted.len().to_string().as_str()));
        assert!(answer.bytes().as_ref() == &bytes[wanted]);
    }
    for range in ["500-0", "2048-", "9999-10000"] {
        let answer = registry.send(get(&path).header("range", &format!("bytes={range}"))).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */2048")), "{range}");
    }
    let shouted = registry.send(get(&path).header("range", "Bytes=0-1")).await;
    assert_eq!((shouted.status, shouted.bytes().len()), (206, 2), "units are written in any case");
    let other = get(&path).header("range", "bytes=0-1").header("if-range", "\"other\"");
    assert_eq!(registry.send(other).await.status, 200);
}

#[tokio::test]
async fn several_ranges_come_as_asked_for_not_sorted_and_not_merged() {
    let (registry, path, bytes) = with_blob(2048).await;
    let answer = registry.send(get(&path).header("range", "bytes=100-199,0-99,-10")).await;
    assert_eq!(answer.status, 206);
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut wanted = Vec::new();
    for range in [100..200, 0..100, 2038..2048] {
        let (first, last) = (range.start, range.end - 1);
        wanted.extend_from_slice(
            format!("\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/2048\r\n\r\n")
                .as_bytes(),
        );
        wanted.extend_from_slice(&bytes[range]);
    }
    wanted.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(answer.header("content-length"), Some(wanted.len().to_string().as_str()));
    assert!(answer.bytes().as_ref() == wanted);
    let many = (0..1001).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    for bad in ["0-1,5000-", "0-2047,0-2047,0-2047", &many] {
        let answer = registry.send(get(&path).header("range", &format!("bytes={bad}"))).await;
        assert_eq!(answer.status, 400, "{bad:.40}");
    }
}

#[tokio::test]
async fn a_blob_is_visible_only_where_it_was_pushed_or_mounted() {
    let registry = TestRegistry::new().await;
    let digest = push_blob(&registry, "a", b"blob").await;
    let elsewhere = format!("/v2/b/blobs/{digest}");
    for request in [get(&elsewhere), head(&elsewhere), delete(&elsewhere)] {
        assert_eq!(registry.send(request).await.status, 404);
    }
    // Naming it in a manifest does not make it visible either, in none of the ways in which it may be absent.
    let named = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", b"blob");
    push_blob(&registry, "b", b"{}").await;
    let mut foreign = image(b"{}", b"");
    foreign["layers"] = json!([named]);
    assert_eq!(registry.send(put_manifest("b", "v", &foreign)).await.status, 201);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, b"blob")] });
    assert_eq!(registry.send(put_manifest("b", "i", &index)).await.status, 201);
    for reference in ["v", "i"] {
        registry.send(get(&format!("/v2/b/manifests/{reference}"))).await;
    }
    assert_eq!(registry.send(get(&elsewhere)).await.status, 404);
    let mounted = registry.send(post(&format!("/v2/b/blobs/uploads/?mount={digest}&from=a"))).await;
    assert_eq!((mounted.status, mounted.header("location")), (201, Some(elsewhere.as_str())));
    assert_eq!(registry.send(get(&elsewhere)).await.text(), "blob");
}

#[tokio::test]
async fn a_mount_that_does_not_work_is_an_ordinary_upload() {
    let registry = TestRegistry::new().await;
    let digest = push_blob(&registry, "a", b"blob").await;
    let start = |query: String| registry.send(post(&format!("/v2/c/blobs/uploads/?{query}")));
    for query in [
        format!("mount={digest}&from=nowhere"),
        format!("mount={}&from=a", sha256(b"other")),
        format!("mount={}", sha256(b"other")),
        format!("mount={digest}&from=NOT/A/NAME"),
        "mount=nonsense&from=a".to_owned(),
    ] {
        let answer = start(query.clone()).await;
        assert_eq!((answer.status, answer.header("range")), (202, Some("0-0")), "{query}");
    }
    assert_eq!(start(format!("mount={digest}")).await.status, 201);
    assert_eq!(registry.send(get(&format!("/v2/c/blobs/{digest}"))).await.text(), "blob");
}

#[tokio::test]
async fn a_deleted_blob_is_gone_here_and_stays_elsewhere() {
    let registry = TestRegistry::new().await;
    let digest = push_blob(&registry, "a", b"blob").await;
    push_blob(&registry, "b", b"blob").await;
    let path = format!("/v2/a/blobs/{digest}");
    registry.send(get(&path)).await;
    assert_eq!(registry.send(delete(&path)).await.status, 202);
    assert_eq!(registry.send(head(&path)).await.status, 404);
    assert_eq!(registry.send(delete(&path)).await.status, 404);
    assert_eq!(registry.send(get(&format!("/v2/b/blobs/{digest}"))).await.status, 200);
    push_image(&registry, "a", "v", b"layer").await;
    let needed = registry.send(delete(&format!("/v2/a/blobs/{}", sha256(b"layer")))).await;
    assert_eq!((needed.status, code(&needed).as_str()), (405, "DENIED"));
    assert_eq!(registry.send(get(&format!("/v2/a/blobs/{}", sha256(b"layer")))).await.status, 200);
}
