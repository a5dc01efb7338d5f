//! What an upstream is shown: a header that is configured, or the bearer token that its token endpoint gives for it.
//!
//! The token flow is the one of the Docker registry (<https://distribution.github.io/distribution/spec/auth/token/>), which OCI registries
//! demand also of those who are nobody.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use moka::sync::Cache;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::client::{Client, host, sensitive};
use super::failure::Failure;
use crate::config::upstream::{AuthKind, UpstreamAuth};
use crate::core::body::Body;
use crate::core::error::{Error, Result};
use crate::core::time::{Clock, Timestamp};

/// Longest answer of a token endpoint.
const MAX_TOKEN: u64 = 64 << 10;
/// How long a token is good that does not say so.
const DEFAULT_SECONDS: u64 = 60;
/// Tokens that are kept.
const KEPT: u64 = 10_000;

/// What one upstream is shown.
pub(super) struct Credentials {
    auth: UpstreamAuth,
    fixed: HeaderMap,
    /// By what they are for.
    tokens: Cache<String, (HeaderValue, Timestamp)>,
    /// One at a time asks for a token: the layers of an image are all asked for at once.
    asking: Mutex<()>,
    clock: Clock,
}

impl Credentials {
    /// # Errors
    /// An option that is missing or no header text.
    pub(super) fn new(auth: &UpstreamAuth, clock: Clock) -> Result<Self> {
        let mut fixed = HeaderMap::new();
        if let Some((name, value)) = header_of(auth)? {
            fixed.insert(name, value);
        }
        Ok(Self { auth: auth.clone(), fixed, tokens: Cache::new(KEPT), asking: Mutex::default(), clock })
    }

    /// The headers for a request that is for `scope`.
    pub(super) fn headers(&self, scope: &str) -> HeaderMap {
        let token = self.tokens.get(scope).filter(|(_, until)| self.clock.now() < *until);
        match token {
            Some((token, _)) => HeaderMap::from_iter([(header::AUTHORIZATION, token)]),
            None => self.fixed.clone(),
        }
    }

    /// Gets a token for `scope`, after a 401 with the headers of `answer` to a request with those of `shown`; `false` if it demands something
    /// else.
    pub(super) async fn meet(
        &self,
        client: &Client,
        origin: &Url,
        answer: &HeaderMap,
        shown: &HeaderMap,
        scope: &str,
    ) -> Result<bool, Failure> {
        let _one = self.asking.lock().await;
        if self.headers(scope) != *shown {
            return Ok(true);
        }
        self.tokens.invalidate(scope);
        let Some(challenge) = Challenge::find(answer) else { return Ok(false) };
        let realm = Url::parse(&challenge.realm)
            .map_err(|_| Failure::Nonsense("its token endpoint is no URL".to_owned()))?;
        self.check_realm(&realm, origin)?;
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &challenge.service {
                query.append_pair("service", service);
            }
            let wanted = challenge.scope.as_deref().unwrap_or(scope);
            wanted.split(' ').filter(|one| !one.is_empty()).for_each(|one| {
                query.append_pair("scope", one);
            });
        }
        let secret = self.for_realm().map(|value| HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
        // What is configured for the registry is meant for its token endpoint, so that is the origin here.
        let got = client
            .ask(&Method::GET, &url, &realm, &HeaderMap::new(), &secret.unwrap_or_default(), None)
            .await?;
        if got.status.is_server_error() {
            return Err(Failure::Status(got.status.as_u16()));
        }
        if got.status.as_u16() == 429 {
            return Err(Failure::TooMany(super::exchange::retry_after(&got.headers, self.clock.now())));
        }
        if !got.status.is_success() {
            return Err(Failure::Unauthorized);
        }
        let body =
            Body::stream(got.body, None).into_bytes("token", MAX_TOKEN).await.map_err(Failure::Ours)?;
        let granted: Granted = serde_json::from_slice(&body)
            .map_err(|_| Failure::Nonsense("its token endpoint answered with something else".to_owned()))?;
        let text = granted.token.or(granted.access_token).unwrap_or_default();
        let value = sensitive(&format!("Bearer {text}"))
            .filter(|_| !text.is_empty())
            .ok_or_else(|| Failure::Nonsense("its token endpoint gave no token".to_owned()))?;
        // A fifth of its time is for requests that are under way.
        let seconds = granted.expires_in.unwrap_or(DEFAULT_SECONDS).max(DEFAULT_SECONDS) * 4 / 5;
        let until = self.clock.now().plus(Duration::from_secs(seconds));
        self.tokens.insert(scope.to_owned(), (value, until));
        Ok(true)
    }

    /// Goes on only if the realm may see the credentials: a hostile upstream would have them sent to itself.
    fn check_realm(&self, realm: &Url, origin: &Url) -> Result<(), Failure> {
        let (there, here) = (host(realm), host(origin));
        let known = there == here
            || self.auth.token_hosts.iter().any(|one| one == there)
            || psl::domain_str(there).is_some_and(|domain| psl::domain_str(here) == Some(domain));
        let safe = realm.scheme() == "https" || (realm.scheme() == "http" && origin.scheme() == "http");
        if known && safe {
            return Ok(());
        }
        Err(Failure::Strayed(format!(
            "it wants its credentials sent to {there}; list that under `auth.tokenHosts` if it is right"
        )))
    }

    fn for_realm(&self) -> Option<HeaderValue> {
        let (user, password) = match self.auth.kind {
            AuthKind::Basic => (self.auth.username.as_deref()?, self.auth.password.as_ref()?),
            AuthKind::Bearer => (self.auth.username.as_deref().unwrap_or("token"), self.auth.token.as_ref()?),
            AuthKind::None | AuthKind::ApiKey => return None,
        };
        basic(user, password.expose())
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn header_of(auth: &UpstreamAuth) -> Result<Option<(HeaderName, HeaderValue)>> {
    let missing =
        |option: &str| Error::invalid(format!("`auth.{option}` is missing, or no text for a header"));
    // An environment that lacks a variable: programs that hand it over so must run without it.
    let given = |secret: &Option<crate::core::secret::Secret>| {
        secret.as_ref().is_some_and(|secret| !secret.is_empty())
    };
    let (option, absent) = match auth.kind {
        AuthKind::None => ("", false),
        AuthKind::Basic => ("password", auth.password.is_none()),
        AuthKind::Bearer => ("token", !given(&auth.token)),
        AuthKind::ApiKey => ("headerValue", !given(&auth.header_value)),
    };
    if absent {
        tracing::warn!("an upstream is asked without credentials: its `auth.{option}` is missing");
        return Ok(None);
    }
    Ok(match auth.kind {
        AuthKind::None => None,
        AuthKind::Basic => {
            let user = auth.username.as_deref().ok_or_else(|| missing("username"))?;
            let password = auth.password.as_ref().ok_or_else(|| missing("password"))?;
            Some((header::AUTHORIZATION, basic(user, password.expose()).ok_or_else(|| missing("password"))?))
        }
        AuthKind::Bearer => {
            let token = auth.token.as_ref().ok_or_else(|| missing("token"))?;
            let value = sensitive(&format!("Bearer {}", token.expose())).ok_or_else(|| missing("token"))?;
            Some((header::AUTHORIZATION, value))
        }
        AuthKind::ApiKey => {
            let name = auth.header_name.as_deref().and_then(|name| name.parse().ok());
            let value = auth.header_value.as_ref().and_then(|value| sensitive(value.expose()));
            Some((name.ok_or_else(|| missing("headerName"))?, value.ok_or_else(|| missing("headerValue"))?))
        }
    })
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A demand for a bearer token from an endpoint.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    fn find(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        texts.filter_map(|text| http_auth::parse_challenges(text).ok()).flatten().find_map(|challenge| {
            if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                return None;
            }
            let param = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            Some(Self { realm: param("realm")?, service: param("service"), scope: param("scope") })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Option<Challenge> {
        Challenge::find(&HeaderMap::from_iter([(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_str(text).unwrap(),
        )]))
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let hub = find(hub).unwrap();
        assert_eq!(hub.realm, "https://auth.docker.io/token");
        assert_eq!(hub.scope.as_deref(), Some("repository:library/nginx:pull"));
        let two = r#"Basic realm="x, y", Bearer realm="https://a.example/t",service="s,1",scope="repository:a:pull,push""#;
        let two = find(two).unwrap();
        assert_eq!(
            (two.service.as_deref(), two.scope.as_deref()),
            (Some("s,1"), Some("repository:a:pull,push"))
        );
        assert_eq!(find("Basic realm=\"x\""), None);
        assert_eq!(find("Bearer service=\"x\""), None);
        assert_eq!(find("nonsense ="), None);
    }

    #[test]
    fn credentials_go_to_the_upstreams_own_domain_only() {
        let auth = UpstreamAuth {
            token_hosts: vec!["auth.elsewhere.example".to_owned()],
            ..UpstreamAuth::default()
        };
        let credentials = Credentials::new(&auth, Clock::real()).unwrap();
        let check = |realm: &str, origin: &str| {
            credentials.check_realm(&Url::parse(realm).unwrap(), &Url::parse(origin).unwrap()).is_ok()
        };
        assert!(check("https://auth.docker.io/token", "https://registry-1.docker.io"));
        assert!(check("https://gitlab.example.com/jwt/auth", "https://registry.example.com"));
        assert!(check("http://127.0.0.1:5001/token", "http://127.0.0.1:5000"));
        assert!(check("https://auth.elsewhere.example/t", "https://registry.example.com"));
        assert!(!check("https://evil.example/token", "https://registry-1.docker.io"));
        assert!(!check("https://evil.co.uk/token", "https://registry.good.co.uk"));
        assert!(!check("https://docker.io.evil.example/token", "https://registry-1.docker.io"));
        assert!(!check("http://auth.docker.io/token", "https://registry-1.docker.io"));
        assert!(!check("http://127.0.0.1/token", "https://registry-1.docker.io"));
    }

    #[test]
    fn every_kind_makes_its_header() {
        let header = |config: &str| Credentials::new(&serde_json::from_str(config).unwrap(), Clock::real());
        let shown =
            |config: &str, name: &str| header(config).unwrap().headers("")[name].to_str().unwrap().to_owned();
        assert_eq!(shown(r#"{"type":"basic","username":"a","password":"b"}"#, "authorization"), "Basic YTpi");
        assert_eq!(shown(r#"{"type":"bearer","token":"t"}"#, "authorization"), "Bearer t");
        assert_eq!(shown(r#"{"type":"api-key","headerName":"X-Key","headerValue":"k"}"#, "x-key"), "k");
        for absent in [
            r#"{"type":"basic"}"#,
            r#"{"type":"bearer","token":""}"#,
            r#"{"type":"api-key","headerName":"X-Key"}"#,
        ] {
            assert!(header(absent).unwrap().headers("").is_empty(), "{absent}");
        }
        for bad in [
            r#"{"type":"basic","password":"b"}"#,
            r#"{"type":"bearer","token":"a\nb"}"#,
            r#"{"type":"api-key","headerName":"a b","headerValue":"k"}"#,
        ] {
            assert!(header(bad).is_err(), "{bad}");
        }
    }
}
