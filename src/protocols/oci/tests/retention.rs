//! Retention, untagged manifests and last pulls, as full requests and collections.

use std::time::Duration;

use super::gc::{GRACE, HOUR, collect, counts, eager, keys};
use super::*;

use crate::maintenance::{Progress, Report};
use crate::storage::faulty::{Fault, Faulty};

const DAY: Duration = GRACE;

fn config(oci: &Value) -> Value {
    let mut config = eager();
    config["oci"] = json!({ "enabled": true, "basePath": "/oci" });
    for (name, value) in oci.as_object().unwrap() {
        config["oci"][name] = value.clone();
    }
    config
}

async fn with_rules(oci: Value) -> TestRegistry {
    TestRegistry::with(config(&oci), None, None).await
}

async fn tags(registry: &TestRegistry, name: &str) -> Vec<String> {
    let answer = registry.send(get(&format!("/v2/{name}/tags/list"))).await;
    if answer.status != 200 {
        return Vec::new();
    }
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

async fn exists(registry: &TestRegistry, name: &str, reference: &str) -> bool {
    registry.send(head(&format!("/v2/{name}/manifests/{reference}"))).await.status == 200
}

async fn dry(registry: &TestRegistry) -> Report {
    let garbage = registry.registry.collect_garbage(true, Progress::default()).await.unwrap();
    garbage.protocols["oci"].clone()
}

/// An index over images that lie there already.
async fn push_index(registry: &TestRegistry, name: &str, tag: &str, images: &[Value]) -> String {
    let children: Vec<_> = images.iter().map(|one| descriptor(IMAGE, one.to_string().as_bytes())).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    let answer = registry.send(put_manifest(name, tag, &index)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("docker-content-digest").unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_last_pushed_stay_and_the_others_go_with_all_that_only_they_had() {
    let registry = with_rules(json!({
        "retention": [{ "tags": ["v*"], "keepLastPushed": 2 }], "immutableTags": ["*:v*"],
    }))
    .await;
    for number in 1..=4 {
        push_image(&registry, "a", &format!("v{number}"), format!("layer {number}").as_bytes()).await;
        registry.clock.advance(HOUR);
    }
    push_image(&registry, "a", "main", b"main layer").await;
    registry.clock.advance(DAY);
    let before = keys(&registry).await;
    let planned = dry(&registry).await;
    assert_eq!(keys(&registry).await, before);
    let expected = [("blobs", 2), ("links", 2), ("manifests", 2), ("tags", 2)];
    assert_eq!(counts(&planned), expected);
    assert_eq!(planned.details[0].name, "a:v1");
    assert_eq!(planned.details[0].reason, "of `v*` are kept the 2 pushed last");
    let done = collect(&registry).await;
    assert_eq!((counts(&done), done.bytes), (expected.to_vec(), planned.bytes));
    assert_eq!(tags(&registry, "a").await, ["main", "v3", "v4"]);
    for (layer, status) in [(1, 404), (2, 404), (3, 200), (4, 200)] {
        let digest = sha256(format!("layer {layer}").as_bytes());
        assert_eq!(registry.send(get(&format!("/v2/a/blobs/{digest}"))).await.status, status);
    }
    assert_eq!(counts(&collect(&registry).await), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_within_the_grace_loses_its_tag_and_goes_later() {
    let registry = with_rules(json!({ "retention": [{ "keepLastPushed": 1 }] })).await;
    let first = push_image(&registry, "a", "v1", b"one").await;
    registry.clock.advance(HOUR);
    push_image(&registry, "a", "v2", b"two").await;
    assert_eq!(counts(&collect(&registry).await), [("tags", 1)]);
    assert!(exists(&registry, "a", &first).await);
    registry.clock.advance(DAY);
    // Untagged manifests stay, but this one lost its tag to a rule.
    assert_eq!(counts(&collect(&registry).await), [("blobs", 1), ("links", 1), ("manifests", 1)]);
    assert!(!exists(&registry, "a", &first).await);
    assert_eq!(tags(&registry, "a").await, ["v2"]);
}

#[tokio::test(start_paused = true)]
async fn signatures_go_with_what_they_are_about_and_never_before() {
    let registry = with_rules(json!({ "retention": [{ "keepLastPushed": 1 }] })).await;
    let mut signatures = Vec::new();
    for number in 1..=2 {
        let layer = format!("layer {number}");
        let digest = push_image(&registry, "a", &format!("v{number}"), layer.as_bytes()).await;
        let mut referrer = image(b"{}", layer.as_bytes());
        referrer["subject"] = json!({ "mediaType": IMAGE, "digest": digest, "size": 1 });
        let by_digest = sha256(referrer.to_string().as_bytes());
        assert_eq!(registry.send(put_manifest("a", &by_digest, &referrer)).await.status, 201);
        let tag = format!("{}.sig", digest.replace(':', "-"));
        let mut cosign = image(b"{}", layer.as_bytes());
        cosign["annotations"] = json!({ "signs": digest });
        assert_eq!(registry.send(put_manifest("a", &tag, &cosign)).await.status, 201);
        signatures.push((digest, by_digest, tag));
        registry.clock.advance(HOUR);
    }
    registry.clock.advance(DAY);
    let done = collect(&registry).await;
    assert_eq!((done.count("tags"), done.count("manifests")), (2, 3));
    for ((digest, referrer, tag), stays) in signatures.iter().zip([false, true]) {
        assert_eq!(exists(&registry, "a", digest).await, stays);
        assert_eq!(exists(&registry, "a", referrer).await, stays);
        assert_eq!(exists(&registry, "a", tag).await, stays);
        let list = registry.send(get(&format!("/v2/a/referrers/{digest}"))).await.json();
        assert_eq!(list["manifests"].as_array().unwrap().len(), usize::from(stays));
    }
}

#[tokio::test(start_paused = true)]
async fn untagged_manifests_go_when_that_is_wanted_unless_something_that_stays_needs_them() {
    for wanted in ["keep", "delete"] {
        let registry =
            with_rules(json!({ "gc": { "untagged": wanted, "untaggedAgeMs": 3 * 86_400_000 } })).await;
        let child = image(b"{}", b"child");
        let old = push_image(&registry, "a", "v", b"old").await;
        push_image(&registry, "a", "tmp", b"child").await;
        push_index(&registry, "a", "multi", std::slice::from_ref(&child)).await;
        // All that is left without a tag: the old image, and the child, which the index lists.
        push_image(&registry, "a", "v", b"new").await;
        assert_eq!(registry.send(delete("/v2/a/manifests/tmp")).await.status, 202);
        registry.clock.advance(DAY * 2);
        assert_eq!(counts(&collect(&registry).await), [], "{wanted}");
        // Pulled by its digest, it counts as used.
        assert_eq!(registry.send(get(&format!("/v2/a/manifests/{old}"))).await.status, 200);
        registry.clock.advance(DAY * 2);
        assert_eq!(counts(&collect(&registry).await), [], "{wanted}");
        registry.clock.advance(DAY);
        let done = collect(&registry).await;
        if wanted == "keep" {
            assert_eq!(counts(&done), []);
            continue;
        }
        assert_eq!(counts(&done), [("blobs", 1), ("links", 1), ("manifests", 1)]);
        assert_eq!(done.details[0].name, format!("a@{old}"));
        assert!(exists(&registry, "a", &sha256(child.to_string().as_bytes())).await);
        assert_eq!(tags(&registry, "a").await, ["multi", "v"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_pulls_of_all_processes_count() {
    let rules = json!({ "retention": [{ "keepLastPulled": 1 }] });
    let registry = with_rules(rules.clone()).await;
    let other = registry.another(config(&rules), None).await;
    for tag in ["one", "two", "three"] {
        push_image(&registry, "a", tag, tag.as_bytes()).await;
    }
    registry.clock.advance(DAY);
    assert_eq!(registry.send(get("/v2/a/manifests/one")).await.status, 200);
    registry.clock.advance(HOUR);
    let before = other.store.requests();
    assert_eq!(other.send(get("/v2/a/manifests/two")).await.status, 200);
    for _ in 0..100 {
        // Whoever only watches where a tag points does not pull.
        registry.send(head("/v2/a/manifests/three")).await;
    }
    assert!(registry.store.requests() - before < 300, "no write for a pull");
    assert!(!keys(&registry).await.contains(&"_sr/oci/pulls/a/_".to_owned()));
    other.registry.flush().await;
    let done = collect(&registry).await;
    assert_eq!(done.count("tags"), 2);
    assert_eq!(tags(&registry, "a").await, ["two"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_that_asks_for_it_no_pull_is_written_down() {
    let registry = with_rules(json!({})).await;
    push_image(&registry, "a", "v", b"layer").await;
    registry.send(get("/v2/a/manifests/v")).await;
    registry.registry.flush().await;
    assert!(!keys(&registry).await.contains(&"_sr/oci/pulls/a/_".to_owned()));
}

/// A tag that moves, an index that comes to list what is going, and the same manifest again: at every step of a collection.
#[tokio::test(start_paused = true)]
async fn pushes_at_any_step_keep_what_a_rule_was_about_to_take() {
    let rules = json!({ "gc": { "untagged": "delete", "untaggedAgeMs": 0 }, "retention": [{ "tags": ["v1"], "keepLastPushed": 0 }] });
    for way in ["tag", "index", "digest"] {
        let mut step = 0;
        loop {
            let registry = with_rules(rules.clone()).await;
            let going = image(b"{}", b"going");
            let digest = push_image(&registry, "a", "v1", b"going").await;
            registry.clock.advance(HOUR);
            push_image(&registry, "a", "v2", b"staying").await;
            registry.clock.advance(DAY);
            let faulty = Arc::new(Faulty::new(Arc::clone(&registry.store)));
            let collector = registry.another(config(&rules), Some(faulty.clone())).await;
            let start = faulty.calls();
            faulty.fail_at(start + step, Fault::Delay(Duration::from_secs(7)));
            let collection = tokio::spawn(async move { collect(&collector).await });
            while faulty.calls() <= start + step && !collection.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let over = collection.is_finished();
            for blob in [&b"{}"[..], b"going"] {
                let path = format!("/v2/a/blobs/{}", sha256(blob));
                if registry.send(head(&path)).await.status != 200 {
                    push_blob(&registry, "a", blob).await;
                }
            }
            let pushed = match way {
                "tag" => registry.send(put_manifest("a", "stable", &going)).await.status,
                "digest" => registry.send(put_manifest("a", &digest, &going)).await.status,
                _ => {
                    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, going.to_string().as_bytes())] });
                    let mut status = 404;
                    // It went before the client asked, or in the middle of the push: then the client pushes it as well.
                    if exists(&registry, "a", &digest).await {
                        status = registry.send(put_manifest("a", "multi", &index)).await.status;
                    }
                    if status != 201 {
                        assert!([400, 404].contains(&status), "{status}");
                        assert_eq!(registry.send(put_manifest("a", &digest, &going)).await.status, 201);
                        status = registry.send(put_manifest("a", "multi", &index)).await.status;
                    }
                    status
                }
            };
            assert_eq!(pushed, 201, "{way} at {step}");
            collection.await.unwrap();
            let fresh = registry.another(config(&rules), None).await;
            let found = fresh.send(get(&format!("/v2/a/manifests/{digest}"))).await;
            assert_eq!((found.status, found.json()), (200, going), "{way} at {step}");
            for blob in [&b"{}"[..], b"going"] {
                assert_eq!(
                    fresh.send(get(&format!("/v2/a/blobs/{}", sha256(blob)))).await.status,
                    200,
                    "{way} at {step}"
                );
            }
            let named: &[&str] = match way {
                "tag" => &["stable", "v2"],
                "index" => &["multi", "v2"],
                _ => &["v2"],
            };
            let mut found = tags(&fresh, "a").await;
            found.retain(|tag| tag != "v1");
            assert_eq!(found, named, "{way} at {step}");
            if over {
                assert!(step > 30, "{step}");
                break;
            }
            step += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_step_of_a_rule_leaves_what_stays_whole_and_the_next_one_finishes() {
    let rules = json!({ "retention": [{ "keepLastPushed": 1 }] });
    for fault in [Fault::Before, Fault::After, Fault::Failed] {
        let mut step = 0;
        loop {
            let registry = with_rules(rules.clone()).await;
            push_image(&registry, "a", "v1", b"going").await;
            registry.clock.advance(HOUR);
            push_image(&registry, "a", "v2", b"staying").await;
            registry.clock.advance(DAY);
            let faulty = Arc::new(Faulty::new(Arc::clone(&registry.store)));
            let collector = registry.another(config(&rules), Some(faulty.clone())).await;
            let start = faulty.calls();
            faulty.fail_at(start + step, fault);
            let _ = collector.registry.collect_garbage(false, Progress::default()).await;
            let over = faulty.calls() <= start + step;
            faulty.heal();
            for _ in 0..3 {
                registry.clock.advance(Duration::from_mins(31));
                collect(&registry).await;
            }
            let fresh = registry.another(config(&rules), None).await;
            assert_eq!(tags(&fresh, "a").await, ["v2"], "{fault:?} at {step}");
            assert_eq!(fresh.send(get("/v2/a/manifests/v2")).await.json(), image(b"{}", b"staying"));
            for (blob, status) in [(&b"staying"[..], 200), (b"{}", 200), (b"going", 404)] {
                let found = fresh.send(get(&format!("/v2/a/blobs/{}", sha256(blob)))).await;
                assert_eq!(found.status, status, "{fault:?} at {step}: {blob:?}");
            }
            let manifests = keys(&registry).await.into_iter().filter(|key| key.starts_with("oci/manifests/"));
            assert_eq!(manifests.count(), 1, "{fault:?} at {step}");
            if over {
                break;
            }
            step += 1;
        }
    }
}
