//! Multipart uploads: what becomes visible only when it is complete.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, EncodingType};
use digest::Digest;

use super::bucket::{Bucket, bare, timestamp, version};
use super::conditional;
use super::error::{failure, store_error};
use super::list::decode;
use super::write::sent_once;
use crate::storage::{
    Chunks, Condition, Key, ObjectMeta, Part, PutOptions, Store, StoreError, StoreResult, Version,
};

impl Bucket {
    pub(super) async fn begin_upload(&self, key: &Key, options: &PutOptions) -> StoreResult<String> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        let mut request = clients
            .metadata
            .create_multipart_upload()
            .bucket(&self.target().bucket)
            .key(self.path(key))
            .set_content_type(options.content_type.clone());
        if !options.user.is_empty() {
            request = request.set_metadata(Some(options.user.clone().into_iter().collect()));
        }
        let answer = request.send().await.map_err(|error| store_error("CreateMultipartUpload", &error))?;
        answer
            .upload_id()
            .map(str::to_owned)
            .ok_or_else(|| StoreError::Failed(failure("CreateMultipartUpload: no upload id in the answer")))
    }

    pub(super) async fn upload_part(
        &self,
        key: &Key,
        id: &str,
        number: u32,
        data: Chunks,
    ) -> StoreResult<Part> {
        let size = data.len() as u64;
        let payload = self.payload(data).await?;
        let _permit = self.bulk_permit().await;
        let clients = self.clients().await?;
        let request = clients
            .bulk
            .upload_part()
            .bucket(&self.target().bucket)
            .key(self.path(key))
            .upload_id(id)
            .part_number(number.cast_signed())
            .content_length(payload.length)
            .body(payload.body);
        let answer = request
            .customize()
            .interceptor(payload.signing)
            .send()
            .await
            .map_err(|error| gone(store_error("UploadPart", &error)))?;
        Ok(Part { number, tag: version(answer.e_tag())?.0, size })
    }

    /// Completes an upload and makes sure that the object is what was sent.
    pub(super) async fn complete_upload(
        &self,
        key: &Key,
        id: &str,
        parts: &[Part],
        condition: &Condition,
    ) -> StoreResult<Version> {
        // Ceph 16 ignores conditions here, moto one of them: look first, which leaves a race only between large uploads to one key.
        self.check(key, condition).await?;
        let mut outcome = self.send_complete(key, id, parts, condition).await;
        if matches!(outcome, Err(StoreError::Unsupported(_))) && *condition != Condition::Always {
            self.quirks().plain_completes.store(true, Ordering::Relaxed);
            outcome = self.send_complete(key, id, parts, condition).await;
        }
        match outcome {
            Ok(tag) => self.verify(key, parts, &tag).await,
            // The answer to our own success may have been lost; then the upload is gone and the object there.
            Err(error @ (StoreError::NoSuchUpload | StoreError::Unknown(_) | StoreError::Precondition)) => {
                let gone = matches!(error, StoreError::Unknown(_)) && self.is_gone(key, id).await;
                match self.head(key).await {
                    Ok(meta) if is_ours(&meta, parts) => Ok(meta.version),
                    _ if gone => Err(StoreError::NoSuchUpload),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn send_complete(
        &self,
        key: &Key,
        id: &str,
        parts: &[Part],
        condition: &Condition,
    ) -> StoreResult<Version> {
        let list = parts
            .iter()
            .map(|part| {
                CompletedPart::builder().part_number(part.number.cast_signed()).e_tag(&part.tag).build()
            })
            .collect();
        let _permit = self.bulk_permit().await;
        let clients = self.clients().await?;
        let request = clients
            .bulk
            .complete_multipart_upload()
            .bucket(&self.target().bucket)
            .key(self.path(key))
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(list)).build());
        let bare_tags = self.quirks().bare_tags.load(Ordering::Relaxed);
        let plain = self.quirks().plain_completes.load(Ordering::Relaxed);
        let request = match condition {
            Condition::Absent if !plain => request.if_none_match("*"),
            Condition::Matches(version) if !plain => request.if_match(conditional::tag(version, bare_tags)),
            _ => request,
        };
        let mut call = request.customize();
        if *condition != Condition::Always {
            call = call.config_override(sent_once());
        }
        let answer =
            call.send().await.map_err(|error| gone(store_error("CompleteMultipartUpload", &error)))?;
        version(answer.e_tag())
    }

    /// Whether there is surely no such upload: moto and Ceph 16 answer 500 to the completion of one that was aborted.
    async fn is_gone(&self, key: &Key, id: &str) -> bool {
        let _permit = self.permit().await;
        let Ok(clients) = self.clients().await else { return false };
        let request = clients
            .metadata
            .list_parts()
            .bucket(&self.target().bucket)
            .key(self.path(key))
            .upload_id(id)
            .max_parts(1);
        let answer = request.send().await.map_err(|error| gone(store_error("ListParts", &error)));
        matches!(answer, Err(StoreError::NoSuchUpload))
    }

    /// A condition, by looking.
    async fn check(&self, key: &Key, condition: &Condition) -> StoreResult<()> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => matches!(self.head(key).await, Err(StoreError::NotFound)),
            Condition::Matches(version) => self.head(key).await.is_ok_and(|meta| meta.version == *version),
        };
        if holds { Ok(()) } else { Err(StoreError::Precondition) }
    }

    /// One request against stores that keep something else than they were sent.
    async fn verify(&self, key: &Key, parts: &[Part], written: &Version) -> StoreResult<Version> {
        let meta = self.head(key).await?;
        if bare(&written.0).is_empty() {
            // Ceph 16 completes and leaves the tag of its answer empty. What is there now may be somebody's who wrote after us.
            return if is_ours(&meta, parts) {
                Ok(meta.version)
            } else {
                Err(StoreError::Unknown(failure("CompleteMultipartUpload: no ETag in the answer")))
            };
        }
        let sent: u64 = parts.iter().map(|part| part.size).sum();
        if meta.version == *written && meta.size != sent {
            self.delete(key).await?;
            return Err(StoreError::Corrupt(format!(
                "{} bytes were uploaded and the S3 server keeps {}",
                sent, meta.size
            )));
        }
        Ok(written.clone())
    }

    pub(super) async fn abort_upload(&self, path: &str, id: &str) -> StoreResult<()> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        let request =
            clients.metadata.abort_multipart_upload().bucket(&self.target().bucket).key(path).upload_id(id);
        match request.send().await.map_err(|error| store_error("AbortMultipartUpload", &error)) {
            // Where uploads can't be aborted (s3rver), nobody can do more about it.
            Ok(_) | Err(StoreError::NoSuchUpload | StoreError::NotFound | StoreError::Unsupported(_)) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Aborts uploads below our prefix that began more than `age` ago: their process is dead.
    pub(super) async fn sweep_uploads(&self, age: Duration) -> StoreResult<u64> {
        let now = self.now();
        let mut swept = 0;
        let mut markers: (Option<String>, Option<String>) = (None, None);
        loop {
            let clients = self.clients().await?;
            let permit = self.permit().await;
            let answer = clients
                .metadata
                .list_multipart_uploads()
                .bucket(&self.target().bucket)
                .prefix(&self.target().prefix)
                .encoding_type(EncodingType::Url)
                .set_key_marker(markers.0.take())
                .set_upload_id_marker(markers.1.take())
                .send()
                .await
                .map_err(|error| store_error("ListMultipartUploads", &error));
            drop(permit);
            let answer = match answer {
                Err(StoreError::Unsupported(_)) => return Ok(swept),
                other => other?,
            };
            let encoded = answer.encoding_type() == Some(&EncodingType::Url);
            for upload in answer.uploads() {
                let (Some(path), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if now.since(timestamp(upload.initiated())) >= age {
                    self.abort_upload(&decode(path, encoded), id).await?;
                    swept += 1;
                }
            }
            if answer.is_truncated() != Some(true) || answer.next_key_marker().is_none() {
                return Ok(swept);
            }
            let key = answer.next_key_marker().map(|key| decode(key, encoded));
            markers = (key, answer.next_upload_id_marker().map(str::to_owned));
        }
    }
}

/// Some servers answer a plain 404 for an upload they don't know.
fn gone(error: StoreError) -> StoreError {
    if matches!(error, StoreError::NotFound) { StoreError::NoSuchUpload } else { error }
}

/// Whether the object is the one that these parts make: by its tag where tags are sums of sums, else by size and number of parts.
fn is_ours(meta: &ObjectMeta, parts: &[Part]) -> bool {
    let size: u64 = parts.iter().map(|part| part.size).sum();
    let tag = bare(&meta.version.0);
    let mut sums = md5::Md5::new();
    let plain = parts.iter().all(|part| match hex::decode(bare(&part.tag)) {
        Ok(sum) if sum.len() == 16 => {
            sums.update(&sum);
            true
        }
        _ => false,
    });
    let suffix = format!("-{}", parts.len());
    let exact = plain && tag == format!("{}{suffix}", hex::encode(sums.finalize()));
    exact || (meta.size == size && (tag.ends_with(&suffix) || !tag.contains('-')))
}

#[cfg(test)]
mod tests {
    use super::{Part, is_ours};
    use crate::core::time::Timestamp;
    use crate::storage::{ObjectMeta, Version};

    #[test]
    fn knows_its_own_upload_again() {
        let parts = [(1, "0cc175b9c0f1b6a831c399e269772661"), (2, "\"92eb5ffee6ae2fec3ad71c777531578f\"")]
            .map(|(number, tag)| Part { number, tag: tag.into(), size: 5 });
        let meta = |tag: &str, size| ObjectMeta {
            size,
            version: Version(tag.into()),
            modified: Timestamp::default(),
            content_type: None,
            user: std::collections::BTreeMap::new(),
        };
        // md5(md5("a") ‖ md5("b"))
        assert!(is_ours(&meta("\"96a8a9a4bb37a3d1a5f1d4e8d3a2c0f7-2\"", 10), &parts));
        assert!(!is_ours(&meta("\"96a8a9a4bb37a3d1a5f1d4e8d3a2c0f7-3\"", 10), &parts));
        assert!(!is_ours(&meta("\"96a8a9a4bb37a3d1a5f1d4e8d3a2c0f7-2\"", 11), &parts));
    }
}
