//! The words of a search: plain ones, and the qualifiers that the public registry knows. Pure.
//!
//! `author:`, `maintainer:`, `scope:`, `keywords:a,b` (either), `keywords:a+b` (both), `keywords:a,-b` (without), `is:unstable`, `not:unstable`,
//! `not:insecure`, `not:deprecated`, `boost-exact:false`. What has another word before its colon is a plain word.

use serde_json::Value;

use crate::index::Wanted;

/// Most words that are looked at.
const MAX_WORDS: usize = 16;

/// A search, taken apart; everything in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Plain words, all of which must be found.
    pub(crate) words: Vec<String>,
    /// Without the `@`.
    pub(crate) scope: Option<String>,
    /// Whether a package of exactly the wanted name comes first.
    pub(crate) boost_exact: bool,
    author: Option<String>,
    maintainer: Option<String>,
    keywords: Option<Keywords>,
    unstable: Option<bool>,
    insecure: Option<bool>,
    deprecated: Option<bool>,
}

/// One of `any` must be there with all its parts, and nothing of `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Keywords {
    any: Vec<Vec<String>>,
    none: Vec<String>,
}

impl Query {
    /// Reads what somebody typed.
    pub(crate) fn parse(text: &str) -> Self {
        let mut query = Self {
            words: Vec::new(),
            scope: None,
            boost_exact: true,
            author: None,
            maintainer: None,
            keywords: None,
            unstable: None,
            insecure: None,
            deprecated: None,
        };
        for word in text.split_whitespace().take(MAX_WORDS).map(str::to_lowercase) {
            if !query.qualifier(&word) {
                query.words.push(word);
            }
        }
        query
    }

    /// Takes a word for a qualifier if it is one.
    fn qualifier(&mut self, word: &str) -> bool {
        let Some((key, value)) = word.split_once(':').filter(|(_, value)| !value.is_empty()) else {
            return false;
        };
        match (key, value) {
            ("author", name) => self.author = Some(bare(name)),
            ("maintainer", name) => self.maintainer = Some(bare(name)),
            ("scope", name) => self.scope = Some(bare(name)),
            ("keywords", list) => self.keywords = Some(Keywords::parse(list)),
            ("is", "unstable") => self.unstable = Some(true),
            ("not", "unstable") => self.unstable = Some(false),
            ("is", "insecure") => self.insecure = Some(true),
            ("not", "insecure") => self.insecure = Some(false),
            ("is", "deprecated") => self.deprecated = Some(true),
            ("not", "deprecated") => self.deprecated = Some(false),
            ("boost-exact", flag) => self.boost_exact = flag != "false",
            _ => return false,
        }
        true
    }

    /// What the index is asked for. It knows nothing finer: see [`Self::narrows`].
    pub(crate) fn wanted(&self) -> Wanted {
        let keywords = self.keywords.as_ref().and_then(Keywords::all_of).unwrap_or_default();
        Wanted {
            words: self.words.clone(),
            keywords: keywords.to_vec(),
            people: self.author.iter().chain(&self.maintainer).cloned().collect(),
            scope: self.scope.clone(),
            plain: !self.boost_exact,
        }
    }

    /// Whether [`Self::accepts`] can refuse what the index finds.
    pub(crate) fn narrows(&self) -> bool {
        let people = self.author.is_some() || self.maintainer.is_some();
        let flags = [self.unstable, self.insecure, self.deprecated];
        let keywords = self.keywords.as_ref().is_some_and(|keywords| keywords.all_of().is_none());
        people || keywords || flags.iter().any(Option::is_some)
    }

    /// Whether a found package, as it stands in the answer, has what the qualifiers ask for.
    pub(crate) fn accepts(&self, found: &Value) -> bool {
        let package = &found["package"];
        let is =
            |value: &Value, wanted: &str| value.as_str().is_some_and(|text| text.to_lowercase() == wanted);
        let author = |wanted: &String| {
            let names = ["/author/name", "/publisher/username"];
            names.iter().any(|place| package.pointer(place).is_some_and(|name| is(name, wanted)))
        };
        let people = package["maintainers"].as_array();
        let maintainer =
            |wanted: &String| people.is_some_and(|list| list.iter().any(|one| is(&one["username"], wanted)));
        let keywords: Vec<String> = package["keywords"]
            .as_array()
            .map(|list| list.iter().filter_map(Value::as_str).map(str::to_lowercase).collect())
            .unwrap_or_default();
        let flags = &found["flags"];
        let unstable = flags["unstable"].as_bool() == Some(true);
        let insecure = flags["insecure"].as_u64().is_some_and(|count| count > 0);
        let deprecated = flags["deprecated"].as_bool() == Some(true);
        self.author.as_ref().is_none_or(author)
            && self.maintainer.as_ref().is_none_or(maintainer)
            && self.keywords.as_ref().is_none_or(|wanted| wanted.accept(&keywords))
            && self.unstable.is_none_or(|wanted| wanted == unstable)
            && self.insecure.is_none_or(|wanted| wanted == insecure)
            && self.deprecated.is_none_or(|wanted| wanted == deprecated)
    }
}

/// Names may come with the `@` that people write before them.
fn bare(name: &str) -> String {
    name.trim_start_matches('@').to_owned()
}

impl Keywords {
    fn parse(list: &str) -> Self {
        let mut keywords = Self::default();
        for one in list.split(',').filter(|one| !one.is_empty()) {
            match one.strip_prefix('-') {
                Some(excluded) => keywords.none.push(excluded.to_owned()),
                None => keywords.any.push(one.split('+').map(str::to_owned).collect()),
            }
        }
        keywords
    }

    /// The keywords, if all of them must be there and that is all.
    fn all_of(&self) -> Option<&[String]> {
        match (self.any.as_slice(), self.none.as_slice()) {
            ([all], []) => Some(all),
            _ => None,
        }
    }

    fn accept(&self, keywords: &[String]) -> bool {
        let there = |wanted: &String| keywords.contains(wanted);
        (self.any.is_empty() || self.any.iter().any(|all| all.iter().all(there)))
            && !self.none.iter().any(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn package(keywords: &[&str], unstable: bool, deprecated: bool) -> Value {
        json!({
            "package": {
                "author": { "name": "Bob" }, "publisher": { "username": "alice" },
                "maintainers": [{ "username": "carol" }], "keywords": keywords,
            },
            "flags": { "unstable": unstable, "insecure": 0, "deprecated": deprecated },
        })
    }

    #[test]
    fn qualifiers_and_words() {
        let query = Query::parse("Left scope:@Acme boost-exact:false foo:bar author:");
        assert_eq!(query.words, ["left", "foo:bar", "author:"]);
        assert_eq!((query.scope.as_deref(), query.boost_exact), (Some("acme"), false));
        assert_eq!(Query::parse(&"x ".repeat(100)).words.len(), 16);
        let one = package(&["A", "b"], false, false);
        for (text, accepted) in [
            ("", true),
            ("author:bob", true),
            ("author:alice", true),
            ("author:@carol", false),
            ("maintainer:carol", true),
            ("maintainer:bob", false),
            ("keywords:a", true),
            ("keywords:x,b", true),
            ("keywords:x", false),
            ("keywords:a+b", true),
            ("keywords:a+x", false),
            ("keywords:a,-b", false),
            ("keywords:-x", true),
            ("not:unstable", true),
            ("is:unstable", false),
            ("not:insecure", true),
            ("is:insecure", false),
            ("not:deprecated", true),
        ] {
            assert_eq!(Query::parse(text).accepts(&one), accepted, "{text}");
        }
        let other = package(&[], true, true);
        assert!(Query::parse("is:unstable is:deprecated").accepts(&other));
        assert!(
            !Query::parse("not:deprecated").accepts(&other) && !Query::parse("not:unstable").accepts(&other)
        );
        assert!(Query::parse("author:bob").accepts(&package(&[], false, false)));
        assert!(!Query::parse("author:bob").accepts(&json!({})));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = Query::parse(&text).accepts(&json!({}));
        }
    }
}
