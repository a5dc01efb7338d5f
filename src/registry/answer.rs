//! What HTTP asks of every answer, whoever gives it: 304 to conditions that hold, lengths, no body for HEAD; and the answers that are no
//! protocol's.

use http::{HeaderValue, Method, StatusCode, header};

use crate::core::body::Body;
use crate::core::conditional;
use crate::core::error::Error;
use crate::core::request::Request;
use crate::core::response::Response;

pub(super) fn plain_error(error: &Error) -> Response {
    let body = serde_json::json!({ "error": "BAD_REQUEST", "message": error.public_message() });
    Response::json(error.status(), &body)
}

pub(super) fn no_handler() -> Response {
    let body = serde_json::json!({ "error": "NOT_FOUND", "message": "No registry handler for this path" });
    Response::json(StatusCode::NOT_FOUND, &body)
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// What the last step needs of the request.
pub(super) struct Facts {
    head: bool,
    safe: bool,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
}

impl Facts {
    pub(super) fn of(request: &Request) -> Self {
        let text = |name: header::HeaderName| request.header(name).map(str::to_owned);
        Self {
            head: request.is_head(),
            safe: matches!(request.method, Method::GET | Method::HEAD),
            if_none_match: text(header::IF_NONE_MATCH),
            if_modified_since: text(header::IF_MODIFIED_SINCE),
        }
    }
}

/// 304, `Content-Length`, and no body for HEAD: the same for every protocol.
pub(super) fn settle(facts: &Facts, response: &mut Response) {
    if facts.safe && response.status == StatusCode::OK {
        let tag = response.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let modified = response.headers.get(header::LAST_MODIFIED).and_then(|date| date.to_str().ok());
        let wanted = facts.if_none_match.as_deref();
        // Tags are compared by their opaque part, so the header's text does for the tag.
        let same_tag = wanted.zip(tag).map(|(wanted, tag)| {
            wanted.split(',').any(|one| conditional::same(one, tag)) || wanted.trim() == "*"
        });
        let unchanged = match same_tag {
            Some(same) => same,
            None if wanted.is_some() => false,
            // A weak tag stands for what is made anew and changes within a second, which the date does not show.
            None if tag.is_some_and(|tag| tag.starts_with("W/")) => false,
            None => conditional::not_modified(None, facts.if_modified_since.as_deref(), None, modified),
        };
        if unchanged {
            response.status = StatusCode::NOT_MODIFIED;
            response.body = Body::Empty;
            // What a 304 keeps are ETag, Cache-Control, Vary and Last-Modified; it has no content to describe.
            response.headers.remove(header::CONTENT_LENGTH);
            response.headers.remove(header::CONTENT_TYPE);
            response.headers.remove(header::CONTENT_ENCODING);
            return;
        }
    }
    let bodiless = response.status == StatusCode::NO_CONTENT || response.status == StatusCode::NOT_MODIFIED;
    if !bodiless
        && !response.headers.contains_key(header::CONTENT_LENGTH)
        && let Some(length) = response.body.length()
    {
        response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if facts.head || bodiless {
        response.body = Body::Empty;
    }
}
