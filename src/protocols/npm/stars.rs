//! Stars: each user's own mark on a package, and the list of what somebody has marked.
//!
//! The truth is in the packuments. A small document per user says where to look, so that nobody has to read them all; what it says is
//! checked, so that it may be behind.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::name::PackageName;
use super::{Npm, body, keys, manage, read};
use crate::protocols::prelude::*;

/// Packuments that are looked at, and at the same time.
const MOST: usize = 2000;
const READS: usize = 16;

/// What a user has starred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Starred {
    user: String,
    packages: BTreeSet<String>,
}

impl JsonDocument for Starred {
    const LIMIT: u64 = 4 << 20;
    const NAME: &'static str = "list of stars";
}

/// Notes that `user` has starred the package, or no longer has.
pub(crate) async fn note(cx: &Cx, name: &PackageName, user: &str, on: bool) -> Result<()> {
    let (package, owner) = (name.as_str().to_owned(), user.to_owned());
    let change = move |starred: &mut Starred| {
        owner.clone_into(&mut starred.user);
        let changed =
            if on { starred.packages.insert(package.clone()) } else { starred.packages.remove(&package) };
        Ok(if changed { Edit::Changed(()) } else { Edit::Unchanged(()) })
    };
    cx.objects.update(&keys::stars(user)?, &ObjectInfo::of(name.as_str()), change).await
}

/// What pnpm 12 sends.
#[derive(Deserialize)]
struct Marked {
    package: String,
}

/// `PUT` and `DELETE /-/user/v1/star` of pnpm 12. Whoever may see a package may mark it, with a token that may change anything at all.
pub(crate) async fn mark(npm: &Npm, cx: &Cx, on: bool, mut request: Request) -> Result<Response> {
    cx.require_user()?;
    let marked: Marked = body::json(npm, &mut request, "the star").await?;
    let name = PackageName::parse(&marked.package)?;
    if cx.identity.token().is_some_and(|token| token.readonly) {
        return Err(Error::denied("this token is read-only; a star needs one that may write"));
    }
    read::load(cx, &name, false).await?;
    manage::set_star(cx, &name, on).await
}

/// `GET /-/user/v1/star` and `GET /-/user/{user}/stars` of pnpm 12: names alone.
pub(crate) async fn list(cx: &Cx, user: Option<&str>) -> Result<Response> {
    let user = match user {
        Some(user) => user,
        None => cx.require_user()?,
    };
    let names = starred(cx, user).await?;
    let names: Vec<&str> = names.iter().map(PackageName::as_str).collect();
    Ok(Response::json(StatusCode::OK, &names).static_header(header::CACHE_CONTROL, "private, no-cache"))
}

/// `GET /-/_view/starredByUser?key="bob"`: the form is that of a `CouchDB` view. Only packages that the caller may read are in it.
pub(crate) async fn starred_by_user(cx: &Cx, request: &Request) -> Result<Response> {
    let key = request.query.get("key").unwrap_or_default();
    let user = serde_json::from_str(key).unwrap_or_else(|_| key.trim_matches('"').to_owned());
    if user.is_empty() {
        return Err(Error::invalid("say whose stars: ?key=\"name\""));
    }
    let names = starred(cx, &user).await?;
    let row = |name: &PackageName| json!({ "id": name.as_str(), "key": user, "value": name.as_str() });
    let rows: Vec<_> = names.iter().map(row).collect();
    let answer = json!({ "total_rows": rows.len(), "offset": 0, "rows": rows });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "private, no-cache"))
}

/// The packages that a user has starred and the caller may read.
async fn starred(cx: &Cx, user: &str) -> Result<Vec<PackageName>> {
    let loaded: Option<Arc<Loaded<Starred>>> = cx.objects.document(&keys::stars(user)?).await?;
    let names = loaded.map(|loaded| loaded.document.packages.clone()).unwrap_or_default();
    let looks = names.into_iter().take(MOST).filter_map(|name| PackageName::parse(&name).ok());
    let looks = looks.map(|name| async move {
        match read::load(cx, &name, false).await {
            Ok(loaded) => Ok(loaded.document.users.contains_key(user).then_some(name)),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unauthorized) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let found: Vec<Result<Option<PackageName>>> = stream::iter(looks).buffered(READS).collect().await;
    found.into_iter().filter_map(Result::transpose).collect()
}
