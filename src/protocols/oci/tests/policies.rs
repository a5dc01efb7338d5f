//! What an operator can set: tags that stay, redirects to the store; and what clients get beside the main path: warnings, search, fallback tags.

use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::core::time::Clock;
use crate::storage::memory::MemoryStore;
use crate::storage::{HookContext, Hooks, Store};

async fn with_oci(more: Value) -> TestRegistry {
    let mut oci = json!({ "enabled": true, "basePath": "/oci" });
    for (name, value) in more.as_object().unwrap() {
        oci[name] = value.clone();
    }
    TestRegistry::with(json!({ "oci": oci }), None, None).await
}

#[tokio::test]
async fn an_immutable_tag_keeps_what_it_names() {
    let registry = with_oci(json!({ "immutableTags": ["!*:latest", "team/*:*"] })).await;
    let first = push_image(&registry, "team/app", "v1", b"one").await;
    push_image(&registry, "team/app", "latest", b"one").await;
    push_blob(&registry, "team/app", b"two").await;
    let two = image(b"{}", b"two");
    let before = registry.keys(true).await;
    let refused = registry.send(put_manifest("team/app", "v1", &two)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (403, "DENIED"));
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, format!("the tag v1 is immutable and names {first}; push under another tag"));
    assert_eq!(registry.keys(true).await, before, "nothing of a refused push stays");
    // The same again is no move: CI jobs are run again.
    assert_eq!(registry.send(put_manifest("team/app", "v1", &image(b"{}", b"one"))).await.status, 201);
    assert_eq!(registry.send(put_manifest("team/app", "latest", &two)).await.status, 201);
    // Of several tags in one push none moves if one may not.
    let digest = sha256(two.to_string().as_bytes());
    let many = put_manifest("team/app", &format!("{digest}?tag=v2&tag=v1"), &two);
    assert_eq!(registry.send(many).await.status, 403);
    assert_eq!(registry.send(get("/v2/team/app/tags/list")).await.json()["tags"], json!(["latest", "v1"]));
    // Signatures are added under one tag, again and again.
    let signature = format!("{}.sig", first.replace(':', "-"));
    for layer in [&b"one"[..], b"two"] {
        assert_eq!(
            registry.send(put_manifest("team/app", &signature, &image(b"{}", layer))).await.status,
            201
        );
    }
    // Deleting and pushing would move it, too.
    for gone in ["v1", &first] {
        let kept = registry.send(delete(&format!("/v2/team/app/manifests/{gone}"))).await;
        assert_eq!((kept.status, code(&kept).as_str()), (403, "DENIED"), "{gone}");
        assert!(kept.text().contains("the tag v1 is immutable and can't be deleted"), "{}", kept.text());
    }
    let still = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!((still.status, still.header("docker-content-digest")), (200, Some(first.as_str())));
    for gone in ["latest", &digest] {
        assert_eq!(registry.send(put_manifest("team/app", "latest", &two)).await.status, 201);
        assert_eq!(registry.send(delete(&format!("/v2/team/app/manifests/{gone}"))).await.status, 202);
    }
    push_image(&registry, "other", "v1", b"one").await;
    push_image(&registry, "other", "v1", b"two").await;
}

/// A memory store that can hand out links.
struct Linking(MemoryStore);

#[async_trait]
impl crate::storage::layer::Layer for Linking {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: std::time::Duration,
        content_type: Option<&str>,
    ) -> crate::storage::StoreResult<Option<String>> {
        let kind = content_type.unwrap_or_default();
        Ok(Some(format!("https://store.example.com/{key}?ttl={}&type={kind}", ttl.as_secs())))
    }
}

/// Remembers which reads it was told of.
#[derive(Default)]
struct Reads(parking_lot::Mutex<Vec<String>>);

#[async_trait]
impl Hooks for Reads {
    async fn after_get(&self, context: &HookContext) {
        self.0.lock().push(context.key.clone());
    }
}

#[tokio::test]
async fn a_large_download_is_sent_to_the_store_where_that_is_wanted() {
    let large = super::uploads::big(2 << 20, 1);
    for (wanted, status) in [(false, 200), (true, 307)] {
        let store = Arc::new(Linking(MemoryStore::new(Clock::real())));
        let storage = json!({ "type": "memory", "redirectDownloads": wanted });
        let reads = Arc::new(Reads::default());
        let registry =
            TestRegistry::with(json!({ "storage": storage }), Some(store), Some(reads.clone())).await;
        let digest = push_blob(&registry, "a", &large).await;
        let path = format!("/v2/a/blobs/{digest}");
        let answer = registry.send(get(&path)).await;
        assert_eq!((answer.status, answer.header("docker-content-digest")), (status, Some(digest.as_str())));
        let key = format!("oci/blobs/{}", digest.replace(':', "/"));
        assert_eq!(*reads.0.lock(), std::slice::from_ref(&key), "to hooks both are a read");
        let place = format!("https://store.example.com/{key}?ttl=600&type=application/octet-stream");
        assert_eq!(answer.header("location"), wanted.then_some(place.as_str()));
        if wanted {
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert!(answer.bytes().is_empty());
        }
        assert_eq!(
            registry.send(get(&path).header("range", "bytes=0-1")).await.status,
            if wanted { 307 } else { 206 }
        );
        // Never: several ranges, which stores answer with the whole or 501; HEAD; a client that has the blob; small blobs; manifests.
        assert_eq!(registry.send(get(&path).header("range", "bytes=0-1,5-6")).await.status, 206);
        let head = registry.send(head(&path)).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("2097152")));
        let known = get(&path).header("if-none-match", &format!("\"{digest}\""));
        assert_eq!(registry.send(known).await.status, 304);
        push_image(&registry, "a", "v", b"small").await;
        assert_eq!(registry.send(get(&format!("/v2/a/blobs/{}", sha256(b"small")))).await.status, 200);
        assert_eq!(registry.send(get("/v2/a/manifests/v")).await.status, 200);
        // Who may not read is told so here, and gets no link.
        assert_eq!(registry.send(get(&format!("/v2/b/blobs/{digest}"))).await.status, 404);
    }
    // A store that hands out no links serves by itself.
    let storage = json!({ "type": "memory", "redirectDownloads": true });
    let registry = TestRegistry::with(json!({ "storage": storage }), None, None).await;
    let digest = push_blob(&registry, "a", &large).await;
    assert_eq!(registry.send(get(&format!("/v2/a/blobs/{digest}"))).await.status, 200);
}

/// An object that another program has written.
async fn foreign(registry: &TestRegistry, key: &str, text: &str) {
    let bytes = Bytes::from(text.to_owned());
    registry.store.put(&Key::new(key).unwrap(), bytes.into(), PutOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_a_fallback_tag_lists_is_listed_if_it_is_there_and_means_it() {
    let registry = TestRegistry::with(json!({ "limits": { "metadataTtlMs": 0 } }), None, None).await;
    let digest = push_image(&registry, "a", "v", b"layer").await;
    let path = format!("/v2/a/referrers/{digest}");
    let subject = image(b"{}", b"layer").to_string();
    let signed = |kind: &str, about: &[u8]| {
        let mut one = image(b"{}", b"layer");
        one["artifactType"] = json!(kind);
        one["subject"] = descriptor(IMAGE, about);
        one["annotations"] = json!({ "k": kind });
        one.to_string()
    };
    // Written into the bucket beside us: two that belong, one about something else, one that is not there, and one that has no subject.
    let one = signed("application/one", subject.as_bytes());
    let two = signed("application/two", subject.as_bytes());
    let other = signed("application/other", b"other");
    let plain = image(b"{}", b"layer").to_string();
    let absent = signed("application/absent", subject.as_bytes());
    for text in [&one, &two, &other] {
        foreign(&registry, &format!("oci/manifests/a/{}", sha256(text.as_bytes())), text).await;
    }
    let listed: Vec<Value> =
        [&one, &two, &other, &plain, &absent].iter().map(|text| descriptor(IMAGE, text.as_bytes())).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
    let tag = digest.replace(':', "-");
    let kinds = async || {
        let answer = registry.send(get(&path)).await.json();
        let kind = |one: &Value| {
            assert_eq!(one["annotations"]["k"], one["artifactType"]);
            one["artifactType"].as_str().unwrap().to_owned()
        };
        let mut kinds: Vec<_> = answer["manifests"].as_array().unwrap().iter().map(kind).collect();
        kinds.sort();
        kinds
    };
    assert!(kinds().await.is_empty());
    assert_eq!(registry.send(put_manifest("a", &tag, &index)).await.status, 201);
    assert_eq!(kinds().await, ["application/one", "application/two"]);
    // One that is deleted does not come back, though the index still lists it; here and in a process that has seen nothing of it.
    assert_eq!(registry.send(delete(&format!("/v2/a/manifests/{tag}"))).await.status, 202);
    let index_digest = sha256(index.to_string().as_bytes());
    assert_eq!(registry.send(delete(&format!("/v2/a/manifests/{index_digest}"))).await.status, 202);
    assert_eq!(
        registry.send(delete(&format!("/v2/a/manifests/{}", sha256(one.as_bytes())))).await.status,
        202
    );
    assert_eq!(registry.send(put_manifest("a", &tag, &index)).await.status, 201);
    assert_eq!(kinds().await, ["application/two"]);
    let fresh = TestRegistry::with(json!({}), Some(registry.store.clone()), None).await;
    let list = fresh.send(get(&path)).await.json();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_warns_of_what_will_not_last() {
    let registry = with_oci(json!({ "features": { "sparseImages": true } })).await;
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "a", b"layer").await;
    let good = registry.send(put_manifest("a", "v", &image(b"{}", b"layer"))).await;
    assert_eq!((good.status, good.header("warning")), (201, None));
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let withdrawn =
        json!({ "mediaType": artifact, "artifactType": "a/b", "blobs": [descriptor("a/b", b"layer")] });
    let answer = registry.send(put_manifest("a", "w", &withdrawn)).await;
    assert_eq!(answer.status, 201);
    assert!(answer.header("warning").unwrap().starts_with("299 - \"the OCI artifact manifest is withdrawn"));
    let sparse = registry.send(put_manifest("a", "s", &image(b"{}", b"elsewhere"))).await;
    let warning = "299 - \"some of what this manifest needs is not in this repository\"";
    assert_eq!((sparse.status, sparse.header("warning")), (201, Some(warning)));
}

#[tokio::test]
async fn manifests_of_other_types_are_taken_where_that_is_wanted() {
    let other = "application/vnd.example.thing.v1+json";
    let text = r#"{"mediaType":"application/vnd.example.thing.v1+json","anything":[1,2]}"#;
    let push = || put("/v2/a/manifests/v").header("content-type", other).body(text);
    let refused = with_oci(json!({})).await.send(push()).await;
    assert_eq!((refused.status, code(&refused).as_str()), (400, "MANIFEST_INVALID"));
    let registry = with_oci(json!({ "features": { "otherManifests": true } })).await;
    assert_eq!(registry.send(push()).await.status, 201);
    let fresh = TestRegistry::with(json!({}), Some(registry.store.clone()), None).await;
    for registry in [&registry, &fresh] {
        let got = registry.send(get("/v2/a/manifests/v")).await;
        assert_eq!((got.status, got.header("content-type"), got.text().as_str()), (200, Some(other), text));
        assert_eq!(got.header("cache-control"), Some("no-cache, no-transform"));
    }
    assert_eq!(
        registry.send(delete(&format!("/v2/a/manifests/{}", sha256(text.as_bytes())))).await.status,
        202
    );
}

#[tokio::test]
async fn a_subject_has_so_many_referrers_and_no_more() {
    let config = json!({ "limits": { "referrers": 3 } });
    let registry = TestRegistry::with(config.clone(), None, None).await;
    push_blob(&registry, "a", b"{}").await;
    let signature = |number: u64, subject: &[u8]| {
        let mut one = image(b"{}", b"{}");
        one["subject"] = descriptor(IMAGE, subject);
        one["annotations"] = json!({ "number": number.to_string() });
        put_manifest("a", &sha256(one.to_string().as_bytes()), &one)
    };
    // Two processes, of which the second has seen nothing of the first.
    let other = TestRegistry::with(config, Some(registry.store.clone()), None).await;
    for number in 0..3 {
        assert_eq!(registry.send(signature(number, b"subject")).await.status, 201);
    }
    for registry in [&registry, &other] {
        let refused = registry.send(signature(3, b"subject")).await;
        assert_eq!((refused.status, code(&refused).as_str()), (403, "DENIED"));
        // The same again, and those of another subject.
        assert_eq!(registry.send(signature(1, b"subject")).await.status, 201);
        assert_eq!(registry.send(signature(3, b"other")).await.status, 201);
    }
    let list = registry.send(get(&format!("/v2/a/referrers/{}", sha256(b"subject")))).await.json();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3);
    let first = list["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(registry.send(delete(&format!("/v2/a/manifests/{first}"))).await.status, 202);
    assert_eq!(registry.send(signature(3, b"subject")).await.status, 201);
}

#[tokio::test]
async fn podman_finds_repositories_by_words() {
    let auth = json!({
        "jwtSecret": "0123456789abcdef0123456789abcdef",
        "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }],
    });
    let private = TestRegistry::with_users(json!({ "auth": auth }), &["ann"]).await;
    let registry = TestRegistry::with_users(json!({}), &["ann"]).await;
    for name in ["library/nginx", "team/nginx-proxy", "team/app", "secret/nginx"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(b"{}"));
        let push = || post(&path).basic("ann", "right").body("{}");
        assert_eq!(private.send(push()).await.status, 201);
        if name != "secret/nginx" {
            assert_eq!(registry.send(push()).await.status, 201);
        }
    }
    // It comes without credentials, and would take what is public for all there is.
    assert_eq!(private.send(get("/v1/search?q=nginx").anonymous()).await.status, 401);
    let all = private.send(get("/v1/search?q=secret").basic("ann", "right")).await.json();
    assert_eq!(all["results"][0]["name"], "secret/nginx");
    let found = async |request: TestRequest| {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let json = answer.json();
        let results = json["results"].as_array().unwrap();
        assert_eq!(json["num_results"], results.len());
        results.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let ask = |query: &str| get(&format!("/v1/search?{query}")).anonymous();
    assert_eq!(found(ask("n=25&q=nginx")).await, "library/nginx team/nginx-proxy");
    assert_eq!(found(ask("q=NGINX+team")).await, "team/nginx-proxy");
    assert_eq!(found(ask("q=library%2Fnginx")).await, "library/nginx team/nginx-proxy");
    assert_eq!(found(ask("q=nginx&n=1")).await, "library/nginx");
    assert_eq!(found(ask("q=none")).await, "");
    assert_eq!(found(ask("n=nonsense")).await, "library/nginx team/app team/nginx-proxy");
    assert_eq!(found(get("/oci/v1/search?q=app").anonymous()).await, "team/app");
    assert_eq!(registry.send(post("/v1/search").anonymous()).await.status, 405);
}
