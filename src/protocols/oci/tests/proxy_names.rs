//! Pulling through: which name goes where, and which never leaves the house.

use super::proxy::{Image, lines, mirror, mirror_with, offer, pull, strict};
use super::*;
use crate::testing::upstream::{FakeUpstream, Reply};

/// With a namespace of its own.
async fn named(fake: &FakeUpstream, namespace: &str) -> TestRegistry {
    let upstream = json!([{ "id": "fake", "url": fake.url, "namespace": namespace }]);
    mirror_with(fake, json!({ "upstreams": upstream }), json!({})).await
}

#[tokio::test]
async fn docker_hub_keeps_short_names_in_its_library() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "library/nginx", "1", b"layer");
    let registry = named(&fake, "docker.io").await;
    pull(&registry, "nginx", "1", &image).await;
    pull(&registry, "library/nginx", "1", &image).await;
    pull(&registry, "docker.io/nginx", "1", &image).await;
    assert!(lines(&fake, 0).iter().all(|line| line.contains("/v2/library/nginx/")), "{:?}", lines(&fake, 0));
    let other = FakeUpstream::start().await;
    let image = offer(&other, "nginx", "1", b"layer");
    pull(&mirror(&other).await, "nginx", "1", &image).await;
}

#[tokio::test]
async fn a_namespace_is_the_same_in_the_query_and_in_the_path() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "library/nginx", "1", b"layer");
    let registry = named(&fake, "docker.io").await;
    let ns = |path: &str| get(path).query("ns=docker.io");
    let answer = registry.send(ns("/v2/library/nginx/manifests/1")).await;
    assert_eq!((answer.status, answer.header("oci-namespace")), (200, Some("docker.io")));
    assert_eq!(registry.send(ns(&image.blob("library/nginx"))).await.bytes().as_ref(), b"layer");
    let from = fake.count();
    pull(&registry, "docker.io/library/nginx", "1", &image).await;
    assert_eq!(fake.count(), from, "both share what is here");
    assert!(
        registry
            .keys(false)
            .await
            .iter()
            .any(|key| key.starts_with("oci/manifests/docker.io/library/nginx/"))
    );
    // Nobody is asked for a namespace that nobody has.
    for path in ["/v2/library/nginx/manifests/1", &image.blob("library/nginx"), "/v2/library/nginx/tags/list"]
    {
        let answer = registry.send(get(path).query("ns=quay.io")).await;
        assert_eq!((answer.status, answer.header("oci-namespace")), (404, None), "{path}");
    }
    assert_eq!(registry.send(get("/v2/library/nginx/manifests/1").query("ns=../x")).await.status, 404);
    assert_eq!(fake.count(), from);
    let port = named(&fake, "Registry.example.com:5000").await;
    let answer = port.send(get("/v2/library/nginx/manifests/1").query("ns=registry.example.com:5000")).await;
    assert_eq!(answer.status, 200);
    pull(&port, "registry.example.com-5000/library/nginx", "1", &image).await;
}

#[tokio::test]
async fn what_is_ours_never_leaves_the_house() {
    let fake = FakeUpstream::start().await;
    let evil = offer(&fake, "team/app", "evil", b"evil");
    let registry = named(&fake, "docker.io").await;
    let own = push_image(&registry, "team/app", "v1", b"ours").await;
    push_image(&registry, "docker.io/team/app", "v1", b"ours too").await;
    let none = sha256(b"nothing");
    for name in ["team/app", "docker.io/team/app"] {
        for (path, status) in [
            (format!("/v2/{name}/manifests/evil"), 404),
            (evil.by_digest(name), 404),
            (evil.blob(name), 404),
            (format!("/v2/{name}/blobs/{none}"), 404),
            (format!("/v2/{name}/referrers/{own}"), 200),
            (format!("/v2/{name}/tags/list"), 200),
            (format!("/v2/{name}/manifests/v1"), 200),
        ] {
            for request in [get(&path), head(&path), get(&path).query("ns=docker.io")] {
                assert_eq!(registry.send(request).await.status, status, "{path}");
            }
        }
    }
    // A process that knows nothing yet, and one that finds what another program has left.
    let config = json!({ "upstreams": { "oci": fake.config() } });
    let other = registry.another(config.clone(), None).await;
    assert_eq!(other.send(get("/v2/team/app/manifests/evil")).await.status, 404);
    let marker =
        registry.keys(true).await.into_iter().find(|key| key == "_sr/oci/repositories/team/app/_").unwrap();
    registry.store.delete(&Key::new(marker).unwrap()).await.unwrap();
    let third = registry.another(config, None).await;
    assert_eq!(third.send(get(&evil.blob("team/app"))).await.status, 404);
    assert_eq!(third.send(get("/v2/team/app/manifests/evil")).await.status, 404);
    assert_eq!(fake.count(), 0, "{:?}", lines(&fake, 0));
    // What is ours is pushed to as ever.
    push_image(&registry, "team/app", "v2", b"more of ours").await;
}

#[tokio::test]
async fn a_cached_repository_takes_no_pushes() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let registry = mirror(&fake).await;
    pull(&registry, "team/app", "v1", &image).await;
    push_image(&registry, "own", "v1", b"ours").await;
    let (digest, ours) = (sha256(b"x"), sha256(b"ours"));
    for request in [
        post("/v2/team/app/blobs/uploads/"),
        post(&format!("/v2/team/app/blobs/uploads/?digest={digest}")).body(b"x".to_vec()),
        post("/v2/team/app/blobs/uploads/").query(&format!("mount={ours}&from=own")),
        put_manifest("team/app", "v1", &super::image(b"{}", b"layer")),
        put_manifest("team/app", "mine", &super::image(b"{}", b"layer")),
    ] {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, code(&answer).as_str()), (405, "UNSUPPORTED"), "{answer:?}");
        assert!(answer.text().contains("cached from upstream fake"), "{}", answer.text());
    }
    pull(&registry, "team/app", "v1", &image).await;
    // What was pulled may be mounted elsewhere, by who may read it.
    let layer = sha256(b"layer");
    let mount = post("/v2/own/blobs/uploads/").query(&format!("mount={layer}&from=team/app"));
    assert_eq!(registry.send(mount).await.status, 201);
}

#[tokio::test]
async fn a_push_that_races_with_a_pull_does_not_mix() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    let registry = mirror(&fake).await;
    let place = super::uploads::open(&registry, "team/app").await;
    pull(&registry, "team/app", "v1", &image).await;
    let digest = sha256(b"mine");
    let answer = registry.send(put(&format!("{place}?digest={digest}")).body(b"mine".to_vec())).await;
    assert_eq!(answer.status, 405, "{answer:?}");
    assert_eq!(
        registry.send(put_manifest("team/app", "mine", &super::image(b"{}", b"mine"))).await.status,
        405
    );
}

#[tokio::test]
async fn a_repository_sees_the_blobs_that_its_upstream_gives_it() {
    let fake = FakeUpstream::start().await;
    let secret = offer(&fake, "team/secret", "v1", b"secret");
    let open = offer(&fake, "team/open", "v1", b"open");
    let registry = mirror(&fake).await;
    pull(&registry, "team/secret", "v1", &secret).await;
    pull(&registry, "team/open", "v1", &open).await;
    // The bytes are in the bucket, and this repository has them not.
    for request in [get(&secret.blob("team/open")), head(&secret.blob("team/open"))] {
        assert_eq!(registry.send(request).await.status, 404);
    }
    assert_eq!(registry.send(get(&secret.by_digest("team/open"))).await.status, 404);
    // One that has them is not sent them a second time.
    let copy = offer(&fake, "team/copy", "v1", b"secret");
    let from = fake.count();
    let answer = registry.send(get(&copy.blob("team/copy"))).await;
    assert_eq!(answer.bytes().as_ref(), b"secret");
    assert_eq!(lines(&fake, from), [format!("HEAD {}", copy.blob("team/copy"))]);
    assert_eq!(registry.send(get(&copy.blob("team/copy"))).await.status, 200);
    assert_eq!(fake.count() - from, 1);
    // A manifest that names what others have shows nothing of it, also when the marker is lost.
    let thief = super::image(b"{}", b"secret").to_string();
    let digest = sha256(thief.as_bytes());
    fake.on(&format!("/v2/team/thief/manifests/{digest}"), super::proxy::manifest_reply(&thief, IMAGE));
    let path = format!("/v2/team/thief/manifests/{digest}");
    assert_eq!(registry.send(get(&path)).await.status, 200);
    registry.store.delete(&Key::new("_sr/oci/repositories/team/thief/_").unwrap()).await.unwrap();
    let other = registry.another(json!({ "upstreams": { "oci": fake.config() } }), None).await;
    assert_eq!(other.send(get(&path)).await.status, 200);
    assert_eq!(other.send(get(&secret.blob("team/thief"))).await.status, 404);
    let pushed = other.send(put_manifest("team/thief", "x", &super::image(b"{}", b"secret"))).await;
    assert_eq!(pushed.status, 405, "it is cached still: {pushed:?}");
}

#[tokio::test]
async fn who_comes_while_a_blob_is_on_its_way_for_another_is_asked_for_apart() {
    let fake = FakeUpstream::start().await;
    let secret = offer(&fake, "team/secret", "v1", &super::uploads::big(1 << 20, 7));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.on(&secret.blob("team/secret"), Reply::ok(secret.layer.clone()).gate(&gate));
    let registry = Arc::new(mirror(&fake).await);
    let (first, path) = (Arc::clone(&registry), secret.blob("team/secret"));
    let first = tokio::spawn(async move { first.send(get(&path)).await.bytes().clone() });
    while fake.count() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(registry.send(get(&secret.blob("team/other"))).await.status, 404);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), secret.layer);
}

#[tokio::test]
async fn rules_and_policies_know_every_form_of_a_name() {
    let fake = FakeUpstream::start().await;
    let nginx = offer(&fake, "library/nginx", "1", b"nginx");
    let other: Image = offer(&fake, "acme/app", "1", b"app");
    let upstreams = json!([{
        "id": "fake", "url": fake.url, "namespace": "docker.io",
        "scopeRules": [{ "pattern": "acme/*", "action": "exclude" }],
        "policy": { "allow": ["library/*"], "block": [{ "name": "evil", "reason": "steals tokens" }] },
    }]);
    let registry = mirror_with(&fake, json!({ "upstreams": upstreams }), json!({})).await;
    pull(&registry, "nginx", "1", &nginx).await;
    let from = fake.count();
    for name in ["acme/app", "docker.io/acme/app"] {
        assert_eq!(registry.send(get(&format!("/v2/{name}/manifests/1"))).await.status, 404, "{name}");
        assert_eq!(registry.send(get(&other.blob(name))).await.status, 404, "{name}");
    }
    for name in ["evil", "library/evil", "docker.io/library/evil", "docker.io/evil", "nice/app"] {
        for path in [format!("/v2/{name}/manifests/1"), other.by_digest(name), other.blob(name)] {
            let answer = registry.send(get(&path)).await;
            assert_eq!((answer.status, code(&answer).as_str()), (403, "DENIED"), "{path}");
        }
    }
    let answer = registry.send(get("/v2/evil/manifests/1")).await;
    assert!(answer.text().contains("steals tokens"), "{}", answer.text());
    assert_eq!(fake.count(), from, "nobody was asked");
    // What was pulled before it was blocked is blocked too.
    let late = json!([{
        "id": "fake", "url": fake.url, "namespace": "docker.io", "policy": { "block": [{ "name": "nginx" }] },
    }]);
    let config = json!({ "upstreams": { "oci": fake.config_with(json!({ "upstreams": late })) } });
    let other = registry.another(config, None).await;
    for path in [nginx.by_digest("nginx"), nginx.blob("nginx"), "/v2/nginx/tags/list".to_owned()] {
        assert_eq!(other.send(get(&path)).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn upstreams_are_asked_in_their_order() {
    let (first, second) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let image = offer(&second, "team/app", "v1", b"layer");
    let upstreams = json!([
        { "id": "second", "url": second.url, "priority": 2 }, { "id": "first", "url": first.url, "priority": 1 },
    ]);
    let mut more = strict();
    more["upstreams"] = upstreams;
    let registry = mirror_with(&first, more, json!({})).await;
    pull(&registry, "team/app", "v1", &image).await;
    assert_eq!(lines(&first, 0)[0], "HEAD /v2/team/app/manifests/v1");
    // Who had the rest is asked first for what a digest names.
    let from = first.count();
    assert_eq!(registry.send(get(&format!("/v2/team/app/blobs/{}", sha256(b"{}")))).await.status, 200);
    assert_eq!(first.count(), from);
    // Only if all of them say so is something not there.
    assert_eq!(registry.send(get("/v2/team/none/manifests/v1")).await.status, 404);
    first.on("/v2/team/none/manifests/v2", Reply::new(500, ""));
    assert_eq!(registry.send(get("/v2/team/none/manifests/v2")).await.status, 503);
    // What had the tag before is not passed over when it fails.
    let evil = offer(&second, "team/mine", "v1", b"evil");
    let mine = offer(&first, "team/mine", "v1", b"mine");
    pull(&registry, "team/mine", "v1", &mine).await;
    first.on("/v2/team/mine/manifests/v1", Reply::new(500, ""));
    registry.clock.advance(std::time::Duration::from_mins(5));
    let answer = registry.send(get("/v2/team/mine/manifests/v1")).await;
    assert_eq!((answer.status, answer.text()), (200, mine.manifest.clone()), "not {}", evil.digest);
}
