//! From what the SDK and the many S3 servers answer to what a caller can act on.
//!
//! The one question that matters for a write is whether it may have happened. A time-out, a reset or a 5xx does not say:
//! such an answer is [`StoreError::Unknown`], and the caller reads back.

use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ConnectorError, DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::storage::StoreError;

/// What is kept of a failed request, for the log.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// An answer that is no success, reduced to what decides.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// HTTP status; 0 if there was none.
    pub(super) status: u16,
    /// The code in the body; empty if there was none (answers to HEAD have no body).
    pub(super) code: String,
    pub(super) message: String,
    /// `Content-Range: bytes */N` of a 416.
    pub(super) size: Option<u64>,
    /// `x-amz-bucket-region`, which comes with 301 and 400 when the bucket is elsewhere.
    pub(super) region: Option<String>,
}

impl Answer {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata,
    {
        let raw = error.raw_response();
        let header = |name: &str| raw.and_then(|raw| raw.headers().get(name)).map(str::to_owned);
        let meta = match error {
            SdkError::ServiceError(inner) => Some(inner.err().meta()),
            _ => None,
        };
        Self {
            status: raw.map_or(0, |raw| raw.status().as_u16()),
            code: meta.and_then(|meta| meta.code()).unwrap_or_default().to_owned(),
            message: meta.and_then(|meta| meta.message()).unwrap_or_default().to_owned(),
            size: header("content-range").and_then(|text| text.rsplit('/').next()?.parse().ok()),
            region: header("x-amz-bucket-region"),
        }
    }

    /// Whether the request reached somebody who understood it and said no: then nothing has happened.
    fn is_refusal(&self) -> bool {
        (300..500).contains(&self.status)
    }

    pub(super) fn is_unsupported(&self) -> bool {
        self.status == 501 || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    fn into_store_error(self, failure: Failure) -> StoreError {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchUpload") => StoreError::NoSuchUpload,
            (_, "NoSuchBucket") => StoreError::Denied(failure.0),
            (304, _) => StoreError::NotModified,
            (_, "NoSuchKey") | (404, _) => StoreError::NotFound,
            (412, _) | (_, "PreconditionFailed") => StoreError::Precondition,
            (409, _) => StoreError::Conflict,
            (416, _) => StoreError::Range { size: self.size.unwrap_or(0) },
            (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded" | "QuotaExceededException") => {
                StoreError::Full(failure.into())
            }
            (429, _)
            | (
                _,
                "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded",
            ) => StoreError::Throttled(failure.into()),
            _ if self.is_unsupported() => StoreError::Unsupported(failure.0),
            (401 | 403, _)
            | (_, "ExpiredToken" | "InvalidToken" | "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                StoreError::Denied(failure.0)
            }
            // The server's way of saying that our bytes came too slowly.
            (400, "RequestTimeout") => StoreError::Unknown(failure.into()),
            _ if self.is_refusal() => StoreError::Failed(failure.into()),
            _ => StoreError::Unknown(failure.into()),
        }
    }
}

/// The error of an operation, with its text for the log.
pub(super) fn store_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let answer = Answer::of(error);
    match error {
        // Nothing was sent: bad input or no credentials.
        SdkError::ConstructionFailure(_) => StoreError::Failed(Box::new(Failure(describe(operation, error)))),
        SdkError::ServiceError(_) => {
            let text = format!("{operation}: {} {} {}", answer.status, answer.code, answer.message);
            answer.into_store_error(Failure(text.trim_end().to_owned()))
        }
        _ => StoreError::Unknown(Box::new(Failure(describe(operation, error)))),
    }
}

/// Whether no connection came about: then nothing was sent.
pub(super) fn never_connected(error: &ConnectorError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        cause = error.source();
    }
    false
}

/// An error without an answer, with its causes on one line.
fn describe<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    format!("{operation}: {}", DisplayErrorContext(error))
}

/// An error of our own making.
pub(super) fn failure(text: impl Into<String>) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(Failure(text.into()))
}

#[cfg(test)]
mod tests {
    use super::{Answer, Failure};
    use crate::storage::StoreError;

    #[test]
    fn only_a_clear_no_counts_as_not_having_happened() {
        type Check = fn(&StoreError) -> bool;
        let table: &[(u16, &str, Check)] = &[
            (404, "NoSuchKey", |e| matches!(e, StoreError::NotFound)),
            (404, "", |e| matches!(e, StoreError::NotFound)),
            (404, "NoSuchUpload", |e| matches!(e, StoreError::NoSuchUpload)),
            (404, "NoSuchBucket", |e| matches!(e, StoreError::Denied(_))),
            (304, "", |e| matches!(e, StoreError::NotModified)),
            (412, "PreconditionFailed", |e| matches!(e, StoreError::Precondition)),
            (409, "ConditionalRequestConflict", |e| matches!(e, StoreError::Conflict)),
            (409, "OperationAborted", |e| matches!(e, StoreError::Conflict)),
            (403, "AccessDenied", |e| matches!(e, StoreError::Denied(_))),
            (403, "SignatureDoesNotMatch", |e| matches!(e, StoreError::Denied(_))),
            (400, "ExpiredToken", |e| matches!(e, StoreError::Denied(_))),
            (301, "PermanentRedirect", |e| matches!(e, StoreError::Denied(_))),
            (501, "NotImplemented", |e| matches!(e, StoreError::Unsupported(_))),
            (503, "SlowDown", |e| matches!(e, StoreError::Throttled(_))),
            (429, "", |e| matches!(e, StoreError::Throttled(_))),
            (507, "", |e| matches!(e, StoreError::Full(_))),
            (400, "InvalidArgument", |e| matches!(e, StoreError::Failed(_))),
            (400, "RequestTimeout", |e| matches!(e, StoreError::Unknown(_))),
            (500, "InternalError", |e| matches!(e, StoreError::Unknown(_))),
            (502, "", |e| matches!(e, StoreError::Unknown(_))),
            (503, "ServiceUnavailable", |e| matches!(e, StoreError::Unknown(_))),
            // 200 with an error in the body: it was processed, and nobody knows how far.
            (200, "InternalError", |e| matches!(e, StoreError::Unknown(_))),
        ];
        for (status, code, check) in table {
            let answer = Answer { status: *status, code: (*code).into(), ..Answer::default() };
            let error = answer.into_store_error(Failure("x".into()));
            assert!(check(&error), "{status} {code}: {error:?}");
        }
        let answer = Answer { status: 416, size: Some(7), ..Answer::default() };
        assert!(matches!(answer.into_store_error(Failure("x".into())), StoreError::Range { size: 7 }));
    }
}
