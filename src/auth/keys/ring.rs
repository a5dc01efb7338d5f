//! Keys that were fetched: how long they are good, and when the issuer is asked again.
//!
//! An issuer is asked at most once a minute, whoever shows us what: a token is anybody's to make up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::source::Place;
use super::{KeySet, KeySource};
use crate::core::error::{Error, Kind, Result};
use crate::core::flights::{Flight, Flights};
use crate::core::time::{Clock, Timestamp};

/// Between two times that an issuer is asked.
const PAUSE: Duration = Duration::from_mins(1);
/// No key is believed for longer after the issuer last showed it.
const GOOD: Duration = Duration::from_hours(24);
/// How long a fetch may take, all of its documents together. Builds wait for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The keys of one issuer.
pub(in crate::auth) struct Ring {
    place: Place,
    source: Arc<dyn KeySource>,
    clock: Clock,
    state: Mutex<State>,
    flights: Flights<(), ()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// When the issuer was last asked.
    asked: Option<Timestamp>,
    /// Whether keys came of it.
    answered: bool,
}

struct Held {
    keys: Arc<KeySet>,
    /// When they were asked for.
    since: Timestamp,
    fresh: Duration,
}

impl Ring {
    pub(super) fn new(place: Place, source: Arc<dyn KeySource>, clock: Clock) -> Self {
        Self { place, source, clock, state: Mutex::default(), flights: Flights::default() }
    }

    /// The keys. The issuer is asked if they are no longer fresh, or if none has this name, and if it may be asked.
    ///
    /// # Errors
    /// 503 with `Retry-After`: there are none that are good, or one of this name may be new and the issuer is away.
    pub(super) async fn find(self: &Arc<Self>, id: Option<&str>) -> Result<Arc<KeySet>> {
        if let Some(flight) = self.ask(id) {
            // What came of it is in the state; it only fails by breaking off.
            flight.await.map_err(|error| Error::repeat(&error))?;
        }
        let (state, now) = (self.state.lock(), self.clock.now());
        state.good(now, id).ok_or_else(|| self.away(state.wait(now)))
    }

    /// The asking that is to be waited for, begun if it is time.
    fn ask(self: &Arc<Self>, id: Option<&str>) -> Option<Flight<()>> {
        let (mut state, now) = (self.state.lock(), self.clock.now());
        if state.is_fresh(now, id) {
            return None;
        }
        if !state.wait(now).is_zero() {
            return self.flights.under_way(&());
        }
        (state.asked, state.answered) = (Some(now), false);
        let ring = Arc::clone(self);
        Some(self.flights.join(&(), || async move {
            ring.fetch(now).await;
            Ok(())
        }))
    }

    async fn fetch(&self, now: Timestamp) {
        let issuer = &self.place.issuer;
        let fetched = timeout(PATIENCE, self.place.fetch(self.source.as_ref())).await;
        let fetched = fetched.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("nothing came within {} s", PATIENCE.as_secs())))
        });
        match fetched {
            Ok((keys, fresh)) => {
                tracing::debug!(issuer, fresh = fresh.as_secs(), "the keys of an issuer were fetched");
                let mut state = self.state.lock();
                state.held = Some(Held { keys: Arc::new(keys), since: now, fresh });
                state.answered = true;
            }
            Err(error) => {
                let causes = error.causes();
                tracing::warn!(issuer, causes, "the keys of an issuer can't be had: {}", error.message());
            }
        }
    }

    /// What stands in the way is for the log: anybody may ask.
    fn away(&self, wait: Duration) -> Error {
        let seconds = wait.as_secs().max(1);
        let message = format!(
            "the keys of the issuer {} can't be had at the moment; try again in {seconds} s",
            self.place.issuer
        );
        Error::new(Kind::Unavailable, message).with_header(http::header::RETRY_AFTER, &seconds.to_string())
    }
}

impl State {
    /// Whether nobody needs to be asked.
    fn is_fresh(&self, now: Timestamp, id: Option<&str>) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_younger(now, held.fresh) && held.keys.knows(id))
    }

    /// The keys, if they are good for a token with this key's name: as good as none while that may be a new one.
    fn good(&self, now: Timestamp, id: Option<&str>) -> Option<Arc<KeySet>> {
        let held = self.held.as_ref().filter(|held| held.is_younger(now, GOOD))?;
        (self.answered || held.keys.knows(id)).then(|| Arc::clone(&held.keys))
    }

    /// How long the issuer is not to be asked. A clock that was set back does not count.
    fn wait(&self, now: Timestamp) -> Duration {
        let asked = self.asked.filter(|asked| *asked <= now);
        asked.map_or(Duration::ZERO, |asked| PAUSE.saturating_sub(now.since(asked)))
    }
}

impl Held {
    fn is_younger(&self, now: Timestamp, age: Duration) -> bool {
        self.since <= now && now.since(self.since) < age
    }
}
