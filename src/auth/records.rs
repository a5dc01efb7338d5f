//! What is remembered of users and tokens, and where: the seam for token stores, and the one store there is so far, documents below
//! `_sr/auth/`.
//!
//! ```text
//! _sr/auth/tokens/<sha256 of the text>         a token; never changes, and is deleted when it ends
//! _sr/auth/users/<sha256 of the name>.json     a user: password as argon2id, and the list of tokens
//! _sr/auth/revoked.json                        ids of signed tokens that were revoked before their time
//! ```
//! No token text, no password, and no user name in a key (names differ by case, folders of some machines don't).
//!
//! A token is listed with its user before it works, and stops working before it leaves the list: at no moment is there a working
//! token that nobody can find to revoke it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::factor::Factor;
use crate::core::error::{Error, Kind, Result};
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Edit, JsonDocument, Key, Prefix, Storage};

/// A user's tokens at most; far beyond what a person or a build farm needs.
const MAX_TOKENS: usize = 10_000;
/// A user's refresh tokens at most: every `docker login` makes one, so the oldest give way.
const MAX_REFRESH_TOKENS: usize = 50;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// It opens things.
    #[default]
    Access,
    /// It buys OCI access tokens, and nothing else.
    Refresh,
}

/// What a refresh token or a signed token came from, and ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// A token, by its key.
    Token(String),
    /// A password, by the digest of its hash.
    Password(String),
}

/// A token as it is kept. No `Debug`: what it can do is nobody's business in a log.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TokenRecord {
    pub(super) user: String,
    pub(super) protocol: String,
    pub(super) purpose: Purpose,
    pub(super) scopes: Vec<String>,
    pub(super) readonly: bool,
    pub(super) created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cidr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The first characters of the text.
    pub(super) hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<serde_json::Value>,
}

impl TokenRecord {
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// A token in its user's list.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) record: TokenRecord,
    /// To the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_used: Option<Timestamp>,
}

/// A user. One without a password only has tokens that the application made for an id of its own.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UserRecord {
    pub(super) name: String,
    /// PHC string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    /// By the hash of the text.
    pub(super) tokens: BTreeMap<String, Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) factor: Option<Factor>,
    /// What the user says about themselves: e-mail address, full name and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) profile: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    /// When password, second factor or profile last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated: Option<Timestamp>,
}

/// A change of a user's record; it may be run again on a newer one.
pub(super) type UserChange = Box<dyn Fn(&mut UserRecord) -> Result<Edit<bool>> + Send + Sync>;

impl UserRecord {
    /// Whether what something came from is still there: the token, unexpired, with whatever that one came from; or the same password.
    fn stands(&self, origin: &Origin, now: Timestamp) -> bool {
        match origin {
            Origin::Password(digest) => self.password.as_deref().is_some_and(|phc| sha256(phc) == *digest),
            Origin::Token(key) => self.tokens.iter().any(|(hash, entry)| {
                let record = &entry.record;
                // A refresh token hangs on a login, and nothing hangs on a refresh token but signed ones: this ends after two steps.
                key_of(hash) == key
                    && !record.expired(now)
                    && record.origin.as_ref().is_none_or(|origin| self.stands(origin, now))
            }),
        }
    }
}

/// Signed tokens that were revoked, each with the moment after which it needn't be remembered.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Revoked(pub(super) BTreeMap<String, Timestamp>);

/// The key of a token: the first characters of its hash. Long enough to be unique among a user's, and no use without the rest.
pub(super) fn key_of(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// SHA-256 as hexadecimal text.
pub(super) fn sha256(text: &str) -> String {
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

/// Where users and tokens are kept. An answer may be as old as the metadata TTL unless it says otherwise.
#[async_trait]
pub(super) trait TokenBackend: Send + Sync + 'static {
    /// The token with this hash, as the store has it now.
    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>>;
    /// Adds a token, and lists it with its user. Ended tokens and supernumerary refresh tokens of the same user go.
    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()>;
    /// Ends a token.
    async fn remove_token(&self, user: &str, hash: &str) -> Result<()>;
    /// A user, as the store has it now.
    async fn find_user(&self, name: &str) -> Result<Option<UserRecord>>;
    /// A user's PHC string, if the user has a password.
    async fn password(&self, name: &str) -> Result<Option<String>>;
    /// A user's second factor, enrolled or pending.
    async fn factor(&self, name: &str) -> Result<Option<Factor>>;
    /// Changes a user's record.
    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool>;
    /// Whether what a token of the user came from is still there.
    async fn stands(&self, user: &str, origin: &Origin) -> Result<bool>;
    /// Gives a user a password; with `only_new` only one that has none. Says whether it did.
    async fn set_password(&self, name: &str, phc: String, only_new: bool) -> Result<bool>;
    /// Forgets a user and ends all tokens.
    async fn remove_user(&self, name: &str) -> Result<()>;
    /// The names of all users.
    async fn user_names(&self) -> Result<Vec<String>>;
    /// Writes down on which day a token was used.
    async fn touch(&self, user: &str, hash: &str, day: Timestamp) -> Result<()>;
    /// Revokes a signed token until it has ended by itself.
    async fn revoke_signed(&self, id: String, ends: Timestamp) -> Result<()>;
    /// The revoked signed tokens, as the store has them now.
    async fn revoked(&self) -> Result<Revoked>;
}

/// Users and tokens as shared documents: in the registry's own bucket, or, for `memory`, in a store of this process.
pub(super) struct Documents {
    storage: Storage,
    clock: Clock,
}

impl Documents {
    pub(super) fn new(storage: Storage, clock: Clock) -> Self {
        Self { storage, clock }
    }
}

#[async_trait]
impl TokenBackend for Documents {
    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>> {
        let found = self.storage.document_revalidated::<TokenRecord>(&token_key(hash)?).await?;
        Ok(found.map(|loaded| loaded.document.clone()).filter(|record| !record.user.is_empty()))
    }

    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()> {
        let now = self.clock.now();
        let (hash, listed) = (hash.to_owned(), record.clone());
        let (id, name) = (hash.clone(), record.user.clone());
        let (gone, _) = self
            .storage
            .update(&user_key(&name)?, move |user: &mut UserRecord| {
                user.name.clone_from(&listed.user);
                if user.tokens.contains_key(&hash) {
                    return Ok(Edit::Unchanged(Vec::new()));
                }
                let gone = superfluous(user, listed.purpose, now);
                user.tokens.retain(|hash, _| !gone.contains(hash));
                if user.tokens.len() >= MAX_TOKENS {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!("{} has {MAX_TOKENS} tokens; revoke some first", listed.user),
                    ));
                }
                user.tokens.insert(hash.clone(), Entry { record: listed.clone(), last_used: None });
                Ok(Edit::Changed(gone))
            })
            .await?;
        self.storage
            .update(&token_key(&id)?, move |stored: &mut TokenRecord| {
                *stored = record.clone();
                Ok(Edit::Changed(()))
            })
            .await?;
        for hash in gone {
            self.storage.delete_document(&token_key(&hash)?).await?;
        }
        Ok(())
    }

    async fn remove_token(&self, user: &str, hash: &str) -> Result<()> {
        self.storage.delete_document(&token_key(hash)?).await?;
        let hash = hash.to_owned();
        let change = move |user: &mut UserRecord| {
            Ok(match user.tokens.remove(&hash) {
                Some(_) => Edit::Changed(()),
                None => Edit::Unchanged(()),
            })
        };
        self.storage.update(&user_key(user)?, change).await.map(drop)
    }

    async fn find_user(&self, name: &str) -> Result<Option<UserRecord>> {
        let found = self.storage.document_revalidated::<UserRecord>(&user_key(name)?).await?;
        Ok(found.map(|loaded| loaded.document.clone()))
    }

    async fn password(&self, name: &str) -> Result<Option<String>> {
        let found = self.storage.document::<UserRecord>(&user_key(name)?).await?;
        Ok(found.and_then(|loaded| loaded.document.password.clone()))
    }

    async fn factor(&self, name: &str) -> Result<Option<Factor>> {
        let found = self.storage.document::<UserRecord>(&user_key(name)?).await?;
        Ok(found.and_then(|loaded| loaded.document.factor.clone()))
    }

    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool> {
        self.storage.update(&user_key(name)?, change).await.map(|(done, _)| done)
    }

    async fn stands(&self, user: &str, origin: &Origin) -> Result<bool> {
        let found = self.storage.document::<UserRecord>(&user_key(user)?).await?;
        Ok(found.is_some_and(|loaded| loaded.document.stands(origin, self.clock.now())))
    }

    async fn set_password(&self, name: &str, phc: String, only_new: bool) -> Result<bool> {
        let (own, now) = (name.to_owned(), self.clock.now());
        let change = move |user: &mut UserRecord| {
            // Finding one's own hash there is a success whose answer got lost.
            if only_new && user.password.as_ref().is_some_and(|other| *other != phc) {
                return Ok(Edit::Unchanged(false));
            }
            user.name.clone_from(&own);
            user.password = Some(phc.clone());
            user.created.get_or_insert(now);
            user.updated = Some(now);
            Ok(Edit::Changed(true))
        };
        self.storage.update(&user_key(name)?, change).await.map(|(done, _)| done)
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        // Without the password and with the list first: what breaks off in between can be done again.
        let change = |user: &mut UserRecord| {
            user.password = None;
            user.factor = None;
            Ok(Edit::Changed(user.tokens.keys().cloned().collect::<Vec<_>>()))
        };
        let (hashes, _) = self.storage.update(&user_key(name)?, change).await?;
        for hash in hashes {
            self.storage.delete_document(&token_key(&hash)?).await?;
        }
        self.storage.delete_document(&user_key(name)?).await
    }

    async fn user_names(&self) -> Result<Vec<String>> {
        let prefix = Prefix::new(format!("{ROOT}/users/"))?;
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = self.storage.store().list(&prefix, after.as_deref(), 1000, false).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut names: Vec<String> = stream::iter(keys)
            .map(|key| async move { self.storage.document::<UserRecord>(&key).await })
            .buffer_unordered(16)
            .try_filter_map(|loaded| async move {
                Ok(loaded.map(|loaded| loaded.document.name.clone()).filter(|name| !name.is_empty()))
            })
            .try_collect()
            .await?;
        names.sort();
        Ok(names)
    }

    async fn touch(&self, user: &str, hash: &str, day: Timestamp) -> Result<()> {
        let hash = hash.to_owned();
        let change = move |user: &mut UserRecord| {
            Ok(match user.tokens.get_mut(&hash) {
                Some(entry) if entry.last_used.is_none_or(|last| last < day) => {
                    entry.last_used = Some(day);
                    Edit::Changed(())
                }
                _ => Edit::Unchanged(()),
            })
        };
        self.storage.update(&user_key(user)?, change).await.map(drop)
    }

    async fn revoke_signed(&self, id: String, ends: Timestamp) -> Result<()> {
        let now = self.clock.now();
        let change = move |list: &mut Revoked| {
            list.0.retain(|_, ends| *ends > now);
            list.0.insert(id.clone(), ends);
            Ok(Edit::Changed(()))
        };
        self.storage.update(&Key::new(format!("{ROOT}/revoked.json"))?, change).await.map(drop)
    }

    async fn revoked(&self) -> Result<Revoked> {
        let key = Key::new(format!("{ROOT}/revoked.json"))?;
        let found = self.storage.document_revalidated::<Revoked>(&key).await?;
        Ok(found.map(|loaded| loaded.document.clone()).unwrap_or_default())
    }
}

const ROOT: &str = "_sr/auth";

fn token_key(hash: &str) -> Result<Key> {
    Key::new(format!("{ROOT}/tokens/{hash}"))
}

fn user_key(name: &str) -> Result<Key> {
    Key::new(format!("{ROOT}/users/{}.json", sha256(name)))
}

/// Tokens that make room for a new one: the ended ones, and the oldest refresh tokens beyond their number.
fn superfluous(user: &UserRecord, new: Purpose, now: Timestamp) -> Vec<String> {
    let mut gone: Vec<String> = user
        .tokens
        .iter()
        .filter(|(_, entry)| entry.record.expired(now))
        .map(|(hash, _)| hash.clone())
        .collect();
    if new == Purpose::Refresh {
        let mut refresh: Vec<_> = user
            .tokens
            .iter()
            .filter(|(_, entry)| entry.record.purpose == Purpose::Refresh && !entry.record.expired(now))
            .map(|(hash, entry)| (entry.record.created, hash))
            .collect();
        refresh.sort();
        let many = (refresh.len() + 1).saturating_sub(MAX_REFRESH_TOKENS);
        gone.extend(refresh.into_iter().take(many).map(|(_, hash)| hash.clone()));
    }
    gone
}

impl JsonDocument for TokenRecord {
    const LIMIT: u64 = 64 << 10;
    const NAME: &'static str = "token";
    const SECRET: bool = true;
}

impl JsonDocument for UserRecord {
    const LIMIT: u64 = 16 << 20;
    const NAME: &'static str = "list of the user's tokens";
    const SECRET: bool = true;
}

impl JsonDocument for Revoked {
    const LIMIT: u64 = 8 << 20;
    const NAME: &'static str = "list of revoked tokens";
    const SECRET: bool = true;
}
