//! Looking over everything that a registry has: is it whole, how much is it, and is the index right.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::{Mounted, Registry};
use crate::core::error::{Error, Result};
use crate::index::{Entry, rebuild};
use crate::maintenance::Progress;
use crate::protocols::check::{Check, Checked};
use crate::storage::{PRIVATE, Prefix};

/// One page of a listing.
const PAGE: usize = 1000;

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How much a protocol has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProtocolStats {
    /// Packages or repositories.
    pub names: u64,
    /// Changes since the index began.
    pub changes: u64,
    /// What lies in each folder of the protocol.
    pub folders: BTreeMap<String, Amount>,
}

/// How much a registry has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// By protocol.
    pub protocols: BTreeMap<&'static str, ProtocolStats>,
    /// What the registry keeps for itself: indices, links, tokens, sessions.
    pub private: Amount,
    /// All of it.
    pub total: Amount,
}

/// A change that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Place in the feed of the protocol.
    pub serial: u64,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// What happened.
    pub event: String,
    /// To which package or repository.
    pub name: String,
    /// The version or tag that it is about.
    pub version: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// Whether nothing is left under the name.
    pub gone: bool,
}

impl Event {
    fn of(entry: &Entry) -> Self {
        Self {
            serial: entry.serial,
            time: entry.time.as_millis(),
            event: entry.event.clone(),
            name: entry.name.clone(),
            version: entry.version.clone(),
            actor: entry.actor.clone(),
            gone: entry.gone,
        }
    }
}

/// A piece of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Oldest first.
    pub events: Vec<Event>,
    /// Where to go on.
    pub last: u64,
    /// Whether events are missing: single ones are kept for some time only.
    pub gap: bool,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl Registry {
    /// Goes through all protocols: whether all that metadata names is there and is what it should be; if `shallow`, without reading it.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn verify(&self, shallow: bool, progress: Progress) -> Result<Checked> {
        let check = Check::new(shallow, progress);
        for mounted in &self.mounted {
            mounted.protocol.verify(&self.upkeep.cx(mounted), &check).await?;
        }
        Ok(check.finish())
    }

    /// Makes the index of every protocol anew from what is in the bucket. Answers how many names there are.
    pub async fn rebuild_index(&self, progress: &Progress) -> Result<u64> {
        let mut before = 0;
        for mounted in &self.mounted {
            let told = |names| progress.set("indexing", before + names, None);
            before += rebuild::rebuild(&mounted.index, &self.upkeep.bucket(mounted), told).await?.names;
        }
        Ok(before)
    }

    /// The events of a protocol after the serial `since`, oldest first.
    ///
    /// # Errors
    /// There is no such protocol, or it is not enabled.
    pub async fn events(&self, protocol: &str, since: u64) -> Result<Events> {
        let mounted = self.enabled(protocol)?;
        let found = mounted.index.events(since).await?;
        let events = found.entries.iter().map(|entry| Event::of(entry)).collect();
        Ok(Events { events, last: found.newest, gap: found.gap })
    }

    /// Takes over from another registry's document what publishing its content again could not; see [`crate::protocols::Protocol::adopt`].
    ///
    /// # Errors
    /// The protocol is not enabled, nothing is there under that name, or the document is no good.
    pub async fn adopt(&self, protocol: &str, name: &str, document: Bytes) -> Result<()> {
        let mounted = self.enabled(protocol)?;
        mounted.protocol.adopt(&self.upkeep.cx(mounted), name, &document).await
    }

    pub(super) fn enabled(&self, protocol: &str) -> Result<&Mounted> {
        let mounted = self.mounted.iter().find(|mounted| mounted.name.as_str() == protocol);
        mounted
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::not_found(format!("the protocol `{protocol}` is not enabled")))
    }

    /// Counts what there is. Lists the whole bucket: as many requests as there are thousands of objects.
    pub async fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        for mounted in &self.mounted {
            let mut own =
                ProtocolStats { names: mounted.index.count().await? as u64, ..ProtocolStats::default() };
            own.changes = mounted.index.newest().await?;
            let prefix = format!("{}/", mounted.name);
            self.sum(&prefix, |key, bytes| {
                let rest = key.strip_prefix(&prefix).unwrap_or(key);
                let folder = rest.split_once('/').map_or("", |(folder, _)| folder);
                own.folders.entry(folder.to_owned()).or_default().add(bytes);
                stats.total.add(bytes);
            })
            .await?;
            stats.protocols.insert(mounted.name.as_str(), own);
        }
        self.sum(&format!("{PRIVATE}/"), |_, bytes| {
            stats.private.add(bytes);
            stats.total.add(bytes);
        })
        .await?;
        Ok(stats)
    }

    async fn sum(&self, prefix: &str, mut add: impl FnMut(&str, u64) + Send) -> Result<()> {
        let (prefix, mut after) = (Prefix::new(prefix)?, None::<String>);
        loop {
            let page = self.storage.store().list(&prefix, after.as_deref(), PAGE, false).await?;
            page.objects.iter().for_each(|one| add(one.key.as_str(), one.size));
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Registry {
    /// A protocol and what it works with, for tests of what no request asks for.
    pub(crate) fn behind(
        &self,
        protocol: &str,
    ) -> Result<(&dyn crate::protocols::Protocol, crate::protocols::cx::Cx)> {
        let mounted = self.enabled(protocol)?;
        Ok((mounted.protocol.as_ref(), self.upkeep.cx(mounted)))
    }
}
