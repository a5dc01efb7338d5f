//! Shared documents: typed metadata that is read often, cached with its version, and changed only by [`super::update`].

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::Version;
use crate::core::error::{Error, Result};

/// A document that is whole in memory while it is used: a packument, a tag list, a token record.
pub trait Document: Clone + Default + Send + Sync + 'static {
    /// Content type it is stored with.
    const CONTENT_TYPE: &'static str;
    /// Largest stored size in bytes; beyond it a change is refused with 413.
    const LIMIT: u64;
    /// What to call it in a 413.
    const NAME: &'static str;

    /// Reads the stored bytes. Lenient: other programs wrote some of them (a leading byte order mark is cut off before).
    fn parse(bytes: &Bytes) -> Result<Self>;

    /// The bytes to store.
    fn serialize(&self) -> Result<Bytes>;
}

/// A document that lies there as JSON, just as serde has it.
pub trait JsonDocument: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static {
    /// See [`Document::LIMIT`].
    const LIMIT: u64;
    /// What to call it, without an article.
    const NAME: &'static str;
    /// Whether nothing of it may show in an error: serde's messages quote what they stumble over.
    const SECRET: bool = false;
}

impl<D: JsonDocument> Document for D {
    const CONTENT_TYPE: &'static str = "application/json";
    const LIMIT: u64 = D::LIMIT;
    const NAME: &'static str = D::NAME;

    fn parse(bytes: &Bytes) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let damaged = Error::internal(format!("the stored {} does not parse", D::NAME));
            if D::SECRET { damaged } else { damaged.with_source(error) }
        })
    }

    fn serialize(&self) -> Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| {
            let failed = Error::internal(format!("the {} does not serialise", D::NAME));
            if D::SECRET { failed } else { failed.with_source(error) }
        })
    }
}

/// A document as it was loaded.
#[derive(Debug)]
pub struct Loaded<D> {
    /// The document.
    pub document: D,
    /// Version of the stored object, the key to everything derived from it.
    pub version: Version,
    /// Stored size in bytes.
    pub size: u64,
}

/// What a change did to the document, and what to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<R> {
    /// The document changed: store it.
    Changed(R),
    /// It is as it should be already: store nothing.
    Unchanged(R),
}
