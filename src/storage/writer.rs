//! Streams an artifact into the store in parts of bounded memory, hashing on the way; nothing is visible until it is published.
//!
//! Small artifacts stay in memory and cost one write. Larger ones become a multipart upload: on the final key when it is known
//! beforehand, else on a staging key and moved. A writer can be suspended, and resumed by another process.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use super::hooks::{ObjectInfo, Operation};
use super::objects::Objects;
use super::store::{Chunks, Condition, GetOptions, Part, PutOptions, StoreResult, UploadId, Version};
use super::{BUDGET_UNIT, Key, PRIVATE, StoreError};
use crate::core::body::ByteStream;
use crate::core::digest::{Algorithm, Digests, Hasher, Midstate};
use crate::core::error::{Error, Kind, Result};
use crate::core::id;

/// A multipart upload under way.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Upload {
    id: UploadId,
    parts: Vec<Part>,
}

/// An artifact on its way into the store. Dropping it throws away what was stored.
pub struct Writer {
    objects: Objects,
    key: String,
    staged: bool,
    hasher: Hasher,
    tail: Chunks,
    upload: Option<Upload>,
    part_size: usize,
    options: PutOptions,
    /// Bytes that this writer may hold at most, and its share of the process's budget while it holds any.
    share: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes and hash at the end of the last whole part.
    at_part: Option<(u64, Midstate)>,
}

/// A suspended [`Writer`]: where its bytes are and how far it has hashed. All of it is durable.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct WriterState {
    key: String,
    staged: bool,
    length: u64,
    part_size: usize,
    hash: Midstate,
    upload: Option<Upload>,
    /// Key of the bytes that do not fill a part yet.
    tail: Option<String>,
}

impl WriterState {
    /// Bytes received and durably stored.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Throws away what it stands for. Nobody will resume it.
    pub async fn discard(&self, objects: &Objects) -> Result<()> {
        if let Some(upload) = &self.upload {
            objects.storage().store().abort(&Key::new(self.key.clone())?, &upload.id).await?;
        }
        self.release(objects, None).await
    }

    /// Removes what it holds beside the parts, once `by`, which went on from it, is written down; or once the artifact is published.
    pub async fn release(&self, objects: &Objects, by: Option<&Self>) -> Result<()> {
        let Some(tail) = self.tail.as_ref().filter(|tail| by.is_none_or(|by| by.tail.as_ref() != Some(tail)))
        else {
            return Ok(());
        };
        objects.storage().store().delete(&Key::new(tail.clone())?).await?;
        Ok(())
    }
}

impl Writer {
    pub(super) async fn begin(
        objects: Objects,
        target: Option<&Key>,
        algorithms: &[Algorithm],
        expected: Option<u64>,
    ) -> Result<Self> {
        let capabilities = objects.capabilities();
        let least = expected.unwrap_or(0).div_ceil(u64::from(capabilities.max_parts.max(2)) - 1);
        let part_size = capabilities.part_size.max(least.next_multiple_of(1 << 20)) as usize;
        Ok(Self {
            key: target.map_or_else(|| format!("{PRIVATE}/staging/{}", id::uuid()), Key::to_string),
            staged: target.is_none(),
            hasher: Hasher::new(algorithms),
            tail: Chunks::default(),
            upload: None,
            share: expected
                .map_or(part_size, |bytes| usize::try_from(bytes).map_or(part_size, |n| n.min(part_size))),
            permit: None,
            part_size,
            options: PutOptions::default(),
            at_part: None,
            objects,
        })
    }

    /// Bytes received so far.
    pub fn length(&self) -> u64 {
        self.hasher.length()
    }

    /// Takes the next bytes; waits while the store is slower than the sender.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<()> {
        self.hold().await?;
        while self.tail.len() + chunk.len() > self.part_size {
            let rest = chunk.split_off(self.part_size - self.tail.len());
            self.take(std::mem::replace(&mut chunk, rest));
            let at_part = self.hasher.save();
            let part = std::mem::take(&mut self.tail);
            self.store_part(part).await?;
            self.at_part = Some((self.hasher.length(), at_part));
        }
        self.take(chunk);
        Ok(())
    }

    fn take(&mut self, chunk: Bytes) {
        self.hasher.update(&chunk);
        self.tail.push(chunk);
    }

    /// How another process could go on from the last whole part, if there is one since this writer began: nothing is written for it.
    pub fn checkpoint(&self) -> Option<WriterState> {
        let (length, hash) = self.at_part.clone()?;
        Some(WriterState {
            key: self.key.clone(),
            staged: self.staged,
            length,
            part_size: self.part_size,
            hash,
            upload: self.upload.clone(),
            tail: None,
        })
    }

    /// Takes this writer's share of the process's byte budget, once: whoever comes when it is used up waits for a writer to end.
    async fn hold(&mut self) -> Result<()> {
        if self.permit.is_none() {
            let storage = self.objects.storage();
            let units = self.share.div_ceil(BUDGET_UNIT).clamp(1, storage.0.budget_units.max(1));
            let units = u32::try_from(units).unwrap_or(u32::MAX);
            let permit = Arc::clone(&storage.0.budget).acquire_many_owned(units).await;
            self.permit = Some(permit.map_err(|_| Error::unavailable("the registry is shutting down"))?);
        }
        Ok(())
    }

    /// Takes a whole stream, at most `limit` bytes of it; `what` names it in the 413.
    pub async fn write_all(&mut self, mut stream: ByteStream, what: &str, limit: u64) -> Result<()> {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if self.length() + chunk.len() as u64 > limit {
                return Err(Error::too_large(what, limit));
            }
            self.write(chunk).await?;
        }
        Ok(())
    }

    async fn store_part(&mut self, data: Chunks) -> Result<()> {
        let key = Key::new(self.key.clone())?;
        let store = self.objects.storage().store().clone();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let id = store.begin(&key, self.options.clone()).await?;
                self.upload.insert(Upload { id, parts: Vec::new() })
            }
        };
        let number = upload.parts.len() as u32 + 1;
        upload.parts.push(store.part(&key, &upload.id, number, data).await?);
        Ok(())
    }

    /// Lets go of it and leaves everything as it is: a suspended state, or a checkpoint, names what is stored.
    pub fn leave(mut self) {
        self.upload = None;
    }

    /// All bytes are here: what they hash to. Nothing is visible yet.
    pub async fn finish(mut self) -> Result<Staged> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(&[]));
        Ok(Staged { digests: hasher.finish(), writer: self })
    }

    /// Makes everything received durable and answers how to go on from there.
    pub async fn suspend(mut self) -> Result<WriterState> {
        let store = self.objects.storage().store().clone();
        let tail = std::mem::take(&mut self.tail);
        let tail_key = if tail.is_empty() {
            None
        } else {
            let key = Key::new(format!("{}-tail-{}", self.key, self.hasher.length()))?;
            store.put(&key, tail, PutOptions::default()).await?;
            Some(key.to_string())
        };
        Ok(WriterState {
            key: self.key.clone(),
            staged: self.staged,
            length: self.hasher.length(),
            part_size: self.part_size,
            hash: self.hasher.save(),
            upload: self.upload.take(),
            tail: tail_key,
        })
    }

    pub(super) async fn resume(objects: Objects, state: &WriterState) -> Result<Option<Self>> {
        let Some(hasher) = state.hash.restore() else { return Ok(None) };
        let mut tail = Chunks::default();
        if let Some(key) = &state.tail {
            let mut found =
                objects.storage().store().get(&Key::new(key.clone())?, GetOptions::default()).await?;
            while let Some(chunk) = found.body.next().await {
                tail.push(chunk?);
            }
        }
        Ok(Some(Self {
            key: state.key.clone(),
            staged: state.staged,
            hasher,
            tail,
            upload: state.upload.clone(),
            part_size: state.part_size,
            options: PutOptions::default(),
            share: state.part_size,
            permit: None,
            at_part: None,
            objects,
        }))
    }
}

/// An artifact that is complete and hashed, and not visible yet. Dropping it throws it away.
pub struct Staged {
    digests: Digests,
    writer: Writer,
}

impl Staged {
    /// What the bytes hash to.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Makes it visible under `key` after asking the hooks. `Ok(None)` when `condition` does not hold; then it is thrown away.
    pub async fn publish(
        mut self,
        key: &Key,
        condition: Condition,
        content_type: Option<&str>,
        info: &ObjectInfo,
    ) -> Result<Option<Version>> {
        let size = Some(self.digests.length);
        let objects = self.writer.objects.clone();
        objects.before(Operation::Put, key, info, size).await?;
        let options =
            PutOptions { condition, content_type: content_type.map(str::to_owned), ..PutOptions::default() };
        let from = Key::new(self.writer.key.clone())?;
        let outcome = self.make_visible(&from, key, options).await;
        match outcome {
            Ok(version) => {
                objects.after(Operation::Put, key, info, size).await;
                Ok(Some(version))
            }
            Err(StoreError::Precondition) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn make_visible(&mut self, from: &Key, key: &Key, options: PutOptions) -> StoreResult<Version> {
        let objects = self.writer.objects.clone();
        let store = objects.storage().store().clone();
        let _claim = objects.storage().claims().take(store.as_ref(), key, &options.condition).await?;
        let tail = std::mem::take(&mut self.writer.tail);
        let Some(mut upload) = self.writer.upload.take() else {
            return store.put(key, tail, options).await;
        };
        if !tail.is_empty() {
            let number = upload.parts.len() as u32 + 1;
            upload.parts.push(store.part(from, &upload.id, number, tail).await?);
        }
        let version = store.complete(from, &upload.id, &upload.parts).await?;
        if from == key {
            Ok(version)
        } else if options.condition == Condition::Absent && store.head(key).await.is_ok() {
            store.delete(from).await?;
            Err(StoreError::Precondition)
        } else {
            store.rename(from, key).await?;
            store.head(key).await.map(|meta| meta.version)
        }
    }

    /// Throws it away now, rather than when it is dropped.
    pub async fn discard(mut self) -> Result<()> {
        if let Some(upload) = self.writer.upload.take() {
            let key = Key::new(self.writer.key.clone())?;
            self.writer.objects.storage().store().abort(&key, &upload.id).await?;
        }
        Ok(())
    }

    /// An error for a digest that is not the announced one, if it isn't.
    pub fn expect_digest(&self, expected: &crate::core::digest::Digest) -> Result<()> {
        match self.digests.get(expected.algorithm()) {
            Some(actual) if actual == expected => Ok(()),
            Some(actual) => {
                Err(Error::new(Kind::Invalid, format!("the content hashes to {actual}, not to {expected}")))
            }
            None => Err(Error::internal("the expected digest was not computed")),
        }
    }
}
