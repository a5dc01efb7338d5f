//! Puts the pieces together from the configuration, and refuses what can't work.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::builtin::Builtin;
use super::custom::Fenced;
use super::jwt::Jwt;
use super::keys::KeySource;
use super::limiter::Limiter;
use super::oidc::Issuers;
use super::provider::AuthProvider;
use super::stores::Place;
use super::visibility::Rules;
use super::{Auth, Users};
use crate::config::AuthConfig;
use crate::core::error::{Error, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::Clock;
use crate::storage::Storage;

/// `service` of OCI challenges and tokens unless configured. It must contain neither `bearer` nor `basic`, which some clients look for in
/// the whole challenge.
const SERVICE: &str = "smartregistry";

/// Shorter secrets can be guessed from one token (RFC 7518, section 3.2 asks for 32 bytes).
const SHORT_SECRET: usize = 16;

/// What [`Auth`] is made from.
pub struct Setup<'a> {
    /// `auth` of the configuration.
    pub config: &'a AuthConfig,
    /// The application's own provider.
    pub provider: Option<Arc<dyn AuthProvider>>,
    /// The registry's storage, for the token store `storage`.
    pub storage: &'a Storage,
    /// The clock.
    pub clock: &'a Clock,
    /// How old what is known of a token may be.
    pub metadata_ttl: Duration,
    /// `features.anonymousRead` by protocol; one that isn't named has it on.
    pub anonymous_read: BTreeMap<String, bool>,
    /// Who fetches the keys of issuers.
    pub keys: Arc<dyn KeySource>,
    /// Whether OCI is served.
    pub oci: bool,
    /// Whether other processes may serve the same storage: then they must agree on what they sign with.
    pub shared: bool,
}

impl Auth {
    /// Builds it. Does no IO.
    ///
    /// # Errors
    /// An unusable option, named.
    pub fn new(setup: Setup<'_>) -> Result<Self> {
        let Setup { config, clock, .. } = setup;
        let mut warnings = Vec::new();
        let rules = Rules::new(&config.visibility, setup.anonymous_read)?;
        let limiter = Arc::new(Limiter::new(clock));
        let place = Place::new(config, &mut warnings);
        let custom = setup.provider.is_some();
        let secret = secret(config, setup.oci, place.is_shared(setup.shared) && !custom, &mut warnings)?;
        let service = config.oci_tokens.service.clone().unwrap_or_else(|| SERVICE.to_owned());
        let jwt = Jwt::new(&secret, service, clock.clone());
        let issuers = Issuers::new(&config.trusted_issuers, &setup.keys, clock)?;
        let users = if let Some(provider) = setup.provider {
            let (limit, cache) = (config.provider_timeout_ms, config.provider_cache_seconds);
            Users::Custom(Fenced::new(provider, limit, cache, clock.clone()))
        } else {
            let (backend, age) = place.open(setup.storage, clock, setup.metadata_ttl)?;
            let builtin = Builtin::new(backend, config, Arc::clone(&limiter), clock, age);
            Users::Builtin(Box::new(builtin))
        };
        Ok(Self {
            users,
            jwt,
            issuers,
            rules,
            packages: OnceLock::new(),
            config: config.clone(),
            clock: clock.clone(),
            limiter,
            warnings,
            ready: OnceCell::new(),
        })
    }
}

/// The secret that signs OCI tokens.
fn secret(config: &AuthConfig, oci: bool, shared: bool, warnings: &mut Vec<String>) -> Result<Secret> {
    let used = oci && config.oci_tokens.enabled.unwrap_or(true);
    if !config.jwt_secret.is_empty() {
        if used && config.jwt_secret.expose().len() < SHORT_SECRET {
            warnings.push(format!(
                "option `auth.jwtSecret` is shorter than {SHORT_SECRET} bytes and can be guessed; use 32 random ones"
            ));
        }
        return Ok(config.jwt_secret.clone());
    }
    if used && shared {
        return Err(Error::invalid(
            "option `auth.jwtSecret` is missing: it signs OCI tokens, and every process with these tokens needs the same one (32 random bytes); or switch them off with `auth.ociTokens.enabled: false`",
        ));
    }
    if used {
        warnings.push(
            "option `auth.jwtSecret` is missing: OCI tokens are signed with a random secret and end with this process"
                .to_owned(),
        );
    }
    Ok(Secret::new(format!("{}{}", id::uuid(), id::uuid())))
}
