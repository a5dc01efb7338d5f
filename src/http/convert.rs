//! Requests and answers between hyper and the core. Nothing is copied but a path: headers move, bodies stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::activity::Ticket;
use super::listener::Connection;
use crate::core::body::{Body, ByteStream};
use crate::core::error::{Error, Kind, Result};
use crate::core::origin;
use crate::core::request::{Query, Request};
use crate::core::response::Response;

/// Up to here a streamed answer is read before its head is sent: both leave in one write, and so in one packet where they fit.
const ONE_WRITE: u64 = 64 << 10;
/// Largest piece of an answer in memory that is handed over at once, so that what the client has taken can be seen.
const PIECE: usize = 256 << 10;
/// A drained body has this long, in all.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// hyper's request as the core's.
pub(super) fn request(connection: &Arc<Connection>, from: http::Request<Incoming>) -> Request {
    let (parts, incoming) = from.into_parts();
    let mut request = Request::new(parts.method, parts.uri.path());
    if let Some(query) = parts.uri.query() {
        request.query = Query::parse(query);
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let seen = origin::resolve(
        &parts.headers,
        authority,
        connection.secure,
        Some(connection.peer.ip()),
        connection.shared.registry.trust(),
    );
    request.origin = seen.origin;
    request.peer = seen.client;
    if !incoming.is_end_stream() {
        let length = incoming.size_hint().exact();
        let body = RequestBody {
            incoming: Some(incoming),
            multiplexed: parts.version == Version::HTTP_2,
            held_back: parts.headers.contains_key(header::EXPECT),
            connection: Arc::clone(connection),
            timer: None,
        };
        request.body = Body::stream(body, length);
    }
    request.headers = parts.headers;
    if seen.forwarded {
        request.adopt_forwarded_id();
    }
    request
}

/// The body of a request. Ends cleanly only if the client ended it.
struct RequestBody {
    /// `None` after its end.
    incoming: Option<Incoming>,
    multiplexed: bool,
    /// The client waits for `100 Continue` before it sends: hyper says it when the body is first asked for.
    held_back: bool,
    connection: Arc<Connection>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream for RequestBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.held_back = false;
        loop {
            let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => return this.wait(cx),
                Poll::Ready(Some(Ok(frame))) => {
                    this.timer = None;
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.incoming = None;
                    let error =
                        Error::new(Kind::Aborted, "the body broke off before its end").with_source(error);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    // A stream that the client resets with NO_ERROR looks ended; only END_STREAM is an end.
                    let cut = this.multiplexed && !incoming.is_end_stream();
                    this.incoming = None;
                    return Poll::Ready(
                        cut.then(|| Err(Error::new(Kind::Aborted, "the body broke off before its end"))),
                    );
                }
            }
        }
    }
}

impl RequestBody {
    /// Waits for the client, but not forever.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let patience = self.connection.shared.limits.stall_timeout();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.incoming = None;
        let message = format!("no part of the body arrived for {} s", patience.as_secs_f32());
        Poll::Ready(Some(Err(Error::new(Kind::Timeout, message))))
    }
}

impl Drop for RequestBody {
    /// An answer that comes before the body was read (401, 413) is only seen by clients that look while they send. Most write first and
    /// find a reset connection. So the rest is read for them, within bounds. HTTP/2 has a frame for that.
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        if self.multiplexed || self.held_back {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let bound = self.connection.shared.limits.drain_bytes;
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(incoming, bound)));
        }
    }
}

async fn drain(mut incoming: Incoming, bound: u64) {
    let mut left = bound;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let read = frame.data_ref().map_or(0, Bytes::len) as u64;
        if read > left {
            return;
        }
        left -= read;
    }
}

/// The core's answer as hyper's.
pub(super) async fn response(from: Response, ticket: Ticket) -> http::Response<ResponseBody> {
    let body = match from.body {
        Body::Bytes(bytes) => ResponseBody::whole(bytes, ticket),
        Body::Stream { stream, length: Some(length), .. } if length <= ONE_WRITE => {
            gather(stream.into_inner(), length, ticket).await
        }
        body @ Body::Stream { .. } => {
            let length = body.length();
            match body.into_stream() {
                Ok(stream) => ResponseBody { rest: Rest::Stream { stream, length }, ticket },
                Err(error) => ResponseBody { rest: Rest::Broken(Some(error)), ticket },
            }
        }
        // No answer carries what a host's body parser made.
        Body::Empty | Body::Json(_) | Body::Form(_) => ResponseBody { rest: Rest::Nothing, ticket },
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = from.status;
    *response.headers_mut() = from.headers;
    if let Some(reason) = from.reason
        && let Ok(reason) = hyper::ext::ReasonPhrase::try_from(reason)
    {
        response.extensions_mut().insert(reason);
    }
    response
}

/// A small stream as one piece.
async fn gather(stream: ByteStream, length: u64, ticket: Ticket) -> ResponseBody {
    let mut stream = match Body::stream(stream, Some(length)).into_stream() {
        Ok(stream) => stream,
        Err(error) => return ResponseBody { rest: Rest::Broken(Some(error)), ticket },
    };
    let mut whole: Option<BytesMut> = None;
    let mut only = Bytes::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) if only.is_empty() && whole.is_none() => only = chunk,
            Ok(chunk) => whole
                .get_or_insert_with(|| {
                    let mut buffer = BytesMut::with_capacity(length as usize);
                    buffer.extend_from_slice(&only);
                    buffer
                })
                .extend_from_slice(&chunk),
            Err(error) => return ResponseBody { rest: Rest::Broken(Some(error)), ticket },
        }
    }
    ResponseBody::whole(whole.map_or(only, BytesMut::freeze), ticket)
}

/// The body of an answer. Its error aborts the connection or resets the stream: the client sees that something is missing.
pub(super) struct ResponseBody {
    rest: Rest,
    ticket: Ticket,
}

enum Rest {
    Nothing,
    Whole(Bytes),
    Stream { stream: ByteStream, length: Option<u64> },
    Broken(Option<Error>),
}

impl ResponseBody {
    fn whole(bytes: Bytes, ticket: Ticket) -> Self {
        let rest = if bytes.is_empty() { Rest::Nothing } else { Rest::Whole(bytes) };
        Self { rest, ticket }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let chunk = match &mut this.rest {
            Rest::Nothing => return Poll::Ready(None),
            Rest::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                if bytes.is_empty() {
                    this.rest = Rest::Nothing;
                }
                Ok(piece)
            }
            Rest::Stream { stream, length } => match stream.as_mut().poll_next(cx) {
                Poll::Pending => {
                    this.ticket.ours(true);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(chunk))) => {
                    if let Some(left) = length {
                        *left = left.saturating_sub(chunk.len() as u64);
                    }
                    Ok(chunk)
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => {
                    this.rest = Rest::Nothing;
                    return Poll::Ready(None);
                }
            },
            Rest::Broken(error) => match error.take() {
                Some(error) => Err(error),
                None => return Poll::Ready(None),
            },
        };
        this.ticket.ours(false);
        this.ticket.progressed();
        match chunk {
            Ok(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            Err(error) => {
                tracing::warn!(causes = error.causes(), "an answer broke off: {}", error.message());
                this.rest = Rest::Nothing;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Rest::Stream { length: Some(length), .. } => SizeHint::with_exact(*length),
            Rest::Stream { length: None, .. } | Rest::Broken(_) => SizeHint::default(),
        }
    }
}
