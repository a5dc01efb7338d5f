//! Requests that come again and again: their head crosses the border once, and an answer that is still the same does not cross it again.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::core::body::Body;
use crate::core::request::Request;
use crate::core::response::Response;
use crate::registry::{Registry, Standing};

/// Larger answers are never the same again: to hold them twice is not worth it.
const LARGEST: usize = 2 << 20;
/// What tells apart two answers that are the same.
const ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request without a body, to be answered as often as it comes.
#[napi]
pub struct Repeat {
    request: Request,
    /// What JavaScript has of the answer, and whether that stands.
    last: Mutex<(Option<Answer>, Option<Standing>)>,
}

/// An answer but for the id of its request.
#[derive(PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    reason: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Repeat {
    /// Keeps a request; `None` for one that could not be read.
    pub(super) fn new(request: Request) -> Option<Self> {
        request.refused.is_none().then(|| Self { request, last: Mutex::default() })
    }

    /// The request as it comes now.
    pub(super) fn request(&self) -> Request {
        self.request.again()
    }

    /// The id of the request, if the answer that JavaScript has still stands.
    pub(super) fn still_stands(&self, registry: &Registry) -> Option<String> {
        registry.still_stands(self.last.lock().1.as_ref()?)
    }

    /// The id of the request, if JavaScript has its answer already; from now on it has.
    pub(super) fn recognise(&self, response: &Response, standing: Option<Standing>) -> Option<String> {
        let (last, stands) = &mut *self.last.lock();
        let is_same = last.as_ref().is_some_and(|last| last.is(response));
        if !is_same {
            *last = Answer::of(response);
        }
        *stands = standing.filter(|_| last.is_some());
        response.headers.get(ID).filter(|_| is_same)?.to_str().ok().map(str::to_owned)
    }
}

impl Answer {
    /// `None` for what is not in memory.
    fn of(response: &Response) -> Option<Self> {
        let body = bytes_of(&response.body).filter(|bytes| bytes.len() <= LARGEST)?;
        let headers = described(response).map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Self { status: response.status, reason: response.reason.clone(), headers, body })
    }

    fn is(&self, response: &Response) -> bool {
        let Some(body) = bytes_of(&response.body) else { return false };
        // A document that is kept ready is the same memory: no need to look into it.
        let same_memory = self.body.as_ptr() == body.as_ptr() && self.body.len() == body.len();
        self.status == response.status
            && self.reason == response.reason
            && self.headers.iter().map(|(name, value)| (name, value)).eq(described(response))
            && (same_memory || self.body == body)
    }
}

fn described(response: &Response) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    response.headers.iter().filter(|(name, _)| **name != ID)
}

fn bytes_of(body: &Body) -> Option<Bytes> {
    match body {
        Body::Empty => Some(Bytes::new()),
        Body::Bytes(bytes) => Some(bytes.clone()),
        Body::Stream { .. } | Body::Json(_) | Body::Form(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, tag: &str, body: &str) -> Response {
        Response::ok("text/plain", body.to_owned()).header(ID, id).header("etag", tag)
    }

    #[test]
    fn an_answer_is_the_same_whatever_its_id() {
        let repeat = Repeat::new(Request::new(http::Method::GET, "/")).unwrap();
        assert_eq!(repeat.recognise(&answer("1", "a", "x"), None), None);
        assert_eq!(repeat.recognise(&answer("2", "a", "x"), None).as_deref(), Some("2"));
        for other in [answer("3", "b", "x"), answer("4", "b", "y"), Response::new(StatusCode::NOT_FOUND)] {
            assert_eq!(repeat.recognise(&other, None), None);
        }
        assert_eq!(repeat.recognise(&answer("5", "b", "y"), None), None);
        assert_eq!(repeat.recognise(&answer("6", "b", "y"), None).as_deref(), Some("6"));
    }

    #[test]
    fn what_is_streamed_or_large_is_never_the_same() {
        let repeat = Repeat::new(Request::new(http::Method::GET, "/")).unwrap();
        let streamed = || {
            let body = Body::stream(Box::pin(futures_util::stream::empty()), Some(0));
            Response::with_body(StatusCode::OK, "text/plain", body).header(ID, "1")
        };
        let large = || answer("1", "a", &"x".repeat(LARGEST + 1));
        for _ in 0..2 {
            assert_eq!(repeat.recognise(&streamed(), None), None);
            assert_eq!(repeat.recognise(&large(), None), None);
        }
    }
}
