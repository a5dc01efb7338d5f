//! How many uploads a user may have begun and not finished: each is an object in the store, and anybody who may push can begin them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::prelude::*;
use crate::core::time::Timestamp;

/// After this long an opening counts no more: it was finished by another process, or given up.
const COUNTED: Duration = Duration::from_mins(15);

/// The openings of this process, by user and session.
pub(super) struct Openings {
    most: usize,
    open: Mutex<HashMap<String, BTreeMap<String, Timestamp>>>,
}

impl Openings {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Mutex::new(HashMap::new()) }
    }

    /// Goes on unless the user has too many open.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub(super) fn check(&self, user: &str, now: Timestamp) -> Result<()> {
        let mut open = self.open.lock();
        let Some(mine) = open.get_mut(user) else { return Ok(()) };
        if mine.len() < self.most {
            return Ok(());
        }
        mine.retain(|_, begun| now.since(*begun) < COUNTED);
        if mine.len() < self.most {
            return Ok(());
        }
        let oldest = mine.values().min().copied().unwrap_or(now);
        let wait = COUNTED.saturating_sub(now.since(oldest)).as_secs().max(1).to_string();
        let most = self.most.to_string();
        Err(Error::new(
            Kind::TooMany,
            format!("you have begun {most} uploads and not finished them; finish or cancel some"),
        )
        .with_code("TOOMANYREQUESTS")
        .with_header(header::RETRY_AFTER, &wait)
        .with_header(http::HeaderName::from_static("ratelimit-limit"), &most)
        .with_header(http::HeaderName::from_static("ratelimit-remaining"), "0")
        .with_header(http::HeaderName::from_static("ratelimit-reset"), &wait))
    }

    pub(super) fn begun(&self, user: &str, id: &str, now: Timestamp) {
        self.open.lock().entry(user.to_owned()).or_default().insert(id.to_owned(), now);
    }

    pub(super) fn ended(&self, user: &str, id: &str) {
        let mut open = self.open.lock();
        let Some(mine) = open.get_mut(user) else { return };
        mine.remove(id);
        if mine.is_empty() {
            open.remove(user);
        }
    }
}
