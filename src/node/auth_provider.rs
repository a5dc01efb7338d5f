//! An `IAuthProvider` of the application as the core's trait. The core sets the time limit and decides that a failure grants nothing.

use async_trait::async_trait;
use napi::bindgen_prelude::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use super::callback::Callback;
use crate::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};

/// The application's provider.
pub(super) struct JsAuthProvider {
    init: Option<Callback>,
    authenticate: Callback,
    validate_token: Callback,
    create_token: Callback,
    revoke_token: Callback,
    authorize: Callback,
    list_user_tokens: Option<Callback>,
}

/// `IAuthToken` as the facade writes it; `type` and `readonly` may be missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenToken {
    #[serde(rename = "type")]
    kind: Option<String>,
    user_id: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    readonly: bool,
    expires_at: Option<f64>,
    metadata: Option<Value>,
}

impl From<GivenToken> for AuthToken {
    fn from(given: GivenToken) -> Self {
        Self {
            kind: given.kind,
            user_id: given.user_id,
            scopes: given.scopes,
            readonly: given.readonly,
            expires_at: given.expires_at.map(super::auth_manager::moment),
            metadata: given.metadata,
        }
    }
}

fn token_json(token: &AuthToken) -> Value {
    json!({
        "type": token.kind,
        "userId": token.user_id,
        "scopes": token.scopes,
        "readonly": token.readonly,
        "expiresAt": token.expires_at.map(Timestamp::as_millis),
        "metadata": token.metadata,
    })
}

/// Whole seconds from now, for providers that count them.
fn seconds_left(end: Timestamp) -> u64 {
    let left = end.since(Clock::real().now()).as_millis().div_ceil(1000);
    u64::try_from(left).unwrap_or(u64::MAX)
}

impl JsAuthProvider {
    /// From the functions that the facade has made.
    pub(super) fn new(object: &Object<'_>) -> napi::Result<Self> {
        let need = |name| {
            Callback::of(object, name)?
                .ok_or_else(|| napi::Error::from_reason(format!("option `authProvider.{name}` is missing")))
        };
        Ok(Self {
            init: Callback::of(object, "init")?,
            authenticate: need("authenticate")?,
            validate_token: need("validateToken")?,
            create_token: need("createToken")?,
            revoke_token: need("revokeToken")?,
            authorize: need("authorize")?,
            list_user_tokens: Callback::of(object, "listUserTokens")?,
        })
    }
}

#[async_trait]
impl AuthProvider for JsAuthProvider {
    async fn init(&self) -> Result<()> {
        match &self.init {
            Some(init) => init.call::<Value>(&json!([])).await.map(drop),
            None => Ok(()),
        }
    }

    async fn authenticate(&self, credentials: &Credentials, asker: Asker) -> Result<Option<String>> {
        let given = json!({
            "username": credentials.username,
            "password": credentials.password.expose(),
            "otp": credentials.otp.as_ref().map(Secret::expose),
        });
        self.authenticate.call(&json!([given, asker == Asker::Client])).await
    }

    async fn validate_token(&self, token: &Secret, protocol: Option<&str>) -> Result<Option<AuthToken>> {
        let found: Option<GivenToken> = self.validate_token.call(&json!([token.expose(), protocol])).await?;
        Ok(found.map(AuthToken::from))
    }

    async fn create_token(&self, user_id: &str, protocol: &str, options: &TokenOptions) -> Result<Secret> {
        let options = json!({
            "protocol": protocol,
            "readonly": options.readonly,
            "scopes": options.scopes,
            "expiresAt": options.expires_at.map(Timestamp::as_millis),
            "expiresIn": options.expires_at.map(seconds_left),
            "cidr": options.cidr,
            "name": options.name,
            "metadata": options.metadata,
        });
        let made: String = self.create_token.call(&json!([user_id, protocol, options])).await?;
        if made.is_empty() {
            return Err(Error::internal("createToken returned an empty token"));
        }
        Ok(Secret::new(made))
    }

    async fn revoke_token(&self, token: &Secret) -> Result<()> {
        self.revoke_token.call::<Value>(&json!([token.expose()])).await.map(drop)
    }

    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
        self.authorize.call(&json!([token.map(token_json), resource, action])).await
    }

    async fn list_user_tokens(&self, user_id: &str) -> Result<Option<Vec<AuthToken>>> {
        let Some(list) = &self.list_user_tokens else { return Ok(None) };
        let tokens: Vec<GivenToken> = list.call(&json!([user_id])).await?;
        Ok(Some(tokens.into_iter().map(AuthToken::from).collect()))
    }
}
