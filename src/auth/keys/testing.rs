//! Sources of keys that ask nobody.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Document, KeySource, Lookup};
use crate::core::error::{Error, Result};

/// Nothing can be fetched.
pub(crate) struct Nowhere;

impl Nowhere {
    pub(crate) fn source() -> Arc<dyn KeySource> {
        Arc::new(Self)
    }
}

#[async_trait]
impl KeySource for Nowhere {
    async fn fetch(&self, lookup: &Lookup) -> Result<Document> {
        Err(Error::unavailable(format!("{} is nowhere", lookup.url)))
    }
}
