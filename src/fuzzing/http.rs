//! The small grammars of HTTP: paths, queries, ranges, conditions, negotiation, dates, and where a request came from.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::input::Input;
use crate::core::conditional::{self, ETag};
use crate::core::id;
use crate::core::negotiate;
use crate::core::origin::{self, Trust};
use crate::core::path::Segments;
use crate::core::range::{self, RangeSpec};
use crate::core::request::Query;
use crate::core::time::Timestamp;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 7 {
        0 => path(&input.rest_text()),
        1 => query(&input.rest_text()),
        2 => ranges(input.number(), &input.rest_text()),
        3 => conditions(&input.text(), &input.text(), &input.rest_text()),
        4 => negotiation(&input.text(), &input.text(), &input.rest_text()),
        5 => time(input.number(), &input.rest_text()),
        _ => whence(&mut input),
    }
}

fn path(raw: &str) {
    let Ok(segments) = Segments::parse(raw) else { return };
    for part in segments.parts() {
        assert!(!matches!(part.as_str(), "" | "." | ".."), "{raw:?}");
        assert!(!part.contains(['/', '\\']) && !part.chars().any(char::is_control), "{raw:?}");
    }
    assert!(segments.parts().iter().map(String::len).sum::<usize>() <= raw.len(), "{raw:?}");
    // Written out with everything encoded it is the same path again, and decoding does not go on.
    let encode = |part: &String| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
    let encoded: Vec<String> = segments.parts().iter().map(encode).collect();
    let again = Segments::parse(&encoded.join("/"));
    if encoded.join("/").len() <= raw.len() {
        assert_eq!(again.ok().as_ref().map(Segments::parts), Some(segments.parts()), "{raw:?}");
    }
    let prefix = Segments::parse(encoded.first().map_or("", String::as_str)).unwrap_or_default();
    if let Some(rest) = segments.strip_prefix(&prefix) {
        assert_eq!(rest.parts().len() + prefix.parts().len(), segments.parts().len(), "{raw:?}");
    }
    assert!(segments.to_path().is_empty() || segments.to_path().starts_with('/'));
}

fn query(raw: &str) {
    let query = Query::parse(raw);
    let mut written = form_urlencoded::Serializer::new(String::new());
    written.extend_pairs(query.pairs());
    assert_eq!(Query::parse(&written.finish()), query, "{raw:?}");
    for (name, _) in query.pairs() {
        assert_eq!(query.get(name), query.all(name).next(), "{raw:?}");
    }
}

fn ranges(size: u64, header: &str) {
    let Some(list) = range::parse(header) else { return };
    let print = |spec: &RangeSpec| match spec {
        RangeSpec::From(start, None) => format!("{start}-"),
        RangeSpec::From(start, Some(last)) => format!("{start}-{last}"),
        RangeSpec::Suffix(count) => format!("-{count}"),
    };
    let printed: Vec<String> = list.iter().map(print).collect();
    assert_eq!(range::parse(&format!("bytes={}", printed.join(","))), Some(list.clone()), "{header:?}");
    for spec in list {
        let Some(range) = spec.resolve(size) else { continue };
        assert!(range.start < range.end && range.end <= size, "{header:?} of {size}");
        assert!(!range.is_empty() && range.len() <= size, "{header:?} of {size}");
        let said = format!("bytes {}-{}/{size}", range.start, range.start + (range.len() - 1));
        assert_eq!(range.content_range(size), said);
    }
}

fn conditions(opaque: &str, other: &str, header: &str) {
    for tag in [ETag::strong(opaque), ETag::weak(opaque)] {
        assert!(conditional::matches(tag.as_str(), &tag), "{tag:?} names itself");
        let list = format!("\"before\", {}, W/\"after\"", tag.as_str());
        assert!(conditional::matches(&list, &tag), "{list:?} names {tag:?}");
        assert!(conditional::matches("*", &tag));
        let known = conditional::not_modified(Some(header), None, Some(&tag), None);
        assert_eq!(known, conditional::matches(header, &tag));
    }
    let (one, two) = (ETag::strong(opaque), ETag::weak(other));
    assert_eq!(
        conditional::same(one.as_str(), two.as_str()),
        conditional::same(two.as_str(), one.as_str()),
        "{opaque:?} {other:?}"
    );
    assert_eq!(conditional::same(one.as_str(), two.as_str()), conditional::matches(one.as_str(), &two));
    conditional::not_modified(None, Some(header), None, Some(other));
}

fn negotiation(name: &str, other: &str, header: &str) {
    let weight = negotiate::quality(header, name);
    assert!(weight.is_none_or(|weight| weight <= 1000), "{header:?}");
    assert_eq!(negotiate::accepts_encoding(Some(header), name), weight.is_some_and(|weight| weight > 0));
    assert!(!negotiate::accepts_encoding(None, name));
    if negotiate::prefers(header, name, other) {
        assert!(weight.is_some_and(|weight| weight > 0), "{header:?} prefers {name:?}");
        assert!(weight >= negotiate::quality(header, other), "{header:?} prefers {name:?}");
    }
}

fn time(millis: u64, text: &str) {
    // Any number may stand in a stored document.
    let moment = Timestamp::from_millis(i64::from_be_bytes(millis.to_be_bytes()));
    let (_, date) = (moment.rfc3339(), moment.http_date());
    assert!(Timestamp::parse_http_date(&date).is_some(), "{date}");
    if let Some(read) = Timestamp::parse_rfc3339(text) {
        // A zone may push the ends of the calendar out of what can be written.
        if (0..=253_402_300_799_999).contains(&read.as_millis()) {
            assert_eq!(Timestamp::parse_rfc3339(&read.rfc3339()), Some(read), "{text:?}");
        }
        let date = Timestamp::parse_http_date(&read.http_date());
        assert!(date.is_some_and(|date| date <= read.max(Timestamp::default())), "{text:?}");
    }
    if let Some(read) = Timestamp::parse_http_date(text) {
        assert_eq!(Timestamp::parse_http_date(&read.http_date()), Some(read), "{text:?}");
    }
    if id::is_uuid(text) {
        assert!(text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
    }
}

/// Headers a client or proxy may send: `name: value` by line.
fn whence(input: &mut Input<'_>) {
    let (mode, secure) = (input.byte(), input.byte() % 2 == 1);
    let trust = match mode % 3 {
        0 => Trust::Nobody,
        1 => Trust::Everybody,
        _ => Trust::networks(&[input.text()]).unwrap_or_default(),
    };
    let names = [
        "host",
        "forwarded",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-for",
        "x-forwarded-prefix",
    ];
    let mut headers = HeaderMap::new();
    for name in names.into_iter().chain(names) {
        if let Ok(value) = HeaderValue::from_bytes(input.line()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
    let seen = origin::resolve(&headers, None, secure, Some(peer), &trust);
    if !seen.forwarded {
        assert_eq!((seen.client, seen.origin.prefix.as_str()), (Some(peer), ""));
    }
    let Some(link) = seen.origin.url() else { return };
    // It is written into documents and headers as it is.
    assert!(
        link.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>\\@?#%,;".contains(&byte) || byte == b'@'),
        "{link:?}"
    );
    assert!(link.starts_with("http://") || link.starts_with("https://"), "{link:?}");
    if let Ok(url) = url::Url::parse(&link) {
        assert!(url.username().is_empty() && url.password().is_none() && url.query().is_none(), "{link:?}");
    }
}
