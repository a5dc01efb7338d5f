//! Uploads in parts: all parts of one size, so that each has its place in one file from the start and completing moves no byte.
//!
//! `.sr-tmp/<id>` holds the bytes, `.sr-tmp/<id>.parts` what the upload is and a table of tags, one for each part. A tag is random
//! and written before its part: of two writers of the same part, and of a write that was cut short, only what is whole
//! and last can be completed, whichever process it came from.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use super::folder::{Folder, TEMPORARY, is_secret};
use super::{Durability, failed, is_missing, meta, os, seal};
use crate::core::id;
use crate::storage::store::{Chunks, Condition, Part, PutOptions, StoreResult, UploadId, Version};
use crate::storage::{Key, StoreError};

/// Where the table begins; before it stands what the upload is.
const TABLE: u64 = 16 << 10;
/// Bytes of a tag.
const TAG: usize = 16;

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    key: String,
    part_size: u64,
    absent: bool,
    matches: Option<Version>,
    content_type: Option<String>,
    user: std::collections::BTreeMap<String, String>,
}

impl Header {
    fn options(self) -> PutOptions {
        let condition = match self.matches {
            Some(version) => Condition::Matches(version),
            None if self.absent => Condition::Absent,
            None => Condition::Always,
        };
        PutOptions { condition, content_type: self.content_type, user: self.user }
    }
}

/// An upload that is open.
struct Upload {
    path: PathBuf,
    data: File,
    table: File,
    header: Header,
}

pub(super) fn begin(
    folder: &Folder,
    key: &Key,
    options: PutOptions,
    part_size: u64,
) -> StoreResult<UploadId> {
    let upload = UploadId(id::uuid());
    let (data, table) = paths(folder, &upload)?;
    let (absent, matches) = match options.condition {
        Condition::Always => (false, None),
        Condition::Absent => (true, None),
        Condition::Matches(version) => (false, Some(version)),
    };
    let (content_type, user) = (options.content_type, options.user);
    let header = Header { key: key.to_string(), part_size, absent, matches, content_type, user };
    let text = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
    if text.len() as u64 > TABLE {
        return Err(StoreError::Unsupported("the metadata of an upload is too large".to_owned()));
    }
    os::make_private_folder(&folder.root.join(TEMPORARY)).map_err(failed)?;
    let private = is_secret(key);
    let file = os::new_file(private).open(table).map_err(failed)?;
    os::write_at(&file, &[text.into()], 0).map_err(failed)?;
    os::new_file(private).open(data).map_err(failed)?;
    Ok(upload)
}

pub(super) fn part(
    folder: &Folder,
    key: &Key,
    upload: &UploadId,
    number: u32,
    data: &Chunks,
) -> StoreResult<Part> {
    let open = Upload::open(folder, upload, File::lock_shared)?;
    let size = data.len() as u64;
    if number == 0 || open.header.key != key.as_str() || size > open.header.part_size {
        return Err(StoreError::NoSuchUpload);
    }
    let tag = id::uuid().replace('-', "");
    let _alone = folder.lock_of('p', &format!("{}/{number}", upload.0))?;
    let bytes = hex::decode(&tag).unwrap_or_default();
    os::write_at(&open.table, &[bytes.into()], place_of_tag(number)).map_err(failed)?;
    let offset = u64::from(number - 1) * open.header.part_size;
    os::write_at(&open.data, data.pieces(), offset).map_err(failed)?;
    if folder.durability == Durability::Full {
        os::start_write_back(&open.data, offset, size);
    }
    Ok(Part { number, tag, size })
}

pub(super) fn flush(folder: &Folder, upload: &UploadId) -> StoreResult<()> {
    if folder.durability == Durability::Relaxed {
        return Ok(());
    }
    let open = Upload::open(folder, upload, File::lock_shared)?;
    open.data.sync_all().and_then(|()| open.table.sync_all()).map_err(failed)?;
    os::sync_folder(&folder.root.join(TEMPORARY)).map_err(failed)
}

pub(super) fn complete(
    folder: &Folder,
    key: &Key,
    upload: &UploadId,
    parts: &[Part],
) -> StoreResult<Version> {
    // Waits for parts that are being written, and keeps late ones out.
    let open = Upload::open(folder, upload, File::lock)?;
    if open.header.key != key.as_str() {
        return Err(StoreError::NoSuchUpload);
    }
    let size = open.check(parts)?;
    let Upload { path, data, header, .. } = open;
    let options = header.options();
    folder.check(key, &options.condition)?;
    data.set_len(size).map_err(failed)?;
    let version = meta::fresh_version();
    seal(folder, &data, &version, &options)?;
    folder.publish(&path, key, &options.condition)?;
    let (_, table) = paths(folder, upload)?;
    // Only room is lost if it stays; the sweep takes it.
    let _ = fs::remove_file(table);
    Ok(version)
}

pub(super) fn abort(folder: &Folder, upload: &UploadId) -> StoreResult<()> {
    let Ok((data, table)) = paths(folder, upload) else { return Ok(()) };
    for path in [data, table] {
        match fs::remove_file(path) {
            Err(error) if !is_missing(&error) => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

impl Upload {
    /// Opens the upload under the lock that `lock` takes. After it was completed or aborted there is none, whoever still holds its file.
    fn open(folder: &Folder, upload: &UploadId, lock: fn(&File) -> io::Result<()>) -> StoreResult<Self> {
        let (path, table) = paths(folder, upload)?;
        let gone =
            |error: io::Error| if is_missing(&error) { StoreError::NoSuchUpload } else { failed(error) };
        let data = File::options().read(true).write(true).open(&path).map_err(gone)?;
        let table = File::options().read(true).write(true).open(table).map_err(gone)?;
        lock(&data).map_err(failed)?;
        let named = fs::metadata(&path).map_err(gone)?;
        if os::identity(&named) != os::identity(&data.metadata().map_err(failed)?) {
            return Err(StoreError::NoSuchUpload);
        }
        let text =
            os::read_at(&table, 0, TABLE as usize, Vec::with_capacity(TABLE as usize)).map_err(failed)?;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let header = serde_json::from_slice(text).map_err(|_| StoreError::NoSuchUpload)?;
        Ok(Self { path, data, table, header })
    }

    /// Whether `parts` are the parts that are stored, and how many bytes they make.
    fn check(&self, parts: &[Part]) -> StoreResult<u64> {
        let tags = os::read_at(&self.table, TABLE, parts.len() * TAG, Vec::with_capacity(parts.len() * TAG))
            .map_err(failed)?;
        let mut stored = tags.chunks_exact(TAG);
        let mut size = 0;
        for (at, part) in parts.iter().enumerate() {
            let known = stored.next().is_some_and(|tag| hex::encode(tag) == part.tag);
            let full = part.size == self.header.part_size || at + 1 == parts.len();
            if !known || !full || part.number as usize != at + 1 {
                return Err(StoreError::NoSuchUpload);
            }
            size += part.size;
        }
        Ok(size)
    }
}

fn place_of_tag(number: u32) -> u64 {
    TABLE + u64::from(number - 1) * TAG as u64
}

/// The upload's two files. An id that isn't ours is no upload's, and never becomes a path.
fn paths(folder: &Folder, upload: &UploadId) -> StoreResult<(PathBuf, PathBuf)> {
    if !id::is_uuid(&upload.0) {
        return Err(StoreError::NoSuchUpload);
    }
    let temporary = folder.root.join(TEMPORARY);
    Ok((temporary.join(&upload.0), temporary.join(format!("{}.parts", upload.0))))
}
