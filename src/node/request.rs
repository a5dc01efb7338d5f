//! A request as the facade hands it over: flat lists of headers and query, and one of the forms of a body.

use std::cell::Cell;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use napi::bindgen_prelude::{Buffer, Either};
use napi_derive::napi;

use super::stream::Upload;
use crate::core::actor::Actor;
use crate::core::body::{Body, FormField, GivenJson};
use crate::core::error::{Error, Result};
use crate::core::origin::{self, Trust};
use crate::core::request::{Query, Request};
use crate::core::secret::Secret;

/// The forms of a body that is in memory; at most one is set. A stream comes as an [`Upload`].
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeBody {
    /// Bytes, borrowed as long as the request runs.
    pub bytes: Option<Buffer>,
    /// A text.
    pub text: Option<String>,
    /// A parsed JSON document as text again, without the long strings ...
    pub json: Option<String>,
    /// ... which are here: key, text, key, text.
    pub attachments: Option<Vec<String>>,
    /// The fields of a parsed form.
    pub form: Option<Vec<NativeField>>,
}

/// A field of a parsed form.
#[napi(object, object_to_js = false)]
pub struct NativeField {
    /// Its name.
    pub name: String,
    /// Its file name, if it is a file.
    pub filename: Option<String>,
    /// Its content.
    pub value: Either<String, Buffer>,
}

/// What rarely comes along.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeExtra {
    /// A bearer token given outside the headers.
    pub token: Option<String>,
    /// `IRequestActor` as JSON.
    pub actor: Option<String>,
    /// The host's id of the request.
    pub request_id: Option<String>,
}

/// A request but for its body.
pub(super) struct Parts {
    pub(super) method: String,
    pub(super) path: String,
    /// `name\nvalue\nname\nvalue …`: one text crosses the border faster than many.
    pub(super) headers: String,
    pub(super) query: Vec<String>,
    /// Address of the connection's other end.
    pub(super) peer: Option<String>,
    /// Whether the connection is encrypted.
    pub(super) secure: bool,
    /// Path that the host has stripped off before us.
    pub(super) prefix: Option<String>,
    pub(super) extra: NativeExtra,
}

impl Parts {
    /// Puts a request together; `trust` says whether the forwarding headers count. What can't be made a request of says why.
    pub(super) fn build(self, body: Result<Body>, trust: &Trust) -> Request {
        let Self { method, path, headers, query, peer, secure, prefix, extra } = self;
        let method = method_of(&method);
        let actor = extra.actor.as_deref().map(Actor::parse).transpose();
        let mut request = Request::new(method.clone().unwrap_or_default(), path);
        request.headers = header_map(&headers);
        request.query = Query::new(pairs(query).collect());
        request.token = extra.token.map(Secret::new);
        let peer = peer.as_deref().and_then(|peer| peer.parse().ok());
        let seen = origin::resolve(&request.headers, None, secure, peer, trust);
        request.origin = seen.origin;
        request.peer = seen.client;
        match extra.request_id {
            Some(id) => request.adopt_id(&id),
            None if seen.forwarded => request.adopt_forwarded_id(),
            None => {}
        }
        // What the host's own router has stripped off lies between the proxy's prefix and ours.
        request.origin.prefix.push_str(prefix.unwrap_or_default().trim_end_matches('/'));
        match (method, actor, body) {
            (None, _, _) => request.refused = Some(Error::invalid("the method is no HTTP method")),
            (_, Err(error), _) | (_, _, Err(error)) => request.refused = Some(error),
            (_, Ok(actor), Ok(body)) => {
                request.actor = actor;
                request.body = body;
            }
        }
        request
    }
}

/// A method, in any case.
fn method_of(text: &str) -> Option<Method> {
    let known = Method::from_bytes(text.as_bytes()).ok();
    known
        .filter(|_| text.bytes().all(|byte| !byte.is_ascii_lowercase()))
        .or_else(|| Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok())
}

/// The body, whichever form it has.
pub(super) fn body(given: Option<NativeBody>, upload: Option<&Upload>) -> Result<Body> {
    if let Some(upload) = upload {
        return upload.body();
    }
    let Some(given) = given else { return Ok(Body::Empty) };
    Ok(if let Some(bytes) = given.bytes {
        owned(bytes).into()
    } else if let Some(text) = given.text {
        text.into_bytes().into()
    } else if let Some(text) = given.json {
        let attachments = pairs(given.attachments.unwrap_or_default());
        Body::Json(GivenJson {
            text: text.into(),
            attachments: attachments.map(|(key, data)| (key, data.into())).collect(),
        })
    } else if let Some(fields) = given.form {
        Body::Form(fields.into_iter().map(field).collect())
    } else {
        Body::Empty
    })
}

fn field(given: NativeField) -> FormField {
    let value = match given.value {
        Either::A(text) => text.into(),
        Either::B(bytes) => owned(bytes),
    };
    FormField { name: given.name, filename: given.filename, value }
}

thread_local! {
    /// Whether this thread's buffers stay where they are for as long as they are used.
    static LENDS: Cell<bool> = const { Cell::new(false) };
}

/// Says that the buffers of the calling thread may be used without a copy: true of the main thread. That of a worker which is terminated gives the memory
/// of its buffers back at once, whoever reads them.
#[napi(catch_unwind)]
pub fn lend_buffers() {
    LENDS.set(true);
}

/// The buffer's own memory, kept alive by a reference that goes back to the JavaScript thread with the last clone.
pub(super) fn owned(buffer: Buffer) -> Bytes {
    if buffer.is_empty() {
        Bytes::new()
    } else if LENDS.get() {
        Bytes::from_owner(buffer)
    } else {
        Bytes::copy_from_slice(&buffer)
    }
}

/// What is no header by the grammar is left out: a host's own invention must not fail the request.
fn header_map(flat: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    let mut parts = flat.split('\n');
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), header_value(value)) else {
            continue;
        };
        headers.append(name, value);
    }
    headers
}

/// Node reads header bytes as latin-1, one character per byte: back to the bytes that the client sent.
fn header_value(text: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    if text.is_ascii() {
        return HeaderValue::from_str(text);
    }
    match text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<u8>, _>>() {
        Ok(latin) => HeaderValue::from_bytes(&latin),
        Err(_) => HeaderValue::from_bytes(text.as_bytes()),
    }
}

pub(super) fn pairs(flat: Vec<String>) -> impl Iterator<Item = (String, String)> {
    let mut flat = flat.into_iter();
    std::iter::from_fn(move || Some((flat.next()?, flat.next()?)))
}
