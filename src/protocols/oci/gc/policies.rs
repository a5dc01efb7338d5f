//! Rules that take tags and manifests: retention, and what becomes of manifests that no tag reaches. Blobs follow in the same collection.
//!
//! A manifest goes only if it is older than the grace, no tag names it, no index that stays lists it, and it is about nothing that stays. Like a blob
//! it is condemned first, and stays if it is pushed or listed by a new index meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::super::super::prelude::*;
use super::super::inventory;
use super::super::keys::{self, Shard};
use super::super::links::{PAGE, PARALLEL};
use super::super::manage;
use super::super::manifests::MAX_STORED;
use super::super::model::Manifest;
use super::super::name::{self, Name};
use super::super::options::Untagged;
use super::super::pulls::Pulls;
use super::super::retention::{Facts, decide};
use super::super::tags::TagList;
use super::Collection;
use super::condemned::Condemned;
use super::marks::digests_in;
use crate::core::time::Timestamp;

/// Repositories with more manifests are left alone.
const MOST_MANIFESTS: usize = 100_000;
/// Manifests that one collection takes, over all repositories. The next one takes the others.
const MOST_GOING: usize = 50_000;

/// What is to go of one repository.
struct Plan {
    name: Name,
    /// Each with what it names, and the reason.
    tags: Vec<(String, Digest, String)>,
    manifests: Vec<(Digest, String)>,
    /// Those of them whose last tag goes with the plan.
    released: Vec<Digest>,
}

/// A manifest, as far as it matters here.
struct Node {
    modified: Timestamp,
    children: Vec<Digest>,
    subject: Option<Digest>,
}

/// A repository as the rules see it.
struct Facets {
    tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, Node>,
    pulls: Pulls,
}

impl Collection<'_> {
    /// Applies the rules to every repository. Answers the manifests that a dry run leaves where they are.
    pub(super) async fn policies(&mut self) -> Result<HashSet<(Name, Digest)>> {
        if !self.call.oci.options.has_policies() {
            return Ok(HashSet::new());
        }
        let (mut plans, mut going, mut looked, mut after) = (Vec::new(), 0, 0, None);
        'all: loop {
            let (names, next) = inventory::names_once(self.call.cx, after).await?;
            for name in names {
                self.job.at("applying rules", looked, None);
                self.step().await?;
                looked += 1;
                if going >= MOST_GOING {
                    self.report
                        .warnings
                        .push("more manifests are to go than one collection takes".to_owned());
                    break 'all;
                }
                if let Some(plan) = self.plan(name).await? {
                    going += plan.manifests.len();
                    plans.push(plan);
                }
            }
            if next.is_none() {
                break;
            }
            after = next;
        }
        if self.job.dry_run {
            return Ok(self.tell(plans));
        }
        for plan in &plans {
            self.announce_plan(plan).await?;
        }
        if plans.iter().any(|plan| !plan.manifests.is_empty()) {
            self.wait("waiting for objections").await?;
        }
        for plan in plans {
            self.step().await?;
            self.carry_out(plan).await?;
        }
        Ok(HashSet::new())
    }

    fn tell(&mut self, plans: Vec<Plan>) -> HashSet<(Name, Digest)> {
        let mut skipped = HashSet::new();
        for plan in plans {
            for (tag, _, reason) in plan.tags {
                self.report.name("tags", format!("{}:{tag}", plan.name), reason);
            }
            for (digest, reason) in plan.manifests {
                self.report.name("manifests", format!("{}@{digest}", plan.name), reason);
                skipped.insert((plan.name.clone(), digest));
            }
        }
        skipped
    }

    async fn plan(&mut self, name: Name) -> Result<Option<Plan>> {
        let Some(repository) = self.look(&name).await? else { return Ok(None) };
        let config = &self.call.oci.options;
        let now = self.call.cx.clock.now();
        let tagged: Vec<Facts> = repository
            .tags
            .iter()
            .filter_map(|(tag, digest)| {
                let pushed = repository.manifests.get(digest)?.modified;
                Some(Facts { tag: tag.clone(), pushed, pulled: repository.pulls.tags.get(tag).copied() })
            })
            .collect();
        let decided = decide(&config.retention, &config.immutable_tags, &name, &tagged, now);
        let mut tags: Vec<_> = decided
            .into_iter()
            .filter_map(|(tag, reason)| Some((tag.clone(), repository.tags.get(&tag)?.clone(), reason)))
            .collect();
        let mut dead = self.dead(&repository, &tags, now);
        // Signatures under tags of their own go with what they are about.
        let followers = followers(&repository, &dead);
        if !followers.is_empty() {
            tags.extend(followers);
            dead = self.dead(&repository, &tags, now);
        }
        if tags.is_empty() && dead.is_empty() {
            return Ok(None);
        }
        let released = closure(&repository, tags.iter().map(|(_, digest, _)| digest.clone()));
        let gone: BTreeSet<&str> = tags.iter().map(|(tag, _, _)| tag.as_str()).collect();
        let stay = repository.tags.iter().filter(|(tag, _)| !gone.contains(tag.as_str()));
        let kept = closure(&repository, stay.map(|(_, digest)| digest.clone()));
        let released = released.into_iter().filter(|digest| !kept.contains(digest)).collect();
        Ok(Some(Plan { name, tags, manifests: dead, released }))
    }

    /// Tags, manifests and pulls of a repository; `None` if it is too large, or has a manifest that can't be understood.
    async fn look(&mut self, name: &Name) -> Result<Option<Facets>> {
        let objects = &self.call.cx.objects;
        let tags = objects.document_revalidated::<TagList>(&keys::tags(name)?).await?;
        let tags = tags
            .map(|tags| tags.document.iter().map(|(tag, digest)| (tag.to_owned(), digest.clone())).collect())
            .unwrap_or_default();
        let mut listed = Vec::new();
        let (prefix, mut after) = (keys::manifests(name)?, None);
        loop {
            let page = objects.list(&prefix, after.as_deref(), PAGE, true).await?;
            let found = page.objects.iter();
            listed
                .extend(found.filter_map(|one| Some((keys::manifest_of(&prefix, &one.key)?, one.modified))));
            if listed.len() > MOST_MANIFESTS {
                let warning =
                    format!("{name} has more than {MOST_MANIFESTS} manifests: no rule is applied to it");
                self.report.warnings.push(warning);
                return Ok(None);
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        let reads: Vec<_> =
            listed.into_iter().map(|(digest, modified)| self.read(name, digest, modified).boxed()).collect();
        let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
        let mut manifests = HashMap::new();
        while let Some((digest, node)) = reads.try_next().await? {
            // One that can't be read may list anything, so nothing of this repository goes.
            let Some(node) = node else { return Ok(None) };
            manifests.insert(digest, node);
        }
        Ok(Some(Facets { tags, manifests, pulls: self.call.pulls(name).await? }))
    }

    async fn read(&self, name: &Name, digest: Digest, modified: Timestamp) -> Result<(Digest, Option<Node>)> {
        let key = keys::manifest(name, &digest)?;
        let Some((bytes, _)) = self.call.cx.objects.inspect(&key, "manifest", MAX_STORED).await? else {
            return Ok((digest, Some(Node { modified, children: Vec::new(), subject: None })));
        };
        let Some(named) = digests_in(&bytes) else { return Ok((digest, None)) };
        let manifest = Manifest::parse_stored(&bytes);
        let subject = manifest.as_ref().and_then(|manifest| manifest.subject.clone());
        let children = match manifest {
            Some(manifest) if manifest.references().next().is_some() => {
                manifest.children.into_iter().map(|child| child.digest).collect()
            }
            // A type that nobody here knows may list manifests in any member. Its subject is not part of it: it goes with that.
            _ => named.into_iter().filter(|one| Some(one) != subject.as_ref()).collect(),
        };
        Ok((digest, Some(Node { modified, children, subject })))
    }

    /// The manifests that nothing keeps once these tags are gone, each with the reason.
    fn dead(
        &self,
        repository: &Facets,
        gone: &[(String, Digest, String)],
        now: Timestamp,
    ) -> Vec<(Digest, String)> {
        let gc = &self.call.oci.options.gc;
        let gone_tags: BTreeSet<&str> = gone.iter().map(|(tag, _, _)| tag.as_str()).collect();
        let named: HashSet<&Digest> = repository
            .tags
            .iter()
            .filter(|(tag, _)| !gone_tags.contains(tag.as_str()))
            .map(|(_, digest)| digest)
            .collect();
        let by_rule = gone.iter().map(|(_, digest, _)| digest.clone());
        let before = repository.pulls.released.iter().filter_map(|(digest, since)| {
            let digest = Digest::parse(digest)?;
            // One that was pushed again since is somebody's.
            (repository.manifests.get(&digest)?.modified <= *since).then_some(digest)
        });
        let released = closure(repository, by_rule.chain(before));
        let age = Duration::from_millis(gc.untagged_age_ms);
        let is_root = |digest: &Digest, node: &Node| {
            if named.contains(digest) || node.modified > self.deadline {
                return true;
            }
            let used = repository.pulls.of_manifest(digest).max(Some(node.modified)).unwrap_or(node.modified);
            !released.contains(digest) && (gc.untagged == Untagged::Keep || now.since(used) < age)
        };
        let roots = repository.manifests.iter().filter(|(digest, node)| is_root(digest, node));
        let live = closure(repository, roots.map(|(digest, _)| digest.clone()));
        let mut dead: Vec<_> = repository
            .manifests
            .keys()
            .filter(|digest| !live.contains(*digest))
            .map(|digest| {
                let reason = if released.contains(digest) { "its tags went" } else { "no tag reaches it" };
                (digest.clone(), reason.to_owned())
            })
            .collect();
        dead.sort();
        dead
    }

    /// Writes down what the plan releases, and condemns what is to go.
    async fn announce_plan(&self, plan: &Plan) -> Result<()> {
        let objects = &self.call.cx.objects;
        if !plan.released.is_empty() {
            let (released, now) = (plan.released.clone(), self.call.cx.clock.now());
            let change = move |pulls: &mut Pulls| {
                for digest in &released {
                    pulls.released.insert(digest.to_string(), now);
                }
                Ok(Edit::Changed(()))
            };
            objects.update(&keys::pulls(&plan.name)?, &ObjectInfo::default(), change).await?;
        }
        let mut shards: BTreeMap<Shard, Vec<String>> = BTreeMap::new();
        for (digest, _) in &plan.manifests {
            shards.entry(Shard::of(digest)).or_default().push(digest.to_string());
        }
        for (shard, digests) in shards {
            self.put_on_list(Some(&shard), digests).await?;
        }
        Ok(())
    }

    /// Takes tags and manifests, as a client that deletes them does.
    async fn carry_out(&mut self, plan: Plan) -> Result<()> {
        let name = &plan.name;
        if !plan.tags.is_empty() {
            let pairs = plan.tags.iter().map(|(tag, digest, _)| (tag.clone(), digest.clone())).collect();
            match manage::untag(self.call, name, pairs).await {
                Ok(gone) => {
                    for (tag, _, reason) in plan.tags.iter().filter(|(tag, _, _)| gone.contains(tag)) {
                        self.report.name("tags", format!("{name}:{tag}"), reason.clone());
                    }
                }
                Err(error) if error.kind() == Kind::Denied => {
                    self.report.warnings.push(format!("tags of {name} stay: a hook refuses to let them go"));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if plan.manifests.is_empty() {
            return Ok(());
        }
        // Looked at again: what was pushed since may name some of them.
        let Some(repository) = self.look(name).await? else { return Ok(()) };
        let wanted: HashSet<&Digest> = repository.tags.values().collect();
        let fresh = repository.manifests.iter().filter(|(_, node)| node.modified > self.deadline);
        let kept =
            closure(&repository, fresh.map(|(digest, _)| digest.clone()).chain(wanted.into_iter().cloned()));
        let mut gone = BTreeSet::new();
        for (digest, reason) in &plan.manifests {
            if !kept.contains(digest) && self.remove_manifest(name, digest).await? {
                self.report.name("manifests", format!("{name}@{digest}"), reason.clone());
                gone.insert(digest.to_string());
            }
        }
        self.forget(name, gone).await
    }

    /// Nothing is to be remembered of manifests that are gone.
    async fn forget(&self, name: &Name, gone: BTreeSet<String>) -> Result<()> {
        let change = move |pulls: &mut Pulls| {
            let before = pulls.released.len() + pulls.manifests.len();
            pulls.released.retain(|digest, _| !gone.contains(digest));
            pulls.manifests.retain(|digest, _| !gone.contains(digest));
            let changed = pulls.released.len() + pulls.manifests.len() != before;
            Ok(if changed { Edit::Changed(()) } else { Edit::Unchanged(()) })
        };
        self.call.cx.objects.update(&keys::pulls(name)?, &ObjectInfo::default(), change).await
    }

    /// Removes one manifest unless somebody objects.
    async fn remove_manifest(&mut self, name: &Name, digest: &Digest) -> Result<bool> {
        self.step().await?;
        self.removing = true;
        let began = Instant::now();
        let (objects, key) = (&self.call.cx.objects, keys::condemned(&Shard::of(digest))?);
        let (text, by, now) = (digest.to_string(), self.id.clone(), self.call.cx.clock.now());
        let go = {
            let (text, by) = (text.clone(), by.clone());
            move |list: &mut Condemned| Ok(Edit::Changed(list.go(std::slice::from_ref(&text), &by, now)))
        };
        if objects.update(&key, &ObjectInfo::default(), go).await?.is_empty() {
            return Ok(false);
        }
        let removed = if began.elapsed() > super::sweep::WINDOW || self.job.may_go_on().is_err() {
            Ok(false)
        } else {
            manage::remove_manifest(self.call, name, digest).await.map(|()| true)
        };
        let removed = match removed {
            Err(error) if error.kind() == Kind::Denied => {
                self.report
                    .warnings
                    .push(format!("{name}@{digest} stays: a hook refuses to let it be deleted"));
                Ok(false)
            }
            other => other,
        };
        // After a fault it may still go: it stays on the list until that is certain.
        let removed = removed?;
        let settle = move |list: &mut Condemned| {
            list.settle(std::slice::from_ref(&text), &[], &by, now);
            Ok(Edit::Changed(()))
        };
        self.call.cx.objects.update(&key, &ObjectInfo::default(), settle).await?;
        Ok(removed)
    }
}

/// What these reach: the manifests that they list, what is about any of them, and so on.
fn closure(repository: &Facets, from: impl Iterator<Item = Digest>) -> HashSet<Digest> {
    let mut about: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, node) in &repository.manifests {
        if let Some(subject) = &node.subject {
            about.entry(subject).or_default().push(digest);
        }
    }
    let mut reached = HashSet::new();
    let mut waiting: Vec<Digest> = from.filter(|digest| repository.manifests.contains_key(digest)).collect();
    while let Some(digest) = waiting.pop() {
        let Some(node) = repository.manifests.get(&digest) else { continue };
        if reached.contains(&digest) {
            continue;
        }
        let about = about.get(&digest).into_iter().flatten().copied();
        let next = node.children.iter().chain(about).filter(|one| !reached.contains(*one));
        waiting.extend(next.filter(|one| repository.manifests.contains_key(one)).cloned());
        reached.insert(digest);
    }
    reached
}

/// The tags of signatures whose subject is among the dead.
fn followers(repository: &Facets, dead: &[(Digest, String)]) -> Vec<(String, Digest, String)> {
    let mut followers = Vec::new();
    for (subject, _) in dead {
        let own = name::fallback_tag(subject);
        let range = repository.tags.range(own.clone()..).take_while(|(tag, _)| tag.starts_with(&own));
        followers.extend(
            range
                .filter(|(tag, _)| name::is_fallback(tag))
                .map(|(tag, digest)| (tag.clone(), digest.clone(), "what it is about went".to_owned())),
        );
    }
    followers
}
