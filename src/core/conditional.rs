//! Entity tags and the conditions that use them (RFC 9110, section 13).

use super::time::Timestamp;

/// An entity tag as it stands in a header: `"abc"` or `W/"abc"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// A strong tag. Quotes inside `opaque` are left out, so that the header stays well-formed.
    pub fn strong(opaque: &str) -> Self {
        Self(format!("\"{}\"", opaque.replace('"', "")))
    }

    /// A weak tag: right where a proxy may re-compress, since that drops strong ones.
    pub fn weak(opaque: &str) -> Self {
        Self(format!("W/\"{}\"", opaque.replace('"', "")))
    }

    /// The header's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn opaque(&self) -> &str {
        opaque(&self.0)
    }
}

fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

/// The opaque part of each tag in a list. Between quotes a comma is a character like any other.
fn list(header: &str) -> impl Iterator<Item = &str> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let tag = rest.trim_start_matches([' ', '\t', ',']);
        if tag.is_empty() {
            return None;
        }
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let (tag, after) = match tag.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => tag.split_once(',').map_or((tag.trim_end(), ""), |(tag, after)| (tag.trim_end(), after)),
        };
        rest = after;
        Some(tag)
    })
}

/// Whether two tags, as they stand in headers, name the same thing: weak comparison, quotes or not.
pub fn same(one: &str, other: &str) -> bool {
    opaque(one) == opaque(other)
}

/// Whether a header such as `If-None-Match` or `If-Match` names `current`. Compares weakly and takes `*`, lists, and tags without quotes.
pub fn matches(header: &str, current: &ETag) -> bool {
    header.trim() == "*" || list(header).any(|tag| tag == current.opaque())
}

/// Whether the client's copy is still good, by `If-None-Match`, else by `If-Modified-Since`: answer 304.
pub fn not_modified(
    if_none_match: Option<&str>,
    if_modified_since: Option<&str>,
    current: Option<&ETag>,
    modified: Option<&str>,
) -> bool {
    // When both are there only the tag counts: npm sends both, and its clock may be wrong.
    if let Some(header) = if_none_match {
        return current.is_some_and(|tag| matches(header, tag));
    }
    let (Some(since), Some(modified)) = (if_modified_since, modified) else { return false };
    match (Timestamp::parse_http_date(since), Timestamp::parse_http_date(modified)) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{ETag, matches, not_modified};

    #[test]
    fn compares_weakly_and_takes_lists() {
        let tag = ETag::weak("abc");
        for header in ["\"abc\"", "W/\"abc\"", "abc", "*", "\"x\", W/\"abc\""] {
            assert!(matches(header, &tag), "{header}");
        }
        assert!(!matches("\"abcd\"", &tag));
        let comma = ETag::strong("a,b");
        let blank = ETag::strong("a ");
        assert!(matches(blank.as_str(), &blank) && !matches("\"a\"", &blank));
        assert!(matches("\"a,b\"", &comma) && matches("\"x\", W/\"a,b\" ,\"y\"", &comma));
        assert!(!matches("\"a\", \"b\", a, b", &comma) && !matches("\"x,abc\"", &tag));
    }

    #[test]
    fn the_tag_wins_over_the_date() {
        let tag = ETag::strong("a");
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(!not_modified(Some("\"b\""), date, Some(&tag), date));
        assert!(not_modified(None, date, Some(&tag), date));
        assert!(!not_modified(None, None, Some(&tag), date));
    }
}
