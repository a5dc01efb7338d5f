//! One circuit breaker per upstream: leaves it alone after so many failures in a row, and tries it again with one request.
//!
//! ```text
//! closed --threshold failures in a row--> open --reset--> half open --success--> closed
//!                                          ^                  |
//!                                          +-----failure------+
//! ```

use std::time::Duration;

use parking_lot::Mutex;

use crate::core::time::{Clock, Timestamp};

/// What it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing, until this moment.
    Open(Timestamp),
    /// One request, which decides.
    HalfOpen,
}

/// A breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    reset: Duration,
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    /// Open until then; half open after it.
    until: Option<Timestamp>,
    /// The moment until which a request that tries it is waited for: one that was given up decides nothing.
    trial: Option<Timestamp>,
}

impl Breaker {
    pub(super) fn new(threshold: u32, reset: Duration, clock: Clock) -> Self {
        Self { threshold: threshold.max(1), reset, clock, inner: Mutex::default() }
    }

    pub(super) fn state(&self) -> State {
        self.inner.lock().state(self.clock.now())
    }

    /// Whether a request may be made now; otherwise how long none may. Half open, one may.
    pub(super) fn admit(&self) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        match inner.state(now) {
            State::Closed => Ok(()),
            State::Open(until) => Err(until.since(now)),
            State::HalfOpen => {
                if let Some(trial) = inner.trial.filter(|trial| *trial > now) {
                    return Err(trial.since(now));
                }
                inner.trial = Some(now.plus(self.reset));
                Ok(())
            }
        }
    }

    /// It answered: whatever the answer was, it is there.
    pub(super) fn succeeded(&self) {
        *self.inner.lock() = Inner::default();
    }

    /// It failed. Whether this opened it.
    pub(super) fn failed(&self) -> bool {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        inner.failures = inner.failures.saturating_add(1);
        let opens = match inner.state(now) {
            State::Closed => inner.failures >= self.threshold,
            State::HalfOpen => true,
            // A request that was under way when it opened.
            State::Open(_) => false,
        };
        if opens {
            inner.until = Some(now.plus(self.reset));
            inner.trial = None;
        }
        opens
    }

    /// It asked to be left alone for so long.
    pub(super) fn pause(&self, span: Duration) {
        let until = self.clock.now().plus(span);
        let mut inner = self.inner.lock();
        inner.until = inner.until.max(Some(until));
        inner.trial = None;
    }
}

impl Inner {
    fn state(&self, now: Timestamp) -> State {
        match self.until {
            None => State::Closed,
            Some(until) if now < until => State::Open(until),
            Some(_) => State::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Duration = Duration::from_secs(30);

    fn breaker() -> (Breaker, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        (Breaker::new(3, RESET, clock.clone()), clock)
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (breaker, _) = breaker();
        for _ in 0..5 {
            assert!(!breaker.failed() && !breaker.failed());
            breaker.succeeded();
        }
        assert_eq!(breaker.state(), State::Closed);
        assert!(!breaker.failed() && !breaker.failed() && breaker.failed());
        assert!(matches!(breaker.state(), State::Open(_)));
        assert_eq!(breaker.admit(), Err(RESET));
        assert!(!breaker.failed(), "one that was under way does not open it again");
    }

    #[test]
    fn lets_one_request_decide() {
        let (breaker, clock) = breaker();
        for _ in 0..3 {
            breaker.failed();
        }
        clock.advance(RESET);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.admit(), Ok(()));
        assert!(breaker.admit().is_err(), "only one");
        assert!(breaker.failed());
        assert_eq!(breaker.admit(), Err(RESET), "open for as long again");
        clock.advance(RESET);
        assert_eq!(breaker.admit(), Ok(()));
        breaker.succeeded();
        assert_eq!(breaker.state(), State::Closed);
        assert!(!breaker.failed() && !breaker.failed(), "the count began anew");
    }

    #[test]
    fn a_trial_that_was_given_up_does_not_keep_it_open_for_ever() {
        let (breaker, clock) = breaker();
        for _ in 0..3 {
            breaker.failed();
        }
        clock.advance(RESET);
        assert_eq!(breaker.admit(), Ok(()));
        clock.advance(RESET);
        assert_eq!(breaker.admit(), Ok(()));
    }

    #[test]
    fn waits_as_long_as_it_was_asked_to() {
        let (breaker, clock) = breaker();
        breaker.pause(Duration::from_secs(90));
        assert_eq!(breaker.admit(), Err(Duration::from_secs(90)));
        breaker.pause(Duration::from_secs(1));
        clock.advance(Duration::from_secs(89));
        assert_eq!(breaker.admit(), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(breaker.admit(), Ok(()));
    }
}
