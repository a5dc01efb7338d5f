//! Who asks, and with which token.

use std::sync::Arc;

use super::{jwt, scope};
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

impl AuthToken {
    /// What a user may do who came with a password: everything of the protocol. Every user is a writer; who shall do less gets a token.
    pub(super) fn of_password(user_id: String, protocol: &str) -> Self {
        Self {
            kind: Some(protocol.to_owned()),
            user_id,
            scopes: vec![scope::full(protocol)],
            readonly: false,
            expires_at: None,
            metadata: Some(serde_json::json!({ "method": "password" })),
        }
    }

    /// Whether it stands for a password, not for a token that could be revoked.
    pub fn is_password(&self) -> bool {
        self.metadata.as_ref().and_then(|all| all.get("method")).is_some_and(|method| method == "password")
    }

    /// The networks that it is bound to.
    pub(super) fn networks(&self) -> Vec<String> {
        let list =
            self.metadata.as_ref().and_then(|all| all.get("cidr")).and_then(serde_json::Value::as_array);
        list.into_iter().flatten().filter_map(|one| one.as_str()).map(str::to_owned).collect()
    }

    /// Whether it was signed by [`super::Auth::sign_oci`] and so says itself what it is for.
    pub fn is_signed(&self) -> bool {
        self.signed_id().is_some()
    }

    /// The id that a signed token is revoked by.
    pub(super) fn signed_id(&self) -> Option<String> {
        let id = self.metadata.as_ref().and_then(|all| all.get("jti")).and_then(|id| id.as_str());
        id.filter(|_| self.kind.as_deref() == Some(jwt::PROTOCOL)).map(str::to_owned)
    }
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
