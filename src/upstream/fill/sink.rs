//! Where a file that is fetched goes beside its readers: into the store, or nowhere if nothing is to be kept.

use bytes::Bytes;

use super::super::exchange::check_digest;
use super::super::failure::Failure;
use super::File;
use crate::core::digest::Digests;
use crate::core::error::Result;
use crate::core::hashing::Hashing;
use crate::storage::{Condition, Writer};

/// A file on its way.
pub(super) enum Sink {
    Store(Box<Writer>),
    Nowhere(Hashing),
}

impl Sink {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Store(writer) => writer.length(),
            Self::Nowhere(hashing) => hashing.length(),
        }
    }

    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<()> {
        match self {
            Self::Store(writer) => writer.write(chunk).await,
            Self::Nowhere(hashing) => hashing.update(chunk).await,
        }
    }

    /// Checks what came, and keeps it if it is to be kept.
    pub(super) async fn finish(self, file: &File) -> Result<(), Failure> {
        match self {
            Self::Store(writer) => {
                let staged = writer.finish().await.map_err(Failure::Ours)?;
                check_digests(staged.digests(), file)?;
                let kind = file.info.content_type.as_deref();
                // Another process may have stored it meanwhile; the bytes are the same.
                let stored = staged.publish(&file.key, Condition::Always, kind, &file.info).await;
                stored.map(|_| ()).map_err(Failure::Ours)
            }
            Self::Nowhere(mut hashing) => {
                check_digests(&hashing.finish().await.map_err(Failure::Ours)?, file)
            }
        }
    }
}

fn check_digests(have: &Digests, file: &File) -> Result<(), Failure> {
    file.digests.iter().try_for_each(|want| check_digest(have.get(want.algorithm()), want))
}
