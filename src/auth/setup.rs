//! Puts the pieces together from the configuration, and refuses what can't work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::builtin::Builtin;
use super::custom::Fenced;
use super::jwt::Jwt;
use super::limiter::Limiter;
use super::oidc::Issuers;
use super::provider::AuthProvider;
use super::records::{Documents, TokenBackend};
use super::visibility::Rules;
use super::{Auth, Users};
use crate::config::{AuthConfig, TokenStore};
use crate::core::error::{Error, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::Clock;
use crate::storage::memory::MemoryStore;
use crate::storage::{Storage, StorageLimits};

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
        let lasting = token_store(config, &mut warnings)?;
        let custom = setup.provider.is_some();
        let secret = secret(config, setup.oci, setup.shared && lasting && !custom, &mut warnings)?;
        let service = config.oci_tokens.service.clone().unwrap_or_else(|| SERVICE.to_owned());
        let jwt = Jwt::new(&secret, service, clock.clone());
        let issuers = Issuers::new(&config.trusted_issuers)?;
        let users = if let Some(provider) = setup.provider {
            let (limit, cache) = (config.provider_timeout_ms, config.provider_cache_seconds);
            Users::Custom(Fenced::new(provider, limit, cache, clock.clone()))
        } else {
            let storage = if lasting { setup.storage.clone() } else { in_memory(clock) };
            let backend: Arc<dyn TokenBackend> = Arc::new(Documents::new(storage, clock.clone()));
            let builtin = Builtin::new(backend, config, Arc::clone(&limiter), clock, setup.metadata_ttl);
            Users::Builtin(Box::new(builtin))
        };
        Ok(Self {
            users,
            jwt,
            issuers,
            rules,
            config: config.clone(),
            clock: clock.clone(),
            limiter,
            warnings,
            ready: OnceCell::new(),
        })
    }
}

/// A store of this process, for `tokenStore: 'memory'`.
fn in_memory(clock: &Clock) -> Storage {
    let limits = StorageLimits { cache_bytes: 4 << 20, ..StorageLimits::default() };
    Storage::new(Arc::new(MemoryStore::new(clock.clone())), None, &limits, clock.clone())
}

/// Whether tokens outlive the process.
fn token_store(config: &AuthConfig, warnings: &mut Vec<String>) -> Result<bool> {
    let (name, option, url) = match config.token_store {
        TokenStore::Memory => return Ok(false),
        TokenStore::Storage => return Ok(true),
        TokenStore::Redis => ("redis", "redisUrl", &config.redis_url),
        TokenStore::Database => ("database", "databaseUrl", &config.database_url),
    };
    if url.as_ref().is_some_and(|url| !url.is_empty()) {
        return Err(Error::invalid(format!(
            "option `auth.{option}`: the token store `{name}` is not built yet; leave the option out to keep tokens in the registry's own storage"
        )));
    }
    warnings.push(format!(
        "option `auth.tokenStore` is `{name}` and `auth.{option}` is missing: tokens are kept in the registry's own storage"
    ));
    Ok(true)
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
            "option `auth.jwtSecret` is missing: it signs OCI tokens, and every process on this bucket needs the same one (32 random bytes); or switch them off with `auth.ociTokens.enabled: false`",
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
