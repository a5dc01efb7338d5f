//! A registry with one protocol whose paths say what it should do, behind a listener; and a client that hides nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use smartregistry_native::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
use smartregistry_native::config::Config;
use smartregistry_native::core::body::Body;
use smartregistry_native::core::conditional::ETag;
use smartregistry_native::core::error::{Error, Kind, Result};
use smartregistry_native::core::path::Segments;
use smartregistry_native::core::protocol_name::ProtocolName;
use smartregistry_native::core::request::Request;
use smartregistry_native::core::response::Response;
use smartregistry_native::core::secret::Secret;
use smartregistry_native::http::{HttpLimits, ListenOptions, Server, TlsOptions, listen};
use smartregistry_native::index::Change;
use smartregistry_native::protocols::check::Check;
use smartregistry_native::protocols::cx::Cx;
use smartregistry_native::protocols::files::{self, FileHead};
use smartregistry_native::protocols::{Entry, Protocol, Settings};
use smartregistry_native::registry::{Extensions, Registry};
use smartregistry_native::storage::{Key, ObjectInfo, PutOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What happened behind a listener.
pub(crate) struct Seen {
    /// Bodies of answers that are alive.
    pub(crate) open: AtomicU64,
    /// Bytes of request bodies that reached a handler.
    pub(crate) received: AtomicU64,
    /// Request bodies that came to their end.
    pub(crate) complete: AtomicU64,
    /// Kind of the last error of a request body.
    pub(crate) broken: Mutex<Option<Kind>>,
    /// Handlers wait here for the test.
    pub(crate) gate: Semaphore,
    /// Handlers that have begun, and that are done.
    pub(crate) begun: AtomicU64,
    pub(crate) done: AtomicU64,
}

static LABS: LazyLock<Mutex<HashMap<String, Arc<Seen>>>> = LazyLock::new(Mutex::default);

/// A running listener.
pub(crate) struct Lab {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) addr: SocketAddr,
    /// Path below which the protocol of this lab is.
    pub(crate) base: String,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(HttpLimits::default(), None, serde_json::json!({})).await
    }

    pub(crate) async fn limited(limits: HttpLimits) -> Self {
        Self::with(limits, None, serde_json::json!({})).await
    }

    pub(crate) async fn with(
        limits: HttpLimits,
        tls: Option<TlsOptions>,
        changes: serde_json::Value,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("lab{}", NEXT.fetch_add(1, SeqCst));
        let seen = Arc::new(Seen {
            open: AtomicU64::new(0),
            received: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            broken: Mutex::default(),
            gate: Semaphore::new(0),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        });
        LABS.lock().unwrap().insert(name.clone(), Arc::clone(&seen));
        let mut config = serde_json::json!({
            "storage": { "type": "memory" },
            "auth": { "jwtSecret": "test" },
            "lab": { "enabled": true, "basePath": format!("/{name}") },
        });
        for (option, value) in changes.as_object().unwrap() {
            config[option] = value.clone();
        }
        let extensions = Extensions {
            auth_provider: Some(Arc::new(Nobody)),
            protocols: &[Entry { name: NAME, aliases: &[], build }],
            ..Extensions::default()
        };
        let config = Config::from_json(&config.to_string()).unwrap();
        let registry = Arc::new(Registry::new(&config, extensions).unwrap());
        registry.init().await.unwrap();
        let options = ListenOptions { limits, tls, ..ListenOptions::default() };
        let server = Arc::new(listen(Arc::clone(&registry), options).await.unwrap());
        Self { addr: server.addr(), server, registry, seen, base: format!("/{name}") }
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire { socket: TcpStream::connect(self.addr).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, what: &str) -> Answer {
        self.connect().await.get(&format!("{}/{what}", self.base)).await
    }

    /// Lets one handler that waits at the gate go on.
    pub(crate) fn open_gate(&self) {
        self.seen.gate.add_permits(1);
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(tokio::time::Instant::now() < patience, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A connection, byte by byte.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came over the wire.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to the end that the head announced.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Wire {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: lab.example.com\r\n\r\n")).await;
        self.answer(false).await
    }

    /// More bytes; `false` at the end of the connection, however it came.
    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 << 10];
        let read = tokio::time::timeout(Duration::from_secs(20), self.socket.read(&mut chunk));
        match read.await.expect("the server neither sent nor closed within 20 s") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    /// The head of an answer; `None` if the connection ended before one.
    pub(crate) async fn head(&mut self) -> Option<(u16, String)> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        Some((head[9..12].parse().unwrap(), head))
    }

    /// A whole answer. `head_only`: to a HEAD, which has no body whatever the headers say.
    pub(crate) async fn answer(&mut self, head_only: bool) -> Answer {
        let (status, head) = self.head().await.expect("the connection ended without an answer");
        let mut answer = Answer { status, head, body: Vec::new(), whole: true };
        if head_only || matches!(status, 100 | 204 | 304) {
            return answer;
        }
        if answer.header("transfer-encoding").is_some() {
            answer.whole = self.chunked(&mut answer.body).await;
        } else if let Some(length) = answer.header("content-length").map(|text| text.parse().unwrap()) {
            while self.buffer.len() < length && self.fill().await {}
            answer.whole = self.buffer.len() >= length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else {
            while self.fill().await {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer
    }

    async fn chunked(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                if !self.fill().await {
                    return false;
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..end]).unwrap(), 16).unwrap();
            while self.buffer.len() < end + 2 + size + 2 {
                if !self.fill().await {
                    return false;
                }
            }
            body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
            self.buffer.drain(..end + 2 + size + 2);
            if size == 0 {
                return true;
            }
        }
    }

    /// Whether the server has closed, with nothing more to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        !self.fill().await && self.buffer.is_empty()
    }
}

const NAME: ProtocolName = ProtocolName::new("lab");

#[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)] // as the table of protocols wants it
fn build(settings: Settings) -> Result<Box<dyn Protocol>> {
    let name = settings.config.base_path.trim_matches('/').to_owned();
    Ok(Box::new(Bench(Arc::clone(&LABS.lock().unwrap()[&name]))))
}

struct Bench(Arc<Seen>);

const PIECE: usize = 64 << 10;

impl Bench {
    /// Pieces of a body, counted while they are alive.
    fn pieces(
        &self,
        pieces: impl Stream<Item = Result<Bytes>> + Send + 'static,
        length: Option<u64>,
    ) -> Response {
        self.0.open.fetch_add(1, SeqCst);
        let mut response = Response::new(StatusCode::OK);
        response.body = Body::stream(Counted { inner: Box::pin(pieces), seen: Arc::clone(&self.0) }, length);
        response
    }

    async fn gate(&self) {
        self.0.gate.acquire().await.unwrap().forget();
    }

    async fn swallow(&self, request: &mut Request) -> Result<()> {
        let mut body = request.take_body().into_stream()?;
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => self.0.received.fetch_add(chunk.len() as u64, SeqCst),
                Err(error) => {
                    *self.0.broken.lock().unwrap() = Some(error.kind());
                    return Err(error);
                }
            };
        }
        self.0.complete.fetch_add(1, SeqCst);
        Ok(())
    }
}

fn zeros(size: usize) -> impl Stream<Item = Result<Bytes>> + Send {
    let whole = Bytes::from(vec![b'z'; PIECE]);
    let sizes =
        std::iter::repeat_n(PIECE, size / PIECE).chain((!size.is_multiple_of(PIECE)).then_some(size % PIECE));
    stream::iter(sizes.collect::<Vec<_>>()).map(move |size| Ok(whole.slice(..size)))
}

fn broken() -> Result<Bytes> {
    Err(Error::unavailable("the disk fell out"))
}

#[async_trait]
impl Protocol for Bench {
    async fn names(&self, _cx: &Cx, _after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
        Ok((Vec::new(), None))
    }

    async fn describe(&self, _cx: &Cx, _name: &str) -> Result<Option<Change>> {
        Ok(None)
    }

    async fn verify(&self, _cx: &Cx, _check: &Check) -> Result<()> {
        Ok(())
    }

    async fn handle(&self, cx: &Cx, path: &Segments, mut request: Request) -> Result<Response> {
        let parts = path.as_strs();
        let size = parts.get(1).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        self.0.begun.fetch_add(1, SeqCst);
        let response = match parts[0] {
            "bytes" => Response::ok("text/plain", vec![b'b'; size]),
            "stream" => self.pieces(zeros(size), Some(size as u64)),
            "unknown-length" => self.pieces(zeros(size), None),
            "broken" => self.pieces(zeros(size).chain(stream::iter([broken()])), Some(2 * size as u64)),
            "broken-unknown-length" => self.pieces(zeros(size).chain(stream::iter([broken()])), None),
            "short" => self.pieces(zeros(size), Some(size as u64 + 1)),
            "endless" => self.pieces(stream::repeat_with(|| Ok(Bytes::from(vec![b'e'; PIECE]))), None),
            "gated" => {
                let seen = Arc::clone(&self.0);
                let second = stream::once(async move {
                    seen.gate.acquire().await.unwrap().forget();
                    Ok(Bytes::from(vec![b'g'; PIECE]))
                });
                self.pieces(zeros(PIECE).chain(second), Some(2 * PIECE as u64))
            }
            "wait" => {
                self.gate().await;
                Response::ok("text/plain", "waited")
            }
            "echo" => {
                let body = request.take_body().into_bytes("body", 1 << 20).await?;
                Response::ok("text/plain", body)
            }
            "swallow" => {
                self.swallow(&mut request).await?;
                Response::new(StatusCode::CREATED)
            }
            "swallow-and-wait" => {
                self.swallow(&mut request).await?;
                self.gate().await;
                Response::new(StatusCode::CREATED)
            }
            "refuse" => return Err(Error::new(Kind::Unauthorized, "log in first")),
            "tag" => Response::ok("text/plain", "tagged").etag(&ETag::strong("one")),
            "origin" => Response::json(
                StatusCode::OK,
                &serde_json::json!({
                    "url": cx.mount.origin.url(),
                    "client": request.client_ip().map(|ip| ip.to_string()),
                    "query": request.query.pairs(),
                }),
            ),
            "reason" => {
                let mut response = Response::new(StatusCode::FORBIDDEN);
                response.reason = Some("Not on a Sunday".to_owned());
                response
            }
            "file" => {
                let (key, info) = (Key::new("lab/file")?, ObjectInfo::default());
                let text: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
                cx.objects.put(&key, text.into(), PutOptions::default(), &info).await?;
                let head = FileHead {
                    content_type: "application/octet-stream",
                    etag: Some(ETag::strong("f")),
                    cache_control: "no-cache",
                };
                files::serve(cx, &request, &key, &head, &info).await?.unwrap()
            }
            "panic" => panic!("as asked"),
            _ => return Err(Error::not_found("not here")),
        };
        self.0.done.fetch_add(1, SeqCst);
        Ok(response)
    }

    fn render_error(&self, error: &Error) -> Response {
        Response::with_body(error.status(), "text/plain", error.public_message().to_owned().into_bytes())
    }
}

struct Counted {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    seen: Arc<Seen>,
}

impl Stream for Counted {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, SeqCst);
    }
}

/// Knows nobody and refuses nothing.
struct Nobody;

#[async_trait]
impl AuthProvider for Nobody {
    async fn authenticate(&self, _credentials: &Credentials, _: Asker) -> Result<Option<String>> {
        Ok(None)
    }

    async fn validate_token(&self, _token: &Secret, _protocol: Option<&str>) -> Result<Option<AuthToken>> {
        Ok(None)
    }

    async fn create_token(&self, _user: &str, _protocol: &str, _options: &TokenOptions) -> Result<Secret> {
        Ok(Secret::default())
    }

    async fn revoke_token(&self, _token: &Secret) -> Result<()> {
        Ok(())
    }

    async fn authorize(&self, _token: Option<&AuthToken>, _resource: &str, _action: &str) -> Result<bool> {
        Ok(true)
    }
}
