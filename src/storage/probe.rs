//! Finds out what conditional writes of a store are worth. That a header is understood proves nothing: some servers compare and
//! then write without holding anybody off, so that of eight racing writers all win. Hence the races.

use std::fmt;

use bytes::Bytes;
use futures_util::future::join_all;

use super::store::{CasLevel, Chunks, Condition, GetOptions, PutOptions, Store, StoreResult, Version};
use super::{Key, PRIVATE, Prefix, StoreError};
use crate::core::id;

/// Keys of each kind of race. A server that lets two win every other time passes all with a probability below 1e-9.
const RACES: usize = 6;
/// Writers of each race.
const WRITERS: usize = 8;
/// What a race counts whose every answer came.
const CLEAR: usize = 2;
/// What one counts in which answers were lost. Ceph answers 500 to losers under load; but a second winner may be among them, and only one
/// that wrote last is seen.
const VEILED: usize = 1;
/// Further races where too few answers came to tell anything.
const EXTRA: usize = 4;
/// How often a step is tried whose answer was lost.
const TRIES: u32 = 3;

/// A store whose conditional writes can be probed in both dialects.
pub(crate) trait Probed: Store {
    /// Whether `If-Match` carries the version without quotes from now on.
    fn use_bare_tags(&self, bare: bool);
}

/// What a store turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Level of conditional writes.
    pub(crate) level: CasLevel,
    /// Whether `If-Match` must carry the version without its quotes.
    pub(crate) bare_tags: bool,
    /// Why it is not [`CasLevel::L0`].
    pub(crate) flaw: Option<String>,
}

/// Where the reasons for a lower level are found.
#[derive(Debug)]
enum Flaw {
    CreateIgnored,
    CreateUnsupported(String),
    CreateRaced(usize),
    ReplaceIgnored,
    ReplaceRefused,
    ReplaceUnsupported(String),
    ReplaceRaced(usize),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateIgnored => f.write_str("answered 200 to If-None-Match on an existing key"),
            Self::CreateUnsupported(answer) => write!(f, "does not take If-None-Match: {answer}"),
            Self::CreateRaced(winners) => {
                write!(f, "let {winners} of {WRITERS} racing writers create the same key")
            }
            Self::ReplaceIgnored => f.write_str("answered 200 to If-Match with another version"),
            Self::ReplaceRefused => f.write_str("refused If-Match with the version it had just sent"),
            Self::ReplaceUnsupported(answer) => write!(f, "does not take If-Match: {answer}"),
            Self::ReplaceRaced(winners) => {
                write!(f, "let {winners} of {WRITERS} racing writers replace the same version")
            }
        }
    }
}

/// How a conditional write ended.
enum Outcome {
    Done,
    Refused,
    Unsupported(String),
}

/// Probes `store`. Leaves nothing behind.
///
/// # Errors
/// When the store refuses plain writes, or gives no answers.
pub(crate) async fn probe(store: &dyn Probed) -> StoreResult<Finding> {
    let probe = Probe { store, folder: format!("{PRIVATE}/probe/{}", id::uuid()) };
    let finding = probe.run().await;
    probe.clean_up().await;
    finding
}

struct Probe<'a> {
    store: &'a dyn Probed,
    folder: String,
}

impl Probe<'_> {
    async fn run(&self) -> StoreResult<Finding> {
        self.store.use_bare_tags(false);
        if let Some(flaw) = self.create().await? {
            return Ok(Finding { level: CasLevel::L2, bare_tags: false, flaw: Some(flaw.to_string()) });
        }
        let (bare_tags, flaw) = self.replace().await?;
        let level = if flaw.is_some() { CasLevel::L1 } else { CasLevel::L0 };
        Ok(Finding { level, bare_tags, flaw: flaw.map(|flaw| flaw.to_string()) })
    }

    async fn create(&self) -> StoreResult<Option<Flaw>> {
        let key = self.key("create")?;
        match self.attempt(&key, "first", &Condition::Absent).await? {
            Outcome::Done => {}
            Outcome::Refused => return Ok(Some(Flaw::CreateUnsupported("refused for a new key".into()))),
            Outcome::Unsupported(answer) => return Ok(Some(Flaw::CreateUnsupported(answer))),
        }
        match self.attempt(&key, "second", &Condition::Absent).await? {
            Outcome::Refused => {}
            Outcome::Done => return Ok(Some(Flaw::CreateIgnored)),
            Outcome::Unsupported(answer) => return Ok(Some(Flaw::CreateUnsupported(answer))),
        }
        let winners = self.races("create-race", false).await?;
        Ok((winners > 1).then_some(Flaw::CreateRaced(winners)))
    }

    async fn replace(&self) -> StoreResult<(bool, Option<Flaw>)> {
        let key = self.key("replace")?;
        let first = self.write(&key, "first").await?;
        let foreign = Condition::Matches(Version(format!("\"{}\"", "0".repeat(32))));
        for target in [&key, &self.key("absent")?] {
            match self.attempt(target, "foreign", &foreign).await? {
                Outcome::Refused => {}
                Outcome::Done => return Ok((false, Some(Flaw::ReplaceIgnored))),
                Outcome::Unsupported(answer) => return Ok((false, Some(Flaw::ReplaceUnsupported(answer)))),
            }
        }
        let mut bare = false;
        let current = Condition::Matches(first);
        let mut outcome = self.attempt(&key, "second", &current).await?;
        if matches!(outcome, Outcome::Refused) {
            bare = true;
            self.store.use_bare_tags(true);
            outcome = self.attempt(&key, "second", &current).await?;
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Refused => return Ok((false, Some(Flaw::ReplaceRefused))),
            Outcome::Unsupported(answer) => return Ok((false, Some(Flaw::ReplaceUnsupported(answer)))),
        }
        if matches!(self.attempt(&key, "third", &current).await?, Outcome::Done) {
            return Ok((bare, Some(Flaw::ReplaceIgnored)));
        }
        let winners = self.races("replace-race", true).await?;
        Ok((bare, (winners > 1).then_some(Flaw::ReplaceRaced(winners))))
    }

    /// The most winners that a race had.
    async fn races(&self, name: &str, replace: bool) -> StoreResult<usize> {
        let mut told = 0;
        for number in 0..RACES * CLEAR / VEILED + EXTRA {
            let key = self.key(&format!("{name}-{number}"))?;
            let condition = if replace {
                Condition::Matches(self.write(&key, "start").await?)
            } else {
                Condition::Absent
            };
            let writers = (0..WRITERS).map(|writer| {
                let options = PutOptions { condition: condition.clone(), ..PutOptions::default() };
                self.store.put(&key, body(&text_of(writer)), options)
            });
            let answers = join_all(writers).await;
            let mut winners =
                (0..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(writer, _)| writer);
            let (winner, others) = (winners.next(), winners.count());
            if others > 0 {
                return Ok(1 + others);
            }
            let lost = answers.iter().any(|answer| {
                matches!(answer, Err(error) if !matches!(error, StoreError::Precondition | StoreError::Conflict))
            });
            told += match winner {
                _ if !lost => CLEAR,
                Some(winner) if self.holds(&key, &text_of(winner)).await? => VEILED,
                // One of the others has won after it.
                Some(_) => return Ok(2),
                None => 0,
            };
            if told >= RACES * CLEAR {
                return Ok(1);
            }
        }
        Err(StoreError::Unknown(
            "the store gave too few answers to tell whether its writes are atomic".into(),
        ))
    }

    /// One conditional write; tried again on a fresh answer if its outcome is unknown.
    async fn attempt(&self, key: &Key, text: &str, condition: &Condition) -> StoreResult<Outcome> {
        let mut tries = 0;
        loop {
            let options = PutOptions { condition: condition.clone(), ..PutOptions::default() };
            match self.store.put(key, body(text), options).await {
                Ok(_) => return Ok(Outcome::Done),
                Err(StoreError::Precondition | StoreError::Conflict | StoreError::NotFound) => {
                    // Our own write, whose answer was lost?
                    if tries > 0 && self.holds(key, text).await? {
                        return Ok(Outcome::Done);
                    }
                    return Ok(Outcome::Refused);
                }
                Err(error @ (StoreError::Unsupported(_) | StoreError::Failed(_))) => {
                    return Ok(Outcome::Unsupported(cause(&error)));
                }
                Err(error) => {
                    tries += 1;
                    if tries == TRIES || !error.is_transient() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn holds(&self, key: &Key, text: &str) -> StoreResult<bool> {
        let found = self.store.get(key, GetOptions::default()).await?;
        let stored = super::documents::whole(found, "probe", u64::MAX).await;
        Ok(stored.is_ok_and(|bytes| bytes == text.as_bytes()))
    }

    async fn write(&self, key: &Key, text: &str) -> StoreResult<Version> {
        self.store.put(key, body(text), PutOptions::default()).await
    }

    fn key(&self, name: &str) -> StoreResult<Key> {
        Key::new(format!("{}/{name}", self.folder)).map_err(|error| StoreError::Failed(error.into()))
    }

    /// What is left in spite of it goes with the next sweep.
    async fn clean_up(&self) {
        let Ok(prefix) = Prefix::new(format!("{}/", self.folder)) else { return };
        if let Ok(page) = self.store.list(&prefix, None, 1000, false).await {
            let keys: Vec<Key> = page.objects.into_iter().map(|listed| listed.key).collect();
            self.store.delete_many(&keys).await.ok();
        }
    }
}

/// What a writer of a race writes.
fn text_of(writer: usize) -> String {
    format!("writer {writer}")
}

fn body(text: &str) -> Chunks {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

/// What is behind an error, in one line.
fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::{Chunks, Finding, Key, Probed, PutOptions, StoreError, StoreResult, Version, probe};
    use crate::core::time::Clock;
    use crate::storage::layer::Layer;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{CasLevel, Condition, Store};

    /// A store that says in a race what `answer` makes of the outcome; the writers are numbered.
    struct Racing {
        store: MemoryStore,
        writers: AtomicUsize,
        /// Whether its conditions hold nobody off.
        broken: bool,
        answer: fn(usize, StoreResult<Version>) -> StoreResult<Version>,
    }

    #[async_trait]
    impl Layer for Racing {
        fn inner(&self) -> &dyn Store {
            &self.store
        }

        async fn put(&self, key: &Key, data: Chunks, mut options: PutOptions) -> StoreResult<Version> {
            if options.condition == Condition::Always || !key.as_str().contains("-race-") {
                return self.store.put(key, data, options).await;
            }
            if self.broken {
                options.condition = Condition::Always;
            }
            let outcome = self.store.put(key, data, options).await;
            (self.answer)(self.writers.fetch_add(1, Ordering::Relaxed), outcome)
        }
    }

    impl Probed for Racing {
        fn use_bare_tags(&self, _bare: bool) {}
    }

    async fn found(
        broken: bool,
        answer: fn(usize, StoreResult<Version>) -> StoreResult<Version>,
    ) -> StoreResult<Finding> {
        let store = MemoryStore::new(Clock::real());
        probe(&Racing { store, writers: AtomicUsize::new(0), broken, answer }).await
    }

    fn lost() -> StoreError {
        StoreError::Unknown("500".into())
    }

    #[tokio::test]
    async fn a_store_that_loses_the_answers_of_losers_is_still_atomic() {
        let every_loser = |_, outcome: StoreResult<Version>| outcome.map_err(|_| lost());
        let finding = found(false, every_loser).await.unwrap();
        assert_eq!((finding.level, finding.flaw), (CasLevel::L0, None));
    }

    #[tokio::test]
    async fn a_winner_whose_answer_was_lost_is_found() {
        let only_the_first =
            |writer, outcome| if writer % super::WRITERS == 0 { outcome } else { Err(lost()) };
        let finding = found(true, only_the_first).await.unwrap();
        assert_eq!(finding.level, CasLevel::L2);
        assert_eq!(finding.flaw.unwrap(), "let 2 of 8 racing writers create the same key");
    }

    #[tokio::test]
    async fn a_store_that_gives_no_answers_is_not_judged() {
        let none = |_, _| Err(lost());
        assert!(matches!(found(false, none).await, Err(StoreError::Unknown(_))));
    }
}
