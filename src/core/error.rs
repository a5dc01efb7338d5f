//! The one error of the core: what kind, what to say, and what only the log may see.
//!
//! An error is made once, where the reason is known, and rendered once, by the protocol's `error.rs`, into the body that
//! its clients print. `message` is for people: lower case, no full stop, what happened to what, and what to do. `source`
//! goes to the log and to nowhere else.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

/// Result with the core's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms that decide the HTTP status and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 400: the request can't be understood or breaks a rule.
    Invalid,
    /// 401: no credentials, or none that are good.
    Unauthorized,
    /// 403: known, and not allowed; or refused by policy or hook.
    Denied,
    /// 404: not here, or not for this caller.
    NotFound,
    /// 405: the path exists, the method doesn't.
    MethodNotAllowed,
    /// 408: the client was too slow to send.
    Timeout,
    /// 409: it contradicts what is stored.
    Conflict,
    /// 411: the length must be known and is not.
    LengthRequired,
    /// 412: a condition of the request does not hold.
    Precondition,
    /// 413: beyond a limit, which the message names.
    TooLarge,
    /// 415: a content type that can't be taken.
    UnsupportedMedia,
    /// 416: a range that can't be served, or a chunk out of order.
    Range,
    /// 422: well-formed and still not acceptable.
    Unprocessable,
    /// 429: too many tries.
    TooMany,
    /// 500: our own fault.
    Internal,
    /// 501: not offered here.
    Unsupported,
    /// 502: an upstream answered nonsense.
    BadGateway,
    /// 503: storage or an upstream is not there at the moment; trying again helps.
    Unavailable,
    /// 507: the storage is full.
    StorageFull,
    /// The client went away or broke its body off; nobody reads the answer (shown as 400).
    Aborted,
}

impl Kind {
    /// The status this kind is answered with unless a protocol says otherwise.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Invalid | Self::Aborted => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// Whether it is ours to mend (5xx): logged as an error, its message replaced before it goes out if it is [`Kind::Internal`].
    pub const fn is_server_fault(self) -> bool {
        matches!(
            self,
            Self::Internal | Self::Unsupported | Self::BadGateway | Self::Unavailable | Self::StorageFull
        )
    }
}

/// An error on its way to the client.
///
/// Boxed inside, so that a `Result` stays a word wide on the path where nothing fails.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: Kind,
    code: Option<&'static str>,
    message: Cow<'static, str>,
    detail: Option<serde_json::Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error as the cause of its copies.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Repeated(#[source] Arc<Error>);

impl Error {
    /// An error of `kind` with a message for people.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            code: None,
            message: message.into(),
            detail: None,
            headers: Vec::new(),
            source: None,
        }))
    }

    /// The protocol's own code, such as OCI's `BLOB_UNKNOWN`.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Machine-readable detail that the protocol's error body has a place for.
    #[must_use]
    pub fn with_detail(mut self, detail: serde_json::Value) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// A header that the answer must carry (`WWW-Authenticate`, `Retry-After`, `Allow`). One that is no header text is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// The cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// 400.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// 403.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Denied, message)
    }

    /// 413; `what` is the thing and `limit` its bound in bytes.
    pub fn too_large(what: &str, limit: u64) -> Self {
        Self::new(Kind::TooLarge, format!("{what} is larger than the limit of {limit} bytes"))
    }

    /// 500; the message is for the log, the client sees only that something failed here.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// 503 with `Retry-After: 1`.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, message).with_header(http::header::RETRY_AFTER, "1")
    }

    /// The same error once more, for each of several who wait for one outcome.
    #[must_use]
    pub fn repeat(this: &Arc<Self>) -> Self {
        this.echo().with_source(Repeated(Arc::clone(this)))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.kind.status()
    }

    /// The protocol's own code, if one was given.
    pub fn code(&self) -> Option<&'static str> {
        self.0.code
    }

    /// What to tell the client: the message, but never that of an internal error.
    pub fn public_message(&self) -> &str {
        if self.0.kind == Kind::Internal {
            "the registry failed to answer this request; its log has the reason under the request id"
        } else {
            &self.0.message
        }
    }

    /// What to tell the log.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Detail for the protocol's error body.
    pub fn detail(&self) -> Option<&serde_json::Value> {
        self.0.detail.as_ref()
    }

    /// Headers the answer must carry.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// The same error without its causes, for who is told of it later.
    #[must_use]
    pub fn echo(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            code: self.0.code,
            message: self.0.message.clone(),
            detail: self.0.detail.clone(),
            headers: self.0.headers.clone(),
            source: None,
        }))
    }

    /// The chain of causes as one line, for the log.
    pub fn causes(&self) -> String {
        let mut line = String::new();
        let mut next = self.0.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(cause) = next {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }
}
