//! Replacing conditionally on a store that can only create conditionally (level L1).
//!
//! Each change of an object is first created as `_sr/cas/<key>/<generation>`, a number that nobody else can create again, and then
//! written to the key itself, marked with its generation. The highest generation is the truth:
//!
//! - A writer looks up the highest generation, compares, and creates the next one. Who creates it owns the change; a late
//!   writer finds it taken.
//! - A reader of a marked object asks for higher generations: a slow writer may have put an older one over a newer one.
//! - An unmarked object was created in place and never changed: readers of artifacts pay nothing.
//! - A deletion is a generation without an object, so that a late writer can't bring the object back.
//!
//! A change is acknowledged only after the key itself is written, so an unmarked object is never older than what was acknowledged.

use async_trait::async_trait;
use futures_util::StreamExt;

use super::layer::Layer;
use super::store::{
    Capabilities, CasLevel, Chunks, Condition, Found, GetOptions, ObjectMeta, PutOptions, Store, StoreResult,
    Version,
};
use super::{Key, PRIVATE, Prefix, StoreError};

/// Marks an object with its generation, in its user metadata.
const GENERATION: &str = "sr-gen";
/// Marks a generation that deletes.
const GONE: &str = "sr-gone";
/// Generations that are kept, for readers and writers that are late.
const KEPT: u64 = 3;
/// How often the key itself is written before its writer gives up and leaves that to the next one.
const WRITES: u32 = 3;
/// Rounds of an unconditional write or a deletion against others.
const ROUNDS: u32 = 20;

/// A store that replaces by creating.
pub(crate) struct CasChain<S> {
    inner: S,
    warnings: Vec<String>,
}

/// The newest state of an object.
struct Truth {
    /// Its generation; 0 if it was never changed.
    generation: u64,
    /// Generations that can be removed.
    old: Vec<Key>,
    /// Its metadata as callers see it; `None` if there is no object.
    meta: Option<ObjectMeta>,
}

impl<S: Store> CasChain<S> {
    /// A layer around `inner`; `warnings` tell the operator what it costs.
    pub(crate) fn new(inner: S, warnings: Vec<String>) -> Self {
        Self { inner, warnings }
    }

    /// The generations of `key` above `above`, ascending.
    async fn generations(&self, key: &Key, above: u64) -> StoreResult<Vec<u64>> {
        let folder = format!("{PRIVATE}/cas/{key}/");
        let prefix = Prefix::new(folder.as_str()).map_err(|error| StoreError::Failed(error.into()))?;
        let mut after = (above > 0).then(|| format!("{folder}{above:020}"));
        let mut generations = Vec::new();
        loop {
            // By folder: other keys may continue this one.
            let page = self.inner.list(&prefix, after.as_deref(), 1000, true).await?;
            for listed in page.objects {
                let number =
                    listed.key.as_str().strip_prefix(&folder).and_then(|text| text.parse::<u64>().ok());
                generations.extend(number.filter(|number| *number > above));
            }
            after = page.next;
            if after.is_none() {
                return Ok(generations);
            }
        }
    }

    async fn truth(&self, key: &Key) -> StoreResult<Truth> {
        for _ in 0..ROUNDS {
            let generations = self.generations(key, 0).await?;
            let Some(&generation) = generations.last() else {
                let meta = present(self.inner.head(key).await)?;
                if meta.as_ref().is_some_and(|meta| marked(meta).is_some()) {
                    // The first generation came between the two requests.
                    continue;
                }
                return Ok(Truth { generation: 0, old: Vec::new(), meta });
            };
            let Some(mut meta) = present(self.inner.head(&place(key, generation)?).await)? else {
                // Three more were written meanwhile.
                continue;
            };
            let gone = meta.user.contains_key(GONE);
            mark(&mut meta, generation);
            let old = generations.iter().filter(|number| **number + KEPT <= generation + 1);
            let old = old.map(|number| place(key, *number)).collect::<StoreResult<_>>()?;
            return Ok(Truth { generation, old, meta: (!gone).then_some(meta) });
        }
        Err(StoreError::Conflict)
    }

    /// Makes the next generation, or finds that somebody else did.
    async fn advance(
        &self,
        key: &Key,
        truth: &Truth,
        data: &Chunks,
        options: &PutOptions,
    ) -> StoreResult<Version> {
        let generation = truth.generation + 1;
        let create = PutOptions { condition: Condition::Absent, ..options.clone() };
        self.inner.put(&place(key, generation)?, data.clone(), create).await?;
        self.show(key, generation, data, options).await?;
        // Others may be at it as well; what stays is removed next time.
        self.inner.delete_many(&truth.old).await.ok();
        Ok(chained(generation))
    }

    /// Writes a generation to the key itself.
    async fn show(&self, key: &Key, generation: u64, data: &Chunks, options: &PutOptions) -> StoreResult<()> {
        let mut options = PutOptions { condition: Condition::Always, ..options.clone() };
        options.user.insert(GENERATION.to_owned(), generation.to_string());
        let mut tries = 0;
        loop {
            match self.inner.put(key, data.clone(), options.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    tries += 1;
                    if tries == WRITES {
                        // The change is owned and not to be seen yet: whoever comes next shows it.
                        return Err(StoreError::Unknown(Box::new(error)));
                    }
                }
            }
        }
    }

    /// Shows the truth if its writer did not live to do it; only then can others base a change on it.
    async fn help(&self, key: &Key, truth: &Truth) -> StoreResult<()> {
        let shown = present(self.inner.head(key).await)?;
        if truth.generation == 0 || shown.as_ref().is_some_and(|meta| marked(meta) == Some(truth.generation))
        {
            return Ok(());
        }
        let Some(meta) = &truth.meta else {
            return self.inner.delete(key).await;
        };
        let mut found = self.inner.get(&place(key, truth.generation)?, GetOptions::default()).await?;
        let mut data = Chunks::default();
        while let Some(chunk) = found.body.next().await {
            data.push(chunk.map_err(|error| StoreError::Unknown(error.into()))?);
        }
        let options = PutOptions {
            condition: Condition::Always,
            content_type: meta.content_type.clone(),
            user: meta.user.clone(),
        };
        self.show(key, truth.generation, &data, &options).await
    }

    /// Where the newest bytes of a marked object are: `None` if at the key itself.
    async fn newer(&self, key: &Key, shown: &ObjectMeta) -> StoreResult<Option<u64>> {
        match marked(shown) {
            Some(generation) => Ok(self.generations(key, generation).await?.last().copied()),
            None => Ok(None),
        }
    }
}

/// Where a generation lies.
fn place(key: &Key, generation: u64) -> StoreResult<Key> {
    Key::new(format!("{PRIVATE}/cas/{key}/{generation:020}"))
        .map_err(|error| StoreError::Failed(error.into()))
}

/// The version of a generation: it is created once and never changes.
fn chained(generation: u64) -> Version {
    Version(format!("\"g{generation}\""))
}

fn is_chained(version: &Version) -> bool {
    version.0.starts_with("\"g")
}

fn marked(meta: &ObjectMeta) -> Option<u64> {
    meta.user.get(GENERATION)?.parse().ok()
}

/// Makes metadata look as callers know it.
fn mark(meta: &mut ObjectMeta, generation: u64) {
    meta.version = chained(generation);
    meta.user.remove(GENERATION);
    meta.user.remove(GONE);
}

fn present<T>(outcome: StoreResult<T>) -> StoreResult<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl<S: Store> Layer for CasChain<S> {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.cas = CasLevel::L1;
        capabilities.warnings.extend(self.warnings.iter().cloned());
        capabilities
    }

    async fn get(&self, key: &Key, mut options: GetOptions) -> StoreResult<Found> {
        // The store knows nothing of our versions: compare here.
        let unless = options.if_none_match.take_if(|version| is_chained(version));
        let only_if = options.if_match.take_if(|version| is_chained(version));
        let mut found = self.inner.get(key, options.clone()).await?;
        let Some(mut generation) = marked(&found.meta) else {
            return if only_if.is_some() { Err(StoreError::Precondition) } else { Ok(found) };
        };
        if let Some(newer) = self.newer(key, &found.meta).await? {
            let plain = GetOptions { range: options.range, ..GetOptions::default() };
            found = self.inner.get(&place(key, newer)?, plain).await?;
            if found.meta.user.contains_key(GONE) {
                return Err(StoreError::NotFound);
            }
            generation = newer;
        }
        mark(&mut found.meta, generation);
        if unless.is_some_and(|version| version == found.meta.version) {
            return Err(StoreError::NotModified);
        }
        if only_if.is_some_and(|version| version != found.meta.version) {
            return Err(StoreError::Precondition);
        }
        Ok(found)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        let mut meta = self.inner.head(key).await?;
        let Some(mut generation) = marked(&meta) else { return Ok(meta) };
        if let Some(newer) = self.newer(key, &meta).await? {
            meta = self.inner.head(&place(key, newer)?).await?;
            if meta.user.contains_key(GONE) {
                return Err(StoreError::NotFound);
            }
            generation = newer;
        }
        mark(&mut meta, generation);
        Ok(meta)
    }

    async fn put(&self, key: &Key, data: Chunks, options: PutOptions) -> StoreResult<Version> {
        for _ in 0..ROUNDS {
            let truth = self.truth(key).await?;
            let holds = match &options.condition {
                Condition::Always => true,
                Condition::Absent => truth.meta.is_none(),
                Condition::Matches(version) => {
                    truth.meta.as_ref().is_some_and(|meta| meta.version == *version)
                }
            };
            if !holds {
                self.help(key, &truth).await?;
                return Err(StoreError::Precondition);
            }
            if truth.generation == 0 && !matches!(options.condition, Condition::Matches(_)) {
                return self.inner.put(key, data, options).await;
            }
            match self.advance(key, &truth, &data, &options).await {
                Err(StoreError::Precondition | StoreError::Conflict)
                    if options.condition == Condition::Always => {}
                Err(StoreError::Conflict) => return Err(StoreError::Precondition),
                other => return other,
            }
        }
        Err(StoreError::Conflict)
    }

    async fn delete(&self, key: &Key) -> StoreResult<()> {
        let gone = PutOptions { user: [(GONE.to_owned(), "1".to_owned())].into(), ..PutOptions::default() };
        let create = PutOptions { condition: Condition::Absent, ..gone };
        for _ in 0..ROUNDS {
            let truth = self.truth(key).await?;
            if truth.generation > 0 && truth.meta.is_some() {
                match self
                    .inner
                    .put(&place(key, truth.generation + 1)?, Chunks::default(), create.clone())
                    .await
                {
                    Ok(_) => {}
                    Err(StoreError::Precondition | StoreError::Conflict) => continue,
                    Err(error) => return Err(error),
                }
            }
            return self.inner.delete(key).await;
        }
        Err(StoreError::Conflict)
    }

    async fn delete_many(&self, keys: &[Key]) -> StoreResult<()> {
        let mut plain = Vec::new();
        for key in keys {
            if self.generations(key, 0).await?.is_empty() {
                plain.push(key.clone());
            } else {
                Layer::delete(self, key).await?;
            }
        }
        self.inner.delete_many(&plain).await
    }
}
