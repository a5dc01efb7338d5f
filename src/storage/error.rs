//! What a backend can answer instead of yes, in terms a caller can act on.

use crate::core::error::{Error, Kind};

/// An error of a backend. Each kind tells the caller what to do next; the cause is for the log.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing under this key.
    #[error("no object under this key")]
    NotFound,
    /// The object still has the version that the caller knows.
    #[error("the object has not changed")]
    NotModified,
    /// The condition of a write or read does not hold.
    #[error("the object is not in the expected state")]
    Precondition,
    /// Somebody else was at it at the same moment: try again.
    #[error("a concurrent operation on this object interfered")]
    Conflict,
    /// The range lies outside an object of this size.
    #[error("the range lies outside the object of {size} bytes")]
    Range {
        /// Size of the object in bytes.
        size: u64,
    },
    /// The store can't do this at all.
    #[error("the store does not support this: {0}")]
    Unsupported(String),
    /// The store asks for patience; the write did not happen.
    #[error("the store is busy")]
    Throttled(#[source] Cause),
    /// Nobody knows whether a write happened: read back before trying again.
    #[error("the store did not answer; the outcome is unknown")]
    Unknown(#[source] Cause),
    /// Our credentials don't allow it.
    #[error("the store refuses access: {0}")]
    Denied(String),
    /// No room left.
    #[error("the store is full")]
    Full(#[source] Cause),
    /// The stored bytes are not what was written.
    #[error("the stored object is damaged: {0}")]
    Corrupt(String),
    /// A broken multipart upload, or one that is gone.
    #[error("no such upload")]
    NoSuchUpload,
    /// Anything else; the operation did not happen.
    #[error("the store failed")]
    Failed(#[source] Cause),
}

/// The backend's own error.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unknown(_) | Self::Conflict)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound => Self::not_found("not found"),
            StoreError::NotModified => {
                Self::internal("an unchanged object where its bytes were asked for").with_source(error)
            }
            StoreError::Precondition => {
                Self::new(Kind::Precondition, "the stored object has changed meanwhile")
            }
            StoreError::Conflict | StoreError::Throttled(_) | StoreError::Unknown(_) => {
                Self::unavailable("the storage is not answering at the moment; try again").with_source(error)
            }
            StoreError::Range { size } => Self::new(Kind::Range, "the range lies outside the file")
                .with_header(http::header::CONTENT_RANGE, &format!("bytes */{size}")),
            StoreError::Full(_) => {
                Self::new(Kind::StorageFull, "the registry's storage is full").with_source(error)
            }
            StoreError::Unsupported(_)
            | StoreError::Denied(_)
            | StoreError::Corrupt(_)
            | StoreError::NoSuchUpload
            | StoreError::Failed(_) => Self::internal("the storage failed").with_source(error),
        }
    }
}
