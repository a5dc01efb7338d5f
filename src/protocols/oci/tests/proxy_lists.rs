//! Pulling through: lists of tags and referrers, emptying, filling, and what maintenance makes of it all.

use std::time::Duration;

use super::proxy::{lines, manifest_reply, mirror, mirror_with, offer, pull, strict};
use super::*;
use crate::testing::upstream::{FakeUpstream, Reply};

#[tokio::test]
async fn tags_are_listed_as_the_upstream_pages_them() {
    let fake = FakeUpstream::start().await;
    let list = |tags: &[&str]| Reply::json(&json!({ "name": "team/app", "tags": tags }));
    fake.on(
        "/v2/team/app/tags/list?n=1000",
        list(&["b", "latest", "not a tag"])
            .header("link", "</v2/team/app/tags/list?n=1000&last=latest>; rel=\"next\""),
    );
    fake.on("/v2/team/app/tags/list?n=1000&last=latest", list(&["v1", "a"]));
    fake.on("/v2/team/none/tags/list?n=1000", Reply::json(&json!({ "name": "team/none", "tags": null })));
    let registry = mirror_with(&fake, strict(), json!({})).await;
    let tags = registry.send(get("/v2/team/app/tags/list")).await;
    assert_eq!(tags.json(), json!({ "name": "team/app", "tags": ["a", "b", "latest", "v1"] }));
    assert_eq!(fake.count(), 2);
    let page = registry.send(get("/v2/team/app/tags/list").query("n=2&last=a")).await;
    assert_eq!(page.json()["tags"], json!(["b", "latest"]));
    assert_eq!(page.header("link"), Some("</v2/team/app/tags/list?n=2&last=latest>; rel=\"next\""));
    assert_eq!(fake.count(), 2);
    assert_eq!(registry.send(get("/v2/team/none/tags/list")).await.json()["tags"], json!([]));
    let missing = registry.send(get("/v2/team/missing/tags/list")).await;
    assert_eq!((missing.status, code(&missing).as_str()), (404, "NAME_UNKNOWN"));
    drop(fake);
    registry.clock.advance(Duration::from_hours(1));
    let tags = registry.send(get("/v2/team/app/tags/list")).await;
    assert_eq!(tags.json()["tags"], json!(["a", "b", "latest", "v1"]), "as they were");
}

fn referrer(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": IMAGE, "digest": sha256(bytes), "size": bytes.len(), "artifactType": kind })
}

#[tokio::test]
async fn referrers_come_from_the_list_or_from_the_fallback_tag() {
    let fake = FakeUpstream::start().await;
    let (listed, tagged, neither) = (sha256(b"listed"), sha256(b"tagged"), sha256(b"neither"));
    let index = |entries: Vec<Value>| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let (signature, bill) = (referrer("a/signature", b"one"), referrer("a/bill", b"two"));
    let page = Reply::json(&index(vec![signature.clone(), json!({ "digest": "nonsense" })]))
        .header("link", "</v2/team/app/referrers/x?page=2>; rel=\"next\"");
    fake.on(&format!("/v2/team/app/referrers/{listed}"), page);
    fake.on(&format!("/v2/team/app/referrers/{listed}?page=2"), Reply::json(&index(vec![bill.clone()])));
    let fallback = format!("/v2/team/app/manifests/{}", tagged.replace(':', "-"));
    fake.on(&fallback, manifest_reply(&index(vec![bill.clone()]).to_string(), INDEX));
    let registry = mirror_with(&fake, strict(), json!({})).await;
    let ask = |subject: &str, query: &str| get(&format!("/v2/team/app/referrers/{subject}")).query(query);
    let answer = registry.send(ask(&listed, "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)));
    let mut both = vec![signature.clone(), bill.clone()];
    both.sort_by_key(|entry| entry["digest"].to_string());
    assert_eq!(answer.json()["manifests"], json!(both));
    let answer = registry.send(ask(&listed, "artifactType=a/bill")).await;
    assert_eq!(answer.json()["manifests"], json!([bill]));
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(fake.count(), 2);
    assert_eq!(registry.send(ask(&tagged, "")).await.json()["manifests"], json!([bill]));
    let answer = registry.send(ask(&neither, "")).await;
    assert_eq!((answer.status, answer.json()["manifests"].clone()), (200, json!([])));
    assert_eq!(registry.send(ask("sha256:bad", "")).await.status, 400);
    drop(fake);
    registry.clock.advance(Duration::from_hours(1));
    let answer = registry.send(ask(&listed, "")).await;
    assert_eq!(answer.json()["manifests"], json!(both), "as they were");
    let answer = registry.send(ask(&sha256(b"new"), "")).await;
    assert_eq!((answer.status, answer.json()["manifests"].clone()), (200, json!([])));
    let warning = answer.header("warning").unwrap();
    assert!(
        warning.starts_with("299 - \"the upstream gave no answer"),
        "what it lacks nobody knows: {warning}"
    );
}

async fn purge(registry: &TestRegistry, name: Option<&str>) -> Result<u64> {
    let (protocol, cx) = registry.registry.behind(NAME.as_str())?;
    protocol.purge(&cx, name).await
}

async fn warm(registry: &TestRegistry, name: &str) -> Result<u64> {
    let (protocol, cx) = registry.registry.behind(NAME.as_str())?;
    protocol.warm(&cx, name).await
}

#[tokio::test]
async fn what_is_cached_can_be_forgotten_and_what_is_ours_can_not() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let other = offer(&fake, "team/other", "V1", b"layer");
    let registry = mirror(&fake).await;
    push_image(&registry, "own", "v1", b"ours").await;
    let ours = registry.keys(false).await;
    pull(&registry, "team/app", "v1", &image).await;
    pull(&registry, "team/other", "V1", &other).await;
    assert_eq!(purge(&registry, Some("own")).await.unwrap_err().kind(), Kind::Conflict);
    assert!(purge(&registry, Some("team/app")).await.unwrap() >= 4, "manifest, marker, tag and its text");
    let left = registry.keys(true).await;
    let of_app = |key: &&String| key.contains("team/app") && !key.contains("/links/");
    assert_eq!(left.iter().filter(of_app).collect::<Vec<_>>(), Vec::<&String>::new());
    let from = fake.count();
    pull(&registry, "team/other", "V1", &other).await;
    assert_eq!(fake.count(), from, "another's is as it was");
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(lines(&fake, from).len(), 2, "the tag and the manifest; the blob is here");
    // A name that is cached no more is free.
    purge(&registry, Some("team/app")).await.unwrap();
    push_image(&registry, "team/app", "mine", b"mine").await;
    assert_eq!(registry.send(get("/v2/team/app/manifests/v1")).await.status, 404);
    purge(&registry, None).await.unwrap();
    let left = registry.keys(true).await;
    assert!(!left.iter().any(|key| key.contains("/upstream/") && !key.ends_with("/purges.json")), "{left:?}");
    assert!(ours.iter().all(|key| left.contains(key)));
    assert_eq!(registry.send(get("/v2/team/app/manifests/mine")).await.status, 200);
    assert_eq!(registry.send(get("/v2/own/manifests/v1")).await.status, 200);
}

#[tokio::test]
async fn an_image_can_be_fetched_before_anybody_asks() {
    let fake = FakeUpstream::start().await;
    let (amd, arm) = (offer(&fake, "team/app", "amd", b"amd"), offer(&fake, "team/app", "arm", b"arm"));
    let child = |text: &str| descriptor(IMAGE, text.as_bytes());
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [child(&amd.manifest), child(&arm.manifest)],
    });
    let text = index.to_string();
    for reference in ["latest", &sha256(text.as_bytes())] {
        fake.on(&format!("/v2/team/app/manifests/{reference}"), manifest_reply(&text, INDEX));
    }
    let registry = mirror(&fake).await;
    push_image(&registry, "own", "latest", b"ours").await;
    // Three manifests, two layers and the configuration that both share.
    assert_eq!(warm(&registry, "team/app").await.unwrap(), 6);
    let from = fake.count();
    assert_eq!(warm(&registry, "team/app:latest").await.unwrap(), 0);
    assert_eq!(warm(&registry, &format!("team/app@{}", amd.digest)).await.unwrap(), 0);
    assert_eq!(registry.send(get("/v2/team/app/manifests/latest")).await.text(), text);
    for image in [&amd, &arm] {
        assert_eq!(registry.send(get(&image.by_digest("team/app"))).await.status, 200);
        assert_eq!(registry.send(get(&image.blob("team/app"))).await.bytes().as_ref(), image.layer);
    }
    assert_eq!(fake.count(), from);
    assert_eq!(warm(&registry, "own").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(warm(&registry, "team/none").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn layers_that_lie_elsewhere_are_not_fetched() {
    let fake = FakeUpstream::start().await;
    let mut manifest = image(b"{}", b"layer");
    manifest["layers"][0]["urls"] = json!([format!("{}/foreign", fake.url)]);
    let text = manifest.to_string();
    for reference in ["v1", &sha256(text.as_bytes())] {
        fake.on(&format!("/v2/team/app/manifests/{reference}"), manifest_reply(&text, IMAGE));
    }
    fake.on(&format!("/v2/team/app/blobs/{}", sha256(b"{}")), Reply::ok("{}"));
    fake.on("/foreign", Reply::ok("layer"));
    let registry = mirror(&fake).await;
    assert_eq!(warm(&registry, "team/app:v1").await.unwrap(), 2);
    assert_eq!(registry.send(get(&format!("/v2/team/app/blobs/{}", sha256(b"layer")))).await.status, 404);
    assert!(!lines(&fake, 0).iter().any(|line| line.contains("foreign")));
}

#[tokio::test]
async fn maintenance_takes_a_cache_for_what_it_is() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let half = offer(&fake, "team/half", "v1", b"never pulled");
    let gc = json!({ "oci": { "enabled": true, "basePath": "/oci", "gc": { "graceMs": 5000 } } });
    let registry = mirror_with(&fake, json!({}), gc).await;
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(registry.send(get("/v2/team/half/manifests/v1")).await.status, 200);
    let findings = registry.registry.verify(false, crate::maintenance::Progress::default()).await.unwrap();
    assert!(findings.findings.is_empty(), "{:?}", findings.findings);
    registry.clock.advance(Duration::from_hours(1));
    registry.collect_without_lease().await;
    let from = fake.count();
    assert_eq!(registry.send(get(&image.blob("team/app"))).await.bytes().as_ref(), b"layer");
    assert_eq!(registry.send(get(&half.by_digest("team/half"))).await.status, 200);
    assert_eq!(fake.count(), from, "what a manifest names stays");
    // What was pulled and is named by nothing goes, and comes again.
    purge(&registry, Some("team/app")).await.unwrap();
    registry.clock.advance(Duration::from_hours(1));
    registry.collect_without_lease().await;
    assert!(
        !registry.keys(true).await.iter().any(|key| key.contains("team/app")),
        "{:?}",
        registry.keys(true).await
    );
    pull(&registry, "team/app", "v1", &image).await;
    // Nobody is told that somebody has made something.
    let events = registry.registry.events(NAME.as_str(), 0).await;
    let text = format!("{events:?}");
    assert!(!text.contains("\"create\"") && text.contains("\"cache\""), "{text}");
}

#[tokio::test]
async fn a_lost_marker_does_not_make_a_cache_ours() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let registry = mirror(&fake).await;
    pull(&registry, "team/app", "v1", &image).await;
    registry.store.delete(&Key::new("_sr/oci/repositories/team/app/_").unwrap()).await.unwrap();
    let next = offer(&fake, "team/app", "v2", b"next");
    let other = registry.another(json!({ "upstreams": { "oci": fake.config() } }), None).await;
    pull(&other, "team/app", "v2", &next).await;
    assert!(other.keys(true).await.contains(&"_sr/oci/repositories/team/app/_".to_owned()));
    // Without an upstream it is read as far as it goes.
    let alone = registry.another(json!({}), None).await;
    assert_eq!(alone.send(get(&image.by_digest("team/app"))).await.status, 200);
    assert_eq!(alone.send(get("/v2/team/app/manifests/v2")).await.status, 404);
    let push = alone.send(
        post("/v2/team/app/blobs/uploads/?digest=")
            .query(&format!("digest={}", sha256(b"x")))
            .body(b"x".to_vec()),
    );
    assert_eq!(push.await.status, 405);
}

#[tokio::test]
async fn what_no_blob_is_may_be_a_manifest() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let registry = mirror(&fake).await;
    assert_eq!(registry.send(head(&format!("/v2/team/app/blobs/{}", image.digest))).await.status, 404);
    assert_eq!(registry.send(get(&image.by_digest("team/app"))).await.status, 200);
}
