//! A small document of a host that is no registry, such as an issuer's keys: asked for once, kept nowhere.

use std::error::Error as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Url;

use super::client::{Client, host};
use super::documents::whole;
use super::failure::Failure;
use crate::core::error::{Error, Kind, Result};

impl Client {
    /// The document at `url`, which the host of `origin` names, and the headers that came with it. Redirects are followed, never to a
    /// private address for a public origin.
    ///
    /// # Errors
    /// There is no such document of at most `limit` bytes. The message names hosts, and is for the log.
    pub async fn document(&self, url: &Url, origin: &Url, limit: u64) -> Result<(HeaderMap, Bytes)> {
        let headers = HeaderMap::from_iter([
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        let read = async {
            let answer = self.ask(&Method::GET, url, origin, &headers, &HeaderMap::new(), None).await?;
            if answer.status != StatusCode::OK {
                return Err(Failure::Status(answer.status.as_u16()));
            }
            let headers = answer.headers.clone();
            Ok((headers, whole(answer, "the document", limit).await?))
        };
        read.await.map_err(|failure| {
            let causes = failure.source().map(ToString::to_string);
            let kind = if failure.is_passing() { Kind::Unavailable } else { Kind::BadGateway };
            let error = Error::new(kind, format!("{} of {}: {failure}", url.path(), host(url)));
            match causes {
                Some(cause) => error.with_source(cause),
                None => error,
            }
        })
    }
}
