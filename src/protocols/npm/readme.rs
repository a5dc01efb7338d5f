//! The readme of `latest`, found in its tarball when the tag has moved to a version whose readme is not kept: a packument has room for one.

use futures_util::StreamExt;

use super::change::{self, Event};
use super::model::Packument;
use super::name::PackageName;
use super::{Npm, keys};
use crate::core::archive::{ArchiveLimits, EntryKind, Take, TarEntry, TarGz, TarVisitor};
use crate::protocols::prelude::*;

/// Largest file that is taken; of it the packument keeps the beginning.
const MAX_FILE: u64 = 1 << 20;
/// How many bytes of a tarball are looked through.
const MAX_LOOKED_AT: u64 = 64 << 20;
/// What a readme is called, in any case; the first of them that is there.
const NAMES: &[&str] = &["readme.md", "readme.markdown", "readme", "readme.txt"];

/// Gives the packument the readme of the version that `latest` names by now. A package without it is whole all the same: what stands in the way
/// is logged and nothing else.
pub(crate) async fn follow_latest(npm: &Npm, cx: &Cx, name: &PackageName) {
    if let Err(error) = follow(npm, cx, name).await {
        tracing::warn!(
            package = name.as_str(),
            "the readme of `latest` was not found again: {}",
            error.message()
        );
    }
}

async fn follow(npm: &Npm, cx: &Cx, name: &PackageName) -> Result<()> {
    let loaded: Option<Arc<Loaded<Packument>>> = cx.objects.document(&keys::index(name)?).await?;
    let Some((version, file)) = loaded.as_ref().and_then(|loaded| missing(&loaded.document)) else {
        return Ok(());
    };
    let Some(text) = find(npm, cx, name, &version, &file).await? else { return Ok(()) };
    let info = ObjectInfo::of(name.as_str());
    change::update(cx, name, Event::new("readme"), &info, move |packument: &mut Packument| {
        if missing(packument).is_none_or(|(latest, _)| latest != version) {
            return Ok(Edit::Unchanged(()));
        }
        packument.set_readme(&version, Some(&text));
        Ok(Edit::Changed(()))
    })
    .await
}

/// The version that `latest` names and the file of its tarball, if the readme is that of another one.
fn missing(packument: &Packument) -> Option<(String, String)> {
    let latest = packument.tagged("latest")?.version.to_string();
    let other = packument.notes.readme_of.as_deref() != Some(&latest);
    let file = packument.notes.tarballs.get(&latest).filter(|_| other)?;
    Some((latest, file.clone()))
}

async fn find(npm: &Npm, cx: &Cx, name: &PackageName, version: &str, file: &str) -> Result<Option<String>> {
    let info = ObjectInfo::of(name.as_str()).version(version);
    let found = cx.objects.read(&keys::file(name, file)?, GetOptions::default(), &info).await?;
    let Some(mut found) = found else { return Ok(None) };
    let mut walk = Box::new(TarGz::new(Finder::default(), ArchiveLimits::unpacked(npm.limits.unpacked)));
    let mut left = MAX_LOOKED_AT;
    while let Some(piece) = found.body.next().await {
        let piece = piece?;
        left = left.saturating_sub(piece.len() as u64);
        if left == 0 {
            return Ok(None);
        }
        let work = move || walk.feed(&piece).map(|()| walk);
        walk = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("looking through a tarball failed").with_source(error))??;
    }
    let best = walk.finish()?.best;
    Ok(best.map(|(_, content)| String::from_utf8_lossy(&content).into_owned()))
}

/// The best readme so far, and its place in [`NAMES`].
#[derive(Default)]
struct Finder {
    best: Option<(usize, Vec<u8>)>,
}

impl TarVisitor for Finder {
    fn entry(&mut self, entry: &TarEntry) -> Result<Take> {
        let better =
            rank(&entry.path).is_some_and(|rank| self.best.as_ref().is_none_or(|(best, _)| rank < *best));
        let wanted = better && entry.kind == EntryKind::File && entry.size <= MAX_FILE;
        Ok(if wanted { Take::Whole(MAX_FILE) } else { Take::Skip })
    }

    fn content(&mut self, entry: &TarEntry, content: Vec<u8>) -> Result<()> {
        self.best = rank(&entry.path).map(|rank| (rank, content));
        Ok(())
    }
}

/// Which of [`NAMES`] a file in the package's own folder has.
fn rank(path: &str) -> Option<usize> {
    let mut segments = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).skip(1);
    let (file, None) = (segments.next()?, segments.next()) else { return None };
    NAMES.iter().position(|name| file.eq_ignore_ascii_case(name))
}
