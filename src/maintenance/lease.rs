//! Leases: one process at a time does a piece of work that all could do.
//!
//! ```text
//! _sr/lease/{name}   who has it, for how long, and a mark that changes while they are at it
//! ```
//!
//! No clock of another machine is believed. Whoever wants a lease that is taken must see its mark unchanged for as long as the lease
//! lasts, by their own clock that never jumps. The holder counts from before its last renewal, so it gives up first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::core::error::{Error, Kind, Result};
use crate::core::id;
use crate::core::task;
use crate::storage::{Edit, JsonDocument, Key, PRIVATE, Storage};

/// How long a holder that says nothing is believed to be alive.
const TTL: Duration = Duration::from_secs(30);
/// How often a waiting taker looks.
const LOOK: Duration = Duration::from_secs(1);

/// The lease as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    /// Who has it; empty for nobody.
    owner: String,
    /// Grows with each new holder.
    fence: u64,
    ttl_ms: u64,
    /// Changes with each renewal.
    mark: String,
}

impl JsonDocument for Record {
    const LIMIT: u64 = 16 << 10;
    const NAME: &'static str = "lease";
}

/// The leases that this process wants, with what it has seen of those that others have.
pub struct Leases {
    storage: Storage,
    ttl: Duration,
    seen: Mutex<HashMap<Key, (String, Instant)>>,
}

impl Leases {
    /// Over this storage.
    pub fn new(storage: Storage) -> Self {
        Self { storage, ttl: TTL, seen: Mutex::default() }
    }

    /// With another duration, for tests.
    #[must_use]
    pub fn lasting(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Takes a lease if nobody has it, or if who had it has shown no sign of life for as long as it lasts.
    pub async fn try_take(&self, name: &str) -> Result<Option<Lease>> {
        let key = Key::new(format!("{PRIVATE}/lease/{name}"))?;
        let found = self.storage.document_revalidated::<Record>(&key).await?;
        let found = found.map(|loaded| loaded.document.clone()).unwrap_or_default();
        if !found.owner.is_empty() && !self.is_dead(&key, &found) {
            return Ok(None);
        }
        let (owner, first, before) = (id::uuid(), id::uuid(), found.mark);
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        let (began, new_owner) = (Instant::now(), owner.clone());
        let change = move |record: &mut Record| {
            if record.owner == new_owner {
                return Ok(Edit::Unchanged(Some(record.fence)));
            }
            // Somebody was faster, or the holder lives.
            if record.mark != before {
                return Ok(Edit::Unchanged(None));
            }
            record.owner.clone_from(&new_owner);
            record.fence += 1;
            record.ttl_ms = ttl_ms;
            record.mark.clone_from(&first);
            Ok(Edit::Changed(Some(record.fence)))
        };
        let (fence, _) = self.storage.update::<Record, _, _>(&key, change).await?;
        self.seen.lock().remove(&key);
        Ok(fence.map(|fence| Lease::begin(self.storage.clone(), key, owner, fence, self.ttl, began)))
    }

    /// The same, trying for `patience`.
    ///
    /// # Errors
    /// 409 when another process has it all that time.
    pub async fn take(&self, name: &str, patience: Duration) -> Result<Lease> {
        let began = Instant::now();
        loop {
            if let Some(lease) = self.try_take(name).await? {
                return Ok(lease);
            }
            if began.elapsed() >= patience {
                return Err(Error::new(Kind::Conflict, format!("another process is at it: {name}")));
            }
            sleep(LOOK.min(self.ttl)).await;
        }
    }

    /// Long enough to outlast a holder that has died.
    pub fn patience(&self) -> Duration {
        self.ttl + 5 * LOOK
    }

    /// Whether the same mark was seen for as long as the lease lasts; notes what is seen now.
    fn is_dead(&self, key: &Key, found: &Record) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        match seen.get(key) {
            Some((mark, since)) if *mark == found.mark => {
                now.duration_since(*since) >= Duration::from_millis(found.ttl_ms)
            }
            _ => {
                seen.insert(key.clone(), (found.mark.clone(), now));
                false
            }
        }
    }
}

/// A lease in hand, renewed until it is given up or dropped.
pub struct Lease {
    storage: Storage,
    key: Key,
    owner: String,
    fence: u64,
    ttl: Duration,
    state: Arc<State>,
    renewing: JoinHandle<()>,
}

struct State {
    /// When the last renewal that came through was begun.
    renewed: Mutex<Instant>,
    lost: AtomicBool,
}

impl Lease {
    fn begin(storage: Storage, key: Key, owner: String, fence: u64, ttl: Duration, began: Instant) -> Self {
        let state = Arc::new(State { renewed: Mutex::new(began), lost: AtomicBool::new(false) });
        let renewing =
            task::spawn(renew(storage.clone(), key.clone(), owner.clone(), ttl, Arc::clone(&state)));
        Self { storage, key, owner, fence, ttl, state, renewing }
    }

    /// Whether this process still has it, with a margin for what it does next.
    pub fn is_held(&self) -> bool {
        !self.state.lost.load(Ordering::Acquire) && self.state.renewed.lock().elapsed() < self.ttl * 2 / 3
    }

    /// Grows with each holder of this lease.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Gives it up, so that the next one needn't wait. What fails here runs out by itself.
    pub async fn give_up(self) {
        self.renewing.abort();
        let owner = self.owner.clone();
        let change = move |record: &mut Record| {
            if record.owner != owner {
                return Ok(Edit::Unchanged(()));
            }
            record.owner.clear();
            record.mark = id::uuid();
            Ok(Edit::Changed(()))
        };
        if let Err(error) = self.storage.update::<Record, _, _>(&self.key, change).await {
            tracing::debug!(error = error.message(), key = %self.key, "a lease is left to run out");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(storage: Storage, key: Key, owner: String, ttl: Duration, state: Arc<State>) {
    loop {
        sleep(ttl / 4).await;
        let (began, mark, mine) = (Instant::now(), id::uuid(), owner.clone());
        let change = move |record: &mut Record| {
            if record.owner != mine {
                return Ok(Edit::Unchanged(false));
            }
            if record.mark == mark {
                return Ok(Edit::Unchanged(true));
            }
            record.mark.clone_from(&mark);
            Ok(Edit::Changed(true))
        };
        match storage.update::<Record, _, _>(&key, change).await {
            Ok((true, _)) => *state.renewed.lock() = began,
            Ok((false, _)) => {
                state.lost.store(true, Ordering::Release);
                return;
            }
            // The next try may come through before the lease has run out.
            Err(error) => tracing::debug!(error = error.message(), %key, "a lease was not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Clock;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{StorageLimits, Store};

    fn processes(count: usize) -> Vec<Leases> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
        let limits = StorageLimits::default();
        let storage = || Storage::new(Arc::clone(&store), None, &limits, Clock::real());
        (0..count).map(|_| Leases::new(storage()).lasting(Duration::from_secs(10))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_has_it_until_it_gives_it_up() {
        let all = processes(8);
        let tries = all.iter().map(|leases| leases.try_take("work"));
        let mut taken: Vec<_> =
            futures_util::future::join_all(tries).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(taken.len(), 1);
        let first = taken.remove(0);
        // It is renewed for as long as it is in hand.
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            assert!(all[0].try_take("work").await.unwrap().is_none());
            assert!(first.is_held());
        }
        assert!(all[1].try_take("other work").await.unwrap().is_some());
        let fence = first.fence();
        first.give_up().await;
        let next = all[1].try_take("work").await.unwrap().unwrap();
        assert!(next.fence() > fence);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_replaced_once_its_time_is_over_and_knows_it_before() {
        let all = processes(2);
        let lease = all[0].try_take("work").await.unwrap().unwrap();
        // As if its process had stopped.
        lease.renewing.abort();
        assert!(all[1].try_take("work").await.unwrap().is_none());
        sleep(Duration::from_secs(7)).await;
        assert!(!lease.is_held());
        assert!(all[1].try_take("work").await.unwrap().is_none());
        sleep(Duration::from_secs(3)).await;
        let next = all[1].try_take("work").await.unwrap().unwrap();
        assert!(next.is_held() && !lease.is_held());
        // What the dead one still does to it comes to nothing.
        lease.give_up().await;
        assert!(all[0].try_take("work").await.unwrap().is_none());
        assert_eq!(
            all[0].take("work", Duration::from_secs(3)).await.map(|_| ()).unwrap_err().kind(),
            Kind::Conflict
        );
    }
}
