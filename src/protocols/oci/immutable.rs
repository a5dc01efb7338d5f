//! Tags that keep what they first named (`oci.immutableTags`). Pure.

use super::name::{Name, is_fallback};
use super::options::TagRule;
use crate::core::pattern::name_matches;

/// Whether a tag must not move from one manifest to another. What signing tools update with each signature always may.
pub(super) fn is_immutable(rules: &[TagRule], name: &Name, tag: &str) -> bool {
    let fits =
        |rule: &&TagRule| name_matches(&rule.repository, name.as_str()) && name_matches(&rule.tag, tag);
    !is_fallback(tag) && rules.iter().find(fits).is_some_and(|rule| !rule.movable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = ["!*:latest", "!team/sandbox/*:*", "team/*:*", "*:v*"];
        let rules: Vec<_> = rules.iter().map(|text| TagRule::try_from((*text).to_owned()).unwrap()).collect();
        let signed = format!("sha256-{}", "0a".repeat(32));
        for (name, tag, expected) in [
            ("team/app", "v1", true),
            ("team/app", "anything", true),
            ("team/app", "latest", false),
            ("team/sandbox/x", "v1", false),
            ("other", "v1", true),
            ("other", "main", false),
            ("team/app", signed.as_str(), false),
            ("team/app", &format!("{signed}.sig"), false),
            ("team/app", "sha256-beef", true),
        ] {
            assert_eq!(is_immutable(&rules, &Name::parse(name).unwrap(), tag), expected, "{name}:{tag}");
        }
    }
}
