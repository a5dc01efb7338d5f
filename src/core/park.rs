//! A stream whose source can be let go while nobody reads, and is opened again where it was when somebody does.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;

use super::body::ByteStream;
use super::error::Result;

/// Opens a source again from so many bytes after its beginning.
pub type Reopen = Box<dyn Fn(u64) -> BoxFuture<'static, Result<ByteStream>> + Send>;

/// Lets go of the source of a stream that is not being read.
#[derive(Clone)]
pub struct Park(Arc<Mutex<State>>);

struct State {
    source: Source,
    /// Bytes that came out so far, of so many in all.
    given: u64,
    length: u64,
    reopen: Reopen,
}

enum Source {
    Open(ByteStream),
    Parked,
    Opening(BoxFuture<'static, Result<ByteStream>>),
    Over,
}

impl Park {
    /// The stream of `length` bytes over `source`, and what parks it.
    pub fn new(source: ByteStream, length: u64, reopen: Reopen) -> (Self, ByteStream) {
        let state = State { source: Source::Open(source), given: 0, length, reopen };
        let park = Self(Arc::new(Mutex::new(state)));
        (park.clone(), Box::pin(Parkable(park.0)))
    }

    /// Lets the source go: file or connection are free. The stream goes on all the same when it is read.
    pub fn park(&self) {
        let mut state = self.0.lock();
        if matches!(state.source, Source::Open(_) | Source::Opening(_)) {
            state.source = Source::Parked;
        }
    }
}

impl fmt::Debug for Park {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Park")
    }
}

struct Parkable(Arc<Mutex<State>>);

impl Stream for Parkable {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        let State { source, given, length, reopen } = &mut *state;
        let outcome = loop {
            match source {
                Source::Over => return Poll::Ready(None),
                Source::Parked if given >= length => break None,
                Source::Parked => *source = Source::Opening(reopen(*given)),
                Source::Opening(opening) => match ready!(opening.poll_unpin(cx)) {
                    Ok(opened) => *source = Source::Open(opened),
                    Err(error) => break Some(Err(error)),
                },
                Source::Open(open) => break ready!(open.poll_next_unpin(cx)),
            }
        };
        match &outcome {
            Some(Ok(bytes)) => *given += bytes.len() as u64,
            Some(Err(_)) | None => *source = Source::Over,
        }
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;
    use crate::core::error::Error;

    const TEXT: &[u8] = b"0123456789";

    fn from(at: u64) -> ByteStream {
        Box::pin(stream::iter(TEXT[at as usize..].iter().map(|byte| Ok(Bytes::copy_from_slice(&[*byte])))))
    }

    fn parkable(opened: &Arc<AtomicUsize>) -> (Park, ByteStream) {
        let opened = Arc::clone(opened);
        let reopen: Reopen = Box::new(move |at| {
            opened.fetch_add(1, Ordering::SeqCst);
            async move { if at == 7 { Err(Error::unavailable("replaced")) } else { Ok(from(at)) } }.boxed()
        });
        Park::new(from(0), TEXT.len() as u64, reopen)
    }

    #[tokio::test]
    async fn goes_on_where_it_was_however_often_it_is_parked() {
        let opened = Arc::new(AtomicUsize::new(0));
        let (park, mut stream) = parkable(&opened);
        let mut got = Vec::new();
        for at in 0..TEXT.len() {
            if matches!(at, 0 | 3 | 4) {
                park.park();
                park.park();
            }
            got.extend(stream.next().await.unwrap().unwrap());
        }
        // All has come out but the end: nothing is opened for that.
        park.park();
        assert!(stream.next().await.is_none() && stream.next().await.is_none());
        assert_eq!((got.as_slice(), opened.load(Ordering::SeqCst)), (TEXT, 3));
    }

    #[tokio::test]
    async fn what_can_not_be_opened_again_fails_once_and_is_over() {
        let opened = Arc::new(AtomicUsize::new(0));
        let (park, mut stream) = parkable(&opened);
        for _ in 0..7 {
            stream.next().await.unwrap().unwrap();
        }
        park.park();
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "replaced");
        park.park();
        assert!(stream.next().await.is_none());
    }
}
