//! Read, change, write if unchanged, try again: the only way to change a shared document.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::document::{Document, Edit, Loaded};
use super::documents::{parse, whole};
use super::store::{Condition, GetOptions, PutOptions};
use super::{Key, Storage, StoreError};
use crate::core::error::{Error, Result};

/// Changes under way in this process, by key.
#[derive(Default)]
pub(super) struct Updates {
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

/// Rounds before a change gives up with 503.
const ROUNDS: usize = 15;

impl Storage {
    /// Changes the document under `key` with `change`, which sees the newest one ([`Default`] if there is none) and may run several times:
    /// it must be pure, and must take finding its own effect already there for success. An `Err` leaves everything as it was.
    ///
    /// Answers what `change` answers, and the stored size if something was written.
    ///
    /// # Errors
    /// What `change` refuses with; 413 beyond the document's limit; 503 when the key stays contended.
    pub async fn update<D, R, F>(&self, key: &Key, change: F) -> Result<(R, Option<u64>)>
    where
        D: Document,
        R: Send + 'static,
        F: Fn(&mut D) -> Result<Edit<R>> + Send + Sync + 'static,
    {
        let lock = Arc::clone(self.0.updates.locks.lock().entry(key.clone()).or_default());
        let _turn = lock.lock().await;
        for _ in 0..ROUNDS {
            let (mut document, condition) = match self.0.store.get(key, GetOptions::default()).await {
                Ok(found) => {
                    let (bytes, version) = whole(found, D::NAME, u64::MAX).await?;
                    let loaded: Loaded<D> = parse(bytes, version)?;
                    (loaded.document, Condition::Matches(loaded.version))
                }
                Err(StoreError::NotFound) => (D::default(), Condition::Absent),
                Err(error) => return Err(error.into()),
            };
            let answer = match change(&mut document)? {
                Edit::Unchanged(answer) => return Ok((answer, None)),
                Edit::Changed(answer) => answer,
            };
            let bytes = document.serialize()?;
            let size = bytes.len() as u64;
            if size > D::LIMIT {
                return Err(Error::too_large(D::NAME, D::LIMIT));
            }
            let options = PutOptions {
                condition,
                content_type: Some(D::CONTENT_TYPE.to_owned()),
                ..PutOptions::default()
            };
            match self.0.store.put(key, bytes.into(), options).await {
                Ok(version) => {
                    self.0.documents.insert(key, &Arc::new(Loaded { document, version, size }));
                    return Ok((answer, Some(size)));
                }
                Err(StoreError::Precondition | StoreError::Conflict | StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("too many changes to this document at the same time; try again"))
    }
}
