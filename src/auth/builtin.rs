//! The built-in provider: users with passwords, and their tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::factor::Factor;
use super::limiter::Limiter;
use super::passwords::{MAX_LENGTH, Passwords};
use super::provider::{Asker, AuthProvider, Credentials, TokenOptions};
use super::records::{Origin, UserRecord, sha256};
use super::scope::{self, Resource, Scope};
use super::stores::{Age, TokenBackend};
use super::tokens::{self, Tokens};
use super::{Action, AuthToken};
use crate::config::{AuthConfig, TokensConfig};
use crate::core::error::{Error, Kind, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::Clock;
use crate::storage::Edit;

/// How long the outcome of a password check is remembered, so that a client that sends Basic with every request waits for argon2 once.
/// It is remembered together with the password's hash: a new password is in force as soon as that is known here.
const CHECKED: Duration = Duration::from_mins(1);
/// Outcomes remembered at most.
const MAX_CHECKED: u64 = 10_000;

/// Where a password came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The embedding application asks: an unknown name is registered.
    Process,
    /// A client asks: an unknown name is refused unless self-registration is on, and failures are counted.
    Http(Option<IpAddr>),
    /// The same, told by the application's own provider, which knows of no address and can only pass on whether it is right.
    Relayed,
    /// The same for a password alone, with every request and no way to ask for a code: it is none for a user with a second factor.
    Basic(Option<IpAddr>),
}

impl Door {
    /// Whether failures count.
    fn counts(self) -> bool {
        self != Self::Process
    }

    /// The client's address, as far as it is known.
    const fn client(self) -> Option<IpAddr> {
        match self {
            Self::Process | Self::Relayed => None,
            Self::Http(client) | Self::Basic(client) => client,
        }
    }
}

/// Users and tokens of one registry.
pub(super) struct Builtin {
    pub(super) backend: Arc<dyn TokenBackend>,
    pub(super) tokens: Tokens,
    passwords: Passwords,
    pub(super) limiter: Arc<Limiter>,
    pub(super) clock: Clock,
    checked: Cache<[u8; 32], Checked>,
    /// Of this process: what is remembered can't be compared with anything from outside.
    salt: String,
    config: AuthConfig,
}

/// The outcome of a check, against this hash (`None`: there was no such user).
#[derive(Clone)]
struct Checked {
    phc: Option<Arc<str>>,
    right: bool,
}

impl Builtin {
    pub(super) fn new(
        backend: Arc<dyn TokenBackend>,
        config: &AuthConfig,
        limiter: Arc<Limiter>,
        clock: &Clock,
        age: Duration,
    ) -> Self {
        Self {
            tokens: Tokens::new(Arc::clone(&backend), clock.clone(), age),
            backend,
            passwords: Passwords::new(),
            limiter,
            clock: clock.clone(),
            checked: Cache::builder().max_capacity(MAX_CHECKED).time_to_live(CHECKED).build(),
            salt: id::uuid(),
            config: config.clone(),
        }
    }

    /// The user's id, if the password is right, and the one-time code of a user who has a second factor.
    ///
    /// # Errors
    /// 429 after too many failures; 401 that asks for a code.
    pub(super) async fn log_in(&self, credentials: &Credentials, door: Door) -> Result<Option<String>> {
        let Some(user) = self.check(credentials, door).await? else { return Ok(None) };
        let code = credentials.otp.as_ref();
        match door {
            Door::Http(_) => self.require_code(&user, None, code).await?,
            Door::Basic(_) if self.has_factor(&user).await? => return Ok(None),
            Door::Basic(_) => {}
            Door::Process | Door::Relayed => match self.require_code(&user, None, code).await {
                Err(refusal) if matches!(refusal.kind(), Kind::Unauthorized | Kind::TooMany) => {
                    return Ok(None);
                }
                outcome => outcome?,
            },
        }
        Ok(Some(user))
    }

    /// A user's PHC string, if the user has a password.
    async fn password(&self, name: &str) -> Result<Option<String>> {
        Ok(self.backend.find_user(name, Age::Recent).await?.and_then(|user| user.password))
    }

    /// A user's second factor, enrolled or pending.
    pub(super) async fn factor(&self, name: &str) -> Result<Option<Factor>> {
        Ok(self.backend.find_user(name, Age::Recent).await?.and_then(|user| user.factor))
    }

    /// Gives a user a password; with `only_new` only one that has none. Says whether it did.
    async fn set_password(&self, name: &str, phc: String, only_new: bool) -> Result<bool> {
        let now = self.clock.now();
        let change = move |user: &mut UserRecord| {
            // Finding one's own hash there is a success whose answer got lost.
            if only_new && user.password.as_ref().is_some_and(|other| *other != phc) {
                return Ok(Edit::Unchanged(false));
            }
            user.password = Some(phc.clone());
            user.created.get_or_insert(now);
            user.updated = Some(now);
            Ok(Edit::Changed(true))
        };
        self.backend.change_user(name, Box::new(change)).await
    }

    async fn has_factor(&self, user: &str) -> Result<bool> {
        Ok(self.factor(user).await?.is_some_and(|factor| !factor.pending))
    }

    /// Whether this is the password of a user there is.
    pub(super) async fn is_password(
        &self,
        credentials: &Credentials,
        client: Option<IpAddr>,
    ) -> Result<bool> {
        // An empty name is none, and so nobody is registered by asking.
        if !self.has_user(&credentials.username).await? {
            return Ok(false);
        }
        Ok(self.check(credentials, Door::Http(client)).await?.is_some())
    }

    /// The user's id, if the password is right.
    async fn check(&self, credentials: &Credentials, door: Door) -> Result<Option<String>> {
        let Credentials { username, password, .. } = credentials;
        if password.is_empty() || password.expose().len() > MAX_LENGTH || !is_name(username) {
            return Ok(None);
        }
        let phc = self.password(username).await?;
        let digest = self.digest(username, password);
        let known = self.checked.get(&digest).filter(|seen| seen.phc.as_deref() == phc.as_deref());
        let registers = phc.is_none() && self.registers(username, door);
        if let Some(seen) = known.filter(|_| !registers) {
            return Ok(seen.right.then(|| username.clone()));
        }
        let turn = self.passwords.turn().await?;
        // Only now: of many tries that came at once, those that wait here see the failures of those before them.
        if door.counts() {
            self.limiter.check(username, door.client())?;
        }
        if registers {
            let (hash, _turn) = self.passwords.hash(turn, password).await?;
            if self.set_password(username, hash, true).await? {
                tracing::info!(user = username, "a new user was registered");
                return Ok(Some(username.clone()));
            }
            // Somebody else was faster with this name; whose password it is will show.
            return Box::pin(self.check(credentials, door)).await;
        }
        let (right, _turn) = self.passwords.verify(turn, password, phc.clone()).await?;
        if !right && door.counts() {
            self.limiter.failed(username, door.client());
        }
        self.checked.insert(digest, Checked { phc: phc.map(Arc::from), right });
        Ok(right.then(|| username.clone()))
    }

    fn registers(&self, username: &str, door: Door) -> bool {
        match door {
            Door::Process => true,
            // Strangers get plain names: one that only looks like another's is a trap.
            Door::Http(_) | Door::Basic(_) | Door::Relayed => {
                self.config.self_registration && username.is_ascii()
            }
        }
    }

    fn digest(&self, username: &str, password: &Secret) -> [u8; 32] {
        Sha256::new()
            .chain_update(&self.salt)
            .chain_update((username.len() as u64).to_le_bytes())
            .chain_update(username)
            .chain_update(password.expose())
            .finalize()
            .into()
    }

    /// The access token behind a text, used from `client`; with `protocol`, only if it is of any use there.
    pub(super) async fn find_token(
        &self,
        text: &Secret,
        protocol: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Option<AuthToken>> {
        let found = self.tokens.find(text, client).await?;
        Ok(found.filter(|token| {
            token.kind.as_deref().is_none_or(|kind| self.enabled(kind)) && good_for(token, protocol)
        }))
    }

    /// Makes sure that tokens of a protocol may be made.
    pub(super) fn require_enabled(&self, protocol: &str) -> Result<()> {
        if self.enabled(protocol) {
            return Ok(());
        }
        Err(Error::denied(format!(
            "{protocol} tokens are switched off by option `auth.{protocol}Tokens.enabled`"
        )))
    }

    fn enabled(&self, protocol: &str) -> bool {
        tokens_config(&self.config, protocol).and_then(|config| config.enabled).unwrap_or(true)
    }

    /// Gives a user a password, a new user too.
    pub(super) async fn add_user(&self, name: &str, password: &Secret) -> Result<()> {
        check_name(name)?;
        if password.is_empty() || password.expose().len() > MAX_LENGTH {
            return Err(Error::invalid(format!("a password has 1 to {MAX_LENGTH} bytes")));
        }
        let turn = self.passwords.turn().await?;
        let (hash, _turn) = self.passwords.hash(turn, password).await?;
        self.set_password(name, hash, false).await.map(drop)
    }

    /// Forgets a user, and ends all tokens.
    pub(super) async fn remove_user(&self, name: &str) -> Result<bool> {
        if self.backend.find_user(name, Age::Now).await?.is_none() {
            return Ok(false);
        }
        self.backend.remove_user(name).await?;
        self.tokens.forget_all();
        Ok(true)
    }

    pub(super) async fn has_user(&self, name: &str) -> Result<bool> {
        Ok(self.password(name).await?.is_some())
    }

    pub(super) async fn list_users(&self) -> Result<Vec<String>> {
        self.backend.user_names().await
    }

    /// What a token made for this identity hangs on. A signed one passes on what it hangs on itself.
    pub(super) async fn origin(&self, token: &AuthToken) -> Result<Option<Origin>> {
        if token.is_password() {
            let phc = self.password(&token.user_id).await?;
            return Ok(phc.map(|phc| Origin::Password(sha256(&phc))));
        }
        if token.is_signed() {
            let origin = token.metadata.as_ref().and_then(|all| all.get("origin"));
            return Ok(origin.and_then(|origin| serde_json::from_value(origin.clone()).ok()));
        }
        let key = token.metadata.as_ref().and_then(|all| all.get("key")).and_then(|key| key.as_str());
        Ok(key.map(|key| Origin::Token(key.to_owned())))
    }
}

/// Whether a token is of any use to a protocol: made for it, or with a scope for it.
pub(super) fn good_for(token: &AuthToken, protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| {
        token.kind.as_deref() == Some(protocol)
            || token.scopes.iter().filter_map(|text| Scope::parse(text)).any(|scope| scope.covers(protocol))
    })
}

/// The configuration of a protocol's tokens, if it has any.
pub(super) fn tokens_config<'a>(config: &'a AuthConfig, protocol: &str) -> Option<&'a TokensConfig> {
    Some(match protocol {
        "npm" => &config.npm_tokens,
        "oci" => &config.oci_tokens,
        "maven" => &config.maven_tokens,
        "cargo" => &config.cargo_tokens,
        "composer" => &config.composer_tokens,
        "pypi" => &config.pypi_tokens,
        "rubygems" => &config.rubygems_tokens,
        _ => return None,
    })
}

fn is_name(name: &str) -> bool {
    check_name(name).is_ok()
}

/// A user name: letters, digits and `. _ - + @ ~`, beginning with a letter or digit. So it needs no escaping in a URL, has no colon that
/// Basic would cut, and is none of the placeholders (`_`, `__token__`).
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "._-+@~".contains(c);
    if name.starts_with(char::is_alphanumeric) && name.len() <= 128 && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::invalid(
        "a user name has 1 to 128 letters, digits and `._-+@~`, and begins with a letter or a digit",
    ))
}

#[async_trait]
impl AuthProvider for Builtin {
    async fn init(&self) -> Result<()> {
        self.backend.prepare().await
    }

    async fn authenticate(&self, credentials: &Credentials, asker: Asker) -> Result<Option<String>> {
        let door = match asker {
            Asker::Application => Door::Process,
            Asker::Client => Door::Relayed,
        };
        self.log_in(credentials, door).await
    }

    async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>> {
        self.find_token(token, protocol, None).await
    }

    async fn create_token(&self, user_id: &str, protocol: &str, options: &TokenOptions) -> Result<Secret> {
        self.require_enabled(protocol)?;
        Ok(self.tokens.create(user_id, protocol, options).await?.text)
    }

    async fn revoke_token(&self, token: &Secret) -> Result<()> {
        self.tokens.revoke(token).await
    }

    /// Scopes alone: what is public is [`super::Auth`]'s business.
    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        let (Some(token), Some(resource), Some(action)) =
            (token, Resource::parse(resource), Action::parse(action))
        else {
            return Ok(false);
        };
        Ok(scope::grants(&token.scopes, token.readonly, &resource, action))
    }

    async fn list_user_tokens(&self, user_id: &str) -> Result<Option<Vec<AuthToken>>> {
        Ok(Some(self.tokens.list(user_id).await?.into_iter().map(tokens::listed).collect()))
    }
}

/// 501 of what only the built-in provider does.
pub(super) fn elsewhere() -> Error {
    Error::new(Kind::Unsupported, "this registry's users are kept by its own auth provider")
}
