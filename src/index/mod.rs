//! What no single package knows: which names there are, what has changed, what a search finds.
//!
//! One append log per protocol ([`log`]) is the whole of it; names ([`names`]) and search ([`search`]) are views of that log in memory,
//! made when they are first asked for and brought up to date by its newest entries. All of it can be made again from the
//! documents of the packages ([`rebuild`]). Invariant: this layer knows no protocol by name and no document's form.

mod entry;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod log;
mod names;
pub mod rebuild;
mod search;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};

pub use entry::{Card, Change, Entry};
use follow::Feed;
pub use log::Events;
use log::Log;
pub use names::Changed;
use names::Names;
use search::Search;
pub use search::{Found, Hit, Wanted};

use crate::core::error::{Error, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Clock;
use crate::storage::Storage;

/// How long a request waits for an index that is being made.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the bucket is gone through again.
const RECONCILE: Duration = Duration::from_hours(24);
/// Names between two lines in the log while an index is being made.
const PROGRESS: u64 = 10_000;

/// The index of one protocol.
pub struct Index {
    log: Arc<Log>,
    names: RwLock<Names>,
    /// One refresh at a time; the others wait for it and find it done.
    refreshing: Mutex<()>,
    search: Mutex<Option<Search>>,
    feed: Feed,
    /// Whether the bucket has been gone through, as far as this process knows; see [`Index::ready`].
    settled: watch::Sender<bool>,
}

impl Index {
    /// The index of `protocol`. Does no IO.
    pub fn new(storage: &Storage, protocol: ProtocolName, clock: Clock) -> Result<Self> {
        Ok(Self {
            log: Arc::new(Log::new(storage, protocol, clock)?),
            names: RwLock::default(),
            refreshing: Mutex::new(()),
            search: Mutex::new(None),
            feed: Feed::new(),
            settled: watch::Sender::new(true),
        })
    }

    /// Enters changes that have happened, of one name. Whoever made them is done as far as the package goes: a failure here is logged, and
    /// mended by the next [`rebuild::reconcile`].
    pub async fn record(&self, changes: Vec<Change>) {
        let Some(name) = changes.first().map(|change| change.name.clone()) else { return };
        if let Err(error) = self.log.append(changes).await {
            tracing::warn!(
                name,
                error = error.message(),
                causes = error.causes(),
                "a change is missing in the index"
            );
        }
    }

    /// Whether everything in the bucket has been entered; before that, lists and searches lack what was there before us.
    pub async fn is_complete(&self) -> Result<bool> {
        Ok(self.log.head().await?.is_some_and(|head| head.document.complete))
    }

    /// Names after `after` in byte order, at most `limit`.
    pub async fn names(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>> {
        self.names_past(after, 0, limit).await
    }

    /// The same without the first `past` of them, which take time and no memory.
    pub async fn names_past(&self, after: Option<&str>, past: usize, limit: usize) -> Result<Vec<Arc<str>>> {
        self.ready().await;
        self.page(after, past, limit).await
    }

    async fn page(&self, after: Option<&str>, past: usize, limit: usize) -> Result<Vec<Arc<str>>> {
        self.refresh().await?;
        Ok(self.names.read().page(after, past, limit))
    }

    /// How many names there are.
    pub async fn count(&self) -> Result<usize> {
        self.ready().await;
        self.refresh().await?;
        Ok(self.names.read().len())
    }

    /// Serial of the newest change.
    pub async fn newest(&self) -> Result<u64> {
        self.refresh().await?;
        Ok(self.names.read().reach.serial)
    }

    /// Whether there is something under this name.
    async fn contains(&self, name: &str) -> Result<bool> {
        self.refresh().await?;
        Ok(self.names.read().contains(name))
    }

    /// What has changed since the serial `since`, oldest first and each name once, and the serial of the newest change of all.
    pub async fn changes(&self, since: u64, limit: usize) -> Result<(Vec<Changed>, u64)> {
        self.ready().await;
        self.refresh().await?;
        let names = self.names.read();
        Ok((names.changes(since, limit), names.reach.serial))
    }

    /// Every change after the serial `since`, in single steps; the last five hundred at least are kept.
    pub async fn events(&self, since: u64) -> Result<Events> {
        self.log.entries(since).await
    }

    /// Enters what was in the bucket before the index, unless that was done. Whoever asks for names meanwhile waits a moment for it.
    pub async fn settle(&self, source: &dyn rebuild::Source) {
        let settled = self.go_through(source).await;
        // From here on the feed tells of every change.
        self.follow().await;
        self.settled.send_replace(true);
        match settled {
            Ok(None) => {}
            Ok(Some(done)) => {
                tracing::info!(names = done.names, entered = done.entered, "indexed the bucket");
            }
            Err(error) => tracing::warn!(
                error = error.message(),
                causes = error.causes(),
                "the bucket could not be indexed: lists and searches lack what was there before"
            ),
        }
    }

    async fn go_through(&self, source: &dyn rebuild::Source) -> Result<Option<rebuild::Reconciled>> {
        if self.is_complete().await? {
            return Ok(None);
        }
        let mut told = 0;
        let progress = |names: u64| {
            if names - told >= PROGRESS {
                told = names;
                tracing::info!(names, "indexing the bucket");
            }
        };
        rebuild::reconcile(self, source, progress).await.map(Some)
    }

    /// What has to be done now and then: compacts the log, and once a day goes through the bucket for what a process that died did not come to
    /// enter. Answers what that found.
    pub async fn maintain(&self, source: &dyn rebuild::Source) -> Result<Option<rebuild::Reconciled>> {
        self.log.compact_if_due().await?;
        let now = self.log.now();
        let head = self.log.head().await?;
        let gone_through = head.map(|head| head.document.gone_through);
        if gone_through.is_none_or(|then| now.since(then) < RECONCILE) {
            return Ok(None);
        }
        rebuild::reconcile(self, source, |_| {}).await.map(Some)
    }

    /// Notes that [`Self::settle`] is about to run.
    pub fn unsettle(&self) {
        self.settled.send_replace(false);
    }

    /// Waits until the bucket has been gone through, however long that takes.
    pub async fn settled(&self) {
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Waits until the bucket has been gone through, but not long: what is known by then is answered.
    async fn ready(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.settled()).await;
    }

    async fn refresh(&self) -> Result<()> {
        let Some(head) = self.log.head().await? else { return Ok(()) };
        let newest = head.document.reach();
        if self.names.read().reach == newest {
            return Ok(());
        }
        let _alone = self.refreshing.lock().await;
        let known = self.names.read().reach;
        if known == newest {
            return Ok(());
        }
        if known.epoch == newest.epoch && known.serial > 0 {
            let mut entries = Vec::new();
            let reach = self.log.replay(known, |entry| entries.push(entry)).await?;
            if reach.epoch == known.epoch {
                let mut names = self.names.write();
                for entry in &entries {
                    names.take(entry);
                }
                names.reach = reach;
                return Ok(());
            }
        }
        // From the beginning: the entries of a whole registry go straight into the set, one by one.
        let mut fresh = Names::default();
        fresh.reach = self.log.replay(log::Reach::default(), |entry| fresh.take(&entry)).await?;
        *self.names.write() = fresh;
        Ok(())
    }

    /// Makes all views anew when they are next asked for.
    async fn forget(&self) {
        *self.names.write() = Names::default();
        *self.search.lock().await = None;
    }

    /// Asks the search index for `limit` of what fits after the first `offset`, best first.
    pub async fn search(&self, wanted: &Wanted, offset: usize, limit: usize) -> Result<Found> {
        self.ready().await;
        let asker = self.searcher(wanted).await?;
        blocking(move || asker.ask(offset, limit)).await
    }

    async fn searcher(&self, wanted: &Wanted) -> Result<search::Asker> {
        let mut slot = self.search.lock().await;
        let known = slot.as_ref().map_or_else(log::Reach::default, |search| search.reach);
        let newest = self.log.head().await?.map_or_else(log::Reach::default, |head| head.document.reach());
        if slot.is_none() || known != newest {
            let mut entries = Vec::new();
            let reach = self.log.replay(known, |entry| entries.push(entry)).await?;
            let search = slot.take();
            let search = blocking(move || {
                let mut search = search.map_or_else(Search::new, Ok)?;
                search.take(&entries, reach)?;
                Ok(search)
            })
            .await?;
            return Ok(slot.insert(search).asker(wanted));
        }
        slot.as_ref()
            .map(|search| search.asker(wanted))
            .ok_or_else(|| Error::internal("there is no search index"))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a search broke").with_source(error))?
}
