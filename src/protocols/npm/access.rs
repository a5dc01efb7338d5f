//! Who may see and change a package, and how a refusal is put.

use super::error::not_found;
use super::factor::{STAGE_ONLY, has_mark};
use super::keys;
use super::model::Packument;
use super::name::PackageName;
use super::orgs;
use std::net::IpAddr;

use crate::config::Visibility;
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// The resource of a package in scopes.
pub(crate) fn package(cx: &Cx, name: &PackageName) -> Resource {
    cx.resource("package", name.as_str())
}

/// What a package of ours says of itself. Upstreams' packages say nothing.
pub(crate) async fn own_visibility(cx: &Cx, resource: &Resource) -> Result<Option<Visibility>> {
    let Some(name) = PackageName::parse(&resource.name).ok().filter(|_| resource.kind == "package") else {
        return Ok(None);
    };
    let found: Option<Arc<Loaded<Packument>>> =
        cx.index.document(&cx.objects, name.as_str(), &keys::index(&name)?).await?;
    Ok(found.and_then(|found| found.document.notes.access))
}

/// Refusal of a read. A private package must not show that it exists: 404, as for one that doesn't. Where nothing at all can be read
/// without logging in there is nothing to hide, and 401 lets npm say so; also to somebody whose credentials are wrong.
pub(crate) fn hidden(cx: &Cx) -> Error {
    match &cx.identity {
        Identity::Rejected => {
            Error::new(Kind::Unauthorized, "the token is wrong, expired or revoked; log in again")
        }
        Identity::Anonymous if !cx.auth.is_public(&cx.resource("package", "*"), None) => {
            Error::new(Kind::Unauthorized, "this registry needs a login, also to read")
        }
        Identity::Anonymous | Identity::Known(_) => not_found(),
    }
}

/// Goes on only if the caller may do `action`, which is not a read, to the package. To somebody who is logged in but may not even read
/// the package, it isn't there.
pub(crate) async fn require(cx: &Cx, name: &PackageName, action: Action) -> Result<()> {
    let resource = package(cx, name);
    let refusal = match cx.require(&resource, action, None).await {
        Ok(()) if orgs::lets(cx, name, action).await? => return Ok(()),
        Ok(()) => Error::denied(format!(
            "{name} belongs to an organisation that does not let you {} it; ask one of its owners",
            action.as_str()
        )),
        Err(refusal) => refusal,
    };
    if refusal.kind() == Kind::Denied && !cx.allows(&resource, Action::Read, None).await? {
        return Err(hidden(cx));
    }
    Err(refusal)
}

/// Whether the caller may read the package: anybody what is public, and of what is private whoever has the scope for it and is let by its
/// organisation.
pub(crate) async fn may_read(cx: &Cx, name: &PackageName, own: Option<Visibility>) -> Result<bool> {
    let resource = package(cx, name);
    Ok(cx.allows(&resource, Action::Read, own).await?
        && (cx.auth.is_public(&resource, own) || orgs::lets(cx, name, Action::Read).await?))
}

/// Whether there may be any package that the caller may read. To who may read nothing, nothing is said of what upstreams have, and none is asked.
pub(crate) fn may_read_some(cx: &Cx) -> bool {
    matches!(cx.identity, Identity::Known(_)) || cx.auth.has_public(cx.protocol)
}

/// Goes on unless the token may only stage releases for somebody to approve.
pub(crate) fn may_publish(cx: &Cx) -> Result<()> {
    if cx.identity.token().is_some_and(|token| has_mark(token, STAGE_ONLY)) {
        return Err(Error::denied(
            "this token may stage releases but not publish them; use `npm stage publish`",
        ));
    }
    Ok(())
}

/// The token of a request that was rejected.
pub(crate) fn rejected_token(cx: &Cx, request: &Request) -> Option<Secret> {
    matches!(cx.identity, Identity::Rejected).then(|| cx.auth.presented_token(request)).flatten()
}

/// The error, or 403 where the only thing wrong is where a token is used: to log in again would not help.
pub(crate) async fn bound_elsewhere(
    cx: &Cx,
    token: Option<Secret>,
    client: Option<IpAddr>,
    error: Error,
) -> Result<Error> {
    let Some(token) = token.filter(|_| error.kind() == Kind::Unauthorized) else { return Ok(error) };
    if !cx.auth.is_bound_elsewhere(&token, client).await? {
        return Ok(error);
    }
    Ok(Error::denied(
        "this token may only be used from the networks it was made for, and your address is in none of them",
    ))
}
