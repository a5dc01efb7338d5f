//! The append log: a small head that changes by compare-and-swap, and immutable segments below it.
//!
//! ```text
//! _sr/log/<protocol>/head.json       the newest entries, and which segments hold the older ones
//! _sr/log/<protocol>/<id>.jsonl.gz   a segment
//! ```
//!
//! An append costs one small write whatever the size of the registry; in one process many at once share it. When the head has grown,
//! its entries become a segment, and segments of one size become one of the next: each entry is written again a handful of
//! times in its life. Compacting needs no lease: it is one more compare-and-swap, and a loser takes back its own segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::{Change, Entry};
use super::segment::{Segment, SegmentReader, SegmentWriter};
use crate::core::error::{Error, Result};
use crate::core::id;
use crate::core::protocol_name::ProtocolName;
use crate::core::task;
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Edit, JsonDocument, Key, Loaded, ObjectInfo, Objects, PRIVATE, Storage};

/// The head is compacted beyond this size.
const FULL: usize = 64 << 10;
/// Beyond this size nothing is appended: compacting has not come through for long.
const OVERFULL: usize = 1 << 20;
/// So many segments of a level become one of the next.
const FAN: usize = 8;
/// Readers may still be at a segment that is no longer named.
const GRACE: Duration = Duration::from_hours(1);

/// The head of the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    /// Serial of the newest entry.
    pub(super) serial: u64,
    /// Grows when the log is made anew: views of an older one begin again.
    pub(super) epoch: u64,
    /// Whether everything that was in the bucket before the log has been entered.
    pub(super) complete: bool,
    /// When somebody last looked whether the log has all that is in the bucket.
    pub(super) gone_through: Timestamp,
    /// Oldest first.
    pub(super) segments: Vec<Segment>,
    pub(super) tail: Vec<Arc<Entry>>,
    retired: Vec<Retired>,
}

/// A segment that is no longer part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Retired {
    key: String,
    since: Timestamp,
}

impl JsonDocument for Head {
    const LIMIT: u64 = 4 << 20;
    const NAME: &'static str = "index head";
}

/// Single changes after some place.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Oldest first.
    pub entries: Vec<Arc<Entry>>,
    /// Serial of the newest change of all: where to go on.
    pub newest: u64,
    /// Whether some may be missing: single changes are kept for some time only, and what was imported at once never was any.
    pub gap: bool,
}

/// How far somebody has followed the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) epoch: u64,
    pub(super) serial: u64,
}

impl Head {
    pub(super) fn reach(&self) -> Reach {
        Reach { epoch: self.epoch, serial: self.serial }
    }

    fn weight(&self) -> usize {
        self.tail.iter().map(|entry| entry.weight()).sum()
    }
}

/// The log of one protocol.
pub(super) struct Log {
    objects: Objects,
    folder: String,
    key: Key,
    clock: Clock,
    compacting: AtomicBool,
    /// Names this log of this process in the operations of its appends.
    own: String,
    appended: AtomicU64,
}

impl Log {
    pub(super) fn new(storage: &Storage, protocol: ProtocolName, clock: Clock) -> Result<Self> {
        let folder = format!("{PRIVATE}/log/{protocol}");
        let key = Key::new(format!("{folder}/head.json"))?;
        Ok(Self {
            objects: storage.objects(protocol, None),
            folder,
            key,
            clock,
            compacting: AtomicBool::new(false),
            own: id::uuid(),
            appended: AtomicU64::new(0),
        })
    }

    /// The head, at most as old as any cached document.
    pub(super) async fn head(&self) -> Result<Option<Arc<Loaded<Head>>>> {
        self.objects.document(&self.key).await
    }

    /// Whether this very log appended the entry.
    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        entry.operation.starts_with(&self.own)
    }

    /// Appends changes of one moment; answers the serial of the last. In one process, appends at the same time are one write.
    pub(super) async fn append(self: &Arc<Self>, changes: Vec<Change>) -> Result<u64> {
        let operation = format!("{}-{}", self.own, self.appended.fetch_add(1, Ordering::Relaxed));
        let now = self.clock.now();
        let (serial, weight) = self
            .update(move |head| {
                if let Some(done) = head.tail.iter().rev().find(|entry| entry.operation == operation) {
                    return Ok(Edit::Unchanged((done.serial, 0)));
                }
                let weight = head.weight();
                if weight > OVERFULL {
                    return Err(Error::unavailable("the index is being compacted; try again"));
                }
                for change in &changes {
                    head.serial += 1;
                    let entry = Entry::new(change.clone(), head.serial, now, operation.clone());
                    head.tail.push(Arc::new(entry));
                }
                Ok(Edit::Changed((head.serial, weight)))
            })
            .await?;
        if weight > FULL {
            self.compact_later();
        }
        Ok(serial)
    }

    /// Enters many names at once, sorted by name, past the tail. Answers how many.
    pub(super) async fn import(&self, changes: Vec<Change>) -> Result<u64> {
        let key = self.fresh_key()?;
        let now = self.clock.now();
        let mut writer = SegmentWriter::new(&self.objects, key.clone())?;
        for (change, serial) in changes.into_iter().zip(1..) {
            writer.push(&Entry::new(change, serial, now, String::new())).await?;
        }
        let entries = writer.finish().await?;
        let text = key.to_string();
        self.update(move |head| {
            if head.segments.iter().any(|segment| segment.key == text) {
                return Ok(Edit::Unchanged(()));
            }
            let shift = head.serial;
            head.serial += entries;
            let level = level_of(entries);
            head.segments.push(Segment {
                key: text.clone(),
                from: shift + 1,
                to: head.serial,
                shift,
                level,
                entries,
            });
            Ok(Edit::Changed(()))
        })
        .await?;
        Ok(entries)
    }

    /// Notes that everything in the bucket is entered.
    pub(super) async fn complete(&self) -> Result<()> {
        let now = self.clock.now();
        self.update(move |head| {
            head.complete = true;
            head.gone_through = now;
            Ok(Edit::Changed(()))
        })
        .await
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Forgets all entries, to be entered anew. Serials go on: whoever follows the log sees every name again.
    pub(super) async fn clear(&self) -> Result<()> {
        let now = self.clock.now();
        let head = self.objects.document_revalidated::<Head>(&self.key).await?;
        let epoch = head.map_or(0, |head| head.document.epoch) + 1;
        self.update(move |head| {
            let retired = head.segments.drain(..).map(|segment| Retired { key: segment.key, since: now });
            head.retired.extend(retired);
            head.tail.clear();
            head.complete = false;
            head.epoch = epoch;
            Ok(Edit::Changed(()))
        })
        .await
    }

    async fn update<R: Send + 'static>(
        &self,
        change: impl Fn(&mut Head) -> Result<Edit<R>> + Send + Sync + 'static,
    ) -> Result<R> {
        self.objects.update(&self.key, &ObjectInfo::default(), change).await
    }

    /// Shows `take` every entry that is the last of its name and comes after `since`, in no order; answers how far that is everything. Of a
    /// name it may show older entries too: the highest serial counts. In another epoch `since` means nothing, and all entries are shown.
    pub(super) async fn replay(
        &self,
        since: Reach,
        mut take: impl FnMut(Arc<Entry>) + Send,
    ) -> Result<Reach> {
        for _ in 0..3 {
            let Some(head) = self.head().await? else { return Ok(Reach::default()) };
            let head = &head.document;
            let since = if since.epoch == head.epoch { since.serial } else { 0 };
            if self.replay_segments(head, since, &mut take).await? {
                head.tail.iter().filter(|entry| entry.serial > since).cloned().for_each(&mut take);
                return Ok(head.reach());
            }
            // Compacted away since that head was read.
            self.objects.document_revalidated::<Head>(&self.key).await?;
        }
        Err(too_fast())
    }

    async fn replay_segments(
        &self,
        head: &Head,
        since: u64,
        take: &mut (impl FnMut(Arc<Entry>) + Send),
    ) -> Result<bool> {
        for segment in head.segments.iter().filter(|segment| segment.to > since) {
            let Some(mut reader) = SegmentReader::open(&self.objects, segment).await? else {
                return Ok(false);
            };
            while let Some(entry) = reader.next().await? {
                if entry.serial > since {
                    take(Arc::new(entry));
                }
            }
        }
        Ok(true)
    }

    /// Every entry after `since` as far back as single entries are kept. What was imported is no event.
    pub(super) async fn entries(&self, since: u64) -> Result<Events> {
        for _ in 0..3 {
            let Some(head) = self.head().await? else { return Ok(Events::default()) };
            let head = &head.document;
            let mut entries: Vec<Arc<Entry>> = Vec::new();
            // Of merged segments only the last entry of each name is left.
            let single = head.segments.iter().filter(|one| one.level == 0 && one.to > since);
            let mut readers = Vec::new();
            for segment in single {
                readers.push(SegmentReader::open(&self.objects, segment).await?);
            }
            if readers.iter().any(Option::is_none) {
                // Compacted away since that head was read.
                self.objects.document_revalidated::<Head>(&self.key).await?;
                continue;
            }
            for mut reader in readers.into_iter().flatten() {
                while let Some(entry) = reader.next().await? {
                    entries.push(Arc::new(entry));
                }
            }
            entries.extend(head.tail.iter().cloned());
            entries.retain(|entry| entry.serial > since);
            entries.sort_by_key(|entry| entry.serial);
            let gap = (entries.len() as u64) < head.serial.saturating_sub(since);
            entries.retain(|entry| !entry.operation.is_empty());
            return Ok(Events { entries, newest: head.serial.max(since), gap });
        }
        Err(too_fast())
    }

    fn compact_later(self: &Arc<Self>) {
        if self.compacting.swap(true, Ordering::AcqRel) {
            return;
        }
        let log = Arc::clone(self);
        task::spawn(async move {
            if let Err(error) = log.compact().await {
                tracing::warn!(
                    error = error.message(),
                    causes = error.causes(),
                    "compacting the index failed"
                );
            }
            log.compacting.store(false, Ordering::Release);
        });
    }

    /// Compacts what a process that died has left to be compacted.
    pub(super) async fn compact_if_due(&self) -> Result<()> {
        match self.head().await? {
            Some(head) if head.document.weight() > FULL => self.compact().await,
            _ => self.remove_retired().await,
        }
    }

    /// Makes a segment of the tail, and larger segments of many small ones.
    pub(super) async fn compact(&self) -> Result<()> {
        self.fold_tail().await?;
        while self.merge().await? {}
        self.remove_retired().await
    }

    async fn fold_tail(&self) -> Result<()> {
        let Some(head) = self.objects.document_revalidated::<Head>(&self.key).await? else { return Ok(()) };
        let head = &head.document;
        let Some(first) = head.tail.first() else { return Ok(()) };
        let (from, to) = (first.serial, head.serial);
        // All of them, not only the last of each name: who follows the log event by event reads these segments until they are merged.
        let mut entries: Vec<&Arc<Entry>> = head.tail.iter().collect();
        entries.sort_by(|one, other| (&one.name, one.serial).cmp(&(&other.name, other.serial)));
        let key = self.fresh_key()?;
        let mut writer = SegmentWriter::new(&self.objects, key.clone())?;
        for entry in entries {
            writer.push(entry).await?;
        }
        let entries = writer.finish().await?;
        let new = Segment { key: key.to_string(), from, to, shift: 0, level: 0, entries };
        let won = self
            .update(move |head| {
                if head.segments.contains(&new) {
                    return Ok(Edit::Unchanged(true));
                }
                if head.tail.first().map(|entry| entry.serial) != Some(from) {
                    return Ok(Edit::Unchanged(false));
                }
                head.tail.retain(|entry| entry.serial > to);
                head.segments.push(new.clone());
                Ok(Edit::Changed(true))
            })
            .await?;
        if won { Ok(()) } else { self.objects.delete(&key, &ObjectInfo::default()).await }
    }

    /// Makes one segment of a run of the same level, if some level has enough of them.
    async fn merge(&self) -> Result<bool> {
        let Some(head) = self.objects.document_revalidated::<Head>(&self.key).await? else {
            return Ok(false);
        };
        let Some(run) = run_of(&head.document.segments) else { return Ok(false) };
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(false) };
        let mut readers = Vec::new();
        for segment in run {
            // Somebody else was faster.
            let Some(reader) = SegmentReader::open(&self.objects, segment).await? else { return Ok(false) };
            readers.push(reader);
        }
        let key = self.fresh_key()?;
        let mut writer = SegmentWriter::new(&self.objects, key.clone())?;
        merge_by_name(readers, &mut writer).await?;
        let entries = writer.finish().await?;
        let level = level_of(entries).max(first.level + 1);
        let new = Segment { key: key.to_string(), from: first.from, to: last.to, shift: 0, level, entries };
        let (old, now) = (run.to_vec(), self.clock.now());
        let won = self
            .update(move |head| {
                if head.segments.contains(&new) {
                    return Ok(Edit::Unchanged(true));
                }
                let Some(at) = head.segments.windows(old.len()).position(|window| window == old) else {
                    return Ok(Edit::Unchanged(false));
                };
                let gone = head.segments.splice(at..at + old.len(), [new.clone()]);
                head.retired.extend(gone.map(|segment| Retired { key: segment.key, since: now }));
                Ok(Edit::Changed(true))
            })
            .await?;
        if !won {
            self.objects.delete(&key, &ObjectInfo::default()).await?;
        }
        Ok(won)
    }

    /// Deletes segments that nobody can be reading any more.
    async fn remove_retired(&self) -> Result<()> {
        let Some(head) = self.head().await? else { return Ok(()) };
        let now = self.clock.now();
        let old: Vec<Retired> =
            head.document.retired.iter().filter(|one| now.since(one.since) >= GRACE).cloned().collect();
        if old.is_empty() {
            return Ok(());
        }
        for one in &old {
            self.objects.delete(&Key::new(one.key.clone())?, &ObjectInfo::default()).await?;
        }
        self.update(move |head| {
            let before = head.retired.len();
            head.retired.retain(|one| !old.contains(one));
            Ok(if head.retired.len() == before { Edit::Unchanged(()) } else { Edit::Changed(()) })
        })
        .await
    }

    fn fresh_key(&self) -> Result<Key> {
        Key::new(format!("{}/{}.jsonl.gz", self.folder, id::uuid()))
    }
}

fn too_fast() -> Error {
    Error::unavailable("the index changes faster than it can be read; try again")
}

/// The level that a segment of so many entries has: each is [`FAN`] times the one before, from a full head on.
fn level_of(entries: u64) -> u32 {
    (entries / 128).checked_ilog(FAN as u64).map_or(0, |level| level + 1)
}

/// The first run of neighbours of one level that is long enough to be merged.
fn run_of(segments: &[Segment]) -> Option<&[Segment]> {
    segments.chunk_by(|one, next| one.level == next.level).rfind(|run| run.len() >= FAN)
}

/// Merges sorted segments, of each name the newest entry.
async fn merge_by_name(mut readers: Vec<SegmentReader>, writer: &mut SegmentWriter) -> Result<()> {
    let mut heads: Vec<Option<Entry>> = Vec::new();
    for reader in &mut readers {
        heads.push(reader.next().await?);
    }
    while let Some(name) = heads.iter().flatten().map(|entry| &entry.name).min().cloned() {
        let mut newest: Option<Entry> = None;
        for (head, reader) in heads.iter_mut().zip(&mut readers) {
            while let Some(entry) = head.take_if(|entry| entry.name == name) {
                *head = reader.next().await?;
                if newest.as_ref().is_none_or(|newest| newest.serial < entry.serial) {
                    newest = Some(entry);
                }
            }
        }
        if let Some(newest) = newest {
            writer.push(&newest).await?;
        }
    }
    Ok(())
}
