//! What operations cost, in requests to the store and bytes moved: a change that adds a request fails here.

use std::sync::Arc;

use super::*;
use crate::core::time::Clock;
use crate::storage::Store;
use crate::storage::memory::MemoryStore;

struct Bench {
    memory: Arc<MemoryStore>,
    registry: TestRegistry,
}

/// Requests, bytes read, bytes written.
type Cost = (u64, u64, u64);

impl Bench {
    async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(Clock::real()))).await
    }

    /// One more process over the same store, cold.
    async fn over(memory: Arc<MemoryStore>) -> Self {
        let store = Arc::clone(&memory) as Arc<dyn Store>;
        let config = json!({ "limits": { "metadataTtlMs": 600_000 } });
        Self { registry: TestRegistry::with(config, Some(store), None).await, memory }
    }

    /// With the key that it signs with in memory, which a process looks for once in its life.
    async fn warm(self) -> Self {
        assert_eq!(self.registry.send(TestRequest::get("/npm/-/npm/v1/keys")).await.status, 200);
        self
    }

    async fn cost(&self, request: TestRequest) -> Cost {
        let (requests, (read, written)) = (self.memory.requests(), self.memory.moved());
        let answer = self.registry.send(request).await;
        assert!(answer.status < 400, "{}", answer.text());
        let (read_now, written_now) = self.memory.moved();
        (self.memory.requests() - requests, read_now - read, written_now - written)
    }

    async fn size(&self, key: &str) -> u64 {
        self.memory.head(&crate::storage::Key::new(key).unwrap()).await.unwrap().size
    }
}

const INDEX: &str = "npm/packages/widget/index.json";
const FEED: &str = "_sr/log/npm/head.json";

#[tokio::test]
async fn a_publish_is_three_writes_and_reads_no_other_version() {
    let bench = Bench::new().await.warm().await;
    let first = bench.cost(Package::new("widget", "1.0.0").put()).await;
    assert_eq!(first.0, 4, "is there a document, tarball, document, entry in the index: {first:?}");
    for minor in 1..20 {
        publish(&bench.registry, "widget", &format!("1.{minor}.0")).await;
    }
    let package = Package::new("widget", "2.0.0");
    let (requests, read, written) = bench.cost(package.put()).await;
    assert_eq!((requests, read), (3, 0), "tarball, document, entry");
    assert_eq!(written, package.tgz().len() as u64 + bench.size(INDEX).await + bench.size(FEED).await);
    let before = bench.size(INDEX).await;
    let cold = Bench::over(Arc::clone(&bench.memory)).await;
    let key = bench.size("_sr/npm/signing-keys.json").await;
    let other = cold.cost(Package::new("other", "1.0.0").put()).await;
    assert_eq!((other.0, other.1), (5, key), "the first publish of a process also reads its key");
    let (requests, read, _) = cold.cost(Package::new("widget", "2.1.0").put()).await;
    assert_eq!((requests, read), (4, before), "another process reads the document once");
}

#[tokio::test]
async fn a_tag_is_two_writes() {
    let bench = Bench::new().await;
    publish(&bench.registry, "widget", "1.0.0").await;
    let (requests, read, written) =
        bench.cost(TestRequest::put("/npm/-/package/widget/dist-tags/next").json(&json!("1.0.0"))).await;
    assert_eq!((requests, read), (2, 0), "document, entry in the index");
    assert_eq!(written, bench.size(INDEX).await + bench.size(FEED).await);
}

#[tokio::test]
async fn an_install_is_one_read_of_metadata_and_one_of_the_tarball() {
    let bench = Bench::new().await;
    let package = publish(&bench.registry, "widget", "1.0.0").await;
    let cold = Bench::over(Arc::clone(&bench.memory)).await;
    assert_eq!(cold.cost(TestRequest::get("/npm/widget")).await, (1, bench.size(INDEX).await, 0));
    assert_eq!(cold.cost(TestRequest::get("/npm/widget")).await, (0, 0, 0));
    let size = package.tgz().len() as u64;
    assert_eq!(cold.cost(TestRequest::get(&package.tarball_path())).await, (1, size, 0));
}
