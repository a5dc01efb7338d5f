//! The side of pushes: what makes sure that a collection does not remove what was just promised to a client.
//!
//! A collection takes only what nothing has touched for the grace. So a promise (a `HEAD` that says 200, a mount, a finished upload, a manifest) costs
//! nothing while the link is young; one that is older than half the grace is written anew first. Only whoever writes a link has to ask whether a
//! collection is under way, at most once a second, and only then what it is about to remove.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::super::super::prelude::*;
use super::super::links::Link;
use super::super::name::Name;
use super::super::{Call, keys};
use super::condemned::{Collections, Condemned, Fate};

/// How long what was read about collections is good for. A collection waits much longer ([`super::SETTLE`]) before it relies on being known.
const FRESH: Duration = Duration::from_secs(1);
/// For so long after a blob was seen there need be no second look at it: what a collection removes in between stays on its list.
const TRUST: Duration = Duration::from_secs(3);
/// How long to wait for a collection that is just removing what is needed.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// Whether a collection was under way when this process last asked.
#[derive(Default)]
pub(in super::super) struct Awareness(Mutex<Option<(Instant, bool)>>);

/// Looks at the list of the condemned; outlives a request.
#[derive(Clone)]
pub(in super::super) struct Guard {
    pub(in super::super) objects: Objects,
    awareness: Arc<Awareness>,
}

impl Guard {
    /// Makes sure that nothing removes this digest in the next moments: before a blob is made visible that may be there already, unused.
    pub(in super::super) async fn clear(&self, digest: &Digest) -> Result<()> {
        if self.collecting().await? {
            self.spare(digest).await?;
        }
        Ok(())
    }

    /// Whether a collection is under way: of what was acknowledged before this call, one that is not known here yet will see everything.
    async fn collecting(&self) -> Result<bool> {
        let cached = *self.awareness.0.lock();
        if let Some((_, running)) = cached.filter(|(asked, _)| asked.elapsed() < FRESH) {
            return Ok(running);
        }
        let asked = Instant::now();
        let found = self.objects.document_revalidated::<Collections>(&keys::collections()?).await?;
        let running = found.is_some_and(|found| !found.document.running.is_empty());
        *self.awareness.0.lock() = Some((asked, running));
        Ok(running)
    }

    /// Takes a digest off the list of the condemned; waits while it is just being removed.
    ///
    /// # Errors
    /// 503 when that takes too long.
    async fn spare(&self, digest: &Digest) -> Result<Option<Fate>> {
        let (key, text) = (keys::condemned(&keys::Shard::of(digest))?, digest.to_string());
        let (began, mut waited) = (Instant::now(), false);
        loop {
            let list = self.objects.document_revalidated::<Condemned>(&key).await?;
            let mut fate = list.and_then(|list| list.document.fate(&text));
            if fate == Some(Fate::Condemned) {
                let text = text.clone();
                let change = move |list: &mut Condemned| {
                    let before = list.fate(&text);
                    let after = list.spare(&text);
                    Ok(if before == after { Edit::Unchanged(after) } else { Edit::Changed(after) })
                };
                fate = self.objects.update(&key, &ObjectInfo::default(), change).await?;
            }
            if fate != Some(Fate::Going) {
                // It was being removed a moment ago, whatever the list says now.
                return Ok(if waited { Some(Fate::Gone) } else { fate });
            }
            waited = true;
            if began.elapsed() > PATIENCE {
                return Err(Error::unavailable("this blob is being removed; try again in a while"));
            }
            sleep(LOOK).await;
        }
    }
}

impl Call<'_> {
    pub(in super::super) fn guard(&self) -> Guard {
        Guard { objects: self.cx.objects.clone(), awareness: Arc::clone(&self.oci.awareness) }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.oci.options.gc.grace_ms)
    }

    /// Whether a manifest or a promise may rest on this link as it is.
    pub(in super::super) fn is_young(&self, link: &Link) -> bool {
        link.modified.is_some_and(|modified| self.cx.clock.now().since(modified) < self.grace() / 2)
    }

    /// How long what was seen a moment ago is believed: a minute, and well within the grace.
    pub(in super::super) fn belief(&self) -> Duration {
        Duration::from_mins(1).min(self.grace() / 8)
    }

    /// Whether work that began then has taken so long that what it looked at first may be gone.
    pub(in super::super) fn took_long(&self, began: Instant) -> bool {
        began.elapsed() > self.grace() / 8
    }

    /// Size of a blob that the client may rely on for a while: its link is made young if it is not.
    pub(in super::super) async fn promised(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        if let Some(link) = self.believed_link(name, digest).filter(|link| self.is_young(link)) {
            return Ok(Some(link.size));
        }
        self.relied_on(name, digest).await
    }

    /// The same, from the store: before something is made to depend on it.
    pub(in super::super) async fn relied_on(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let known = Instant::now();
        let Some(link) = self.linked(name, digest).await? else { return Ok(None) };
        if self.is_young(&link) {
            return Ok(Some(link.size));
        }
        self.write_link(name, digest, link.size).await?;
        Ok(self.settle(name, digest, link.size, known).await?.then_some(link.size))
    }

    /// Makes sure of a link that was just written, over a blob that was there at `known`. `false`: the blob was being removed meanwhile,
    /// and the link is taken back.
    pub(in super::super) async fn settle(
        &self,
        name: &Name,
        digest: &Digest,
        size: u64,
        known: Instant,
    ) -> Result<bool> {
        let guard = self.guard();
        let gone = guard.collecting().await? && guard.spare(digest).await? == Some(Fate::Gone);
        if !gone && known.elapsed() < TRUST {
            return Ok(true);
        }
        let blob = keys::blob(digest)?;
        if self.cx.objects.stat(&blob).await?.is_none() {
            self.unlink(name, digest).await?;
            if self.cx.objects.stat(&blob).await?.is_none() {
                return Ok(false);
            }
            // Somebody has uploaded it meanwhile, and the link that we took back may have been theirs.
            self.write_link(name, digest, size).await?;
            return Ok(true);
        }
        if gone {
            // Our link may have gone with what was removed. The blob is somebody's who came later, or was kept.
            self.write_link(name, digest, size).await?;
        }
        Ok(true)
    }

    /// For a manifest that a rule may be about to take, once what names it is stored. `true`: it was removed meanwhile.
    pub(in super::super) async fn manifest_went(&self, digest: &Digest) -> Result<bool> {
        let policies = self.oci.options.has_policies();
        let guard = self.guard();
        Ok(policies && guard.collecting().await? && guard.spare(digest).await? == Some(Fate::Gone))
    }
}
