//! When work is done that no request asks for, and in whose name.
//!
//! Every process writes down about once a minute what its protocols have gathered. Of the processes that share a bucket, the one that gets the lease
//! does a round of maintenance. The task that does so holds nothing of the registry between its rounds and ends with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Bucket, Mounted};
use crate::auth::{Auth, Identity};
use crate::config::MaintenanceConfig;
use crate::core::error::Result;
use crate::core::task;
use crate::core::time::Clock;
use crate::index::rebuild::Reconciled;
use crate::maintenance::{Job, Leases, Progress, Report, sweep_staging};
use crate::metrics::Metrics;
use crate::protocols::cx::{Cx, Mount};
use crate::storage::Storage;

/// What one process at a time does.
const LEASE: &str = "maintenance";
/// How long a process waits for another that indexes the bucket, before it does so too.
const INDEXING: Duration = Duration::from_hours(1);
/// How often each process writes down what it has gathered.
const FLUSH: Duration = Duration::from_mins(1);
/// The first round comes this soon at the latest: a process that is restarted every hour must do one too.
const FIRST: Duration = Duration::from_mins(5);
/// Staged objects that nobody has written to for so long belong to no upload: sessions last a day.
const STAGED: Duration = Duration::from_hours(48);
/// Multipart uploads begun so long ago are given up. A session may be at one for days if it is touched often enough.
const BROKEN: Duration = Duration::from_hours(7 * 24);

/// What a collection of garbage has done, or would do.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Garbage {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What each protocol that collects any has to say.
    pub protocols: BTreeMap<&'static str, Report>,
}

/// What maintenance needs of a registry.
pub(super) struct Upkeep {
    pub(super) storage: Storage,
    pub(super) auth: Arc<Auth>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) mounted: Vec<Arc<Mounted>>,
    pub(super) config: MaintenanceConfig,
    pub(super) leases: Leases,
}

/// The task; it ends when this is dropped.
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(task::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upkeep {
    /// Begins to do maintenance by itself, if it is to.
    pub(super) fn start(self: &Arc<Self>) -> Task {
        Task::spawn(run(Arc::downgrade(self), self.config.clone()))
    }

    /// The context of work that no request asks for.
    pub(super) fn cx(&self, mounted: &Mounted) -> Cx {
        Cx {
            protocol: mounted.name,
            objects: self.storage.objects(mounted.name, None),
            index: Arc::clone(&mounted.index),
            auth: Arc::clone(&self.auth),
            clock: self.clock.clone(),
            upstream: Arc::clone(&mounted.upstream),
            identity: Identity::Anonymous,
            mount: Mount::default(),
            method: Method::GET,
        }
    }

    /// A protocol's bucket as its index sees it.
    pub(super) fn bucket(&self, mounted: &Arc<Mounted>) -> Bucket {
        Bucket { mounted: Arc::clone(mounted), cx: self.cx(mounted) }
    }

    /// Goes through a bucket that has no index yet, unless another process is at it: then waits for that.
    pub(super) fn settle(self: &Arc<Self>, mounted: &Arc<Mounted>) -> Task {
        mounted.index.unsettle();
        let (upkeep, bucket) = (Arc::clone(self), self.bucket(mounted));
        Task::spawn(async move {
            let index = &bucket.mounted.index;
            let lease = match index.is_complete().await {
                Ok(true) => None,
                // Two at once would do the same work twice, and nothing wrong.
                _ => upkeep.leases.take(&format!("index-{}", bucket.mounted.name), INDEXING).await.ok(),
            };
            index.settle(&bucket).await;
            if let Some(lease) = lease {
                lease.give_up().await;
            }
        })
    }

    /// Writes down what protocols have gathered. What fails is tried again the next time.
    pub(super) async fn flush(&self, all: bool) {
        for mounted in &self.mounted {
            if let Err(error) = mounted.protocol.flush(&self.cx(mounted), all).await {
                let (message, causes) = (error.message(), error.causes());
                tracing::debug!(message, causes, protocol = %mounted.name, "what was gathered is not written yet");
            }
        }
    }

    /// One round, unless another process is at it. `false`: it is.
    pub(super) async fn round(&self) -> Result<bool> {
        let Some(lease) = self.leases.try_take(LEASE).await? else { return Ok(false) };
        let job = Job { lease: Some(lease), ..Job::default() };
        self.work(&job).await;
        if let Some(lease) = job.lease {
            lease.give_up().await;
        }
        Ok(true)
    }

    /// Each step for itself: one that fails takes nothing from the others.
    async fn work(&self, job: &Job) {
        self.tell("storage", self.sweep().await);
        for mounted in &self.mounted {
            Self::tell_of_index(mounted.index.maintain(&self.bucket(mounted)).await);
            let report = mounted.protocol.maintain(&self.cx(mounted), job).await;
            self.tell(mounted.name.as_str(), report);
        }
    }

    async fn sweep(&self) -> Result<Report> {
        let mut report = Report::default();
        report.remove("uploads", self.storage.store().sweep(BROKEN).await?);
        report.remove("staged", sweep_staging(&self.storage, &self.clock, STAGED).await?);
        Ok(report)
    }

    fn tell_of_index(done: Result<Option<Reconciled>>) {
        match done {
            Ok(None | Some(Reconciled { entered: 0, removed: 0, .. })) => {}
            Ok(Some(done)) => {
                tracing::info!(
                    entered = done.entered,
                    removed = done.removed,
                    "the index was not what is in the bucket"
                );
            }
            Err(error) => {
                tracing::warn!(
                    causes = error.causes(),
                    "the index could not be maintained: {}",
                    error.message()
                );
            }
        }
    }

    fn tell(&self, part: &'static str, done: Result<Report>) {
        match done {
            Ok(report) => {
                self.metrics.removed(part, &report.removed, report.bytes);
                for warning in &report.warnings {
                    tracing::warn!(part, "maintenance: {warning}");
                }
                if !report.is_empty() {
                    tracing::info!(
                        part,
                        bytes = report.bytes,
                        "maintenance has removed {}",
                        report.summary()
                    );
                }
            }
            Err(error) => {
                tracing::warn!(part, causes = error.causes(), "maintenance broke off: {}", error.message());
            }
        }
    }

    /// Collects garbage now.
    ///
    /// # Errors
    /// 409 while another process is at it; storage faults. What was removed by then stays removed.
    pub(super) async fn collect(&self, dry_run: bool, progress: Progress) -> Result<Garbage> {
        let began = Instant::now();
        self.flush(true).await;
        let lease = if dry_run { None } else { Some(self.leases.take(LEASE, self.leases.patience()).await?) };
        let job = Job { dry_run, lease, progress };
        let protocols = self.collect_all(&job).await;
        if let Some(lease) = job.lease {
            lease.give_up().await;
        }
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Garbage { dry_run, duration_ms, protocols: protocols? })
    }

    pub(super) async fn collect_all(&self, job: &Job) -> Result<BTreeMap<&'static str, Report>> {
        let mut all = BTreeMap::new();
        for mounted in &self.mounted {
            if let Some(report) = mounted.protocol.collect_garbage(&self.cx(mounted), job).await? {
                if !job.dry_run {
                    self.metrics.removed(mounted.name.as_str(), &report.removed, report.bytes);
                }
                all.insert(mounted.name.as_str(), report);
            }
        }
        Ok(all)
    }
}

async fn run(upkeep: Weak<Upkeep>, config: MaintenanceConfig) {
    let interval = Duration::from_millis(config.interval_ms.max(1000));
    // Processes that are started together need not all try together.
    let jittered = |span: Duration| span.mul_f64(0.8 + 0.4 * fastrand::f64());
    let mut next = Instant::now() + jittered(interval.min(FIRST));
    loop {
        let wait = FLUSH.min(next.saturating_duration_since(Instant::now()));
        sleep(if config.enabled { wait } else { FLUSH }).await;
        let Some(upkeep) = upkeep.upgrade() else { return };
        upkeep.flush(false).await;
        if !config.enabled || Instant::now() < next {
            continue;
        }
        if let Err(error) = upkeep.round().await {
            tracing::warn!(causes = error.causes(), "maintenance did not begin: {}", error.message());
        }
        next = Instant::now() + jittered(interval);
    }
}
