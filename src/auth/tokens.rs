//! Tokens: create, find, revoke, list. The text is known to its owner alone; everything here goes by its SHA-256 (122 random bits need no
//! slow hash).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::provider::TokenOptions;
use super::records::{Entry, Origin, Purpose, TokenRecord, key_of, sha256};
use super::scope::{self, Scope};
use super::stores::{self, Age, Recent, TokenBackend};
use super::{AuthToken, IssuedToken, TokenInfo};
use crate::core::error::{Error, Kind, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::task;
use crate::core::time::{Clock, Timestamp};

/// Tokens at most of which it is remembered that their use was written down.
const TOUCHED: u64 = 50_000;
/// What a user id may be as long as.
const MAX_USER: usize = 256;
/// What a token's name may be as long as.
const MAX_NAME: usize = 256;
/// What a token's metadata may take as text.
const MAX_METADATA: usize = 16 << 10;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// The tokens of one registry.
pub(super) struct Tokens {
    backend: Arc<dyn TokenBackend>,
    clock: Clock,
    /// What was found under a hash, nothing included.
    found: Recent<Option<Arc<TokenRecord>>>,
    /// The day on which this process has written down a token's use.
    touched: moka::sync::Cache<String, i64>,
}

impl Tokens {
    /// Tokens of a store; what is known of one is no older than `age`.
    pub(super) fn new(backend: Arc<dyn TokenBackend>, clock: Clock, age: Duration) -> Self {
        Self { backend, clock, found: Recent::new(age), touched: moka::sync::Cache::new(TOUCHED) }
    }

    /// Makes an access token.
    pub(super) async fn create(
        &self,
        user: &str,
        protocol: &str,
        options: &TokenOptions,
    ) -> Result<IssuedToken> {
        let record = self.checked(user, protocol, options)?;
        self.issue(record).await
    }

    /// Makes a refresh token with the rights of an identity, bound to what the identity logged in with.
    pub(super) async fn create_refresh(
        &self,
        token: &AuthToken,
        protocol: &str,
        origin: Origin,
        lifetime: Duration,
    ) -> Result<Secret> {
        let now = self.clock.now();
        let record = TokenRecord {
            user: token.user_id.clone(),
            protocol: protocol.to_owned(),
            purpose: Purpose::Refresh,
            scopes: token.scopes.clone(),
            readonly: token.readonly,
            created: now,
            expires: Some(now.plus(lifetime)),
            cidr: token.networks(),
            name: Some("login".to_owned()),
            origin: Some(origin),
            ..TokenRecord::default()
        };
        Ok(self.issue(record).await?.text)
    }

    async fn issue(&self, mut record: TokenRecord) -> Result<IssuedToken> {
        let text = id::uuid();
        record.hint = text.chars().take(6).collect();
        let hash = sha256(&text);
        self.backend.add_token(&hash, record.clone()).await?;
        self.found.forget(&hash).await;
        let info = info(&hash, &Entry { record, last_used: None });
        Ok(IssuedToken { text: Secret::new(text), info })
    }

    /// The access token behind a text, if it is good now, here and from there.
    pub(super) async fn find(&self, text: &Secret, client: Option<IpAddr>) -> Result<Option<AuthToken>> {
        let Some((hash, record)) = self.record(text, client).await? else { return Ok(None) };
        if record.purpose != Purpose::Access {
            return Ok(None);
        }
        self.touch(&hash, &record.user);
        Ok(Some(token(&hash, &record)))
    }

    /// What a refresh token stands for, with the rights it was made with. It must still be in its user's list, and so must the token
    /// that it came from; or the password must still be the same.
    pub(super) async fn redeem(&self, text: &Secret, client: Option<IpAddr>) -> Result<Option<AuthToken>> {
        let Some((hash, record)) = self.record(text, client).await? else { return Ok(None) };
        let itself = Origin::Token(key_of(&hash).to_owned());
        if record.purpose != Purpose::Refresh || !self.stands(&record.user, &itself).await? {
            return Ok(None);
        }
        self.touch(&hash, &record.user);
        Ok(Some(token(&hash, &record)))
    }

    /// Whether what a token of the user came from is still there.
    pub(super) async fn stands(&self, user: &str, origin: &Origin) -> Result<bool> {
        stores::stands(self.backend.as_ref(), user, origin, self.clock.now()).await
    }

    /// The record of a text, in its time and from where it may be used.
    async fn record(
        &self,
        text: &Secret,
        client: Option<IpAddr>,
    ) -> Result<Option<(String, Arc<TokenRecord>)>> {
        // Nothing else is ever a token of ours: no need to ask the store about every typo.
        if !id::is_uuid(text.expose()) {
            return Ok(None);
        }
        let hash = sha256(text.expose());
        let Some(record) = self.look_up(&hash).await? else { return Ok(None) };
        let good = !record.expired(self.clock.now()) && from_there(&record.cidr, client);
        Ok(good.then_some((hash, record)))
    }

    /// Whether a text is a good token but for where it is used.
    pub(super) async fn is_bound_elsewhere(&self, text: &Secret, client: Option<IpAddr>) -> Result<bool> {
        if !id::is_uuid(text.expose()) {
            return Ok(false);
        }
        let record = self.look_up(&sha256(text.expose())).await?;
        Ok(record
            .is_some_and(|record| !record.expired(self.clock.now()) && !from_there(&record.cidr, client)))
    }

    async fn look_up(&self, hash: &str) -> Result<Option<Arc<TokenRecord>>> {
        self.found.get(hash, async || Ok(self.backend.find_token(hash).await?.map(Arc::new))).await
    }

    /// Ends the token behind a text; none is fine.
    pub(super) async fn revoke(&self, text: &Secret) -> Result<()> {
        if !id::is_uuid(text.expose()) {
            return Ok(());
        }
        let hash = sha256(text.expose());
        if let Some(record) = self.backend.find_token(&hash).await? {
            self.remove(&record.user, &hash).await?;
        }
        Ok(())
    }

    /// Ends a user's token by its key.
    pub(super) async fn revoke_key(&self, user: &str, key: &str) -> Result<bool> {
        let Some((hash, _)) = self.backend.find_key(user, key, Age::Now).await? else { return Ok(false) };
        self.remove(user, &hash).await?;
        Ok(true)
    }

    async fn remove(&self, user: &str, hash: &str) -> Result<()> {
        let removed = self.backend.remove_token(user, hash).await;
        // Also after a failure: what the store has now is the truth.
        self.found.forget(hash).await;
        removed
    }

    /// Forgets what is known of any token here, after many of them have ended at once.
    pub(super) fn forget_all(&self) {
        self.found.forget_all();
    }

    /// A user's living tokens, oldest first.
    pub(super) async fn list(&self, user: &str) -> Result<Vec<TokenInfo>> {
        let now = self.clock.now();
        let tokens = self.backend.tokens(user).await?;
        let mut list: Vec<_> = tokens
            .iter()
            .filter(|(_, entry)| !entry.record.expired(now))
            .map(|(hash, entry)| info(hash, entry))
            .collect();
        list.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        Ok(list)
    }

    /// Revokes a signed token.
    pub(super) async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()> {
        self.backend.revoke_signed(id, ends).await
    }

    /// Whether a signed token was revoked.
    pub(super) async fn is_revoked(&self, id: &str) -> Result<bool> {
        self.backend.is_revoked(id).await
    }

    /// Writes down, once a day and behind the request's back, that a token is in use.
    fn touch(&self, hash: &str, user: &str) {
        let day = self.clock.now().as_millis().div_euclid(DAY);
        if self.touched.get(hash) == Some(day) {
            return;
        }
        self.touched.insert(hash.to_owned(), day);
        let (backend, hash, user) = (Arc::clone(&self.backend), hash.to_owned(), user.to_owned());
        task::spawn(async move {
            if let Err(error) = backend.touch(&user, &hash, Timestamp::from_millis(day * DAY)).await {
                tracing::debug!(key = key_of(&hash), %error, "the use of a token could not be written down");
            }
        });
    }

    /// The record that the options ask for.
    fn checked(&self, user: &str, protocol: &str, options: &TokenOptions) -> Result<TokenRecord> {
        let now = self.clock.now();
        if user.is_empty() || user.len() > MAX_USER || user.chars().any(char::is_control) {
            return Err(Error::invalid(
                "a token needs a user id of 1 to 256 bytes without control characters",
            ));
        }
        for scope in &options.scopes {
            if Scope::parse(scope).is_none() {
                return Err(Error::invalid(format!(
                    "`{scope}` is no scope; write `protocol:type:name:action`, such as `npm:package:@acme/*:read`"
                )));
            }
        }
        for network in &options.cidr {
            if parse_network(network).is_none() {
                return Err(Error::invalid(format!(
                    "`{network}` is no network; write `10.0.0.0/8` or a single address"
                )));
            }
        }
        if options.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("the token would have ended already"));
        }
        if options.name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
            return Err(Error::invalid("the token's name is longer than 256 bytes"));
        }
        if options.metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > MAX_METADATA) {
            return Err(Error::new(
                Kind::TooLarge,
                "the token's metadata is larger than the limit of 16384 bytes",
            ));
        }
        let scopes =
            if options.scopes.is_empty() { vec![scope::full(protocol)] } else { options.scopes.clone() };
        Ok(TokenRecord {
            user: user.to_owned(),
            protocol: protocol.to_owned(),
            scopes,
            readonly: options.readonly,
            created: now,
            expires: options.expires_at,
            cidr: options.cidr.clone(),
            name: options.name.clone(),
            metadata: options.metadata.clone(),
            ..TokenRecord::default()
        })
    }
}

/// Whether a token that is bound to networks may be used from an address. An unknown address is in none of them.
pub(super) fn from_there(networks: &[String], client: Option<IpAddr>) -> bool {
    networks.is_empty()
        || client.map(|address| address.to_canonical()).is_some_and(|address| {
            networks.iter().filter_map(|text| parse_network(text)).any(|network| network.contains(&address))
        })
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn token(hash: &str, record: &TokenRecord) -> AuthToken {
    AuthToken {
        kind: Some(record.protocol.clone()),
        user_id: record.user.clone(),
        scopes: record.scopes.clone(),
        readonly: record.readonly,
        expires_at: record.expires,
        metadata: Some(details(key_of(hash), record, None)),
    }
}

fn info(hash: &str, entry: &Entry) -> TokenInfo {
    let record = &entry.record;
    TokenInfo {
        key: key_of(hash).to_owned(),
        hint: record.hint.clone(),
        user_id: record.user.clone(),
        protocol: record.protocol.clone(),
        name: record.name.clone(),
        scopes: record.scopes.clone(),
        readonly: record.readonly,
        cidr: record.cidr.clone(),
        created: record.created,
        expires_at: record.expires,
        last_used: entry.last_used,
        metadata: record.metadata.clone(),
    }
}

/// A listed token in the shape that checks see.
pub(super) fn listed(info: TokenInfo) -> AuthToken {
    let record = TokenRecord {
        created: info.created,
        cidr: info.cidr,
        name: info.name,
        metadata: info.metadata,
        ..TokenRecord::default()
    };
    AuthToken {
        metadata: Some(details(&info.key, &record, info.last_used)),
        kind: Some(info.protocol),
        user_id: info.user_id,
        scopes: info.scopes,
        readonly: info.readonly,
        expires_at: info.expires_at,
    }
}

/// A token that a custom provider lists, as lists show it: `key`, `name` and `created` from its metadata, if it has any.
pub(super) fn from_provider(token: AuthToken) -> TokenInfo {
    let text = |name: &str| {
        let value = token.metadata.as_ref().and_then(|all| all.get(name))?;
        value.as_str().map(str::to_owned)
    };
    let moment = |name: &str| text(name).as_deref().and_then(Timestamp::parse_rfc3339);
    TokenInfo {
        key: text("key").unwrap_or_default(),
        hint: String::new(),
        name: text("name"),
        created: moment("created").unwrap_or_default(),
        last_used: moment("lastUsed"),
        protocol: token.kind.clone().unwrap_or_default(),
        cidr: Vec::new(),
        readonly: token.readonly,
        expires_at: token.expires_at,
        user_id: token.user_id,
        scopes: token.scopes,
        metadata: token.metadata,
    }
}

/// The metadata of a token as programs see it: what was given when it was made, with `key`, `created` and the like.
fn details(key: &str, record: &TokenRecord, last_used: Option<Timestamp>) -> Value {
    let mut all = match &record.metadata {
        Some(Value::Object(own)) => own.clone(),
        Some(other) => Map::from_iter([("metadata".to_owned(), other.clone())]),
        None => Map::new(),
    };
    let mut own: BTreeMap<&str, Value> =
        BTreeMap::from([("key", Value::from(key)), ("created", Value::from(record.created.rfc3339()))]);
    own.extend(record.name.as_deref().map(|name| ("name", Value::from(name))));
    own.extend((!record.cidr.is_empty()).then(|| ("cidr", Value::from(record.cidr.clone()))));
    own.extend(last_used.map(|day| ("lastUsed", Value::from(day.rfc3339()))));
    all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(all)
}
