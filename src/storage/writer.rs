//! Streams an artifact into the store in parts of bounded memory, hashing on the way; nothing is visible until it is published.
//!
//! Small artifacts stay in memory and cost one write. Larger ones become a multipart upload: on the final key when it is known
//! beforehand, else on a staging key and moved. Parts are stored while the next ones arrive. A writer can be suspended, and resumed by another
//! process; one that is dropped takes back what it has stored.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::{ObjectInfo, Operation};
use super::objects::Objects;
use super::store::{Chunks, Condition, GetOptions, Part, PutOptions, Store, StoreResult, UploadId, Version};
use super::{BUDGET_UNIT, Key, STAGING, StoreError};
use crate::core::body::ByteStream;
use crate::core::digest::{Algorithm, Digests, Midstate};
use crate::core::error::{Error, Kind, Result};
use crate::core::hashing::Hashing;
use crate::core::id;
use crate::core::task;

/// Most parts of one upload on their way to the store, beside the one that fills.
const FLIGHTS: usize = 2;

/// A multipart upload under way.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Upload {
    id: UploadId,
    parts: Vec<Part>,
}

/// An artifact on its way into the store. Dropping it throws away what was stored, unless a [`WriterState`] names that.
pub struct Writer {
    objects: Objects,
    key: Key,
    staged: bool,
    hashing: Hashing,
    tail: Chunks,
    upload: Option<Upload>,
    /// Parts after those of `upload`, in order, on their way.
    flights: VecDeque<AbortOnDropHandle<StoreResult<Part>>>,
    part_size: usize,
    options: PutOptions,
    /// Bytes that fill up at most, and this writer's share of the process's budget for them. Each part on its way has a share of its own.
    share: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes and hash at the end of the last whole part.
    at_part: Option<(u64, Midstate)>,
    /// Whether nobody else knows of the upload.
    ours: bool,
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
    pub(super) fn begin(
        objects: Objects,
        target: Option<&Key>,
        algorithms: &[Algorithm],
        expected: Option<u64>,
    ) -> Result<Self> {
        let capabilities = objects.capabilities();
        let least = expected.unwrap_or(0).div_ceil(u64::from(capabilities.max_parts.max(2)) - 1);
        let part_size = capabilities.part_size.max(least.next_multiple_of(1 << 20)) as usize;
        let key = match target {
            Some(target) => target.clone(),
            None => Key::new(format!("{STAGING}{}", id::uuid()))?,
        };
        Ok(Self {
            key,
            staged: target.is_none(),
            hashing: Hashing::new(algorithms),
            tail: Chunks::default(),
            upload: None,
            flights: VecDeque::new(),
            share: expected
                .map_or(part_size, |bytes| usize::try_from(bytes).map_or(part_size, |n| n.min(part_size))),
            permit: None,
            part_size,
            options: PutOptions::default(),
            at_part: None,
            ours: true,
            objects,
        })
    }

    /// Keeps these with the artifact beside its bytes. Before the first of them comes: an upload in parts begins with them. Suspending forgets
    /// what no upload has got yet.
    #[must_use]
    pub fn described(mut self, content_type: Option<String>, user: BTreeMap<String, String>) -> Self {
        self.options = PutOptions { content_type, user, ..PutOptions::default() };
        self
    }

    /// Bytes received so far.
    pub fn length(&self) -> u64 {
        self.hashing.length()
    }

    /// Takes the next bytes; waits while the store or the hash is slower than the sender.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<()> {
        self.hold().await?;
        while self.tail.len() + chunk.len() > self.part_size {
            let rest = chunk.split_off(self.part_size - self.tail.len());
            self.take(std::mem::replace(&mut chunk, rest)).await?;
            let midstate = self.hashing.save().await?;
            let part = std::mem::take(&mut self.tail);
            self.send(part).await?;
            self.at_part = Some((self.length(), midstate));
        }
        self.take(chunk).await
    }

    async fn take(&mut self, chunk: Bytes) -> Result<()> {
        self.tail.push(chunk.clone());
        self.hashing.update(chunk).await
    }

    /// Takes this writer's share of the process's byte budget, once: whoever comes when it is used up waits for a writer to end.
    async fn hold(&mut self) -> Result<()> {
        if self.permit.is_none() {
            let storage = self.objects.storage();
            let permit = Arc::clone(&storage.0.budget).acquire_many_owned(self.units(self.share)).await;
            self.permit = Some(permit.map_err(|_| Error::unavailable("the registry is shutting down"))?);
        }
        Ok(())
    }

    /// So many bytes in units of the budget, of which nobody may want more than there are.
    fn units(&self, bytes: usize) -> u32 {
        let units = bytes.div_ceil(BUDGET_UNIT).clamp(1, self.objects.storage().0.budget_units.max(1));
        u32::try_from(units).unwrap_or(u32::MAX)
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

    /// Sends a part on its way. While the budget has room the next one can fill meanwhile; else this waits until it is stored, so that
    /// nobody ever waits for memory that others hold while they wait.
    async fn send(&mut self, data: Chunks) -> StoreResult<()> {
        let store = Arc::clone(self.objects.storage().store());
        let upload = if let Some(upload) = &self.upload {
            upload
        } else {
            let id = store.begin(&self.key, self.options.clone()).await?;
            self.upload.insert(Upload { id, parts: Vec::new() })
        };
        let (id, landed, key) = (upload.id.clone(), upload.parts.len(), self.key.clone());
        let number = (landed + self.flights.len()) as u32 + 1;
        while self.flights.len() >= FLIGHTS {
            self.land().await?;
        }
        let units = self.units(data.len());
        let permit = Arc::clone(&self.objects.storage().0.budget).try_acquire_many_owned(units).ok();
        let wait = permit.is_none();
        let flight = async move {
            let _permit = permit;
            store.part(&key, &id, number, data).await
        };
        self.flights.push_back(AbortOnDropHandle::new(task::spawn(flight)));
        if wait { self.land_all().await } else { Ok(()) }
    }

    /// Waits for the first of the parts on their way.
    async fn land(&mut self) -> StoreResult<()> {
        let (Some(flight), Some(upload)) = (self.flights.front_mut(), &mut self.upload) else {
            return Ok(());
        };
        let landed = flight.await.map_err(|error| StoreError::Unknown(error.into()));
        self.flights.pop_front();
        upload.parts.push(landed??);
        Ok(())
    }

    async fn land_all(&mut self) -> StoreResult<()> {
        while !self.flights.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    /// Waits until all parts are stored for good.
    async fn settle(&mut self) -> StoreResult<()> {
        self.land_all().await?;
        let Some(upload) = &self.upload else { return Ok(()) };
        self.objects.storage().store().flush(&self.key, &upload.id).await
    }

    /// How another process could go on from the last whole part, if there is one since this writer began. What it names is the caller's to
    /// remember: dropping the writer leaves it.
    pub async fn checkpoint(&mut self) -> Result<Option<WriterState>> {
        if self.at_part.is_none() {
            return Ok(None);
        }
        self.settle().await?;
        self.ours = false;
        Ok(self.at_part.clone().map(|(length, hash)| self.state(length, hash, None)))
    }

    fn state(&self, length: u64, hash: Midstate, tail: Option<&Key>) -> WriterState {
        WriterState {
            key: self.key.to_string(),
            staged: self.staged,
            length,
            part_size: self.part_size,
            hash,
            upload: self.upload.clone(),
            tail: tail.map(Key::to_string),
        }
    }

    /// Lets go of it and leaves everything as it is: a suspended state, or a checkpoint, names what is stored.
    pub fn leave(mut self) {
        self.ours = false;
    }

    /// All bytes are here: what they hash to. Nothing is visible yet.
    pub async fn finish(mut self) -> Result<Staged> {
        Ok(Staged { digests: self.hashing.finish().await?, writer: self })
    }

    /// Makes everything received durable and answers how to go on from there.
    pub async fn suspend(mut self) -> Result<WriterState> {
        self.settle().await?;
        let (length, hash) = (self.length(), self.hashing.save().await?);
        let tail = std::mem::take(&mut self.tail);
        let tail_key =
            (!tail.is_empty()).then(|| Key::new(format!("{}-tail-{length}", self.key))).transpose()?;
        if let Some(key) = &tail_key {
            self.objects.storage().store().put(key, tail, PutOptions::default()).await?;
        }
        self.ours = false;
        Ok(self.state(length, hash, tail_key.as_ref()))
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
            key: Key::new(state.key.clone())?,
            staged: state.staged,
            hashing: hasher.into(),
            tail,
            upload: state.upload.clone(),
            flights: VecDeque::new(),
            part_size: state.part_size,
            options: PutOptions::default(),
            share: state.part_size,
            permit: None,
            at_part: None,
            ours: false,
            objects,
        }))
    }
}

impl Drop for Writer {
    /// Takes back what nobody else knows of. Without a runtime it is left to the sweep.
    fn drop(&mut self) {
        let Some(upload) = self.upload.take().filter(|_| self.ours) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (flights, key) = (std::mem::take(&mut self.flights), self.key.clone());
        let store = Arc::clone(self.objects.storage().store());
        runtime.spawn(task::carry(async move {
            if let Err(error) = take_back(store.as_ref(), &key, &upload.id, flights).await {
                tracing::debug!(%error, "the parts of a broken upload stay until they are swept");
            }
        }));
    }
}

async fn take_back(
    store: &dyn Store,
    key: &Key,
    upload: &UploadId,
    flights: VecDeque<AbortOnDropHandle<StoreResult<Part>>>,
) -> StoreResult<()> {
    // A part that lands after its upload was aborted would stay on some stores.
    for flight in flights {
        flight.abort();
        let _ = flight.await;
    }
    store.abort(key, upload).await
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
        let kept = std::mem::take(&mut self.writer.options);
        let content_type = content_type.map(str::to_owned).or(kept.content_type);
        let options = PutOptions { condition, content_type, user: kept.user };
        let outcome = self.make_visible(key, options).await;
        match outcome {
            Ok(version) => {
                objects.after(Operation::Put, key, info, size).await;
                Ok(Some(version))
            }
            Err(StoreError::Precondition) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn make_visible(&mut self, key: &Key, options: PutOptions) -> StoreResult<Version> {
        let writer = &mut self.writer;
        let objects = writer.objects.clone();
        let store = objects.storage().store();
        let _claim = objects.storage().claims().take(store.as_ref(), key, &options.condition).await?;
        let tail = std::mem::take(&mut writer.tail);
        if writer.upload.is_none() {
            return store.put(key, tail, options).await;
        }
        if !tail.is_empty() {
            writer.send(tail).await?;
        }
        writer.land_all().await?;
        let Some(upload) = &writer.upload else { return Err(StoreError::NoSuchUpload) };
        let from = &writer.key;
        let version = store.complete(from, &upload.id, &upload.parts).await?;
        writer.upload = None;
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
        let Some(upload) = self.writer.upload.take() else { return Ok(()) };
        let flights = std::mem::take(&mut self.writer.flights);
        let store = Arc::clone(self.writer.objects.storage().store());
        Ok(take_back(store.as_ref(), &self.writer.key, &upload.id, flights).await?)
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

#[cfg(test)]
mod tests;
