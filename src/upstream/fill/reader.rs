//! One reader of a file that is being fetched.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use sync_wrapper::SyncWrapper;
use tokio::sync::watch;

use super::{Fill, Phase, broken};
use crate::core::body::ByteStream;
use crate::core::error::{Error, Result};
use crate::storage::{GetOptions, ObjectInfo};

/// Takes the pieces one by one, from the window while they are there, else from the store.
pub(super) struct Reader {
    fill: Arc<Fill>,
    id: u64,
    at: u64,
    news: watch::Receiver<()>,
    stored: Option<SyncWrapper<ByteStream>>,
}

enum Step {
    Chunk(Bytes),
    FromStore,
    End,
    Wait,
}

impl Reader {
    pub(super) fn new(fill: Arc<Fill>) -> Self {
        let news = fill.news.subscribe();
        let id = {
            let mut state = fill.state.lock();
            let id = state.next_reader;
            state.next_reader += 1;
            state.readers.insert(id, 0);
            id
        };
        Self { fill, id, at: 0, news, stored: None }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(stored) = &mut self.stored {
                return stored.get_mut().next().await.transpose();
            }
            match self.step()? {
                Step::Chunk(chunk) => return Ok(Some(chunk)),
                Step::End => return Ok(None),
                Step::FromStore => self.stored = Some(SyncWrapper::new(self.open().await?)),
                Step::Wait => {
                    let lost = |_| Error::internal("a fetch went away without a word");
                    self.news.changed().await.map_err(lost)?;
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        self.news.borrow_and_update();
        let mut state = self.fill.state.lock();
        let first = state.window.front().map_or(state.end, |(at, _)| *at);
        let step = match &state.phase {
            Phase::Failed(failure) => return Err(broken(failure)),
            Phase::Missing => return Err(Error::not_found("the upstream has no such file")),
            Phase::Stored if self.at < first => Step::FromStore,
            Phase::Stored if self.at == state.end => Step::End,
            _ if self.at < first || self.at >= state.end => Step::Wait,
            _ => {
                let index = state.window.partition_point(|(at, _)| *at <= self.at).saturating_sub(1);
                match state.window.get(index) {
                    Some((at, chunk)) => Step::Chunk(chunk.slice((self.at - at) as usize..)),
                    None => Step::Wait,
                }
            }
        };
        if let Step::Chunk(chunk) = &step {
            self.at += chunk.len() as u64;
            state.readers.insert(self.id, self.at);
            drop(state);
            self.fill.taken.send_replace(());
        }
        Ok(step)
    }

    async fn open(&self) -> Result<ByteStream> {
        let Fill { objects, key, kept, .. } = self.fill.as_ref();
        if !kept {
            return Err(Error::unavailable("this was read too slowly, and is not kept"));
        }
        let options = GetOptions { range: Some((self.at, None)), ..GetOptions::default() };
        // Hooks hear of it once: when the answer was given.
        let found = objects.read(key, options, &ObjectInfo::default()).await?;
        found
            .map(|found| found.body)
            .ok_or_else(|| Error::unavailable("the file was removed while it was read"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.state.lock().readers.remove(&self.id);
        self.fill.taken.send_replace(());
    }
}
