//! The bucket as one request of one protocol sees it: reads, writes and deletions with hooks, documents, staged uploads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;

use super::document::{Document, Edit, Loaded};
use super::hooks::{HookContext, ObjectInfo, Operation, Verdict};
use super::key::{Key, Prefix};
use super::store::{
    Capabilities, Chunks, Found, GetOptions, ObjectMeta, Page, PutOptions, StoreResult, Version,
};
use super::writer::{Writer, WriterState};
use super::{Storage, StoreError};
use crate::core::actor::Actor;
use crate::core::body::Body;
use crate::core::digest::Algorithm;
use crate::core::error::{Error, Result};
use crate::core::protocol_name::ProtocolName;

/// The storage of one request. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    storage: Storage,
    protocol: ProtocolName,
    actor: Option<Arc<Actor>>,
}

impl Objects {
    pub(super) fn new(storage: Storage, protocol: ProtocolName, actor: Option<Arc<Actor>>) -> Self {
        Self { storage, protocol, actor }
    }

    /// The storage behind it.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Who asks.
    pub fn actor(&self) -> Option<&Arc<Actor>> {
        self.actor.as_ref()
    }

    /// What the store can do.
    pub fn capabilities(&self) -> Capabilities {
        self.storage.0.store.capabilities()
    }

    /// Opens an object or a range of it. `None` if there is none.
    ///
    /// # Errors
    /// 416 for a range outside it, 412 if `if_match` fails; storage faults.
    pub async fn read(&self, key: &Key, options: GetOptions, info: &ObjectInfo) -> Result<Option<Found>> {
        match self.storage.0.store.get(key, options).await {
            Ok(found) => {
                self.after(Operation::Get, key, info, Some(found.meta.size)).await;
                Ok(Some(found))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What was opened with [`Self::read`] as a body that goes on after its reader has rested: the file or the connection behind it is let go
    /// meanwhile and opened again where it was, unless another version is there by then.
    pub fn body(&self, key: &Key, found: Found) -> Body {
        let Found { meta, range, body } = found;
        let (storage, key) = (self.storage.clone(), key.clone());
        let reopen = move |given: u64| {
            let (storage, key, version) = (storage.clone(), key.clone(), meta.version.clone());
            let options = GetOptions {
                range: Some((range.start + given, Some(range.end))),
                if_match: Some(version.clone()),
                ..GetOptions::default()
            };
            let reopened = async move {
                match storage.0.store.get(&key, options).await {
                    Ok(found) if found.meta.version == version => Ok(found.body),
                    Ok(_)
                    | Err(StoreError::NotFound | StoreError::Precondition | StoreError::Range { .. }) => {
                        Err(Error::unavailable("the file was replaced while it was sent; try again"))
                    }
                    Err(error) => Err(error.into()),
                }
            };
            reopened.boxed()
        };
        Body::reopening(body, range.len(), Box::new(reopen))
    }

    /// Reads a whole object on the registry's own behalf: hooks count what clients read. `None` if there is none.
    ///
    /// # Errors
    /// 500 beyond `limit` bytes; storage faults.
    pub async fn inspect(&self, key: &Key, name: &str, limit: u64) -> Result<Option<(Bytes, ObjectMeta)>> {
        match self.storage.0.store.get(key, GetOptions::default()).await {
            Ok(found) => {
                let meta = found.meta.clone();
                Ok(Some((super::documents::whole(found, name, limit).await?, meta)))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the hooks, if there are any, of a read of `size` bytes that was answered from memory: to them it is one like any other.
    ///
    /// # Errors
    /// What `what` is refused with.
    pub async fn note_read(&self, size: u64, what: impl FnOnce() -> Result<(Key, ObjectInfo)>) -> Result<()> {
        if self.storage.0.hooks.is_some() {
            let (key, info) = what()?;
            self.after(Operation::Get, &key, &info, Some(size)).await;
        }
        Ok(())
    }

    /// Whether somebody wants to hear of reads and writes.
    pub fn has_hooks(&self) -> bool {
        self.storage.0.hooks.is_some()
    }

    /// Metadata of an object; `None` if there is none.
    pub async fn stat(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        match self.storage.0.store.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a small object whole. `Ok(None)` when `options.condition` does not hold, and then nothing has changed.
    pub async fn put(
        &self,
        key: &Key,
        data: Bytes,
        options: PutOptions,
        info: &ObjectInfo,
    ) -> Result<Option<Version>> {
        self.ask_put(key, info, Some(data.len() as u64)).await?;
        self.put_asked(key, data, options, info).await
    }

    /// Asks the hooks whether an object may be written: for who must know before the first step of several. `size` if it is known.
    pub async fn ask_put(&self, key: &Key, info: &ObjectInfo, size: Option<u64>) -> Result<()> {
        self.before(Operation::Put, key, info, size).await
    }

    /// Writes a small object whole after [`Self::ask_put`]. `Ok(None)` as of [`Self::put`].
    pub async fn put_asked(
        &self,
        key: &Key,
        data: Bytes,
        options: PutOptions,
        info: &ObjectInfo,
    ) -> Result<Option<Version>> {
        let size = data.len() as u64;
        match self.put_claimed(key, data.into(), options).await {
            Ok(version) => {
                self.storage.0.documents.forget(key);
                self.after(Operation::Put, key, info, Some(size)).await;
                Ok(Some(version))
            }
            Err(StoreError::Precondition) => Ok(None),
            Err(error) => {
                // It may have been written for all that.
                self.storage.0.documents.forget(key);
                Err(error.into())
            }
        }
    }

    async fn put_claimed(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        let inner = &self.storage.0;
        let _claim = self.storage.claims().take(inner.store.as_ref(), key, &options.condition).await?;
        inner.store.put(key, data, options).await
    }

    /// Deletes an object; one that isn't there is fine.
    pub async fn delete(&self, key: &Key, info: &ObjectInfo) -> Result<()> {
        self.ask_delete(key, info).await?;
        self.delete_asked(key, info).await
    }

    /// Asks the hooks whether an object may be deleted: for who must know before the first step of several.
    pub async fn ask_delete(&self, key: &Key, info: &ObjectInfo) -> Result<()> {
        self.before(Operation::Delete, key, info, None).await
    }

    /// Deletes an object after [`Self::ask_delete`].
    pub async fn delete_asked(&self, key: &Key, info: &ObjectInfo) -> Result<()> {
        let deleted = self.storage.0.store.delete(key).await;
        self.storage.0.documents.forget(key);
        deleted?;
        self.after(Operation::Delete, key, info, None).await;
        Ok(())
    }

    /// One page of keys. Never on a hot path.
    pub async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> Result<Page> {
        Ok(self.storage.0.store.list(prefix, after, limit, by_folder).await?)
    }

    /// A shared document, from memory if it is fresh enough; `None` if there is none.
    pub async fn document<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        self.storage.document(key).await
    }

    /// The same, from memory if the store was asked after `oldest`; see [`crate::index::Index::document`], which knows how old it may be.
    pub async fn document_since<D: Document>(
        &self,
        key: &Key,
        oldest: Option<Instant>,
    ) -> Result<Option<Arc<Loaded<D>>>> {
        self.storage.document_since(key, oldest).await
    }

    /// The same, after asking the store: for a client that says `no-cache`, and for `?write=true`.
    pub async fn document_revalidated<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        self.storage.document_revalidated(key).await
    }

    /// Changes a shared document: the only way to do so. See [`Storage::update`]; hooks are asked once, before.
    pub async fn update<D, R, F>(&self, key: &Key, info: &ObjectInfo, change: F) -> Result<R>
    where
        D: Document,
        R: Send + 'static,
        F: Fn(&mut D) -> Result<Edit<R>> + Send + Sync + 'static,
    {
        Ok(self.update_told(key, info, change).await?.0)
    }

    /// The same, and tells whether anything was written.
    pub async fn update_told<D, R, F>(&self, key: &Key, info: &ObjectInfo, change: F) -> Result<(R, bool)>
    where
        D: Document,
        R: Send + 'static,
        F: Fn(&mut D) -> Result<Edit<R>> + Send + Sync + 'static,
    {
        self.ask_put(key, info, None).await?;
        self.update_asked(key, info, change).await
    }

    /// The same after [`Self::ask_put`].
    pub async fn update_asked<D, R, F>(&self, key: &Key, info: &ObjectInfo, change: F) -> Result<(R, bool)>
    where
        D: Document,
        R: Send + 'static,
        F: Fn(&mut D) -> Result<Edit<R>> + Send + Sync + 'static,
    {
        let (answer, written) = self.storage.update(key, change).await?;
        if let Some(size) = written {
            self.after(Operation::Put, key, info, Some(size)).await;
        }
        Ok((answer, written.is_some()))
    }

    /// A writer for an artifact, hashing on the way. With `target` the bytes go straight to their final key and become visible only on
    /// [`super::Staged::publish`]; without it they wait in a private place until the key is known. `expected` bytes, if known, choose the part size.
    pub fn writer(
        &self,
        target: Option<&Key>,
        algorithms: &[Algorithm],
        expected: Option<u64>,
    ) -> Result<Writer> {
        Writer::begin(self.clone(), target, algorithms, expected)
    }

    /// Goes on with a writer that another request, perhaps another process, has suspended. `None` if its hash state belongs to another release.
    pub async fn resume(&self, state: &WriterState) -> Result<Option<Writer>> {
        Writer::resume(self.clone(), state).await
    }

    /// A URL for reading an object of `size` bytes without us; `None` where the store has no such thing. To hooks it is a read.
    pub async fn presign(
        &self,
        key: &Key,
        ttl: Duration,
        info: &ObjectInfo,
        size: u64,
    ) -> Result<Option<String>> {
        let url = self.storage.0.store.presign(key, ttl, info.content_type.as_deref()).await?;
        if url.is_some() {
            self.after(Operation::Get, key, info, Some(size)).await;
        }
        Ok(url)
    }

    /// Asks the `before` hook; an error is its refusal.
    pub(super) async fn before(
        &self,
        operation: Operation,
        key: &Key,
        info: &ObjectInfo,
        size: Option<u64>,
    ) -> Result<()> {
        let Some(hooks) = self.storage.0.hooks.as_deref().filter(|_| !key.is_private()) else {
            return Ok(());
        };
        let context = self.context(operation, key, info, size);
        let verdict = match operation {
            Operation::Put => hooks.before_put(&context).await,
            Operation::Delete => hooks.before_delete(&context).await,
            Operation::Get => Verdict::Allowed,
        };
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(Some(reason)) => Err(Error::denied(reason)),
            Verdict::Denied(None) => Err(Error::denied("refused by the registry's policy")),
        }
    }

    /// Tells the `after` hook.
    pub(super) async fn after(&self, operation: Operation, key: &Key, info: &ObjectInfo, size: Option<u64>) {
        let Some(hooks) = self.storage.0.hooks.as_deref().filter(|_| !key.is_private()) else { return };
        let context = self.context(operation, key, info, size);
        match operation {
            Operation::Put => hooks.after_put(&context).await,
            Operation::Delete => hooks.after_delete(&context).await,
            Operation::Get => hooks.after_get(&context).await,
        }
    }

    fn context(&self, operation: Operation, key: &Key, info: &ObjectInfo, size: Option<u64>) -> HookContext {
        HookContext {
            operation,
            key: key.to_string(),
            protocol: self.protocol,
            actor: self.actor.as_deref().cloned(),
            info: ObjectInfo { size: info.size.or(size), ..info.clone() },
            timestamp: self.storage.0.clock.now(),
        }
    }
}
