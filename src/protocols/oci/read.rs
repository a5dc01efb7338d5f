//! Manifests, tags and the catalog.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::super::prelude::*;
use super::links::PAGE;
use super::manifests::{self, Stored};
use super::name::{Name, Reference};
use super::proxy::{self, Place};
use super::{Call, error, keys};

/// Most entries of one page, whatever the client asks for. One that asks for more is not refused: scanners ask for a lot.
const MAX_PAGE: usize = 10_000;
/// Entries of a catalog page when the client names no number.
const CATALOG_PAGE: usize = 100;
/// What stays as it is in a query.
pub(super) const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `GET /v2/<name>/manifests/<reference>`: the exact bytes, whatever `Accept` says. Converting would change the digest.
pub(super) async fn get_manifest(
    call: &Call<'_>,
    name: &Name,
    reference: &str,
    request: &Request,
) -> Result<Response> {
    let place = Place::find(call, name, request, "manifest").await?;
    if place.is_remote() {
        return proxy::get_manifest(call, &place, reference, request).await;
    }
    // What is here of an upstream that this caller may not ask: see `opens`.
    if !place.opens(call, reference).await? {
        return Err(error::manifest_unknown(&"of this name"));
    }
    let name = &place.name;
    let (digest, tagged) = match Reference::parse(reference) {
        Ok(Reference::Digest(digest)) => (digest, false),
        Ok(Reference::Tag(tag)) => {
            let tags = call.tags(name).await?;
            let digest = tags.as_ref().and_then(|tags| tags.document.get(&tag));
            (digest.cloned().ok_or_else(|| error::manifest_unknown(&tag))?, true)
        }
        Err(error) if reference.contains(':') => return Err(error),
        Err(_) => return Err(error::manifest_unknown(&"of this name")),
    };
    let stored =
        call.manifest(name, &digest, tagged).await?.ok_or_else(|| error::manifest_unknown(&digest))?;
    // Who only looks whether a tag has moved does not use what it names.
    if !(request.is_head() && tagged) {
        call.note_pull(name, &digest, tagged.then_some(reference));
    }
    if !request.is_head() {
        call.note_read(name, reference, &digest, &stored).await?;
    }
    let mut response = manifest_head(call, name, &digest, tagged, &stored.media_type);
    response.body = stored.bytes.clone().into();
    Ok(place.sign(call, response, None))
}

impl Call<'_> {
    /// Tells the hooks that somebody reads a manifest, from memory as a rule.
    pub(super) async fn note_read(
        &self,
        name: &Name,
        reference: &str,
        digest: &Digest,
        stored: &Stored,
    ) -> Result<()> {
        let what = || {
            let info = manifests::info(name, reference, digest).content_type(stored.media_type.as_ref());
            Ok((keys::manifest(name, digest)?, info))
        };
        self.cx.objects.note_read(stored.bytes.len() as u64, what).await
    }
}

/// The answer for a manifest, without its bytes.
pub(super) fn manifest_head(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    tagged: bool,
    media_type: &str,
) -> Response {
    let text = digest.to_string();
    let cache = if tagged { "no-cache, no-transform" } else { call.immutable(name) };
    Response::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, media_type)
        .header("docker-content-digest", &text)
        .etag(&ETag::strong(&text))
        .static_header(header::VARY, "Accept")
        .static_header(header::CACHE_CONTROL, cache)
}

/// `GET /v2/<name>/tags/list`: sorted by bytes, as `last` compares.
pub(super) async fn list_tags(call: &Call<'_>, name: &Name, request: &Request) -> Result<Response> {
    let place = Place::find(call, name, request, "tags").await?;
    let page = Page::of(request, MAX_PAGE)?;
    if place.is_remote() {
        let found = proxy::list_tags(call, &place).await?.ok_or_else(|| error::name_unknown(name))?;
        let names = found.loaded.document.iter().map(String::as_str);
        let response = page.of_tags(call, name, &place.name, names);
        return Ok(place.sign(call, response, Some((&found.upstream.id, found.verdict))));
    }
    let tags = call.tags(&place.name).await?;
    if tags.is_none() && !call.repository_exists(&place.name).await? {
        return Err(error::name_unknown(name));
    }
    let names = tags.iter().flat_map(|tags| tags.document.names());
    Ok(place.sign(call, page.of_tags(call, name, &place.name, names), None))
}

/// `GET /v2/_catalog`: the repositories that the caller may pull from.
pub(super) async fn list_repositories(call: &Call<'_>, request: &Request) -> Result<Response> {
    if !call.allows(&call.cx.resource("registry", "catalog"), Action::Any).await? {
        return Err(call.refuse("registry:catalog:*"));
    }
    let page = Page::of(request, CATALOG_PAGE)?;
    // One more than wanted tells whether there is a next page.
    let mut names = visible(call, page.last.as_deref(), page.count.saturating_add(1)).await?;
    let more = page.count > 0 && names.len() > page.count;
    names.truncate(page.count);
    let list: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let response = Response::json(StatusCode::OK, &json!({ "repositories": list }));
    Ok(page.link(call, response, "_catalog", &list, more))
}

/// Repositories after `after` that the caller may pull from, at most `count`.
pub(super) async fn visible(call: &Call<'_>, after: Option<&str>, count: usize) -> Result<Vec<Arc<str>>> {
    let viewer = call.viewer();
    let (mut found, mut after) = (Vec::new(), after.map(Arc::from));
    loop {
        let names = call.cx.index.names(after.as_deref(), PAGE).await?;
        for text in &names {
            if let Some(name) = Name::parse(text)
                && call.shows(&viewer, &name).await?
            {
                found.push(Arc::clone(text));
                if found.len() == count {
                    return Ok(found);
                }
            }
        }
        match names.last().filter(|_| names.len() == PAGE) {
            Some(last) => after = Some(Arc::clone(last)),
            None => return Ok(found),
        }
    }
}

/// `GET /v2/_oci/ext/discover`.
pub(super) async fn list_extensions(call: &Call<'_>) -> Result<Response> {
    super::login::check(call).await?;
    Ok(Response::json(StatusCode::OK, &json!({ "extensions": [] })))
}

impl Call<'_> {
    /// `Cache-Control` of what never changes under its digest.
    pub(super) fn immutable(&self, name: &Name) -> &'static str {
        // A middleware that compresses would change what the digest and the ranges are over: `no-transform` keeps Express' off.
        if self.cx.auth.is_public(&self.cx.resource("repository", name.as_str()), None) {
            "public, max-age=31536000, immutable, no-transform"
        } else {
            "private, max-age=31536000, immutable, no-transform"
        }
    }
}

/// `n` and `last`.
struct Page {
    count: usize,
    last: Option<String>,
}

impl Page {
    fn of(request: &Request, default: usize) -> Result<Self> {
        let count = match request.query.get("n") {
            None => default,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
                text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
            Some(_) => {
                return Err(
                    Error::invalid("`n` is a number of entries").with_code("PAGINATION_NUMBER_INVALID")
                );
            }
        };
        Ok(Self { count, last: request.query.get("last").map(str::to_owned) })
    }

    fn wants(&self, entry: &str) -> bool {
        self.last.as_deref().is_none_or(|last| entry > last)
    }

    /// The entries of this page, and whether there are more. Asking for none gets none, and no next page.
    fn cut<'a>(&self, entries: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, bool) {
        let mut list: Vec<_> =
            entries.filter(|entry| self.wants(entry)).take(self.count.saturating_add(1)).collect();
        let more = self.count > 0 && list.len() > self.count;
        list.truncate(self.count);
        (list, more)
    }

    /// One page of tags. The client goes on where they are: that is another name than its own if it named the upstream apart.
    fn of_tags<'a>(
        &self,
        call: &Call<'_>,
        name: &Name,
        at: &Name,
        names: impl Iterator<Item = &'a str>,
    ) -> Response {
        let (list, more) = self.cut(names);
        let response = Response::json(StatusCode::OK, &json!({ "name": name.as_str(), "tags": list }));
        self.link(call, response, &format!("{at}/tags/list"), &list, more)
    }

    /// Adds the link to the next page: an absolute path, since podman puts the host in front of whatever it finds.
    fn link(&self, call: &Call<'_>, response: Response, path: &str, list: &[&str], more: bool) -> Response {
        let Some(end) = list.last().filter(|_| more) else { return response };
        let end = utf8_percent_encode(end, UNRESERVED);
        let link = call.site.link(&format!("{path}?n={}&last={end}", self.count));
        response.header(header::LINK, format!("<{link}>; rel=\"next\""))
    }
}
