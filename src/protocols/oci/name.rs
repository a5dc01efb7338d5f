//! Repository names, tags and references: parse and print. Pure.
//!
//! Grammar: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>.

use std::fmt;
use std::sync::Arc;

use super::super::prelude::*;
use super::error;

/// Longest repository name in bytes: clients cap host and name together at 255.
const MAX_NAME: usize = 255;
/// Longest tag in bytes.
const MAX_TAG: usize = 128;

/// A repository name, such as `library/nginx`. Lower case; no component begins or ends with a separator, so that a component
/// `_` can close it off in a storage key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(Arc<str>);

impl Name {
    /// Joins and checks path segments.
    ///
    /// # Errors
    /// `NAME_INVALID`.
    pub(super) fn from_segments(segments: &[&str]) -> Result<Self> {
        Self::parse(&segments.join("/")).ok_or_else(|| {
            error::name_invalid(
                "a repository name is made of lower-case letters, digits, and single separators (`.`, `_`, `__`, `-`), \
                 in components split by slashes, of at most 255 bytes",
            )
        })
    }

    /// Checks a name that is whole already.
    pub(super) fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_NAME && text.split('/').all(is_component)).then(|| Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let Some(rest) = text.strip_prefix(alphanumeric) else { return false };
    let mut rest = rest.trim_start_matches(alphanumeric);
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c| !alphanumeric(c));
        let separator = rest.strip_suffix(after).unwrap_or_default();
        let good = matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-');
        if !good || after.is_empty() {
            return false;
        }
        rest = after.trim_start_matches(alphanumeric);
    }
    true
}

/// Whether `text` is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= MAX_TAG && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// The tag under which clients keep a subject's referrers where a registry has no list of them.
pub(super) fn fallback_tag(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().name(), hex.get(..64).unwrap_or(&hex))
}

/// Whether a tag is one that signing tools write again with each signature: a fallback tag, or cosign's `sha256-….sig`.
pub(super) fn is_fallback(tag: &str) -> bool {
    let Some((algorithm, rest)) = tag.split_once('-') else { return false };
    let hex = rest.split('.').next().unwrap_or_default();
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(algorithm, "sha256" | "sha512") && hex.len() == 64 && hex.bytes().all(is_hex)
}

/// What names a manifest within a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// A colon makes it a digest.
    ///
    /// # Errors
    /// `DIGEST_INVALID`, or `MANIFEST_INVALID` for what can be no tag.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        if is_tag(text) {
            return Ok(Self::Tag(text.to_owned()));
        }
        Err(error::manifest_invalid(
            "a tag is a letter, digit or underscore, then at most 127 letters, digits, `.`, `_` or `-`",
        ))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A digest in one of the two algorithms that are registered.
///
/// # Errors
/// `DIGEST_INVALID`.
pub(super) fn digest(text: &str) -> Result<Digest> {
    Digest::parse(text).ok_or_else(|| {
        error::digest_invalid(
            "a digest is `sha256:` and 64, or `sha512:` and 128 lower-case hexadecimal characters",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Name, Reference, is_tag};
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in [
            "a",
            "library/nginx",
            "a.b_c__d-e---f/0",
            "docker.io/library/nginx",
            "a/blobs/uploads",
            "tags/list",
        ] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "A", "a/", "/a", "a//b", "-a", "a-", "a..b", "a___b", "a._b", "a b", "_", "a/_", "..", "ä",
            &long,
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn tags_and_digests_are_told_apart_by_the_colon() {
        assert!(matches!(Reference::parse("v1.0_a-B"), Ok(Reference::Tag(_))));
        assert!(matches!(Reference::parse(&format!("sha256:{}", "0".repeat(64))), Ok(Reference::Digest(_))));
        for bad in ["", ".a", "-a", "a b", "a/b", "sha256:baddigeststring", "md5:00", &"x".repeat(129)] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_is_what_it_was(text in ".{0,300}") {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(!text.contains("..") && !text.split('/').any(|part| part.starts_with('_')));
            }
            if is_tag(&text) {
                prop_assert!(!text.contains(['/', ':']));
            }
        }

        #[test]
        fn what_the_grammar_makes_is_taken(text in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}){0,3}") {
            prop_assert!(Name::parse(&text).is_some());
        }
    }
}
