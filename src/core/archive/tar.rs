//! A tar file, walked block by block as its bytes arrive: ustar, GNU long names and PAX headers. The headers are read by the `tar` crate;
//! its own reader wants to pull, which would hold a thread for as long as a client takes to send.

use super::ArchiveLimits;
use crate::core::error::{Error, Result};

const BLOCK: usize = 512;
/// Longest PAX header or GNU long name; real ones are a few hundred bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A hard or symbolic link.
    Link {
        /// Where it points to, as written.
        target: String,
        /// Whether `target` counts from the root of the archive (hard link) or from the link's own folder (symbolic link).
        hard: bool,
    },
    /// A device, a pipe, a sparse file, or something newer.
    Other,
}

/// One entry, before its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Path as written, UTF-8.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Length of its content in bytes.
    pub size: u64,
}

/// What to do with an entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Pass over it.
    Skip,
    /// Collect it, at most this many bytes: more is 413.
    Whole(u64),
}

/// Looks at the entries of an archive.
pub trait TarVisitor {
    /// An entry begins. An `Err` ends the walk.
    fn entry(&mut self, entry: &TarEntry) -> Result<Take>;

    /// The content of an entry that was asked for with [`Take::Whole`].
    fn content(&mut self, entry: &TarEntry, content: Vec<u8>) -> Result<()>;
}

enum State {
    Header,
    Content(Content),
    /// Two empty blocks were there: nothing but zeros may follow.
    End,
}

struct Content {
    left: u64,
    padding: u64,
    buffer: Option<Vec<u8>>,
    what: What,
}

enum What {
    Entry(TarEntry),
    LongName,
    LongLink,
    Pax,
    /// A PAX header for all that follow: its names would apply to every entry, and no packer of ours writes any.
    Ignored,
}

/// Walks a tar file that is fed in pieces of any size.
pub struct TarReader<V> {
    visitor: V,
    limits: ArchiveLimits,
    state: State,
    block: Vec<u8>,
    empty_blocks: u8,
    entries: u64,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax_size: Option<u64>,
}

impl<V: TarVisitor> TarReader<V> {
    /// A reader that shows what it finds to `visitor`.
    pub fn new(visitor: V, limits: ArchiveLimits) -> Self {
        Self {
            visitor,
            limits,
            state: State::Header,
            block: Vec::with_capacity(BLOCK),
            empty_blocks: 0,
            entries: 0,
            long_name: None,
            long_link: None,
            pax_size: None,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            data = match &mut self.state {
                State::Header => {
                    let (front, rest) = data.split_at(data.len().min(BLOCK - self.block.len()));
                    self.block.extend_from_slice(front);
                    if self.block.len() == BLOCK {
                        self.header()?;
                        self.block.clear();
                    }
                    rest
                }
                State::Content(content) => {
                    let rest = content.take(data);
                    if content.left == 0 && content.padding == 0 {
                        self.content_over()?;
                    }
                    rest
                }
                State::End if data.iter().all(|byte| *byte == 0) => return Ok(()),
                State::End => return Err(Error::invalid("the tarball has data after its end mark")),
            };
        }
        Ok(())
    }

    /// The file is over. A missing end mark is tolerated, as tar itself does; a cut entry is not.
    pub fn finish(self) -> Result<V> {
        if matches!(self.state, State::Content(_)) || !self.block.is_empty() {
            return Err(Error::invalid("the tarball ends in the middle of an entry; upload it again"));
        }
        if self.entries == 0 {
            return Err(Error::invalid("the tarball has no entries"));
        }
        Ok(self.visitor)
    }

    fn header(&mut self) -> Result<()> {
        if self.block.iter().all(|byte| *byte == 0) {
            self.empty_blocks += 1;
            if self.empty_blocks == 2 {
                self.state = State::End;
            }
            return Ok(());
        }
        self.empty_blocks = 0;
        let header = tar::Header::from_byte_slice(&self.block);
        let sum = self
            .block
            .iter()
            .enumerate()
            // The sum is taken with its own field as blanks.
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum::<u32>();
        if header.cksum().ok() != Some(sum) {
            return Err(Error::invalid(
                "the file inside the gzip is no tar file: a header's checksum is wrong",
            ));
        }
        let size = match self.pax_size.take() {
            Some(size) => size,
            None => {
                header.entry_size().map_err(|_| Error::invalid("the tarball has an entry without a size"))?
            }
        };
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::new(
                crate::core::error::Kind::TooLarge,
                format!("the tarball has more than {} entries", self.limits.entries),
            ));
        }
        if size > self.limits.unpacked {
            return Err(Error::too_large("an entry of the tarball", self.limits.unpacked));
        }
        let kind = header.entry_type();
        let what = match kind {
            tar::EntryType::GNULongName => What::LongName,
            tar::EntryType::GNULongLink => What::LongLink,
            tar::EntryType::XHeader => What::Pax,
            tar::EntryType::XGlobalHeader => What::Ignored,
            _ => What::Entry(self.entry(size)?),
        };
        let buffer = match &what {
            What::Entry(entry) => match self.visitor.entry(entry)? {
                Take::Skip => None,
                Take::Whole(limit) if size > limit => return Err(Error::too_large(&entry.path, limit)),
                Take::Whole(_) => Some(Vec::new()),
            },
            What::Ignored => None,
            What::LongName | What::LongLink | What::Pax if size > MAX_EXTENSION => {
                return Err(Error::too_large("an extended header of the tarball", MAX_EXTENSION));
            }
            What::LongName | What::LongLink | What::Pax => Some(Vec::new()),
        };
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.state = State::Content(Content { left: size, padding, buffer, what });
        if size == 0 {
            self.content_over()?;
        }
        Ok(())
    }

    /// The entry that the present header describes, with what extended headers said before it.
    fn entry(&mut self, size: u64) -> Result<TarEntry> {
        let header = tar::Header::from_byte_slice(&self.block);
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| Error::invalid("the tarball has a path that is not UTF-8"))
        };
        let path = match self.long_name.take() {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let path = text(path)?;
        let target = match self.long_link.take() {
            Some(target) => Some(target),
            None => header.link_name_bytes().map(std::borrow::Cow::into_owned),
        };
        let kind = match header.entry_type() {
            // Before ustar a folder was a file whose name ends in a slash.
            tar::EntryType::Regular | tar::EntryType::Continuous if path.ends_with('/') => {
                EntryKind::Directory
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File,
            tar::EntryType::Directory => EntryKind::Directory,
            tar::EntryType::Link => EntryKind::Link { target: text(target.unwrap_or_default())?, hard: true },
            tar::EntryType::Symlink => {
                EntryKind::Link { target: text(target.unwrap_or_default())?, hard: false }
            }
            _ => EntryKind::Other,
        };
        Ok(TarEntry { path, kind, size })
    }

    fn content_over(&mut self) -> Result<()> {
        let State::Content(content) = std::mem::replace(&mut self.state, State::Header) else {
            return Ok(());
        };
        let Some(mut bytes) = content.buffer else { return Ok(()) };
        match content.what {
            What::Entry(entry) => self.visitor.content(&entry, bytes)?,
            What::Ignored => {}
            What::Pax => self.pax(&bytes)?,
            What::LongName | What::LongLink => {
                while bytes.last() == Some(&0) {
                    bytes.pop();
                }
                if matches!(content.what, What::LongName) {
                    self.long_name = Some(bytes);
                } else {
                    self.long_link = Some(bytes);
                }
            }
        }
        Ok(())
    }

    fn pax(&mut self, bytes: &[u8]) -> Result<()> {
        let broken = || Error::invalid("the tarball has a malformed extended header");
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(|_| broken())?;
            match record.key_bytes() {
                b"path" => self.long_name = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.long_link = Some(record.value_bytes().to_vec()),
                b"size" => {
                    self.pax_size =
                        Some(record.value().ok().and_then(|text| text.parse().ok()).ok_or_else(broken)?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Content {
    /// Uses up content and padding; what is left of `data` belongs to the next header.
    fn take<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (front, rest) = data.split_at(data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
        if let Some(buffer) = &mut self.buffer {
            buffer.extend_from_slice(front);
        }
        self.left -= front.len() as u64;
        let (padding, rest) = rest.split_at(rest.len().min(self.padding as usize));
        self.padding -= padding.len() as u64;
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::TarGz;
    use super::*;
    use crate::core::error::Kind;

    #[derive(Default, Debug)]
    struct Seen(Vec<TarEntry>, Vec<Vec<u8>>);

    impl TarVisitor for Seen {
        fn entry(&mut self, entry: &TarEntry) -> Result<Take> {
            self.0.push(entry.clone());
            Ok(if entry.path.rsplit('.').next() == Some("json") { Take::Whole(100) } else { Take::Skip })
        }
        fn content(&mut self, _: &TarEntry, content: Vec<u8>) -> Result<()> {
            self.1.push(content);
            Ok(())
        }
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).unwrap();
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn walk(data: &[u8], step: usize, limits: ArchiveLimits) -> Result<Seen> {
        let mut reader = TarGz::new(Seen::default(), limits);
        for piece in data.chunks(step) {
            reader.feed(piece)?;
        }
        reader.finish()
    }

    #[test]
    fn sees_every_entry_whatever_the_pieces() {
        let long = format!("package/{}.txt", "x".repeat(180));
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "package/package.json", b"{}");
        file(&mut builder, &long, &[7; 1000]);
        file(&mut builder, "package/empty", b"");
        builder.append_pax_extensions([("path", b"package/pax.json".as_slice())]).unwrap();
        file(&mut builder, "package/short", b"[1]");
        let packed = gzip(&builder.into_inner().unwrap());
        for step in [1, 3, 511, 512, 4096, 1 << 20] {
            let seen = walk(&packed, step, ArchiveLimits::unpacked(1 << 20)).unwrap();
            let paths: Vec<_> = seen.0.iter().map(|entry| entry.path.as_str()).collect();
            assert_eq!(paths, ["package/package.json", &long, "package/empty", "package/pax.json"], "{step}");
            assert_eq!(seen.1, [b"{}".to_vec(), b"[1]".to_vec()]);
            assert_eq!(seen.0[1].size, 1000);
        }
    }

    #[test]
    fn cut_and_foreign_files_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "package/a", &[1; 5000]);
        let tar = builder.into_inner().unwrap();
        let packed = gzip(&tar);
        let limits = ArchiveLimits::unpacked(1 << 20);
        for cut in [1, 10, packed.len() / 2, packed.len() - 9, packed.len() - 1] {
            assert_eq!(walk(&packed[..cut], 64, limits).unwrap_err().kind(), Kind::Invalid, "{cut}");
        }
        for bad in
            [b"plain text".to_vec(), Vec::new(), gzip(b""), gzip(&[1; 2000]), gzip(&tar[..3000]), tar.clone()]
        {
            assert_eq!(walk(&bad, 64, limits).unwrap_err().kind(), Kind::Invalid);
        }
        let mut trailing = tar;
        trailing.extend_from_slice(&[9; 512]);
        assert!(walk(&gzip(&trailing), 64, limits).unwrap_err().message().contains("after its end"));
    }

    #[test]
    fn members_in_a_row_are_one_file() {
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "package/a.json", b"[]");
        let tar = builder.into_inner().unwrap();
        let mut packed = gzip(&tar[..700]);
        packed.extend(gzip(&tar[700..]));
        assert_eq!(walk(&packed, 7, ArchiveLimits::unpacked(1 << 20)).unwrap().0.len(), 1);
    }

    #[test]
    fn bombs_are_cut_off() {
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "package/zeros", &vec![0; 64 << 20]);
        let packed = gzip(&builder.into_inner().unwrap());
        let error = walk(&packed, 4096, ArchiveLimits::unpacked(1 << 20)).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge);
        let tight = ArchiveLimits { unpacked: 1 << 30, entries: 10, ratio: 100 };
        assert!(walk(&packed, 4096, tight).unwrap_err().message().contains("100 times"));
        let mut builder = tar::Builder::new(Vec::new());
        for at in 0..11 {
            file(&mut builder, &format!("package/{at}"), b"");
        }
        let many = gzip(&builder.into_inner().unwrap());
        assert!(walk(&many, 4096, tight).unwrap_err().message().contains("10 entries"));
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "package/package.json", &[b' '; 101]);
        let big = gzip(&builder.into_inner().unwrap());
        assert_eq!(walk(&big, 4096, ArchiveLimits::unpacked(1 << 20)).unwrap_err().kind(), Kind::TooLarge);
    }
}
