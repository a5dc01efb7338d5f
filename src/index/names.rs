//! The names there are, and when each last changed: what lists, catalogs and feeds are made of.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::entry::Entry;
use super::log::Reach;

/// All names of one protocol, as of one place in the log.
#[derive(Default)]
pub(super) struct Names {
    /// Everything up to here is in it.
    pub(super) reach: Reach,
    by_name: BTreeMap<Arc<str>, Last>,
    by_serial: BTreeMap<u64, Arc<str>>,
    live: usize,
}

/// The last change of a name.
struct Last {
    serial: u64,
    gone: bool,
    private: bool,
    rev: Option<Box<str>>,
}

/// A name in the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Place of its last change.
    pub serial: u64,
    /// The name.
    pub name: Arc<str>,
    /// Whether nothing is left under it.
    pub gone: bool,
    /// Whether it is private by its own setting.
    pub private: bool,
    /// Revision of its document after that change.
    pub rev: Option<String>,
}

impl Names {
    pub(super) fn take(&mut self, entry: &Entry) {
        let name: Arc<str> = match self.by_name.get_key_value(entry.name.as_str()) {
            Some((_, last)) if last.serial >= entry.serial => return,
            Some((name, last)) => {
                self.by_serial.remove(&last.serial);
                self.live -= usize::from(!last.gone);
                Arc::clone(name)
            }
            None => entry.name.as_str().into(),
        };
        self.live += usize::from(!entry.gone);
        self.by_serial.insert(entry.serial, Arc::clone(&name));
        let rev = entry.rev.as_deref().map(Box::from);
        let private = entry.card.as_ref().is_some_and(|card| card.private);
        self.by_name.insert(name, Last { serial: entry.serial, gone: entry.gone, private, rev });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|last| !last.gone)
    }

    /// Names after `after` in byte order, without the first `past` of them.
    pub(super) fn page(&self, after: Option<&str>, past: usize, limit: usize) -> Vec<Arc<str>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.by_name.range::<str, _>((start, Bound::Unbounded));
        let there = rest.filter(|(_, last)| !last.gone).skip(past).take(limit);
        there.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Names that have changed since, oldest change first; each once, at its last change.
    pub(super) fn changes(&self, since: u64, limit: usize) -> Vec<Changed> {
        let after = self.by_serial.range((Bound::Excluded(since), Bound::Unbounded));
        let changed = after.filter_map(|(serial, name)| {
            let last = self.by_name.get(name)?;
            let rev = last.rev.as_deref().map(str::to_owned);
            let (name, gone, private) = (Arc::clone(name), last.gone, last.private);
            Some(Changed { serial: *serial, name, gone, private, rev })
        });
        changed.take(limit).collect()
    }
}
