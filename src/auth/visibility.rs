//! Public or private: a package's own setting, else the first matching pattern of `auth.visibility`, else the protocol's
//! `anonymousRead`.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Identity;
use super::scope::{self, Action, Resource};
use crate::config::{Visibility, VisibilityRule};
use crate::core::error::{Error, Result};
use crate::core::pattern::name_matches;

/// Knows what packages, and the organisations that they belong to, say of themselves. Only protocols do.
#[async_trait]
pub trait Packages: Send + Sync + 'static {
    /// The package's own setting; `None` where it has none, or where nothing is.
    async fn visibility(&self, resource: &Resource) -> Result<Option<Visibility>>;

    /// Whether whoever the package belongs to lets somebody do what their token is good for.
    async fn lets(&self, identity: &Identity, resource: &Resource, action: Action) -> Result<bool>;
}

/// The rules of one registry.
#[derive(Debug, Default)]
pub(super) struct Rules {
    patterns: Vec<Rule>,
    /// Whether packages are public unless something says otherwise, by protocol.
    anonymous_read: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Rule {
    protocol: String,
    kind: String,
    name: String,
    visibility: Visibility,
}

impl Rules {
    /// Checks the patterns. A protocol that `anonymous_read` doesn't name has it on.
    ///
    /// # Errors
    /// A pattern that could never match what it seems to name: it would leave a package open that its owner believes private.
    pub(super) fn new(rules: &[VisibilityRule], anonymous_read: BTreeMap<String, bool>) -> Result<Self> {
        let patterns = rules.iter().map(Rule::new).collect::<Result<_>>()?;
        Ok(Self { patterns, anonymous_read })
    }

    /// What a package is.
    pub(super) fn of(&self, resource: &Resource, own: Option<Visibility>) -> Visibility {
        own.or_else(|| self.patterns.iter().find(|rule| rule.covers(resource)).map(|rule| rule.visibility))
            .unwrap_or_else(|| self.by_default(&resource.protocol))
    }

    /// Whether a protocol has packages that not everybody may read, as far as the configuration tells.
    pub(super) fn has_private(&self, protocol: &str) -> bool {
        self.has(Visibility::Private, protocol)
    }

    /// Whether it has packages that everybody may read.
    pub(super) fn has_public(&self, protocol: &str) -> bool {
        self.has(Visibility::Public, protocol)
    }

    fn has(&self, visibility: Visibility, protocol: &str) -> bool {
        let named =
            |rule: &Rule| rule.visibility == visibility && scope::field_matches(&rule.protocol, protocol);
        self.by_default(protocol) == visibility || self.patterns.iter().any(named)
    }

    fn by_default(&self, protocol: &str) -> Visibility {
        if self.anonymous_read.get(protocol).copied().unwrap_or(true) {
            Visibility::Public
        } else {
            Visibility::Private
        }
    }
}

impl Rule {
    fn new(rule: &VisibilityRule) -> Result<Self> {
        let pattern = &rule.pattern;
        let (protocol, kind, name) = scope::three(pattern).ok_or_else(|| {
            Error::invalid(format!(
                "option `auth.visibility`: `{pattern}` is no pattern; write `protocol:type:name`, such as `npm:package:@acme/*`"
            ))
        })?;
        // Only Maven's names have a colon. Anywhere else it is a scope's action that strayed in, and the pattern would match nothing.
        let has_colons = kind == "artifact" || kind == "*";
        let action = name.rsplit_once(':').and_then(|(_, last)| Action::parse(last));
        let strayed =
            if has_colons { action.is_some_and(|action| action != Action::Any) } else { name.contains(':') };
        if strayed {
            return Err(Error::invalid(format!(
                "option `auth.visibility`: `{pattern}` has more than three fields; leave the action out"
            )));
        }
        Ok(Self {
            protocol: protocol.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            visibility: rule.visibility,
        })
    }

    fn covers(&self, resource: &Resource) -> bool {
        scope::field_matches(&self.protocol, &resource.protocol)
            && scope::field_matches(&self.kind, &resource.kind)
            && name_matches(&self.name, &resource.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Resource, Rules};
    use crate::config::{Visibility, VisibilityRule};

    fn rules(patterns: &[(&str, Visibility)], anonymous_read: &[(&str, bool)]) -> Rules {
        try_rules(patterns, anonymous_read).unwrap()
    }

    fn try_rules(patterns: &[(&str, Visibility)], anonymous_read: &[(&str, bool)]) -> super::Result<Rules> {
        let patterns: Vec<_> = patterns
            .iter()
            .map(|(pattern, visibility)| VisibilityRule {
                pattern: (*pattern).to_owned(),
                visibility: *visibility,
            })
            .collect();
        let anonymous_read: BTreeMap<_, _> =
            anonymous_read.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
        Rules::new(&patterns, anonymous_read)
    }

    fn resource(text: &str) -> Resource {
        Resource::parse(text).unwrap()
    }

    #[test]
    fn own_setting_then_first_pattern_then_the_protocols_default() {
        use Visibility::{Private, Public};
        let rules = rules(
            &[
                ("npm:package:@acme/open", Public),
                ("npm:package:@acme/*", Private),
                ("maven:artifact:com.acme.*:*", Private),
            ],
            &[("oci", false), ("npm", true)],
        );
        let of = |text: &str, own| rules.of(&resource(text), own);
        assert_eq!(of("npm:package:@acme/open", None), Public);
        assert_eq!(of("npm:package:@acme/widget", None), Private);
        assert_eq!(of("npm:package:@acme/widget", Some(Public)), Public);
        assert_eq!(of("npm:package:lodash", None), Public);
        assert_eq!(of("npm:package:lodash", Some(Private)), Private);
        assert_eq!(of("maven:artifact:com.acme.net:lib", None), Private);
        assert_eq!(of("oci:repository:nginx", None), Private);
        assert!(rules.has_private("oci") && rules.has_private("npm") && rules.has_private("maven"));
        assert!(!rules.has_private("pypi"));
    }

    #[test]
    fn a_pattern_that_could_not_match_is_refused() {
        for bad in [
            "",
            "npm",
            "npm:package",
            "npm:package:@acme/*:read",
            "npm:package:@acme/*:*",
            "maven:artifact:com.acme:lib:read",
        ] {
            let error = try_rules(&[(bad, Visibility::Private)], &[]).unwrap_err();
            assert!(error.message().contains("auth.visibility"), "{bad}: {error}");
        }
    }
}
