//! Writing and deleting. A body is always a buffer that can be sent again; a one-shot stream could not be retried.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextMut, InterceptorContext};
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use digest::Digest;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::{Body, Frame, SizeHint};

use super::bucket::{Bucket, SMALL, version};
use super::conditional;
use super::error::{Answer, failure, never_connected, store_error};
use crate::storage::{Chunks, Condition, Key, PutOptions, StoreError, StoreResult, Version};

/// Most keys of one `DeleteObjects`.
const DELETES: usize = 1000;
/// Single deletions at the same time, where a server has no `DeleteObjects`.
const SINGLE_DELETES: usize = 16;

/// For conditional writes: whether one that got no answer has happened is decided by reading back, so it is sent once. While a server is
/// too busy to take connections nothing is sent, and it is tried again as anything else is.
pub(super) fn sent_once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_classifier(OnlyUnsent)
}

/// Forbids another attempt once a connection was there.
#[derive(Debug)]
struct OnlyUnsent;

impl ClassifyRetry for OnlyUnsent {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err);
        match error.and_then(|error| error.as_connector_error()) {
            Some(error) if never_connected(error) => RetryAction::transient_error(),
            _ => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "OnlyUnsent"
    }
}

impl Bucket {
    pub(super) async fn write(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        let small = data.len() as u64 <= SMALL;
        let payload = self.payload(data).await?;
        let _permit = if small { (None, self.permit().await) } else { self.bulk_permit().await };
        let clients = self.clients().await?;
        let client = if small { &clients.metadata } else { &clients.bulk };
        let mut request = client
            .put_object()
            .bucket(&self.target().bucket)
            .key(self.path(key))
            .content_length(payload.length)
            .body(payload.body)
            .set_content_type(options.content_type);
        if !options.user.is_empty() {
            request = request.set_metadata(Some(options.user.into_iter().collect()));
        }
        let bare_tags = self.quirks().bare_tags.load(Ordering::Relaxed);
        request = match &options.condition {
            Condition::Always => request,
            Condition::Absent => request.if_none_match("*"),
            Condition::Matches(version) => request.if_match(conditional::tag(version, bare_tags)),
        };
        let mut call = request.customize().interceptor(payload.signing);
        if options.condition != Condition::Always {
            call = call.config_override(sent_once());
        }
        match call.send().await.map_err(|error| store_error("PutObject", &error)) {
            Ok(answer) => version(answer.e_tag()),
            // AWS says so when the object of an `If-Match` is gone.
            Err(StoreError::NotFound) => Err(StoreError::Precondition),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_one(&self, key: &Key) -> StoreResult<()> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        let request = clients.metadata.delete_object().bucket(&self.target().bucket).key(self.path(key));
        match request.send().await.map_err(|error| store_error("DeleteObject", &error)) {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_all(&self, keys: &[Key]) -> StoreResult<()> {
        for batch in keys.chunks(DELETES) {
            if batch.len() < 2 || self.quirks().single_deletes.load(Ordering::Relaxed) {
                self.delete_each(batch).await?;
            } else {
                self.delete_batch(batch).await?;
            }
        }
        Ok(())
    }

    async fn delete_each(&self, keys: &[Key]) -> StoreResult<()> {
        stream::iter(keys.to_vec())
            .map(|key| async move { self.delete_one(&key).await })
            .buffer_unordered(SINGLE_DELETES)
            .try_collect()
            .await
    }

    async fn delete_batch(&self, keys: &[Key]) -> StoreResult<()> {
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            let object = ObjectIdentifier::builder().key(self.path(key)).build();
            delete = delete.objects(object.map_err(|error| StoreError::Failed(error.into()))?);
        }
        let delete = delete.build().map_err(|error| StoreError::Failed(error.into()))?;
        let permit = self.permit().await;
        let clients = self.clients().await?;
        let request = clients.metadata.delete_objects().bucket(&self.target().bucket).delete(delete);
        // The SDK sends a CRC32; MinIO before 2025 and the stores of Alibaba, Tencent and Huawei want the MD5.
        let call = request.customize().mutate_request(|request| {
            let sum = request.body().bytes().map(|body| BASE64_STANDARD.encode(md5::Md5::digest(body)));
            if let Some(sum) = sum {
                request.headers_mut().insert("content-md5", sum);
            }
        });
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) if matches!(Answer::of(&error).status, 400 | 405 | 501) => {
                drop(permit);
                tracing::info!("the S3 server does not take DeleteObjects; deleting one by one from now on");
                self.quirks().single_deletes.store(true, Ordering::Relaxed);
                return self.delete_each(keys).await;
            }
            Err(error) => return Err(store_error("DeleteObjects", &error)),
        };
        drop(permit);
        let failed: Vec<&str> = answer
            .errors()
            .iter()
            .filter(|error| error.code() != Some("NoSuchKey"))
            .filter_map(|error| error.key())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        // Alone each gets its own retries and its own error.
        let again: Vec<Key> =
            keys.iter().filter(|key| failed.contains(&self.path(key).as_str())).cloned().collect();
        if again.is_empty() {
            let first = answer.errors().first().and_then(|error| error.code()).unwrap_or_default();
            return Err(StoreError::Failed(failure(format!("DeleteObjects: {first}"))));
        }
        self.delete_each(&again).await
    }

    /// A body that can be sent again, and how it is signed.
    pub(super) async fn payload(&self, data: Chunks) -> StoreResult<Payload> {
        let length = (data.len() as u64).cast_signed();
        if data.len() as u64 <= SMALL {
            return Ok(Payload {
                body: ByteStream::from(data.into_bytes()),
                length,
                signing: BodyHash(None),
            });
        }
        let pieces: Arc<[Bytes]> = data.pieces().into();
        // TLS protects the body on its way; over plain HTTP the signature must. AWS wants its own checksum trailers.
        let hash = if self.target().tls || self.target().aws {
            None
        } else {
            let pieces = Arc::clone(&pieces);
            let hash = tokio::task::spawn_blocking(move || {
                let mut hasher = sha2::Sha256::new();
                pieces.iter().for_each(|piece| hasher.update(piece));
                hex::encode(hasher.finalize())
            });
            Some(hash.await.map_err(|error| StoreError::Failed(error.into()))?)
        };
        let body = SdkBody::retryable(move || {
            SdkBody::from_body_1_x(Pieces { list: Arc::clone(&pieces), at: 0, left: length.unsigned_abs() })
        });
        Ok(Payload { body: ByteStream::new(body), length, signing: BodyHash(hash) })
    }
}

/// A body for the SDK.
pub(super) struct Payload {
    pub(super) body: ByteStream,
    pub(super) length: i64,
    pub(super) signing: BodyHash,
}

/// Signs a body by a SHA-256 that was computed off the async threads.
#[derive(Debug, Clone)]
pub(super) struct BodyHash(Option<String>);

#[dyn_dispatch_hint]
impl Intercept for BodyHash {
    fn name(&self) -> &'static str {
        "BodyHash"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(hash) = &self.0 {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(hash.clone()));
        }
        Ok(())
    }
}

/// Pieces as an HTTP body, without copying.
struct Pieces {
    list: Arc<[Bytes]>,
    at: usize,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.list.get(self.at).cloned();
        self.at += 1;
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::net::TcpListener;

    use crate::core::secret::Secret;
    use crate::core::time::Clock;
    use crate::storage::s3::S3Descriptor;
    use crate::storage::s3::bucket::Bucket;
    use crate::storage::{Condition, Key, PutOptions, Store, StoreError};

    /// How many requests a conditional write makes to who listens there.
    async fn attempts(endpoint: String) -> u64 {
        let descriptor = S3Descriptor {
            endpoint,
            use_ssl: Some(false),
            access_key: Some(Secret::new("key")),
            access_secret: Some(Secret::new("secret")),
            bucket_name: "bucket".into(),
            ..S3Descriptor::default()
        };
        let bucket = Bucket::new(descriptor.resolve().unwrap(), descriptor.roots(), Clock::real());
        let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        let written = bucket.put(&Key::new("a").unwrap(), Bytes::from_static(b"a").into(), options).await;
        assert!(matches!(written, Err(StoreError::Unknown(_))), "{written:?}");
        bucket.requests()
    }

    #[tokio::test(start_paused = true)]
    async fn a_conditional_write_is_tried_again_only_while_nothing_was_sent() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = socket.local_addr().unwrap().to_string();
        let hang_up = async {
            loop {
                drop(socket.accept().await);
            }
        };
        let sent = tokio::select! {
            count = attempts(endpoint.clone()) => count,
            () = hang_up => 0,
        };
        assert_eq!(sent, 1, "it may have been written");
        drop(socket);
        assert_eq!(attempts(endpoint).await, 3, "nobody listens");
    }
}
