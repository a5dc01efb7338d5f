//! What other registries have, pulled through and kept: which repository is whose, and which upstreams are asked for it.
//!
//! A repository that is pulled through is an ordinary repository of ours that is filled on a miss, so ranges, redirects, garbage collection and the
//! cost of a warm hit are those of any other. Its marker names the upstream ([`Origin`]). A repository without that is owned, and no upstream
//! is ever asked for anything in it: neither for a tag that it lacks, nor a blob. Otherwise whoever takes its name elsewhere could put something in.
//!
//! | asked for | goes to |
//! |---|---|
//! | `library/nginx?ns=docker.io` (containerd) | the upstream with that namespace, kept as `docker.io/library/nginx` |
//! | `docker.io/library/nginx` | the same upstream, the same repository |
//! | `nginx` | every upstream whose rules cover it, in order |
//!
//! What names a digest for a tag is the upstream's word and is kept as its document ([`tags`]); what a digest names is checked and stored like
//! a push ([`manifests`], [`blobs`]). A blob that another repository has here is shown only if the upstream says that this repository has it too.

mod blobs;
mod flights;
mod manifests;
mod referrers;
mod tags;
mod upkeep;

pub(super) use blobs::get_missing as get_missing_blob;
pub(super) use flights::Flights;
pub(super) use manifests::get as get_manifest;
pub(super) use referrers::list as list_referrers;
pub(super) use tags::list as list_tags;
pub(super) use upkeep::{purge, warm};

use std::time::Duration;

use http::HeaderName;

use super::super::prelude::*;
use super::links::Origin;
use super::name::{Name, Reference};
use super::{Call, error};
use crate::upstream::{self, Candidates, Request as Ask, Upstream, Verdict};

/// How long an upstream's word holds that somebody may read a repository.
const OPENED: Duration = Duration::from_mins(5);
/// How long it is believed that a name is not ours by which an upstream's is meant.
const OTHERS: Duration = Duration::from_secs(5);
/// Docker Hub, which has `library/` in front of names without a slash.
const HUB: (&str, &str) = ("registry-1.docker.io", "docker.io");
const LIBRARY: &str = "library/";
/// Every type of manifest that there is: what an upstream would convert otherwise has another digest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.artifact.manifest.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A repository that a client pulls from.
#[derive(Clone)]
pub(super) struct Place {
    /// Its name here.
    pub(super) name: Name,
    /// Who may be asked for what is not here. Never of one that is owned.
    candidates: Option<Candidates>,
    /// Folder of the upstream that filled it.
    source: Option<Arc<str>>,
    /// What the client called the upstream.
    namespace: Option<String>,
}

impl Place {
    /// Finds the repository that a client means, and goes on only if it may pull from there.
    pub(super) async fn find(
        call: &Call<'_>,
        name: &Name,
        request: &Request,
        kind: &'static str,
    ) -> Result<Self> {
        let namespace = request.query.get("ns").filter(|ns| !ns.is_empty() && call.cx.upstream.is_used());
        let Some(namespace) = namespace else {
            call.authorize(name, Action::Pull).await?;
            let place = Self::of(call, name.clone(), kind).await?;
            return place.check_policy().map(|()| place);
        };
        // Whoever may not read it must not learn that it is there.
        if call.may_pull(name).await? && is_ours(call, name).await? {
            return Ok(Self { name: name.clone(), candidates: None, source: None, namespace: None });
        }
        let Some(within) = Name::parse(&format!("{}/{name}", component(namespace))) else {
            call.authorize(name, Action::Pull).await?;
            return Err(error::name_unknown(name));
        };
        call.authorize(&within, Action::Pull).await?;
        let place = Self::of(call, within, kind).await?;
        let known = place.candidates.as_ref().is_some_and(|candidates| candidates.within);
        // What is nobody's is not here, and the client goes on to where it would have gone without us.
        if !known && !is_ours(call, &place.name).await? {
            return Err(error::name_unknown(name));
        }
        place.check_policy()?;
        Ok(Self { namespace: Some(namespace.to_owned()), ..place })
    }

    /// The repository of this name, whoever asks.
    pub(super) async fn of(call: &Call<'_>, name: Name, kind: &'static str) -> Result<Self> {
        let mut place = Self { name, candidates: None, source: None, namespace: None };
        if !call.cx.upstream.is_used() {
            return Ok(place);
        }
        let origin = call.origin(&place.name).await?;
        if is_owned(call, &place.name, &origin).await? {
            return Ok(place);
        }
        let scope = place.name.as_str().split_once('/').map(|(first, _)| first);
        let question = call.cx.question(place.name.as_str(), scope, kind);
        let rest_of = |namespace: &str| {
            let rest = place.name.as_str().strip_prefix(&component(namespace))?.strip_prefix('/')?;
            Some(rest.to_owned())
        };
        let found = call.cx.upstream.candidates_within(question, &rest_of, also_called).await?;
        if let Origin::Cached(upstream) = origin {
            // What names a digest is as good from anybody, so who had the rest is asked first.
            place.source = Some(upstream);
        }
        place.candidates = found;
        Ok(place)
    }

    /// The same, asking this upstream first: it knows the tag.
    fn with_source(&self, upstream: Option<&Arc<Upstream>>) -> Self {
        let source = upstream.map(|upstream| upstream.folder().into()).or_else(|| self.source.clone());
        Self { source, ..self.clone() }
    }

    /// Goes on only if policy lets the name through, whether anything of it is here or not: it may have been blocked since.
    fn check_policy(&self) -> Result<()> {
        let Some(candidates) = &self.candidates else { return Ok(()) };
        let source = candidates.iter().find(|upstream| Some(upstream.folder()) == self.source.as_deref());
        if let Some(source) = source {
            return candidates.check_policy(source);
        }
        let mut blocked = Ok(());
        for upstream in candidates.iter() {
            blocked = candidates.check_policy(upstream);
            if blocked.is_ok() {
                break;
            }
        }
        blocked
    }

    /// Whether what is here may be shown. What came with credentials that may be one user's is shown to others only if the upstream, asked with theirs
    /// for the same thing, has it for them too; that holds for the repository, and for a while.
    pub(super) async fn opens(&self, call: &Call<'_>, rest: &str) -> Result<bool> {
        let Some(source) = self.source.as_deref().filter(|source| upstream::is_personal(source)) else {
            return Ok(true);
        };
        let Some(candidates) = &self.candidates else { return Ok(false) };
        if candidates.iter().any(|upstream| upstream.folder() == source) {
            return Ok(true);
        }
        let (mut trouble, now) = (None, call.cx.clock.now());
        for (upstream, repository) in self.by_digest(&mut trouble) {
            let id = (upstream.folder().to_owned(), self.name.clone());
            if call.oci.known.opened.get(&id).is_some_and(|said| now.since(said) < OPENED) {
                return Ok(true);
            }
            let ask =
                Ask::head(target(&upstream, &repository, rest)).accept(MANIFESTS).scope(scope(&repository));
            match call.cx.upstream.head(&upstream, &ask, rest).await {
                Ok(Some(_)) => {
                    call.oci.known.opened.insert(id, now);
                    return Ok(true);
                }
                Ok(None) => {}
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(false), Err)
    }

    /// Whether somebody elsewhere may have what is not here.
    pub(super) fn is_remote(&self) -> bool {
        self.candidates.is_some()
    }

    /// Who is asked, for what is shared or remembered of their answers: another user may be given others.
    fn asked(&self) -> String {
        let folders = self.candidates.iter().flat_map(Candidates::iter).map(|upstream| upstream.folder());
        folders.collect::<Vec<_>>().join("/")
    }

    /// The upstreams that may be asked for what a digest names, each with its name for the repository. Those that policy forbids are left out,
    /// and `trouble` says why.
    fn by_digest(&self, trouble: &mut Option<Error>) -> Vec<(Arc<Upstream>, String)> {
        let Some(candidates) = self.candidates.clone() else { return Vec::new() };
        let candidates = match &self.source {
            Some(source) => candidates.first(source),
            None => candidates,
        };
        let mut list = Vec::new();
        for upstream in candidates.iter() {
            match candidates.check_policy(upstream) {
                Ok(()) => list.push((Arc::clone(upstream), remote_name(upstream, candidates.name()))),
                Err(blocked) => *trouble = Some(blocked),
            }
        }
        list
    }

    /// What every answer about this repository says beside the answer itself.
    pub(super) fn sign(
        &self,
        call: &Call<'_>,
        mut response: Response,
        verdict: Option<(&str, Verdict)>,
    ) -> Response {
        const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
        const STATUS: HeaderName = HeaderName::from_static("cache-status");
        if let Some(namespace) = &self.namespace {
            response = response.header(NAMESPACE, namespace);
        }
        let verdict =
            verdict.or(self.source.as_deref().map(|source| (upstream::id_of(source), Verdict::Hit)));
        match verdict.filter(|_| call.oci.config.feature("cacheStatus", false)) {
            Some((id, verdict)) => response.header(STATUS, verdict.header(id)),
            None => response,
        }
    }
}

/// Whether a repository is ours, so that nobody else is asked for anything in it. The one place where this is decided.
async fn is_owned(call: &Call<'_>, name: &Name, origin: &Origin) -> Result<bool> {
    Ok(match origin {
        Origin::Owned => true,
        Origin::Cached(_) => false,
        // Another program's repository may have tags alone.
        Origin::Absent => call.tags(name).await?.is_some_and(|tags| tags.document.names().next().is_some()),
    })
}

/// The same for a name by which something of an upstream's is meant if it is not ours: that it is not is remembered for a moment, since a warm pull
/// should cost no look for what it is not after.
async fn is_ours(call: &Call<'_>, name: &Name) -> Result<bool> {
    let (others, now) = (&call.oci.known.others, call.cx.clock.now());
    if others.get(name).is_some_and(|seen| now.since(seen) < OTHERS) {
        return Ok(false);
    }
    let ours = is_owned(call, name, &call.origin(name).await?).await?;
    if !ours {
        others.insert(name.clone(), now);
    }
    Ok(ours)
}

/// Refuses a push into what is cached, before anything of it is taken in. What races with this is found when the push makes its repository known.
pub(super) async fn check_push(call: &Call<'_>, name: &Name) -> Result<()> {
    if !call.cx.upstream.is_used() {
        return Ok(());
    }
    match call.origin(name).await? {
        Origin::Cached(upstream) => Err(error::cached_repository(name, &upstream)),
        Origin::Owned | Origin::Absent => Ok(()),
    }
}

/// A namespace as a component of a repository's name: the colon of a port can't be in one.
fn component(namespace: &str) -> String {
    namespace.trim_matches('/').to_ascii_lowercase().replace(':', "-")
}

/// The other name by which rules may call what Docker Hub keeps below `library/`.
fn also_called(name: &str) -> Option<String> {
    match name.strip_prefix(LIBRARY) {
        Some(rest) => (!rest.contains('/')).then(|| rest.to_owned()),
        None => (!name.contains('/')).then(|| format!("{LIBRARY}{name}")),
    }
}

/// What an upstream calls a repository.
fn remote_name(upstream: &Upstream, name: &str) -> String {
    let hub = upstream.host() == HUB.0 || upstream.namespace == HUB.1;
    if hub && !name.contains('/') { format!("{LIBRARY}{name}") } else { name.to_owned() }
}

/// Where something of a repository is, below the upstream's base URL.
fn target(upstream: &Upstream, repository: &str, rest: &str) -> String {
    // An URL may be that of the API itself.
    let root = if upstream.base_path().ends_with("/v2/") { "" } else { "v2/" };
    format!("{root}{repository}/{rest}")
}

/// What a token is asked for.
fn scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// The query of the next page, if there is one. Only that is taken: where the page is, is known.
fn next_page(headers: &http::HeaderMap) -> Option<String> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|text| text.split(',')).find_map(|link| {
        let (url, params) = link.trim().strip_prefix('<')?.split_once('>')?;
        let rel = params.split(';').map(str::trim).any(|one| matches!(one, "rel=\"next\"" | "rel=next"));
        let (_, query) = url.split_once('?').filter(|_| rel)?;
        let plain = query.len() <= 2000 && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        plain.then(|| query.to_owned())
    })
}

/// A reference that a tag's document or a manifest may be asked for with.
fn text_of(headers: &http::HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A media type without its parameters.
fn media_type_of(headers: &http::HeaderMap) -> Option<String> {
    let text = text_of(headers, header::CONTENT_TYPE)?.split(';').next()?.trim().to_ascii_lowercase();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(link: &'static str) -> Option<String> {
        next_page(&http::HeaderMap::from_iter([(header::LINK, http::HeaderValue::from_static(link))]))
    }

    #[test]
    fn the_next_page_is_found_as_registries_write_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(next("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), some("n=2&last=b"));
        assert_eq!(next("<https://elsewhere.example/x?last=%2F>; rel=next"), some("last=%2F"));
        assert_eq!(next("</a?x=1>; rel=\"prev\", </b?y=2>; rel=\"next\""), some("y=2"));
        for bad in [
            "</v2/a/tags/list>; rel=\"next\"",
            "</a?b=1>",
            "nonsense",
            "</a?b c>; rel=next",
            "</a?b#c>; rel=next",
        ] {
            assert_eq!(next(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_go_both_ways() {
        assert_eq!(also_called("nginx").as_deref(), Some("library/nginx"));
        assert_eq!(also_called("library/nginx").as_deref(), Some("nginx"));
        assert_eq!(also_called("team/nginx"), None);
        assert_eq!(also_called("library/a/b"), None);
        assert_eq!(component("Localhost:5000"), "localhost-5000");
    }
}
