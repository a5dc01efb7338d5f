//! Where the keys of an issuer lie: at `jwksUrl`, or where its discovery document says (OpenID Connect Discovery 1.0).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::KeySet;
use crate::config::IssuerConfig;
use crate::core::error::{Error, Kind, Result};

/// Longer documents are not read.
const MAX_DOCUMENT: u64 = 64 << 10;
/// Keys of an issuer at most.
const MAX_KEYS: usize = 50;
/// How long keys are fresh where the issuer does not say, and the bounds of what it may say.
const FRESH: Duration = Duration::from_hours(1);
const FRESH_AT_LEAST: Duration = Duration::from_mins(5);
const FRESH_AT_MOST: Duration = Duration::from_hours(24);

/// Who fetches documents of issuers: `auth` itself asks nobody.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The document, whole.
    ///
    /// # Errors
    /// There is none, it is too large, or it lies where nobody should be sent. The message is for the log.
    async fn fetch(&self, lookup: &Lookup) -> Result<Document>;
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Where it lies.
    pub url: Url,
    /// What the configuration names. Only this may be at a private address, unless it is itself.
    pub origin: Url,
    /// Whether other hosts may have private addresses after all, or may not in any case.
    pub private: Option<bool>,
    /// Bytes at most.
    pub limit: u64,
}

/// What was fetched.
#[derive(Debug, Clone)]
pub struct Document {
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The text.
    pub bytes: Bytes,
}

/// Where an issuer's keys lie.
pub(super) struct Place {
    pub(super) issuer: String,
    /// The JWKS document, or the discovery document that names it.
    start: Url,
    discovers: bool,
    private: Option<bool>,
}

/// What is read of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Place {
    /// # Errors
    /// What is wrong with the issuer's options.
    pub(super) fn new(config: &IssuerConfig) -> Result<Self> {
        let (issuer, private) = (&config.issuer, config.allow_private_addresses);
        let (name, text) = match &config.jwks_url {
            Some(url) => ("jwksUrl", url.as_str()),
            None => ("issuer", issuer.as_str()),
        };
        let wrong = |why: &str| Error::invalid(format!("the {name} `{text}` {why}"));
        let url = Url::parse(text).ok().filter(Url::has_host).ok_or_else(|| wrong("is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid(format!("the {name} of `{}` may hold no password", host(&url))));
        }
        if !may_be_asked(&url, private) {
            return Err(wrong(
                "must begin with https://; for tests http:// works on this machine's own addresses, with `allowPrivateAddresses: true`",
            ));
        }
        let discovers = config.jwks_url.is_none();
        if discovers && (url.query().is_some() || url.fragment().is_some()) {
            return Err(wrong(
                "has a query, so no discovery document can be asked for: give its keys with `jwksUrl` or `jwks`",
            ));
        }
        // As text: of an issuer with a path the document lies below it, and a slash at its end does not count.
        let start = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let start = if discovers { Url::parse(&start).map_err(|_| wrong("is no URL"))? } else { url };
        Ok(Self { issuer: issuer.clone(), start, discovers, private })
    }

    /// The keys, and how long they are fresh.
    ///
    /// # Errors
    /// For the log: what stands in the way.
    pub(super) async fn fetch(&self, source: &dyn KeySource) -> Result<(KeySet, Duration)> {
        let url = if self.discovers { self.discover(source).await? } else { self.start.clone() };
        let document = self.look(source, url.clone()).await?;
        let bad = |why: &str| Error::new(Kind::BadGateway, format!("the document at {url} {why}"));
        let value: Value = serde_json::from_slice(&document.bytes).map_err(|_| bad("is no JSON"))?;
        if KeySet::listed(&value) > MAX_KEYS {
            return Err(bad(&format!("has more than {MAX_KEYS} keys")));
        }
        let keys = KeySet::read(&value).map_err(|error| bad(error.message()))?;
        Ok((keys, freshness(&document.headers)))
    }

    /// Where the issuer says that its keys lie.
    async fn discover(&self, source: &dyn KeySource) -> Result<Url> {
        let document = self.look(source, self.start.clone()).await?;
        let bad = |why: String| Error::new(Kind::BadGateway, format!("the document at {} {why}", self.start));
        let said: Discovery = serde_json::from_slice(&document.bytes)
            .map_err(|error| bad(format!("is no discovery document: {error}")))?;
        // Section 4.3: or one issuer could speak for another.
        if said.issuer != self.issuer {
            let other: String = said.issuer.chars().take(200).collect();
            return Err(bad(format!("is of the issuer {other:?}, and `{}` is configured", self.issuer)));
        }
        let url = Url::parse(&said.jwks_uri).ok().filter(|url| may_be_asked(url, self.private));
        url.ok_or_else(|| {
            let named: String = said.jwks_uri.chars().take(200).collect();
            bad(format!("names {named:?} for its keys, which does not begin with https://"))
        })
    }

    async fn look(&self, source: &dyn KeySource, url: Url) -> Result<Document> {
        let lookup = Lookup { url, origin: self.start.clone(), private: self.private, limit: MAX_DOCUMENT };
        source.fetch(&lookup).await
    }
}

/// Keys that came unencrypted could be anybody's, but on this machine.
fn may_be_asked(url: &Url, private: Option<bool>) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => private == Some(true) && is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// How long an answer is fresh (RFC 9111): what is left of `max-age`.
fn freshness(headers: &HeaderMap) -> Duration {
    let texts = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut found = FRESH;
    for directive in texts.flat_map(|text| text.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return FRESH_AT_LEAST,
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                found = Duration::from_secs(seconds).saturating_sub(age(headers));
            }
            _ => {}
        }
    }
    found.clamp(FRESH_AT_LEAST, FRESH_AT_MOST)
}

/// How long a cache on the way has had it.
fn age(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_issuer_says_within_bounds_how_long_its_keys_are_fresh() {
        for (said, age, minutes) in [
            (None, None, 60),
            (Some("public"), None, 60),
            (Some("public, max-age=1800"), None, 30),
            (Some("Max-Age=\"1800\""), None, 30),
            (Some("max-age=1800"), Some("600"), 20),
            (Some("max-age=1800"), Some("100000"), 5),
            (Some("max-age=1"), None, 5),
            (Some("max-age=soon"), None, 5),
            (Some("no-store"), None, 5),
            (Some("max-age=1800, no-cache"), None, 5),
            (Some("max-age=31536000, immutable"), None, 24 * 60),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::CACHE_CONTROL, said), (header::AGE, age)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(freshness(&headers), Duration::from_mins(minutes), "{said:?} {age:?}");
        }
    }

    #[test]
    fn the_discovery_document_lies_below_the_issuer() {
        for (issuer, place) in [
            ("https://ci.example.com", "https://ci.example.com/.well-known/openid-configuration"),
            ("https://ci.example.com/", "https://ci.example.com/.well-known/openid-configuration"),
            ("https://ci.example.com/org/a", "https://ci.example.com/org/a/.well-known/openid-configuration"),
        ] {
            let config = IssuerConfig { issuer: issuer.to_owned(), ..IssuerConfig::default() };
            assert_eq!(Place::new(&config).unwrap().start.as_str(), place);
        }
    }
}
