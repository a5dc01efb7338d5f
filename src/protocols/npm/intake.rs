//! Takes a publish body apart while it streams in: the tarball's bytes go one way, the JSON around them stays.
//!
//! `_attachments` may be the first member of the document (yarn berry) or the last (npm), so nothing of the document can be relied on
//! when the base64 arrives. This splitter knows just enough JSON to see where `_attachments[…].data` begins and ends: what is left, with
//! an empty text in its place, is parsed and checked by `serde_json` afterwards, and the tarball becomes visible only after that. The
//! JSON parsers that can be fed in pieces keep a string whole until its end; the one that hands a long string out bit by bit reads
//! instead of being fed, and would hold a thread for as long as a client takes to send.

use bytes::Bytes;

use super::decode::{Base64, not_base64};
use crate::core::error::{Error, Result};

/// Longest key that is kept for comparison.
const MAX_KEY: usize = 1024;

/// What came out of a piece of the body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The data of the attachment of this name begins.
    Begin(String),
    /// The next bytes of it, decoded.
    Data(Bytes),
    /// It is over.
    End,
}

/// Bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IntakeLimits {
    /// Bytes of a document that comes without a tarball: a whole packument, as clients send back to deprecate.
    pub(crate) document: u64,
    /// Bytes of the document around a tarball.
    pub(crate) around: u64,
    /// Bytes of the tarball.
    pub(crate) attachment: u64,
}

enum State {
    /// Between tokens.
    Open,
    /// In a text that is kept. `from` is where it began in `kept`, if somebody wants to know what it says.
    Text { escaped: bool, key_from: Option<usize> },
    /// In the data of an attachment.
    Data(Base64, Escape),
}

#[derive(Default)]
enum Escape {
    #[default]
    None,
    Backslash,
    Unicode(u32, u8),
}

/// Splits the JSON text, fed in pieces of any size.
pub(crate) struct Splitter {
    limits: IntakeLimits,
    state: State,
    depth: usize,
    /// Whether each of the outermost three levels is an object.
    objects: [bool; 3],
    /// The last key on each of them.
    keys: [String; 3],
    /// Whether a text on the present level would be a key.
    expect_key: bool,
    kept: Vec<u8>,
    attachments: u32,
    length: u64,
}

impl Splitter {
    pub(crate) fn new(limits: IntakeLimits) -> Self {
        Self {
            limits,
            state: State::Open,
            depth: 0,
            objects: [false; 3],
            keys: Default::default(),
            expect_key: false,
            kept: Vec::new(),
            attachments: 0,
            length: 0,
        }
    }

    /// Takes the next bytes; what came out is added to `events`.
    pub(crate) fn feed(&mut self, mut data: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let mut decoded = Vec::new();
        while !data.is_empty() {
            data = match std::mem::replace(&mut self.state, State::Open) {
                State::Open => self.open(data, events)?,
                State::Text { escaped, key_from } => self.text(data, escaped, key_from)?,
                State::Data(base64, escape) => self.data(data, base64, escape, &mut decoded, events)?,
            };
        }
        self.give(&mut decoded, events)
    }

    /// Another splitter with the same bounds.
    pub(crate) fn clone_limits(&self) -> Self {
        Self::new(self.limits)
    }

    /// The document without the attachments' data.
    pub(crate) fn finish(self) -> Result<Bytes> {
        if self.attachments > 0 && self.kept.len() as u64 > self.limits.around {
            return Err(Error::too_large("the document around the tarball", self.limits.around));
        }
        // An unfinished text or object is no JSON, which the parser finds; unfinished data must be said here.
        if matches!(self.state, State::Data(..)) {
            return Err(Error::invalid("the document ends in the middle of its attachment"));
        }
        Ok(self.kept.into())
    }

    fn keep(&mut self, data: &[u8]) -> Result<()> {
        let (what, limit) = if self.attachments > 0 {
            ("the document around the tarball", self.limits.around)
        } else {
            ("the document", self.limits.document)
        };
        if (self.kept.len() + data.len()) as u64 > limit {
            return Err(Error::too_large(what, limit));
        }
        self.kept.extend_from_slice(data);
        Ok(())
    }

    /// Goes to the next text, keeping count of brackets.
    fn open<'a>(&mut self, data: &'a [u8], events: &mut Vec<Event>) -> Result<&'a [u8]> {
        for (at, byte) in data.iter().enumerate() {
            match byte {
                b'{' | b'[' => {
                    if let Some(object) = self.objects.get_mut(self.depth) {
                        *object = *byte == b'{';
                    }
                    self.expect_key = *byte == b'{';
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.expect_key = false;
                }
                b',' => {
                    self.expect_key =
                        self.level().is_some_and(|level| self.objects.get(level) == Some(&true));
                }
                b':' => self.expect_key = false,
                b'"' => {
                    let (front, rest) = data.split_at(at + 1);
                    if self.at_data() {
                        self.keep(front)?;
                        self.keep(b"\"")?;
                        self.attachments += 1;
                        events.push(Event::Begin(self.keys[1].clone()));
                        self.state = State::Data(Base64::default(), Escape::None);
                    } else {
                        self.keep(front)?;
                        let key_from = (self.expect_key && self.level().is_some()).then_some(self.kept.len());
                        self.state = State::Text { escaped: false, key_from };
                    }
                    return Ok(rest);
                }
                _ => {}
            }
        }
        self.keep(data)?;
        Ok(&[])
    }

    /// Index of the present level among the outermost three.
    fn level(&self) -> Option<usize> {
        self.depth.checked_sub(1).filter(|level| *level < 3)
    }

    /// Whether a text that begins here is the data of a tarball. A `.sigstore` bundle is JSON in a text: it stays in the document.
    fn at_data(&self) -> bool {
        self.depth == 3
            && !self.expect_key
            && self.objects == [true; 3]
            && self.keys[0] == "_attachments"
            && self.keys[2] == "data"
            && !self.keys[1].ends_with(".sigstore")
    }

    /// Goes to the end of a text that is kept.
    fn text<'a>(&mut self, data: &'a [u8], mut escaped: bool, key_from: Option<usize>) -> Result<&'a [u8]> {
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            if escaped {
                escaped = false;
                at += 1;
                continue;
            }
            match memchr::memchr2(b'"', b'\\', rest) {
                None => at = data.len(),
                Some(found) => {
                    at += found + 1;
                    if rest.get(found) == Some(&b'\\') {
                        escaped = true;
                    } else {
                        let (front, rest) = data.split_at(at);
                        self.keep(front)?;
                        self.key_over(key_from)?;
                        return Ok(rest);
                    }
                }
            }
        }
        self.keep(data)?;
        self.state = State::Text { escaped, key_from };
        Ok(&[])
    }

    fn key_over(&mut self, key_from: Option<usize>) -> Result<()> {
        let Some(from) = key_from else { return Ok(()) };
        let text = self.kept.get(from.saturating_sub(1)..).unwrap_or_default();
        if text.len() > MAX_KEY {
            return Err(Error::invalid(format!("a key of the document is longer than {MAX_KEY} bytes")));
        }
        let key: String = serde_json::from_slice(text)
            .map_err(|error| Error::invalid(format!("the document can't be taken: {error}")))?;
        if let Some(place) = self.level().and_then(|level| self.keys.get_mut(level)) {
            *place = key;
        }
        self.expect_key = false;
        Ok(())
    }

    /// Decodes up to the end of the data.
    fn data<'a>(
        &mut self,
        data: &'a [u8],
        mut base64: Base64,
        escape: Escape,
        decoded: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<&'a [u8]> {
        let (rest, escape) = match (escape, data.split_first()) {
            (Escape::None, _) | (_, None) => {
                let Some(at) = memchr::memchr2(b'"', b'\\', data) else {
                    base64.push(data, decoded)?;
                    self.state = State::Data(base64, Escape::None);
                    return Ok(&[]);
                };
                let (front, rest) = data.split_at(at);
                base64.push(front, decoded)?;
                if rest.first() == Some(&b'"') {
                    base64.finish()?;
                    self.give(decoded, events)?;
                    events.push(Event::End);
                    return Ok(rest.get(1..).unwrap_or_default());
                }
                (rest.get(1..).unwrap_or_default(), Escape::Backslash)
            }
            // Some JSON writers escape the slash, some the plus.
            (Escape::Backslash, Some((b'/', rest))) => {
                base64.push(b"/", decoded)?;
                (rest, Escape::None)
            }
            (Escape::Backslash, Some((b'u', rest))) => (rest, Escape::Unicode(0, 0)),
            (Escape::Backslash, Some(_)) => return Err(not_base64()),
            (Escape::Unicode(value, digits), Some((digit, rest))) => {
                let digit = char::from(*digit).to_digit(16).ok_or_else(not_base64)?;
                let value = value * 16 + digit;
                if digits < 3 {
                    (rest, Escape::Unicode(value, digits + 1))
                } else {
                    base64.push(&[u8::try_from(value).map_err(|_| not_base64())?], decoded)?;
                    (rest, Escape::None)
                }
            }
        };
        self.state = State::Data(base64, escape);
        Ok(rest)
    }

    fn give(&mut self, decoded: &mut Vec<u8>, events: &mut Vec<Event>) -> Result<()> {
        if !decoded.is_empty() {
            self.length += decoded.len() as u64;
            if self.length > self.limits.attachment {
                return Err(Error::too_large("the tarball", self.limits.attachment));
            }
            events.push(Event::Data(std::mem::take(decoded).into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::core::error::Kind;
    use proptest::prelude::*;

    const LIMITS: IntakeLimits = IntakeLimits { document: 2000, around: 1000, attachment: 1000 };

    type Split = (String, Vec<(String, Vec<u8>)>);

    fn split(text: &str, step: usize, limits: IntakeLimits) -> Result<Split> {
        let mut splitter = Splitter::new(limits);
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            splitter.feed(piece, &mut events)?;
        }
        let kept = splitter.finish()?;
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        for event in events {
            match event {
                Event::Begin(name) => found.push((name, Vec::new())),
                Event::Data(data) => found.last_mut().unwrap().1.extend_from_slice(&data),
                Event::End => {}
            }
        }
        Ok((String::from_utf8(kept.to_vec()).unwrap(), found))
    }

    #[test]
    fn finds_the_data_wherever_it_stands() {
        let first = r#"{"_attachments":{"a-1.0.0.tgz":{"data":"aGVsbG8=","length":5}},"name":"a"}"#;
        let middle = r#"{ "_id" : "a", "_attachments" : { "a-1.0.0.tgz" : { "length" : 5 , "data" : "aGVsbG8=" } } , "x" : ["_attachments"] }"#;
        let escaped = r#"{"\u005fattachments":{"a-1.0.0.tgz":{"d\u0061ta":"aGVs\u0062G8\u003D"}}}"#;
        for step in [1, 2, 3, 5, 7, 1000] {
            for text in [first, middle, escaped] {
                let (kept, found) = split(text, step, LIMITS).unwrap();
                assert_eq!(found, [("a-1.0.0.tgz".to_owned(), b"hello".to_vec())], "{text} {step}");
                assert!(!kept.contains("aGVs"), "{kept}");
                let value: serde_json::Value = serde_json::from_str(&kept).unwrap();
                assert_eq!(value["_attachments"]["a-1.0.0.tgz"]["data"], "");
            }
        }
        let slash = r#"{"_attachments":{"a":{"data":"\/\/\/\/"}}}"#;
        assert_eq!(split(slash, 1, LIMITS).unwrap().1[0].1, [255, 255, 255]);
    }

    #[test]
    fn leaves_alone_what_only_looks_like_it() {
        for text in [
            r#"{"x":{"_attachments":{"a":{"data":"!!"}}}}"#,
            r#"{"_attachments":[{"data":"!!"}]}"#,
            r#"{"_attachments":{"a":["data","!!"]}}"#,
            r#"{"_attachments":{"a":{"b":{"data":"!!"}}}}"#,
            r#"{"_attachments":{"a.sigstore":{"data":"{\"x\":\"!!\"}"}}}"#,
            r#"{"readme":"\"_attachments\":{\"a\":{\"data\":\"!!","n":1}"#,
            r#"{"_attachments":{"a":{"data":null,"x":"data"}}}"#,
        ] {
            let (kept, found) = split(text, 2, LIMITS).unwrap();
            assert_eq!(kept, text);
            assert!(found.is_empty(), "{text}");
        }
    }

    #[test]
    fn base64_is_strict() {
        for bad in [
            "aGVsbG8",
            "aGVsbG8==",
            "aGVs bG8=",
            "aGVs\\nbG8=",
            "aGVsbG9=",
            "aG=sbG8=",
            "aGVsbG8=aGVs",
            "a-_=",
            "\\u1234AAA",
        ] {
            for step in [1, 4, 1000] {
                let text = format!(r#"{{"_attachments":{{"a":{{"data":"{bad}"}}}}}}"#);
                assert!(split(&text, step, LIMITS).unwrap_err().message().contains("base64"), "{bad}");
            }
        }
    }

    #[test]
    fn limits_and_cut_bodies() {
        let data = "A".repeat(1336);
        let text = format!(r#"{{"_attachments":{{"a":{{"data":"{data}"}}}}}}"#);
        let error = split(&text, 64, LIMITS).unwrap_err();
        assert!(error.kind() == Kind::TooLarge && error.message().contains("tarball"), "{error}");
        let around = format!(r#"{{"_attachments":{{"a":{{"data":"AAAA"}}}},"x":"{}"}}"#, "y".repeat(1000));
        assert!(split(&around, 64, LIMITS).unwrap_err().message().contains("around the tarball"));
        let before = format!(r#"{{"x":"{}","_attachments":{{"a":{{"data":"AAAA"}}}}}}"#, "y".repeat(1000));
        assert!(split(&before, 64, LIMITS).unwrap_err().message().contains("around the tarball"));
        let alone = format!(r#"{{"x":"{}"}}"#, "y".repeat(1500));
        split(&alone, 64, LIMITS).unwrap();
        assert!(split(r#"{"_attachments":{"a":{"data":"AAAA"#, 64, LIMITS).is_err());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[{}\\[\\]\":,a\\\\ _]{0,60}", cut in 1usize..7) {
            let whole = split(&text, 1000, LIMITS).map_err(|error| error.to_string());
            let pieces = split(&text, cut, LIMITS).map_err(|error| error.to_string());
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn any_bytes_come_through(data in proptest::collection::vec(any::<u8>(), 0..300), cut in 1usize..50) {
            let text = format!(r#"{{"_attachments":{{"a":{{"data":"{}"}}}}}}"#, STANDARD.encode(&data));
            let (_, found) = split(&text, cut, LIMITS).unwrap();
            prop_assert_eq!(&found[0].1, &data);
        }
    }
}
