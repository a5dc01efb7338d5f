//! How old a cached document may be: the feed tells what has changed, so what it does not name need not be asked for again.
//!
//! One small read per metadata TTL, of the head of the log, takes the place of one per document. Every process appends to the log before it
//! answers a change; so what was answered anywhere is seen here within that TTL, as without the feed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Index;
use super::log::{Head, Log, Reach};
use crate::core::error::Result;
use crate::storage::{Document, Key, Loaded, Objects};

/// A document is asked for again after this long all the same: a process may have died between a change and its entry, and programs that
/// know nothing of the log may write too.
const LONGEST: Duration = Duration::from_mins(1);
/// Names that are remembered as changed.
const REMEMBERED: usize = 50_000;

/// What this process has learned from the feed.
pub(super) struct Feed(Mutex<Learned>);

struct Learned {
    reach: Option<Reach>,
    /// When each name was last found to have changed.
    changed: HashMap<String, Instant>,
    /// Before this moment anything may have changed.
    everything: Instant,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Learned { reach: None, changed: HashMap::new(), everything: Instant::now() }))
    }

    /// The moment after which a document of `name` must have been asked for to be known as the newest.
    fn oldest(&self, log: &Log, head: Option<&Loaded<Head>>, name: &str) -> Instant {
        let mut learned = self.0.lock();
        learned.follow(log, head.map(|head| &head.document));
        let changed = learned.changed.get(name).copied();
        let oldest = changed.map_or(learned.everything, |changed| changed.max(learned.everything));
        Instant::now().checked_sub(LONGEST).map_or(oldest, |longest| longest.max(oldest))
    }
}

impl Learned {
    fn follow(&mut self, log: &Log, head: Option<&Head>) {
        let reach = head.map_or_else(Reach::default, Head::reach);
        let known = match self.reach {
            Some(known) if known == reach => return,
            // Another request looked at a newer head; this one is an old one.
            Some(known) if known.epoch == reach.epoch && known.serial > reach.serial => return,
            Some(known) if known.epoch == reach.epoch => Some(known.serial),
            _ => None,
        };
        let now = Instant::now();
        let tail = head.map(|head| head.tail.as_slice()).unwrap_or_default();
        let new = known.map(|known| tail.partition_point(|entry| entry.serial <= known));
        let new = new.and_then(|at| tail.get(at..)).unwrap_or_default();
        // Where some of them are in a segment already, it is cheaper to ask for what is asked for than to read it.
        let whole = known.is_some_and(|known| known + new.len() as u64 == reach.serial);
        if whole && self.changed.len() + new.len() <= REMEMBERED {
            // What this process wrote is in its cache.
            let others = new.iter().filter(|entry| !log.is_own(entry));
            self.changed.extend(others.map(|entry| (entry.name.clone(), now)));
        } else {
            self.everything = now;
            self.changed.clear();
        }
        self.reach = Some(reach);
    }
}

impl Index {
    /// A shared document of `name`, from memory as long as the feed tells of no change.
    pub async fn document<D: Document>(
        &self,
        objects: &Objects,
        name: &str,
        key: &Key,
    ) -> Result<Option<Arc<Loaded<D>>>> {
        let Ok(head) = self.log.head().await else {
            // Nothing is known of changes; the document may be there all the same.
            return objects.document(key).await;
        };
        let oldest = self.feed.oldest(&self.log, head.as_deref(), name);
        objects.document_since(key, Some(oldest)).await
    }

    /// Learns what is new, ahead of the first who asks.
    pub(super) async fn follow(&self) {
        if let Ok(head) = self.log.head().await {
            self.feed.0.lock().follow(&self.log, head.as_deref().map(|head| &head.document));
        }
    }
}
