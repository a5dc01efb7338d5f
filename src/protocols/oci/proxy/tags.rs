//! What upstreams say of tags: which digest each names, and which there are.
//!
//! A tag is asked for with HEAD, which costs an upstream nothing and which Docker Hub does not count; its manifest is fetched by digest and only if
//! that is not here. The answer is kept as a document of the upstream: fresh for a while, served stale while its upstream is slow or gone.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::super::super::prelude::*;
use super::super::name::is_tag;
use super::super::{Call, keys};
use super::{MANIFESTS, Place, Reference, media_type_of, next_page, remote_name, scope, target, text_of};
use crate::upstream::{Copy, Gather, Gathered, Request as Ask, Source, Upstream, Upstreams};

/// Largest text of one tag.
const MAX_TAG_TEXT: u64 = 64 << 10;
/// Tags that are asked for at a time; upstreams may give fewer.
const PAGE: usize = 1000;
/// Pages of a list that are read, at most, and bytes of each.
const MAX_PAGES: usize = 200;
const MAX_PAGE: u64 = 4 << 20;
/// Tags of a list that are kept, at most.
const MAX_TAGS: usize = 100_000;

/// What a tag names at an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) digest: Digest,
    /// Type and size of the manifest, if the upstream said so without sending it.
    pub(super) facts: Option<(String, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    digest: String,
    media_type: Option<String>,
    size: Option<u64>,
}

/// What a tag names, from the first upstream that has it; `None` if none has.
pub(super) async fn look(call: &Call<'_>, place: &Place, tag: &str) -> Result<Option<Copy<Tag>>> {
    let Some(candidates) = &place.candidates else { return Ok(None) };
    let path = |upstream: &Upstream| keys::upstream_tag(&remote_name(upstream, candidates.name()), tag);
    if let Some(copy) = call.cx.upstream.held(&call.cx.objects, candidates, path).await {
        return Ok(Some(copy));
    }
    let source = |upstream: &Upstream| {
        let repository = remote_name(upstream, candidates.name());
        let path = keys::upstream_tag(&repository, tag);
        let what = format!("{}:{tag}", place.name);
        let upstreams = Arc::clone(&call.cx.upstream);
        let gather = TagGather {
            upstreams,
            repository,
            tag: tag.to_owned(),
            what: what.clone(),
            limit: call.oci.limits.manifest,
        };
        let request = Ask::gathered(Arc::new(gather));
        Source {
            request,
            path,
            what,
            limit: MAX_TAG_TEXT,
            immutable: false,
            parse: Arc::new(|bytes, _| parse_tag(bytes)),
        }
    };
    let found = call.cx.upstream.document(&call.cx.objects, candidates, source, false).await?;
    if let Some(copy) = &found {
        let (upstream, digest) = (&copy.upstream.id, &copy.loaded.document.digest);
        tracing::debug!(%upstream, verdict = copy.verdict.as_str(), "{}:{tag} is {digest}", place.name);
    }
    Ok(found)
}

fn parse_tag(bytes: &Bytes) -> Result<Tag> {
    let text: Text = serde_json::from_slice(bytes)
        .map_err(|error| Error::internal("what is kept of a tag is no JSON").with_source(error))?;
    let digest =
        Digest::parse(&text.digest).ok_or_else(|| Error::internal("what is kept of a tag has no digest"))?;
    Ok(Tag { digest, facts: text.media_type.zip(text.size) })
}

struct TagGather {
    upstreams: Arc<Upstreams>,
    repository: String,
    tag: String,
    what: String,
    limit: u64,
}

impl std::fmt::Debug for TagGather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TagGather({})", self.what)
    }
}

#[async_trait]
impl Gather for TagGather {
    async fn gather(&self, upstream: &Upstream, known: Option<&str>) -> Result<Option<Gathered>> {
        let target = target(upstream, &self.repository, &format!("manifests/{}", self.tag));
        let head = Ask::head(&target).accept(MANIFESTS).scope(scope(&self.repository));
        let Some(headers) = self.upstreams.head(upstream, &head, &self.what).await? else { return Ok(None) };
        let digest = text_of(&headers, "docker-content-digest").and_then(Digest::parse);
        if let Some(digest) = digest {
            let size = text_of(&headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
            return gathered(&digest, media_type_of(&headers), size, digest.to_string()).map(Some);
        }
        // Some say the digest of nothing: then what a tag names is known only from its bytes.
        let (_, etag) = known.and_then(|known| known.split_once(' ')).unwrap_or_default();
        let get = Ask::get(&target).accept(MANIFESTS).scope(scope(&self.repository));
        let get = if etag.is_empty() { get } else { get.unless(etag) };
        let found = self.upstreams.ask(upstream, &get, &self.what, self.limit).await?;
        let Some((headers, bytes)) = found else {
            // It was there a moment ago, so it is what it was; without a tag of it, it has gone since.
            let same = known.filter(|_| !etag.is_empty());
            return Ok(same.map(|known| Gathered { text: Bytes::new(), tag: known.to_owned() }));
        };
        let digest = Digest::sha256(&bytes);
        let etag = text_of(&headers, header::ETAG).unwrap_or_default();
        let tag = format!("{digest} {etag}");
        gathered(&digest, media_type_of(&headers), Some(bytes.len() as u64), tag).map(Some)
    }
}

fn gathered(digest: &Digest, media_type: Option<String>, size: Option<u64>, tag: String) -> Result<Gathered> {
    let text = Text { digest: digest.to_string(), media_type, size };
    Ok(Gathered { text: to_text(&text)?, tag })
}

fn to_text(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::internal("what an upstream said does not serialise").with_source(error))
}

/// The tags of a repository, in the order of their bytes; `None` if no upstream has it.
pub(in super::super) async fn list(call: &Call<'_>, place: &Place) -> Result<Option<Copy<Vec<String>>>> {
    let Some(candidates) = &place.candidates else { return Ok(None) };
    let source = |upstream: &Upstream| {
        let repository = remote_name(upstream, candidates.name());
        let path = keys::upstream_tags(&repository);
        let what = format!("the tags of {}", place.name);
        let gather = ListGather { upstreams: Arc::clone(&call.cx.upstream), repository, what: what.clone() };
        let request = Ask::gathered(Arc::new(gather));
        Source {
            request,
            path,
            what,
            limit: u64::MAX,
            immutable: false,
            parse: Arc::new(|bytes, _| parse_list(bytes)),
        }
    };
    call.cx.upstream.document(&call.cx.objects, candidates, source, false).await
}

fn parse_list(bytes: &Bytes) -> Result<Vec<String>> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::internal("what is kept of a list of tags is no JSON").with_source(error))
}

struct ListGather {
    upstreams: Arc<Upstreams>,
    repository: String,
    what: String,
}

impl std::fmt::Debug for ListGather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListGather({})", self.what)
    }
}

#[derive(Deserialize)]
struct ListPage {
    /// Some say null where they mean none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[async_trait]
impl Gather for ListGather {
    async fn gather(&self, upstream: &Upstream, _known: Option<&str>) -> Result<Option<Gathered>> {
        let mut tags = BTreeSet::new();
        let mut query = format!("n={PAGE}");
        for page in 0..MAX_PAGES {
            let target = target(upstream, &self.repository, &format!("tags/list?{query}"));
            let ask = Ask::get(target).accept("application/json").scope(scope(&self.repository)).compressed();
            let found = self.upstreams.ask(upstream, &ask, &self.what, MAX_PAGE).await?;
            let Some((headers, bytes)) = found else {
                if page == 0 {
                    return Ok(None);
                }
                break;
            };
            let list: ListPage = serde_json::from_slice(&bytes)
                .map_err(|_| self.upstreams.distrust(upstream, "its list of tags is none"))?;
            let before = tags.len();
            // What can be no tag can't be pulled either.
            tags.extend(list.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
            let next = next_page(&headers).filter(|next| *next != query && tags.len() > before);
            let Some(next) = next.filter(|_| tags.len() < MAX_TAGS) else { break };
            query = next;
        }
        let list: Vec<&String> = tags.iter().take(MAX_TAGS).collect();
        let text = to_text(&list)?;
        let tag = Digest::sha256(&text).to_string();
        Ok(Some(Gathered { text, tag }))
    }
}

/// What a client calls a manifest, and what it is: by digest as it says, by tag as an upstream says.
pub(super) enum Named {
    Digest(Digest),
    Tag(Copy<Tag>),
}

/// Finds out what a reference means; `None` if nobody has such a tag.
pub(super) async fn resolve(call: &Call<'_>, place: &Place, reference: &Reference) -> Result<Option<Named>> {
    Ok(match reference {
        Reference::Digest(digest) => Some(Named::Digest(digest.clone())),
        Reference::Tag(tag) => look(call, place, tag).await?.map(Named::Tag),
    })
}

impl Named {
    pub(super) fn digest(&self) -> &Digest {
        match self {
            Self::Digest(digest) => digest,
            Self::Tag(copy) => &copy.loaded.document.digest,
        }
    }

    pub(super) fn tag(&self) -> Option<&Copy<Tag>> {
        match self {
            Self::Digest(_) => None,
            Self::Tag(copy) => Some(copy),
        }
    }
}
