//! Pushing a manifest: checked, what it references found in the repository, stored byte for byte, listed, tagged. In this order, so that
//! a crash leaves an untagged manifest, never a tag that names nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use super::super::prelude::*;
use super::immutable::is_immutable;
use super::links::PARALLEL;
use super::manifests::{self, Stored, off_thread};
use super::model::{Descriptor, Manifest};
use super::name::{Name, Reference, is_tag};
use super::tags::TagList;
use super::{Call, error, inventory, keys, proxy, referrers};
use crate::core::conditional;

/// Most tags that one push may set.
const MAX_TAGS: usize = 100;

/// A pushed manifest that has passed every check which needs no store.
struct Pushed {
    bytes: Bytes,
    digest: Digest,
    manifest: Manifest,
    /// Whether every blob that it needs is in the repository.
    complete: bool,
}

/// `PUT /v2/<name>/manifests/<reference>`.
pub(super) async fn put_manifest(
    call: &Call<'_>,
    name: &Name,
    reference: &str,
    mut request: Request,
) -> Result<Response> {
    call.authorize(name, Action::Push).await?;
    proxy::check_push(call, name).await?;
    let reference = Reference::parse(reference)?;
    let tags = match wanted_tags(&reference, &request)? {
        Ok(tags) => tags,
        Err(refused) => return Ok(refused),
    };
    let mut pushed = receive(call, &reference, &mut request).await?;
    check_tags(call, name, &tags, &pushed.digest).await?;
    let mut began = Instant::now();
    pushed.complete = check_references(call, name, &pushed.manifest).await?;
    referrers::check_room(call, name, &pushed.manifest, &pushed.digest).await?;
    ask(call, name, &reference, &tags, &pushed).await?;
    call.create_repository(name).await?;
    store(call, name, &reference, &pushed).await?;
    while call.took_long(std::mem::replace(&mut began, Instant::now())) {
        // A collection may have taken for unused what was seen so long ago.
        check_references(call, name, &pushed.manifest).await?;
    }
    let size = pushed.bytes.len() as u64;
    call.put_referrer(name, &pushed.manifest, &pushed.digest, size).await?;
    set_tags(call, name, &tags, &pushed, &request).await?;
    while call.manifest_went(&pushed.digest).await? {
        store(call, name, &reference, &pushed).await?;
        call.put_referrer(name, &pushed.manifest, &pushed.digest, size).await?;
        set_tags(call, name, &tags, &pushed, &request).await?;
        if call.cx.objects.stat(&keys::manifest(name, &pushed.digest)?).await?.is_some() {
            break;
        }
    }
    check_children(call, name, &pushed.manifest).await?;
    let text = pushed.digest.to_string();
    let about = if tags.is_empty() { std::slice::from_ref(&text) } else { tags.as_slice() };
    inventory::record(call.cx, name, "push", about).await;
    let mut response = Response::new(StatusCode::CREATED)
        .header(header::LOCATION, call.site.link(&format!("{name}/manifests/{text}")))
        .header("docker-content-digest", &text);
    if let Some(subject) = &pushed.manifest.subject {
        // Says that the subject's referrers list it: without it clients fall back to writing a tag.
        response = response.header("oci-subject", subject.to_string());
    }
    if !tags.is_empty() && matches!(reference, Reference::Digest(_)) {
        response = response.header("oci-tag", tags.join(", "));
    }
    if let Some(warning) = warning(&pushed) {
        response = response.header(header::WARNING, super::warning(warning));
    }
    Ok(response)
}

/// What the client should show to whoever pushes. One sentence: oras reads one value and ignores a list.
fn warning(pushed: &Pushed) -> Option<&'static str> {
    if pushed.manifest.is_withdrawn() {
        return Some("the OCI artifact manifest is withdrawn; push an image manifest with an artifactType");
    }
    (!pushed.complete).then_some("some of what this manifest needs is not in this repository")
}

/// Refuses a tag that must not move before anything is stored. What races with this is found when the tag is set.
async fn check_tags(call: &Call<'_>, name: &Name, tags: &[String], digest: &Digest) -> Result<()> {
    let rules = &call.oci.options.immutable_tags;
    if !tags.iter().any(|tag| is_immutable(rules, name, tag)) {
        return Ok(());
    }
    let list = call.tags(name).await?;
    for tag in tags {
        let current = list.as_ref().and_then(|list| list.document.get(tag));
        if let Some(current) = current.filter(|current| *current != digest)
            && is_immutable(rules, name, tag)
        {
            return Err(error::immutable(tag, current));
        }
    }
    Ok(())
}

/// The tags to set: that of the path, or every `tag=` beside a digest. Too many are 414, as the specification has it.
fn wanted_tags(
    reference: &Reference,
    request: &Request,
) -> Result<std::result::Result<Vec<String>, Response>> {
    if let Reference::Tag(tag) = reference {
        return Ok(Ok(vec![tag.clone()]));
    }
    let mut tags: Vec<String> = request.query.all("tag").map(str::to_owned).collect();
    if let Some(bad) = tags.iter().find(|tag| !is_tag(tag)) {
        let shown: String = bad.chars().take(128).collect();
        return Err(error::manifest_invalid(format!("`{shown}` is no valid tag")));
    }
    tags.sort();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        let message = format!("one push sets at most {MAX_TAGS} tags");
        return Ok(Err(error::respond(StatusCode::URI_TOO_LONG, "MANIFEST_INVALID", &message, None)));
    }
    Ok(Ok(tags))
}

/// Takes the body, within the limit and before anything looks into it, and checks it.
async fn receive(call: &Call<'_>, reference: &Reference, request: &mut Request) -> Result<Pushed> {
    let content_type = request.content_type();
    let body = request.take_body();
    // An object that no client sent is one that somebody in this process has made: its JSON is the manifest. Of one that a body parser
    // made only the digest can tell whether its JSON is what was sent.
    let doubtful = match &body {
        Body::Json(given) if given.attachments.is_empty() => is_announced(request),
        body => body.is_parsed(),
    };
    if doubtful && (matches!(body, Body::Form(_)) || matches!(reference, Reference::Tag(_))) {
        return Err(bytes_lost());
    }
    let bytes =
        body.into_bytes("the manifest", call.oci.limits.manifest).await.map_err(|error| {
            match error.kind() {
                Kind::Aborted | Kind::Invalid => error.with_code("MANIFEST_INVALID"),
                _ => error,
            }
        })?;
    let wanted = match reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(_) => None,
    };
    let others = call.oci.config.feature("otherManifests", false);
    off_thread(bytes.len() as u64, move || {
        let algorithm = wanted.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Digest::of(algorithm, &bytes);
        if wanted.is_some_and(|wanted| wanted != digest) {
            if doubtful {
                return Err(bytes_lost());
            }
            return Err(error::digest_invalid(format!(
                "the manifest hashes to {digest}, not to the digest in the path"
            )));
        }
        let manifest = Manifest::parse(&bytes, content_type.as_deref(), others)?;
        Ok(Pushed { bytes, digest, manifest, complete: false })
    })
    .await
}

fn bytes_lost() -> Error {
    error::manifest_invalid(
        "the manifest's bytes are lost: a body parser read it before the registry did; mount the registry before any body parser, \
         or pass `rawBody`",
    )
}

/// Whether a client has sent a body, by HTTP/1.1's rules.
fn is_announced(request: &Request) -> bool {
    request.headers.contains_key(header::TRANSFER_ENCODING)
        || request.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// Everything that a manifest needs must be in this repository, with the size that it says; what is missing is listed. Answers whether all of it is there.
async fn check_references(call: &Call<'_>, name: &Name, manifest: &Manifest) -> Result<bool> {
    if !call.oci.config.feature("foreignLayers", true) && manifest.blobs.iter().any(|one| one.foreign) {
        return Err(
            Error::denied("layers that are fetched from elsewhere are not taken here").with_code("DENIED")
        );
    }
    let mut listed: BTreeMap<&Digest, &Descriptor> = BTreeMap::new();
    for one in manifest.blobs.iter().filter(|one| !one.foreign).chain(&manifest.children) {
        if listed.insert(&one.digest, one).is_some_and(|other| other.size != one.size) {
            return Err(error::manifest_invalid(format!("{} is listed with two sizes", one.digest)));
        }
    }
    let children: BTreeSet<&Digest> = manifest.children.iter().map(|child| &child.digest).collect();
    let checks: Vec<_> = listed
        .into_values()
        .map(|one| present(call, name, one, children.contains(&one.digest)).boxed())
        .collect();
    let found: Vec<_> = stream::iter(checks).buffered(PARALLEL).try_collect().await?;
    // An index may be pushed before or without some of its children: partial mirrors do so.
    let sparse = call.oci.config.feature("sparseIndex", true);
    let missing: Vec<_> = found
        .iter()
        .filter(|(one, size)| size.is_none() && !(sparse && children.contains(&one.digest)))
        .map(|(one, _)| one)
        .collect();
    if !missing.is_empty() && !call.oci.config.feature("sparseImages", false) {
        let detail: Vec<_> = missing.iter().map(|one| json!({ "digest": one.digest.to_string() })).collect();
        return Err(Error::invalid(
            "the manifest references what is not in this repository; push that first",
        )
        .with_code("MANIFEST_BLOB_UNKNOWN")
        .with_detail(detail.into()));
    }
    match found.iter().find(|(one, size)| size.is_some_and(|size| size != one.size)) {
        None => Ok(missing.is_empty()),
        Some((one, _)) => {
            Err(error::manifest_invalid(format!("the size given for {} is not its size", one.digest)))
        }
    }
}

/// The size of what a descriptor names, if it is in the repository: a blob, or for a child of an index a manifest. A builder's cache lists blobs as
/// children too, and what is listed is relied on as what is needed.
async fn present<'a>(
    call: &Call<'_>,
    name: &Name,
    one: &'a Descriptor,
    child: bool,
) -> Result<(&'a Descriptor, Option<u64>)> {
    if child && let Some(stored) = call.manifest(name, &one.digest, false).await? {
        return Ok((one, Some(stored.bytes.len() as u64)));
    }
    Ok((one, call.relied_on(name, &one.digest).await?))
}

/// A child of an index that a rule took while the index was pushed has to be pushed again. Others may be absent, as always.
async fn check_children(call: &Call<'_>, name: &Name, manifest: &Manifest) -> Result<()> {
    for child in &manifest.children {
        // Not from memory: this process may have seen it a moment before it went.
        if call.manifest_went(&child.digest).await?
            && call.cx.objects.stat(&keys::manifest(name, &child.digest)?).await?.is_none()
        {
            call.oci.known.manifests.invalidate(&(name.clone(), child.digest.clone()));
            return Err(Error::invalid(
                "a manifest that this index lists went while it was pushed; push that first",
            )
            .with_code("MANIFEST_BLOB_UNKNOWN")
            .with_detail(json!([{ "digest": child.digest.to_string() }])));
        }
    }
    Ok(())
}

/// What hooks learn of the manifest.
fn info_of(name: &Name, reference: &Reference, pushed: &Pushed) -> ObjectInfo {
    manifests::info(name, &reference.to_string(), &pushed.digest)
        .content_type(pushed.manifest.media_type.as_ref())
}

/// Asks for manifest and tags before either is written: a push that is refused leaves nothing.
async fn ask(
    call: &Call<'_>,
    name: &Name,
    reference: &Reference,
    tags: &[String],
    pushed: &Pushed,
) -> Result<()> {
    let objects = &call.cx.objects;
    let (key, info) = (keys::manifest(name, &pushed.digest)?, info_of(name, reference, pushed));
    objects.ask_put(&key, &info, Some(pushed.bytes.len() as u64)).await?;
    if tags.is_empty() {
        return Ok(());
    }
    objects.ask_put(&keys::tags(name)?, &info_of_tags(name, tags, pushed), None).await
}

fn info_of_tags(name: &Name, tags: &[String], pushed: &Pushed) -> ObjectInfo {
    manifests::info(name, &tags.join(","), &pushed.digest)
}

/// Stores the manifest after [`ask`].
async fn store(call: &Call<'_>, name: &Name, reference: &Reference, pushed: &Pushed) -> Result<()> {
    let info = info_of(name, reference, pushed);
    let options = manifests::options(&pushed.manifest.media_type, pushed.complete);
    let key = keys::manifest(name, &pushed.digest)?;
    call.cx.objects.put_asked(&key, pushed.bytes.clone(), options, &info).await?;
    let stored = Stored::new(
        pushed.bytes.clone(),
        pushed.manifest.media_type.clone(),
        Some(&pushed.manifest),
        pushed.complete,
    );
    let seen = (Arc::new(stored), call.cx.clock.now());
    call.oci.known.manifests.insert((name.clone(), pushed.digest.clone()), seen);
    Ok(())
}

/// Points all the tags at the manifest, or none, after [`ask`]. `If-Match` and `If-None-Match` guard the tag of the path.
async fn set_tags(
    call: &Call<'_>,
    name: &Name,
    tags: &[String],
    pushed: &Pushed,
    request: &Request,
) -> Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    let (wanted, digest) = (tags.to_vec(), pushed.digest.clone());
    let fixed: Vec<bool> =
        tags.iter().map(|tag| is_immutable(&call.oci.options.immutable_tags, name, tag)).collect();
    let if_match = request.header(header::IF_MATCH).map(str::to_owned);
    let if_none_match = request.header(header::IF_NONE_MATCH).map(str::to_owned);
    let change = move |list: &mut TagList| {
        for (tag, fixed) in wanted.iter().zip(&fixed) {
            let current = list.get(tag);
            // Here and not before: whether a tag is made or moved is decided by the list that is replaced (CVE-2026-31801).
            if let Some(current) = current.filter(|current| *fixed && *current != &digest) {
                return Err(error::immutable(tag, current));
            }
            let names = |header: &str| {
                current
                    .is_some_and(|current| conditional::matches(header, &ETag::strong(&current.to_string())))
            };
            let moved = if_match.as_deref().is_some_and(|header| !names(header))
                || if_none_match.as_deref().is_some_and(names);
            // A change may run again and find its own effect: that is no conflict.
            if moved && current != Some(&digest) {
                return Err(Error::new(
                    Kind::Precondition,
                    format!("the tag {tag} is not where the condition says"),
                ));
            }
        }
        let mut changed = false;
        for tag in &wanted {
            changed |= list.set(tag, &digest);
        }
        Ok(if changed { Edit::Changed(()) } else { Edit::Unchanged(()) })
    };
    let key = keys::tags(name)?;
    let info = info_of_tags(name, tags, pushed);
    call.cx.objects.update_asked::<TagList, _, _>(&key, &info, change).await?;
    // Somebody may have deleted this manifest between our two writes, and its tags before ours was there.
    let manifest = keys::manifest(name, &pushed.digest)?;
    if call.cx.objects.stat(&manifest).await?.is_none() {
        let reference = Reference::Digest(pushed.digest.clone());
        store(call, name, &reference, pushed).await?;
        call.put_referrer(name, &pushed.manifest, &pushed.digest, pushed.bytes.len() as u64).await?;
    }
    Ok(())
}
