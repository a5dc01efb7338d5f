//! `Range` and `Content-Range` (RFC 9110, section 14).

/// One range as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=a-b` (both inclusive) or `bytes=a-`.
    From(u64, Option<u64>),
    /// `bytes=-n`: the last `n` bytes.
    Suffix(u64),
}

/// A range that lies inside a representation: `start..end`, end exclusive, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Never: an empty range is not satisfiable.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// `bytes 0-99/200`.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end - 1)
    }
}

impl RangeSpec {
    /// Fits the range to a representation of `size` bytes; `None` is 416. An end beyond the size is clamped.
    pub fn resolve(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(start, end) => (start, end.map_or(size, |last| last.saturating_add(1)).min(size)),
            Self::Suffix(count) => (size.saturating_sub(count), size),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// Reads a `Range` header: the ranges in the order asked for. `None` when the unit is not bytes or the text is malformed,
/// in which case the header is ignored (RFC 9110, section 14.2). `500-0` is kept, as the OCI conformance suite wants it refused.
pub fn parse(header: &str) -> Option<Vec<RangeSpec>> {
    let (unit, list) = header.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    list.split(',').map(|item| parse_one(item.trim())).collect()
}

fn parse_one(item: &str) -> Option<RangeSpec> {
    let (first, last) = item.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", count) => Some(RangeSpec::Suffix(number(count)?)),
        (start, "") => Some(RangeSpec::From(number(start)?, None)),
        (start, end) => Some(RangeSpec::From(number(start)?, Some(number(end)?))),
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, RangeSpec, parse};

    #[test]
    fn resolves_as_the_suite_expects() {
        let one = |text: &str| {
            parse(text).and_then(|list| list.first().copied()).and_then(|spec| spec.resolve(2048))
        };
        assert_eq!(one("bytes=500-1499"), Some(ByteRange { start: 500, end: 1500 }));
        assert_eq!(one("bytes=500-"), Some(ByteRange { start: 500, end: 2048 }));
        assert_eq!(one("bytes=-500"), Some(ByteRange { start: 1548, end: 2048 }));
        assert_eq!(one("bytes=0-99999"), Some(ByteRange { start: 0, end: 2048 }));
        assert_eq!(one("bytes=500-0"), None);
        assert_eq!(one("bytes=2048-"), None);
        assert_eq!(one("bytes=-0"), None);
        assert_eq!(ByteRange { start: 500, end: 1500 }.content_range(2048), "bytes 500-1499/2048");
    }

    #[test]
    fn keeps_order_and_count_and_ignores_nonsense() {
        assert_eq!(
            parse("Bytes=5-9, 0-4,-3"),
            Some(vec![RangeSpec::From(5, Some(9)), RangeSpec::From(0, Some(4)), RangeSpec::Suffix(3)])
        );
        for bad in
            ["items=0-1", "bytes=", "bytes=a-b", "bytes=+1-2", "bytes=--1", "bytes=99999999999999999999-"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
