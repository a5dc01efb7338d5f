//! Who asks, and what they may do. Knows no document format.
//!
//! A request is authenticated once ([`Auth::authenticate`]) and authorised per resource ([`Auth::allows`]). The provider behind is
//! the built-in one or the application's own ([`AuthProvider`]).

mod provider;
mod scope;

use std::sync::Arc;
use std::time::Duration;

pub use provider::{AuthProvider, Credentials, TokenOptions};
pub use scope::{Action, Resource};

use crate::config::Visibility;
use crate::core::error::{Error, Result};
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
    /// The user's id, if there is a user.
    pub fn user(&self) -> Option<&str> {
        self.token().map(|token| token.user_id.as_str())
    }

    /// The token, if there is one.
    pub fn token(&self) -> Option<&Arc<AuthToken>> {
        match self {
            Self::Known(token) => Some(token),
            Self::Anonymous | Self::Rejected => None,
        }
    }
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
    pub async fn login(
        &self,
        credentials: &Credentials,
        _client: Option<std::net::IpAddr>,
    ) -> Result<Option<String>> {
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

    /// Ends a token.
    pub async fn revoke_token(&self, token: &Secret) -> Result<()> {
        self.provider.revoke_token(token).await
    }

    /// A signed OCI token (HS256) for `user` (empty: anonymous) with the unified scopes and the equivalent `access` claim.
    pub fn sign_oci(&self, _user: &str, _scopes: &[String], _lifetime: Duration) -> Result<Secret> {
        Err(Error::internal("OCI tokens are not set up"))
    }
}
