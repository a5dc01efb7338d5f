//! What refers to a manifest: signatures, SBOMs, attestations. Listed here, and taken over from the tags that clients kept them under before
//! there was such a list.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};

use super::super::prelude::*;
use super::links::{PAGE, PARALLEL};
use super::model::Manifest;
use super::name::{self, Name};
use super::read::UNRESERVED;
use super::{Call, keys, model};

/// Size that a page of referrers stays below: clients read no larger index than a manifest.
const MAX_REFERRERS: usize = 3 << 20;

/// `GET /v2/<name>/referrers/<digest>`: always 200 for a well-formed digest. oras takes a 404 to mean that there is no such API at all.
pub(super) async fn list_referrers(
    call: &Call<'_>,
    name: &Name,
    subject: &str,
    request: &Request,
) -> Result<Response> {
    call.authorize(name, Action::Pull).await?;
    let subject = name::digest(subject)?;
    // A repository from before us gets its referrers listed now.
    call.repository_exists(name).await?;
    adopt_fallback(call, name, &subject).await?;
    let filters: Vec<&str> = request.query.all("artifactType").filter(|text| !text.is_empty()).collect();
    let prefix = keys::referrers(name, &subject)?;
    let last = request.query.get("last").and_then(Digest::parse);
    let mut after =
        last.map(|last| keys::referrer(name, &subject, &last)).transpose()?.map(|key| key.to_string());
    let mut entries: Vec<Value> = Vec::new();
    let mut size = 0;
    let mut next = None;
    'pages: loop {
        let page = call.cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
        let reads: Vec<_> = page.objects.into_iter().map(|one| referrer(call, one.key).boxed()).collect();
        let found: Vec<Option<Arc<Value>>> = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
        for entry in found.into_iter().flatten() {
            let matches = |filter: &&str| entry.get("artifactType").and_then(Value::as_str) == Some(*filter);
            if !filters.is_empty() && !filters.iter().any(matches) {
                continue;
            }
            size += entry.to_string().len();
            if size > MAX_REFERRERS && !entries.is_empty() {
                next = entries.last().and_then(|last| last.get("digest")?.as_str().map(str::to_owned));
                break 'pages;
            }
            entries.push(Value::clone(&entry));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": model::OCI_INDEX, "manifests": entries });
    let mut response =
        Response::json(StatusCode::OK, &index).static_header(header::CONTENT_TYPE, model::OCI_INDEX);
    if !filters.is_empty() {
        response = response.header("oci-filters-applied", "artifactType");
    }
    if let Some(last) = next {
        let mut query = format!("last={last}");
        for filter in filters {
            query.push_str("&artifactType=");
            query.extend(utf8_percent_encode(filter, UNRESERVED));
        }
        let link = call.site.link(&format!("{name}/referrers/{subject}?{query}"));
        response = response.header(header::LINK, format!("<{link}>; rel=\"next\""));
    }
    Ok(response)
}

/// One referrer's descriptor. It never changes under its key.
async fn referrer(call: &Call<'_>, key: Key) -> Result<Option<Arc<Value>>> {
    if let Some(entry) = call.oci.known.referrers.get(&key) {
        return Ok(Some(entry));
    }
    // Annotations count in full, so an entry can be as large as a manifest.
    let limit = call.oci.limits.manifest * 2;
    let Some(bytes) = call.read_small(&key, "referrer", limit).await? else { return Ok(None) };
    let Ok(entry) = serde_json::from_slice::<Value>(&bytes) else { return Ok(None) };
    let entry = Arc::new(entry);
    if bytes.len() < 4096 {
        call.oci.known.referrers.insert(key, Arc::clone(&entry));
    }
    Ok(Some(entry))
}

/// Refuses one more referrer of a subject that has as many as it may (`limits.referrers`): each is stored, and read with every list.
///
/// The count is this process's own, taken from the store when it is not known or reached, so a race can go a little beyond.
pub(super) async fn check_room(
    call: &Call<'_>,
    name: &Name,
    manifest: &Manifest,
    digest: &Digest,
) -> Result<()> {
    let Some(subject) = &manifest.subject else { return Ok(()) };
    let (most, counts) = (call.oci.limits.referrers, &call.oci.known.counts);
    let id = (name.clone(), subject.clone());
    if let Some(count) = counts.get(&id)
        && count < most
    {
        counts.insert(id, count + 1);
        return Ok(());
    }
    let prefix = keys::referrers(name, subject)?;
    let own = keys::referrer(name, subject, digest)?;
    let (mut count, mut after) = (0, None);
    while count < most {
        let page = call.cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
        count += page.objects.iter().filter(|one| one.key != own).count();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if count >= most {
        counts.invalidate(&id);
        return Err(Error::denied(format!("{subject} has {most} referrers already; delete some of them"))
            .with_code("DENIED"));
    }
    counts.insert(id, count + 1);
    Ok(())
}

/// Lists what an index under the subject's fallback tag lists, if it is there and has this subject. Clients of a registry without this
/// list wrote such an index, and it moves with the images.
async fn adopt_fallback(call: &Call<'_>, name: &Name, subject: &Digest) -> Result<()> {
    let tags = call.tags(name).await?;
    let Some(index) = tags.and_then(|tags| tags.document.get(&name::fallback_tag(subject)).cloned()) else {
        return Ok(());
    };
    let adopted = &call.oci.known.fallbacks;
    let id = (name.clone(), subject.clone());
    if adopted.get(&id).is_some_and(|seen| seen == index) {
        return Ok(());
    }
    let Some(stored) = call.manifest(name, &index, true).await? else { return Ok(()) };
    let listed = Manifest::parse_stored(&stored.bytes).map(|index| index.children).unwrap_or_default();
    let work: Vec<_> = listed.into_iter().map(|one| adopt(call, name, subject, one.digest).boxed()).collect();
    stream::iter(work).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    adopted.insert(id, index);
    Ok(())
}

async fn adopt(call: &Call<'_>, name: &Name, subject: &Digest, digest: Digest) -> Result<()> {
    let key = keys::referrer(name, subject, &digest)?;
    if call.cx.objects.stat(&key).await?.is_some() {
        return Ok(());
    }
    let Some(stored) = call.manifest(name, &digest, false).await? else { return Ok(()) };
    let Some(manifest) = Manifest::parse_stored(&stored.bytes) else { return Ok(()) };
    if manifest.subject.as_ref() != Some(subject) {
        return Ok(());
    }
    call.put_referrer(name, &manifest, &digest, stored.bytes.len() as u64).await?;
    // It may have been deleted meanwhile, its entry before ours was there.
    if call.cx.objects.stat(&keys::manifest(name, &digest)?).await?.is_none() {
        call.cx.objects.delete(&key, &ObjectInfo::default()).await?;
    }
    Ok(())
}
