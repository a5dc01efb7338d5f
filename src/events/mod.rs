//! Telling others what has changed: webhooks, fed by the change feeds of the protocols.
//!
//! Each webhook has one process at a time that delivers to it ([`crate::maintenance::Leases`]) and a cursor in the bucket
//! that says how far it is, per protocol. Events come in the order of the feed, at least once: after a crash the last few come again. A
//! receiver that is away gets them when it is back, as far back as the feed keeps single events.

mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::config::WebhookConfig;
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Clock;
use crate::index::{Entry, Index};
use crate::maintenance::{Lease, Leases};
use crate::storage::{Edit, JsonDocument, Key, PRIVATE, Storage};
use crate::upstream::client::Client;
use webhook::Webhook;

/// How often the feeds are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a process asks whether it may deliver, while another does.
const ASK: Duration = Duration::from_secs(5);
/// Events between two notes of how far it is.
const BATCH: usize = 20;
/// The pauses between tries grow from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// An event that could not be delivered for so long is given up.
const GIVE_UP: Duration = Duration::from_hours(24);

/// How far a webhook is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursors {
    /// By protocol, the serial of the last event that was delivered.
    serials: BTreeMap<String, u64>,
}

impl JsonDocument for Cursors {
    const LIMIT: u64 = 64 << 10;
    const NAME: &'static str = "webhook cursor";
}

/// Delivers to one webhook, for as long as it is polled.
pub struct Courier {
    hook: Webhook,
    feeds: Vec<(ProtocolName, Arc<Index>)>,
    storage: Storage,
    clock: Clock,
    leases: Leases,
}

impl Courier {
    /// For one entry of the configuration.
    ///
    /// # Errors
    /// An option that is wrong, named.
    pub fn new(
        config: &WebhookConfig,
        feeds: Vec<(ProtocolName, Arc<Index>)>,
        storage: Storage,
        clock: Clock,
    ) -> Result<Self> {
        let hook = Webhook::new(config)?;
        let feeds = feeds.into_iter().filter(|(protocol, _)| hook.hears(*protocol)).collect();
        let leases = Leases::new(storage.clone());
        Ok(Self { hook, feeds, storage, clock, leases })
    }

    /// Delivers, or waits for its turn; never ends, unless no request can be made at all.
    pub async fn run(self) {
        // Not before: it reads the system's certificates.
        let client = match Client::new() {
            Ok(client) => client,
            Err(error) => {
                let (url, causes) = (self.hook.host(), error.causes());
                tracing::error!(url, causes, "a webhook can't be served: {}", error.message());
                return;
            }
        };
        loop {
            match self.leases.try_take(&format!("webhook-{}", self.hook.id())).await {
                Ok(Some(lease)) => self.serve(&client, &lease).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(causes = error.causes(), "webhooks wait: {}", error.message()),
            }
            sleep(ASK).await;
        }
    }

    /// Delivers for as long as the lease holds.
    async fn serve(&self, client: &Client, lease: &Lease) {
        while lease.is_held() {
            for (protocol, index) in &self.feeds {
                if let Err(error) = self.deliver(client, lease, *protocol, index).await {
                    let (url, causes) = (self.hook.host(), error.causes());
                    tracing::warn!(url, causes, "a webhook is not served: {}", error.message());
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Delivers what is new in one feed.
    async fn deliver(
        &self,
        client: &Client,
        lease: &Lease,
        protocol: ProtocolName,
        index: &Index,
    ) -> Result<()> {
        let Some(since) = self.cursor(protocol).await? else {
            // What was in the bucket before the index is no event.
            index.settled().await;
            // It was not there before: it hears of what happens from now on.
            return self.advance(protocol, index.newest().await?).await;
        };
        let found = index.events(since).await?;
        if found.gap {
            tracing::warn!(url = self.hook.host(), %protocol, since, "events may be missing: a webhook was away for long, or the index was made anew");
        }
        for batch in found.entries.chunks(BATCH) {
            for event in batch {
                if self.hook.wants(event) && !self.insist(client, lease, protocol, event).await {
                    return Ok(());
                }
            }
            if let Some(last) = batch.last() {
                self.advance(protocol, last.serial).await?;
            }
        }
        // Past what was imported, too, or it would be a gap for ever.
        if found.newest > since { self.advance(protocol, found.newest).await } else { Ok(()) }
    }

    /// Delivers one event, however often it takes. `false` if another process has taken over.
    async fn insist(&self, client: &Client, lease: &Lease, protocol: ProtocolName, event: &Entry) -> bool {
        let mut pause = PAUSE.0;
        loop {
            if !lease.is_held() {
                return false;
            }
            let now = self.clock.now();
            let problem = match self.hook.send(client, protocol, event, now).await {
                Ok(status) if status.is_success() => return true,
                Ok(status) => format!("it answered {status}"),
                Err(error) => error.message().to_owned(),
            };
            let url = self.hook.host();
            if now.since(event.time) >= GIVE_UP {
                tracing::warn!(url, %protocol, serial = event.serial, "an event is given up: {problem}");
                return true;
            }
            tracing::warn!(url, %protocol, serial = event.serial, "an event was not delivered, and is tried again: {problem}");
            sleep(pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn key(&self) -> Result<Key> {
        Key::new(format!("{PRIVATE}/webhooks/{}.json", self.hook.id()))
    }

    async fn cursor(&self, protocol: ProtocolName) -> Result<Option<u64>> {
        let cursors = self.storage.document_revalidated::<Cursors>(&self.key()?).await?;
        Ok(cursors.and_then(|cursors| cursors.document.serials.get(protocol.as_str()).copied()))
    }

    async fn advance(&self, protocol: ProtocolName, serial: u64) -> Result<()> {
        let change = move |cursors: &mut Cursors| {
            let before = cursors.serials.insert(protocol.as_str().to_owned(), serial);
            Ok(if before == Some(serial) { Edit::Unchanged(()) } else { Edit::Changed(()) })
        };
        self.storage.update::<Cursors, _, _>(&self.key()?, change).await?;
        Ok(())
    }
}
