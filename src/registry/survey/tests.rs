//! Looking over a registry: what is broken is found, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::{Value, json};

use crate::core::digest::{Algorithm, Digest};
use crate::maintenance::Progress;
use crate::storage::{Key, PutOptions};
use crate::testing::{TestRegistry, TestRequest};

/// A registry with a package of one version and an image of one layer.
async fn filled() -> TestRegistry {
    let registry = TestRegistry::new().await;
    let tarball = b"not looked into";
    let integrity = Digest::of(Algorithm::Sha512, tarball).integrity();
    let package = json!({
        "_id": "widget", "name": "widget", "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": "widget", "version": "1.0.0", "dist": { "integrity": integrity } } },
        "_attachments": { "widget-1.0.0.tgz": {
            "content_type": "application/octet-stream", "data": "bm90IGxvb2tlZCBpbnRv", "length": tarball.len(),
        } },
    });
    let off =
        json!({ "npm": { "enabled": true, "basePath": "/npm", "features": { "validateTarball": false } } });
    let registry = TestRegistry::with(off, Some(registry.store), None).await;
    let answer = registry.send(TestRequest::put("/npm/widget").json(&package)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    for blob in [&b"{}"[..], b"layer"] {
        let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256(blob));
        let push = TestRequest::new(http::Method::POST, &path).body(blob.to_vec());
        assert_eq!(registry.send(push).await.status, 201);
    }
    let answer = registry.send(push_manifest()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    registry
}

fn manifest() -> Value {
    let one = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() });
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": one("config.v1+json", b"{}"), "layers": [one("layer.v1.tar", b"layer")],
    })
}

fn push_manifest() -> TestRequest {
    TestRequest::put("/v2/team/app/manifests/v1")
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .body(manifest().to_string().into_bytes())
}

/// What is wrong, as `key: problem`.
async fn problems(registry: &TestRegistry, shallow: bool) -> Vec<String> {
    let checked = registry.registry.verify(shallow, Progress::default()).await.unwrap();
    assert_eq!((checked.names, checked.problems), (2, checked.findings.len() as u64));
    let mut list: Vec<String> =
        checked.findings.iter().map(|one| format!("{}: {}", one.key, one.problem)).collect();
    list.sort();
    list
}

async fn overwrite(registry: &TestRegistry, key: &str, bytes: &'static [u8]) {
    let key = Key::new(key).unwrap();
    registry.store.put(&key, bytes::Bytes::from_static(bytes).into(), PutOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_is_whole_is_found_whole() {
    let registry = filled().await;
    for shallow in [true, false] {
        assert_eq!(problems(&registry, shallow).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_damage_is_named_with_its_key() {
    let layer = Digest::sha256(b"layer");
    let (blob, image) =
        (format!("oci/blobs/sha256/{}", layer.hex()), Digest::sha256(manifest().to_string().as_bytes()));
    let image = format!("oci/manifests/team/app/{image}");
    let tarball = "npm/packages/widget/widget-1.0.0.tgz";

    let registry = filled().await;
    overwrite(&registry, tarball, b"something else!").await;
    overwrite(&registry, &blob, b"lxyer").await;
    assert_eq!(problems(&registry, true).await, Vec::<String>::new(), "sizes are right");
    let found = problems(&registry, false).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(&format!("{tarball}: the tarball of 1.0.0 does not hash to sha512:")),
        "{found:?}"
    );
    assert_eq!(found[1], format!("{blob}: the blob does not hash to {layer}"));

    let registry = filled().await;
    for key in [tarball, &blob] {
        registry.store.delete(&Key::new(key).unwrap()).await.unwrap();
    }
    let wanted = [
        format!("{tarball}: the tarball of 1.0.0 is missing"),
        format!("{image}: the manifest names {layer}, which is not there"),
    ];
    for shallow in [true, false] {
        assert_eq!(problems(&registry, shallow).await, wanted);
    }

    let registry = filled().await;
    registry.store.delete(&Key::new(image.as_str()).unwrap()).await.unwrap();
    overwrite(&registry, "npm/packages/widget/index.json", b"[]").await;
    let found = problems(&registry, true).await;
    assert_eq!(
        found[0],
        "npm/packages/widget/index.json: the packument can't be read: a stored packument is no JSON object"
    );
    assert_eq!(found[1], format!("{image}: the manifest that the tag v1 names is missing"));
}

#[tokio::test]
async fn what_there_is_is_counted() {
    let registry = filled().await;
    let stats = registry.registry.stats().await.unwrap();
    let npm = &stats.protocols["npm"];
    assert_eq!((npm.names, npm.changes, npm.folders["packages"].objects), (1, 1, 2));
    let oci = &stats.protocols["oci"];
    assert_eq!((oci.names, oci.folders["blobs"].objects, oci.folders["blobs"].bytes), (1, 2, 7));
    assert_eq!((oci.folders["manifests"].objects, oci.folders["tags"].objects), (1, 1));
    let all: u64 = stats.protocols.values().flat_map(|one| one.folders.values()).map(|one| one.objects).sum();
    assert_eq!(stats.total.objects, all + stats.private.objects);
}

#[tokio::test]
async fn an_index_that_is_wrong_is_made_anew() {
    let registry = filled().await;
    let key = Key::new("npm/packages/widget/index.json").unwrap();
    registry.store.delete(&key).await.unwrap();
    let found = async || {
        let answer = registry.send(TestRequest::get("/npm/-/v1/search?text=widget")).await.json();
        answer["total"].as_u64().unwrap()
    };
    assert_eq!(found().await, 1);
    let names = registry.registry.rebuild_index(&Progress::default()).await.unwrap();
    assert_eq!((found().await, names), (0, 2), "the folder, and the repository");
}

#[tokio::test]
async fn a_feed_is_read_event_by_event() {
    let registry = filled().await;
    let events = registry.registry.events("oci", 0).await.unwrap();
    let told: Vec<_> = events.events.iter().map(|one| (one.event.as_str(), one.version.as_deref())).collect();
    assert_eq!(told, [("create", None), ("push", Some("v1"))]);
    assert_eq!((events.last, events.gap), (2, false));
    let rest = registry.registry.events("oci", 1).await.unwrap();
    assert_eq!((rest.events.len(), rest.events[0].actor.as_deref()), (1, Some("admin")));
    assert_eq!(registry.registry.events("cargo", 0).await.unwrap_err().status(), 404);
}
