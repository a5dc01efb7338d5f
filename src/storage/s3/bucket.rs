//! One bucket as the server behaves, without emulation: [`super::S3Store`] puts on top what the probe found missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::client::{Clients, Connector};
use super::conditional;
use super::descriptor::Target;
use super::error::{failure, store_error};
use crate::core::time::{Clock, Timestamp};
use crate::storage::Roots;
use crate::storage::{
    Capabilities, CasLevel, Chunks, Found, GetOptions, Key, ObjectMeta, Page, Part, Prefix, PutOptions,
    Store, StoreError, StoreResult, UploadId, Version,
};

/// Requests at the same time, of one process to one bucket.
pub(super) const REQUESTS: usize = 256;
/// Of these, how many may carry large bodies.
const BULK_REQUESTS: usize = 128;
/// Size of the parts of an upload. All equal but the last, as Cloudflare demands it; small enough to be kept for a retry.
pub(super) const PART_SIZE: u64 = 8 << 20;
/// Most parts of an upload, as everywhere.
pub(super) const MAX_PARTS: u32 = 10_000;
/// Bodies up to this size count as metadata: one piece, signed, quick time-outs.
pub(super) const SMALL: u64 = 256 << 10;

/// The bucket. Cheap to clone: a body that is being read holds one.
#[derive(Clone)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    target: Target,
    roots: Roots,
    connector: OnceCell<Connector>,
    clients: ArcSwapOption<Clients>,
    gate: Semaphore,
    bulk_gate: Semaphore,
    requests: Arc<AtomicU64>,
    clock: Clock,
    quirks: Quirks,
}

/// What the server taught us about itself.
#[derive(Debug, Default)]
pub(super) struct Quirks {
    /// `If-Match` on a write wants the tag without its quotes (Ceph 16).
    pub(super) bare_tags: AtomicBool,
    /// `DeleteObjects` does not work: delete one by one.
    pub(super) single_deletes: AtomicBool,
    /// `CompleteMultipartUpload` refuses conditions.
    pub(super) plain_completes: AtomicBool,
    /// `UploadPartCopy` does not exist (s3rver).
    pub(super) no_part_copy: AtomicBool,
    /// Listings by folder miss folders that hold nothing but folders, those in pages end in 500, and their order is not that of
    /// the keys (s3rver): ask for all there is, sort and sum up here.
    pub(super) crude_lists: AtomicBool,
}

impl Bucket {
    pub(super) fn new(target: Target, roots: Roots, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            target,
            roots,
            connector: OnceCell::new(),
            clients: ArcSwapOption::empty(),
            gate: Semaphore::new(REQUESTS),
            bulk_gate: Semaphore::new(BULK_REQUESTS),
            requests: Arc::default(),
            clock,
            quirks: Quirks::default(),
        }))
    }

    pub(super) fn target(&self) -> &Target {
        &self.0.target
    }

    pub(super) fn quirks(&self) -> &Quirks {
        &self.0.quirks
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The clients; the first call finds credentials.
    pub(super) async fn clients(&self) -> StoreResult<Arc<Clients>> {
        if let Some(clients) = self.0.clients.load_full() {
            return Ok(clients);
        }
        self.reconnect(&self.0.target.region).await
    }

    /// Clients that sign for another region than before.
    pub(super) async fn reconnect(&self, region: &str) -> StoreResult<Arc<Clients>> {
        let inner = &*self.0;
        let connector = inner
            .connector
            .get_or_try_init(|| Connector::new(&inner.target, &inner.roots, Arc::clone(&inner.requests)))
            .await?;
        let clients = Arc::new(connector.clients(&inner.target, region));
        inner.clients.store(Some(Arc::clone(&clients)));
        Ok(clients)
    }

    /// The right to make a request; it ends with the answer's head, so that slow readers of bodies hold up nobody.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.0.gate.acquire().await.ok()
    }

    /// The right to make a request with a large body.
    pub(super) async fn bulk_permit(&self) -> (Option<SemaphorePermit<'_>>, Option<SemaphorePermit<'_>>) {
        (self.0.bulk_gate.acquire().await.ok(), self.0.gate.acquire().await.ok())
    }

    /// The full key in the bucket.
    pub(super) fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.0.target.prefix)
    }
}

/// The version for an `ETag`, always with quotes: some servers send them, some don't, and listings differ from answers to GET.
pub(super) fn version(tag: Option<&str>) -> StoreResult<Version> {
    let tag = tag.ok_or_else(|| StoreError::Failed(failure("the S3 server sent no ETag")))?;
    Ok(Version(format!("\"{}\"", bare(tag))))
}

/// An `ETag` without its quotes.
pub(super) fn bare(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// Metadata out of the headers of GET and HEAD.
pub(super) struct Headers<'a> {
    pub(super) size: u64,
    pub(super) tag: Option<&'a str>,
    pub(super) modified: Option<&'a aws_sdk_s3::primitives::DateTime>,
    pub(super) content_type: Option<&'a str>,
    pub(super) user: Option<&'a HashMap<String, String>>,
}

impl Headers<'_> {
    pub(super) fn meta(&self) -> StoreResult<ObjectMeta> {
        let user = self.user.into_iter().flatten();
        Ok(ObjectMeta {
            size: self.size,
            version: version(self.tag)?,
            modified: timestamp(self.modified),
            content_type: self.content_type.map(str::to_owned),
            user: user.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        })
    }
}

pub(super) fn timestamp(moment: Option<&aws_sdk_s3::primitives::DateTime>) -> Timestamp {
    Timestamp::from_millis(moment.and_then(|moment| moment.to_millis().ok()).unwrap_or(0))
}

#[async_trait]
impl Store for Bucket {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn prepare(&self) -> StoreResult<()> {
        self.ensure_bucket().await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { cas: CasLevel::L0, part_size: PART_SIZE, max_parts: MAX_PARTS, warnings: Vec::new() }
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        self.read(key, options).await
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        let request = clients.metadata.head_object().bucket(&self.target().bucket).key(self.path(key));
        let answer = request.send().await.map_err(|error| store_error("HeadObject", &error))?;
        let headers = Headers {
            size: answer.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            tag: answer.e_tag(),
            modified: answer.last_modified(),
            content_type: answer.content_type(),
            user: answer.metadata(),
        };
        headers.meta()
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        self.write(key, data, options).await
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.delete_one(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        self.delete_all(keys).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.copy_any(from, to).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        self.list_page(prefix, after, limit, by_folder).await
    }

    async fn begin(&self, key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        let id = self.begin_upload(key, &options).await?;
        Ok(conditional::with_condition(&options.condition, &id))
    }

    async fn part(&self, key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        let (_, id) = conditional::split(upload)?;
        self.upload_part(key, id, number, data).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        let (condition, id) = conditional::split(upload)?;
        self.complete_upload(key, id, parts, &condition).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        let (_, id) = conditional::split(upload)?;
        self.abort_upload(&self.path(key), id).await
    }

    async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        let clients = self.clients().await?;
        let request = clients.metadata.get_object().bucket(&self.target().bucket).key(self.path(key));
        let config = PresigningConfig::expires_in(ttl)
            .map_err(|error| StoreError::Failed(failure(error.to_string())))?;
        let signed = request
            .set_response_content_type(content_type.map(str::to_owned))
            .presigned(config)
            .await
            .map_err(|error| store_error("GetObject", &error))?;
        Ok(Some(signed.uri().to_owned()))
    }

    async fn sweep(&self, age: Duration) -> StoreResult<u64> {
        self.sweep_uploads(age).await
    }

    fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }
}
