//! What broken uploads have left in the staging folder, on any store.

use std::time::Duration;

use crate::core::error::Result;
use crate::core::time::Clock;
use crate::storage::{Prefix, STAGING, Storage};

/// One page of a listing.
const PAGE: usize = 1000;

/// Removes staged objects that nobody has written to for `age`, which must be longer than an upload may rest. Returns how many.
pub async fn sweep_staging(storage: &Storage, clock: &Clock, age: Duration) -> Result<u64> {
    let prefix = Prefix::new(STAGING)?;
    let (mut after, mut swept) = (None, 0);
    loop {
        let page = storage.store().list(&prefix, after.as_deref(), PAGE, false).await?;
        let now = clock.now();
        let old = page.objects.into_iter().filter(|one| now.since(one.modified) >= age);
        let keys: Vec<_> = old.map(|one| one.key).collect();
        if !keys.is_empty() {
            storage.store().delete_many(&keys).await?;
            swept += keys.len() as u64;
        }
        let Some(next) = page.next else { return Ok(swept) };
        after = Some(next);
    }
}
