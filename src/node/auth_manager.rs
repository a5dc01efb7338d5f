//! Users, tokens and rights, as `AuthManager` has them.

use std::sync::Arc;
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;

use super::error::Out;
use super::logger::Scope;
use crate::auth::{Auth, AuthToken, Credentials, TokenInfo, TokenOptions};
use crate::core::error::{Error, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;

/// The protocols for which `AuthManager` makes tokens, enabled here or not.
const PROTOCOLS: [&str; 7] = ["oci", "npm", "maven", "cargo", "composer", "pypi", "rubygems"];

/// The auth of one registry.
#[napi]
pub struct NativeAuth {
    auth: Arc<Auth>,
    scope: Scope,
}

/// `IAuthToken`; dates in milliseconds, `metadata` as JSON.
#[napi(object)]
pub struct NativeToken {
    /// The protocol it was made for.
    pub kind: Option<String>,
    /// Whose it is.
    pub user_id: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whether it only reads.
    pub readonly: bool,
    /// When it ends.
    pub expires_at: Option<f64>,
    /// Whatever is kept with it.
    pub metadata: Option<String>,
}

/// `ITokenOptions`.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeTokenOptions {
    /// Whether it only reads; the protocol's default if absent.
    pub readonly: Option<bool>,
    /// What it may do; everything of its protocol if empty or absent.
    pub scopes: Option<Vec<String>>,
    /// When it ends.
    pub expires_at: Option<f64>,
    /// Networks it may be used from.
    pub cidr: Option<Vec<String>>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Whatever is to be kept with it.
    pub metadata: Option<String>,
}

/// A token as lists show it.
#[napi(object, object_from_js = false)]
pub struct NativeTokenInfo {
    /// Short id that names it.
    pub key: String,
    /// Its first characters.
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
    /// When it was made.
    pub created: f64,
    /// When it ends.
    pub expires_at: Option<f64>,
    /// When it was last used.
    pub last_used: Option<f64>,
}

#[napi]
impl NativeAuth {
    /// Makes the provider ready.
    #[napi(catch_unwind)]
    pub fn init<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.prepare().await })
    }

    /// The user's id, if the password is right.
    #[napi(catch_unwind)]
    pub fn authenticate<'env>(
        &self,
        env: &'env Env,
        username: String,
        password: String,
        otp: Option<String>,
        for_client: Option<bool>,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<String>>>> {
        let auth = Arc::clone(&self.auth);
        let credentials =
            Credentials { username, password: Secret::new(password), otp: otp.map(Secret::new) };
        self.scope.promise(env, async move {
            if for_client == Some(true) {
                auth.authenticate_for_client(&credentials).await
            } else {
                auth.authenticate_in_process(&credentials).await
            }
        })
    }

    /// Makes a token.
    #[napi(catch_unwind)]
    pub fn create_token<'env>(
        &self,
        env: &'env Env,
        user: String,
        protocol: String,
        options: Option<NativeTokenOptions>,
    ) -> napi::Result<PromiseRaw<'env, Out<String>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            let protocol = protocol_name(&protocol)?;
            let options = token_options(options.unwrap_or_default(), auth.default_readonly(protocol))?;
            Ok(auth.create_token(&user, protocol, &options).await?.expose().to_owned())
        })
    }

    /// Makes a signed OCI token.
    #[napi(catch_unwind)]
    #[allow(clippy::cast_sign_loss)] // checked
    pub fn create_oci_token<'env>(
        &self,
        env: &'env Env,
        user: String,
        scopes: Vec<String>,
        seconds: f64,
    ) -> napi::Result<PromiseRaw<'env, Out<String>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            if !(seconds.is_finite() && seconds > 0.0) {
                return Err(Error::invalid("the lifetime of a token must be a positive number of seconds"));
            }
            let lifetime = Duration::from_secs(seconds as u64);
            Ok(auth.create_oci_token(&user, &scopes, lifetime).await?.expose().to_owned())
        })
    }

    /// The token behind a text.
    #[napi(catch_unwind)]
    pub fn validate_token<'env>(
        &self,
        env: &'env Env,
        token: String,
        protocol: Option<String>,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<NativeToken>>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            let found = auth.validate_token(&Secret::new(token), protocol.as_deref()).await?;
            Ok(found.map(NativeToken::from))
        })
    }

    /// Whether a token, or nobody, may do something.
    #[napi(catch_unwind)]
    pub fn authorize<'env>(
        &self,
        env: &'env Env,
        token: Option<NativeToken>,
        resource: String,
        action: String,
    ) -> napi::Result<PromiseRaw<'env, Out<bool>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            let token = token.map(AuthToken::try_from).transpose()?;
            auth.authorize(token.as_ref(), &resource, &action).await
        })
    }

    /// Ends a token.
    #[napi(catch_unwind)]
    pub fn revoke_token<'env>(
        &self,
        env: &'env Env,
        token: String,
    ) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.revoke_token(&Secret::new(token)).await })
    }

    /// Ends a user's token by its key.
    #[napi(catch_unwind)]
    pub fn revoke_key<'env>(
        &self,
        env: &'env Env,
        user: String,
        key: String,
    ) -> napi::Result<PromiseRaw<'env, Out<bool>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.revoke_key(&user, &key).await })
    }

    /// A user's tokens, as they are checked.
    #[napi(catch_unwind)]
    pub fn list_user_tokens<'env>(
        &self,
        env: &'env Env,
        user: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Vec<NativeToken>>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            Ok(auth.list_user_tokens(&user).await?.into_iter().map(NativeToken::from).collect())
        })
    }

    /// A user's tokens, as lists show them.
    #[napi(catch_unwind)]
    pub fn list_tokens<'env>(
        &self,
        env: &'env Env,
        user: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Vec<NativeTokenInfo>>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move {
            Ok(auth.list_tokens(&user).await?.into_iter().map(NativeTokenInfo::from).collect())
        })
    }

    /// Adds a user or changes a password.
    #[napi(catch_unwind)]
    pub fn add_user<'env>(
        &self,
        env: &'env Env,
        name: String,
        password: String,
    ) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.add_user(&name, &Secret::new(password)).await })
    }

    /// Every user.
    #[napi(catch_unwind)]
    pub fn list_users<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<Vec<String>>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.list_users().await })
    }

    /// Whether there is a user of this name; nothing when the provider can't tell.
    #[napi(catch_unwind)]
    pub fn has_user<'env>(
        &self,
        env: &'env Env,
        name: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<bool>>>> {
        let auth = Arc::clone(&self.auth);
        self.scope.promise(env, async move { auth.has_user(&name).await })
    }
}

impl NativeAuth {
    pub(super) fn new(auth: Arc<Auth>, scope: Scope) -> Self {
        Self { auth, scope }
    }
}

/// The name of a protocol as JavaScript gives it.
pub(super) fn protocol_name(name: &str) -> Result<ProtocolName> {
    let known = PROTOCOLS.iter().find(|known| **known == name);
    known.map(|known| ProtocolName::new(known)).ok_or_else(|| {
        Error::invalid(format!("there is no protocol `{name}`; there are {}", PROTOCOLS.join(", ")))
    })
}

fn token_options(given: NativeTokenOptions, readonly: bool) -> Result<TokenOptions> {
    Ok(TokenOptions {
        readonly: given.readonly.unwrap_or(readonly),
        scopes: given.scopes.unwrap_or_default(),
        expires_at: given.expires_at.map(moment),
        cidr: given.cidr.unwrap_or_default(),
        name: given.name,
        metadata: given.metadata.as_deref().map(metadata).transpose()?,
    })
}

fn metadata(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).map_err(|error| Error::invalid("`metadata` is no JSON").with_source(error))
}

pub(super) fn moment(millis: f64) -> Timestamp {
    Timestamp::from_millis(millis as i64)
}

/// Exact for every date that JavaScript knows.
#[allow(clippy::cast_precision_loss)]
pub(super) fn millis(moment: Timestamp) -> f64 {
    moment.as_millis() as f64
}

impl From<AuthToken> for NativeToken {
    fn from(token: AuthToken) -> Self {
        Self {
            kind: token.kind,
            user_id: token.user_id,
            scopes: token.scopes,
            readonly: token.readonly,
            expires_at: token.expires_at.map(millis),
            metadata: token.metadata.map(|value| value.to_string()),
        }
    }
}

impl TryFrom<NativeToken> for AuthToken {
    type Error = Error;

    fn try_from(token: NativeToken) -> Result<Self> {
        Ok(Self {
            kind: token.kind,
            user_id: token.user_id,
            scopes: token.scopes,
            readonly: token.readonly,
            expires_at: token.expires_at.map(moment),
            metadata: token.metadata.as_deref().map(metadata).transpose()?,
        })
    }
}

impl From<TokenInfo> for NativeTokenInfo {
    fn from(info: TokenInfo) -> Self {
        Self {
            key: info.key,
            hint: info.hint,
            user_id: info.user_id,
            protocol: info.protocol,
            name: info.name,
            scopes: info.scopes,
            readonly: info.readonly,
            created: millis(info.created),
            expires_at: info.expires_at.map(millis),
            last_used: info.last_used.map(millis),
        }
    }
}
