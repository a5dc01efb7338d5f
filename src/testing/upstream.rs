//! A scripted upstream on a port of its own: answers what it was told to, in all the ways in which one can go wrong, and writes down what it was
//! asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::config::upstream::ProtocolUpstreams;
use crate::core::error::Result;
use crate::upstream::{Question, UpstreamProvider};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// How to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// What it says its length is.
    length: Option<usize>,
    /// Bytes after which the connection breaks.
    cut: Option<usize>,
    /// The body's second half waits for this.
    gate: Option<Arc<Semaphore>>,
    /// Before anything is sent.
    delay: Duration,
    /// A 304 for who sends this tag.
    etag: Option<String>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            body,
            length: None,
            cut: None,
            gate: None,
            delay: Duration::ZERO,
            etag: None,
        }
    }

    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::ok(value.to_string()).header("content-type", "application/json")
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new(302, "").header("location", to)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn etag(mut self, tag: &str) -> Self {
        self.etag = Some(tag.to_owned());
        self.header("etag", tag)
    }

    pub(crate) fn length(self, length: usize) -> Self {
        Self { length: Some(length), ..self }
    }

    pub(crate) fn cut(self, after: usize) -> Self {
        Self { cut: Some(after), ..self }
    }

    pub(crate) fn gate(self, gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }

    pub(crate) fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

type Script = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;

/// The upstream; it is gone when this is dropped.
pub(crate) struct FakeUpstream {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    script: Mutex<Option<Arc<Script>>>,
    asked: Mutex<Vec<Asked>>,
}

impl FakeUpstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&shared), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { url, shared, _task: AbortOnDropHandle::new(task) }
    }

    /// Answers so at this path, whatever the method; 404 elsewhere.
    pub(crate) fn on(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().insert(path.to_owned(), reply);
    }

    /// Answers as this says; where it says nothing, as told otherwise.
    pub(crate) fn script(&self, script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) {
        *self.shared.script.lock() = Some(Arc::new(script));
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.shared.asked.lock().len()
    }

    /// The configuration of a protocol with this as its only upstream.
    pub(crate) fn config(&self) -> serde_json::Value {
        self.config_with(serde_json::json!({}))
    }

    /// The same with more members.
    #[allow(clippy::needless_pass_by_value)] // it is written out where it is used
    pub(crate) fn config_with(&self, more: serde_json::Value) -> serde_json::Value {
        let mut config = serde_json::json!({
            "upstreams": [{ "id": "fake", "url": self.url, "priority": 1 }],
            "resilience": { "timeoutMs": 2000, "maxRetries": 0, "retryDelayMs": 1, "circuitBreakerThreshold": 1000 },
        });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        config
    }
}

/// Gives each user other upstreams; who is in no list gets none.
pub(crate) struct PerUser(HashMap<String, Arc<ProtocolUpstreams>>);

impl PerUser {
    pub(crate) fn new(users: &[(&str, serde_json::Value)]) -> Arc<Self> {
        let read = |config: &serde_json::Value| Arc::new(serde_json::from_value(config.clone()).unwrap());
        Arc::new(Self(users.iter().map(|(user, config)| ((*user).to_owned(), read(config))).collect()))
    }
}

#[async_trait]
impl UpstreamProvider for PerUser {
    async fn resolve(&self, question: &Question) -> Result<Option<Arc<ProtocolUpstreams>>> {
        let user = question.actor.as_ref().and_then(|actor| actor.user_id().map(str::to_owned));
        Ok(user.and_then(|user| self.0.get(&user).cloned()))
    }
}

type FakeBody = StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>;

async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> std::result::Result<Response<FakeBody>, Infallible> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: head.headers,
        body: body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    };
    shared.asked.lock().push(asked.clone());
    let script = shared.script.lock().clone();
    let scripted = script.and_then(|script| script(&asked));
    let reply = scripted.or_else(|| shared.replies.lock().get(&asked.path).cloned());
    let reply = reply.unwrap_or_else(|| Reply::new(404, r#"{"error":"not found"}"#));
    tokio::time::sleep(reply.delay).await;
    let known = reply.etag.as_deref().is_some_and(|tag| asked.header("if-none-match") == Some(tag));
    let reply = if known { Reply { status: 304, body: Bytes::new(), ..reply } } else { reply };
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    if reply.status != 304 {
        response = response.header("content-length", reply.length.unwrap_or(reply.body.len()));
    }
    let body = if asked.method == "HEAD" { stream::empty().boxed() } else { body_of(reply) };
    Ok(response.body(StreamBody::new(body)).unwrap())
}

fn body_of(reply: Reply) -> BoxStream<'static, std::io::Result<Frame<Bytes>>> {
    let Reply { body, cut, gate, length, .. } = reply;
    let end = cut.unwrap_or(body.len()).min(body.len());
    let half = end / 2;
    let pieces = |from: usize, to: usize| -> Vec<Bytes> {
        (from..to).step_by(16 << 10).map(|at| body.slice(at..(at + (16 << 10)).min(to))).collect()
    };
    let (first, second) = (pieces(0, half), pieces(half, end));
    let breaks = cut.is_some() || length.is_some_and(|length| length > body.len());
    let frames = |list: Vec<Bytes>| stream::iter(list.into_iter().map(|piece| Ok(Frame::data(piece))));
    let wait = stream::once(async move {
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
    });
    let wait = wait.filter_map(|()| async { None });
    let end = stream::iter(breaks.then(|| Err(std::io::Error::other("cut"))));
    frames(first).chain(wait).chain(frames(second)).chain(end).boxed()
}
