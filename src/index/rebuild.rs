//! Makes the index agree with the bucket: enters what was there before it, and what a process that died did not come to enter.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Change, Index};
use crate::core::error::Result;

/// Names that are looked at at the same time.
const AT_ONCE: usize = 16;
/// Entries of one import.
const BATCH: usize = 5000;

/// A protocol's view of its own bucket.
#[async_trait]
pub trait Source: Send + Sync {
    /// One page of names in the bucket, with where to go on. Any order.
    async fn names(&self, after: Option<String>) -> Result<(Vec<String>, Option<String>)>;

    /// The state of one name as a change; `None` if nothing is there.
    async fn change(&self, name: &str) -> Result<Option<Change>>;
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Names in the bucket.
    pub names: u64,
    /// Of these, entered now.
    pub entered: u64,
    /// Names that were in the index and are no more in the bucket.
    pub removed: u64,
}

/// Enters what is missing and removes what is gone. `progress` hears how many names were looked at.
pub async fn reconcile(
    index: &Index,
    source: &dyn Source,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Reconciled> {
    let mut done = Reconciled::default();
    let mut after = None;
    let mut batch = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let (names, next) = source.names(after).await?;
        let mut unknown = Vec::new();
        for name in names.into_iter().filter(|name| seen.insert(name.clone())) {
            done.names += 1;
            if !index.contains(&name).await? {
                unknown.push(name);
            }
        }
        let looks: Vec<_> = unknown.iter().map(|name| source.change(name)).collect();
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(change) = looks.try_next().await? {
            batch.extend(change);
            if batch.len() >= BATCH {
                done.entered += enter(index, &mut batch).await?;
            }
        }
        progress(done.names);
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    done.entered += enter(index, &mut batch).await?;
    done.removed = remove_gone(index, source, &seen).await?;
    index.log.complete().await?;
    Ok(done)
}

/// Makes the index anew.
pub async fn rebuild(
    index: &Index,
    source: &dyn Source,
    progress: impl FnMut(u64) + Send,
) -> Result<Reconciled> {
    index.log.clear().await?;
    index.forget().await;
    reconcile(index, source, progress).await
}

async fn enter(index: &Index, batch: &mut Vec<Change>) -> Result<u64> {
    if batch.is_empty() {
        return Ok(0);
    }
    batch.sort_by(|one, other| one.name.cmp(&other.name));
    batch.dedup_by(|one, other| one.name == other.name);
    index.log.import(std::mem::take(batch)).await
}

async fn remove_gone(index: &Index, source: &dyn Source, seen: &HashSet<String>) -> Result<u64> {
    let mut removed = 0;
    let mut after: Option<Arc<str>> = None;
    loop {
        let page = index.page(after.as_deref(), 0, 1000).await?;
        let Some(last) = page.last().cloned() else { return Ok(removed) };
        for name in page.iter().filter(|name| !seen.contains(name.as_ref())) {
            // It may have come while the bucket was listed.
            if source.change(name).await?.is_none() {
                let event = "delete".to_owned();
                let change = Change { name: name.to_string(), event, gone: true, ..Change::default() };
                index.log.append(vec![change]).await?;
                removed += 1;
            }
        }
        after = Some(last);
    }
}
