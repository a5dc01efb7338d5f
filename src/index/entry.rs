//! What the log keeps: one change of one package, repository, or whatever a protocol names.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::time::Timestamp;

/// A change that has happened.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// What changed.
    pub name: String,
    /// How: `publish`, `tag`, `deprecate`, `delete` …, in the protocol's own words.
    pub event: String,
    /// The version or tag that it is about, if it is about one.
    pub version: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// Revision of the package's document after the change, where the protocol has one.
    pub rev: Option<String>,
    /// Whether nothing is left under the name.
    pub gone: bool,
    /// What a search finds and shows; `None` where the protocol has no search beyond names.
    pub card: Option<Card>,
}

/// What a search looks at, and what it shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Card {
    /// Description.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Keywords.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Names of author and maintainers.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// Whether it is private by its own setting: not everybody may find it.
    #[serde(rename = "h", default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The protocol's own words for the result list; opaque here.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Box<RawValue>>,
}

/// A change with its place in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Place: grows by one with every change of the protocol.
    #[serde(rename = "s")]
    pub serial: u64,
    /// When.
    #[serde(rename = "t")]
    pub time: Timestamp,
    /// Marks the append that wrote it, so that one whose answer got lost is not repeated.
    #[serde(rename = "o", default, skip_serializing_if = "String::is_empty")]
    pub(super) operation: String,
    /// See [`Change::name`].
    #[serde(rename = "n")]
    pub name: String,
    /// See [`Change::event`].
    #[serde(rename = "e")]
    pub event: String,
    /// See [`Change::version`].
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// See [`Change::actor`].
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// See [`Change::rev`].
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// See [`Change::gone`].
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// See [`Change::card`].
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
}

impl Entry {
    pub(crate) fn new(change: Change, serial: u64, time: Timestamp, operation: String) -> Self {
        let Change { name, event, version, actor, rev, gone, card } = change;
        Self { serial, time, operation, name, event, version, actor, rev, gone, card }
    }

    /// Its size in the log, roughly.
    pub(super) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() + 8);
        let card = self.card.as_ref().map_or(0, |card| {
            let words: usize = card.keywords.iter().chain(&card.people).map(|word| word.len() + 3).sum();
            card.description.len() + words + card.shown.as_ref().map_or(0, |shown| shown.get().len()) + 24
        });
        self.name.len()
            + self.event.len()
            + text(&self.version)
            + text(&self.actor)
            + text(&self.rev)
            + card
            + 90
    }
}
