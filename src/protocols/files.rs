//! Serving a stored file: HEAD, conditions, one range, straight from the store. Every protocol's `download.rs` ends here.

use http::{HeaderValue, StatusCode, header};

use super::cx::Cx;
use crate::core::conditional::{self, ETag};
use crate::core::error::{Error, Kind, Result};
use crate::core::range::{self, RangeSpec};
use crate::core::request::Request;
use crate::core::response::Response;
use crate::storage::{GetOptions, Key, ObjectInfo, ObjectMeta};

/// How a file is presented.
#[derive(Debug, Clone)]
pub struct FileHead {
    /// Content type of the answer, whatever the store says.
    pub content_type: &'static str,
    /// Entity tag, when the protocol knows one without reading the file (a digest); else the store's version.
    pub etag: Option<ETag>,
    /// `Cache-Control`.
    pub cache_control: &'static str,
}

/// `Cache-Control` of what never changes under its name and anybody may read.
pub const IMMUTABLE_PUBLIC: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` of what never changes under its name and needs credentials.
pub const IMMUTABLE_PRIVATE: &str = "private, max-age=31536000, immutable";

/// Answers GET or HEAD of the object under `key`; `None` if there is none. One request to the store, none for a 304 by a known tag.
pub async fn serve(
    cx: &Cx,
    request: &Request,
    key: &Key,
    head: &FileHead,
    info: &ObjectInfo,
) -> Result<Option<Response>> {
    if request.is_head() {
        return Ok(cx.objects.stat(key).await?.map(|meta| {
            let mut response = start(StatusCode::OK, head, &meta);
            // The length of what GET would send: a HEAD has no body to take it from.
            response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(meta.size));
            response
        }));
    }
    if let (Some(tag), Some(wanted)) = (&head.etag, request.header(header::IF_NONE_MATCH))
        && conditional::matches(wanted, tag)
    {
        let response = Response::new(StatusCode::NOT_MODIFIED).etag(tag);
        return Ok(Some(response.header(header::CACHE_CONTROL, head.cache_control)));
    }
    let Some(range) = wanted_range(cx, request, key, head).await? else { return Ok(None) };
    let options = GetOptions { range, ..GetOptions::default() };
    let Some(found) = cx.objects.read(key, options, info).await? else { return Ok(None) };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = start(status, head, &found.meta);
    if range.is_some() {
        response = response.header(header::CONTENT_RANGE, found.range.content_range(found.meta.size));
    }
    response.body = cx.objects.body(key, found);
    Ok(Some(response))
}

fn start(status: StatusCode, head: &FileHead, meta: &ObjectMeta) -> Response {
    let tag = head.etag.clone().unwrap_or_else(|| ETag::strong(&meta.version.0));
    Response::new(status)
        .static_header(header::CONTENT_TYPE, head.content_type)
        .static_header(header::ACCEPT_RANGES, "bytes")
        .static_header(header::CACHE_CONTROL, head.cache_control)
        .static_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::LAST_MODIFIED, meta.modified.http_date())
        .etag(&tag)
}

type OpenRange = Option<(u64, Option<u64>)>;

/// The one range to read: `Some(None)` for the whole file, `None` when there is no such object.
async fn wanted_range(cx: &Cx, request: &Request, key: &Key, head: &FileHead) -> Result<Option<OpenRange>> {
    let Some(specs) = request.header(header::RANGE).and_then(range::parse) else { return Ok(Some(None)) };
    let fits = match (request.header(header::IF_RANGE), &head.etag) {
        (None, _) => true,
        (Some(condition), Some(tag)) => condition.trim() == tag.as_str(),
        (Some(_), None) => false,
    };
    // Several ranges are answered with the whole file, which every client takes; OCI assembles them itself.
    let [spec] = specs.as_slice() else { return Ok(Some(None)) };
    if !fits {
        return Ok(Some(None));
    }
    match *spec {
        RangeSpec::From(start, Some(last)) if start > last => {
            let Some(meta) = cx.objects.stat(key).await? else { return Ok(None) };
            Err(unsatisfiable(meta.size))
        }
        RangeSpec::From(start, last) => Ok(Some(Some((start, last.map(|last| last.saturating_add(1)))))),
        // A suffix is never sent down: some stores answer the first bytes instead of the last.
        RangeSpec::Suffix(_) => {
            let Some(meta) = cx.objects.stat(key).await? else { return Ok(None) };
            let range = spec.resolve(meta.size).ok_or_else(|| unsatisfiable(meta.size))?;
            Ok(Some(Some((range.start, Some(range.end)))))
        }
    }
}

fn unsatisfiable(size: u64) -> Error {
    Error::new(Kind::Range, "the range lies outside the file")
        .with_header(header::CONTENT_RANGE, &format!("bytes */{size}"))
}
