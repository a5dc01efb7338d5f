//! Which blobs a repository can see, and which repositories there are.
//!
//! A blob is stored once for all, so that it exists says nothing: it is visible where a link says so, and everything that asks for a
//! blob (HEAD, GET, mount, the reference check of a push) asks here. A repository that was filled by another program has no links:
//! the first miss reads its manifests, links what they reference, and leaves a marker that this was done.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::prelude::*;
use super::manifests::Stored;
use super::model::{Descriptor, Manifest};
use super::name::Name;
use super::{Call, error, inventory, keys};
use crate::core::time::Timestamp;

/// How long this process believes that a repository is (still) there.
const REPOSITORY_BELIEVED: Duration = Duration::from_mins(10);
/// Requests to the store in flight for one request of a client.
pub(super) const PARALLEL: usize = 16;
/// One page of a listing.
pub(super) const PAGE: usize = 1000;

/// What this process has seen, bounded; nothing in it is the truth.
pub(super) struct Known {
    /// Manifests by digest. The bytes never change; when they were last known to be there stands beside them.
    pub(super) manifests: Cache<(Name, Digest), (Arc<Stored>, Timestamp)>,
    /// Referrers' descriptors.
    pub(super) referrers: Cache<Key, Arc<Value>>,
    /// By subject, how many referrers it has at most, as far as this process knows.
    pub(super) counts: Cache<(Name, Digest), usize>,
    /// By subject, the index under its fallback tag that was taken over.
    pub(super) fallbacks: Cache<(Name, Digest), Digest>,
    links: Cache<(Name, Digest), (Link, Timestamp)>,
    /// Those that are ours: what was, stays. Those who create one at the same time share one creation.
    repositories: moka::future::Cache<Name, ()>,
    /// Those that are filled from upstreams, as far as this process knows.
    filled: Cache<Name, ()>,
    /// Those that were not ours when this process last looked, for who asks for something else by the same name.
    pub(super) others: Cache<Name, Timestamp>,
    /// Manifests (`true`) and blobs that none of the upstreams has that are asked, and when they said so.
    pub(super) absent: Cache<(Name, String, Digest, bool), Timestamp>,
    /// Repositories that an upstream opens to these credentials, and when it said so.
    pub(super) opened: Cache<(String, Name), Timestamp>,
}

impl Known {
    pub(super) fn new(bytes: u64) -> Self {
        let weigh = |_: &(Name, Digest), (stored, _): &(Arc<Stored>, Timestamp)| stored.weight();
        Self {
            manifests: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            referrers: Cache::new(50_000),
            counts: Cache::new(20_000),
            fallbacks: Cache::new(20_000),
            links: Cache::new(200_000),
            repositories: moka::future::Cache::builder()
                .max_capacity(100_000)
                .time_to_live(REPOSITORY_BELIEVED)
                .build(),
            filled: Cache::new(100_000),
            others: Cache::new(20_000),
            absent: Cache::new(50_000),
            opened: Cache::new(20_000),
        }
    }

    /// A repository is there no more.
    pub(super) async fn forget_repository(&self, name: &Name) {
        self.repositories.invalidate(name).await;
    }
}

/// That a blob is visible in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Size of the blob in bytes.
    pub(super) size: u64,
    /// When the link was written; `None` if this process knows only that it must be there.
    pub(super) modified: Option<Timestamp>,
}

/// Whose a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is none.
    Absent,
    /// Ours: what was pushed here, or by another program into the bucket. No upstream is ever asked for it.
    Owned,
    /// What was pulled from the upstream with this folder.
    Cached(Arc<str>),
}

/// That there is a repository, and whose it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Marker {
    created: String,
    /// Folder of the upstream that filled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
}

impl JsonDocument for Marker {
    const LIMIT: u64 = 64 << 10;
    const NAME: &'static str = "marker of a repository";
}

impl Origin {
    /// Of a repository with this and that in it: one thing of ours makes it ours.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, other) => other,
            (Self::Cached(id), Self::Absent | Self::Cached(_)) => Self::Cached(id),
            _ => Self::Owned,
        }
    }
}

/// What is known of a repository.
struct Repository {
    origin: Origin,
    /// It had manifests and no links; it has now.
    adopted: bool,
}

impl Call<'_> {
    /// Whether something seen at that moment is still believed. Another process's deletion shows after that.
    pub(super) fn believed(&self, seen: Timestamp) -> bool {
        let age = self.cx.clock.now().as_millis() - seen.as_millis();
        u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) < self.belief())
    }

    /// The size of a blob if this repository can see it. Costs nothing when it was seen a moment ago.
    pub(super) async fn visible(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let link = match self.believed_link(name, digest) {
            Some(link) => Some(link),
            None => self.linked(name, digest).await?,
        };
        Ok(link.map(|link| link.size))
    }

    /// The link as this process saw it a moment ago.
    pub(super) fn believed_link(&self, name: &Name, digest: &Digest) -> Option<Link> {
        let (link, seen) = self.oci.known.links.get(&(name.clone(), digest.clone()))?;
        self.believed(seen).then_some(link)
    }

    /// The link as the store has it.
    pub(super) async fn linked(&self, name: &Name, digest: &Digest) -> Result<Option<Link>> {
        let mut link = self.read_link(name, digest).await?;
        if link.is_none() && self.repository(name).await?.adopted {
            link = self.read_link(name, digest).await?;
        }
        match link {
            Some(link) => self.remember_link(name, digest, link),
            None => self.forget_link(name, digest),
        }
        Ok(link)
    }

    async fn read_link(&self, name: &Name, digest: &Digest) -> Result<Option<Link>> {
        let Some((bytes, meta)) = self.cx.objects.inspect(&keys::link(name, digest)?, "link", 1024).await?
        else {
            return Ok(None);
        };
        let modified = Some(meta.modified);
        let size = serde_json::from_slice::<Value>(&bytes).ok().and_then(|link| link.get("size")?.as_u64());
        if let Some(size) = size {
            return Ok(Some(Link { size, modified }));
        }
        let blob = self.cx.objects.stat(&keys::blob(digest)?).await?;
        Ok(blob.map(|meta| Link { size: meta.size, modified }))
    }

    /// A small object of ours, whole.
    pub(super) async fn read_small(&self, key: &Key, what: &str, limit: u64) -> Result<Option<Bytes>> {
        let found = self.cx.objects.read(key, GetOptions::default(), &ObjectInfo::default()).await?;
        let Some(found) = found else { return Ok(None) };
        Body::stream(found.body, Some(found.meta.size)).into_bytes(what, limit).await.map(Some)
    }

    pub(super) fn remember_link(&self, name: &Name, digest: &Digest, link: Link) {
        self.oci.known.links.insert((name.clone(), digest.clone()), (link, self.cx.clock.now()));
    }

    fn forget_link(&self, name: &Name, digest: &Digest) {
        self.oci.known.links.invalidate(&(name.clone(), digest.clone()));
    }

    /// Makes a blob visible in a repository, which comes into being with it. The blob was durable at `known`. `false` if it was removed
    /// meanwhile, since nothing had named it.
    pub(super) async fn link(&self, name: &Name, digest: &Digest, size: u64, known: Instant) -> Result<bool> {
        self.write_link(name, digest, size).await?;
        self.create_repository(name).await?;
        self.settle(name, digest, size, known).await
    }

    pub(super) async fn write_link(&self, name: &Name, digest: &Digest, size: u64) -> Result<()> {
        self.put_own(&keys::link(name, digest)?, &json!({ "size": size })).await?;
        self.remember_link(name, digest, Link { size, modified: Some(self.cx.clock.now()) });
        Ok(())
    }

    /// Hides a blob from a repository. The bytes stay: others may see them.
    pub(super) async fn unlink(&self, name: &Name, digest: &Digest) -> Result<()> {
        self.forget_link(name, digest);
        self.cx.objects.delete(&keys::link(name, digest)?, &ObjectInfo::default()).await
    }

    /// Writes a small object of ours; equal bytes over equal bytes.
    pub(super) async fn put_own(&self, key: &Key, value: &Value) -> Result<()> {
        let options =
            PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
        let bytes = Bytes::from(value.to_string());
        self.cx.objects.put(key, bytes, options, &ObjectInfo::default()).await.map(|_| ())
    }

    /// A repository other than none that holds a blob and that the caller may pull from: for a mount that names no source.
    pub(super) async fn find_holder(&self, digest: &Digest) -> Result<Option<u64>> {
        let prefix = keys::links(digest)?;
        // One page is enough to try: this only saves a client an upload.
        let page = self.cx.objects.list(&prefix, None, 100, false).await?;
        for name in page.objects.iter().filter_map(|listed| keys::link_of(&prefix, &listed.key)) {
            if self.may_pull(&name).await?
                && let Some(link) = self.read_link(&name, digest).await?
            {
                return Ok(Some(link.size));
            }
        }
        Ok(None)
    }

    /// Whether there is such a repository.
    pub(super) async fn repository_exists(&self, name: &Name) -> Result<bool> {
        Ok(self.origin(name).await? != Origin::Absent)
    }

    /// Whose a repository is.
    pub(super) async fn origin(&self, name: &Name) -> Result<Origin> {
        self.repository(name).await.map(|repository| repository.origin)
    }

    /// Makes the repository known, before the first thing in it. The first pushes often come at once, a client's layers side by side:
    /// one of them looks and creates for all. One that leaves midway hands over to the next; a failure is everybody's and is not kept.
    pub(super) async fn create_repository(&self, name: &Name) -> Result<()> {
        let known = &self.oci.known.repositories;
        let created = known.try_get_with_by_ref(name, self.recreate_repository(name)).await;
        created.map_err(|error| Error::repeat(&error))
    }

    /// The same for who has just removed it, and must not be told what somebody saw before that.
    pub(super) async fn recreate_repository(&self, name: &Name) -> Result<()> {
        match self.origin(name).await? {
            Origin::Absent => self.mark(name).await,
            Origin::Owned => Ok(()),
            Origin::Cached(upstream) => Err(error::cached_repository(name, &upstream)),
        }
    }

    async fn mark(&self, name: &Name) -> Result<()> {
        let created = self.cx.clock.now().rfc3339();
        self.put_own(&keys::repository(name)?, &json!({ "created": created })).await?;
        self.remember_owned(name).await;
        inventory::record(self.cx, name, "create", &[]).await;
        Ok(())
    }

    /// Makes a repository known that is filled from an upstream. `false` if it is somebody's here: that is decided by who comes first.
    pub(super) async fn mark_cached(&self, name: &Name, upstream: &str) -> Result<bool> {
        match self.origin(name).await? {
            Origin::Cached(_) => return Ok(true),
            Origin::Owned => return Ok(false),
            Origin::Absent => {}
        }
        if self.put_cached(name, upstream, Condition::Absent).await? {
            return Ok(true);
        }
        Ok(matches!(self.origin(name).await?, Origin::Cached(_)))
    }

    /// Writes the marker of a repository that is filled from an upstream; `false` if the condition does not hold.
    async fn put_cached(&self, name: &Name, upstream: &str, condition: Condition) -> Result<bool> {
        let created = self.cx.clock.now().rfc3339();
        let marker = json!({ "created": created, "upstream": upstream }).to_string();
        let content_type = Some("application/json".to_owned());
        let options = PutOptions { condition, content_type, ..PutOptions::default() };
        let (key, info) = (keys::repository(name)?, ObjectInfo::default());
        let written = self.cx.objects.put(&key, marker.into(), options, &info).await?.is_some();
        if written {
            // Nobody has made anything here: that is another event than `create`.
            inventory::record(self.cx, name, "cache", &[]).await;
        }
        Ok(written)
    }

    async fn remember_owned(&self, name: &Name) {
        self.oci.known.repositories.insert(name.clone(), ()).await;
        self.oci.known.others.invalidate(name);
    }

    async fn repository(&self, name: &Name) -> Result<Repository> {
        if self.oci.known.repositories.contains_key(name) {
            return Ok(Repository { origin: Origin::Owned, adopted: false });
        }
        if let Some(marker) = self.marker(name).await? {
            let origin = match &marker.document.upstream {
                Some(upstream) => Origin::Cached(upstream.as_str().into()),
                None => Origin::Owned,
            };
            if origin == Origin::Owned {
                self.remember_owned(name).await;
            } else {
                self.oci.known.filled.insert(name.clone(), ());
            }
            return Ok(Repository { origin, adopted: false });
        }
        let origin = self.adopt(name).await?;
        match &origin {
            Origin::Absent => {}
            Origin::Owned => self.mark(name).await?,
            // Its marker was lost, and what it holds says whose it is.
            Origin::Cached(upstream) => {
                self.put_cached(name, upstream, Condition::Always).await?;
            }
        }
        Ok(Repository { adopted: origin == Origin::Owned, origin })
    }

    /// The marker. What is cached may be purged elsewhere and be somebody's a moment later, which the feed tells; that there is none is always asked of
    /// the store, since it lets upstreams be asked.
    async fn marker(&self, name: &Name) -> Result<Option<Arc<Loaded<Marker>>>> {
        let (objects, key) = (&self.cx.objects, keys::repository(name)?);
        if self.oci.known.filled.contains_key(name) {
            let marker = self.cx.index.document::<Marker>(objects, name.as_str(), &key).await?;
            if marker.is_some() {
                return Ok(marker);
            }
        }
        objects.document_revalidated(&key).await
    }

    /// Links what the manifests of a repository reference and lists its referrers, as if they had been pushed here; whose they are.
    async fn adopt(&self, name: &Name) -> Result<Origin> {
        let (mut found, mut after) = (Origin::Absent, None);
        loop {
            let (page, next) = self.manifest_page(name, after).await?;
            let work: Vec<_> =
                page.into_iter().map(|digest| self.adopt_manifest(name, digest).boxed()).collect();
            let origins: Vec<_> = stream::iter(work).buffer_unordered(PARALLEL).try_collect().await?;
            found = origins.into_iter().fold(found, Origin::with);
            if next.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    async fn adopt_manifest(&self, name: &Name, digest: Digest) -> Result<Origin> {
        let Some(stored) = self.manifest(name, &digest, true).await? else { return Ok(Origin::Absent) };
        // What somebody elsewhere names is not theirs to see here: only their registry can say so.
        if let Some(upstream) = &stored.upstream {
            return Ok(Origin::Cached(Arc::clone(upstream)));
        }
        let Some(manifest) = Manifest::parse_stored(&stored.bytes) else { return Ok(Origin::Owned) };
        if manifest.subject.is_some() {
            self.put_referrer(name, &manifest, &digest, stored.bytes.len() as u64).await?;
        }
        for Descriptor { digest, foreign, .. } in manifest.references() {
            if !foreign && let Some(meta) = self.cx.objects.stat(&keys::blob(digest)?).await? {
                self.write_link(name, digest, meta.size).await?;
            }
        }
        Ok(Origin::Owned)
    }
}
