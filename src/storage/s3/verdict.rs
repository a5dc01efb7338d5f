//! What was found out about a bucket: probed at the first start, kept in the bucket for a week.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use digest::Digest;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, SMALL, bare};
use crate::core::id;
use crate::core::time::Timestamp;
use crate::storage::probe::{Finding, Probed, probe};
use crate::storage::{
    CasLevel, Chunks, GetOptions, Key, PRIVATE, Prefix, PutOptions, Store, StoreError, StoreResult, documents,
};

/// How long a good verdict is believed. A bad one is checked at each start: somebody may have mended the store, and it takes few requests.
const BELIEVED: Duration = Duration::from_hours(7 * 24);

/// What we know of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    endpoint: String,
    bucket: String,
    /// Version of this program that probed.
    version: String,
    #[serde(with = "date")]
    date: Timestamp,
    /// Level of conditional writes.
    pub(super) conditional_writes: CasLevel,
    /// Why not the best one.
    pub(super) flaw: Option<String>,
    /// What else is unusual about it.
    quirks: Vec<Quirk>,
}

/// An unusual thing; see [`super::bucket::Quirks`] for those that change requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Quirk {
    BareTags,
    CrudeLists,
    SingleDeletes,
    /// The `ETag` of an object written in one piece is its MD5.
    Md5Tags,
}

impl Verdict {
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

mod date {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Timestamp;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
    pub(super) fn serialize<S: Serializer>(date: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&date.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("no date"))
    }
}

impl Probed for Bucket {
    fn use_bare_tags(&self, bare: bool) {
        self.quirks().bare_tags.store(bare, Ordering::Relaxed);
    }
}

impl Bucket {
    /// The kept verdict if it is good and fresh, else a new one. The quirks are set either way.
    pub(super) async fn verdict(&self) -> StoreResult<Verdict> {
        let place = place("capabilities.json")?;
        if let Some(kept) = self.kept(&place).await? {
            self.apply(&kept);
            return Ok(kept);
        }
        let verdict = self.examine().await?;
        self.apply(&verdict);
        if let Ok(text) = serde_json::to_vec_pretty(&verdict) {
            let options =
                PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
            self.put(&place, Bytes::from(text).into(), options).await?;
        }
        Ok(verdict)
    }

    async fn kept(&self, place: &Key) -> StoreResult<Option<Verdict>> {
        let found = match self.get(place, GetOptions::default()).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whatever is wrong with it: probing again is always right.
        let Ok(bytes) = documents::whole(found, "capabilities.json", 64 << 10).await else {
            return Ok(None);
        };
        let Ok(kept) = serde_json::from_slice::<Verdict>(&bytes) else { return Ok(None) };
        let same = kept.endpoint == self.target().url
            && kept.bucket == self.target().bucket
            && kept.version == env!("CARGO_PKG_VERSION");
        let fresh = self.now().since(kept.date) < BELIEVED && kept.date <= self.now();
        Ok((same && fresh && kept.conditional_writes != CasLevel::L2).then_some(kept))
    }

    fn apply(&self, verdict: &Verdict) {
        let quirks = self.quirks();
        quirks.bare_tags.store(verdict.has(Quirk::BareTags), Ordering::Relaxed);
        quirks.crude_lists.store(verdict.has(Quirk::CrudeLists), Ordering::Relaxed);
        quirks.single_deletes.store(verdict.has(Quirk::SingleDeletes), Ordering::Relaxed);
        // What is ignored on a write is ignored here as well, or answered 501.
        quirks.plain_completes.store(verdict.conditional_writes == CasLevel::L2, Ordering::Relaxed);
    }

    async fn examine(&self) -> StoreResult<Verdict> {
        let md5_tags = self.examine_bytes().await?;
        let crude_lists = self.examine_folders().await?;
        let Finding { level, bare_tags, flaw } = probe(self).await?;
        // Cleaning up after the probe has told.
        let single_deletes = self.quirks().single_deletes.load(Ordering::Relaxed);
        let quirks = [
            (Quirk::BareTags, bare_tags),
            (Quirk::CrudeLists, crude_lists),
            (Quirk::SingleDeletes, single_deletes),
            (Quirk::Md5Tags, md5_tags),
        ];
        Ok(Verdict {
            endpoint: self.target().url.clone(),
            bucket: self.target().bucket.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            date: self.now(),
            conditional_writes: level,
            flaw,
            quirks: quirks.into_iter().filter_map(|(quirk, found)| found.then_some(quirk)).collect(),
        })
    }

    /// Whether bytes come back as they were sent, in the way that large bodies are sent; and whether their tag is their MD5.
    async fn examine_bytes(&self) -> StoreResult<bool> {
        let key = place(&format!("probe/{}/bytes", id::uuid()))?;
        let pattern: Bytes = (0..=SMALL / 2).map(|at| (at % 251) as u8).collect();
        let mut sent = Chunks::default();
        for _ in 0..3 {
            sent.push(pattern.clone());
        }
        let whole = sent.pieces().concat();
        let version = self.put(&key, sent, PutOptions::default()).await?;
        let found = self.get(&key, GetOptions::default()).await?;
        let size = found.meta.size;
        let back = documents::whole(found, "probe", 4 * SMALL).await;
        self.delete(&key).await?;
        if !back.is_ok_and(|bytes| bytes == whole) {
            return Err(StoreError::Unsupported(format!(
                "the S3 server at {} does not give back what was written: {} bytes sent, {size} kept",
                self.target().url,
                whole.len()
            )));
        }
        Ok(bare(&version.0) == hex::encode(md5::Md5::digest(&whole)))
    }

    /// Whether a listing by folder misses folders that hold only folders.
    async fn examine_folders(&self) -> StoreResult<bool> {
        let folder = format!("probe/{}/", id::uuid());
        let key = place(&format!("{folder}a/b/c"))?;
        self.put(&key, Chunks::default(), PutOptions::default()).await?;
        let prefix = format!("{PRIVATE}/{folder}");
        let prefix = Prefix::new(prefix.as_str()).map_err(|error| StoreError::Failed(error.into()))?;
        self.quirks().crude_lists.store(false, Ordering::Relaxed);
        let page = self.list(&prefix, None, 10, true).await?;
        self.delete(&key).await?;
        Ok(page.prefixes.is_empty())
    }
}

fn place(name: &str) -> StoreResult<Key> {
    Key::new(format!("{PRIVATE}/{name}")).map_err(|error| StoreError::Failed(error.into()))
}
