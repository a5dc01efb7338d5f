//! Whether tags name manifests that are there, manifests blobs that are there, and all of them are their digests.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use moka::sync::Cache;

use super::super::prelude::*;
use super::links::PAGE;
use super::model::Manifest;
use super::name::Name;
use super::tags::TagList;
use super::{inventory, keys, manifests};
use crate::protocols::check::{AT_ONCE, Wanted};

/// Blobs that are remembered as there: base layers are named by many manifests.
const REMEMBERED: u64 = 100_000;

/// One run.
struct Run<'a> {
    cx: &'a Cx,
    check: &'a Check,
    /// Sizes of blobs that were looked at.
    there: Cache<Digest, u64>,
}

/// Goes through all repositories, then through all blobs.
pub(super) async fn verify(cx: &Cx, check: &Check) -> Result<()> {
    let run = Run { cx, check, there: Cache::new(REMEMBERED) };
    let mut after = None;
    loop {
        let (names, next) = inventory::names_once(cx, after).await?;
        let work: Vec<_> = names.iter().map(|name| run.repository(name).boxed()).collect();
        stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        if next.is_none() {
            break;
        }
        after = next;
    }
    run.blobs().await
}

impl Run<'_> {
    async fn repository(&self, name: &Name) -> Result<()> {
        let mut after: Option<String> = None;
        let prefix = keys::manifests(name)?;
        loop {
            let page = self.cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            for digest in page.objects.iter().filter_map(|one| keys::manifest_of(&prefix, &one.key)) {
                self.manifest(name, &digest).await?;
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        self.tags(name).await?;
        self.check.passed();
        Ok(())
    }

    async fn tags(&self, name: &Name) -> Result<()> {
        let key = keys::tags(name)?;
        match self.cx.objects.document_revalidated::<TagList>(&key).await {
            Ok(None) => Ok(()),
            Ok(Some(list)) => {
                for (tag, digest) in list.document.iter() {
                    let manifest = keys::manifest(name, digest)?;
                    let wanted = Wanted {
                        what: format!("the manifest that the tag {tag} names"),
                        ..Wanted::default()
                    };
                    self.check.object(self.cx, name.as_str(), &manifest, &wanted).await?;
                }
                Ok(())
            }
            Err(error) if error.kind() == Kind::Internal => {
                let problem = format!("the tag list can't be read: {}", error.message());
                self.check.found(self.cx, name.as_str(), &key, problem);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn manifest(&self, name: &Name, digest: &Digest) -> Result<()> {
        let key = keys::manifest(name, digest)?;
        let wanted = Wanted { what: "the manifest".to_owned(), digests: vec![digest.clone()], size: None };
        self.check.object(self.cx, name.as_str(), &key, &wanted).await?;
        let Some((bytes, complete)) = manifests::read(self.cx, &key).await? else { return Ok(()) };
        let Some(manifest) = Manifest::parse_stored(&bytes) else { return Ok(()) };
        // One that came without all that it names was taken so.
        for blob in manifest.blobs.iter().filter(|blob| complete && !blob.foreign) {
            self.blob(name, &key, &blob.digest, blob.size).await?;
        }
        Ok(())
    }

    /// A blob that a manifest names. What it hashes to is looked at once, not for every manifest.
    async fn blob(&self, name: &Name, manifest: &Key, digest: &Digest, size: u64) -> Result<()> {
        let there = match self.there.get(digest) {
            Some(size) => Some(size),
            None => self.cx.objects.stat(&keys::blob(digest)?).await?.map(|meta| meta.size),
        };
        match there {
            // A manifest may be named in the place of a blob.
            None if self.cx.objects.stat(&keys::manifest(name, digest)?).await?.is_some() => {}
            None => {
                self.check.found(
                    self.cx,
                    name.as_str(),
                    manifest,
                    format!("the manifest names {digest}, which is not there"),
                );
            }
            Some(found) => {
                self.there.insert(digest.clone(), found);
                if found != size {
                    let problem = format!("the manifest gives {digest} {size} bytes, and it has {found}");
                    self.check.found(self.cx, name.as_str(), manifest, problem);
                }
                if self.cx.objects.stat(&keys::link(name, digest)?).await?.is_none()
                    && self.cx.objects.stat(&keys::repository(name)?).await?.is_some()
                {
                    let problem = format!("{digest} is there but not visible in this repository");
                    self.check.found(self.cx, name.as_str(), manifest, problem);
                }
            }
        }
        Ok(())
    }

    async fn blobs(&self) -> Result<()> {
        let mut after: Option<String> = None;
        let prefix = keys::all_blobs()?;
        loop {
            let page = self.cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            let work = page.objects.iter().filter_map(|one| Some((&one.key, keys::blob_of(&one.key)?)));
            let work: Vec<_> = work.map(|(key, digest)| self.blob_itself(key, digest).boxed()).collect();
            stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }

    async fn blob_itself(&self, key: &Key, digest: Digest) -> Result<()> {
        let wanted = Wanted { what: "the blob".to_owned(), digests: vec![digest], size: None };
        self.check.object(self.cx, "", key, &wanted).await
    }
}
