//! How many wrong passwords a user name and an address may bring. Only failures count; memory is bounded.
//!
//! Tokens are not counted: with 122 random bits there is nothing to guess, and a build farm with one expired token behind one address
//! must not lock out its neighbours.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::core::error::{Error, Kind, Result};
use crate::core::time::Clock;

/// A person mistypes a few times; then one try in six seconds.
const PER_USER: (u32, Duration) = (10, Duration::from_secs(6));
/// An office behind one address has many persons; then one try in two seconds.
const PER_ADDRESS: (u32, Duration) = (50, Duration::from_secs(2));
/// A one-time code has six digits and three of them are right at any time: after a few wrong ones, one try a minute.
const PER_CODE: (u32, Duration) = (8, Duration::from_mins(1));
/// Logins through the browser that an address may begin: each is a document in the store. Then one in six seconds.
const PER_START: (u32, Duration) = (20, Duration::from_secs(6));
/// Names and addresses that are remembered at most; the longest unseen ones go first.
const REMEMBERED: u64 = 20_000;

/// Counts failures of one registry.
pub(super) struct Limiter {
    users: Limit<String>,
    addresses: Limit<IpAddr>,
    codes: Limit<String>,
    starts: Limit<Option<IpAddr>>,
}

impl Limiter {
    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            users: Limit::new(PER_USER, clock),
            addresses: Limit::new(PER_ADDRESS, clock),
            codes: Limit::new(PER_CODE, clock),
            starts: Limit::new(PER_START, clock),
        }
    }

    /// Goes on unless the user has sent too many wrong one-time codes.
    pub(super) fn check_code(&self, user: &str) -> Result<()> {
        self.codes.wait(&user_key(user)).map_or(Ok(()), |wait| Err(later("wrong one-time passes", wait)))
    }

    /// Counts a wrong one-time code.
    pub(super) fn failed_code(&self, user: &str) {
        self.codes.count(&user_key(user));
    }

    /// Counts something that anybody may begin, and that costs us something.
    pub(super) fn start(&self, address: Option<IpAddr>) -> Result<()> {
        let from = address.map(network);
        if let Some(wait) = self.starts.wait(&from) {
            return Err(later("logins begun", wait));
        }
        self.starts.count(&from);
        Ok(())
    }

    /// Goes on unless the user or the address has failed too often. Counts nothing.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub(super) fn check(&self, user: &str, address: Option<IpAddr>) -> Result<()> {
        let by_user = self.users.wait(&user_key(user));
        let by_address = address.map(network).and_then(|address| self.addresses.wait(&address));
        let Some(wait) = by_user.max(by_address) else { return Ok(()) };
        Err(later("failed logins", wait))
    }

    /// Counts a failure.
    pub(super) fn failed(&self, user: &str, address: Option<IpAddr>) {
        self.users.count(&user_key(user));
        if let Some(address) = address {
            self.addresses.count(&network(address));
        }
    }
}

/// 429, and when to come back.
fn later(what: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Error::new(Kind::TooMany, format!("too many {what}; try again in {seconds} seconds"))
        .with_header(http::header::RETRY_AFTER, &seconds.to_string())
}

/// Names as long as a header would let a stranger fill the memory.
fn user_key(user: &str) -> String {
    user.chars().take(128).collect()
}

/// Whoever has one IPv6 address has the 64 bits below its network too.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A rate limiter with two views on one state: one that counts, and one that only asks.
struct Limit<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> {
    count: RateLimiter<K, Cells<K>, Ticks, NoOpMiddleware<Nanos>>,
    ask: RateLimiter<K, Glance<K>, Ticks, NoOpMiddleware<Nanos>>,
}

impl<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> Limit<K> {
    fn new((burst, every): (u32, Duration), clock: &Clock) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(every)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let cells = Cells(Cache::new(REMEMBERED));
        let ticks = Ticks { clock: clock.clone(), start: clock.now().as_millis() };
        Self {
            count: RateLimiter::new(quota, cells.clone(), ticks.clone()),
            ask: RateLimiter::new(quota, Glance(cells), ticks),
        }
    }

    /// How long to wait before the next try may be made.
    fn wait(&self, key: &K) -> Option<Duration> {
        self.ask.check_key(key).err().map(|refused| refused.wait_time_from(self.ask.clock().now()))
    }

    fn count(&self, key: &K) {
        // Beyond the limit there is nothing more to count.
        let _ = self.count.check_key(key);
    }
}

/// Time as the limiter counts it, from the registry's clock.
#[derive(Clone)]
struct Ticks {
    clock: Clock,
    start: i64,
}

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let millis = u64::try_from(self.clock.now().as_millis().saturating_sub(self.start)).unwrap_or(0);
        Nanos::new(millis.saturating_mul(1_000_000))
    }
}

/// The limiter's state per key, bounded.
#[derive(Clone)]
struct Cells<K: std::hash::Hash + Eq + Send + Sync + 'static>(Cache<K, Arc<Mutex<Option<Nanos>>>>);

impl<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> StateStore for Cells<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let cell = self.0.get_with_by_ref(key, Arc::default);
        let mut state = cell.lock();
        let (answer, next) = decide(*state)?;
        *state = Some(next);
        Ok(answer)
    }
}

/// The same state, looked at and left alone.
struct Glance<K: std::hash::Hash + Eq + Send + Sync + 'static>(Cells<K>);

impl<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> StateStore for Glance<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.0.get(key).and_then(|cell| *cell.lock());
        decide(state).map(|(answer, _)| answer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{Limiter, PER_ADDRESS, PER_USER};
    use crate::core::time::{Clock, Timestamp};

    fn limiter() -> (Limiter, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        (Limiter::new(&clock), clock)
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn a_name_that_failed_often_waits_and_then_may_try_again() {
        let (limiter, clock) = limiter();
        for _ in 0..PER_USER.0 {
            limiter.check("bob", None).unwrap();
            limiter.failed("bob", None);
        }
        let error = limiter.check("bob", None).unwrap_err();
        assert_eq!(error.status(), 429);
        let wait: u64 = error.headers()[0].1.to_str().unwrap().parse().unwrap();
        assert!((1..=PER_USER.1.as_secs()).contains(&wait), "{wait}");
        limiter.check("eve", None).unwrap();
        clock.advance(Duration::from_secs(wait));
        limiter.check("bob", None).unwrap();
    }

    #[test]
    fn asking_and_succeeding_cost_nothing() {
        let (limiter, _clock) = limiter();
        for _ in 0..1000 {
            limiter.check("bob", address("192.0.2.1")).unwrap();
        }
    }

    #[test]
    fn an_address_that_tries_many_names_waits_and_others_do_not() {
        let (limiter, _clock) = limiter();
        for at in 0..PER_ADDRESS.0 {
            limiter.failed(&format!("user{at}"), address("2001:db8::1"));
        }
        assert!(limiter.check("new", address("2001:db8::ffff")).is_err());
        limiter.check("new", address("2001:db8:1::1")).unwrap();
        limiter.check("new", None).unwrap();
        for at in 0..PER_ADDRESS.0 {
            limiter.failed(&format!("user{at}"), address("192.0.2.1"));
        }
        assert!(limiter.check("new", address("::ffff:192.0.2.1")).is_err());
        limiter.check("new", address("192.0.2.2")).unwrap();
    }
}
