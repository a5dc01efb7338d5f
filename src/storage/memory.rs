//! The store in memory: the reference for the promises of [`Store`], for tests and for `type: 'memory'`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;

use super::store::{
    Capabilities, CasLevel, Chunks, Condition, Found, GetOptions, Listed, ObjectMeta, Page, Part, PutOptions,
    Store, StoreResult, UploadId, Version,
};
use super::{Key, Prefix, StoreError};
use crate::core::id;
use crate::core::time::Clock;

/// Objects in one map behind one lock.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    clock: Clock,
    requests: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    part_size: Option<u64>,
    cas: Option<CasLevel>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, (Bytes, ObjectMeta)>,
    uploads: BTreeMap<String, Upload>,
    writes: u64,
}

/// What an upload was begun with, and its parts with their tags.
type Upload = (PutOptions, BTreeMap<u32, (String, Bytes)>);

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// With another part size in bytes: small ones let a test have many parts.
    #[must_use]
    pub fn with_part_size(mut self, part_size: u64) -> Self {
        self.part_size = Some(part_size);
        self
    }

    /// With weaker conditional writes: at L2 every condition is ignored, as some servers do.
    #[must_use]
    pub fn with_cas(mut self, cas: CasLevel) -> Self {
        self.cas = Some(cas);
        self
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    /// Bytes that were read and written so far, for tests that count what an operation moves.
    pub fn moved(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn relocate(&self, from: &Key, to: &Key, condition: Condition) -> StoreResult<()> {
        let mut state = self.state.lock();
        let (data, meta) = state.objects.get(from).cloned().ok_or(StoreError::NotFound)?;
        let options = PutOptions { condition, content_type: meta.content_type, user: meta.user };
        self.write(&mut state, to, data, options)?;
        if from != to {
            state.objects.remove(from);
        }
        Ok(())
    }

    fn write(&self, state: &mut State, key: &Key, data: Bytes, options: PutOptions) -> StoreResult<Version> {
        let present = state.objects.get(key).map(|(_, meta)| &meta.version);
        let holds = match &options.condition {
            _ if self.cas == Some(CasLevel::L2) => true,
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Matches(version) => present == Some(version),
        };
        if !holds {
            return Err(StoreError::Precondition);
        }
        state.writes += 1;
        let version = Version(format!("\"{}\"", state.writes));
        let meta = ObjectMeta {
            size: data.len() as u64,
            version: version.clone(),
            modified: self.clock.now(),
            content_type: options.content_type,
            user: options.user,
        };
        state.objects.insert(key.clone(), (data, meta));
        Ok(version)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn prepare(&self) -> StoreResult<()> {
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cas: self.cas.unwrap_or(CasLevel::L0),
            part_size: self.part_size.unwrap_or(8 << 20),
            max_parts: 10_000,
            warnings: Vec::new(),
        }
    }

    async fn get(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        self.count();
        let (data, meta) = self.state.lock().objects.get(key).cloned().ok_or(StoreError::NotFound)?;
        if options.if_none_match.as_ref().is_some_and(|version| *version == meta.version) {
            return Err(StoreError::NotModified);
        }
        if options.if_match.as_ref().is_some_and(|version| *version != meta.version) {
            return Err(StoreError::Precondition);
        }
        let range = options.resolve(meta.size)?;
        let bytes = data.slice(range.start as usize..range.end as usize);
        self.read.fetch_add(range.len(), Ordering::Relaxed);
        Ok(Found { meta, range, body: Box::pin(stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))) })
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        self.count();
        self.state.lock().objects.get(key).map(|(_, meta)| meta.clone()).ok_or(StoreError::NotFound)
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        self.count();
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.write(&mut self.state.lock(), key, data.into_bytes(), options)
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.count();
        self.state.lock().objects.remove(key);
        Ok(())
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        self.count();
        let mut state = self.state.lock();
        for key in keys {
            state.objects.remove(key);
        }
        Ok(())
    }

    async fn copy(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.count();
        let mut state = self.state.lock();
        let (data, meta) = state.objects.get(from).cloned().ok_or(StoreError::NotFound)?;
        let options =
            PutOptions { content_type: meta.content_type, user: meta.user, ..PutOptions::default() };
        self.write(&mut state, to, data, options).map(|_| ())
    }

    async fn rename(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.count();
        self.relocate(from, to, Condition::Always)
    }

    async fn rename_absent(&self, from: &Key, to: &Key) -> StoreResult<()> {
        self.count();
        self.relocate(from, to, Condition::Absent)
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        self.count();
        let state = self.state.lock();
        let mut page = Page::default();
        let start = after.filter(|after| *after > prefix.as_str()).unwrap_or(prefix.as_str());
        for (key, (_, meta)) in state.objects.range::<str, _>((Bound::Included(start), Bound::Unbounded)) {
            let Some(rest) = key.as_str().strip_prefix(prefix.as_str()) else { break };
            let folder = rest.find('/').filter(|_| by_folder).and_then(|end| rest.get(..=end));
            let name =
                folder.map_or_else(|| key.to_string(), |folder| format!("{}{folder}", prefix.as_str()));
            // A folder that was listed stands for everything below it.
            if after.is_some_and(|after| name.as_str() <= after || key.as_str() <= after) {
                continue;
            }
            if page.prefixes.last() == Some(&name) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == limit {
                page.next = last_of(&page);
                break;
            }
            if folder.is_some() {
                page.prefixes.push(name);
            } else {
                page.objects.push(Listed {
                    key: key.clone(),
                    size: meta.size,
                    modified: meta.modified,
                    version: Some(meta.version.clone()),
                });
            }
        }
        Ok(page)
    }

    async fn begin(&self, _key: &Key, options: PutOptions) -> StoreResult<UploadId> {
        self.count();
        let upload = id::uuid();
        self.state.lock().uploads.insert(upload.clone(), (options, BTreeMap::new()));
        Ok(UploadId(upload))
    }

    async fn part(&self, _key: &Key, upload: &UploadId, number: u32, data: Chunks) -> StoreResult<Part> {
        self.count();
        let (size, tag) = (data.len() as u64, id::uuid());
        self.written.fetch_add(size, Ordering::Relaxed);
        let mut state = self.state.lock();
        let (_, parts) = state.uploads.get_mut(&upload.0).ok_or(StoreError::NoSuchUpload)?;
        parts.insert(number, (tag.clone(), data.into_bytes()));
        Ok(Part { number, tag, size })
    }

    async fn complete(&self, key: &Key, upload: &UploadId, parts: &[Part]) -> StoreResult<Version> {
        self.count();
        let mut state = self.state.lock();
        let (options, stored) = state.uploads.get(&upload.0).cloned().ok_or(StoreError::NoSuchUpload)?;
        let mut whole = Vec::new();
        for part in parts {
            let kept = stored.get(&part.number).filter(|(tag, _)| *tag == part.tag);
            whole.extend_from_slice(&kept.ok_or(StoreError::NoSuchUpload)?.1);
        }
        let version = self.write(&mut state, key, whole.into(), options)?;
        state.uploads.remove(&upload.0);
        Ok(version)
    }

    async fn abort(&self, _key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.count();
        self.state.lock().uploads.remove(&upload.0);
        Ok(())
    }

    async fn presign(
        &self,
        _key: &Key,
        _ttl: Duration,
        _content_type: Option<&str>,
    ) -> StoreResult<Option<String>> {
        Ok(None)
    }

    async fn sweep(&self, _age: Duration) -> StoreResult<u64> {
        Ok(0)
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn last_of(page: &Page) -> Option<String> {
    let object = page.objects.last().map(|listed| listed.key.to_string());
    object.max(page.prefixes.last().cloned())
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::core::time::Clock;
    use crate::storage::{Store, suite};
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_every_promise() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()).with_part_size(100_000));
        suite::run(&store, &[]).await;
    }
}
