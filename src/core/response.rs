//! A response and the few ways to make one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::body::Body;
use super::conditional::ETag;

/// A response. Only [`Body::Empty`], [`Body::Bytes`] and [`Body::Stream`] occur in it.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// A reason phrase of our own, for clients such as twine that show nothing else. One line, latin-1.
    pub reason: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Whether it hangs on nothing but stored documents that anybody may read, and nobody wants to hear of it: the same request then gets the same answer for
    /// as long as no document changes.
    pub stands: bool,
}

impl Response {
    /// Status alone, no body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, headers: HeaderMap::new(), body: Body::Empty, stands: false }
    }

    /// Any body with its content type.
    pub fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Self::new(status);
        response.body = body.into();
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// A JSON document, serialised here.
    pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        // Serialising our own types can only fail on a map with keys that are no text; then there is nothing to say.
        let text = serde_json::to_vec(value).unwrap_or_default();
        Self::with_body(status, "application/json", text)
    }

    /// 200 with ready-made bytes.
    pub fn ok(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::with_body(StatusCode::OK, content_type, bytes.into())
    }

    /// Sets a header; a value that is no header text (control characters) is left out.
    #[must_use]
    pub fn header(mut self, name: impl Into<HeaderNameLike>, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(name.into().0, value);
        }
        self
    }

    /// Sets a header whose value is known at compile time.
    #[must_use]
    pub fn static_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Sets `ETag`.
    #[must_use]
    pub fn etag(self, tag: &ETag) -> Self {
        self.header(header::ETAG, tag.as_str())
    }

    /// The header's text.
    pub fn get_header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A header name, from a constant or from text in lower case.
pub struct HeaderNameLike(HeaderName);

impl From<HeaderName> for HeaderNameLike {
    fn from(name: HeaderName) -> Self {
        Self(name)
    }
}

impl From<&'static str> for HeaderNameLike {
    fn from(name: &'static str) -> Self {
        Self(HeaderName::from_static(name))
    }
}
