//! A collection of garbage, as `registry.gc()` runs it.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use parking_lot::Mutex;

use super::error::Out;
use super::runtime::promise;
use crate::core::error::{Error, Result};
use crate::maintenance::Progress;
use crate::registry::Registry;

/// A collection that was asked for; it holds the registry only until it has run.
#[napi]
pub struct NativeCollection {
    registry: Mutex<Option<Arc<Registry>>>,
    dry_run: bool,
    progress: Progress,
}

impl NativeCollection {
    pub(super) fn new(registry: Arc<Registry>, dry_run: bool) -> Self {
        Self { registry: Mutex::new(Some(registry)), dry_run, progress: Progress::default() }
    }

    fn take(&self) -> Result<Arc<Registry>> {
        self.registry.lock().take().ok_or_else(|| Error::internal("a collection runs once"))
    }
}

#[napi]
impl NativeCollection {
    /// Collects. Answers the report as JSON.
    #[napi(catch_unwind)]
    pub fn run<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<String>>> {
        let (registry, dry_run, progress) = (self.take(), self.dry_run, self.progress.clone());
        promise(env, async move { json(&registry?.collect_garbage(dry_run, progress).await?) })
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
