//! Keeps the registry's bytes in an S3 bucket, shared by any number of stateless processes.

mod bucket;
mod client;
mod conditional;
mod copy;
mod descriptor;
mod error;
mod list;
mod multipart;
mod read;
mod setup;
mod verdict;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

pub use descriptor::S3Descriptor;

use super::StoreError;
use super::cas_chain::CasChain;
use super::layer::Layer;
use super::look_first::LookFirst;
use super::store::{Capabilities, CasLevel, Store, StoreResult};
use crate::config::ConditionalWrites;
use crate::core::error::Result;
use crate::core::time::Clock;
use bucket::Bucket;
use verdict::Quirk;

/// A bucket as a [`Store`].
pub struct S3Store {
    bucket: Bucket,
    demand: ConditionalWrites,
    warnings: Vec<String>,
    /// The bucket with what it lacks, once it was probed.
    probed: OnceCell<Arc<dyn Store>>,
    /// The bucket before: as if it could do nothing.
    unprobed: LookFirst<Bucket>,
}

impl S3Store {
    /// A store for the described bucket. Nothing is asked yet; that is for [`Store::prepare`].
    ///
    /// # Errors
    /// 400 that names the option.
    pub fn new(descriptor: &S3Descriptor, clock: Clock) -> Result<Self> {
        let mut target = descriptor.resolve()?;
        let warnings = std::mem::take(&mut target.warnings);
        let bucket = Bucket::new(target, descriptor.roots(), clock);
        Ok(Self {
            unprobed: LookFirst::new(bucket.clone(), false, Vec::new()),
            bucket,
            demand: descriptor.conditional_writes,
            warnings,
            probed: OnceCell::new(),
        })
    }

    /// Finds the bucket and what it can do, and puts on top what it lacks.
    async fn probe(&self) -> StoreResult<Arc<dyn Store>> {
        self.bucket.prepare().await?;
        let store: Arc<dyn Store> = match self.demand {
            ConditionalWrites::Off => self.alone("is used without conditional writes, as configured", false),
            ConditionalWrites::Auto | ConditionalWrites::Required => self.leveled().await?,
        };
        let capabilities = store.capabilities();
        tracing::info!(bucket = self.bucket.target().bucket, level = ?capabilities.cas, "the S3 storage is ready");
        for warning in self.warnings.iter().chain(&capabilities.warnings) {
            tracing::warn!("{warning}");
        }
        Ok(store)
    }

    async fn leveled(&self) -> StoreResult<Arc<dyn Store>> {
        let name = self.name();
        let verdict = match self.bucket.verdict().await {
            Err(StoreError::Denied(reason)) if self.demand == ConditionalWrites::Auto => {
                return Ok(self.alone(&format!("could not be probed ({reason})"), false));
            }
            other => other?,
        };
        let md5_tags = verdict.has(Quirk::Md5Tags);
        let flaw = verdict.flaw.unwrap_or_default();
        match verdict.conditional_writes {
            CasLevel::L0 => Ok(Arc::new(self.bucket.clone())),
            CasLevel::L1 => {
                let warning = format!(
                    "{name} creates objects atomically but does not replace them so ({flaw}). Changes of metadata cost one \
                     more write and one listing each."
                );
                Ok(Arc::new(CasChain::new(self.bucket.clone(), vec![warning])))
            }
            CasLevel::L2 if self.demand == ConditionalWrites::Required => {
                Err(StoreError::Unsupported(format!(
                    "{name} has no atomic conditional writes ({flaw}), and `storage.conditionalWrites` is `required`"
                )))
            }
            CasLevel::L2 => {
                let verb = if flaw.starts_with("let ") {
                    "does not make conditional writes atomic"
                } else {
                    "ignores conditional writes"
                };
                Ok(self.alone(&format!("{verb} ({flaw})"), md5_tags))
            }
        }
    }

    fn alone(&self, what: &str, md5_versions: bool) -> Arc<dyn Store> {
        let warning = format!(
            "{} {what}. Concurrent publishes from more than one process can be lost. Run one writing process, or use a \
             store with conditional writes.",
            self.name()
        );
        Arc::new(LookFirst::new(self.bucket.clone(), md5_versions, vec![warning]))
    }

    fn name(&self) -> String {
        format!("bucket {} at {}", self.bucket.target().bucket, self.bucket.target().url)
    }
}

#[async_trait]
impl Layer for S3Store {
    fn inner(&self) -> &dyn Store {
        self.probed.get().map_or(&self.unprobed, |store| store.as_ref())
    }

    async fn prepare(&self) -> StoreResult<()> {
        self.probed.get_or_try_init(|| self.probe()).await.map(|_| ())
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner().capabilities();
        capabilities.warnings.splice(0..0, self.warnings.iter().cloned());
        capabilities
    }
}
