//! A body that somebody pulls, piece by piece, from another thread: read a little ahead, released the moment nobody wants it.
//!
//! The end is a message of its own. A channel that merely closes, because the reading task panicked, is an error: a cut body never
//! looks complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::body::{Body, ByteStream};
use crate::core::error::{Error, Kind, Result};
use crate::core::task;

/// Size to which pieces are put together: half the CPU of 64 KiB pieces, a quarter of the memory of 1 MiB ones.
pub const PIECE: usize = 256 << 10;
/// Enough to hand on when no more is ready.
const FLOOR: usize = 64 << 10;
/// How long less than [`FLOOR`] waits for more.
const LINGER: Duration = Duration::from_millis(10);
/// Pieces made ahead of the reader.
const AHEAD: usize = 2;
/// After so many bytes taken without waiting the reader has to wait once: memory that a JavaScript thread has let go is only
/// released between turns of its event loop.
const TURN: usize = 1 << 20;

/// Counts the bodies whose source is held open.
#[derive(Debug, Default)]
pub struct Live(AtomicU32);

impl Live {
    /// How many there are now.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    fn enter(self: &Arc<Self>) -> Alive {
        self.0.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(self))
    }
}

struct Alive(Arc<Live>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Frame {
    Data(Bytes),
    End,
    Failed(Error),
}

/// What is there without waiting.
#[derive(Debug)]
pub enum Ready {
    /// A piece.
    Piece(Bytes),
    /// The end.
    End,
    /// Nothing yet: wait with [`Pull::next`].
    Later,
}

/// The reader's end. Cancelling or dropping it releases the source at once, also during a pending read.
pub struct Pull {
    /// Taken out while a read waits.
    frames: Mutex<Option<mpsc::Receiver<Frame>>>,
    cancel: CancellationToken,
    since_wait: AtomicUsize,
}

impl Pull {
    /// Begins to read `body` on the current runtime, two pieces ahead at most. After `idle` without a reader the source is let go: it is opened again
    /// for a reader who comes after all, or the body is given up where that is not possible.
    pub fn start(body: Body, live: &Arc<Live>, idle: Duration) -> Self {
        let (sender, frames) = mpsc::channel(AHEAD);
        let cancel = CancellationToken::new();
        task::spawn(produce(body, sender, cancel.clone(), idle, live.enter()));
        Self { frames: Mutex::new(Some(frames)), cancel, since_wait: AtomicUsize::new(0) }
    }

    /// Nobody wants the rest. A pending read is at its end.
    pub fn cancel(&self) {
        self.cancel.cancel();
        drop(self.frames.lock().take());
    }

    /// A piece that is ready.
    pub fn try_next(&self) -> Result<Ready> {
        if self.cancel.is_cancelled() {
            return Ok(Ready::End);
        }
        if self.since_wait.load(Ordering::Relaxed) >= TURN {
            return Ok(Ready::Later);
        }
        let mut frames = self.frames.lock();
        let Some(receiver) = frames.as_mut() else { return Ok(Ready::Later) };
        let frame = match receiver.try_recv() {
            Ok(frame) => Some(frame),
            Err(mpsc::error::TryRecvError::Empty) => return Ok(Ready::Later),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
        };
        drop(frames);
        let piece = self.open(frame)?;
        self.since_wait.fetch_add(piece.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        Ok(piece.map_or(Ready::End, Ready::Piece))
    }

    /// The next piece; `None` at the end and after [`Pull::cancel`].
    pub async fn next(&self) -> Result<Option<Bytes>> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let Some(mut receiver) = self.frames.lock().take() else {
            return Err(Error::invalid("the body is being read already"));
        };
        let frame = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Ok(None),
            frame = receiver.recv() => frame,
        };
        *self.frames.lock() = Some(receiver);
        self.since_wait.store(0, Ordering::Relaxed);
        self.open(frame)
    }

    fn open(&self, frame: Option<Frame>) -> Result<Option<Bytes>> {
        match frame {
            Some(Frame::Data(bytes)) => Ok(Some(bytes)),
            Some(Frame::End) => {
                self.cancel.cancel();
                Ok(None)
            }
            Some(Frame::Failed(error)) => Err(error),
            None => Err(Error::new(Kind::Aborted, "the body broke off before its end")),
        }
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Reads the body to its end, its failure, the reader's leave, or the end of the reader's patience.
async fn produce(
    body: Body,
    sender: mpsc::Sender<Frame>,
    cancel: CancellationToken,
    idle: Duration,
    alive: Alive,
) {
    let (live, park) = (Arc::clone(&alive.0), body.park());
    let mut alive = Some(alive);
    let mut source = match body.into_stream() {
        Ok(stream) => Pieces { stream, rest: Bytes::new(), after: None },
        Err(error) => {
            let _ = sender.send(Frame::Failed(error)).await;
            return;
        }
    };
    loop {
        let frame = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            frame = source.next() => frame,
        };
        if !matches!(frame, Frame::Data(_)) {
            // How it ended waits for its reader, and holds nothing.
            drop((source, alive));
            return tell(&sender, &cancel, frame).await;
        }
        let room = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            room = timeout(idle, sender.reserve()) => room,
        };
        match (room, &park) {
            (Ok(Ok(room)), _) => room.send(frame),
            (Ok(Err(_)), _) => return,
            // `pipe()` does not destroy its source when the client leaves: nobody reads and nobody cancels. The connection to the storage must
            // not wait for a garbage collector. But it may be a client that rests.
            (Err(_), Some(park)) => {
                park.park();
                alive.take();
                tell(&sender, &cancel, frame).await;
                alive = Some(live.enter());
            }
            (Err(_), None) => break,
        }
    }
    drop((source, alive));
    let error = Error::new(Kind::Aborted, "the body was not read for too long and was given up");
    tell(&sender, &cancel, Frame::Failed(error)).await;
}

/// Hands a frame on when there is room, however long that takes.
async fn tell(sender: &mpsc::Sender<Frame>, cancel: &CancellationToken, frame: Frame) {
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = sender.send(frame) => {}
    }
}

/// Puts small pieces together and takes large ones apart.
struct Pieces {
    stream: ByteStream,
    rest: Bytes,
    /// How the stream ended while a piece was being put together: told after that piece.
    after: Option<Frame>,
}

impl Pieces {
    async fn next(&mut self) -> Frame {
        let mut first = std::mem::take(&mut self.rest);
        while first.is_empty() {
            if let Some(end) = self.after.take() {
                return end;
            }
            match self.stream.next().await {
                Some(Ok(bytes)) => first = bytes,
                Some(Err(error)) => return Frame::Failed(error),
                None => return Frame::End,
            }
        }
        if first.len() >= FLOOR {
            return Frame::Data(self.cut(first));
        }
        self.gather(&first).await
    }

    /// Fills a piece with what is ready, or comes soon.
    async fn gather(&mut self, first: &[u8]) -> Frame {
        let mut whole = BytesMut::with_capacity(PIECE);
        whole.extend_from_slice(first);
        while whole.len() < PIECE && self.after.is_none() {
            let next = match self.stream.next().now_or_never() {
                Some(next) => next,
                None if whole.len() >= FLOOR => break,
                None => match timeout(LINGER, self.stream.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Some(Ok(bytes)) => {
                    let room = bytes.len().min(PIECE - whole.len());
                    whole.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    self.rest = bytes.slice(room..);
                }
                Some(Err(error)) => self.after = Some(Frame::Failed(error)),
                None => self.after = Some(Frame::End),
            }
        }
        Frame::Data(whole.freeze())
    }

    /// A source that yields tens of megabytes at once must not have them all in flight.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.len() <= 4 * PIECE {
            return bytes;
        }
        let front = bytes.split_to(PIECE);
        self.rest = bytes;
        front
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::{Live, PIECE, Pull, Ready};
    use crate::core::body::Body;
    use crate::core::error::{Error, Kind};

    const LONG: Duration = Duration::from_mins(5);

    fn start(body: Body) -> (Pull, Arc<Live>) {
        let live = Arc::new(Live::default());
        (Pull::start(body, &live, LONG), live)
    }

    async fn gone(live: &Live) {
        while live.count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn sizes(pull: &Pull) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(piece) = pull.next().await.unwrap() {
            sizes.push(piece.len());
        }
        sizes
    }

    fn pieces(count: usize, size: usize) -> Body {
        Body::stream(stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![7; size])))), None)
    }

    #[tokio::test]
    async fn small_pieces_are_put_together_and_large_ones_taken_apart() {
        let (pull, live) = start(pieces(100, 8 << 10));
        assert_eq!(sizes(&pull).await, [PIECE, PIECE, PIECE, 800 * 1024 - 3 * PIECE]);
        gone(&live).await;
        let (pull, _) = start(pieces(3, 200 << 10));
        assert_eq!(sizes(&pull).await, [200 << 10; 3]);
        let (pull, _) = start(Bytes::from(vec![0; 10 * PIECE + 1]).into());
        let sizes = sizes(&pull).await;
        assert_eq!(sizes.iter().sum::<usize>(), 10 * PIECE + 1);
        assert!(sizes.iter().all(|size| *size <= 4 * PIECE));
    }

    #[tokio::test]
    async fn a_panic_in_the_source_never_looks_like_the_end() {
        let broken = stream::iter([1, 2]).map(|at| {
            assert!(at == 1, "the source breaks");
            Ok(Bytes::from(vec![0; PIECE]))
        });
        let (pull, live) = start(Body::stream(broken, None));
        assert_eq!(pull.next().await.unwrap().unwrap().len(), PIECE);
        assert_eq!(pull.next().await.unwrap_err().kind(), Kind::Aborted);
        gone(&live).await;
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_told_before_it() {
        let broken = stream::iter([Ok(Bytes::from_static(b"first")), Err(Error::unavailable("no more"))]);
        let (pull, _) = start(Body::stream(broken, None));
        assert_eq!(pull.next().await.unwrap().unwrap(), "first");
        assert_eq!(pull.next().await.unwrap_err().kind(), Kind::Unavailable);
    }

    #[tokio::test]
    async fn a_body_shorter_than_announced_fails() {
        let short = Body::stream(stream::iter([Ok(Bytes::from_static(b"12345"))]), Some(6));
        let (pull, _) = start(short);
        pull.next().await.unwrap();
        assert_eq!(pull.next().await.unwrap_err().kind(), Kind::Aborted);
    }

    #[tokio::test]
    async fn cancelling_reaches_a_pending_read_and_releases_the_source() {
        let (pull, live) = start(Body::stream(stream::pending(), None));
        let pull = Arc::new(pull);
        let waiting = tokio::spawn({
            let pull = Arc::clone(&pull);
            async move { pull.next().await.unwrap() }
        });
        while pull.frames.lock().is_some() {
            tokio::task::yield_now().await;
        }
        pull.cancel();
        assert_eq!(waiting.await.unwrap(), None);
        gone(&live).await;
        assert!(matches!(pull.try_next().unwrap(), Ready::End));
        let (pull, live) = start(Body::stream(stream::pending(), None));
        drop(pull);
        gone(&live).await;
    }

    #[tokio::test]
    async fn reads_no_further_ahead_than_it_must() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let endless = stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(Bytes::from(vec![0; PIECE]))
        });
        let (pull, _) = start(Body::stream(endless, None));
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 3);
        drop(pull);
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_lets_its_source_go() {
        let live = Arc::new(Live::default());
        let pull = Pull::start(pieces(10, PIECE), &live, Duration::from_millis(20));
        gone(&live).await;
        let mut taken = 0;
        let error = loop {
            match pull.next().await {
                Ok(Some(_)) => taken += 1,
                Ok(None) => panic!("looks complete after {taken} of 10 pieces"),
                Err(error) => break error,
            }
        };
        assert!(error.message().contains("not read for too long"), "{error}");
    }

    #[tokio::test]
    async fn a_reader_may_rest_where_the_source_can_be_opened_again() {
        let live = Arc::new(Live::default());
        let opened = Arc::new(AtomicUsize::new(0));
        let whole: Vec<u8> = (0..10 * PIECE).map(|at| (at / 1000) as u8).collect();
        let from = |at: u64| {
            let rest = Bytes::from(whole.clone()).slice(at as usize..);
            let chunks: Vec<_> =
                rest.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            Box::pin(stream::iter(chunks)) as crate::core::body::ByteStream
        };
        let (begin, again) = (from(0), whole.clone());
        let counted = Arc::clone(&opened);
        let reopen: crate::core::park::Reopen = Box::new(move |at| {
            counted.fetch_add(1, Ordering::SeqCst);
            let rest = Bytes::from(again.clone()).slice(at as usize..);
            Box::pin(async move { Ok(Box::pin(stream::iter([Ok(rest)])) as crate::core::body::ByteStream) })
        });
        let body = Body::reopening(begin, whole.len() as u64, reopen);
        let pull = Pull::start(body, &live, Duration::from_millis(20));
        let mut got = pull.next().await.unwrap().unwrap().to_vec();
        for rest in [0, 30] {
            gone(&live).await;
            tokio::time::sleep(Duration::from_millis(rest)).await;
            assert_eq!(live.count(), 0, "nothing is held while the reader rests");
            got.extend(pull.next().await.unwrap().unwrap());
        }
        while let Some(piece) = pull.next().await.unwrap() {
            got.extend(piece);
        }
        assert!(got == whole && opened.load(Ordering::SeqCst) > 0);
    }

    #[tokio::test]
    async fn a_body_that_was_read_to_its_end_waits_for_its_reader() {
        let live = Arc::new(Live::default());
        let pull = Pull::start(pieces(2, PIECE), &live, Duration::from_millis(5));
        gone(&live).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(sizes(&pull).await, [PIECE; 2]);
    }

    #[tokio::test]
    async fn a_fast_source_still_makes_the_reader_wait_now_and_then() {
        let (pull, _) = start(pieces(40, PIECE));
        let mut in_a_row = 0;
        loop {
            match pull.try_next().unwrap() {
                Ready::Piece(_) => in_a_row += 1,
                Ready::End => break,
                Ready::Later => {
                    assert!(in_a_row <= 5, "{in_a_row} pieces without a turn of the event loop");
                    in_a_row = 0;
                    if pull.next().await.unwrap().is_none() {
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
