//! Trusted publishing with keys that are fetched from the issuer.

use std::time::Duration;

use futures_util::future::join_all;

use super::trust::{Site, record};
use super::*;
use crate::auth::TestIssuer;
use crate::testing::upstream::{FakeUpstream, Reply};

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A registry, and the issuer that it believes.
struct World {
    fake: FakeUpstream,
    site: Site,
}

impl World {
    /// Which the test gives keys to.
    async fn new() -> Self {
        Self::with(json!({})).await
    }

    /// With more members of the issuer's configuration.
    #[allow(clippy::needless_pass_by_value)] // it is written out where it is used
    async fn with(more: Value) -> Self {
        let fake = FakeUpstream::start().await;
        fake.on(
            DISCOVERY,
            Reply::json(&json!({ "issuer": fake.url, "jwks_uri": format!("{}/keys", fake.url) })),
        );
        let mut config = json!({ "issuer": fake.url, "type": "github", "allowPrivateAddresses": true });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        let site = Site::believing(&config, TestIssuer::new()).await;
        assert_eq!(site.trust("widget", &record()).await.status, 201);
        assert_eq!(fake.count(), 0, "nothing is fetched before somebody shows a token");
        Self { fake, site }
    }

    fn show(&self, keys: &[&TestIssuer]) {
        self.fake.on("/keys", Reply::json(&jwks(keys)));
    }

    /// A token of `by` that is good now.
    fn token(&self, by: &TestIssuer) -> String {
        let now = self.site.registry.clock.now().as_secs();
        by.token(&json!({
            "iss": self.fake.url, "aud": "npm:registry.example.com", "exp": now + 300, "iat": now, "repository": "o/r",
            "workflow_ref": "o/r/.github/workflows/release.yml@refs/heads/main", "environment": "prod",
        }))
    }

    async fn exchange(&self, by: &TestIssuer) -> TestResponse {
        self.site.exchange("", "widget", &self.token(by)).await
    }

    async fn status(&self, by: &TestIssuer) -> u16 {
        self.exchange(by).await.status
    }

    /// How often the keys were asked for, since the last time that this was.
    fn fetches(&self, before: &mut usize) -> usize {
        let all = self.fake.asked().iter().filter(|asked| asked.path == "/keys").count();
        let new = all - *before;
        *before = all;
        new
    }

    fn wait(&self, span: Duration) {
        self.site.registry.clock.advance(span);
    }
}

fn jwks(keys: &[&TestIssuer]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_and_kept_for_an_hour() {
    let (world, key, mut seen) = (World::new().await, TestIssuer::new(), 0);
    world.fake.on("/keys", Reply::json(&jwks(&[&key])).delay(Duration::from_millis(50)));
    let answers = join_all((0..20).map(|_| world.exchange(&key))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{}", answers[0].text());
    let paths: Vec<String> = world.fake.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, [DISCOVERY, "/keys"]);
    assert_eq!(world.fetches(&mut seen), 1);
    world.wait(Duration::from_mins(59));
    assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 0));
    world.wait(Duration::from_mins(1));
    assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
}

#[tokio::test]
async fn the_issuer_says_for_how_long_its_keys_are_kept() {
    for (said, least, most) in
        [("max-age=1800", 29, 30), ("no-store", 4, 5), ("max-age=999999999", 1439, 1440)]
    {
        let (world, key, mut seen) = (World::new().await, TestIssuer::new(), 0);
        world.fake.on("/keys", Reply::json(&jwks(&[&key])).header("cache-control", said));
        assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
        world.wait(Duration::from_mins(least));
        assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 0), "{said}");
        world.wait(Duration::from_mins(most - least));
        assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1), "{said}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it_and_an_old_one_ends_when_it_is_gone() {
    let (world, mut seen) = (World::new().await, 0);
    let (old, new) = (TestIssuer::with_key("old"), TestIssuer::with_key("new"));
    world.show(&[&old]);
    assert_eq!(world.status(&old).await, 201);
    world.show(&[&old, &new]);
    world.wait(Duration::from_mins(2));
    assert_eq!((world.status(&new).await, world.status(&old).await), (201, 201));
    assert_eq!(world.fetches(&mut seen), 2);
    world.show(&[&new]);
    world.wait(Duration::from_mins(61));
    assert_eq!((world.status(&new).await, world.status(&old).await), (201, 401));
    assert_eq!(world.fetches(&mut seen), 1);
}

#[tokio::test]
async fn forged_tokens_have_the_issuer_asked_once_a_minute() {
    let (world, key, mut seen) = (World::new().await, TestIssuer::new(), 0);
    world.show(&[&key]);
    assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
    let forgers: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].into_iter().map(TestIssuer::with_key).collect();
    for expected in [0, 1, 1] {
        for answer in join_all(forgers.iter().map(|forger| world.exchange(forger))).await {
            assert_eq!(answer.status, 401, "{}", answer.text());
        }
        assert_eq!(world.status(&key).await, 201, "builds are not in their way");
        assert_eq!(world.fetches(&mut seen), expected);
        world.wait(Duration::from_mins(1));
    }
    // The right name and the wrong key, another algorithm, no name: all of that is known to be no good.
    let forger = TestIssuer::new();
    let now = world.site.registry.clock.now().as_secs();
    let claims = json!({ "iss": world.fake.url, "aud": "npm:registry.example.com", "exp": now + 300 });
    for header in [
        json!({ "alg": "ES256", "kid": "one" }),
        json!({ "alg": "RS256", "kid": "one" }),
        json!({ "alg": "ES384", "kid": "x" }),
        json!({ "alg": "none", "kid": "x" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "kid": "x", "crit": ["x"] }),
    ] {
        let token = forger.token_with(&header, &claims);
        assert_eq!(world.site.exchange("", "widget", &token).await.status, 401, "{header}");
    }
    assert_eq!(world.fetches(&mut seen), 0);
}

#[tokio::test]
async fn a_token_of_somebody_else_has_nobody_asked() {
    let (world, stranger) = (World::new().await, FakeUpstream::start().await);
    let key = TestIssuer::new();
    for iss in [json!(stranger.url), json!(format!("{}/", world.fake.url)), Value::Null, json!(1)] {
        let claims = json!({
            "iss": iss, "jku": stranger.url, "aud": "npm:registry.example.com", "exp": i64::from(u32::MAX),
        });
        let header = json!({ "alg": "ES256", "kid": "one", "jku": stranger.url, "x5u": stranger.url });
        let token = key.token_with(&header, &claims);
        assert_eq!(world.site.exchange("", "widget", &token).await.status, 401, "{iss}");
    }
    assert_eq!((world.fake.count(), stranger.count()), (0, 0));
}

#[tokio::test]
async fn while_the_issuer_is_away_at_first_nothing_is_granted() {
    let (world, key, mut seen) = (World::new().await, TestIssuer::new(), 0);
    world.fake.on("/keys", Reply::new(500, "no"));
    for wait in [60, 40, 20] {
        let answer = world.exchange(&key).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some(wait.to_string().as_str())));
        assert!(error_of(&answer).contains("keys of the issuer"), "{}", answer.text());
        assert!(answer.json().get("token").is_none());
        world.wait(Duration::from_secs(20));
    }
    assert_eq!(world.fetches(&mut seen), 1, "it is left alone for a minute");
    world.show(&[&key]);
    assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
}

#[tokio::test]
async fn while_the_issuer_is_away_known_keys_stay_good_for_a_day() {
    let (world, key, new) = (World::new().await, TestIssuer::new(), TestIssuer::with_key("new"));
    let mut seen = 0;
    world.show(&[&key]);
    assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
    world.fake.on("/keys", Reply::new(503, "no"));
    for hours in [2, 10, 11] {
        world.wait(Duration::from_hours(hours));
        assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 1));
        let answer = world.exchange(&new).await;
        assert_eq!(answer.status, 503, "it may be a new one: {}", answer.text());
        assert_eq!((world.status(&key).await, world.fetches(&mut seen)), (201, 0));
    }
    world.wait(Duration::from_hours(1));
    assert_eq!(world.status(&key).await, 503, "a day is over");
    world.wait(Duration::from_mins(1));
    world.show(&[&key, &new]);
    assert_eq!((world.status(&new).await, world.status(&key).await), (201, 201));
}

#[tokio::test]
async fn an_issuer_whose_documents_are_no_good_is_not_believed() {
    let key = TestIssuer::new();
    let keys = |count: usize| {
        let mut keys = vec![key.jwk()];
        keys.resize(count, json!({ "kty": "oct", "k": "" }));
        json!({ "keys": keys })
    };
    let padded = |size: usize| {
        let mut text = jwks(&[&key]).to_string();
        text.push_str(&" ".repeat(size - text.len()));
        Reply::ok(text)
    };
    let mut encryption = jwks(&[&key]);
    encryption["keys"][0]["use"] = json!("enc");
    for (what, reply, status) in [
        ("as many keys as there may be", Reply::json(&keys(50)), 201),
        ("too many keys", Reply::json(&keys(51)), 503),
        ("as long as it may be", padded(64 << 10), 201),
        ("too long", padded((64 << 10) + 1), 503),
        ("keys for something else", Reply::json(&encryption), 503),
        ("no keys", Reply::json(&json!({ "keys": [] })), 503),
        ("no JSON", Reply::ok("<html>"), 503),
        ("cut off", Reply::json(&jwks(&[&key])).length(1000), 503),
        ("gone", Reply::new(404, jwks(&[&key]).to_string()), 503),
    ] {
        let world = World::new().await;
        world.fake.on("/keys", reply);
        assert_eq!(world.status(&key).await, status, "{what}");
    }
}

#[tokio::test]
async fn a_discovery_document_speaks_for_its_own_issuer_only() {
    let (key, elsewhere) = (TestIssuer::new(), FakeUpstream::start().await);
    elsewhere.on("/keys", Reply::json(&jwks(&[&key])));
    let world = World::new().await;
    world.show(&[&key]);
    let (own, keys) = (world.fake.url.clone(), format!("{}/keys", world.fake.url));
    let long = "x".repeat(64 << 10);
    for document in [
        json!({ "issuer": format!("{own}/"), "jwks_uri": keys }),
        json!({ "issuer": elsewhere.url, "jwks_uri": format!("{}/keys", elsewhere.url) }),
        json!({ "jwks_uri": keys }),
        json!({ "issuer": own }),
        json!({ "issuer": own, "jwks_uri": "/keys" }),
        json!({ "issuer": own, "jwks_uri": "file:///etc/hosts" }),
        json!({ "issuer": own, "jwks_uri": "http://keys.example.com/keys" }),
        json!({ "issuer": own, "jwks_uri": keys, "x": long }),
    ] {
        world.fake.on(DISCOVERY, Reply::json(&document));
        assert_eq!(world.status(&key).await, 503, "{document:.200}");
        world.wait(Duration::from_mins(1));
    }
    assert!(world.fake.asked().iter().all(|asked| asked.path == DISCOVERY));
    assert_eq!(elsewhere.count(), 0);
    world.fake.on(DISCOVERY, Reply::json(&json!({ "issuer": own, "jwks_uri": keys })));
    assert_eq!(world.status(&key).await, 201);
}

#[tokio::test]
async fn keys_lie_where_the_configuration_says() {
    let key = TestIssuer::new();
    let elsewhere = FakeUpstream::start().await;
    elsewhere.on("/of?ci", Reply::json(&jwks(&[&key])));
    let world = World::with(json!({ "jwksUrl": format!("{}/of?ci", elsewhere.url) })).await;
    assert_eq!(world.status(&key).await, 201);
    assert_eq!((world.fake.count(), elsewhere.count()), (0, 1));
    let world = World::with(json!({ "jwksUrl": elsewhere.url, "jwks": key.jwks() })).await;
    assert_eq!((world.status(&key).await, world.status(&TestIssuer::with_key("x")).await), (201, 401));
    assert_eq!((world.fake.count(), elsewhere.count()), (0, 1), "what stands in the configuration wins");
}
