//! Hashing beside receiving: while one batch is hashed on a blocking thread, the next one arrives.

use std::mem;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::digest::{Algorithm, Digests, Hasher, Midstate};
use super::error::{Error, Result};

/// Bytes that are hashed at once: some tenths of a millisecond of work, so that waking a thread for it costs little.
const BATCH: usize = 512 << 10;
/// Fewer bytes than this are hashed before another thread could have begun.
const INLINE: usize = 32 << 10;

/// A [`Hasher`] that is fed from an async task. Holds two batches of the bytes at most.
pub struct Hashing {
    state: State,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    length: u64,
}

enum State {
    Idle(Hasher),
    Busy(JoinHandle<Hasher>),
}

impl Hashing {
    /// Begins with nothing hashed; without algorithms it only counts.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        Hasher::new(algorithms).into()
    }

    /// Bytes given so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes; waits while the batch before is still being hashed. Nothing is lost when the future is dropped.
    pub async fn update(&mut self, chunk: Bytes) -> Result<()> {
        self.length += chunk.len() as u64;
        self.waiting_bytes += chunk.len();
        self.waiting.push(chunk);
        if self.waiting_bytes >= BATCH {
            let hasher = mem::replace(self.settle().await?, Hasher::new(&[]));
            self.start(hasher);
        }
        Ok(())
    }

    /// The midstate after everything given so far.
    pub async fn save(&mut self) -> Result<Midstate> {
        Ok(self.catch_up().await?.save())
    }

    /// The digests of everything given.
    pub async fn finish(&mut self) -> Result<Digests> {
        Ok(mem::replace(self.catch_up().await?, Hasher::new(&[])).finish())
    }

    async fn catch_up(&mut self) -> Result<&mut Hasher> {
        let large = self.waiting_bytes > INLINE;
        let hasher = self.settle().await?;
        if large {
            let hasher = mem::replace(hasher, Hasher::new(&[]));
            self.start(hasher);
            return self.settle().await;
        }
        self.waiting_bytes = 0;
        let waiting = mem::take(&mut self.waiting);
        let State::Idle(hasher) = &mut self.state else { return Err(stopped()) };
        for chunk in waiting {
            hasher.update(&chunk);
        }
        Ok(hasher)
    }

    fn start(&mut self, mut hasher: Hasher) {
        self.waiting_bytes = 0;
        let batch = mem::take(&mut self.waiting);
        self.state = State::Busy(spawn_blocking(move || {
            for chunk in batch {
                hasher.update(&chunk);
            }
            hasher
        }));
    }

    /// Waits for the batch under way.
    async fn settle(&mut self) -> Result<&mut Hasher> {
        if let State::Busy(batch) = &mut self.state {
            let hasher = batch.await.map_err(|error| stopped().with_source(error))?;
            self.state = State::Idle(hasher);
        }
        match &mut self.state {
            State::Idle(hasher) => Ok(hasher),
            State::Busy(_) => Err(stopped()),
        }
    }
}

impl From<Hasher> for Hashing {
    fn from(hasher: Hasher) -> Self {
        let length = hasher.length();
        Self { state: State::Idle(hasher), waiting: Vec::new(), waiting_bytes: 0, length }
    }
}

fn stopped() -> Error {
    Error::internal("hashing stopped")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BATCH, Hashing};
    use crate::core::digest::{Algorithm, Digest};

    #[tokio::test]
    async fn any_sizes_give_the_digest_of_the_whole() {
        let whole: Bytes = (0..3 * BATCH + 77).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
        for step in [1000, BATCH - 1, BATCH, whole.len()] {
            let mut hashing = Hashing::new(&[Algorithm::Sha256]);
            for at in (0..whole.len()).step_by(step) {
                hashing.update(whole.slice(at..whole.len().min(at + step))).await.unwrap();
            }
            assert_eq!(hashing.length(), whole.len() as u64);
            let digests = hashing.finish().await.unwrap();
            assert_eq!(digests.get(Algorithm::Sha256), Some(&Digest::sha256(&whole)), "{step}");
            assert_eq!(digests.length, whole.len() as u64);
        }
    }

    #[tokio::test]
    async fn a_saved_state_has_everything_given() {
        let (front, back) = (Bytes::from(vec![7; BATCH + 5]), Bytes::from_static(b"the end"));
        let mut hashing = Hashing::new(&[Algorithm::Sha256]);
        hashing.update(front.clone()).await.unwrap();
        let mut other = Hashing::from(hashing.save().await.unwrap().restore().unwrap());
        assert_eq!(other.length(), front.len() as u64);
        other.update(back.clone()).await.unwrap();
        let digests = other.finish().await.unwrap();
        assert_eq!(digests.get(Algorithm::Sha256), Some(&Digest::sha256(&[front, back].concat())));
    }
}
