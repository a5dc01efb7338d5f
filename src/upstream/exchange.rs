//! One request to one upstream: its credentials, its breaker, further tries, and what its statuses mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use tokio::sync::OnceCell;

use super::Host;
use super::breaker::{Breaker, State};
use super::client::{Answer, Client, Reach, same_origin};
use super::credentials::Credentials;
use super::failure::Failure;
use super::figures::Figures;
use super::gather::Gather;
use super::rules::{self, Policy};
use crate::config::upstream::{CacheConfig, ProtocolUpstreams, ResilienceConfig, UpstreamConfig};
use crate::core::body::Body;
use crate::core::digest::Digest;
use crate::core::error::{Error, Result};
use crate::core::time::{Clock, Timestamp};
use crate::storage::Roots;

/// What is read of an upstream's refusal, for the client.
const MAX_REFUSAL: u64 = 16 << 10;
/// Longest that an upstream may ask to be left alone.
const MAX_REST: Duration = Duration::from_hours(1);

/// An upstream, and what this process knows of its health. Made once per configuration.
pub struct Upstream {
    /// Names it in logs, metrics and headers.
    pub id: Arc<str>,
    /// What is let through.
    pub policy: Policy,
    /// The name that clients know it by (`docker.io`).
    pub namespace: String,
    pub(super) folder: String,
    pub(super) cache: CacheRules,
    pub(super) figures: Figures,
    pub(super) breaker: Breaker,
    pub(super) priority: i64,
    rules: Vec<crate::config::upstream::ScopeRule>,
    base: Url,
    reach: Reach,
    /// Made when it is first needed: that reads the system's certificates, and to make a registry does no IO.
    client: OnceCell<Client>,
    credentials: Credentials,
    retries: u32,
    delay: Duration,
    longest_delay: Duration,
    clock: Clock,
}

/// How long answers are kept.
#[derive(Debug, Clone)]
pub(super) struct CacheRules {
    pub(super) enabled: bool,
    pub(super) ttl: Duration,
    pub(super) immutable_ttl: Duration,
    pub(super) stale: Duration,
    pub(super) while_revalidate: Duration,
    pub(super) if_error: Duration,
    pub(super) negative: Duration,
}

impl CacheRules {
    fn new(own: &CacheConfig, shared: &CacheConfig) -> Self {
        let seconds = |own: Option<u64>, shared: Option<u64>, default: u64| {
            Duration::from_secs(own.or(shared).unwrap_or(default))
        };
        let revalidate = own.stale_while_revalidate.or(shared.stale_while_revalidate).unwrap_or(true);
        let stale = seconds(own.stale_max_age_seconds, shared.stale_max_age_seconds, 3600);
        Self {
            enabled: own.enabled.or(shared.enabled).unwrap_or(true),
            ttl: seconds(own.default_ttl_seconds, shared.default_ttl_seconds, 300),
            immutable_ttl: seconds(own.immutable_ttl_seconds, shared.immutable_ttl_seconds, 30 * 86_400),
            stale,
            while_revalidate: if revalidate { stale } else { Duration::ZERO },
            if_error: seconds(own.stale_if_error_seconds, shared.stale_if_error_seconds, 30 * 86_400),
            negative: seconds(own.negative_cache_ttl_seconds, shared.negative_cache_ttl_seconds, 60),
        }
    }
}

/// What to ask an upstream.
#[derive(Debug, Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Below its base URL, or a URL of its own.
    pub target: String,
    /// What is wanted.
    pub accept: Option<&'static str>,
    /// What a token is asked for, if one is demanded (`repository:library/nginx:pull`).
    pub scope: String,
    /// For POST: JSON.
    pub body: Option<Bytes>,
    /// Whether the answer may come compressed. A file may not: its bytes are what its digest is of.
    pub gzip: bool,
    pub(super) known: Option<Known>,
    /// Who makes a document of several answers, if one is not enough.
    pub(super) gather: Option<Arc<dyn Gather>>,
}

/// What is known of the answer already.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Request {
    /// A GET.
    pub fn get(target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            accept: None,
            scope: String::new(),
            body: None,
            gzip: false,
            known: None,
            gather: None,
        }
    }

    /// What is made of several answers: for a document only.
    pub fn gathered(gather: Arc<dyn Gather>) -> Self {
        Self { gather: Some(gather), ..Self::get("") }
    }

    /// A HEAD.
    pub fn head(target: impl Into<String>) -> Self {
        Self { method: Method::HEAD, ..Self::get(target) }
    }

    /// A POST of JSON, which is answered as a GET is and may be repeated.
    pub fn post(target: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(target) }
    }

    /// The same as a HEAD.
    #[must_use]
    pub fn as_head(&self) -> Self {
        Self { method: Method::HEAD, ..self.clone() }
    }

    /// With `Accept`.
    #[must_use]
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept: Some(accept), ..self }
    }

    /// Only if it is no longer what this tag says.
    #[must_use]
    pub fn unless(self, etag: &str) -> Self {
        Self { known: Some(Known { etag: Some(etag.to_owned()), last_modified: None }), ..self }
    }

    /// With what a token is asked for.
    #[must_use]
    pub fn scope(self, scope: impl Into<String>) -> Self {
        Self { scope: scope.into(), ..self }
    }

    /// Letting the answer come compressed.
    #[must_use]
    pub fn compressed(self) -> Self {
        Self { gzip: true, ..self }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, text: Option<&str>| {
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(name, value);
            }
        };
        set(header::ACCEPT, self.accept);
        set(header::ACCEPT_ENCODING, Some(if self.gzip { "gzip" } else { "identity" }));
        set(header::CONTENT_TYPE, self.body.as_ref().map(|_| "application/json"));
        let known = self.known.as_ref();
        set(header::IF_NONE_MATCH, known.and_then(|known| known.etag.as_deref()));
        set(header::IF_MODIFIED_SINCE, known.and_then(|known| known.last_modified.as_deref()));
        headers
    }
}

/// What an upstream said.
pub(super) enum Said {
    /// Here it is.
    Here(Answer),
    /// What is known is still so.
    Unchanged,
    /// It has no such thing.
    Missing,
    /// It has, and does not give it: status and its own words.
    Refused(u16, String),
}

impl Upstream {
    /// # Errors
    /// An option that can't be used, named.
    pub(super) fn new(
        config: &UpstreamConfig,
        shared: &ProtocolUpstreams,
        folder: String,
        host: &Host,
    ) -> Result<Self> {
        let clock = host.clock.clone();
        let bad = |problem: &str| Error::invalid(format!("upstream `{}`: {problem}", config.id));
        let id_is_plain = !config.id.is_empty()
            && config.id.len() <= 64
            && !config.id.starts_with('.')
            && config.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !id_is_plain {
            return Err(bad("`id` is made of letters, digits, `-`, `_` and `.`"));
        }
        let base = base_of(&config.url)
            .ok_or_else(|| bad("`url` begins with http:// or https:// and names a host"))?;
        let (own, all) = (&config.resilience, &shared.resilience);
        let millis = |of: fn(&ResilienceConfig) -> Option<u64>, default: u64| {
            Duration::from_millis(of(own).or(of(all)).unwrap_or(default))
        };
        let wait = millis(|r| r.timeout_ms, 30_000).max(Duration::from_millis(1));
        let ca_file = config.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
        let reach = Reach {
            wait,
            proxy: config.proxy.clone(),
            private: config.allow_private_addresses,
            roots: Roots { own: ca_file, host: host.ca_file.clone() },
        };
        if config.proxy.as_ref().is_some_and(|proxy| Url::parse(proxy.expose()).is_err()) {
            return Err(bad("`proxy` is no URL of a proxy"));
        }
        let threshold = own.circuit_breaker_threshold.or(all.circuit_breaker_threshold).unwrap_or(5);
        let reset = millis(|r| r.circuit_breaker_reset_ms, 30_000);
        let namespace = config.namespace.clone().unwrap_or_else(|| namespace_of(&base));
        Ok(Self {
            id: config.id.as_str().into(),
            policy: Policy::new(&config.policy, &shared.policy),
            namespace,
            folder,
            cache: CacheRules::new(&config.cache, &shared.cache),
            figures: Figures::default(),
            breaker: Breaker::new(threshold, reset, clock.clone()),
            priority: config.priority,
            rules: config.scope_rules.clone(),
            reach,
            client: OnceCell::new(),
            credentials: Credentials::new(&config.auth, clock.clone())
                .map_err(|error| bad(error.message()))?,
            retries: own.max_retries.or(all.max_retries).unwrap_or(3),
            delay: millis(|r| r.retry_delay_ms, 1000),
            longest_delay: millis(|r| r.retry_max_delay_ms, 30_000),
            base,
            clock,
        })
    }

    /// Whether its rules let it be asked for a name.
    pub fn asks_for(&self, name: &str) -> bool {
        rules::asks_for(&self.rules, name)
    }

    /// Whether its rules let it be asked for what has these names.
    pub(super) fn asks_for_any(&self, names: &[String]) -> bool {
        rules::asks_for_any(&self.rules, names)
    }

    /// Whether what it answers is kept.
    pub fn keeps(&self) -> bool {
        self.cache.enabled
    }

    /// For how long it is believed that it does not have something.
    pub fn negative_ttl(&self) -> Duration {
        self.cache.negative
    }

    /// How long a document is fresh. While nearly all requests that it grants are used up, what is here is as good for longer.
    pub(super) fn ttl(&self, immutable: bool) -> Duration {
        match &self.cache {
            rules if immutable => rules.immutable_ttl,
            rules if self.figures.is_short(self.clock.now()) => rules.ttl + rules.stale,
            rules => rules.ttl,
        }
    }

    /// The path of its base URL, with a slash at the end.
    pub fn base_path(&self) -> &str {
        self.base.path()
    }

    /// Its host, as its URL has it.
    pub fn host(&self) -> &str {
        super::client::host(&self.base)
    }

    /// Where what is cached of it lies: a segment of a key.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Its numbers.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What its breaker lets through at the moment.
    pub fn state(&self) -> State {
        self.breaker.state()
    }

    /// The URL of something of its own: below its base, or elsewhere if it names a whole URL itself.
    fn url(&self, target: &str) -> Result<Url, Failure> {
        let url = if target.starts_with("http://") || target.starts_with("https://") {
            Url::parse(target).ok()
        } else {
            // As text: `join` would take `@acme%2fwidget` or `a:b` for something else.
            Url::parse(&format!("{}{}", self.base, target.trim_start_matches('/'))).ok()
        };
        let url = url.filter(|url| same_origin(url, &self.base) || url.username().is_empty());
        url.ok_or_else(|| Failure::Nonsense("it names an address that is no URL".to_owned()))
    }

    /// The client, made with the first request.
    async fn client(&self) -> Result<&Client, Failure> {
        let make = || async {
            let unusable =
                |why| Error::unavailable(format!("upstream `{}`: option `caFile`: {why}", self.id));
            let trusted = self.reach.roots.read("upstreams").await.map_err(unusable)?;
            Client::reaching(&self.reach, &trusted)
        };
        self.client.get_or_try_init(make).await.map_err(Failure::Ours)
    }

    /// Asks, and tries again where that may help.
    pub(super) async fn exchange(&self, request: &Request) -> Result<Said, Failure> {
        let url = self.url(&request.target)?;
        let mut tries = 0;
        loop {
            let failure = match self.attempt(request, &url).await {
                Ok(said) => return Ok(said),
                Err(failure) => failure,
            };
            let cause = std::error::Error::source(&failure).map(ToString::to_string);
            tracing::debug!(upstream = %self.id, target = %request.target, cause, "upstream: {failure}");
            if !failure.is_passing() || tries >= self.retries {
                return Err(failure);
            }
            let delay = self.delay.saturating_mul(1 << tries.min(16)).min(self.longest_delay);
            tokio::time::sleep(delay.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            tries += 1;
        }
    }

    async fn attempt(&self, request: &Request, url: &Url) -> Result<Said, Failure> {
        self.breaker.admit().map_err(Failure::Resting)?;
        self.figures.asked();
        let said = match self.send(request, url).await {
            Ok(answer) => self.understand(answer).await,
            Err(failure) => Err(failure),
        };
        match &said {
            Ok(_) => self.breaker.succeeded(),
            Err(failure) => self.suffered(failure),
        }
        said
    }

    /// What a failure means for the requests to come.
    pub(super) fn suffered(&self, failure: &Failure) {
        self.figures.failed();
        match failure {
            Failure::TooMany(wait) => {
                self.breaker.pause(wait.unwrap_or(self.delay.max(Duration::from_secs(1))).min(MAX_REST));
            }
            failure if failure.counts() && self.breaker.failed() => {
                tracing::warn!(upstream = %self.id, "upstream {} is left alone for a while: {failure}", self.id);
            }
            // It answered, and is well; its operator has something to mend.
            Failure::Unauthorized | Failure::Strayed(_) => {
                tracing::warn!(upstream = %self.id, "upstream {}: {failure}", self.id);
                self.breaker.succeeded();
            }
            _ => {}
        }
    }

    async fn send(&self, request: &Request, url: &Url) -> Result<Answer, Failure> {
        let client = self.client().await?;
        let headers = request.headers();
        let mut shown = self.credentials.headers(&request.scope);
        for again in [true, false] {
            let answer =
                client.ask(&request.method, url, &self.base, &headers, &shown, request.body.as_ref()).await?;
            if answer.status != StatusCode::UNAUTHORIZED || !again {
                self.figures.heard(&answer.headers, self.clock.now());
                return Ok(answer);
            }
            if !self.credentials.meet(client, &self.base, &answer.headers, &shown, &request.scope).await? {
                return Ok(answer);
            }
            shown = self.credentials.headers(&request.scope);
        }
        Err(Failure::Unauthorized)
    }

    async fn understand(&self, answer: Answer) -> Result<Said, Failure> {
        Ok(match answer.status.as_u16() {
            200 => Said::Here(answer),
            304 => Said::Unchanged,
            404 | 410 => Said::Missing,
            401 => return Err(Failure::Unauthorized),
            429 => return Err(Failure::TooMany(retry_after(&answer.headers, self.clock.now()))),
            status @ (403 | 451) => Said::Refused(status, words_of(answer).await),
            408 | 425 => return Err(Failure::Status(503)),
            status => return Err(Failure::Status(status)),
        })
    }
}

/// `Retry-After`, in either form.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Timestamp::parse_http_date(text).map(|until| until.since(now)))
}

/// What an upstream says for itself, in any of the forms that registries and their firewalls use. One line of plain text.
async fn words_of(answer: Answer) -> String {
    let body = Body::stream(answer.body, None).into_bytes("refusal", MAX_REFUSAL).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let first = value.pointer("/errors/0").unwrap_or(&value);
    let text = ["detail", "message", "title", "error", "reason"]
        .into_iter()
        .find_map(|key| first.get(key)?.as_str());
    let text = text.unwrap_or("it gives no reason");
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// The base URL, with a slash at its end. The many names of Docker Hub are one.
fn base_of(url: &str) -> Option<Url> {
    let text = url.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if matches!(url.host_str(), Some("docker.io" | "index.docker.io" | "hub.docker.com" | "www.docker.com")) {
        url = Url::parse("https://registry-1.docker.io/").ok()?;
    }
    url.set_query(None);
    url.set_fragment(None);
    // Credentials belong under `auth`, where they are kept from the log.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some(url)
}

fn namespace_of(base: &Url) -> String {
    let host = super::client::host(base);
    match (host, base.port()) {
        ("registry-1.docker.io", None) => "docker.io".to_owned(),
        (host, None) => host.to_owned(),
        (host, Some(port)) => format!("{host}:{port}"),
    }
}

/// That a file is what it was announced as.
pub(super) fn check_length(announced: Option<u64>, expected: Option<u64>) -> Result<(), Failure> {
    match (announced, expected) {
        (Some(announced), Some(expected)) if announced != expected => {
            Err(Failure::Nonsense(format!("it sends {announced} bytes where {expected} were to come")))
        }
        _ => Ok(()),
    }
}

/// That bytes have the digest they should have.
pub(super) fn check_digest(have: Option<&Digest>, want: &Digest) -> Result<(), Failure> {
    if have == Some(want) {
        return Ok(());
    }
    Err(Failure::Nonsense(format!("what it sent is not what was announced: it does not hash to {want}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_put_together_as_text() {
        let shared = ProtocolUpstreams::default();
        let make = |url: &str| {
            let config =
                UpstreamConfig { id: "a".to_owned(), url: url.to_owned(), ..UpstreamConfig::default() };
            Upstream::new(&config, &shared, "a".to_owned(), &Host::default())
        };
        let upstream = make("https://user:secret@npm.example.com/repo?x#y").unwrap();
        let url = |target: &str| upstream.url(target).unwrap().to_string();
        assert_eq!(url("@acme%2fwidget"), "https://npm.example.com/repo/@acme%2fwidget");
        assert_eq!(url("/-/ping"), "https://npm.example.com/repo/-/ping");
        assert_eq!(url("https://cdn.example.com/a.tgz"), "https://cdn.example.com/a.tgz");
        assert!(upstream.url("https://user@evil.example/a").is_err());
        for hub in
            ["docker.io", "https://index.docker.io/v1/", "https://registry-1.docker.io", "hub.docker.com"]
        {
            let upstream = make(hub).unwrap();
            assert_eq!(
                (upstream.host(), upstream.namespace.as_str()),
                ("registry-1.docker.io", "docker.io"),
                "{hub}"
            );
        }
        assert_eq!(make("http://localhost:5000").unwrap().namespace, "localhost:5000");
        for bad in ["ftp://example.com", "https://", ""] {
            assert!(make(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let headers =
            |text: &str| HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        let now = Timestamp::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after(&headers("17"), now), Some(Duration::from_secs(17)));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:50:37 GMT"), now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after(&headers("soon"), now), None);
    }
}
