//! The cache of shared documents: parsed once per version, revalidated by version, bounded in bytes.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use moka::sync::Cache;

use super::document::{Document, Loaded};
use super::store::{GetOptions, Version};
use super::{Key, Storage, StoreError};
use crate::core::error::{Error, Result};

/// What the cache holds for a key.
#[derive(Clone)]
struct Entry {
    /// `Arc<Loaded<D>>` behind a type that the cache needn't know.
    loaded: Arc<dyn Any + Send + Sync>,
    version: Version,
    size: u64,
    checked: Instant,
}

pub(super) struct Documents {
    cache: Cache<Key, Entry>,
    ttl: Duration,
}

impl Documents {
    pub(super) fn new(bytes: u64, ttl: Duration) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            // A parsed document takes about twice its text; a key and its bookkeeping a few hundred bytes.
            .weigher(|_, entry: &Entry| u32::try_from(entry.size * 2 + 512).unwrap_or(u32::MAX))
            .build();
        Self { cache, ttl }
    }

    /// The newest document this process knows of, and whether it may be used without asking.
    fn cached<D: Document>(&self, key: &Key) -> Option<(Arc<Loaded<D>>, bool)> {
        let entry = self.cache.get(key)?;
        let fresh = entry.checked.elapsed() < self.ttl;
        entry.loaded.downcast::<Loaded<D>>().ok().map(|loaded| (loaded, fresh))
    }

    pub(super) fn insert<D: Document>(&self, key: &Key, loaded: &Arc<Loaded<D>>) {
        let entry = Entry {
            loaded: Arc::clone(loaded) as Arc<dyn Any + Send + Sync>,
            version: loaded.version.clone(),
            size: loaded.size,
            checked: Instant::now(),
        };
        self.cache.insert(key.clone(), entry);
    }

    pub(super) fn forget(&self, key: &Key) {
        self.cache.invalidate(key);
    }

    /// The version that is cached, for a conditional read.
    fn version(&self, key: &Key) -> Option<Version> {
        self.cache.get(key).map(|entry| entry.version)
    }
}

impl Storage {
    /// A shared document, from memory if it was checked within the metadata TTL; `None` if there is none.
    pub async fn document<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        match self.0.documents.cached(key) {
            Some((loaded, true)) => Ok(Some(loaded)),
            _ => self.document_revalidated(key).await,
        }
    }

    /// The document as the store has it now: one conditional read.
    pub async fn document_revalidated<D: Document>(&self, key: &Key) -> Result<Option<Arc<Loaded<D>>>> {
        let known = self.0.documents.cached::<D>(key).map(|(loaded, _)| loaded);
        let options = GetOptions {
            if_none_match: known.as_ref().and_then(|_| self.0.documents.version(key)),
            ..GetOptions::default()
        };
        match self.load(key, options).await {
            Ok(loaded) => {
                self.0.documents.insert(key, &loaded);
                Ok(Some(loaded))
            }
            Err(Missing::NotModified) => match known {
                Some(loaded) => {
                    self.0.documents.insert(key, &loaded);
                    Ok(Some(loaded))
                }
                None => Err(Error::internal("the store answered not modified to a plain read")),
            },
            Err(Missing::NotFound) => {
                self.0.documents.forget(key);
                Ok(None)
            }
            Err(Missing::Error(error)) => Err(error),
        }
    }

    /// Deletes a document, and forgets it here at once; other processes forget it within the metadata TTL. One that isn't there is fine.
    pub async fn delete_document(&self, key: &Key) -> Result<()> {
        self.0.store.delete(key).await?;
        self.0.documents.forget(key);
        Ok(())
    }

    /// Reads and parses a document, past the cache.
    async fn load<D: Document>(&self, key: &Key, options: GetOptions) -> Result<Arc<Loaded<D>>, Missing> {
        let found = match self.0.store.get(key, options).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Err(Missing::NotFound),
            Err(StoreError::NotModified) => return Err(Missing::NotModified),
            Err(error) => return Err(Missing::Error(error.into())),
        };
        let bytes = whole(found, D::NAME, D::LIMIT).await.map_err(Missing::Error)?;
        let loaded = parse(bytes.0, bytes.1).map_err(Missing::Error)?;
        Ok(Arc::new(loaded))
    }
}

enum Missing {
    NotFound,
    NotModified,
    Error(Error),
}

/// Reads a found object whole, within `limit`.
pub(super) async fn whole(found: super::Found, name: &str, limit: u64) -> Result<(Bytes, Version)> {
    if found.meta.size > limit {
        return Err(Error::internal(format!("the stored {name} is larger than the limit of {limit} bytes")));
    }
    let version = found.meta.version;
    let mut body = found.body;
    let mut bytes = bytes::BytesMut::with_capacity(found.meta.size as usize);
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    if bytes.len() as u64 != found.meta.size {
        return Err(Error::unavailable(format!("the stored {name} came incomplete; try again")));
    }
    Ok((bytes.freeze(), version))
}

pub(super) fn parse<D: Document>(bytes: Bytes, version: Version) -> Result<Loaded<D>> {
    let size = bytes.len() as u64;
    let bytes = if bytes.starts_with(b"\xef\xbb\xbf") { bytes.slice(3..) } else { bytes };
    Ok(Loaded { document: D::parse(&bytes)?, version, size })
}
