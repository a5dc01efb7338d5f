//! Which upstreams are asked for a name, and what of it is let through. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::upstream::{BlockRule, PolicyConfig, ScopeAction, ScopeRule};
use crate::core::pattern::name_matches;
use crate::core::time::Timestamp;

/// Whether rules let an upstream be asked for a name. Letters count for `include` and not for `exclude`: a name that is written a little
/// differently must not slip past the rule that keeps it inside.
pub(super) fn asks_for(rules: &[ScopeRule], name: &str) -> bool {
    asks_for_any(rules, &[name])
}

/// The same for what has several names: one that is excluded is enough to keep it inside, one that is included to ask for it.
pub(super) fn asks_for_any(rules: &[ScopeRule], names: &[impl AsRef<str>]) -> bool {
    let mut includes = rules.iter().filter(|rule| rule.action == ScopeAction::Include).peekable();
    let mut excludes = rules.iter().filter(|rule| rule.action == ScopeAction::Exclude);
    let wants = |rule: &ScopeRule| names.iter().any(|name| name_matches(&rule.pattern, name.as_ref()));
    !excludes.any(|rule| covers_one(&rule.pattern, names))
        && (includes.peek().is_none() || includes.any(wants))
}

/// Whether one of the patterns covers a name, however it is written.
pub(super) fn is_kept_inside(patterns: &[String], name: &str) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let lower = name.to_lowercase();
    patterns.iter().any(|pattern| covers_any_case(pattern, &lower))
}

/// Whether a pattern covers one of the names, however that is written.
fn covers_one(pattern: &str, names: &[impl AsRef<str>]) -> bool {
    names.iter().any(|name| covers_any_case(pattern, &name.as_ref().to_lowercase()))
}

fn covers_any_case(pattern: &str, lower: &str) -> bool {
    name_matches(&pattern.to_lowercase(), lower)
}

/// What of an upstream is let through. One predicate for what is listed and what is downloaded.
#[derive(Debug, Default)]
pub struct Policy {
    age: Duration,
    ageless: Vec<String>,
    allow: Option<Vec<String>>,
    block: Vec<BlockRule>,
    id: String,
}

/// Why something is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// For clients: what is wrong and who decides.
    pub reason: Arc<str>,
    /// When it will be let through, if time alone does it.
    pub until: Option<Timestamp>,
}

impl Policy {
    pub(super) fn new(own: &PolicyConfig, shared: &PolicyConfig) -> Self {
        let age = own.minimum_release_age_seconds.or(shared.minimum_release_age_seconds).unwrap_or(0);
        let ageless =
            own.minimum_release_age_exclude.clone().or_else(|| shared.minimum_release_age_exclude.clone());
        // A block of the protocol holds for all its upstreams, whatever they add.
        let block: Vec<BlockRule> =
            [&shared.block, &own.block].into_iter().flatten().flatten().cloned().collect();
        let allow = own.allow.clone().or_else(|| shared.allow.clone());
        let id = serde_json::json!([age, ageless, allow, block]).to_string();
        Self { age: Duration::from_secs(age), ageless: ageless.unwrap_or_default(), allow, block, id }
    }

    /// Names what it lets through, for what is derived from it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        self.age.is_zero() && self.allow.is_none() && self.block.is_empty()
    }

    /// Why a name as a whole is not let through.
    pub fn blocks_name(&self, name: &str) -> Option<Blocked> {
        self.blocks_names(&[name])
    }

    /// The same for what has several names: one that is blocked is enough, and so is one that is allowed.
    pub(super) fn blocks_names(&self, names: &[impl AsRef<str>]) -> Option<Blocked> {
        // What is about no name is about none that is held back.
        if names.is_empty() {
            return None;
        }
        if let Some(allow) = &self.allow
            && !allow.iter().any(|pattern| names.iter().any(|name| name_matches(pattern, name.as_ref())))
        {
            return Some(Blocked::because("is not among the names that this registry lets through"));
        }
        let whole = self.block.iter().filter(|rule| rule.versions.is_none());
        whole.filter(|rule| covers_one(&rule.name, names)).map(Blocked::by).next()
    }

    /// Why a version is not let through. `in_range` tells whether a range of the protocol's covers it, `published` when it came out, if anybody knows.
    pub fn blocks(
        &self,
        name: &str,
        published: Option<Timestamp>,
        now: Timestamp,
        in_range: impl Fn(&str) -> bool,
    ) -> Option<Blocked> {
        let lower = name.to_lowercase();
        let hit = self.block.iter().find(|rule| {
            covers_any_case(&rule.name, &lower) && rule.versions.as_deref().is_none_or(&in_range)
        });
        if let Some(rule) = hit {
            return Some(Blocked::by(rule));
        }
        if self.age.is_zero() || self.ageless.iter().any(|pattern| name_matches(pattern, name)) {
            return None;
        }
        match published {
            Some(published) => {
                let until = published.plus(self.age);
                (now < until).then(|| Blocked {
                    reason: format!("is too new: this registry lets it through on {}", until.rfc3339())
                        .into(),
                    until: Some(until),
                })
            }
            None => Some(Blocked::because(
                "has no known date, and this registry lets nothing through that may be new",
            )),
        }
    }
}

impl Blocked {
    fn because(reason: &str) -> Self {
        Self { reason: reason.into(), until: None }
    }

    fn by(rule: &BlockRule) -> Self {
        let why = rule.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Self { reason: format!("is blocked by this registry{why}").into(), until: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, action: ScopeAction) -> ScopeRule {
        ScopeRule { pattern: pattern.to_owned(), action }
    }

    #[test]
    fn what_is_kept_inside_stays_there_however_it_is_written() {
        let public = [rule("@acme/*", ScopeAction::Exclude), rule("internal-*", ScopeAction::Exclude)];
        for name in ["@acme/widget", "@ACME/widget", "@Acme/Widget", "internal-tool", "Internal-Tool"] {
            assert!(!asks_for(&public, name), "{name}");
        }
        for name in ["@acmee/widget", "@acm/widget", "widget", "@other/internal-tool"] {
            assert!(asks_for(&public, name), "{name}");
        }
        let private = [rule("@acme/*", ScopeAction::Include)];
        for (name, asked) in [
            ("@acme/widget", true),
            ("@ACME/widget", false),
            ("@acme-evil/widget", false),
            ("acme/widget", false),
        ] {
            assert_eq!(asks_for(&private, name), asked, "{name}");
        }
        let both = [rule("@acme/*", ScopeAction::Include), rule("@acme/secret*", ScopeAction::Exclude)];
        assert!(asks_for(&both, "@acme/widget") && !asks_for(&both, "@acme/secret-plan"));
        assert!(asks_for(&[], "anything"));
        assert!(asks_for_any(&private, &["widget", "@acme/widget"]));
        assert!(!asks_for_any(&public, &["widget", "@acme/widget"]), "one of its names is kept inside");
        assert!(is_kept_inside(&["@acme/*".to_owned()], "@ACME/x") && !is_kept_inside(&[], "x"));
    }

    #[test]
    fn policies_say_why() {
        let own: PolicyConfig = serde_json::from_value(serde_json::json!({
            "minimumReleaseAgeSeconds": 3600, "minimumReleaseAgeExclude": ["@acme/*"],
            "block": [{ "name": "evil", "versions": "<2", "reason": "steals tokens" }],
        }))
        .unwrap();
        let shared: PolicyConfig =
            serde_json::from_value(serde_json::json!({ "block": [{ "name": "worse" }] })).unwrap();
        let policy = Policy::new(&own, &shared);
        let now = Timestamp::from_millis(1_790_000_000_000);
        let old = Some(Timestamp::from_millis(0));
        let below_two = |_: &str| true;
        let never = |_: &str| false;
        assert!(policy.blocks("evil", old, now, below_two).unwrap().reason.contains("steals tokens"));
        assert_eq!(policy.blocks("evil", old, now, never), None);
        assert!(policy.blocks_name("worse").is_some() && policy.blocks_name("WORSE").is_some());
        assert!(policy.blocks("worse", old, now, never).is_some());
        let young = policy.blocks("fine", Some(now), now, never).unwrap();
        assert_eq!(young.until, Some(now.plus(Duration::from_hours(1))));
        assert!(policy.blocks("fine", None, now, never).is_some(), "what has no date may be new");
        assert_eq!(policy.blocks("@acme/fine", Some(now), now, never), None);
        assert!(!policy.is_open() && Policy::default().is_open());
        let allow = PolicyConfig { allow: Some(vec!["good-*".to_owned()]), ..PolicyConfig::default() };
        let policy = Policy::new(&allow, &shared);
        assert!(policy.blocks_name("good-one").is_none() && policy.blocks_name("bad").is_some());
        assert!(policy.blocks_names(&["bad", "good-one"]).is_none(), "known by a name that is allowed");
        assert!(policy.blocks_names(&["good-one", "worse"]).is_some(), "and not by one that is blocked");
    }
}
