//! What only this protocol's entry in the configuration has: fixed tags, garbage collection, retention.

use serde::Deserialize;

use super::NAME;
use crate::config::ProtocolConfig;
use crate::core::error::{Error, Result};

/// Stores tell times in whole seconds, and a push has to fit in between.
const LEAST_GRACE_MS: u64 = 5000;
const DAY_MS: u64 = 24 * 3_600_000;

/// The options of `oci` beside those that every protocol has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    /// Which tags keep what they first named. The first rule that fits decides.
    pub(super) immutable_tags: Vec<TagRule>,
    /// Removal of what nothing names.
    pub(super) gc: Gc,
    /// Which tags go by themselves. The first rule with a pattern that fits decides; a tag that none fits stays.
    pub(super) retention: Vec<RetentionRule>,
}

impl Options {
    /// Reads and checks them.
    pub(super) fn read(config: &ProtocolConfig) -> Result<Self> {
        let options: Self = config.options(NAME.as_str())?;
        if options.gc.grace_ms < LEAST_GRACE_MS {
            return Err(Error::invalid(format!(
                "option `oci.gc.graceMs` must be at least {LEAST_GRACE_MS}: no push takes less"
            )));
        }
        Ok(options)
    }

    /// Whether rules take manifests or tags by themselves.
    pub(super) fn has_policies(&self) -> bool {
        !self.retention.is_empty() || self.gc.untagged == Untagged::Delete
    }
}

/// One rule of `oci.immutableTags`: `repository:tag`, each with `*` for any run of characters; with `!` in front, tags that may move.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TagRule {
    /// Pattern of the repository's name.
    pub(super) repository: String,
    /// Pattern of the tag.
    pub(super) tag: String,
    /// Whether tags that fit may move all the same.
    pub(super) movable: bool,
}

impl TryFrom<String> for TagRule {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let (movable, pattern) = text.strip_prefix('!').map_or((false, text.as_str()), |rest| (true, rest));
        match pattern.split_once(':') {
            Some((repository, tag)) if !repository.is_empty() && !tag.is_empty() && !tag.contains(':') => {
                Ok(Self { repository: repository.to_owned(), tag: tag.to_owned(), movable })
            }
            _ => Err(format!("`{text}` is no rule for tags; write `repository:tag`, such as `team/*:v*`")),
        }
    }
}

/// `oci.gc`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gc {
    /// Whether maintenance collects garbage by itself.
    pub(super) enabled: bool,
    /// Milliseconds that an unreferenced blob stays after it was last pushed, mounted or asked for: longer than any push takes. The same in
    /// all processes that share a bucket.
    pub(super) grace_ms: u64,
    /// Milliseconds between two collections, at least.
    pub(super) interval_ms: u64,
    /// What becomes of manifests that no tag reaches.
    pub(super) untagged: Untagged,
    /// Milliseconds that such a manifest stays after it was last pushed or pulled.
    pub(super) untagged_age_ms: u64,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            enabled: true,
            grace_ms: DAY_MS,
            interval_ms: DAY_MS,
            untagged: Untagged::Keep,
            untagged_age_ms: 7 * DAY_MS,
        }
    }
}

/// `oci.gc.untagged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Untagged {
    /// They stay: whoever pulls by digest may still want them.
    #[default]
    Keep,
    /// They go when they are old enough.
    Delete,
}

/// One rule of `oci.retention`. Without a `keep…` it keeps every tag that it fits.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct RetentionRule {
    /// Patterns of repositories' names; `*` stands for any run of characters.
    pub(super) repositories: Vec<String>,
    /// Patterns of tags. Counts are per pattern.
    pub(super) tags: Vec<String>,
    /// Keep so many that were pushed last.
    pub(super) keep_last_pushed: Option<usize>,
    /// Keep so many that were pulled last.
    pub(super) keep_last_pulled: Option<usize>,
    /// Keep what was pushed within so many days.
    pub(super) keep_pushed_days: Option<u32>,
    /// Keep what was pulled within so many days.
    pub(super) keep_pulled_days: Option<u32>,
    /// Keep tags that `immutableTags` fixes, whatever else this rule says.
    pub(super) keep_immutable: bool,
}

impl Default for RetentionRule {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            repositories: all(),
            tags: all(),
            keep_last_pushed: None,
            keep_last_pulled: None,
            keep_pushed_days: None,
            keep_pulled_days: None,
            keep_immutable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_rule_that_is_none_is_named() {
        let config = Config::from_json(r#"{"oci":{"immutableTags":["team/*:v*","v1"]}}"#).unwrap();
        let error = Options::read(&config.protocol("oci").unwrap().unwrap()).unwrap_err();
        let message = error.message();
        assert!(message.starts_with("option `oci.immutableTags[1]`: `v1` is no rule for tags"), "{message}");
    }
}
