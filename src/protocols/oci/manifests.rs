//! Manifests as they lie in the bucket: read once, kept by digest, listed, and found by what they reference.

use std::borrow::Cow;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::super::prelude::*;
use super::links::{Link, PAGE, PARALLEL};
use super::model::{self, Manifest};
use super::name::Name;
use super::tags::TagList;
use super::{Call, keys};

/// Largest stored manifest that is read. Somebody else may have stored a larger one than we take.
pub(super) const MAX_STORED: u64 = 32 << 20;

/// A stored manifest.
#[derive(Debug)]
pub(super) struct Stored {
    /// The exact bytes.
    pub(super) bytes: Bytes,
    /// Content type it is served with.
    pub(super) media_type: Cow<'static, str>,
    /// What it references.
    references: Vec<Digest>,
    /// Whether what it needs was found in the repository when it was pushed.
    pub(super) complete: bool,
    /// Folder of the upstream that it was pulled from.
    pub(super) upstream: Option<Arc<str>>,
}

impl Stored {
    pub(super) fn new(
        bytes: Bytes,
        media_type: Cow<'static, str>,
        manifest: Option<&Manifest>,
        complete: bool,
    ) -> Self {
        let references =
            manifest.map(|manifest| manifest.references().map(|one| one.digest.clone()).collect());
        Self { bytes, media_type, references: references.unwrap_or_default(), complete, upstream: None }
    }

    /// The same, pulled from an upstream.
    pub(super) fn cached(bytes: Bytes, manifest: &Manifest, upstream: &str) -> Self {
        let stored = Self::new(bytes, manifest.media_type.clone(), Some(manifest), false);
        Self { upstream: Some(upstream.into()), ..stored }
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.bytes.len() + self.references.len() * 96 + 512).unwrap_or(u32::MAX)
    }

    fn references(&self, digest: &Digest) -> bool {
        self.references.contains(digest)
    }
}

/// Metadata of a manifest that was pushed here with everything it needs: what it names may be shown without asking again.
const COMPLETE: &str = "sr-complete";

/// Metadata of a manifest that was pulled from an upstream: which. With it a repository whose marker is lost is not taken for ours.
const UPSTREAM: &str = "sr-upstream";

/// How a manifest is written that was pulled from an upstream. It is never complete: nobody has looked whether what it names is here.
pub(super) fn cached_options(media_type: &str, upstream: &str) -> PutOptions {
    let user = [(UPSTREAM.to_owned(), upstream.to_owned())].into_iter().collect();
    PutOptions { content_type: Some(media_type.to_owned()), user, ..PutOptions::default() }
}

/// How a manifest is written.
pub(super) fn options(media_type: &str, complete: bool) -> PutOptions {
    let user = complete.then(|| (COMPLETE.to_owned(), "1".to_owned())).into_iter().collect();
    PutOptions { content_type: Some(media_type.to_owned()), user, ..PutOptions::default() }
}

/// What hooks learn of a manifest.
pub(super) fn info(name: &Name, reference: &str, digest: &Digest) -> ObjectInfo {
    ObjectInfo::of(name.as_str()).version(reference).digest(digest.to_string())
}

impl Call<'_> {
    /// A manifest by digest. `named` if a tag names it, or a listing: then it is there, and bytes in memory are as good as stored ones.
    pub(super) async fn manifest(
        &self,
        name: &Name,
        digest: &Digest,
        named: bool,
    ) -> Result<Option<Arc<Stored>>> {
        let id = (name.clone(), digest.clone());
        let known = &self.oci.known.manifests;
        let key = keys::manifest(name, digest)?;
        if let Some((stored, seen)) = known.get(&id) {
            if named || self.believed(seen) {
                return Ok(Some(stored));
            }
            if self.cx.objects.stat(&key).await?.is_some() {
                known.insert(id, (Arc::clone(&stored), self.cx.clock.now()));
                return Ok(Some(stored));
            }
            known.invalidate(&id);
            return Ok(None);
        }
        let info = info(name, &digest.to_string(), digest);
        let Some(found) = self.cx.objects.read(&key, GetOptions::default(), &info).await? else {
            return Ok(None);
        };
        let complete = found.meta.user.contains_key(COMPLETE);
        let upstream = found.meta.user.get(UPSTREAM).map(|id| Arc::from(id.as_str()));
        let content_type = found.meta.content_type;
        let body = Body::stream(found.body, Some(found.meta.size));
        let bytes = body.into_bytes("manifest", MAX_STORED).await?;
        let digest = digest.clone();
        let check = move || {
            if Digest::of(digest.algorithm(), &bytes) != digest {
                return Err(Error::internal(format!("the stored manifest {digest} is damaged")));
            }
            let manifest = Manifest::parse_stored(&bytes);
            let media_type = model::serve_type(content_type.as_deref(), &bytes);
            let stored = Stored::new(bytes, media_type, manifest.as_ref(), complete);
            Ok((Stored { upstream, ..stored }, manifest))
        };
        let (stored, manifest) = off_thread(found.meta.size, check).await?;
        let stored = Arc::new(stored);
        // Whoever has the manifest asks for its blobs next. What it had to have when it was pushed is visible; what may be absent, or was
        // never checked, is not taken on trust, since anybody can name any digest there.
        for one in manifest
            .iter()
            .filter(|_| complete)
            .flat_map(|manifest| &manifest.blobs)
            .filter(|one| !one.foreign)
        {
            self.remember_link(name, &one.digest, Link { size: one.size, modified: None });
        }
        known.insert(id, (Arc::clone(&stored), self.cx.clock.now()));
        Ok(Some(stored))
    }

    /// The newest tag list; `None` if the repository has none.
    pub(super) async fn tags(&self, name: &Name) -> Result<Option<Arc<Loaded<TagList>>>> {
        self.cx.index.document(&self.cx.objects, name.as_str(), &keys::tags(name)?).await
    }

    /// Lists a manifest among the referrers of its subject.
    pub(super) async fn put_referrer(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let Some(subject) = &manifest.subject else { return Ok(()) };
        self.put_own(&keys::referrer(name, subject, digest)?, &manifest.as_referrer(digest, size)).await
    }

    /// The digests of a repository's manifests after one key, and where to go on. Nested repositories are left out.
    pub(super) async fn manifest_page(
        &self,
        name: &Name,
        after: Option<String>,
    ) -> Result<(Vec<Digest>, Option<String>)> {
        let prefix = keys::manifests(name)?;
        let page = self.cx.objects.list(&prefix, after.as_deref(), PAGE, true).await?;
        Ok((page.objects.iter().filter_map(|one| keys::manifest_of(&prefix, &one.key)).collect(), page.next))
    }

    /// A manifest of this repository, other than itself, that references `digest`: as a blob or as the child of an index. Costs a listing, and a read of
    /// those manifests of which this process does not know what they name.
    pub(super) async fn referenced_by(&self, name: &Name, digest: &Digest) -> Result<Option<Digest>> {
        let mut after = None;
        loop {
            let (page, next) = self.manifest_page(name, after).await?;
            let checks: Vec<_> =
                page.into_iter().map(|one| self.references(name, one, digest).boxed()).collect();
            let mut checks = stream::iter(checks).buffer_unordered(PARALLEL);
            while let Some(hit) = checks.try_next().await? {
                if hit.is_some() {
                    return Ok(hit);
                }
            }
            if next.is_none() {
                return Ok(None);
            }
            after = next;
        }
    }

    /// `one` itself, if it references `digest`.
    async fn references(&self, name: &Name, one: Digest, digest: &Digest) -> Result<Option<Digest>> {
        if one == *digest {
            return Ok(None);
        }
        let known = &self.oci.known.named;
        // Most name something else, which the beginnings of the digests tell.
        if known.get(&one).is_some_and(|named| !named.contains(&beginning(digest))) {
            return Ok(None);
        }
        let Some(stored) = self.manifest(name, &one, true).await? else { return Ok(None) };
        known.insert(one.clone(), stored.references.iter().map(beginning).collect());
        Ok(stored.references(digest).then_some(one))
    }
}

/// The first 64 bits of a digest.
fn beginning(digest: &Digest) -> u64 {
    digest.hex().get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

/// The bytes of a stored manifest, and whether it came with everything it names; past what this process knows.
pub(super) async fn read(cx: &Cx, key: &Key) -> Result<Option<(Bytes, bool)>> {
    let found = cx.objects.read(key, GetOptions::default(), &ObjectInfo::default()).await?;
    let Some(found) = found else { return Ok(None) };
    let complete = found.meta.user.contains_key(COMPLETE);
    let bytes = Body::stream(found.body, Some(found.meta.size)).into_bytes("manifest", MAX_STORED).await?;
    Ok(Some((bytes, complete)))
}

/// Runs `work` over `size` bytes: here if they are few, else where blocking is allowed.
pub(super) async fn off_thread<T: Send + 'static>(
    size: u64,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if size < 64 << 10 {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a manifest could not be checked").with_source(error))?
}
