//! What the standard library doesn't offer, per operating system: extended attributes, renaming without replacing, positioned
//! and vectored reads and writes, and the start of write-back.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Most slices that one vectored write takes on Linux (`IOV_MAX`).
#[cfg(unix)]
const MOST_SLICES: usize = 1024;

/// The extended attribute that holds an object's metadata.
#[cfg(unix)]
const ATTRIBUTE: &str = "user.smartregistry";

/// Longest metadata that is kept in an attribute: ext4 has one block for all of a file's.
#[cfg(unix)]
const LONGEST_ATTRIBUTE: usize = 3500;

/// Keeps `value` with the file. `false` if this volume, or the attribute's size, does not allow it.
#[cfg(unix)]
pub(super) fn set_attribute(file: &File, value: &[u8]) -> bool {
    value.len() <= LONGEST_ATTRIBUTE
        && rustix::fs::fsetxattr(file, ATTRIBUTE, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// What [`set_attribute`] kept.
#[cfg(unix)]
pub(super) fn attribute(file: &File) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(LONGEST_ATTRIBUTE);
    rustix::fs::fgetxattr(file, ATTRIBUTE, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(value)
}

/// Moves a file to a place where nothing is; [`io::ErrorKind::AlreadyExists`] if something is.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
        other => Ok(other?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    link_new(from, to)
}

/// The same by a second link, which every system with hard links refuses atomically where something is.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Reads up to `len` bytes at `offset` into an empty `bytes`, which has room for them; fewer only at the end of the file.
#[cfg(unix)]
pub(super) fn read_at(file: &File, offset: u64, len: usize, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes the pieces one after another at `offset`.
#[cfg(unix)]
pub(super) fn write_at(file: &File, pieces: &[Bytes], mut offset: u64) -> io::Result<()> {
    for group in pieces.chunks(MOST_SLICES) {
        let mut slices: Vec<io::IoSlice<'_>> = group.iter().map(|piece| io::IoSlice::new(piece)).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            match rustix::io::pwritev(file, slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    io::IoSlice::advance_slices(&mut slices, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Lets the disk begin with what was just written, so that the flush at the end finds little left to do. Only advice.
#[cfg(target_os = "linux")]
pub(super) fn start_write_back(file: &File, offset: u64, len: u64) {
    // On Linux this advice writes dirty pages back without waiting; pages on their way stay in the cache.
    let len = std::num::NonZeroU64::new(len);
    let _ = rustix::fs::fadvise(file, offset, len, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn start_write_back(_file: &File, _offset: u64, _len: u64) {}

/// Tells two files of the same size and time apart.
#[cfg(unix)]
pub(super) fn identity(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

/// Makes the entries of a folder durable.
#[cfg(unix)]
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(folder) => folder.sync_all(),
        // Somebody removed the folder meanwhile, and with it whatever it held.
        Err(error) if super::is_missing(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a folder that nobody but the owner looks into, and those missing above it; one that is there stays as it is.
pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    private_folder().recursive(true).create(path)
}

/// How such a folder is made.
pub(super) fn private_folder() -> DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// How a file is made; a private one is the owner's alone.
pub(super) fn new_file(private: bool) -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options
}

/// Whether everybody on the machine may enter a folder.
#[cfg(unix)]
pub(super) fn is_open_to_others(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

/// What is known to be unsafe about the volume, for the operator.
#[cfg(target_os = "linux")]
pub(super) fn warning(root: &Path) -> Option<String> {
    const NFS: i64 = 0x6969;
    let kind = rustix::fs::statfs(root).ok()?.f_type;
    #[allow(clippy::useless_conversion)] // its width differs between architectures
    let network = i64::from(kind) == NFS;
    network.then(|| {
        "the storage folder lies on NFS, where locks and caches of several hosts can disagree; write to it from one host only"
            .to_owned()
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn warning(_root: &Path) -> Option<String> {
    None
}

#[cfg(not(unix))]
mod elsewhere {
    use super::{Bytes, File, Metadata, Path, io};
    use std::os::windows::fs::{FileExt, MetadataExt};

    pub(in super::super) fn set_attribute(_file: &File, _value: &[u8]) -> bool {
        false
    }

    pub(in super::super) fn attribute(_file: &File) -> Option<Vec<u8>> {
        None
    }

    pub(in super::super) fn read_at(
        file: &File,
        offset: u64,
        len: usize,
        mut bytes: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        bytes.resize(len, 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.seek_read(rest, offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub(in super::super) fn write_at(file: &File, pieces: &[Bytes], mut offset: u64) -> io::Result<()> {
        for piece in pieces {
            let mut rest = piece.as_ref();
            while !rest.is_empty() {
                let written = file.seek_write(rest, offset)?;
                offset += written as u64;
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        Ok(())
    }

    pub(in super::super) fn identity(meta: &Metadata) -> u64 {
        meta.creation_time()
    }

    // Who may enter is inherited from the folder above.
    pub(in super::super) fn is_open_to_others(_folder: &Path) -> bool {
        false
    }

    // NTFS writes its folders through its journal; there is no handle to flush one by.
    pub(in super::super) fn sync_folder(_path: &Path) -> io::Result<()> {
        Ok(())
    }
}
#[cfg(not(unix))]
pub(super) use elsewhere::{
    attribute, identity, is_open_to_others, read_at, set_attribute, sync_folder, write_at,
};
