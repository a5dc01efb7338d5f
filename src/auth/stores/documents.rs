//! Users and tokens as shared documents: in the registry's own bucket, or, for `memory`, in a store of this process.
//!
//! ```text
//! _sr/auth/tokens/<sha256 of the text>         a token; never changes, and is deleted when it ends
//! _sr/auth/users/<sha256 of the name>.json     a user: password as argon2id, and the list of tokens
//! _sr/auth/revoked.json                        ids of signed tokens that were revoked before their time
//! ```
//! A user who was removed leaves an empty document. No user name in a key: names differ by case, folders of some machines don't.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Age, TokenBackend, UserChange, too_many};
use crate::auth::records::{
    Entry, MAX_REFRESH_TOKENS, MAX_TOKENS, Purpose, TokenRecord, UserRecord, key_of, sha256,
};
use crate::core::error::{Error, Kind, Result};
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Edit, JsonDocument, Key, Loaded, Prefix, Storage};

/// Users and tokens in a storage.
pub(super) struct Documents {
    storage: Storage,
    clock: Clock,
}

/// A user with the list of tokens.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct UserDocument {
    #[serde(flatten)]
    user: UserRecord,
    /// By the hash of the text.
    tokens: BTreeMap<String, Entry>,
}

/// Signed tokens that were revoked, each with the moment after which it needn't be remembered.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Revoked(BTreeMap<String, Timestamp>);

impl Documents {
    pub(super) fn new(storage: Storage, clock: Clock) -> Self {
        Self { storage, clock }
    }

    async fn delete_tokens(&self, hashes: &[String]) -> Result<()> {
        for hash in hashes {
            self.storage.delete_document(&token_key(hash)?).await?;
        }
        Ok(())
    }

    async fn user(&self, name: &str, age: Age) -> Result<Option<Arc<Loaded<UserDocument>>>> {
        let key = user_key(name)?;
        match age {
            Age::Recent => self.storage.document(&key).await,
            Age::Now => self.storage.document_revalidated(&key).await,
        }
    }
}

#[async_trait]
impl TokenBackend for Documents {
    async fn prepare(&self) -> Result<()> {
        // The registry makes its storage ready itself, and a store of this process is.
        Ok(())
    }

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
            .update(&user_key(&name)?, move |document: &mut UserDocument| {
                document.user.name.clone_from(&listed.user);
                if document.tokens.contains_key(&hash) {
                    return Ok(Edit::Unchanged(Vec::new()));
                }
                let gone = superfluous(&document.tokens, listed.purpose, now);
                document.tokens.retain(|hash, _| !gone.contains(hash));
                if document.tokens.len() >= MAX_TOKENS as usize {
                    return Err(too_many(&listed.user));
                }
                document.tokens.insert(hash.clone(), Entry { record: listed.clone(), last_used: None });
                Ok(Edit::Changed(gone))
            })
            .await?;
        self.storage
            .update(&token_key(&id)?, move |stored: &mut TokenRecord| {
                *stored = record.clone();
                Ok(Edit::Changed(()))
            })
            .await?;
        self.delete_tokens(&gone).await?;
        // Whoever removes the user at this moment may have looked for the token before it was there.
        let user = self.user(&name, Age::Now).await?;
        if user.is_some_and(|loaded| loaded.document.tokens.contains_key(&id)) {
            return Ok(());
        }
        self.delete_tokens(&[id]).await?;
        Err(Error::new(Kind::Conflict, format!("{name} was removed while the token was made")))
    }

    async fn remove_token(&self, user: &str, hash: &str) -> Result<()> {
        self.storage.delete_document(&token_key(hash)?).await?;
        let hash = hash.to_owned();
        let change = move |document: &mut UserDocument| {
            Ok(match document.tokens.remove(&hash) {
                Some(_) => Edit::Changed(()),
                None => Edit::Unchanged(()),
            })
        };
        self.storage.update(&user_key(user)?, change).await.map(drop)
    }

    async fn tokens(&self, user: &str) -> Result<Vec<(String, Entry)>> {
        let found = self.user(user, Age::Now).await?;
        let list = |loaded: Arc<Loaded<UserDocument>>| loaded.document.tokens.clone().into_iter().collect();
        Ok(found.map(list).unwrap_or_default())
    }

    async fn find_key(&self, user: &str, key: &str, age: Age) -> Result<Option<(String, TokenRecord)>> {
        let Some(found) = self.user(user, age).await? else { return Ok(None) };
        let mut from_there = found.document.tokens.range(key.to_owned()..);
        let next = from_there.next().filter(|(hash, _)| key_of(hash) == key);
        Ok(next.map(|(hash, entry)| (hash.clone(), entry.record.clone())))
    }

    async fn find_user(&self, name: &str, age: Age) -> Result<Option<UserRecord>> {
        let found = self.user(name, age).await?.map(|loaded| loaded.document.user.clone());
        Ok(found.filter(|user| !user.name.is_empty()))
    }

    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool> {
        let own = name.to_owned();
        let change = move |document: &mut UserDocument| {
            let edit = change(&mut document.user)?;
            document.user.name.clone_from(&own);
            Ok(edit)
        };
        self.storage.update(&user_key(name)?, change).await.map(|(done, _)| done)
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        let key = user_key(name)?;
        let mut gone: Vec<String> = Vec::new();
        loop {
            let done = gone.clone();
            // Without the password and with the list first: what breaks off in between can be done again. What is left in the end is empty and not
            // deleted, since a deletion has no condition: it would take away the list of a token that is made meanwhile.
            let change = move |document: &mut UserDocument| {
                document.user.password = None;
                document.user.factor = None;
                document.tokens.retain(|hash, _| !done.contains(hash));
                let left: Vec<_> = document.tokens.keys().cloned().collect();
                if left.is_empty() {
                    *document = UserDocument::default();
                }
                Ok(Edit::Changed(left))
            };
            let (left, _) = self.storage.update(&key, change).await?;
            // Once more, for one that was written after its turn and before it left the list.
            self.delete_tokens(&gone).await?;
            if left.is_empty() {
                return Ok(());
            }
            self.delete_tokens(&left).await?;
            gone = left;
        }
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
            .map(|key| async move { self.storage.document::<UserDocument>(&key).await })
            .buffer_unordered(16)
            .try_filter_map(|loaded| async move {
                Ok(loaded.map(|loaded| loaded.document.user.name.clone()).filter(|name| !name.is_empty()))
            })
            .try_collect()
            .await?;
        names.sort();
        Ok(names)
    }

    async fn touch(&self, user: &str, hash: &str, day: Timestamp) -> Result<()> {
        let hash = hash.to_owned();
        let change = move |document: &mut UserDocument| {
            Ok(match document.tokens.get_mut(&hash) {
                Some(entry) if entry.last_used.is_none_or(|last| last < day) => {
                    entry.last_used = Some(day);
                    Edit::Changed(())
                }
                _ => Edit::Unchanged(()),
            })
        };
        self.storage.update(&user_key(user)?, change).await.map(drop)
    }

    async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()> {
        let (id, now) = (id.to_owned(), self.clock.now());
        let change = move |list: &mut Revoked| {
            list.0.retain(|_, ends| *ends > now);
            list.0.insert(id.clone(), ends);
            Ok(Edit::Changed(()))
        };
        self.storage.update(&revoked_key()?, change).await.map(drop)
    }

    async fn is_revoked(&self, id: &str) -> Result<bool> {
        let found = self.storage.document::<Revoked>(&revoked_key()?).await?;
        Ok(found.is_some_and(|loaded| loaded.document.0.contains_key(id)))
    }
}

const ROOT: &str = "_sr/auth";

fn token_key(hash: &str) -> Result<Key> {
    Key::new(format!("{ROOT}/tokens/{hash}"))
}

fn user_key(name: &str) -> Result<Key> {
    Key::new(format!("{ROOT}/users/{}.json", sha256(name)))
}

fn revoked_key() -> Result<Key> {
    Key::new(format!("{ROOT}/revoked.json"))
}

/// Tokens that make room for a new one: the ended ones, and the oldest refresh tokens beyond their number.
fn superfluous(tokens: &BTreeMap<String, Entry>, new: Purpose, now: Timestamp) -> Vec<String> {
    let (ended, living): (Vec<_>, Vec<_>) = tokens.iter().partition(|(_, entry)| entry.record.expired(now));
    let mut gone: Vec<String> = ended.into_iter().map(|(hash, _)| hash.clone()).collect();
    if new == Purpose::Refresh {
        let refresh = living.into_iter().filter(|(_, entry)| entry.record.purpose == Purpose::Refresh);
        let mut refresh: Vec<_> = refresh.map(|(hash, entry)| (entry.record.created, hash)).collect();
        refresh.sort();
        let many = (refresh.len() + 1).saturating_sub(MAX_REFRESH_TOKENS as usize);
        gone.extend(refresh.into_iter().take(many).map(|(_, hash)| hash.clone()));
    }
    gone
}

impl JsonDocument for UserDocument {
    const LIMIT: u64 = 16 << 20;
    const NAME: &'static str = "list of the user's tokens";
    const SECRET: bool = true;
}

impl JsonDocument for Revoked {
    const LIMIT: u64 = 8 << 20;
    const NAME: &'static str = "list of revoked tokens";
    const SECRET: bool = true;
}
