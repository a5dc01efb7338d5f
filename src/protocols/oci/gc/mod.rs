//! Online garbage collection: removes what nothing names, while pushes and pulls go on, from any number of processes.
//!
//! One collection: (1) says that it is under way; (2) reads what all manifests reference; (3) lists links and blobs side by side, and condemns
//! what is unreferenced and older than the grace; (4) once every process must know of it, looks at those again and removes the ones that nobody has
//! objected to. What pushes do about it is in [`settle`]; how they meet, in [`condemned`].
//!
//! Why a blob that is needed is never removed:
//! - A manifest is stored within half a grace of the moment at which each of its links was young (or was made so), so whatever manifest a collection
//!   has not read depends on links that are younger than the grace, measured by the store's own clock at the beginning of the collection.
//! - Whoever writes a link asks afterwards whether a collection is under way, on knowledge a second old at most. If not, the collection begins to remove
//!   long after that, and lists the link. If so, the digest is taken off the list by compare-and-swap, and either stays or is seen to go.
//! - Tags and manifests that a rule takes ([`policies`]) go first, by the same way of asking.
//! - A blob goes only if no repository links it and no manifest anywhere references it: also not in a repository that was filled by another program
//!   and has no links yet.

mod condemned;
mod join;
mod marks;
mod policies;
mod settle;
mod sweep;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::prelude::*;
use super::links::PAGE;
use super::name::Name;
use super::{Call, inventory, keys};
use crate::core::id;
use crate::core::time::Timestamp;
use condemned::{Collections, Condemned};
use marks::Marks;
pub(super) use settle::{Awareness, Guard};

/// How long a collection waits between saying that it is under way and removing anything, and again before it says that it is over: longer
/// than processes believe what they know of collections, and than a push takes from looking at a blob to asking about it.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a long collection says that it is alive.
const ALIVE: Duration = Duration::from_mins(5);
/// Most repositories that one collection looks at whether they are empty.
const MOST_EMPTY: usize = 10_000;

/// A collection under way.
pub(super) struct Collection<'a> {
    call: &'a Call<'a>,
    job: &'a Job,
    id: String,
    /// When it last said so.
    said: Instant,
    /// What was written after this moment of the store's clock is none of its business.
    deadline: Timestamp,
    /// Whether anything may be gone.
    removing: bool,
    pub(super) report: Report,
}

/// Collects, and says what went. In a dry run nothing is written.
pub(super) async fn collect(call: &Call<'_>, job: &Job) -> Result<Report> {
    let mut collection = Collection::begin(call, job).await?;
    let done = collection.run().await;
    let ended = collection.end(done.is_ok()).await;
    done.and(ended)?;
    Ok(collection.report)
}

/// Whether the last collection was so long ago that the next one is due.
pub(super) async fn is_due(call: &Call<'_>) -> Result<bool> {
    let found = call.cx.objects.document_revalidated::<Collections>(&keys::collections()?).await?;
    let last = found.and_then(|found| found.document.finished);
    let wait = Duration::from_millis(call.oci.options.gc.interval_ms);
    Ok(last.is_none_or(|last| call.cx.clock.now().since(last) >= wait))
}

impl<'a> Collection<'a> {
    async fn begin(call: &'a Call<'a>, job: &'a Job) -> Result<Self> {
        let mut this = Self {
            call,
            job,
            id: id::uuid(),
            said: Instant::now(),
            deadline: Timestamp::default(),
            removing: false,
            report: Report::default(),
        };
        let grace = Duration::from_millis(call.oci.options.gc.grace_ms);
        let begin = if job.dry_run { call.cx.clock.now() } else { this.announce().await? };
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        this.deadline = Timestamp::from_millis(begin.as_millis().saturating_sub(grace));
        Ok(this)
    }

    /// Says that it is alive. Answers when, by the clock of the store: that of this machine may be wrong.
    async fn announce(&mut self) -> Result<Timestamp> {
        let (key, id, now) = (keys::collections()?, self.id.clone(), self.call.cx.clock.now());
        let change = move |list: &mut Collections| {
            list.enter(&id, now);
            Ok(Edit::Changed(()))
        };
        self.call.cx.objects.update(&key, &ObjectInfo::default(), change).await?;
        self.said = Instant::now();
        let meta = self.call.cx.objects.stat(&key).await?;
        Ok(meta.map_or(now, |meta| meta.modified))
    }

    /// Whether it may go on, saying now and then that it does.
    async fn step(&mut self) -> Result<()> {
        self.job.may_go_on()?;
        if !self.job.dry_run && self.said.elapsed() > ALIVE {
            self.announce().await?;
        }
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        if !self.job.dry_run {
            self.clear_up().await?;
        }
        let skipped = self.policies().await?;
        let mut marks = Marks::new(skipped);
        marks.collect(&self.call.cx.objects, self.job).await?;
        self.report.examine("manifests", marks.manifests);
        for (name, digest) in &marks.unsure {
            let warning = format!(
                "the manifest {name}@{digest} can't be read: its repository keeps all it has, and no blob goes"
            );
            self.report.warnings.push(warning);
        }
        if marks.lost {
            self.report
                .warnings
                .push("a manifest outside of any repository can't be read: no blob goes".to_owned());
        }
        self.referrers(&marks).await?;
        let mut empty = self.maybe_empty().await?;
        let condemned = self.condemn(&marks, &mut empty).await?;
        self.empty_repositories(empty).await?;
        if condemned > 0 && !self.job.dry_run {
            self.wait("waiting for objections").await?;
            self.remove(&marks).await?;
        }
        Ok(())
    }

    async fn wait(&mut self, phase: &str) -> Result<()> {
        self.job.at(phase, 0, None);
        sleep(SETTLE).await;
        self.step().await
    }

    /// Says that it is over.
    async fn end(&mut self, finished: bool) -> Result<()> {
        if self.job.dry_run {
            return Ok(());
        }
        if self.removing {
            // A push that has seen what is gone now may not have looked at the list yet.
            self.job.at("waiting for pushes", 0, None);
            sleep(SETTLE).await;
        }
        let by = self.id.clone();
        self.each_list(move |list| list.clear(&by)).await?;
        let (key, id, now) = (keys::collections()?, self.id.clone(), self.call.cx.clock.now());
        let change = move |list: &mut Collections| {
            list.running.remove(&id);
            if finished {
                list.finished = Some(now);
            }
            Ok(Edit::Changed(()))
        };
        self.call.cx.objects.update(&key, &ObjectInfo::default(), change).await
    }

    /// Changes every list of condemned digests; those that are empty are not read.
    async fn each_list(
        &self,
        change: impl Fn(&mut Condemned) -> bool + Clone + Send + Sync + 'static,
    ) -> Result<()> {
        let objects = &self.call.cx.objects;
        for key in self.lists().await? {
            let change = change.clone();
            let change = move |list: &mut Condemned| {
                Ok(if change(list) { Edit::Changed(()) } else { Edit::Unchanged(()) })
            };
            objects.update(&key, &ObjectInfo::default(), change).await?;
        }
        Ok(())
    }

    /// The lists of condemned digests that have something on them: at most one for each shard.
    async fn lists(&self) -> Result<Vec<Key>> {
        let page = self.call.cx.objects.list(&keys::all_condemned()?, None, PAGE, false).await?;
        let empty = Document::serialize(&Condemned::default())?.len() as u64;
        Ok(page.objects.into_iter().filter(|one| one.size > empty).map(|one| one.key).collect())
    }

    /// Referrers' descriptors whose manifest is gone: what a crash between two deletions leaves.
    async fn referrers(&mut self, marks: &Marks) -> Result<()> {
        let (objects, prefix) = (&self.call.cx.objects, keys::all_referrers()?);
        let mut after = None;
        loop {
            let page = objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            self.report.examine("referrers", page.objects.len() as u64);
            for one in page.objects.iter().filter(|one| one.modified <= self.deadline) {
                let Some((name, digest)) = keys::referrer_of(&one.key) else { continue };
                if marks.has_manifest(&name, &digest) {
                    continue;
                }
                if self.job.dry_run || self.remove_referrer(&one.key, &name, &digest).await? {
                    self.report.remove("referrers", 1);
                }
            }
            self.step().await?;
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }

    /// Removes a descriptor unless its manifest is there after all. A push stores the manifest first, so a second look suffices.
    async fn remove_referrer(&self, key: &Key, name: &Name, digest: &Digest) -> Result<bool> {
        let (objects, manifest) = (&self.call.cx.objects, keys::manifest(name, digest)?);
        if objects.stat(&manifest).await?.is_some() {
            return Ok(false);
        }
        let Some((bytes, _)) = objects.inspect(key, "referrer", u64::MAX).await? else { return Ok(false) };
        objects.delete(key, &ObjectInfo::default()).await?;
        self.call.oci.known.referrers.invalidate(key);
        if objects.stat(&manifest).await?.is_none() {
            return Ok(true);
        }
        let options =
            PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
        objects.put(key, bytes, options, &ObjectInfo::default()).await?;
        Ok(false)
    }

    /// Repositories without a manifest and without a tag, whose markers are older than the grace.
    async fn maybe_empty(&mut self) -> Result<BTreeSet<Name>> {
        let (objects, prefix) = (&self.call.cx.objects, keys::repositories()?);
        let (mut empty, mut after) = (BTreeSet::new(), None);
        loop {
            let page = objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            self.report.examine("repositories", page.objects.len() as u64);
            for one in page.objects.iter().filter(|one| one.modified <= self.deadline) {
                let Some(name) = keys::repository_of(&one.key) else { continue };
                if empty.len() < MOST_EMPTY && self.has_nothing(&name).await? {
                    empty.insert(name);
                }
            }
            self.step().await?;
            let Some(next) = page.next else { return Ok(empty) };
            after = Some(next);
        }
    }

    async fn has_nothing(&self, name: &Name) -> Result<bool> {
        let (page, next) = self.call.manifest_page(name, None).await?;
        if !page.is_empty() || next.is_some() {
            return Ok(false);
        }
        let tags =
            self.call.cx.objects.document_revalidated::<super::tags::TagList>(&keys::tags(name)?).await?;
        Ok(tags.is_none_or(|tags| tags.document.names().next().is_none()))
    }

    /// Removes the markers of repositories that have no link either. One that is pushed to meanwhile gets its marker again when it is next asked for.
    async fn empty_repositories(&mut self, empty: BTreeSet<Name>) -> Result<()> {
        for name in empty {
            if !self.job.dry_run {
                let objects = &self.call.cx.objects;
                objects.delete(&keys::repository(&name)?, &ObjectInfo::default()).await?;
                self.call.oci.known.forget_repository(&name).await;
                if !self.has_nothing(&name).await? {
                    if !self.call.repository_exists(&name).await? {
                        self.call.recreate_repository(&name).await?;
                    }
                    continue;
                }
                objects.delete(&keys::pulls(&name)?, &ObjectInfo::default()).await?;
                inventory::record_gone(self.call.cx, &name).await;
            }
            self.report.name(
                "repositories",
                name.to_string(),
                "it has been empty for longer than the grace".to_owned(),
            );
        }
        Ok(())
    }
}
