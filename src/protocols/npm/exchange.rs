//! Trusted publishing: a build shows the identity token of its build service and gets a token for one package and one hour.

use std::time::Duration;

use serde_json::json;

use super::error::{SAY_AS_IS, not_found};
use super::factor::{STAGE_ONLY, TRUSTED};
use super::name::PackageName;
use super::{NAME, trust};
use crate::auth::{IdToken, TokenOptions};
use crate::protocols::prelude::*;

/// How long the token lives. A publish takes minutes.
const LIFETIME: Duration = Duration::from_hours(1);

/// `POST /-/npm/v1/oidc/token/exchange/package/{pkg}`
pub(crate) async fn exchange(cx: &Cx, name: &PackageName, request: &Request) -> Result<Response> {
    if !cx.auth.has_issuers() {
        return Err(not_found());
    }
    // One answer for all that fails: whether a package is here, and whom it trusts, is nobody's business.
    let refused = || {
        Error::new(
            Kind::Unauthorized,
            format!("the identity token is not good for {name}: check issuer, audience, and `npm trust list {name}`"),
        )
        .with_code(SAY_AS_IS)
    };
    let token = cx.auth.presented_token(request).ok_or_else(refused)?;
    let id = cx.auth.verify_id_token(&token, &audiences(cx)).await?.ok_or_else(refused)?;
    let trusted = trust::load(cx, name).await?;
    let record = trusted.records.iter().find(|record| record.covers(&id)).ok_or_else(refused)?;
    let user = builder(&id);
    let stage_only = !record.may(trust::PUBLISH);
    let now = cx.clock.now();
    let options = TokenOptions {
        scopes: vec![format!("npm:package:{name}:write")],
        expires_at: Some(now.plus(LIFETIME)),
        name: Some("trusted publishing".to_owned()),
        metadata: Some(json!({
            TRUSTED: { "id": record.kind, "oidcConfigId": format!("oidc:{}", record.id) },
            STAGE_ONLY: stage_only,
        })),
        ..TokenOptions::default()
    };
    let issued = cx.auth.create_token(&user, NAME, &options).await?;
    tracing::info!(package = name.as_str(), user, record = record.id, "a build was given a token");
    let answer = json!({
        "token": issued.expose(),
        "token_type": "oidc",
        "created": now.rfc3339(),
        "expires": now.plus(LIFETIME).rfc3339(),
    });
    Ok(Response::json(StatusCode::CREATED, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// What the token must have been made for, in npm's form: npm and pnpm name the host, yarn berry its port too. Never from the request's `Host`: whoever gets a build's token for another registry
/// could use it here with a header of their own.
fn audiences(cx: &Cx) -> Vec<String> {
    let url = cx.mount.registry_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let Some((host, port)) = url.as_ref().and_then(|url| Some((url.host_str()?, url.port()))) else {
        return Vec::new();
    };
    let with_port = port.map(|port| format!("npm:{host}:{port}"));
    [format!("npm:{host}")].into_iter().chain(with_port).collect()
}

/// The build as a user id. No user can be called so: their names have no colon.
fn builder(id: &IdToken) -> String {
    let said = |name: &str| id.claims.get(name).and_then(serde_json::Value::as_str);
    let who =
        ["repository", "project_path", "oidc.circleci.com/project-id", "sub"].into_iter().find_map(said);
    let who: String = who.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
    format!("{}:{who}", id.kind)
}
