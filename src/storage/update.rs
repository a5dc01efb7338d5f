//! Read, change, write if unchanged, try again: the only way to change a shared document.
//!
//! Changes of one process to one key go through one queue: those that arrive while a write is under way become one write together
//! ("group commit"). Sixty-four publishes of one package cost two or three writes, not sixty-four that fight each other. A change
//! that was accepted into the queue is carried out even when nobody waits for it any more.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::commit::{Batch, Change, UpdateFigures};
use super::document::{Document, Edit};
use super::{Key, Storage};
use crate::core::error::{Error, Result};
use crate::core::task;

/// Changes that wait in this process, by key and type of the document; each a `Batch<D>`. A key is here while a task works on it.
#[derive(Default)]
pub(super) struct Updates {
    queues: Mutex<HashMap<(Key, TypeId), Box<dyn Any + Send>>>,
}

impl Updates {
    /// Queues a change. `true` if nobody works on its key yet.
    fn push<D: Document>(&self, id: &(Key, TypeId), change: Box<dyn Change<D>>) -> bool {
        let mut queues = self.queues.lock();
        if let Some(waiting) = queues.get_mut(id).and_then(|queue| queue.downcast_mut::<Batch<D>>()) {
            waiting.push(change);
            return false;
        }
        let first: Batch<D> = vec![change];
        queues.insert(id.clone(), Box::new(first));
        true
    }

    /// All that wait; when nobody does, the key is given up.
    fn take<D: Document>(&self, id: &(Key, TypeId)) -> Option<Batch<D>> {
        let mut queues = self.queues.lock();
        let waiting = queues.get_mut(id).and_then(|queue| queue.downcast_mut::<Batch<D>>());
        let batch = waiting.map(std::mem::take).filter(|batch| !batch.is_empty());
        if batch.is_none() {
            queues.remove(id);
        }
        batch
    }

    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.queues.lock().is_empty()
    }
}

/// Works on a key until it finds nothing left to do. Gives the key up when its task ends otherwise: its runtime stops, or a panic.
struct Worker<D: Document> {
    storage: Storage,
    id: (Key, TypeId),
    /// Whether the key is its own. Once it has found nothing, the next who asks has another worker.
    owns: bool,
    /// Neither sends nor holds a document.
    document: std::marker::PhantomData<fn() -> D>,
}

impl<D: Document> Drop for Worker<D> {
    fn drop(&mut self) {
        // Dropped changes tell those who wait for them.
        while self.owns && self.next().is_some() {}
    }
}

impl<D: Document> Worker<D> {
    fn new(storage: Storage, id: (Key, TypeId)) -> Self {
        Self { storage, id, owns: true, document: std::marker::PhantomData }
    }

    async fn run(mut self) {
        // Whoever is about to ask for the same in this moment comes along.
        tokio::task::yield_now().await;
        while let Some(batch) = self.next() {
            self.storage.commit(&self.id.0, batch).await;
        }
    }

    fn next(&mut self) -> Option<Batch<D>> {
        let batch = self.storage.0.updates.take::<D>(&self.id);
        self.owns = batch.is_some();
        batch
    }
}

/// A change with the one who waits for it.
struct Waiting<R, F> {
    change: F,
    answer: Option<Result<Edit<R>>>,
    uncertain: bool,
    reply: oneshot::Sender<Result<(R, Option<u64>)>>,
}

impl<D, R, F> Change<D> for Waiting<R, F>
where
    D: Document,
    R: Send,
    F: Fn(&mut D) -> Result<Edit<R>> + Send,
{
    fn apply(&mut self, document: &mut D) -> Option<bool> {
        let answer = (self.change)(document);
        let changed = answer.as_ref().ok().map(|edit| matches!(edit, Edit::Changed(_)));
        self.answer = Some(answer);
        changed
    }

    fn broken(&mut self) {
        self.answer = Some(Err(Error::internal("a change of a document panicked")));
    }

    fn uncertain(&mut self) {
        // A refused change was not part of the write.
        self.uncertain |= matches!(self.answer, Some(Ok(Edit::Changed(_))));
    }

    fn settle(self: Box<Self>, size: u64) {
        let answer = match self.answer {
            Some(Ok(Edit::Changed(answer))) => Ok((answer, Some(size))),
            // Finding it done means that the write whose outcome was unknown has arrived, if there was one.
            Some(Ok(Edit::Unchanged(answer))) => Ok((answer, self.uncertain.then_some(size))),
            Some(Err(error)) => Err(error),
            None => Err(Error::internal("a change of a document was never applied")),
        };
        let _ = self.reply.send(answer);
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

impl Storage {
    /// Changes the document under `key` with `change`, which sees the newest one ([`Default`] if there is none) and may run several times:
    /// it must be pure, and must take finding its own effect already there for success. An `Err` leaves everything as it was.
    ///
    /// Answers what `change` answers, and the stored size if something was written. Dropping the future doesn't undo the change.
    ///
    /// # Errors
    /// What `change` refuses with; 413 beyond the document's limit; 503 when the key stays contended.
    pub async fn update<D, R, F>(&self, key: &Key, change: F) -> Result<(R, Option<u64>)>
    where
        D: Document,
        R: Send + 'static,
        F: Fn(&mut D) -> Result<Edit<R>> + Send + Sync + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let id = (key.clone(), TypeId::of::<D>());
        let change: Box<dyn Change<D>> = Box::new(Waiting { change, answer: None, uncertain: false, reply });
        if self.0.updates.push(&id, change) {
            task::spawn(Worker::<D>::new(self.clone(), id).run());
        }
        let gone = |_| Err(Error::unavailable("the change of this document was interrupted; try again"));
        answer.await.unwrap_or_else(gone)
    }

    /// What changing shared documents has cost so far.
    pub fn update_figures(&self) -> UpdateFigures {
        self.0.figures.snapshot()
    }
}

#[cfg(test)]
mod tests;
