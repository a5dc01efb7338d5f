//! Copies inside the bucket, of any size.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::bucket::{Bucket, MAX_PARTS, PART_SIZE, version};
use super::error::{Answer, store_error};
use crate::storage::{
    Chunks, Condition, GetOptions, Key, ObjectMeta, Part, PutOptions, Store, StoreError, StoreResult,
};

/// Largest object that one request copies.
const WHOLE: u64 = 5 << 30;
/// Slices of larger ones.
const SLICE: u64 = 256 << 20;
/// Slices at the same time.
const SLICES: usize = 8;
/// What stays as it is in `x-amz-copy-source`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Bucket {
    pub(super) async fn copy_any(&self, from: &Key, to: &Key) -> StoreResult<()> {
        let permit = self.bulk_permit().await;
        let clients = self.clients().await?;
        let request = clients
            .bulk
            .copy_object()
            .bucket(&self.target().bucket)
            .key(self.path(to))
            .copy_source(self.source(from));
        let Err(error) = request.send().await else { return Ok(()) };
        drop(permit);
        let answer = Answer::of(&error);
        // The answer to a source that is too large is one of several kinds of 400.
        if answer.status == 400 {
            let meta = self.head(from).await?;
            if meta.size > WHOLE {
                return self.copy_slices(from, to, &meta).await;
            }
        }
        Err(store_error("CopyObject", &error))
    }

    fn source(&self, key: &Key) -> String {
        format!("{}/{}", self.target().bucket, utf8_percent_encode(&self.path(key), PLAIN))
    }

    /// Copies by slices inside the store, or through us where it can't.
    pub(super) async fn copy_slices(&self, from: &Key, to: &Key, meta: &ObjectMeta) -> StoreResult<()> {
        let options = PutOptions {
            condition: Condition::Always,
            content_type: meta.content_type.clone(),
            user: meta.user.clone(),
        };
        let id = self.begin_upload(to, &options).await?;
        let parts = if self.quirks().no_part_copy.load(Ordering::Relaxed) {
            self.stream_slices(from, to, meta, &id).await
        } else {
            match self.server_slices(from, to, meta, &id).await {
                Err(StoreError::Unsupported(_)) => {
                    self.quirks().no_part_copy.store(true, Ordering::Relaxed);
                    self.stream_slices(from, to, meta, &id).await
                }
                other => other,
            }
        };
        let outcome = match parts {
            Ok(parts) => self.complete_upload(to, &id, &parts, &Condition::Always).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.abort_upload(&self.path(to), &id).await.ok();
        }
        outcome
    }

    async fn server_slices(
        &self,
        from: &Key,
        to: &Key,
        meta: &ObjectMeta,
        id: &str,
    ) -> StoreResult<Vec<Part>> {
        let slice = SLICE.max(meta.size.div_ceil(u64::from(MAX_PARTS)).next_multiple_of(1 << 20));
        let starts = (0..meta.size).step_by(slice as usize);
        stream::iter(starts.zip(1_u32..))
            .map(|(start, number)| {
                let end = meta.size.min(start + slice);
                self.copy_slice(from, to, meta, id, number, (start, end))
            })
            .buffered(SLICES)
            .try_collect()
            .await
    }

    async fn copy_slice(
        &self,
        from: &Key,
        to: &Key,
        meta: &ObjectMeta,
        id: &str,
        number: u32,
        (start, end): (u64, u64),
    ) -> StoreResult<Part> {
        let _permit = self.bulk_permit().await;
        let clients = self.clients().await?;
        let answer = clients
            .bulk
            .upload_part_copy()
            .bucket(&self.target().bucket)
            .key(self.path(to))
            .upload_id(id)
            .part_number(number.cast_signed())
            .copy_source(self.source(from))
            .copy_source_range(format!("bytes={start}-{}", end - 1))
            .copy_source_if_match(&meta.version.0)
            .send()
            .await
            .map_err(|error| store_error("UploadPartCopy", &error))?;
        let tag = answer.copy_part_result().and_then(|result| result.e_tag());
        Ok(Part { number, tag: version(tag)?.0, size: end - start })
    }

    async fn stream_slices(
        &self,
        from: &Key,
        to: &Key,
        meta: &ObjectMeta,
        id: &str,
    ) -> StoreResult<Vec<Part>> {
        let options = GetOptions { if_match: Some(meta.version.clone()), ..GetOptions::default() };
        let mut body = self.read(from, options).await?.body;
        let part_size =
            PART_SIZE.max(meta.size.div_ceil(u64::from(MAX_PARTS)).next_multiple_of(1 << 20)) as usize;
        let mut waiting = Chunks::default();
        let mut parts = Vec::new();
        loop {
            let chunk = body.next().await.transpose().map_err(|error| StoreError::Unknown(error.into()))?;
            let ended = chunk.is_none();
            waiting.push(chunk.unwrap_or_default());
            while waiting.len() >= part_size || (ended && !waiting.is_empty()) {
                let data = waiting.split_to(part_size.min(waiting.len()));
                parts.push(self.upload_part(to, id, parts.len() as u32 + 1, data).await?);
            }
            if ended {
                return Ok(parts);
            }
        }
    }
}
