//! Who asks, and what they may do. Knows no document format.
//!
//! A request is authenticated once ([`Auth::authenticate`]) and authorised per resource ([`Auth::allows`]). The provider behind is
//! the built-in one or the application's own ([`AuthProvider`]).

mod provider;
mod scope;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use provider::{AuthProvider, Credentials, TokenOptions};
pub use scope::{Action, Resource};

use crate::config::Visibility;
use crate::core::error::{Error, Kind, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;

/// A token as its checks see it (`IAuthToken`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthToken {
    /// The protocol it was made for, by name; `None` when a custom provider doesn't say.
    pub kind: Option<String>,
    /// Whose it is.
    pub user_id: String,
    /// What it may do, in the unified grammar.
    pub scopes: Vec<String>,
    /// Whether every action but reading is refused, whatever the scopes say.
    pub readonly: bool,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whatever the provider keeps with it.
    pub metadata: Option<serde_json::Value>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Identity {
    /// No credentials came.
    Anonymous,
    /// Credentials came and are no good: unknown, expired, revoked. Public reads may still go on; everything else is 401.
    Rejected,
    /// A good token, or a user's password.
    Known(Arc<AuthToken>),
}

impl Identity {
    /// The user's id, if there is a user. An anonymous OCI token has none.
    pub fn user(&self) -> Option<&str> {
        self.token().map(|token| token.user_id.as_str()).filter(|user| !user.is_empty())
    }

    /// The token, if there is one.
    pub fn token(&self) -> Option<&Arc<AuthToken>> {
        match self {
            Self::Known(token) => Some(token),
            Self::Anonymous | Self::Rejected => None,
        }
    }
}

/// A token as its owner sees it in a list. The text itself is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Short id, hexadecimal: names the token without being it.
    pub key: String,
    /// The first six characters of the text, to recognise it by; empty when the provider doesn't say.
    pub hint: String,
    /// Whose it is.
    pub user_id: String,
    /// The protocol it was made for.
    pub protocol: String,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whether it only reads.
    pub readonly: bool,
    /// Networks it may be used from; anywhere if empty.
    pub cidr: Vec<String>,
    /// When it was made; the epoch when the provider doesn't say.
    pub created: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// The day on which it was last used, as far as anybody wrote it down.
    pub last_used: Option<Timestamp>,
    /// Whatever else is kept with it.
    pub metadata: Option<serde_json::Value>,
}

/// A token that was just made.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The text; nobody can show it again.
    pub text: Secret,
    /// How it is listed.
    pub info: TokenInfo,
}

/// Names a protocol's resource of a type.
pub fn resource(protocol: ProtocolName, kind: &'static str, name: impl Into<String>) -> Resource {
    Resource { protocol: protocol.as_str().to_owned(), kind: kind.to_owned(), name: name.into() }
}

/// Authentication and authorisation of one registry.
pub struct Auth {
    provider: Arc<dyn AuthProvider>,
}

impl Auth {
    /// Around a provider.
    pub fn new(provider: Arc<dyn AuthProvider>) -> Self {
        Self { provider }
    }

    /// Makes the provider ready.
    pub async fn prepare(&self) -> Result<()> {
        self.provider.init().await
    }

    /// Who sent this request: Bearer, bare token, Basic with a password or with any token as the password, or the token that came
    /// outside the headers. Wrong credentials are [`Identity::Rejected`], not an error; too many of them are 429.
    pub async fn authenticate(&self, request: &Request, protocol: ProtocolName) -> Result<Identity> {
        let header =
            request.header(http::header::AUTHORIZATION).map(|text| text.trim_start_matches("Bearer "));
        let Some(token) = request.token.clone().or_else(|| header.map(Secret::new)) else {
            return Ok(Identity::Anonymous);
        };
        let token = self.provider.validate_token(&token, Some(protocol.as_str())).await?;
        Ok(token.map_or(Identity::Rejected, |token| Identity::Known(Arc::new(token))))
    }

    /// A login by password over HTTP: the user's id if it is right, registered now if the name is unknown and
    /// self-registration is on. Slow on purpose; too many failures are 429 with `Retry-After`.
    pub async fn login(&self, credentials: &Credentials, _client: Option<IpAddr>) -> Result<Option<String>> {
        self.provider.authenticate(credentials).await
    }

    /// Whether `identity` may do `action` to `resource`. `own` is the package's own setting, where its protocol has one.
    pub async fn allows(
        &self,
        identity: &Identity,
        resource: &Resource,
        action: Action,
        own: Option<Visibility>,
    ) -> Result<bool> {
        let _ = own;
        self.provider
            .authorize(identity.token().map(AsRef::as_ref), &resource.to_string(), action.as_str())
            .await
    }

    /// Whether anybody may read `resource`.
    pub fn is_public(&self, _resource: &Resource, own: Option<Visibility>) -> bool {
        own != Some(Visibility::Private)
    }

    /// Whether this protocol has anything that needs credentials to read: then `GET /v2/` must challenge.
    pub fn has_private(&self, _protocol: ProtocolName) -> bool {
        false
    }

    /// Makes a token.
    pub async fn create_token(
        &self,
        user: &str,
        protocol: ProtocolName,
        options: &TokenOptions,
    ) -> Result<Secret> {
        self.provider.create_token(user, protocol.as_str(), options).await
    }

    /// Makes a token and says how it is listed (its key, above all).
    pub async fn issue_token(
        &self,
        _user: &str,
        _protocol: ProtocolName,
        _options: &TokenOptions,
    ) -> Result<IssuedToken> {
        Err(Error::internal("tokens are not set up"))
    }

    /// Makes an OCI token (`createOciToken`): signed here, or by a custom provider's `createToken`.
    pub async fn create_oci_token(
        &self,
        user: &str,
        scopes: &[String],
        lifetime: Duration,
    ) -> Result<Secret> {
        self.sign_oci(user, scopes, lifetime)
    }

    /// A login by password from inside the process (`AuthManager.authenticate`): an unknown name is registered. A wrong password is
    /// `None`, always.
    pub async fn authenticate_in_process(&self, credentials: &Credentials) -> Result<Option<String>> {
        self.provider.authenticate(credentials).await
    }

    /// The token behind a text, if it is good now and, with `protocol`, good for that protocol (`AuthManager.validateToken`).
    pub async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>> {
        self.provider.validate_token(token, protocol).await
    }

    /// `AuthManager.authorize`: whether a token (`None`: nobody) may do `action` to `npm:package:name`. A text that is no resource or
    /// no action is never allowed.
    pub async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        self.provider.authorize(token, resource, action).await
    }

    /// Ends a token, by its text.
    pub async fn revoke_token(&self, token: &Secret) -> Result<()> {
        self.provider.revoke_token(token).await
    }

    /// Ends a user's token by its key; `false` if the user has no such token.
    pub async fn revoke_key(&self, _user: &str, _key: &str) -> Result<bool> {
        Ok(false)
    }

    /// A user's tokens (`AuthManager.listUserTokens`); key, name and dates are in the metadata.
    pub async fn list_user_tokens(&self, user: &str) -> Result<Vec<AuthToken>> {
        Ok(self.provider.list_user_tokens(user).await?.unwrap_or_default())
    }

    /// A user's tokens as lists show them, oldest first.
    pub async fn list_tokens(&self, _user: &str) -> Result<Vec<TokenInfo>> {
        Ok(Vec::new())
    }

    /// Adds a user, or gives one a new password. For the command line; names are checked.
    pub async fn add_user(&self, _name: &str, _password: &Secret) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "this auth provider keeps its users elsewhere"))
    }

    /// Whether there is a user of this name; `None` when the provider can't tell.
    pub async fn has_user(&self, _name: &str) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Every user of the built-in provider, sorted.
    pub async fn list_users(&self) -> Result<Vec<String>> {
        Err(Error::new(Kind::Unsupported, "this auth provider keeps its users elsewhere"))
    }

    /// Whether new tokens of a protocol only read unless asked otherwise (`npmTokens.defaultReadonly`).
    pub fn default_readonly(&self, _protocol: ProtocolName) -> bool {
        false
    }

    /// `service` of OCI challenges and tokens: as configured, else `smartregistry`.
    pub fn oci_service(&self) -> &str {
        "smartregistry"
    }

    /// A signed OCI token (HS256) for `user` (empty: anonymous) with the unified scopes and the equivalent `access` claim.
    pub fn sign_oci(&self, _user: &str, _scopes: &[String], _lifetime: Duration) -> Result<Secret> {
        Err(Error::internal("OCI tokens are not set up"))
    }

    /// A refresh token for whoever logged in as `identity`: kept as a record, good for [`Auth::redeem_refresh_token`] alone, and ended
    /// with the token or the password that it came from. `None` for an identity that can't have one.
    pub async fn create_refresh_token(&self, _identity: &Identity) -> Result<Option<Secret>> {
        Ok(None)
    }

    /// The identity that a refresh token stands for; [`Identity::Rejected`] if it is no good.
    pub async fn redeem_refresh_token(&self, _token: &Secret, _client: Option<IpAddr>) -> Result<Identity> {
        Ok(Identity::Rejected)
    }
}
