//! What lies in the bucket of a document of an upstream: an entry that says how it stands, and the text that it names.
//!
//! ```text
//! _sr/upstream/npm/npmjs/lodash/entry.json               when it was asked for last, and what it is known by there
//! _sr/upstream/npm/npmjs/lodash/1790000000000-5f2a9c01   the text, as it came (unpacked)
//! ```
//!
//! Processes that share the bucket ask without agreeing first. A text is written under a name that nobody else uses, before the entry that names
//! it; an entry is replaced only by one that was asked for later. So an older answer never takes the place of a newer one, and an entry whose
//! text is gone, since two replaced each other, is as good as none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::error::Result;
use crate::core::id;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Timestamp;
use crate::storage::{
    Edit, JsonDocument, Key, Loaded, ObjectInfo, Objects, PRIVATE, Prefix, PutOptions, Version,
};

/// How a document of an upstream stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// When the upstream was last asked.
    pub(super) checked: Timestamp,
    /// File name of the text; without one the upstream had it once and has it no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// What the text hashes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sum: Option<String>,
    /// No later than this the text came to be: as the upstream says, or when it was first seen here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    /// What to ask with the next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_modified: Option<String>,
}

impl JsonDocument for Entry {
    const LIMIT: u64 = 64 << 10;
    const NAME: &'static str = "entry of an upstream's document";
}

impl Entry {
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.checked)
    }

    pub(super) fn since(&self) -> Timestamp {
        self.since.unwrap_or(self.checked)
    }
}

/// Where the documents of an upstream are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place(String);

impl Place {
    /// `path` is made of checked names.
    pub(super) fn new(protocol: ProtocolName, folder: &str, path: &str) -> Self {
        Self(format!("{PRIVATE}/upstream/{protocol}/{folder}/{path}"))
    }

    fn entry(&self) -> Result<Key> {
        self.file("entry.json")
    }

    fn file(&self, name: &str) -> Result<Key> {
        Key::new(format!("{}/{name}", self.0))
    }

    fn folder(&self) -> Result<Prefix> {
        Prefix::new(format!("{}/", self.0))
    }

    /// The entry as the bucket has it now.
    pub(super) async fn look(&self, objects: &Objects) -> Result<Option<Entry>> {
        let loaded: Option<Arc<Loaded<Entry>>> = objects.document_revalidated(&self.entry()?).await?;
        Ok(loaded.map(|loaded| loaded.document.clone()))
    }

    /// The text of an entry; `None` if it is gone.
    pub(super) async fn read(
        &self,
        objects: &Objects,
        text: &str,
        what: &str,
        limit: u64,
    ) -> Result<Option<Bytes>> {
        Ok(objects.inspect(&self.file(text)?, what, limit).await?.map(|(bytes, _)| bytes))
    }

    /// Writes a text under a name of its own.
    pub(super) async fn write(&self, objects: &Objects, bytes: Bytes, now: Timestamp) -> Result<String> {
        let name = format!("{}-{}", now.as_millis(), id::uuid().get(..8).unwrap_or_default());
        let key = self.file(&name)?;
        objects.put(&key, bytes, PutOptions::default(), &ObjectInfo::default()).await?;
        Ok(name)
    }

    /// Puts an entry in the place of an older one, and removes what that named; the entry that stands there then.
    pub(super) async fn settle(&self, objects: &Objects, entry: Entry) -> Result<Entry> {
        let new = entry.clone();
        let edit = move |stored: &mut Entry| {
            if stored.checked > new.checked {
                return Ok(Edit::Unchanged((stored.clone(), new.text.clone())));
            }
            let old = std::mem::replace(stored, new.clone());
            Ok(Edit::Changed((new.clone(), old.text)))
        };
        let (stands, replaced) = objects.update(&self.entry()?, &ObjectInfo::default(), edit).await?;
        if let Some(text) = replaced.filter(|text| stands.text.as_ref() != Some(text)) {
            objects.delete(&self.file(&text)?, &ObjectInfo::default()).await?;
        }
        Ok(stands)
    }

    /// Removes everything.
    pub(super) async fn purge(&self, objects: &Objects) -> Result<u64> {
        let (folder, mut removed) = (self.folder()?, 0);
        let (mut after, entry) = (None, self.entry()?);
        loop {
            let page = objects.list(&folder, after.as_deref(), 1000, false).await?;
            // The entry first: what it names may go once nothing names it.
            objects.delete(&entry, &ObjectInfo::default()).await?;
            for listed in page.objects {
                objects.delete(&listed.key, &ObjectInfo::default()).await?;
                removed += 1;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(removed),
            }
        }
    }

    /// The version of a text, for what is derived from it: whose it is, what it is of, and what it says. So nothing that is made of a document
    /// is ever taken for what was made of another one, whether texts are kept or not.
    pub(super) fn version(&self, entry: &Entry) -> Version {
        let mark = entry.sum.as_ref().or(entry.text.as_ref()).map_or("", String::as_str);
        Version(format!("{}/{mark}", self.0))
    }
}
