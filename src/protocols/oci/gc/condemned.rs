//! What collections and pushes tell each other: which collections are under way, and what they are about to remove. Pure documents.
//!
//! A digest that nothing names is first *condemned*. Whoever comes to need it then takes it off the list, and it stays. What is still on the
//! list after a while becomes *going* by compare-and-swap, so of a push and a collection one wins: from then on the push waits until it is
//! *gone*, and looks what is left. It stays on the list as gone for as long as a push may not have looked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::super::prelude::*;
use crate::core::time::Timestamp;

/// Most digests of one shard that are condemned at a time. The next collection takes the others.
pub(in super::super) const MOST: usize = 5000;
/// A collection that has said nothing for so long has died.
pub(super) const DEAD: Duration = Duration::from_mins(30);

/// The collections under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in super::super) struct Collections {
    /// By their ids, when they last said that they are alive.
    pub(super) running: BTreeMap<String, Timestamp>,
    /// When one was last finished.
    pub(super) finished: Option<Timestamp>,
}

impl Collections {
    /// Says that this one is alive; those that have died are forgotten.
    pub(super) fn enter(&mut self, id: &str, now: Timestamp) {
        self.running.retain(|_, said| now.since(*said) < DEAD);
        self.running.insert(id.to_owned(), now);
    }
}

/// How far a digest is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Fate {
    /// Goes unless somebody objects.
    Condemned,
    /// Is being removed.
    Going,
    /// Was removed. It may have come again since.
    Gone,
}

/// A digest on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Entry {
    pub(in super::super) fate: Fate,
    /// Whose entry it is.
    by: String,
    /// Since when it is so.
    since: Timestamp,
}

/// The digests of one shard that are on their way out, by their text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in super::super) struct Condemned {
    entries: BTreeMap<String, Entry>,
}

impl Condemned {
    pub(in super::super) fn fate(&self, digest: &str) -> Option<Fate> {
        self.entries.get(digest).map(|entry| entry.fate)
    }

    /// Takes a digest off if it is only condemned; how it stands otherwise.
    pub(in super::super) fn spare(&mut self, digest: &str) -> Option<Fate> {
        let fate = self.fate(digest);
        if fate == Some(Fate::Condemned) {
            self.entries.remove(digest);
            return None;
        }
        fate
    }

    /// Adds what is not there yet, as far as there is room; how many.
    pub(super) fn condemn(&mut self, digests: &[String], by: &str, now: Timestamp) -> usize {
        let before = self.entries.len();
        for digest in digests {
            if self.entries.len() >= MOST {
                break;
            }
            let entry = Entry { fate: Fate::Condemned, by: by.to_owned(), since: now };
            self.entries.entry(digest.clone()).or_insert(entry);
        }
        self.entries.len() - before
    }

    /// Those that `by` has condemned.
    pub(super) fn condemned_by(&self, by: &str) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(move |(_, entry)| entry.by == by && entry.fate == Fate::Condemned)
            .map(|(digest, _)| digest.as_str())
    }

    /// Begins to remove those of `digests` that are still condemned by `by`; answers those that are going now.
    pub(super) fn go(&mut self, digests: &[String], by: &str, now: Timestamp) -> Vec<String> {
        let mut going = Vec::new();
        for digest in digests {
            if let Some(entry) = self.entries.get_mut(digest).filter(|entry| entry.by == by) {
                if entry.fate == Fate::Condemned {
                    (entry.fate, entry.since) = (Fate::Going, now);
                }
                // A change may run again and find its own effect.
                if entry.fate == Fate::Going {
                    going.push(digest.clone());
                }
            }
        }
        going
    }

    /// Notes how removing those of `by` that were going has ended: gone, or left as they are. Any other is left going, since nobody knows.
    pub(super) fn settle(&mut self, gone: &[String], left: &[String], by: &str, now: Timestamp) {
        for digest in gone {
            if let Some(entry) = self.entries.get_mut(digest).filter(|entry| entry.by == by) {
                (entry.fate, entry.since) = (Fate::Gone, now);
            }
        }
        for digest in left {
            if self.entries.get(digest).is_some_and(|entry| entry.by == by) {
                self.entries.remove(digest);
            }
        }
    }

    /// Takes off what `by` has left on the list, other than what is going.
    pub(super) fn clear(&mut self, by: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.by != by || entry.fate == Fate::Going);
        self.entries.len() != before
    }

    /// Takes off what collections have left that died long ago, other than what was going.
    pub(super) fn clear_dead(&mut self, now: Timestamp) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.fate == Fate::Going || now.since(entry.since) < DEAD);
        self.entries.len() != before
    }

    /// What collections that died long ago were about to remove.
    pub(super) fn stuck(&self, now: Timestamp) -> Vec<String> {
        let stuck =
            self.entries.iter().filter(|(_, one)| one.fate == Fate::Going && now.since(one.since) >= DEAD);
        stuck.map(|(digest, _)| digest.clone()).collect()
    }

    /// Notes that these are gone, whoever was removing them.
    pub(super) fn bury(&mut self, digests: &[String], by: &str, now: Timestamp) -> bool {
        for digest in digests {
            let entry = Entry { fate: Fate::Gone, by: by.to_owned(), since: now };
            self.entries.insert(digest.clone(), entry);
        }
        !digests.is_empty()
    }
}

impl JsonDocument for Collections {
    const LIMIT: u64 = 1 << 20;
    const NAME: &'static str = "list of collections";
}

impl JsonDocument for Condemned {
    const LIMIT: u64 = 8 << 20;
    const NAME: &'static str = "list of condemned digests";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_push_and_a_collection_one_wins() {
        let (now, mut list) = (Timestamp::from_millis(0), Condemned::default());
        let all = ["a".to_owned(), "b".to_owned()];
        assert_eq!(list.condemn(&all, "me", now), 2);
        // Somebody else leaves mine to me.
        assert_eq!(list.condemn(&all, "other", now), 0);
        assert_eq!(list.spare("a"), None);
        assert!(list.go(&all, "other", now).is_empty());
        assert_eq!(list.go(&all, "me", now), ["b"]);
        assert_eq!(list.go(&all, "me", now), ["b"], "run again");
        assert_eq!(list.spare("b"), Some(Fate::Going));
        list.settle(&["b".to_owned()], &[], "me", now);
        assert_eq!(list.spare("b"), Some(Fate::Gone));
        assert!(list.clear("me") && list.fate("b").is_none());
    }

    #[test]
    fn what_a_dead_collection_has_left_is_found() {
        let (then, mut list) = (Timestamp::from_millis(0), Condemned::default());
        list.condemn(&["a".to_owned(), "b".to_owned()], "dead", then);
        list.go(&["b".to_owned()], "dead", then);
        assert!(list.stuck(then).is_empty() && !list.clear_dead(then));
        let later = then.plus(DEAD);
        assert_eq!(list.stuck(later), ["b"]);
        assert!(list.clear_dead(later) && list.fate("a").is_none() && list.fate("b").is_some());
        assert!(list.bury(&["b".to_owned()], "next", later) && list.spare("b") == Some(Fate::Gone));
        assert!(list.clear("next") && list == Condemned::default());
    }
}
