//! A document that no single answer of an upstream is: what a HEAD says, a list that comes in pages, one thing or else another.
//!
//! It is kept, renewed and served stale as any other; only how its text comes about is the protocol's.

use async_trait::async_trait;
use bytes::Bytes;

use super::exchange::Upstream;
use crate::core::error::Result;

/// Makes the text of a document of an upstream's answers, with [`Upstreams::head`](super::Upstreams::head) and
/// [`Upstreams::ask`](super::Upstreams::ask).
#[async_trait]
pub trait Gather: std::fmt::Debug + Send + Sync {
    /// The text; `None` if the upstream has no such thing. `known` is the tag of the text that is here.
    async fn gather(&self, upstream: &Upstream, known: Option<&str>) -> Result<Option<Gathered>>;
}

/// What came of it.
#[derive(Debug)]
pub struct Gathered {
    /// The text.
    pub text: Bytes,
    /// Says what the text says: with the same one, what is here stays, and is fresh again.
    pub tag: String,
}
