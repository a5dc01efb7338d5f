//! Pulling through with credentials that are one user's: what they open is not opened to others.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;

use super::proxy::{Image, lines, manifest_reply, offer};
use super::*;
use crate::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
use crate::config::Config;
use crate::config::upstream::ProtocolUpstreams;
use crate::core::secret::Secret;
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
    build(Arc::new(provider), None, store, clock).await
}

async fn build(
    provider: Arc<dyn UpstreamProvider>,
    auth_provider: Option<Arc<dyn AuthProvider>>,
    store: &Arc<dyn Store>,
    clock: &Clock,
) -> TestRegistry {
    let config = json!({
        "storage": { "type": "memory" }, "maintenance": { "enabled": false }, "auth": { "jwtSecret": "test" },
        "oci": { "enabled": true, "basePath": "/oci" },
    });
    let extensions = Extensions {
        upstream_provider: Some(provider),
        auth_provider,
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

/// Gives everybody their own credentials, and a policy.
struct Each {
    url: String,
    blocked: parking_lot::Mutex<Vec<&'static str>>,
}

#[async_trait]
impl UpstreamProvider for Each {
    async fn resolve(&self, question: &Question) -> Result<Option<Arc<ProtocolUpstreams>>> {
        let user =
            question.actor.as_ref().and_then(|actor| actor.user_id().map(str::to_owned)).unwrap_or_default();
        let auth = match user.as_str() {
            "open" => json!({ "type": "none" }),
            user => json!({ "type": "bearer", "token": user }),
        };
        let blocked: Vec<_> = self.blocked.lock().iter().map(|name| json!({ "name": name })).collect();
        let config = json!({
            "upstreams": [{ "id": "fake", "url": self.url, "auth": auth }],
            "policy": { "block": blocked }, "resilience": { "maxRetries": 0 },
        });
        Ok(Some(Arc::new(serde_json::from_value(config).unwrap())))
    }
}

/// Whose token is their name, and opens all that is not called `hidden`; it counts what it is asked.
#[derive(Default)]
struct Named(Arc<AtomicUsize>);

#[async_trait]
impl AuthProvider for Named {
    async fn authenticate(&self, _credentials: &Credentials, _: Asker) -> Result<Option<String>> {
        Ok(None)
    }

    async fn validate_token(&self, token: &Secret, _protocol: Option<&str>) -> Result<Option<AuthToken>> {
        let (user_id, scopes) = (token.expose().to_owned(), vec!["*:*:*:*".to_owned()]);
        Ok(Some(AuthToken { kind: None, user_id, scopes, readonly: false, expires_at: None, metadata: None }))
    }

    async fn create_token(&self, user_id: &str, _protocol: &str, _options: &TokenOptions) -> Result<Secret> {
        Ok(Secret::new(user_id))
    }

    async fn revoke_token(&self, _token: &Secret) -> Result<()> {
        Ok(())
    }

    async fn authorize(&self, token: Option<&AuthToken>, resource: &str, _action: &str) -> Result<bool> {
        self.0.fetch_add(1, SeqCst);
        let admin = token.is_some_and(|token| token.user_id == "admin");
        Ok(token.is_some() && (admin || !resource.contains("hidden")))
    }
}

/// A registry whose users go upstream as themselves, where only alice and carol are let in, and others are told that there is nothing.
struct People {
    fake: FakeUpstream,
    image: Image,
    provider: Arc<Each>,
    registry: Arc<TestRegistry>,
}

impl People {
    async fn start(layer: &[u8]) -> Self {
        let fake = FakeUpstream::start().await;
        let image = offer(&fake, "team/app", "v1", layer);
        fake.script(|asked| match asked.header("authorization") {
            Some("Bearer alice" | "Bearer carol") => None,
            None if asked.path.starts_with("/v2/open/") => None,
            _ => Some(Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)),
        });
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let provider = Arc::new(Each { url: fake.url.clone(), blocked: parking_lot::Mutex::default() });
        let users = Arc::new(Named::default());
        let registry = build(Arc::clone(&provider) as _, Some(users), &store, &clock).await;
        Self { fake, image, provider, registry: Arc::new(registry) }
    }

    async fn status(&self, user: &str, request: TestRequest) -> u16 {
        self.registry.send(request.token(user)).await.status
    }

    fn mount(&self, to: &str, from: Option<&str>) -> TestRequest {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        post(&format!("/v2/{to}/blobs/uploads/?mount={}{from}", sha256(&self.image.layer)))
    }
}

#[tokio::test]
async fn a_mount_takes_no_more_than_a_pull() {
    let people = People::start(b"layer").await;
    let path = people.image.blob("team/app");
    assert_eq!(people.status("alice", get(&path)).await, 200);
    assert_eq!(people.status("bob", get(&path)).await, 404);
    assert_eq!(people.status("bob", people.mount("bob/own", Some("team/app"))).await, 202);
    assert_eq!(people.status("bob", people.mount("bob/own", None)).await, 202);
    assert_eq!(people.status("bob", get(&people.image.blob("bob/own"))).await, 404);
    // Who may read it there mounts it, with or without having brought it.
    assert_eq!(people.status("alice", people.mount("alice/own", Some("team/app"))).await, 201);
    assert_eq!(people.status("carol", people.mount("carol/own", Some("team/app"))).await, 201);
    // What alice has in a repository of this registry is open to whom the registry opens it.
    assert_eq!(people.status("bob", people.mount("bob/own", None)).await, 201);
    // What is blocked since is mounted by nobody.
    people.provider.blocked.lock().push("team/*");
    assert_eq!(people.status("alice", get(&path)).await, 403);
    assert_eq!(people.status("alice", people.mount("alice/two", Some("team/app"))).await, 202);
}

#[tokio::test]
async fn a_mount_without_a_source_minds_who_is_blocked_and_who_brought_it() {
    let people = People::start(b"layer").await;
    offer(&people.fake, "open/app", "v1", b"layer");
    assert_eq!(people.status("open", get(&people.image.blob("open/app"))).await, 200);
    assert_eq!(people.status("open", people.mount("own/one", None)).await, 202, "a URL may be a secret, too");
    // What the configuration names is everybody's.
    let fake = &people.fake;
    let registry = super::proxy::mirror_with(fake, json!({}), json!({})).await;
    let block = json!({ "policy": { "block": [{ "name": "open/*" }] } });
    let later = registry.another(json!({ "upstreams": { "oci": fake.config_with(block) } }), None).await;
    assert_eq!(registry.send(get(&people.image.blob("open/app"))).await.status, 200);
    for (registry, status) in [(&later, 202), (&registry, 201)] {
        assert_eq!(registry.send(people.mount("own/one", None)).await.status, status);
    }
}

#[tokio::test]
async fn who_comes_while_another_one_fetches_asks_for_himself() {
    let people = People::start(&super::uploads::big(3 << 20, 1)).await;
    let (blob, manifest) = (people.image.blob("team/app"), people.image.by_digest("team/app"));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    people.fake.on(&blob, Reply::ok(people.image.layer.clone()).gate(&gate));
    people.fake.on(
        &manifest,
        super::proxy::manifest_reply(&people.image.manifest, IMAGE)
            .delay(std::time::Duration::from_millis(200)),
    );
    for (path, got) in
        [(&blob, &people.image.layer), (&manifest, &people.image.manifest.clone().into_bytes())]
    {
        let from = people.fake.count();
        let (registry, request) = (Arc::clone(&people.registry), get(path).token("alice"));
        let alice = tokio::spawn(async move { registry.send(request).await });
        while people.fake.count() == from {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(people.status("bob", get(path)).await, 404, "{path}");
        let from = people.fake.count();
        let (registry, request) = (Arc::clone(&people.registry), get(path).token("carol"));
        let carol = tokio::spawn(async move { registry.send(request).await });
        while people.fake.count() == from {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        gate.add_permits(8);
        for answer in [alice.await.unwrap(), carol.await.unwrap()] {
            assert_eq!((answer.status, answer.bytes().as_ref()), (200, got.as_slice()), "{path}");
        }
        assert_eq!(people.status("bob", get(path)).await, 404, "{path}");
    }
    let gets = lines(&people.fake, 0).into_iter().filter(|line| *line == format!("GET {blob}")).count();
    assert_eq!(gets, 1, "bob is told by the HEAD, and carol has alice's bytes");
}

#[tokio::test]
async fn what_one_user_is_told_is_missing_is_not_missing_for_others() {
    let people = People::start(b"layer").await;
    for path in [people.image.blob("team/app"), people.image.by_digest("team/app")] {
        assert_eq!(people.status("bob", get(&path)).await, 404);
        let from = people.fake.count();
        assert_eq!(people.status("bob", get(&path)).await, 404);
        assert_eq!(people.fake.count(), from, "he has been told a moment ago");
        assert_eq!(people.status("alice", get(&path)).await, 200, "{path}");
    }
}

#[tokio::test]
async fn lists_name_what_the_caller_could_have_brought() {
    let people = People::start(b"layer").await;
    offer(&people.fake, "open/app", "v1", b"other");
    assert_eq!(people.status("alice", get("/v2/team/app/manifests/v1")).await, 200);
    assert_eq!(people.status("open", get("/v2/open/app/manifests/v1")).await, 200);
    push_blob(&people.registry, "own", b"{}").await;
    for (user, names) in
        [("alice", vec!["own", "team/app"]), ("bob", vec!["own"]), ("open", vec!["open/app", "own"])]
    {
        let catalog = people.registry.send(get("/v2/_catalog").token(user)).await.json();
        assert_eq!(catalog["repositories"], json!(names), "{user}");
        for query in ["q=app", "q="] {
            let found = people.registry.send(get(&format!("/v1/search?{query}")).token(user)).await.json();
            let found = found["results"].as_array().unwrap();
            for name in ["team/app", "open/app"] {
                let is_found = found.iter().any(|one| one["name"] == name);
                assert_eq!(is_found, names.contains(&name), "{user} {query} {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_of_the_catalog_costs_no_more_the_more_there_is() {
    let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let names = (0..2500).map(|number| format!("hidden/{number:04}"));
    for name in names.chain(["a".to_owned(), "z".to_owned()]) {
        let key = Key::new(format!("_sr/oci/repositories/{name}/_")).unwrap();
        store.put(&key, Bytes::from_static(b"{}").into(), PutOptions::default()).await.unwrap();
    }
    let (users, provider) =
        (Named::default(), Each { url: String::new(), blocked: parking_lot::Mutex::default() });
    let asked = Arc::clone(&users.0);
    let registry = build(Arc::new(provider), Some(Arc::new(users)), &store, &clock).await;
    let (mut path, mut seen, mut pages) = ("/v2/_catalog?n=10".to_owned(), Vec::new(), 0);
    loop {
        let before = asked.load(SeqCst);
        let answer = registry.send(get(&path).token("bob")).await;
        let spent = asked.load(SeqCst) - before;
        assert!(spent <= 1100, "{path}: {spent}");
        pages += 1;
        let names = answer.json()["repositories"].as_array().unwrap().clone();
        seen.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
        let Some(link) = answer.header("link") else { break };
        assert!(!link.contains("hidden"), "a link tells no name that its reader may not see: {link}");
        path = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    }
    assert_eq!((seen.join(" ").as_str(), pages), ("a z", 3));
    let before = asked.load(SeqCst);
    assert_eq!(registry.send(get("/v1/search?q=").token("bob")).await.json()["num_results"], 1);
    assert!(asked.load(SeqCst) - before <= 1100);
    let all = registry.send(get("/v2/_catalog?n=10000").token("admin")).await;
    assert_eq!((all.json()["repositories"].as_array().unwrap().len(), all.header("link")), (2502, None));
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
