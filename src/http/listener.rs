//! Accepting connections, driving each to its end, and running the requests that come over it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Verdict, Watched};
use super::convert::{self, ResponseBody};
use super::limits::HttpLimits;
use super::tls::Certificates;
use super::{Shared, observe};
use crate::core::response::Response;
use crate::core::task;

/// Bytes that an HTTP/1.1 connection holds, at most, of what is to be written or of a head: what a slow client costs, times the number of them.
const BUFFER: usize = 64 << 10;
/// Room for the first line beside the headers, so that one that is too long is told so by us.
const HEAD_SLACK: usize = 16 << 10;

/// One connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    pub(super) secure: bool,
    activity: Arc<Activity>,
}

/// Accepts until told to stop.
pub(super) async fn accept(
    socket: TcpListener,
    shared: Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
) {
    let slots = Arc::new(Semaphore::new(shared.limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let builder = Arc::new(builder(&shared.limits));
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (socket.accept().await, slot)
            } => accepted,
        };
        let (stream, peer) = match accepted.0 {
            Ok(accepted) => accepted,
            // The client was gone before it was accepted.
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                // Out of file descriptors, most likely: it passes when connections end, and spinning would not help.
                tracing::warn!(%error, "cannot accept connections at the moment");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (shared, builder) = (Arc::clone(&shared), Arc::clone(&builder));
        let certificates = certificates.clone();
        shared.tasks.clone().spawn(task::carry(async move {
            let _slot = accepted.1;
            // Without it the tail of every answer waits 40 ms for the client's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            let activity = Arc::new(Activity::new());
            let connection = Connection { shared, peer, secure: certificates.is_some(), activity };
            match certificates {
                None => drive(stream, Arc::new(connection), &builder).await,
                Some(certificates) => greet(stream, Arc::new(connection), &builder, &certificates).await,
            }
        }));
    }
}

fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn builder(limits: &HttpLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's own head timeout would also end connections that idle between requests; `activity` tells the two apart.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(BUFFER.max(limits.max_header_bytes as usize + HEAD_SLACK));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        // Requests that are opened and reset at once cost us and not the client: few may pile up (CVE-2023-44487).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        // Windows for uploads over a line of 100 MB/s and 20 ms; a connection holds at most the second in memory.
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(64 << 10)
        .max_send_buf_size(512 << 10)
        // A peer that is gone without a word is noticed.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn greet(
    stream: TcpStream,
    connection: Arc<Connection>,
    builder: &auto::Builder<TokioExecutor>,
    certificates: &Certificates,
) {
    let handshake = TlsAcceptor::from(certificates.current()).accept(stream);
    let limited = tokio::time::timeout(connection.shared.limits.header_timeout(), handshake);
    let kill = connection.shared.kill.child_token();
    let stop = connection.shared.stop.child_token();
    let stream = tokio::select! {
        () = kill.cancelled() => return,
        () = stop.cancelled() => return,
        result = limited => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %connection.peer, %error, "the TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    drive(stream, connection, builder).await;
}

/// Drives a connection to its end: its own, ours, or that of our patience.
async fn drive<S>(stream: S, connection: Arc<Connection>, builder: &auto::Builder<TokioExecutor>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::clone(&connection.activity);
    let shared = Arc::clone(&connection.shared);
    let peer = connection.peer;
    // Children: each poll of a token takes its lock, which must not be one for all connections.
    let (stop, kill) = (shared.stop.child_token(), shared.kill.child_token());
    let socket = TokioIo::new(Watched { socket: stream, activity: Arc::clone(&activity) });
    let service = service_fn(move |request| answer(Arc::clone(&connection), request));
    let mut served = pin!(builder.serve_connection(socket, service));
    let mut look = tokio::time::interval(shared.limits.tick());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            result = served.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "the connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !closing => {
                closing = true;
                served.as_mut().graceful_shutdown();
            }
            () = kill.cancelled() => return,
            _ = look.tick() => match activity.verdict(&shared.limits, closing) {
                Verdict::Fine => {}
                Verdict::Idle => {
                    closing = true;
                    served.as_mut().graceful_shutdown();
                }
                Verdict::Stalled(why) => {
                    tracing::debug!(%peer, "the connection is cut: {why}");
                    return;
                }
            },
        }
    }
}

/// One request.
async fn answer(
    connection: Arc<Connection>,
    request: http::Request<Incoming>,
) -> Result<http::Response<ResponseBody>, Infallible> {
    let ticket = connection.activity.begin(request.version() == Version::HTTP_2);
    if let Some(refusal) = refuse(&request, &connection.shared.limits) {
        return Ok(convert::response(refusal, ticket).await);
    }
    let registry = &connection.shared.registry;
    if let Some(answer) = observe::answer(registry, request.method(), request.uri().path()).await {
        return Ok(convert::response(answer, ticket).await);
    }
    let request = convert::request(&connection, request);
    let response = if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        // Dropped with the connection: nobody waits for it any more.
        registry.handle(request).await
    } else {
        // What changes something runs to its end, even if the client goes away between two of its steps.
        let registry = Arc::clone(registry);
        let running =
            connection.shared.tasks.spawn(task::carry(async move { registry.handle(request).await }));
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request ended without an answer");
            Response::new(StatusCode::INTERNAL_SERVER_ERROR)
        })
    };
    Ok(convert::response(response, ticket).await)
}

/// What is refused before anybody looks at it.
fn refuse(request: &http::Request<Incoming>, limits: &HttpLimits) -> Option<Response> {
    if request.version() == Version::HTTP_2 {
        return None; // h2 itself has counted the headers, and the authority is part of the request
    }
    let headers = request.headers();
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // `: ` and the line's end belong to each.
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if line + size > limits.max_header_bytes as usize {
        let text = format!("the headers are larger than the limit of {} bytes\n", limits.max_header_bytes);
        return Some(plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
    }
    // Two hosts are how a request is smuggled past a proxy that looks at the other one (RFC 9112, section 3.2).
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(plain(StatusCode::BAD_REQUEST, "exactly one host header is needed\n".to_owned()));
    }
    None
}

fn plain(status: StatusCode, text: String) -> Response {
    let mut response = Response::with_body(status, "text/plain; charset=utf-8", text.into_bytes());
    response.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
