//! Reading: one hop to the blocking pool for a small object, a stream with two reads in flight for a large one.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::folder::Folder;
use super::{failed, meta, os};
use crate::core::body::ByteStream;
use crate::core::error::{Error, Result};
use crate::core::range::ByteRange;
use crate::core::task;
use crate::storage::store::{Found, GetOptions, ObjectMeta, StoreResult};
use crate::storage::{Key, StoreError};

/// Bytes of one read: large enough that the hop doesn't count.
const CHUNK: u64 = 256 << 10;
/// And with many readers, who each hold a few.
const LEAST: u64 = 32 << 10;
/// Reads under way while the consumer has the last one; one, where there are many readers.
const AHEAD: usize = 2;
/// Bytes that all readers together hold of what they read ahead, about.
const HELD: u64 = 32 << 20;

/// Reads at one time: a disk is no faster with more, and an allocator keeps what each of the threads has ever taken.
const AT_ONCE: usize = 16;

/// Who reads a large object at the moment, counted by the copies of this.
#[derive(Clone)]
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Readers {
    /// Waits for a turn to read.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// Bytes of the next read, so that a thousand slow readers take no more memory than a few.
    fn chunk(&self) -> u64 {
        // The store has one copy itself.
        let readers = Arc::strong_count(&self.0).saturating_sub(1).max(1) as u64;
        let share = (HELD / (readers * (AHEAD as u64 + 1))).clamp(LEAST, CHUNK);
        // Few sizes: an allocator keeps room for each.
        1 << share.ilog2()
    }
}

/// An object that is open, with its first bytes.
pub(super) struct Opened {
    file: File,
    meta: ObjectMeta,
    range: ByteRange,
    first: Bytes,
}

/// Opens an object and reads the first chunk of what is asked for.
pub(super) fn get(
    folder: &Folder,
    key: &Key,
    options: &GetOptions,
    readers: &Readers,
) -> StoreResult<Opened> {
    let (file, found) = folder.open(key)?;
    let meta = meta::read(&folder.root, &file, &found);
    if options.if_none_match.as_ref() == Some(&meta.version) {
        return Err(StoreError::NotModified);
    }
    if options.if_match.as_ref().is_some_and(|wanted| *wanted != meta.version) {
        return Err(StoreError::Precondition);
    }
    let range = options.resolve(meta.size)?;
    let first = range.len().min(readers.chunk()) as usize;
    let bytes = os::read_at(&file, range.start, first, Vec::with_capacity(first));
    let first = exactly(bytes, first as u64).map_err(failed)?;
    Ok(Opened { file, meta, range, first })
}

impl Opened {
    pub(super) fn into_found(self, readers: &Readers) -> Found {
        let Self { file, meta, range, first } = self;
        let next = range.start + first.len() as u64;
        let head = stream::iter((!first.is_empty()).then_some(Ok(first)));
        let body: ByteStream = if next < range.end {
            Box::pin(head.chain(rest(file, next, range.end, readers.clone())))
        } else {
            Box::pin(head)
        };
        Found { meta, range, body }
    }
}

/// What follows the first chunk.
fn rest(file: File, start: u64, end: u64, readers: Readers) -> ByteStream {
    let file = Arc::new(file);
    let ahead = if readers.chunk() < CHUNK { 1 } else { AHEAD };
    let reads = stream::iter(pieces(start, end, readers.clone())).map(move |(at, len)| {
        let (file, readers) = (Arc::clone(&file), readers.clone());
        // A task, so that it goes on while what came before is sent.
        let read = task::spawn(async move {
            let turn = readers.turn().await;
            // Made here and not on the blocking thread, whose share of memory would grow with it.
            let room = Vec::with_capacity(len as usize);
            let read = move || {
                let _turn = turn;
                exactly(os::read_at(&file, at, len as usize, room), len)
            };
            tokio::task::spawn_blocking(read).await
        });
        async move { chunk(AbortOnDropHandle::new(read).await.and_then(|read| read)) }
    });
    Box::pin(reads.buffered(ahead))
}

/// Offset and length of each read; the length as it is right when its turn comes.
fn pieces(start: u64, end: u64, readers: Readers) -> impl Iterator<Item = (u64, u64)> + Send {
    let mut at = start;
    std::iter::from_fn(move || {
        let len = readers.chunk().min(end - at);
        let piece = (at, len);
        at += len;
        (len > 0).then_some(piece)
    })
}

fn chunk(read: Result<std::io::Result<Bytes>, tokio::task::JoinError>) -> Result<Bytes> {
    let broken = |error| Error::internal("reading from the storage folder failed").with_source(error);
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(broken(Box::<dyn std::error::Error + Send + Sync>::from(error))),
        Err(error) => Err(broken(error.into())),
    }
}

/// Bytes that were there at the beginning must be there still: a file that a foreign program cuts must not look complete.
fn exactly(read: std::io::Result<Vec<u8>>, len: u64) -> std::io::Result<Bytes> {
    let bytes = read?;
    if bytes.len() as u64 == len { Ok(bytes.into()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_readers_take_small_pieces_and_every_byte_once() {
        let readers = Readers::default();
        let others: Vec<_> = (0..500).map(|_| readers.clone()).collect();
        assert_eq!(readers.chunk(), LEAST);
        let mut few = pieces(7, 7 + 3 * CHUNK + 1, readers.clone());
        assert_eq!(few.next(), Some((7, LEAST)));
        drop(others);
        let (mut at, mut largest) = (7 + LEAST, 0);
        for (start, len) in few {
            assert_eq!(start, at);
            at += len;
            largest = largest.max(len);
        }
        assert_eq!((at, largest), (7 + 3 * CHUNK + 1, CHUNK));
    }
}
