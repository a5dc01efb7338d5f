//! `npm token list|create|revoke`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::SAY_AS_IS;
use super::{NAME, Npm, body, login};
use crate::auth::{Credentials, TokenInfo, TokenOptions};
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// What npm sends: up to 10 `readonly`, since 11 names, days and permissions.
#[derive(Deserialize)]
struct NewToken {
    password: Option<Secret>,
    #[serde(default)]
    readonly: Option<bool>,
    #[serde(default)]
    cidr_whitelist: Vec<String>,
    name: Option<String>,
    #[serde(alias = "token_description")]
    description: Option<String>,
    /// Days.
    expires: Option<u64>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    packages_all: bool,
    packages_and_scopes_permission: Option<String>,
    #[serde(default)]
    orgs: Vec<String>,
    #[serde(default)]
    bypass_2fa: bool,
}

/// Most tokens on one page of a list.
const PAGE: usize = 100;

/// `GET /-/npm/v1/tokens`
pub(crate) async fn list(cx: &Cx, request: &Request) -> Result<Response> {
    let tokens = cx.auth.list_tokens(cx.require_user()?).await?;
    let number = |name: &str| request.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let size = number("perPage").unwrap_or(PAGE).clamp(1, PAGE);
    let page = number("page").unwrap_or(0);
    let objects: Vec<Value> = tokens.iter().skip(page.saturating_mul(size)).take(size).map(shown).collect();
    let more = page.saturating_add(1).saturating_mul(size) < tokens.len();
    // npm goes to `next` as it is.
    let next =
        more.then(|| format!("{}/-/npm/v1/tokens?perPage={size}&page={}", cx.mount.base_url(), page + 1));
    let answer = json!({ "objects": objects, "total": tokens.len(), "urls": next.map_or(json!({}), |next| json!({ "next": next })) });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

fn shown(info: &TokenInfo) -> Value {
    let mut value = json!({
        "key": info.key,
        "token": format!("{}…", info.hint),
        "name": info.name,
        "user": info.user_id,
        "cidr_whitelist": if info.cidr.is_empty() { Value::Null } else { json!(info.cidr) },
        "readonly": info.readonly,
        "created": info.created.rfc3339(),
        "updated": info.last_used.unwrap_or(info.created).rfc3339(),
    });
    if let (Some(expires), Some(object)) = (info.expires_at, value.as_object_mut()) {
        object.insert("expires".to_owned(), Value::from(expires.rfc3339()));
    }
    value
}

/// `POST /-/npm/v1/tokens`. The password is asked for again: a stolen token must not make itself a successor.
pub(crate) async fn create(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    let user = cx.require_user()?.to_owned();
    may_manage(cx)?;
    let client = request.client_ip();
    let otp = request.header("npm-otp").map(Secret::new);
    let wanted: NewToken = body::json(npm, &mut request, "the token").await?;
    let wrong = || Error::new(Kind::Unauthorized, "the password is wrong").with_code(SAY_AS_IS);
    let password = wanted.password.clone().filter(|password| !password.is_empty()).ok_or_else(wrong)?;
    let credentials = Credentials { username: user.clone(), password, otp };
    if cx.auth.login(&credentials, client).await?.as_ref() != Some(&user) {
        return Err(wrong());
    }
    let options = options(cx, &wanted)?;
    let issued = cx.auth.issue_token(&user, NAME, &options).await?;
    let mut answer = shown(&issued.info);
    if let Some(object) = answer.as_object_mut() {
        object.insert("token".to_owned(), Value::from(issued.text.expose()));
    }
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// A read-only token changes nothing, its owner's tokens least of all.
fn may_manage(cx: &Cx) -> Result<()> {
    if cx.identity.token().is_some_and(|token| token.readonly) {
        return Err(Error::denied(
            "this token is read-only; managing tokens needs one that may write, or the password",
        ));
    }
    Ok(())
}

fn options(cx: &Cx, wanted: &NewToken) -> Result<TokenOptions> {
    let unprocessable =
        |why: &str| Err(Error::new(Kind::Unprocessable, format!("the token can't be made: {why}")));
    if wanted.bypass_2fa {
        return unprocessable("there is no second factor here to get past");
    }
    if !wanted.orgs.is_empty() {
        return unprocessable("there are no organisations here");
    }
    let readonly = match wanted.packages_and_scopes_permission.as_deref() {
        None => wanted.readonly.unwrap_or(cx.auth.default_readonly(NAME)),
        Some("read-only") => true,
        Some("read-write") => wanted.readonly.unwrap_or(false),
        Some(_) => return unprocessable("its permission must be read-only or read-write"),
    };
    let names = wanted
        .scopes
        .iter()
        .map(|scope| format!("@{}/*", scope.trim_start_matches('@').trim_end_matches("/*")));
    let names: Vec<String> = wanted.packages.iter().cloned().chain(names).collect();
    let granular = wanted.packages_and_scopes_permission.is_some() && !wanted.packages_all;
    if granular && names.is_empty() {
        return unprocessable("it names no packages and no scopes");
    }
    let actions: &[&str] = if readonly { &["read"] } else { &["read", "write"] };
    let grant = |name: &String| {
        actions.iter().map(move |action| format!("npm:package:{name}:{action}")).collect::<Vec<_>>()
    };
    let scopes = if wanted.packages_all { Vec::new() } else { names.iter().flat_map(grant).collect() };
    let days = wanted.expires.map(|days| Duration::from_secs(days.min(36_500) * 86_400));
    Ok(TokenOptions {
        readonly,
        scopes,
        expires_at: days.map(|span| cx.clock.now().plus(span)),
        cidr: wanted.cidr_whitelist.clone(),
        name: wanted.name.clone(),
        metadata: wanted.description.as_ref().map(|text| json!({ "description": text })),
    })
}

/// `DELETE /-/npm/v1/tokens/token/{key}`; npm may also give the token itself.
pub(crate) async fn delete(cx: &Cx, key: &str, request: &Request) -> Result<Response> {
    let user = cx.require_user()?;
    may_manage(cx)?;
    if !cx.auth.revoke_key(user, key).await? {
        login::revoke_own(cx, key, request).await?;
    }
    Ok(Response::json(StatusCode::OK, &json!({ "ok": true })))
}
