//! Certificates that are trusted besides those of the platform: for a server whose certificate a private authority has signed.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::local::contents;

/// Where they are. Read with the first connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    /// `caFile` of the configuration.
    pub(crate) own: Option<PathBuf>,
    /// What the host's runtime trusts (`NODE_EXTRA_CA_CERTS`).
    pub(crate) host: Option<PathBuf>,
}

impl Roots {
    /// All of them as PEM.
    ///
    /// # Errors
    /// Why the configured file is unusable. That of the runtime is passed over then, as the runtime does.
    pub(crate) async fn read(&self, server: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        if let Some(path) = &self.own {
            found.push(read(path).await?);
        }
        if let Some(path) = &self.host {
            match read(path).await {
                Ok(text) => found.push(text),
                Err(why) => tracing::warn!("NODE_EXTRA_CA_CERTS is not used for {server}: {why}"),
            }
        }
        Ok(found)
    }
}

/// Checks certificates before the HTTP client sees them: it panics over bad ones.
async fn read(path: &Path) -> Result<String, String> {
    let bytes = contents(path).await.map_err(|error| format!("the file can't be read: {}", error.kind()))?;
    let bad = || "there is no certificate in the file that could be used (PEM)".to_owned();
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        roots.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
    }
    if roots.is_empty() { Err(bad()) } else { Ok(text) }
}
