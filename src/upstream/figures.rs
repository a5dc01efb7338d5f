//! Numbers of one upstream, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;

use crate::core::time::Timestamp;

/// Which part of what is granted may be left before requests are saved: a twentieth.
const SHORT: u64 = 20;
/// How long a grant holds that does not say so.
const WINDOW: Duration = Duration::from_hours(1);

/// How something came about, for headers, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was here, and fresh.
    Hit,
    /// It was here, and is being asked for again.
    Stale,
    /// It was here, and its upstream said that it is unchanged.
    Revalidated,
    /// Its upstream sent it.
    Miss,
    /// It was believed not to be there.
    Negative,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss, Self::Negative];

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Negative => "negative",
        }
    }

    /// As `Cache-Status` (RFC 9211).
    pub fn header(self, upstream: &str) -> String {
        format!("\"{upstream}\"; {}", self.cache_status())
    }

    const fn cache_status(self) -> &'static str {
        match self {
            Self::Hit | Self::Negative => "hit",
            Self::Stale => "hit; detail=stale",
            Self::Revalidated => "hit; fwd=stale; fwd-status=304",
            Self::Miss => "fwd=miss; stored",
        }
    }
}

/// The numbers.
#[derive(Debug, Default)]
pub struct Figures {
    verdicts: [AtomicU64; 5],
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    grant: Mutex<Option<Grant>>,
}

/// How many requests an upstream grants (`ratelimit-limit: 100;w=21600`), and how many are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// In one window.
    pub limit: u64,
    /// Of them, in this one.
    pub remaining: u64,
    /// When the window ends at the latest.
    until: Timestamp,
}

impl Grant {
    fn of(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let read = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            let (count, more) = text.split_once(';').unwrap_or((text, ""));
            let window = more.split(';').find_map(|one| one.trim().strip_prefix("w=")?.parse().ok());
            Some((count.trim().parse().ok()?, window.map(Duration::from_secs)))
        };
        let ((limit, window), (remaining, own)) = (read("ratelimit-limit")?, read("ratelimit-remaining")?);
        let window = own.or(window).unwrap_or(WINDOW).min(Duration::from_hours(24));
        Some(Self { limit, remaining, until: now.plus(window) })
    }
}

impl Figures {
    /// What it grants, as it said last, if it says so.
    pub fn grant(&self) -> Option<Grant> {
        *self.grant.lock()
    }

    /// Whether nearly all requests that it grants are used up.
    pub(super) fn is_short(&self, now: Timestamp) -> bool {
        self.grant()
            .is_some_and(|grant| grant.remaining.saturating_mul(SHORT) < grant.limit && now < grant.until)
    }

    /// Notes what an answer says of that.
    pub(super) fn heard(&self, headers: &HeaderMap, now: Timestamp) {
        if let Some(grant) = Grant::of(headers, now) {
            *self.grant.lock() = Some(grant);
        }
    }

    /// Answers that came about so.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(verdict as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Requests that were sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Those that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Bytes of bodies that came.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn note(&self, verdict: Verdict) {
        if let Some(count) = self.verdicts.get(verdict as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn asked(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_read_as_docker_hub_writes_it() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let heard = |limit: &'static str, remaining: &'static str| {
            let figures = Figures::default();
            let headers = [("ratelimit-limit", limit), ("ratelimit-remaining", remaining)];
            figures.heard(
                &headers
                    .into_iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect(),
                now,
            );
            figures
        };
        let plenty = heard("100;w=21600", "37;w=21600");
        assert_eq!(plenty.grant().map(|grant| (grant.limit, grant.remaining)), Some((100, 37)));
        assert!(!plenty.is_short(now));
        let few = heard("100;w=21600", "4;w=21600");
        assert!(few.is_short(now) && few.is_short(now.plus(Duration::from_secs(21_599))));
        assert!(!few.is_short(now.plus(Duration::from_hours(6))), "another window has begun");
        assert!(heard("100", "0").is_short(now));
        for (limit, remaining) in [("", ""), ("many", "4"), ("-1", "4"), ("100", "18446744073709551616")] {
            assert_eq!(heard(limit, remaining).grant(), None, "{limit} {remaining}");
        }
    }
}
