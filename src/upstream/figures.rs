//! Numbers of one upstream, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
}

impl Figures {
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
