//! Bodies in both directions: nothing, bytes, a stream, or what a host's body parser already made of them.

use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use sync_wrapper::SyncWrapper;

use super::error::{Error, Kind, Result};
use super::park::{Park, Reopen};

/// A stream of chunks. An `Err` item is final: what came before it is not the whole body.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What a request or response carries.
#[derive(Default)]
pub enum Body {
    /// Nothing at all.
    #[default]
    Empty,
    /// All of it, in memory already.
    Bytes(Bytes),
    /// Chunk by chunk; the length if it is known beforehand. A stream that ends early or late against it is an error.
    Stream {
        /// The chunks. Wrapped, so that a handler may keep `&Request` over an await: the stream alone is no `Sync`.
        stream: SyncWrapper<ByteStream>,
        /// Announced length in bytes.
        length: Option<u64>,
        /// Lets its source go while nobody reads, if that can be opened again.
        park: Option<Park>,
    },
    /// A JSON document that the host's body parser has parsed: its bytes are not the client's any more.
    Json(GivenJson),
    /// A form that the host's body parser has taken apart.
    Form(Vec<FormField>),
}

/// A JSON body given as an object (Express with a JSON parser).
#[derive(Debug, Clone, Default)]
pub struct GivenJson {
    /// The document as text, without the long strings below.
    pub text: Bytes,
    /// The strings that the adapter took out because they are large: `_attachments[key].data` of an npm publish, by key.
    pub attachments: Vec<(String, Bytes)>,
}

/// One field of a form given as an object. A repeated field comes once per value.
#[derive(Debug, Clone)]
pub struct FormField {
    /// Field name.
    pub name: String,
    /// File name, when the field is a file.
    pub filename: Option<String>,
    /// Its content.
    pub value: Bytes,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length:?})"),
            Self::Json(json) => write!(f, "Json({})", json.text.len()),
            Self::Form(fields) => write!(f, "Form({})", fields.len()),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Bytes(bytes) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl Body {
    /// A stream, with its length if known.
    pub fn stream(stream: impl Stream<Item = Result<Bytes>> + Send + 'static, length: Option<u64>) -> Self {
        Self::Stream { stream: SyncWrapper::new(Box::pin(stream)), length, park: None }
    }

    /// A stream of `length` bytes whose source is opened again when it had to be let go.
    pub fn reopening(stream: ByteStream, length: u64, reopen: Reopen) -> Self {
        let (park, stream) = Park::new(stream, length, reopen);
        Self::Stream { stream: SyncWrapper::new(stream), length: Some(length), park: Some(park) }
    }

    /// What lets its source go, if it has one that can be opened again. The rest of the body is not lost by that.
    pub fn park(&self) -> Option<Park> {
        match self {
            Self::Stream { park, .. } => park.clone(),
            _ => None,
        }
    }

    /// With something around its stream; other forms stay as they are.
    #[must_use]
    pub fn wrapped<S>(self, around: impl FnOnce(ByteStream) -> S) -> Self
    where
        S: Stream<Item = Result<Bytes>> + Send + 'static,
    {
        match self {
            Self::Stream { stream, length, park } => {
                let stream = SyncWrapper::new(Box::pin(around(stream.into_inner())) as ByteStream);
                Self::Stream { stream, length, park }
            }
            other => other,
        }
    }

    /// Its length in bytes, if known. Given forms have none.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream { length, .. } => *length,
            Self::Json(_) | Self::Form(_) => None,
        }
    }

    /// Whether the client's exact bytes are lost because the host parsed them. Digests can't be checked then.
    pub fn is_parsed(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Form(_))
    }

    /// The body as a stream that fails unless exactly the announced length arrives: a cut body never looks complete.
    ///
    /// # Errors
    /// 400 for a body that the host has parsed: the exact bytes are gone.
    pub fn into_stream(self) -> Result<ByteStream> {
        match self {
            Self::Empty => Ok(Box::pin(stream::empty())),
            Self::Bytes(bytes) => Ok(Box::pin(stream::once(async { Ok(bytes) }))),
            Self::Stream { stream, length: None, .. } => Ok(stream.into_inner()),
            Self::Stream { stream, length: Some(length), .. } => Ok(exactly(stream.into_inner(), length)),
            Self::Json(_) | Self::Form(_) => Err(Error::invalid(
                "this request needs its body as it was sent; mount the registry before any body parser, or pass `rawBody`",
            )),
        }
    }

    /// The whole body, at most `limit` bytes of it. `what` names it in the 413.
    pub async fn into_bytes(self, what: &str, limit: u64) -> Result<Bytes> {
        if self.length().is_some_and(|length| length > limit) {
            return Err(Error::too_large(what, limit));
        }
        match self {
            Self::Empty => Ok(Bytes::new()),
            Self::Bytes(bytes) => Ok(bytes),
            Self::Json(json) if json.text.len() as u64 <= limit => Ok(json.text),
            Self::Json(_) => Err(Error::too_large(what, limit)),
            body @ (Self::Stream { .. } | Self::Form(_)) => collect(body.into_stream()?, what, limit).await,
        }
    }
}

async fn collect(mut stream: ByteStream, what: &str, limit: u64) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if (so_far + chunk.len()) as u64 > limit {
            return Err(Error::too_large(what, limit));
        }
        // Most bodies that are collected come in one chunk: then nothing is copied.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn exactly(stream: ByteStream, length: u64) -> ByteStream {
    Box::pin(stream::unfold(Some((stream, length)), |state| async move {
        let (mut stream, left) = state?;
        match stream.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((stream, left))))
            }
            Some(Ok(_)) => Some((Err(cut("longer")), None)),
            Some(Err(error)) => Some((Err(error), None)),
            None if left == 0 => None,
            None => Some((Err(cut("shorter")), None)),
        }
    }))
}

fn cut(how: &str) -> Error {
    Error::new(Kind::Aborted, format!("the body is {how} than its announced length"))
}

#[cfg(test)]
mod tests {
    use super::{Body, Kind};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    fn chunks(sizes: &[usize], length: Option<u64>) -> Body {
        let list: Vec<_> = sizes.iter().map(|size| Ok(Bytes::from(vec![1; *size]))).collect();
        Body::stream(stream::iter(list), length)
    }

    #[tokio::test]
    async fn a_cut_or_overlong_body_is_an_error() {
        for sizes in [&[5, 4][..], &[5, 6], &[]] {
            let error = chunks(sizes, Some(10)).into_bytes("body", 100).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Aborted);
        }
        assert_eq!(chunks(&[5, 5], Some(10)).into_bytes("body", 100).await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn limits_hold_with_and_without_a_length() {
        for length in [None, Some(11)] {
            let error = chunks(&[5, 6], length).into_bytes("manifest", 10).await.unwrap_err();
            assert_eq!(error.kind(), Kind::TooLarge);
            assert!(error.message().contains("10 bytes"));
        }
    }

    #[tokio::test]
    async fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![3; 64]);
        let at = chunk.as_ptr();
        let body = Body::stream(stream::once(async { Ok(chunk) }), None);
        assert_eq!(body.into_bytes("body", 64).await.unwrap().as_ptr(), at);
        assert!(Body::Empty.into_stream().unwrap().next().await.is_none());
    }
}
