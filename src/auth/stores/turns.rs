//! Whose turn it is to change a user: those of one process wait for each other here instead of in the server's way.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Locks for any number of names.
pub(super) struct Turns {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Turns {
    /// With one stripe, everybody waits for everybody.
    pub(super) fn new(stripes: usize) -> Self {
        Self { stripes: (0..stripes).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Waits until nobody else of this process changes what has this name.
    pub(super) async fn of(&self, name: &str) -> Option<MutexGuard<'_, ()>> {
        let at = self.hasher.hash_one(name) as usize % self.stripes.len().max(1);
        Some(self.stripes.get(at)?.lock().await)
    }
}
