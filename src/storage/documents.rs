//! The cache of shared documents: parsed once per version, revalidated by version, bounded in bytes.
//!
//! A write of this process is in the cache before it is answered, and nothing that was read earlier can push it out again: each key
//! has an epoch that a write moves on, and a load that began in an older epoch is handed to those who asked, but not kept.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures_util::stream::StreamExt;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::document::{Document, Loaded};
use super::store::{CasLevel, GetOptions, ObjectMeta};
use super::{Found, Key, Storage, StoreError};
use crate::core::error::{Error, Result};

/// A document may be missing for this long after the store said so, at most; a write of this process ends it at once.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// Documents beyond this many bytes are parsed and written off the async threads.
pub(super) const HEAVY: u64 = 256 << 10;
/// How many of those at once: each holds its text and its parsed form.
const HEAVY_AT_ONCE: usize = 4;
/// How many locks the epochs are spread over.
const SHARDS: usize = 64;
/// Rereads of a document that came torn from a store without atomic replacement, and the pause between.
const TORN_READS: usize = 3;
const TORN_PAUSE: Duration = Duration::from_millis(50);

/// What the cache holds for a key.
#[derive(Clone)]
struct Entry {
    /// `Arc<Loaded<D>>` behind a type that the cache needn't know; `None` if there is no such document.
    loaded: Option<Arc<dyn Any + Send + Sync>>,
    size: u64,
    /// When the store was asked, or written to: it is known to be the newest of that moment, not of the answer's.
    checked: Instant,
}

/// What the cache knows well enough.
enum Fresh<D> {
    /// `None` if there is no such document.
    Known(Option<Arc<Loaded<D>>>),
    Unknown,
}

/// A load that several wait for.
struct Flight {
    number: u64,
    epoch: u64,
    began: Instant,
    /// `WeakShared<Load<D>>`: it lives as long as somebody waits.
    load: Box<dyn Any + Send>,
}

type Load<D> = BoxFuture<'static, Result<Option<Arc<Loaded<D>>>, Arc<Error>>>;

pub(super) struct Documents {
    cache: Cache<Key, Entry>,
    ttl: Duration,
    /// Moves on with every change of what the cache knows.
    generation: AtomicU64,
    epochs: Vec<Mutex<u64>>,
    hasher: RandomState,
    flights: Mutex<HashMap<(Key, TypeId), Flight>>,
    heavy: Arc<Semaphore>,
}

impl Documents {
    pub(super) fn new(bytes: u64, ttl: Duration) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            // A parsed document takes about twice its text; a key and its bookkeeping a few hundred bytes.
            .weigher(|key: &Key, entry: &Entry| {
                let weight = entry.size.saturating_mul(2).saturating_add(key.as_str().len() as u64 + 512);
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            cache,
            ttl,
            generation: AtomicU64::new(0),
            epochs: (0..SHARDS).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
            flights: Mutex::default(),
            heavy: Arc::new(Semaphore::new(HEAVY_AT_ONCE)),
        }
    }

    /// The newest that this process knows of the document, and as of when.
    pub(super) fn cached<D: Document>(&self, key: &Key) -> Option<(Option<Arc<Loaded<D>>>, Instant)> {
        let entry = self.cache.get(key)?;
        match entry.loaded {
            Some(loaded) => loaded.downcast().ok().map(|loaded| (Some(loaded), entry.checked)),
            None => Some((None, entry.checked)),
        }
    }

    /// The same, if it was checked after `oldest`; that it is missing, for `missing` at most.
    fn fresh<D: Document>(&self, key: &Key, oldest: Option<Instant>, missing: Duration) -> Fresh<D> {
        let Some((loaded, checked)) = self.cached(key) else { return Fresh::Unknown };
        if oldest.is_some_and(|oldest| checked <= oldest) {
            return Fresh::Unknown;
        }
        match loaded {
            None if checked.elapsed() >= missing => Fresh::Unknown,
            loaded => Fresh::Known(loaded),
        }
    }

    /// Keeps what this process has just written.
    pub(super) fn written<D: Document>(&self, key: &Key, loaded: &Arc<Loaded<D>>) {
        if let Some(shard) = self.shard(key) {
            let mut epoch = shard.lock();
            *epoch += 1;
            self.insert(key, Some(loaded), Instant::now());
        }
    }

    /// Keeps what was asked for at `began`, in `epoch`, unless something was written meanwhile.
    fn read<D: Document>(&self, key: &Key, loaded: Option<&Arc<Loaded<D>>>, epoch: u64, began: Instant) {
        if let Some(shard) = self.shard(key) {
            let now = shard.lock();
            if *now == epoch {
                self.insert(key, loaded, began);
            }
        }
    }

    fn insert<D: Document>(&self, key: &Key, loaded: Option<&Arc<Loaded<D>>>, checked: Instant) {
        let entry = Entry {
            loaded: loaded.map(|loaded| Arc::clone(loaded) as Arc<dyn Any + Send + Sync>),
            size: loaded.map_or(0, |loaded| loaded.size),
            checked,
        };
        let known = self.cache.get(key);
        let is_known = known.is_some_and(|known| match (&known.loaded, &entry.loaded) {
            (Some(known), Some(loaded)) => Arc::ptr_eq(known, loaded),
            (None, None) => true,
            _ => false,
        });
        self.cache.insert(key.clone(), entry);
        if !is_known {
            self.generation.fetch_add(1, Release);
        }
    }

    /// Forgets what is known: the object was written or deleted past the documents.
    pub(super) fn forget(&self, key: &Key) {
        if let Some(shard) = self.shard(key) {
            let mut epoch = shard.lock();
            *epoch += 1;
            self.cache.invalidate(key);
            self.generation.fetch_add(1, Release);
        }
    }

    fn epoch(&self, key: &Key) -> u64 {
        self.shard(key).map_or(0, |shard| *shard.lock())
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<u64>> {
        self.epochs.get(self.hasher.hash_one(key) as usize % SHARDS)
    }

    /// Runs `job` here if it has few bytes to work on, else where it may take its time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: u64,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        if bytes <= HEAVY {
            return Ok(job());
        }
        let closed = |_| Error::unavailable("the registry is shutting down");
        let permit = Arc::clone(&self.heavy).acquire_owned().await.map_err(closed)?;
        let run = move || {
            let _permit = permit;
            job()
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(|error| Error::internal("work on a document failed").with_source(error))
    }
}

/// Takes a flight off the board when the last who waited for it leaves, arrived or not.
struct Waiting<'a, D: Document> {
    documents: &'a Documents,
    id: (Key, TypeId),
    number: u64,
    load: Option<Shared<Load<D>>>,
}

impl<D: Document> Waiting<'_, D> {
    async fn share(self) -> Result<Option<Arc<Loaded<D>>>> {
        match self.load.clone() {
            Some(load) => load.await.map_err(|error| Error::repeat(&error)),
            None => Err(Error::internal("a load was asked for after its end")),
        }
    }
}

impl<D: Document> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        self.load = None;
        let mut flights = self.documents.flights.lock();
        let over = flights.get(&self.id).is_some_and(|flight| {
            let load = flight.load.downcast_ref::<WeakShared<Load<D>>>();
            flight.number == self.number && load.is_none_or(|load| load.upgrade().is_none())
        });
        if over {
            flights.remove(&self.id);
        }
    }
}

impl Storage {
    /// A number that moves on with every change of a document that this process makes or learns of: what was read from documents stands while it is the same,
    /// for [`Storage::standing`] at most.
    pub fn generation(&self) -> u64 {
        self.0.documents.generation.load(Acquire)
    }

    /// How long what was read from documents is repeated without a look at them: a tenth of what others' changes may take to be seen at all.
    pub fn standing(&self) -> Duration {
        self.0.documents.ttl.min(NEGATIVE_TTL) / 10
    }

    /// A shared document, from memory if it was checked within the metadata TTL; `None` if there is none. Those who ask at the same
    /// time share one read; whoever goes away doesn't take it from the others.
    pub async fn document<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        let ttl = self.0.documents.ttl;
        match self.0.documents.fresh(key, Instant::now().checked_sub(ttl), ttl.min(NEGATIVE_TTL)) {
            Fresh::Known(loaded) => Ok(loaded),
            Fresh::Unknown => self.join(key, None).share().await,
        }
    }

    /// A shared document, from memory if the store was asked after `oldest`; without one, whenever that was.
    pub async fn document_since<D: Document>(
        &self,
        key: &Key,
        oldest: Option<Instant>,
    ) -> Result<Option<Arc<Loaded<D>>>> {
        // Who knows what has changed knows too what has come into being.
        let missing = if oldest.is_some() { Duration::MAX } else { NEGATIVE_TTL };
        match self.0.documents.fresh(key, oldest, missing) {
            Fresh::Known(loaded) => Ok(loaded),
            Fresh::Unknown => self.join(key, oldest).share().await,
        }
    }

    /// Joins the load of a document that is under way, if it began after `oldest`, or begins one.
    fn join<D: Document>(&self, key: &Key, oldest: Option<Instant>) -> Waiting<'_, D> {
        let documents = &self.0.documents;
        let id = (key.clone(), TypeId::of::<D>());
        let epoch = documents.epoch(key);
        let mut flights = documents.flights.lock();
        let last = flights.get(&id).map_or(0, |flight| flight.number);
        // A load that began before a write of ours, or too long ago, must not answer who asks after it.
        let joins =
            |flight: &&Flight| flight.epoch == epoch && oldest.is_none_or(|oldest| flight.began > oldest);
        if let Some(flight) = flights.get(&id).filter(joins)
            && let Some(load) =
                flight.load.downcast_ref::<WeakShared<Load<D>>>().and_then(WeakShared::upgrade)
        {
            return Waiting { documents, id, number: last, load: Some(load) };
        }
        let (storage, name) = (self.clone(), key.clone());
        let load: Load<D> =
            async move { storage.document_revalidated(&name).await.map_err(Arc::new) }.boxed();
        let load = load.shared();
        let number = last + 1;
        if let Some(weak) = load.downgrade() {
            let began = Instant::now();
            flights.insert(id.clone(), Flight { number, epoch, began, load: Box::new(weak) });
        }
        Waiting { documents, id, number, load: Some(load) }
    }

    /// The document as the store has it now: one conditional read.
    pub async fn document_revalidated<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        self.reload(key, true).await.map(|(loaded, _)| loaded)
    }

    /// The same, with the metadata of the object unless it is the one that was known, which is only asked for if `conditional`.
    pub(super) async fn reload<D: Document>(
        &self,
        key: &Key,
        conditional: bool,
    ) -> Result<(Option<Arc<Loaded<D>>>, Option<ObjectMeta>)> {
        let documents = &self.0.documents;
        let (epoch, began) = (documents.epoch(key), Instant::now());
        let cached = documents.cached::<D>(key).filter(|_| conditional);
        let known = cached.and_then(|(loaded, _)| loaded);
        let if_none_match = known.as_ref().map(|loaded| loaded.version.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let (loaded, meta) = match self.load(key, options).await {
            Ok((loaded, meta)) => (Some(loaded), Some(meta)),
            Err(Missing::NotFound) => (None, None),
            Err(Missing::NotModified) if known.is_some() => (known, None),
            Err(Missing::NotModified) => {
                return Err(Error::internal("the store answered not modified to a plain read"));
            }
            Err(Missing::Error(error)) => return Err(error),
        };
        documents.read(key, loaded.as_ref(), epoch, began);
        Ok((loaded, meta))
    }

    /// Deletes a document, and forgets it here at once; other processes forget it within the metadata TTL. One that isn't there is fine.
    pub async fn delete_document(&self, key: &Key) -> Result<()> {
        self.0.store.delete(key).await?;
        self.0.documents.forget(key);
        Ok(())
    }

    /// Reads and parses a document, past the cache.
    async fn load<D: Document>(
        &self,
        key: &Key,
        options: GetOptions,
    ) -> Result<(Arc<Loaded<D>>, ObjectMeta), Missing> {
        // Such a store may show a document while it is being replaced.
        let tries = if self.0.store.capabilities().cas == CasLevel::L2 { TORN_READS } else { 0 };
        for left in (0..=tries).rev() {
            let found = match self.0.store.get(key, options.clone()).await {
                Ok(found) => found,
                Err(StoreError::NotFound) => return Err(Missing::NotFound),
                Err(StoreError::NotModified) => return Err(Missing::NotModified),
                Err(error) => return Err(Missing::Error(error.into())),
            };
            let meta = found.meta.clone();
            let parsed = match whole(found, D::NAME, D::LIMIT).await {
                Ok(bytes) => self.parse(bytes, &meta).await,
                Err(error) => Err(error),
            };
            match parsed {
                Ok(loaded) => return Ok((Arc::new(loaded), meta)),
                Err(error) if left == 0 => return Err(Missing::Error(error)),
                Err(_) => tokio::time::sleep(TORN_PAUSE).await,
            }
        }
        Err(Missing::Error(Error::unavailable("the document could not be read; try again")))
    }

    async fn parse<D: Document>(&self, bytes: Bytes, meta: &ObjectMeta) -> Result<Loaded<D>> {
        let (size, version) = (bytes.len() as u64, meta.version.clone());
        // Other programs write it.
        let bytes = if bytes.starts_with(b"\xef\xbb\xbf") { bytes.slice(3..) } else { bytes };
        let document = self.0.documents.run(size, move || D::parse(&bytes)).await??;
        Ok(Loaded { document, version, size })
    }
}

enum Missing {
    NotFound,
    NotModified,
    Error(Error),
}

/// Reads a found object whole, within `limit`; one that comes in one piece is not copied.
pub(super) async fn whole(found: Found, name: &str, limit: u64) -> Result<Bytes> {
    let size = found.range.len();
    if size > limit {
        return Err(Error::internal(format!("the stored {name} is larger than the limit of {limit} bytes")));
    }
    let mut body = found.body;
    let first = body.next().await.transpose()?.unwrap_or_default();
    let bytes = if first.len() as u64 == size {
        first
    } else {
        let mut bytes = BytesMut::with_capacity(size as usize);
        bytes.extend_from_slice(&first);
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        bytes.freeze()
    };
    if bytes.len() as u64 != size {
        return Err(Error::unavailable(format!("the stored {name} came incomplete; try again")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
