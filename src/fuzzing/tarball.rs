//! Tarballs: what is shown of them does not depend on how they are cut, stays within the bounds, and is what other readers see.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::input::{Input, cuts};
use crate::core::archive::{ArchiveLimits, EntryKind, Take, TarEntry, TarGz, TarVisitor};
use crate::core::error::{Error, Result};
use crate::protocols::npm;

const LIMITS: ArchiveLimits = ArchiveLimits { unpacked: 1 << 20, entries: 50, ratio: 1000 };
const BLOCK: usize = 512;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, seed) = (input.byte(), input.byte());
    let packed = match mode % 3 {
        0 => input.rest().to_vec(),
        1 => gzip(input.rest()),
        _ => gzip(&summed(input.rest())),
    };
    let pieces = cuts(&packed, seed);
    let [first, rest @ ..] = pieces.each_ref().map(|pieces| walk(pieces));
    for other in rest {
        assert_eq!(first, other, "pieces matter");
    }
    let [first_inside, rest @ ..] = pieces.map(|pieces| npm::fuzzing::inspect(&pieces, LIMITS));
    for other in rest {
        assert_eq!(first_inside, other, "pieces matter");
    }
    let Some(seen) = first else { return };
    assert!(seen.len() as u64 <= LIMITS.entries);
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(packed.as_slice()).take(LIMITS.unpacked + 1).read_to_end(&mut plain);
    assert!(read.is_ok() && plain.len() as u64 <= LIMITS.unpacked);
    assert_eq!(Ok(seen), others_see(&plain), "another reader sees other files");
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// An entry and its content.
type Shown = (String, u64, Option<String>, Vec<u8>);

#[derive(Default)]
struct Recorder(Vec<Shown>);

impl TarVisitor for Recorder {
    fn entry(&mut self, entry: &TarEntry) -> Result<Take> {
        let target = match &entry.kind {
            EntryKind::Link { target, .. } => Some(target.clone()),
            // Sparse files and devices are nobody's packages.
            EntryKind::Other => return Err(Error::invalid("no file")),
            EntryKind::File | EntryKind::Directory => None,
        };
        self.0.push((entry.path.clone(), entry.size, target, Vec::new()));
        Ok(Take::Whole(LIMITS.unpacked))
    }

    fn content(&mut self, entry: &TarEntry, content: Vec<u8>) -> Result<()> {
        assert_eq!(content.len() as u64, entry.size);
        self.0.last_mut().into_iter().for_each(|last| last.3.clone_from(&content));
        Ok(())
    }
}

fn walk(pieces: &[&[u8]]) -> Option<Vec<Shown>> {
    let mut tarball = TarGz::new(Recorder::default(), LIMITS);
    pieces.iter().try_for_each(|piece| tarball.feed(piece)).ok()?;
    tarball.finish().ok().map(|recorder| recorder.0)
}

/// What the `tar` crate's own reader sees.
fn others_see(plain: &[u8]) -> std::result::Result<Vec<Shown>, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut archive = tar::Archive::new(plain);
    let mut list = Vec::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if entry.header().entry_type() == tar::EntryType::XGlobalHeader {
            continue;
        }
        let kind = entry.header().entry_type();
        let link = matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink);
        let target = link.then(|| entry.link_name_bytes().map(|name| text(&name)).unwrap_or_default());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| error.to_string())?;
        list.push((text(&entry.path_bytes()), content.len() as u64, target, content));
    }
    Ok(list)
}

/// The same with every header's checksum set right: mutations that reach no further than that teach nothing.
fn summed(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    let mut at = 0;
    while let Some(block) = out.get_mut(at..at + BLOCK) {
        let mut header = tar::Header::from_byte_slice(block).clone();
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = usize::try_from(header.entry_size().unwrap_or(0)).unwrap_or(usize::MAX);
        at = at
            .saturating_add(BLOCK)
            .saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX));
        if at > out.len() {
            break;
        }
    }
    out
}
