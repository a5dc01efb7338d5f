//! The second factor before a change: of users who want it, and for packages that demand it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access;
use super::keys;
use super::model::Packument;
use super::name::PackageName;
use crate::auth::{AuthToken, FactorMode};
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// What a package demands of who changes it (`npm access set mfa=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mfa {
    /// A one-time code, always.
    Publish,
    /// A one-time code, except of tokens that were made to do without.
    Automation,
}

/// Member of a token's metadata: made to do without a second factor.
pub(crate) const BYPASS: &str = "bypass2fa";
/// Member of a token's metadata: may stage releases but not publish them.
pub(crate) const STAGE_ONLY: &str = "stageOnly";
/// Member of a token's metadata: made for a build by trusted publishing; what the record of trust says.
pub(crate) const TRUSTED: &str = "trustedPublisher";

/// Whether the metadata of a token has a mark.
pub(crate) fn has_mark(token: &AuthToken, mark: &str) -> bool {
    let value = token.metadata.as_ref().and_then(|all| all.get(mark));
    value.is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
}

/// The one-time code of a request.
pub(crate) fn code(request: &Request) -> Option<Secret> {
    request.header("npm-otp").map(Secret::new)
}

/// Goes on unless the change needs a one-time code that isn't there or isn't good. Whether the caller may make the change at all is for
/// the handler to say; what a package demands is only looked up for who may change it.
pub(crate) async fn guard(cx: &Cx, code: Option<&Secret>, package: Option<&str>) -> Result<()> {
    let Identity::Known(token) = &cx.identity else { return Ok(()) };
    // A build has proven itself by its identity token, and has no authenticator.
    if !cx.auth.keeps_users() || token.user_id.is_empty() || has_mark(token, TRUSTED) {
        return Ok(());
    }
    let mode = cx.auth.second_factor(&token.user_id).await?;
    let demand = match package.and_then(|name| PackageName::parse(name).ok()) {
        Some(name) => demand(cx, &name).await?,
        None => None,
    };
    let bypass = has_mark(token, BYPASS);
    let needed = match demand {
        Some(Mfa::Publish) => true,
        Some(Mfa::Automation) => !bypass,
        None => mode == Some(FactorMode::Writes) && !bypass,
    };
    if !needed {
        return Ok(());
    }
    if mode.is_none() {
        return Err(Error::denied(
            "this package is changed with two-factor authentication only; enable it with `npm profile enable-2fa`",
        ));
    }
    cx.auth.require_code(&token.user_id, Some(token), code).await
}

async fn demand(cx: &Cx, name: &PackageName) -> Result<Option<Mfa>> {
    if !cx.allows(&access::package(cx, name), Action::Write, None).await? {
        return Ok(None);
    }
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document(&keys::index(name)?).await?;
    Ok(loaded.and_then(|loaded| loaded.document.notes.mfa))
}
