//! The store in a local folder: every object a plain file under its key, durable before it is acknowledged, conditional between
//! all processes of the host.
//!
//! `<root>/.sr-tmp` holds what has no name yet, `.sr-lock` the locks, `.sr-meta` metadata where the volume has no extended
//! attributes. All of these can be removed while nothing runs. A folder that was synchronised from a bucket is a valid store.

mod folder;
mod list;
mod meta;
mod multipart;
mod naming;
mod os;
mod prepare;
mod read;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use self::folder::Folder;
use super::store::{
    Capabilities, CasLevel, Chunks, Condition, Found, GetOptions, ObjectMeta, Page, Part, PutOptions, Store,
    StoreResult, UploadId, Version,
};
use super::{Key, Prefix, StoreError};
use crate::core::time::Clock;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it: it survives a power cut.
    #[default]
    Full,
    /// When the operating system has it: it survives the death of the process only.
    Relaxed,
}

/// Part size in bytes unless a test sets another.
const PART_SIZE: u64 = 4 << 20;
/// Most parts of an upload: more than any file system's largest file.
const MAX_PARTS: u32 = 1 << 20;

/// Objects in a folder.
pub struct LocalStore {
    folder: Arc<Folder>,
    clock: Clock,
    part_size: u64,
    warnings: OnceLock<Vec<String>>,
    requests: AtomicU64,
    readers: read::Readers,
}

impl LocalStore {
    /// A store in `root`, which [`Store::prepare`] creates.
    pub fn new(root: PathBuf, durability: Durability, clock: Clock) -> Self {
        let folder = Folder { root, durability, naming: OnceLock::new() };
        Self {
            readers: read::Readers::default(),
            folder: Arc::new(folder),
            clock,
            part_size: PART_SIZE,
            warnings: OnceLock::new(),
            requests: AtomicU64::new(0),
        }
    }

    /// With another part size in bytes: small ones let a test have many parts.
    #[must_use]
    pub fn with_part_size(mut self, part_size: u64) -> Self {
        self.part_size = part_size.max(1);
        self
    }

    /// Runs `job` where it may block.
    async fn run<T, F>(&self, job: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Folder) -> StoreResult<T> + Send + 'static,
    {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || job(&folder)).await {
            Ok(answer) => answer,
            Err(error) => Err(StoreError::Unknown(error.into())),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn prepare(&self) -> StoreResult<()> {
        let warnings = self.run(prepare::prepare).await?;
        let _ = self.warnings.set(warnings);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cas: CasLevel::L0,
            part_size: self.part_size,
            max_parts: MAX_PARTS,
            warnings: self.warnings.get().cloned().unwrap_or_default(),
        }
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        let key = key.clone();
        let readers = self.readers.clone();
        let _turn = self.readers.turn().await;
        self.run(move |folder| read::get(folder, &key, &options, &readers))
            .await
            .map(|opened| opened.into_found(&self.readers))
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        let key = key.clone();
        self.run(move |folder| folder.head(&key)).await
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        let key = key.clone();
        self.run(move |folder| {
            // A write that can't succeed shouldn't cost the disk anything.
            folder.check(&key, &options.condition)?;
            let version = meta::version_of(&data);
            let temporary = folder.temporary(&key)?;
            os::write_at(&temporary.file, data.pieces(), 0).map_err(failed)?;
            seal(folder, &temporary.file, &version, &options)?;
            folder.publish(&temporary.path, &key, &options.condition)?;
            Ok(version)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.delete_many(std::slice::from_ref(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        let keys = keys.to_vec();
        self.run(move |folder| {
            let mut changed = Vec::new();
            for key in &keys {
                changed.extend(folder.remove(key)?);
            }
            changed.sort_unstable();
            changed.dedup();
            folder.sync(changed.clone()).map_err(|error| StoreError::Unknown(error.into()))?;
            for emptied in changed {
                folder.prune(emptied);
            }
            Ok(())
        })
        .await
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |folder| {
            let (mut source, found) = folder.open(&from)?;
            let meta = meta::read(&folder.root, &source, &found);
            let mut temporary = folder.temporary(&to)?;
            // The kernel copies, or shares the blocks where the file system can.
            let copied = io::copy(&mut source, &mut temporary.file).map_err(failed)?;
            if copied != meta.size {
                return Err(StoreError::Conflict);
            }
            let options =
                PutOptions { condition: Condition::Always, content_type: meta.content_type, user: meta.user };
            seal(folder, &temporary.file, &meta.version, &options)?;
            folder.publish(&temporary.path, &to, &Condition::Always)
        })
        .await
    }

    async fn rename(&self, from: &Key, to: &Key) -> StoreResult<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |folder| folder.rename(&from, &to, &Condition::Always)).await
    }

    async fn rename_absent(&self, from: &Key, to: &Key) -> StoreResult<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |folder| folder.rename(&from, &to, &Condition::Absent)).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        let (prefix, after) = (prefix.clone(), after.map(str::to_owned));
        self.run(move |folder| list::page(folder, prefix.as_str(), after.as_deref(), limit, by_folder)).await
    }

    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        let (key, part_size) = (key.clone(), self.part_size);
        self.run(move |folder| multipart::begin(folder, &key, options, part_size)).await
    }

    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        let (key, upload) = (key.clone(), upload.clone());
        self.run(move |folder| multipart::part(folder, &key, &upload, number, &data)).await
    }

    async fn flush(&self, _key: &Key, upload: &UploadId) -> StoreResult<()> {
        let upload = upload.clone();
        self.run(move |folder| multipart::flush(folder, &upload)).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        let (key, upload, parts) = (key.clone(), upload.clone(), parts.to_vec());
        self.run(move |folder| multipart::complete(folder, &key, &upload, &parts)).await
    }

    async fn abort(&self, _key: &Key, upload: &UploadId) -> StoreResult<()> {
        let upload = upload.clone();
        self.run(move |folder| multipart::abort(folder, &upload)).await
    }

    async fn presign(
        &self,
        _key: &Key,
        _ttl: Duration,
        _content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        Ok(None)
    }

    async fn sweep(&self, age: Duration) -> StoreResult<u64> {
        let now = self.clock.now();
        self.run(move |folder| prepare::sweep(folder, age, now)).await
    }

    /// Each operation on the folder is one: what would be a request to a bucket.
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A small file of the operator's, such as certificates.
pub async fn contents(path: &std::path::Path) -> io::Result<Vec<u8>> {
    tokio::fs::read(path).await
}

/// Makes an empty file that is its owner's alone, unless there is one: for secrets that are kept beside the store.
pub fn make_private_file(path: &std::path::Path) -> io::Result<()> {
    match os::new_file(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Keeps the metadata with a file whose bytes are complete, and makes both durable.
fn seal(folder: &Folder, file: &fs::File, version: &Version, options: &PutOptions) -> StoreResult<()> {
    meta::keep(&folder.root, file, version, options).map_err(failed)?;
    if folder.durability == Durability::Full {
        file.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// No such file: neither its name nor the folders above it.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// An error of the operating system before anything became visible.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(error.into())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::Denied(
            "the registry may not write to its storage folder; check its owner, its mode and its mount"
                .to_owned(),
        ),
        _ => StoreError::Failed(error.into()),
    }
}

#[cfg(test)]
mod tests;
