//! The promises of [`Store`], one named check each. Every backend passes the same suite: memory and local in the unit tests, S3
//! servers from `tests/` with the feature `test-support`.
//!
//! A check works below a prefix of its own, so that checks can run on one bucket, at once and again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod conditions;
mod lists;
mod objects;
mod uploads;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;

use super::store::{CasLevel, Chunks, GetOptions, ObjectMeta, PutOptions, Store};
use super::{Key, Prefix, StoreError};
use crate::core::id;

/// A check: a name that says what is promised, the conditional writes it needs, and how it is shown.
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    /// The weakest level of conditional writes at which it is.
    pub needs: CasLevel,
    run: fn(Area) -> BoxFuture<'static, ()>,
}

macro_rules! checks {
    ($($room:ident: $needs:ident { $($name:ident)* })*) => {
        &[$($(Check { name: stringify!($name), needs: CasLevel::$needs, run: |area| Box::pin($room::$name(area)) },)*)*]
    };
}

/// All checks.
pub const CHECKS: &[Check] = checks! {
    objects: L2 {
        what_is_put_is_read
        nothing_is_not_found
        an_overwrite_has_another_version
        a_range_is_cut_to_the_object
        an_unchanged_object_is_not_sent_again
        a_read_goes_on_only_in_the_same_version
        an_empty_object_is_an_object
        any_key_is_kept_apart
        deleting_is_final_and_idempotent
        many_are_deleted_at_once
        a_copy_has_bytes_and_metadata
        a_rename_leaves_nothing_behind
        a_reader_never_sees_a_mixture
        an_open_read_outlives_the_object
    }
    conditions: L1 {
        only_the_first_creates
        one_of_many_creators_wins
    }
    conditions: L0 {
        only_the_known_version_is_replaced
        no_replacement_is_lost
        nothing_is_renamed_over_an_object
    }
    lists: L2 {
        a_list_is_in_byte_order
        a_list_goes_on_after_any_key
        a_list_by_folder_sums_up
        a_prefix_need_not_end_at_a_slash
    }
    uploads: L2 {
        parts_in_any_order_make_the_object
        a_part_stored_again_replaces_the_first
        an_aborted_upload_leaves_nothing
        an_aborted_upload_takes_no_part
        an_aborted_upload_is_not_completed
        an_unknown_upload_is_refused
        parts_can_be_flushed_and_gone_on_with
        a_large_object_is_streamed
    }
    uploads: L0 {
        completing_checks_the_condition
    }
};

impl Check {
    /// Whether a store of this level has to pass it.
    pub fn applies(&self, level: CasLevel) -> bool {
        let rank = |level| match level {
            CasLevel::L0 => 0,
            CasLevel::L1 => 1,
            CasLevel::L2 => 2,
        };
        rank(level) <= rank(self.needs)
    }

    /// Runs it; panics when the promise does not hold.
    pub async fn run(&self, store: Arc<dyn Store>) {
        let prefix = format!("suite/{}/", id::uuid());
        (self.run)(Area { store, prefix }).await;
    }
}

/// Runs every check that applies to the store's level but those in `except`, and panics with the names of all that failed. `except`
/// names checks that a known server is known to fail; one that is no check's name is an error.
pub async fn run(store: &Arc<dyn Store>, except: &[&str]) {
    let unknown: Vec<_> =
        except.iter().filter(|name| CHECKS.iter().all(|check| check.name != **name)).collect();
    assert!(unknown.is_empty(), "no such checks: {unknown:?}");
    let mut failed = Vec::new();
    for check in CHECKS.iter().filter(|check| check.applies(store.capabilities().cas)) {
        let outcome = tokio::spawn(check.run(Arc::clone(store))).await;
        if outcome.is_err() && !except.contains(&check.name) {
            failed.push(check.name);
        }
    }
    assert!(failed.is_empty(), "the {} store breaks: {failed:?}", store.kind());
}

/// The part of a bucket that a check works in.
#[derive(Clone)]
pub(super) struct Area {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Area {
    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}{name}", self.prefix)).unwrap()
    }

    fn prefix(&self, name: &str) -> Prefix {
        Prefix::new(format!("{}{name}", self.prefix)).unwrap()
    }

    async fn put(&self, name: &str, text: &str) -> ObjectMeta {
        self.store.put(&self.key(name), chunks(text), PutOptions::default()).await.unwrap();
        self.store.head(&self.key(name)).await.unwrap()
    }

    async fn read(&self, name: &str) -> Bytes {
        self.get(name, GetOptions::default()).await.unwrap()
    }

    async fn get(&self, name: &str, options: GetOptions) -> Result<Bytes, StoreError> {
        let found = self.store.get(&self.key(name), options).await?;
        let len = found.range.len();
        let pieces: Vec<Bytes> = found.body.try_collect().await.unwrap();
        let whole: Bytes = pieces.concat().into();
        assert_eq!(whole.len() as u64, len, "a body is as long as its range says");
        Ok(whole)
    }

    async fn is_missing(&self, name: &str) -> bool {
        let head = self.store.head(&self.key(name)).await;
        let get = self.store.get(&self.key(name), GetOptions::default()).await.map(|_| ());
        let missing = matches!(head, Err(StoreError::NotFound));
        assert_eq!(missing, matches!(get, Err(StoreError::NotFound)), "GET and HEAD agree");
        missing
    }
}

fn chunks(text: &str) -> Chunks {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

/// Bytes that differ at every offset, so that no shift or mix-up goes unseen.
fn pattern(start: u64, len: u64) -> Bytes {
    (start..start + len)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect::<Vec<_>>()
        .into()
}
