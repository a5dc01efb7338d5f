//! Pulling through: what is fetched, what is kept, and what is asked when.

use std::time::Duration;

use super::*;
use crate::testing::upstream::{Asked, FakeUpstream, Reply};

/// An image as an upstream has it.
pub(super) struct Image {
    pub(super) manifest: String,
    pub(super) digest: String,
    pub(super) layer: Vec<u8>,
}

impl Image {
    pub(super) fn blob(&self, name: &str) -> String {
        format!("/v2/{name}/blobs/{}", sha256(&self.layer))
    }

    pub(super) fn by_digest(&self, name: &str) -> String {
        format!("/v2/{name}/manifests/{}", self.digest)
    }
}

pub(super) fn manifest_reply(text: &str, kind: &str) -> Reply {
    Reply::ok(text.to_owned())
        .header("content-type", kind)
        .header("docker-content-digest", &sha256(text.as_bytes()))
}

/// Puts an image with one layer there.
pub(super) fn offer(fake: &FakeUpstream, repository: &str, tag: &str, layer: &[u8]) -> Image {
    let manifest = image(b"{}", layer).to_string();
    let digest = sha256(manifest.as_bytes());
    for reference in [tag, &digest] {
        fake.on(&format!("/v2/{repository}/manifests/{reference}"), manifest_reply(&manifest, IMAGE));
    }
    for blob in [b"{}".as_slice(), layer] {
        fake.on(&format!("/v2/{repository}/blobs/{}", sha256(blob)), Reply::ok(blob.to_vec()));
    }
    Image { manifest, digest, layer: layer.to_vec() }
}

/// A registry that pulls through from this upstream.
pub(super) async fn mirror(fake: &FakeUpstream) -> TestRegistry {
    mirror_with(fake, json!({}), json!({})).await
}

/// The same with more for the protocol's upstreams, and for the registry.
pub(super) async fn mirror_with(fake: &FakeUpstream, more: Value, changes: Value) -> TestRegistry {
    let mut config = json!({ "upstreams": { "oci": fake.config_with(more) } });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    TestRegistry::with(config, None, None).await
}

/// What was asked since `from`, as `METHOD path`.
pub(super) fn lines(fake: &FakeUpstream, from: usize) -> Vec<String> {
    fake.asked().into_iter().skip(from).map(|Asked { method, path, .. }| format!("{method} {path}")).collect()
}

/// Nothing is served stale without being asked for again first.
pub(super) fn strict() -> Value {
    json!({ "cache": { "staleWhileRevalidate": false } })
}

const TTL: Duration = Duration::from_mins(5);

pub(super) async fn pull(registry: &TestRegistry, name: &str, tag: &str, image: &Image) {
    let manifest = registry.send(get(&format!("/v2/{name}/manifests/{tag}"))).await;
    assert_eq!((manifest.status, manifest.text().as_str()), (200, image.manifest.as_str()), "{manifest:?}");
    assert_eq!(manifest.header("docker-content-digest"), Some(image.digest.as_str()));
    assert_eq!(manifest.header("content-type"), Some(IMAGE));
    let blob = registry.send(get(&image.blob(name))).await;
    assert_eq!((blob.status, blob.bytes().as_ref()), (200, image.layer.as_slice()));
    assert_eq!(blob.header("content-length").unwrap(), image.layer.len().to_string());
}

#[tokio::test]
async fn what_is_here_is_served_from_here() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    let registry = mirror(&fake).await;
    pull(&registry, "team/app", "v1", &image).await;
    let layer = sha256(&image.layer);
    assert_eq!(
        lines(&fake, 0),
        [
            "HEAD /v2/team/app/manifests/v1".to_owned(),
            format!("GET /v2/team/app/manifests/{}", image.digest),
            format!("GET /v2/team/app/blobs/{layer}"),
        ]
    );
    assert!(fake.asked()[0].header("accept").unwrap().contains(INDEX));
    assert_eq!(fake.asked()[1].header("accept-encoding"), Some("identity"));
    for _ in 0..2 {
        pull(&registry, "team/app", "v1", &image).await;
        assert_eq!(registry.send(head(&image.by_digest("team/app"))).await.status, 200);
        assert_eq!(registry.send(head(&image.blob("team/app"))).await.status, 200);
        let part = registry.send(get(&image.blob("team/app")).header("range", "bytes=4-8")).await;
        assert_eq!((part.status, part.text().as_str()), (206, "layer"));
    }
    assert_eq!(fake.count(), 3, "nothing is asked while the tag is fresh");
    // Another process, and no upstream any more.
    let config = json!({ "upstreams": { "oci": fake.config() } });
    drop(fake);
    let other = registry.another(config, None).await;
    pull(&other, "team/app", "v1", &image).await;
    let catalog = other.send(get("/v2/_catalog")).await;
    assert_eq!(catalog.json()["repositories"], json!(["team/app"]));
}

#[tokio::test]
async fn a_warm_pull_costs_what_one_of_our_own_costs() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    let registry = mirror_with(&fake, json!({}), json!({ "limits": { "metadataTtlMs": 600_000 } })).await;
    pull(&registry, "team/app", "v1", &image).await;
    pull(&registry, "team/app", "v1", &image).await;
    let before = registry.store.requests();
    assert_eq!(registry.send(get("/v2/team/app/manifests/v1")).await.status, 200);
    assert_eq!(registry.store.requests() - before, 0, "manifest and tag are in memory");
    assert_eq!(registry.send(get(&image.blob("team/app"))).await.status, 200);
    assert_eq!(registry.store.requests() - before, 1, "the blob itself");
    // The same by containerd's way.
    let asked = |path: &str| get(path).query(&format!("ns={}", fake.url.trim_start_matches("http://")));
    for round in 0..2 {
        let before = registry.store.requests();
        assert_eq!(registry.send(asked("/v2/team/app/manifests/v1")).await.status, 200);
        assert_eq!(registry.send(asked(&image.blob("team/app"))).await.bytes().as_ref(), image.layer);
        if round > 0 {
            assert_eq!(registry.store.requests() - before, 1, "the blob itself");
        }
    }
}

#[tokio::test]
async fn looking_at_a_tag_fetches_nothing() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    let registry = mirror(&fake).await;
    let answer = registry.send(head("/v2/team/app/manifests/v1")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("docker-content-digest"), Some(image.digest.as_str()));
    assert_eq!(answer.header("content-type"), Some(IMAGE));
    assert_eq!(answer.header("content-length").unwrap(), image.manifest.len().to_string());
    let answer = registry.send(head(&image.by_digest("team/app"))).await;
    assert_eq!(answer.header("content-length").unwrap(), image.manifest.len().to_string());
    let answer = registry.send(head(&image.blob("team/app"))).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("9")));
    assert!(lines(&fake, 0).iter().all(|line| line.starts_with("HEAD ")), "{:?}", lines(&fake, 0));
    assert!(registry.keys(false).await.is_empty(), "{:?}", registry.keys(false).await);
    // What is not there is asked for once, by whatever method.
    for path in ["/v2/team/app/manifests/v2", &format!("/v2/team/app/blobs/{}", sha256(b"?"))] {
        let before = fake.count();
        assert_eq!(registry.send(head(path)).await.status, 404);
        assert_eq!(registry.send(get(path)).await.status, 404);
        assert_eq!(fake.count() - before, 1, "{path}");
    }
    registry.clock.advance(Duration::from_secs(61));
    let before = fake.count();
    assert_eq!(registry.send(get(&format!("/v2/team/app/blobs/{}", sha256(b"?")))).await.status, 404);
    assert_eq!(fake.count() - before, 1, "and asked for again when that is old");
}

#[tokio::test]
async fn a_stale_tag_costs_a_head() {
    let fake = FakeUpstream::start().await;
    let old = offer(&fake, "team/app", "v1", b"old");
    let registry = mirror_with(&fake, strict(), json!({})).await;
    pull(&registry, "team/app", "v1", &old).await;
    registry.clock.advance(TTL);
    let from = fake.count();
    pull(&registry, "team/app", "v1", &old).await;
    assert_eq!(lines(&fake, from), ["HEAD /v2/team/app/manifests/v1"]);
    pull(&registry, "team/app", "v1", &old).await;
    assert_eq!(fake.count() - from, 1, "fresh again");
    let new = offer(&fake, "team/app", "v1", b"new");
    registry.clock.advance(TTL);
    let from = fake.count();
    pull(&registry, "team/app", "v1", &new).await;
    let fetched = format!("GET /v2/team/app/manifests/{}", new.digest);
    assert_eq!(lines(&fake, from)[..2], ["HEAD /v2/team/app/manifests/v1".to_owned(), fetched]);
    // A tag that is gone is gone, and what it named stays.
    fake.on("/v2/team/app/manifests/v1", Reply::new(404, ""));
    registry.clock.advance(TTL);
    let answer = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!((answer.status, code(&answer).as_str()), (404, "MANIFEST_UNKNOWN"));
    for image in [&old, &new] {
        assert_eq!(registry.send(get(&image.by_digest("team/app"))).await.status, 200);
    }
    let other = registry.another(json!({ "upstreams": { "oci": fake.config() } }), None).await;
    let from = fake.count();
    assert_eq!(other.send(get("/v2/team/app/manifests/v1")).await.status, 404);
    assert!(fake.count() - from <= 1);
}

#[tokio::test]
async fn an_upstream_that_says_no_digest_is_asked_with_its_etag() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let silent = |image: &Image, etag: &str| {
        Reply::ok(image.manifest.clone()).header("content-type", IMAGE).etag(etag)
    };
    fake.on("/v2/team/app/manifests/v1", silent(&image, "\"one\""));
    let registry = mirror_with(&fake, strict(), json!({})).await;
    pull(&registry, "team/app", "v1", &image).await;
    registry.clock.advance(TTL);
    let from = fake.count();
    pull(&registry, "team/app", "v1", &image).await;
    let asked = fake.asked();
    assert_eq!(lines(&fake, from), ["HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/v1"]);
    assert_eq!(asked.last().unwrap().header("if-none-match"), Some("\"one\""));
    let new = offer(&fake, "team/app", "v1", b"new");
    fake.on("/v2/team/app/manifests/v1", silent(&new, "\"two\""));
    registry.clock.advance(TTL);
    pull(&registry, "team/app", "v1", &new).await;
}

#[tokio::test]
async fn a_stale_tag_is_served_while_it_is_asked_for_again_and_while_nobody_answers() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"old");
    let registry = mirror_with(
        &fake,
        json!({}),
        json!({ "oci": { "enabled": true, "basePath": "/oci", "features": { "cacheStatus": true } } }),
    )
    .await;
    pull(&registry, "team/app", "v1", &image).await;
    let status = |answer: &TestResponse| answer.header("cache-status").map(str::to_owned);
    let hot = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!(status(&hot).as_deref(), Some("\"fake\"; hit"));
    let blob = registry.send(get(&image.blob("team/app"))).await;
    assert_eq!(status(&blob).as_deref(), Some("\"fake\"; hit"));
    offer(&fake, "team/app", "v1", b"new");
    registry.clock.advance(TTL);
    let stale = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!(stale.header("docker-content-digest"), Some(image.digest.as_str()));
    assert_eq!(status(&stale).as_deref(), Some("\"fake\"; hit; detail=stale"));
    assert_eq!(
        stale.header("warning"),
        Some("299 - \"the response is stale: the upstream has not said yet where the tag is now\"")
    );
    drop(fake);
    registry.clock.advance(Duration::from_hours(30));
    let answer = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!(answer.status, 200, "a day and a night without an upstream");
    let answer = registry.send(get("/v2/team/other/manifests/v1")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(registry.send(get(&format!("/v2/team/app/blobs/{}", sha256(b"?")))).await.status, 503);
}

#[tokio::test]
async fn many_who_want_one_blob_cost_one_fetch() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", &super::uploads::big(3 << 20, 1));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.on(&image.blob("team/app"), Reply::ok(image.layer.clone()).gate(&gate));
    let registry = Arc::new(mirror(&fake).await);
    let pulls: Vec<_> = (0..20)
        .map(|number| {
            let (registry, path) = (Arc::clone(&registry), image.blob("team/app"));
            tokio::spawn(async move {
                if number % 7 == 3 {
                    let part = registry.send(get(&path).header("range", "bytes=100-199")).await;
                    return (part.status, part.bytes().clone());
                }
                let answer = registry.send(get(&path)).await;
                (answer.status, answer.bytes().clone())
            })
        })
        .collect();
    while fake.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.add_permits(1);
    for pull in pulls {
        let (status, bytes) = pull.await.unwrap();
        match status {
            206 => assert_eq!(bytes, image.layer[100..200]),
            status => assert_eq!((status, bytes.as_ref()), (200, image.layer.as_slice())),
        }
    }
    assert_eq!(lines(&fake, 0), [format!("GET {}", image.blob("team/app"))]);
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(fake.count(), 3, "the tag and its manifest");
}

#[tokio::test]
async fn a_blob_is_kept_when_who_asked_for_it_has_gone() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", &super::uploads::big(2 << 20, 1));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.on(&image.blob("team/app"), Reply::ok(image.layer.clone()).gate(&gate));
    let registry = mirror(&fake).await;
    let request = registry.send(get(&image.blob("team/app")));
    assert!(tokio::time::timeout(Duration::from_millis(100), request).await.is_err());
    gate.add_permits(1);
    let link = format!("_sr/oci/links/sha256/{}/team/app/_", &sha256(&image.layer)[7..]);
    for _ in 0..200 {
        if registry.keys(true).await.contains(&link) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = registry.send(get(&image.blob("team/app"))).await;
    assert_eq!(answer.bytes().as_ref(), image.layer.as_slice());
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    let registry = mirror_with(&fake, json!({ "cache": { "enabled": false } }), json!({})).await;
    for _ in 0..2 {
        let from = fake.count();
        pull(&registry, "team/app", "v1", &image).await;
        assert_eq!(fake.count() - from, 3);
    }
    assert!(registry.keys(true).await.is_empty(), "{:?}", registry.keys(true).await);
}

#[tokio::test]
async fn an_upstream_short_of_breath_is_not_asked_what_is_here() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    let limited = manifest_reply(&image.manifest, IMAGE)
        .header("ratelimit-limit", "100;w=21600")
        .header("ratelimit-remaining", "3;w=21600");
    fake.on("/v2/team/app/manifests/v1", limited);
    let registry = mirror_with(&fake, strict(), json!({})).await;
    pull(&registry, "team/app", "v1", &image).await;
    registry.clock.advance(TTL * 3);
    let from = fake.count();
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(fake.count(), from, "what is here is as good for an hour more");
    let metrics = registry.registry.metrics().render();
    assert!(
        metrics.contains("smartregistry_upstream_remaining_requests{protocol=\"oci\",upstream=\"fake\"} 3"),
        "{metrics}"
    );
    registry.clock.advance(Duration::from_hours(1));
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(lines(&fake, from), ["HEAD /v2/team/app/manifests/v1"]);
}
