//! Certificate and key from PEM files or text, read again when the files change. The only place outside `storage` that reads files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::core::error::{Error, Result};

/// PEM text, or where it is.
#[derive(Clone)]
pub enum Pem {
    /// A file.
    File(PathBuf),
    /// The text itself.
    Text(Vec<u8>),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            // It may be a private key.
            Self::Text(_) => f.write_str("Text(…)"),
        }
    }
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The certificate and its chain, leaf first.
    pub cert: Pem,
    /// Its private key: PKCS #8, PKCS #1 or SEC1.
    pub key: Pem,
}

/// The certificate in use.
pub(super) struct Certificates {
    options: TlsOptions,
    current: ArcSwap<ServerConfig>,
}

impl Certificates {
    pub(super) async fn load(options: TlsOptions) -> Result<Self> {
        let current = ArcSwap::new(build(&options).await?);
        Ok(Self { options, current })
    }

    /// What a new connection is greeted with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    pub(super) async fn reload(&self) -> Result<()> {
        self.current.store(build(&self.options).await?);
        Ok(())
    }

    /// Looks at the files every `interval` milliseconds (0: never) and reads them when one has changed. A renewal that replaces the two
    /// files one after the other is seen between them: the pair doesn't fit, the old one stays, and the next look finds both.
    pub(super) async fn watch(self: Arc<Self>, interval: u64, stop: CancellationToken) {
        let files: Vec<_> = [&self.options.cert, &self.options.key]
            .into_iter()
            .filter_map(|pem| match pem {
                Pem::File(path) => Some(path.clone()),
                Pem::Text(_) => None,
            })
            .collect();
        if files.is_empty() || interval == 0 {
            return;
        }
        let mut seen = stamps(&files).await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(interval)) => {}
            }
            let now = stamps(&files).await;
            if now == seen {
                continue;
            }
            match self.reload().await {
                Ok(()) => {
                    seen = now;
                    tracing::info!(
                        "the certificate files have changed; new connections get the new certificate"
                    );
                }
                Err(error) => {
                    tracing::warn!(causes = error.causes(), "{}; the old certificate stays", error.message());
                }
            }
        }
    }
}

/// When the files were written, and how long they are.
async fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let mut list = Vec::with_capacity(files.len());
    for file in files {
        let meta = tokio::fs::metadata(file).await.ok();
        list.push(meta.and_then(|meta| Some((meta.modified().ok()?, meta.len()))));
    }
    list
}

async fn read(pem: &Pem, option: &str) -> Result<Vec<u8>> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        Pem::File(path) => tokio::fs::read(path).await.map_err(|error| {
            Error::invalid(format!("option `{option}`: the file can't be read: {}", error.kind()))
                .with_source(error)
        }),
    }
}

async fn build(options: &TlsOptions) -> Result<Arc<ServerConfig>> {
    let unusable =
        |option: &str, what: &dyn std::fmt::Display| Error::invalid(format!("option `{option}`: {what}"));
    let cert = read(&options.cert, "tls.cert").await?;
    let chain = CertificateDer::pem_slice_iter(&cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("tls.cert", &error))?;
    if chain.is_empty() {
        return Err(unusable("tls.cert", &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&options.key, "tls.key").await?)
        .map_err(|error| unusable("tls.key", &error))?;
    // The provider is named: with two of them in the program rustls would panic instead of choosing.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS is not available").with_source(error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable("tls", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
