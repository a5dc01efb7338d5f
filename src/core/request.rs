//! A request as every adapter makes it and every protocol reads it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method, header};

use super::actor::Actor;
use super::body::Body;
use super::error::Error;
use super::secret::Secret;

/// A request. Adapters fill it; the registry takes the path apart and hands the rest to one protocol.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as the client sent it: percent-encoded, perhaps with a query still attached.
    pub path: String,
    /// Query parameters in order, repeated ones repeated, decoded.
    pub query: Query,
    /// Headers, names in lower case.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Who asks, as the host application says.
    pub actor: Option<Actor>,
    /// A bearer token that came outside the headers (`IRequestContext.token`).
    pub token: Option<Secret>,
    /// Where the client thinks it is talking to.
    pub origin: Origin,
    /// Address of the peer of the connection; the host's `actor.ip` when there is no connection of ours.
    pub peer: Option<IpAddr>,
    /// Id of this request in answers and logs.
    pub id: String,
    /// What is wrong with it, if its adapter could not make a request of what it was given: the answer to it.
    pub refused: Option<Error>,
}

impl Request {
    /// A bare request, for adapters to complete and for tests.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Query::default(),
            headers: HeaderMap::new(),
            body: Body::Empty,
            actor: None,
            token: None,
            origin: Origin::default(),
            peer: None,
            id: super::id::request_id(),
            refused: None,
        }
    }

    /// The same request as it comes once more, under an id of its own; only of its head, without an actor, a token or a body beside it.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            query: self.query.clone(),
            headers: self.headers.clone(),
            origin: self.origin.clone(),
            peer: self.peer,
            ..Self::new(self.method.clone(), self.path.clone())
        }
    }

    /// Takes over the id by which the host or a trusted proxy knows this request, if it is fit for a log: it makes one story of two.
    pub fn adopt_id(&mut self, id: &str) {
        if is_plain_id(id) {
            id.clone_into(&mut self.id);
        }
    }

    /// The same with the `X-Request-Id` of a trusted proxy.
    pub fn adopt_forwarded_id(&mut self) {
        if let Some(id) = self.header("x-request-id").map(str::to_owned) {
            self.adopt_id(&id);
        }
    }

    /// A header's text; `None` if absent or not ASCII text.
    pub fn header(&self, name: impl Into<KnownName>) -> Option<&str> {
        self.headers.get(name.into().0)?.to_str().ok()
    }

    /// HEAD is GET without the body. Handlers answer GET; the registry drops the body.
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// The body, taken out.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }

    /// The media type of the body without its parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        let value = self.header(header::CONTENT_TYPE)?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// The client's address: of the connection, else what the host says.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.peer.or_else(|| self.actor.as_ref().and_then(Actor::ip_addr))
    }
}

fn is_plain_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

/// A header name, from a constant or from text in lower case.
pub struct KnownName(HeaderName);

impl From<HeaderName> for KnownName {
    fn from(name: HeaderName) -> Self {
        Self(name)
    }
}

impl From<&'static str> for KnownName {
    fn from(name: &'static str) -> Self {
        Self(HeaderName::from_static(name))
    }
}

/// Query parameters in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From pairs that are decoded already.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// From the text behind the question mark.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Adds what was still attached to the path.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// Scheme, host and prefix under which the client reached us, as far as it is known and trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host with port, from `Host`, `:authority`, or a trusted proxy's header.
    pub host: Option<String>,
    /// Path prefix that a trusted proxy stripped, without a trailing slash.
    pub prefix: String,
}

impl Origin {
    /// `https://host[:port]/prefix`; `None` without a host.
    pub fn url(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        Some(format!("{}://{host}{}", self.scheme.as_deref().unwrap_or("http"), self.prefix))
    }
}
