//! Whether the registry can do its work now: for `/-/ready`, load balancers and orchestrators.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::storage::{CasLevel, Key, Storage, StoreError};

/// The answer of `/-/ready`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// Whether requests can be served.
    #[serde(skip)]
    pub ready: bool,
    /// `ready` or `unavailable`.
    pub status: &'static str,
    /// Kind of the store.
    pub storage: &'static str,
    /// How far conditional writes can be relied on: `L0` fully, `L1` creation only, `L2` not at all.
    #[serde(rename = "conditionalWrites")]
    pub conditional_writes: CasLevel,
    /// What an operator should know about the store.
    pub warnings: Vec<String>,
}

/// An answer is good for so long: probes of many balancers cost the store one request.
const FRESH: Duration = Duration::from_secs(1);
/// A store that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the store, not too often.
#[derive(Default)]
pub(crate) struct Probe(Mutex<Option<(Instant, bool)>>);

impl Probe {
    pub(crate) async fn ask(&self, storage: &Storage) -> Readiness {
        let mut last = self.0.lock().await;
        let ready = match *last {
            Some((when, ready)) if when.elapsed() < FRESH => ready,
            _ => {
                let ready = reachable(storage).await;
                *last = Some((Instant::now(), ready));
                ready
            }
        };
        let store = storage.store();
        let capabilities = store.capabilities();
        Readiness {
            ready,
            status: if ready { "ready" } else { "unavailable" },
            storage: store.kind(),
            conditional_writes: capabilities.cas,
            warnings: capabilities.warnings,
        }
    }
}

/// Any answer about any key will do.
async fn reachable(storage: &Storage) -> bool {
    let Ok(key) = Key::new("_sr/ready") else { return false };
    let answer = tokio::time::timeout(PATIENCE, storage.store().head(&key)).await;
    match answer {
        Ok(Ok(_) | Err(StoreError::NotFound)) => true,
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "not ready: the storage answers with an error"
            );
            false
        }
        Err(_) => {
            tracing::warn!("not ready: the storage does not answer");
            false
        }
    }
}
