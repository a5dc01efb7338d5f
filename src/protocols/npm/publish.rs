//! `PUT /{pkg}`: a publish, or one of the small changes that clients make by sending the packument back.

use serde_json::value::RawValue;

use super::attestations::{self, Attestation};
use super::change::{self, Event};
use super::edit::{self, NewRelease, Published};
use super::json::{self, Members};
use super::manifest::{self, Submission, TarballFacts};
use super::model::{Packument, Person};
use super::name::PackageName;
use super::representations::tarball_url;
use super::signing::Signer;
use super::upload::{self, Received, Tarball};
use super::{Npm, access, keys, manage, proxy, trust};
use crate::config::Visibility;
use crate::protocols::prelude::*;
use crate::storage::Staged;

/// Content type of a tarball.
const TARBALL: &str = "application/octet-stream";

/// `PUT /{pkg}`
pub(crate) async fn put_package(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    mut request: Request,
) -> Result<Response> {
    if let Err(refusal) = access::require(cx, name, Action::Write).await {
        // A star comes to the same path and takes no more than to be logged in and to see the package.
        return manage::star_without_write(npm, cx, name, request, refusal).await;
    }
    if name.check_new().is_err() {
        // Only an old package may have such a name. Ask before a tarball is stored for nothing.
        let here: Option<Arc<Loaded<Packument>>> = cx.objects.document(&keys::index(name)?).await?;
        if here.is_none() {
            name.check_new()?;
        }
    }
    let received = upload::receive(npm, cx, name, &mut request).await?;
    if received.tarball.is_some() {
        return publish(npm, cx, name, received).await;
    }
    json::check(&received.document)?;
    manage::put_document(npm, cx, name, &Members::parse(&received.document).unwrap_or_default()).await
}

/// Makes tarball and attestations visible, then the version.
async fn publish(npm: &Npm, cx: &Cx, name: &PackageName, received: Received) -> Result<Response> {
    access::may_publish(cx)?;
    let new = store(npm, cx, name, received).await?;
    let answer = match commit(cx, name, &new).await? {
        Published::New(rev) | Published::Again(rev, _) => rev,
    };
    let answer = serde_json::json!({ "ok": true, "success": true, "id": name.as_str(), "rev": answer });
    Ok(Response::json(StatusCode::CREATED, &answer))
}

/// Names a version whose files are stored in the packument; takes the files away again if that is refused.
pub(super) async fn commit(cx: &Cx, name: &PackageName, new: &NewRelease) -> Result<Published> {
    let (release, info) = (new.clone(), ObjectInfo::of(name.as_str()).version(&new.version));
    let add = move |packument: &mut Packument| edit::add_version(packument, &release);
    let outcome = change::update(cx, name, Event::about("publish", &new.version), &info, add).await;
    let used = match &outcome {
        Ok(Published::New(_)) => true,
        Ok(Published::Again(_, used)) => used.as_ref() == Some(&new.file),
        // Nobody knows whether the document was written: the files must stay.
        Err(error) => error.kind().is_server_fault() || names_file(cx, name, &new.version, &new.file).await?,
    };
    if !used {
        discard(cx, name, new).await?;
    }
    if outcome.is_ok() {
        tracing::info!(package = name.as_str(), version = new.version, "published");
    }
    outcome
}

/// Deletes the files of a version that no document names. They are this request's own: no other publish shares them, and no hook is asked whether
/// they may go.
pub(super) async fn discard(cx: &Cx, name: &PackageName, new: &NewRelease) -> Result<()> {
    let info = ObjectInfo::of(name.as_str()).version(&new.version);
    for file in std::iter::once(&new.file).chain(&new.attestations) {
        cx.objects.delete_asked(&keys::file(name, file)?, &info).await?;
    }
    Ok(())
}

/// Checks what came against itself and stores its files, which nothing names yet.
pub(super) async fn store(npm: &Npm, cx: &Cx, name: &PackageName, received: Received) -> Result<NewRelease> {
    let Received { document, tarball, bundle } = received;
    let tarball =
        tarball.ok_or_else(|| Error::invalid(format!("a publish of {name} must have a tarball")))?;
    let described = async {
        proxy::may_take_name(npm, cx, name).await?;
        let signer = npm.signing.signer(cx).await?;
        describe(npm, cx, name, &Sent { document, bundle }, &tarball, signer.as_deref())
    };
    let (new, attestation) = match described.await {
        Ok(described) => described,
        Err(error) => {
            tarball.staged.discard().await?;
            return Err(error);
        }
    };
    let file = store_tarball(cx, name, &new, tarball).await?;
    let mut new = NewRelease { file, ..new };
    if let Some(attestation) = attestation {
        match attestations::store(cx, name, &new.version, &attestation).await {
            Ok(file) => new.attestations = Some(file),
            Err(error) => {
                discard(cx, name, &new).await?;
                return Err(error);
            }
        }
    }
    Ok(new)
}

/// Whether the packument names this very file for the version.
pub(super) async fn names_file(cx: &Cx, name: &PackageName, version: &str, file: &str) -> Result<bool> {
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document_revalidated(&keys::index(name)?).await?;
    Ok(loaded
        .is_some_and(|loaded| loaded.document.notes.tarballs.get(version).is_some_and(|used| used == file)))
}

/// The document of a publish, and what came beside it.
struct Sent {
    document: Bytes,
    bundle: Option<Bytes>,
}

/// Everything about the new version, once body and tarball are found to agree.
fn describe(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    sent: &Sent,
    tarball: &Tarball,
    signer: Option<&Signer>,
) -> Result<(NewRelease, Option<Attestation>)> {
    json::check(&sent.document)?;
    let body = Members::parse(&sent.document).unwrap_or_default();
    let sent = Submission::read(name, &body, &tarball.attachment, sent.bundle.as_ref())?;
    let package = format!("{name}@{}", sent.version);
    let digests = tarball.staged.digests();
    if let Some(length) = sent.length.filter(|length| *length != digests.length) {
        return Err(Error::invalid(format!(
            "the tarball of {package} has {} bytes and not {length} as its attachment says",
            digests.length
        )));
    }
    let sha512 = digests.get(Algorithm::Sha512).ok_or_else(|| Error::internal("a tarball was not hashed"))?;
    let attestation = sent.bundle.as_deref();
    let attestation =
        attestation.map(|text| attestations::check(name, &sent.version, sha512, text)).transpose()?;
    let signatures =
        signer.map(|signer| signer.signatures(name, &sent.version, &sha512.integrity())).transpose()?;
    let facts = TarballFacts {
        digests,
        inside: tarball.inside.as_ref(),
        url: tarball_url(name, &sent.version, &cx.mount.base_url()),
        signatures,
        attested: attestation.as_ref().map(|attestation| attestation.predicate.as_str()),
    };
    manifest::check_hashes(&sent.manifest, &facts, &package)?;
    if let Some(inside) = &tarball.inside {
        inside.check_identity(name, &sent.version)?;
    }
    let user = Person { name: cx.require_user()?.to_owned(), email: String::new() };
    let access = match sent.access.as_deref() {
        Some("public") => Some(Visibility::Public),
        Some("restricted" | "private") => Some(Visibility::Private),
        _ => None,
    };
    let text = String::from_utf8(trust::mark(
        cx,
        manifest::build(name, &sent.version, &sent.manifest, &facts, &user),
    ));
    let manifest = text.ok().and_then(|text| RawValue::from_string(text).ok());
    let new = NewRelease {
        manifest: manifest.ok_or_else(|| Error::internal("a manifest was not written as JSON"))?,
        integrity: facts.integrity(),
        name: name.as_str().to_owned(),
        version: sent.version,
        tags: sent.tags,
        readme: sent.readme,
        file: String::new(),
        attestations: None,
        now: cx.clock.now(),
        rules: npm.rules(cx),
        user,
        access,
    };
    Ok((new, attestation))
}

/// Makes the tarball visible under a name that is this request's alone, and answers that name.
///
/// Where the ordinary name is taken, by a version that is there or by what a broken-off publish left, the tarball gets one of its own:
/// two publishes never share a file, so each may take its own away again, and what the packument names is what it hashes to.
async fn store_tarball(cx: &Cx, name: &PackageName, new: &NewRelease, tarball: Tarball) -> Result<String> {
    let info = ObjectInfo::of(name.as_str()).version(&new.version).content_type(TARBALL);
    let info = match tarball.staged.digests().get(Algorithm::Sha512) {
        Some(digest) => info.digest(digest.to_string()),
        None => info,
    };
    let file = match &tarball.file {
        Some(file) => file.clone(),
        // Its bytes wait elsewhere, and large ones only once.
        None if tarball.small.is_none() => keys::other_tarball(name, &new.version),
        None => keys::tarball(name, &new.version),
    };
    let key = keys::file(name, &file)?;
    let published = Staged::publish(tarball.staged, &key, Condition::Absent, Some(TARBALL), &info).await?;
    if published.is_some() {
        return Ok(file);
    }
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document_revalidated(&keys::index(name)?).await?;
    if let Some(loaded) = loaded {
        // The usual case: the version is there. Find out now whether it is refused, before anything is stored.
        edit::add_version(&mut loaded.document.clone(), new)?;
    }
    let Some(small) = tarball.small else {
        return Err(Error::unavailable(format!(
            "another publish of {name}@{} was under way at the same time; try again",
            new.version
        )));
    };
    let file = keys::other_tarball(name, &new.version);
    let options = PutOptions {
        condition: Condition::Absent,
        content_type: Some(TARBALL.to_owned()),
        ..PutOptions::default()
    };
    let bytes: Bytes = small.concat().into();
    match cx.objects.put(&keys::file(name, &file)?, bytes, options, &info).await? {
        Some(_) => Ok(file),
        None => Err(Error::unavailable("the tarball's place is taken; try again")),
    }
}
