//! The scope grammar `{protocol}:{type}:{name}:{action}`: parse, print, match, and what an action implies.
//!
//! `*` stands for a whole field; inside a name it stands for any run of characters (`team/*`, `com.acme.*:*`), except that a pattern that
//! doesn't begin with `@` never reaches a scoped npm name: `*-plugin` must not open `@acme/secret-plugin`. Names may contain `:`
//! (Maven's `group:artifact`), so a scope is read from both ends.

use std::fmt;

use crate::core::pattern::name_matches;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at it, download it.
    Read,
    /// Publish to it.
    Write,
    /// Remove it or a part of it.
    Delete,
    /// OCI's word for read.
    Pull,
    /// OCI's word for write; implies pull.
    Push,
    /// Change who may do what with it.
    Admin,
    /// Everything.
    Any,
}

impl Action {
    /// The word in a scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Admin => "admin",
            Self::Any => "*",
        }
    }

    /// The action of a word; an unknown one has none, and so grants nothing.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "read" => Self::Read,
            "write" => Self::Write,
            "delete" => Self::Delete,
            "pull" => Self::Pull,
            "push" => Self::Push,
            "admin" => Self::Admin,
            "*" => Self::Any,
            _ => return None,
        })
    }

    /// Whether it only looks.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::Pull)
    }

    /// Whether it publishes.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::Push)
    }

    /// Whether holding `self` is enough to do `wanted`: writing implies reading, everything implies everything, and nothing else
    /// implies deletion. Maven reads `maven-metadata.xml` in the middle of a deploy, and OCI clients look for blobs while they push.
    pub const fn implies(self, wanted: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Write | Self::Push => wanted.is_write() || wanted.is_read(),
            Self::Read | Self::Pull => wanted.is_read(),
            Self::Delete => matches!(wanted, Self::Delete),
            Self::Admin => matches!(wanted, Self::Admin),
        }
    }
}

/// A package, repository, crate, …: the first three fields of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// `npm`
    pub protocol: String,
    /// `package`
    pub kind: String,
    /// `@acme/widget`
    pub name: String,
}

impl Resource {
    /// Reads `npm:package:@acme/widget`; whatever follows the second colon is the name.
    pub fn parse(text: &str) -> Option<Self> {
        let (protocol, kind, name) = three(text)?;
        Some(Self { protocol: protocol.to_owned(), kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// `npm:package:@acme/widget`
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.protocol, self.kind, self.name)
    }
}

/// A scope, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `npm`, or `*`.
    pub protocol: &'a str,
    /// `package`, or `*`.
    pub kind: &'a str,
    /// A name, perhaps with `*` in it.
    pub name: &'a str,
    /// What it allows.
    pub action: Action,
}

impl<'a> Scope<'a> {
    /// Reads a scope from both ends; `None` if a field is missing or the action has no meaning.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, action) = text.rsplit_once(':')?;
        let (protocol, kind, name) = three(rest)?;
        Some(Self { protocol, kind, name, action: Action::parse(action)? })
    }

    /// Whether it says anything about resources of `protocol`.
    pub fn covers(&self, protocol: &str) -> bool {
        field_matches(self.protocol, protocol)
    }

    /// Whether it allows `action` on `resource`.
    pub fn grants(&self, resource: &Resource, action: Action) -> bool {
        self.action.implies(action)
            && field_matches(self.protocol, &resource.protocol)
            && field_matches(self.kind, &resource.kind)
            && name_matches(self.name, &resource.name)
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.protocol, self.kind, self.name, self.action.as_str())
    }
}

/// Whether a token's scopes allow `action` on `resource`. A read-only token reads what its scopes cover, and does nothing else
/// whatever they say.
pub(super) fn grants(scopes: &[String], readonly: bool, resource: &Resource, action: Action) -> bool {
    (!readonly || action.is_read())
        && scopes.iter().filter_map(|text| Scope::parse(text)).any(|scope| scope.grants(resource, action))
}

/// Everything of a protocol.
pub(super) fn full(protocol: &str) -> String {
    format!("{protocol}:*:*:*")
}

/// Whether a field of a pattern covers a field.
pub(super) fn field_matches(pattern: &str, field: &str) -> bool {
    pattern == "*" || pattern == field
}

/// Splits at the first two colons; no part may be empty.
pub(super) fn three(text: &str) -> Option<(&str, &str, &str)> {
    let (protocol, rest) = text.split_once(':')?;
    let (kind, name) = rest.split_once(':')?;
    (!protocol.is_empty() && !kind.is_empty() && !name.is_empty()).then_some((protocol, kind, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Action, Resource, Scope, grants};

    const ACTIONS: [Action; 7] =
        [Action::Read, Action::Write, Action::Delete, Action::Pull, Action::Push, Action::Admin, Action::Any];

    fn allows(scope: &str, resource: &str, action: &str) -> bool {
        let resource = Resource::parse(resource).unwrap();
        grants(&[scope.to_owned()], false, &resource, Action::parse(action).unwrap())
    }

    #[test]
    fn the_readmes_examples_mean_what_they_say() {
        assert!(allows("npm:package:express:read", "npm:package:express", "read"));
        assert!(!allows("npm:package:express:read", "npm:package:express", "write"));
        assert!(!allows("npm:package:express:read", "npm:package:express2", "read"));
        assert!(allows("npm:package:*:write", "npm:package:@acme/any", "write"));
        assert!(allows("oci:repository:nginx:pull", "oci:repository:nginx", "pull"));
        assert!(allows("oci:repository:nginx:pull", "oci:repository:nginx", "read"));
        assert!(allows("oci:repository:*:push", "oci:repository:a/b/c", "pull"));
        assert!(allows("composer:package:vendor/pkg:read", "composer:package:vendor/pkg", "read"));
        assert!(allows("cargo:*:*:*", "cargo:crate:serde", "delete"));
        assert!(!allows("cargo:*:*:*", "npm:package:serde", "read"));
        assert!(allows("*:*:*:*", "rubygems:gem:rails", "admin"));
    }

    #[test]
    fn globs_stay_within_what_they_name() {
        assert!(allows("npm:package:@acme/*:write", "npm:package:@acme/widget", "read"));
        assert!(!allows("npm:package:@acme/*:write", "npm:package:@acme-evil/widget", "read"));
        assert!(!allows("npm:package:@acme/*:write", "npm:package:acme", "read"));
        assert!(!allows("npm:package:*-plugin:write", "npm:package:@acme/secret-plugin", "read"));
        assert!(!allows("npm:package:**:write", "npm:package:@acme/widget", "read"));
        assert!(allows("npm:package:*-plugin:write", "npm:package:my-plugin", "read"));
        assert!(allows("oci:repository:team/*:pull", "oci:repository:team/a/b", "pull"));
        assert!(!allows("oci:repository:team/*:pull", "oci:repository:teams/a", "pull"));
        assert!(!allows("oci:repository:team/*:pull", "oci:repository:team", "pull"));
    }

    #[test]
    fn names_with_colons_are_read_from_both_ends() {
        assert!(allows("maven:artifact:com.acme:lib:write", "maven:artifact:com.acme:lib", "write"));
        assert!(allows("maven:artifact:com.acme.*:*:write", "maven:artifact:com.acme.net:lib", "write"));
        assert!(!allows("maven:artifact:com.acme.*:*:write", "maven:artifact:com.acmeevil:lib", "write"));
        assert!(!allows("maven:artifact:com.acme:lib:write", "maven:artifact:com.acme:other", "write"));
        let scope = Scope::parse("maven:artifact:com.acme:lib:*").unwrap();
        assert_eq!((scope.name, scope.action), ("com.acme:lib", Action::Any));
    }

    #[test]
    fn what_makes_no_sense_grants_nothing() {
        for bad in [
            "",
            "npm",
            "npm:package",
            "npm:package:x",
            "npm:package::read",
            ":::",
            "npm:package:x:publish",
            "*",
        ] {
            assert!(!allows(bad, "npm:package:x", "read"), "{bad}");
        }
        assert_eq!(Resource::parse("npm:package"), None);
        assert_eq!(Resource::parse("npm::x"), None);
    }

    #[test]
    fn only_everything_implies_deletion() {
        for held in ACTIONS {
            assert_eq!(
                held.implies(Action::Delete),
                matches!(held, Action::Delete | Action::Any),
                "{held:?} implies delete"
            );
            assert_eq!(held.implies(Action::Any), held == Action::Any, "{held:?} implies everything");
        }
    }

    proptest! {
        #[test]
        fn a_scope_prints_as_it_was_read(
            protocol in "[a-z*]{1,8}", kind in "[a-z*]{1,8}", name in "[a-z@/:.*-]{1,20}", action in 0_usize..7,
        ) {
            let text = format!("{protocol}:{kind}:{name}:{}", ACTIONS[action].as_str());
            let scope = Scope::parse(&text).unwrap();
            prop_assert_eq!((scope.protocol, scope.kind, scope.name), (&*protocol, &*kind, &*name));
            prop_assert_eq!(scope.to_string(), text);
        }

        #[test]
        fn read_only_tokens_only_read(scope in "(npm|\\*):(package|\\*):[a-z*]{1,3}:(read|write|delete|admin|\\*)", name in "[a-z]{1,3}") {
            let resource = Resource::parse(&format!("npm:package:{name}")).unwrap();
            let scopes = [scope];
            for action in ACTIONS {
                let open = grants(&scopes, false, &resource, action);
                let readonly = grants(&scopes, true, &resource, action);
                prop_assert!(!readonly || (open && action.is_read()));
                prop_assert_eq!(readonly, open && action.is_read());
                // Whoever may publish may look.
                prop_assert!(!grants(&scopes, false, &resource, Action::Write) || grants(&scopes, false, &resource, Action::Read));
            }
        }

        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = Scope::parse(&text);
            let _ = Resource::parse(&text);
        }
    }
}
