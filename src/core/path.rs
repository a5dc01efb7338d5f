//! A URL path, decoded once and split; traversal, control characters and empty segments die here.

use percent_encoding::percent_decode_str;

use super::error::{Error, Result};

/// Segments of a path that can't be read of which it is looked whose they are.
const MAX_LEADING: usize = 16;
/// Longest path that is looked at, in bytes. Names are far shorter in every ecosystem.
const MAX_PATH: usize = 4096;

/// The segments of a path, percent-decoded exactly once. None is empty, `.`, `..`, or holds a slash, backslash or control character.
///
/// A segment that came with an encoded slash (`@scope%2fname`) counts as two, as npm's clients mean it; protocols in which
/// that is an error ask [`Segments::had_encoded_slash`]. The same for `a//b`: [`Segments::had_empty`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    parts: Vec<String>,
    encoded_slash: bool,
    empty: bool,
    trailing_slash: bool,
}

impl Segments {
    /// Normalises a raw path. A query or fragment that is still attached is cut off; repeated slashes collapse.
    pub fn parse(raw: &str) -> Result<Self> {
        let raw = raw.split(['?', '#']).next().unwrap_or_default();
        if raw.len() > MAX_PATH {
            return Err(Error::invalid(format!("the path is longer than {MAX_PATH} bytes")));
        }
        let mut parts = Vec::new();
        let (mut encoded_slash, mut empty) = (false, false);
        let mut slashes = 0;
        for segment in raw.split('/') {
            if segment.is_empty() {
                slashes += 1;
                continue;
            }
            empty |= slashes > 0 && !parts.is_empty();
            slashes = 0;
            let decoded = percent_decode_str(segment)
                .decode_utf8()
                .map_err(|_| Error::invalid("the path is not valid UTF-8 after percent-decoding"))?;
            for part in decoded.split('/') {
                if part.len() != decoded.len() {
                    encoded_slash = true;
                }
                if matches!(part, "" | "." | "..") {
                    return Err(Error::invalid(
                        "the path has an empty, `.` or `..` segment after percent-decoding",
                    ));
                }
                if part.chars().any(|c| c.is_control() || c == '\\') {
                    return Err(Error::invalid("the path has a control character or a backslash"));
                }
                parts.push(part.to_owned());
            }
        }
        Ok(Self { parts, encoded_slash, empty, trailing_slash: raw.ends_with('/') })
    }

    /// What stands before the first segment of a path for which [`Segments::parse`] fails: it tells whose the path is.
    pub fn leading(raw: &str) -> Self {
        let segments = raw.split('/').filter(|segment| !segment.is_empty()).take(MAX_LEADING);
        let parts =
            segments.map_while(|segment| Self::parse(segment).ok()).flat_map(|one| one.parts).collect();
        Self { parts, ..Self::default() }
    }

    /// The segments, for a `match`.
    pub fn as_strs(&self) -> Vec<&str> {
        self.parts.iter().map(String::as_str).collect()
    }

    /// The segments as they are.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Whether a segment came with `%2F` in it.
    pub fn had_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// Whether there was nothing between two slashes, other than at either end.
    pub fn had_empty(&self) -> bool {
        self.empty
    }

    /// Whether the path ended in a slash.
    pub fn has_trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// What follows `prefix`, if this path lies below it, segment by segment: `/npm` is no prefix of `/npmx`.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        let parts = self.parts.strip_prefix(prefix.parts.as_slice())?.to_vec();
        Some(Self { parts, ..*self })
    }

    /// `/a/b`, or the empty text for no segments; for building links from a configured base path.
    pub fn to_path(&self) -> String {
        self.parts.iter().fold(String::new(), |path, part| path + "/" + part)
    }
}

#[cfg(test)]
mod tests {
    use super::Segments;
    use proptest::prelude::*;

    fn parts(raw: &str) -> Option<Vec<String>> {
        Segments::parse(raw).ok().map(|segments| segments.parts().to_vec())
    }

    #[test]
    fn decodes_once_and_collapses() {
        assert_eq!(parts("//npm//@a%2fb/?x=1"), Some(vec!["npm".into(), "@a".into(), "b".into()]));
        assert_eq!(parts("/a%252Fb"), Some(vec!["a%2Fb".into()]));
        assert_eq!(parts("/"), Some(vec![]));
    }

    #[test]
    fn traversal_dies() {
        for bad in [
            "/a/../b",
            "/a/%2e%2e/b",
            "/a%2F..%2Fb",
            "/a%00",
            "/a\\b",
            "/a%5cb",
            "/%ff",
            "/a%2F%2Fb",
            "/a%2f",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn prefixes_go_by_segment() {
        let npm = Segments::parse("/npm").unwrap();
        assert!(Segments::parse("/npmx/a").unwrap().strip_prefix(&npm).is_none());
        assert_eq!(Segments::parse("/npm/a").unwrap().strip_prefix(&npm).unwrap().to_path(), "/a");
    }

    #[test]
    fn what_was_between_two_slashes_is_noted() {
        let empty = |raw: &str| Segments::parse(raw).unwrap().had_empty();
        assert!(empty("/a//b") && empty("/a///b/") && empty("a//b?c"));
        assert!(!empty("//a/b") && !empty("/a/b//") && !empty("//") && !empty("/a?b//c"));
        let npm = Segments::parse("/npm").unwrap();
        assert!(Segments::parse("/npm/a//b").unwrap().strip_prefix(&npm).unwrap().had_empty());
    }

    #[test]
    fn a_path_that_cannot_be_read_begins_somewhere() {
        for (raw, leading) in
            [("/v2/a%5cb/x", "/v2"), ("/npm/%00", "/npm"), ("/../v2", ""), ("/a/../v2", "/a"), ("/%ff", "")]
        {
            assert_eq!(Segments::leading(raw).to_path(), leading, "{raw}");
        }
        assert_eq!(Segments::leading(&"/a".repeat(3000)).parts().len(), super::MAX_LEADING);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_yields_a_dangerous_segment(raw in ".{0,200}") {
            for part in parts(&raw).unwrap_or_default() {
                prop_assert!(!part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0']));
            }
        }
    }
}
