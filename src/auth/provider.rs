//! The seam for custom providers (`IAuthProvider`): the built-in one is just another implementation.

use async_trait::async_trait;

use super::AuthToken;
use crate::core::error::Result;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;

/// User name and password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// Second factor, if one came along.
    pub otp: Option<Secret>,
}

/// Who brings credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client, over HTTP: to strangers nothing is open that the configuration doesn't open.
    Client,
    /// The embedding application itself.
    Application,
}

/// What a new token should be able to do (`ITokenOptions`).
#[derive(Debug, Clone, Default)]
pub struct TokenOptions {
    /// Read-only whatever the scopes say.
    pub readonly: bool,
    /// Scopes; everything of the protocol if empty.
    pub scopes: Vec<String>,
    /// When it ends; never if absent.
    pub expires_at: Option<Timestamp>,
    /// Networks it may be used from; anywhere if empty.
    pub cidr: Vec<String>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Whatever else to keep with it.
    pub metadata: Option<serde_json::Value>,
}

/// Users, tokens and rights. An `Err` is a failure of the provider: it is logged, answered with 500, and never grants anything.
#[async_trait]
pub trait AuthProvider: Send + Sync + 'static {
    /// Makes it ready.
    async fn init(&self) -> Result<()> {
        Ok(())
    }

    /// The user's id, if the password is right.
    async fn authenticate(&self, credentials: &Credentials, asker: Asker) -> Result<Option<String>>;

    /// The token behind a token text, if it is good now. `protocol` is a hint.
    async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>>;

    /// Makes a token of a protocol for a user; the text is shown once.
    async fn create_token(&self, user_id: &str, protocol: &str, options: &TokenOptions) -> Result<Secret>;

    /// Ends a token; one that isn't there is fine.
    async fn revoke_token(&self, token: &Secret) -> Result<()>;

    /// Whether a token (`None`: nobody) may do `action` to `resource` (`npm:package:name`).
    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool>;

    /// A user's tokens, where the provider can tell.
    async fn list_user_tokens(&self, _user_id: &str) -> Result<Option<Vec<AuthToken>>> {
        Ok(None)
    }
}
