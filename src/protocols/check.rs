//! Going through all that is stored: what metadata names must be there, and must hash to what the metadata says.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::Serialize;

use super::prelude::*;
use crate::core::hashing::Hashing;
use crate::maintenance::Progress;

/// Findings that are kept; further ones are only counted.
const KEPT: usize = 10_000;
/// Names that are gone through at the same time.
pub const AT_ONCE: usize = 8;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The protocol.
    pub protocol: &'static str,
    /// The package or repository; empty for what belongs to none.
    pub name: String,
    /// The key of the object that is missing or damaged, or of the metadata that is wrong.
    pub key: String,
    /// What is wrong, as a sentence for whoever runs the registry.
    pub problem: String,
}

/// One run over the registry: what to look at, how far it is, and what was found.
#[derive(Debug, Default)]
pub struct Check {
    /// Whether to look only whether objects are there and how large they are, and read none of them.
    pub shallow: bool,
    progress: Progress,
    names: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    problems: AtomicU64,
    findings: Mutex<Vec<Finding>>,
}

/// What a run has looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Packages and repositories that were gone through.
    pub names: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How many problems there are.
    pub problems: u64,
    /// The first ten thousand of them.
    pub findings: Vec<Finding>,
}

impl Check {
    /// A run that has not begun.
    pub fn new(shallow: bool, progress: Progress) -> Self {
        Self { shallow, progress, ..Self::default() }
    }

    /// What it has looked at and found.
    pub fn finish(self) -> Checked {
        Checked {
            names: self.names.into_inner(),
            objects: self.objects.into_inner(),
            bytes: self.bytes.into_inner(),
            problems: self.problems.into_inner(),
            findings: self.findings.into_inner(),
        }
    }

    /// Notes that a name has been gone through.
    pub fn passed(&self) {
        let names = self.names.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.set("packages and repositories looked at", names, None);
    }

    /// Notes that an object has been looked at.
    fn looked(&self, name: &str) {
        let objects = self.objects.fetch_add(1, Ordering::Relaxed) + 1;
        if name.is_empty() {
            self.progress.set("objects looked at", objects, None);
        }
    }

    /// Notes something wrong.
    pub fn found(&self, cx: &Cx, name: &str, key: &Key, problem: impl Into<String>) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        let mut findings = self.findings.lock();
        if findings.len() < KEPT {
            let (name, key) = (name.to_owned(), key.to_string());
            findings.push(Finding { protocol: cx.protocol.as_str(), name, key, problem: problem.into() });
        }
    }

    /// Looks at the object that metadata of `name` names: it must be there, and be what `wanted` says, as far as that says anything.
    pub async fn object(&self, cx: &Cx, name: &str, key: &Key, wanted: &Wanted) -> Result<()> {
        self.looked(name);
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
