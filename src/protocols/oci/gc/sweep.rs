//! The two phases: condemn what is dead, then remove of that what nobody has objected to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::super::super::prelude::*;
use super::super::keys::{self, ALGORITHMS, Shard};
use super::super::links::{PAGE, PARALLEL};
use super::super::name::Name;
use super::Collection;
use super::condemned::Condemned;
use super::join::{Dead, Join};
use super::marks::Marks;

/// Digests that are removed between two looks at the lease.
const BATCH: usize = 200;
/// For so long after they were declared to be going, digests are removed; a process that was asleep meanwhile leaves the rest.
pub(super) const WINDOW: Duration = Duration::from_secs(15);
/// How long one deletion may take before nobody waits for it.
const ONE: Duration = Duration::from_secs(30);

impl Collection<'_> {
    /// Condemns what is dead. Answers how many digests.
    pub(super) async fn condemn(&mut self, marks: &Marks, empty: &mut BTreeSet<Name>) -> Result<u64> {
        let mut condemned = 0;
        for algorithm in ALGORITHMS {
            let mut join = Join::new(&self.call.cx.objects, algorithm, "", marks, self.deadline)?;
            join.empty = Some(&mut *empty);
            let mut waiting: Vec<String> = Vec::new();
            let mut shard = None;
            let mut looked = 0;
            while let Some(dead) = join.next().await? {
                let own = Shard::of(&dead.digest);
                if shard.as_ref() != Some(&own) || waiting.len() >= BATCH {
                    condemned += self.put_on_list(shard.as_ref(), std::mem::take(&mut waiting)).await?;
                    shard = Some(own);
                }
                if self.job.dry_run {
                    self.count(&dead, dead.blob.is_some());
                } else {
                    waiting.push(dead.digest.to_string());
                }
                if join.seen.links + join.seen.blobs > looked + PAGE as u64 {
                    looked = join.seen.links + join.seen.blobs;
                    self.job.at("looking at blobs", join.seen.blobs, None);
                    self.step().await?;
                }
            }
            condemned += self.put_on_list(shard.as_ref(), waiting).await?;
            self.report.examine("links", join.seen.links);
            self.report.examine("blobs", join.seen.blobs);
        }
        Ok(condemned)
    }

    fn count(&mut self, dead: &Dead, blob: bool) {
        self.report.remove("links", dead.links.len() as u64);
        if blob {
            self.report.remove("blobs", 1);
            self.report.bytes += dead.blob.unwrap_or_default();
        }
    }

    pub(super) async fn put_on_list(&self, shard: Option<&Shard>, digests: Vec<String>) -> Result<u64> {
        let Some(shard) = shard.filter(|_| !digests.is_empty()) else { return Ok(0) };
        let (by, now, count) = (self.id.clone(), self.call.cx.clock.now(), digests.len() as u64);
        let change = move |list: &mut Condemned| {
            Ok(if list.condemn(&digests, &by, now) > 0 { Edit::Changed(()) } else { Edit::Unchanged(()) })
        };
        self.call.cx.objects.update(&keys::condemned(shard)?, &ObjectInfo::default(), change).await?;
        Ok(count)
    }

    /// Removes what is still condemned and still dead.
    pub(super) async fn remove(&mut self, marks: &Marks) -> Result<()> {
        let lists = self.lists().await?;
        let total = lists.len() as u64;
        for (done, key) in lists.into_iter().enumerate() {
            self.job.at("removing", done as u64, Some(total));
            self.step().await?;
            let Some(shard) = keys::condemned_of(&key) else { continue };
            let list = self.call.cx.objects.document_revalidated::<Condemned>(&key).await?;
            let mine: BTreeSet<String> = list
                .iter()
                .flat_map(|list| list.document.condemned_by(&self.id))
                .map(str::to_owned)
                .collect();
            if !mine.is_empty() {
                self.remove_of(&key, &shard, &mine, marks).await?;
            }
        }
        Ok(())
    }

    async fn remove_of(
        &mut self,
        key: &Key,
        shard: &Shard,
        mine: &BTreeSet<String>,
        marks: &Marks,
    ) -> Result<()> {
        // Listed again, so that whatever was written since is seen.
        let mut join =
            Join::new(&self.call.cx.objects, shard.algorithm(), shard.digits(), marks, self.deadline)?;
        let mut batch = BTreeMap::new();
        while let Some(dead) = join.next().await? {
            let text = dead.digest.to_string();
            if mine.contains(&text) {
                batch.insert(text, dead);
            }
            if batch.len() >= BATCH {
                self.remove_batch(key, std::mem::take(&mut batch)).await?;
            }
        }
        self.remove_batch(key, batch).await
    }

    async fn remove_batch(&mut self, key: &Key, batch: BTreeMap<String, Dead>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.step().await?;
        self.removing = true;
        let began = Instant::now();
        let (by, now, digests) =
            (self.id.clone(), self.call.cx.clock.now(), batch.keys().cloned().collect::<Vec<_>>());
        let go = move |list: &mut Condemned| Ok(Edit::Changed(list.go(&digests, &by, now)));
        let going = self.call.cx.objects.update(key, &ObjectInfo::default(), go).await?;
        let going: BTreeSet<String> = going.into_iter().collect();
        let work: Vec<_> = batch
            .into_iter()
            .filter(|(digest, _)| going.contains(digest))
            .map(|(_, dead)| self.remove_one(dead, began).boxed())
            .collect();
        let ends: Vec<(Dead, End)> = stream::iter(work).buffer_unordered(PARALLEL).collect().await;
        let (mut gone, mut left, mut failed) = (Vec::new(), Vec::new(), None);
        for (dead, end) in ends {
            match end {
                End::Gone => {
                    self.count(&dead, dead.blob.is_some());
                    gone.push(dead.digest.to_string());
                }
                End::Denied => {
                    self.report
                        .warnings
                        .push(format!("{} stays: a hook refuses to let it be deleted", dead.digest));
                    gone.push(dead.digest.to_string());
                }
                End::Left => left.push(dead.digest.to_string()),
                // It may still go, so it stays on the list until that is certain.
                End::Unknown(error) => failed = Some(error),
            }
        }
        let (by, now) = (self.id.clone(), self.call.cx.clock.now());
        let settle = move |list: &mut Condemned| {
            list.settle(&gone, &left, &by, now);
            Ok(Edit::Changed(()))
        };
        self.call.cx.objects.update(key, &ObjectInfo::default(), settle).await?;
        failed.map_or(Ok(()), Err)
    }

    /// Removes one digest: links first, so that nothing names a blob that is not there.
    async fn remove_one(&self, dead: Dead, began: Instant) -> (Dead, End) {
        // Somebody else may have taken over from a process that was stopped in between.
        if began.elapsed() > WINDOW || self.job.may_go_on().is_err() {
            return (dead, End::Left);
        }
        let end = match timeout(ONE, self.delete(&dead)).await {
            Ok(Ok(())) => End::Gone,
            Ok(Err(error)) if error.kind() == Kind::Denied => End::Denied,
            Ok(Err(error)) => End::Unknown(error),
            Err(_) => End::Unknown(Error::unavailable("the store takes too long to delete")),
        };
        (dead, end)
    }

    async fn delete(&self, dead: &Dead) -> Result<()> {
        for name in &dead.links {
            self.call.unlink(name, &dead.digest).await?;
        }
        if let Some(size) = dead.blob {
            let info =
                ObjectInfo { size: Some(size), ..ObjectInfo::default() }.digest(dead.digest.to_string());
            self.call.cx.objects.delete(&keys::blob(&dead.digest)?, &info).await?;
        }
        Ok(())
    }

    /// Finishes what collections have left that died long ago: pushes of such a digest are waiting.
    pub(super) async fn clear_up(&mut self) -> Result<()> {
        let now = self.call.cx.clock.now();
        for key in self.lists().await? {
            let list = self.call.cx.objects.document_revalidated::<Condemned>(&key).await?;
            let stuck = list.map(|list| list.document.stuck(now)).unwrap_or_default();
            for digest in stuck.iter().filter_map(|text| Digest::parse(text)) {
                self.step().await?;
                self.unlink_if_gone(&digest).await?;
            }
            self.removing |= !stuck.is_empty();
            // A push that sees this looks what is left, and mends its link.
            let by = self.id.clone();
            let change = move |list: &mut Condemned| {
                let changed = list.clear_dead(now) | list.bury(&stuck, &by, now);
                Ok(if changed { Edit::Changed(()) } else { Edit::Unchanged(()) })
            };
            self.call.cx.objects.update(&key, &ObjectInfo::default(), change).await?;
        }
        Ok(())
    }

    /// A push that has waited for a dead collection in vain may have left a link to a blob that is gone.
    async fn unlink_if_gone(&self, digest: &Digest) -> Result<()> {
        if self.call.cx.objects.stat(&keys::blob(digest)?).await?.is_some() {
            return Ok(());
        }
        let (prefix, mut after) = (keys::links(digest)?, None);
        loop {
            let page = self.call.cx.objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            for name in page.objects.iter().filter_map(|one| keys::link_of(&prefix, &one.key)) {
                self.call.unlink(&name, digest).await?;
            }
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }
}

/// How removing a digest has ended.
enum End {
    Gone,
    /// A hook refuses: its links are gone, the blob is there.
    Denied,
    /// Not begun.
    Left,
    Unknown(Error),
}
