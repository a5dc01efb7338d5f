//! Deleting tags, manifests and blobs. What names something goes first, then the thing; what is still named stays.

use tokio::time::Instant;

use super::super::prelude::*;
use super::immutable::is_immutable;
use super::manifests::{self, Stored};
use super::model::Manifest;
use super::name::{self, Name, Reference};
use super::tags::TagList;
use super::{Call, error, inventory, keys};

/// `DELETE /v2/<name>/manifests/<reference>`: a tag alone, or a manifest with every tag that points at it.
pub(super) async fn delete_manifest(call: &Call<'_>, name: &Name, reference: &str) -> Result<Response> {
    call.authorize(name, Action::Delete).await?;
    switched_on(call, "GET, HEAD, PUT")?;
    match Reference::parse(reference) {
        Ok(Reference::Tag(tag)) => delete_tag(call, name, &tag).await?,
        Ok(Reference::Digest(digest)) => delete_by_digest(call, name, &digest).await?,
        Err(error) if reference.contains(':') => return Err(error),
        Err(_) => return Err(error::manifest_unknown(&"of this name")),
    }
    inventory::record(call.cx, name, "delete", &[reference.to_owned()]).await;
    Ok(Response::new(StatusCode::ACCEPTED))
}

/// Whether clients may delete at all (`features.delete`); `others` are the methods that there are besides.
fn switched_on(call: &Call<'_>, others: &'static str) -> Result<()> {
    if call.oci.config.feature("delete", true) { Ok(()) } else { Err(error::method_not_allowed(others)) }
}

async fn delete_tag(call: &Call<'_>, name: &Name, tag: &str) -> Result<()> {
    let tags = call.tags(name).await?;
    let Some(digest) = tags.and_then(|tags| tags.document.get(tag).cloned()) else {
        return Err(error::manifest_unknown(&tag));
    };
    if is_immutable(&call.oci.options.immutable_tags, name, tag) {
        return Err(error::kept(tag));
    }
    let gone = tag.to_owned();
    change_tags(call, name, tag, &digest, move |list| Ok(list.remove(&gone))).await
}

/// Takes those of the tags away that still name what they are said to; answers which.
pub(super) async fn untag(call: &Call<'_>, name: &Name, tags: Vec<(String, Digest)>) -> Result<Vec<String>> {
    let label = tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>().join(",");
    let change = move |list: &mut TagList| {
        let still = tags.iter().filter(|(tag, digest)| list.get(tag) == Some(digest));
        let gone: Vec<String> = still.map(|(tag, _)| tag.clone()).collect();
        for tag in &gone {
            list.remove(tag);
        }
        Ok(if gone.is_empty() { Edit::Unchanged(gone) } else { Edit::Changed(gone) })
    };
    let info = ObjectInfo::of(name.as_str()).version(label);
    let gone = call.cx.objects.update::<TagList, _, _>(&keys::tags(name)?, &info, change).await?;
    if !gone.is_empty() {
        inventory::record(call.cx, name, "delete", &gone).await;
    }
    Ok(gone)
}

async fn change_tags(
    call: &Call<'_>,
    name: &Name,
    reference: &str,
    digest: &Digest,
    remove: impl Fn(&mut TagList) -> Result<bool> + Send + Sync + 'static,
) -> Result<()> {
    let change =
        move |list: &mut TagList| Ok(if remove(list)? { Edit::Changed(()) } else { Edit::Unchanged(()) });
    let info = manifests::info(name, reference, digest);
    call.cx.objects.update::<TagList, _, _>(&keys::tags(name)?, &info, change).await
}

async fn delete_by_digest(call: &Call<'_>, name: &Name, digest: &Digest) -> Result<()> {
    call.oci.known.manifests.invalidate(&(name.clone(), digest.clone()));
    let Some(stored) = call.manifest(name, digest, false).await? else {
        return Err(error::manifest_unknown(digest));
    };
    if let Some(by) = call.referenced_by(name, digest).await? {
        return Err(error::still_referenced("the manifest", &by));
    }
    remove(call, name, digest, &stored, true).await
}

/// Removes a manifest that nothing needs, if it is there: what names it first, then the thing.
pub(super) async fn remove_manifest(call: &Call<'_>, name: &Name, digest: &Digest) -> Result<()> {
    call.oci.known.manifests.invalidate(&(name.clone(), digest.clone()));
    match call.manifest(name, digest, false).await? {
        Some(stored) => {
            remove(call, name, digest, &stored, false).await?;
            inventory::record(call.cx, name, "delete", &[digest.to_string()]).await;
            Ok(())
        }
        None => Ok(()),
    }
}

/// `keeps`: unless a tag names it that must not go.
async fn remove(call: &Call<'_>, name: &Name, digest: &Digest, stored: &Stored, keeps: bool) -> Result<()> {
    let info = manifests::info(name, &digest.to_string(), digest).content_type(stored.media_type.as_ref());
    let key = keys::manifest(name, digest)?;
    let manifest = Manifest::parse_stored(&stored.bytes);
    let subject = manifest.as_ref().and_then(|manifest| manifest.subject.as_ref());
    let referrer = subject.map(|subject| keys::referrer(name, subject, digest)).transpose()?;
    // Before the first step, or what may not go would lose its tags.
    for key in [Some(&key), referrer.as_ref()].into_iter().flatten() {
        call.cx.objects.ask_delete(key, &info).await?;
    }
    if call.cx.objects.document_revalidated::<TagList>(&keys::tags(name)?).await?.is_some() {
        let (oci, of, gone) = (Arc::clone(call.oci), name.clone(), digest.clone());
        let untag = move |list: &mut TagList| {
            let fixed = |tag: &&str| {
                list.get(tag) == Some(&gone) && is_immutable(&oci.options.immutable_tags, &of, tag)
            };
            // Here and not before: somebody may be setting it at this moment.
            let kept = list.names().find(fixed).filter(|_| keeps).map(error::kept);
            kept.map_or_else(|| Ok(list.remove_digest(&gone)), Err)
        };
        change_tags(call, name, &digest.to_string(), digest, untag).await?;
    }
    if let Some(referrer) = referrer {
        call.cx.objects.delete_asked(&referrer, &info).await?;
        call.oci.known.referrers.invalidate(&referrer);
    }
    call.cx.objects.delete_asked(&key, &info).await?;
    call.oci.known.manifests.invalidate(&(name.clone(), digest.clone()));
    // Somebody may have pushed it again meanwhile and tagged it before it went: then their push stands.
    let tags = call.cx.objects.document_revalidated::<TagList>(&keys::tags(name)?).await?;
    if tags.is_some_and(|tags| tags.document.has_digest(digest)) {
        let options = match &stored.upstream {
            Some(upstream) => manifests::cached_options(&stored.media_type, upstream),
            None => manifests::options(&stored.media_type, stored.complete),
        };
        call.cx.objects.put(&key, stored.bytes.clone(), options, &info).await?;
        if let Some(manifest) = manifest {
            call.put_referrer(name, &manifest, digest, stored.bytes.len() as u64).await?;
        }
    }
    Ok(())
}

/// `DELETE /v2/<name>/blobs/<digest>`: hides the blob from this repository, unless a manifest here needs it. Others keep it.
pub(super) async fn delete_blob(call: &Call<'_>, name: &Name, digest: &str) -> Result<Response> {
    call.authorize(name, Action::Delete).await?;
    switched_on(call, "GET, HEAD")?;
    let digest = name::digest(digest)?;
    let known = Instant::now();
    let Some(link) = call.linked(name, &digest).await? else { return Err(error::blob_unknown(&digest)) };
    if let Some(by) = call.referenced_by(name, &digest).await? {
        return Err(error::still_referenced("the blob", &by));
    }
    call.unlink(name, &digest).await?;
    // A manifest that was pushed meanwhile has seen the link.
    if let Some(by) = call.referenced_by(name, &digest).await? {
        call.link(name, &digest, link.size, known).await?;
        return Err(error::still_referenced("the blob", &by));
    }
    Ok(Response::new(StatusCode::ACCEPTED))
}
