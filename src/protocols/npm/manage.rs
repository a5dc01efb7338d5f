//! What comes after publishing: tags, deprecation, owners, stars, access, unpublishing.
//!
//! Clients send the whole packument back to change one field of it. None of these functions stores such a body: each takes the one field
//! that the request is about and changes that, on the document as it is by then.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::change::{self, Event};
use super::edit::{self, Removal};
use super::error::not_found;
use super::factor::Mfa;
use super::json::{self, Members};
use super::model::{Packument, Person, Tombstone};
use super::name::{self, PackageName};
use super::{Npm, access, body, keys, read, readme, stars, trust, upload};
use crate::config::Visibility;
use crate::protocols::prelude::*;

/// Files that are deleted at the same time.
const DELETIONS: usize = 16;

/// Changes a package that is there. 404 before anything else if it isn't.
async fn change<R, F>(cx: &Cx, name: &PackageName, event: Event, change: F) -> Result<R>
where
    R: Send + 'static,
    F: Fn(&mut Packument) -> Result<Edit<R>> + Send + Sync + 'static,
{
    let change = move |packument: &mut Packument| {
        if packument.is_new() { Err(not_found()) } else { change(packument) }
    };
    change::update(cx, name, event, &ObjectInfo::of(name.as_str()), change).await
}

fn ok(status: StatusCode) -> Response {
    Response::json(status, &serde_json::json!({ "ok": true, "success": true }))
}

/// A PUT on a package without a tarball, by somebody who may write: a deprecation, or a star.
pub(crate) async fn put_document(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    body: &Members<'_>,
) -> Result<Response> {
    if let Some(versions) = body.object("versions").filter(|versions| !versions.0.is_empty()) {
        return deprecate(npm, cx, name, &versions).await;
    }
    if let Some(on) = star(cx, body)? {
        return set_star(cx, name, on).await;
    }
    Err(Error::invalid(format!(
        "the document changes nothing of {name}: it has neither versions nor a tarball"
    )))
}

/// npm deprecates by sending the packument with `deprecated` set; an empty text takes it back. A version without the field is left
/// as it is: somebody else may have deprecated it meanwhile.
async fn deprecate(npm: &Npm, cx: &Cx, name: &PackageName, versions: &Members<'_>) -> Result<Response> {
    let mut wanted = BTreeMap::new();
    for (version, manifest) in &versions.0 {
        let Some(value) = Members::of(manifest).and_then(|members| members.get("deprecated")) else {
            continue;
        };
        let message = match serde_json::from_str::<String>(value.get()) {
            Ok(message) => message,
            Err(_) if matches!(value.get(), "false" | "null") => String::new(),
            Err(_) => return Err(Error::invalid(format!("`deprecated` of {name}@{version} must be a text"))),
        };
        wanted.insert(version.to_string(), message);
    }
    let sent: BTreeSet<String> = versions.0.iter().map(|(version, _)| version.to_string()).collect();
    let (now, limit) = (cx.clock.now(), npm.limits.packument);
    let event = match wanted.first_key_value().filter(|_| wanted.len() == 1) {
        Some((version, _)) => Event::about("deprecate", version),
        None => Event::new("deprecate"),
    };
    change(cx, name, event, move |packument| {
        if wanted.is_empty() && sent.iter().any(|version| packument.release(version).is_some()) {
            return Ok(Edit::Unchanged(()));
        }
        edit::deprecate(packument, &wanted, limit, now)
    })
    .await?;
    Ok(ok(StatusCode::CREATED))
}

/// Whether the caller's own star is to be on or off; `None` if the body is about something else.
fn star(cx: &Cx, body: &Members<'_>) -> Result<Option<bool>> {
    let Some(users) = body.object("users") else { return Ok(None) };
    let user = cx.require_user()?;
    Ok(Some(users.read::<bool>(user).unwrap_or(false)))
}

pub(super) async fn set_star(cx: &Cx, name: &PackageName, on: bool) -> Result<Response> {
    let (user, now) = (cx.require_user()?.to_owned(), cx.clock.now());
    let own = user.clone();
    change(cx, name, Event::new("star"), move |packument| Ok(edit::star(packument, &own, on, now))).await?;
    stars::note(cx, name, &user, on).await?;
    Ok(ok(StatusCode::CREATED))
}

/// A PUT by somebody who may not write: fine if it is a star on a package that they may read, else `refusal`.
pub(crate) async fn star_without_write(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    mut request: Request,
    refusal: Error,
) -> Result<Response> {
    let limit = npm.limits.small_body;
    let readonly = cx.identity.token().is_none_or(|token| token.readonly);
    if readonly || request.body.length().is_some_and(|length| length > limit) {
        return Err(refusal);
    }
    let Ok(bytes) = body::bytes(&mut request, "the document", limit).await else { return Err(refusal) };
    let members = Members::parse(&bytes).unwrap_or_default();
    let only_star = !members.has("versions") && !members.has("_attachments");
    match star(cx, &members) {
        Ok(Some(on)) if only_star && json::check(&bytes).is_ok() => {
            read::load(cx, name, false).await?;
            set_star(cx, name, on).await
        }
        _ => Err(refusal),
    }
}

/// `PUT /{pkg}/-rev/{rev}`: owners, or the versions that stay.
pub(crate) async fn put_revision(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    rev: &str,
    mut request: Request,
) -> Result<Response> {
    // Which of the two it is stands in the body; who may do neither needn't send it.
    let deletion = access::require(cx, name, Action::Delete).await;
    let administration = access::require(cx, name, Action::Admin).await;
    let (deletion, administration) = match (deletion, administration) {
        (Err(refusal), Err(_)) => return Err(refusal),
        both => both,
    };
    let received = upload::receive(npm, cx, name, &mut request).await?;
    if let Some(tarball) = received.tarball {
        tarball.staged.discard().await?;
        return Err(Error::invalid(
            "a tarball can't be published to a revision; send it to the package itself",
        ));
    }
    json::check(&received.document)?;
    let body = Members::parse(&received.document).unwrap_or_default();
    let now = cx.clock.now();
    let Some(versions) = body.object("versions") else {
        administration?;
        let people: Vec<Person> = body
            .read("maintainers")
            .ok_or_else(|| Error::invalid("the document has neither versions nor maintainers"))?;
        let rev = rev.to_owned();
        change(cx, name, Event::new("owner"), move |packument| {
            let mut wanted = people.clone();
            if people.is_empty() {
                // Refused below, whatever it was made from.
            } else if rev == "undefined" {
                // Yarn 1 reads the abbreviated form, which has neither revision nor owners: the list has whom it adds, and nobody else.
                let others =
                    packument.maintainers.iter().filter(|one| !people.iter().any(|new| new.name == one.name));
                wanted.splice(0..0, others.cloned());
            } else if packument.rev != rev && packument.maintainers != people {
                // The list was made from another one: an owner added since would be lost.
                return Err(edit::conflict());
            }
            edit::set_maintainers(packument, &wanted, now)
        })
        .await?;
        return Ok(ok(StatusCode::CREATED));
    };
    deletion?;
    if versions.0.is_empty() {
        return Err(Error::invalid(format!(
            "to take all versions of {name} away, unpublish the whole package"
        )));
    }
    let kept = versions.0.iter().map(|(version, _)| version.to_string()).collect();
    let tags = body.read("dist-tags").unwrap_or_default();
    unpublish(cx, name, rev, Removal::AllBut(kept, tags)).await?;
    readme::follow_latest(npm, cx, name).await;
    Ok(ok(StatusCode::CREATED))
}

/// `PUT /-/package/{pkg}/owners`, by which pnpm 12 adds one.
pub(crate) async fn add_owner(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    mut request: Request,
) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    let wanted: BTreeMap<String, String> = body::json(npm, &mut request, "the owner").await?;
    let user = wanted.get("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Error::invalid("say whom to add: {\"user\":\"name\"}"))?;
    if cx.auth.has_user(user).await? == Some(false) {
        return Err(Error::not_found(format!("there is no user `{}`", name::printable(user))));
    }
    let (person, now) = (Person { name: user.clone(), email: String::new() }, cx.clock.now());
    change(cx, name, Event::new("owner"), move |packument| {
        let mut people = packument.maintainers.clone();
        if people.iter().all(|one| one.name != person.name) {
            people.push(person.clone());
        }
        edit::set_maintainers(packument, &people, now)
    })
    .await?;
    Ok(ok(StatusCode::CREATED))
}

/// `DELETE /-/package/{pkg}/owners/{user}`
pub(crate) async fn remove_owner(cx: &Cx, name: &PackageName, user: &str) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    let (user, now) = (user.to_owned(), cx.clock.now());
    change(cx, name, Event::new("owner"), move |packument| {
        let mut people = packument.maintainers.clone();
        people.retain(|one| one.name != user);
        edit::set_maintainers(packument, &people, now)
    })
    .await?;
    Ok(ok(StatusCode::OK))
}

/// `DELETE /{pkg}/-rev/{rev}`. A bare number is no revision of ours: programs write one that have seen none, and mean the package as it is.
pub(crate) async fn unpublish_package(cx: &Cx, name: &PackageName, rev: &str) -> Result<Response> {
    access::require(cx, name, Action::Delete).await?;
    let as_it_is = rev.bytes().all(|byte| byte.is_ascii_digit());
    let rev = if as_it_is { current(cx, name).await?.document.rev.clone() } else { rev.to_owned() };
    unpublish(cx, name, &rev, Removal::Package).await?;
    trust::forget(cx, name).await?;
    Ok(ok(StatusCode::OK))
}

/// `DELETE /{pkg}/-/{version}`: one version, for programs; npm sends the packument without it.
pub(crate) async fn unpublish_version(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    version: &str,
) -> Result<Response> {
    access::require(cx, name, Action::Delete).await?;
    let loaded = current(cx, name).await?;
    let packument = &loaded.document;
    if packument.release(version).is_none() {
        return Err(Error::not_found(format!("version not found: {}", name::printable(version))));
    }
    let others = packument.releases.iter().map(|release| release.version.to_string());
    let kept = others.filter(|one| one != version).collect();
    unpublish(cx, name, &packument.rev, Removal::AllBut(kept, BTreeMap::new())).await?;
    readme::follow_latest(npm, cx, name).await;
    Ok(ok(StatusCode::OK))
}

/// The packument as it is now.
async fn current(cx: &Cx, name: &PackageName) -> Result<Arc<Loaded<Packument>>> {
    cx.objects.document_revalidated(&keys::index(name)?).await?.ok_or_else(not_found)
}

/// First the versions go out of the packument, then their tarballs go. Before either, the hooks are asked about each file: what they refuse
/// to delete stays published.
async fn unpublish(cx: &Cx, name: &PackageName, rev: &str, removal: Removal) -> Result<()> {
    let (rev, by, now) = (rev.to_owned(), cx.require_user()?.to_owned(), cx.clock.now());
    let mut trial = current(cx, name).await?.document.clone();
    if trial.is_new() {
        return Err(not_found());
    }
    let (Edit::Changed(goes) | Edit::Unchanged(goes)) =
        edit::unpublish(&mut trial, &rev, &removal, &by, now)?;
    for tombstone in &goes {
        for (key, info) in files_of(name, tombstone)? {
            cx.objects.ask_delete(&key, &info).await?;
        }
    }
    let event = match goes.as_slice() {
        [only] => Event::about("unpublish", &only.version),
        _ => Event::new("unpublish"),
    };
    // At this revision nothing else can go than what was asked about.
    let gone = change(cx, name, event, move |packument| edit::unpublish(packument, &rev, &removal, &by, now))
        .await?;
    tracing::info!(package = name.as_str(), versions = gone.len(), "unpublished");
    let mut files = Vec::new();
    for tombstone in &gone {
        files.extend(files_of(name, tombstone)?);
    }
    let deletions =
        files.into_iter().map(|(key, info)| async move { cx.objects.delete_asked(&key, &info).await });
    let outcomes: Vec<Result<()>> = stream::iter(deletions).buffer_unordered(DELETIONS).collect().await;
    for error in outcomes.into_iter().filter_map(Result::err) {
        // The versions are gone, which is what was asked for; the client's next request deletes the tarball again.
        tracing::warn!(package = name.as_str(), "a tarball could not be deleted: {}", error.message());
    }
    Ok(())
}

/// The files of a version that can never come back.
fn files_of(name: &PackageName, tombstone: &Tombstone) -> Result<Vec<(Key, ObjectInfo)>> {
    let noted = tombstone.file.clone().map(|file| vec![file]);
    let files = noted.unwrap_or_else(|| keys::candidates(name, &tombstone.version));
    let files = files.iter().chain(&tombstone.attestations);
    let info = ObjectInfo::of(name.as_str()).version(&tombstone.version);
    files.map(|file| Ok((keys::file(name, file)?, info.clone()))).collect()
}

/// `DELETE /{pkg}/-/{file}/-rev/{rev}`: npm's second step, after the version is out of the packument.
pub(crate) async fn delete_tarball(cx: &Cx, name: &PackageName, file: &str) -> Result<Response> {
    access::require(cx, name, Action::Delete).await?;
    let loaded = current(cx, name).await?;
    let version = file
        .strip_prefix(name.unscoped())
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".tgz"))
        .ok_or_else(not_found)?;
    if loaded.document.release(version).is_some() {
        return Err(Error::new(
            Kind::Conflict,
            format!("{name}@{version} is still published; unpublish the version"),
        ));
    }
    let tombstone = loaded.document.tombstone(version).ok_or_else(not_found)?;
    for (key, info) in files_of(name, tombstone)? {
        // Usually it went with its version.
        if cx.objects.stat(&key).await?.is_some() {
            cx.objects.delete(&key, &info).await?;
        }
    }
    Ok(ok(StatusCode::OK))
}

/// `PUT|POST /-/package/{pkg}/dist-tags/{tag}`
pub(crate) async fn set_tag(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    tag: &str,
    mut request: Request,
) -> Result<Response> {
    access::require(cx, name, Action::Write).await?;
    name::check_tag(tag)?;
    let version = body::text(&mut request, "the version").await?;
    let wanted = BTreeMap::from([(tag.to_owned(), version)]);
    let now = cx.clock.now();
    change(cx, name, Event::about("dist-tag", tag), move |packument| {
        edit::set_tags(packument, &wanted, false, now)
    })
    .await?;
    if tag == "latest" {
        readme::follow_latest(npm, cx, name).await;
    }
    Ok(ok(StatusCode::CREATED))
}

/// `PUT|POST /-/package/{pkg}/dist-tags`
pub(crate) async fn set_tags(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    replace: bool,
    mut request: Request,
) -> Result<Response> {
    access::require(cx, name, Action::Write).await?;
    let wanted: BTreeMap<String, String> = body::json(npm, &mut request, "the list of tags").await?;
    let now = cx.clock.now();
    change(cx, name, Event::new("dist-tag"), move |packument| {
        edit::set_tags(packument, &wanted, replace, now)
    })
    .await?;
    readme::follow_latest(npm, cx, name).await;
    Ok(ok(StatusCode::CREATED))
}

/// `DELETE /-/package/{pkg}/dist-tags/{tag}`
pub(crate) async fn remove_tag(cx: &Cx, name: &PackageName, tag: &str) -> Result<Response> {
    access::require(cx, name, Action::Write).await?;
    let (event, tag, now) = (Event::about("dist-tag", tag), tag.to_owned(), cx.clock.now());
    change(cx, name, event, move |packument| edit::remove_tag(packument, &tag, now)).await?;
    Ok(ok(StatusCode::OK))
}

/// Takes over what publishing the versions of another registry's package again could not: see [`edit::adopt`].
pub(crate) async fn adopt(npm: &Npm, cx: &Cx, name: &PackageName, document: &Bytes) -> Result<()> {
    if document.len() as u64 > npm.limits.packument {
        return Err(Error::too_large("packument", npm.limits.packument));
    }
    json::check(document)?;
    let (source, now) = (Packument::parse(document)?, cx.clock.now());
    change(cx, name, Event::new("import"), move |packument| Ok(edit::adopt(packument, &source, now))).await
}

/// `GET /-/package/{pkg}/visibility`
pub(crate) async fn get_visibility(cx: &Cx, name: &PackageName) -> Result<Response> {
    let loaded = read::load(cx, name, false).await?;
    let public = cx.auth.is_public(&access::package(cx, name), loaded.document.notes.access);
    Ok(Response::json(StatusCode::OK, &serde_json::json!({ "public": public })))
}

/// `POST /-/package/{pkg}/access`
pub(crate) async fn set_access(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    mut request: Request,
) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    let wanted: BTreeMap<String, serde_json::Value> =
        body::json(npm, &mut request, "the access setting").await?;
    if wanted.contains_key("publish_requires_tfa") {
        return set_mfa(cx, name, &wanted).await;
    }
    let access = match wanted.get("access").and_then(serde_json::Value::as_str) {
        Some("public") => Visibility::Public,
        Some("restricted" | "private") => Visibility::Private,
        _ => {
            return Err(Error::invalid(
                "only `access` (public or restricted) and `publish_requires_tfa` can be set",
            ));
        }
    };
    let now = cx.clock.now();
    change(cx, name, Event::new("access"), move |packument| Ok(edit::set_access(packument, access, now)))
        .await?;
    Ok(ok(StatusCode::OK))
}

/// `npm access set mfa=none|publish|automation`
async fn set_mfa(
    cx: &Cx,
    name: &PackageName,
    wanted: &BTreeMap<String, serde_json::Value>,
) -> Result<Response> {
    if !cx.auth.keeps_users() {
        return Err(Error::new(
            Kind::Unsupported,
            "this registry's users are kept by its own auth provider, which knows of no second factor here",
        ));
    }
    let flag = |name: &str| wanted.get(name).and_then(serde_json::Value::as_bool);
    let mfa = match (flag("publish_requires_tfa"), flag("automation_token_overrides_tfa")) {
        (Some(false), _) => None,
        (Some(true), Some(true)) => Some(Mfa::Automation),
        (Some(true), _) => Some(Mfa::Publish),
        (None, _) => return Err(Error::invalid("`publish_requires_tfa` is true or false")),
    };
    let now = cx.clock.now();
    change(cx, name, Event::new("access"), move |packument| Ok(edit::set_mfa(packument, mfa, now))).await?;
    Ok(ok(StatusCode::OK))
}
