//! Upstreams as users write them (`IProtocolUpstreamConfig` and what is in it), with their defaults. Read once; checked by `upstream`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::secret::Secret;

/// The upstreams of one protocol.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolUpstreams {
    /// Whether any is asked.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where to ask.
    #[serde(default)]
    pub upstreams: Vec<UpstreamConfig>,
    /// How long answers are kept, for all of them.
    #[serde(default)]
    pub cache: CacheConfig,
    /// How hard to try, for all of them.
    #[serde(default)]
    pub resilience: ResilienceConfig,
    /// What is let through, for all of them.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Names that are never asked for outside, whether anything of that name is here or not.
    #[serde(default)]
    pub private: Vec<String>,
    /// Names whose own versions and those of an upstream are shown as one package; own versions win. Without this what is published here hides
    /// everything of that name elsewhere.
    #[serde(default)]
    pub merge: Vec<String>,
    /// Whether a name that exists upstream may be published here for the first time.
    #[serde(default)]
    pub allow_shadowing: bool,
}

impl Default for ProtocolUpstreams {
    fn default() -> Self {
        Self {
            enabled: true,
            upstreams: Vec::new(),
            cache: CacheConfig::default(),
            resilience: ResilienceConfig::default(),
            policy: PolicyConfig::default(),
            private: Vec::new(),
            merge: Vec::new(),
            allow_shadowing: false,
        }
    }
}

fn yes() -> bool {
    true
}

/// One upstream (`IUpstreamRegistryConfig`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamConfig {
    /// Names it in keys, logs and metrics; what is cached of it is found again by this.
    pub id: String,
    /// Its base URL.
    pub url: String,
    /// Lower is asked first.
    pub priority: i64,
    /// Whether it is asked.
    pub enabled: Option<bool>,
    /// For which names it is asked.
    pub scope_rules: Vec<ScopeRule>,
    /// What it is shown.
    pub auth: UpstreamAuth,
    /// Overrides of the protocol's `cache`.
    pub cache: CacheConfig,
    /// Overrides of the protocol's `resilience`.
    pub resilience: ResilienceConfig,
    /// Overrides of the protocol's `policy`.
    pub policy: PolicyConfig,
    /// An HTTP proxy through which it is reached (`http://user:password@host:port`).
    pub proxy: Option<Secret>,
    /// A file with certificates (PEM) to trust besides those of the platform.
    pub ca_file: Option<PathBuf>,
    /// Whether it may redirect to, or name files on, hosts with private addresses. By default if its own host has one.
    pub allow_private_addresses: Option<bool>,
    /// OCI: the name that clients know it by (`docker.io`), as `ns=` and as the first part of a repository's name; its host unless given.
    pub namespace: Option<String>,
}

/// For which names an upstream is asked. An `exclude` that matches always wins; with any `include`, one must match.
#[derive(Debug, Clone, Deserialize)]
pub struct ScopeRule {
    /// A glob over names: `@acme/*`.
    pub pattern: String,
    /// What it does.
    pub action: ScopeAction,
}

/// What a [`ScopeRule`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeAction {
    /// These names are asked for.
    Include,
    /// These are not.
    Exclude,
}

/// What an upstream is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamAuth {
    /// How.
    #[serde(rename = "type")]
    pub kind: AuthKind,
    /// `basic`.
    pub username: Option<String>,
    /// `basic`.
    pub password: Option<Secret>,
    /// `bearer`; with a user name and an OCI upstream, the password for its token endpoint.
    pub token: Option<Secret>,
    /// `api-key`.
    pub header_name: Option<String>,
    /// `api-key`.
    pub header_value: Option<Secret>,
    /// Further hosts whose token endpoints may be shown the credentials; its own domain always may.
    pub token_hosts: Vec<String>,
}

/// How an upstream is authenticated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthKind {
    /// Not at all.
    #[default]
    None,
    /// User name and password.
    Basic,
    /// A token.
    Bearer,
    /// A header of its own.
    ApiKey,
}

/// How long answers are kept (`IUpstreamCacheConfig`). What is not given is taken from the protocol's, then from the default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheConfig {
    /// Whether anything is kept; on.
    pub enabled: Option<bool>,
    /// How long a document is fresh; 300 s.
    pub default_ttl_seconds: Option<u64>,
    /// How long something is fresh that never changes under its name; 30 days.
    pub immutable_ttl_seconds: Option<u64>,
    /// Whether what is no longer fresh is served while it is asked for again; on.
    pub stale_while_revalidate: Option<bool>,
    /// For how long after it was fresh; 3600 s.
    pub stale_max_age_seconds: Option<u64>,
    /// For how long something is served, after it was fresh, while its upstream fails; 30 days.
    pub stale_if_error_seconds: Option<u64>,
    /// For how long it is believed that something is not there; 60 s.
    pub negative_cache_ttl_seconds: Option<u64>,
}

/// How hard to try (`IUpstreamResilienceConfig`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResilienceConfig {
    /// Milliseconds for a connection, for the head of an answer after that, and for each silence within its body; 30,000.
    pub timeout_ms: Option<u64>,
    /// Further tries after a failed one; 3.
    pub max_retries: Option<u32>,
    /// Milliseconds before the first of them, doubled for each, with jitter; 1,000.
    pub retry_delay_ms: Option<u64>,
    /// Milliseconds that a delay does not exceed; 30,000.
    pub retry_max_delay_ms: Option<u64>,
    /// Failures in a row after which it is left alone; 5.
    pub circuit_breaker_threshold: Option<u32>,
    /// Milliseconds for which it is left alone; 30,000.
    pub circuit_breaker_reset_ms: Option<u64>,
}

/// What is let through (`IUpstreamPolicyConfig`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyConfig {
    /// Seconds that a version must have been out; 0.
    pub minimum_release_age_seconds: Option<u64>,
    /// Names for which no age is asked.
    pub minimum_release_age_exclude: Option<Vec<String>>,
    /// Names that are let through; all if there are none here.
    pub allow: Option<Vec<String>>,
    /// Names and versions that are not.
    pub block: Option<Vec<BlockRule>>,
}

/// What is not let through.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct BlockRule {
    /// A glob over names.
    pub name: String,
    /// A range of versions, as the protocol writes one; all without it.
    #[serde(default)]
    pub versions: Option<String>,
    /// What clients are told.
    #[serde(default)]
    pub reason: Option<String>,
}
