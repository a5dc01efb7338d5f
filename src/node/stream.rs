//! Bodies across the border, in pieces: [`Download`] is pulled by the facade, [`Upload`] is written to by it.
//!
//! In both directions the end is a message of its own. A channel that merely closes, because a task panicked or a handle was
//! dropped, is an error: a cut body never looks complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, stream};
use napi::bindgen_prelude::{Buffer, Null, PromiseRaw, ToNapiValue};
use napi::{Env, sys};
use napi_derive::napi;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::Out;
use super::request::owned;
use super::response::Chunk;
use crate::core::body::{Body, ByteStream};
use crate::core::error::{Error, Kind, Result};

/// Size to which the pieces of a download are put together: half the CPU of 64 KiB pieces, a quarter of the memory of 1 MiB ones.
pub(super) const CHUNK: usize = 256 << 10;
/// Enough to hand on when no more is ready.
const FLOOR: usize = 64 << 10;
/// How long less than [`FLOOR`] waits for more.
const LINGER: Duration = Duration::from_millis(10);
/// Pieces made ahead of the reader.
const AHEAD: usize = 2;
/// After so many bytes taken without a turn of the event loop the reader has to wait once: memory that JavaScript has let go is
/// only released between turns.
const TURN: usize = 1 << 20;

/// Counts the bodies whose source is held open.
#[derive(Default)]
pub(super) struct Live(AtomicU32);

impl Live {
    pub(super) fn count(&self) -> u32 {
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

/// A large body on its way out. Dropping or cancelling it releases the source at once, also during a pending read.
#[napi]
pub struct Download {
    shared: Arc<Shared>,
}

struct Shared {
    /// Taken out while a read waits.
    frames: Mutex<Option<mpsc::Receiver<Frame>>>,
    cancel: CancellationToken,
    since_turn: AtomicUsize,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// What `tryNext` gives: a buffer, null at the end, false for "wait for `next`".
pub enum Ready {
    /// A piece.
    Chunk(Chunk),
    /// The end.
    End,
    /// Nothing yet.
    Later,
}

impl ToNapiValue for Ready {
    // SAFETY: hands `env` on to the conversions of its parts.
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        match value {
            Self::Chunk(chunk) => unsafe { Chunk::to_napi_value(env, chunk) },
            Self::End => unsafe { Null::to_napi_value(env, Null) },
            Self::Later => unsafe { bool::to_napi_value(env, false) },
        }
    }
}

#[napi]
impl Download {
    /// A piece that is ready.
    #[napi(catch_unwind)]
    pub fn try_next(&self) -> Out<Ready> {
        Out(self.shared.try_next())
    }

    /// The next piece; null at the end and after `cancel`.
    #[napi(catch_unwind)]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<Option<Chunk>>>> {
        let shared = Arc::clone(&self.shared);
        env.spawn_future(async move { Ok(Out(shared.next().await)) })
    }

    /// Nobody wants the rest.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
        drop(self.shared.frames.lock().take());
    }
}

impl Download {
    /// Begins to read `body`, [`AHEAD`] pieces at most before anybody asks.
    pub(super) fn start(body: Body, live: &Arc<Live>, idle: Duration) -> Self {
        let (sender, frames) = mpsc::channel(AHEAD);
        let cancel = CancellationToken::new();
        let alive = live.enter();
        tokio::spawn(produce(body, sender, cancel.clone(), idle, alive));
        Self {
            shared: Arc::new(Shared {
                frames: Mutex::new(Some(frames)),
                cancel,
                since_turn: AtomicUsize::new(0),
            }),
        }
    }
}

impl Shared {
    fn try_next(&self) -> Result<Ready> {
        if self.cancel.is_cancelled() {
            return Ok(Ready::End);
        }
        if self.since_turn.load(Ordering::Relaxed) >= TURN {
            return Ok(Ready::Later);
        }
        let mut frames = self.frames.lock();
        let Some(receiver) = frames.as_mut() else { return Ok(Ready::Later) };
        match receiver.try_recv() {
            Ok(Frame::Data(bytes)) => {
                self.since_turn.fetch_add(bytes.len(), Ordering::Relaxed);
                Ok(Ready::Chunk(Chunk(bytes)))
            }
            Ok(Frame::End) => {
                self.cancel.cancel();
                Ok(Ready::End)
            }
            Ok(Frame::Failed(error)) => Err(error),
            Err(mpsc::error::TryRecvError::Empty) => Ok(Ready::Later),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(torn()),
        }
    }

    async fn next(&self) -> Result<Option<Chunk>> {
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
        self.since_turn.store(0, Ordering::Relaxed);
        match frame {
            Some(Frame::Data(bytes)) => Ok(Some(Chunk(bytes))),
            Some(Frame::End) => {
                self.cancel.cancel();
                Ok(None)
            }
            Some(Frame::Failed(error)) => Err(error),
            None => Err(torn()),
        }
    }
}

fn torn() -> Error {
    Error::new(Kind::Aborted, "the body broke off before its end")
}

/// Reads the body to its end, its failure, the reader's leave, or the end of the reader's patience.
async fn produce(
    body: Body,
    sender: mpsc::Sender<Frame>,
    cancel: CancellationToken,
    idle: Duration,
    alive: Alive,
) {
    let mut source = match body.into_stream() {
        Ok(stream) => Pieces { stream, rest: Bytes::new(), done: false },
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
        let last = !matches!(frame, Frame::Data(_));
        let sent = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            sent = timeout(idle, sender.send(frame)) => sent,
        };
        match sent {
            Ok(Ok(())) if !last => {}
            Ok(_) => return,
            Err(_) => break,
        }
    }
    // `pipe()` does not destroy its source when the client leaves: nobody reads and nobody cancels. The connection to the storage
    // must not wait for the garbage collector.
    drop((source, alive));
    let error = Error::new(Kind::Aborted, "the body was not read for too long and was given up");
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = sender.send(Frame::Failed(error)) => {}
    }
}

/// Puts small pieces together and takes large ones apart.
struct Pieces {
    stream: ByteStream,
    rest: Bytes,
    done: bool,
}

impl Pieces {
    async fn next(&mut self) -> Frame {
        let mut first = std::mem::take(&mut self.rest);
        while first.is_empty() {
            match self.pull().await {
                Some(Ok(bytes)) => first = bytes,
                Some(Err(error)) => return Frame::Failed(error),
                None => return Frame::End,
            }
        }
        if first.len() >= FLOOR {
            return Frame::Data(self.cut(first));
        }
        let mut whole = BytesMut::with_capacity(CHUNK);
        whole.extend_from_slice(&first);
        while whole.len() < CHUNK {
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
                    let room = bytes.len().min(CHUNK - whole.len());
                    whole.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    self.rest = bytes.slice(room..);
                }
                Some(Err(error)) => return Frame::Failed(error),
                None => {
                    self.done = true;
                    break;
                }
            }
        }
        Frame::Data(whole.freeze())
    }

    async fn pull(&mut self) -> Option<Result<Bytes>> {
        if self.done { None } else { self.stream.next().await }
    }

    /// At most four pieces' worth at a time: a source that yields tens of megabytes must not pin them all.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.len() <= 4 * CHUNK {
            return bytes;
        }
        let front = bytes.split_to(CHUNK);
        self.rest = bytes;
        front
    }
}

/// Bytes of an upload that wait for their reader, at most.
const WAITING: usize = 1 << 20;

enum Piece {
    Data(Bytes, #[allow(dead_code)] OwnedSemaphorePermit), // held until the reader takes the piece
    End,
    Abort(String),
}

/// A body on its way in, written by the facade and read by a handler.
#[napi]
pub struct Upload {
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

#[napi]
impl Upload {
    /// With the announced length, if there is one.
    #[napi(constructor, catch_unwind)]
    #[allow(clippy::cast_sign_loss)] // checked
    pub fn new(length: Option<f64>) -> Self {
        let (sender, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(WAITING));
        Self {
            sender: Mutex::new(Some(sender)),
            reader: Mutex::new(Some(Reader { pieces, room: Arc::clone(&room) })),
            room,
            length: length.filter(|length| length.is_finite() && *length >= 0.0).map(|length| length as u64),
        }
    }

    /// 1: taken; 0: no room, use `write`; -1: nobody reads any more, stop.
    #[napi(catch_unwind)]
    pub fn try_write(&self, piece: Buffer) -> i32 {
        if self.room.is_closed() {
            return -1;
        }
        match Arc::clone(&self.room).try_acquire_many_owned(weight(piece.len())) {
            Ok(permit) => i32::from(self.send(Piece::Data(owned(piece), permit))) * 2 - 1,
            Err(tokio::sync::TryAcquireError::NoPermits) => 0,
            Err(tokio::sync::TryAcquireError::Closed) => -1,
        }
    }

    /// Waits for room. False: nobody reads any more, stop.
    #[napi(catch_unwind)]
    pub fn write<'env>(&self, env: &'env Env, piece: Buffer) -> napi::Result<PromiseRaw<'env, bool>> {
        let room = Arc::clone(&self.room);
        let sender = self.sender.lock().clone();
        env.spawn_future(async move {
            let Some(sender) = sender else { return Ok(false) };
            let Ok(permit) = room.acquire_many_owned(weight(piece.len())).await else { return Ok(false) };
            Ok(sender.send(Piece::Data(owned(piece), permit)).is_ok())
        })
    }

    /// All is written.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.send(Piece::End);
        self.sender.lock().take();
    }

    /// The source broke: what was written is not the whole body.
    #[napi(catch_unwind)]
    pub fn abort(&self, reason: String) {
        self.send(Piece::Abort(reason));
        self.sender.lock().take();
    }
}

impl Upload {
    fn send(&self, piece: Piece) -> bool {
        self.sender.lock().as_ref().is_some_and(|sender| sender.send(piece).is_ok())
    }

    /// The reader's end as a body. There is one.
    pub(super) fn body(&self) -> Result<Body> {
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
}

fn broken(reason: &str) -> Error {
    Error::new(Kind::Aborted, format!("the request body broke off: {reason}"))
}

/// A piece larger than the whole room takes all of it.
fn weight(bytes: usize) -> u32 {
    bytes.min(WAITING) as u32
}
