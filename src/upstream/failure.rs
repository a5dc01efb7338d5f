//! Why an upstream gave no usable answer.

use std::time::Duration;

use crate::core::error::{Error, Kind};

/// What went wrong with one upstream. Whoever asked in the end is told by [`Failure::to_error`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Left alone for so long, since it failed before or asked for it.
    #[error("it is left alone for {} s", .0.as_secs().max(1))]
    Resting(Duration),
    /// No connection, or a broken one.
    #[error("it can't be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// It answered that it can't.
    #[error("it answered {0}")]
    Status(u16),
    /// It is too much for it; how long to wait, if it said so.
    #[error("it answered that there were too many requests")]
    TooMany(Option<Duration>),
    /// It sent us where we do not go.
    #[error("{0}")]
    Strayed(String),
    /// It does not take our credentials.
    #[error("it does not take the credentials that are configured for it")]
    Unauthorized,
    /// What it sent is not what it should be.
    #[error("{0}")]
    Nonsense(String),
    /// Not its fault.
    #[error("{}", .0.message())]
    Ours(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL may hold a secret.
        Self::Unreachable(error.without_url().into())
    }
}

impl Failure {
    /// Whether to try again may help.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent(_) | Self::Status(500..=599))
    }

    /// Whether it tells that the upstream is not well.
    pub(super) fn counts(&self) -> bool {
        self.is_passing() || matches!(self, Self::Nonsense(_))
    }

    /// What the client is told: a 404 would be taken for the truth, so there is none here.
    pub(super) fn to_error(&self, upstream: &str, what: &str) -> Error {
        let wait = match self {
            Self::Resting(wait) | Self::TooMany(Some(wait)) => wait.as_secs().max(1),
            _ => 5,
        };
        let why = match self {
            // Hosts behind it are for the log.
            Self::Strayed(_) => "it sends on to where this registry does not follow".to_owned(),
            other => other.to_string(),
        };
        let message = format!("{what} is not cached, and upstream {upstream} gave no answer: {why}");
        match self {
            Self::Ours(error) => error.echo(),
            Self::Strayed(_) | Self::Unauthorized | Self::Nonsense(_) => {
                Error::new(Kind::BadGateway, message)
            }
            _ => Error::unavailable(format!("{message}; try again"))
                .with_header(http::header::RETRY_AFTER, &wait.to_string()),
        }
    }
}
