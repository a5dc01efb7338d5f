//! What was answered a moment ago, so that many requests with one token ask the store once.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::future::Cache;

use super::{Age, TokenBackend, UserChange};
use crate::auth::records::{Entry, TokenRecord, UserRecord, key_of};
use crate::core::error::{Error, Result};
use crate::core::time::Timestamp;

/// Answers remembered at most, good and bad.
const REMEMBERED: u64 = 50_000;

/// Answers by name. Their age counts from the question: an answer that took its time is no fresher for it.
pub(in crate::auth) struct Recent<V> {
    answers: Option<Cache<String, Answer<V>>>,
    age: Duration,
    /// Counts what was forgotten.
    epoch: AtomicU64,
}

#[derive(Clone)]
struct Answer<V> {
    asked: Instant,
    /// Whether nothing was forgotten between question and answer.
    settled: bool,
    value: V,
}

impl<V: Clone + Send + Sync + 'static> Recent<V> {
    /// Of answers that are no older than `age`; of none if that is nothing.
    pub(in crate::auth) fn new(age: Duration) -> Self {
        let answers =
            (!age.is_zero()).then(|| Cache::builder().max_capacity(REMEMBERED).time_to_live(age).build());
        Self { answers, age, epoch: AtomicU64::default() }
    }

    /// The answer for `key`: a remembered one, or what `ask` finds out. Those who ask at the same time share one question.
    pub(in crate::auth) async fn get<F: Future<Output = Result<V>>>(
        &self,
        key: &str,
        ask: impl Fn() -> F,
    ) -> Result<V> {
        let Some(answers) = &self.answers else { return ask().await };
        let began = Instant::now();
        loop {
            let load = async {
                let (asked, epoch) = (Instant::now(), self.epoch.load(Ordering::SeqCst));
                let value = ask().await?;
                let settled = epoch == self.epoch.load(Ordering::SeqCst);
                Ok::<_, Error>(Answer { asked, settled, value })
            };
            let answer =
                answers.try_get_with_by_ref(key, load).await.map_err(|error| Error::repeat(&error))?;
            let age = began.saturating_duration_since(answer.asked);
            if age.is_zero() || (answer.settled && age < self.age) {
                return Ok(answer.value);
            }
            answers.invalidate(key).await;
        }
    }

    /// Forgets the answer for `key`, one that is on its way included.
    pub(in crate::auth) async fn forget(&self, key: &str) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if let Some(answers) = &self.answers {
            answers.invalidate(key).await;
        }
    }

    /// Forgets every answer.
    pub(in crate::auth) fn forget_all(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if let Some(answers) = &self.answers {
            answers.invalidate_all();
        }
    }
}

/// A store elsewhere, with what it answered a moment ago. Tokens by their hash are remembered where they are checked.
pub(super) struct Remembering<B> {
    store: B,
    users: Recent<Option<UserRecord>>,
    keys: Recent<Option<(String, TokenRecord)>>,
    revoked: Recent<bool>,
}

impl<B: TokenBackend> Remembering<B> {
    pub(super) fn new(store: B, age: Duration) -> Self {
        Self { store, users: Recent::new(age), keys: Recent::new(age), revoked: Recent::new(age) }
    }
}

/// A token's key with its user. No user name has a line break in it.
fn name_of(user: &str, key: &str) -> String {
    format!("{user}\n{key}")
}

#[async_trait]
impl<B: TokenBackend> TokenBackend for Remembering<B> {
    async fn prepare(&self) -> Result<()> {
        self.store.prepare().await
    }

    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>> {
        self.store.find_token(hash).await
    }

    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()> {
        let user = record.user.clone();
        let added = self.store.add_token(hash, record).await;
        self.users.forget(&user).await;
        self.keys.forget(&name_of(&user, key_of(hash))).await;
        added
    }

    async fn remove_token(&self, user: &str, hash: &str) -> Result<()> {
        let removed = self.store.remove_token(user, hash).await;
        // Also after a failure: what the store has now is the truth.
        self.keys.forget(&name_of(user, key_of(hash))).await;
        removed
    }

    async fn tokens(&self, user: &str) -> Result<Vec<(String, Entry)>> {
        self.store.tokens(user).await
    }

    async fn find_key(&self, user: &str, key: &str, age: Age) -> Result<Option<(String, TokenRecord)>> {
        match age {
            Age::Now => self.store.find_key(user, key, age).await,
            Age::Recent => self.keys.get(&name_of(user, key), || self.store.find_key(user, key, age)).await,
        }
    }

    async fn find_user(&self, name: &str, age: Age) -> Result<Option<UserRecord>> {
        match age {
            Age::Now => self.store.find_user(name, age).await,
            Age::Recent => self.users.get(name, || self.store.find_user(name, age)).await,
        }
    }

    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool> {
        let changed = self.store.change_user(name, change).await;
        self.users.forget(name).await;
        changed
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        let removed = self.store.remove_user(name).await;
        self.users.forget(name).await;
        self.keys.forget_all();
        removed
    }

    async fn user_names(&self) -> Result<Vec<String>> {
        self.store.user_names().await
    }

    async fn touch(&self, user: &str, hash: &str, day: Timestamp) -> Result<()> {
        self.store.touch(user, hash, day).await
    }

    async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()> {
        let revoked = self.store.revoke_signed(id, ends).await;
        self.revoked.forget(id).await;
        revoked
    }

    async fn is_revoked(&self, id: &str) -> Result<bool> {
        self.revoked.get(id, || self.store.is_revoked(id)).await
    }
}
