//! A body that somebody writes, piece by piece, from another thread: bounded in bytes, told when nobody reads any more.
//!
//! The end is a message of its own. A writer that goes away or aborts makes an error: a cut body never looks complete.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use crate::core::body::Body;
use crate::core::error::{Error, Kind, Result};

/// Bytes that wait for the reader, at most.
pub const ROOM: usize = 1 << 20;

enum Piece {
    /// The permit is held until the reader takes the piece.
    Data(Bytes, OwnedSemaphorePermit),
    End,
    Abort(String),
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Taken.
    Taken,
    /// No room: wait with [`Push::write`].
    Full,
    /// Nobody reads any more: stop.
    Closed,
}

/// The writer's end.
pub struct Push {
    sender: Mutex<Option<mpsc::UnboundedSender<Piece>>>,
    reader: Mutex<Option<Reader>>,
    room: Arc<Semaphore>,
    length: Option<u64>,
}

/// The reader's end. With it goes the room: writers that wait are told at once.
struct Reader {
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Push {
    /// With the announced length, if there is one.
    pub fn new(length: Option<u64>) -> Self {
        let (sender, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let reader = Reader { pieces, room: Arc::clone(&room) };
        Self { sender: Mutex::new(Some(sender)), reader: Mutex::new(Some(reader)), room, length }
    }

    /// Hands a piece over if there is room.
    pub fn try_write(&self, piece: Bytes) -> Written {
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(weight(&piece)) {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return Written::Full,
            Err(TryAcquireError::Closed) => return Written::Closed,
        };
        if self.send(Piece::Data(piece, permit)) { Written::Taken } else { Written::Closed }
    }

    /// Hands a piece over when there is room; `false`: nobody reads any more, stop.
    pub fn write(&self, piece: Bytes) -> impl Future<Output = bool> + Send + 'static {
        let room = Arc::clone(&self.room);
        let sender = self.sender.lock().clone();
        async move {
            let Some(sender) = sender else { return false };
            let Ok(permit) = room.acquire_many_owned(weight(&piece)).await else { return false };
            sender.send(Piece::Data(piece, permit)).is_ok()
        }
    }

    /// All is written.
    pub fn end(&self) {
        self.send(Piece::End);
        self.sender.lock().take();
    }

    /// The source broke: what was written is not the whole body.
    pub fn abort(&self, reason: String) {
        self.send(Piece::Abort(reason));
        self.sender.lock().take();
    }

    /// The reader's end as a body. There is one.
    pub fn body(&self) -> Result<Body> {
        let reader =
            self.reader.lock().take().ok_or_else(|| Error::invalid("the body has been read already"))?;
        let pieces = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.pieces.recv().await {
                Some(Piece::Data(bytes, _permit)) => Some((Ok(bytes), Some(reader))),
                Some(Piece::End) => None,
                Some(Piece::Abort(reason)) => Some((Err(broken(&reason)), None)),
                None => Some((Err(broken("its source went away")), None)),
            }
        });
        Ok(Body::stream(pieces, self.length))
    }

    fn send(&self, piece: Piece) -> bool {
        self.sender.lock().as_ref().is_some_and(|sender| sender.send(piece).is_ok())
    }
}

fn broken(reason: &str) -> Error {
    Error::new(Kind::Aborted, format!("the request body broke off: {reason}"))
}

/// A piece larger than the whole room takes all of it.
fn weight(piece: &Bytes) -> u32 {
    piece.len().min(ROOM) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use futures_util::{FutureExt, StreamExt};

    use super::{Push, ROOM, Written};
    use crate::core::error::Kind;

    fn piece(size: usize) -> Bytes {
        Bytes::from(vec![1; size])
    }

    #[tokio::test]
    async fn what_is_written_and_ended_arrives() {
        let push = Push::new(Some(6));
        let body = push.body().unwrap();
        assert_eq!(push.try_write(piece(2)), Written::Taken);
        assert!(push.write(piece(4)).await);
        push.end();
        assert_eq!(body.into_bytes("body", 100).await.unwrap().len(), 6);
        assert!(push.body().is_err());
    }

    #[tokio::test]
    async fn a_writer_that_aborts_or_goes_away_has_not_ended() {
        for drops in [true, false] {
            let push = Push::new(None);
            let body = push.body().unwrap();
            push.try_write(piece(3));
            if !drops {
                push.abort("the client left".to_owned());
            }
            drop(push);
            let error = body.into_bytes("body", 100).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Aborted);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let push = Push::new(None);
        let mut stream = push.body().unwrap().into_stream().unwrap();
        assert_eq!(push.try_write(piece(ROOM)), Written::Taken);
        assert_eq!(push.try_write(piece(1)), Written::Full);
        let mut waiting = Box::pin(push.write(piece(1)));
        assert_eq!((&mut waiting).now_or_never(), None);
        assert_eq!(stream.next().await.unwrap().unwrap().len(), ROOM);
        assert!(waiting.await);
        // One piece may be larger than all the room.
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 1);
        assert_eq!(push.try_write(piece(3 * ROOM)), Written::Taken);
    }

    #[tokio::test]
    async fn a_writer_is_told_when_nobody_reads_any_more() {
        let push = Push::new(None);
        let body = push.body().unwrap();
        push.try_write(piece(ROOM));
        let waiting = push.write(piece(1));
        drop(body);
        assert!(!waiting.await);
        assert_eq!(push.try_write(piece(1)), Written::Closed);
        assert!(!push.write(piece(1)).await);
    }
}
