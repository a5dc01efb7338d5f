//! Work that no request asks for, as `registry.gc()`, `verify()`, `stats()`, `events()` and `import()` run it.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use parking_lot::Mutex;

use super::error::Out;
use super::logger::Scope;
use crate::core::error::{Error, Result};
use crate::maintenance::Progress;
use crate::registry::Registry;

/// What is to be done.
pub(super) enum Work {
    Collect { dry_run: bool },
    Verify { shallow: bool, rebuild_index: bool },
    Stats,
    Events { protocol: String, since: u64 },
    Adopt { protocol: String, name: String, document: String },
    Purge { protocol: String, name: Option<String> },
    Warm { protocol: String, name: String },
}

/// Work that was asked for; it holds the registry only until it has run.
#[napi]
pub struct NativeOperation {
    work: Mutex<Option<(Arc<Registry>, Work)>>,
    progress: Progress,
    scope: Scope,
}

impl NativeOperation {
    pub(super) fn new(registry: Arc<Registry>, work: Work, scope: Scope) -> Self {
        Self { work: Mutex::new(Some((registry, work))), progress: Progress::default(), scope }
    }
}

#[napi]
impl NativeOperation {
    /// Does it. Answers the report as JSON.
    #[napi(catch_unwind)]
    pub fn run<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<String>>> {
        let (work, progress) = (self.work.lock().take(), self.progress.clone());
        self.scope.promise(env, async move {
            let (registry, work) = work.ok_or_else(|| Error::internal("an operation runs once"))?;
            match work {
                Work::Collect { dry_run } => json(&registry.collect_garbage(dry_run, progress).await?),
                Work::Verify { shallow, rebuild_index } => {
                    if rebuild_index {
                        registry.rebuild_index(&progress).await?;
                    }
                    json(&registry.verify(shallow, progress).await?)
                }
                Work::Stats => json(&registry.stats().await?),
                Work::Adopt { protocol, name, document } => {
                    json(&registry.adopt(&protocol, &name, document.into()).await?)
                }
                Work::Purge { protocol, name } => json(&registry.purge(&protocol, name.as_deref()).await?),
                Work::Warm { protocol, name } => json(&registry.warm(&protocol, &name).await?),
                Work::Events { protocol, since } => json(&registry.events(&protocol, since).await?),
            }
        })
    }

    /// How far it is, as JSON.
    #[napi(catch_unwind)]
    pub fn standing(&self) -> Out<String> {
        Out(json(&self.progress.standing()))
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal("a report does not serialise").with_source(error))
}
