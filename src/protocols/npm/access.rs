//! Who may see and change a package, and how a refusal is put.

use super::error::not_found;
use super::name::PackageName;
use crate::protocols::prelude::*;

/// The resource of a package in scopes.
pub(crate) fn package(cx: &Cx, name: &PackageName) -> Resource {
    cx.resource("package", name.as_str())
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
    let Err(refusal) = cx.require(&resource, action, None).await else { return Ok(()) };
    if refusal.kind() == Kind::Denied && !cx.allows(&resource, Action::Read, None).await? {
        return Err(hidden(cx));
    }
    Err(refusal)
}
