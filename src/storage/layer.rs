//! A store around a store: what it does not change, the inner one does.

use std::time::Duration;

use async_trait::async_trait;

use super::store::{
    Capabilities, Chunks, Found, GetOptions, ObjectMeta, Page, Part, PutOptions, Store, StoreResult,
    UploadId, Version,
};
use super::{Key, Prefix};

/// A [`Store`] that changes a few operations of another. Each method is that of [`Store`].
#[async_trait]
#[allow(missing_docs)]
pub(crate) trait Layer: Send + Sync + 'static {
    fn inner(&self) -> &dyn Store;

    async fn prepare(&self) -> StoreResult<()> {
        self.inner().prepare().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        self.inner().get(key, options).await
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        self.inner().head(key).await
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        self.inner().put(key, data, options).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.inner().delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        self.inner().delete_many(keys).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        self.inner().complete(key, upload, parts).await
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        self.inner().presign(key, ttl, content_type).await
    }
}

#[async_trait]
impl<L: Layer> Store for L {
    fn kind(&self) -> &'static str {
        self.inner().kind()
    }

    async fn prepare(&self) -> StoreResult<()> {
        Layer::prepare(self).await
    }

    fn capabilities(&self) -> Capabilities {
        Layer::capabilities(self)
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        Layer::get(self, key, options).await
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        Layer::head(self, key).await
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        Layer::put(self, key, data, options).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        Layer::delete(self, key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        Layer::delete_many(self, keys).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.inner().copy(from, to).await
    }

    async fn rename(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.inner().rename(from, to).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        self.inner().list(prefix, after, limit, by_folder).await
    }

    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        self.inner().begin(key, options).await
    }

    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        self.inner().part(key, upload, number, data).await
    }

    async fn flush(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.inner().flush(key, upload).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        Layer::complete(self, key, upload, parts).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.inner().abort(key, upload).await
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        Layer::presign(self, key, ttl, content_type).await
    }

    async fn sweep(&self, age: Duration) -> StoreResult<u64> {
        self.inner().sweep(age).await
    }

    fn requests(&self) -> u64 {
        self.inner().requests()
    }
}
