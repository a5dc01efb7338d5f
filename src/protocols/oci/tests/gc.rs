//! Garbage collection: what goes, what stays, and what it costs.

use std::time::Duration;

use super::*;
use crate::core::error::Kind;
use crate::maintenance::{Progress, Report};
use crate::storage::{Chunks, HookContext, Hooks, Verdict};

pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const GRACE: Duration = Duration::from_hours(24);

/// Every look at a document goes to the store.
pub(super) fn eager() -> Value {
    json!({ "limits": { "metadataTtlMs": 0 } })
}

pub(super) async fn collect(registry: &TestRegistry) -> Report {
    let garbage = registry.registry.collect_garbage(false, Progress::default()).await.unwrap();
    garbage.protocols["oci"].clone()
}

async fn dry(registry: &TestRegistry) -> Report {
    let garbage = registry.registry.collect_garbage(true, Progress::default()).await.unwrap();
    garbage.protocols["oci"].clone()
}

pub(super) fn counts(report: &Report) -> Vec<(&'static str, u64)> {
    report.removed.iter().map(|(kind, count)| (*kind, *count)).collect()
}

/// Without what a collection keeps for itself.
pub(super) async fn keys(registry: &TestRegistry) -> Vec<String> {
    let own = |key: &String| !key.starts_with("_sr/oci/gc/") && !key.starts_with("_sr/lease/");
    registry.keys(true).await.into_iter().filter(own).collect()
}

pub(super) async fn put_raw(registry: &TestRegistry, key: &str, bytes: &[u8]) {
    let chunks = Chunks::from(Bytes::copy_from_slice(bytes));
    registry.store.put(&Key::new(key).unwrap(), chunks, PutOptions::default()).await.unwrap();
}

async fn status(registry: &TestRegistry, name: &str, bytes: &[u8]) -> u16 {
    registry.send(get(&format!("/v2/{name}/blobs/{}", sha256(bytes)))).await.status
}

#[tokio::test(start_paused = true)]
async fn what_nothing_names_goes_after_the_grace_and_what_is_named_stays() {
    let registry = TestRegistry::with(eager(), None, None).await;
    push_image(&registry, "live", "v", b"layer").await;
    push_blob(&registry, "dead", b"unused").await;
    push_blob(&registry, "live", b"unused").await;
    push_blob(&registry, "live", b"in use elsewhere").await;
    push_image(&registry, "other", "v", b"in use elsewhere").await;
    let before = keys(&registry).await;
    registry.clock.advance(GRACE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(counts(&collect(&registry).await), []);
    assert_eq!(keys(&registry).await, before);
    registry.clock.advance(Duration::from_millis(1));
    push_blob(&registry, "live", b"young").await;
    let expected = [("blobs", 1), ("links", 3), ("repositories", 1)];
    let planned = dry(&registry).await;
    assert_eq!((counts(&planned), planned.bytes), ([("blobs", 1), ("links", 3)].to_vec(), 6));
    let done = collect(&registry).await;
    // The repository is empty once its links are gone.
    assert_eq!((counts(&done), done.bytes), ([("blobs", 1), ("links", 3)].to_vec(), 6));
    assert_eq!(counts(&collect(&registry).await), expected[2..]);
    assert_eq!(counts(&collect(&registry).await), []);
    for (name, bytes, expected) in [
        ("live", &b"layer"[..], 200),
        ("live", b"{}", 200),
        ("live", b"young", 200),
        ("other", b"in use elsewhere", 200),
        ("live", b"unused", 404),
        ("dead", b"unused", 404),
        ("live", b"in use elsewhere", 404),
    ] {
        assert_eq!(status(&registry, name, bytes).await, expected, "{name} {bytes:?}");
    }
    let catalog = registry.send(get("/v2/_catalog")).await.json();
    assert_eq!(catalog["repositories"], json!(["live", "other"]));
    let unused = format!("oci/blobs/sha256/{}", Digest::sha256(b"unused").hex());
    assert!(!keys(&registry).await.contains(&unused));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_deleted_goes_with_all_that_only_it_had() {
    let registry = TestRegistry::with(eager(), None, None).await;
    let digest = push_image(&registry, "a", "v", b"layer").await;
    let mut signature = image(b"{}", b"layer");
    signature["subject"] = descriptor(IMAGE, image(b"{}", b"layer").to_string().as_bytes());
    let signature = registry.send(put_manifest("a", "s", &signature)).await;
    let signature = signature.header("docker-content-digest").unwrap().to_owned();
    registry.clock.advance(GRACE * 2);
    assert_eq!(counts(&collect(&registry).await), []);
    for digest in [&signature, &digest] {
        assert_eq!(registry.send(delete(&format!("/v2/a/manifests/{digest}"))).await.status, 202);
    }
    let done = collect(&registry).await;
    assert_eq!((counts(&done), done.bytes), ([("blobs", 2), ("links", 2)].to_vec(), 7));
    assert_eq!(counts(&collect(&registry).await), [("repositories", 1)]);
    // Nothing is left but the list of tags, which somebody may be writing to.
    assert_eq!(keys(&registry).await, ["oci/tags/a/tags.json"]);
    assert_eq!(registry.send(get("/v2/_catalog")).await.json()["repositories"], json!([]));
    // And it is pushed again as if it had never been.
    assert_eq!(push_image(&registry, "a", "v", b"layer").await, digest);
    assert_eq!(registry.send(get("/v2/_catalog")).await.json()["repositories"], json!(["a"]));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_another_program_has_filled_loses_only_what_no_manifest_names() {
    let registry = TestRegistry::with(eager(), None, None).await;
    let manifest = image(b"config", b"layer").to_string();
    put_raw(&registry, &format!("oci/manifests/old/{}", sha256(manifest.as_bytes())), manifest.as_bytes())
        .await;
    // No type of manifest that anybody here knows, and its reference in an escape.
    let odd =
        format!(r#"{{"things":[{{"digest":"{}"}}]}}"#, sha256(b"odd").replace("sha256:", "sha256\\u003a"));
    put_raw(&registry, &format!("oci/manifests/Odd Name/{}", sha256(odd.as_bytes())), odd.as_bytes()).await;
    for blob in [&b"config"[..], b"layer", b"odd", b"dead"] {
        put_raw(&registry, &format!("oci/blobs/sha256/{}", Digest::sha256(blob).hex()), blob).await;
    }
    put_raw(&registry, "oci/blobs/README", b"not ours").await;
    put_raw(&registry, "oci/blobs/sha256/short", b"not ours").await;
    registry.clock.advance(GRACE);
    let before = keys(&registry).await.len();
    let done = collect(&registry).await;
    assert_eq!((counts(&done), done.bytes), ([("blobs", 1)].to_vec(), 4));
    assert_eq!(keys(&registry).await.len(), before - 1);
    assert_eq!(status(&registry, "old", b"layer").await, 200);
    assert_eq!(counts(&collect(&registry).await), []);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_keeps_everything_it_might_name() {
    let registry = TestRegistry::with(eager(), None, None).await;
    push_blob(&registry, "a", b"perhaps").await;
    push_blob(&registry, "b", b"surely not").await;
    put_raw(&registry, &format!("oci/manifests/a/{}", sha256(b"x")), b"{ broken").await;
    registry.clock.advance(GRACE);
    let done = collect(&registry).await;
    assert_eq!(counts(&done), [("links", 1)]);
    assert!(done.warnings[0].contains(&format!("a@{}", sha256(b"x"))), "{:?}", done.warnings);
    assert_eq!(status(&registry, "a", b"perhaps").await, 200);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_was_told_is_there_is_there_for_the_push() {
    let registry = TestRegistry::with(eager(), None, None).await;
    let other = registry.another(eager(), None).await;
    for blob in [&b"{}"[..], b"layer", b"dead"] {
        push_blob(&registry, "a", blob).await;
    }
    registry.clock.advance(HOUR * 23);
    for blob in [&b"{}"[..], b"layer"] {
        assert_eq!(other.send(head(&format!("/v2/a/blobs/{}", sha256(blob)))).await.status, 200);
    }
    registry.clock.advance(HOUR);
    assert_eq!(counts(&collect(&registry).await), [("blobs", 1), ("links", 1)]);
    registry.clock.advance(HOUR * 22);
    assert_eq!(counts(&collect(&registry).await), []);
    assert_eq!(other.send(put_manifest("a", "v", &image(b"{}", b"layer"))).await.status, 201);
    registry.clock.advance(GRACE);
    assert_eq!(counts(&collect(&registry).await), []);
    assert_eq!(status(&registry, "a", b"layer").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_promise_costs_a_write_only_when_it_is_old() {
    let slow = json!({ "limits": { "metadataTtlMs": 600_000 } });
    let registry = TestRegistry::with(slow, None, None).await;
    push_image(&registry, "a", "v", b"layer").await;
    let path = format!("/v2/a/blobs/{}", sha256(b"layer"));
    let cost = async || {
        let before = registry.store.requests();
        assert_eq!(registry.send(head(&path)).await.status, 200);
        registry.store.requests() - before
    };
    let link = Key::new(format!("_sr/oci/links/sha256/{}/a/_", Digest::sha256(b"layer").hex())).unwrap();
    let written = async || registry.store.head(&link).await.unwrap().modified;
    let first = written().await;
    assert_eq!(cost().await, 1, "the blob's metadata");
    registry.clock.advance(HOUR * 11);
    assert_eq!(cost().await, 2, "the link is looked at again after a minute");
    assert_eq!(written().await, first);
    registry.clock.advance(HOUR);
    assert_eq!(cost().await, 3, "the link, the link anew, the blob's metadata");
    assert!(written().await > first);
    assert_eq!(cost().await, 1);
}

#[tokio::test(start_paused = true)]
async fn referrers_of_what_is_gone_go_and_the_others_stay() {
    let registry = TestRegistry::with(eager(), None, None).await;
    push_image(&registry, "a", "v", b"layer").await;
    let mut signature = image(b"{}", b"layer");
    signature["subject"] = descriptor(IMAGE, b"subject");
    registry.send(put_manifest("a", "s", &signature)).await;
    let subject = Digest::sha256(b"subject");
    let orphan =
        format!("_sr/oci/referrers/a/_/sha256-{}/sha256-{}", subject.hex(), Digest::sha256(b"gone").hex());
    put_raw(&registry, &orphan, br#"{"digest":"x"}"#).await;
    registry.clock.advance(GRACE);
    assert_eq!(counts(&dry(&registry).await), [("referrers", 1)]);
    assert_eq!(counts(&collect(&registry).await), [("referrers", 1)]);
    let list = registry.send(get(&format!("/v2/a/referrers/{subject}"))).await.json();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
}

/// Refuses every deletion.
struct Refuses;

#[async_trait::async_trait]
impl Hooks for Refuses {
    async fn before_delete(&self, _: &HookContext) -> Verdict {
        Verdict::Denied(None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_refuses_a_deletion_is_heard_and_named() {
    let registry = TestRegistry::with(eager(), None, Some(Arc::new(Refuses))).await;
    push_blob(&registry, "a", b"dead").await;
    registry.clock.advance(GRACE);
    let done = collect(&registry).await;
    assert_eq!(done.count("blobs"), 0);
    assert!(done.warnings[0].contains("a hook refuses"), "{:?}", done.warnings);
    let blob = format!("oci/blobs/sha256/{}", Digest::sha256(b"dead").hex());
    assert!(keys(&registry).await.contains(&blob));
}

#[tokio::test(start_paused = true)]
async fn one_process_collects_and_rounds_of_maintenance_do_it_when_it_is_due() {
    let registry = TestRegistry::with(eager(), None, None).await;
    let other = registry.another(eager(), None).await;
    push_blob(&registry, "a", b"dead").await;
    registry.clock.advance(GRACE);
    let (one, two) = tokio::join!(registry.registry.maintain(), other.registry.maintain());
    assert_eq!([one.unwrap(), two.unwrap()].iter().filter(|did| **did).count(), 1);
    assert_eq!(status(&registry, "a", b"dead").await, 404);
    let text = [&registry, &other].map(|one| one.registry.metrics().render()).concat();
    assert!(
        text.contains("smartregistry_maintenance_removed_total{part=\"oci\",kind=\"blobs\"} 1"),
        "{text}"
    );
    // Not due again for a day.
    push_blob(&registry, "a", b"later").await;
    registry.clock.advance(HOUR * 23);
    assert!(registry.registry.maintain().await.unwrap());
    registry.clock.advance(HOUR * 2);
    assert!(registry.registry.maintain().await.unwrap());
    assert_eq!(status(&registry, "a", b"later").await, 404);
}

#[tokio::test]
async fn a_grace_that_no_push_fits_into_is_refused() {
    let config = crate::config::Config::from_json(r#"{"oci":{"gc":{"graceMs":10}}}"#).unwrap();
    let error =
        crate::protocols::oci::options::Options::read(&config.protocol("oci").unwrap().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().starts_with("option `oci.gc.graceMs` must be at least 5000"), "{error}");
}
