//! GET and HEAD of packuments, version manifests and dist-tags.

use super::access;
use super::error::not_found;
use super::model::Packument;
use super::name::{self, PackageName};
use super::representations::{self, ABBREVIATED, FULL, Form, Representations, View};
use super::{Npm, keys, proxy, version};
use crate::core::conditional;
use crate::core::negotiate;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// Clients must ask each time, or a version just published stays invisible: without a word from us npm guesses how long to keep it.
const REVALIDATE: &str = "private, no-cache";

/// `GET /{pkg}`
pub(crate) async fn get_packument(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    request: &Request,
) -> Result<Response> {
    if request.query.get("write") == Some("true") {
        return get_editable(npm, cx, name).await;
    }
    let proxy::Shown { loaded, source } = proxy::package(npm, cx, name, wants_newest(request)).await?;
    note_read(cx, name, &loaded, source.is_some()).await?;
    let base = cx.mount.base_url();
    let form = wanted_form(request);
    let tag = Representations::tag(&loaded, &base, form);
    let known = request.header(header::IF_NONE_MATCH).is_some_and(|tags| conditional::matches(tags, &tag));
    if known {
        let modified = Timestamp::parse_rfc3339(loaded.document.modified()).unwrap_or_default();
        let response =
            Response::new(StatusCode::NOT_MODIFIED).header(header::LAST_MODIFIED, modified.http_date());
        return Ok(proxy::describe(npm, describe(response, cx, name, &loaded, &tag), source.as_ref()));
    }
    let folder = source.as_ref().map(|(upstream, _)| upstream.folder());
    let ready = npm.representations.get(npm, cx, name, &loaded, folder, form).await?;
    let gzip = negotiate::accepts_encoding(request.header(header::ACCEPT_ENCODING), "gzip");
    let body = if gzip { ready.gzip.clone() } else { ready.plain.clone() };
    let mut response = Response::ok(form.content_type(), body).header(header::LAST_MODIFIED, &ready.modified);
    if gzip {
        response = response.static_header(header::CONTENT_ENCODING, "gzip");
    }
    Ok(proxy::describe(npm, describe(response, cx, name, &loaded, &tag), source.as_ref()))
}

/// About to be changed and sent back: our own document as it is now, with its revision, from no cache and for none. What an upstream has can't be
/// changed here, and is not in it.
async fn get_editable(npm: &Npm, cx: &Cx, name: &PackageName) -> Result<Response> {
    let loaded = load(cx, name, true).await?;
    note_read(cx, name, &loaded, false).await?;
    let signer = npm.signing.for_unsigned(cx, &loaded.document.releases).await?;
    let base = cx.mount.base_url();
    let text =
        representations::full(name, &loaded.document, &View { base: &base, signer: signer.as_deref() });
    Ok(Response::ok(FULL, text).static_header(header::CACHE_CONTROL, "no-store"))
}

/// Tells the hooks that somebody reads the document. An upstream's is none of the application's objects.
async fn note_read(cx: &Cx, name: &PackageName, loaded: &Loaded<Packument>, foreign: bool) -> Result<()> {
    if foreign {
        return Ok(());
    }
    let what = || Ok((keys::index(name)?, ObjectInfo::of(name.as_str()).content_type(FULL)));
    cx.objects.note_read(loaded.size, what).await
}

/// The headers that a 200 and its 304 share.
fn describe(
    response: Response,
    cx: &Cx,
    name: &PackageName,
    loaded: &Loaded<Packument>,
    tag: &ETag,
) -> Response {
    let (package, own) = (access::package(cx, name), loaded.document.notes.access);
    let public = cx.auth.is_public(&package, own);
    let vary = if public { "Accept, Accept-Encoding" } else { "Accept, Accept-Encoding, Authorization" };
    let response = cx.standing(response, &package, own);
    response.etag(tag).static_header(header::CACHE_CONTROL, REVALIDATE).static_header(header::VARY, vary)
}

/// Abbreviated only for who names it and wants it no less than plain JSON. npm, yarn berry and deno get the full form.
fn wanted_form(request: &Request) -> Form {
    let accept = request.header(header::ACCEPT).unwrap_or_default();
    if negotiate::prefers(accept, ABBREVIATED, FULL) { Form::Abbreviated } else { Form::Full }
}

/// `npm --prefer-online` and the like.
fn wants_newest(request: &Request) -> bool {
    request.header(header::CACHE_CONTROL).is_some_and(|value| value.contains("no-cache"))
}

/// `GET /{pkg}/{version, tag or range}`
pub(crate) async fn get_version(npm: &Npm, cx: &Cx, name: &PackageName, wanted: &str) -> Result<Response> {
    let proxy::Shown { loaded, source } = proxy::package(npm, cx, name, false).await?;
    note_read(cx, name, &loaded, source.is_some()).await?;
    let packument = &loaded.document;
    let exact = packument.tagged(wanted).or_else(|| packument.release(wanted));
    let cleaned = || version::clean(wanted).and_then(|version| packument.release(&version));
    let in_range = || {
        let all = packument.releases.iter().map(|release| release.version.as_ref());
        let latest = packument.tags.get("latest").map(String::as_str);
        packument.release(version::max_satisfying(wanted, all, latest)?)
    };
    if exact.is_none() {
        packument.check_restrictions(wanted)?;
    }
    let release = exact
        .or_else(cleaned)
        .or_else(in_range)
        .ok_or_else(|| Error::not_found(format!("version not found: {}", name::printable(wanted))))?;
    let base = cx.mount.base_url();
    let signer = npm.signing.for_unsigned(cx, std::slice::from_ref(release)).await?;
    let text =
        representations::manifest(name, release, &View { base: &base, signer: signer.as_deref() }, None);
    let tag = ETag::weak(&super::model::short_hash(&[
        loaded.version.0.as_bytes(),
        base.as_bytes(),
        release.version.as_bytes(),
    ]));
    let response = describe(Response::ok(FULL, text), cx, name, &loaded, &tag);
    Ok(proxy::describe(npm, response, source.as_ref()))
}

async fn newest(npm: &Npm, cx: &Cx, name: &PackageName) -> Result<Arc<Loaded<Packument>>> {
    let proxy::Shown { loaded, source } = proxy::package(npm, cx, name, true).await?;
    note_read(cx, name, &loaded, source.is_some()).await?;
    Ok(loaded)
}

/// `GET /-/package/{pkg}/dist-tags`
pub(crate) async fn list_tags(npm: &Npm, cx: &Cx, name: &PackageName) -> Result<Response> {
    let loaded = newest(npm, cx, name).await?;
    Ok(Response::json(StatusCode::OK, &loaded.document.tags).static_header(header::CACHE_CONTROL, REVALIDATE))
}

/// `GET /-/package/{pkg}/dist-tags/{tag}`
pub(crate) async fn get_tag(npm: &Npm, cx: &Cx, name: &PackageName, tag: &str) -> Result<Response> {
    let loaded = newest(npm, cx, name).await?;
    let version = loaded.document.tags.get(tag).ok_or_else(not_found)?;
    Ok(Response::json(StatusCode::OK, version).static_header(header::CACHE_CONTROL, REVALIDATE))
}

/// The packument, from memory as long as nobody has changed it.
pub(crate) async fn cached(cx: &Cx, name: &PackageName) -> Result<Option<Arc<Loaded<Packument>>>> {
    cx.index.document(&cx.objects, name.as_str(), &keys::index(name)?).await
}

/// The packument of a package of ours, if it is there and the caller may read it; both failures look and take the same.
pub(crate) async fn load(cx: &Cx, name: &PackageName, newest: bool) -> Result<Arc<Loaded<Packument>>> {
    let key = keys::index(name)?;
    let loaded: Option<Arc<Loaded<Packument>>> =
        if newest { cx.objects.document_revalidated(&key).await? } else { cached(cx, name).await? };
    let own = loaded.as_ref().and_then(|loaded| loaded.document.notes.access);
    if !access::may_read(cx, name, own).await? {
        return Err(access::hidden(cx));
    }
    // There is a document also where nothing was published yet: for what is staged, or left of a batch that failed.
    loaded.filter(|loaded| !loaded.document.is_new()).ok_or_else(not_found)
}
