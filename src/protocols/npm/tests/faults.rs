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
