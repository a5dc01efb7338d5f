//! Logging in with a password, logging out, and who one is.

use serde::Deserialize;
use serde_json::json;

use super::error::{SAY_AS_IS, not_found};
use super::name::printable;
use super::{NAME, Npm, body, factor, profile};
use crate::auth::{Credentials, TokenOptions};
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// What npm sends to log in.
#[derive(Deserialize)]
struct LoginBody {
    name: Option<String>,
    password: Option<Secret>,
    email: Option<String>,
}

/// `PUT /-/user/org.couchdb.user:{user}`, also with `/-rev/{rev}`. Whatever `Authorization` came along is not looked at: npm sends the old
/// token, pnpm and yarn classic the password.
pub(crate) async fn login(npm: &Npm, cx: &Cx, user: &str, mut request: Request) -> Result<Response> {
    let client = request.client_ip();
    let otp = factor::code(&request);
    let login: LoginBody = body::json(npm, &mut request, "the login").await?;
    if login.name.as_deref().is_some_and(|name| name != user) {
        return Err(Error::invalid("the login is for another user than its path"));
    }
    let password = login.password.filter(|password| !password.is_empty());
    let password =
        password.ok_or_else(|| Error::invalid(format!("a password is missing for {}", printable(user))))?;
    let credentials = Credentials { username: user.to_owned(), password, otp };
    let Some(user) = cx.auth.login(&credentials, client).await? else {
        return Err(
            Error::new(Kind::Unauthorized, "the user name or the password is wrong").with_code(SAY_AS_IS)
        );
    };
    profile::remember_email(cx, &user, login.email).await?;
    let options = TokenOptions { readonly: cx.auth.default_readonly(NAME), ..TokenOptions::default() };
    let token = cx.auth.create_token(&user, NAME, &options).await?;
    // yarn classic looks at `ok`, everybody else at `token`.
    let answer = json!({
        "ok": true,
        "id": format!("org.couchdb.user:{user}"),
        "rev": "_we_dont_use_revs_any_more",
        "token": token.expose(),
    });
    Ok(Response::json(StatusCode::CREATED, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// `GET /-/user/org.couchdb.user:{user}`: `npm owner add` asks for whom it is about to add. Addresses are nobody else's business.
pub(crate) async fn get_user(cx: &Cx, user: &str) -> Result<Response> {
    let own = cx.require_user()? == user;
    if !own && cx.auth.has_user(user).await? == Some(false) {
        return Err(not_found());
    }
    let answer = json!({
        "_id": format!("org.couchdb.user:{user}"),
        "name": user,
        "email": if own { profile::own_email(cx, user).await? } else { String::new() },
        "type": "user",
        "roles": [],
    });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// `DELETE /-/user/token/{token}`: ends a token of the caller's own. Somebody else's isn't there.
pub(crate) async fn logout(cx: &Cx, token: &str, request: &Request) -> Result<Response> {
    revoke_own(cx, token, request).await?;
    Ok(Response::json(StatusCode::OK, &json!({ "ok": true })))
}

/// Ends a token by its text, if it is the caller's own and good here and now.
pub(crate) async fn revoke_own(cx: &Cx, token: &str, request: &Request) -> Result<()> {
    let user = cx.require_user()?;
    // Asked as a request from the same place would be: a token may be bound to networks.
    let mut probe = Request::new(Method::GET, "");
    probe.token = Some(Secret::new(token));
    probe.peer = request.client_ip();
    match cx.auth.authenticate(&probe, NAME).await? {
        Identity::Known(found) if found.user_id == user => cx.auth.revoke_token(&Secret::new(token)).await,
        _ => Err(not_found()),
    }
}

/// `GET /-/whoami`
pub(crate) fn whoami(cx: &Cx) -> Result<Response> {
    let answer = json!({ "username": cx.require_user()? });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// `GET /-/ping`
pub(crate) fn ping() -> Response {
    Response::json(StatusCode::OK, &json!({})).static_header(header::CACHE_CONTROL, "no-store")
}
