//! What maintenance has removed, or would remove.

use std::collections::BTreeMap;

use serde::Serialize;

/// Most single things that a report names.
const MOST_DETAILS: usize = 1000;

/// One thing that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// What kind of thing, as in [`Report::removed`].
    pub kind: &'static str,
    /// What it is called.
    pub name: String,
    /// Why it goes.
    pub reason: String,
}

/// What was removed and what that frees. In a dry run: what would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many things were looked at, by kind.
    pub examined: BTreeMap<&'static str, u64>,
    /// How many went, by kind.
    pub removed: BTreeMap<&'static str, u64>,
    /// Bytes of the artifacts among them.
    pub bytes: u64,
    /// The first thousand of those that a rule took, by name.
    pub details: Vec<Detail>,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

impl Report {
    /// Counts things that were looked at.
    pub fn examine(&mut self, kind: &'static str, count: u64) {
        if count > 0 {
            *self.examined.entry(kind).or_default() += count;
        }
    }

    /// Counts things that went.
    pub fn remove(&mut self, kind: &'static str, count: u64) {
        if count > 0 {
            *self.removed.entry(kind).or_default() += count;
        }
    }

    /// Names one thing that went; counts it too.
    pub fn name(&mut self, kind: &'static str, name: String, reason: String) {
        self.remove(kind, 1);
        if self.details.len() < MOST_DETAILS {
            self.details.push(Detail { kind, name, reason });
        }
    }

    /// How many of a kind went.
    pub fn count(&self, kind: &str) -> u64 {
        self.removed.get(kind).copied().unwrap_or_default()
    }

    /// Whether nothing went.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
    }

    /// `3 blobs, 1 manifest`, for a log.
    pub fn summary(&self) -> String {
        let parts: Vec<_> = self.removed.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}
