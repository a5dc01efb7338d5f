//! Whether every version has its tarball, and every tarball is what its manifest says.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::download;
use super::inventory;
use super::json::Members;
use super::keys;
use super::model::{Packument, Release};
use super::name::PackageName;
use crate::protocols::check::{AT_ONCE, Wanted};
use crate::protocols::prelude::*;

/// Goes through all packages.
pub(crate) async fn verify(cx: &Cx, check: &Check) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let (names, next) = inventory::names(cx, after.as_deref()).await?;
        let work: Vec<_> = names.iter().map(|name| package(cx, check, name).boxed()).collect();
        stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let Some(next) = next else { return Ok(()) };
        after = Some(next);
    }
}

async fn package(cx: &Cx, check: &Check, name: &str) -> Result<()> {
    let Ok(name) = PackageName::parse(name) else { return Ok(()) };
    let key = keys::index(&name)?;
    let loaded: Result<Option<Arc<Loaded<Packument>>>> = cx.objects.document_revalidated(&key).await;
    match loaded {
        // A folder without a packument: a publish that is under way or was broken off.
        Ok(None) => return Ok(()),
        Ok(Some(loaded)) => {
            let packument = &loaded.document;
            for (tag, version) in &packument.tags {
                if packument.release(version).is_none() {
                    check.found(
                        cx,
                        name.as_str(),
                        &key,
                        format!("the tag {tag} names {version}, which is not there"),
                    );
                }
            }
            for release in &packument.releases {
                files(cx, check, &name, packument, release).await?;
            }
        }
        Err(error) if error.kind() == Kind::Internal => {
            check.found(cx, name.as_str(), &key, format!("the packument can't be read: {}", error.message()));
        }
        Err(error) => return Err(error),
    }
    check.passed();
    Ok(())
}

/// The files of one version.
async fn files(
    cx: &Cx,
    check: &Check,
    name: &PackageName,
    packument: &Packument,
    release: &Release,
) -> Result<()> {
    let version = release.version.as_ref();
    let file = match packument.notes.tarballs.get(version) {
        Some(file) => file.clone(),
        None => find(cx, name, version).await?.unwrap_or_else(|| keys::tarball(name, version)),
    };
    let wanted = Wanted { what: format!("the tarball of {version}"), digests: digests(release), size: None };
    check.object(cx, name.as_str(), &keys::file(name, &file)?, &wanted).await?;
    if let Some(file) = packument.notes.attestations.get(version) {
        let wanted = Wanted { what: format!("what is attested of {version}"), ..Wanted::default() };
        check.object(cx, name.as_str(), &keys::file(name, file)?, &wanted).await?;
    }
    Ok(())
}

/// Where another program has put a tarball.
async fn find(cx: &Cx, name: &PackageName, version: &str) -> Result<Option<String>> {
    for file in keys::candidates(name, version) {
        if cx.objects.stat(&keys::file(name, &file)?).await?.is_some() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// What the manifest says that the tarball hashes to: the best that it has.
fn digests(release: &Release) -> Vec<Digest> {
    let sha512 =
        download::sha512(release).and_then(|hash| Digest::from_hex(Algorithm::Sha512, &hex::encode(hash)));
    let sha1 = || {
        let shasum = Members::parse(&release.manifest)?.object("dist")?.text("shasum")?;
        Digest::from_hex(Algorithm::Sha1, &shasum)
    };
    sha512.or_else(sha1).into_iter().collect()
}
