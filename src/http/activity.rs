//! Whether a connection is alive: who owes whom bytes, and since when.
//!
//! hyper bounds the reading of a head and nothing else. This is one small record per connection, written with relaxed atomics by its
//! socket, requests and bodies, and looked at now and then by the task that drives it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::HttpLimits;

/// The record of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Last byte in either direction, in milliseconds since `began`.
    moved: AtomicU64,
    /// Last time a response body was asked for more, or we had something to do.
    progressed: AtomicU64,
    /// Since when a head is awaited that has begun; `NONE` when no head is under way.
    head: AtomicU64,
    /// Requests whose answer is not out yet.
    open: AtomicUsize,
    /// Of these, how many wait for us: a handler that runs, a body whose source has nothing yet.
    ours: AtomicUsize,
    /// HTTP/2: idle connections exchange pings and settings, which begin no head.
    multiplexed: AtomicBool,
}

const NONE: u64 = u64::MAX;

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// It has had no request for long enough: end it politely.
    Idle,
    /// The client owes bytes for too long: cut it.
    Stalled(&'static str),
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            progressed: AtomicU64::new(0),
            // A connection begins with the duty to send a head.
            head: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            ours: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NONE - 1)
    }

    fn received(&self) {
        let now = self.now();
        self.moved.store(now, Relaxed);
        if self.open.load(Relaxed) == 0 && self.head.load(Relaxed) == NONE && !self.multiplexed.load(Relaxed)
        {
            self.head.store(now, Relaxed);
        }
    }

    fn sent(&self) {
        self.moved.store(self.now(), Relaxed);
    }

    /// A head is complete: a request begins.
    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool) -> Ticket {
        self.head.store(NONE, Relaxed);
        self.multiplexed.store(multiplexed, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.ours.fetch_add(1, Relaxed);
        Ticket { activity: Arc::clone(self), ours: true }
    }

    /// Looks at the connection. `closing`: it has been told to end.
    pub(super) fn verdict(&self, limits: &HttpLimits, closing: bool) -> Verdict {
        let now = self.now();
        let since = |moment: &AtomicU64| now.saturating_sub(moment.load(Relaxed));
        if self.open.load(Relaxed) > 0 {
            let client_owes = self.ours.load(Relaxed) == 0;
            let silent = since(&self.progressed).min(since(&self.moved)) > limits.stall_timeout_ms;
            let untouched =
                since(&self.progressed) > limits.stall_timeout_ms && self.multiplexed.load(Relaxed);
            return if client_owes && (silent || untouched) {
                Verdict::Stalled("the client does not take the answer")
            } else {
                Verdict::Fine
            };
        }
        let head = self.head.load(Relaxed);
        if head != NONE && now.saturating_sub(head) > limits.header_timeout_ms {
            return Verdict::Stalled("the headers did not come in time");
        }
        if closing && since(&self.moved) > limits.stall_timeout_ms {
            return Verdict::Stalled("the client does not take the end of the answer");
        }
        if !closing && since(&self.moved).min(since(&self.progressed)) > limits.idle_timeout_ms {
            return Verdict::Idle;
        }
        Verdict::Fine
    }
}

/// One request under way on a connection; ends when its answer is out or given up.
#[derive(Debug)]
pub(super) struct Ticket {
    activity: Arc<Activity>,
    ours: bool,
}

impl Ticket {
    /// Whether the next step is ours, or the client's.
    pub(super) fn ours(&mut self, ours: bool) {
        if ours != self.ours {
            self.ours = ours;
            if ours {
                self.activity.ours.fetch_add(1, Relaxed);
            } else {
                self.activity.ours.fetch_sub(1, Relaxed);
            }
        }
    }

    /// The client has taken something.
    pub(super) fn progressed(&self) {
        self.activity.progressed.store(self.activity.now(), Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ours(false);
        self.progressed();
        self.activity.open.fetch_sub(1, Relaxed);
    }
}

/// A socket that keeps the record.
pub(super) struct Watched<S> {
    pub(super) socket: S,
    pub(super) activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn note(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.activity.sent();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, data);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, data);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
