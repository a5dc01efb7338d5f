//! What refers to a manifest: signatures, SBOMs, attestations. Listed here, and taken over from the tags that clients kept them under before
//! there was such a list.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};

use super::super::prelude::*;
use super::links::{PAGE, PARALLEL};
use super::model::Manifest;
use super::name::{self, Name};
use super::proxy::{self, Place};
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
    let place = Place::find(call, name, request, "referrers").await?;
    let (name, subject) = (&place.name, name::digest(subject)?);
    let filters: Vec<&str> = request.query.all("artifactType").filter(|text| !text.is_empty()).collect();
    let last = request.query.get("last").and_then(Digest::parse);
    if place.is_remote() {
        let (entries, lacking) = remote_entries(call, &place, &subject, last.as_ref(), &filters).await;
        let (entries, next) = cut(entries);
        let mut response = respond(call, name, &subject, &filters, &entries, next);
        if lacking {
            let text = super::warning("the upstream gave no answer; this list may lack something");
            response =
                response.header(header::WARNING, text).static_header(header::CACHE_CONTROL, "no-store");
        }
        return Ok(place.sign(call, response, None));
    }
    // A repository from before us gets its referrers listed now.
    call.repository_exists(name).await?;
    adopt_fallback(call, name, &subject).await?;
    let prefix = keys::referrers(name, &subject)?;
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
            if !fits(&entry, &filters) {
                continue;
            }
            size += entry.to_string().len();
            if size > MAX_REFERRERS && !entries.is_empty() {
                next = entries.last().and_then(digest_in);
                break 'pages;
            }
            entries.push(Value::clone(&entry));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let response = respond(call, name, &subject, &filters, &entries, next);
    Ok(place.sign(call, response, None))
}

/// Whether a descriptor is one of those that are asked for.
fn fits(entry: &Value, filters: &[&str]) -> bool {
    let kind = entry.get("artifactType").and_then(Value::as_str);
    filters.is_empty() || filters.iter().any(|filter| kind == Some(*filter))
}

/// What an upstream lists after `last`, in order of the digests. No answer is an empty list and a warning: to oras anything but 200 says that there is
/// no list at all, and it would never ask for one again.
async fn remote_entries(
    call: &Call<'_>,
    place: &Place,
    subject: &Digest,
    last: Option<&Digest>,
    filters: &[&str],
) -> (Vec<Value>, bool) {
    let last = last.map(ToString::to_string);
    match proxy::list_referrers(call, place, subject).await {
        Ok(found) => {
            let entries = found.iter().flat_map(|found| found.loaded.document.iter());
            let wanted = entries.filter(|(digest, entry)| {
                last.as_ref().is_none_or(|last| *digest > last) && fits(entry, filters)
            });
            (wanted.map(|(_, entry)| entry.clone()).collect(), false)
        }
        Err(error) => {
            tracing::warn!("{} is listed without what its upstream has: {}", place.name, error.message());
            (Vec::new(), true)
        }
    }
}

/// As many as clients read at once, and where to go on.
fn cut(entries: Vec<Value>) -> (Vec<Value>, Option<String>) {
    let (mut page, mut size): (Vec<Value>, usize) = (Vec::new(), 0);
    for entry in entries {
        size += entry.to_string().len();
        if size > MAX_REFERRERS && !page.is_empty() {
            let next = page.last().and_then(digest_in);
            return (page, next);
        }
        page.push(entry);
    }
    (page, None)
}

fn digest_in(entry: &Value) -> Option<String> {
    entry.get("digest")?.as_str().map(str::to_owned)
}

/// The index, and the link to the next page.
fn respond(
    call: &Call<'_>,
    name: &Name,
    subject: &Digest,
    filters: &[&str],
    entries: &[Value],
    next: Option<String>,
) -> Response {
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
    response
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
