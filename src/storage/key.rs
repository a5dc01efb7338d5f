//! Keys and prefixes: checked once, on construction, so that no backend has to.

use std::borrow::Borrow;
use std::fmt;

use crate::core::error::{Error, Result};

/// Everything of ours that is not the user's data lives below this segment, and can be rebuilt from the rest, except
/// users and tokens (`_sr/auth/`) and npm's signing keys, which are found nowhere else.
pub const PRIVATE: &str = "_sr";
/// Begin of the keys of what has no place yet.
pub const STAGING: &str = "_sr/staging/";

/// Longest key in bytes, as S3 has it, less room for a `directoryPath`.
const MAX_KEY: usize = 900;
/// Longest segment in bytes, as file systems have it.
const MAX_SEGMENT: usize = 255;

/// A place in the bucket. No empty, `.` or `..` segment, no control character, no backslash, bounded length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Checks and wraps a key. Names are validated before they become keys; this is the second fence.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let bad = text.len() > MAX_KEY
            || text.split('/').any(|segment| {
                matches!(segment, "" | "." | "..")
                    || segment.len() > MAX_SEGMENT
                    || segment.chars().any(|c| c.is_control() || c == '\\')
            });
        if bad {
            return Err(Error::invalid(
                "the name makes no valid storage key: it is too long or has a forbidden segment",
            ));
        }
        Ok(Self(text))
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies in our own part of the bucket: hooks don't see it.
    pub fn is_private(&self) -> bool {
        self.0.split('/').next() == Some(PRIVATE)
    }
}

/// A map of keys can be searched from any text, such as a prefix.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of keys to list: empty for all, else whole segments with a slash at the end, or a bare beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(String);

impl Prefix {
    /// Checks and wraps a prefix.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if !text.is_empty() {
            Key::new(text.trim_end_matches('/'))?;
        }
        Ok(Self(text))
    }

    /// The prefix's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Prefix};
    use proptest::prelude::*;

    #[test]
    fn refuses_what_could_leave_its_place() {
        for bad in
            ["", "/a", "a/", "a//b", "a/../b", "..", "a\\b", "a\0", &"x".repeat(256), &"x/".repeat(500)]
        {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        assert!(Key::new("npm/packages/@a/b/index.json").is_ok());
        assert!(Key::new("_sr/log").unwrap().is_private());
        assert!(!Key::new("_srx/log").unwrap().is_private());
        assert!(Prefix::new("").is_ok() && Prefix::new("a/b/").is_ok() && Prefix::new("../").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,300}") {
            let _ = Key::new(text);
        }
    }
}
