//! When manifests and tags were last pulled: gathered in memory, written down now and then, merged with what other processes have gathered.
//!
//! A pull costs no request. What a process has gathered since it last wrote is lost when it is killed: rules that ask for it count in days.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::prelude::*;
use super::name::Name;
use super::{Call, keys};
use crate::core::time::Timestamp;

/// A repository is written down at most so often.
const EVERY: Duration = Duration::from_mins(5);
/// Within so long a second pull says nothing new.
const SAME: Duration = Duration::from_mins(1);
/// Most manifests and tags that are remembered until they are written down; further ones count when there is room again.
const MOST: usize = 100_000;
/// Most of a repository that are kept; the oldest go first.
const MOST_KEPT: usize = 50_000;

/// What is known of a repository's pulls, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pulls {
    pub(super) manifests: BTreeMap<String, Timestamp>,
    pub(super) tags: BTreeMap<String, Timestamp>,
    /// Manifests whose last tag a retention rule took, and when: they go even where untagged ones stay.
    pub(super) released: BTreeMap<String, Timestamp>,
}

impl Pulls {
    /// Takes over what is later. Whether anything is.
    fn merge(&mut self, other: &Self) -> bool {
        let manifests = later(&mut self.manifests, &other.manifests);
        later(&mut self.tags, &other.tags) | manifests
    }

    pub(super) fn of_manifest(&self, digest: &Digest) -> Option<Timestamp> {
        self.manifests.get(&digest.to_string()).copied()
    }
}

fn later(mine: &mut BTreeMap<String, Timestamp>, theirs: &BTreeMap<String, Timestamp>) -> bool {
    let mut changed = false;
    for (name, moment) in theirs {
        if mine.get(name).is_none_or(|known| known < moment) {
            mine.insert(name.clone(), *moment);
            changed = true;
        }
    }
    if mine.len() > MOST_KEPT {
        let mut moments: Vec<_> = mine.values().copied().collect();
        moments.sort_unstable();
        let oldest = moments.get(mine.len() - MOST_KEPT).copied().unwrap_or_default();
        mine.retain(|_, moment| *moment >= oldest);
    }
    changed
}

impl JsonDocument for Pulls {
    const LIMIT: u64 = 32 << 20;
    const NAME: &'static str = "record of pulls";
}

/// What this process has gathered and not written down yet.
#[derive(Default)]
pub(super) struct Gathered(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    repositories: HashMap<Name, Fresh>,
    entries: usize,
}

struct Fresh {
    manifests: HashMap<Digest, Timestamp>,
    tags: HashMap<String, Timestamp>,
    /// When the first of it was gathered.
    since: Instant,
}

impl Gathered {
    fn note(&self, name: &Name, digest: &Digest, tag: Option<&str>, now: Timestamp) {
        let mut inner = self.0.lock();
        let full = inner.entries >= MOST;
        let mut added = 0;
        if full && !inner.repositories.contains_key(name) {
            return;
        }
        let fresh = inner.repositories.entry(name.clone()).or_insert_with(|| Fresh {
            manifests: HashMap::new(),
            tags: HashMap::new(),
            since: Instant::now(),
        });
        match fresh.manifests.get_mut(digest) {
            Some(known) if now.since(*known) < SAME => {}
            Some(known) => *known = now,
            None if full => {}
            None => {
                fresh.manifests.insert(digest.clone(), now);
                added += 1;
            }
        }
        if let Some(tag) = tag {
            match fresh.tags.get_mut(tag) {
                Some(known) => *known = now,
                None if full => {}
                None => {
                    fresh.tags.insert(tag.to_owned(), now);
                    added += 1;
                }
            }
        }
        inner.entries += added;
    }

    /// Takes what was gathered, of repositories that wait for `age`.
    fn take(&self, age: Duration) -> Vec<(Name, Pulls)> {
        let mut inner = self.0.lock();
        let due: Vec<_> = inner
            .repositories
            .iter()
            .filter(|(_, fresh)| fresh.since.elapsed() >= age)
            .map(|(name, _)| name.clone())
            .collect();
        let mut taken = Vec::with_capacity(due.len());
        for name in due {
            let Some(fresh) = inner.repositories.remove(&name) else { continue };
            inner.entries = inner.entries.saturating_sub(fresh.manifests.len() + fresh.tags.len());
            let manifests =
                fresh.manifests.into_iter().map(|(digest, moment)| (digest.to_string(), moment)).collect();
            let pulls = Pulls { manifests, tags: fresh.tags.into_iter().collect(), ..Pulls::default() };
            taken.push((name, pulls));
        }
        taken
    }
}

impl Call<'_> {
    /// Whether anybody wants to know (`features.lastPulled`): rules that go by it do.
    pub(super) fn gathers_pulls(&self) -> bool {
        self.oci.config.feature("lastPulled", self.oci.options.has_policies())
    }

    /// A manifest was pulled, perhaps by a tag.
    pub(super) fn note_pull(&self, name: &Name, digest: &Digest, tag: Option<&str>) {
        if self.gathers_pulls() {
            self.oci.gathered.note(name, digest, tag, self.cx.clock.now());
        }
    }

    /// Writes down what was gathered: of all repositories, or of those whose turn it is. What fails is lost, as it would be to a crash.
    pub(super) async fn flush_pulls(&self, all: bool) -> Result<()> {
        let age = if all { Duration::ZERO } else { EVERY };
        let mut failed = None;
        for (name, fresh) in self.oci.gathered.take(age) {
            let change = move |pulls: &mut Pulls| {
                Ok(if pulls.merge(&fresh) { Edit::Changed(()) } else { Edit::Unchanged(()) })
            };
            let key = keys::pulls(&name)?;
            if let Err(error) = self.cx.objects.update(&key, &ObjectInfo::default(), change).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What is known of a repository's pulls.
    pub(super) async fn pulls(&self, name: &Name) -> Result<Pulls> {
        let found = self.cx.objects.document_revalidated::<Pulls>(&keys::pulls(name)?).await?;
        Ok(found.map(|found| found.document.clone()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_moments_stays_and_the_oldest_make_room() {
        let at = Timestamp::from_millis;
        let of = |list: &[(&str, i64)]| Pulls {
            manifests: list.iter().map(|(name, moment)| ((*name).to_owned(), at(*moment))).collect(),
            ..Pulls::default()
        };
        let mut pulls = of(&[("a", 1), ("b", 5)]);
        assert!(pulls.merge(&of(&[("a", 3), ("b", 4), ("c", 1)])));
        assert_eq!(pulls, of(&[("a", 3), ("b", 5), ("c", 1)]));
        assert!(!pulls.merge(&of(&[("a", 3), ("c", 1)])));
        let many: BTreeMap<_, _> = (0..MOST_KEPT).map(|n| (format!("m{n}"), at(100))).collect();
        pulls.merge(&Pulls { manifests: many, ..Pulls::default() });
        assert!(pulls.manifests.len() == MOST_KEPT && !pulls.manifests.contains_key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_a_repository_has_its_turn() {
        let gathered = Gathered::default();
        let (name, now) = (Name::parse("a").unwrap(), Timestamp::from_millis(0));
        for number in 0..MOST + 10 {
            gathered.note(&name, &Digest::sha256(&number.to_le_bytes()), None, now);
        }
        gathered.note(&Name::parse("b").unwrap(), &Digest::sha256(b"x"), Some("t"), now);
        assert!(gathered.take(EVERY).is_empty());
        tokio::time::sleep(EVERY).await;
        let taken = gathered.take(EVERY);
        assert_eq!((taken.len(), taken[0].1.manifests.len()), (1, MOST));
        gathered.note(&Name::parse("b").unwrap(), &Digest::sha256(b"x"), Some("t"), now);
        assert_eq!(gathered.take(Duration::ZERO)[0].1.tags.len(), 1);
    }
}
