//! A store that fails when it is told to: before a call, after its effect, in the middle of a body. For tests that run an operation
//! with a fault at each storage call in turn, and look at what is left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::store::{
    Capabilities, Chunks, Found, GetOptions, ObjectMeta, Page, Part, PutOptions, Store, StoreResult,
    UploadId, Version,
};
use super::{Key, Prefix, StoreError};
use crate::core::error::Error;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the caller can't know: the connection broke before the request arrived.
    Before,
    /// It happens, and the caller can't know: the connection broke before the answer arrived.
    After,
    /// Nothing happens and the store says so, for good.
    Failed,
    /// Nothing happens: the store asks for patience.
    Throttled,
    /// A body breaks off in the middle, with an error. A call without a body fails as [`Fault::Before`].
    ShortBody,
    /// It happens, later.
    Delay(Duration),
}

/// The store `S` with faults.
pub struct Faulty<S: Store + ?Sized> {
    inner: Arc<S>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<&'static str>,
    planned: BTreeMap<usize, Fault>,
    random: Option<Random>,
}

/// Faults by chance, the same ones for the same seed and the same order of calls.
struct Random {
    state: u64,
    one_in: u64,
    /// Nothing fails: calls only take their time, up to so many milliseconds.
    slow: Option<u64>,
}

impl Random {
    /// The next fault, if this call gets one (splitmix64).
    fn next(&mut self) -> Option<Fault> {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        if let Some(most) = self.slow {
            return Some(Fault::Delay(Duration::from_millis((z >> 32) % most.max(1))));
        }
        z.is_multiple_of(self.one_in).then(|| match (z >> 32) % 5 {
            0 => Fault::Before,
            1 => Fault::After,
            2 => Fault::Throttled,
            3 => Fault::ShortBody,
            _ => Fault::Delay(Duration::from_millis((z >> 40) % 5)),
        })
    }
}

impl<S: Store + ?Sized> Faulty<S> {
    /// Without faults yet.
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// With a fault by chance at one call in `one_in`.
    pub fn seeded(inner: Arc<S>, seed: u64, one_in: u64) -> Self {
        let faulty = Self::new(inner);
        faulty.state.lock().random = Some(Random { state: seed, one_in: one_in.max(1), slow: None });
        faulty
    }

    /// Every call takes its time, up to so many milliseconds: the steps of several processes mix in ever new ways.
    pub fn slow(inner: Arc<S>, seed: u64, most: u64) -> Self {
        let faulty = Self::new(inner);
        faulty.state.lock().random = Some(Random { state: seed, one_in: 1, slow: Some(most) });
        faulty
    }

    /// Lets the call with this number fail; the first is 0. [`Store::prepare`] and [`Store::capabilities`] are not counted.
    pub fn fail_at(&self, call: usize, fault: Fault) {
        self.state.lock().planned.insert(call, fault);
    }

    /// No more faults.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.planned.clear();
        state.random = None;
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// The calls by name, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.state.lock().calls.clone()
    }

    /// The store behind it.
    pub fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    /// Counts a call and says what is to happen to it.
    fn next(&self, name: &'static str) -> Option<Fault> {
        let mut state = self.state.lock();
        let number = state.calls.len();
        state.calls.push(name);
        let by_chance = state.random.as_mut().and_then(Random::next);
        state.planned.remove(&number).or(by_chance)
    }

    async fn call<T>(
        &self,
        name: &'static str,
        operation: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        apply(self.next(name), operation).await
    }
}

/// Runs a call with its fault.
async fn apply<T>(
    fault: Option<Fault>,
    operation: impl Future<Output = StoreResult<T>> + Send,
) -> StoreResult<T> {
    match fault {
        None => operation.await,
        Some(Fault::Before | Fault::ShortBody) => Err(lost()),
        Some(Fault::After) => {
            operation.await?;
            Err(lost())
        }
        Some(Fault::Failed) => Err(StoreError::Failed("a planned failure".into())),
        Some(Fault::Throttled) => Err(StoreError::Throttled("a planned refusal".into())),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            operation.await
        }
    }
}

fn lost() -> StoreError {
    StoreError::Unknown("a planned loss of the connection".into())
}

/// The first half of a body, and then an error.
fn cut(found: Found) -> Found {
    let mut left = found.range.len() / 2;
    // Empty pieces stand for what is withheld; no consumer minds them.
    let half = found.body.map(move |chunk| {
        let chunk: Bytes = chunk?;
        let part = chunk.slice(..chunk.len().min(left as usize));
        left -= part.len() as u64;
        Ok(part)
    });
    let end = stream::once(async { Err(Error::unavailable("a planned end of a body")) });
    Found { body: Box::pin(half.chain(end)), ..found }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Faulty<S> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn prepare(&self) -> StoreResult<()> {
        self.inner.prepare().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        match self.next("get") {
            Some(Fault::ShortBody) => self.inner.get(key, options).await.map(cut),
            fault => apply(fault, self.inner.get(key, options)).await,
        }
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        self.call("head", self.inner.head(key)).await
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        self.call("put", self.inner.put(key, data, options)).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.call("delete", self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        self.call("delete_many", self.inner.delete_many(keys)).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.call("copy", self.inner.copy(from, to)).await
    }

    async fn rename(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.call("rename", self.inner.rename(from, to)).await
    }

    async fn rename_absent(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.call("rename_absent", self.inner.rename_absent(from, to)).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        self.call("list", self.inner.list(prefix, after, limit, by_folder)).await
    }

    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        self.call("begin", self.inner.begin(key, options)).await
    }

    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        self.call("part", self.inner.part(key, upload, number, data)).await
    }

    async fn flush(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.call("flush", self.inner.flush(key, upload)).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        self.call("complete", self.inner.complete(key, upload, parts)).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.call("abort", self.inner.abort(key, upload)).await
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        self.inner.presign(key, ttl, content_type).await
    }

    async fn sweep(&self, age: Duration) -> StoreResult<u64> {
        self.call("sweep", self.inner.sweep(age)).await
    }

    fn requests(&self) -> u64 {
        self.inner.requests()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::{Fault, Faulty};
    use crate::core::time::Clock;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Chunks, GetOptions, Key, PutOptions, Store, StoreError};
    use bytes::Bytes;
    use futures_util::StreamExt;
    use std::sync::Arc;

    #[tokio::test]
    async fn fails_where_it_is_told_to() {
        let store = Faulty::new(Arc::new(MemoryStore::new(Clock::real())));
        let key = Key::new("a").unwrap();
        let put = |text: &'static str| {
            store.put(&key, Chunks::from(Bytes::from_static(text.as_bytes())), PutOptions::default())
        };
        store.fail_at(0, Fault::Before);
        store.fail_at(1, Fault::After);
        store.fail_at(2, Fault::ShortBody);
        assert!(matches!(put("one").await, Err(StoreError::Unknown(_))));
        assert!(matches!(store.inner().head(&key).await, Err(StoreError::NotFound)));
        assert!(matches!(put("0123456789").await, Err(StoreError::Unknown(_))));
        let mut body = store.get(&key, GetOptions::default()).await.unwrap().body;
        assert_eq!(body.next().await.unwrap().unwrap(), "01234");
        assert!(body.next().await.unwrap().is_err());
        assert_eq!(store.names(), ["put", "put", "get"]);
        put("two").await.unwrap();
    }

    #[tokio::test]
    async fn chance_repeats_itself() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let store = Faulty::seeded(Arc::new(MemoryStore::new(Clock::real())), 7, 3);
            let key = Key::new("a").unwrap();
            let mut outcomes = Vec::new();
            for _ in 0..50 {
                outcomes.push(store.head(&key).await.unwrap_err().to_string());
            }
            runs.push(outcomes);
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].iter().any(|text| text != "no object under this key"));
    }
}
