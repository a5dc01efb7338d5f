//! JSON by slices: an object's members without building what is in them, a writer that puts slices together, and the strict check for
//! what clients send. A packument of 20 MB stays 20 MB.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::name::is_prototype_key;
use crate::core::error::{Error, Result};

/// Deepest nesting that a client may send.
const MAX_DEPTH: u32 = 64;
/// Longest key that a client may send.
const MAX_KEY: usize = 1024;
/// Most keys of one object that a client may send; no package has as many versions.
const MAX_KEYS: usize = 100_000;

/// The members of an object in their order, values untouched.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Takes an object apart; `None` if the text is no object.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The same for a value inside another.
    pub(crate) fn of(value: &'a RawValue) -> Option<Self> {
        Self::parse(value.get().as_bytes())
    }

    /// The value of a member; the last one if it is there twice, as JavaScript has it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// A member that is an object, taken apart.
    pub(crate) fn object(&self, key: &str) -> Option<Members<'a>> {
        Members::of(self.get(key)?)
    }

    /// A member as a type; `None` if it is missing or of another.
    pub(crate) fn read<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }

    /// A member that is a text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.read(key)
    }

    /// Whether a member is there and is not `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get() != "null")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    members.push((key.0, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// A key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

/// Writes an object member by member.
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Begins an object at the end of `out`.
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// A member whose value is JSON text already.
    pub(crate) fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(value);
    }

    /// A member.
    pub(crate) fn member(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        self.key(key);
        // Writing our own types to memory fails only for maps whose keys are no text; we have none.
        if serde_json::to_writer(&mut *self.out, value).is_err() {
            self.out.extend_from_slice(b"null");
        }
    }

    /// A member that is an object of its own.
    pub(crate) fn object(&mut self, key: &str) -> ObjectWriter<'_> {
        self.key(key);
        ObjectWriter::begin(self.out)
    }

    /// Closes the object.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        if serde_json::to_writer(&mut *self.out, key).is_err() {
            self.out.extend_from_slice(b"\"\"");
        }
        self.out.push(b':');
    }
}

/// Checks what a client sent: JSON, an object, no key twice (two parsers would see two documents), no deep nesting, no key that would
/// reach a prototype in JavaScript.
pub(crate) fn check(text: &[u8]) -> Result<()> {
    let mut from = serde_json::Deserializer::from_slice(text);
    Strict { depth: 0, names: true }
        .deserialize(&mut from)
        .and_then(|is_object| {
            from.end()?;
            if is_object { Ok(()) } else { Err(de::Error::custom("it is no object")) }
        })
        .map_err(|error| Error::invalid(format!("the document can't be taken: {error}")))
}

/// Walks a value and keeps nothing but the keys of the objects it is in. Answers whether the value is an object.
#[derive(Clone, Copy)]
struct Strict {
    depth: u32,
    /// Whether the keys of this object are names that we use as keys ourselves; deeper a package may be called `constructor`.
    names: bool,
}

impl Strict {
    fn deeper<E: de::Error>(self, names: bool) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1, names })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let inner = self.deeper(false)?;
        while list.next_element_seed(inner)?.is_some() {}
        Ok(false)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            if key.len() > MAX_KEY {
                return Err(de::Error::custom(format!("a key is longer than {MAX_KEY} bytes")));
            }
            if key == "__proto__" || (self.names && is_prototype_key(&key)) {
                return Err(de::Error::custom(format!("`{key}` must not be a key")));
            }
            let names = self.depth == 0
                && matches!(key.as_ref(), "versions" | "dist-tags" | "time" | "users" | "_attachments");
            let inner = self.deeper(names)?;
            if seen.len() == MAX_KEYS {
                return Err(de::Error::custom(format!("an object has more than {MAX_KEYS} keys")));
            }
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format!(
                    "the key `{}` is there twice",
                    super::name::printable(&key)
                )));
            }
            map.next_value_seed(inner)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_and_text() {
        let text = br#"{"b": {"x":1.50} , "a":[ 1 ],"\u0062":2}"#;
        let members = Members::parse(text).unwrap();
        let seen: Vec<_> = members.0.iter().map(|(key, value)| (key.as_ref(), value.get())).collect();
        assert_eq!(seen, [("b", r#"{"x":1.50}"#), ("a", "[ 1 ]"), ("b", "2")]);
        assert_eq!(members.get("b").unwrap().get(), "2");
        assert!(Members::parse(b"[1]").is_none() && Members::parse(b"{").is_none());
        let mut out = Vec::new();
        let mut object = ObjectWriter::begin(&mut out);
        object.raw("a", b"[1]");
        object.member("\"", "x");
        object.object("o").end();
        object.end();
        assert_eq!(out, br#"{"a":[1],"\"":"x","o":{}}"#);
    }

    #[test]
    fn strictness() {
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        check(deep(64).as_bytes()).unwrap();
        check(br#"{"versions":{"1.0.0":{"dependencies":{"constructor":"1"}}},"x":[null,1.5,-1,true,"s"]}"#)
            .unwrap();
        let bads = [
            ("", "EOF"),
            ("[]", "no object"),
            ("1", "no object"),
            ("{} {}", "trailing"),
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"a":{"b":1,"\u0062":2}}"#, "twice"),
            (r#"{"x":{"__proto__":1}}"#, "__proto__"),
            (r#"{"x":[{"__pr\u006fto__":1}]}"#, "__proto__"),
            (r#"{"versions":{"constructor":{}}}"#, "constructor"),
            (r#"{"dist-tags":{"prototype":"1.0.0"}}"#, "prototype"),
            (r#"{"a":"#, "EOF"),
            ("{\"a\":\"\u{1}\"}", "control character"),
        ];
        for (bad, why) in bads {
            let error = check(bad.as_bytes()).unwrap_err();
            assert!(error.message().contains(why), "{bad}: {error}");
        }
        assert!(check(deep(65).as_bytes()).unwrap_err().message().contains("deep"));
        assert!(check("[".repeat(100_000).as_bytes()).is_err());
        let wide = |keys: usize| {
            let keys: Vec<String> = (0..keys).map(|at| format!("\"{at}\":0")).collect();
            format!("{{{}}}", keys.join(","))
        };
        check(wide(100_000).as_bytes()).unwrap();
        assert!(check(wide(100_001).as_bytes()).unwrap_err().message().contains("more than 100000 keys"));
        assert!(check(format!("{{\"{}\":1}}", "k".repeat(1025)).as_bytes()).is_err());
    }
}
