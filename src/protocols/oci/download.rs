//! Blobs: whole, one range, or several ranges in one answer.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderValue;

use super::super::files::{self, FileHead};
use super::super::prelude::*;
use super::name::{self, Name};
use super::proxy::{self, Place};
use super::{Call, keys};
use crate::core::id;
use crate::core::range::{self, ByteRange};

/// Most ranges in one request; lazy pullers ask for a few dozen.
const MAX_RANGES: usize = 1000;
/// Blobs from this size on are fetched from the store itself where that is configured: below, a second request costs more than it saves.
const REDIRECT_FROM: u64 = 1 << 20;
/// How long the link to the store is good. A download that has begun goes on.
const REDIRECT_TTL: Duration = Duration::from_mins(10);
/// Type of every blob: what is in it is nobody's business on the way.
pub(super) const TYPE: &str = "application/octet-stream";

/// `GET`, `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn get_blob(
    call: &Call<'_>,
    name: &Name,
    digest: &str,
    request: &Request,
) -> Result<Response> {
    let place = Place::find(call, name, request, "blob").await?;
    let (name, digest) = (&place.name, name::digest(digest)?);
    // Who asks whether it is there is about to push what needs it.
    let found = if request.is_head() {
        call.promised(name, &digest).await?
    } else {
        call.visible(name, &digest).await?
    };
    let served = match found {
        Some(size) if place.opens(call, &format!("blobs/{digest}")).await? => {
            serve(call, name, &digest, size, request).await?
        }
        _ => None,
    };
    match served {
        Some(response) => Ok(place.sign(call, response, None)),
        None => proxy::get_missing_blob(call, &place, &digest, request).await,
    }
}

/// Answers with a blob that is visible; `None` if it is gone.
pub(super) async fn serve(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    size: u64,
    request: &Request,
) -> Result<Option<Response>> {
    let text = digest.to_string();
    let head =
        FileHead { content_type: TYPE, etag: Some(ETag::strong(&text)), cache_control: call.immutable(name) };
    let key = keys::blob(digest)?;
    let info = ObjectInfo::of(name.as_str()).digest(&text).content_type(TYPE);
    let response = match several(request, &text) {
        Some(ranges) => several_ranges(call, &key, &info, &head, size, &ranges)?,
        None => match redirect(call, request, &key, &info, size).await? {
            Some(redirect) => redirect,
            None => match files::serve(call.cx, request, &key, &head, &info).await? {
                Some(response) => response,
                None => return Ok(None),
            },
        },
    };
    Ok(Some(sealed(response, &text)))
}

fn sealed(response: Response, digest: &str) -> Response {
    response
        .header("docker-content-digest", digest)
        // A stored page must not run on the registry's origin.
        .static_header(header::CONTENT_SECURITY_POLICY, "sandbox")
        .static_header(header::CONTENT_DISPOSITION, "attachment")
}

/// The answer for a whole blob that is not in the store yet, without its bytes.
pub(super) fn fresh(call: &Call<'_>, name: &Name, digest: &Digest) -> Response {
    let text = digest.to_string();
    let response = Response::new(StatusCode::OK)
        .static_header(header::CONTENT_TYPE, TYPE)
        .static_header(header::ACCEPT_RANGES, "bytes")
        .static_header(header::CACHE_CONTROL, call.immutable(name))
        .etag(&ETag::strong(&text));
    sealed(response, &text)
}

/// 307 to the store, if that is configured and it can. Several ranges are never redirected, since stores answer the whole blob or 501; a HEAD
/// and a client that has the blob cost less here.
async fn redirect(
    call: &Call<'_>,
    request: &Request,
    key: &Key,
    info: &ObjectInfo,
    size: u64,
) -> Result<Option<Response>> {
    let here = request.is_head() || request.header(header::IF_NONE_MATCH).is_some();
    if !call.oci.redirect || here || size < REDIRECT_FROM {
        return Ok(None);
    }
    let url = call.cx.objects.presign(key, REDIRECT_TTL, info, size).await?;
    Ok(url.map(|url| {
        Response::new(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, url)
            // The link is a key to the blob, and ends before long.
            .static_header(header::CACHE_CONTROL, "no-store")
    }))
}

/// The ranges, if several are asked for and `If-Range` lets them.
fn several(request: &Request, tag: &str) -> Option<Vec<range::RangeSpec>> {
    let ranges = request.header(header::RANGE).and_then(range::parse).filter(|list| list.len() > 1)?;
    let fits = request.header(header::IF_RANGE).is_none_or(|one| one.trim() == ETag::strong(tag).as_str());
    let unchanged = request.header(header::IF_NONE_MATCH).is_some();
    (fits && !unchanged && !request.is_head()).then_some(ranges)
}

/// As many parts as ranges, in the order in which they were asked for, not merged: podman counts them, and gives up on the pull for
/// any status but 206, 200 and 400.
fn several_ranges(
    call: &Call<'_>,
    key: &Key,
    info: &ObjectInfo,
    head: &FileHead,
    size: u64,
    specs: &[range::RangeSpec],
) -> Result<Response> {
    let ranges: Option<Vec<ByteRange>> = specs.iter().map(|spec| spec.resolve(size)).collect();
    let ranges = ranges.filter(|ranges| {
        let wanted = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.len()));
        ranges.len() <= MAX_RANGES && wanted <= size.saturating_mul(2)
    });
    let Some(ranges) = ranges else {
        return Err(Error::invalid("these ranges are too many, overlap too much, or lie outside the blob")
            .with_code("SIZE_INVALID"));
    };
    let boundary = id::uuid();
    let part_head = |range: &ByteRange| {
        let range = range.content_range(size);
        Bytes::from(format!("\r\n--{boundary}\r\nContent-Type: {TYPE}\r\nContent-Range: {range}\r\n\r\n"))
    };
    let parts: Vec<(Bytes, ByteRange)> = ranges.iter().map(|range| (part_head(range), *range)).collect();
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let length =
        parts.iter().map(|(head, range)| head.len() as u64 + range.len()).sum::<u64>() + end.len() as u64;
    let (objects, key, info) = (call.cx.objects.clone(), key.clone(), info.clone());
    let bodies = stream::iter(parts).then(move |(head, range)| {
        let (objects, key, info) = (objects.clone(), key.clone(), info.clone());
        async move {
            let options = GetOptions { range: Some((range.start, Some(range.end))), ..GetOptions::default() };
            let body = match objects.read(&key, options, &info).await {
                Ok(Some(found)) => found.body,
                Ok(None) => Box::pin(stream::iter([Err(Error::not_found("the blob is gone"))])),
                Err(error) => Box::pin(stream::iter([Err(error)])),
            };
            stream::iter([Ok(head)]).chain(body)
        }
    });
    let body = bodies.flatten().chain(stream::iter([Ok(end)]));
    let mut response = Response::new(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"))
        .static_header(header::ACCEPT_RANGES, "bytes")
        .static_header(header::CACHE_CONTROL, head.cache_control);
    if let Some(tag) = &head.etag {
        response = response.etag(tag);
    }
    response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response.body = Body::stream(body, Some(length));
    Ok(response)
}
