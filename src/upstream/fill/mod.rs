//! Files of upstreams: who asks for one that is not here gets it while it is fetched, hashed and stored. However many ask, it is fetched once.
//!
//! What was received last is kept in a window that all readers share. The fetch does not run ahead of the fastest reader by more than the window, so
//! a reader that keeps up never waits; one that falls behind, or came late, goes on from the store when the file is there. The last piece is handed
//! out when the whole file has been checked and stored: a file that is not what it should be never looks complete.

mod reader;
mod sink;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::client::Answer;
use super::documents::{refusal, text_of};
use super::exchange::{Request, Said, Upstream, check_length};
use super::failure::Failure;
use super::figures::Verdict;
use crate::core::body::{Body, ByteStream};
use crate::core::digest::{Algorithm, Digest};
use crate::core::error::{Error, Kind, Result};
use crate::core::hashing::Hashing;
use crate::core::task;
use crate::storage::{Key, ObjectInfo, Objects};
use reader::Reader;
use sink::Sink;

/// Bytes of a file that readers share.
const WINDOW: u64 = 2 << 20;
/// Bytes of a piece in it, at most. A piece that a slow reader still sends keeps itself alive, and nothing else.
const PIECE: usize = 32 << 10;
/// A reader in front that takes nothing for so long is not waited for any more.
const STALL: Duration = Duration::from_secs(5);
/// Fetches at one time; more wait.
const AT_ONCE: usize = 64;

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct File {
    /// The request.
    pub request: Request,
    /// Where it is stored.
    pub key: Key,
    /// What it is, for messages: `the tarball of lodash 4.17.21`.
    pub what: String,
    /// What it must hash to; all of them, if there are several.
    pub digests: Vec<Digest>,
    /// Its size, if that is known.
    pub size: Option<u64>,
    /// Largest size that is taken.
    pub limit: u64,
    /// What hooks learn of it.
    pub info: ObjectInfo,
}

/// A fetch under way.
pub struct Fill {
    state: Mutex<State>,
    news: watch::Sender<()>,
    /// A reader has gone on, or has gone.
    taken: watch::Sender<()>,
    objects: Objects,
    key: Key,
    /// Whether it is kept.
    kept: bool,
}

#[derive(Default)]
struct State {
    phase: Phase,
    length: Option<u64>,
    /// Pieces with their offsets.
    window: VecDeque<(u64, Bytes)>,
    end: u64,
    readers: HashMap<u64, u64>,
    next_reader: u64,
    /// Where the reader in front stood when it was waited for in vain.
    stalled: Option<u64>,
}

#[derive(Default)]
enum Phase {
    /// The upstream has not answered yet.
    #[default]
    Asking,
    Flowing,
    /// Checked and stored.
    Stored,
    Missing,
    Failed(Arc<Failure>),
}

/// The fetches of this process.
pub(super) struct Fills {
    flights: Mutex<HashMap<Key, Arc<Fill>>>,
    slots: Semaphore,
}

impl Fills {
    pub(super) fn new() -> Self {
        Self { flights: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    /// Fetches a file, or joins who is at it. Answers when the upstream has; `None` if it has no such file.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        objects: &Objects,
        upstream: &Arc<Upstream>,
        file: &File,
    ) -> Result<Option<Arc<Fill>>, Arc<Failure>> {
        let flight = self.join(objects, upstream, file);
        let mut news = flight.news.subscribe();
        loop {
            {
                let state = flight.state.lock();
                match &state.phase {
                    Phase::Asking => {}
                    Phase::Missing => return Ok(None),
                    Phase::Failed(failure) => return Err(Arc::clone(failure)),
                    Phase::Flowing | Phase::Stored => break,
                }
            }
            if news.changed().await.is_err() {
                let lost = Error::internal("a fetch went away without a word");
                return Err(Arc::new(Failure::Ours(lost)));
            }
        }
        Ok(Some(flight))
    }

    fn join(self: &Arc<Self>, objects: &Objects, upstream: &Arc<Upstream>, file: &File) -> Arc<Fill> {
        let kept = upstream.cache.enabled;
        let mut flights = self.flights.lock();
        // What is not kept can't be read again from its beginning: each who asks gets a fetch of its own.
        if let Some(fill) = flights.get(&file.key).filter(|_| kept) {
            upstream.figures.note(Verdict::Hit);
            return Arc::clone(fill);
        }
        upstream.figures.note(Verdict::Miss);
        let flight = Arc::new(Fill {
            state: Mutex::default(),
            news: watch::channel(()).0,
            taken: watch::channel(()).0,
            objects: objects.clone(),
            key: file.key.clone(),
            kept,
        });
        if kept {
            flights.insert(file.key.clone(), Arc::clone(&flight));
        }
        let (fills, upstream, file, running) =
            (Arc::clone(self), Arc::clone(upstream), file.clone(), Arc::clone(&flight));
        // It goes on without those who asked: what has been fetched by half is of use to the next one only if it is fetched whole.
        task::spawn(async move { fills.run(&upstream, &file, &running).await });
        flight
    }

    async fn run(&self, upstream: &Upstream, file: &File, flight: &Fill) {
        let _slot = self.slots.acquire().await;
        // Whatever becomes of it, nobody may find it on the board later: a panic included.
        let _board = Leave { fills: self, key: &file.key };
        let phase = match flight.work(upstream, file).await {
            Ok(true) => Phase::Stored,
            Ok(false) => Phase::Missing,
            Err(failure) => {
                tracing::warn!(upstream = %upstream.id, "{} could not be fetched: {failure}", file.what);
                Phase::Failed(Arc::new(failure))
            }
        };
        if flight.kept {
            self.flights.lock().remove(&file.key);
        }
        flight.turn(phase);
    }
}

struct Leave<'a> {
    fills: &'a Fills,
    key: &'a Key,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(fill) = self.fills.flights.lock().remove(self.key)
        {
            fill.turn(Phase::Failed(Arc::new(Failure::Ours(Error::internal("a fetch panicked")))));
        }
    }
}

impl Fill {
    /// The file's size, if the upstream said it.
    pub fn length(&self) -> Option<u64> {
        self.state.lock().length
    }

    /// The file from its beginning.
    pub fn stream(self: &Arc<Self>) -> ByteStream {
        let reader = Reader::new(Arc::clone(self));
        Box::pin(stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// Whether it will lie in the store.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Waits until it is checked and stored.
    ///
    /// # Errors
    /// It is not what it should be, was cut, or could not be stored.
    pub async fn stored(&self) -> Result<()> {
        let mut news = self.news.subscribe();
        loop {
            match &self.state.lock().phase {
                Phase::Stored => return Ok(()),
                Phase::Failed(failure) => return Err(broken(failure)),
                _ => {}
            }
            news.changed().await.map_err(|_| Error::internal("a fetch went away without a word"))?;
        }
    }

    fn turn(&self, phase: Phase) {
        self.state.lock().phase = phase;
        self.news.send_replace(());
    }

    /// `false` if the upstream has no such file.
    async fn work(&self, upstream: &Upstream, file: &File) -> Result<bool, Failure> {
        let answer = match upstream.exchange(&file.request).await? {
            Said::Here(answer) => answer,
            Said::Missing => return Ok(false),
            Said::Unchanged => return Err(Failure::Nonsense("it says that nothing has changed".to_owned())),
            Said::Refused(status, words) => {
                return Err(Failure::Ours(refusal(&upstream.id, &file.what, status, &words)));
            }
        };
        let done = self.take(upstream, file, answer).await;
        if let Err(failure) = &done {
            upstream.suffered(failure);
        }
        done.map(|()| true)
    }

    async fn take(&self, upstream: &Upstream, file: &File, answer: Answer) -> Result<(), Failure> {
        let announced =
            text_of(&answer.headers, http::header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        if text_of(&answer.headers, http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
        {
            return Err(Failure::Nonsense("it sends a file in an encoding that nobody asked for".to_owned()));
        }
        check_length(announced, file.size)?;
        let size = announced.or(file.size);
        if size.is_some_and(|size| size > file.limit) {
            return Err(Failure::Ours(Error::too_large(&file.what, file.limit)));
        }
        self.state.lock().length = size;
        self.turn(Phase::Flowing);
        let algorithms: Vec<Algorithm> = file.digests.iter().map(Digest::algorithm).collect();
        let mut sink = if self.kept {
            Sink::Store(Box::new(
                self.objects.writer(Some(&file.key), &algorithms, size).map_err(Failure::Ours)?,
            ))
        } else {
            Sink::Nowhere(Hashing::new(&algorithms))
        };
        let mut body = Body::stream(answer.body, size).into_stream().map_err(Failure::Ours)?;
        let mut last = None;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| cut(&error))?;
            if sink.length() + chunk.len() as u64 > file.limit {
                return Err(Failure::Ours(Error::too_large(&file.what, file.limit)));
            }
            upstream.figures.received(chunk.len() as u64);
            // Chunks are parts of larger buffers of the connection, which each of them would keep.
            for piece in chunk.chunks(PIECE).map(Bytes::copy_from_slice) {
                sink.write(piece.clone()).await.map_err(Failure::Ours)?;
                if let Some(piece) = last.replace(piece) {
                    self.hand_out(piece).await;
                }
            }
        }
        sink.finish(file).await?;
        if let Some(chunk) = last {
            self.push(chunk);
        }
        Ok(())
    }

    /// Hands a piece out, not too far ahead of the reader in front.
    async fn hand_out(&self, chunk: Bytes) {
        let mut taken = self.taken.subscribe();
        loop {
            {
                let mut state = self.state.lock();
                let front = state.readers.values().max().copied();
                let ahead = front.is_some_and(|front| state.end.saturating_sub(front) >= WINDOW / 2);
                if !ahead || state.stalled == front {
                    break;
                }
                state.stalled = None;
            }
            if timeout(STALL, taken.changed()).await.is_err() {
                let mut state = self.state.lock();
                state.stalled = state.readers.values().max().copied();
            }
        }
        self.push(chunk);
    }

    fn push(&self, chunk: Bytes) {
        let mut state = self.state.lock();
        let at = state.end;
        state.end += chunk.len() as u64;
        state.window.push_back((at, chunk));
        while let Some((first, _)) = state.window.front()
            && state.end - first > WINDOW
            && state.window.len() > 1
        {
            state.window.pop_front();
        }
        drop(state);
        self.news.send_replace(());
    }
}

/// What a client is told whose answer has begun: it sees only that the answer is cut.
fn broken(failure: &Failure) -> Error {
    match failure {
        Failure::Ours(error) => error.echo(),
        failure => {
            Error::new(Kind::BadGateway, format!("the upstream's file could not be fetched whole: {failure}"))
        }
    }
}

fn cut(error: &Error) -> Failure {
    Failure::Unreachable(error.message().to_owned().into())
}
