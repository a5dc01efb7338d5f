//! A server that keeps users and tokens: what to call it without telling its password, how long to wait for it, and the 503 of one
//! that is away.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::storage::Document;

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long anything may take, connecting and waiting for one's turn included.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server is away, or refuses to work.
    Away(String),
    /// What was asked for can't be done.
    Ours(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// What the log sees of a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// A server, and the option that names it.
pub(super) struct Server {
    option: &'static str,
    /// Its URL without what is secret.
    shown: String,
    /// Its password, as written and as meant.
    secrets: Vec<String>,
}

impl Server {
    /// The server at a URL.
    pub(super) fn new(option: &'static str, url: &Url) -> Self {
        let mut shown = url.clone();
        // Parameters may hold secrets too, and nobody needs them to know the server.
        shown.set_query(None);
        shown.set_fragment(None);
        let mut secrets = Vec::new();
        if let Some(password) = url.password().filter(|password| !password.is_empty()) {
            secrets.push(password.to_owned());
            secrets.push(percent_decode_str(password).decode_utf8_lossy().into_owned());
            // Fails for URLs without a host, and those have no password.
            let _ = shown.set_password(Some("***"));
        }
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()).filter(|text| text.len() > 7));
        Self { option, shown: shown.into(), secrets }
    }

    /// A text of the server's or of its client's, without secrets.
    fn redacted(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// Waits for `work`, but no longer than for [`PATIENCE`].
    ///
    /// # Errors
    /// 503 if the server is away.
    pub(super) async fn call<T>(&self, work: impl Future<Output = Result<T, Fault>> + Send) -> Result<T> {
        self.wait(work).await.map_err(|fault| match fault {
            Fault::Ours(error) => error,
            Fault::Away(cause) => {
                Error::unavailable("the token store does not answer; try again").with_source(Cause(cause))
            }
        })
    }

    /// The same before anything else: whoever starts a registry sees what to mend.
    pub(super) async fn prepare(&self, work: impl Future<Output = Result<(), Fault>> + Send) -> Result<()> {
        self.wait(work).await.map_err(|fault| match fault {
            Fault::Ours(error) => error,
            Fault::Away(cause) => Error::unavailable(format!(
                "option `{}`: the token store {} is not ready: {cause}",
                self.option, self.shown
            )),
        })
    }

    async fn wait<T>(&self, work: impl Future<Output = Result<T, Fault>> + Send) -> Result<T, Fault> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Err(Fault::Away(cause))) => Err(Fault::Away(self.redacted(&cause))),
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::Away(format!("it did not answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// The URL of an option, of one of these kinds.
pub(super) fn url(option: &str, text: &Secret, schemes: &[&str], example: &str) -> Result<Url> {
    match Url::parse(text.expose()) {
        Ok(url) if schemes.contains(&url.scheme()) => Ok(url),
        // Not a word of what was written: it may well be a password.
        _ => Err(Error::invalid(format!("option `{option}` is no URL of a token store; write {example}"))),
    }
}

/// A record as text.
pub(super) fn written<D: Document>(record: &D) -> Result<String> {
    let bytes = record.serialize()?;
    if bytes.len() as u64 > D::LIMIT {
        return Err(Error::too_large(&format!("the {}", D::NAME), D::LIMIT));
    }
    String::from_utf8(bytes.into()).map_err(|_| Error::internal("JSON is not UTF-8"))
}

/// A record from text.
pub(super) fn read<D: Document>(text: String) -> Result<D> {
    D::parse(&Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::{Fault, Server, url};
    use crate::core::error::Kind;
    use crate::core::secret::Secret;

    fn server(text: &str) -> Server {
        Server::new("auth.redisUrl", &url("auth.redisUrl", &Secret::new(text), &["redis"], "").unwrap())
    }

    #[tokio::test]
    async fn the_password_of_a_server_is_in_no_error() {
        let server = server("redis://bob:p%40ss-w%C3%B6rd@cache.example.com:6379/2?token=0123456789");
        let causes = "refused `p@ss-wörd` and p%40ss-w%C3%B6rd and 0123456789";
        let away = || async { Err::<(), _>(Fault::Away(causes.to_owned())) };
        let error = server.prepare(away()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(
            error.message(),
            "option `auth.redisUrl`: the token store redis://bob:***@cache.example.com:6379/2 is not ready: refused `***` and *** and ***"
        );
        let error = server.call(away()).await.unwrap_err();
        assert_eq!(error.headers()[0].1, "1");
        assert!(!error.message().contains("cache.example.com"), "a client learns nothing of the server");
        assert_eq!(error.causes(), "refused `***` and *** and ***");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_away() {
        let server = server("redis://cache.example.com");
        let error = server.call(std::future::pending::<Result<(), Fault>>()).await.unwrap_err();
        assert_eq!(error.status(), 503);
        assert_eq!(error.causes(), "it did not answer within 5 s");
    }

    #[test]
    fn what_is_no_url_is_refused_without_a_word_of_it() {
        for text in ["hunter2", "http://hunter2.example.com", "redis//:hunter2@cache.example.com", ""] {
            let error = url("auth.redisUrl", &Secret::new(text), &["redis"], "`redis://…`").unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.message().contains("auth.redisUrl") && !error.message().contains("hunter2"));
        }
    }
}
