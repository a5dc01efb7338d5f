//! Going through all that is stored: what metadata names must be there, and must hash to what the metadata says.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use parking_lot::Mutex;

use super::prelude::*;
use crate::core::hashing::Hashing;

/// Findings that are kept; further ones are only counted.
const KEPT: usize = 10_000;
/// Names that are gone through at the same time.
pub const AT_ONCE: usize = 8;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The protocol.
    pub protocol: ProtocolName,
    /// The package or repository.
    pub name: String,
    /// The key of the object that is missing or damaged, or of the metadata that is wrong.
    pub key: String,
    /// What is wrong, as a sentence for whoever runs the registry.
    pub problem: String,
}

/// One run over the registry: what to look at, how far it is, and what was found. Shared between the run and whoever watches it.
#[derive(Debug, Default)]
pub struct Check {
    /// Whether to look only whether objects are there and how large they are, and read none of them.
    pub shallow: bool,
    names: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    problems: AtomicU64,
    findings: Mutex<Vec<Finding>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packages and repositories that were gone through.
    pub names: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Problems so far.
    pub problems: u64,
}

impl Check {
    /// A run that has not begun.
    pub fn new(shallow: bool) -> Self {
        Self { shallow, ..Self::default() }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Progress {
            names: read(&self.names),
            objects: read(&self.objects),
            bytes: read(&self.bytes),
            problems: read(&self.problems),
        }
    }

    /// What was found, the first [`KEPT`] of it.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.lock().clone()
    }

    /// Notes that a name has been gone through.
    pub fn passed(&self) {
        self.names.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes something wrong.
    pub fn found(&self, cx: &Cx, name: &str, key: &Key, problem: impl Into<String>) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        let mut findings = self.findings.lock();
        if findings.len() < KEPT {
            let (name, key) = (name.to_owned(), key.to_string());
            findings.push(Finding { protocol: cx.protocol, name, key, problem: problem.into() });
        }
    }

    /// Looks at the object that metadata of `name` names: it must be there, and be what `wanted` says, as far as that says anything.
    pub async fn object(&self, cx: &Cx, name: &str, key: &Key, wanted: &Wanted) -> Result<()> {
        self.objects.fetch_add(1, Ordering::Relaxed);
        let size = if self.shallow || wanted.digests.is_empty() {
            cx.objects.stat(key).await?.map(|meta| meta.size)
        } else {
            self.hash(cx, name, key, wanted).await?
        };
        match (size, wanted.size) {
            (None, _) => self.found(cx, name, key, format!("{} is missing", wanted.what)),
            (Some(size), Some(wanted_size)) if size != wanted_size => {
                let problem = format!("{} has {size} bytes and should have {wanted_size}", wanted.what);
                self.found(cx, name, key, problem);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads an object through; its size, if it is there.
    async fn hash(&self, cx: &Cx, name: &str, key: &Key, wanted: &Wanted) -> Result<Option<u64>> {
        let found = cx.objects.read(key, GetOptions::default(), &ObjectInfo::default()).await?;
        let Some(mut found) = found else { return Ok(None) };
        let algorithms: Vec<Algorithm> = wanted.digests.iter().map(Digest::algorithm).collect();
        let mut hashing = Hashing::new(&algorithms);
        while let Some(chunk) = found.body.next().await {
            let chunk = chunk?;
            self.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            hashing.update(chunk).await?;
        }
        let digests = hashing.finish().await?;
        let differs = wanted.digests.iter().find(|digest| digests.get(digest.algorithm()) != Some(digest));
        if let Some(digest) = differs {
            self.found(cx, name, key, format!("{} does not hash to {digest}", wanted.what));
        }
        Ok(Some(digests.length))
    }
}

/// What metadata says of an object.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What it is, at the beginning of a sentence.
    pub what: String,
    /// Its digests.
    pub digests: Vec<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
}
