//! Manifests, tags and the catalog.

use std::fmt::Write as _;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::super::prelude::*;
use super::links::{PAGE, PARALLEL};
use super::manifests::{self, Stored};
use super::name::{Name, Reference};
use super::proxy::{self, Place};
use super::{Call, error, keys};

/// Most entries of one page, whatever the client asks for. One that asks for more is not refused: scanners ask for a lot.
const MAX_PAGE: usize = 10_000;
/// Entries of a catalog page when the client names no number.
const CATALOG_PAGE: usize = 100;
/// Repositories that are looked at in vain for one page: each may cost a question to the application.
const LOOKED_AT: usize = 1000;
/// Names that are taken off the index at a time, at least.
const BATCH: usize = 100;
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
    // A digest may be deleted without any document that names it.
    if tagged && !call.gathers_pulls() {
        response = call.cx.standing(response, &call.cx.resource("repository", name.as_str()), None);
    }
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
    let past = request.query.get("past").and_then(|text| text.parse().ok()).unwrap_or_default();
    let at = Spot { behind: page.last.as_deref().map(Arc::from), past };
    let (names, next) = visible(call, at, page.count).await?;
    let response = Response::json(StatusCode::OK, &json!({ "repositories": names }));
    let Some(Spot { behind, past }) = next else { return Ok(response) };
    let mut query = format!("n={}", page.count);
    if let Some(behind) = behind {
        let _ = write!(query, "&last={}", utf8_percent_encode(&behind, UNRESERVED));
    }
    if past > 0 {
        let _ = write!(query, "&past={past}");
    }
    Ok(next_page(call, response, &format!("_catalog?{query}")))
}

/// Where a look through the catalog goes on: behind a name, and past so many behind that. The names that were passed are hidden from who looks, so a link
/// can't hold the last of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Spot {
    behind: Option<Arc<str>>,
    past: usize,
}

/// Repositories that the caller may pull from, at most `count`, and where there may be more. Fewer than `count`, or none, do not mean that this is all:
/// what is hidden from the caller is looked at within bounds.
pub(super) async fn visible(
    call: &Call<'_>,
    mut at: Spot,
    count: usize,
) -> Result<(Vec<Arc<str>>, Option<Spot>)> {
    let (viewer, mut found, mut hidden) = (call.viewer(), Vec::new(), 0);
    if count == 0 {
        return Ok((found, None));
    }
    loop {
        let wanted = (count - found.len() + 1).clamp(BATCH, PAGE);
        let names = call.cx.index.names_past(at.behind.as_deref(), at.past, wanted).await?;
        let more = names.len() == wanted;
        let mut list = shown(call, &viewer, names);
        while let Some(looked) = list.next().await {
            let (name, shows) = looked?;
            // One more than wanted tells that there is a next page.
            if hidden == LOOKED_AT || (shows && found.len() == count) {
                return Ok((found, Some(at)));
            }
            if shows {
                at = Spot { behind: Some(Arc::clone(&name)), past: 0 };
                found.push(name);
            } else {
                at.past += 1;
                hidden += 1;
            }
        }
        if !more {
            return Ok((found, None));
        }
    }
}

/// Whether `viewer` may see these repositories in a list, in their order and asked side by side.
pub(super) fn shown<'a>(
    call: &'a Call<'_>,
    viewer: &'a Identity,
    names: Vec<Arc<str>>,
) -> impl Stream<Item = Result<(Arc<str>, bool)>> + Unpin + 'a {
    let work = names.into_iter().map(move |text| {
        async move {
            let shows = match Name::parse(&text) {
                Some(name) => call.shows(viewer, &name).await?,
                None => false,
            };
            Ok((text, shows))
        }
        .boxed()
    });
    stream::iter(work).buffered(PARALLEL)
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
        let Some(end) = list.last().filter(|_| more) else { return response };
        let end = utf8_percent_encode(end, UNRESERVED);
        next_page(call, response, &format!("{at}/tags/list?n={}&last={end}", self.count))
    }
}

/// Adds the link to the next page: an absolute path, since podman puts the host in front of whatever it finds.
fn next_page(call: &Call<'_>, response: Response, rest: &str) -> Response {
    response.header(header::LINK, format!("<{}>; rel=\"next\"", call.site.link(rest)))
}
