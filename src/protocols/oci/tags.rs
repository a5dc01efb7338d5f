//! The tag list of a repository (`tags.json`): the one shared document of this protocol. Pure.
//!
//! The layout names the file but not its form. We write `{"latest": "sha256:…"}` and read that, a map to objects with a `digest`, a list
//! of `{tag|name, digest}`, and each of them below a member `tags`; the form that was found is kept, and so is every member that is not ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::prelude::*;
use super::name::is_tag;

/// Tag to digest, sorted by bytes as clients page through it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TagList {
    tags: BTreeMap<String, Digest>,
    form: Form,
    /// The members beside `tags`, when the list lies one level down.
    around: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Members that are not `tag: "digest"`, as they were found.
    Map(Map<String, Value>),
    /// The items, as they were found.
    List(Vec<Value>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Map(Map::new())
    }
}

impl TagList {
    pub(super) fn get(&self, tag: &str) -> Option<&Digest> {
        self.tags.get(tag)
    }

    /// Points `tag` at `digest`; whether that changed anything.
    pub(super) fn set(&mut self, tag: &str, digest: &Digest) -> bool {
        self.tags.insert(tag.to_owned(), digest.clone()).as_ref() != Some(digest)
    }

    /// Takes a tag away; whether there was one.
    pub(super) fn remove(&mut self, tag: &str) -> bool {
        self.tags.remove(tag).is_some()
    }

    /// Takes every tag of a manifest away; whether there was one.
    pub(super) fn remove_digest(&mut self, digest: &Digest) -> bool {
        let before = self.tags.len();
        self.tags.retain(|_, one| one != digest);
        self.tags.len() != before
    }

    /// Every tag with what it names.
    pub(super) fn entries(&self) -> BTreeMap<String, Digest> {
        self.tags.clone()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tags.keys().map(String::as_str)
    }

    /// Whether some tag points at `digest`.
    pub(super) fn has_digest(&self, digest: &Digest) -> bool {
        self.tags.values().any(|one| one == digest)
    }
}

/// The digest in a foreign member, if it has one that we understand.
fn digest_in(value: &Value) -> Option<Digest> {
    match value {
        Value::String(text) => Digest::parse(text),
        Value::Object(members) => members.get("digest").and_then(Value::as_str).and_then(Digest::parse),
        _ => None,
    }
}

fn tag_in(item: &Value) -> Option<&str> {
    item.get("tag").or_else(|| item.get("name")).and_then(Value::as_str).filter(|tag| is_tag(tag))
}

/// A foreign member with another digest, its other members kept.
fn with_digest(mut value: Value, digest: &Digest) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.insert("digest".to_owned(), Value::String(digest.to_string()));
            value
        }
        _ => Value::String(digest.to_string()),
    }
}

impl Document for TagList {
    const CONTENT_TYPE: &'static str = "application/json";
    const LIMIT: u64 = 64 << 20;
    const NAME: &'static str = "tag list";

    fn parse(bytes: &Bytes) -> Result<Self> {
        let mut root: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::internal("a stored tag list is no JSON").with_source(error))?;
        let mut around = None;
        if let Value::Object(members) = &mut root
            && let Some(inner) = members.get("tags")
            && (inner.is_array() || (inner.is_object() && digest_in(inner).is_none()))
            && let Some(inner) = members.remove("tags")
        {
            around = Some(std::mem::take(members));
            root = inner;
        }
        let mut tags = BTreeMap::new();
        let form = match root {
            Value::Array(items) => {
                for item in &items {
                    if let (Some(tag), Some(digest)) = (tag_in(item), digest_in(item)) {
                        tags.insert(tag.to_owned(), digest);
                    }
                }
                Form::List(items)
            }
            Value::Object(members) => {
                let mut rest = Map::new();
                for (tag, value) in members {
                    let digest = digest_in(&value).filter(|_| is_tag(&tag));
                    if !(value.is_string() && digest.is_some()) {
                        rest.insert(tag.clone(), value);
                    }
                    if let Some(digest) = digest {
                        tags.insert(tag, digest);
                    }
                }
                Form::Map(rest)
            }
            _ => return Err(Error::internal("a stored tag list is neither an object nor a list")),
        };
        Ok(Self { tags, form, around })
    }

    fn serialize(&self) -> Result<Bytes> {
        let value = match &self.form {
            Form::Map(rest) => self.to_map(rest),
            Form::List(items) => self.to_list(items),
        };
        let value = match &self.around {
            None => value,
            Some(members) => {
                let mut members = members.clone();
                members.insert("tags".to_owned(), value);
                Value::Object(members)
            }
        };
        serde_json::to_vec(&value)
            .map(Bytes::from)
            .map_err(|error| Error::internal("a tag list does not serialise").with_source(error))
    }
}

impl TagList {
    fn to_map(&self, rest: &Map<String, Value>) -> Value {
        // A member that was a tag and is none any more goes; one that never was stays.
        let mut map: Map<String, Value> = rest
            .iter()
            .filter(|(tag, value)| self.tags.contains_key(*tag) || !is_tag(tag) || digest_in(value).is_none())
            .map(|(tag, value)| (tag.clone(), value.clone()))
            .collect();
        for (tag, digest) in &self.tags {
            let old = map.remove(tag).unwrap_or_default();
            map.insert(tag.clone(), with_digest(old, digest));
        }
        Value::Object(map)
    }

    fn to_list(&self, items: &[Value]) -> Value {
        let mut written = BTreeSet::new();
        let mut list = Vec::new();
        for item in items {
            match tag_in(item).filter(|_| digest_in(item).is_some()) {
                None => list.push(item.clone()),
                Some(tag) => {
                    if let Some(digest) = self.tags.get(tag).filter(|_| written.insert(tag)) {
                        list.push(with_digest(item.clone(), digest));
                    }
                }
            }
        }
        for (tag, digest) in self.tags.iter().filter(|(tag, _)| !written.contains(tag.as_str())) {
            list.push(serde_json::json!({ "tag": tag, "digest": digest.to_string() }));
        }
        Value::Array(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn parse(value: &Value) -> TagList {
        TagList::parse(&value.to_string().into()).unwrap()
    }

    fn written(list: &TagList) -> Value {
        serde_json::from_slice(&list.serialize().unwrap()).unwrap()
    }

    #[test]
    fn every_form_is_read_and_kept() {
        let (one, two) = (digest("1").to_string(), digest("2").to_string());
        for (found, after) in [
            (json!({"a": one, "b": one, "$x": 1}), json!({"a": two, "c": two, "$x": 1})),
            (
                json!({"a": {"digest": one, "size": 3}, "b": {"digest": one}, "z": {"n": 1}}),
                json!({"a": {"digest": two, "size": 3}, "c": two, "z": {"n": 1}}),
            ),
            (
                json!([{"name": "a", "digest": one, "x": 1}, {"tag": "b", "digest": one}, {"y": 2}]),
                json!([{"name": "a", "digest": two, "x": 1}, {"y": 2}, {"tag": "c", "digest": two}]),
            ),
            (
                json!({"name": "r", "tags": {"a": one, "b": one}}),
                json!({"name": "r", "tags": {"a": two, "c": two}}),
            ),
        ] {
            let mut list = parse(&found);
            assert_eq!(list.names().collect::<Vec<_>>(), ["a", "b"], "{found}");
            assert_eq!(written(&list), found, "an unchanged list is written as it was");
            assert!(list.set("a", &digest("2")) && !list.set("a", &digest("2")));
            assert!(list.remove("b") && !list.remove("b"));
            assert!(list.set("c", &digest("2")));
            assert_eq!(written(&list), after);
            assert_eq!(parse(&after).tags, list.tags);
        }
    }

    #[test]
    fn a_tag_may_be_called_tags() {
        let list = parse(&json!({"tags": digest("1").to_string()}));
        assert_eq!(list.get("tags"), Some(&digest("1")));
        let list = parse(&json!({"tags": {"digest": digest("1").to_string()}}));
        assert_eq!(list.get("tags"), Some(&digest("1")));
    }

    #[test]
    fn a_digest_goes_with_all_its_tags() {
        let mut list = TagList::default();
        list.set("a", &digest("1"));
        list.set("b", &digest("2"));
        list.set("c", &digest("1"));
        assert!(list.has_digest(&digest("1")) && list.remove_digest(&digest("1")));
        assert!(!list.has_digest(&digest("1")) && list.get("b").is_some());
        assert!(TagList::parse(&Bytes::from_static(b"[1")).is_err());
    }
}
