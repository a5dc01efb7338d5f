//! One piece of work for all who ask for it at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::error::Error;
use super::task;

/// What several wait for; a failure is shared too.
pub type Flight<T, E = Error> = Shared<BoxFuture<'static, Result<T, Arc<E>>>>;

/// The work that is under way, by what it is about.
pub struct Flights<K, T, E = Error>(Board<K, T, E>);

type Board<K, T, E> = Arc<Mutex<HashMap<K, Flight<T, E>>>>;

impl<K, T, E> Default for Flights<K, T, E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T, E> Flights<K, T, E>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
    E: From<Error> + Send + Sync + 'static,
{
    /// The work on `key`, if it is under way.
    pub fn under_way(&self, key: &K) -> Option<Flight<T, E>> {
        self.0.lock().get(key).cloned()
    }

    /// Joins the work on `key` that is under way, or begins it. It goes on when nobody waits any more.
    pub fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Flight<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let landing = Landing { flights: Arc::clone(&self.0), key: key.clone() };
        let work = work();
        let task = task::spawn(async move {
            let _landing = landing;
            work.await.map_err(Arc::new)
        });
        let flight = async move {
            task.await.unwrap_or_else(|error| {
                let broke = Error::internal("work that several waited for broke off").with_source(error);
                Err(Arc::new(broke.into()))
            })
        };
        let flight = flight.boxed().shared();
        flights.insert(key.clone(), flight.clone());
        flight
    }
}

/// Takes the work off the board when it is over, however it ends.
struct Landing<K: Hash + Eq, T, E> {
    flights: Board<K, T, E>,
    key: K,
}

impl<K: Hash + Eq, T, E> Drop for Landing<K, T, E> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn work_is_done_once_and_can_be_done_again_however_it_ended() {
        let (flights, begun) = (Flights::<&str, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let work = |fails: bool| {
            let begun = Arc::clone(&begun);
            move || async move {
                let turn = begun.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
                assert!(!fails, "a fault of the work");
                Ok(turn)
            }
        };
        assert!(flights.under_way(&"a").is_none());
        let both = (flights.join(&"a", work(false)), flights.join(&"a", work(false)));
        let third = flights.under_way(&"a").unwrap();
        assert_eq!((both.0.await.unwrap(), both.1.await.unwrap(), third.await.unwrap()), (0, 0, 0));
        assert!(flights.join(&"a", work(true)).await.is_err());
        assert_eq!(flights.join(&"a", work(false)).await.unwrap(), 2);
        drop(flights.join(&"a", work(false)));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(begun.load(SeqCst), 4, "it was done although nobody waited");
    }
}
