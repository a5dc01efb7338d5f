//! `npm token list|create|revoke`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SAY_AS_IS;
use super::factor::{BYPASS, STAGE_ONLY, TRUSTED, has_mark};
use super::name::PackageName;
use super::{NAME, Npm, body, factor, login};
use crate::auth::{Credentials, Scope, TokenInfo, TokenOptions};
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// What npm sends: up to 10 `readonly`, since 11 names, days and permissions.
#[derive(Deserialize)]
struct NewToken {
    password: Option<Secret>,
    #[serde(default)]
    readonly: Option<bool>,
    cidr_whitelist: Option<Vec<String>>,
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
    orgs_permission: Option<String>,
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
        // The beginning of it and nothing else: `npm token revoke` looks for the token that begins so.
        "token": info.hint,
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
    let otp = factor::code(&request);
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

/// Managing an account takes a token that may do everything of npm, as a login makes it: one that was made to do less must not make itself
/// a successor that does more, nor end its owner's other tokens.
pub(crate) fn may_manage(cx: &Cx) -> Result<()> {
    let Some(token) = cx.identity.token() else { return Ok(()) };
    if token.readonly {
        return Err(Error::denied(
            "this token is read-only; managing tokens needs one that may write, or the password",
        ));
    }
    let account = cx.resource("account", &*token.user_id);
    let whole = token
        .scopes
        .iter()
        .filter_map(|text| Scope::parse(text))
        .any(|scope| scope.grants(&account, Action::Any));
    let marked = [BYPASS, STAGE_ONLY, TRUSTED].into_iter().any(|mark| has_mark(token, mark));
    // A custom provider's tokens say what it likes.
    if marked || (cx.auth.keeps_users() && !whole) {
        return Err(Error::denied(
            "this token was made for less than managing an account; log in with `npm login`",
        ));
    }
    Ok(())
}

/// What a granular token may do with packages, or with organisations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    Nothing,
    Read,
    Stage,
    Write,
}

impl Permission {
    fn parse(text: Option<&str>, what: &str) -> Result<Option<Self>> {
        Ok(Some(match text {
            None => return Ok(None),
            Some("no-access") => Self::Nothing,
            Some("read-only") => Self::Read,
            Some("read-write-stage-only") => Self::Stage,
            Some("read-write") => Self::Write,
            Some(_) => return unprocessable(&format!("its permission for {what} is none that is known")),
        }))
    }

    /// The action of its scopes; writing implies reading.
    const fn action(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Read => Some("read"),
            Self::Stage | Self::Write => Some("write"),
        }
    }
}

fn unprocessable<T>(why: &str) -> Result<T> {
    Err(Error::new(Kind::Unprocessable, format!("the token can't be made: {why}")))
}

fn options(cx: &Cx, wanted: &NewToken) -> Result<TokenOptions> {
    let packages = Permission::parse(wanted.packages_and_scopes_permission.as_deref(), "packages")?;
    let orgs = Permission::parse(wanted.orgs_permission.as_deref(), "organisations")?;
    let scopes = scopes(wanted, packages, orgs)?;
    // Whoever names a permission has said whether the token only reads.
    let readonly = match packages {
        None => wanted.readonly.unwrap_or(cx.auth.default_readonly(NAME)),
        Some(Permission::Nothing | Permission::Read) if orgs != Some(Permission::Write) => true,
        Some(_) => wanted.readonly.unwrap_or(false),
    };
    let mut metadata = Map::new();
    let description = wanted.description.as_ref().map(|text| ("description".to_owned(), json!(text)));
    metadata.extend(description);
    metadata.extend((packages == Some(Permission::Stage)).then(|| (STAGE_ONLY.to_owned(), json!(true))));
    metadata.extend(wanted.bypass_2fa.then(|| (BYPASS.to_owned(), json!(true))));
    let days = wanted.expires.map(|days| Duration::from_secs(days.min(36_500) * 86_400));
    Ok(TokenOptions {
        readonly,
        scopes,
        expires_at: days.map(|span| cx.clock.now().plus(span)),
        cidr: wanted.cidr_whitelist.clone().unwrap_or_default(),
        name: wanted.name.clone(),
        metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)),
    })
}

/// The scopes of a token; none for one that may do everything, as npm up to 10 makes them.
fn scopes(wanted: &NewToken, packages: Option<Permission>, orgs: Option<Permission>) -> Result<Vec<String>> {
    let names = names(wanted)?;
    let any_named = wanted.packages_all || !names.is_empty();
    if packages.is_none() && orgs.is_none() && !any_named && wanted.orgs.is_empty() {
        return Ok(Vec::new());
    }
    if packages.is_some_and(|permission| permission != Permission::Nothing) && !any_named {
        return unprocessable("it names no packages and no scopes");
    }
    if orgs.is_some_and(|permission| permission != Permission::Nothing) && wanted.orgs.is_empty() {
        return unprocessable("it names no organisations");
    }
    // npm up to 10 says `readonly`, later ones name a permission; packages without either are for reading.
    let action = packages
        .map_or(Some(if wanted.readonly == Some(false) { "write" } else { "read" }), Permission::action);
    let all = wanted.packages_all.then(|| "*".to_owned());
    let mut scopes = Vec::new();
    if let Some(action) = action {
        scopes.extend(all.into_iter().chain(names).map(|name| format!("npm:package:{name}:{action}")));
    }
    // Managing an organisation is no less than being its admin.
    let action =
        orgs.and_then(Permission::action).map(|action| if action == "write" { "admin" } else { action });
    for org in &wanted.orgs {
        let org = org.trim_start_matches('@');
        if PackageName::parse(&format!("@{org}/x")).is_err() {
            return unprocessable("an organisation that it names can't exist");
        }
        scopes.extend(action.map(|action| format!("npm:org:{org}:{action}")));
    }
    if scopes.is_empty() {
        return unprocessable("it could do nothing at all");
    }
    Ok(scopes)
}

/// The names and patterns that a token is for. Read as names: a `*` or a `:` in one would widen a token that is to be narrow.
fn names(wanted: &NewToken) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for text in &wanted.packages {
        // npm takes a scope here as well.
        match text.strip_suffix("/*").unwrap_or(text) {
            scope if scope.starts_with('@') && !scope.contains('/') => names.push(scope_pattern(scope)?),
            name => match PackageName::parse(name) {
                Ok(name) if !name.as_str().contains('*') => names.push(name.as_str().to_owned()),
                _ => return unprocessable("a package that it names can't exist"),
            },
        }
    }
    for scope in &wanted.scopes {
        names.push(scope_pattern(scope)?);
    }
    Ok(names)
}

fn scope_pattern(scope: &str) -> Result<String> {
    let scope = scope.trim_start_matches('@').trim_end_matches("/*");
    match PackageName::parse(&format!("@{scope}/x")) {
        Ok(name) if !scope.contains('*') => Ok(format!("@{}/*", name.scope().unwrap_or_default())),
        _ => unprocessable("a scope that it names can't exist"),
    }
}

/// `DELETE /-/npm/v1/tokens/token/{key}`; npm may also give the token itself.
pub(crate) async fn delete(cx: &Cx, key: &str, request: &Request) -> Result<Response> {
    let user = cx.require_user()?;
    // A token may always end itself.
    let itself = cx.auth.presented_token(request).is_some_and(|own| own == Secret::new(key));
    if !itself {
        may_manage(cx)?;
    }
    if itself || !cx.auth.revoke_key(user, key).await? {
        login::revoke_own(cx, key, request).await?;
    }
    Ok(Response::json(StatusCode::OK, &json!({ "ok": true })))
}
