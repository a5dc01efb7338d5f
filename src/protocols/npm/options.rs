//! What only this protocol's entry in the configuration has: signing, publishing, advisories.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use crate::config::ProtocolConfig;
use crate::core::ecdsa::KeyPairP256;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;

/// The options of `npm` beside those that every protocol has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Options {
    /// The registry's own signatures.
    pub(crate) signing: Signing,
    /// How publishes are taken.
    pub(crate) publish: Publish,
    /// Known vulnerabilities by package, for `npm audit`; added to those that lie in the storage.
    pub(crate) advisories: BTreeMap<String, Vec<Value>>,
}

impl Options {
    /// Reads and checks them.
    pub(crate) fn read(config: &ProtocolConfig) -> Result<Self> {
        let options: Self = config.options(NAME.as_str())?;
        if let Some(Err(error)) = options.signing.private_key.as_ref().map(KeyPairP256::from_pem) {
            return Err(Error::invalid(format!("option `npm.signing.privateKey`: {}", error.message())));
        }
        Ok(options)
    }
}

/// `npm.signing`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Signing {
    /// PKCS#8 in PEM, ECDSA on P-256. Without it the registry makes a key pair and keeps it in its storage.
    pub(crate) private_key: Option<Secret>,
    /// Days after which a key pair of the registry's own is replaced; never without it.
    pub(crate) rotate_days: Option<u32>,
}

/// `npm.publish`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Publish {
    /// Seconds for which the same publish by the same user counts as the retry of one whose answer got lost.
    pub(crate) idempotent_window: u64,
}

impl Default for Publish {
    fn default() -> Self {
        Self { idempotent_window: 15 * 60 }
    }
}
