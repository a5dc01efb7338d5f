//! Small bodies, whole: JSON in whatever coding and form it comes.

use serde::de::DeserializeOwned;

use super::decode::Gunzip;
use crate::protocols::prelude::*;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Gzip,
}

/// The request's `Content-Encoding`: npm and bun gzip what they send to audits; one layer is enough for anybody.
pub(crate) fn coding(request: &Request) -> Result<Coding> {
    if is_decoded(&request.body) {
        return Ok(Coding::Plain);
    }
    match request.header(header::CONTENT_ENCODING).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "identity") => Ok(Coding::Plain),
        Some("gzip" | "x-gzip") => Ok(Coding::Gzip),
        Some(_) => Err(Error::new(Kind::UnsupportedMedia, "only Content-Encoding: gzip is understood")),
    }
}

/// Whether a body parser of the host was there first. It leaves the header as it was (`express.raw()` does), but no coding begins as JSON does.
fn is_decoded(body: &Body) -> bool {
    match body {
        Body::Bytes(bytes) => bytes
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|first| matches!(first, b'{' | b'[' | b'"')),
        other => other.is_parsed(),
    }
}

/// The whole body, decoded, at most `limit` bytes of it.
pub(crate) async fn bytes(request: &mut Request, what: &str, limit: u64) -> Result<Bytes> {
    let coding = coding(request)?;
    let raw = request.take_body().into_bytes(what, limit).await?;
    if coding == Coding::Plain {
        return Ok(raw);
    }
    let what = what.to_owned();
    let decode = move || {
        let mut gunzip = Gunzip::new();
        let mut whole = Vec::new();
        for piece in raw.chunks(4096) {
            whole.extend(gunzip.feed(piece)?);
            if whole.len() as u64 > limit {
                return Err(Error::too_large(&what, limit));
            }
        }
        whole.extend(gunzip.finish()?);
        if whole.len() as u64 > limit { Err(Error::too_large(&what, limit)) } else { Ok(Bytes::from(whole)) }
    };
    tokio::task::spawn_blocking(decode)
        .await
        .map_err(|error| Error::internal("decoding failed").with_source(error))?
}

/// A small JSON body as a type.
pub(crate) async fn json<T: DeserializeOwned>(
    npm: &super::Npm,
    request: &mut Request,
    what: &str,
) -> Result<T> {
    let bytes = bytes(request, what, npm.limits.small_body).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("{what} can't be taken: {error}")))
}

/// A body that is one JSON text (`"1.0.0"`), or the bare text, as some clients and body parsers leave it.
pub(crate) async fn text(request: &mut Request, what: &str) -> Result<String> {
    let bytes = bytes(request, what, 4096).await?;
    if let Ok(text) = serde_json::from_slice::<String>(&bytes) {
        return Ok(text);
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() || text.starts_with(['{', '[', '"']) {
        return Err(Error::invalid(format!("{what} must be a JSON text, such as \"1.0.0\"")));
    }
    Ok(text.to_owned())
}
