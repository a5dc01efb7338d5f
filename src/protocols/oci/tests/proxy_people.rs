//! Pulling through with credentials that are one user's: what they open is not opened to others.

use async_trait::async_trait;

use super::proxy::{lines, manifest_reply, offer};
use super::*;
use crate::config::Config;
use crate::config::upstream::ProtocolUpstreams;
use crate::core::time::{Clock, Timestamp};
use crate::registry::{Extensions, Registry};
use crate::storage::Store;
use crate::storage::memory::MemoryStore;
use crate::testing::upstream::{FakeUpstream, PerUser, Reply};
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_to_one_user_is_not_joined_by_another() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"the layer");
    fake.script(|asked| match asked.header("authorization") {
        Some("Bearer alice") => None,
        _ => Some(Reply::new(404, "{}")),
    });
    let config = |token: &str| {
        let mut config = fake.config();
        config["upstreams"][0]["auth"] = json!({ "type": "bearer", "token": token });
        config
    };
    let people = PerUser::new(&[("alice", config("alice")), ("bob", config("bob"))]);
    let registry = Arc::new(TestRegistry::with_upstreams(json!({}), people).await);
    let ask = |user: &'static str, path: &str| {
        let (registry, request) = (Arc::clone(&registry), get(path).token(&format!("user:{user}")));
        tokio::spawn(async move { registry.send(request).await })
    };
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    for (path, reply) in [
        (image.by_digest("team/app"), manifest_reply(&image.manifest, IMAGE)),
        (image.blob("team/app"), Reply::ok(image.layer.clone())),
    ] {
        fake.on(&path, reply.gate(&gate));
        let from = fake.count();
        // What one may not have does not become what the other one may not have.
        assert_eq!(ask("bob", &path).await.unwrap().status, 404, "{path}");
        let hers = ask("alice", &path);
        for _ in 0..1000 {
            if lines(&fake, from).contains(&format!("GET {path}")) && fake.count() >= from + 2 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        registry.clock.advance(std::time::Duration::from_secs(61));
        let his = tokio::time::timeout(std::time::Duration::from_secs(10), ask("bob", &path)).await;
        assert_eq!(his.expect("he waits for nobody").unwrap().status, 404, "{path}");
        gate.add_permits(1);
        assert_eq!(hers.await.unwrap().status, 200, "{path}");
        assert_eq!(ask("bob", &path).await.unwrap().status, 404, "{path}");
        assert_eq!(ask("alice", &path).await.unwrap().status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_kept_nowhere_is_told_to_each_as_it_is_for_them() {
    let fake = FakeUpstream::start().await;
    let (hers, his) = (image(b"{}", b"hers").to_string(), image(b"{}", b"his").to_string());
    let (first, second) = (sha256(hers.as_bytes()), sha256(his.as_bytes()));
    let replies =
        [("Bearer alice", hers.clone(), first.clone()), ("Bearer bob", his.clone(), second.clone())];
    fake.script(move |asked| {
        let (_, text, digest) =
            replies.iter().find(|(whose, ..)| asked.header("authorization") == Some(*whose))?;
        let known = ["v1", digest].iter().any(|one| asked.path == format!("/v2/team/app/manifests/{one}"));
        known.then(|| manifest_reply(text, IMAGE))
    });
    let config = |token: &str| {
        let mut config = fake.config_with(json!({ "cache": { "enabled": false } }));
        config["upstreams"][0]["auth"] = json!({ "type": "bearer", "token": token });
        config
    };
    let people =
        PerUser::new(&[("alice", config("alice")), ("bob", config("bob")), ("carol", config("carol"))]);
    let registry = TestRegistry::with_upstreams(json!({}), people).await;
    let ask = |user: &str, reference: &str| {
        let path = format!("/v2/team/app/manifests/{reference}");
        registry.send(get(&path).token(&format!("user:{user}")))
    };
    for (user, text) in [("alice", &hers), ("bob", &his), ("alice", &hers)] {
        let answer = ask(user, "v1").await;
        assert_eq!((answer.status, &answer.text()), (200, text), "{user}");
    }
    for (user, reference) in [("carol", "v1"), ("carol", &first), ("bob", &first), ("alice", &second)] {
        assert_eq!(ask(user, reference).await.status, 404, "{user} {reference}");
    }
    assert!(registry.keys(false).await.is_empty(), "nothing is kept");
}

#[tokio::test]
async fn a_tag_that_is_not_kept_moves_when_it_moves_there() {
    let fake = FakeUpstream::start().await;
    let registry =
        super::proxy::mirror_with(&fake, json!({ "cache": { "enabled": false } }), json!({})).await;
    for layer in [b"one".as_slice(), b"two"] {
        let image = offer(&fake, "team/app", "v1", layer);
        super::proxy::pull(&registry, "team/app", "v1", &image).await;
    }
}
