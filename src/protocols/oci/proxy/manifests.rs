//! Manifests of upstreams: fetched once by digest, checked as a push is, and kept.

use futures_util::FutureExt;
use http::HeaderValue;

use super::super::super::prelude::*;
use super::super::manifests::{self, Stored, off_thread};
use super::super::model::{self, Manifest};
use super::super::name::Reference;
use super::super::{Call, error, keys, read};
use super::flights::Desk;
use super::{MANIFESTS, Place, media_type_of, scope, tags, target, text_of};
use crate::upstream::{Candidates, Request as Ask, Upstream, Verdict};

/// A manifest, and who had it.
#[derive(Clone)]
pub(super) struct Fetched {
    pub(super) stored: Arc<Stored>,
    pub(super) upstream: Arc<Upstream>,
}

/// `GET`, `HEAD` of a manifest of a repository that is filled from an upstream.
pub(in super::super) async fn get(
    call: &Call<'_>,
    place: &Place,
    reference: &str,
    request: &Request,
) -> Result<Response> {
    let reference = match Reference::parse(reference) {
        Ok(reference) => reference,
        Err(error) if reference.contains(':') => return Err(error),
        Err(_) => return Err(error::manifest_unknown(&"of this name")),
    };
    let Some(named) = tags::resolve(call, place, &reference).await? else {
        return Err(error::manifest_unknown(&reference));
    };
    let (digest, tag) = (named.digest(), named.tag());
    // Who knows the tag is asked first.
    let sourced = || place.with_source(tag.map(|copy| &copy.upstream));
    let mut verdict = tag.map(|copy| (Arc::clone(&copy.upstream.id), copy.verdict));
    let stored = match call.manifest(&place.name, digest, tag.is_some()).await? {
        // Who has been told the tag is let in.
        Some(stored) if tag.is_some() || place.opens(call, &format!("manifests/{digest}")).await? => stored,
        Some(_) => return Err(error::manifest_unknown(&reference)),
        None if request.is_head() => {
            let facts = tag.and_then(|copy| copy.loaded.document.facts.clone());
            let found = match facts {
                Some(facts) => Some(facts),
                None => head(call, &sourced(), digest).await?,
            };
            let (kind, size) = found.ok_or_else(|| error::manifest_unknown(&reference))?;
            let mut response = read::manifest_head(call, &place.name, digest, tag.is_some(), &kind);
            response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            let verdict = verdict.as_ref().map(|(id, verdict)| (&**id, *verdict));
            return Ok(place.sign(call, response, verdict));
        }
        None => {
            let found = fetch(call, &sourced(), digest).await?;
            let found = found.ok_or_else(|| error::manifest_unknown(&reference))?;
            verdict = Some((Arc::clone(&found.upstream.id), Verdict::Miss));
            found.stored
        }
    };
    if !(request.is_head() && tag.is_some()) {
        let tag = tag.map(|_| reference.to_string());
        call.note_pull(&place.name, digest, tag.as_deref());
    }
    if !request.is_head() {
        call.note_read(&place.name, &reference.to_string(), digest, &stored).await?;
    }
    let mut response = read::manifest_head(call, &place.name, digest, tag.is_some(), &stored.media_type);
    response.body = stored.bytes.clone().into();
    if tag.is_some_and(|copy| copy.verdict == Verdict::Stale) {
        response = response.static_header(header::WARNING, "110 - \"response is stale\"");
    }
    let verdict = verdict.as_ref().map(|(id, verdict)| (&**id, *verdict));
    Ok(place.sign(call, response, verdict))
}

/// Type and size of a manifest that is not here; `None` if no upstream has it.
async fn head(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<Option<(String, u64)>> {
    if call.is_absent(place, digest, true) {
        return Ok(None);
    }
    let mut trouble = None;
    for (upstream, repository) in place.by_digest(&mut trouble) {
        let target = target(&upstream, &repository, &format!("manifests/{digest}"));
        let ask = Ask::head(target).accept(MANIFESTS).scope(scope(&repository));
        match call.cx.upstream.head(&upstream, &ask, &format!("{}@{digest}", place.name)).await {
            Ok(Some(headers)) => {
                let size = text_of(&headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
                let facts = media_type_of(&headers).zip(size);
                return facts
                    .map(Some)
                    .ok_or_else(|| call.cx.upstream.distrust(&upstream, "it says nothing of a manifest"));
            }
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
    }
    call.note_absent(place, digest, true, trouble)
}

/// Fetches a manifest that is not here, unless somebody is at it; `None` if no upstream has it.
pub(super) async fn fetch(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<Option<Fetched>> {
    if call.is_absent(place, digest, true) {
        return Ok(None);
    }
    let flight =
        call.oci.flights.manifests.join(&(place.name.clone(), place.asked(), digest.clone()), || {
            let (desk, place, digest) = (Desk::of(call), place.clone(), digest.clone());
            async move { fetch_now(&desk.call(), &place, &digest).await }.boxed()
        });
    flight.await.map_err(|error| Error::repeat(&error))
}

async fn fetch_now(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<Option<Fetched>> {
    let mut trouble = None;
    for (upstream, repository) in place.by_digest(&mut trouble) {
        let target = target(&upstream, &repository, &format!("manifests/{digest}"));
        let ask = Ask::get(target).accept(MANIFESTS).scope(scope(&repository));
        let (what, limit) = (format!("{}@{digest}", place.name), call.oci.limits.manifest);
        let (headers, bytes) = match call.cx.upstream.ask(&upstream, &ask, &what, limit).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                trouble = Some(error);
                continue;
            }
        };
        match check(bytes, media_type_of(&headers), digest).await {
            Ok((bytes, manifest)) => {
                tracing::info!(upstream = %upstream.id, "{what} was fetched");
                let stored = Stored::cached(bytes, &manifest, upstream.folder());
                return keep(call, place, digest, stored, upstream).await;
            }
            Err(error) => {
                let why = format!("its manifest {digest} is none that is taken: {}", error.message());
                trouble = Some(call.cx.upstream.distrust(&upstream, &why));
            }
        }
    }
    call.note_absent(place, digest, true, trouble)
}

/// That it is what its digest says, and a manifest that can be read in one way only.
async fn check(bytes: Bytes, kind: Option<String>, digest: &Digest) -> Result<(Bytes, Manifest)> {
    let digest = digest.clone();
    off_thread(bytes.len() as u64, move || {
        let have = Digest::of(digest.algorithm(), &bytes);
        if have != digest {
            return Err(Error::invalid(format!("it hashes to {have}")));
        }
        // A type that says nothing is as good as none.
        let kind = kind.filter(|kind| {
            !matches!(kind.as_str(), "application/json" | "application/octet-stream" | "text/plain")
        });
        let kind = kind.unwrap_or_else(|| model::serve_type(None, &bytes).into_owned());
        let manifest = Manifest::parse(&bytes, Some(&kind), true)?;
        Ok((bytes, manifest))
    })
    .await
}

/// Stores it, its repository first. `None` if the name has become somebody's here meanwhile.
async fn keep(
    call: &Call<'_>,
    place: &Place,
    digest: &Digest,
    stored: Stored,
    upstream: Arc<Upstream>,
) -> Result<Option<Fetched>> {
    let stored = Arc::new(stored);
    if upstream.keeps() {
        if !call.mark_cached(&place.name, upstream.folder()).await? {
            return Ok(None);
        }
        let text = digest.to_string();
        let info = manifests::info(&place.name, &text, digest).content_type(stored.media_type.as_ref());
        let options = manifests::cached_options(&stored.media_type, upstream.folder());
        call.cx
            .objects
            .put(&keys::manifest(&place.name, digest)?, stored.bytes.clone(), options, &info)
            .await?;
        let id = (place.name.clone(), digest.clone());
        call.oci.known.manifests.insert(id, (Arc::clone(&stored), call.cx.clock.now()));
    }
    Ok(Some(Fetched { stored, upstream }))
}

impl Call<'_> {
    /// Whether all upstreams have said a moment ago that they do not have it.
    pub(super) fn is_absent(&self, place: &Place, digest: &Digest, manifest: bool) -> bool {
        let what = (place.name.clone(), place.asked(), digest.clone(), manifest);
        let Some(said) = self.oci.known.absent.get(&what) else { return false };
        let age = self.cx.clock.now().since(said);
        place.candidates.iter().flat_map(Candidates::iter).all(|upstream| age < upstream.negative_ttl())
    }

    /// None of them has it; unless one of them could not say, for which nothing is noted.
    pub(super) fn note_absent<T>(
        &self,
        place: &Place,
        digest: &Digest,
        manifest: bool,
        trouble: Option<Error>,
    ) -> Result<Option<T>> {
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let what = (place.name.clone(), place.asked(), digest.clone(), manifest);
        self.oci.known.absent.insert(what, self.cx.clock.now());
        Ok(None)
    }
}
