//! The application's own provider behind its fence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{
    Action, Asker, Auth, AuthProvider, AuthToken, Credentials, Identity, Resource, Setup, TokenOptions,
};
use crate::config::Visibility;
use crate::core::error::{Error, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::storage::memory::MemoryStore;
use crate::storage::{Storage, StorageLimits};

const OCI: ProtocolName = ProtocolName::new("oci");

/// What the provider of a test does when it is asked for a right.
#[derive(Clone, Copy)]
enum Mood {
    /// As the README's sample: nobody reads, tokens do what they like.
    Sample,
    Broken,
    Silent,
}

struct Provider {
    mood: Mood,
    asked: AtomicUsize,
}

#[async_trait]
impl AuthProvider for Provider {
    async fn init(&self) -> Result<()> {
        self.answer().await
    }

    async fn authenticate(&self, credentials: &Credentials, _: Asker) -> Result<Option<String>> {
        self.answer().await?;
        Ok((credentials.password == Secret::new("right")).then(|| credentials.username.clone()))
    }

    async fn validate_token(&self, token: &Secret, _protocol: Option<&str>) -> Result<Option<AuthToken>> {
        self.answer().await?;
        let user = token.expose().strip_prefix("user:").map(str::to_owned);
        Ok(user.map(|user_id| AuthToken {
            kind: None,
            readonly: user_id == "reader",
            user_id,
            scopes: Vec::new(),
            expires_at: None,
            metadata: None,
        }))
    }

    async fn create_token(&self, user_id: &str, _protocol: &str, _options: &TokenOptions) -> Result<Secret> {
        self.answer().await?;
        Ok(Secret::new(format!("user:{user_id}")))
    }

    async fn revoke_token(&self, _token: &Secret) -> Result<()> {
        self.answer().await
    }

    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        self.answer().await?;
        Ok(match token {
            None => action == "read",
            Some(_) => !resource.contains("forbidden"),
        })
    }
}

impl Provider {
    async fn answer(&self) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.mood {
            Mood::Sample => Ok(()),
            Mood::Broken => Err(Error::denied("the directory is down")),
            Mood::Silent => std::future::pending().await,
        }
    }
}

fn auth(mood: Mood, config: &Value) -> (Auth, Arc<Provider>) {
    let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let storage = Storage::new(store, None, &StorageLimits::default(), clock.clone());
    let provider = Arc::new(Provider { mood, asked: AtomicUsize::new(0) });
    let auth = Auth::new(Setup {
        config: &serde_json::from_value(config.clone()).unwrap(),
        provider: Some(Arc::clone(&provider) as Arc<dyn AuthProvider>),
        storage: &storage,
        clock: &clock,
        metadata_ttl: Duration::ZERO,
        anonymous_read: BTreeMap::new(),
        keys: crate::auth::keys::testing::Nowhere::source(),
        oci: true,
        shared: true,
    })
    .unwrap();
    (auth, provider)
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_gets_ready_is_given_up() {
    for (limit, seconds) in [(20, 30), (90_000, 90)] {
        let (auth, _) = auth(Mood::Silent, &json!({ "providerTimeoutMs": limit }));
        let began = tokio::time::Instant::now();
        let error = auth.prepare().await.unwrap_err();
        assert!(error.message().contains("did not answer init"), "{error}");
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    auth(Mood::Sample, &json!({})).0.prepare().await.unwrap();
}

fn bearer(token: &str) -> Request {
    let mut request = Request::new(Method::GET, "/");
    request.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    request
}

fn resource(text: &str) -> Resource {
    Resource::parse(text).unwrap()
}

#[tokio::test]
async fn the_readmes_sample_provider_lets_nobody_pull_and_read() {
    let (auth, _) = auth(Mood::Sample, &json!({}));
    let name = resource("oci:repository:x");
    assert!(auth.allows(&Identity::Anonymous, &name, Action::Pull, None).await.unwrap());
    assert!(auth.allows(&Identity::Anonymous, &name, Action::Read, None).await.unwrap());
    assert!(!auth.allows(&Identity::Anonymous, &name, Action::Push, None).await.unwrap());
    assert!(!auth.allows(&Identity::Rejected, &name, Action::Push, None).await.unwrap());
    assert!(auth.has_private(OCI));
}

#[tokio::test]
async fn what_the_registry_calls_private_stays_closed_to_nobody_without_asking() {
    let rules = json!({ "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }] });
    let (auth, provider) = auth(Mood::Sample, &rules);
    let name = resource("oci:repository:secret/x");
    assert!(!auth.allows(&Identity::Anonymous, &name, Action::Read, None).await.unwrap());
    let open = resource("oci:repository:x");
    let own = Some(Visibility::Private);
    assert!(!auth.allows(&Identity::Anonymous, &open, Action::Read, own).await.unwrap());
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0);
    let known = auth.authenticate(&bearer("user:bob"), OCI).await.unwrap();
    assert!(auth.allows(&known, &name, Action::Read, None).await.unwrap());
}

#[tokio::test]
async fn the_provider_decides_for_its_tokens_and_read_only_ones_only_read() {
    let (auth, _) = auth(Mood::Sample, &json!({}));
    let bob = auth.authenticate(&bearer("user:bob"), OCI).await.unwrap();
    assert!(auth.allows(&bob, &resource("oci:repository:x"), Action::Push, None).await.unwrap());
    // Even of what is public to nobody in particular.
    assert!(!auth.allows(&bob, &resource("oci:repository:forbidden"), Action::Pull, None).await.unwrap());
    let reader = auth.authenticate(&bearer("user:reader"), OCI).await.unwrap();
    assert!(auth.allows(&reader, &resource("oci:repository:x"), Action::Pull, None).await.unwrap());
    assert!(!auth.allows(&reader, &resource("oci:repository:x"), Action::Push, None).await.unwrap());
    let unknown = auth.authenticate(&bearer("nonsense"), OCI).await.unwrap();
    assert!(matches!(unknown, Identity::Rejected));
}

#[tokio::test]
async fn a_token_signed_for_less_gives_no_more() {
    let (auth, _) = auth(Mood::Sample, &json!({ "jwtSecret": "0123456789abcdef" }));
    let scopes = ["oci:repository:x:pull".to_owned(), "oci:repository:forbidden:push".to_owned()];
    let token = auth.sign_oci("bob", &scopes, Duration::from_mins(1)).unwrap();
    let bob = auth.authenticate(&bearer(token.expose()), OCI).await.unwrap();
    assert_eq!(bob.user(), Some("bob"));
    for (name, action, may) in [
        ("oci:repository:x", Action::Pull, true),
        ("oci:repository:x", Action::Push, false),
        // As anonymous as anybody.
        ("oci:repository:y", Action::Pull, true),
        ("oci:repository:y", Action::Push, false),
        // Signed, and withdrawn by the provider since.
        ("oci:repository:forbidden", Action::Push, false),
    ] {
        assert_eq!(auth.allows(&bob, &resource(name), action, None).await.unwrap(), may, "{name} {action:?}");
    }
}

#[tokio::test]
async fn a_provider_that_fails_or_hangs_is_a_500_and_never_a_permission() {
    for mood in [Mood::Broken, Mood::Silent] {
        let (auth, _) = auth(mood, &json!({ "providerTimeoutMs": 20 }));
        let name = resource("oci:repository:x");
        let known = Identity::Known(Arc::new(AuthToken::of_password("bob".to_owned(), "oci")));
        let credentials =
            Credentials { username: "bob".to_owned(), password: Secret::new("right"), otp: None };
        let failures = [
            auth.allows(&Identity::Anonymous, &name, Action::Read, None).await.unwrap_err(),
            auth.allows(&known, &name, Action::Push, None).await.unwrap_err(),
            auth.authenticate(&bearer("user:bob"), OCI).await.unwrap_err(),
            auth.login(&credentials, None).await.unwrap_err(),
            auth.create_token("bob", OCI, &TokenOptions::default()).await.unwrap_err(),
            auth.revoke_token(&Secret::new("user:bob")).await.unwrap_err(),
        ];
        for error in failures {
            assert_eq!(error.status(), 500);
            assert!(!error.public_message().contains("directory"));
        }
    }
}

#[tokio::test]
async fn answers_are_remembered_only_if_asked_for_and_not_past_a_revocation() {
    let count = |provider: &Provider| provider.asked.swap(0, Ordering::SeqCst);
    for (config, expected) in [(json!({}), 6), (json!({ "providerCacheSeconds": 60 }), 2)] {
        let (auth, provider) = auth(Mood::Sample, &config);
        for _ in 0..3 {
            let bob = auth.authenticate(&bearer("user:bob"), OCI).await.unwrap();
            assert!(auth.allows(&bob, &resource("oci:repository:x"), Action::Push, None).await.unwrap());
        }
        assert_eq!(count(&provider), expected);
        auth.revoke_token(&Secret::new("user:bob")).await.unwrap();
        auth.authenticate(&bearer("user:bob"), OCI).await.unwrap();
        assert_eq!(count(&provider), 2);
    }
}

#[tokio::test]
async fn guessing_is_stopped_before_the_provider_is_bothered() {
    let (auth, provider) = auth(Mood::Sample, &json!({}));
    let wrong = Credentials { username: "bob".to_owned(), password: Secret::new("wrong"), otp: None };
    for _ in 0..10 {
        assert_eq!(auth.login(&wrong, None).await.unwrap(), None);
    }
    assert_eq!(auth.login(&wrong, None).await.unwrap_err().status(), 429);
    assert_eq!(provider.asked.load(Ordering::SeqCst), 10);
    // The application's own calls are its own business.
    assert_eq!(auth.authenticate_in_process(&wrong).await.unwrap(), None);
}

#[tokio::test]
async fn user_commands_say_that_users_live_elsewhere() {
    let (auth, _) = auth(Mood::Sample, &json!({}));
    assert_eq!(auth.add_user("bob", &Secret::new("x")).await.unwrap_err().status(), 501);
    assert_eq!(auth.list_users().await.unwrap_err().status(), 501);
    assert_eq!(auth.has_user("bob").await.unwrap(), None);
    assert!(auth.list_user_tokens("bob").await.unwrap().is_empty());
}
