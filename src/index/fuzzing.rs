//! What must hold for any bytes that lie where the index keeps its own. Listed in `crate::fuzzing`.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::log::Head;
use super::segment;
use crate::fuzzing::input::{Input, cuts};
use crate::storage::Document;

/// Lines of a segment, gzipped here or by who made the input.
pub(crate) fn lines(input: &mut Input<'_>) {
    let (mode, seed) = (input.byte(), input.byte());
    let rest = input.rest();
    let packed = if mode % 2 == 0 { gzip(rest) } else { rest.to_vec() };
    let read = cuts(&packed, seed).map(|pieces| {
        let entries = segment::entries(&pieces).ok()?;
        entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().ok()
    });
    let [first, rest @ ..] = read;
    for other in rest {
        assert_eq!(first, other, "pieces matter");
    }
    // Written again, they are the same.
    let Some(lines) = first else { return };
    let again = segment::entries(&[&gzip(lines.join("\n").as_bytes())]).unwrap_or_default();
    let again: Vec<_> = again.iter().filter_map(|entry| serde_json::to_string(entry).ok()).collect();
    assert_eq!(again, lines);
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// The head of a log.
pub(crate) fn head(input: &mut Input<'_>) {
    let Ok(head) = Head::parse(&Bytes::copy_from_slice(input.rest())) else { return };
    let written = head.serialize().unwrap_or_default();
    let again = Head::parse(&written).and_then(|head| head.serialize());
    assert_eq!(again.ok(), Some(written));
}
