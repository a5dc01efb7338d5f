//! The trait that a backend implements, and its promises.
//!
//! Kept small on purpose: ranges, conditions, multipart, paged lists. Comfort lives in [`super::Objects`].

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::error::StoreError;
use super::key::{Key, Prefix};
use crate::core::body::ByteStream;
use crate::core::range::ByteRange;
use crate::core::time::Timestamp;

/// Result of a backend.
pub type StoreResult<T> = Result<T, StoreError>;

/// The version of an object as the backend names it (an S3 `ETag` with its quotes). Equal versions mean equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Version(pub String);

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Size of the whole object in bytes.
    pub size: u64,
    /// Its version.
    pub version: Version,
    /// When it was written, by the backend's clock.
    pub modified: Timestamp,
    /// Content type given at the write; `None` if the backend lost it.
    pub content_type: Option<String>,
    /// User metadata given at the write; names in lower case.
    pub user: BTreeMap<String, String>,
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// `start..end`, end exclusive, open end for "to the last byte"; clamped to the object. Suffixes are resolved by the caller.
    pub range: Option<(u64, Option<u64>)>,
    /// [`StoreError::NotModified`] if the object still has this version.
    pub if_none_match: Option<Version>,
    /// [`StoreError::Precondition`] unless the object has this version: for going on with a broken read.
    pub if_match: Option<Version>,
}

impl GetOptions {
    /// Which bytes of an object of `size` bytes are asked for.
    pub fn resolve(&self, size: u64) -> StoreResult<ByteRange> {
        let Some((start, end)) = self.range else { return Ok(ByteRange { start: 0, end: size }) };
        let end = end.map_or(size, |end| end.min(size));
        if start < end { Ok(ByteRange { start, end }) } else { Err(StoreError::Range { size }) }
    }
}

/// An object that was found: its metadata, which part of it, and the bytes.
pub struct Found {
    /// Metadata of the whole object.
    pub meta: ObjectMeta,
    /// Which bytes of it follow.
    pub range: ByteRange,
    /// The bytes; dropping the stream releases file or connection.
    pub body: ByteStream,
}

/// On what condition to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Overwrite whatever is there.
    #[default]
    Always,
    /// Only if nothing is there; else [`StoreError::Precondition`].
    Absent,
    /// Only if this version is there; else [`StoreError::Precondition`], also when nothing is there.
    Matches(Version),
}

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// On what condition.
    pub condition: Condition,
    /// Content type to keep with the object.
    pub content_type: Option<String>,
    /// User metadata to keep with the object; names in lower case, values ASCII.
    pub user: BTreeMap<String, String>,
}

/// Bytes in memory, in pieces; cloning is cheap, so that a write can be retried.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    list: Vec<Bytes>,
    len: usize,
}

impl Chunks {
    /// Adds a piece.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.list.push(chunk);
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Bytes] {
        &self.list
    }

    /// Takes the first `count` bytes off the front, without copying.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        let mut rest = Self::default();
        for mut piece in std::mem::take(&mut self.list) {
            let missing = count - front.len;
            if missing >= piece.len() {
                front.push(piece);
            } else {
                front.push(piece.split_to(missing));
                rest.push(piece);
            }
        }
        *self = rest;
        front
    }

    /// One piece; copies only if there were several.
    pub fn into_bytes(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.list) {
            Ok([only]) => only,
            Err(list) => list.concat().into(),
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let mut chunks = Self::default();
        chunks.push(bytes);
        chunks
    }
}

/// A multipart upload that is under way. Survives its process.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UploadId(pub String);

/// A part that is stored: number from 1, its tag, its size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// Number, from 1.
    pub number: u32,
    /// The backend's tag for it.
    pub tag: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// Size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
    /// Its version, where a listing tells it.
    pub version: Option<Version>,
}

/// One page of a listing, in byte order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Listed>,
    /// With a delimiter: the common prefixes, each with its slash at the end.
    pub prefixes: Vec<String>,
    /// Where to go on (`after` of the next call); `None` at the end.
    pub next: Option<String>,
}

/// How conditional writes behave on this store, as the probe found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum CasLevel {
    /// Create and replace are atomic, between processes too.
    L0,
    /// Only create is atomic: replacing goes through a chain of created objects.
    L1,
    /// Neither: one writing process only.
    L2,
}

/// What a backend can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Level of conditional writes.
    pub cas: CasLevel,
    /// Size of each part but the last, in bytes. All equal, since some stores demand it.
    pub part_size: u64,
    /// Most parts of one upload.
    pub max_parts: u32,
    /// What an operator should know about this store, one sentence each; logged once at start and told by `/-/ready`.
    pub warnings: Vec<String>,
}

/// Bytes under keys.
///
/// Promises, each held by a test in the behaviour suite: nobody sees a half-written object; a write that was acknowledged survives
/// `kill -9`; a write whose condition fails changes nothing; of racing conditional writes exactly one wins (unless
/// [`CasLevel`] says otherwise); a read yields bytes of one version or an error, never a mixture or a silently short body.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// `s3`, `local` or `memory`: for logs and metrics.
    fn kind(&self) -> &'static str;

    /// Makes the store ready: creates folder or bucket, probes what it can do. Idempotent.
    async fn prepare(&self) -> StoreResult<()>;

    /// What it can do. Meaningful after [`Store::prepare`].
    fn capabilities(&self) -> Capabilities;

    /// Reads an object or a part of it.
    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found>;

    /// Metadata of an object.
    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta>;

    /// Writes a small object whole.
    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version>;

    /// Deletes an object; deleting one that isn't there is fine.
    async fn delete(&self, key: &Key) -> StoreResult<()>;

    /// Deletes many objects, any number.
    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()>;

    /// Copies an object of any size inside the store.
    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()>;

    /// Moves an object: a rename where the store has one, else copy and delete.
    async fn rename(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.copy(from, to).await?;
        self.delete(from).await
    }

    /// Moves an object to a place where nothing is, else [`StoreError::Precondition`] and nothing moves. Atomic where the store can;
    /// elsewhere two racing moves can both succeed, so they must carry equal bytes (content-addressed keys).
    async fn rename_absent(&self, from: &Key, to: &Key) -> StoreResult<()> {
        match self.head(to).await {
            Ok(_) => Err(StoreError::Precondition),
            Err(StoreError::NotFound) => self.rename(from, to).await,
            Err(error) => Err(error),
        }
    }

    /// One page of keys that begin with `prefix` and come after `after`. With `by_folder`, what lies below a further slash is summed up as prefixes.
    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page>;

    /// Begins a multipart upload of an object that becomes visible only with [`Store::complete`].
    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId>;

    /// Stores one part. Storing a number again replaces it. Every part but the last has [`Capabilities::part_size`] bytes.
    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part>;

    /// Makes the stored parts as durable as a finished write, where [`Store::part`] alone doesn't. Comes before a state that counts
    /// on them is handed out.
    async fn flush(&self, _key: &Key, _upload: &UploadId) -> StoreResult<()> {
        Ok(())
    }

    /// Makes the object visible. `parts` in order, numbers from 1 without a gap. A condition given to [`Store::begin`] is checked here.
    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version>;

    /// Throws a multipart upload away. One that is gone is fine.
    async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()>;

    /// A URL under which the object can be read for `ttl` without credentials; `None` where the store has no such thing.
    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>>;

    /// Removes what broken uploads left behind and is older than `age`. Returns how many things it removed.
    async fn sweep(&self, age: Duration) -> StoreResult<u64>;

    /// Requests made so far, for tests and metrics that count them; zero where nothing is counted.
    fn requests(&self) -> u64 {
        0
    }
}
