//! Emptying and filling by hand.

use std::collections::HashSet;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::super::super::prelude::*;
use super::super::links::Origin;
use super::super::model::Manifest;
use super::super::name::{Name, Reference};
use super::super::{Call, error, inventory, keys, name};
use super::blobs::{self, Taken};
use super::{Place, manifests, remote_name, tags};
use crate::upstream::Candidates;

/// Blobs that are fetched at the same time: an upstream has other clients too.
const AT_ONCE: usize = 4;
/// Manifests that one name may bring, at most: an index of indexes has an end.
const MAX_MANIFESTS: usize = 1000;
/// Tag that is meant where none is given.
const LATEST: &str = "latest";

/// Forgets what is cached under a name, or under all: what upstreams said, and the manifests. Blobs that nothing names are the garbage collection's.
pub(in super::super) async fn purge(call: &Call<'_>, name: Option<&str>) -> Result<u64> {
    if let Some(name) = name {
        let name = parse(name)?;
        if call.origin(&name).await? == Origin::Owned {
            return Err(not_cached(&name));
        }
        return purge_one(call, &name).await;
    }
    let (mut removed, mut after) = (0, None);
    loop {
        let page = call
            .cx
            .objects
            .list(&keys::repositories()?, after.as_deref(), super::super::links::PAGE, false)
            .await?;
        for name in page.objects.iter().filter_map(|one| keys::repository_of(&one.key)) {
            if matches!(call.origin(&name).await?, Origin::Cached(_)) {
                removed += purge_one(call, &name).await?;
            }
        }
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    Ok(removed + call.cx.upstream.purge_all(&call.cx.objects).await?)
}

async fn purge_one(call: &Call<'_>, name: &Name) -> Result<u64> {
    let mut removed = 0;
    let place = Place::of(call, name.clone(), "manifest").await?;
    if let Some(candidates) = &place.candidates {
        for upstream in candidates.iter() {
            let path = keys::upstream_repository(&remote_name(upstream, candidates.name()));
            removed += call.cx.upstream.purge(&call.cx.objects, &Candidates::of(upstream), &path).await?;
        }
    }
    // Their marker last: what is left by a crash still says whose it is.
    let mut after = None;
    loop {
        let (digests, next) = call.manifest_page(name, after).await?;
        for digest in digests {
            let info = super::super::manifests::info(name, &digest.to_string(), &digest);
            call.cx.objects.delete(&keys::manifest(name, &digest)?, &info).await?;
            call.oci.known.manifests.invalidate(&(name.clone(), digest));
            removed += 1;
        }
        let Some(next) = next else { break };
        after = Some(next);
    }
    if matches!(call.origin(name).await?, Origin::Cached(_)) {
        call.cx.objects.delete(&keys::repository(name)?, &ObjectInfo::default()).await?;
        inventory::record_gone(call.cx, name).await;
        removed += 1;
    }
    call.oci.known.forget_repository(name).await;
    Ok(removed)
}

/// Fetches `name`, `name:tag` or `name@digest`: the manifest, those that it lists, and their blobs.
pub(in super::super) async fn warm(call: &Call<'_>, text: &str) -> Result<u64> {
    let (name, reference) = if let Some((name, digest)) = text.split_once('@') {
        (name, Reference::Digest(name::digest(digest)?))
    } else {
        let (name, tag) = text.rsplit_once(':').unwrap_or((text, LATEST));
        (name, Reference::parse(tag)?)
    };
    let name = parse(name)?;
    let place = Place::of(call, name.clone(), "manifest").await?;
    if !place.is_remote() {
        return Err(not_cached(&name));
    }
    let named = tags::resolve(call, &place, &reference).await?;
    let named = named.ok_or_else(|| error::manifest_unknown(&reference))?;
    let place = place.with_source(named.tag().map(|copy| &copy.upstream));
    let (mut fetched, mut seen, mut next) = (0, HashSet::new(), vec![named.digest().clone()]);
    let mut wanted = HashSet::new();
    while let Some(digest) = next.pop() {
        if seen.len() >= MAX_MANIFESTS || !seen.insert(digest.clone()) {
            continue;
        }
        let stored = if let Some(stored) = call.manifest(&name, &digest, false).await? {
            stored
        } else {
            let found = manifests::fetch(call, &place, &digest).await?;
            fetched += 1;
            found.ok_or_else(|| error::manifest_unknown(&digest))?.stored
        };
        let Some(manifest) = Manifest::parse_stored(&stored.bytes) else { continue };
        next.extend(manifest.children.into_iter().map(|child| child.digest));
        // What lies elsewhere is fetched by who wants it: an address in a manifest may be anybody's.
        wanted.extend(manifest.blobs.into_iter().filter(|blob| !blob.foreign).map(|blob| blob.digest));
    }
    let work: Vec<_> = wanted.iter().map(|digest| warm_blob(call, &place, digest).boxed()).collect();
    let counts: Vec<u64> = stream::iter(work).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(fetched + counts.into_iter().sum::<u64>())
}

async fn warm_blob(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<u64> {
    if call.visible(&place.name, digest).await?.is_some() {
        return Ok(0);
    }
    match blobs::take(call, place, digest).await?.ok_or_else(|| error::blob_unknown(digest))? {
        Taken::Coming { linked: Some(linked), .. } => {
            linked.await.map_err(|error| Error::repeat(&error))?;
            Ok(1)
        }
        Taken::Here(..) => Ok(1),
        Taken::Coming { linked: None, .. } => Ok(0),
    }
}

fn parse(text: &str) -> Result<Name> {
    Name::parse(text).ok_or_else(|| error::name_invalid("this is no name of a repository"))
}

fn not_cached(name: &Name) -> Error {
    let message = format!("{name} is not cached from an upstream: what was pushed here is no cache");
    Error::new(Kind::Conflict, message).with_code("DENIED")
}
