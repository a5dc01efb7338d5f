//! How one change alters a packument. Pure, and safe to run again on a newer one: `Storage::update` does so when writers race.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::factor::Mfa;
use super::json::{Members, ObjectWriter};
use super::model::{Packument, Person, Release, Reservation, Tombstone, Unpublished};
use super::name::{self, PackageName};
use super::version;
use crate::config::Visibility;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// How long a staged version waits for approval before its number is free again.
pub(crate) const STAGED_FOR: Duration = Duration::from_hours(24 * 30);

/// A version that is about to be published; its tarball is stored already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewRelease {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The manifest without `maintainers`.
    pub(crate) manifest: Box<RawValue>,
    pub(crate) integrity: String,
    /// Tags that are to name this version.
    pub(crate) tags: Vec<String>,
    pub(crate) readme: Option<String>,
    pub(crate) user: Person,
    /// File name of the tarball.
    pub(crate) file: String,
    /// File name of the attestations that came along.
    pub(crate) attestations: Option<String>,
    pub(crate) access: Option<Visibility>,
    #[serde(skip)]
    pub(crate) now: Timestamp,
    #[serde(skip)]
    pub(crate) rules: Rules,
}

/// What a publish is held to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// How long the same publish by the same user is taken for a retry of one whose answer got lost. npm repeats a PUT after a timeout.
    pub(crate) retry: Duration,
    /// `limits.packument`.
    pub(crate) packument: u64,
}

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// It is new; the revision.
    New(String),
    /// It was here already, from this very publish: the revision, and the file name of its tarball.
    Again(String, Option<String>),
}

/// 403 with the sentence that release scripts look for.
pub(crate) fn version_exists(version: &str) -> Error {
    Error::denied(format!("You cannot publish over the previously published versions: {version}."))
}

/// Adds a version.
pub(crate) fn add_version(packument: &mut Packument, new: &NewRelease) -> Result<Edit<Published>> {
    if let Some(known) = packument.release(&new.version) {
        let published = Timestamp::parse_rfc3339(packument.published(&new.version)).unwrap_or_default();
        return if is_same(known, new) && new.now.since(published) < new.rules.retry {
            let file = packument.notes.tarballs.get(&new.version).cloned();
            Ok(Edit::Unchanged(Published::Again(packument.rev.clone(), file)))
        } else {
            Err(version_exists(&new.version))
        };
    }
    if packument.tombstone(&new.version).is_some() || reserved(packument, &new.version, new.now) {
        return Err(version_exists(&new.version));
    }
    if packument.is_new() {
        PackageName::parse(&new.name)?.check_new()?;
        packument.notes.access = new.access;
    }
    packument.name.clone_from(&new.name);
    if packument.maintainers.is_empty() {
        packument.maintainers.push(new.user.clone());
    }
    let version: Arc<str> = new.version.as_str().into();
    let manifest = with_member(new.manifest.get().as_bytes(), "maintainers", &packument.maintainers);
    packument.releases.push(Release { version, manifest, foreign: false });
    packument.notes.tarballs.insert(new.version.clone(), new.file.clone());
    if let Some(file) = &new.attestations {
        packument.notes.attestations.insert(new.version.clone(), file.clone());
    }
    packument.notes.staged.remove(&new.version);
    packument.notes.unpublished = None;
    // The first version is `latest` whatever tag it came with, so that the package can be installed at all.
    let first = (packument.tagged("latest").is_none()).then_some("latest");
    for tag in new.tags.iter().map(String::as_str).chain(first) {
        packument.tags.insert(tag.to_owned(), new.version.clone());
    }
    if packument.tags.get("latest") == Some(&new.version) {
        packument.set_readme(&new.version, new.readme.as_deref());
    }
    packument.time.insert(new.version.clone(), new.now.rfc3339());
    packument.touch(new.now, &[new.manifest.get().as_bytes()]);
    packument.check_size(new.rules.packument)?;
    Ok(Edit::Changed(Published::New(packument.rev.clone())))
}

/// Whether a version that is here has the content of this one, by the same user.
fn is_same(known: &Release, new: &NewRelease) -> bool {
    let members = Members::parse(&known.manifest).unwrap_or_default();
    members.object("dist").and_then(|dist| dist.text("integrity")).as_ref() == Some(&new.integrity)
        && members.object("_npmUser").and_then(|user| user.text("name")).as_ref() == Some(&new.user.name)
}

/// Whether a version waits for approval.
fn reserved(packument: &Packument, version: &str, now: Timestamp) -> bool {
    packument.notes.staged.get(version).is_some_and(|reservation| !is_over(reservation, now))
}

/// Whether a staged version has waited too long.
pub(crate) fn is_over(reservation: &Reservation, now: Timestamp) -> bool {
    let time = Timestamp::parse_rfc3339(&reservation.time).unwrap_or_default();
    now.since(time) >= STAGED_FOR
}

/// Takes the number of a version for one that is staged.
pub(crate) fn reserve(packument: &mut Packument, new: &NewRelease, id: &str) -> Result<Edit<()>> {
    if packument.notes.staged.get(&new.version).is_some_and(|reservation| reservation.id == id) {
        return Ok(Edit::Unchanged(()));
    }
    let taken = packument.release(&new.version).is_some() || packument.tombstone(&new.version).is_some();
    if taken || reserved(packument, &new.version, new.now) {
        return Err(version_exists(&new.version));
    }
    if packument.is_new() {
        PackageName::parse(&new.name)?.check_new()?;
        packument.name.clone_from(&new.name);
    }
    let reservation = Reservation { id: id.to_owned(), time: new.now.rfc3339() };
    packument.notes.staged.insert(new.version.clone(), reservation);
    Ok(Edit::Changed(()))
}

/// Publishes a version that was staged under `id`.
pub(crate) fn approve(packument: &mut Packument, new: &NewRelease, id: &str) -> Result<Edit<Published>> {
    match packument.notes.staged.get(&new.version) {
        Some(reservation) if reservation.id == id && !is_over(reservation, new.now) => {
            packument.notes.staged.remove(&new.version);
        }
        // This very approval may have been written already, which the publish below finds out.
        None if packument.notes.tarballs.get(&new.version) == Some(&new.file) => {}
        _ => return Err(super::error::not_found()),
    }
    add_version(packument, new)
}

/// Gives the number of a staged version free again.
pub(crate) fn release(packument: &mut Packument, version: &str, id: &str) -> Edit<()> {
    if packument.notes.staged.get(version).is_none_or(|reservation| reservation.id != id) {
        return Edit::Unchanged(());
    }
    packument.notes.staged.remove(version);
    Edit::Changed(())
}

/// Takes back a version that was published as part of a batch which failed: nobody was told that it is here, so that its number stays free.
pub(crate) fn take_back(
    packument: &mut Packument,
    new: &NewRelease,
    before: &BTreeMap<String, String>,
) -> Edit<()> {
    if packument.notes.tarballs.get(&new.version) != Some(&new.file) {
        return Edit::Unchanged(());
    }
    packument.releases.retain(|release| release.version.as_ref() != new.version);
    packument.notes.tarballs.remove(&new.version);
    packument.notes.attestations.remove(&new.version);
    packument.time.remove(&new.version);
    let mut tags = std::mem::take(&mut packument.tags);
    tags.retain(|_, version| *version != new.version);
    for (tag, version) in before {
        if !tags.contains_key(tag) && packument.release(version).is_some() {
            tags.insert(tag.clone(), version.clone());
        }
    }
    packument.tags = tags;
    packument.touch(new.now, &[b"take back", new.version.as_bytes()]);
    Edit::Changed(())
}

/// An object with one more member at its end.
fn with_member(object: &[u8], key: &str, value: &impl serde::Serialize) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 256);
    let mut writer = ObjectWriter::begin(&mut out);
    for (name, value) in &Members::parse(object).unwrap_or_default().0 {
        writer.raw(name, value.get().as_bytes());
    }
    writer.member(key, value);
    writer.end();
    out.into()
}

/// An object whose member `key` is `value`, or is gone.
fn replace_member(object: &[u8], key: &str, value: Option<&str>) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 256);
    let mut writer = ObjectWriter::begin(&mut out);
    for (name, value) in Members::parse(object).unwrap_or_default().0.iter().filter(|(name, _)| name != key) {
        writer.raw(name, value.get().as_bytes());
    }
    if let Some(value) = value {
        writer.member(key, value);
    }
    writer.end();
    out.into()
}

/// Sets or takes away the deprecation of the versions named; others, and versions that aren't there, are left alone.
pub(crate) fn deprecate(
    packument: &mut Packument,
    wanted: &BTreeMap<String, String>,
    limit: u64,
    now: Timestamp,
) -> Result<Edit<()>> {
    let mut changed = false;
    let mut known = false;
    for release in &mut packument.releases {
        let Some(message) = wanted.get(release.version.as_ref()) else { continue };
        known = true;
        let present = Members::parse(&release.manifest)
            .and_then(|members| members.text("deprecated"))
            .unwrap_or_default();
        if present != *message {
            let message = Some(message.as_str()).filter(|message| !message.is_empty());
            release.manifest = replace_member(&release.manifest, "deprecated", message);
            changed = true;
        }
    }
    if !known {
        return Err(Error::not_found(
            "none of the versions in this document is here; a new one needs a tarball",
        ));
    }
    if !changed {
        return Ok(Edit::Unchanged(()));
    }
    let salt = serde_json::to_vec(wanted).unwrap_or_default();
    packument.touch(now, &[b"deprecate", &salt]);
    packument.check_size(limit)?;
    Ok(Edit::Changed(()))
}

/// Points tags at versions and, with `replace`, drops every other tag but `latest`.
pub(crate) fn set_tags(
    packument: &mut Packument,
    wanted: &BTreeMap<String, String>,
    replace: bool,
    now: Timestamp,
) -> Result<Edit<()>> {
    let mut tags = if replace { BTreeMap::new() } else { packument.tags.clone() };
    if let Some(latest) = packument.tags.get("latest") {
        tags.insert("latest".to_owned(), latest.clone());
    }
    for (tag, version) in wanted {
        name::check_tag(tag)?;
        let version = version::clean(version).unwrap_or_else(|| version.clone());
        if packument.release(&version).is_none() {
            return Err(Error::not_found(format!("version not found: {}", name::printable(&version))));
        }
        tags.insert(tag.clone(), version);
    }
    Ok(change_tags(packument, tags, now))
}

/// Takes a tag away.
pub(crate) fn remove_tag(packument: &mut Packument, tag: &str, now: Timestamp) -> Result<Edit<()>> {
    if tag == "latest" {
        return Err(Error::denied("the tag `latest` can't be removed; point it at another version"));
    }
    let mut tags = packument.tags.clone();
    if tags.remove(tag).is_none() {
        return Err(Error::not_found(format!("{} has no tag `{}`", packument.name, name::printable(tag))));
    }
    Ok(change_tags(packument, tags, now))
}

fn change_tags(packument: &mut Packument, tags: BTreeMap<String, String>, now: Timestamp) -> Edit<()> {
    if tags == packument.tags {
        return Edit::Unchanged(());
    }
    packument.tags = tags;
    let salt = serde_json::to_vec(&packument.tags).unwrap_or_default();
    packument.touch(now, &[b"tags", &salt]);
    Edit::Changed(())
}

/// Sets or takes away one user's star.
pub(crate) fn star(packument: &mut Packument, user: &str, on: bool, now: Timestamp) -> Edit<()> {
    if packument.users.get(user).copied().unwrap_or(false) == on {
        return Edit::Unchanged(());
    }
    if on {
        packument.users.insert(user.to_owned(), true);
    } else {
        packument.users.remove(user);
    }
    packument.touch(now, &[b"star", user.as_bytes(), &[u8::from(on)]]);
    Edit::Changed(())
}

/// Takes over from the document of another registry what publishing its versions again could not: when they came, tags, owners, stars.
/// Versions that only the other has stay there.
pub(crate) fn adopt(packument: &mut Packument, source: &Packument, now: Timestamp) -> Edit<()> {
    let mut after = packument.clone();
    let moment = |text: &String| Timestamp::parse_rfc3339(text).map(Timestamp::rfc3339);
    for release in &packument.releases {
        let version = release.version.as_ref();
        after.time.extend(source.time.get(version).and_then(moment).map(|time| (version.to_owned(), time)));
    }
    let created = source.time.get("created").and_then(moment);
    let first = created.iter().chain(after.time.get("created")).min().cloned();
    after.time.extend(first.map(|first| ("created".to_owned(), first)));
    for (tag, version) in &source.tags {
        if name::check_tag(tag).is_ok() && packument.release(version).is_some() {
            after.tags.insert(tag.clone(), version.clone());
        }
    }
    if !source.maintainers.is_empty() {
        after.maintainers.clone_from(&source.maintainers);
    }
    after.users.extend(source.users.clone());
    if let Some(latest) = after.tags.get("latest").cloned()
        && source.tags.get("latest") == Some(&latest)
    {
        after.set_readme(&latest, source.readme.as_deref());
    }
    if after == *packument {
        return Edit::Unchanged(());
    }
    *packument = after;
    packument.touch(now, &[b"adopt"]);
    Edit::Changed(())
}

/// Replaces the owners.
pub(crate) fn set_maintainers(
    packument: &mut Packument,
    wanted: &[Person],
    now: Timestamp,
) -> Result<Edit<()>> {
    if wanted.is_empty() {
        return Err(Error::invalid(format!("{} must keep at least one owner", packument.name)));
    }
    if packument.maintainers == wanted {
        return Ok(Edit::Unchanged(()));
    }
    packument.maintainers = wanted.to_vec();
    let salt = serde_json::to_vec(wanted).unwrap_or_default();
    packument.touch(now, &[b"maintainers", &salt]);
    Ok(Edit::Changed(()))
}

/// Makes the package public or private.
pub(crate) fn set_access(packument: &mut Packument, access: Visibility, now: Timestamp) -> Edit<()> {
    if packument.notes.access == Some(access) {
        return Edit::Unchanged(());
    }
    packument.notes.access = Some(access);
    packument.touch(now, &[b"access", &[u8::from(access == Visibility::Private)]]);
    Edit::Changed(())
}

/// Sets whether changes of the package need a second factor.
pub(crate) fn set_mfa(packument: &mut Packument, mfa: Option<Mfa>, now: Timestamp) -> Edit<()> {
    if packument.notes.mfa == mfa {
        return Edit::Unchanged(());
    }
    packument.notes.mfa = mfa;
    packument.touch(now, &[b"mfa", &[mfa.map_or(0, |mfa| 1 + mfa as u8)]]);
    Edit::Changed(())
}

/// Which versions to take away.
#[derive(Debug, Clone)]
pub(crate) enum Removal {
    /// All that the client doesn't list; with the tags as the client repaired them.
    AllBut(BTreeSet<String>, BTreeMap<String, String>),
    /// The whole package.
    Package,
}

/// Takes versions away for good. Answers the tarballs that nobody needs any more: version and file name.
///
/// Only at the revision that the client saw: a version that was published since is not in its list and would be taken away unseen.
pub(crate) fn unpublish(
    packument: &mut Packument,
    rev: &str,
    removal: &Removal,
    by: &str,
    now: Timestamp,
) -> Result<Edit<Vec<Tombstone>>> {
    let here_already =
        |one: &&Tombstone| one.by == by && (one.time == now.rfc3339() || one.rev.as_deref() == Some(rev));
    let buried: Vec<Tombstone> = packument.notes.tombstones.iter().filter(here_already).cloned().collect();
    let goes = |version: &str| match removal {
        Removal::AllBut(kept, _) => !kept.contains(version),
        Removal::Package => true,
    };
    if !buried.is_empty() && !packument.releases.iter().any(|release| goes(&release.version)) {
        // This very removal, run again because nobody knew whether it had been written, or sent again because its answer was lost.
        return Ok(Edit::Unchanged(buried));
    }
    if packument.rev != rev {
        return Err(conflict());
    }
    if packument.releases.is_empty() && packument.notes.unpublished.is_some() {
        return Ok(Edit::Unchanged(Vec::new()));
    }
    let (gone, stay): (Vec<Release>, Vec<Release>) =
        std::mem::take(&mut packument.releases).into_iter().partition(|release| goes(&release.version));
    packument.releases = stay;
    if gone.is_empty() && !matches!(removal, Removal::Package) {
        return Ok(Edit::Unchanged(Vec::new()));
    }
    let tombstones: Vec<Tombstone> =
        gone.iter().map(|release| bury(packument, release, rev, by, now)).collect();
    packument.notes.tombstones.extend(tombstones.iter().cloned());
    let tags = packument.tags.clone();
    repair_tags(packument, removal);
    if packument.releases.is_empty() {
        let versions = tombstones.iter().map(|one| one.version.clone()).collect();
        packument.notes.unpublished =
            Some(Unpublished { name: by.to_owned(), time: now.rfc3339(), tags, versions });
        packument.readme = None;
    }
    packument.touch(now, &[b"unpublish", by.as_bytes()]);
    Ok(Edit::Changed(tombstones))
}

fn bury(packument: &mut Packument, release: &Release, rev: &str, by: &str, now: Timestamp) -> Tombstone {
    let version = release.version.to_string();
    packument.time.remove(&version);
    let members = Members::parse(&release.manifest).unwrap_or_default();
    Tombstone {
        integrity: members.object("dist").and_then(|dist| dist.text("integrity")),
        file: packument.notes.tarballs.remove(&version),
        attestations: packument.notes.attestations.remove(&version),
        time: now.rfc3339(),
        by: by.to_owned(),
        rev: Some(rev.to_owned()),
        version,
    }
}

fn repair_tags(packument: &mut Packument, removal: &Removal) {
    let here: BTreeSet<Arc<str>> =
        packument.releases.iter().map(|release| Arc::clone(&release.version)).collect();
    let mut tags = std::mem::take(&mut packument.tags);
    if let Removal::AllBut(_, repaired) = removal {
        // The client moves the tags of what it takes away, and only of that.
        for (tag, version) in &mut tags {
            if let Some(moved) = repaired.get(tag).filter(|_| !here.contains(version.as_str())) {
                version.clone_from(moved);
            }
        }
    }
    tags.retain(|_, version| here.contains(version.as_str()));
    if !tags.contains_key("latest")
        && let Some(best) =
            version::highest(here.iter().map(AsRef::as_ref)).or_else(|| here.iter().next().map(AsRef::as_ref))
    {
        tags.insert("latest".to_owned(), best.to_owned());
    }
    packument.tags = tags;
}

/// 409 in the words of `CouchDB`.
pub(crate) fn conflict() -> Error {
    Error::new(
        Kind::Conflict,
        "Document update conflict: the package has changed meanwhile; run the command again",
    )
    .with_code("conflict")
}
