//! `npm profile`: what a user says about themselves, the password, and the second factor.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SAY_AS_IS;
use super::{Npm, body, factor, tokens};
use crate::auth::{Account, Enrolment, FactorMode};
use crate::core::secret::Secret;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// What a user may say. npm sends all of them with each change, unset ones as `null`.
const FIELDS: [&str; 6] = ["email", "fullname", "homepage", "freenode", "twitter", "github"];

/// What npm sends to change something.
#[derive(Deserialize)]
struct Change {
    password: Option<NewPassword>,
    tfa: Option<Tfa>,
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct NewPassword {
    old: Secret,
    new: Secret,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Tfa {
    /// A code of the authenticator that is being enrolled.
    Code(Vec<Secret>),
    Wish {
        password: Secret,
        mode: String,
    },
}

/// `GET /-/npm/v1/user`
pub(crate) async fn get_profile(cx: &Cx) -> Result<Response> {
    let user = cx.require_user()?;
    let account = cx.auth.account(user).await?.unwrap_or_default();
    Ok(answer(&shown(user, &account)))
}

fn shown(user: &str, account: &Account) -> Value {
    let field = |name: &str| account.profile.get(name).map(String::as_str).unwrap_or_default();
    let mut value = json!({
        "tfa": account.factor.map(|(mode, pending)| json!({ "mode": mode, "pending": pending })),
        "name": user,
        "email_verified": false,
        "created": account.created.map(Timestamp::rfc3339),
        "updated": account.updated.map(Timestamp::rfc3339),
        "cidr_whitelist": null,
    });
    if let Some(object) = value.as_object_mut() {
        object.extend(FIELDS.map(|name| (name.to_owned(), Value::from(field(name)))));
    }
    value
}

/// `POST /-/npm/v1/user`
pub(crate) async fn set_profile(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    let user = cx.require_user()?.to_owned();
    tokens::may_manage(cx)?;
    if !cx.auth.keeps_users() {
        return Err(Error::new(
            Kind::Unsupported,
            "this registry's users are kept by its own auth provider; change your profile there",
        ));
    }
    let (client, code) = (request.client_ip(), factor::code(&request));
    let change: Change = body::json(npm, &mut request, "the profile").await?;
    if let Some(Tfa::Code(codes)) = &change.tfa {
        let code = codes.first().ok_or_else(|| Error::invalid("a one-time pass is missing"))?;
        let recovery = cx.auth.confirm_factor(&user, code).await?;
        let recovery: Vec<&str> = recovery.iter().map(Secret::expose).collect();
        return Ok(answer(&json!({ "tfa": recovery })));
    }
    // Whoever holds the token alone must not be able to take the account over.
    cx.auth.require_code(&user, cx.identity.token().map(AsRef::as_ref), code.as_ref()).await?;
    if let Some(Tfa::Wish { password, mode }) = change.tfa {
        return second_factor(cx, &user, password, &mode, client).await;
    }
    if let Some(NewPassword { old, new }) = change.password {
        cx.auth.change_password(&user, old, &new, client).await.map_err(say_as_is)?;
        tracing::info!(user, "the password was changed");
    }
    let fields = fields(change.fields)?;
    if !fields.is_empty() {
        cx.auth.set_profile(&user, fields).await?;
    }
    get_profile(cx).await
}

async fn second_factor(
    cx: &Cx,
    user: &str,
    password: Secret,
    mode: &str,
    client: Option<std::net::IpAddr>,
) -> Result<Response> {
    let mode = match mode {
        "auth-only" => FactorMode::Logins,
        "auth-and-writes" => FactorMode::Writes,
        "disable" => {
            cx.auth.disable_factor(user, password, client).await.map_err(say_as_is)?;
            return Ok(answer(&json!({ "tfa": false })));
        }
        _ => return Err(Error::invalid("the mode is one of auth-only, auth-and-writes and disable")),
    };
    let issuer = host(cx).unwrap_or_else(|| "smartregistry".to_owned());
    Ok(answer(&match cx.auth.enrol(user, password, mode, &issuer, client).await.map_err(say_as_is)? {
        Enrolment::Begun(url) => json!({ "tfa": url.expose() }),
        Enrolment::Changed(mode) => json!({ "tfa": { "mode": mode, "pending": false } }),
    }))
}

/// A challenge would make npm replace the sentence by its own.
fn say_as_is(error: Error) -> Error {
    if error.kind() == Kind::Unauthorized { error.with_code(SAY_AS_IS) } else { error }
}

/// The host that users know the registry by.
fn host(cx: &Cx) -> Option<String> {
    url::Url::parse(&cx.mount.base_url()).ok()?.host_str().map(str::to_owned)
}

fn fields(sent: BTreeMap<String, Value>) -> Result<BTreeMap<String, Option<String>>> {
    let mut fields = BTreeMap::new();
    for (name, value) in sent.into_iter().filter(|(name, _)| FIELDS.contains(&name.as_str())) {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => return Err(Error::invalid(format!("`{name}` of a profile is a text"))),
        };
        fields.insert(name, value);
    }
    Ok(fields)
}

/// The address that came with a login, for a user of whom none is known: `npm adduser`, pnpm and yarn classic ask for it.
pub(crate) async fn remember_email(cx: &Cx, user: &str, email: Option<String>) -> Result<()> {
    let Some(email) = email.filter(|email| !email.is_empty()) else { return Ok(()) };
    let Some(account) = cx.auth.account(user).await? else { return Ok(()) };
    if account.profile.contains_key("email") {
        return Ok(());
    }
    let fields = BTreeMap::from([("email".to_owned(), Some(email))]);
    match cx.auth.set_profile(user, fields).await {
        // A login is not refused for an address that can't be kept.
        Err(error) if error.kind() == Kind::Invalid => Ok(()),
        outcome => outcome,
    }
}

/// The e-mail address of a user, for the user alone.
pub(crate) async fn own_email(cx: &Cx, user: &str) -> Result<String> {
    let account = cx.auth.account(user).await?.unwrap_or_default();
    Ok(account.profile.get("email").cloned().unwrap_or_default())
}

fn answer(value: &Value) -> Response {
    let empty = Map::new();
    let value = value.as_object().unwrap_or(&empty);
    Response::json(StatusCode::OK, value).static_header(header::CACHE_CONTROL, "no-store")
}
