//! The fence around the application's own provider: a time limit on every call, failures that are never a permission, and, if it is
//! asked for, a short memory of its answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::AuthToken;
use super::provider::{Asker, AuthProvider, Credentials, TokenOptions};
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::core::time::Clock;

/// How long one call may take unless configured.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to get ready, at least: a directory service is found, a pool filled.
const INIT_LIMIT: Duration = Duration::from_secs(30);
/// Answers remembered at most.
const REMEMBERED: u64 = 50_000;

/// A provider behind a fence.
pub(super) struct Fenced {
    inner: Arc<dyn AuthProvider>,
    limit: Duration,
    answers: Option<Answers>,
    clock: Clock,
}

/// What the provider said a moment ago, by the digest of the question.
struct Answers {
    tokens: Cache<[u8; 32], Option<AuthToken>>,
    verdicts: Cache<[u8; 32], bool>,
}

impl Fenced {
    /// `limit_ms` of 0 is the default of ten seconds, `cache_seconds` of 0 asks every time.
    pub(super) fn new(inner: Arc<dyn AuthProvider>, limit_ms: u64, cache_seconds: u64, clock: Clock) -> Self {
        let limit = if limit_ms == 0 { TIME_LIMIT } else { Duration::from_millis(limit_ms) };
        let age = Duration::from_secs(cache_seconds);
        let answers = (!age.is_zero()).then(|| Answers {
            tokens: Cache::builder().max_capacity(REMEMBERED).time_to_live(age).build(),
            verdicts: Cache::builder().max_capacity(REMEMBERED).time_to_live(age).build(),
        });
        Self { inner, limit, answers, clock }
    }

    async fn call<R>(&self, what: &'static str, call: impl Future<Output = Result<R>> + Send) -> Result<R> {
        Self::within(self.limit, what, call).await
    }

    async fn within<R>(
        limit: Duration,
        what: &'static str,
        call: impl Future<Output = Result<R>> + Send,
    ) -> Result<R> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            // Whatever kind it says it is: to the client, a provider that fails is a fault of the registry.
            Ok(Err(error)) => {
                Err(Error::internal(format!("the auth provider failed in {what}: {}", error.message()))
                    .with_source(error))
            }
            Err(_) => Err(Error::internal(format!(
                "the auth provider did not answer {what} within {} ms",
                limit.as_millis()
            ))),
        }
    }
}

#[async_trait]
impl AuthProvider for Fenced {
    async fn init(&self) -> Result<()> {
        // Connecting somewhere may take its time; nobody is granted anything meanwhile.
        Self::within(self.limit.max(INIT_LIMIT), "init", self.inner.init()).await
    }

    async fn authenticate(&self, credentials: &Credentials, asker: Asker) -> Result<Option<String>> {
        self.call("authenticate", self.inner.authenticate(credentials, asker)).await
    }

    async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>> {
        let ask = self.call("validateToken", self.inner.validate_token(token, protocol));
        let question = digest([token.expose(), protocol.unwrap_or_default()]);
        let known = self.answers.as_ref().and_then(|answers| answers.tokens.get(&question));
        let found = if let Some(known) = known {
            known
        } else {
            let answer = ask.await?;
            if let Some(answers) = &self.answers {
                answers.tokens.insert(question, answer.clone());
            }
            answer
        };
        let now = self.clock.now();
        Ok(found.filter(|token| token.expires_at.is_none_or(|end| end > now)))
    }

    async fn create_token(&self, user_id: &str, protocol: &str, options: &TokenOptions) -> Result<Secret> {
        let made = self.call("createToken", self.inner.create_token(user_id, protocol, options)).await?;
        if let Some(answers) = &self.answers {
            // The provider may have been asked about this very text before.
            answers.tokens.invalidate_all();
        }
        Ok(made)
    }

    async fn revoke_token(&self, token: &Secret) -> Result<()> {
        let revoked = self.call("revokeToken", self.inner.revoke_token(token)).await;
        if let Some(answers) = &self.answers {
            answers.tokens.invalidate_all();
            answers.verdicts.invalidate_all();
        }
        revoked
    }

    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        // A read-only token stays one, whatever the provider's rules forget.
        if let Some(token) = token
            && token.readonly
            && !matches!(action, "read" | "pull")
        {
            return Ok(false);
        }
        let ask = self.call("authorize", self.inner.authorize(token, resource, action));
        let Some(answers) = &self.answers else { return ask.await };
        // The whole token is part of the question: two tokens of one user may differ in any field.
        let who = token.map(|token| format!("{token:?}")).unwrap_or_default();
        let question = digest([&who, resource, action]);
        if let Some(known) = answers.verdicts.get(&question) {
            return Ok(known);
        }
        let answer = ask.await?;
        answers.verdicts.insert(question, answer);
        Ok(answer)
    }

    async fn list_user_tokens(&self, user_id: &str) -> Result<Option<Vec<AuthToken>>> {
        self.call("listUserTokens", self.inner.list_user_tokens(user_id)).await
    }
}

fn digest<const N: usize>(parts: [&str; N]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
