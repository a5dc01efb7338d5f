//! Pulling through with credentials that are one user's: what they open is not opened to others.

use async_trait::async_trait;

use super::proxy::{lines, offer};
use super::*;
use crate::config::Config;
use crate::config::upstream::ProtocolUpstreams;
use crate::core::time::{Clock, Timestamp};
use crate::registry::{Extensions, Registry};
use crate::storage::Store;
use crate::storage::memory::MemoryStore;
use crate::testing::upstream::{FakeUpstream, Reply};
use crate::upstream::{Question, UpstreamProvider};

/// Gives everybody the same credentials, which are somebody's.
struct As(Arc<ProtocolUpstreams>);

#[async_trait]
impl UpstreamProvider for As {
    async fn resolve(&self, _question: &Question) -> Result<Option<Arc<ProtocolUpstreams>>> {
        Ok(Some(Arc::clone(&self.0)))
    }
}

/// A process whose users are all this one.
async fn process(fake: &FakeUpstream, store: &Arc<dyn Store>, clock: &Clock, token: &str) -> TestRegistry {
    let upstream = json!({ "id": "fake", "url": fake.url, "auth": { "type": "bearer", "token": token } });
    started(json!([upstream]), store, clock).await
}

async fn started(upstreams: Value, store: &Arc<dyn Store>, clock: &Clock) -> TestRegistry {
    let upstreams = json!({ "upstreams": upstreams, "resilience": { "maxRetries": 0 } });
    let provider = As(Arc::new(serde_json::from_value(upstreams).unwrap()));
    let config = json!({
        "storage": { "type": "memory" }, "maintenance": { "enabled": false }, "auth": { "jwtSecret": "test" },
        "oci": { "enabled": true, "basePath": "/oci" },
    });
    let extensions = Extensions {
        upstream_provider: Some(Arc::new(provider)),
        store: Some(Arc::clone(store)),
        clock: clock.clone(),
        ..Extensions::default()
    };
    let registry = Registry::new(&Config::from_json(&config.to_string()).unwrap(), extensions).unwrap();
    registry.init().await.unwrap();
    registry.settled().await;
    TestRegistry { registry, store: Arc::clone(store), clock: clock.clone() }
}

#[tokio::test]
async fn what_one_users_credentials_open_is_closed_to_others() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    fake.script(|asked| match asked.header("authorization") {
        Some("Bearer alice" | "Bearer carol") => None,
        _ => Some(Reply::new(403, r#"{"errors":[{"message":"not yours"}]}"#)),
    });
    let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let paths = ["/v2/team/app/manifests/v1".to_owned(), image.by_digest("team/app"), image.blob("team/app")];
    let alice = process(&fake, &store, &clock, "alice").await;
    for path in &paths {
        assert_eq!(alice.send(get(path).anonymous()).await.status, 200, "{path}");
    }
    let bob = process(&fake, &store, &clock, "bob").await;
    for path in &paths {
        for request in [get(path), head(path)] {
            let answer = bob.send(request.anonymous()).await;
            assert_eq!(answer.status, 403, "{path}");
        }
    }
    // Who is let in upstream is let in here, and asked for once.
    let carol = process(&fake, &store, &clock, "carol").await;
    let from = fake.count();
    for path in [&paths[1], &paths[2], &paths[1]] {
        assert_eq!(carol.send(get(path).anonymous()).await.status, 200, "{path}");
    }
    assert_eq!(lines(&fake, from), [format!("HEAD {}", paths[1])]);
    // Who is given no upstream is let in by none.
    let nobody = started(json!([]), &store, &clock).await;
    for path in &paths {
        assert_eq!(nobody.send(get(path).anonymous()).await.status, 404, "{path}");
    }
}
