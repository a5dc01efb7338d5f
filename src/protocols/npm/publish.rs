//! `PUT /{pkg}`: a publish, or one of the small changes that clients make by sending the packument back.

use super::edit::{self, NewRelease, Published};
use super::json::{self, Members};
use super::manifest::{self, Submission, TarballFacts};
use super::model::{Packument, Person};
use super::name::PackageName;
use super::representations::tarball_url;
use super::upload::{self, Received, Tarball};
use super::{Npm, access, keys, manage};
use crate::config::Visibility;
use crate::protocols::prelude::*;
use crate::storage::Staged;

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
    let Received { document, tarball } = upload::receive(npm, cx, name, &mut request).await?;
    json::check(&document)?;
    let body = Members::parse(&document).unwrap_or_default();
    match tarball {
        Some(tarball) => publish(cx, name, &body, tarball).await,
        None => manage::put_document(cx, name, &body).await,
    }
}

/// Checks what came against itself, makes the tarball visible, then the version.
async fn publish(cx: &Cx, name: &PackageName, body: &Members<'_>, tarball: Tarball) -> Result<Response> {
    let new = match describe(cx, name, body, &tarball) {
        Ok(new) => new,
        Err(error) => {
            tarball.staged.discard().await?;
            return Err(error);
        }
    };
    let (version, shown) = (new.version.clone(), format!("{name}@{}", new.version));
    let file = store_tarball(cx, &new, tarball).await?;
    let new = NewRelease { file: file.clone(), ..new };
    let info = ObjectInfo::of(name.as_str()).version(&version);
    let change = move |packument: &mut Packument| edit::add_version(packument, &new);
    let outcome = cx.objects.update(&keys::index(name)?, &info, change).await;
    let used = match &outcome {
        Ok(Published::New(_)) => true,
        Ok(Published::Again(_, used)) => used.as_ref() == Some(&file),
        // Nobody knows whether the document was written: the tarball must stay.
        Err(error) => error.kind().is_server_fault() || names_file(cx, name, &version, &file).await?,
    };
    if !used {
        // The file is this request's own: no other publish shares it.
        cx.objects.delete(&keys::file(name, &file)?, &info).await?;
    }
    let rev = match outcome? {
        Published::New(rev) | Published::Again(rev, _) => rev,
    };
    tracing::info!(package = shown, "published");
    let answer = serde_json::json!({ "ok": true, "success": true, "id": name.as_str(), "rev": rev });
    Ok(Response::json(StatusCode::CREATED, &answer))
}

/// Whether the packument names this very file for the version.
async fn names_file(cx: &Cx, name: &PackageName, version: &str, file: &str) -> Result<bool> {
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document_revalidated(&keys::index(name)?).await?;
    Ok(loaded
        .is_some_and(|loaded| loaded.document.notes.tarballs.get(version).is_some_and(|used| used == file)))
}

/// Everything about the new version, once body and tarball are found to agree.
fn describe(cx: &Cx, name: &PackageName, body: &Members<'_>, tarball: &Tarball) -> Result<NewRelease> {
    let sent = Submission::read(name, body, &tarball.attachment)?;
    let package = format!("{name}@{}", sent.version);
    let digests = tarball.staged.digests();
    if let Some(length) = sent.length.filter(|length| *length != digests.length) {
        return Err(Error::invalid(format!(
            "the tarball of {package} has {} bytes and not {length} as its attachment says",
            digests.length
        )));
    }
    let facts = TarballFacts {
        digests,
        inside: tarball.inside.as_ref(),
        url: tarball_url(name, &sent.version, &cx.mount.base_url()),
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
    Ok(NewRelease {
        manifest: manifest::build(name, &sent.version, &sent.manifest, &facts, &user),
        integrity: facts.integrity(),
        name: name.clone(),
        version: sent.version,
        tags: sent.tags,
        readme: sent.readme,
        file: tarball.file.clone(),
        now: cx.clock.now(),
        user,
        access,
    })
}

/// Makes the tarball visible under a name that is this request's alone, and answers that name.
///
/// Where the ordinary name is taken, by a version that is there or by what a broken-off publish left, the tarball gets one of its own:
/// two publishes never share a file, so each may take its own away again, and what the packument names is what it hashes to.
async fn store_tarball(cx: &Cx, new: &NewRelease, tarball: Tarball) -> Result<String> {
    let name = &new.name;
    let info = ObjectInfo::of(name.as_str()).version(&new.version).content_type("application/octet-stream");
    let info = match tarball.staged.digests().get(Algorithm::Sha512) {
        Some(digest) => info.digest(digest.to_string()),
        None => info,
    };
    let key = keys::file(name, &tarball.file)?;
    let content_type = Some("application/octet-stream");
    let published = Staged::publish(tarball.staged, &key, Condition::Absent, content_type, &info).await?;
    if published.is_some() {
        return Ok(tarball.file);
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
        content_type: content_type.map(str::to_owned),
        ..PutOptions::default()
    };
    let bytes: Bytes = small.concat().into();
    match cx.objects.put(&keys::file(name, &file)?, bytes, options, &info).await? {
        Some(_) => Ok(file),
        None => Err(Error::unavailable("the tarball's place is taken; try again")),
    }
}
