//! What no single package knows: which names there are, what has changed, what a search finds.
//!
//! One append log per protocol ([`log`]) is the whole of it; names ([`names`]) and search ([`search`]) are views of that log in memory,
//! made when they are first asked for and brought up to date by its newest entries. All of it can be made again from the
//! documents of the packages ([`rebuild`]). Invariant: this layer knows no protocol by name and no document's form.

mod entry;
mod log;
mod names;
pub mod rebuild;
mod search;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Mutex;

pub use entry::{Card, Change, Entry};
use log::Log;
pub use names::Changed;
use names::Names;
use search::Search;
pub use search::{Hit, Wanted};

use crate::core::error::{Error, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Clock;
use crate::storage::Storage;

/// The index of one protocol.
pub struct Index {
    log: Arc<Log>,
    names: RwLock<Names>,
    /// One refresh at a time; the others wait for it and find it done.
    refreshing: Mutex<()>,
    search: Mutex<Option<Search>>,
}

impl Index {
    /// The index of `protocol`. Does no IO.
    pub fn new(storage: &Storage, protocol: ProtocolName, clock: Clock) -> Result<Self> {
        Ok(Self {
            log: Arc::new(Log::new(storage, protocol, clock)?),
            names: RwLock::default(),
            refreshing: Mutex::new(()),
            search: Mutex::new(None),
        })
    }

    /// Enters a change that has happened. Whoever made it has been heard already as far as the package goes: a failure here is
    /// logged, and mended by the next [`rebuild::reconcile`].
    pub async fn record(&self, change: Change) {
        let name = change.name.clone();
        if let Err(error) = self.log.append(change).await {
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
        self.refresh().await?;
        Ok(self.names.read().page(after, limit))
    }

    /// How many names there are.
    pub async fn count(&self) -> Result<usize> {
        self.refresh().await?;
        Ok(self.names.read().len())
    }

    /// Whether there is something under this name.
    pub async fn contains(&self, name: &str) -> Result<bool> {
        self.refresh().await?;
        Ok(self.names.read().contains(name))
    }

    /// What has changed since the serial `since`, oldest first and each name once, and the serial of the newest change of all.
    pub async fn changes(&self, since: u64, limit: usize) -> Result<(Vec<Changed>, u64)> {
        self.refresh().await?;
        let names = self.names.read();
        Ok((names.changes(since, limit), names.reach.serial))
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

    /// Asks the search index: the number of matches, and `limit` of them after the first `offset`, best first.
    pub async fn search(&self, wanted: &Wanted, offset: usize, limit: usize) -> Result<(usize, Vec<Hit>)> {
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
