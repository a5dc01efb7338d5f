//! Removing what broken-off publishes have left: files in packages' folders that nothing names.
//!
//! A publish stores its files under names of their own before the packument names them, so one that dies in between leaves some. They go
//! when they are older than any publish takes. Every packument is read, so this is done when somebody asks for it, not by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::Packument;
use super::name::PackageName;
use super::{inventory, keys, stage};
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// How old a file must be: no publish takes so long.
const GRACE: Duration = Duration::from_hours(24);
/// Keys of one page.
const PAGE: usize = 1000;

/// A file that nothing seems to name.
struct Orphan {
    file: String,
    key: Key,
    size: u64,
}

/// Goes through all packages, and says what went; in a dry run, what would go.
pub(crate) async fn collect(cx: &Cx, job: &Job) -> Result<Report> {
    let (mut report, mut after, mut looked) = (Report::default(), None::<String>, 0);
    loop {
        let (names, next) = inventory::names(cx, after.as_deref()).await?;
        for name in names.iter().filter_map(|name| PackageName::parse(name).ok()) {
            job.may_go_on()?;
            looked += 1;
            job.at("looking through packages", looked, None);
            package(cx, job, &name, &mut report).await?;
        }
        if next.is_none() {
            report.examine("packages", looked);
            return Ok(report);
        }
        after = next;
    }
}

async fn package(cx: &Cx, job: &Job, name: &PackageName, report: &mut Report) -> Result<()> {
    let old = old_files(cx, name).await?;
    if old.is_empty() {
        return Ok(());
    }
    let named = named(cx, name).await?;
    for orphan in old.into_iter().filter(|one| !named.contains(&one.file)) {
        // A staged version, or a package that another program keeps, may have come to name it since.
        if !job.dry_run && self::named(cx, name).await?.contains(&orphan.file) {
            continue;
        }
        if !job.dry_run {
            cx.objects.delete(&orphan.key, &ObjectInfo::of(name.as_str())).await?;
        }
        report.bytes += orphan.size;
        report.name("files", orphan.key.to_string(), "no version names it".to_owned());
    }
    Ok(())
}

/// Tarballs and attestations in a package's folder that are older than any publish takes.
async fn old_files(cx: &Cx, name: &PackageName) -> Result<Vec<Orphan>> {
    let (prefix, now) = (keys::folder(name)?, cx.clock.now());
    let (mut old, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
        for listed in page.objects {
            let Some(file) = listed.key.as_str().strip_prefix(prefix.as_str()).map(str::to_owned) else {
                continue;
            };
            if is_ours(&file) && is_old(now, listed.modified) {
                old.push(Orphan { file, key: listed.key, size: listed.size });
            }
        }
        let Some(next) = page.next else { return Ok(old) };
        after = Some(next);
    }
}

/// Whether a publish writes files of such a name. What else lies in the folder is somebody else's.
fn is_ours(file: &str) -> bool {
    let attests = file.strip_prefix("attestations/").and_then(|name| name.strip_suffix(".json"));
    attests.or(file.strip_suffix(".tgz")).is_some_and(|name| !name.contains('/'))
}

fn is_old(now: Timestamp, modified: Timestamp) -> bool {
    now.since(modified) >= GRACE
}

/// The files that the packument names, or may name where another program wrote it, and those of staged versions.
async fn named(cx: &Cx, name: &PackageName) -> Result<BTreeSet<String>> {
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document_revalidated(&keys::index(name)?).await?;
    let Some(loaded) = loaded else { return Ok(BTreeSet::new()) };
    let packument = &loaded.document;
    let notes = &packument.notes;
    let mut named: BTreeSet<String> =
        notes.tarballs.values().chain(notes.attestations.values()).cloned().collect();
    for release in packument.releases.iter().filter(|one| !notes.tarballs.contains_key(one.version.as_ref()))
    {
        named.extend(keys::candidates(name, &release.version));
    }
    for reservation in notes.staged.values() {
        named.extend(stage::files(cx, &reservation.id).await?);
    }
    Ok(named)
}
