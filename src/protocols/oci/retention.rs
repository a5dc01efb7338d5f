//! Which tags go by themselves (`oci.retention`). Pure.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::immutable::is_immutable;
use super::name::{Name, is_fallback};
use super::options::{RetentionRule, TagRule};
use crate::core::pattern::name_matches;
use crate::core::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);

/// A tag, and what rules ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) tag: String,
    /// When what it names was last pushed.
    pub(super) pushed: Timestamp,
    /// When it was last pulled, as far as that is known.
    pub(super) pulled: Option<Timestamp>,
}

/// The tags of a repository that go, each with the reason. What signing tools keep under tags of their own is not among them: that
/// goes with what it is about.
pub(super) fn decide(
    rules: &[RetentionRule],
    immutable: &[TagRule],
    name: &Name,
    tags: &[Facts],
    now: Timestamp,
) -> Vec<(String, String)> {
    let mut groups: BTreeMap<(usize, usize), Vec<&Facts>> = BTreeMap::new();
    for facts in tags.iter().filter(|facts| !is_fallback(&facts.tag)) {
        if let Some(place) = place(rules, name, &facts.tag) {
            groups.entry(place).or_default().push(facts);
        }
    }
    let mut going = Vec::new();
    for ((rule, pattern), group) in groups {
        let Some(rule) = rules.get(rule) else { continue };
        let kept = kept(rule, immutable, name, &group, now);
        let pattern = rule.tags.get(pattern).map_or("*", String::as_str);
        let gone = group.into_iter().filter(|facts| !kept.contains(facts.tag.as_str()));
        going.extend(gone.map(|facts| (facts.tag.clone(), reason(rule, pattern))));
    }
    going.sort();
    going
}

/// The first rule that fits, and the first of its patterns that does.
fn place(rules: &[RetentionRule], name: &Name, tag: &str) -> Option<(usize, usize)> {
    rules.iter().enumerate().find_map(|(number, rule)| {
        let here = rule.repositories.iter().any(|pattern| name_matches(pattern, name.as_str()));
        let pattern = rule.tags.iter().position(|pattern| name_matches(pattern, tag));
        pattern.filter(|_| here).map(|pattern| (number, pattern))
    })
}

fn kept<'a>(
    rule: &RetentionRule,
    immutable: &[TagRule],
    name: &Name,
    group: &[&'a Facts],
    now: Timestamp,
) -> HashSet<&'a str> {
    let mut kept = HashSet::new();
    let counts = [rule.keep_last_pushed, rule.keep_last_pulled];
    let spans = [rule.keep_pushed_days, rule.keep_pulled_days];
    if counts.iter().all(Option::is_none) && spans.iter().all(Option::is_none) {
        return group.iter().map(|facts| facts.tag.as_str()).collect();
    }
    let within = |moment: Option<Timestamp>, days: Option<u32>| {
        moment.zip(days).is_some_and(|(moment, days)| now.since(moment) < DAY * days)
    };
    for facts in group {
        // What was never pulled since it was pushed is as if it had been pulled then: it may be about to be.
        let pulled = facts.pulled.max(Some(facts.pushed));
        if within(Some(facts.pushed), rule.keep_pushed_days)
            || within(pulled, rule.keep_pulled_days)
            || (rule.keep_immutable && is_immutable(immutable, name, &facts.tag))
        {
            kept.insert(facts.tag.as_str());
        }
    }
    kept.extend(latest(group, rule.keep_last_pushed, |facts| Some(facts.pushed)));
    kept.extend(latest(group, rule.keep_last_pulled, |facts| facts.pulled));
    kept
}

/// The `count` tags whose moments are the latest.
fn latest<'a>(
    group: &[&'a Facts],
    count: Option<usize>,
    moment: impl Fn(&Facts) -> Option<Timestamp>,
) -> Vec<&'a str> {
    let mut dated: Vec<_> =
        group.iter().filter_map(|facts| Some((moment(facts)?, facts.tag.as_str()))).collect();
    dated.sort_unstable();
    dated.into_iter().rev().take(count.unwrap_or_default()).map(|(_, tag)| tag).collect()
}

fn reason(rule: &RetentionRule, pattern: &str) -> String {
    let mut keeps = Vec::new();
    if let Some(count) = rule.keep_last_pushed {
        keeps.push(format!("the {count} pushed last"));
    }
    if let Some(count) = rule.keep_last_pulled {
        keeps.push(format!("the {count} pulled last"));
    }
    if let Some(days) = rule.keep_pushed_days {
        keeps.push(format!("what was pushed within {days} days"));
    }
    if let Some(days) = rule.keep_pulled_days {
        keeps.push(format!("what was pulled within {days} days"));
    }
    format!("of `{pattern}` are kept {}", keeps.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_millis(number * 86_400_000)
    }

    fn going(rules: &serde_json::Value, tags: &[(&str, i64, Option<i64>)]) -> String {
        let rules: Vec<RetentionRule> = serde_json::from_value(rules.clone()).unwrap();
        let fixed = [TagRule::try_from("*:v1".to_owned()).unwrap()];
        let facts: Vec<_> = tags
            .iter()
            .map(|(tag, pushed, pulled)| Facts {
                tag: (*tag).to_owned(),
                pushed: day(*pushed),
                pulled: pulled.map(day),
            })
            .collect();
        let name = Name::parse("team/app").unwrap();
        let list = decide(&rules, &fixed, &name, &facts, day(100));
        list.into_iter().map(|(tag, _)| tag).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_rule_keeps_what_it_says_and_no_more() {
        let tags = [
            ("v1", 10, Some(90)),
            ("v2", 20, None),
            ("v3", 30, Some(31)),
            ("main", 95, None),
            ("dev", 40, None),
        ];
        for (rules, expected) in [
            (json!([]), ""),
            (json!([{ "keepLastPushed": 2 }]), "v1 v2 v3"),
            (json!([{ "tags": ["v*"], "keepLastPushed": 1 }]), "v1 v2"),
            (json!([{ "tags": ["v*"], "keepLastPulled": 1 }]), "v2 v3"),
            (json!([{ "tags": ["v*"], "keepLastPulled": 9 }]), "v2"),
            // Counts are per pattern.
            (json!([{ "tags": ["v*", "*"], "keepLastPushed": 1 }]), "dev v1 v2"),
            (json!([{ "keepPushedDays": 6 }]), "dev v1 v2 v3"),
            (json!([{ "keepPulledDays": 11 }]), "dev v2 v3"),
            (json!([{ "keepPushedDays": 6, "keepLastPushed": 2, "keepPulledDays": 11 }]), "v2 v3"),
            // The first rule that fits decides: what it keeps without a limit, no later one takes.
            (json!([{ "tags": ["v*"] }, { "keepLastPushed": 0 }]), "dev main"),
            (json!([{ "repositories": ["other/*"], "keepLastPushed": 0 }]), ""),
            (json!([{ "repositories": ["team/*"], "tags": ["dev"], "keepLastPushed": 0 }]), "dev"),
            // Tags that are fixed go like others, unless that is asked for.
            (json!([{ "tags": ["v*"], "keepLastPushed": 0 }]), "v1 v2 v3"),
            (json!([{ "tags": ["v*"], "keepLastPushed": 0, "keepImmutable": true }]), "v2 v3"),
        ] {
            assert_eq!(going(&rules, &tags), expected, "{rules}");
        }
    }

    #[test]
    fn signatures_are_no_tags_of_their_own_and_a_wrong_rule_is_named() {
        let signature = format!("sha256-{}.sig", "0a".repeat(32));
        assert_eq!(going(&json!([{ "keepLastPushed": 0 }]), &[(&signature, 1, None), ("a", 1, None)]), "a");
        let config = crate::config::Config::from_json(r#"{"oci":{"retention":[{"keepLast":1}]}}"#).unwrap();
        let error =
            super::super::options::Options::read(&config.protocol("oci").unwrap().unwrap()).unwrap_err();
        assert!(error.message().starts_with("option `oci.retention[0].keepLast`: unknown field"), "{error}");
    }

    #[test]
    fn the_reason_says_what_is_kept() {
        let rules: Vec<RetentionRule> =
            serde_json::from_value(json!([{ "tags": ["v*"], "keepLastPushed": 0, "keepPulledDays": 3 }]))
                .unwrap();
        let facts = [Facts { tag: "v1".to_owned(), pushed: day(1), pulled: None }];
        let list = decide(&rules, &[], &Name::parse("a").unwrap(), &facts, day(9));
        assert_eq!(list[0].1, "of `v*` are kept the 0 pushed last and what was pulled within 3 days");
    }
}
