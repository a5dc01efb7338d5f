//! The native listener, as `registry.listen()` gives it.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::Out;
use super::runtime::promise;
use crate::core::error::{Error, Result};
use crate::http::{self, HttpLimits, ListenOptions, Pem, TlsOptions};
use crate::registry::Registry;

/// A running listener. It lives until it is closed, whether JavaScript keeps this or not.
#[napi]
pub struct NativeServer {
    server: Arc<http::Server>,
}

/// `ListenOptions` as the facade writes them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    host: String,
    port: u16,
    tls: Option<GivenTls>,
    #[serde(default)]
    limits: HttpLimits,
}

#[derive(Deserialize)]
struct GivenTls {
    cert: GivenPem,
    key: GivenPem,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum GivenPem {
    File(String),
    Text(String),
}

impl From<GivenPem> for Pem {
    fn from(given: GivenPem) -> Self {
        match given {
            GivenPem::File(path) => Self::File(path.into()),
            GivenPem::Text(text) => Self::Text(text.into_bytes()),
        }
    }
}

/// Listens.
pub(super) async fn listen(
    registry: Arc<Registry>,
    options: &str,
    stop: CancellationToken,
) -> Result<NativeServer> {
    let given: Given = serde_json::from_str(options)
        .map_err(|error| Error::invalid(format!("the options of listen() are not usable: {error}")))?;
    let tls = given.tls.map(|tls| TlsOptions { cert: tls.cert.into(), key: tls.key.into() });
    let options = ListenOptions { host: given.host, port: given.port, tls, limits: given.limits, stop };
    Ok(NativeServer { server: Arc::new(http::listen(registry, options).await?) })
}

#[napi]
impl NativeServer {
    /// The port that it has.
    #[napi(catch_unwind)]
    pub fn port(&self) -> u16 {
        self.server.addr().port()
    }

    /// `http` or `https`.
    #[napi(catch_unwind)]
    pub fn scheme(&self) -> String {
        self.server.scheme().to_owned()
    }

    /// Reads the certificate files again.
    #[napi(catch_unwind)]
    pub fn reload_tls<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let server = Arc::clone(&self.server);
        promise(env, async move { server.reload_tls().await })
    }

    /// Stops accepting and waits for what runs.
    #[napi(catch_unwind)]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let server = Arc::clone(&self.server);
        promise(env, async move {
            server.close().await;
            Ok(())
        })
    }
}
