//! Conditions on a store that ignores them (level L2): look, then write, with nobody else of this process in between.
//!
//! Between processes this protects nothing, and the warning says so. Such stores also let a reader see a write half done, so small
//! objects are read whole and checked before anybody gets them.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use digest::Digest;
use futures_util::{StreamExt, stream};
use tokio::sync::{Mutex, MutexGuard};

use super::layer::Layer;
use super::store::{
    Capabilities, CasLevel, Chunks, Condition, Found, GetOptions, Part, PutOptions, Store, StoreResult,
    UploadId, Version,
};
use super::{Key, StoreError};

/// Locks; two keys may share one.
const LOCKS: usize = 1024;
/// Objects up to this size are read whole and checked.
const SMALL: u64 = 1 << 20;
/// How often a read that came torn is tried.
const READS: u32 = 4;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// A store that checks conditions by looking.
pub(crate) struct LookFirst<S> {
    inner: S,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
    /// Whether versions of objects written in one piece are MD5 sums, and can prove that a read is whole.
    md5_versions: bool,
    warnings: Vec<String>,
}

impl<S: Store> LookFirst<S> {
    /// A layer around `inner`; `warnings` tell the operator what it can't do.
    pub(crate) fn new(inner: S, md5_versions: bool, warnings: Vec<String>) -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::default()).collect();
        Self { inner, locks, hasher: RandomState::new(), md5_versions, warnings }
    }

    async fn lock(&self, key: &Key) -> Option<MutexGuard<'_, ()>> {
        let at = self.hasher.hash_one(key) as usize % LOCKS;
        match self.locks.get(at) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }

    async fn check(&self, key: &Key, condition: &Condition) -> StoreResult<()> {
        let present = match self.inner.head(key).await {
            Ok(meta) => Some(meta.version),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error),
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Matches(version) => present.as_ref() == Some(version),
        };
        if holds { Ok(()) } else { Err(StoreError::Precondition) }
    }

    /// Reads all of it; `None` if it came torn.
    async fn whole(&self, found: &mut Found) -> Option<Bytes> {
        let mut whole = Chunks::default();
        while let Some(chunk) = found.body.next().await {
            whole.push(chunk.ok()?);
        }
        let whole = whole.into_bytes();
        let version = found.meta.version.0.trim_matches('"');
        let provable = self.md5_versions && version.len() == 32;
        let sound = whole.len() as u64 == found.meta.size
            && (!provable || hex::encode(md5::Md5::digest(&whole)) == version);
        sound.then_some(whole)
    }
}

#[async_trait]
impl<S: Store> Layer for LookFirst<S> {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.cas = CasLevel::L2;
        capabilities.warnings.extend(self.warnings.iter().cloned());
        capabilities
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        let mut tries = 0;
        loop {
            let mut found = self.inner.get(key, options.clone()).await?;
            if options.range.is_some() || found.meta.size > SMALL {
                return Ok(found);
            }
            if let Some(whole) = self.whole(&mut found).await {
                found.body = Box::pin(stream::iter((!whole.is_empty()).then_some(Ok(whole))));
                return Ok(found);
            }
            tries += 1;
            if tries == READS {
                tracing::warn!(%key, "an object comes torn from the store each time");
                // Whoever reads it judges: a length that does not fit is an error there.
                return self.inner.get(key, options).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn put(&self, key: &Key, data: Chunks, mut options: PutOptions) -> StoreResult<Version> {
        let _lock = self.lock(key).await;
        let condition = std::mem::take(&mut options.condition);
        if condition != Condition::Always {
            self.check(key, &condition).await?;
        }
        self.inner.put(key, data, options).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        let _lock = self.lock(key).await;
        self.inner.delete(key).await
    }

    // The inner store keeps the condition of an upload and looks itself; here nobody comes in between.
    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        let _lock = self.lock(key).await;
        self.inner.complete(key, upload, parts).await
    }
}
