//! A piece of maintenance under way: whether it may go on, and how far it is.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::lease::Lease;
use crate::core::error::{Error, Kind, Result};

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What it is doing, for people.
    pub phase: String,
    /// How much of it is done.
    pub done: u64,
    /// Out of how much, where that is known.
    pub total: Option<u64>,
}

/// Where a job says how far it is. Cheap to clone; anybody may look.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Standing>>);

impl Progress {
    /// How far it is now.
    pub fn standing(&self) -> Standing {
        self.0.lock().clone()
    }

    /// Says how far it is.
    pub fn set(&self, phase: &str, done: u64, total: Option<u64>) {
        let mut standing = self.0.lock();
        if standing.phase != phase {
            phase.clone_into(&mut standing.phase);
        }
        (standing.done, standing.total) = (done, total);
    }
}

/// A piece of maintenance under way.
#[derive(Default)]
pub struct Job {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who else must not do the same now; `None` where nobody is asked.
    pub lease: Option<Lease>,
    /// How far it is.
    pub progress: Progress,
}

impl Job {
    /// Asks before each step that changes something whether this process still is the one to do it.
    ///
    /// # Errors
    /// 409 when another process has taken over.
    pub fn may_go_on(&self) -> Result<()> {
        if self.lease.as_ref().is_none_or(Lease::is_held) {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, "another process has taken this work over"))
    }

    /// Says how far it is.
    pub fn at(&self, phase: &str, done: u64, total: Option<u64>) {
        self.progress.set(phase, done, total);
    }
}
