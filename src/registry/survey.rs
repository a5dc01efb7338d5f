//! Looking over everything that a registry has: is it whole, how much is it, and is the index right.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Registry;
use crate::core::error::Result;
use crate::index::rebuild;
use crate::protocols::check::Check;
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

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl Registry {
    /// Goes through all protocols: whether all that metadata names is there and is what it should be. What is wrong is in `check`.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn verify(&self, check: &Check) -> Result<()> {
        for mounted in &self.mounted {
            mounted.protocol.verify(&self.upkeep.cx(mounted), check).await?;
        }
        Ok(())
    }

    /// Makes the index of every protocol anew from what is in the bucket. `told` hears how many names have been gone through.
    pub async fn rebuild_index(&self, mut told: impl FnMut(u64) + Send) -> Result<()> {
        let mut before = 0;
        for mounted in &self.mounted {
            let done =
                rebuild::rebuild(&mounted.index, &self.upkeep.bucket(mounted), |names| told(before + names))
                    .await?;
            before += done.names;
        }
        Ok(())
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
