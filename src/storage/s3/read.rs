//! Reading: frames are passed on as they come, and a read that breaks midway goes on where it was.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as SdkStream;
use bytes::Bytes;
use futures_util::stream;

use super::bucket::{Bucket, Headers};
use super::error::{failure, store_error};
use crate::core::error::Error;
use crate::core::range::ByteRange;
use crate::storage::{Found, GetOptions, Key, Store, StoreError, StoreResult, Version};

/// How long the server may be silent within a body while the reader is waiting.
const IDLE: Duration = Duration::from_secs(30);
/// The same for the last megabyte: a server that cut a body short (s3rver, when the object is overwritten) keeps the connection open.
const IDLE_SMALL: Duration = Duration::from_secs(5);
/// Breaks in a row without a byte in between.
const BREAKS: u32 = 5;
/// Breaks of one read in all.
const BREAKS_IN_ALL: u32 = 30;
/// First pause after a break; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

impl Bucket {
    pub(super) async fn read(&self, key: &Key, options: GetOptions) -> StoreResult<Found> {
        if let Some((start, Some(end))) = options.range
            && end <= start
        {
            return Err(StoreError::Range { size: self.head(key).await?.size });
        }
        let path = self.path(key);
        let answer = match self.open(&path, &options).await {
            // Not every 416 says how large the object is.
            Err(StoreError::Range { size: 0 }) => {
                return Err(StoreError::Range { size: self.head(key).await?.size });
            }
            other => other?,
        };
        let (got, size) = extent(&answer)?;
        let headers = Headers {
            size,
            tag: answer.e_tag(),
            modified: answer.last_modified(),
            content_type: answer.content_type(),
            user: answer.metadata(),
        };
        let meta = headers.meta()?;
        // Several servers ignore conditions on GET: compare what came.
        if options.if_none_match.is_some_and(|version| version == meta.version) {
            return Err(StoreError::NotModified);
        }
        if options.if_match.is_some_and(|version| version != meta.version) {
            return Err(StoreError::Precondition);
        }
        let range = wanted(options.range, size)?;
        if got.start > range.start || got.end < range.end {
            return Err(StoreError::Failed(failure("GetObject: the server answered with another range")));
        }
        let reader = Reader {
            bucket: self.clone(),
            path,
            version: meta.version.clone(),
            skip: range.start - got.start,
            next: range.start,
            end: range.end,
            body: Some(answer.body),
            breaks: 0,
            breaks_in_all: 0,
        };
        Ok(Found { meta, range, body: Box::pin(stream::unfold(Some(reader), step)) })
    }

    /// One GET, up to its headers.
    async fn open(&self, path: &str, options: &GetOptions) -> StoreResult<GetObjectOutput> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        let range = options.range.map(|(start, end)| match end {
            Some(end) => format!("bytes={start}-{}", end - 1),
            None => format!("bytes={start}-"),
        });
        clients
            .reads
            .get_object()
            .bucket(&self.target().bucket)
            .key(path)
            .set_range(range)
            .set_if_none_match(options.if_none_match.as_ref().map(|version| version.0.clone()))
            .set_if_match(options.if_match.as_ref().map(|version| version.0.clone()))
            .send()
            .await
            .map_err(|error| store_error("GetObject", &error))
    }
}

/// Which bytes the answer carries, and the size of the whole object.
fn extent(answer: &GetObjectOutput) -> StoreResult<(ByteRange, u64)> {
    let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
    match answer.content_range() {
        None => {
            let size =
                length.ok_or_else(|| StoreError::Failed(failure("GetObject: the server sent no length")))?;
            Ok((ByteRange { start: 0, end: size }, size))
        }
        // s3rver answers `bytes 0-0/0` for any range of an empty object.
        Some(text) if text.ends_with("/0") => Err(StoreError::Range { size: 0 }),
        Some(text) => parse_content_range(text)
            .ok_or_else(|| StoreError::Failed(failure("GetObject: a Content-Range that says nothing"))),
    }
}

/// `bytes 5-9/20`.
fn parse_content_range(text: &str) -> Option<(ByteRange, u64)> {
    let (range, size) = text.strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end) = (first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?);
    let size = size.parse().ok()?;
    (start < end && end <= size).then_some((ByteRange { start, end }, size))
}

/// The range asked for, fitted to the object.
fn wanted(range: Option<(u64, Option<u64>)>, size: u64) -> StoreResult<ByteRange> {
    let Some((start, end)) = range else { return Ok(ByteRange { start: 0, end: size }) };
    let end = end.unwrap_or(size).min(size);
    if start < end { Ok(ByteRange { start, end }) } else { Err(StoreError::Range { size }) }
}

/// A body on its way.
struct Reader {
    bucket: Bucket,
    path: String,
    version: Version,
    /// Bytes to drop from the front: the server ignored the range.
    skip: u64,
    next: u64,
    end: u64,
    body: Option<SdkStream>,
    breaks: u32,
    breaks_in_all: u32,
}

async fn step(state: Option<Reader>) -> Option<(Result<Bytes, Error>, Option<Reader>)> {
    let mut reader = state?;
    match reader.chunk().await {
        Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

impl Reader {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while self.next < self.end {
            let Some(body) = &mut self.body else {
                self.reopen().await?;
                continue;
            };
            let idle = if self.end - self.next > 1 << 20 { IDLE } else { IDLE_SMALL };
            // The clock runs only while somebody waits for bytes: a slow reader is no silent server.
            let cause = match tokio::time::timeout(idle, body.next()).await {
                Ok(Some(Ok(chunk))) => {
                    if let Some(chunk) = self.take(chunk) {
                        return Ok(Some(chunk));
                    }
                    continue;
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "it ended early".to_owned(),
                Err(_) => "it fell silent".to_owned(),
            };
            self.broken(cause)?;
        }
        Ok(None)
    }

    /// What of a frame belongs to the range.
    fn take(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        let mut chunk = chunk.split_off(skipped as usize);
        chunk.truncate(usize::try_from(self.end - self.next).unwrap_or(usize::MAX));
        if chunk.is_empty() {
            return None;
        }
        self.next += chunk.len() as u64;
        self.breaks = 0;
        Some(chunk)
    }

    fn broken(&mut self, cause: String) -> Result<(), Error> {
        self.body = None;
        self.breaks += 1;
        self.breaks_in_all += 1;
        if self.breaks > BREAKS || self.breaks_in_all > BREAKS_IN_ALL {
            return Err(Error::unavailable("the storage broke off while it was sending; try again")
                .with_source(failure(cause)));
        }
        tracing::debug!(cause, at = self.next, end = self.end, "a read broke off and goes on");
        Ok(())
    }

    /// Goes on at the next byte, and only with the very same object.
    async fn reopen(&mut self) -> Result<(), Error> {
        tokio::time::sleep(PAUSE * 2_u32.pow(self.breaks.saturating_sub(1).min(6))).await;
        let options = GetOptions {
            range: Some((self.next, Some(self.end))),
            if_match: Some(self.version.clone()),
            ..GetOptions::default()
        };
        let changed = || Error::unavailable("the file was replaced while it was sent; try again");
        match self.bucket.open(&self.path, &options).await {
            Ok(answer) => {
                let same = super::bucket::version(answer.e_tag())? == self.version;
                let (got, _) = extent(&answer)?;
                if !same || got.start > self.next {
                    return Err(changed());
                }
                self.skip = self.next - got.start;
                self.body = Some(answer.body);
                Ok(())
            }
            Err(StoreError::Precondition | StoreError::NotFound | StoreError::Range { .. }) => Err(changed()),
            Err(error) if error.is_transient() => self.broken(error.to_string()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, parse_content_range, wanted};

    #[test]
    fn reads_content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/20"), Some((ByteRange { start: 5, end: 10 }, 20)));
        for bad in ["bytes */20", "5-9/20x", "bytes 9-5/20", "bytes 5-20/20", "bytes 5-9/*", ""] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn fits_ranges() {
        assert_eq!(wanted(None, 0).unwrap(), ByteRange { start: 0, end: 0 });
        assert_eq!(wanted(Some((5, Some(99))), 20).unwrap(), ByteRange { start: 5, end: 20 });
        assert!(wanted(Some((20, None)), 20).is_err() && wanted(Some((0, Some(0))), 20).is_err());
    }
}
