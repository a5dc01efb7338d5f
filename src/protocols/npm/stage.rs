//! Staged publishing: a version that is uploaded and checked, holds its number, and waits until somebody approves or rejects it.
//!
//! The tarball lies in the package's folder under a name of its own, what else there is to know in one object named by the stage's id,
//! and the packument has a note that takes the number. The note is the truth: an id that no packument has a note of isn't there.

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::change::{self, Event};
use super::edit::{self, NewRelease, Published};
use super::error::not_found;
use super::json::{Members, ObjectWriter};
use super::model::Packument;
use super::name::PackageName;
use super::{Npm, access, factor, keys, publish, upload};
use crate::core::id;
use crate::core::time::Timestamp;
use crate::protocols::files::{self, FileHead};
use crate::protocols::prelude::*;

/// Largest stored record: a manifest and what is around it.
const LIMIT: u64 = 16 << 20;
/// Records that are read at the same time, and keys that are looked at for one listing.
const READS: usize = 16;
const KEYS: usize = 10_000;
/// Most items on a page.
const PAGE: usize = 1000;

/// Everything about a staged version.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    created: String,
    actor: String,
    /// How the actor came: `user`, or the kind of its token.
    actor_type: String,
    shasum: String,
    release: NewRelease,
}

impl Record {
    fn name(&self) -> Result<PackageName> {
        PackageName::parse(&self.release.name)
    }

    /// As clients see it.
    fn item(&self) -> Value {
        json!({
            "id": self.id,
            "packageName": self.release.name,
            "version": self.release.version,
            "tag": self.release.tags.first().map_or("latest", String::as_str),
            "createdAt": self.created,
            "actor": self.actor,
            "actorType": self.actor_type,
            "shasum": self.shasum,
            "integrity": self.release.integrity,
            "access": self.release.access,
        })
    }
}

/// `POST /-/stage/package/{pkg}`
pub(crate) async fn stage(npm: &Npm, cx: &Cx, name: &PackageName, mut request: Request) -> Result<Response> {
    access::require(cx, name, Action::Write).await?;
    let received = upload::receive(npm, cx, name, &mut request).await?;
    let release = publish::store(npm, cx, name, received).await?;
    let record = Record {
        id: id::uuid(),
        created: release.now.rfc3339(),
        actor: cx.require_user()?.to_owned(),
        actor_type: cx
            .identity
            .token()
            .and_then(|token| token.kind.clone())
            .unwrap_or_else(|| "user".to_owned()),
        shasum: shasum(&release),
        release,
    };
    let outcome = reserve(cx, name, &record).await;
    if let Err(error) = &outcome
        && !error.kind().is_server_fault()
    {
        remove(cx, name, &record, true).await?;
    }
    outcome?;
    tracing::info!(package = name.as_str(), version = record.release.version, "staged");
    let message = format!("{name}@{} is staged and waits for approval", record.release.version);
    Ok(Response::json(StatusCode::CREATED, &json!({ "message": message, "stageId": record.id })))
}

/// Writes the record, then the note that makes it count.
async fn reserve(cx: &Cx, name: &PackageName, record: &Record) -> Result<()> {
    let info = ObjectInfo::of(name.as_str()).version(&record.release.version);
    let text = serde_json::to_vec(record)
        .map_err(|error| Error::internal("a staged version can't be written").with_source(error))?;
    let options = PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
    cx.objects.put(&keys::staged(&record.id)?, text.into(), options, &info).await?;
    let (release, id) = (record.release.clone(), record.id.clone());
    let change = move |packument: &mut Packument| edit::reserve(packument, &release, &id);
    cx.objects.update(&keys::index(name)?, &info, change).await
}

fn shasum(release: &NewRelease) -> String {
    let manifest = Members::parse(release.manifest.get().as_bytes()).unwrap_or_default();
    manifest.object("dist").and_then(|dist| dist.text("shasum")).unwrap_or_default()
}

/// Deletes what is stored of a staged version; of an approved one the files stay.
async fn remove(cx: &Cx, name: &PackageName, record: &Record, files: bool) -> Result<()> {
    if files {
        publish::discard(cx, name, &record.release).await?;
    }
    let info = ObjectInfo::of(name.as_str()).version(&record.release.version);
    cx.objects.delete(&keys::staged(&record.id)?, &info).await
}

/// `GET /-/stage?page=0&perPage=100[&package=name]`: all that the caller may approve. `total` counts just those, or npm asks on for ever.
pub(crate) async fn list(cx: &Cx, request: &Request) -> Result<Response> {
    cx.require_user()?;
    let number = |name: &str| request.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (page, per_page) = (number("page").unwrap_or(0), number("perPage").unwrap_or(100).clamp(1, PAGE));
    let mut records = match request.query.get("package").filter(|name| !name.is_empty()) {
        Some(name) => of_package(cx, &PackageName::parse(name)?).await?,
        None => all(cx).await?,
    };
    records.sort_by(|one, other| (&one.created, &one.id).cmp(&(&other.created, &other.id)));
    let total = records.len();
    let items: Vec<Value> =
        records.iter().skip(page.saturating_mul(per_page)).take(per_page).map(Record::item).collect();
    let answer = json!({ "items": items, "page": page, "perPage": per_page, "total": total });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// What waits of one package: its packument has the list.
async fn of_package(cx: &Cx, name: &PackageName) -> Result<Vec<Record>> {
    if !cx.allows(&access::package(cx, name), Action::Write, None).await? {
        return Ok(Vec::new());
    }
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document_revalidated(&keys::index(name)?).await?;
    let notes = loaded.map(|loaded| loaded.document.notes.staged.clone()).unwrap_or_default();
    found(cx, notes.into_values().map(|reservation| reservation.id).collect()).await
}

/// What waits of all packages.
async fn all(cx: &Cx) -> Result<Vec<Record>> {
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    while ids.len() < KEYS {
        let page = cx.objects.list(&keys::all_staged()?, after.as_deref(), 1000, false).await?;
        ids.extend(page.objects.iter().filter_map(|one| keys::staged_id(&one.key).map(str::to_owned)));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    found(cx, ids).await
}

/// Those that are there for this caller.
async fn found(cx: &Cx, ids: Vec<String>) -> Result<Vec<Record>> {
    let looks = ids.into_iter().map(|id| async move { load(cx, &id).await });
    let found: Vec<Result<(PackageName, Record)>> = stream::iter(looks).buffered(READS).collect().await;
    let mut records = Vec::new();
    for one in found {
        match one {
            Ok((_, record)) => records.push(record),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// The record of a staged version, whoever asks.
async fn read(cx: &Cx, id: &str) -> Result<Option<Record>> {
    let found = cx.objects.read(&keys::staged(id)?, GetOptions::default(), &ObjectInfo::default()).await?;
    let Some(found) = found else { return Ok(None) };
    let bytes = Body::stream(found.body, None).into_bytes("the staged version", LIMIT).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::internal("a staged version can't be read").with_source(error))
}

/// The names of the files of a staged version in its package's folder.
pub(super) async fn files(cx: &Cx, id: &str) -> Result<Vec<String>> {
    let record = read(cx, id).await?;
    Ok(record
        .into_iter()
        .flat_map(|one| std::iter::once(one.release.file).chain(one.release.attestations))
        .collect())
}

/// A staged version, if it is there and the caller may publish the package; else 404, whichever it is.
async fn load(cx: &Cx, id: &str) -> Result<(PackageName, Record)> {
    cx.require_user()?;
    if !id::is_uuid(id) {
        return Err(not_found());
    }
    let record = read(cx, id).await?.ok_or_else(not_found)?;
    let name = record.name()?;
    if !cx.allows(&access::package(cx, &name), Action::Write, None).await? {
        return Err(not_found());
    }
    let loaded: Option<Arc<Loaded<Packument>>> =
        cx.objects.document_revalidated(&keys::index(&name)?).await?;
    let reservation =
        loaded.as_ref().and_then(|loaded| loaded.document.notes.staged.get(&record.release.version));
    let waits = reservation
        .is_some_and(|reservation| reservation.id == id && !edit::is_over(reservation, cx.clock.now()));
    if !waits {
        sweep(cx, &name, &record, reservation.is_some_and(|reservation| reservation.id == id)).await?;
        return Err(not_found());
    }
    Ok((name, record))
}

/// Takes away what has waited too long. What has no note may be about to get one, or may be published: it is left for as long.
async fn sweep(cx: &Cx, name: &PackageName, record: &Record, noted: bool) -> Result<()> {
    let created = Timestamp::parse_rfc3339(&record.created).unwrap_or_default();
    if cx.clock.now().since(created) < edit::STAGED_FOR {
        return Ok(());
    }
    let published = publish::names_file(cx, name, &record.release.version, &record.release.file).await?;
    if noted {
        give_free(cx, name, record).await?;
    }
    remove(cx, name, record, !published).await
}

async fn give_free(cx: &Cx, name: &PackageName, record: &Record) -> Result<()> {
    let (version, id) = (record.release.version.clone(), record.id.clone());
    let info = ObjectInfo::of(name.as_str()).version(&version);
    let change = move |packument: &mut Packument| Ok(edit::release(packument, &version, &id));
    cx.objects.update(&keys::index(name)?, &info, change).await
}

/// `GET /-/stage/{id}`
pub(crate) async fn get(cx: &Cx, id: &str) -> Result<Response> {
    let (_, record) = load(cx, id).await?;
    Ok(Response::json(StatusCode::OK, &record.item()).static_header(header::CACHE_CONTROL, "no-store"))
}

/// `GET /-/stage/{id}/tarball`
pub(crate) async fn get_tarball(cx: &Cx, id: &str, request: &Request) -> Result<Response> {
    let (name, record) = load(cx, id).await?;
    let head =
        FileHead { content_type: "application/octet-stream", etag: None, cache_control: "private, no-store" };
    let info = ObjectInfo::of(name.as_str()).version(&record.release.version);
    let key = keys::file(&name, &record.release.file)?;
    files::serve(cx, request, &key, &head, &info).await?.ok_or_else(not_found)
}

/// `POST /-/stage/{id}/approve`: an ordinary publish of what is stored already.
pub(crate) async fn approve(npm: &Npm, cx: &Cx, id: &str, request: &Request) -> Result<Response> {
    let (name, record) = load(cx, id).await?;
    access::require(cx, &name, Action::Write).await?;
    access::may_publish(cx)?;
    // The path did not tell which package it is, and so not what that demands.
    factor::guard(cx, factor::code(request).as_ref(), Some(name.as_str())).await?;
    let release = NewRelease {
        manifest: approved(&record.release, cx.require_user()?)?,
        now: cx.clock.now(),
        rules: npm.rules(cx),
        ..record.release.clone()
    };
    let (info, own) = (ObjectInfo::of(name.as_str()).version(&release.version), id.to_owned());
    let event = Event::about("publish", &release.version);
    let approve = move |packument: &mut Packument| edit::approve(packument, &release, &own);
    let (Published::New(rev) | Published::Again(rev, _)) =
        change::update(cx, &name, event, &info, approve).await?;
    if let Err(error) = remove(cx, &name, &record, false).await {
        // The version is published, which is what was asked for; the record counts for nothing any more.
        tracing::warn!(package = name.as_str(), "a staged version's record stays: {}", error.message());
    }
    tracing::info!(package = name.as_str(), version = record.release.version, "approved");
    let answer = json!({
        "ok": true, "success": true, "id": name.as_str(), "version": record.release.version, "rev": rev,
        "message": format!("{name}@{} is published", record.release.version),
    });
    Ok(Response::json(StatusCode::CREATED, &answer))
}

/// The manifest with who approved it: pnpm and deno trust such a version most.
fn approved(release: &NewRelease, by: &str) -> Result<Box<serde_json::value::RawValue>> {
    let mut out = Vec::with_capacity(release.manifest.get().len() + 128);
    let mut object = ObjectWriter::begin(&mut out);
    let members = Members::parse(release.manifest.get().as_bytes()).unwrap_or_default();
    for (key, value) in members.0.iter().filter(|(key, _)| key != "_npmUser") {
        object.raw(key, value.get().as_bytes());
    }
    let user = json!({
        "name": release.user.name, "email": release.user.email, "approver": { "name": by, "email": "" },
    });
    object.member("_npmUser", &user);
    object.end();
    String::from_utf8(out)
        .ok()
        .and_then(|text| serde_json::value::RawValue::from_string(text).ok())
        .ok_or_else(|| Error::internal("a manifest was not written as JSON"))
}

/// `DELETE /-/stage/{id}`
pub(crate) async fn reject(cx: &Cx, id: &str) -> Result<Response> {
    let (name, record) = load(cx, id).await?;
    access::require(cx, &name, Action::Write).await?;
    // The number first: nothing that a packument has a note of may be gone.
    give_free(cx, &name, &record).await?;
    remove(cx, &name, &record, true).await?;
    Ok(Response::new(StatusCode::NO_CONTENT))
}
