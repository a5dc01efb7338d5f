//! The one HTTP client: HTTP/1.1 and h2, TLS by the system's roots, pooled connections, a time limit on every request.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::core::error::{Error, Result};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// What is read of an answer that is only looked at for its status.
const GLANCE: usize = 16 << 10;

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client without connections.
    ///
    /// # Errors
    /// The system has no root certificates.
    pub fn new() -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Error::internal("there are no root certificates").with_source(error))?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self(pool))
    }

    /// Sends a request and answers with the status; of the body as much is read as it takes to use the connection again. Redirects are not
    /// followed.
    ///
    /// # Errors
    /// No answer came within `limit`.
    pub async fn notify(&self, request: Request<Bytes>, limit: Duration) -> Result<StatusCode> {
        let exchange = async {
            let answer = self
                .0
                .request(request.map(Full::new))
                .await
                .map_err(|error| Error::unavailable("no answer came").with_source(error))?;
            let status = answer.status();
            // What is longer costs the connection, and nothing else.
            let _ = Limited::new(answer.into_body(), GLANCE).collect().await;
            Ok(status)
        };
        tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| Error::unavailable(format!("no answer came within {} s", limit.as_secs())))?
    }
}
