//! An issuer that says nothing, and builds that don't wait for it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Document, KeySource, Keys, Lookup};
use crate::auth::TestIssuer;
use crate::config::IssuerConfig;
use crate::core::error::Result;
use crate::core::time::{Clock, Timestamp};

const ISSUER: &str = "https://ci.example.com/org";

/// Answers when it may.
struct Slow {
    key: TestIssuer,
    gate: Semaphore,
    begun: AtomicUsize,
    asked: Mutex<Vec<Lookup>>,
}

#[async_trait]
impl KeySource for Slow {
    async fn fetch(&self, lookup: &Lookup) -> Result<Document> {
        self.begun.fetch_add(1, SeqCst);
        self.asked.lock().push(lookup.clone());
        self.gate.acquire().await.unwrap().forget();
        let document = match lookup.url.path() {
            "/org/.well-known/openid-configuration" => {
                json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example.com/of/ci" })
            }
            _ => self.key.jwks(),
        };
        Ok(Document { headers: HeaderMap::new(), bytes: document.to_string().into() })
    }
}

fn world() -> (Arc<Slow>, Keys, Clock) {
    let (gate, clock) = (Semaphore::new(0), Clock::manual(Timestamp::from_millis(1_790_000_000_000)));
    let slow =
        Arc::new(Slow { key: TestIssuer::new(), gate, begun: AtomicUsize::new(0), asked: Mutex::default() });
    let config =
        IssuerConfig { issuer: ISSUER.to_owned(), kind: "own".to_owned(), ..IssuerConfig::default() };
    let source = Arc::clone(&slow) as Arc<dyn KeySource>;
    let keys = Keys::new(&config, &source, &clock).unwrap();
    (slow, keys, clock)
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_says_nothing_holds_builds_up_for_a_while_only() {
    let (slow, keys, clock) = world();
    let begun = tokio::time::Instant::now();
    let error = keys.find(Some("one")).await.err().unwrap();
    assert_eq!((error.status().as_u16(), begun.elapsed().as_secs()), (503, 15));
    assert!(error.headers().iter().any(|(name, value)| name == "retry-after" && value == "60"), "{error:?}");
    assert!(keys.find(Some("one")).await.is_err());
    assert_eq!((begun.elapsed().as_secs(), slow.begun.load(SeqCst)), (15, 1), "it is not asked again");
    clock.advance(Duration::from_mins(1));
    slow.gate.add_permits(2);
    assert!(keys.find(Some("one")).await.unwrap().knows(Some("one")));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_who_began_it_leaves() {
    let (slow, keys, _) = world();
    assert!(keys.find(Some("one")).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!(slow.begun.load(SeqCst), 1);
    let next = keys.find(Some("one"));
    slow.gate.add_permits(2);
    assert!(next.await.unwrap().knows(Some("one")));
    assert_eq!(slow.begun.load(SeqCst), 2, "its two documents, once");
}

#[tokio::test]
async fn what_an_issuer_names_is_no_more_trusted_than_itself() {
    let (slow, keys, _) = world();
    slow.gate.add_permits(2);
    assert!(keys.find(None).await.is_ok());
    let asked = slow.asked.lock();
    let urls: Vec<&str> = asked.iter().map(|lookup| lookup.url.as_str()).collect();
    assert_eq!(
        urls,
        [&format!("{ISSUER}/.well-known/openid-configuration"), "https://keys.example.com/of/ci"]
    );
    for lookup in asked.iter() {
        assert_eq!((lookup.origin.host_str(), lookup.private), (Some("ci.example.com"), None));
        assert_eq!(lookup.limit, 64 << 10);
    }
}
