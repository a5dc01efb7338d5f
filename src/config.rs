//! Configuration and its defaults, as users write it (`IRegistryConfig`). Read once, checked once; no IO.

pub mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::core::error::{Error, Result};
use crate::core::origin::Trust;
use crate::core::path::Segments;
use crate::core::secret::Secret;

/// The whole configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Where bytes are kept.
    pub storage: StorageConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// What is logged of it; warnings and errors unless given.
    pub log_level: Option<LogLevel>,
    /// Whether forwarding headers of the peer are believed.
    pub trust_proxy: TrustProxy,
    /// Bounds.
    pub limits: Limits,
    /// Work that no request asks for.
    pub maintenance: MaintenanceConfig,
    /// Whom to tell of changes.
    pub webhooks: Vec<WebhookConfig>,
    /// Where to ask for what is not here, by protocol.
    pub upstreams: BTreeMap<String, upstream::ProtocolUpstreams>,
    /// Everything else: one entry per protocol, by its name.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// One of `webhooks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where events are sent, each as a POST.
    pub url: String,
    /// What requests are signed with: a text, or `whsec_` and base64. Without it they are not signed.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// Only these events (`publish`, `push`, `delete`, `dist-tag` …); all if there are none here.
    #[serde(default)]
    pub events: Vec<String>,
    /// Only of these protocols; of all if there are none here.
    #[serde(default)]
    pub protocols: Vec<String>,
    /// Only of names that one of these globs covers; of all if there are none here.
    #[serde(default)]
    pub names: Vec<String>,
}

/// `maintenance`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceConfig {
    /// Whether this process does any by itself. One of those that share a bucket must.
    pub enabled: bool,
    /// Milliseconds between two rounds, about. Of the processes that share a bucket, one does a round.
    pub interval_ms: u64,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { enabled: true, interval_ms: HOUR_MS }
    }
}

const HOUR_MS: u64 = 3_600_000;

/// Whose `Forwarded` and `X-Forwarded-*` headers are believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TrustProxy {
    /// Everybody's, or nobody's.
    Flag(bool),
    /// Those of peers in these networks (`10.0.0.0/8`, `::1`).
    Networks(Vec<String>),
}

impl Default for TrustProxy {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl TrustProxy {
    /// With its networks read.
    ///
    /// # Errors
    /// The text that is no address and no network.
    pub fn resolve(&self) -> Result<Trust> {
        match self {
            Self::Flag(false) => Ok(Trust::Nobody),
            Self::Flag(true) => Ok(Trust::Everybody),
            Self::Networks(list) => Trust::networks(list),
        }
    }
}

/// `IStorageConfig`: an S3 descriptor, a local folder, or memory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageConfig {
    /// `s3`, `local` or `memory`; without it `path` means local and anything else S3.
    #[serde(rename = "type")]
    pub kind: Option<StorageKind>,
    /// Folder of the local store.
    pub path: Option<String>,
    /// Local: `full` (default) survives power loss, `relaxed` survives only a killed process.
    pub durability: Option<Durability>,
    /// S3: host, host:port, or URL.
    pub endpoint: Option<String>,
    /// S3: port; wins over one in `endpoint`.
    #[serde(deserialize_with = "number_or_text")]
    pub port: Option<String>,
    /// S3: TLS; a scheme in `endpoint` wins.
    #[serde(deserialize_with = "flag_or_text")]
    pub use_ssl: Option<bool>,
    /// S3: access key. Without it and `accessSecret` the default credential chain is used.
    pub access_key: Option<Secret>,
    /// S3: secret key.
    pub access_secret: Option<Secret>,
    /// S3: session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// S3: region.
    pub region: Option<String>,
    /// S3: bucket.
    pub bucket_name: Option<String>,
    /// S3: prefix of every key.
    pub directory_path: Option<String>,
    /// S3: file with certificates (PEM) to trust besides those of the platform.
    pub ca_file: Option<PathBuf>,
    /// The same of the host's runtime, for upstreams too; the facade fills it in.
    pub host_ca_file: Option<PathBuf>,
    /// S3: `auto` (default), `required` or `off`.
    pub conditional_writes: Option<ConditionalWrites>,
    /// Answer downloads of large OCI blobs with a redirect to a presigned URL.
    pub redirect_downloads: bool,
}

/// Which backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A bucket.
    S3,
    /// A folder.
    Local,
    /// This process's memory.
    Memory,
}

/// `logLevel`: this and what is worse is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed and should not have.
    Error,
    /// What an operator should know.
    #[default]
    Warn,
    /// A line for every request, too.
    Info,
    /// What was decided on the way, and why.
    Debug,
    /// Every step.
    Trace,
}

/// How hard the local store tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every acknowledged write is on the disk.
    Full,
    /// Every acknowledged write is with the operating system.
    Relaxed,
}

/// What to demand of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionalWrites {
    /// Probe, and warn if they are missing.
    #[default]
    Auto,
    /// Probe, and refuse to start if they are missing.
    Required,
    /// Don't use them: one writing process only.
    Off,
}

/// `IAuthConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthConfig {
    /// Signs OCI tokens.
    pub jwt_secret: Secret,
    /// Where tokens and users are kept.
    pub token_store: TokenStore,
    /// `npmTokens`.
    pub npm_tokens: TokensConfig,
    /// `ociTokens`.
    pub oci_tokens: TokensConfig,
    /// `mavenTokens`.
    pub maven_tokens: TokensConfig,
    /// `cargoTokens`.
    pub cargo_tokens: TokensConfig,
    /// `composerTokens`.
    pub composer_tokens: TokensConfig,
    /// `pypiTokens`.
    pub pypi_tokens: TokensConfig,
    /// `rubygemsTokens`.
    pub rubygems_tokens: TokensConfig,
    /// Whether an unknown user name that logs in over HTTP is registered.
    pub self_registration: bool,
    /// First match decides whether a package is public or private.
    pub visibility: Vec<VisibilityRule>,
    /// Build services whose identity tokens are taken for a package that trusts them.
    pub trusted_issuers: Vec<IssuerConfig>,
    /// `redis` token store.
    pub redis_url: Option<Secret>,
    /// `database` token store.
    pub database_url: Option<Secret>,
    /// How long a custom provider's answers are believed, in seconds; 0 asks each time.
    pub provider_cache_seconds: u64,
    /// How long a custom provider may take for one call, in milliseconds; 0 means the default of ten seconds.
    pub provider_timeout_ms: u64,
}

/// Where tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenStore {
    /// In this process.
    #[default]
    Memory,
    /// In Redis.
    Redis,
    /// In `PostgreSQL` or `SQLite`.
    Database,
    /// In the registry's own bucket.
    Storage,
}

/// Tokens of one protocol.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TokensConfig {
    /// Whether tokens of this protocol exist; on unless switched off.
    pub enabled: Option<bool>,
    /// npm: new tokens are read-only unless asked otherwise.
    pub default_readonly: bool,
    /// OCI: URL of the token endpoint that challenges name; our own by default.
    pub realm: Option<String>,
    /// OCI: name of this registry in challenges and tokens.
    pub service: Option<String>,
}

/// One of `auth.trustedIssuers`: an OpenID Connect issuer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IssuerConfig {
    /// `iss` of its tokens, exactly: `https://token.actions.githubusercontent.com`.
    pub issuer: String,
    /// Which records of trust it can meet: `github`, `gitlab`, `circleci`, or a name of one's own.
    #[serde(rename = "type")]
    pub kind: String,
    /// `aud` of its tokens; for npm `npm:` and the host of `registryUrl` unless given.
    pub audience: Option<String>,
    /// Its public keys, as its JWKS document. Without it they are fetched.
    pub jwks: Option<Value>,
    /// Where its JWKS document lies, if its discovery document is not to be asked.
    pub jwks_url: Option<String>,
    /// Whether it may name, or redirect to, hosts with private addresses (by default if its own host has one), and with `true` also whether
    /// what is on this machine may be asked without TLS.
    pub allow_private_addresses: Option<bool>,
}

/// One rule of `auth.visibility`.
#[derive(Debug, Clone, Deserialize)]
pub struct VisibilityRule {
    /// `npm:package:@acme/*`.
    pub pattern: String,
    /// What packages that match are.
    pub visibility: Visibility,
}

/// Who may read a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Who has a scope for it.
    Private,
}

/// `IProtocolConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtocolConfig {
    /// Whether it answers at all.
    pub enabled: bool,
    /// URL prefix.
    pub base_path: String,
    /// Public base URL in generated links.
    pub registry_url: Option<String>,
    /// Switches; unknown ones are kept for the protocol to look at.
    pub features: BTreeMap<String, bool>,
    /// What only this protocol knows; read with [`ProtocolConfig::options`].
    #[serde(flatten)]
    pub own: serde_json::Map<String, Value>,
}

impl ProtocolConfig {
    /// The options that only the protocol `name` knows, as it declares them.
    ///
    /// # Errors
    /// An option of another form, named.
    pub fn options<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let own = Value::Object(self.own.clone());
        serde_path_to_error::deserialize(own).map_err(|error| wrong(name, &error))
    }

    /// A switch, or its default.
    pub fn feature(&self, name: &str, default: bool) -> bool {
        self.features.get(name).copied().unwrap_or(default)
    }
}

/// Bounds, in bytes unless the name says otherwise. Beyond one: 413 that names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// An artifact: tarball, blob, crate.
    pub artifact: u64,
    /// An OCI manifest.
    pub manifest: u64,
    /// The JSON around the attachments of an npm publish, and every other JSON body that is a whole document.
    pub metadata: u64,
    /// A stored packument.
    pub packument: u64,
    /// A small body: login, token, tag.
    pub small_body: u64,
    /// What an archive may unpack to while it is checked.
    pub unpacked: u64,
    /// Memory for cached documents of this process.
    pub cache: u64,
    /// Memory for upload parts of this process.
    pub upload_memory: u64,
    /// Milliseconds for which a cached document is served unchecked.
    pub metadata_ttl_ms: u64,
    /// Milliseconds that a storage hook may take.
    pub hook_timeout_ms: u64,
    /// Milliseconds after which the body of an answer that nobody reads is given up.
    pub body_idle_ms: u64,
    /// OCI: manifests that may refer to one subject. Beyond: 403.
    pub referrers: usize,
    /// OCI: uploads that one user may have begun and not finished, as far as this process knows. Beyond: 429.
    pub open_uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            artifact: 100 << 30,
            manifest: 4 << 20,
            metadata: 8 << 20,
            packument: 64 << 20,
            small_body: 1 << 20,
            unpacked: 1 << 30,
            cache: 64 << 20,
            upload_memory: 512 << 20,
            metadata_ttl_ms: 1000,
            hook_timeout_ms: 30_000,
            body_idle_ms: 60_000,
            referrers: 10_000,
            open_uploads: 10_000,
        }
    }
}

impl Config {
    /// Reads a configuration and names the option that is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut json).map_err(|error| wrong("", &error))
    }

    /// The entry of a protocol; its base path is `/name` unless given, and checked.
    pub fn protocol(&self, name: &str) -> Result<Option<ProtocolConfig>> {
        let Some(value) = self.rest.get(name) else { return Ok(None) };
        let mut config: ProtocolConfig =
            serde_path_to_error::deserialize(value).map_err(|error| wrong(name, &error))?;
        if config.base_path.is_empty() {
            config.base_path = format!("/{name}");
        }
        Segments::parse(&config.base_path).map_err(|error| {
            Error::invalid(format!("option `{name}.basePath` is not a path: {}", error.message()))
        })?;
        if let Some(url) = &config.registry_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return Err(Error::invalid(format!(
                "option `{name}.registryUrl` must begin with http:// or https://"
            )));
        }
        Ok(Some(config))
    }

    /// Which backend: as said, else local if there is a `path`, else S3.
    pub fn storage_kind(&self) -> StorageKind {
        self.storage.kind.unwrap_or(if self.storage.path.is_some() && self.storage.bucket_name.is_none() {
            StorageKind::Local
        } else {
            StorageKind::S3
        })
    }
}

/// Names the option, without the place in a text that the user has perhaps never seen.
fn wrong(inside: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let text = error.inner().to_string();
    let problem = text.split(" at line ").next().unwrap_or_default();
    let dot = if inside.is_empty() { "" } else { "." };
    match error.path().to_string().as_str() {
        "." | "?" if inside.is_empty() => {
            Error::invalid(format!("the configuration is not usable: {problem}"))
        }
        "." | "?" => Error::invalid(format!("option `{inside}`: {problem}")),
        path => Error::invalid(format!("option `{inside}{dot}{path}`: {problem}")),
    }
}

fn number_or_text<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(from)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(serde::de::Error::custom("`port` must be a number")),
    }
}

fn flag_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<bool>, D::Error> {
    match Option::<Value>::deserialize(from)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(Value::String(text)) if text == "true" => Ok(Some(true)),
        Some(Value::String(text)) if text == "false" => Ok(Some(false)),
        Some(_) => Err(serde::de::Error::custom("`useSsl` must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, StorageKind};

    #[test]
    fn reads_the_readmes_config_and_names_what_is_wrong() {
        let config = Config::from_json(
            r#"{"storage":{"endpoint":"s3.example.com","port":443,"useSsl":"true","bucketName":"b","accessKey":"a","accessSecret":"s"},
                "auth":{"jwtSecret":"x","tokenStore":"memory","npmTokens":{"enabled":true},"ociTokens":{"enabled":true,"realm":"https://a.example.com/token","service":"r"}},
                "npm":{"enabled":true,"basePath":"/npm"},"hooks":null}"#,
        )
        .unwrap();
        assert_eq!(config.storage_kind(), StorageKind::S3);
        assert_eq!(config.storage.port.as_deref(), Some("443"));
        assert!(config.protocol("npm").unwrap().unwrap().enabled);
        assert!(config.protocol("oci").unwrap().is_none());
        let error = Config::from_json(r#"{"auth":{"tokenStore":"floppy"}}"#).unwrap_err();
        assert!(error.message().starts_with("option `auth.tokenStore`: unknown variant `floppy`"), "{error}");
        let config = Config::from_json(r#"{"npm":{"enabled":"yes"}}"#).unwrap();
        assert!(config.protocol("npm").unwrap_err().message().starts_with("option `npm.enabled`: "));
        let config = Config::from_json(r#"{"npm":{"enabled":true,"basePath":"/a/../b"}}"#).unwrap();
        assert!(config.protocol("npm").unwrap_err().message().contains("npm.basePath"));
    }
}
