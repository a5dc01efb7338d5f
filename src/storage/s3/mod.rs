//! Keeps the registry's bytes in an S3 bucket, shared by any number of stateless processes.

mod bucket;
mod client;
mod conditional;
mod copy;
mod descriptor;
mod error;
mod list;
mod multipart;
mod read;
mod setup;
mod write;

use std::time::Duration;

use async_trait::async_trait;

pub use descriptor::S3Descriptor;

use super::store::{
    Capabilities, Chunks, Found, GetOptions, ObjectMeta, Page, Part, PutOptions, Store, StoreResult,
    UploadId, Version,
};
use super::{Key, Prefix};
use crate::core::error::Result;
use crate::core::time::Clock;
use bucket::Bucket;

/// A bucket as a [`Store`].
pub struct S3Store {
    bucket: Bucket,
}

impl S3Store {
    /// A store for the described bucket. Nothing is asked yet; that is for [`Store::prepare`].
    ///
    /// # Errors
    /// 400 that names the option.
    pub fn new(descriptor: &S3Descriptor, clock: Clock) -> Result<Self> {
        let target = descriptor.resolve()?;
        client::check_roots(descriptor)?;
        for warning in &target.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self { bucket: Bucket::new(target, descriptor.extra_roots.clone(), clock) })
    }
}

#[async_trait]
impl Store for S3Store {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn prepare(&self) -> StoreResult<()> {
        self.bucket.prepare().await
    }

    fn capabilities(&self) -> Capabilities {
        self.bucket.capabilities()
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        self.bucket.get(key, options).await
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        self.bucket.head(key).await
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        self.bucket.put(key, data, options).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.bucket.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        self.bucket.delete_many(keys).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.bucket.copy(from, to).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        self.bucket.list(prefix, after, limit, by_folder).await
    }

    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        self.bucket.begin(key, options).await
    }

    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        self.bucket.part(key, upload, number, data).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        self.bucket.complete(key, upload, parts).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.bucket.abort(key, upload).await
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        self.bucket.presign(key, ttl, content_type).await
    }

    async fn sweep(&self, age: Duration) -> StoreResult<u64> {
        self.bucket.sweep(age).await
    }

    fn requests(&self) -> u64 {
        self.bucket.requests()
    }
}
