//! For tests only: a registry in memory, requests in one line, and the keys that are left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)]

pub(crate) mod upstream;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use crate::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
use crate::config::Config;
use crate::core::body::Body;
use crate::core::error::Result;
use crate::core::request::{Origin, Request};
use crate::core::response::Response;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::registry::{Extensions, Registry};
use crate::storage::memory::MemoryStore;
use crate::storage::{Hooks, Prefix, Store};
use crate::upstream::UpstreamProvider;

/// A registry over a memory store with a clock that stands still.
pub(crate) struct TestRegistry {
    pub(crate) registry: Registry,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
}

impl TestRegistry {
    /// All protocols on, public reads; tokens `admin` (everything), `reader` (read-only) and `user:NAME` (no scopes).
    pub(crate) async fn new() -> Self {
        Self::with(serde_json::json!({}), None, None).await
    }

    /// With parts of the configuration replaced, a store and hooks of one's own.
    pub(crate) async fn with(
        changes: serde_json::Value,
        store: Option<Arc<dyn Store>>,
        hooks: Option<Arc<dyn Hooks>>,
    ) -> Self {
        Self::with_auth(changes, store, hooks, Some(Arc::new(TestProvider))).await
    }

    /// With the built-in users, of whom there are these, each with the password `right`.
    pub(crate) async fn with_users(changes: serde_json::Value, users: &[&str]) -> Self {
        let registry = Self::with_auth(changes, None, None, None).await;
        for user in users {
            registry.registry.auth().add_user(user, &Secret::new("right")).await.unwrap();
        }
        registry
    }

    /// With an auth provider of one's own.
    pub(crate) async fn with_provider(changes: serde_json::Value, provider: Arc<dyn AuthProvider>) -> Self {
        Self::with_auth(changes, None, None, Some(provider)).await
    }

    /// Another process over the same objects at the same time; through a store of its own, if given.
    pub(crate) async fn another(&self, changes: serde_json::Value, store: Option<Arc<dyn Store>>) -> Self {
        let store = store.unwrap_or_else(|| Arc::clone(&self.store));
        let given = Extensions { auth_provider: Some(Arc::new(TestProvider)), ..Extensions::default() };
        Self::build(changes, Some(store), given, self.clock.clone()).await
    }

    /// With upstreams that a provider says for each request.
    pub(crate) async fn with_upstreams(
        changes: serde_json::Value,
        upstreams: Arc<dyn UpstreamProvider>,
    ) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        let given = Extensions {
            auth_provider: Some(Arc::new(TestProvider)),
            upstream_provider: Some(upstreams),
            ..Extensions::default()
        };
        Self::build(changes, None, given, clock).await
    }

    async fn with_auth(
        changes: serde_json::Value,
        store: Option<Arc<dyn Store>>,
        hooks: Option<Arc<dyn Hooks>>,
        auth_provider: Option<Arc<dyn AuthProvider>>,
    ) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        let given = Extensions { auth_provider, hooks, ..Extensions::default() };
        Self::build(changes, store, given, clock).await
    }

    async fn build(
        changes: serde_json::Value,
        store: Option<Arc<dyn Store>>,
        given: Extensions,
        clock: Clock,
    ) -> Self {
        let store = store.unwrap_or_else(|| Arc::new(MemoryStore::new(clock.clone())));
        let mut config = serde_json::json!({
            "storage": { "type": "memory" },
            "maintenance": { "enabled": false },
            "auth": { "jwtSecret": "test" },
            "npm": { "enabled": true, "basePath": "/npm" },
            "oci": { "enabled": true, "basePath": "/oci" },
        });
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        let extensions = Extensions { store: Some(Arc::clone(&store)), clock: clock.clone(), ..given };
        let registry = Registry::new(&Config::from_json(&config.to_string()).unwrap(), extensions).unwrap();
        registry.init().await.unwrap();
        registry.settled().await;
        Self { registry, store, clock }
    }

    /// A request by `admin`.
    pub(crate) async fn send(&self, request: TestRequest) -> TestResponse {
        let Response { status, headers, body, .. } = self.registry.handle(request.0).await;
        let body = match body {
            Body::Empty => Ok(Bytes::new()),
            body => body.into_bytes("answer", u64::MAX).await,
        };
        TestResponse { status: status.as_u16(), headers, body }
    }

    /// A collection that does not ask whether another is under way.
    pub(crate) async fn collect_without_lease(&self) {
        self.registry.collect_unasked().await.unwrap();
    }

    /// Every key in the store, in order, but for the index and leases; ours below `_sr/` only if asked for.
    pub(crate) async fn keys(&self, private: bool) -> Vec<String> {
        let page = self.store.list(&Prefix::new("").unwrap(), None, 100_000, false).await.unwrap();
        page.objects
            .into_iter()
            .filter(|one| private || !one.key.is_private())
            .filter(|one| !["_sr/log/", "_sr/lease/"].iter().any(|own| one.key.as_str().starts_with(own)))
            .map(|one| one.key.to_string())
            .collect()
    }
}

/// A request under construction; sent as `admin` unless told otherwise.
pub(crate) struct TestRequest(Request);

impl TestRequest {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        let mut request = Request::new(method, path);
        request.origin =
            Origin { scheme: None, host: Some("registry.example.com".to_owned()), prefix: String::new() };
        Self(request).token("admin")
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn put(path: &str) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As a user with a password, or with a token in its place.
    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    /// From this address.
    pub(crate) fn peer(mut self, address: &str) -> Self {
        self.0.peer = Some(address.parse().unwrap());
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.0.headers.remove("authorization");
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The query is read as an adapter does.
    pub(crate) fn query(mut self, text: &str) -> Self {
        self.0.query = crate::core::request::Query::parse(text);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.0.body = body.into();
        self
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string().into_bytes())
    }
}

/// An answer, its body collected; `Err` when the body broke.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Result<Bytes>,
}

impl TestResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        self.body.as_ref().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }
}

/// Tokens by their text alone.
struct TestProvider;

#[async_trait]
impl AuthProvider for TestProvider {
    async fn authenticate(&self, credentials: &Credentials, _: Asker) -> Result<Option<String>> {
        Ok((credentials.password == Secret::new("right")).then(|| credentials.username.clone()))
    }

    async fn validate_token(&self, token: &Secret, _protocol: Option<&str>) -> Result<Option<AuthToken>> {
        let (user, scopes, readonly) = match token.expose() {
            "admin" => ("admin", vec!["*:*:*:*".to_owned()], false),
            "reader" => ("reader", vec!["*:*:*:*".to_owned()], true),
            other => match other.strip_prefix("user:") {
                Some(user) => (user, Vec::new(), false),
                None => return Ok(None),
            },
        };
        let user_id = user.to_owned();
        Ok(Some(AuthToken { kind: None, user_id, scopes, readonly, expires_at: None, metadata: None }))
    }

    async fn create_token(&self, user_id: &str, _protocol: &str, _options: &TokenOptions) -> Result<Secret> {
        Ok(Secret::new(format!("user:{user_id}")))
    }

    async fn revoke_token(&self, _token: &Secret) -> Result<()> {
        Ok(())
    }

    async fn authorize(&self, token: Option<&AuthToken>, _resource: &str, action: &str) -> Result<bool> {
        let reads = matches!(action, "read" | "pull");
        Ok(match token {
            None => reads,
            Some(token) if token.readonly => reads,
            Some(token) => reads || !token.scopes.is_empty(),
        })
    }
}
