//! A tar file, walked block by block as its bytes arrive: ustar, GNU long names and PAX headers. The headers are read by the `tar` crate;
//! its own reader wants to pull, which would hold a thread for as long as a client takes to send.
//!
//! Tar is read differently by different programs, and a file that one of them sees and another does not is how something else is
//! installed than was looked at. Whatever two readers could disagree on, and no packer writes, is refused: an entry that is named or sized
//! twice, content where none belongs, data behind an empty block.

use super::ArchiveLimits;
use crate::core::error::{Error, Kind, Result};

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
    /// A PAX header for all that follow. `git archive` puts its commit there.
    Global,
}

/// What extended headers said of the entry that comes next.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Whether there was any.
    begun: bool,
}

/// Walks a tar file that is fed in pieces of any size.
pub struct TarReader<V> {
    visitor: V,
    limits: ArchiveLimits,
    state: State,
    block: Vec<u8>,
    empty_blocks: u8,
    entries: u64,
    next: Extension,
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
            next: Extension::default(),
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
                State::End => return Err(after_end()),
            };
        }
        Ok(())
    }

    /// The file is over. A missing end mark is tolerated, as tar itself does; a cut entry is not.
    pub fn finish(self) -> Result<V> {
        if matches!(self.state, State::Content(_)) || !self.block.is_empty() || self.next.begun {
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
        if self.empty_blocks > 0 {
            // Some readers stop at one empty block, others at two.
            return Err(after_end());
        }
        self.count()?;
        let size = self.size()?;
        let what = self.what(size)?;
        let buffer = match &what {
            What::Entry(entry) => match self.visitor.entry(entry)? {
                Take::Skip => None,
                Take::Whole(limit) if size > limit => return Err(Error::too_large(&entry.path, limit)),
                Take::Whole(_) => Some(Vec::new()),
            },
            _ if size > MAX_EXTENSION => {
                return Err(Error::too_large("an extended header of the tarball", MAX_EXTENSION));
            }
            _ => Some(Vec::new()),
        };
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.state = State::Content(Content { left: size, padding, buffer, what });
        if size == 0 {
            self.content_over()?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries <= self.limits.entries {
            return Ok(());
        }
        Err(Error::new(Kind::TooLarge, format!("the tarball has more than {} entries", self.limits.entries)))
    }

    /// The length of what follows the present header, once that has proved to be one.
    fn size(&self) -> Result<u64> {
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
        let size =
            header.entry_size().map_err(|_| Error::invalid("the tarball has an entry without a size"))?;
        if size > self.limits.unpacked {
            return Err(Error::too_large("an entry of the tarball", self.limits.unpacked));
        }
        // Readers differ in which of the two they take, and in whether the other counts for the extended headers in between.
        if self.next.size.is_some_and(|said| said != size) {
            return Err(Error::invalid("the tarball has an entry of two sizes"));
        }
        Ok(size)
    }

    fn what(&mut self, size: u64) -> Result<What> {
        let header = tar::Header::from_byte_slice(&self.block);
        let what = match header.entry_type() {
            tar::EntryType::GNULongName => What::LongName,
            tar::EntryType::GNULongLink => What::LongLink,
            tar::EntryType::XHeader => What::Pax,
            tar::EntryType::XGlobalHeader => What::Global,
            _ => return self.entry(size).map(What::Entry),
        };
        // Without its mark some readers take it for a file.
        if header.as_ustar().is_none() && header.as_gnu().is_none() {
            return Err(malformed());
        }
        Ok(what)
    }

    /// The entry that the present header describes, with what extended headers said before it.
    fn entry(&mut self, size: u64) -> Result<TarEntry> {
        let header = tar::Header::from_byte_slice(&self.block);
        let text = |bytes: Vec<u8>| {
            // What comes behind a NUL is the name's end for some readers and part of it for others.
            let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
            text.ok_or_else(|| Error::invalid("the tarball has a path that is not UTF-8, or has a NUL in it"))
        };
        let said = std::mem::take(&mut self.next);
        let path = text(said.name.unwrap_or_else(|| header.path_bytes().into_owned()))?;
        let target = said.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let link = |hard| {
            Ok(EntryKind::Link { target: text(target.unwrap_or_default())?, hard }) as Result<EntryKind>
        };
        let kind = match header.entry_type() {
            // Before ustar a folder was a file whose name ends in a slash.
            tar::EntryType::Regular | tar::EntryType::Continuous if path.ends_with('/') => {
                EntryKind::Directory
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File,
            tar::EntryType::Directory => EntryKind::Directory,
            tar::EntryType::Link => link(true)?,
            tar::EntryType::Symlink => link(false)?,
            _ => EntryKind::Other,
        };
        if size > 0 && matches!(kind, EntryKind::Directory | EntryKind::Link { .. }) {
            // Some readers pass over it, others read it as the next entries.
            return Err(Error::invalid("the tarball has a folder or link with content"));
        }
        Ok(TarEntry { path, kind, size })
    }

    fn content_over(&mut self) -> Result<()> {
        let State::Content(content) = std::mem::replace(&mut self.state, State::Header) else {
            return Ok(());
        };
        let Some(mut bytes) = content.buffer else { return Ok(()) };
        match content.what {
            What::Entry(entry) => self.visitor.content(&entry, bytes)?,
            What::Global => global(&bytes)?,
            What::Pax => self.pax(&bytes)?,
            What::LongName | What::LongLink => {
                // As C ends a text.
                if bytes.last() == Some(&0) {
                    bytes.pop();
                }
                let is_name = matches!(content.what, What::LongName);
                set(if is_name { &mut self.next.name } else { &mut self.next.link }, bytes)?;
                self.next.begun = true;
            }
        }
        Ok(())
    }

    fn pax(&mut self, bytes: &[u8]) -> Result<()> {
        self.next.begun = true;
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(|_| malformed())?;
            match record.key_bytes() {
                b"path" => set(&mut self.next.name, record.value_bytes().to_vec())?,
                b"linkpath" => set(&mut self.next.link, record.value_bytes().to_vec())?,
                b"size" => {
                    let size = record.value().ok().and_then(|text| text.parse().ok());
                    set(&mut self.next.size, size.ok_or_else(malformed)?)?;
                }
                key if is_sparse(key) => return Err(malformed()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Says something of the next entry that nothing else has said.
fn set<T>(place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid("the tarball has an entry with two names or sizes")),
    }
}

/// A header for all entries may say nothing that changes how one is read: some readers apply it, some don't.
fn global(bytes: &[u8]) -> Result<()> {
    for record in tar::PaxExtensions::new(bytes) {
        let record = record.map_err(|_| malformed())?;
        let key = record.key_bytes();
        if matches!(key, b"path" | b"linkpath" | b"size") || is_sparse(key) {
            return Err(malformed());
        }
    }
    Ok(())
}

/// Files with holes bring another name and size along, which few readers know of.
fn is_sparse(key: &[u8]) -> bool {
    key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize"
}

fn malformed() -> Error {
    Error::invalid("the tarball has an extended header that can't be taken")
}

fn after_end() -> Error {
    Error::invalid("the tarball has data after its end mark")
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
    /// A header as somebody of ill will writes it, and content in blocks.
    fn raw(kind: tar::EntryType, path: &str, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn pax(kind: tar::EntryType, records: &[(&str, &str)]) -> Vec<u8> {
        let record = |(key, value): &(&str, &str)| {
            let bare = key.len() + value.len() + 3;
            let length =
                (bare + 1..bare + 9).find(|length| length.to_string().len() + bare == *length).unwrap();
            format!("{length} {key}={value}\n")
        };
        let text: String = records.iter().map(record).collect();
        raw(kind, "pax", text.len() as u64, text.as_bytes())
    }

    #[test]
    fn what_two_readers_read_differently_is_refused() {
        use tar::EntryType::{
            Directory, GNULongLink, GNULongName, Link, Regular, Symlink, XGlobalHeader, XHeader,
        };
        let own = raw(Regular, "package/a", 0, b"");
        // A whole entry, for one reader the content of the entry before, for another an entry.
        let hidden = raw(Regular, "package/evil", 0, b"");
        let long = || raw(GNULongName, "long", 9, b"package/b");
        let link = || raw(GNULongLink, "long", 9, b"package/b");
        let size = pax(XHeader, &[("size", "512")]);
        let mut unmarked = tar::Header::from_byte_slice(&long()[..BLOCK]).clone();
        unmarked.as_mut_bytes()[257..265].fill(0);
        unmarked.set_cksum();
        let unmarked = [&unmarked.as_bytes()[..], &long()[BLOCK..]].concat();
        let cases = [
            ("a folder with content", vec![raw(Directory, "package/d/", 512, &hidden)]),
            ("a file that is a folder", vec![raw(Regular, "package/d/", 512, &hidden)]),
            ("a symbolic link with content", vec![raw(Symlink, "package/l", 512, &hidden)]),
            ("a hard link with content", vec![raw(Link, "package/l", 512, &hidden)]),
            ("two sizes", vec![size.clone(), own.clone(), hidden.clone()]),
            ("a size for the header in between", vec![size.clone(), long(), hidden.clone(), own.clone()]),
            (
                "a long name after a PAX name",
                vec![pax(XHeader, &[("path", "package/c")]), long(), own.clone()],
            ),
            ("two PAX names", vec![pax(XHeader, &[("path", "a/b"), ("path", "a/c")]), own.clone()]),
            ("two long names", vec![long(), long(), own.clone()]),
            ("two long links", vec![link(), link(), own.clone()]),
            ("a name for everybody", vec![pax(XGlobalHeader, &[("path", "package/c")]), own.clone()]),
            ("a size for everybody", vec![pax(XGlobalHeader, &[("size", "0")]), own.clone()]),
            ("a file with holes", vec![pax(XHeader, &[("GNU.sparse.name", "package/c")]), own.clone()]),
            ("a length that lies", vec![raw(XHeader, "pax", 12, b"99 path=a/b\n"), own.clone()]),
            ("a long name without a mark", vec![unmarked, own.clone()]),
            ("a name for nothing", vec![own.clone(), long()]),
            ("a name behind a NUL", vec![raw(GNULongName, "long", 12, b"package/b\0/c"), own.clone()]),
            ("a name with two ends", vec![raw(GNULongName, "long", 11, b"package/b\0\0"), own.clone()]),
            ("a PAX name with a NUL", vec![pax(XHeader, &[("path", "package/b\0")]), own.clone()]),
            ("data behind an empty block", vec![own.clone(), vec![0; BLOCK], hidden.clone()]),
        ];
        for (what, parts) in cases {
            let packed = gzip(&[parts.concat(), vec![0; 2 * BLOCK]].concat());
            let error = walk(&packed, 100, ArchiveLimits::unpacked(1 << 20)).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{what}");
        }
        let good = [
            pax(XGlobalHeader, &[("comment", "a commit")]),
            pax(XHeader, &[("size", "3"), ("mtime", "1.5"), ("path", "package/long.json")]),
            raw(Regular, "package/l", 3, b"[1]"),
            raw(Directory, "package/d/", 0, b""),
        ];
        let seen = walk(&gzip(&good.concat()), 100, ArchiveLimits::unpacked(1 << 20)).unwrap();
        assert_eq!(
            seen.0.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(),
            ["package/long.json", "package/d/"]
        );
        assert_eq!(seen.1, [b"[1]"]);
    }
}
