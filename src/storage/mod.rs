//! Bytes under keys, and the few ways in which registries may touch them.
//!
//! [`Store`] is what a backend implements. [`Storage`] is one store with what a process keeps around it: the document cache, the
//! group commit, the byte budget, the hooks. [`Objects`] is [`Storage`] seen by one request of one protocol: the only thing that
//! protocols hold. Invariant: this layer knows no protocol by name.

mod cas_chain;
mod claim;
mod commit;
mod document;
mod documents;
mod error;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
mod hooks;
mod key;
pub(crate) mod layer;
pub mod local;
mod look_first;
pub mod memory;
mod objects;
mod probe;
mod roots;
pub mod s3;
mod store;
#[cfg(any(test, feature = "test-support"))]
pub mod suite;
mod update;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use commit::UpdateFigures;
pub use document::{Document, Edit, JsonDocument, Loaded};
pub use error::StoreError;
pub use hooks::{HookContext, Hooks, ObjectInfo, Operation, Verdict};
pub use key::{Key, PRIVATE, Prefix, STAGING};
pub use objects::Objects;
pub(crate) use roots::Roots;
pub use store::{
    Capabilities, CasLevel, Chunks, Condition, Found, GetOptions, Listed, ObjectMeta, Page, Part, PutOptions,
    Store, StoreResult, UploadId, Version,
};
pub use writer::{Staged, Writer, WriterState};

use crate::core::actor::Actor;
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Clock;

/// Bounds of what a process keeps in memory for its storage.
#[derive(Debug, Clone)]
pub struct StorageLimits {
    /// Bytes of documents kept in memory.
    pub cache_bytes: u64,
    /// Bytes of upload parts in memory at any time, over all uploads; more wait.
    pub upload_bytes: usize,
    /// How long a cached document is served without asking the store whether it still is the newest.
    pub metadata_ttl: Duration,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, upload_bytes: 512 << 20, metadata_ttl: Duration::from_secs(1) }
    }
}

/// One store, and what a process keeps around it. Cheap to clone; two registries in one process share nothing.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    documents: documents::Documents,
    updates: update::Updates,
    claims: claim::Claims,
    figures: commit::Figures,
    budget: Arc<Semaphore>,
    budget_units: usize,
    hooks: Option<Arc<dyn Hooks>>,
    clock: Clock,
}

impl Storage {
    /// Puts a process's share around a store.
    pub fn new(
        store: Arc<dyn Store>,
        hooks: Option<Arc<dyn Hooks>>,
        limits: &StorageLimits,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            documents: documents::Documents::new(limits.cache_bytes, limits.metadata_ttl),
            updates: update::Updates::default(),
            claims: claim::Claims::default(),
            figures: commit::Figures::default(),
            budget: Arc::new(Semaphore::new((limits.upload_bytes / BUDGET_UNIT).max(1))),
            budget_units: (limits.upload_bytes / BUDGET_UNIT).max(1),
            store,
            hooks,
            clock,
        }))
    }

    /// Makes the store ready. Idempotent.
    pub async fn prepare(&self) -> Result<()> {
        self.0.store.prepare().await.map_err(|error| match error {
            StoreError::Denied(reason) | StoreError::Unsupported(reason) => {
                crate::core::error::Error::new(crate::core::error::Kind::Unavailable, reason)
            }
            // Whoever starts a registry must see what to mend; requests are told less.
            StoreError::Unknown(cause) => {
                crate::core::error::Error::unavailable(format!("the storage is not ready: {cause}"))
            }
            other => other.into(),
        })
    }

    /// The view of one request.
    pub fn objects(&self, protocol: ProtocolName, actor: Option<Arc<Actor>>) -> Objects {
        Objects::new(self.clone(), protocol, actor)
    }

    /// What makes conditions hold where the store ignores them.
    fn claims(&self) -> &claim::Claims {
        &self.0.claims
    }

    /// The backend itself: for `RegistryStorage`, sweeps and health, never for protocols.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }
}

/// The byte budget is counted in pieces of this many bytes, since a semaphore counts in 32 bits.
const BUDGET_UNIT: usize = 64 << 10;
