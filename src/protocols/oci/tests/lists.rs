//! Tags, referrers and the catalog; and buckets that another program has filled.

use super::*;
use crate::core::time::Clock;
use crate::storage::Store;
use crate::storage::memory::MemoryStore;

async fn put_object(store: &dyn Store, key: &str, bytes: &[u8]) {
    store
        .put(&Key::new(key).unwrap(), Bytes::copy_from_slice(bytes).into(), PutOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn tags_are_paged_by_absolute_links() {
    let registry = TestRegistry::new().await;
    let unknown = registry.send(get("/v2/a/tags/list")).await;
    assert_eq!((unknown.status, code(&unknown).as_str()), (404, "NAME_UNKNOWN"));
    push_image(&registry, "a", "v", b"layer").await;
    for tag in ["B", "_a", "c.1"] {
        registry.send(put_manifest("a", tag, &image(b"{}", b"layer"))).await;
    }
    let list = async |path: &str| {
        let answer = registry.send(get(path)).await;
        assert_eq!(answer.status, 200);
        let tags: Vec<_> = answer.json()["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag.as_str().unwrap().to_owned())
            .collect();
        (tags.join(" "), answer.header("link").map(str::to_owned))
    };
    let next = |link: &str| Some(format!("<{link}>; rel=\"next\""));
    assert_eq!(list("/v2/a/tags/list").await, ("B _a c.1 v".into(), None));
    assert_eq!(list("/v2/a/tags/list?n=2").await, ("B _a".into(), next("/v2/a/tags/list?n=2&last=_a")));
    assert_eq!(list("/oci/a/tags/list?n=3&last=B").await, ("_a c.1 v".into(), None));
    assert_eq!(
        list("/oci/v2/a/tags/list?n=1&last=B").await,
        ("_a".into(), next("/oci/v2/a/tags/list?n=1&last=_a"))
    );
    assert_eq!(list("/v2/a/tags/list?last=b").await, ("c.1 v".into(), None));
    assert_eq!(list("/v2/a/tags/list?n=0").await, (String::new(), None));
    assert_eq!(list("/v2/a/tags/list?n=99999999999999999999999").await.0, "B _a c.1 v");
    for bad in ["-1", "x", ""] {
        assert_eq!(registry.send(get(&format!("/v2/a/tags/list?n={bad}"))).await.status, 400);
    }
}

#[tokio::test]
async fn referrers_are_listed_filtered_and_forgotten() {
    let registry = TestRegistry::new().await;
    let subject = image(b"{}", b"layer");
    let digest = sha256(subject.to_string().as_bytes());
    let path = format!("/v2/a/referrers/{digest}");
    let list = async |path: &str| {
        let answer = registry.send(get(path)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)));
        let count = answer.json()["manifests"].as_array().unwrap().len();
        (count, answer.header("oci-filters-applied").map(str::to_owned))
    };
    // Neither the repository nor the subject has to exist.
    assert_eq!(list(&path).await, (0, None));
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "a", b"signature").await;
    let mut pushed = Vec::new();
    for kind in ["application/a", "application/b"] {
        let mut one = image(b"{}", b"signature");
        one["artifactType"] = json!(kind);
        one["subject"] = descriptor(IMAGE, subject.to_string().as_bytes());
        one["annotations"] = json!({ "k": kind });
        let answer = registry.send(put_manifest("a", &sha256(one.to_string().as_bytes()), &one)).await;
        assert_eq!((answer.status, answer.header("oci-subject")), (201, Some(digest.as_str())));
        pushed.push(answer.header("location").unwrap().to_owned());
    }
    assert_eq!(list(&path).await, (2, None));
    let filtered = format!("{path}?artifactType=application%2Fb");
    assert_eq!(list(&filtered).await, (1, Some("artifactType".to_owned())));
    let entry = registry.send(get(&filtered)).await.json()["manifests"][0].clone();
    assert_eq!(
        (&entry["annotations"]["k"], &entry["artifactType"]),
        (&json!("application/b"), &json!("application/b"))
    );
    assert_eq!(list(&format!("{path}?artifactType=none")).await.0, 0);
    assert_eq!(registry.send(delete(&pushed[1])).await.status, 202);
    assert_eq!(list(&path).await, (1, None));
    let bad = registry.send(get("/v2/a/referrers/sha256:nonsense")).await;
    assert_eq!((bad.status, code(&bad).as_str()), (400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn many_large_referrers_come_in_pages() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "a", b"layer").await;
    for number in 0..8 {
        let mut one = image(b"{}", b"layer");
        one["subject"] = descriptor(IMAGE, b"subject");
        one["artifactType"] = json!("application/x");
        one["annotations"] = json!({ "k": format!("{number}{}", "x".repeat(1 << 20)) });
        assert_eq!(registry.send(put_manifest("a", &format!("t{number}"), &one)).await.status, 201);
    }
    let mut path = format!("/v2/a/referrers/{}?artifactType=application/x", sha256(b"subject"));
    let (mut seen, mut pages) = (std::collections::BTreeSet::new(), 0);
    loop {
        let answer = registry.send(get(&path)).await;
        assert!(answer.bytes().len() < 4 << 20);
        pages += 1;
        let json = answer.json();
        seen.extend(json["manifests"].as_array().unwrap().iter().map(|one| one["digest"].to_string()));
        let Some(link) = answer.header("link") else { break };
        path = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    }
    assert_eq!((seen.len(), pages), (8, 4));
}

#[tokio::test]
async fn the_catalog_shows_every_repository_once() {
    // Another program has been here before.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
    let tags = json!({ "v": sha256(b"m") }).to_string();
    put_object(store.as_ref(), "oci/tags/old/tags.json", tags.as_bytes()).await;
    let registry = TestRegistry::with(json!({}), Some(store), None).await;
    for name in ["a", "a/b", "a-b", "z"] {
        push_image(&registry, name, "v", b"layer").await;
    }
    let all = registry.send(get("/v2/_catalog")).await;
    assert_eq!(all.json(), json!({ "repositories": ["a", "a-b", "a/b", "old", "z"] }));
    let page = registry.send(get("/oci/_catalog?n=2&last=a")).await;
    assert_eq!(page.json(), json!({ "repositories": ["a-b", "a/b"] }));
    assert_eq!(page.header("link"), Some("</oci/_catalog?n=2&last=a%2Fb>; rel=\"next\""));
    assert_eq!(registry.send(get("/v2/_catalog?n=-1")).await.status, 400);
}

#[tokio::test]
async fn a_bucket_without_links_is_read_and_completed() {
    let registry = TestRegistry::new().await;
    let store = registry.store.as_ref();
    let mut manifest = image(b"{}", b"layer");
    manifest["subject"] = descriptor(IMAGE, b"subject");
    let bytes = manifest.to_string();
    let digest = sha256(bytes.as_bytes());
    for blob in [&b"{}"[..], b"layer", b"private"] {
        put_object(
            store,
            &format!("oci/blobs/sha256/{}", sha256(blob).strip_prefix("sha256:").unwrap()),
            blob,
        )
        .await;
    }
    put_object(store, &format!("oci/manifests/old/app/{digest}"), bytes.as_bytes()).await;
    put_object(store, "oci/tags/old/app/tags.json", json!({ "v": digest }).to_string().as_bytes()).await;
    let pulled = registry.send(get("/v2/old/app/manifests/v")).await;
    assert_eq!(
        (pulled.status, pulled.header("content-type"), pulled.text()),
        (200, Some(IMAGE), bytes.clone())
    );
    // As another process sees it, which has not read the manifest.
    let other = TestRegistry::with(json!({}), Some(registry.store.clone()), None).await;
    let layer = other.send(get(&format!("/v2/old/app/blobs/{}", sha256(b"layer")))).await;
    assert_eq!((layer.status, layer.text().as_str()), (200, "layer"));
    for elsewhere in ["/v2/old/blobs", "/v2/old/app/x/blobs", "/v2/new/blobs"] {
        assert_eq!(
            other.send(get(&format!("{elsewhere}/{}", sha256(b"layer")))).await.status,
            404,
            "{elsewhere}"
        );
    }
    assert_eq!(other.send(get(&format!("/v2/old/app/blobs/{}", sha256(b"private")))).await.status, 404);
    let referrers = registry.send(get(&format!("/v2/old/app/referrers/{}", sha256(b"subject")))).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], digest);
    let mounted =
        registry.send(post(&format!("/v2/new/blobs/uploads/?mount={}&from=old/app", sha256(b"layer")))).await;
    assert_eq!(mounted.status, 201);
    assert_eq!(registry.send(put_manifest("old/app", "w", &image(b"{}", b"layer"))).await.status, 201);
    let tags = registry.send(get("/v2/old/app/tags/list")).await.json();
    assert_eq!(tags["tags"], json!(["v", "w"]));
}
