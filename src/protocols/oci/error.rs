//! The error table, and the JSON that docker, containerd and the others print.
//!
//! Codes: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::super::prelude::*;

pub(super) fn blob_unknown(digest: &Digest) -> Error {
    Error::not_found("the blob is not in this repository")
        .with_code("BLOB_UNKNOWN")
        .with_detail(json!({ "digest": digest.to_string() }))
}

pub(super) fn manifest_unknown(reference: &impl std::fmt::Display) -> Error {
    Error::not_found(format!("there is no manifest {reference} in this repository"))
        .with_code("MANIFEST_UNKNOWN")
        .with_detail(json!({ "reference": reference.to_string() }))
}

pub(super) fn manifest_invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(message).with_code("MANIFEST_INVALID")
}

pub(super) fn name_invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(message).with_code("NAME_INVALID")
}

pub(super) fn name_unknown(name: &super::name::Name) -> Error {
    Error::not_found("there is no such repository")
        .with_code("NAME_UNKNOWN")
        .with_detail(json!({ "name": name.as_str() }))
}

pub(super) fn digest_invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(message).with_code("DIGEST_INVALID")
}

pub(super) fn upload_invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(message).with_code("BLOB_UPLOAD_INVALID")
}

/// The same for a session that never was, is over, or is somebody else's.
pub(super) fn upload_unknown() -> Error {
    Error::not_found(
        "there is no such upload in this repository: it is finished, expired, or was never begun",
    )
    .with_code("BLOB_UPLOAD_UNKNOWN")
}

/// 416 for a chunk that does not go on where the session stands.
pub(super) fn out_of_order(stored: u64) -> Error {
    Error::new(
        Kind::Range,
        format!("this chunk is out of order: {stored} bytes are stored; go on behind them"),
    )
    .with_code("BLOB_UPLOAD_INVALID")
    .with_header(header::RANGE, &range(stored))
}

/// `Range` of an upload: `0-<last byte>`, and `0-0` also for nothing. Not the syntax of RFC 9110.
pub(super) fn range(stored: u64) -> String {
    format!("0-{}", stored.saturating_sub(1))
}

/// 403 for a tag that keeps what it names. docker prints the message.
pub(super) fn immutable(tag: &str, current: &Digest) -> Error {
    Error::denied(format!("the tag {tag} is immutable and names {current}; push under another tag"))
        .with_code("DENIED")
}

/// 403 for the deletion of a tag that keeps what it names: pushed again it could name something else.
pub(super) fn kept(tag: &str) -> Error {
    Error::denied(format!(
        "the tag {tag} is immutable and can't be deleted; only a retention rule removes it"
    ))
    .with_code("DENIED")
}

/// 405 for what would leave something behind that names what is gone.
pub(super) fn still_referenced(what: &str, by: &Digest) -> Error {
    Error::new(
        Kind::MethodNotAllowed,
        format!("{what} is still referenced by manifest {by} of this repository; delete that first"),
    )
    .with_code("DENIED")
}

/// 405 for a push into what is cached: it would be mixed with what the upstream has, or take its place.
pub(super) fn cached_repository(name: &super::name::Name, upstream: &str) -> Error {
    let upstream = crate::upstream::id_of(upstream);
    let message = format!(
        "{name} is cached from upstream {upstream} and takes no pushes; push under another name, or have the cached repository purged first"
    );
    Error::new(Kind::MethodNotAllowed, message)
        .with_code("UNSUPPORTED")
        .with_header(header::ALLOW, "GET, HEAD")
}

/// 405 with the methods that there are.
pub(super) fn method_not_allowed(allow: &'static str) -> Error {
    Error::new(Kind::MethodNotAllowed, "this method does nothing here")
        .with_code("UNSUPPORTED")
        .with_header(header::ALLOW, allow)
}

/// The code where the place that made the error gave none.
fn default_code(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthorized => "UNAUTHORIZED",
        Kind::Denied | Kind::Precondition | Kind::Conflict => "DENIED",
        Kind::NotFound => "NAME_UNKNOWN",
        Kind::TooMany => "TOOMANYREQUESTS",
        Kind::TooLarge | Kind::Range | Kind::LengthRequired => "SIZE_INVALID",
        Kind::Aborted | Kind::Timeout => "BLOB_UPLOAD_INVALID",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::MethodNotAllowed
        | Kind::Unsupported
        | Kind::Invalid
        | Kind::UnsupportedMedia
        | Kind::Unprocessable => "UNSUPPORTED",
        Kind::Internal | Kind::StorageFull | Kind::BadGateway => "UNKNOWN",
    }
}

/// `{"errors":[{code, message, detail?}]}`. A detail that is a list of digests becomes one entry per digest, as clients list what is missing.
pub(super) fn render(error: &Error) -> Response {
    respond(
        error.status(),
        // Why an upstream refuses is in the message; the specification has one code for it.
        error.code().filter(|code| *code != "UPSTREAM_REFUSED").unwrap_or_else(|| default_code(error.kind())),
        error.public_message(),
        error.detail(),
    )
}

/// The answer for a status that no kind of error has.
pub(super) fn respond(status: StatusCode, code: &str, message: &str, detail: Option<&Value>) -> Response {
    let entry = |detail: Option<&Value>| {
        let mut entry = json!({ "code": code, "message": message });
        if let (Some(entry), Some(detail)) = (entry.as_object_mut(), detail) {
            entry.insert("detail".to_owned(), detail.clone());
        }
        entry
    };
    let entries: Vec<Value> = match detail {
        Some(Value::Array(list)) => list.iter().map(|one| entry(Some(one))).collect(),
        other => vec![entry(other)],
    };
    Response::json(status, &json!({ "errors": entries }))
}
