//! Immutable pieces of the log: gzipped lines of JSON, one entry each, sorted by name and then by serial.
//!
//! In those of the lowest level a name may come several times; where segments were merged, once.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::core::body::ByteStream;
use crate::core::error::{Error, Result};
use crate::storage::{Condition, GetOptions, Key, ObjectInfo, Objects, Writer};

/// Plain bytes that are compressed at once.
const BLOCK: usize = 256 << 10;
/// Longest line. Ours are a few hundred bytes; a longer one is damage.
const MAX_LINE: usize = 1 << 20;

/// A segment as the head of the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) key: String,
    /// Serials of its entries: all of them are in it that are the last of their name in this span.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Added to the serials in it: they were not known yet when it was written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) shift: u64,
    pub(super) level: u32,
    pub(super) entries: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes a segment.
pub(super) struct SegmentWriter {
    writer: Writer,
    key: Key,
    plain: Vec<u8>,
    gzip: GzEncoder<Vec<u8>>,
    entries: u64,
}

impl SegmentWriter {
    pub(super) fn new(objects: &Objects, key: Key) -> Result<Self> {
        let writer = objects.writer(Some(&key), &[], None)?;
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        Ok(Self { writer, key, plain: Vec::with_capacity(BLOCK), gzip, entries: 0 })
    }

    /// Adds an entry; names in byte order.
    pub(super) async fn push(&mut self, entry: &Entry) -> Result<()> {
        serde_json::to_writer(&mut self.plain, entry).map_err(broken)?;
        self.plain.push(b'\n');
        self.entries += 1;
        if self.plain.len() >= BLOCK { self.compress().await } else { Ok(()) }
    }

    async fn compress(&mut self) -> Result<()> {
        let plain = std::mem::take(&mut self.plain);
        let mut gzip = std::mem::replace(&mut self.gzip, GzEncoder::new(Vec::new(), Compression::none()));
        let (gzip, plain) =
            tokio::task::spawn_blocking(move || gzip.write_all(&plain).map(|()| (gzip, plain)))
                .await
                .map_err(broken)?
                .map_err(broken)?;
        self.gzip = gzip;
        self.plain = plain;
        self.plain.clear();
        let out = std::mem::take(self.gzip.get_mut());
        self.writer.write(out.into()).await
    }

    /// Makes it visible; answers how many entries it has.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.compress().await?;
        let rest = self.gzip.finish().map_err(broken)?;
        self.writer.write(rest.into()).await?;
        let staged = self.writer.finish().await?;
        staged
            .publish(&self.key, Condition::Always, Some("application/gzip"), &ObjectInfo::default())
            .await?;
        Ok(self.entries)
    }
}

/// Reads a segment, entry by entry.
pub(super) struct SegmentReader {
    stream: ByteStream,
    gunzip: Option<GzDecoder<Vec<u8>>>,
    ready: std::vec::IntoIter<Entry>,
    shift: u64,
}

impl SegmentReader {
    /// `None` if it is gone: the head that named it is an old one.
    pub(super) async fn open(objects: &Objects, segment: &Segment) -> Result<Option<Self>> {
        let key = Key::new(segment.key.clone())?;
        let Some(found) = objects.read(&key, GetOptions::default(), &ObjectInfo::default()).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            stream: found.body,
            gunzip: Some(GzDecoder::new(Vec::new())),
            ready: Vec::new().into_iter(),
            shift: segment.shift,
        }))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(mut entry) = self.ready.next() {
                entry.serial = entry.serial.saturating_add(self.shift);
                return Ok(Some(entry));
            }
            let Some(gunzip) = self.gunzip.take() else { return Ok(None) };
            let chunk = self.stream.next().await.transpose()?;
            let (gunzip, entries) =
                tokio::task::spawn_blocking(move || parse(gunzip, chunk)).await.map_err(broken)??;
            self.gunzip = gunzip;
            self.ready = entries.into_iter();
        }
    }
}

/// What goes on after a piece, unless it was the last, and the entries that it brought.
type Parsed = (Option<GzDecoder<Vec<u8>>>, Vec<Entry>);

/// The whole lines that a piece brings to light; without a piece, what is left.
fn parse(mut gunzip: GzDecoder<Vec<u8>>, chunk: Option<Bytes>) -> Result<Parsed> {
    let last = chunk.is_none();
    if let Some(chunk) = chunk {
        gunzip.write_all(&chunk).map_err(broken)?;
    } else {
        gunzip.try_finish().map_err(broken)?;
    }
    let plain = gunzip.get_mut();
    let whole = if last { plain.len() } else { memchr::memrchr(b'\n', plain).map_or(0, |end| end + 1) };
    let rest = plain.split_off(whole);
    if rest.len() > MAX_LINE {
        return Err(Error::internal("a segment of the index is damaged"));
    }
    let lines = std::mem::replace(plain, rest);
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let entries = lines.map(serde_json::from_slice).collect::<Result<Vec<Entry>, _>>().map_err(broken)?;
    Ok(((!last).then_some(gunzip), entries))
}

/// The entries of a segment that comes in these pieces. For tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn entries(pieces: &[&[u8]]) -> Result<Vec<Entry>> {
    let mut gunzip = Some(GzDecoder::new(Vec::new()));
    let mut all = Vec::new();
    for piece in pieces.iter().map(|piece| Some(Bytes::copy_from_slice(piece))).chain([None]) {
        let Some(open) = gunzip.take() else { break };
        let (next, entries) = parse(open, piece)?;
        gunzip = next;
        all.extend(entries);
    }
    Ok(all)
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("a segment of the index is damaged").with_source(error)
}
