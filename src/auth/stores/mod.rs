//! Where users and tokens are kept: the seam, and which store the configuration asks for.
//!
//! A token is listed with its user before it works, and stops working before it leaves the list: at no moment is there a working
//! token that nobody can find to revoke it.

mod database;
mod documents;
mod recent;
mod redis;
mod server;
#[cfg(test)]
mod suite;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(super) use self::recent::Recent;

use self::database::Database;
use self::documents::Documents;
use self::recent::Remembering;
use self::redis::Redis;
use super::records::{Entry, MAX_TOKENS, Origin, TokenRecord, UserRecord, sha256};
use crate::config::{AuthConfig, TokenStore};
use crate::core::error::{Error, Kind, Result};
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::storage::memory::MemoryStore;
use crate::storage::{Edit, Storage, StorageLimits};

/// How old what is known of a server's users and tokens may be: what ends in one process ends within a second in all of them.
const SERVER_AGE: Duration = Duration::from_millis(500);

/// How many things a token can hang on: a signed one on a refresh token, that one on a token or a password.
const STEPS: usize = 4;

/// A change of a user's record; it may be run again on a newer one.
pub(super) type UserChange = Box<dyn Fn(&mut UserRecord) -> Result<Edit<bool>> + Send + Sync>;

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// As old as what is known of tokens may be here.
    Recent,
    /// As the store has it now.
    Now,
}

/// Where users and tokens are kept.
#[async_trait]
pub(super) trait TokenBackend: Send + Sync + 'static {
    /// Makes the store ready, and says why it can't be. A store that isn't ready when it is asked becomes it then.
    async fn prepare(&self) -> Result<()>;
    /// The token with this hash, as the store has it now.
    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>>;
    /// Adds a token, and lists it with its user. Ended tokens and supernumerary refresh tokens of the same user go.
    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()>;
    /// Ends a token.
    async fn remove_token(&self, user: &str, hash: &str) -> Result<()>;
    /// A user's tokens with their hashes, as the store has them now; ended ones may be among them.
    async fn tokens(&self, user: &str) -> Result<Vec<(String, Entry)>>;
    /// A user's token by its key, with its hash.
    async fn find_key(&self, user: &str, key: &str, age: Age) -> Result<Option<(String, TokenRecord)>>;
    /// A user.
    async fn find_user(&self, name: &str, age: Age) -> Result<Option<UserRecord>>;
    /// Changes a user's record. No change of another process is lost.
    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool>;
    /// Forgets a user and ends all tokens.
    async fn remove_user(&self, name: &str) -> Result<()>;
    /// The names of all users, sorted.
    async fn user_names(&self) -> Result<Vec<String>>;
    /// Writes down on which day a token was used.
    async fn touch(&self, user: &str, hash: &str, day: Timestamp) -> Result<()>;
    /// Revokes a signed token until it has ended by itself.
    async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()>;
    /// Whether a signed token was revoked, by an answer that may be as old as what is known of tokens here.
    async fn is_revoked(&self, id: &str) -> Result<bool>;
}

/// Whether what a token of the user came from is still there: the token, unexpired, with whatever that one came from; or the same
/// password.
pub(super) async fn stands(
    backend: &dyn TokenBackend,
    user: &str,
    origin: &Origin,
    now: Timestamp,
) -> Result<bool> {
    // What another process made a moment ago is good at once: a refusal never rests on what was remembered.
    Ok(stood(backend, user, origin, now, Age::Recent).await?
        || stood(backend, user, origin, now, Age::Now).await?)
}

async fn stood(
    backend: &dyn TokenBackend,
    user: &str,
    origin: &Origin,
    now: Timestamp,
    age: Age,
) -> Result<bool> {
    let mut next = origin.clone();
    for _ in 0..STEPS {
        match next {
            Origin::Password(digest) => {
                let password = backend.find_user(user, age).await?.and_then(|user| user.password);
                return Ok(password.is_some_and(|phc| sha256(&phc) == digest));
            }
            Origin::Token(key) => {
                let found = backend.find_key(user, &key, age).await?;
                let Some((_, record)) = found.filter(|(_, record)| !record.expired(now)) else {
                    return Ok(false);
                };
                let Some(origin) = record.origin else { return Ok(true) };
                next = origin;
            }
        }
    }
    Ok(false)
}

/// The store that the configuration asks for.
pub(super) enum Place {
    /// This process.
    Memory,
    /// The registry's own storage.
    Storage,
    /// A server for Redis.
    Redis(Secret),
    /// `PostgreSQL`, or a file of `SQLite`.
    Database(Secret),
}

impl Place {
    /// Reads it from the configuration.
    pub(super) fn new(config: &AuthConfig, warnings: &mut Vec<String>) -> Self {
        let (name, option, url) = match config.token_store {
            TokenStore::Memory => return Self::Memory,
            TokenStore::Storage => return Self::Storage,
            TokenStore::Redis => ("redis", self::redis::OPTION, &config.redis_url),
            TokenStore::Database => ("database", self::database::OPTION, &config.database_url),
        };
        match url.clone().filter(|url| !url.is_empty()) {
            Some(url) if config.token_store == TokenStore::Redis => Self::Redis(url),
            Some(url) => Self::Database(url),
            None => {
                warnings.push(format!(
                    "option `auth.tokenStore` is `{name}` and `{option}` is missing: tokens are kept in the registry's own storage"
                ));
                Self::Storage
            }
        }
    }

    /// Whether other processes may have the same tokens; `storage` says it of the registry's own storage.
    pub(super) fn is_shared(&self, storage: bool) -> bool {
        match self {
            Self::Memory => false,
            Self::Storage => storage,
            Self::Redis(_) | Self::Database(_) => true,
        }
    }

    /// Opens it, and says how old what is known of its tokens may be. Does no IO.
    ///
    /// # Errors
    /// An unusable URL, with the option's name.
    pub(super) fn open(
        self,
        storage: &Storage,
        clock: &Clock,
        age: Duration,
    ) -> Result<(Arc<dyn TokenBackend>, Duration)> {
        let documents = |storage| Arc::new(Documents::new(storage, clock.clone()));
        let near = age.min(SERVER_AGE);
        Ok(match self {
            Self::Memory => (documents(in_memory(clock)), age),
            Self::Storage => (documents(storage.clone()), age),
            Self::Redis(url) => (Arc::new(Remembering::new(Redis::new(&url, clock.clone())?, near)), near),
            Self::Database(url) => {
                (Arc::new(Remembering::new(Database::new(&url, clock.clone())?, near)), near)
            }
        })
    }
}

/// A store of this process, for `tokenStore: 'memory'`.
fn in_memory(clock: &Clock) -> Storage {
    let limits = StorageLimits { cache_bytes: 4 << 20, ..StorageLimits::default() };
    Storage::new(Arc::new(MemoryStore::new(clock.clone())), None, &limits, clock.clone())
}

/// 409 of a user who has too many tokens.
fn too_many(user: &str) -> Error {
    Error::new(Kind::Conflict, format!("{user} has {MAX_TOKENS} tokens; revoke some first"))
}
