//! Who asks, and what they may do. Knows no document format.
//!
//! A request is authenticated once ([`Auth::authenticate`]) and authorised per resource ([`Auth::allows`]). The provider behind is
//! the built-in one or the application's own ([`AuthProvider`]).

mod account;
mod builtin;
mod credentials;
mod custom;
#[cfg(test)]
mod custom_tests;
mod factor;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod identity;
mod jwt;
mod keys;
mod limiter;
mod oidc;
mod passwords;
mod provider;
mod records;
mod scope;
mod setup;
mod stores;
#[cfg(test)]
mod tests;
mod tokens;
mod visibility;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;

pub use account::{Account, Enrolment};
pub use factor::{FactorMode, ONE_TIME_CODE};
pub use identity::{AuthToken, Identity, IssuedToken, TokenInfo};
pub(crate) use jwt::LISTING;
pub use keys::{Document, KeySource, Lookup};
pub use oidc::IdToken;
pub use provider::{Asker, AuthProvider, Credentials, TokenOptions};
pub use scope::{Action, Resource, Scope};
pub use setup::Setup;
pub use visibility::Packages;

#[cfg(test)]
pub(crate) use factor::shown as shown_code;
#[cfg(test)]
pub(crate) use oidc::testing::TestIssuer;

use builtin::{Builtin, Door};
use credentials::Presented;
use custom::Fenced;
use jwt::{Grant, Jwt, Verdict, Verified};
use limiter::Limiter;

use crate::config::{AuthConfig, Visibility};
use crate::core::error::{Error, Kind, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::secret::Secret;
use crate::core::time::Clock;

/// Names a protocol's resource of a type.
pub fn resource(protocol: ProtocolName, kind: &'static str, name: impl Into<String>) -> Resource {
    Resource { protocol: protocol.as_str().to_owned(), kind: kind.to_owned(), name: name.into() }
}

/// Authentication and authorisation of one registry.
pub struct Auth {
    users: Users,
    jwt: Jwt,
    issuers: oidc::Issuers,
    rules: visibility::Rules,
    /// What packages and who they belong to say, once there is somebody who knows.
    packages: OnceLock<Arc<dyn Packages>>,
    config: AuthConfig,
    clock: Clock,
    limiter: Arc<Limiter>,
    /// What to tell the operator when the registry starts.
    warnings: Vec<String>,
    ready: OnceCell<()>,
}

/// Who keeps users and tokens.
enum Users {
    Builtin(Box<Builtin>),
    Custom(Fenced),
}

impl Users {
    fn provider(&self) -> &dyn AuthProvider {
        match self {
            Self::Builtin(builtin) => builtin.as_ref(),
            Self::Custom(custom) => custom,
        }
    }

    fn builtin(&self) -> Option<&Builtin> {
        match self {
            Self::Builtin(builtin) => Some(builtin),
            Self::Custom(_) => None,
        }
    }
}

impl Auth {
    /// Makes the provider ready, and says what the operator should know. Once; after a failure it may be tried again.
    pub async fn prepare(&self) -> Result<()> {
        let prepare = async {
            self.users.provider().init().await?;
            for warning in &self.warnings {
                tracing::warn!("{warning}");
            }
            Ok(())
        };
        self.ready.get_or_try_init(|| prepare).await.map(drop)
    }

    /// Who sent this request: Bearer, bare token, Basic with a password or with any token as the password, or the token that came
    /// outside the headers. Wrong credentials are [`Identity::Rejected`], not an error; too many of them are 429.
    pub async fn authenticate(&self, request: &Request, protocol: ProtocolName) -> Result<Identity> {
        let client = request.client_ip();
        let found = match Presented::of(request)? {
            Presented::Nothing => return Ok(Identity::Anonymous),
            Presented::Unusable => None,
            Presented::Token(token) => self.find_token(&token, Some(protocol.as_str()), client).await?,
            Presented::Basic { username, password } => {
                self.basic(username, password, protocol.as_str(), client).await?
            }
        };
        Ok(found.map_or(Identity::Rejected, |token| Identity::Known(Arc::new(token))))
    }

    /// Basic: a token in either field, else a password. Tokens first: to the application's directory service, a token that is tried as
    /// a password is one more failed login.
    async fn basic(
        &self,
        username: String,
        password: Secret,
        protocol: &str,
        client: Option<IpAddr>,
    ) -> Result<Option<AuthToken>> {
        // `https://TOKEN@host/` sends it with no password; GitHub's way puts `x-oauth-basic` there.
        let in_name = password.is_empty() || matches!(password.expose(), "x-oauth-basic" | "x-token-auth");
        let text = if in_name { Secret::new(username.as_str()) } else { password.clone() };
        if let Some(token) = self.find_token(&text, Some(protocol), client).await? {
            return Ok(Some(token));
        }
        if in_name || matches!(username.as_str(), "" | "_" | "__token__") {
            return Ok(None);
        }
        let credentials = Credentials { username, password, otp: None };
        let user = match &self.users {
            Users::Builtin(builtin) => builtin.log_in(&credentials, Door::Basic(client)).await?,
            Users::Custom(_) => self.login(&credentials, client).await?,
        };
        Ok(user.map(|user| AuthToken::of_password(user, protocol)))
    }

    /// The token that a request presents, as it is: for what is nobody's token here. `None` for Basic and for nothing.
    pub fn presented_token(&self, request: &Request) -> Option<Secret> {
        match Presented::of(request) {
            Ok(Presented::Token(token)) => Some(token),
            _ => None,
        }
    }

    /// Whether a token that was rejected would be good from another network.
    pub async fn is_bound_elsewhere(&self, token: &Secret, client: Option<IpAddr>) -> Result<bool> {
        match self.users.builtin() {
            Some(builtin) => builtin.tokens.is_bound_elsewhere(token, client).await,
            None => Ok(false),
        }
    }

    /// The token behind a text: signed by us, or known to the provider.
    async fn find_token(
        &self,
        text: &Secret,
        protocol: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Option<AuthToken>> {
        match self.jwt.verify(text) {
            Verdict::OutOfTime => return Ok(None),
            Verdict::Good(verified) => {
                let good = self.oci_enabled()
                    && builtin::good_for(&verified.token, protocol)
                    && tokens::from_there(&verified.cidr, client)
                    && self.still_stands(&verified).await?;
                return Ok(good.then_some(verified.token));
            }
            Verdict::Foreign => {}
        }
        match &self.users {
            Users::Builtin(builtin) => builtin.find_token(text, protocol, client).await,
            Users::Custom(custom) => custom.validate_token(text, protocol).await,
        }
    }

    /// Whether a signed token was not revoked, and what it came from neither.
    async fn still_stands(&self, signed: &Verified) -> Result<bool> {
        // A custom provider knows what it has ended, and is asked about every right.
        let Some(builtin) = self.users.builtin() else { return Ok(true) };
        if builtin.tokens.is_revoked(&signed.id).await? {
            return Ok(false);
        }
        match &signed.origin {
            Some(origin) => builtin.tokens.stands(&signed.token.user_id, origin).await,
            None => Ok(true),
        }
    }

    /// A login by password over HTTP: the user's id if it is right, registered now if the name is unknown and
    /// self-registration is on. Slow on purpose; too many failures are 429 with `Retry-After`.
    pub async fn login(&self, credentials: &Credentials, client: Option<IpAddr>) -> Result<Option<String>> {
        match &self.users {
            Users::Builtin(builtin) => builtin.log_in(credentials, Door::Http(client)).await,
            Users::Custom(custom) => {
                self.limiter.check(&credentials.username, client)?;
                let user = custom.authenticate(credentials, Asker::Client).await?;
                if user.is_none() {
                    self.limiter.failed(&credentials.username, client);
                }
                Ok(user)
            }
        }
    }

    /// A login by password from inside the process (`AuthManager.authenticate`): an unknown name is registered. A wrong password is
    /// `None`, always.
    pub async fn authenticate_in_process(&self, credentials: &Credentials) -> Result<Option<String>> {
        self.users.provider().authenticate(credentials, Asker::Application).await
    }

    /// A login by password of a client, that the application's own provider passes on to the built-in one: an unknown name is refused unless
    /// self-registration is on. A wrong password is `None`, too many of them 429.
    pub async fn authenticate_for_client(&self, credentials: &Credentials) -> Result<Option<String>> {
        self.users.provider().authenticate(credentials, Asker::Client).await
    }

    /// Whether `identity` may do `action` to `resource`. `own` is the package's own setting, where its protocol has one.
    ///
    /// Public packages can be read by everybody, wrong credentials included. For the rest the token's scopes decide, or a custom
    /// provider; that one is asked about anonymous reads of public packages too.
    pub async fn allows(
        &self,
        identity: &Identity,
        resource: &Resource,
        action: Action,
        own: Option<Visibility>,
    ) -> Result<bool> {
        let open = action.is_read() && self.rules.of(resource, own) == Visibility::Public;
        // An OCI token without a user was signed for somebody anonymous.
        let token = identity.token().map(AsRef::as_ref).filter(|token| !token.user_id.is_empty());
        let granted =
            token.is_some_and(|token| scope::grants(&token.scopes, token.readonly, resource, action));
        let Users::Custom(custom) = &self.users else { return Ok(open || granted) };
        match token {
            // A token that we signed is good for what it says, and no more; the provider may have changed its mind since.
            Some(token) if !token.is_signed() || granted => {
                custom.authorize(Some(token), &resource.to_string(), action.as_str()).await
            }
            _ => Ok(open && self.anonymous_custom(custom, resource, action).await?),
        }
    }

    /// Patterns of the names of this kind that the caller's own token reads: what a token that it is exchanged for can hand on. With a
    /// custom provider any, since that one is asked about each name when it comes to it.
    pub fn readable(&self, identity: &Identity, protocol: ProtocolName, kind: &str) -> Vec<String> {
        let Some(token) = identity.token() else { return Vec::new() };
        if matches!(self.users, Users::Custom(_)) {
            return vec!["*".to_owned()];
        }
        let scopes = token.scopes.iter().filter_map(|text| Scope::parse(text));
        scopes
            .filter(|scope| scope.covers(protocol.as_str()) && scope::field_matches(scope.kind, kind))
            .filter(|scope| scope.action.implies(Action::Read))
            .map(|scope| scope.name.to_owned())
            .collect()
    }

    /// Asks a custom provider about nobody. Providers that only know `read` let anonymous callers do just that, so pulling is asked as
    /// reading too.
    async fn anonymous_custom(&self, custom: &Fenced, resource: &Resource, action: Action) -> Result<bool> {
        let name = resource.to_string();
        Ok(custom.authorize(None, &name, action.as_str()).await?
            || (action == Action::Pull && custom.authorize(None, &name, Action::Read.as_str()).await?))
    }

    /// Whom [`Self::authorize`] asks what a package, and who it belongs to, says. Once.
    pub fn ask_packages(&self, packages: Arc<dyn Packages>) {
        let _ = self.packages.set(packages);
    }

    /// `AuthManager.authorize`: whether a token (`None`: nobody) may do `action` to `npm:package:name`. A text that is no resource or
    /// no action is never allowed. A custom provider answers for itself. Without a registry no package has a setting of its own.
    pub async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        if let Users::Custom(custom) = &self.users {
            return custom.authorize(token, resource, action).await;
        }
        let (Some(resource), Some(action)) = (Resource::parse(resource), Action::parse(action)) else {
            return Ok(false);
        };
        let now = self.clock.now();
        let identity = match token {
            None => Identity::Anonymous,
            Some(token) if token.expires_at.is_some_and(|end| end <= now) => Identity::Rejected,
            Some(token) => Identity::Known(Arc::new(token.clone())),
        };
        let Some(packages) = self.packages.get() else {
            return self.allows(&identity, &resource, action, None).await;
        };
        let own = if action.is_read() { packages.visibility(&resource).await? } else { None };
        let open = action.is_read() && self.is_public(&resource, own);
        Ok(self.allows(&identity, &resource, action, own).await?
            && (open || packages.lets(&identity, &resource, action).await?))
    }

    /// Whether anybody may read `resource`, as far as settings tell.
    pub fn is_public(&self, resource: &Resource, own: Option<Visibility>) -> bool {
        self.rules.of(resource, own) == Visibility::Public
    }

    /// Whether the settings tell all: no provider of the application has a say.
    pub fn is_settled(&self) -> bool {
        !matches!(self.users, Users::Custom(_))
    }

    /// Whether this protocol has anything that needs credentials to read: then `GET /v2/` must challenge. With a custom provider it may
    /// well have.
    pub fn has_private(&self, protocol: ProtocolName) -> bool {
        matches!(self.users, Users::Custom(_)) || self.rules.has_private(protocol.as_str())
    }

    /// Whether this protocol has anything that anybody may read, as far as settings tell.
    pub fn has_public(&self, protocol: ProtocolName) -> bool {
        self.rules.has_public(protocol.as_str())
    }

    /// The token behind a text, if it is good now and, with `protocol`, good for that protocol (`AuthManager.validateToken`). A token
    /// that is bound to networks is not good from inside the process.
    pub async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>> {
        self.find_token(token, protocol, None).await
    }

    /// Makes a token.
    pub async fn create_token(
        &self,
        user: &str,
        protocol: ProtocolName,
        options: &TokenOptions,
    ) -> Result<Secret> {
        self.users.provider().create_token(user, protocol.as_str(), options).await
    }

    /// Makes a token and says how it is listed (its key, above all).
    pub async fn issue_token(
        &self,
        user: &str,
        protocol: ProtocolName,
        options: &TokenOptions,
    ) -> Result<IssuedToken> {
        if let Some(builtin) = self.users.builtin() {
            builtin.require_enabled(protocol.as_str())?;
            return builtin.tokens.create(user, protocol.as_str(), options).await;
        }
        let text = self.create_token(user, protocol, options).await?;
        let info = TokenInfo {
            key: records::key_of(&records::sha256(text.expose())).to_owned(),
            hint: String::new(),
            user_id: user.to_owned(),
            protocol: protocol.as_str().to_owned(),
            name: options.name.clone(),
            scopes: options.scopes.clone(),
            readonly: options.readonly,
            cidr: options.cidr.clone(),
            created: self.clock.now(),
            expires_at: options.expires_at,
            last_used: None,
            metadata: options.metadata.clone(),
        };
        Ok(IssuedToken { text, info })
    }

    /// Makes an OCI token (`createOciToken`): signed here, or by a custom provider's `createToken`.
    pub async fn create_oci_token(
        &self,
        user: &str,
        scopes: &[String],
        lifetime: Duration,
    ) -> Result<Secret> {
        let Users::Custom(custom) = &self.users else { return self.sign_oci(user, scopes, lifetime) };
        let expires_at = Some(self.clock.now().plus(lifetime));
        let options = TokenOptions { scopes: scopes.to_vec(), expires_at, ..TokenOptions::default() };
        custom.create_token(user, jwt::PROTOCOL, &options).await
    }

    /// A signed OCI token (HS256) for `user` (empty: anonymous) with the unified scopes and the equivalent `access` claim.
    ///
    /// # Errors
    /// 400 for more scopes than fit into a token.
    pub fn sign_oci(&self, user: &str, scopes: &[String], lifetime: Duration) -> Result<Secret> {
        let token = self.sign_anyhow(user, scopes, lifetime)?;
        if is_too_long(&token) {
            return Err(Error::invalid(format!(
                "{} scopes make a token of {} bytes, which no request can carry; use patterns, or several tokens",
                scopes.len(),
                token.expose().len()
            )));
        }
        Ok(token)
    }

    fn sign_anyhow(&self, user: &str, scopes: &[String], lifetime: Duration) -> Result<Secret> {
        self.require_oci()?;
        self.jwt.sign(Grant { user, scopes, lifetime, id: None, origin: None, cidr: Vec::new() })
    }

    /// The same for whoever logged in as `identity`, and how long it lives. It ends with the token or the password that the identity
    /// came with, at the latest when that one expires, and works from the same networks: exchanging a token gives no more than the token.
    /// It may come out longer than a request can carry: see [`is_too_long`].
    pub async fn sign_oci_for(
        &self,
        identity: &Identity,
        scopes: &[String],
        lifetime: Duration,
    ) -> Result<(Secret, Duration)> {
        let user = identity.user().unwrap_or_default();
        let Some(token) = identity.token() else {
            return Ok((self.sign_anyhow(user, scopes, lifetime)?, lifetime));
        };
        self.require_oci()?;
        let left = token.expires_at.map_or(lifetime, |end| end.since(self.clock.now()));
        // It may have ended since it was checked, or be a foreign one within its leeway, which exchanging would start anew, again and again.
        if left.is_zero() {
            return Err(Error::new(Kind::Unauthorized, "the token has expired; log in again"));
        }
        let lifetime = lifetime.min(left);
        let origin = match self.users.builtin() {
            Some(builtin) => builtin.origin(token).await?,
            None => None,
        };
        let (id, cidr) = (token.signed_id(), token.networks());
        let text = self.jwt.sign(Grant { user, scopes, lifetime, id, origin, cidr })?;
        Ok((text, lifetime))
    }

    /// Ends a token, by its text. A text that is no token is fine.
    pub async fn revoke_token(&self, token: &Secret) -> Result<()> {
        match (self.users.builtin(), self.jwt.verify(token)) {
            (Some(builtin), Verdict::Good(verified)) => {
                builtin.tokens.revoke_signed(&verified.id, verified.ends).await
            }
            _ => self.users.provider().revoke_token(token).await,
        }
    }

    /// Ends a user's token by its key; `false` if the user has no such token.
    pub async fn revoke_key(&self, user: &str, key: &str) -> Result<bool> {
        match self.users.builtin() {
            Some(builtin) => builtin.tokens.revoke_key(user, key).await,
            None => Ok(false),
        }
    }

    /// A user's tokens (`AuthManager.listUserTokens`); key, name and dates are in the metadata.
    pub async fn list_user_tokens(&self, user: &str) -> Result<Vec<AuthToken>> {
        Ok(self.users.provider().list_user_tokens(user).await?.unwrap_or_default())
    }

    /// A user's tokens as lists show them, oldest first.
    pub async fn list_tokens(&self, user: &str) -> Result<Vec<TokenInfo>> {
        match self.users.builtin() {
            Some(builtin) => builtin.tokens.list(user).await,
            None => Ok(self.list_user_tokens(user).await?.into_iter().map(tokens::from_provider).collect()),
        }
    }

    /// Adds a user, or gives one a new password. For the command line; names are checked.
    pub async fn add_user(&self, name: &str, password: &Secret) -> Result<()> {
        self.users.builtin().ok_or_else(builtin::elsewhere)?.add_user(name, password).await
    }

    /// Forgets a user and ends all tokens; `false` if there is no such user. Signed OCI tokens live on for their minutes.
    pub async fn remove_user(&self, name: &str) -> Result<bool> {
        self.users.builtin().ok_or_else(builtin::elsewhere)?.remove_user(name).await
    }

    /// Whether there is a user of this name; `None` when the provider can't tell.
    pub async fn has_user(&self, name: &str) -> Result<Option<bool>> {
        match self.users.builtin() {
            Some(builtin) => builtin.has_user(name).await.map(Some),
            None => Ok(None),
        }
    }

    /// Every user of the built-in provider, sorted; ids that only have tokens included.
    pub async fn list_users(&self) -> Result<Vec<String>> {
        self.users.builtin().ok_or_else(builtin::elsewhere)?.list_users().await
    }

    /// Whether new tokens of a protocol only read unless asked otherwise (`npmTokens.defaultReadonly`).
    pub fn default_readonly(&self, protocol: ProtocolName) -> bool {
        builtin::tokens_config(&self.config, protocol.as_str()).is_some_and(|config| config.default_readonly)
    }

    /// `service` of OCI challenges and tokens: as configured, else `smartregistry`.
    pub fn oci_service(&self) -> &str {
        self.jwt.service()
    }

    fn require_oci(&self) -> Result<()> {
        if self.oci_enabled() {
            return Ok(());
        }
        Err(Error::denied("OCI tokens are switched off by option `auth.ociTokens.enabled`"))
    }

    fn oci_enabled(&self) -> bool {
        self.config.oci_tokens.enabled.unwrap_or(true)
    }

    /// A refresh token for whoever logged in as `identity`: kept as a record, good for [`Auth::redeem_refresh_token`] alone, and ended
    /// with the token or the password that it came from, or by [`Auth::revoke_token`]. `None` for an identity that can't have one.
    pub async fn create_refresh_token(&self, identity: &Identity) -> Result<Option<Secret>> {
        let (Some(builtin), Some(token)) = (self.users.builtin(), identity.token()) else { return Ok(None) };
        if token.is_signed() || !self.oci_enabled() {
            return Ok(None);
        }
        let Some(origin) = builtin.origin(token).await? else { return Ok(None) };
        let lifetime = token.expires_at.map_or(REFRESH, |end| end.since(self.clock.now()).min(REFRESH));
        builtin.tokens.create_refresh(token, jwt::PROTOCOL, origin, lifetime).await.map(Some)
    }

    /// The identity that a refresh token stands for; [`Identity::Rejected`] if it is no good.
    pub async fn redeem_refresh_token(&self, token: &Secret, client: Option<IpAddr>) -> Result<Identity> {
        let Some(builtin) = self.users.builtin() else { return Ok(Identity::Rejected) };
        let found = builtin.tokens.redeem(token, client).await?;
        Ok(found.map_or(Identity::Rejected, |token| Identity::Known(Arc::new(token))))
    }
}

/// Whether a signed token has come out longer than a request can carry it.
pub fn is_too_long(token: &Secret) -> bool {
    token.expose().len() > jwt::MAX_ISSUED
}

/// How long a refresh token lives. Docker keeps it in place of the password, so its end is the next `docker login`.
const REFRESH: Duration = Duration::from_hours(90 * 24);
