//! Makes "only if nothing is there" hold on a store that ignores conditions.
//!
//! Such a store is for one writing process (it says so at start), so a look before the write is enough, as long as nobody
//! in this process comes in between. Without it, publishing over a version that exists would replace its artifact before
//! the metadata refuses it.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use super::error::StoreError;
use super::key::Key;
use super::store::{CasLevel, Condition, Store, StoreResult};

/// Keys that share a lock only wait for each other; more locks would buy nothing.
const LOCKS: usize = 64;

/// Locks over all keys.
pub(super) struct Claims {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Claims {
    fn default() -> Self {
        Self { locks: (0..LOCKS).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }
}

impl Claims {
    /// To be held over a write with this condition. [`StoreError::Precondition`] when it does not hold.
    pub(super) async fn take(
        &self,
        store: &dyn Store,
        key: &Key,
        condition: &Condition,
    ) -> StoreResult<Option<MutexGuard<'_, ()>>> {
        if *condition != Condition::Absent || store.capabilities().cas != CasLevel::L2 {
            return Ok(None);
        }
        let slot = self.hasher.hash_one(key.as_str()) as usize % LOCKS;
        let Some(lock) = self.locks.get(slot) else { return Ok(None) };
        let guard = lock.lock().await;
        match store.head(key).await {
            Ok(_) => Err(StoreError::Precondition),
            Err(StoreError::NotFound) => Ok(Some(guard)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use bytes::Bytes;

    use crate::core::protocol_name::ProtocolName;
    use crate::core::time::Clock;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{CasLevel, Condition, Key, ObjectInfo, Objects, PutOptions, Storage, StorageLimits};

    fn objects() -> Objects {
        let store = MemoryStore::new(Clock::real()).with_cas(CasLevel::L2);
        Storage::new(Arc::new(store), None, &StorageLimits::default(), Clock::real())
            .objects(ProtocolName::new("npm"), None)
    }

    async fn publish(objects: &Objects, key: &Key, text: &str) -> bool {
        let mut writer = objects.writer(None, &[], None).unwrap();
        writer.write(Bytes::from(text.to_owned())).await.unwrap();
        let staged = writer.finish().await.unwrap();
        staged.publish(key, Condition::Absent, None, &ObjectInfo::of("p")).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn what_is_there_stays_where_the_store_ignores_conditions() {
        let (objects, key) = (objects(), Key::new("npm/packages/p/p-1.0.0.tgz").unwrap());
        assert!(publish(&objects, &key, "first").await);
        assert!(!publish(&objects, &key, "second").await);
        let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        let put = objects.put(&key, Bytes::from_static(b"third"), options, &ObjectInfo::of("p")).await;
        assert_eq!(put.unwrap(), None);
        assert_eq!(objects.storage().store().head(&key).await.unwrap().size, 5);
    }

    #[tokio::test]
    async fn one_of_many_at_once_wins() {
        let (objects, key) = (objects(), Key::new("npm/packages/p/p-2.0.0.tgz").unwrap());
        let all = (0..32).map(|_| {
            let (objects, key) = (objects.clone(), key.clone());
            tokio::spawn(async move { publish(&objects, &key, "x").await })
        });
        let won = futures_util::future::join_all(all).await;
        assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    }
}
