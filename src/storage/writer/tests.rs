//! What a writer leaves behind, and what it doesn't, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Writer;
use crate::core::digest::{Algorithm, Digest};
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Clock;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;
use crate::storage::{Condition, Key, ObjectInfo, Objects, Storage, StorageLimits, Version};

const PART: usize = 1000;

struct Bench {
    memory: Arc<MemoryStore>,
    faulty: Arc<Faulty<MemoryStore>>,
    objects: Objects,
}

impl Bench {
    fn new(limits: &StorageLimits) -> Self {
        let memory = Arc::new(MemoryStore::new(Clock::real()).with_part_size(PART as u64));
        let faulty = Arc::new(Faulty::new(Arc::clone(&memory)));
        let storage = Storage::new(Arc::clone(&faulty) as _, None, limits, Clock::real());
        Self { memory, faulty, objects: storage.objects(ProtocolName::new("oci"), None) }
    }

    async fn filled(&self, bytes: usize) -> Writer {
        let mut writer = self.objects.writer(None, &[Algorithm::Sha256], None).unwrap();
        // In pieces that meet no boundary of a part.
        for at in (0..bytes).step_by(700) {
            writer.write(content(bytes).slice(at..bytes.min(at + 700))).await.unwrap();
        }
        writer
    }

    /// Uploads that are still open once everything that was spawned has run.
    async fn left(&self) -> usize {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.memory.open_uploads()
    }
}

fn content(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

async fn publish(writer: Writer, bytes: usize) {
    let staged = writer.finish().await.unwrap();
    staged.expect_digest(&Digest::sha256(&content(bytes))).unwrap();
    let (objects, key) = (staged.writer.objects.clone(), Key::new("oci/blobs/x").unwrap());
    staged.publish(&key, Condition::Always, None, &ObjectInfo::default()).await.unwrap().unwrap();
    assert_eq!(objects.stat(&key).await.unwrap().unwrap().size, bytes as u64);
}

#[tokio::test]
async fn a_writer_that_is_dropped_takes_its_parts_back() {
    let bench = Bench::new(&StorageLimits::default());
    let writer = bench.filled(5 * PART).await;
    assert_eq!(bench.memory.open_uploads(), 1);
    drop(writer);
    assert_eq!(bench.left().await, 0);
    let staged = bench.filled(5 * PART).await.finish().await.unwrap();
    drop(staged);
    assert_eq!(bench.left().await, 0);
}

#[tokio::test]
async fn what_a_checkpoint_names_outlives_its_writer() {
    let bench = Bench::new(&StorageLimits::default());
    let mut writer = bench.filled(5 * PART + 1).await;
    let state = writer.checkpoint().await.unwrap().unwrap();
    drop(writer);
    assert_eq!((bench.left().await, state.length()), (1, 5 * PART as u64));
    let mut writer = bench.objects.resume(&state).await.unwrap().unwrap();
    writer.write(content(8 * PART).slice(5 * PART..)).await.unwrap();
    publish(writer, 8 * PART).await;
    assert_eq!(bench.left().await, 0);
}

#[tokio::test]
async fn a_suspended_writer_goes_on_where_it_stopped() {
    let bench = Bench::new(&StorageLimits::default());
    let state = bench.filled(3 * PART + 7).await.suspend().await.unwrap();
    assert_eq!((bench.left().await, state.length()), (1, 3 * PART as u64 + 7));
    assert!(bench.faulty.names().contains(&"flush"), "what a state names is as durable as a finished write");
    let mut writer = bench.objects.resume(&state).await.unwrap().unwrap();
    writer.write(content(4 * PART).slice(3 * PART + 7..)).await.unwrap();
    publish(writer, 4 * PART).await;
}

#[tokio::test]
async fn what_describes_an_artifact_is_kept_whatever_its_size() {
    let user: BTreeMap<_, _> = [("owner".to_owned(), "me".to_owned())].into_iter().collect();
    for (at, bytes) in [0, PART / 2, PART, 5 * PART + 1].into_iter().enumerate() {
        for given in [None, Some("text/html")] {
            let bench = Bench::new(&StorageLimits::default());
            let key = Key::new(format!("npm/{at}")).unwrap();
            let writer = bench.objects.writer(Some(&key), &[], None).unwrap();
            let mut writer = writer.described(Some("text/plain".to_owned()), user.clone());
            writer.write(content(bytes)).await.unwrap();
            let staged = writer.finish().await.unwrap();
            staged.publish(&key, Condition::Always, given, &ObjectInfo::default()).await.unwrap().unwrap();
            let meta = bench.objects.stat(&key).await.unwrap().unwrap();
            assert_eq!(meta.user, user, "{bytes} bytes");
            let whole = bytes <= PART;
            let kind = given.filter(|_| whole).unwrap_or("text/plain");
            assert_eq!(meta.content_type.as_deref(), Some(kind), "{bytes} bytes");
        }
    }
}

#[tokio::test]
async fn a_budget_without_room_is_slow_and_no_deadlock() {
    let bench = Bench::new(&StorageLimits { upload_bytes: 1, ..StorageLimits::default() });
    publish(bench.filled(9 * PART + 3).await, 9 * PART + 3).await;
}

async fn five_parts(objects: &Objects) -> Result<Option<Version>> {
    let mut writer = objects.writer(None, &[Algorithm::Sha256], None)?;
    writer.write(content(5 * PART)).await?;
    let staged = writer.finish().await?;
    staged.publish(&Key::new("oci/blobs/x")?, Condition::Always, None, &ObjectInfo::default()).await
}

#[tokio::test]
async fn a_part_that_fails_fails_the_artifact() {
    // Call 0 begins the upload, the following ones store its parts.
    for call in 0..6 {
        let bench = Bench::new(&StorageLimits::default());
        bench.faulty.fail_at(call, Fault::Failed);
        assert!(five_parts(&bench.objects).await.is_err(), "call {call}");
        assert_eq!(bench.left().await, 0, "call {call}");
    }
    assert!(five_parts(&Bench::new(&StorageLimits::default()).objects).await.unwrap().is_some());
}
