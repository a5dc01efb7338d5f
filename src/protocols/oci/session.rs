//! Upload sessions: state that any process can go on from, and who may touch it when.
//!
//! A session is one small document. Whoever goes on with stored bytes first takes the turn (compare-and-swap), works, and gives it back with the
//! new state. Somebody who finds that the turn has changed since they looked has lost: 416, with where the session stands now. A
//! turn that was never given back belongs to a request that died; the next one takes it over, and since the dead one may still have
//! had bytes on their way into the same parts, the stored bytes are hashed once more before they become a blob.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::prelude::*;
use super::name::Name;
use super::{Call, error, keys};
use crate::core::id;
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Writer, WriterState};

/// How often a session is tried to be opened: a client gives up a whole push over it.
const OPENINGS: usize = 3;

/// A session at rest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Session {
    /// Where the blob is going. Empty: there is no such session.
    repository: String,
    /// Who opened it; empty for nobody.
    owner: String,
    created: Timestamp,
    touched: Timestamp,
    /// Changes with every change of the session.
    turn: String,
    /// Whether some request has the turn.
    held: bool,
    /// Whether a turn was taken over: the stored bytes are not taken on trust.
    pub(super) reread: bool,
    /// Whether SHA-512 runs along (`digest-algorithm=sha512`).
    pub(super) sha512: bool,
    /// Where the bytes are; `None` while there are none.
    pub(super) writer: Option<WriterState>,
}

impl JsonDocument for Session {
    const LIMIT: u64 = 4 << 20;
    const NAME: &'static str = "upload session";
}

impl Session {
    /// Bytes received and stored for good.
    pub(super) fn stored(&self) -> u64 {
        self.writer.as_ref().map_or(0, WriterState::length)
    }

    /// What to hash with.
    pub(super) fn algorithms(&self) -> &'static [Algorithm] {
        if self.sha512 { &[Algorithm::Sha256, Algorithm::Sha512] } else { &[Algorithm::Sha256] }
    }

    fn exists(&self) -> Result<()> {
        if self.repository.is_empty() { Err(error::upload_unknown()) } else { Ok(()) }
    }
}

/// A session in somebody's hands: lives longer than the request, whose client may vanish in the middle.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) objects: Objects,
    pub(super) id: String,
    pub(super) session: Session,
    clock: Clock,
    /// Whether the session may name what the writer has stored.
    named: bool,
}

impl Held {
    /// Opens a session.
    pub(super) async fn open(call: &Call<'_>, name: &Name, sha512: bool) -> Result<Self> {
        let now = call.cx.clock.now();
        let session = Session {
            repository: name.as_str().to_owned(),
            owner: call.identity.user().unwrap_or_default().to_owned(),
            created: now,
            touched: now,
            turn: id::uuid(),
            sha512,
            ..Session::default()
        };
        let mut held = Self::of(call, id::uuid(), session);
        for _ in 1..OPENINGS {
            match held.create().await {
                // Whether it was written nobody knows, and nobody has heard its name: take another one. Maintenance removes what is left over.
                Err(error) if error.kind() == Kind::Unavailable => held.id = id::uuid(),
                created => return created.map(|()| held),
            }
        }
        held.create().await.map(|()| held)
    }

    async fn create(&self) -> Result<()> {
        let options =
            PutOptions { condition: Condition::Absent, content_type: None, ..PutOptions::default() };
        let bytes = Document::serialize(&self.session)?;
        self.objects.put(&self.key()?, bytes, options, &ObjectInfo::default()).await.map(|_| ())
    }

    /// Finds a session of this repository and this caller. Any other is answered like one that never was.
    pub(super) async fn load(call: &Call<'_>, name: &Name, id: &str) -> Result<Self> {
        if !id::is_uuid(id) {
            return Err(error::upload_unknown());
        }
        let loaded = call.cx.objects.document_revalidated::<Session>(&keys::upload(id)?).await?;
        let session = loaded.map(|loaded| loaded.document.clone()).unwrap_or_default();
        session.exists()?;
        if session.repository != name.as_str() || session.owner != call.identity.user().unwrap_or_default() {
            return Err(error::upload_unknown());
        }
        Ok(Self::of(call, id.to_owned(), session))
    }

    fn of(call: &Call<'_>, id: String, session: Session) -> Self {
        let named = session.writer.is_some();
        Self { objects: call.cx.objects.clone(), id, session, clock: call.cx.clock.clone(), named }
    }

    pub(super) fn key(&self) -> Result<Key> {
        keys::upload(&self.id)
    }

    /// Changes the session if it is still as it was looked at, and goes on with what it is then.
    async fn change(&mut self, change: impl Fn(&mut Session) + Send + Sync + 'static) -> Result<()> {
        let (before, after, now) = (self.session.turn.clone(), id::uuid(), self.clock.now());
        let change = move |session: &mut Session| {
            session.exists()?;
            // Run a second time, it finds its own change there.
            if session.turn == after {
                return Ok(Edit::Unchanged(session.clone()));
            }
            if session.turn != before {
                return Err(error::out_of_order(session.stored()));
            }
            change(session);
            session.turn.clone_from(&after);
            session.touched = now;
            Ok(Edit::Changed(session.clone()))
        };
        self.session = self.objects.update(&self.key()?, &ObjectInfo::default(), change).await?;
        Ok(())
    }

    /// The writer to go on with. With stored bytes the turn is taken first; an empty session needs none, as everybody begins a place of their own.
    pub(super) async fn writer(&mut self, expected: Option<u64>) -> Result<Writer> {
        if self.session.writer.is_none() {
            return self.objects.writer(None, self.session.algorithms(), expected);
        }
        self.change(|session| {
            session.reread |= session.held;
            session.held = true;
        })
        .await?;
        let state = self.session.writer.clone().ok_or_else(error::upload_unknown)?;
        // Saved by another release, the hash can't go on: the client begins anew.
        self.objects.resume(&state).await?.ok_or_else(error::upload_unknown)
    }

    /// Writes down how far a long request has come: what a process that dies now loses. Keeps the turn, or takes it.
    pub(super) async fn checkpoint(&mut self, writer: &mut Writer) -> Result<()> {
        let Some(state) = writer.checkpoint().await?.filter(|state| state.length() > self.session.stored())
        else {
            return Ok(());
        };
        let before = self.session.writer.clone();
        let now = state.clone();
        self.named = true;
        self.change(move |session| {
            session.writer = Some(state.clone());
            session.held = true;
        })
        .await?;
        self.release(before.as_ref(), Some(&now)).await;
        Ok(())
    }

    /// Removes bytes that no state names any more. What can't be removed now is swept by the store.
    async fn release(&self, before: Option<&WriterState>, now: Option<&WriterState>) {
        if let Some(before) = before
            && let Err(error) = before.release(&self.objects, now).await
        {
            tracing::debug!(
                error = error.message(),
                causes = error.causes(),
                "bytes of an upload stay until they are swept"
            );
        }
    }

    /// Keeps what the writer has received, and gives the turn back.
    pub(super) async fn keep(&mut self, writer: Writer) -> Result<()> {
        let state = writer.suspend().await?;
        let before = self.session.writer.clone();
        let mine = (!self.named).then(|| state.clone());
        let now = state.clone();
        let kept = self
            .change(move |session| {
                session.writer = Some(state.clone());
                session.held = false;
            })
            .await;
        // Somebody else was faster. What was begun in a place of our own is nobody's now.
        if let (Err(error), Some(state)) = (&kept, mine)
            && !error.kind().is_server_fault()
        {
            throw_away(&self.objects, &state).await;
        }
        if kept.is_ok() {
            self.release(before.as_ref(), Some(&now)).await;
        }
        kept
    }

    /// Gives the turn back after a fault, with the state as it was. Parts may still be on their way.
    pub(super) async fn give_back(&mut self, writer: Writer) {
        let given = if self.named {
            writer.leave();
            let change = |session: &mut Session| {
                session.held = false;
                session.reread = true;
            };
            if self.session.held { self.change(change).await } else { Ok(()) }
        } else {
            discard(writer).await
        };
        if let Err(error) = given {
            tracing::warn!(
                error = error.message(),
                causes = error.causes(),
                "a broken upload was not put back in order"
            );
        }
    }

    /// Ends a session whose bytes are a blob now. What is left if this fails is swept later.
    pub(super) async fn close(&self) {
        self.end().await;
        self.release(self.session.writer.as_ref(), None).await;
    }

    async fn end(&self) {
        let closed = match self.key() {
            Ok(key) => self.objects.delete(&key, &ObjectInfo::default()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::warn!(
                error = error.message(),
                causes = error.causes(),
                "a finished upload session stays until it is swept"
            );
        }
    }

    /// Ends the session and throws its bytes away.
    pub(super) async fn abandon(&self) {
        self.end().await;
        if let Some(state) = &self.session.writer {
            throw_away(&self.objects, state).await;
        }
    }
}

/// Throws a writer away with everything that it has stored.
pub(super) async fn discard(writer: Writer) -> Result<()> {
    writer.finish().await?.discard().await
}

/// Removes suspended bytes. What can't be removed now is swept by the store.
async fn throw_away(objects: &Objects, state: &WriterState) {
    if let Err(error) = state.discard(objects).await {
        tracing::debug!(
            error = error.message(),
            causes = error.causes(),
            "an upload's bytes stay until they are swept"
        );
    }
}

/// Removes sessions that nobody has touched for `age`. Returns how many.
pub(super) async fn sweep(objects: &Objects, clock: &Clock, age: Duration) -> Result<u64> {
    let (prefix, now) = (keys::uploads()?, clock.now());
    let (mut after, mut swept) = (None, 0);
    loop {
        let page = objects.list(&prefix, after.as_deref(), super::links::PAGE, false).await?;
        // The object is as old as the last change: the listing tells which are worth a look.
        for listed in page.objects.iter().filter(|listed| now.since(listed.modified) >= age) {
            let Some(loaded) = objects.document_revalidated::<Session>(&listed.key).await? else { continue };
            if now.since(loaded.document.touched) < age {
                continue;
            }
            objects.delete(&listed.key, &ObjectInfo::default()).await?;
            if let Some(state) = &loaded.document.writer {
                throw_away(objects, state).await;
            }
            swept += 1;
        }
        let Some(next) = page.next else { return Ok(swept) };
        after = Some(next);
    }
}
