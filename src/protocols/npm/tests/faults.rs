//! A fault at each storage call of an operation in turn: what is named is there, and a retry succeeds.

use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::core::time::{Clock, Timestamp};
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;
use crate::storage::{HookContext, Hooks, Store, Verdict};

const FAULTS: &[Fault] = &[Fault::Before, Fault::After, Fault::Failed, Fault::Throttled, Fault::ShortBody];

struct Bench {
    faulty: Arc<Faulty<MemoryStore>>,
    registry: TestRegistry,
}

impl Bench {
    async fn new(part_size: u64) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::new(clock).with_part_size(part_size))));
        let store: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
        let registry = TestRegistry::with(json!({}), Some(store), None).await;
        Self { faulty, registry }
    }

    /// Another process over the same store: nothing cached.
    async fn fresh(&self) -> TestRegistry {
        let store: Arc<dyn Store> = Arc::clone(&self.faulty) as Arc<dyn Store>;
        TestRegistry::with(json!({}), Some(store), None).await
    }
}

/// Runs `operation` with each fault at each of its storage calls, then checks with `check`.
async fn each_call(part_size: u64, package: &Package) {
    for fault in FAULTS {
        for call in 0..64 {
            let bench = Bench::new(part_size).await;
            publish(&bench.registry, "widget", "0.1.0").await;
            let start = bench.faulty.calls();
            bench.faulty.fail_at(start + call, *fault);
            let answer = bench.registry.send(package.put()).await;
            let used = bench.faulty.calls() - start;
            bench.faulty.heal();
            let what = format!("{fault:?} at call {call}: {:?}", bench.faulty.names());
            assert!(
                answer.status == 201 || answer.status >= 500,
                "{what}: {} {}",
                answer.status,
                answer.text()
            );
            let fresh = bench.fresh().await;
            check_whole(&fresh, "widget").await;
            let document = packument(&fresh, "widget").await;
            if answer.status == 201 {
                assert!(document["versions"].get("1.0.0").is_some(), "{what}");
            }
            let again = fresh.send(package.put()).await;
            assert_eq!(again.status, 201, "{what}: {}", again.text());
            check_whole(&fresh, "widget").await;
            assert_eq!(packument(&fresh, "widget").await["versions"].as_object().unwrap().len(), 2, "{what}");
            if used <= call {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_small_publish() {
    each_call(1 << 20, &Package::new("widget", "1.0.0")).await;
}

#[tokio::test]
async fn a_publish_in_parts() {
    let noise: Vec<u8> = (0..9000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    each_call(1000, &Package::new("widget", "1.0.0").file("noise", noise)).await;
}

#[tokio::test]
async fn a_batch() {
    let packages = [Package::new("widget", "1.0.0"), Package::new("gadget", "1.0.0")];
    let bodies: Vec<Value> = packages.iter().map(Package::body).collect();
    let body = json!({ "packages": bodies });
    let put = || TestRequest::put("/npm/-/pnpm/v1/publish").header("user-agent", NPM).json(&body);
    for fault in FAULTS {
        for call in 0..64 {
            let bench = Bench::new(1 << 20).await;
            publish(&bench.registry, "widget", "0.1.0").await;
            let start = bench.faulty.calls();
            bench.faulty.fail_at(start + call, *fault);
            let answer = bench.registry.send(put()).await;
            let used = bench.faulty.calls() - start;
            bench.faulty.heal();
            let what = format!("{fault:?} at call {call}: {}", answer.text());
            assert!(answer.status == 201 || answer.status >= 500, "{what}");
            let fresh = bench.fresh().await;
            check_whole(&fresh, "widget").await;
            let again = fresh.send(put()).await;
            assert_eq!(again.status, 201, "{what}: {}", again.text());
            for package in &packages {
                check_whole(&fresh, &package.name).await;
                assert!(packument(&fresh, &package.name).await["versions"].get("1.0.0").is_some(), "{what}");
            }
            if used <= call {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_approval() {
    for fault in FAULTS {
        for call in 0..64 {
            let bench = Bench::new(1 << 20).await;
            publish(&bench.registry, "widget", "0.1.0").await;
            let stage = TestRequest::new(http::Method::POST, "/npm/-/stage/package/widget");
            let staged = bench.registry.send(stage.json(&Package::new("widget", "1.0.0").body())).await;
            let id = staged.json()["stageId"].as_str().unwrap().to_owned();
            let approve = || TestRequest::new(http::Method::POST, &format!("/npm/-/stage/{id}/approve"));
            let start = bench.faulty.calls();
            bench.faulty.fail_at(start + call, *fault);
            let answer = bench.registry.send(approve()).await;
            let used = bench.faulty.calls() - start;
            bench.faulty.heal();
            let what = format!("{fault:?} at call {call}: {}", answer.text());
            assert!(answer.status == 201 || answer.status >= 500, "{what}");
            let fresh = bench.fresh().await;
            check_whole(&fresh, "widget").await;
            let there = packument(&fresh, "widget").await["versions"].get("1.0.0").is_some();
            let again = fresh.send(approve()).await;
            assert_eq!(again.status, if there { 404 } else { 201 }, "{what}: {}", again.text());
            assert!(packument(&fresh, "widget").await["versions"].get("1.0.0").is_some(), "{what}");
            check_whole(&fresh, "widget").await;
            if used <= call {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_unpublish() {
    for fault in FAULTS {
        for call in 0..16 {
            let bench = Bench::new(1 << 20).await;
            for version in ["1.0.0", "1.1.0"] {
                publish(&bench.registry, "widget", version).await;
            }
            let mut sent = bench.registry.send(TestRequest::get("/npm/widget?write=true")).await.json();
            let rev = sent["_rev"].as_str().unwrap().to_owned();
            sent["versions"].as_object_mut().unwrap().remove("1.1.0");
            let start = bench.faulty.calls();
            bench.faulty.fail_at(start + call, *fault);
            let put = TestRequest::put(&format!("/npm/widget/-rev/{rev}")).json(&sent);
            let answer = bench.registry.send(put).await;
            let used = bench.faulty.calls() - start;
            bench.faulty.heal();
            let what = format!("{fault:?} at call {call}");
            assert!(answer.status == 201 || answer.status >= 500, "{what}: {}", answer.text());
            let fresh = bench.fresh().await;
            check_whole(&fresh, "widget").await;
            let gone = packument(&fresh, "widget").await["versions"].get("1.1.0").is_none();
            assert!(gone || answer.status >= 500, "{what}");
            if gone {
                // npm's second step: whatever could not be deleted before is deleted now.
                let delete = TestRequest::new(http::Method::DELETE, "/npm/widget/-/widget-1.1.0.tgz/-rev/x");
                assert_eq!(fresh.send(delete).await.status, 200, "{what}");
                assert!(!all_keys(&fresh).await.iter().any(|key| key.contains("1.1.0")), "{what}");
            }
            if used <= call {
                break;
            }
        }
    }
}

/// Denies what it is told to.
struct Deny(&'static str);

#[async_trait]
impl Hooks for Deny {
    async fn before_put(&self, context: &HookContext) -> Verdict {
        if context.key.ends_with(self.0) {
            return Verdict::Denied(Some("over quota".to_owned()));
        }
        Verdict::Allowed
    }
}

#[tokio::test]
async fn a_denied_publish_leaves_nothing_behind() {
    for what in [".tgz", "index.json"] {
        let registry = TestRegistry::with(json!({}), None, Some(Arc::new(Deny(what)))).await;
        let answer = registry.send(Package::new("widget", "1.0.0").put()).await;
        assert_eq!((answer.status, error_of(&answer).as_str()), (403, "over quota"), "{what}");
        assert!(all_keys(&registry).await.is_empty(), "{what}");
    }
}

/// Keeps every tarball, and counts how often it was asked.
#[derive(Default)]
struct Keep(std::sync::atomic::AtomicUsize, bool);

#[async_trait]
impl Hooks for Keep {
    async fn before_delete(&self, context: &HookContext) -> Verdict {
        assert_eq!(context.info.package_name.as_deref(), Some("widget"));
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if self.1 { Verdict::Denied(Some("under legal hold".to_owned())) } else { Verdict::Allowed }
    }
}

#[tokio::test]
async fn a_denied_deletion_leaves_the_version_published() {
    for held in [true, false] {
        let keep = Arc::new(Keep(std::sync::atomic::AtomicUsize::new(0), held));
        let registry = TestRegistry::with(json!({}), None, Some(Arc::clone(&keep) as Arc<dyn Hooks>)).await;
        for version in ["1.0.0", "1.1.0"] {
            publish(&registry, "widget", version).await;
        }
        // What a refused publish has left is its own, and nobody is asked whether it may go.
        let again = registry.send(Package::new("widget", "1.0.0").file("x", "y").put()).await;
        assert_eq!(again.status, 403);
        assert!(error_of(&again).contains("cannot publish over"), "{}", again.text());
        let mut sent = registry.send(TestRequest::get("/npm/widget?write=true")).await.json();
        let rev = sent["_rev"].as_str().unwrap().to_owned();
        sent["versions"].as_object_mut().unwrap().remove("1.1.0");
        let answer = registry.send(TestRequest::put(&format!("/npm/widget/-rev/{rev}")).json(&sent)).await;
        if held {
            assert_eq!((answer.status, error_of(&answer).as_str()), (403, "under legal hold"));
            let whole = TestRequest::new(http::Method::DELETE, &format!("/npm/widget/-rev/{rev}"));
            assert_eq!(registry.send(whole).await.status, 403);
            assert_eq!(packument(&registry, "widget").await["versions"].as_object().unwrap().len(), 2);
            check_whole(&registry, "widget").await;
            continue;
        }
        assert_eq!(answer.status, 201);
        let second = TestRequest::new(http::Method::DELETE, "/npm/widget/-/widget-1.1.0.tgz/-rev/x");
        assert_eq!(registry.send(second).await.status, 200);
        assert_eq!(keep.0.load(std::sync::atomic::Ordering::SeqCst), 1, "asked once about the one file");
    }
}
