//! One commit of a batch of changes: apply them all, write once on the condition that nobody else has, settle what is unknown.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::document::{Document, Loaded};
use super::store::{CasLevel, Condition, ObjectMeta, PutOptions};
use super::{Key, Storage, StoreError};
use crate::core::error::{Error, Kind, Result};
use crate::core::id;

/// Rounds before a batch gives up with 503, and the time they may take in all.
const ROUNDS: u32 = 15;
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What a write is thought to take before the first was measured.
const FIRST_LATENCY: Duration = Duration::from_millis(40);
/// How many measured writes the median is taken of.
const MEASURED: usize = 31;
/// User metadata that names the write an object came from: how a write with an unknown outcome is recognised.
const WRITE: &str = "sr-w";

/// What the writes of this process cost, for the pause between two tries and for figures.
#[derive(Default)]
pub(super) struct Figures {
    latencies: Mutex<VecDeque<Duration>>,
    writes: AtomicU64,
    commits: AtomicU64,
    changes: AtomicU64,
}

/// What changing shared documents has cost a process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpdateFigures {
    /// Writes that were tried.
    pub writes: u64,
    /// Writes that succeeded, each a batch.
    pub commits: u64,
    /// Changes that were part of those.
    pub changes: u64,
}

impl Figures {
    pub(super) fn snapshot(&self) -> UpdateFigures {
        UpdateFigures {
            writes: self.writes.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
        }
    }

    fn measured(&self, latency: Duration) {
        let mut latencies = self.latencies.lock();
        latencies.push_back(latency);
        if latencies.len() > MEASURED {
            latencies.pop_front();
        }
    }

    fn median(&self) -> Duration {
        let mut latencies: Vec<_> = self.latencies.lock().iter().copied().collect();
        latencies.sort_unstable();
        latencies.get(latencies.len() / 2).copied().unwrap_or(FIRST_LATENCY)
    }

    /// A pause before round `round`, anywhere between none and twice as long as before the last ("full jitter"): writers that met
    /// once don't meet again.
    fn pause(&self, round: u32) -> Duration {
        let ceiling = self.median().saturating_mul(1 << round.min(12)).min(LONGEST_PAUSE);
        let share = getrandom::u32().unwrap_or(u32::MAX / 2);
        ceiling.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// One change in a batch, whatever it answers.
pub(super) trait Change<D>: Send {
    /// Applies it and keeps the answer for later; whether the document changed, or `None` for a refusal.
    fn apply(&mut self, document: &mut D) -> Option<bool>;
    /// A panic instead of an answer.
    fn broken(&mut self);
    /// Its effect may be in the store although nobody said so.
    fn uncertain(&mut self);
    /// Hands out the kept answer: the document is as it says, `size` bytes of it.
    fn settle(self: Box<Self>, size: u64);
    /// Hands out an error instead.
    fn fail(self: Box<Self>, error: Error);
}

pub(super) type Batch<D> = Vec<Box<dyn Change<D>>>;

/// A document that is ready to be written.
struct Ready<D> {
    document: D,
    bytes: Bytes,
}

/// Applies a batch, each change on a copy, so that a refused one leaves the others alone. `None` when there is nothing to write.
fn apply<D: Document>(base: Option<&Loaded<D>>, batch: &mut Batch<D>) -> Result<Option<Ready<D>>> {
    let mut document = base.map_or_else(D::default, |loaded| loaded.document.clone());
    let mut changed = false;
    let last = batch.len().saturating_sub(1);
    for (at, change) in batch.iter_mut().enumerate() {
        // What is left of a refused last change is not looked at unless one before it has changed something.
        let before = (at < last || changed).then(|| document.clone());
        let outcome = catch_unwind(AssertUnwindSafe(|| change.apply(&mut document)));
        match outcome {
            Ok(Some(true)) => changed = true,
            Ok(Some(false) | None) => restore(&mut document, before),
            Err(_) => {
                change.broken();
                restore(&mut document, before);
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    let bytes = document.serialize()?;
    if bytes.len() as u64 > D::LIMIT {
        return Err(Error::too_large(D::NAME, D::LIMIT));
    }
    Ok(Some(Ready { document, bytes }))
}

fn restore<D>(document: &mut D, before: Option<D>) {
    if let Some(before) = before {
        *document = before;
    }
}

/// How a round ended.
enum Round<D: Document> {
    /// Everybody has their answer.
    Done,
    /// The store refuses, or nobody can tell what it has.
    Failed(Batch<D>, Error),
    /// What the batch makes of the document can't be stored.
    Unfit(Batch<D>, Error),
    /// Somebody else was faster, or nobody knows.
    Again(Batch<D>),
}

/// A commit under way.
struct Commit<'a, D: Document> {
    storage: &'a Storage,
    key: &'a Key,
    /// The document to change, and how it is known.
    base: Option<Arc<Loaded<D>>>,
    basis: Basis,
    /// Writes of this commit whose outcome nobody knows.
    unknown: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// Not yet.
    None,
    /// From the cache: good enough to write on, since the condition tells; not to refuse on.
    Cached,
    /// From the store, by this commit.
    Asked,
}

/// Why a batch was not committed; in `unfit`, single changes of it may be all the same.
struct Refused<D> {
    batch: Batch<D>,
    error: Error,
    unfit: bool,
}

impl Storage {
    /// Commits a batch and answers everybody in it.
    pub(super) async fn commit<D: Document>(&self, key: &Key, batch: Batch<D>) {
        // Without conditional writes nothing would tell that the cached document is an old one.
        let trusted = self.0.store.capabilities().cas != CasLevel::L2;
        let cached = self.0.documents.cached::<D>(key).filter(|_| trusted);
        let basis = if cached.is_some() { Basis::Cached } else { Basis::None };
        let base = cached.and_then(|(loaded, _)| loaded);
        let mut commit = Commit { storage: self, key, base, basis, unknown: Vec::new() };
        match commit.run(batch).await {
            Ok(()) => {}
            // One that alone would fit must not fail for another's sake.
            Err(Refused { batch, unfit: true, .. }) if batch.len() > 1 => {
                for change in batch {
                    let mut single =
                        Commit { storage: self, key, base: None, basis: Basis::None, unknown: Vec::new() };
                    if let Err(refused) = single.run(vec![change]).await {
                        fail(refused);
                    }
                }
            }
            Err(refused) => fail(refused),
        }
    }
}

fn fail<D>(refused: Refused<D>) {
    let error = Arc::new(refused.error);
    for change in refused.batch {
        change.fail(Error::repeat(&error));
    }
}

fn settle<D>(batch: Batch<D>, size: u64) {
    for change in batch {
        change.settle(size);
    }
}

impl<D: Document> Commit<'_, D> {
    async fn run(&mut self, mut batch: Batch<D>) -> Result<(), Refused<D>> {
        let begun = Instant::now();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(self.storage.0.figures.pause(round)).await;
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            if self.basis == Basis::None || round > 0 {
                match self.look().await {
                    Ok(true) => {
                        settle(batch, self.size());
                        return Ok(());
                    }
                    Ok(false) => {}
                    Err(error) if error.kind() == Kind::Unavailable => continue,
                    Err(error) => return Err(Refused { batch, error, unfit: false }),
                }
            }
            batch = match self.round(batch).await {
                Round::Done => return Ok(()),
                Round::Failed(batch, error) => return Err(Refused { batch, error, unfit: false }),
                Round::Unfit(batch, error) => return Err(Refused { batch, error, unfit: true }),
                Round::Again(batch) => batch,
            };
        }
        let error = Error::unavailable("too many changes to this document at the same time; try again");
        Err(Refused { batch, error, unfit: false })
    }

    fn size(&self) -> u64 {
        self.base.as_ref().map_or(0, |loaded| loaded.size)
    }

    /// Reads the document as it is now. `true` if it is what one of our writes with an unknown outcome has written.
    async fn look(&mut self) -> Result<bool> {
        let (loaded, meta) = self.storage.reload::<D>(self.key, self.unknown.is_empty()).await?;
        self.base = loaded;
        self.basis = Basis::Asked;
        let ours = |meta: &ObjectMeta| meta.user.get(WRITE).is_some_and(|id| self.unknown.contains(id));
        Ok(meta.as_ref().is_some_and(ours))
    }

    async fn round(&mut self, batch: Batch<D>) -> Round<D> {
        let (batch, applied) = match self.apply(batch).await {
            Ok(applied) => applied,
            Err(error) => return Round::Failed(Vec::new(), error),
        };
        match applied {
            Ok(Some(ready)) => self.write(batch, ready).await,
            Err(error) => Round::Unfit(batch, error),
            Ok(None) if self.basis == Basis::Asked => {
                settle(batch, self.size());
                Round::Done
            }
            // A refusal must not rest on what may have changed elsewhere meanwhile.
            Ok(None) => match self.look().await {
                Ok(_) => Box::pin(self.round(batch)).await,
                Err(error) if error.kind() == Kind::Unavailable => Round::Again(batch),
                Err(error) => Round::Failed(batch, error),
            },
        }
    }

    async fn apply(&self, mut batch: Batch<D>) -> Result<(Batch<D>, Result<Option<Ready<D>>>)> {
        let base = self.base.clone();
        let size = self.size();
        let job = move || {
            let applied = apply(base.as_deref(), &mut batch);
            (batch, applied)
        };
        self.storage.0.documents.run(size, job).await
    }

    async fn write(&mut self, mut batch: Batch<D>, ready: Ready<D>) -> Round<D> {
        let Ready { document, bytes } = ready;
        let (figures, store) = (&self.storage.0.figures, &self.storage.0.store);
        let condition = match &self.base {
            _ if store.capabilities().cas == CasLevel::L2 => Condition::Always,
            Some(loaded) => Condition::Matches(loaded.version.clone()),
            None => Condition::Absent,
        };
        let write = id::uuid();
        let options = PutOptions {
            condition,
            content_type: Some(D::CONTENT_TYPE.to_owned()),
            user: [(WRITE.to_owned(), write.clone())].into(),
        };
        let size = bytes.len() as u64;
        let begun = Instant::now();
        figures.writes.fetch_add(1, Ordering::Relaxed);
        match store.put(self.key, bytes.into(), options).await {
            Ok(version) => {
                figures.measured(begun.elapsed());
                figures.commits.fetch_add(1, Ordering::Relaxed);
                figures.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                let loaded = Arc::new(Loaded { document, version, size });
                self.storage.0.documents.written(self.key, &loaded);
                settle(batch, size);
                Round::Done
            }
            Err(StoreError::Precondition | StoreError::Conflict | StoreError::NotFound) => {
                Round::Again(batch)
            }
            Err(StoreError::Unknown(_) | StoreError::Throttled(_)) => {
                self.unknown.push(write);
                self.storage.0.documents.forget(self.key);
                for change in &mut batch {
                    change.uncertain();
                }
                Round::Again(batch)
            }
            Err(error) => Round::Failed(batch, error.into()),
        }
    }
}
